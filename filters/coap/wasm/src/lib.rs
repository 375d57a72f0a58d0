//! The CoAP filter as a proxy-wasm module.
#![allow(missing_docs, reason = "the entry point that the macro makes cannot be documented")]

use core::time::Duration;
use std::rc::Rc;

use coap_egress::Egress;
use dtls::Dtls;
use filter_coap::config::{Mode, Transport};
use filter_coap::{Client, Session, identity};
use host::bridge::Link;
use host::bridge::metrics::Registry;
use http_server::HttpServer;
use tunnels::{Start, Tunnels};

struct Module {
    metrics: Registry,
    filter: filter_coap::Filter,
    tunnels: Rc<tunnels::Settings>,
    start_udp: Rc<Start<Session>>,
    /// With DTLS.
    start_dtls: Option<Rc<Start<Dtls<Session>>>>,
}

/// A connection with one client, or with the tunnels of many.
enum Connection {
    Udp(Box<Tunnels<Session>>),
    Dtls(Box<Tunnels<Dtls<Session>>>),
    Tcp(Box<Session>),
    Egress(Box<HttpServer<Egress>>),
}

host::protocols!(Connection { Udp, Dtls, Tcp, Egress });

impl host::Filter for Module {
    type Protocol = Connection;
    type Observer = filter_coap::Observer;

    fn configure(json: &[u8], metrics: &Registry) -> Result<Self, Vec<String>> {
        let filter = filter_coap::Filter::new(json, metrics)
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let tunnels = Rc::new(filter.tunnels(metrics));
        let carry = filter.clone();
        let start_udp: Rc<Start<Session>> = Rc::new(move |link, client| {
            carry.carry(link, Client { address: client.address, ..Client::default() })
        });
        let start_dtls = filter.dtls().map(|shared| -> Rc<Start<Dtls<Session>>> {
            let filter = filter.clone();
            Rc::new(move |_, client| {
                let filter = filter.clone();
                let address = client.address;
                let source = address.map(|address| address.to_string()).unwrap_or_default();
                Dtls::new(Rc::clone(&shared), source.as_bytes(), move |link, identity| {
                    let headers = identity::headers(identity);
                    filter.carry(link, Client { address, headers })
                })
            })
        });
        let metrics = metrics.clone();
        Ok(Self { metrics, filter, tunnels, start_udp, start_dtls })
    }

    fn mode(&self) -> host::Mode {
        match self.filter.mode() {
            Mode::Bridge | Mode::Egress => host::Mode::Bridge(self.filter.limits()),
            Mode::Observe => host::Mode::Observe,
        }
    }

    fn gathers(&self) -> bool {
        matches!(self.filter.transport(), Transport::Udp | Transport::Dtls)
    }

    fn carry(&self, link: &mut Link) -> Self::Protocol {
        if self.filter.mode() == Mode::Egress {
            let (egress, limits) = self.filter.egress(&self.metrics);
            return Connection::Egress(Box::new(HttpServer::new(egress, &limits)));
        }
        let tunnels = Rc::clone(&self.tunnels);
        if let Some(start) = &self.start_dtls {
            return Connection::Dtls(Box::new(Tunnels::new(tunnels, Rc::clone(start))));
        }
        match self.filter.transport() {
            Transport::Udp | Transport::Dtls => {
                Connection::Udp(Box::new(Tunnels::new(tunnels, Rc::clone(&self.start_udp))))
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
