//! The CoAP filter as a proxy-wasm module.
#![allow(missing_docs, reason = "the entry point that the macro makes cannot be documented")]
use core::time::Duration;
use host::bridge::metrics::Registry;
use host::bridge::{Direction, Link, Observer, Peer};
use std::rc::Rc;
use tunnels::{Settings, Tunnels};
struct Module(Rc<Settings>);
struct Nothing;
impl Observer for Nothing {
    fn see(&mut self, _: Direction, o: &[u8]) -> u64 {
        o.len() as u64
    }
    fn passed(&mut self, _: Direction, _: usize) {}
    fn may_proceed(&self) -> bool {
        true
    }
    fn deadline(&self) -> Option<Duration> {
        None
    }
    fn handle_timeout(&mut self) -> bool {
        false
    }
    fn attributes(&mut self, _: &mut dyn FnMut(&str, &str)) {}
    fn handle_close(&mut self, _: Peer) {}
}
impl host::Filter for Module {
    type Protocol = Tunnels<filter_coap::Session>;
    type Observer = Nothing;
    fn configure(_json: &[u8], metrics: &Registry) -> Result<Self, Vec<String>> {
        Ok(Self(Rc::new(Settings::new(10000, 65536, metrics))))
    }
    fn mode(&self) -> host::Mode {
        host::Mode::Bridge(host::bridge::Limits {
            max_streams: 100000,
            connection_window: (1 << 31) - 1,
            ..Default::default()
        })
    }
    fn carry(&self, _: &mut Link) -> Self::Protocol {
        Tunnels::new(self.0.clone(), Rc::new(|link, _| filter_coap::Session::new(link)))
    }
    fn watch(&self, _: Duration) -> Nothing {
        Nothing
    }
}
host::filter!(Module);
