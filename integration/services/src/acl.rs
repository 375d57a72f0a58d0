//! A list of users and of what each may publish and subscribe to.
//!
//! ```text
//! # The user's name, and the SHA-256 of the password in hexadecimal.
//! user sensor-1 c4bbcb1fbec99d65bf59d85c8cb62ee2db963f0fe106f483d9afa73bd4e39a8a
//! publish telemetry/sensor-1/#
//! subscribe commands/sensor-1/#
//! ```
//!
//! The lines after a user are that user's. One without any may do nothing, not even have a session.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Have a session.
    Connect,
    /// Publish to this topic.
    Publish(&'a str),
    /// Subscribe to this topic filter.
    Subscribe(&'a str),
}

/// What the list says to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allowed,
    /// Nobody of that name has that password.
    Unknown,
    /// The user may not.
    Denied,
}

/// The list.
#[derive(Debug, Default)]
pub struct Acl {
    users: HashMap<String, User>,
}

#[derive(Debug)]
struct User {
    password_hash: [u8; 32],
    publish: Vec<String>,
    subscribe: Vec<String>,
}

impl Acl {
    /// Reads it; an error names the line.
    pub fn read(text: &str) -> Result<Self> {
        let mut acl = Self::default();
        let mut current = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                acl.read_line(line, &mut current)
                    .with_context(|| format!("line {}: {line}", number + 1))?;
            }
        }
        Ok(acl)
    }

    fn read_line(&mut self, line: &str, current: &mut Option<String>) -> Result<()> {
        let (word, rest) = line.split_once(' ').context("a word alone")?;
        let rest = rest.trim();
        if word == "user" {
            let (name, hash) = rest.split_once(' ').context("no password hash")?;
            let password_hash = from_hex(hash.trim()).context("not a SHA-256 in hexadecimal")?;
            let user = User { password_hash, publish: Vec::new(), subscribe: Vec::new() };
            ensure!(self.users.insert(name.to_owned(), user).is_none(), "a user named twice");
            *current = Some(name.to_owned());
            return Ok(());
        }
        let user = current.as_ref().and_then(|name| self.users.get_mut(name));
        let user = user.context("no user before it")?;
        match word {
            "publish" => user.publish.push(rest.to_owned()),
            "subscribe" => user.subscribe.push(rest.to_owned()),
            _ => bail!("neither user, publish nor subscribe"),
        }
        Ok(())
    }

    /// Whether the user with that password may do that.
    #[must_use]
    pub fn decide(&self, user: &str, password: &[u8], action: Action<'_>) -> Decision {
        let hash: [u8; 32] = Sha256::digest(password).into();
        let Some(user) = self.users.get(user).filter(|user| user.password_hash == hash) else {
            return Decision::Unknown;
        };
        let covered =
            |list: &[String], wanted: &str| list.iter().any(|filter| covers(filter, wanted));
        let allowed = match action {
            Action::Connect => !user.publish.is_empty() || !user.subscribe.is_empty(),
            Action::Publish(topic) => covered(&user.publish, topic),
            Action::Subscribe(filter) => covered(&user.subscribe, without_share(filter)),
        };
        if allowed { Decision::Allowed } else { Decision::Denied }
    }
}

/// Whether all that `wanted`, a topic or a topic filter, can match is matched by `filter` (MQTT 5.0 §4.7).
fn covers(filter: &str, wanted: &str) -> bool {
    // A wildcard at the start does not match the server's own topics (§4.7.2).
    if wanted.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut wanted = wanted.split('/');
    for level in filter.split('/') {
        // Also the level above: `a/#` matches `a` (§4.7.1.2).
        if level == "#" {
            return true;
        }
        match wanted.next() {
            Some("#") | None => return false,
            Some(_) if level == "+" => {}
            Some(wanted) if level == wanted => {}
            Some(_) => return false,
        }
    }
    wanted.next().is_none()
}

/// The topic filter of a shared subscription, `$share/<name>/<filter>` (MQTT 5.0 §4.8.2).
fn without_share(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or(filter, |(_, filter)| filter)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let bytes: Vec<u8> = digits?
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .filter_map(|byte| u8::try_from(byte).ok())
        .collect();
    (text.len() == 64).then(|| bytes.try_into().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash is of "secret".
    const LIST: &str = "
        # a comment
        user anna 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
        publish telemetry/anna/#
        subscribe alerts/+/fire
        subscribe #
        user bob 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
        publish t
        user carl 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
    ";

    #[test]
    fn a_user_may_do_what_is_listed_and_nothing_else() {
        let acl = Acl::read(LIST).unwrap();
        for (user, action, decision) in [
            ("anna", Action::Connect, Decision::Allowed),
            ("anna", Action::Publish("telemetry/anna/1"), Decision::Allowed),
            ("anna", Action::Publish("telemetry/bob"), Decision::Denied),
            ("anna", Action::Subscribe("a/#"), Decision::Allowed),
            ("anna", Action::Subscribe("$share/group/a"), Decision::Allowed),
            ("anna", Action::Subscribe("$SYS/#"), Decision::Denied),
            ("bob", Action::Publish("t"), Decision::Allowed),
            ("bob", Action::Subscribe("t"), Decision::Denied),
            ("carl", Action::Connect, Decision::Denied),
            ("dora", Action::Connect, Decision::Unknown),
        ] {
            assert_eq!(acl.decide(user, b"secret", action), decision, "{user} {action:?}");
        }
        assert_eq!(acl.decide("anna", b"guess", Action::Connect), Decision::Unknown);
    }

    #[test]
    fn a_filter_covers_what_it_matches_as_a_whole() {
        for (filter, wanted) in [
            ("a/b", "a/b"),
            ("a/+", "a/b"),
            ("a/+", "a/+"),
            ("+/b", "+/b"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("a/#", "a/+/c/#"),
            ("#", "a"),
            ("+/+", "/"),
            ("$SYS/#", "$SYS/a"),
        ] {
            assert!(covers(filter, wanted), "{filter} covers {wanted}");
        }
        for (filter, wanted) in [
            ("a/b", "a"),
            ("a", "a/b"),
            ("a/b", "a/+"),
            ("a/b", "a/#"),
            ("a/+", "a/#"),
            ("a/+", "a"),
            ("a/#", "#"),
            ("a/#", "+/b"),
            ("a/#", "ab"),
            ("#", "$SYS/a"),
            ("+/a", "$SYS/a"),
        ] {
            assert!(!covers(filter, wanted), "{filter} does not cover {wanted}");
        }
    }

    #[test]
    fn a_mistake_is_reported_with_its_line() {
        let hash = "0".repeat(64);
        for (text, line) in [
            ("publish t", "line 1"),
            ("\nuser anna", "line 2"),
            ("user anna 12", "line 1"),
            (&format!("user anna {hash}\nuser anna {hash}"), "line 2"),
            (&format!("user anna {hash}\nread t"), "line 2"),
        ] {
            let error = Acl::read(text).unwrap_err();
            assert!(format!("{error:#}").contains(line), "{text}: {error:#}");
        }
    }
}
