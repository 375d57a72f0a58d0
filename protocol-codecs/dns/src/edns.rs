//! EDNS(0) (RFC 6891).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{DecodeError, EncodeError};
use crate::name::Name;
use crate::number::{Class, InfoCode, OptionCode};
use crate::write::{Refused, Writer};

/// What an OPT record says but its part of the response code (RFC 6891 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns<'a> {
    /// The longest message that the sender takes over UDP, in octets. Below 512 it means 512 (RFC 6891
    /// §6.2.3).
    pub payload_size: u16,
    /// The version; who knows no other than 0 answers a query with BADVERS.
    pub version: u8,
    /// DO, and what may come to mean something (RFC 6891 §6.1.4).
    pub flags: EdnsFlags,
    /// The options; of a version other than 0 none.
    pub options: EdnsOptions<'a>,
}

/// The flags of an OPT record (RFC 6891 §6.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EdnsFlags(pub u16);

impl EdnsFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// DNSSEC answer OK (RFC 3225 §3).
    pub const DO: Self = Self(0x8000);
    /// Compact answers OK (RFC 9824 §5.1).
    pub const CO: Self = Self(0x4000);

    /// Whether all of these are set.
    #[inline]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These, and those.
    #[inline]
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }
}

/// The upper eight bits of the response code.
#[inline(always)]
pub(crate) const fn high_rcode(ttl: u32) -> u8 {
    (ttl >> 24) as u8
}

#[inline(always)]
pub(crate) const fn version(ttl: u32) -> u8 {
    (ttl >> 16) as u8
}

impl<'a> Edns<'a> {
    /// Version 0 without flags and options.
    #[inline]
    pub const fn new(payload_size: u16) -> Self {
        Self { payload_size, version: 0, flags: EdnsFlags::NONE, options: EdnsOptions::EMPTY }
    }

    #[inline(always)]
    pub(crate) const fn from_record(class: Class, ttl: u32, options: &'a [u8]) -> Self {
        let version = version(ttl);
        let options = if version == 0 { options } else { &[] };
        Self {
            payload_size: class.0,
            version,
            flags: EdnsFlags(ttl as u16),
            options: EdnsOptions(Source::Wire(options)),
        }
    }

    /// The TTL of the OPT record.
    pub(crate) const fn ttl(&self, high_rcode: u8) -> u32 {
        (high_rcode as u32) << 24 | (self.version as u32) << 16 | self.flags.0 as u32
    }
}

/// The options of an OPT record: those of a decoded message, or a list to encode.
#[derive(Clone, Copy)]
pub struct EdnsOptions<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// Checked.
    Wire(&'a [u8]),
    List(&'a [EdnsOption<'a>]),
}

impl<'a> EdnsOptions<'a> {
    /// None.
    pub const EMPTY: Self = Self(Source::Wire(&[]));

    /// The options, in the order they are in.
    #[inline]
    pub const fn iter(self) -> EdnsOptionIter<'a> {
        EdnsOptionIter(self.0)
    }

    /// The cookie; of several, the first counts (RFC 7873 §5.2).
    #[inline]
    pub fn cookie(self) -> Option<Cookie<'a>> {
        self.iter().find_map(|option| match option {
            EdnsOption::Cookie(cookie) => Some(cookie),
            _ => None,
        })
    }

    /// The client's subnet.
    #[inline]
    pub fn client_subnet(self) -> Option<ClientSubnet> {
        self.iter().find_map(|option| match option {
            EdnsOption::ClientSubnet(subnet) => Some(subnet),
            _ => None,
        })
    }

    /// Writes the options.
    pub(crate) fn write(self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self.0 {
            Source::Wire(octets) => w.bytes(octets).map_err(|_| EncodeError::Full),
            Source::List(options) => options.iter().try_for_each(|option| option.write(w)),
        }
    }
}

impl<'a> From<&'a [EdnsOption<'a>]> for EdnsOptions<'a> {
    #[inline]
    fn from(list: &'a [EdnsOption<'a>]) -> Self {
        Self(Source::List(list))
    }
}

impl<'a> IntoIterator for EdnsOptions<'a> {
    type Item = EdnsOption<'a>;
    type IntoIter = EdnsOptionIter<'a>;

    #[inline]
    fn into_iter(self) -> EdnsOptionIter<'a> {
        self.iter()
    }
}

impl PartialEq for EdnsOptions<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for EdnsOptions<'_> {}

impl fmt::Debug for EdnsOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The options of an OPT record, one by one.
#[derive(Clone)]
pub struct EdnsOptionIter<'a>(Source<'a>);

impl<'a> Iterator for EdnsOptionIter<'a> {
    type Item = EdnsOption<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<EdnsOption<'a>> {
        match &mut self.0 {
            Source::Wire(rest) => {
                let (code, value, after) = split(rest)?;
                *rest = after;
                EdnsOption::read(code, value)
            }
            Source::List(list) => {
                let (&option, after) = list.split_first()?;
                *list = after;
                Some(option)
            }
        }
    }
}

impl fmt::Debug for EdnsOptionIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EdnsOptions(self.0).fmt(f)
    }
}

/// One option (RFC 6891 §6.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EdnsOption<'a> {
    /// The name server's identifier; in a query, empty (RFC 5001 §2).
    Nsid(&'a [u8]),
    /// The DNSSEC algorithms that are understood, one octet each (RFC 6975 §3).
    Dau(&'a [u8]),
    /// The DS hash algorithms that are understood, one octet each (RFC 6975 §3).
    Dhu(&'a [u8]),
    /// The NSEC3 hash algorithms that are understood, one octet each (RFC 6975 §3).
    N3u(&'a [u8]),
    /// Whom the query comes from, and whom the answer is for.
    ClientSubnet(ClientSubnet),
    /// In how many seconds the zone expires; in a query, `None` (RFC 7314 §2).
    Expire(Option<u32>),
    /// A cookie.
    Cookie(Cookie<'a>),
    /// How long an idle connection is kept, in units of 100 milliseconds; in a query, `None` (RFC 7828
    /// §3.1).
    TcpKeepalive(Option<u16>),
    /// So many octets without a meaning (RFC 7830 §3).
    Padding(&'a [u8]),
    /// The closest trust point (RFC 7901 §4).
    Chain(Name<'a>),
    /// The tags of the keys that are trusted (RFC 8145 §4.1).
    KeyTag(KeyTags<'a>),
    /// An extended error.
    ExtendedError(ExtendedError<'a>),
    /// Any other; and a client subnet of an address family that is neither 1 nor 2.
    Other {
        /// Which option it is.
        code: OptionCode,
        /// Its value.
        octets: &'a [u8],
    },
}

/// Whom a query comes from (RFC 7871 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientSubnet {
    address: IpAddr,
    source_prefix: u8,
    scope_prefix: u8,
}

impl ClientSubnet {
    /// The subnet of `address` with the leftmost `source_prefix` bits of it; the others are cut off. In a
    /// query, `scope_prefix` is zero. `None` for prefixes that are longer than an address.
    pub fn new(address: IpAddr, source_prefix: u8, scope_prefix: u8) -> Option<Self> {
        let keep = |bits: u8| bits.checked_sub(source_prefix).filter(|_| scope_prefix <= bits);
        let address = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(u32::from(keep(32)?)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(u32::from(keep(128)?)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        Some(Self { address, source_prefix, scope_prefix })
    }

    /// ADDRESS, filled up with zero bits.
    #[inline]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// SOURCE PREFIX-LENGTH: how many bits of the address were sent.
    #[inline]
    pub const fn source_prefix(&self) -> u8 {
        self.source_prefix
    }

    /// SCOPE PREFIX-LENGTH: for how many bits of the address the answer is good.
    #[inline]
    pub const fn scope_prefix(&self) -> u8 {
        self.scope_prefix
    }

    /// A subnet of an address family that is known; `None` if it is not in its format.
    fn read(family: u16, source_prefix: u8, scope_prefix: u8, sent: &[u8]) -> Option<Self> {
        if sent.len() != usize::from(source_prefix).div_ceil(8) {
            return None;
        }
        let address = match family {
            1 => IpAddr::V4(Ipv4Addr::from_octets(padded(sent)?)),
            _ => IpAddr::V6(Ipv6Addr::from_octets(padded(sent)?)),
        };
        // Bits behind the prefix have to be zero (RFC 7871 §6).
        Self::new(address, source_prefix, scope_prefix).filter(|subnet| subnet.address == address)
    }
}

fn padded<const N: usize>(sent: &[u8]) -> Option<[u8; N]> {
    let mut octets = [0; N];
    octets.get_mut(..sent.len())?.copy_from_slice(sent);
    Some(octets)
}

/// A DNS cookie (RFC 7873 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie<'a> {
    /// The client's.
    pub client: [u8; 8],
    /// The server's: 8 to 32 octets, or none if the client does not know it yet.
    pub server: &'a [u8],
}

/// An extended DNS error (RFC 8914 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtendedError<'a> {
    /// INFO-CODE: what happened.
    pub info_code: InfoCode,
    /// EXTRA-TEXT: more about it, for humans. It should be UTF-8, which is not checked.
    pub extra_text: &'a [u8],
}

/// Key tags (RFC 8145 §4.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyTags<'a>(&'a [[u8; 2]]);

impl<'a> KeyTags<'a> {
    /// Tags as they are sent, in network byte order; `None` if there are none.
    pub const fn new(tags: &'a [[u8; 2]]) -> Option<Self> {
        if tags.is_empty() { None } else { Some(Self(tags)) }
    }

    /// The tags.
    pub fn iter(self) -> impl Iterator<Item = u16> + Clone {
        self.0.iter().map(|&tag| u16::from_be_bytes(tag))
    }
}

impl fmt::Debug for KeyTags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Checks the options of an OPT record.
#[inline(always)]
pub(crate) fn check(options: &[u8]) -> Result<(), DecodeError> {
    let mut rest = options;
    while !rest.is_empty() {
        let Some((code, value, after)) = split(rest) else {
            return Err(DecodeError::OptionTruncated);
        };
        if EdnsOption::read(code, value).is_none() {
            return Err(DecodeError::OptionFormat(code));
        }
        rest = after;
    }
    Ok(())
}

#[inline(always)]
fn split(octets: &[u8]) -> Option<(OptionCode, &[u8], &[u8])> {
    let (&[c, d, l, n], rest) = octets.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l, n])))?;
    Some((OptionCode(u16::from_be_bytes([c, d])), value, rest))
}

impl<'a> EdnsOption<'a> {
    /// Which option it is.
    pub const fn code(&self) -> OptionCode {
        match self {
            Self::Nsid(_) => OptionCode::NSID,
            Self::Dau(_) => OptionCode::DAU,
            Self::Dhu(_) => OptionCode::DHU,
            Self::N3u(_) => OptionCode::N3U,
            Self::ClientSubnet(_) => OptionCode::CLIENT_SUBNET,
            Self::Expire(_) => OptionCode::EXPIRE,
            Self::Cookie(_) => OptionCode::COOKIE,
            Self::TcpKeepalive(_) => OptionCode::TCP_KEEPALIVE,
            Self::Padding(_) => OptionCode::PADDING,
            Self::Chain(_) => OptionCode::CHAIN,
            Self::KeyTag(_) => OptionCode::KEY_TAG,
            Self::ExtendedError(_) => OptionCode::EXTENDED_ERROR,
            Self::Other { code, .. } => *code,
        }
    }

    /// Reads a value; `None` if it is not in its format.
    #[inline(always)]
    fn read(code: OptionCode, value: &'a [u8]) -> Option<Self> {
        match code {
            OptionCode::COOKIE => {
                let (&client, server) = value.split_first_chunk()?;
                matches!(server.len(), 0 | 8..=32)
                    .then_some(Self::Cookie(Cookie { client, server }))
            }
            OptionCode::PADDING => Some(Self::Padding(value)),
            _ => Self::read_other(code, value),
        }
    }

    #[inline(never)]
    fn read_other(code: OptionCode, value: &'a [u8]) -> Option<Self> {
        let other = Self::Other { code, octets: value };
        match code {
            OptionCode::NSID => Some(Self::Nsid(value)),
            OptionCode::DAU => Some(Self::Dau(value)),
            OptionCode::DHU => Some(Self::Dhu(value)),
            OptionCode::N3U => Some(Self::N3u(value)),
            OptionCode::CLIENT_SUBNET => {
                let (&[f, a, source, scope], sent) = value.split_first_chunk()?;
                match u16::from_be_bytes([f, a]) {
                    family @ 1..=2 => {
                        ClientSubnet::read(family, source, scope, sent).map(Self::ClientSubnet)
                    }
                    _ => (sent.len() == usize::from(source).div_ceil(8)).then_some(other),
                }
            }
            OptionCode::EXPIRE => match *value {
                [] => Some(Self::Expire(None)),
                [a, b, c, d] => Some(Self::Expire(Some(u32::from_be_bytes([a, b, c, d])))),
                _ => None,
            },
            OptionCode::TCP_KEEPALIVE => match *value {
                [] => Some(Self::TcpKeepalive(None)),
                [a, b] => Some(Self::TcpKeepalive(Some(u16::from_be_bytes([a, b])))),
                _ => None,
            },
            OptionCode::CHAIN => Name::from_wire(value).ok().map(Self::Chain),
            OptionCode::KEY_TAG => match value.as_chunks() {
                (tags, []) => KeyTags::new(tags).map(Self::KeyTag),
                _ => None,
            },
            OptionCode::EXTENDED_ERROR => {
                let (&info_code, extra_text) = value.split_first_chunk()?;
                let info_code = InfoCode(u16::from_be_bytes(info_code));
                Some(Self::ExtendedError(ExtendedError { info_code, extra_text }))
            }
            // The other two are read above.
            _ => Some(other),
        }
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        let code = self.code();
        let write = |w: &mut Writer<'_>| {
            w.u16(code.0)?;
            let length = w.length()?;
            self.write_value(w)?;
            w.fill_length(length)
        };
        match write(w) {
            Ok(()) => Ok(()),
            Err(Refused::Full) => Err(EncodeError::Full),
            Err(Refused::Value) => Err(EncodeError::Option(code)),
        }
    }

    fn write_value(&self, w: &mut Writer<'_>) -> Result<(), Refused> {
        match *self {
            Self::Nsid(octets)
            | Self::Dau(octets)
            | Self::Dhu(octets)
            | Self::N3u(octets)
            | Self::Padding(octets) => w.bytes(octets),
            Self::ClientSubnet(subnet) => {
                let family = if subnet.address.is_ipv4() { 1 } else { 2 };
                w.u16(family)?;
                w.array([subnet.source_prefix, subnet.scope_prefix])?;
                let len = usize::from(subnet.source_prefix).div_ceil(8);
                match subnet.address {
                    IpAddr::V4(address) => w.bytes(address.octets().get(..len).unwrap_or_default()),
                    IpAddr::V6(address) => w.bytes(address.octets().get(..len).unwrap_or_default()),
                }
            }
            Self::Expire(seconds) => seconds.map_or(Ok(()), |seconds| w.u32(seconds)),
            Self::Cookie(Cookie { client, server }) => {
                if !matches!(server.len(), 0 | 8..=32) {
                    return Err(Refused::Value);
                }
                w.array(client)?;
                w.bytes(server)
            }
            Self::TcpKeepalive(timeout) => timeout.map_or(Ok(()), |timeout| w.u16(timeout)),
            Self::Chain(name) => w.name(name, false),
            Self::KeyTag(tags) => w.bytes(tags.0.as_flattened()),
            Self::ExtendedError(error) => {
                w.u16(error.info_code.0)?;
                w.bytes(error.extra_text)
            }
            Self::Other { code, octets } => match Self::read(code, octets) {
                Some(_) => w.bytes(octets),
                None => Err(Refused::Value),
            },
        }
    }
}
