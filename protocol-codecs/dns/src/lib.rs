//! DNS messages: zero-copy decoding and encoding without allocation.
//!
//! The crate knows octets and messages, nothing else: no I/O, no clock, no transaction state. It is
//! `no_std`, does not link `alloc`, and contains no `unsafe`; so it cannot allocate.
//!
//! * [`decode`] turns a message's octets into a [`Message`] that borrows from them; [`header`] reads what is
//!   needed to answer one that cannot be decoded, and [`DecodeError::rcode`] says how.
//! * [`Name`] is a name in the octets where it was found, compressed or not; [`NameBuf`] has room of its own.
//! * [`Record::data`] gives the RDATA of the common types in their formats, of every other its octets.
//! * [`Edns`] is what an OPT record says, with its options.
//! * [`Builder`] writes a message within a limit: names compressed in the case they are in, records taken
//!   over from others, OPT and padding at the end, and all cut short where it does not fit.
//! * [`patch`] changes ID, flags, TTLs and the case of the question where a message is.
//! * [`frame_tcp`] takes a message off a stream, [`tcp_length`] is what goes in front of one.
//!
//! A decoded message has been validated completely and once, so that reading it cannot fail: the sections
//! are what the header announces and end where the octets end, every name is within 255 octets and its
//! pointers lead backwards, every RDATA of a known type and every known EDNS option is in its format, there
//! is one OPT record at most and a TSIG is the last. What is unknown passes through.
//!
//! Few octets do not keep anybody busy who decodes a message, or reads the names in it: pointers may lead to
//! names with pointers, but in all names together no more often than there are octets, which is several times
//! what the names of real zones need.
//!
//! Names are compared without regard to the case of ASCII letters (RFC 4343), and are kept in it.
//!
//! Multicast DNS (RFC 6762), whose queries have several questions, and DNS Stateful Operations (RFC 8490)
//! are other protocols; their messages are refused.
//!
//! ```
//! use codec_dns::{EdnsFlags, RecordType, decode};
//!
//! let message = decode(
//!     b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x03wWw\x07example\x03com\0\0\x1c\0\x01\
//!       \0\0\x29\x04\xd0\0\0\x80\0\0\x0c\0\x0a\0\x08\x01\x02\x03\x04\x05\x06\x07\x08",
//! )?;
//! let question = message.question().unwrap();
//! assert_eq!(question.name.to_string(), "wWw.example.com.");
//! assert_eq!(question.record_type, RecordType::AAAA);
//! let edns = message.edns().unwrap();
//! assert!(edns.flags.has(EdnsFlags::DO));
//! assert_eq!(edns.options.cookie().unwrap().client, [1, 2, 3, 4, 5, 6, 7, 8]);
//! # Ok::<(), codec_dns::DecodeError>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod build;
mod edns;
mod error;
mod message;
mod name;
mod number;
pub mod patch;
mod rdata;
mod svcb;
mod tcp;
mod write;

pub use build::Builder;
pub use edns::{
    ClientSubnet, Cookie, Edns, EdnsFlags, EdnsOption, EdnsOptionIter, EdnsOptions, ExtendedError,
    KeyTags,
};
pub use error::{DecodeError, EncodeError, NameError};
pub use message::{
    Flags, HEADER_LEN, Header, MAX_MESSAGE_LEN, MIN_UDP_LEN, Message, Question, Questions, Record,
    Records, Section, TtlOffsets, decode, header,
};
pub use name::{Labels, MAX_LABEL_LEN, MAX_NAME_LEN, MAX_NAME_TEXT_LEN, Name, NameBuf};
pub use number::{
    Class, InfoCode, Opcode, OptionCode, Rcode, RecordType, SvcParamKey, UnknownMnemonic,
};
pub use rdata::{
    Caa, CharStrings, Dnskey, Ds, Legacy, Mx, Naptr, Nsec, Nsec3, Nsec3Param, RecordData, Rrsig,
    Soa, Srv, Sshfp, Tlsa, TypeBitmap, Uri,
};
pub use svcb::{SvcParams, Svcb};
pub use tcp::{Decoded, frame_tcp, tcp_length};
