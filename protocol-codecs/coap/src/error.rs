//! What can be wrong with a message.

use core::fmt;

use crate::message::Header;
use crate::number::{Code, MessageType, OptionNumber};

/// Why the received bytes are no message that may be processed.
///
/// [`answer`](Self::answer) and [`answer_tcp`](Self::answer_tcp) are the one table of what the peer gets to
/// know about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// A datagram shorter than the four bytes of the header (§3); its length.
    HeaderTruncated(u8),
    /// A version other than 1 (§3).
    UnknownVersion(u8),
    /// A token length of 9 to 15 (§3).
    ReservedTokenLength(u8),
    /// A code of class 1, 6 or 7; over TCP, of class 1 or 6 (§4.2, §12.1).
    ReservedCodeClass(Code),
    /// An empty message with a token, options or a payload (§4.1).
    EmptyMessageWithContent,
    /// A non-confirmable message that is empty (§4.3).
    EmptyNonConfirmable,
    /// An acknowledgement with a request in it (§4.2).
    RequestInAcknowledgement(Code),
    /// A reset message that is not empty (§4.2); its code.
    ResetNotEmpty(Code),
    /// The token or an option reaches beyond the end of the message (§3, §3.1).
    Truncated {
        /// How many bytes it takes.
        needed: u32,
        /// How many are left.
        available: u32,
    },
    /// An option whose delta or length is the reserved 15, and which is no payload marker (§3.1); its
    /// first byte.
    ReservedOptionNibble(u8),
    /// An option number above 65,535 (§3.1).
    OptionNumberTooLarge(u32),
    /// A payload marker without a payload (§3).
    PayloadMarkerWithoutPayload,
    /// A TCP message above the caller's limit (RFC 8323 §5.3.1).
    MessageTooLarge {
        /// The message's size in bytes, from its first byte to the end of its payload.
        size: u64,
        /// The limit.
        limit: u32,
    },

    /// A critical option whose value is shorter or longer than its definition allows (§5.4.3).
    OptionLength {
        /// The option.
        number: OptionNumber,
        /// The length of its value in bytes.
        len: u16,
    },
    /// A critical option that may appear once and appears again (§5.4.5).
    RepeatedOption(OptionNumber),
    /// A critical string option that is not UTF-8 (§3.2).
    InvalidUtf8 {
        /// The option.
        number: OptionNumber,
        /// Offset of the first offending byte in its value.
        valid_up_to: u16,
    },
    /// A Uri-Path of `.` or `..` (§5.10.1).
    DotSegment(OptionNumber),
    /// A block option with the reserved size exponent 7, which has a meaning over TCP only
    /// (RFC 7959 §2.2, RFC 8323 §6).
    ReservedBlockSize(OptionNumber),
    /// A request with a Hop-Limit of zero (RFC 8768 §3).
    HopLimitZero,
}

/// What the peer gets for a message that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Nothing.
    Ignore,
    /// A reset message with the message ID of what was refused (§4.2).
    Reset,
    /// A response with this code and the token of the request: piggybacked in the acknowledgement of a
    /// confirmable one.
    Response(Code),
    /// A signaling message 7.05 Abort, and the end of the connection (RFC 8323 §5.6).
    Abort,
}

impl DecodeError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::HeaderTruncated(_) => "header_truncated",
            Self::UnknownVersion(_) => "unknown_version",
            Self::ReservedTokenLength(_) => "reserved_token_length",
            Self::ReservedCodeClass(_) => "reserved_code_class",
            Self::EmptyMessageWithContent => "empty_message_with_content",
            Self::EmptyNonConfirmable => "empty_non_confirmable",
            Self::RequestInAcknowledgement(_) => "request_in_acknowledgement",
            Self::ResetNotEmpty(_) => "reset_not_empty",
            Self::Truncated { .. } => "truncated",
            Self::ReservedOptionNibble(_) => "reserved_option_nibble",
            Self::OptionNumberTooLarge(_) => "option_number_too_large",
            Self::PayloadMarkerWithoutPayload => "payload_marker_without_payload",
            Self::MessageTooLarge { .. } => "message_too_large",
            Self::OptionLength { .. } => "option_length",
            Self::RepeatedOption(_) => "repeated_option",
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::DotSegment(_) => "dot_segment",
            Self::ReservedBlockSize(_) => "reserved_block_size",
            Self::HopLimitZero => "hop_limit_zero",
        }
    }

    /// The response code that this error of a request deserves; `None` for a message format error, which
    /// has no response.
    pub const fn response_code(self) -> Option<Code> {
        match self {
            Self::OptionLength { .. }
            | Self::RepeatedOption(_)
            | Self::InvalidUtf8 { .. }
            | Self::DotSegment(_) => Some(Code::BAD_OPTION),
            Self::ReservedBlockSize(_) | Self::HopLimitZero => Some(Code::BAD_REQUEST),
            Self::HeaderTruncated(_)
            | Self::UnknownVersion(_)
            | Self::ReservedTokenLength(_)
            | Self::ReservedCodeClass(_)
            | Self::EmptyMessageWithContent
            | Self::EmptyNonConfirmable
            | Self::RequestInAcknowledgement(_)
            | Self::ResetNotEmpty(_)
            | Self::Truncated { .. }
            | Self::ReservedOptionNibble(_)
            | Self::OptionNumberTooLarge(_)
            | Self::PayloadMarkerWithoutPayload
            | Self::MessageTooLarge { .. } => None,
        }
    }

    /// What the sender of the datagram gets (§4.2, §4.3, §5.4.1); `header` is [`header`](crate::header) of
    /// the datagram. Where that fails, the answer is [`Answer::Ignore`] (§3).
    ///
    /// A non-confirmable request with a critical option that cannot be processed is ignored (§5.4.1), one
    /// that must be answered with 4.00 is answered.
    pub const fn answer(self, header: Header) -> Answer {
        let code = if header.code.is_request() { self.response_code() } else { None };
        match (header.message_type, code) {
            (MessageType::Confirmable, Some(code)) => Answer::Response(code),
            (MessageType::Confirmable, None) => Answer::Reset,
            (MessageType::NonConfirmable, Some(Code::BAD_REQUEST)) => {
                Answer::Response(Code::BAD_REQUEST)
            }
            _ => Answer::Ignore,
        }
    }

    /// What the sender of a TCP message with this code gets (RFC 8323 §5.6).
    ///
    /// A bad option in a response concerns that response alone, so it is ignored; anything else leaves no
    /// trust in where the next message begins.
    pub const fn answer_tcp(self, code: Code) -> Answer {
        match self.response_code() {
            Some(response) if code.is_request() => Answer::Response(response),
            Some(_) if code.is_response() => Answer::Ignore,
            _ => Answer::Abort,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::HeaderTruncated(len) => write!(f, "datagram of {len} bytes is no message"),
            Self::UnknownVersion(version) => write!(f, "version {version} is unknown"),
            Self::ReservedTokenLength(len) => write!(f, "token length {len} is reserved"),
            Self::ReservedCodeClass(code) => write!(f, "code {code} is of a reserved class"),
            Self::EmptyMessageWithContent => f.write_str("empty message with content"),
            Self::EmptyNonConfirmable => f.write_str("empty non-confirmable message"),
            Self::RequestInAcknowledgement(code) => {
                write!(f, "acknowledgement with request {code}")
            }
            Self::ResetNotEmpty(code) => write!(f, "reset message with code {code}"),
            Self::Truncated { needed, available } => {
                write!(f, "field of {needed} bytes with {available} left")
            }
            Self::ReservedOptionNibble(byte) => {
                write!(f, "option header {byte:#04x} has a reserved delta or length")
            }
            Self::OptionNumberTooLarge(number) => {
                write!(f, "option number {number} is above 65535")
            }
            Self::PayloadMarkerWithoutPayload => f.write_str("payload marker without payload"),
            Self::MessageTooLarge { size, limit } => {
                write!(f, "message of {size} bytes is above the limit of {limit}")
            }
            Self::OptionLength { number, len } => {
                write!(f, "option {number} has a value of {len} bytes")
            }
            Self::RepeatedOption(number) => write!(f, "option {number} is repeated"),
            Self::InvalidUtf8 { number, valid_up_to } => {
                write!(f, "option {number} is not utf-8 at byte {valid_up_to}")
            }
            Self::DotSegment(number) => write!(f, "option {number} is a dot segment"),
            Self::ReservedBlockSize(number) => {
                write!(f, "option {number} has the reserved size exponent 7")
            }
            Self::HopLimitZero => f.write_str("hop limit is zero"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Why a message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeError {
    /// The output is shorter than the message.
    BufferTooSmall {
        /// The message's size in bytes.
        needed: usize,
    },
    /// A token of more than eight bytes (§3); its length.
    TokenTooLong(usize),
    /// Options that are not in the order of their numbers (§3.1).
    OptionsNotSorted {
        /// The option that comes too late.
        number: OptionNumber,
        /// The one before it.
        after: OptionNumber,
    },
    /// An option value of more than 65,804 bytes (§3.1).
    OptionTooLong {
        /// The option.
        number: OptionNumber,
        /// The length of its value in bytes.
        len: usize,
    },
    /// A value that a receiver would not take for what it is: of another format or length than the
    /// option is defined with, or a repetition of an option that may appear once (§3.2, §5.4).
    OptionFormat(OptionNumber),
    /// More options than the list has room for; how many that is.
    TooManyOptions(usize),
    /// More bytes than the length field of a TCP message can say (RFC 8323 §3.2).
    MessageTooLarge {
        /// Bytes of options, payload marker and payload.
        len: usize,
    },
    /// The bytes would be refused by a receiver, for this reason.
    Refused(DecodeError),
}

impl EncodeError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BufferTooSmall { .. } => "buffer_too_small",
            Self::TokenTooLong(_) => "token_too_long",
            Self::OptionsNotSorted { .. } => "options_not_sorted",
            Self::OptionTooLong { .. } => "option_too_long",
            Self::OptionFormat(_) => "option_format",
            Self::TooManyOptions(_) => "too_many_options",
            Self::MessageTooLarge { .. } => "message_too_large",
            Self::Refused(error) => error.label(),
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BufferTooSmall { needed } => write!(f, "message takes {needed} bytes of buffer"),
            Self::TokenTooLong(len) => write!(f, "token of {len} bytes is above 8"),
            Self::OptionsNotSorted { number, after } => {
                write!(f, "option {number} comes after option {after}")
            }
            Self::OptionTooLong { number, len } => {
                write!(f, "option {number} with a value of {len} bytes is above 65804")
            }
            Self::OptionFormat(number) => {
                write!(f, "value does not fit the definition of option {number}")
            }
            Self::TooManyOptions(capacity) => write!(f, "more than {capacity} options"),
            Self::MessageTooLarge { len } => write!(f, "length {len} is above 4295033100"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }
}

impl From<DecodeError> for EncodeError {
    #[inline]
    fn from(error: DecodeError) -> Self {
        Self::Refused(error)
    }
}
