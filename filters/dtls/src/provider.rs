//! dimpl's cryptography, with one thing changed: which cookie it expects.
//!
//! dimpl makes and checks cookies itself (RFC 6347 §4.2.1), but only with the state of one client, and
//! with a secret of its own. Here a cookie is made and checked before that state exists; after that
//! dimpl goes through its own exchange with the same cookie, which [`expect_cookie`] tells it. So its
//! message sequence numbers and, in DTLS 1.3, its transcript are those that the client has.

use std::cell::Cell;

use dimpl::CryptoError;
use dimpl::crypto::{CryptoProvider, HashAlgorithm, HmacProvider, rust_crypto};

thread_local! {
    static COOKIE: Cell<Option<[u8; 32]>> = const { Cell::new(None) };
}

/// Pure Rust cryptography, for [`dimpl::Config`].
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider { hmac_provider: &CookieHmac, ..rust_crypto::default_provider() }
}

/// Says which cookie dimpl makes and expects while `call` gives it a ClientHello.
pub(crate) fn expect_cookie<T>(cookie: &[u8; 32], call: impl FnOnce() -> T) -> T {
    COOKIE.set(Some(*cookie));
    let result = call();
    COOKIE.set(None);
    result
}

#[derive(Debug)]
struct CookieHmac;

impl HmacProvider for CookieHmac {
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> Result<[u8; 32], CryptoError> {
        // The first one for a ClientHello is the cookie; there may be others for keys.
        match COOKIE.take() {
            Some(cookie) => Ok(cookie),
            None => rust_crypto::default_provider().hmac_provider.hmac_sha256(key, data),
        }
    }

    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        rust_crypto::default_provider().hmac_provider.hmac(hash, key, data, out)
    }
}
