//! URIs, and the options they are sent as (§6).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::number::OptionNumber;
use crate::option::{self, Options, Utf8};
use crate::write::Writer;

/// Why a text is not a CoAP URI, or cannot be sent as or made from options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UriError {
    /// The scheme is missing, or is none of `coap`, `coaps`, `coap+tcp`, `coaps+tcp`, `coap+ws` and
    /// `coaps+ws` (§6.4 step 3, RFC 8323 §8).
    UnknownScheme,
    /// The host is missing, or an IP literal that is not one (§6.1).
    InvalidHost,
    /// The port is not a number up to 65,535 (§6.1).
    InvalidPort,
    /// A fragment (§6.4 step 4).
    Fragment,
    /// A character that a URI may not have (RFC 3986 §2); its byte.
    InvalidCharacter(u8),
    /// A `%` that two hexadecimal digits do not follow (RFC 3986 §2.1).
    InvalidPercentEncoding,
    /// A segment `.` or `..`: the URI has to be resolved first (§6.4 step 2).
    DotSegment,
    /// Text that is not UTF-8 once decoded (§6.4 steps 5 to 9).
    InvalidUtf8,
    /// A host, segment or argument of more than 255 bytes (§5.10.1).
    TooLong(OptionNumber),
    /// The output is too short.
    BufferTooSmall,
}

impl UriError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownScheme => "unknown_scheme",
            Self::InvalidHost => "invalid_host",
            Self::InvalidPort => "invalid_port",
            Self::Fragment => "fragment",
            Self::InvalidCharacter(_) => "invalid_character",
            Self::InvalidPercentEncoding => "invalid_percent_encoding",
            Self::DotSegment => "dot_segment",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooLong(_) => "too_long",
            Self::BufferTooSmall => "buffer_too_small",
        }
    }
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownScheme => f.write_str("scheme is not one of coap"),
            Self::InvalidHost => f.write_str("host is missing or not valid"),
            Self::InvalidPort => f.write_str("port is not a number up to 65535"),
            Self::Fragment => f.write_str("uri has a fragment"),
            Self::InvalidCharacter(byte) => write!(f, "byte {byte:#04x} is not allowed in a uri"),
            Self::InvalidPercentEncoding => {
                f.write_str("percent sign without two hexadecimal digits")
            }
            Self::DotSegment => f.write_str("path has a dot segment"),
            Self::InvalidUtf8 => f.write_str("text is not utf-8"),
            Self::TooLong(number) => write!(f, "option {number} would be above 255 bytes"),
            Self::BufferTooSmall => f.write_str("buffer is too small"),
        }
    }
}

impl core::error::Error for UriError {}

/// The scheme of a CoAP URI: which transport and which security (§6.1, §6.2, RFC 8323 §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// UDP.
    Coap,
    /// DTLS.
    Coaps,
    /// TCP.
    CoapTcp,
    /// TLS.
    CoapsTcp,
    /// WebSocket.
    CoapWs,
    /// WebSocket over TLS.
    CoapsWs,
}

impl Scheme {
    const ALL: [Self; 6] =
        [Self::Coap, Self::Coaps, Self::CoapTcp, Self::CoapsTcp, Self::CoapWs, Self::CoapsWs];

    /// The scheme as it is written in a URI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coap => "coap",
            Self::Coaps => "coaps",
            Self::CoapTcp => "coap+tcp",
            Self::CoapsTcp => "coaps+tcp",
            Self::CoapWs => "coap+ws",
            Self::CoapsWs => "coaps+ws",
        }
    }

    /// The port of a URI that names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Coap | Self::CoapTcp => 5683,
            Self::Coaps | Self::CoapsTcp => 5684,
            Self::CoapWs => 80,
            Self::CoapsWs => 443,
        }
    }
}

/// The host of a URI (RFC 3986 §3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// A registered name, still percent-encoded.
    Name(&'a str),
    /// An address.
    Ip(IpAddr),
}

/// A CoAP URI, taken apart; what it borrows is still percent-encoded (§6.1, §6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The scheme.
    pub scheme: Scheme,
    /// The host.
    pub host: Host<'a>,
    /// The port, the scheme's own if there is none.
    pub port: u16,
    /// The path: empty, or from its slash on.
    pub path: &'a str,
    /// The query behind the question mark.
    pub query: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Takes an absolute URI apart (§6.4 steps 1 to 4).
    ///
    /// # Errors
    ///
    /// A text that is not one. Percent-encodings are looked at by [`options`](Self::options).
    pub fn parse(uri: &'a str) -> Result<Self, UriError> {
        let (scheme, rest) = uri.split_once("://").ok_or(UriError::UnknownScheme)?;
        let scheme = Scheme::ALL
            .into_iter()
            .find(|known| scheme.eq_ignore_ascii_case(known.as_str()))
            .ok_or(UriError::UnknownScheme)?;
        if rest.contains('#') {
            return Err(UriError::Fragment);
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) =
            rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, ""));
        let (host, port) = split_authority(authority)?;
        let port = match port {
            None | Some("") => scheme.default_port(),
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().map_err(|_| UriError::InvalidPort)?
            }
            Some(_) => return Err(UriError::InvalidPort),
        };
        let allowed =
            |text: &str, set: fn(u8) -> bool| text.bytes().find(|&byte| byte != b'%' && !set(byte));
        let offence = allowed(path, |byte| byte == b'/' || is_segment(byte)).or_else(|| {
            query.and_then(|query| allowed(query, |byte| byte == b'&' || is_query(byte)))
        });
        match offence {
            Some(byte) => Err(UriError::InvalidCharacter(byte)),
            None => Ok(Self { scheme, host, port, path, query }),
        }
    }

    /// The options that a request for this URI has, written to `out` (§6.4 steps 5 to 9).
    ///
    /// `destination` is where the request is sent to, if that is not what the URI names: then host and port
    /// are compared with it. Without it, only a registered name becomes a Uri-Host, and no port a Uri-Port.
    ///
    /// # Errors
    ///
    /// What the options cannot express, or an `out` that is too short.
    pub fn options<'b>(
        &self,
        destination: Option<(IpAddr, u16)>,
        out: &'b mut [u8],
    ) -> Result<Options<'b>, UriError> {
        let mut len = 0;
        let mut last = 0;
        let mut add =
            |number: OptionNumber, parts: &mut dyn Iterator<Item = Result<u8, UriError>>| {
                let rest = out.get_mut(len..).unwrap_or_default();
                len += write_option(number, number.0 - last, parts, rest)?;
                last = number.0;
                Ok::<(), UriError>(())
            };
        match (self.host, destination) {
            (Host::Name(name), _) => add(
                OptionNumber::URI_HOST,
                &mut Decode::new(name).map(|byte| byte.map(|byte| byte.to_ascii_lowercase())),
            )?,
            (Host::Ip(host), Some((ip, _))) if host != ip => {
                let mut text = [0; 48];
                let text = address(host, &mut text);
                add(OptionNumber::URI_HOST, &mut text.iter().map(|&byte| Ok(byte)))?;
            }
            (Host::Ip(_), _) => {}
        }
        if destination.is_some_and(|(_, port)| port != self.port) {
            let bytes = self.port.to_be_bytes();
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            add(OptionNumber::URI_PORT, &mut bytes.into_iter().skip(zeros).map(Ok))?;
        }
        if !matches!(self.path, "" | "/") {
            for segment in self.path.split('/').skip(1) {
                add(OptionNumber::URI_PATH, &mut Decode::new(segment))?;
            }
        }
        if let Some(query) = self.query {
            for argument in query.split('&') {
                add(OptionNumber::URI_QUERY, &mut Decode::new(argument))?;
            }
        }
        Ok(Options::written(out.get(..len).unwrap_or_default()))
    }
}

fn split_authority(authority: &str) -> Result<(Host<'_>, Option<&str>), UriError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (literal, rest) = rest.split_once(']').ok_or(UriError::InvalidHost)?;
        let ip: Ipv6Addr = literal.parse().map_err(|_| UriError::InvalidHost)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err(UriError::InvalidHost),
        };
        return Ok((Host::Ip(IpAddr::V6(ip)), port));
    }
    let (name, port) = match authority.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (authority, None),
    };
    if name.is_empty() || !name.bytes().all(|byte| byte == b'%' || is_name(byte)) {
        return Err(UriError::InvalidHost);
    }
    Ok((name.parse::<Ipv4Addr>().map_or(Host::Name(name), |ip| Host::Ip(IpAddr::V4(ip))), port))
}

/// RFC 3986 §2.2 and §2.3: unreserved and sub-delims, the latter without `&` if it delimits.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~')
        || matches!(byte, b'!' | b'$' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

const fn is_name(byte: u8) -> bool {
    is_plain(byte) || byte == b'&'
}

const fn is_segment(byte: u8) -> bool {
    is_name(byte) || matches!(byte, b':' | b'@')
}

const fn is_query(byte: u8) -> bool {
    is_plain(byte) || matches!(byte, b':' | b'@' | b'/' | b'?')
}

/// Percent-decodes (RFC 3986 §2.1).
struct Decode<'a>(core::slice::Iter<'a, u8>);

impl<'a> Decode<'a> {
    fn new(text: &'a str) -> Self {
        Self(text.as_bytes().iter())
    }

    fn digit(&mut self) -> Result<u8, UriError> {
        self.0
            .next()
            .and_then(|&byte| char::from(byte).to_digit(16))
            .map(|digit| digit as u8)
            .ok_or(UriError::InvalidPercentEncoding)
    }
}

impl Iterator for Decode<'_> {
    type Item = Result<u8, UriError>;

    fn next(&mut self) -> Option<Self::Item> {
        match *self.0.next()? {
            b'%' => Some(self.digit().and_then(|high| Ok(high << 4 | self.digit()?))),
            byte => Some(Ok(byte)),
        }
    }
}

/// Writes an option whose value is not known to fit: it is put aside first, at most 255 bytes.
fn write_option(
    number: OptionNumber,
    delta: u16,
    bytes: &mut dyn Iterator<Item = Result<u8, UriError>>,
    out: &mut [u8],
) -> Result<usize, UriError> {
    let mut value = [0; 255];
    let mut len = 0;
    for byte in bytes {
        *value.get_mut(len).ok_or(UriError::TooLong(number))? = byte?;
        len += 1;
    }
    let value = value.get(..len).unwrap_or_default();
    if number == OptionNumber::URI_HOST && value.is_empty() {
        return Err(UriError::InvalidHost);
    }
    if number == OptionNumber::URI_PATH && matches!(value, b"." | b"..") {
        return Err(UriError::DotSegment);
    }
    if number != OptionNumber::URI_PORT && core::str::from_utf8(value).is_err() {
        return Err(UriError::InvalidUtf8);
    }
    // Neither reaches 269.
    let header_len = 1 + usize::from(delta >= 13) + usize::from(len >= 13);
    let too_small = |_| UriError::BufferTooSmall;
    let mut writer = Writer::new(out, header_len + len).map_err(|_| UriError::BufferTooSmall)?;
    option::write_header(u32::from(delta), len, &mut writer).map_err(too_small)?;
    writer.bytes(value).map_err(too_small)?;
    Ok(header_len + len)
}

/// An address as it is written in a URI (RFC 3986 §3.2.2).
fn address(ip: IpAddr, out: &mut [u8]) -> &[u8] {
    let mut output = Output { out, len: 0 };
    // 48 bytes are enough for any address.
    let _ = match ip {
        IpAddr::V4(ip) => fmt::write(&mut output, format_args!("{ip}")),
        IpAddr::V6(ip) => fmt::write(&mut output, format_args!("[{ip}]")),
    };
    output.written()
}

struct Output<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Output<'a> {
    fn byte(&mut self, byte: u8) -> Result<(), UriError> {
        *self.out.get_mut(self.len).ok_or(UriError::BufferTooSmall)? = byte;
        self.len += 1;
        Ok(())
    }

    fn text(&mut self, text: &[u8]) -> Result<(), UriError> {
        text.iter().try_for_each(|&byte| self.byte(byte))
    }

    /// Percent-encodes what is not in the set (RFC 3986 §2.1).
    fn encoded(&mut self, text: Utf8<'_>, set: fn(u8) -> bool) -> Result<(), UriError> {
        let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
        for &byte in text.as_bytes() {
            if set(byte) {
                self.byte(byte)?;
            } else {
                self.text(&[b'%', digit(byte >> 4), digit(byte & 15)])?;
            }
        }
        Ok(())
    }

    fn written(self) -> &'a [u8] {
        let out: &'a [u8] = self.out;
        out.get(..self.len).unwrap_or_default()
    }

    /// What was written, which is ASCII.
    fn finish(self) -> &'a str {
        core::str::from_utf8(self.written()).unwrap_or_default()
    }

    /// §6.5 steps 6 to 8.
    fn path_and_query(&mut self, options: &Options<'_>) -> Result<(), UriError> {
        let start = self.len;
        for segment in options.uri_path() {
            self.byte(b'/')?;
            self.encoded(segment, is_segment)?;
        }
        if self.len == start {
            self.byte(b'/')?;
        }
        for (index, argument) in options.uri_query().enumerate() {
            self.byte(if index == 0 { b'?' } else { b'&' })?;
            self.encoded(argument, is_query)?;
        }
        Ok(())
    }
}

impl fmt::Write for Output<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// Puts together the URI that a request with these options is for, in `out` (§6.5).
///
/// `destination` is where the request was sent to, for what the options leave out.
///
/// # Errors
///
/// An `out` that is too short.
pub fn compose<'b>(
    scheme: Scheme,
    destination: (IpAddr, u16),
    options: &Options<'_>,
    out: &'b mut [u8],
) -> Result<&'b str, UriError> {
    let mut output = Output { out, len: 0 };
    output.text(scheme.as_str().as_bytes())?;
    output.text(b"://")?;
    let mut buffer = [0; 48];
    match options.uri_host() {
        Some(host) => match bare_ipv6(host) {
            Some(literal) => {
                output.byte(b'[')?;
                output.text(literal)?;
                output.byte(b']')?;
            }
            None => output.encoded(host, is_name)?,
        },
        None => output.text(address(destination.0, &mut buffer))?,
    }
    let port = options.uri_port().unwrap_or(destination.1);
    if port != scheme.default_port() {
        fmt::write(&mut output, format_args!(":{port}")).map_err(|_| UriError::BufferTooSmall)?;
    }
    output.path_and_query(options)?;
    Ok(output.finish())
}

/// An IPv6 address as a Uri-Host, with or without its brackets: without them.
fn bare_ipv6(host: Utf8<'_>) -> Option<&[u8]> {
    let bytes = host.as_bytes();
    let bare = match bytes {
        [b'[', bare @ .., b']'] => bare,
        _ => bytes,
    };
    let text = core::str::from_utf8(bare).ok()?;
    text.parse::<Ipv6Addr>().ok().map(|_| bare)
}

/// Puts together the path and query of the URI that a request with these options is for, in `out`
/// (§6.5 steps 6 to 8): what HTTP calls the path.
///
/// # Errors
///
/// An `out` that is too short.
pub fn path_and_query<'b>(options: &Options<'_>, out: &'b mut [u8]) -> Result<&'b str, UriError> {
    let mut output = Output { out, len: 0 };
    output.path_and_query(options)?;
    Ok(output.finish())
}
