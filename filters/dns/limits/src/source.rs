//! Where queries come from: addresses, networks, and sets of them.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use filter_config::{Mistake, Mistakes};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The address that the query comes from. All clients whose address is not known are counted as one.
    pub source: Option<IpAddr>,
    /// How it comes.
    pub transport: Transport,
}

/// How a query comes, as far as it tells whether the client is at the address it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Over UDP: anybody may have sent it.
    Udp,
    /// Over UDP, with a server cookie that is valid for the address (RFC 7873 §5.2.4).
    UdpWithCookie,
    /// Over TCP, TLS or HTTPS.
    Stream,
}

impl Transport {
    /// Whether the client has proved that it is at its address.
    pub(crate) fn is_proof(self) -> bool {
        self != Self::Udp
    }
}

/// The lengths of the prefixes that make addresses one network, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefixes {
    /// 0 to 32.
    pub(crate) ipv4: u8,
    /// 0 to 128.
    pub(crate) ipv6: u8,
}

impl Prefixes {
    /// The network of an address, as a number. The numbers of IPv4 are those of `::ffff:0:0/96` (RFC 4291
    /// §2.5.5.2); that of an address that is not known is the unspecified one (RFC 4291 §2.5.2).
    pub(crate) fn network(self, address: Option<IpAddr>) -> u128 {
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => {
                let network = address.to_bits() & ipv4_mask(self.ipv4);
                Ipv4Addr::from_bits(network).to_ipv6_mapped().to_bits()
            }
            Some(IpAddr::V6(address)) => address.to_bits() & ipv6_mask(self.ipv6),
            None => Ipv6Addr::UNSPECIFIED.to_bits(),
        }
    }
}

fn ipv4_mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(u32::BITS.saturating_sub(prefix.into())).unwrap_or(0)
}

fn ipv6_mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(u128::BITS.saturating_sub(prefix.into())).unwrap_or(0)
}

/// A set of addresses, made of networks. Looking into it costs the logarithm of how many there are.
///
/// An IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2) is the IPv4 address, and a network of them one of IPv4.
/// `0.0.0.0/0` is all of IPv4 and nothing of IPv6, `::/0` the other way round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSet {
    ipv4: Ranges<u32>,
    ipv6: Ranges<u128>,
}

impl SourceSet {
    /// Reads a list of the configuration, which is at `path` there, of networks such as `10.0.0.0/8` and
    /// `2001:db8::/32` and of single addresses.
    #[must_use]
    pub fn compile(list: &[String], path: &str, mistakes: &mut Mistakes) -> Self {
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for (index, text) in list.iter().enumerate() {
            match network(text) {
                Ok((first, last)) => match (ipv4_bits(first), ipv4_bits(last)) {
                    (Some(first), Some(last)) => ipv4.push((first, last)),
                    _ => ipv6.push((first, last)),
                },
                Err(what) => {
                    let what = format!("{what} (got {text:?})");
                    mistakes.push(Mistake::new(format!("{path}[{index}]"), what));
                }
            }
        }
        Self { ipv4: Ranges::new(ipv4), ipv6: Ranges::new(ipv6) }
    }

    /// Whether the address is in one of the networks.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.ipv4.contains(address.to_bits()),
            IpAddr::V6(address) => self.ipv6.contains(address.to_bits()),
        }
    }

    /// Whether there is no network in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ipv4.0.is_empty() && self.ipv6.0.is_empty()
    }
}

/// Numbers from a first to a last one, in order, no number twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranges<T>(Box<[(T, T)]>);

impl<T: Copy + Ord> Ranges<T> {
    fn new(mut ranges: Vec<(T, T)>) -> Self {
        // Of two networks one is within the other, or they have nothing in common. The larger one first.
        ranges.sort_unstable_by_key(|&(first, last)| (first, Reverse(last)));
        ranges.dedup_by(|(_, last), (_, last_before)| last <= last_before);
        Self(ranges.into())
    }

    fn contains(&self, number: T) -> bool {
        let at_most = self.0.partition_point(|(first, _)| *first <= number);
        self.0.get(..at_most).and_then(<[_]>::last).is_some_and(|(_, last)| number <= *last)
    }
}

fn ipv4_bits(address: u128) -> Option<u32> {
    Ipv6Addr::from_bits(address).to_ipv4_mapped().map(Ipv4Addr::to_bits)
}

/// The first and the last address of a network, those of IPv4 as in [`Prefixes::network`].
fn network(text: &str) -> Result<(u128, u128), String> {
    let malformed =
        || "is no network such as 10.0.0.0/8 or 2001:db8::/32, and no address".to_owned();
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let (address, width) = match address.parse().map_err(|_| malformed())? {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), 32),
        IpAddr::V6(address) => (address, 128),
    };
    let prefix = match prefix {
        None => width,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits
            .parse()
            .ok()
            .filter(|prefix| *prefix <= width)
            .ok_or_else(|| format!("must have a prefix of 0 to {width} bits"))?,
        Some(_) => return Err(malformed()),
    };
    let mask = ipv6_mask(128 - width + prefix);
    let address = address.to_bits();
    if address & !mask != 0 {
        return Err(format!("has an address with more bits than the {prefix} of its prefix"));
    }
    Ok((address, address | !mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &[&str]) -> SourceSet {
        let list: Vec<_> = list.iter().map(ToString::to_string).collect();
        let mut mistakes = Mistakes::default();
        let set = SourceSet::compile(&list, "networks", &mut mistakes);
        assert_eq!(mistakes.into_list(), []);
        set
    }

    fn is_in(set: &SourceSet, address: &str) -> bool {
        set.contains(address.parse().unwrap())
    }

    #[test]
    fn a_set_has_the_addresses_of_its_networks_and_no_other() {
        let networks =
            "192.0.2.7 10.0.0.0/8 10.1.0.0/16 10.0.0.0/9 2001:db8::/32 2001:db8:1::/48 ::1";
        let set = set(&networks.split(' ').collect::<Vec<_>>());
        for address in "10.0.0.0 10.1.2.3 10.255.255.255 192.0.2.7 2001:db8:: 2001:db8:1::1 ::1 \
                        2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"
            .split(' ')
        {
            assert!(is_in(&set, address), "{address}");
        }
        for address in "9.255.255.255 11.0.0.0 192.0.2.6 192.0.2.8 2001:db9:: :: ::2".split(' ') {
            assert!(!is_in(&set, address), "{address}");
        }
        assert!(!set.is_empty());
        assert!(SourceSet::default().is_empty());
        assert!(!is_in(&SourceSet::default(), "10.0.0.1"));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        assert!(is_in(&set(&["10.0.0.0/8"]), "::ffff:10.1.2.3"));
        assert!(is_in(&set(&["::ffff:10.0.0.0/104"]), "10.1.2.3"));
        let prefixes = Prefixes { ipv4: 24, ipv6: 56 };
        let network = |address: &str| prefixes.network(Some(address.parse().unwrap()));
        assert_eq!(network("::ffff:10.1.2.3"), network("10.1.2.99"));
        assert_ne!(network("::ffff:10.1.2.3"), network("10.1.3.3"));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:ff:1::"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:100::1"));
    }

    #[test]
    fn all_of_one_family_is_nothing_of_the_other() {
        let (ipv4, ipv6) = (set(&["0.0.0.0/0"]), set(&["::/0"]));
        assert!(is_in(&ipv4, "255.255.255.255") && !is_in(&ipv4, "2001:db8::1"));
        assert!(is_in(&ipv6, "2001:db8::1") && !is_in(&ipv6, "::ffff:10.0.0.1"));
        let prefixes = Prefixes { ipv4: 0, ipv6: 0 };
        let network = |address: &str| prefixes.network(Some(address.parse().unwrap()));
        assert_eq!(network("10.0.0.1"), network("192.0.2.1"));
        assert_eq!(network("2001:db8::1"), network("ff02::1"));
        assert_ne!(network("10.0.0.1"), network("ff02::1"));
    }

    #[test]
    fn what_is_no_network_is_reported_with_its_place() {
        let list = "10.0.0.0/33 10.0.0.1/8 ::/129 ::1/64 10.0.0.0/+8 ten 10.0.0.0/ ";
        let list: Vec<_> = list.split(' ').map(str::to_owned).collect();
        let mut mistakes = Mistakes::default();
        assert!(SourceSet::compile(&list, "exempt", &mut mistakes).is_empty());
        let mistakes: Vec<_> = mistakes.into_list().iter().map(ToString::to_string).collect();
        let no_network = "is no network such as 10.0.0.0/8 or 2001:db8::/32, and no address";
        let more_bits = "has an address with more bits than the";
        assert_eq!(
            mistakes,
            [
                r#"exempt[0]: must have a prefix of 0 to 32 bits (got "10.0.0.0/33")"#.to_owned(),
                format!(r#"exempt[1]: {more_bits} 8 of its prefix (got "10.0.0.1/8")"#),
                r#"exempt[2]: must have a prefix of 0 to 128 bits (got "::/129")"#.to_owned(),
                format!(r#"exempt[3]: {more_bits} 64 of its prefix (got "::1/64")"#),
                format!(r#"exempt[4]: {no_network} (got "10.0.0.0/+8")"#),
                format!(r#"exempt[5]: {no_network} (got "ten")"#),
                r#"exempt[6]: must have a prefix of 0 to 32 bits (got "10.0.0.0/")"#.to_owned(),
                format!(r#"exempt[7]: {no_network} (got "")"#),
            ]
        );
    }
}
