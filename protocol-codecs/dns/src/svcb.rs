//! Service bindings (RFC 9460 §2.2).

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::name::Name;
use crate::number::SvcParamKey;

/// Where a service is, and how to get to it (RFC 9460 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Svcb<'a> {
    /// SvcPriority: lower values are preferred; with zero, the record is an alias for `target`.
    pub priority: u16,
    /// TargetName; the root stands for the record's own name, or, in an alias, for no service.
    pub target: Name<'a>,
    /// SvcParams.
    pub params: SvcParams<'a>,
}

/// Service parameters in the order of their keys (RFC 9460 §2.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SvcParams<'a>(&'a [u8]);

impl<'a> SvcParams<'a> {
    /// None.
    pub const EMPTY: Self = Self(&[]);

    /// Parameters as they are sent; `None` unless their keys are in strictly increasing order and each of
    /// those of RFC 9460 is in its format (§2.2, §7, §8).
    pub fn new(octets: &'a [u8]) -> Option<Self> {
        let mut rest = octets;
        let mut lowest = 0;
        while !rest.is_empty() {
            let (key, value, after) = split(rest)?;
            if u32::from(key.0) < lowest || !is_sound(key, value) {
                return None;
            }
            lowest = u32::from(key.0) + 1;
            rest = after;
        }
        Some(Self(octets))
    }

    /// The octets, as they are sent.
    #[inline]
    pub const fn as_wire(self) -> &'a [u8] {
        self.0
    }

    /// Keys and values.
    pub fn iter(self) -> impl Iterator<Item = (SvcParamKey, &'a [u8])> + Clone {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (key, value, after) = split(rest)?;
            rest = after;
            Some((key, value))
        })
    }

    /// The value of this key.
    pub fn get(self, key: SvcParamKey) -> Option<&'a [u8]> {
        self.iter().find(|param| param.0 == key).map(|param| param.1)
    }

    /// Which keys a client has to understand (RFC 9460 §8).
    pub fn mandatory(self) -> impl Iterator<Item = SvcParamKey> + Clone {
        let (keys, _) = self.get(SvcParamKey::MANDATORY).unwrap_or_default().as_chunks();
        keys.iter().map(|&key| SvcParamKey(u16::from_be_bytes(key)))
    }

    /// The protocols that the service speaks (RFC 9460 §7.1).
    pub fn alpn(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut rest = self.get(SvcParamKey::ALPN).unwrap_or_default();
        core::iter::from_fn(move || {
            let (&len, after) = rest.split_first()?;
            let (id, after) = after.split_at_checked(usize::from(len))?;
            rest = after;
            Some(id)
        })
    }

    /// The port (RFC 9460 §7.2).
    pub fn port(self) -> Option<u16> {
        let &port = self.get(SvcParamKey::PORT)?.first_chunk()?;
        Some(u16::from_be_bytes(port))
    }

    /// IPv4 addresses to try (RFC 9460 §7.3).
    pub fn ipv4_hints(self) -> impl Iterator<Item = Ipv4Addr> + Clone {
        let (hints, _) = self.get(SvcParamKey::IPV4HINT).unwrap_or_default().as_chunks();
        hints.iter().map(|&hint| Ipv4Addr::from_octets(hint))
    }

    /// IPv6 addresses to try (RFC 9460 §7.3).
    pub fn ipv6_hints(self) -> impl Iterator<Item = Ipv6Addr> + Clone {
        let (hints, _) = self.get(SvcParamKey::IPV6HINT).unwrap_or_default().as_chunks();
        hints.iter().map(|&hint| Ipv6Addr::from_octets(hint))
    }
}

impl fmt::Debug for SvcParams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn split(octets: &[u8]) -> Option<(SvcParamKey, &[u8], &[u8])> {
    let (&[k, y, l, n], rest) = octets.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l, n])))?;
    Some((SvcParamKey(u16::from_be_bytes([k, y])), value, rest))
}

/// Whether a value is in the format of its key; of other keys any is.
fn is_sound(key: SvcParamKey, value: &[u8]) -> bool {
    let is_list = |of: usize| !value.is_empty() && value.len().is_multiple_of(of);
    match key {
        SvcParamKey::MANDATORY => {
            let (keys, _) = value.as_chunks();
            // Increasing from 1 on: the key of the list itself is 0.
            let increases = keys.iter().try_fold(0, |last, &key| {
                let key = u16::from_be_bytes(key);
                (key > last).then_some(key)
            });
            is_list(2) && increases.is_some()
        }
        SvcParamKey::ALPN => {
            let mut rest = value;
            while let Some((&len, after)) = rest.split_first() {
                match after.get(usize::from(len)..) {
                    Some(after) if len > 0 => rest = after,
                    _ => return false,
                }
            }
            !value.is_empty()
        }
        SvcParamKey::NO_DEFAULT_ALPN => value.is_empty(),
        SvcParamKey::PORT => value.len() == 2,
        SvcParamKey::IPV4HINT => is_list(4),
        SvcParamKey::IPV6HINT => is_list(16),
        _ => true,
    }
}
