//! MQTT 3.1.1 and 5.0 packets: zero-copy decoding and encoding without allocation.
//!
//! The crate knows bytes and packets, nothing else: no I/O, no clock, no session state. It is
//! `no_std`, does not link `alloc`, and contains no `unsafe`; so it cannot allocate.
//!
//! * [`frame`] reads the fixed header alone, so that a limit applies before anything is buffered.
//! * [`decode`] turns one whole packet into a [`Packet`] that borrows from the input.
//! * [`decode_connect`] reads the first packet of a connection, which names its own version.
//! * [`decode_publish_header`] reads a PUBLISH up to its payload, so that the payload can stream.
//! * every packet has `encoded_len` and `encode`; [`PublishHeader::encode`] writes a PUBLISH
//!   without its payload.
//! * [`topic`] validates and matches topic names and topic filters.
//!
//! A decoded packet has been validated completely and once: iterating its [`Properties`],
//! [`Subscriptions`], [`TopicFilters`] or [`ReasonCodes`] cannot fail. Whatever the standards call a
//! malformed packet or a protocol error, and that one packet alone can show, is a [`DecodeError`].
//! What needs the connection's state (an unknown topic alias, a second CONNECT, a quota) is up to the
//! caller. `encode` refuses what `decode` would refuse, so `decode(encode(x)) == x`.
//!
//! Section numbers refer to *MQTT Version 5.0* (OASIS Standard, 7 March 2019), or where marked to
//! *MQTT Version 3.1.1* (OASIS Standard, 29 October 2014).
//!
//! ```
//! use codec_mqtt::{Decoded, Packet, Version, decode};
//!
//! let bytes = b"\x30\x0a\x00\x05hello\x00hi";
//! match decode(bytes, Version::V5)? {
//!     Decoded::Complete { packet: Packet::Publish(publish), consumed } => {
//!         assert_eq!((publish.topic, publish.payload, consumed), ("hello", &b"hi"[..], 12));
//!     }
//!     other => unreachable!("{other:?}"),
//! }
//! assert_eq!(decode(&bytes[..4], Version::V5)?, Decoded::Incomplete { needed: 12 });
//! # Ok::<(), codec_mqtt::DecodeError>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod error;
mod frame;
mod number;
mod packet;
mod property;
mod read;
mod text;
pub mod topic;
mod write;

pub use error::{DecodeError, EncodeError};
pub use frame::{Frame, MAX_PACKET_SIZE, MAX_REMAINING_LENGTH, frame};
pub use number::{ConnectReturnCode, PacketType, PropertyId, QoS, ReasonCode, Version};
pub use packet::{
    Auth, ConnAck, Connect, ConnectCode, Disconnect, Packet, PingReq, PingResp, PubAck, PubComp,
    PubRec, PubRel, Publish, PublishHeader, ReasonCodes, RetainHandling, SubAck, Subscribe,
    Subscription, SubscriptionIter, Subscriptions, TopicFilterIter, TopicFilters, UnsubAck,
    Unsubscribe, Will, decode, decode_connect, decode_publish_header,
};
pub use property::{Properties, Property, PropertyIter};

/// The outcome of decoding the front of a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// What was asked for.
    Complete {
        /// The decoded value.
        packet: T,
        /// How many bytes of the input it took.
        consumed: usize,
    },
    /// The input ends too early.
    Incomplete {
        /// A lower bound on how many bytes, counted from the start of the packet, must be there before
        /// another attempt can get further. Always more than there were.
        needed: usize,
    },
}

impl<T> Decoded<T> {
    /// Replaces the decoded value.
    #[inline]
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Decoded<U> {
        match self {
            Self::Complete { packet, consumed } => {
                Decoded::Complete { packet: f(packet), consumed }
            }
            Self::Incomplete { needed } => Decoded::Incomplete { needed },
        }
    }

    /// The decoded value, if the input was long enough.
    #[inline]
    pub fn complete(self) -> Option<T> {
        match self {
            Self::Complete { packet, .. } => Some(packet),
            Self::Incomplete { .. } => None,
        }
    }
}
