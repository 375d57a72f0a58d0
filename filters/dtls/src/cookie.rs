//! The secret behind cookies (RFC 6347 §4.2.1).

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::hello::Cookie;

/// A secret makes cookies for this time, and they are accepted for as long again.
const LIFETIME: Duration = Duration::from_secs(60);

/// As long as a block of SHA-256, so that it is the HMAC's key as it is (RFC 2104 §2).
type Secret = [u8; 64];

/// The secret of one worker, and the one before.
pub(crate) struct Secrets {
    now: Zeroizing<Secret>,
    before: Option<Zeroizing<Secret>>,
    made: Duration,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("made", &self.made).finish_non_exhaustive()
    }
}

impl Secrets {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { now: random()?, before: None, made: Duration::ZERO })
    }

    /// The cookie for a client's address and parameters.
    pub(crate) fn make(&mut self, now: Duration, source: &[u8], parameters: &[u8]) -> Cookie {
        self.rotate(now);
        mac(&self.now, source, parameters).finalize().into_bytes().into()
    }

    /// Whether a cookie was made for them, not too long ago. Takes the same time for every cookie.
    pub(crate) fn accept(
        &mut self,
        now: Duration,
        source: &[u8],
        parameters: &[u8],
        cookie: &Cookie,
    ) -> bool {
        self.rotate(now);
        let secrets = [Some(&self.now), self.before.as_ref()];
        secrets
            .into_iter()
            .flatten()
            .any(|secret| mac(secret, source, parameters).verify_slice(cookie).is_ok())
    }

    fn rotate(&mut self, now: Duration) {
        let age = now.saturating_sub(self.made);
        if age < LIFETIME {
            return;
        }
        // Without randomness the old one goes on: it is still a secret.
        if let Ok(fresh) = random() {
            let old = std::mem::replace(&mut self.now, fresh);
            self.before = (age < LIFETIME * 2).then_some(old);
            self.made = now;
        }
    }
}

fn random() -> Result<Zeroizing<Secret>, getrandom::Error> {
    let mut secret = Zeroizing::new([0; 64]);
    getrandom::fill(&mut *secret)?;
    Ok(secret)
}

fn mac(secret: &Secret, source: &[u8], parameters: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new(secret.into());
    // A length, so that no address can borrow from the parameters.
    mac.update(&(source.len() as u64).to_be_bytes());
    mac.update(source);
    mac.update(parameters);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_one_address_and_these_parameters_and_not_for_ever() {
        let mut secrets = Secrets::new().expect("randomness");
        let start = Duration::from_secs(1000);
        let cookie = secrets.make(start, b"192.0.2.1:7", b"hello");
        assert!(secrets.accept(start, b"192.0.2.1:7", b"hello", &cookie));
        assert!(!secrets.accept(start, b"192.0.2.1:8", b"hello", &cookie));
        assert!(!secrets.accept(start, b"192.0.2.1:7", b"hullo", &cookie));
        assert!(!secrets.accept(start, b"192.0.2.1:7h", b"ello", &cookie));
        let later = start + LIFETIME;
        assert!(secrets.accept(later, b"192.0.2.1:7", b"hello", &cookie));
        assert_ne!(secrets.make(later, b"192.0.2.1:7", b"hello"), cookie);
        assert!(!secrets.accept(later + LIFETIME, b"192.0.2.1:7", b"hello", &cookie));
    }

    #[test]
    fn after_a_long_silence_no_old_cookie_is_good() {
        let mut secrets = Secrets::new().expect("randomness");
        let cookie = secrets.make(LIFETIME, b"a", b"b");
        assert!(!secrets.accept(LIFETIME * 3, b"a", b"b", &cookie));
    }
}
