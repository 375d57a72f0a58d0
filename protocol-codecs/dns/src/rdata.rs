//! RDATA (RFC 1035 §3.3, §3.4 and the documents of later types).

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::error::DecodeError;
use crate::message::Fixed;
use crate::name::{Checker, Name, Names, Skipper};
use crate::number::{Class, RecordType};
use crate::svcb::{SvcParams, Svcb};
use crate::write::{Refused, Writer};

/// A record's data, in the format of its type.
///
/// Names may be compressed where RFC 3597 §4 lets them: they are [`Name`]s, so that nothing else needs to
/// know. To tell two values apart, the case of names makes no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordData<'a> {
    /// An IPv4 address; in the class of the Internet only (RFC 1035 §3.4.1).
    A(Ipv4Addr),
    /// An IPv6 address (RFC 3596 §2.2).
    Aaaa(Ipv6Addr),
    /// A name server (RFC 1035 §3.3.11).
    Ns(Name<'a>),
    /// The canonical name of an alias (RFC 1035 §3.3.1).
    Cname(Name<'a>),
    /// A name that an address or another name points to (RFC 1035 §3.3.12).
    Ptr(Name<'a>),
    /// The name that takes the place of a suffix (RFC 6672 §2.1).
    Dname(Name<'a>),
    /// The start of a zone of authority.
    Soa(Soa<'a>),
    /// A mail exchange.
    Mx(Mx<'a>),
    /// Text (RFC 1035 §3.3.14).
    Txt(CharStrings<'a>),
    /// What kind of host it is (RFC 1035 §3.3.2).
    Hinfo {
        /// The CPU type: at most 255 octets.
        cpu: &'a [u8],
        /// The operating system: at most 255 octets.
        os: &'a [u8],
    },
    /// Where a service is.
    Srv(Srv<'a>),
    /// A rule of the Dynamic Delegation Discovery System.
    Naptr(Naptr<'a>),
    /// Who may issue certificates.
    Caa(Caa<'a>),
    /// A digest of the key of a child zone (RFC 4034 §5).
    Ds(Ds<'a>),
    /// The DS that a child zone wants (RFC 7344 §3.1).
    Cds(Ds<'a>),
    /// A zone's key (RFC 4034 §2).
    Dnskey(Dnskey<'a>),
    /// The DNSKEY that a child zone wants a DS of (RFC 7344 §3.2).
    Cdnskey(Dnskey<'a>),
    /// A signature.
    Rrsig(Rrsig<'a>),
    /// The next name of a zone.
    Nsec(Nsec<'a>),
    /// The next hashed name of a zone.
    Nsec3(Nsec3<'a>),
    /// How the names of a zone are hashed.
    Nsec3Param(Nsec3Param<'a>),
    /// A certificate or key of a TLS server (RFC 6698 §2.1).
    Tlsa(Tlsa<'a>),
    /// A certificate or key of a mail user (RFC 8162 §2).
    Smimea(Tlsa<'a>),
    /// The fingerprint of an SSH host key.
    Sshfp(Sshfp<'a>),
    /// A URI (RFC 7553 §4.5).
    Uri(Uri<'a>),
    /// Where a service is, and how to get to it (RFC 9460 §2.2).
    Svcb(Svcb<'a>),
    /// The same for HTTP (RFC 9460 §9).
    Https(Svcb<'a>),
    /// An older type with names that may be compressed.
    Legacy(Legacy<'a>),
    /// Any other type; and any type without RDATA in class NONE or ANY, as an UPDATE has them (RFC 2136
    /// §2.4, §2.5).
    Other {
        /// TYPE.
        record_type: RecordType,
        /// RDATA, which has no compressed names in it.
        octets: &'a [u8],
    },
}

/// The start of a zone of authority (RFC 1035 §3.3.13). Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Soa<'a> {
    /// The primary name server.
    pub mname: Name<'a>,
    /// The mailbox of who is responsible, its first label the local part.
    pub rname: Name<'a>,
    /// The zone's version (RFC 1982).
    pub serial: u32,
    /// How long until it is looked at again.
    pub refresh: u32,
    /// How long until that is tried again when it failed.
    pub retry: u32,
    /// How long it is authoritative without.
    pub expire: u32,
    /// How long a negative answer is kept (RFC 2308 §4).
    pub minimum: u32,
}

/// A mail exchange (RFC 1035 §3.3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mx<'a> {
    /// Lower values are preferred.
    pub preference: u16,
    /// The host.
    pub exchange: Name<'a>,
}

/// Where a service is (RFC 2782).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Srv<'a> {
    /// Lower values come first.
    pub priority: u16,
    /// Among those of the same priority, the share of this one.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host; the root where there is no such service.
    pub target: Name<'a>,
}

/// A rule of the Dynamic Delegation Discovery System (RFC 3403 §4.1). Strings have at most 255 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naptr<'a> {
    /// In which order rules are followed.
    pub order: u16,
    /// Among those of the same order, which is preferred.
    pub preference: u16,
    /// How what comes next is read.
    pub flags: &'a [u8],
    /// Which services there are.
    pub services: &'a [u8],
    /// A substitution.
    pub regexp: &'a [u8],
    /// The name to ask for next, where there is no substitution.
    pub replacement: Name<'a>,
}

/// Who may issue certificates (RFC 8659 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caa<'a> {
    /// Bit 0, 128: who does not understand the tag must not issue.
    pub flags: u8,
    /// What the property is: 1 to 255 ASCII letters and digits.
    pub tag: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// A digest of a key (RFC 4034 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ds<'a> {
    /// The key's tag.
    pub key_tag: u16,
    /// The key's algorithm.
    pub algorithm: u8,
    /// How the digest was made.
    pub digest_type: u8,
    /// The digest.
    pub digest: &'a [u8],
}

/// A zone's key (RFC 4034 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dnskey<'a> {
    /// Bit 7, 256: a zone key; bit 15, 1: a secure entry point.
    pub flags: u16,
    /// Always 3 (RFC 4034 §2.1.2).
    pub protocol: u8,
    /// The algorithm.
    pub algorithm: u8,
    /// The public key.
    pub public_key: &'a [u8],
}

/// A signature (RFC 4034 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rrsig<'a> {
    /// The type of the records that are signed.
    pub type_covered: RecordType,
    /// The algorithm.
    pub algorithm: u8,
    /// How many labels the signed name has, an asterisk not counted.
    pub labels: u8,
    /// The TTL that was signed, in seconds.
    pub original_ttl: u32,
    /// Until when it is valid: seconds since 1970, modulo 2^32 (RFC 1982).
    pub expiration: u32,
    /// Since when it is valid: seconds since 1970, modulo 2^32 (RFC 1982).
    pub inception: u32,
    /// The tag of the key.
    pub key_tag: u16,
    /// The zone of the key.
    pub signer: Name<'a>,
    /// The signature.
    pub signature: &'a [u8],
}

/// The next name of a zone (RFC 4034 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nsec<'a> {
    /// The next name.
    pub next: Name<'a>,
    /// The types that there are at this name.
    pub types: TypeBitmap<'a>,
}

/// The next hashed name of a zone (RFC 5155 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nsec3<'a> {
    /// How names are hashed.
    pub param: Nsec3Param<'a>,
    /// The next hash: 1 to 255 octets.
    pub next_hashed: &'a [u8],
    /// The types that there are at this name.
    pub types: TypeBitmap<'a>,
}

/// How the names of a zone are hashed (RFC 5155 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nsec3Param<'a> {
    /// The hash algorithm.
    pub hash_algorithm: u8,
    /// Of an NSEC3, bit 7, 1: opt-out.
    pub flags: u8,
    /// How many more times it is applied.
    pub iterations: u16,
    /// The salt: at most 255 octets.
    pub salt: &'a [u8],
}

/// A certificate association (RFC 6698 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlsa<'a> {
    /// What it is compared with.
    pub usage: u8,
    /// Which part of the certificate is compared.
    pub selector: u8,
    /// How it is presented.
    pub matching_type: u8,
    /// What is compared.
    pub data: &'a [u8],
}

/// The fingerprint of an SSH host key (RFC 4255 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sshfp<'a> {
    /// The key's algorithm.
    pub algorithm: u8,
    /// How the fingerprint was made.
    pub fingerprint_type: u8,
    /// The fingerprint.
    pub fingerprint: &'a [u8],
}

/// A URI (RFC 7553 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// Lower values come first.
    pub priority: u16,
    /// Among those of the same priority, the share of this one.
    pub weight: u16,
    /// The URI, which is not checked: at least one octet.
    pub target: &'a [u8],
}

/// RDATA of an older type with names that may be compressed (RFC 3597 §4): MB, MD, MF, MG, MR, MINFO, RP,
/// AFSDB, RT, SIG, PX and NXT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Legacy<'a> {
    record_type: RecordType,
    prefix: &'a [u8],
    first: Name<'a>,
    second: Option<Name<'a>>,
    rest: &'a [u8],
}

impl<'a> Legacy<'a> {
    /// The octets in front of the first name.
    pub const fn prefix(&self) -> &'a [u8] {
        self.prefix
    }

    /// The first name.
    pub const fn first(&self) -> Name<'a> {
        self.first
    }

    /// The second name, of types that have two.
    pub const fn second(&self) -> Option<Name<'a>> {
        self.second
    }

    /// The octets behind the names.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many octets come first, whether there are two names, and whether anything follows.
    const fn layout(record_type: RecordType) -> Option<(usize, bool, bool)> {
        match record_type {
            RecordType::MB | RecordType::MD | RecordType::MF | RecordType::MG | RecordType::MR => {
                Some((0, false, false))
            }
            RecordType::MINFO | RecordType::RP => Some((0, true, false)),
            RecordType::AFSDB | RecordType::RT => Some((2, false, false)),
            RecordType::PX => Some((2, true, false)),
            RecordType::SIG => Some((18, false, true)),
            RecordType::NXT => Some((0, false, true)),
            _ => None,
        }
    }
}

/// One or more strings of up to 255 octets each (RFC 1035 §3.3, §3.3.14).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CharStrings<'a>(&'a [u8]);

impl<'a> CharStrings<'a> {
    /// Strings as they are sent, each behind an octet with its length; `None` unless there is at least one
    /// and the last ends where the octets end.
    pub fn new(octets: &'a [u8]) -> Option<Self> {
        let mut rest = octets;
        loop {
            let (&len, after) = rest.split_first()?;
            rest = after.get(usize::from(len)..)?;
            if rest.is_empty() {
                return Some(Self(octets));
            }
        }
    }

    /// The octets, as they are sent.
    #[inline]
    pub const fn as_wire(self) -> &'a [u8] {
        self.0
    }

    /// The strings.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (&len, after) = rest.split_first()?;
            let (string, after) = after.split_at_checked(usize::from(len))?;
            rest = after;
            Some(string)
        })
    }
}

impl fmt::Debug for CharStrings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(<[u8]>::escape_ascii).map(Quoted)).finish()
    }
}

struct Quoted<'a>(core::slice::EscapeAscii<'a>);

impl fmt::Debug for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// A set of types (RFC 4034 §4.1.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TypeBitmap<'a>(&'a [u8]);

impl<'a> TypeBitmap<'a> {
    /// A set as it is sent; `None` unless its windows are in order and have 1 to 32 octets each.
    pub fn new(octets: &'a [u8]) -> Option<Self> {
        let mut rest = octets;
        let mut lowest = 0;
        while let Some((&window, after)) = rest.split_first() {
            let (&len, after) = after.split_first()?;
            if u16::from(window) < lowest || !(1..=32).contains(&len) {
                return None;
            }
            lowest = u16::from(window) + 1;
            rest = after.get(usize::from(len)..)?;
        }
        Some(Self(octets))
    }

    /// The octets, as they are sent.
    #[inline]
    pub const fn as_wire(self) -> &'a [u8] {
        self.0
    }

    /// The types, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = RecordType> + Clone {
        let mut rest = self.0;
        let windows = core::iter::from_fn(move || {
            let (&[window, len], after) = rest.split_first_chunk()?;
            let (bitmap, after) = after.split_at_checked(usize::from(len))?;
            rest = after;
            Some((window, bitmap))
        });
        windows.flat_map(|(window, bitmap)| {
            bitmap.iter().zip(0_u8..).flat_map(move |(&octet, at)| {
                (0..8_u8)
                    .filter(move |bit| octet & 0x80 >> bit != 0)
                    .map(move |bit| RecordType(u16::from_be_bytes([window, at << 3 | bit])))
            })
        })
    }

    /// Whether a type is in the set.
    pub fn contains(self, record_type: RecordType) -> bool {
        self.iter().any(|member| member == record_type)
    }
}

impl fmt::Debug for TypeBitmap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Whether addresses of this class are those of the Internet: a record that an UPDATE deletes has class
/// NONE (RFC 2136 §2.5.4).
const fn is_internet(class: Class) -> bool {
    matches!(class, Class::IN | Class::NONE)
}

/// Checks the RDATA of a record.
#[inline(always)]
pub(crate) fn check(fixed: &Fixed, area: &[u8], names: &mut Checker) -> Result<(), DecodeError> {
    // Most records are addresses.
    match (fixed.record_type, fixed.rdata_end - fixed.rdata_at) {
        (RecordType::A, 4) | (RecordType::AAAA, 16) => Ok(()),
        _ => check_other(fixed, area, names),
    }
}

#[inline(never)]
fn check_other(fixed: &Fixed, area: &[u8], names: &mut Checker) -> Result<(), DecodeError> {
    parse(fixed.record_type, fixed.class, area, fixed.rdata_at, names).map(drop)
}

/// Reads RDATA that was checked.
#[inline(always)]
pub(crate) fn read(
    record_type: RecordType,
    class: Class,
    area: &[u8],
    at: usize,
) -> RecordData<'_> {
    let rdata = area.get(at..).unwrap_or_default();
    match (record_type, rdata.len()) {
        (RecordType::A, 4) if is_internet(class) => match rdata.first_chunk() {
            Some(&octets) => RecordData::A(Ipv4Addr::from_octets(octets)),
            None => read_other(record_type, class, area, at),
        },
        (RecordType::CNAME, 1..) => RecordData::Cname(Name::checked(area, at)),
        _ => read_other(record_type, class, area, at),
    }
}

#[inline(never)]
fn read_other(record_type: RecordType, class: Class, area: &[u8], at: usize) -> RecordData<'_> {
    match parse(record_type, class, area, at, &mut Skipper) {
        Ok(data) => data,
        Err(_) => {
            // It was found to be in its format: does not happen.
            RecordData::Other { record_type, octets: area.get(at..).unwrap_or_default() }
        }
    }
}

#[inline(always)]
fn parse<'a>(
    record_type: RecordType,
    class: Class,
    area: &'a [u8],
    at: usize,
    names: &mut impl Names,
) -> Result<RecordData<'a>, DecodeError> {
    use RecordData as D;
    let mut cursor = Cursor { record_type, area, at, names };
    let r = &mut cursor;
    if at == area.len() && matches!(class, Class::NONE | Class::ANY) {
        return Ok(D::Other { record_type, octets: &[] });
    }
    let data = match record_type {
        RecordType::A if is_internet(class) => D::A(Ipv4Addr::from_octets(r.array()?)),
        RecordType::AAAA => D::Aaaa(Ipv6Addr::from_octets(r.array()?)),
        RecordType::NS => D::Ns(r.name(true)?),
        RecordType::CNAME => D::Cname(r.name(true)?),
        RecordType::PTR => D::Ptr(r.name(true)?),
        RecordType::DNAME => D::Dname(r.name(false)?),
        RecordType::SOA => D::Soa(Soa {
            mname: r.name(true)?,
            rname: r.name(true)?,
            serial: r.u32()?,
            refresh: r.u32()?,
            retry: r.u32()?,
            expire: r.u32()?,
            minimum: r.u32()?,
        }),
        RecordType::MX => D::Mx(Mx { preference: r.u16()?, exchange: r.name(true)? }),
        RecordType::TXT => D::Txt(r.whole(CharStrings::new)?),
        RecordType::HINFO => D::Hinfo { cpu: r.string()?, os: r.string()? },
        RecordType::SRV => D::Srv(Srv {
            priority: r.u16()?,
            weight: r.u16()?,
            port: r.u16()?,
            target: r.name(true)?,
        }),
        RecordType::NAPTR => D::Naptr(Naptr {
            order: r.u16()?,
            preference: r.u16()?,
            flags: r.string()?,
            services: r.string()?,
            regexp: r.string()?,
            replacement: r.name(true)?,
        }),
        RecordType::CAA => D::Caa(Caa { flags: r.u8()?, tag: r.caa_tag()?, value: r.rest() }),
        RecordType::DS => D::Ds(r.ds()?),
        RecordType::CDS => D::Cds(r.ds()?),
        RecordType::DNSKEY => D::Dnskey(r.dnskey()?),
        RecordType::CDNSKEY => D::Cdnskey(r.dnskey()?),
        RecordType::RRSIG => D::Rrsig(Rrsig {
            type_covered: RecordType(r.u16()?),
            algorithm: r.u8()?,
            labels: r.u8()?,
            original_ttl: r.u32()?,
            expiration: r.u32()?,
            inception: r.u32()?,
            key_tag: r.u16()?,
            signer: r.name(false)?,
            signature: r.rest(),
        }),
        RecordType::NSEC => {
            D::Nsec(Nsec { next: r.name(false)?, types: r.whole(TypeBitmap::new)? })
        }
        RecordType::NSEC3 => D::Nsec3(Nsec3 {
            param: r.nsec3_param()?,
            next_hashed: r.some_string()?,
            types: r.whole(TypeBitmap::new)?,
        }),
        RecordType::NSEC3PARAM => D::Nsec3Param(r.nsec3_param()?),
        RecordType::TLSA => D::Tlsa(r.tlsa()?),
        RecordType::SMIMEA => D::Smimea(r.tlsa()?),
        RecordType::SSHFP => {
            D::Sshfp(Sshfp { algorithm: r.u8()?, fingerprint_type: r.u8()?, fingerprint: r.rest() })
        }
        RecordType::URI => D::Uri(Uri {
            priority: r.u16()?,
            weight: r.u16()?,
            target: r.whole(|octets| (!octets.is_empty()).then_some(octets))?,
        }),
        RecordType::SVCB => D::Svcb(r.svcb()?),
        RecordType::HTTPS => D::Https(r.svcb()?),
        _ => match Legacy::layout(record_type) {
            Some((prefix, two_names, has_rest)) => D::Legacy(Legacy {
                record_type,
                prefix: r.take(prefix)?,
                first: r.name(true)?,
                second: if two_names { Some(r.name(true)?) } else { None },
                rest: if has_rest { r.rest() } else { &[] },
            }),
            None => D::Other { record_type, octets: r.rest() },
        },
    };
    if cursor.at == area.len() { Ok(data) } else { Err(DecodeError::Rdata(record_type)) }
}

struct Cursor<'a, 'n, N> {
    record_type: RecordType,
    /// The message up to the end of the RDATA.
    area: &'a [u8],
    at: usize,
    names: &'n mut N,
}

impl<'a, N: Names> Cursor<'a, '_, N> {
    #[cold]
    fn refused(&self) -> DecodeError {
        DecodeError::Rdata(self.record_type)
    }

    #[inline(always)]
    fn left(&self) -> &'a [u8] {
        self.area.get(self.at..).unwrap_or_default()
    }

    #[inline(always)]
    fn array<const M: usize>(&mut self) -> Result<[u8; M], DecodeError> {
        match self.left().first_chunk() {
            Some(&octets) => {
                self.at += M;
                Ok(octets)
            }
            None => Err(self.refused()),
        }
    }

    #[inline(always)]
    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    #[inline(always)]
    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline(always)]
    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline(always)]
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.left().get(..len) {
            Some(octets) => {
                self.at += len;
                Ok(octets)
            }
            None => Err(self.refused()),
        }
    }

    /// A character-string (RFC 1035 §3.3).
    #[inline(always)]
    fn string(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    #[inline(always)]
    fn some_string(&mut self) -> Result<&'a [u8], DecodeError> {
        match self.string()? {
            [] => Err(self.refused()),
            octets => Ok(octets),
        }
    }

    #[inline(always)]
    fn caa_tag(&mut self) -> Result<&'a [u8], DecodeError> {
        let tag = self.some_string()?;
        if tag.iter().all(u8::is_ascii_alphanumeric) { Ok(tag) } else { Err(self.refused()) }
    }

    /// All that is left.
    #[inline(always)]
    fn rest(&mut self) -> &'a [u8] {
        let rest = self.left();
        self.at += rest.len();
        rest
    }

    /// All that is left, if this takes it.
    #[inline(always)]
    fn whole<T>(&mut self, read: impl Fn(&'a [u8]) -> Option<T>) -> Result<T, DecodeError> {
        read(self.rest()).ok_or_else(|| self.refused())
    }

    #[inline(always)]
    fn name(&mut self, compression: bool) -> Result<Name<'a>, DecodeError> {
        let at = self.at;
        self.at = self.names.end(self.area, at, compression)?;
        Ok(Name::checked(self.area, at))
    }

    #[inline(always)]
    fn ds(&mut self) -> Result<Ds<'a>, DecodeError> {
        Ok(Ds {
            key_tag: self.u16()?,
            algorithm: self.u8()?,
            digest_type: self.u8()?,
            digest: self.rest(),
        })
    }

    #[inline(always)]
    fn dnskey(&mut self) -> Result<Dnskey<'a>, DecodeError> {
        Ok(Dnskey {
            flags: self.u16()?,
            protocol: self.u8()?,
            algorithm: self.u8()?,
            public_key: self.rest(),
        })
    }

    #[inline(always)]
    fn nsec3_param(&mut self) -> Result<Nsec3Param<'a>, DecodeError> {
        Ok(Nsec3Param {
            hash_algorithm: self.u8()?,
            flags: self.u8()?,
            iterations: self.u16()?,
            salt: self.string()?,
        })
    }

    #[inline(always)]
    fn tlsa(&mut self) -> Result<Tlsa<'a>, DecodeError> {
        Ok(Tlsa {
            usage: self.u8()?,
            selector: self.u8()?,
            matching_type: self.u8()?,
            data: self.rest(),
        })
    }

    #[inline(always)]
    fn svcb(&mut self) -> Result<Svcb<'a>, DecodeError> {
        Ok(Svcb {
            priority: self.u16()?,
            target: self.name(false)?,
            params: self.whole(SvcParams::new)?,
        })
    }
}

impl RecordData<'_> {
    /// TYPE.
    pub const fn record_type(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::AAAA,
            Self::Ns(_) => RecordType::NS,
            Self::Cname(_) => RecordType::CNAME,
            Self::Ptr(_) => RecordType::PTR,
            Self::Dname(_) => RecordType::DNAME,
            Self::Soa(_) => RecordType::SOA,
            Self::Mx(_) => RecordType::MX,
            Self::Txt(_) => RecordType::TXT,
            Self::Hinfo { .. } => RecordType::HINFO,
            Self::Srv(_) => RecordType::SRV,
            Self::Naptr(_) => RecordType::NAPTR,
            Self::Caa(_) => RecordType::CAA,
            Self::Ds(_) => RecordType::DS,
            Self::Cds(_) => RecordType::CDS,
            Self::Dnskey(_) => RecordType::DNSKEY,
            Self::Cdnskey(_) => RecordType::CDNSKEY,
            Self::Rrsig(_) => RecordType::RRSIG,
            Self::Nsec(_) => RecordType::NSEC,
            Self::Nsec3(_) => RecordType::NSEC3,
            Self::Nsec3Param(_) => RecordType::NSEC3PARAM,
            Self::Tlsa(_) => RecordType::TLSA,
            Self::Smimea(_) => RecordType::SMIMEA,
            Self::Sshfp(_) => RecordType::SSHFP,
            Self::Uri(_) => RecordType::URI,
            Self::Svcb(_) => RecordType::SVCB,
            Self::Https(_) => RecordType::HTTPS,
            Self::Legacy(legacy) => legacy.record_type,
            Self::Other { record_type, .. } => *record_type,
        }
    }

    /// Writes RDATA. Names are compressed in the types of RFC 1035 alone (RFC 3597 §4).
    #[inline(always)]
    pub(crate) fn write(&self, class: Class, w: &mut Writer<'_>) -> Result<(), Refused> {
        match self {
            Self::A(address) => w.array(address.octets()),
            _ => self.write_other(class, w),
        }
    }

    #[inline(never)]
    fn write_other(&self, class: Class, w: &mut Writer<'_>) -> Result<(), Refused> {
        match self {
            Self::A(address) => w.array(address.octets()),
            Self::Aaaa(address) => w.array(address.octets()),
            Self::Ns(name) | Self::Cname(name) | Self::Ptr(name) => w.name(*name, true),
            Self::Dname(name) => w.name(*name, false),
            Self::Soa(soa) => {
                w.name(soa.mname, true)?;
                w.name(soa.rname, true)?;
                for number in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
                    w.u32(number)?;
                }
                Ok(())
            }
            Self::Mx(mx) => {
                w.u16(mx.preference)?;
                w.name(mx.exchange, true)
            }
            Self::Txt(strings) => w.bytes(strings.0),
            Self::Hinfo { cpu, os } => {
                w.string(cpu)?;
                w.string(os)
            }
            Self::Srv(srv) => {
                w.u16(srv.priority)?;
                w.u16(srv.weight)?;
                w.u16(srv.port)?;
                w.name(srv.target, false)
            }
            Self::Naptr(naptr) => {
                w.u16(naptr.order)?;
                w.u16(naptr.preference)?;
                w.string(naptr.flags)?;
                w.string(naptr.services)?;
                w.string(naptr.regexp)?;
                w.name(naptr.replacement, false)
            }
            Self::Caa(caa) => {
                if !caa.tag.iter().all(u8::is_ascii_alphanumeric) {
                    return Err(Refused::Value);
                }
                w.array([caa.flags])?;
                w.some_string(caa.tag)?;
                w.bytes(caa.value)
            }
            Self::Ds(ds) | Self::Cds(ds) => {
                w.u16(ds.key_tag)?;
                w.array([ds.algorithm, ds.digest_type])?;
                w.bytes(ds.digest)
            }
            Self::Dnskey(key) | Self::Cdnskey(key) => {
                w.u16(key.flags)?;
                w.array([key.protocol, key.algorithm])?;
                w.bytes(key.public_key)
            }
            Self::Rrsig(rrsig) => {
                w.u16(rrsig.type_covered.0)?;
                w.array([rrsig.algorithm, rrsig.labels])?;
                w.u32(rrsig.original_ttl)?;
                w.u32(rrsig.expiration)?;
                w.u32(rrsig.inception)?;
                w.u16(rrsig.key_tag)?;
                w.name(rrsig.signer, false)?;
                w.bytes(rrsig.signature)
            }
            Self::Nsec(nsec) => {
                w.name(nsec.next, false)?;
                w.bytes(nsec.types.0)
            }
            Self::Nsec3(nsec3) => {
                nsec3.param.write(w)?;
                w.some_string(nsec3.next_hashed)?;
                w.bytes(nsec3.types.0)
            }
            Self::Nsec3Param(param) => param.write(w),
            Self::Tlsa(tlsa) | Self::Smimea(tlsa) => {
                w.array([tlsa.usage, tlsa.selector, tlsa.matching_type])?;
                w.bytes(tlsa.data)
            }
            Self::Sshfp(sshfp) => {
                w.array([sshfp.algorithm, sshfp.fingerprint_type])?;
                w.bytes(sshfp.fingerprint)
            }
            Self::Uri(uri) => {
                w.u16(uri.priority)?;
                w.u16(uri.weight)?;
                if uri.target.is_empty() {
                    return Err(Refused::Value);
                }
                w.bytes(uri.target)
            }
            Self::Svcb(svcb) | Self::Https(svcb) => {
                w.u16(svcb.priority)?;
                w.name(svcb.target, false)?;
                w.bytes(svcb.params.as_wire())
            }
            Self::Legacy(legacy) => {
                let compress = matches!(
                    legacy.record_type,
                    RecordType::MB
                        | RecordType::MD
                        | RecordType::MF
                        | RecordType::MG
                        | RecordType::MR
                        | RecordType::MINFO
                );
                w.bytes(legacy.prefix)?;
                w.name(legacy.first, compress)?;
                if let Some(second) = legacy.second {
                    w.name(second, compress)?;
                }
                w.bytes(legacy.rest)
            }
            Self::Other { record_type, octets } => {
                // Alone, so that a pointer in it leads nowhere.
                match parse(*record_type, class, octets, 0, &mut Checker::new()) {
                    Ok(_) => w.bytes(octets),
                    Err(_) => Err(Refused::Value),
                }
            }
        }
    }
}

impl Nsec3Param<'_> {
    fn write(&self, w: &mut Writer<'_>) -> Result<(), Refused> {
        w.array([self.hash_algorithm, self.flags])?;
        w.u16(self.iterations)?;
        w.string(self.salt)
    }
}
