//! Pre-shared keys by identity (RFC 4279).

use std::fmt;
use std::sync::{Mutex, PoisonError};

use dimpl::PskResolver;
use hashbrown::HashMap;
use zeroize::Zeroizing;

/// All pre-shared keys of one filter.
#[derive(Default)]
pub(crate) struct Psks {
    keys: HashMap<Box<[u8]>, Zeroizing<Vec<u8>>>,
    asked: Mutex<Option<Asked>>,
}

/// Which identity a client had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Known(Box<str>),
    Unknown,
}

impl Psks {
    /// Adds a key; `false` if the identity has one.
    pub(crate) fn insert(&mut self, identity: &str, key: Zeroizing<Vec<u8>>) -> bool {
        self.keys.insert(identity.as_bytes().into(), key).is_none()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Which identity was looked up since the last call. dimpl tells nobody, and looks up only
    /// while it is given a datagram: so whoever asks right after that knows whose it was.
    pub(crate) fn take_asked(&self) -> Option<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl PskResolver for Psks {
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        let known = self.keys.get_key_value(identity);
        let asked = match known.and_then(|(identity, _)| std::str::from_utf8(identity).ok()) {
            Some(identity) => Asked::Known(identity.into()),
            None => Asked::Unknown,
        };
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        known.map(|(_, key)| key.to_vec())
    }
}

impl fmt::Debug for Psks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Psks").field("identities", &self.keys.len()).finish_non_exhaustive()
    }
}
