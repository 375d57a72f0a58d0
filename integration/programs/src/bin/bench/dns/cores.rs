//! Which core does what. A proxy has one to itself; the load and what is behind the proxies share another, so that they
//! cannot slow it down but by being slow themselves, which the row `direct` shows.

use anyhow::Result;
use integration::process::{Process, pin_this_thread};

/// The cores; none, where there is only one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores(Option<(usize, usize)>);

impl Cores {
    /// Those of this machine.
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self((cores > 1).then_some((0, 1)))
    }

    /// Where the load runs.
    pub(crate) fn load(self) -> Option<usize> {
        self.0.map(|(_, load)| load)
    }

    /// Has the calling thread run there, and all that it starts.
    pub(crate) fn pin_load(self) -> Result<()> {
        self.load().map_or(Ok(()), pin_this_thread)
    }

    /// Has a proxy run where it is alone.
    pub(crate) fn pin_proxy(self, process: &Process) -> Result<()> {
        self.0.map_or(Ok(()), |(proxy, _)| process.pin(proxy))
    }

    pub(crate) fn describe(self) -> &'static str {
        match self.0 {
            Some(_) => "each proxy on a core of its own, load and server together on another one",
            None => "all on one core",
        }
    }
}
