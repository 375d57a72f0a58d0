//! Whom an answer is for (RFC 7871 §7.3).

use std::net::IpAddr;

use codec_dns::ClientSubnet;

/// The network that an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network {
    /// The bits behind the prefix are zero.
    address: IpAddr,
    /// From 1 on.
    prefix: u8,
    /// Not for who asks with more or fewer bits of the address: the answer would have been another with more
    /// (RFC 7871 §7.3.1).
    exactly: bool,
}

impl Network {
    /// This subnet as it was sent; `None` if it says nothing.
    pub(crate) fn exactly(subnet: ClientSubnet) -> Option<Self> {
        Self::new(subnet, subnet.source_prefix(), true)
    }

    /// The network around the subnet with so many bits; `None` if it is everybody.
    pub(crate) fn around(subnet: ClientSubnet, prefix: u8) -> Option<Self> {
        Self::new(subnet, prefix, false)
    }

    fn new(subnet: ClientSubnet, prefix: u8, exactly: bool) -> Option<Self> {
        let subnet = ClientSubnet::new(subnet.address(), prefix, 0).filter(|_| prefix > 0)?;
        Some(Self { address: subnet.address(), prefix, exactly })
    }
}

/// How many answers there are for networks of each length, so that no other is looked for.
#[derive(Debug)]
pub(crate) struct Lengths {
    v4: [u32; 33],
    v6: [u32; 129],
    exactly: u32,
}

impl Lengths {
    pub(crate) const fn new() -> Self {
        Self { v4: [0; 33], v6: [0; 129], exactly: 0 }
    }

    fn of(&mut self, network: &Network) -> Option<&mut u32> {
        match (network.exactly, network.address) {
            (true, _) => Some(&mut self.exactly),
            (false, IpAddr::V4(_)) => self.v4.get_mut(usize::from(network.prefix)),
            (false, IpAddr::V6(_)) => self.v6.get_mut(usize::from(network.prefix)),
        }
    }

    /// Counts an answer for this network.
    pub(crate) fn add(&mut self, network: &Network) {
        if let Some(count) = self.of(network) {
            *count += 1;
        }
    }

    /// Counts it no more.
    pub(crate) fn remove(&mut self, network: &Network) {
        if let Some(count) = self.of(network) {
            *count = count.saturating_sub(1);
        }
    }

    /// The networks that an answer for this subnet can be for, the longest first.
    pub(crate) fn around(&self, subnet: ClientSubnet) -> impl Iterator<Item = Network> {
        let lengths: &[u32] = if subnet.address().is_ipv4() { &self.v4 } else { &self.v6 };
        let exactly = Some(subnet).filter(|_| self.exactly > 0).and_then(Network::exactly);
        let around = lengths.iter().zip(0_u8..=subnet.source_prefix()).rev();
        let around = around.filter(|(count, _)| **count > 0);
        exactly
            .into_iter()
            .chain(around.filter_map(move |(_, prefix)| Network::around(subnet, prefix)))
    }
}
