//! DNS cookies, the server's side (RFC 7873), in the format that all servers with the same secret understand
//! (RFC 9018).
//!
//! A client that sends back what it was given has got an answer at its address before: it is no one else who
//! forges that address. A cookie is made of the client's own cookie, its address and the time, so that
//! nothing needs to be remembered.
//!
//! ```
//! use codec_dns::Cookie;
//! use dns_cookies::{Secrets, Verdict};
//!
//! let secrets = Secrets::random()?;
//! let (client, ip, now) = ([1, 2, 3, 4, 5, 6, 7, 8], [192, 0, 2, 1].into(), 1_800_000_000);
//! assert_eq!(secrets.check(Cookie { client, server: &[] }, ip, now), Verdict::ClientOnly);
//! let server = secrets.make(client, ip, now);
//! let cookie = Cookie { client, server: &server };
//! assert_eq!(secrets.check(cookie, ip, now + 60), Verdict::Valid);
//! assert_eq!(secrets.check(cookie, [192, 0, 2, 2].into(), now + 60), Verdict::Invalid);
//! # Ok::<(), getrandom::Error>(())
//! ```

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

use codec_dns::Cookie;
use filter_config::{Mistake, Mistakes};

/// Octets of a client cookie (RFC 7873 §4.1).
const CLIENT_LEN: usize = 8;
/// Octets of a server cookie (RFC 9018 §4).
const SERVER_LEN: usize = 16;
/// Octets of a server cookie in front of its hash: version, reserved and timestamp.
const FRONT_LEN: usize = 8;
/// The version that RFC 9018 defines (§4.1).
const VERSION: u8 = 1;

/// How old a cookie may be, in seconds (RFC 9018 §4.3).
const MAX_AGE: i32 = 3_600;
/// How far ahead the clock of the server that made it may be, in seconds (RFC 9018 §4.3).
const MAX_AHEAD: i32 = 300;
/// The client gets a new cookie for one that is older than so many seconds (RFC 9018 §4.3).
const RENEWED_AFTER: i32 = 1_800;

/// What a client's cookie tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client knows no cookie of the server yet. It gets one with the answer (RFC 7873 §5.2.3).
    ClientOnly,
    /// The client is where it says it is. It gets the same cookie again.
    Valid,
    /// It is, and gets a new cookie, because this one is more than half an hour old or was made with an older
    /// secret (RFC 9018 §4.3, §5).
    Renew,
    /// The cookie was not made for this client, or is too old, or comes from the future. It counts as none
    /// (RFC 7873 §5.2.4).
    Invalid,
}

impl Verdict {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClientOnly => "client_only",
            Self::Valid => "valid",
            Self::Renew => "renew",
            Self::Invalid => "invalid",
        }
    }
}

/// The secrets that cookies are made and checked with.
#[derive(Debug)]
pub struct Secrets {
    /// Makes cookies.
    first: Secret,
    /// Made them before, or will (RFC 9018 §5).
    others: Vec<Secret>,
}

/// A key of SipHash: 128 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Secret(u64, u64);

impl Secrets {
    /// Checks the secrets of the configuration, which are at `path` there: 32 hexadecimal digits each. The first
    /// makes cookies, all are accepted. Without any there is a random one; then no other server understands the
    /// cookies, nor does another worker of this one.
    ///
    /// # Errors
    ///
    /// There are no random numbers.
    pub fn compile(
        digits: &[String],
        path: &str,
        mistakes: &mut Mistakes,
    ) -> Result<Self, getrandom::Error> {
        let mut secrets = Vec::with_capacity(digits.len());
        for (index, digits) in digits.iter().enumerate() {
            match Secret::from_digits(digits) {
                Some(secret) if secrets.contains(&secret) => {
                    mistakes.push(Mistake::new(format!("{path}[{index}]"), "is there twice"));
                }
                Some(secret) => secrets.push(secret),
                // A secret is not repeated in a log.
                None => mistakes.push(Mistake::new(
                    format!("{path}[{index}]"),
                    "must be 32 hexadecimal digits",
                )),
            }
        }
        let mut secrets = secrets.into_iter();
        match secrets.next() {
            Some(first) => Ok(Self { first, others: secrets.collect() }),
            None => Self::random(),
        }
    }

    /// One random secret.
    ///
    /// # Errors
    ///
    /// There are no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; 16];
        getrandom::fill(&mut key)?;
        Ok(Self { first: Secret::from_octets(key), others: Vec::new() })
    }

    /// Checks a cookie that came from this address; `now` is Unix time in seconds.
    #[must_use]
    pub fn check(&self, cookie: Cookie<'_>, ip: IpAddr, now: u64) -> Verdict {
        if cookie.server.is_empty() {
            return Verdict::ClientOnly;
        }
        let Ok(server) = <&[u8; SERVER_LEN]>::try_from(cookie.server) else {
            return Verdict::Invalid;
        };
        // The reserved octets are not looked at, but they count in the hash (RFC 9018 §4.2).
        let &[front @ .., a, b, c, d, e, f, g, h] = server;
        let [version, _, _, _, t, i, m, s] = front;
        // Serial numbers, which go on behind 2^32 - 1 with zero (RFC 9018 §4.3, RFC 1982).
        let age = (now as u32).wrapping_sub(u32::from_be_bytes([t, i, m, s])) as i32;
        if version != VERSION || !(-MAX_AHEAD..=MAX_AGE).contains(&age) {
            return Verdict::Invalid;
        }
        let hash = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        // Two numbers are compared at once: how long that takes says nothing about their octets.
        let made_with = |secret: &Secret| secret.hash(cookie.client, front, ip) == hash;
        if made_with(&self.first) {
            if age > RENEWED_AFTER { Verdict::Renew } else { Verdict::Valid }
        } else if self.others.iter().any(made_with) {
            Verdict::Renew
        } else {
            Verdict::Invalid
        }
    }

    /// Makes the server cookie for a client with this cookie at this address; `now` is Unix time in seconds.
    #[must_use]
    pub fn make(&self, client: [u8; CLIENT_LEN], ip: IpAddr, now: u64) -> [u8; SERVER_LEN] {
        let [t, i, m, s] = (now as u32).to_be_bytes();
        let front = [VERSION, 0, 0, 0, t, i, m, s];
        let [a, b, c, d, e, f, g, h] = self.first.hash(client, front, ip).to_le_bytes();
        [VERSION, 0, 0, 0, t, i, m, s, a, b, c, d, e, f, g, h]
    }
}

impl Secret {
    fn from_octets(key: [u8; 16]) -> Self {
        // Little-endian, as SipHash takes its key: the second half is in the upper bits.
        let key = u128::from_le_bytes(key);
        Self(key as u64, (key >> 64) as u64)
    }

    fn from_digits(digits: &str) -> Option<Self> {
        // `from_str_radix` would take a sign.
        if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let key = u128::from_str_radix(digits, 16).ok()?;
        Some(Self::from_octets(key.to_be_bytes()))
    }

    /// SipHash-2-4 of client cookie, version, reserved, timestamp and address (RFC 9018 §4.4).
    #[expect(deprecated, reason = "what std recommends instead is not SipHash-2-4")]
    fn hash(self, client: [u8; CLIENT_LEN], front: [u8; FRONT_LEN], ip: IpAddr) -> u64 {
        let mut hasher = std::hash::SipHasher::new_with_keys(self.0, self.1);
        hasher.write(&client);
        hasher.write(&front);
        // A socket for both families shows IPv4 clients with addresses of IPv6.
        match ip.to_canonical() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.finish()
    }
}

/// Without the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets<const N: usize>(digits: &str) -> [u8; N] {
        assert_eq!(digits.len(), 2 * N);
        std::array::from_fn(|n| u8::from_str_radix(&digits[2 * n..][..2], 16).unwrap())
    }

    fn secrets(digits: &[&str]) -> Secrets {
        let mut mistakes = Mistakes::default();
        let digits: Vec<String> = digits.iter().map(|digits| (*digits).into()).collect();
        let secrets = Secrets::compile(&digits, "cookies", &mut mistakes).unwrap();
        assert_eq!(mistakes.into_list(), []);
        secrets
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
    const MADE_AT: u64 = 1_559_731_985;

    /// The client of RFC 9018 §A.1.
    fn client() -> [u8; 8] {
        octets("2464c4abcf10c957")
    }

    // RFC 9018, appendix A.

    #[test]
    fn a_client_learns_a_new_server_cookie() {
        let (secrets, ip) = (secrets(&[SECRET]), ip("198.51.100.100"));
        let cookie = Cookie { client: client(), server: &[] };
        assert_eq!(secrets.check(cookie, ip, MADE_AT), Verdict::ClientOnly);
        let expected = octets("010000005cf79f111f8130c3eee29480");
        assert_eq!(secrets.make(client(), ip, MADE_AT), expected);
    }

    #[test]
    fn the_same_client_learns_a_renewed_server_cookie() {
        let (secrets, ip) = (secrets(&[SECRET]), ip("198.51.100.100"));
        let server = octets::<16>("010000005cf79f111f8130c3eee29480");
        let cookie = Cookie { client: client(), server: &server };
        let now = 1_559_734_385;
        assert_eq!(secrets.check(cookie, ip, now), Verdict::Renew);
        let expected = octets("010000005cf7a871d4a564a1442aca77");
        assert_eq!(secrets.make(client(), ip, now), expected);
    }

    #[test]
    fn reserved_octets_that_are_not_zero_are_hashed_as_they_are() {
        let (secrets, ip) = (secrets(&[SECRET]), ip("203.0.113.203"));
        let client = octets("fc93fc62807ddb86");
        let server = octets::<16>("01abcdef5cf78f71a314227b6679ebf5");
        let cookie = Cookie { client, server: &server };
        assert_eq!(secrets.check(cookie, ip, 0x5cf7_8f71), Verdict::Valid);
        let expected = octets("010000005cf7a9acf73a7810aca2381e");
        assert_eq!(secrets.make(client, ip, 1_559_734_700), expected);
    }

    #[test]
    fn an_ipv6_client_learns_a_cookie_with_a_secret_that_was_rolled_over() {
        let old = "dd3bdf9344b678b185a6f5cb60fca715";
        let new = "445536bcd2513298075a5d379663c962";
        let ip = ip("2001:db8:220:1:59de:d0f4:8769:82b8");
        let client = octets("22681ab97d52c298");
        let server = octets::<16>("010000005cf7c57926556bd0934c72f8");
        let cookie = Cookie { client, server: &server };
        let now = 1_559_741_961;
        assert_eq!(secrets(&[old]).check(cookie, ip, now), Verdict::Valid);
        assert_eq!(secrets(&[new, old]).check(cookie, ip, now), Verdict::Renew);
        assert_eq!(secrets(&[new]).check(cookie, ip, now), Verdict::Invalid);
        let expected = octets("010000005cf7c609a6bb79d16625507a");
        assert_eq!(secrets(&[new, old]).make(client, ip, now), expected);
    }

    // RFC 9018 §4.3.

    #[test]
    fn a_cookie_holds_for_an_hour_and_from_five_minutes_before_it_was_made() {
        let (secrets, ip) = (secrets(&[SECRET]), ip("192.0.2.1"));
        // The second is made shortly before the time has no room in 32 bits, the third behind it.
        for made_at in [MADE_AT, u64::from(u32::MAX) - 100, (1 << 32) + 100] {
            let server = secrets.make(client(), ip, made_at);
            let cookie = Cookie { client: client(), server: &server };
            for (age, verdict) in [
                (-2_000_000_000, Verdict::Invalid),
                (-301, Verdict::Invalid),
                (-300, Verdict::Valid),
                (0, Verdict::Valid),
                (1_800, Verdict::Valid),
                (1_801, Verdict::Renew),
                (3_600, Verdict::Renew),
                (3_601, Verdict::Invalid),
                (2_000_000_000, Verdict::Invalid),
            ] {
                let now = made_at.wrapping_add_signed(age);
                assert_eq!(secrets.check(cookie, ip, now), verdict, "{made_at} {age}");
            }
        }
    }

    #[test]
    fn any_other_bit_and_any_other_address_make_a_cookie_invalid() {
        let (secrets, ip) = (secrets(&[SECRET]), ip("198.51.100.100"));
        let server = secrets.make(client(), ip, MADE_AT);
        let check =
            |client, server: &[u8], ip| secrets.check(Cookie { client, server }, ip, MADE_AT + 10);
        assert_eq!(check(client(), &server, ip), Verdict::Valid);
        for bit in 0..128 {
            let mut other = server;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(client(), &other, ip), Verdict::Invalid, "{bit}");
        }
        for bit in 0..64 {
            let mut other = client();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(other, &server, ip), Verdict::Invalid, "{bit}");
        }
        for other in ["198.51.100.101", "::c633:6464", "2001:db8::1"] {
            assert_eq!(check(client(), &server, self::ip(other)), Verdict::Invalid);
        }
        let mapped = self::ip("::ffff:198.51.100.100");
        assert_eq!(check(client(), &server, mapped), Verdict::Valid);
    }

    #[test]
    fn a_cookie_of_another_length_is_invalid() {
        let (secrets, ip) = (secrets(&[SECRET]), ip("198.51.100.100"));
        let mut server = secrets.make(client(), ip, MADE_AT).to_vec();
        server.resize(32, 0);
        for len in (8..=32).filter(|len| *len != 16) {
            let cookie = Cookie { client: client(), server: &server[..len] };
            assert_eq!(secrets.check(cookie, ip, MADE_AT), Verdict::Invalid, "{len}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_and_no_secret() {
        let mut mistakes = Mistakes::default();
        let wrong = "+5e973e5a6b2a43f48e7dc849e37bfcf";
        let long = format!("{SECRET}00");
        let digits = [SECRET, "", wrong, &long, "ä5e973e5a6b2a43f48e7dc849e37bfc", SECRET];
        let digits = digits.map(String::from);
        Secrets::compile(&digits, "dns.cookies.secrets", &mut mistakes).unwrap();
        let list: Vec<String> = mistakes.into_list().iter().map(ToString::to_string).collect();
        assert_eq!(
            list,
            [
                "dns.cookies.secrets[1]: must be 32 hexadecimal digits",
                "dns.cookies.secrets[2]: must be 32 hexadecimal digits",
                "dns.cookies.secrets[3]: must be 32 hexadecimal digits",
                "dns.cookies.secrets[4]: must be 32 hexadecimal digits",
                "dns.cookies.secrets[5]: is there twice",
            ]
        );
    }

    #[test]
    fn without_a_secret_there_is_a_random_one_and_none_is_shown() {
        let (one, other) = (secrets(&[]), secrets(&[]));
        let ip = ip("192.0.2.1");
        assert_ne!(one.make(client(), ip, 0), other.make(client(), ip, 0));
        assert_eq!(format!("{:?}", secrets(&[SECRET])), "Secrets { first: Secret, others: [] }");
    }
}
