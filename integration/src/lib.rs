//! Real Envoy, real brokers and real clients on 127.0.0.1, for the tests, the benches and the demo.
//!
//! Everything started here ends with the value that started it, and at the latest with the process that did: see
//! [`process`].

pub mod bench;
pub mod broker;
pub mod client;
pub mod coap;
pub mod compose;
pub mod dns;
pub mod envoy;
pub mod load;
pub mod ports;
pub mod process;
pub mod relay;
pub mod setup;
pub mod udp;
pub mod wire;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The repository's root: what the paths in `envoy-configs/` are relative to.
#[must_use]
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// How long anything that needs no waiting by design may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `probe` again and again until it answers; an error that says `what` was awaited after [`PATIENCE`].
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    eventually_within(PATIENCE, what, probe)
}

/// The same with another limit, for what does take its time.
pub fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Raises the number of open files this process and its children may have, and says what it is now: thousands of sessions
/// need two each, here and in the proxies.
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    // Not higher: some programs make a table as long as the limit.
    let wanted = limit.maximum.map_or(65_536, |maximum| maximum.min(65_536));
    if limit.current.is_some_and(|current| current < wanted) {
        limit = Rlimit { current: Some(wanted), maximum: limit.maximum };
        // Refused, the run goes on with fewer sessions.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(wanted)
}
