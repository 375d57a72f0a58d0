//! The CoAP filter as a proxy-wasm module.
#![allow(missing_docs, reason = "the entry point that the macro makes cannot be documented")]

use core::time::Duration;
use std::rc::Rc;

use filter_coap::config::{Mode, Transport};
use filter_coap::{Client, Session};
use host::bridge::metrics::Registry;
use host::bridge::{Bytes, Ended, Input, Link, Peer, Protocol, Response, StreamId, Want};
use tunnels::{Start, Tunnels};

struct Module {
    filter: filter_coap::Filter,
    tunnels: Rc<tunnels::Settings>,
    start: Rc<Start<Session>>,
}

/// A connection with one client, or with the tunnels of many.
enum Connection {
    Udp(Box<Tunnels<Session>>),
    Tcp(Box<Session>),
}

macro_rules! delegate {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        impl Protocol for Connection {
            $(fn $name(&mut self, $($argument: $type),*) $(-> $result)? {
                match self {
                    Self::Udp(tunnels) => tunnels.$name($($argument),*),
                    Self::Tcp(session) => session.$name($($argument),*),
                }
            })*
        }
    };
}

delegate! {
    handle_native(link: &mut Link, input: &mut Input) -> Want;
    handle_native_end(link: &mut Link);
    handle_response(link: &mut Link, stream: StreamId, response: Response<()>);
    handle_body(link: &mut Link, stream: StreamId, body: Bytes);
    handle_ended(link: &mut Link, stream: StreamId, how: Ended);
    handle_writable(link: &mut Link, stream: StreamId);
    handle_timeout(link: &mut Link);
    handle_close(by: Peer);
}

impl host::Filter for Module {
    type Protocol = Connection;
    type Observer = filter_coap::Observer;

    fn configure(json: &[u8], metrics: &Registry) -> Result<Self, Vec<String>> {
        let filter = filter_coap::Filter::new(json, metrics)
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let tunnels = Rc::new(filter.tunnels(metrics));
        let carry = filter.clone();
        let start: Rc<Start<Session>> = Rc::new(move |link, client| {
            let tunnels::Client { address, .. } = client;
            carry.carry(link, Client { address, ..Client::default() })
        });
        Ok(Self { filter, tunnels, start })
    }

    fn mode(&self) -> host::Mode {
        match self.filter.mode() {
            Mode::Bridge => host::Mode::Bridge(self.filter.limits()),
            Mode::Observe => host::Mode::Observe,
        }
    }

    fn carry(&self, link: &mut Link) -> Self::Protocol {
        match self.filter.transport() {
            Transport::Udp => {
                let (tunnels, start) = (Rc::clone(&self.tunnels), Rc::clone(&self.start));
                Connection::Udp(Box::new(Tunnels::new(tunnels, start)))
            }
            Transport::Tcp => {
                let address = link.surroundings().source_address();
                let address =
                    address.and_then(|address| address.trim_matches(['[', ']']).parse().ok());
                let address = address.map(|ip: std::net::IpAddr| (ip, 0).into());
                let client = Client { address, ..Client::default() };
                Connection::Tcp(Box::new(self.filter.carry(link, client)))
            }
        }
    }

    fn watch(&self, _: Duration) -> Self::Observer {
        self.filter.watch()
    }
}

host::filter!(Module);
