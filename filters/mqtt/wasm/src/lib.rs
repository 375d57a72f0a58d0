//! The MQTT filter as a proxy-wasm module.
#![allow(missing_docs, reason = "the entry point that the macro makes cannot be documented")]

use core::time::Duration;

use filter_mqtt::config::Mode;
use host::bridge::Link;
use host::bridge::metrics::Registry;
use websocket::WebSocket;

struct Module(filter_mqtt::Filter);

impl host::Filter for Module {
    type Protocol = WebSocket<filter_mqtt::Session>;
    type Observer = filter_mqtt::Observer;

    fn configure(json: &[u8], metrics: &Registry) -> Result<Self, Vec<String>> {
        let describe = |mistakes: Vec<_>| mistakes.iter().map(ToString::to_string).collect();
        filter_mqtt::Filter::with_shelf(json, metrics, Box::new(host::SharedData))
            .map(Self)
            .map_err(describe)
    }

    fn mode(&self) -> host::Mode {
        match self.0.mode() {
            Mode::Bridge => host::Mode::Bridge(self.0.limits()),
            Mode::Observe => host::Mode::Observe,
        }
    }

    fn carry(&self, link: &mut Link) -> Self::Protocol {
        WebSocket::new(self.0.carry(link), self.0.websocket())
    }

    fn watch(&self, now: Duration) -> Self::Observer {
        self.0.watch(now)
    }
}

host::filter!(Module);
