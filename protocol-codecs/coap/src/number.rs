//! The numbers that appear on the wire.

use core::fmt;

/// How a message is transmitted over UDP (§3, §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MessageType {
    /// Asks for an acknowledgement.
    Confirmable = 0,
    /// Asks for none.
    NonConfirmable = 1,
    /// Acknowledges a confirmable message, maybe with the response to it.
    Acknowledgement = 2,
    /// Tells that a message was received and cannot be processed.
    Reset = 3,
}

impl MessageType {
    /// The type that the lowest two bits stand for.
    #[inline]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Confirmable,
            1 => Self::NonConfirmable,
            2 => Self::Acknowledgement,
            _ => Self::Reset,
        }
    }

    /// `con`, `non`, `ack` or `rst`: stable, for metrics and headers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Confirmable => "con",
            Self::NonConfirmable => "non",
            Self::Acknowledgement => "ack",
            Self::Reset => "rst",
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

macro_rules! open_number {
    (
        $(#[$meta:meta])*
        $name:ident($inner:ty), $unknown:literal {
            $($(#[$doc:meta])* $constant:ident = $value:expr, $label:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl $name {
            $($(#[$doc])* pub const $constant: Self = Self($value);)*

            /// A stable name for metrics;
            #[doc = concat!("`", $unknown, "` for a number without one.")]
            pub const fn label(self) -> &'static str {
                $(if self.0 == Self::$constant.0 {
                    return $label;
                })*
                $unknown
            }
        }
    };
}

open_number! {
    /// What a message is: a class of 3 bits and a detail of 5 (§3, §12.1).
    Code(u8), "unknown" {
        /// Neither request nor response (§4.1).
        EMPTY = code(0, 0), "empty";
        /// §5.8.1
        GET = code(0, 1), "get";
        /// §5.8.2
        POST = code(0, 2), "post";
        /// §5.8.3
        PUT = code(0, 3), "put";
        /// §5.8.4
        DELETE = code(0, 4), "delete";
        /// RFC 8132 §2
        FETCH = code(0, 5), "fetch";
        /// RFC 8132 §3
        PATCH = code(0, 6), "patch";
        /// RFC 8132 §3
        IPATCH = code(0, 7), "ipatch";
        /// §5.9.1.1
        CREATED = code(2, 1), "created";
        /// §5.9.1.2
        DELETED = code(2, 2), "deleted";
        /// §5.9.1.3
        VALID = code(2, 3), "valid";
        /// §5.9.1.4
        CHANGED = code(2, 4), "changed";
        /// §5.9.1.5
        CONTENT = code(2, 5), "content";
        /// RFC 7959 §2.9.1
        CONTINUE = code(2, 31), "continue";
        /// §5.9.2.1
        BAD_REQUEST = code(4, 0), "bad_request";
        /// §5.9.2.2
        UNAUTHORIZED = code(4, 1), "unauthorized";
        /// §5.9.2.3
        BAD_OPTION = code(4, 2), "bad_option";
        /// §5.9.2.4
        FORBIDDEN = code(4, 3), "forbidden";
        /// §5.9.2.5
        NOT_FOUND = code(4, 4), "not_found";
        /// §5.9.2.6
        METHOD_NOT_ALLOWED = code(4, 5), "method_not_allowed";
        /// §5.9.2.7
        NOT_ACCEPTABLE = code(4, 6), "not_acceptable";
        /// RFC 7959 §2.9.2
        REQUEST_ENTITY_INCOMPLETE = code(4, 8), "request_entity_incomplete";
        /// RFC 8132 §2.3
        CONFLICT = code(4, 9), "conflict";
        /// §5.9.2.8
        PRECONDITION_FAILED = code(4, 12), "precondition_failed";
        /// §5.9.2.9
        REQUEST_ENTITY_TOO_LARGE = code(4, 13), "request_entity_too_large";
        /// §5.9.2.10
        UNSUPPORTED_CONTENT_FORMAT = code(4, 15), "unsupported_content_format";
        /// RFC 8132 §2.3
        UNPROCESSABLE_ENTITY = code(4, 22), "unprocessable_entity";
        /// RFC 8516 §3
        TOO_MANY_REQUESTS = code(4, 29), "too_many_requests";
        /// §5.9.3.1
        INTERNAL_SERVER_ERROR = code(5, 0), "internal_server_error";
        /// §5.9.3.2
        NOT_IMPLEMENTED = code(5, 1), "not_implemented";
        /// §5.9.3.3
        BAD_GATEWAY = code(5, 2), "bad_gateway";
        /// §5.9.3.4
        SERVICE_UNAVAILABLE = code(5, 3), "service_unavailable";
        /// §5.9.3.5
        GATEWAY_TIMEOUT = code(5, 4), "gateway_timeout";
        /// §5.9.3.6
        PROXYING_NOT_SUPPORTED = code(5, 5), "proxying_not_supported";
        /// RFC 8768 §4
        HOP_LIMIT_REACHED = code(5, 8), "hop_limit_reached";
        /// Capabilities and settings, TCP only (RFC 8323 §5.3).
        CSM = code(7, 1), "csm";
        /// TCP only (RFC 8323 §5.4).
        PING = code(7, 2), "ping";
        /// TCP only (RFC 8323 §5.4).
        PONG = code(7, 3), "pong";
        /// TCP only (RFC 8323 §5.5).
        RELEASE = code(7, 4), "release";
        /// TCP only (RFC 8323 §5.6).
        ABORT = code(7, 5), "abort";
    }
}

const fn code(class: u8, detail: u8) -> u8 {
    class << 5 | detail
}

impl Code {
    /// The code `class.detail`; of the class the lowest three bits count, of the detail five.
    #[inline]
    pub const fn new(class: u8, detail: u8) -> Self {
        Self(code(class & 7, detail & 31))
    }

    /// The digit before the dot: 0 to 7.
    #[inline]
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// The two digits after the dot: 0 to 31.
    #[inline]
    pub const fn detail(self) -> u8 {
        self.0 & 31
    }

    /// Whether it is a method, known or not (§12.1.1).
    #[inline]
    pub const fn is_request(self) -> bool {
        matches!(self.0, 0x01..=0x1f)
    }

    /// Whether it is a response code, known or not (§12.1.2).
    #[inline]
    pub const fn is_response(self) -> bool {
        matches!(self.class(), 2..=5)
    }

    /// Whether it is a signaling code of CoAP over TCP, known or not (RFC 8323 §5.1).
    #[inline]
    pub const fn is_signaling(self) -> bool {
        self.class() == 7
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({self} {})", self.label())
    }
}

open_number! {
    /// Which option it is (§5.4, §12.2).
    OptionNumber(u16), "unknown" {
        /// §5.10.8.1
        IF_MATCH = 1, "If-Match";
        /// §5.10.1
        URI_HOST = 3, "Uri-Host";
        /// §5.10.6
        ETAG = 4, "ETag";
        /// §5.10.8.2
        IF_NONE_MATCH = 5, "If-None-Match";
        /// RFC 7641 §2
        OBSERVE = 6, "Observe";
        /// §5.10.1
        URI_PORT = 7, "Uri-Port";
        /// §5.10.7
        LOCATION_PATH = 8, "Location-Path";
        /// RFC 8613 §2
        OSCORE = 9, "OSCORE";
        /// §5.10.1
        URI_PATH = 11, "Uri-Path";
        /// §5.10.3
        CONTENT_FORMAT = 12, "Content-Format";
        /// §5.10.5
        MAX_AGE = 14, "Max-Age";
        /// §5.10.1
        URI_QUERY = 15, "Uri-Query";
        /// RFC 8768 §3
        HOP_LIMIT = 16, "Hop-Limit";
        /// §5.10.4
        ACCEPT = 17, "Accept";
        /// RFC 9177 §4.1
        Q_BLOCK1 = 19, "Q-Block1";
        /// §5.10.7
        LOCATION_QUERY = 20, "Location-Query";
        /// RFC 9668 §3.1
        EDHOC = 21, "EDHOC";
        /// RFC 7959 §2.1
        BLOCK2 = 23, "Block2";
        /// RFC 7959 §2.1
        BLOCK1 = 27, "Block1";
        /// RFC 7959 §4
        SIZE2 = 28, "Size2";
        /// RFC 9177 §4.1
        Q_BLOCK2 = 31, "Q-Block2";
        /// §5.10.2
        PROXY_URI = 35, "Proxy-Uri";
        /// §5.10.2
        PROXY_SCHEME = 39, "Proxy-Scheme";
        /// §5.10.9, RFC 7959 §4
        SIZE1 = 60, "Size1";
        /// RFC 9175 §2.2
        ECHO = 252, "Echo";
        /// RFC 7967 §2
        NO_RESPONSE = 258, "No-Response";
        /// RFC 9175 §3.2
        REQUEST_TAG = 292, "Request-Tag";
    }
}

/// The options of signaling messages, each with a number of its own per code (RFC 8323 §5.2).
impl OptionNumber {
    /// In CSM (RFC 8323 §5.3.1).
    pub const MAX_MESSAGE_SIZE: Self = Self(2);
    /// In CSM (RFC 8323 §5.3.2).
    pub const BLOCK_WISE_TRANSFER: Self = Self(4);
    /// In CSM (RFC 8974 §2.2.1).
    pub const EXTENDED_TOKEN_LENGTH: Self = Self(6);
    /// In Ping and Pong (RFC 8323 §5.4.1).
    pub const CUSTODY: Self = Self(2);
    /// In Release (RFC 8323 §5.5).
    pub const ALTERNATIVE_ADDRESS: Self = Self(2);
    /// In Release (RFC 8323 §5.5).
    pub const HOLD_OFF: Self = Self(4);
    /// In Abort (RFC 8323 §5.6).
    pub const BAD_CSM_OPTION: Self = Self(2);
}

impl OptionNumber {
    /// Whether who does not recognize the option must not process the message (§5.4.1).
    #[inline]
    pub const fn is_critical(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether a proxy that does not recognize the option must not forward the message (§5.4.2).
    #[inline]
    pub const fn is_unsafe(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether the option, being safe to forward, is no part of the cache key (§5.4.2, §5.4.6).
    #[inline]
    pub const fn is_no_cache_key(self) -> bool {
        self.0 & 0x1e == 0x1c
    }
}

impl fmt::Debug for OptionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OptionNumber({} {})", self.0, self.label())
    }
}

impl fmt::Display for OptionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.label())
    }
}

macro_rules! content_formats {
    ($($(#[$doc:meta])* $constant:ident = $value:literal, $media_type:literal;)*) => {
        /// The media type and content coding of a payload (§12.3, IANA "CoAP Content-Formats").
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct ContentFormat(pub u16);

        impl ContentFormat {
            $(#[doc = concat!("`", $media_type, "`")] pub const $constant: Self = Self($value);)*

            /// The media type, with its parameters; `None` for a number that this crate does not name.
            pub const fn media_type(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($media_type),)*
                    _ => None,
                }
            }

            /// The number of a media type as [`media_type`](Self::media_type) writes it, in any case.
            pub fn from_media_type(media_type: &str) -> Option<Self> {
                $(if media_type.eq_ignore_ascii_case($media_type) {
                    return Some(Self::$constant);
                })*
                None
            }
        }
    };
}

content_formats! {
    TEXT_PLAIN = 0, "text/plain;charset=utf-8";
    COSE_ENCRYPT0 = 16, "application/cose;cose-type=\"cose-encrypt0\"";
    COSE_MAC0 = 17, "application/cose;cose-type=\"cose-mac0\"";
    COSE_SIGN1 = 18, "application/cose;cose-type=\"cose-sign1\"";
    IMAGE_GIF = 21, "image/gif";
    IMAGE_JPEG = 22, "image/jpeg";
    IMAGE_PNG = 23, "image/png";
    LINK_FORMAT = 40, "application/link-format";
    XML = 41, "application/xml";
    OCTET_STREAM = 42, "application/octet-stream";
    EXI = 47, "application/exi";
    JSON = 50, "application/json";
    JSON_PATCH = 51, "application/json-patch+json";
    MERGE_PATCH = 52, "application/merge-patch+json";
    CBOR = 60, "application/cbor";
    CWT = 61, "application/cwt";
    MULTIPART_CORE = 62, "application/multipart-core";
    CBOR_SEQ = 63, "application/cbor-seq";
    COSE_KEY = 101, "application/cose-key";
    COSE_KEY_SET = 102, "application/cose-key-set";
    SENML_JSON = 110, "application/senml+json";
    SENSML_JSON = 111, "application/sensml+json";
    SENML_CBOR = 112, "application/senml+cbor";
    SENSML_CBOR = 113, "application/sensml+cbor";
    SENML_EXI = 114, "application/senml-exi";
    SENSML_EXI = 115, "application/sensml-exi";
    COAP_GROUP_JSON = 256, "application/coap-group+json";
    CONCISE_PROBLEM_DETAILS = 257, "application/concise-problem-details+cbor";
    DOTS_CBOR = 271, "application/dots+cbor";
    MISSING_BLOCKS = 272, "application/missing-blocks+cbor-seq";
    SENML_ETCH_JSON = 320, "application/senml-etch+json";
    SENML_ETCH_CBOR = 322, "application/senml-etch+cbor";
    DNS_MESSAGE = 553, "application/dns-message";
    TD_JSON = 432, "application/td+json";
    OCF_CBOR = 10_000, "application/vnd.ocf+cbor";
    OSCORE = 10_001, "application/oscore";
    LWM2M_TLV = 11_542, "application/vnd.oma.lwm2m+tlv";
    LWM2M_JSON = 11_543, "application/vnd.oma.lwm2m+json";
    LWM2M_CBOR = 11_544, "application/vnd.oma.lwm2m+cbor";
    TEXT_CSS = 20_000, "text/css";
    IMAGE_SVG = 30_000, "image/svg+xml";
}

impl fmt::Debug for ContentFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentFormat({} {})", self.0, self.media_type().unwrap_or("unknown"))
    }
}

impl fmt::Display for ContentFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.media_type() {
            Some(media_type) => f.write_str(media_type),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_code_is_written_as_the_standard_writes_it() {
        assert_eq!(Code::CONTENT.to_string(), "2.05");
        assert_eq!(Code::REQUEST_ENTITY_TOO_LARGE, Code::new(4, 13));
        assert_eq!(Code::GET.0, 1);
        assert_eq!(Code::CSM.0, 0xe1);
        assert_eq!(
            (Code(0xff).class(), Code(0xff).detail(), Code(0xff).label()),
            (7, 31, "unknown")
        );
    }

    /// The columns C, U and N of table 4 in §5.10, and of the other options' documents.
    #[test]
    fn the_properties_of_an_option_are_in_its_number() {
        type N = OptionNumber;
        for (number, properties) in [
            (N::IF_MATCH, "C"),
            (N::URI_HOST, "CU"),
            (N::ETAG, ""),
            (N::IF_NONE_MATCH, "C"),
            (N::OBSERVE, "U"),
            (N::URI_PORT, "CU"),
            (N::LOCATION_PATH, ""),
            (N::OSCORE, "C"),
            (N::URI_PATH, "CU"),
            (N::CONTENT_FORMAT, ""),
            (N::MAX_AGE, "U"),
            (N::URI_QUERY, "CU"),
            (N::HOP_LIMIT, ""),
            (N::ACCEPT, "C"),
            (N::Q_BLOCK1, "CU"),
            (N::LOCATION_QUERY, ""),
            (N::EDHOC, "C"),
            (N::BLOCK2, "CU"),
            (N::BLOCK1, "CU"),
            (N::SIZE2, "N"),
            (N::Q_BLOCK2, "CU"),
            (N::PROXY_URI, "CU"),
            (N::PROXY_SCHEME, "CU"),
            (N::SIZE1, "N"),
            (N::ECHO, "N"),
            (N::NO_RESPONSE, "U"),
            (N::REQUEST_TAG, ""),
        ] {
            let mut found = std::string::String::new();
            for (set, letter) in [
                (number.is_critical(), 'C'),
                (number.is_unsafe(), 'U'),
                (number.is_no_cache_key(), 'N'),
            ] {
                found.extend(set.then_some(letter));
            }
            assert_eq!(found, properties, "{number}");
        }
    }

    #[test]
    fn media_types_and_content_formats_correspond() {
        let mut named = 0;
        for number in 0..=u16::MAX {
            if let Some(media_type) = ContentFormat(number).media_type() {
                assert_eq!(ContentFormat::from_media_type(media_type), Some(ContentFormat(number)));
                named += 1;
            }
        }
        assert_eq!(named, 41);
        assert_eq!(ContentFormat::from_media_type("Application/CBOR"), Some(ContentFormat::CBOR));
        assert_eq!(ContentFormat::from_media_type("image/webp"), None);
        assert_eq!(ContentFormat(65_000).to_string(), "65000");
    }
}
