//! Native octets that the protocol has not consumed yet.

use bytes::{Buf, Bytes, BytesMut};

/// Native octets that the protocol has not consumed yet, in the order they came.
///
/// The usual case, a whole number of packets in one piece, is never copied; only the rest of an
/// incomplete packet is, when more octets arrive.
#[derive(Debug, Default)]
pub struct Input {
    octets: Bytes,
}

impl Input {
    /// The octets not yet consumed.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.octets
    }

    /// The octets not yet consumed, to look at while they are consumed. Not a copy.
    #[must_use]
    pub fn share(&self) -> Bytes {
        self.octets.clone()
    }

    /// The number of octets not yet consumed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether every octet was consumed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Consumes up to `n` octets without looking at them.
    pub fn skip(&mut self, n: usize) {
        self.octets.advance(n.min(self.octets.len()));
    }

    /// Consumes up to `n` octets and hands them over without a copy.
    #[must_use]
    pub fn take(&mut self, n: usize) -> Bytes {
        self.octets.split_to(n.min(self.octets.len()))
    }

    /// Consumes everything.
    pub fn clear(&mut self) {
        self.octets = Bytes::new();
    }

    /// Adds octets behind those that are there.
    pub fn push(&mut self, more: Bytes) {
        if self.octets.is_empty() {
            self.octets = more;
        } else if !more.is_empty() {
            let mut joined = match std::mem::take(&mut self.octets).try_into_mut() {
                Ok(own) => own,
                Err(shared) => {
                    let mut own = BytesMut::with_capacity(shared.len() + more.len());
                    own.extend_from_slice(&shared);
                    own
                }
            };
            joined.extend_from_slice(&more);
            self.octets = joined.freeze();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_come_out_in_the_order_they_went_in() {
        let mut input = Input::default();
        input.push(Bytes::from_static(b"ab"));
        input.push(Bytes::from_static(b"cd"));
        input.skip(1);
        input.push(Bytes::from_static(b"ef"));
        assert_eq!(input.as_slice(), b"bcdef");
        assert_eq!(input.take(3), &b"bcd"[..]);
        assert_eq!(input.take(9), &b"ef"[..]);
        assert!(input.is_empty());
    }
}
