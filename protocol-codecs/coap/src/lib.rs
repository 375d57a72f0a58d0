//! CoAP messages over UDP and TCP: zero-copy decoding and encoding without allocation.
//!
//! The crate knows bytes and messages, nothing else: no I/O, no clock, no exchange state. It is `no_std`,
//! does not link `alloc`, and contains no `unsafe`; so it cannot allocate.
//!
//! * [`decode`] turns a datagram into a [`Message`] that borrows from it; [`header`] reads what is needed
//!   to answer one that cannot be decoded.
//! * [`frame_tcp`] reads the header of a message on a stream alone, so that a limit applies before anything
//!   is buffered; [`decode_tcp`] turns the whole into a [`TcpMessage`]. Signaling messages are messages
//!   with options of their own.
//! * both have `encoded_len` and `encode`.
//! * [`Options`] are what was decoded, or a sorted list to encode; an [`OptionList`] sorts.
//! * [`uri`] takes URIs apart into options and puts them together again.
//!
//! A decoded message has been validated completely and once: iterating its [`Options`] cannot fail. What
//! the standards call a message format error, and a critical option that does not keep to its definition,
//! is a [`DecodeError`]. An *elective* option that does not keep to its definition is to be ignored like an
//! unknown one (§5.4.1, §5.4.3, §5.4.5): iterating gives it as [`OptionValue::Opaque`], and no accessor
//! returns it. What needs more than the message (which unknown critical options are supported, whether a
//! message ID is a duplicate) is up to the caller. `encode` refuses what `decode` would refuse, so
//! `decode(encode(x)) == x`.
//!
//! Extended tokens (RFC 8974) are not supported: they need an agreement with the peer.
//!
//! Section numbers refer to RFC 7252 unless they name another.
//!
//! ```
//! use codec_coap::{Code, ContentFormat, MessageType, decode};
//!
//! let message = decode(b"\x42\x01\x30\x39\xbe\xef\xb4lamp\x02on\x61\x32")?;
//! assert_eq!((message.message_type, message.code), (MessageType::Confirmable, Code::GET));
//! assert!(message.options.uri_path().eq(["lamp", "on"]));
//! assert_eq!(message.options.accept(), Some(ContentFormat::JSON));
//! # Ok::<(), codec_coap::DecodeError>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod block;
mod error;
mod message;
mod number;
mod option;
mod scan;
mod tcp;
pub mod uri;
mod write;

pub use block::Block;
pub use error::{Answer, DecodeError, EncodeError};
pub use message::{Header, MAX_TOKEN_LEN, Message, decode, header};
pub use number::{Code, ContentFormat, MessageType, OptionNumber};
pub use option::{CoapOption, OptionIter, OptionList, OptionValue, Options, Utf8};
pub use tcp::{DEFAULT_MAX_MESSAGE_SIZE, Frame, TcpMessage, decode_tcp, frame_tcp};

/// The outcome of decoding the front of a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// What was asked for.
    Complete {
        /// The decoded value.
        message: T,
        /// How many bytes of the input it took.
        consumed: usize,
    },
    /// The input ends too early.
    Incomplete {
        /// A lower bound on how many bytes, counted from the start of the message, must be there before
        /// another attempt can get further. Always more than there were.
        needed: usize,
    },
}

impl<T> Decoded<T> {
    /// The decoded value, if the input was long enough.
    #[inline]
    pub fn complete(self) -> Option<T> {
        match self {
            Self::Complete { message, .. } => Some(message),
            Self::Incomplete { .. } => None,
        }
    }
}
