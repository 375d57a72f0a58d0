//! Topic prefixes: each tenant's clients see a topic tree of their own.

use std::borrow::Cow;

use codec_mqtt::topic::TopicFilter;
use codec_mqtt::{Properties, Property, Version};
use filter_config::{Mistake, Mistakes};

/// A prefix as configured: text with `{username}` and `{client_id}` in it.
#[derive(Debug, Default)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    UserName,
    ClientId,
}

impl Template {
    pub(crate) fn compile(text: &str, mistakes: &mut Mistakes) -> Self {
        let mut mistake = |what: &str| {
            mistakes.push(Mistake::new("topic_prefix", format!("{what} (got {text:?})")));
        };
        if !text.is_empty() && !text.ends_with('/') {
            mistake("must end with /");
        }
        if text.starts_with(['/', '$']) || text.contains(['+', '#', '\0']) {
            mistake("must not begin with / or $, nor contain + or #");
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            parts.push(Part::Text(before.to_owned()));
            let Some((name, after)) = after.split_once('}') else {
                mistake("has a { without }");
                return Self::default();
            };
            match name {
                "username" => parts.push(Part::UserName),
                "client_id" => parts.push(Part::ClientId),
                _ => mistake("knows only {username} and {client_id}"),
            }
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Self(parts)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The prefix of one client; none if its name would be more or less than one topic level, and so
    /// could reach into another's tree.
    pub(crate) fn prefix(&self, client_id: &str, username: Option<&str>) -> Option<Prefix> {
        let is_level = |name: &str| {
            !name.is_empty()
                && !name.contains(['/', '+', '#'])
                && !name.starts_with('$')
                && !matches!(name, "." | "..")
        };
        let mut prefix = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => prefix.push_str(text),
                Part::UserName => prefix.push_str(username.filter(|name| is_level(name))?),
                Part::ClientId => prefix.push_str(Some(client_id).filter(|id| is_level(id))?),
            }
        }
        Some(Prefix(prefix))
    }
}

/// The prefix of one client's topics. The empty one changes nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prefix(String);

impl Prefix {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Octets that it adds to a topic.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The broker's name for a client's topic.
    pub(crate) fn add<'a>(&self, topic: &'a str) -> Cow<'a, str> {
        if self.0.is_empty() { topic.into() } else { format!("{}{topic}", self.0).into() }
    }

    /// The broker's topic filter for a client's. Brokers know shared subscriptions in either version.
    pub(crate) fn add_to_filter<'a>(&self, filter: &'a str) -> Cow<'a, str> {
        if self.0.is_empty() {
            return filter.into();
        }
        match TopicFilter::new(filter, Version::V5)
            .ok()
            .and_then(|parsed| parsed.share_name().map(|share_name| (share_name, parsed.filter())))
        {
            Some((share_name, filter)) => format!("$share/{share_name}/{}{filter}", self.0).into(),
            None => self.add(filter),
        }
    }

    /// The client's name for a broker's topic; none for a topic of somebody else.
    pub(crate) fn strip<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&self.0).filter(|rest| self.0.is_empty() || !rest.is_empty())
    }
}

/// A message's properties with this Response Topic in place of their own, if there is one.
pub(crate) fn with_response_topic<'a>(
    properties: Properties<'a>,
    topic: Option<&'a str>,
) -> impl Iterator<Item = Property<'a>> {
    properties.iter().map(move |property| match (property, topic) {
        (Property::ResponseTopic(_), Some(topic)) => Property::ResponseTopic(topic),
        _ => property,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        let mut mistakes = Mistakes::default();
        let template = Template::compile(text, &mut mistakes);
        assert_eq!(mistakes.into_list(), []);
        template
    }

    #[test]
    fn topics_and_filters_move_into_the_clients_own_tree_and_back() {
        let prefix = template("tenants/{username}/").prefix("c", Some("acme")).expect("one");
        assert_eq!(prefix.add("a/b"), "tenants/acme/a/b");
        assert_eq!(prefix.add_to_filter("#"), "tenants/acme/#");
        assert_eq!(prefix.add_to_filter("$share/g/+/x"), "$share/g/tenants/acme/+/x");
        assert_eq!(prefix.add_to_filter("$share/x"), "tenants/acme/$share/x");
        assert_eq!(prefix.add_to_filter("$SYS/#"), "tenants/acme/$SYS/#");
        assert_eq!(prefix.strip("tenants/acme/a"), Some("a"));
        assert_eq!(prefix.strip("tenants/other/a"), None);
        assert_eq!(prefix.strip("tenants/acme/"), None);
        assert_eq!(Prefix::default().strip("a"), Some("a"));
    }

    #[test]
    fn a_name_that_is_not_one_level_has_no_prefix() {
        let template = template("{username}/{client_id}/");
        assert!(template.prefix("c", Some("u")).is_some());
        for name in ["", "a/b", "+", "a#", "..", "$SYS"] {
            assert!(template.prefix("c", Some(name)).is_none(), "{name}");
            assert!(template.prefix(name, Some("u")).is_none(), "{name}");
        }
        assert!(template.prefix("c", None).is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for bad in ["a", "/a/", "$a/", "a/+/", "{user}/", "{username/"] {
            let mut mistakes = Mistakes::default();
            let _ = Template::compile(bad, &mut mistakes);
            assert!(!mistakes.is_empty(), "{bad}");
        }
    }
}
