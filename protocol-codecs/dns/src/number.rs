//! The numbers that appear on the wire.

use core::fmt;
use core::str::FromStr;

/// A number with names for metrics.
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
                match self.0 {
                    $($value => $label,)*
                    _ => $unknown,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({} {})"), self.0, self.label())
            }
        }
    };
}

/// A number with a mnemonic, and a way to write those without one.
macro_rules! mnemonics {
    (
        $(#[$meta:meta])*
        $name:ident($inner:ty), $prefix:literal {
            $($(#[$doc:meta])* $constant:ident = $value:expr, $mnemonic:literal, $label:literal;)*
        }
    ) => {
        open_number! {
            $(#[$meta])*
            $name($inner), "other" {
                $($(#[$doc])* $constant = $value, $label;)*
            }
        }

        impl $name {
            /// The mnemonic of master files; `None` for a number without one.
            pub const fn mnemonic(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($mnemonic),)*
                    _ => None,
                }
            }
        }

        #[doc = concat!("The mnemonic, or `", $prefix, "` and the number (RFC 3597 §5).")]
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.mnemonic() {
                    Some(mnemonic) => f.pad(mnemonic),
                    None => write!(f, concat!($prefix, "{}"), self.0),
                }
            }
        }

        #[doc = concat!("A mnemonic in any case, or `", $prefix, "` and the number (RFC 3597 §5).")]
        impl FromStr for $name {
            type Err = UnknownMnemonic;

            fn from_str(text: &str) -> Result<Self, UnknownMnemonic> {
                $(if text.eq_ignore_ascii_case($mnemonic) {
                    return Ok(Self::$constant);
                })*
                match text.split_at_checked($prefix.len()) {
                    Some((prefix, digits)) if prefix.eq_ignore_ascii_case($prefix) => {
                        decimal(digits).map(Self).ok_or(UnknownMnemonic)
                    }
                    _ => Err(UnknownMnemonic),
                }
            }
        }
    };
}

/// The text is no mnemonic that this crate knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnknownMnemonic;

impl fmt::Display for UnknownMnemonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown mnemonic")
    }
}

impl core::error::Error for UnknownMnemonic {}

/// Digits alone: `u16::from_str` would take a sign too.
fn decimal(digits: &str) -> Option<u16> {
    if digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse().ok() } else { None }
}

mnemonics! {
    /// TYPE and QTYPE: what a record is, or what a question asks for (RFC 1035 §3.2.2, §3.2.3).
    RecordType(u16), "TYPE" {
        /// RFC 1035 §3.4.1.
        A = 1, "A", "a";
        /// RFC 1035 §3.3.11.
        NS = 2, "NS", "ns";
        /// RFC 1035 §3.3.4, obsolete.
        MD = 3, "MD", "md";
        /// RFC 1035 §3.3.5, obsolete.
        MF = 4, "MF", "mf";
        /// RFC 1035 §3.3.1.
        CNAME = 5, "CNAME", "cname";
        /// RFC 1035 §3.3.13.
        SOA = 6, "SOA", "soa";
        /// RFC 1035 §3.3.3, experimental.
        MB = 7, "MB", "mb";
        /// RFC 1035 §3.3.6, experimental.
        MG = 8, "MG", "mg";
        /// RFC 1035 §3.3.8, experimental.
        MR = 9, "MR", "mr";
        /// RFC 1035 §3.3.10, experimental.
        NULL = 10, "NULL", "null";
        /// RFC 1035 §3.4.2, deprecated.
        WKS = 11, "WKS", "wks";
        /// RFC 1035 §3.3.12.
        PTR = 12, "PTR", "ptr";
        /// RFC 1035 §3.3.2.
        HINFO = 13, "HINFO", "hinfo";
        /// RFC 1035 §3.3.7, experimental.
        MINFO = 14, "MINFO", "minfo";
        /// RFC 1035 §3.3.9.
        MX = 15, "MX", "mx";
        /// RFC 1035 §3.3.14.
        TXT = 16, "TXT", "txt";
        /// RFC 1183 §2.2.
        RP = 17, "RP", "rp";
        /// RFC 1183 §1.
        AFSDB = 18, "AFSDB", "afsdb";
        /// RFC 1183 §3.3.
        RT = 21, "RT", "rt";
        /// RFC 2931 §3.
        SIG = 24, "SIG", "sig";
        /// RFC 2535 §3.
        KEY = 25, "KEY", "key";
        /// RFC 2163 §4.
        PX = 26, "PX", "px";
        /// RFC 3596 §2.1.
        AAAA = 28, "AAAA", "aaaa";
        /// RFC 1876 §2.
        LOC = 29, "LOC", "loc";
        /// RFC 2535 §5, obsolete.
        NXT = 30, "NXT", "nxt";
        /// RFC 2782.
        SRV = 33, "SRV", "srv";
        /// RFC 3403 §4.
        NAPTR = 35, "NAPTR", "naptr";
        /// RFC 2230 §3.
        KX = 36, "KX", "kx";
        /// RFC 4398 §2.
        CERT = 37, "CERT", "cert";
        /// RFC 6672 §2.1.
        DNAME = 39, "DNAME", "dname";
        /// RFC 6891 §6.1.
        OPT = 41, "OPT", "opt";
        /// RFC 3123 §4.
        APL = 42, "APL", "apl";
        /// RFC 4034 §5.
        DS = 43, "DS", "ds";
        /// RFC 4255 §3.1.
        SSHFP = 44, "SSHFP", "sshfp";
        /// RFC 4025 §2.
        IPSECKEY = 45, "IPSECKEY", "ipseckey";
        /// RFC 4034 §3.
        RRSIG = 46, "RRSIG", "rrsig";
        /// RFC 4034 §4.
        NSEC = 47, "NSEC", "nsec";
        /// RFC 4034 §2.
        DNSKEY = 48, "DNSKEY", "dnskey";
        /// RFC 4701 §3.
        DHCID = 49, "DHCID", "dhcid";
        /// RFC 5155 §3.
        NSEC3 = 50, "NSEC3", "nsec3";
        /// RFC 5155 §4.
        NSEC3PARAM = 51, "NSEC3PARAM", "nsec3param";
        /// RFC 6698 §2.
        TLSA = 52, "TLSA", "tlsa";
        /// RFC 8162 §2.
        SMIMEA = 53, "SMIMEA", "smimea";
        /// RFC 8005 §5.
        HIP = 55, "HIP", "hip";
        /// RFC 7344 §3.1.
        CDS = 59, "CDS", "cds";
        /// RFC 7344 §3.2.
        CDNSKEY = 60, "CDNSKEY", "cdnskey";
        /// RFC 7929 §2.
        OPENPGPKEY = 61, "OPENPGPKEY", "openpgpkey";
        /// RFC 7477 §2.
        CSYNC = 62, "CSYNC", "csync";
        /// RFC 8976 §2.
        ZONEMD = 63, "ZONEMD", "zonemd";
        /// RFC 9460 §2.
        SVCB = 64, "SVCB", "svcb";
        /// RFC 9460 §9.
        HTTPS = 65, "HTTPS", "https";
        /// RFC 7208 §3.1, obsolete.
        SPF = 99, "SPF", "spf";
        /// RFC 6742 §2.1.
        NID = 104, "NID", "nid";
        /// RFC 6742 §2.2.
        L32 = 105, "L32", "l32";
        /// RFC 6742 §2.3.
        L64 = 106, "L64", "l64";
        /// RFC 6742 §2.4.
        LP = 107, "LP", "lp";
        /// RFC 7043 §3.
        EUI48 = 108, "EUI48", "eui48";
        /// RFC 7043 §4.
        EUI64 = 109, "EUI64", "eui64";
        /// RFC 2930 §2.
        TKEY = 249, "TKEY", "tkey";
        /// RFC 8945 §4.2.
        TSIG = 250, "TSIG", "tsig";
        /// A question only: RFC 1995 §2.
        IXFR = 251, "IXFR", "ixfr";
        /// A question only: RFC 5936 §2.
        AXFR = 252, "AXFR", "axfr";
        /// A question only: RFC 1035 §3.2.3.
        MAILB = 253, "MAILB", "mailb";
        /// A question only: RFC 1035 §3.2.3, obsolete.
        MAILA = 254, "MAILA", "maila";
        /// A question only: RFC 1035 §3.2.3, RFC 8482.
        ANY = 255, "ANY", "any";
        /// RFC 7553 §4.
        URI = 256, "URI", "uri";
        /// RFC 8659 §4.1.
        CAA = 257, "CAA", "caa";
        /// RFC 8749, obsolete.
        DLV = 32769, "DLV", "dlv";
    }
}

mnemonics! {
    /// CLASS and QCLASS (RFC 1035 §3.2.4, §3.2.5).
    Class(u16), "CLASS" {
        /// The Internet: RFC 1035 §3.2.4.
        IN = 1, "IN", "in";
        /// Chaosnet: RFC 1035 §3.2.4.
        CH = 3, "CH", "ch";
        /// Hesiod: RFC 1035 §3.2.4.
        HS = 4, "HS", "hs";
        /// No class, in an UPDATE: RFC 2136 §2.4, §2.5.
        NONE = 254, "NONE", "none";
        /// Any class: RFC 1035 §3.2.5, RFC 2136 §2.4, §2.5.
        ANY = 255, "ANY", "any";
    }
}

open_number! {
    /// The kind of query: four bits (RFC 1035 §4.1.1, RFC 6895 §2.2).
    Opcode(u8), "other" {
        /// RFC 1035 §4.1.1.
        QUERY = 0, "query";
        /// RFC 3425, obsolete.
        IQUERY = 1, "iquery";
        /// RFC 1035 §4.1.1.
        STATUS = 2, "status";
        /// RFC 1996 §3.
        NOTIFY = 4, "notify";
        /// RFC 2136 §2.
        UPDATE = 5, "update";
        /// Stateful operations, whose messages have a format of their own: RFC 8490 §5.4.
        DSO = 6, "dso";
    }
}

open_number! {
    /// What became of a query: four bits, or twelve with EDNS (RFC 1035 §4.1.1, RFC 6891 §6.1.3, RFC 6895
    /// §2.3).
    Rcode(u16), "other" {
        /// RFC 1035 §4.1.1.
        NOERROR = 0, "noerror";
        /// RFC 1035 §4.1.1.
        FORMERR = 1, "formerr";
        /// RFC 1035 §4.1.1.
        SERVFAIL = 2, "servfail";
        /// RFC 1035 §4.1.1.
        NXDOMAIN = 3, "nxdomain";
        /// RFC 1035 §4.1.1.
        NOTIMP = 4, "notimp";
        /// RFC 1035 §4.1.1.
        REFUSED = 5, "refused";
        /// RFC 2136 §2.2, RFC 6672 §2.2.
        YXDOMAIN = 6, "yxdomain";
        /// RFC 2136 §2.2.
        YXRRSET = 7, "yxrrset";
        /// RFC 2136 §2.2.
        NXRRSET = 8, "nxrrset";
        /// RFC 2136 §2.2, RFC 8945 §5.2.
        NOTAUTH = 9, "notauth";
        /// RFC 2136 §2.2.
        NOTZONE = 10, "notzone";
        /// RFC 8490 §5.1.3.
        DSOTYPENI = 11, "dsotypeni";
        /// RFC 6891 §9. A TSIG says BADSIG with the same number (RFC 8945 §3).
        BADVERS = 16, "badvers";
        /// In a TSIG or TKEY only: RFC 8945 §3.
        BADKEY = 17, "badkey";
        /// In a TSIG or TKEY only: RFC 8945 §3.
        BADTIME = 18, "badtime";
        /// In a TKEY only: RFC 2930 §2.6.
        BADMODE = 19, "badmode";
        /// In a TKEY only: RFC 2930 §2.6.
        BADNAME = 20, "badname";
        /// In a TKEY only: RFC 2930 §2.6.
        BADALG = 21, "badalg";
        /// In a TSIG only: RFC 8945 §3.
        BADTRUNC = 22, "badtrunc";
        /// RFC 7873 §8.
        BADCOOKIE = 23, "badcookie";
    }
}

open_number! {
    /// Which EDNS option it is (RFC 6891 §6.1.2).
    OptionCode(u16), "other" {
        /// RFC 8764 §3.2.
        LLQ = 1, "llq";
        /// RFC 9664 §4.
        UPDATE_LEASE = 2, "update_lease";
        /// RFC 5001 §2.3.
        NSID = 3, "nsid";
        /// RFC 6975 §3.
        DAU = 5, "dau";
        /// RFC 6975 §3.
        DHU = 6, "dhu";
        /// RFC 6975 §3.
        N3U = 7, "n3u";
        /// RFC 7871 §6.
        CLIENT_SUBNET = 8, "client_subnet";
        /// RFC 7314 §2.
        EXPIRE = 9, "expire";
        /// RFC 7873 §4.
        COOKIE = 10, "cookie";
        /// RFC 7828 §3.1.
        TCP_KEEPALIVE = 11, "tcp_keepalive";
        /// RFC 7830 §3.
        PADDING = 12, "padding";
        /// RFC 7901 §4.
        CHAIN = 13, "chain";
        /// RFC 8145 §4.1.
        KEY_TAG = 14, "key_tag";
        /// RFC 8914 §2.
        EXTENDED_ERROR = 15, "extended_error";
        /// RFC 9567 §5.1.
        REPORT_CHANNEL = 18, "report_channel";
        /// RFC 9660 §2.
        ZONEVERSION = 19, "zoneversion";
    }
}

open_number! {
    /// The INFO-CODE of an Extended DNS Error (RFC 8914 §4).
    InfoCode(u16), "unassigned" {
        /// Other Error: RFC 8914 §4.1.
        OTHER = 0, "other";
        /// Unsupported DNSKEY Algorithm: RFC 8914 §4.2.
        UNSUPPORTED_DNSKEY_ALGORITHM = 1, "unsupported_dnskey_algorithm";
        /// Unsupported DS Digest Type: RFC 8914 §4.3.
        UNSUPPORTED_DS_DIGEST_TYPE = 2, "unsupported_ds_digest_type";
        /// Stale Answer: RFC 8914 §4.4.
        STALE_ANSWER = 3, "stale_answer";
        /// Forged Answer: RFC 8914 §4.5.
        FORGED_ANSWER = 4, "forged_answer";
        /// DNSSEC Indeterminate: RFC 8914 §4.6.
        DNSSEC_INDETERMINATE = 5, "dnssec_indeterminate";
        /// DNSSEC Bogus: RFC 8914 §4.7.
        DNSSEC_BOGUS = 6, "dnssec_bogus";
        /// Signature Expired: RFC 8914 §4.8.
        SIGNATURE_EXPIRED = 7, "signature_expired";
        /// Signature Not Yet Valid: RFC 8914 §4.9.
        SIGNATURE_NOT_YET_VALID = 8, "signature_not_yet_valid";
        /// DNSKEY Missing: RFC 8914 §4.10.
        DNSKEY_MISSING = 9, "dnskey_missing";
        /// RRSIGs Missing: RFC 8914 §4.11.
        RRSIGS_MISSING = 10, "rrsigs_missing";
        /// No Zone Key Bit Set: RFC 8914 §4.12.
        NO_ZONE_KEY_BIT_SET = 11, "no_zone_key_bit_set";
        /// NSEC Missing: RFC 8914 §4.13.
        NSEC_MISSING = 12, "nsec_missing";
        /// Cached Error: RFC 8914 §4.14.
        CACHED_ERROR = 13, "cached_error";
        /// Not Ready: RFC 8914 §4.15.
        NOT_READY = 14, "not_ready";
        /// Blocked: RFC 8914 §4.16.
        BLOCKED = 15, "blocked";
        /// Censored: RFC 8914 §4.17.
        CENSORED = 16, "censored";
        /// Filtered: RFC 8914 §4.18.
        FILTERED = 17, "filtered";
        /// Prohibited: RFC 8914 §4.19.
        PROHIBITED = 18, "prohibited";
        /// Stale NXDomain Answer: RFC 8914 §4.20.
        STALE_NXDOMAIN_ANSWER = 19, "stale_nxdomain_answer";
        /// Not Authoritative: RFC 8914 §4.21.
        NOT_AUTHORITATIVE = 20, "not_authoritative";
        /// Not Supported: RFC 8914 §4.22.
        NOT_SUPPORTED = 21, "not_supported";
        /// No Reachable Authority: RFC 8914 §4.23.
        NO_REACHABLE_AUTHORITY = 22, "no_reachable_authority";
        /// Network Error: RFC 8914 §4.24.
        NETWORK_ERROR = 23, "network_error";
        /// Invalid Data: RFC 8914 §4.25.
        INVALID_DATA = 24, "invalid_data";
    }
}

open_number! {
    /// The SvcParamKey of a service parameter (RFC 9460 §14.3).
    SvcParamKey(u16), "other" {
        /// RFC 9460 §8.
        MANDATORY = 0, "mandatory";
        /// RFC 9460 §7.1.
        ALPN = 1, "alpn";
        /// RFC 9460 §7.1.
        NO_DEFAULT_ALPN = 2, "no-default-alpn";
        /// RFC 9460 §7.2.
        PORT = 3, "port";
        /// RFC 9460 §7.3.
        IPV4HINT = 4, "ipv4hint";
        /// RFC 9460 §14.3.2.
        ECH = 5, "ech";
        /// RFC 9460 §7.3.
        IPV6HINT = 6, "ipv6hint";
        /// RFC 9461 §5.
        DOHPATH = 7, "dohpath";
        /// RFC 9540 §4.
        OHTTP = 8, "ohttp";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_type_is_written_and_read_in_the_notation_of_master_files() {
        let mut named = 0;
        for number in 0..=u16::MAX {
            let record_type = RecordType(number);
            let text = record_type.to_string();
            assert_eq!(text.parse(), Ok(record_type));
            assert_eq!(text.to_lowercase().parse(), Ok(record_type));
            match record_type.mnemonic() {
                Some(mnemonic) => {
                    assert_eq!(record_type.label(), mnemonic.to_lowercase());
                    named += 1;
                }
                None => assert_eq!(record_type.label(), "other"),
            }
        }
        assert_eq!(named, 68);
        assert_eq!(RecordType::HTTPS.to_string(), "HTTPS");
        assert_eq!(RecordType(65_280).to_string(), "TYPE65280");
        assert_eq!("TYPE1".parse(), Ok(RecordType::A));
        assert_eq!("class255".parse(), Ok(Class::ANY));
        for text in ["", "TYPE", "TYPE+1", "TYPE65536", "TYPE1 ", "\u{e9}", "AA"] {
            assert_eq!(text.parse::<RecordType>(), Err(UnknownMnemonic), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_name_has_a_label_all_the_same() {
        assert_eq!((Opcode(15).label(), Rcode(4095).label()), ("other", "other"));
        assert_eq!((InfoCode(49_152).label(), OptionCode(65_001).label()), ("unassigned", "other"));
        assert_eq!(Rcode::NXDOMAIN.label(), "nxdomain");
        assert_eq!(std::format!("{:?}", Class::IN), "Class(1 in)");
    }
}
