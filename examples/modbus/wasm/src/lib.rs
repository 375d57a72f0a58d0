//! The Modbus filter as a proxy-wasm module.
#![allow(missing_docs, reason = "the entry point that the macro makes cannot be documented")]

use core::time::Duration;

use filter_modbus::config::Mode;
use host::bridge::Link;
use host::bridge::metrics::Registry;

struct Module(filter_modbus::Filter);

impl host::Filter for Module {
    type Protocol = filter_modbus::Session;
    type Observer = filter_modbus::Observer;

    fn configure(json: &[u8], metrics: &Registry) -> Result<Self, Vec<String>> {
        let describe = |mistakes: Vec<_>| mistakes.iter().map(ToString::to_string).collect();
        filter_modbus::Filter::new(json, metrics).map(Self).map_err(describe)
    }

    fn mode(&self) -> host::Mode {
        match self.0.mode() {
            Mode::Bridge => host::Mode::Bridge(self.0.limits()),
            Mode::Observe => host::Mode::Observe,
        }
    }

    fn carry(&self, link: &mut Link) -> Self::Protocol {
        self.0.carry(link)
    }

    fn watch(&self, _: Duration) -> Self::Observer {
        self.0.watch()
    }
}

host::filter!(Module);
