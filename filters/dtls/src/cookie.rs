//! Cookies (RFC 6347 §4.2.1) and the secret behind them.
//!
//! A cookie has to have 32 octets, because dimpl wants so many. In two of them it tells how much padding
//! the ClientHello had that it was made for: in DTLS 1.3 that one is needed again, and the client may
//! send the second one with another padding (RFC 8446 §4.1.2). The others are 30 octets of HMAC-SHA256.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::MAX_HANDSHAKE_DATAGRAM;
use crate::hello::{Choice, ClientHello, Cookie};

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

    /// The cookie for a client's address and the ClientHello that it sent.
    pub(crate) fn make(
        &mut self,
        now: Duration,
        source: &[u8],
        hello: &ClientHello<'_>,
        choice: Choice,
    ) -> Cookie {
        self.rotate(now);
        let padding = hello.padding();
        let parameters = hello.parameters(choice, padding);
        let mac: Cookie = mac(&self.now, source, &parameters).finalize().into_bytes().into();
        let mut cookie = mac;
        if let Some((told, _)) = cookie.split_first_chunk_mut() {
            *told = padding.to_be_bytes();
        }
        cookie
    }

    /// Whether a cookie was made for this client and the ClientHello before this one, not too long
    /// ago.
    pub(crate) fn accept(
        &mut self,
        now: Duration,
        source: &[u8],
        hello: &ClientHello<'_>,
        choice: Choice,
        cookie: &Cookie,
    ) -> bool {
        self.rotate(now);
        let Some(padding) = padding(cookie) else { return false };
        let parameters = hello.parameters(choice, padding);
        let secrets = [Some(&self.now), self.before.as_ref()];
        let told = cookie.get(2..).unwrap_or_default();
        secrets
            .into_iter()
            .flatten()
            .any(|secret| mac(secret, source, &parameters).verify_truncated_right(told).is_ok())
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

/// The padding of the ClientHello that a cookie was made for; `None` if none has so much.
pub(crate) fn padding(cookie: &Cookie) -> Option<u16> {
    let (told, _) = cookie.split_first_chunk()?;
    Some(u16::from_be_bytes(*told)).filter(|told| usize::from(*told) <= MAX_HANDSHAKE_DATAGRAM)
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
    use crate::hello::{self, Hello};

    const A: &[u8] = b"192.0.2.1:7";

    /// A ClientHello of DTLS 1.2 with this random and cookie.
    fn datagram(random: u8, cookie: &[u8]) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([random; 32]);
        body.extend([0, cookie.len() as u8]);
        body.extend(cookie);
        body.extend([0, 2, 0xc0, 0xa8, 1, 0]);
        hello::client_hello(u16::from(!cookie.is_empty()), &body)
    }

    fn make(secrets: &mut Secrets, now: Duration, random: u8) -> Cookie {
        let datagram = datagram(random, b"");
        let Hello::Whole(hello) = hello::read(&datagram) else { panic!("a ClientHello") };
        secrets.make(now, A, &hello, Choice::Psk12)
    }

    fn accept(
        secrets: &mut Secrets,
        now: Duration,
        source: &[u8],
        random: u8,
        cookie: &Cookie,
    ) -> bool {
        let datagram = datagram(random, cookie);
        let Hello::Whole(hello) = hello::read(&datagram) else { panic!("a ClientHello") };
        assert_eq!(hello.cookie(Choice::Psk12), Some(cookie));
        secrets.accept(now, source, &hello, Choice::Psk12, cookie)
    }

    #[test]
    fn a_cookie_is_good_for_one_address_and_these_parameters_and_not_for_ever() {
        let mut secrets = Secrets::new().expect("randomness");
        let start = Duration::from_secs(1000);
        let cookie = make(&mut secrets, start, 1);
        assert!(accept(&mut secrets, start, A, 1, &cookie));
        assert!(!accept(&mut secrets, start, b"192.0.2.1:8", 1, &cookie));
        assert!(!accept(&mut secrets, start, A, 2, &cookie));
        for at in 0..cookie.len() {
            let mut other = cookie;
            other[at] ^= 0x80;
            // What it tells of the padding matters only in DTLS 1.3.
            assert_eq!(accept(&mut secrets, start, A, 1, &other), at == 1, "octet {at}");
        }
        let later = start + LIFETIME;
        assert!(accept(&mut secrets, later, A, 1, &cookie));
        assert_ne!(make(&mut secrets, later, 1), cookie);
        assert!(!accept(&mut secrets, later + LIFETIME, A, 1, &cookie));
    }

    #[test]
    fn after_a_long_silence_no_old_cookie_is_good() {
        let mut secrets = Secrets::new().expect("randomness");
        let cookie = make(&mut secrets, LIFETIME, 1);
        assert!(!accept(&mut secrets, LIFETIME * 3, A, 1, &cookie));
    }
}
