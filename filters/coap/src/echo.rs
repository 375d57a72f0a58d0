//! Proof that a client is at the address it sends from (RFC 9175 §2.3, §2.4).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an Echo option value may come back.
const FRESH: Duration = Duration::from_secs(60);

/// Makes Echo option values, and knows them again without having kept them: the time, and a keyed hash
/// (SipHash) of it and the client's address.
#[derive(Debug, Default)]
pub(crate) struct Echo(RandomState);

impl Echo {
    /// The value for a client, at this time.
    pub(crate) fn value(&self, client: Option<SocketAddr>, now: Duration) -> [u8; 12] {
        self.at(client, u32::try_from(now.as_secs()).unwrap_or(u32::MAX))
    }

    /// Whether this is a value that was given to that client not long ago.
    pub(crate) fn proves(&self, value: &[u8], client: Option<SocketAddr>, now: Duration) -> bool {
        let Some(&seconds) = value.first_chunk() else { return false };
        let seconds = u32::from_be_bytes(seconds);
        let age = now.checked_sub(Duration::from_secs(seconds.into()));
        age.is_some_and(|age| age <= FRESH) && value == self.at(client, seconds)
    }

    fn at(&self, client: Option<SocketAddr>, seconds: u32) -> [u8; 12] {
        let hash = self.0.hash_one((client, seconds)).to_be_bytes();
        let mut value = [0; 12];
        for (place, octet) in value.iter_mut().zip(seconds.to_be_bytes().into_iter().chain(hash)) {
            *place = octet;
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_proves_one_address_for_a_while() {
        let at = Duration::from_secs;
        let (anna, bob) = ("192.0.2.1:5".parse().ok(), "192.0.2.1:6".parse().ok());
        let echo = Echo::default();
        let value = echo.value(anna, at(100));
        assert!(echo.proves(&value, anna, at(100)));
        assert!(echo.proves(&value, anna, at(160)));
        assert!(!echo.proves(&value, anna, at(161)));
        assert!(!echo.proves(&value, anna, at(99)));
        assert!(!echo.proves(&value, bob, at(100)));
        assert!(!echo.proves(&value[..11], anna, at(100)));
        assert!(!Echo::default().proves(&value, anna, at(100)));
    }
}
