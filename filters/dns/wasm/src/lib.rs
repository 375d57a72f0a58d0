//! The DNS filter as a proxy-wasm module.
#![allow(missing_docs, reason = "the entry point that the macro makes cannot be documented")]

use core::time::Duration;
use std::rc::Rc;

use filter_dns::config::{Mode, Transport};
use filter_dns::{Https, Stream, Udp};
use host::bridge::Link;
use host::bridge::metrics::Registry;
use http_server::HttpServer;
use tunnels::Hub;

struct Module {
    filter: filter_dns::Filter,
    tunnels: Rc<tunnels::Settings>,
}

/// A connection with one client, with the tunnels of many, or with Envoy's HTTP clients.
enum Connection {
    Udp(Box<Hub<Udp>>),
    Stream(Box<Stream>),
    Https(Box<HttpServer<Https>>),
}

host::protocols!(Connection { Udp, Stream, Https });

impl host::Filter for Module {
    type Protocol = Connection;
    type Observer = filter_dns::Observer;

    fn configure(json: &[u8], metrics: &Registry) -> Result<Self, Vec<String>> {
        let filter = filter_dns::Filter::new(json, metrics)
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let tunnels = Rc::new(filter.tunnels(metrics));
        Ok(Self { filter, tunnels })
    }

    fn mode(&self) -> host::Mode {
        match self.filter.mode() {
            Mode::Bridge => host::Mode::Bridge(self.filter.limits()),
            Mode::Observe => host::Mode::Observe,
        }
    }

    fn gathers(&self) -> bool {
        self.filter.transport() == Transport::Udp
    }

    fn carry(&self, link: &mut Link) -> Self::Protocol {
        match self.filter.transport() {
            Transport::Udp => {
                let hub = Hub::new(Rc::clone(&self.tunnels), self.filter.udp());
                Connection::Udp(Box::new(hub))
            }
            Transport::Tcp | Transport::Tls => {
                Connection::Stream(Box::new(self.filter.stream(link)))
            }
            Transport::Https => {
                let (https, limits) = self.filter.https();
                Connection::Https(Box::new(HttpServer::new(https, &limits)))
            }
        }
    }

    fn watch(&self, _: Duration) -> Self::Observer {
        self.filter.watch()
    }
}

host::filter!(Module);
