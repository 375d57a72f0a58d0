//! Clients that go on until they are told to stop, and say what became of what they asked: for the soak and the faults.
//!
//! * [`mqtt`], [`coap`] and [`dns`] are clients that check what they get; [`broken`] ones send what nobody should.
//! * [`ledger`] has publishers and a broker that know exactly what was lost.
//! * [`trio`] is what they talk to: one Envoy with all three filters, and servers.
//!
//! What a client sends has its own name in it, and what it gets has to have it, too: [`Counts::foreign`] counts what belonged to
//! somebody else.

pub mod broken;
pub mod coap;
pub mod dns;
pub mod ledger;
pub mod mqtt;
pub mod trio;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};

/// How long a client that failed waits before it begins again.
const AGAIN: Duration = Duration::from_millis(200);

/// How many failures are kept in their own words.
const MOST_NOTES: usize = 50;

/// What became of what many clients asked.
#[derive(Debug, Default)]
pub struct Tally {
    answered: AtomicU64,
    repeated: AtomicU64,
    failed: AtomicU64,
    foreign: AtomicU64,
    sessions: AtomicU64,
    latencies: Mutex<Vec<f64>>,
    notes: Mutex<Vec<String>>,
    last_failure: Mutex<Option<Instant>>,
}

/// The sums of a [`Tally`] at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Exchanges that were completed as they should be.
    pub answered: u64,
    /// Datagrams that were sent again, because there was no answer.
    pub repeated: u64,
    /// Exchanges, and sessions, that were not.
    pub failed: u64,
    /// Of those, with data that belongs to another client.
    pub foreign: u64,
    /// Sessions that were begun.
    pub sessions: u64,
}

impl Counts {
    /// What came after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            answered: self.answered - earlier.answered,
            repeated: self.repeated - earlier.repeated,
            failed: self.failed - earlier.failed,
            foreign: self.foreign - earlier.foreign,
            sessions: self.sessions - earlier.sessions,
        }
    }
}

impl Tally {
    /// An exchange that began then is complete.
    pub fn answered(&self, begin: Instant) {
        self.counted();
        lock(&self.latencies).push(begin.elapsed().as_secs_f64() * 1e6);
    }

    /// Something came as it should that nobody waited for: it has no latency.
    pub fn counted(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// A datagram was sent again.
    pub fn repeated(&self) {
        self.repeated.fetch_add(1, Ordering::Relaxed);
    }

    /// A session was begun.
    pub fn session(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// Something of this client went wrong.
    pub fn failed(&self, who: &str, error: &Error) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        if error.is::<Foreign>() {
            self.foreign.fetch_add(1, Ordering::Relaxed);
        }
        *lock(&self.last_failure) = Some(Instant::now());
        let mut notes = lock(&self.notes);
        if notes.len() < MOST_NOTES || error.is::<Foreign>() {
            notes.push(format!("{who}: {error:#}"));
        }
    }

    /// The sums so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let at = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            answered: at(&self.answered),
            repeated: at(&self.repeated),
            failed: at(&self.failed),
            foreign: at(&self.foreign),
            sessions: at(&self.sessions),
        }
    }

    /// The latencies since this was last asked, in microseconds.
    #[must_use]
    pub fn take_latencies(&self) -> Vec<f64> {
        std::mem::take(&mut lock(&self.latencies))
    }

    /// The first failures, and all of [`Counts::foreign`], in their own words; and forgets them.
    #[must_use]
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.notes))
    }

    /// When something last went wrong.
    #[must_use]
    pub fn last_failure(&self) -> Option<Instant> {
        *lock(&self.last_failure)
    }
}

/// That a client got what belongs to another one.
#[derive(Debug)]
pub struct Foreign(String);

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Foreign {}

/// An error unless what came is what was expected; one that counts as [`Counts::foreign`] if the client's name, which is what comes
/// first up to a blank, is not even in it.
pub fn expect_own(what: &str, got: &[u8], own: &[u8]) -> Result<()> {
    if got == own {
        return Ok(());
    }
    let shown = |octets: &[u8]| {
        let start = octets.get(..octets.len().min(60)).unwrap_or_default();
        format!("{:?} ({} octets)", String::from_utf8_lossy(start), octets.len())
    };
    let said = format!("{what}: got {}, not {}", shown(got), shown(own));
    let name = own.split(|octet| *octet == b' ').next().unwrap_or(own);
    if name.is_empty() || got.windows(name.len()).any(|window| window == name) {
        anyhow::bail!(said);
    }
    Err(Foreign(said).into())
}

/// Says when it is over.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Waits so long; whether it goes on.
    #[must_use]
    pub fn pause(&self, time: Duration) -> bool {
        let (over, changed) = &*self.0;
        let waited = changed.wait_timeout_while(lock(over), time, |over| !*over);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether it goes on.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        !*lock(&self.0.0)
    }

    fn set(&self) {
        let (over, changed) = &*self.0;
        *lock(over) = true;
        changed.notify_all();
    }
}

/// Clients that run, each in a thread of its own; dropping it ends them.
#[derive(Debug, Default)]
pub struct Load {
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// One more client: `work` is done until it ends because of [`Stop`], again and again if it fails, which is counted. It
    /// begins after `delay`, so that not all of them do everything at the same time.
    pub fn client(
        &mut self,
        who: &str,
        delay: Duration,
        tally: &Arc<Tally>,
        mut work: impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static,
    ) {
        let (stop, tally, who) = (self.stop.clone(), Arc::clone(tally), who.to_owned());
        self.threads.push(thread::spawn(move || {
            let mut goes_on = stop.pause(delay);
            while goes_on {
                if let Err(error) = work(&stop, &tally) {
                    tally.failed(&who, &error);
                }
                goes_on = stop.pause(AGAIN);
            }
        }));
    }

    /// So many of one kind; `work` is made for each number.
    pub fn clients<W: FnMut(&Stop, &Tally) -> Result<()> + Send + 'static>(
        &mut self,
        kind: &str,
        count: u32,
        period: Duration,
        tally: &Arc<Tally>,
        mut work: impl FnMut(u32) -> W,
    ) {
        for number in 0..count {
            let delay = period * number / count;
            self.client(&format!("{kind}-{number}"), delay, tally, work(number));
        }
    }

    /// Ends all of them, and waits for that.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.set();
        for thread in self.threads.drain(..) {
            // A client that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn what_fails_is_counted_and_begun_again_until_the_end() {
        let tally = Arc::new(Tally::default());
        let mut load = Load::default();
        let mut times = 0;
        load.client("first", Duration::ZERO, &tally, move |stop, tally| {
            times += 1;
            match times {
                1 => bail!("broken"),
                2 => expect_own("a message", b"b", b"a"),
                _ => {
                    tally.answered(Instant::now());
                    while stop.pause(Duration::from_secs(3600)) {}
                    Ok(())
                }
            }
        });
        crate::eventually("an answer", || Ok((tally.counts().answered == 1).then_some(())))
            .unwrap();
        load.stop();
        let expected = Counts { answered: 1, failed: 2, foreign: 1, ..Counts::default() };
        assert_eq!(tally.counts(), expected);
        assert_eq!(tally.take_latencies().len(), 1);
        let notes = tally.take_notes();
        assert_eq!(notes[0], "first: broken");
        assert!(notes[1].contains(r#"got "b" (1 octets), not "a""#), "{notes:?}");
    }

    #[test]
    fn half_of_what_is_ones_own_is_nobody_elses() {
        let own = b"me 1 me 1 me 1";
        assert!(!expect_own("body", b"1 me 1", own).unwrap_err().is::<Foreign>());
        assert!(expect_own("body", b"you 1", own).unwrap_err().is::<Foreign>());
    }
}
