//! What stands between clients and servers in a comparison, each kind behind the same face.

use std::fmt::Debug;
use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::broker::HaProxy;
use crate::coap::{aiocoap, libcoap};
use crate::dns::dnsdist::Dnsdist;
use crate::dns::unbound::Unbound;
use crate::envoy::Envoy;
use crate::process::Process;

/// One side of a comparison.
pub trait Side: Copy + PartialEq + Debug + 'static {
    /// All that can be named.
    const ALL: &'static [Self];

    /// Those that are measured when none is named.
    const DEFAULT: &'static [Self] = Self::ALL;

    /// What it is called on the command line and in tables.
    fn name(self) -> &'static str;

    /// Whether this project's code is in it.
    fn is_ours(self) -> bool;
}

/// The sides of these names; without names those that are measured by default.
pub fn sides<S: Side>(names: &[String]) -> Result<Vec<S>> {
    if names.is_empty() {
        return Ok(S::DEFAULT.to_vec());
    }
    let named = |name: &String| {
        let side = S::ALL.iter().copied().find(|side| side.name() == name);
        side.with_context(|| format!("there is no side {name:?}"))
    };
    names.iter().map(named).collect()
}

/// A proxy that runs; dropping it ends it.
pub trait Proxy: Debug {
    /// Its process, for its memory and its CPU time.
    fn process(&self) -> &Process;

    /// Envoy, if it is one: that counts its memory itself.
    fn envoy(&self) -> Option<&Envoy> {
        None
    }
}

impl Proxy for Envoy {
    fn process(&self) -> &Process {
        &self.process
    }

    fn envoy(&self) -> Option<&Envoy> {
        Some(self)
    }
}

impl Proxy for HaProxy {
    fn process(&self) -> &Process {
        &self.process
    }
}

impl Proxy for libcoap::Server {
    fn process(&self) -> &Process {
        &self.process
    }
}

impl Proxy for aiocoap::Proxy {
    fn process(&self) -> &Process {
        &self.process
    }
}

impl Proxy for Dnsdist {
    fn process(&self) -> &Process {
        &self.process
    }
}

impl Proxy for Unbound {
    fn process(&self) -> &Process {
        &self.process
    }
}

/// A side in front of a server.
#[derive(Debug)]
pub struct Gate<S> {
    /// Which.
    pub side: S,
    /// Where clients go.
    pub address: SocketAddr,
    /// The server.
    pub server: SocketAddr,
    proxy: Option<Box<dyn Proxy>>,
}

impl<S: Side> Gate<S> {
    /// Nothing between client and server.
    #[must_use]
    pub fn direct(side: S, server: SocketAddr) -> Self {
        Self { side, address: server, server, proxy: None }
    }

    /// A proxy that listens at this address.
    #[must_use]
    pub fn through(
        side: S,
        address: SocketAddr,
        server: SocketAddr,
        proxy: impl Proxy + 'static,
    ) -> Self {
        Self { side, address, server, proxy: Some(Box::new(proxy)) }
    }

    /// The proxy's process, if there is a proxy.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.proxy.as_deref().map(Proxy::process)
    }

    /// The proxy, if it is Envoy.
    #[must_use]
    pub fn envoy(&self) -> Option<&Envoy> {
        self.proxy.as_deref().and_then(Proxy::envoy)
    }

    /// CPU time that the proxy has used so far, if there is one.
    pub fn cpu_seconds(&self) -> Result<Option<f64>> {
        self.process().map(Process::cpu_seconds).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Example {
        Plain,
        Filter,
        Rare,
    }

    impl Side for Example {
        const ALL: &'static [Self] = &[Self::Plain, Self::Filter, Self::Rare];
        const DEFAULT: &'static [Self] = &[Self::Plain, Self::Filter];

        fn name(self) -> &'static str {
            match self {
                Self::Plain => "plain",
                Self::Filter => "filter",
                Self::Rare => "rare",
            }
        }

        fn is_ours(self) -> bool {
            self != Self::Plain
        }
    }

    #[test]
    fn sides_are_found_by_name_and_default_to_the_usual_ones() {
        assert_eq!(sides::<Example>(&[]).unwrap(), Example::DEFAULT);
        let named: Vec<Example> = sides(&["rare".into(), "plain".into()]).unwrap();
        assert_eq!(named, [Example::Rare, Example::Plain]);
        assert!(sides::<Example>(&["none".into()]).is_err());
    }
}
