//! DNS clients that last and that come and go, over UDP and over TCP.
//!
//! The server gives each name the [`address`] that is its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use codec_dns::{Rcode, RecordType};

use super::{Stop, Tally, expect_own};
use crate::dns::query::{Answer, Query};
use crate::dns::setup::address;
use crate::dns::{tcp, udp};
use crate::ports::source;

/// As a stub resolver does it.
const RETRY_AFTER: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 3;

/// How many names are asked for again and again.
const KNOWN: u32 = 100;

/// The `n`th name: every second one is asked for once only, the others come from the cache.
fn name(who: &str, n: u32) -> String {
    if n.is_multiple_of(2) {
        format!("known{}.example", n / 2 % KNOWN)
    } else {
        format!("{who}-{n}.example")
    }
}

/// Whom a cache does not know from another load of this process.
fn unique(kind: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{kind}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn check(name: &str, answer: &Answer) -> Result<()> {
    let own: Ipv4Addr = address(&format!("{name}."));
    let got = answer.a()?;
    let got = got.first().context("no address")?;
    expect_own(name, &got.octets(), &own.octets())
}

/// Asks over UDP until there is an answer.
fn ask(client: &udp::Client, query: &Query, tally: &Tally) -> Result<Answer> {
    let octets = query.octets()?;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tally.repeated();
        }
        // Refused, if nothing listens; it may when it is asked again.
        let _ = client.send(&octets);
        let until = Instant::now() + RETRY_AFTER;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let Ok(Some(answer)) = client.receive_within(left) else { break };
            // That to an earlier question may come late.
            if query.is_answered_by(&answer)? {
                return Ok(answer);
            }
        }
    }
    bail!("no answer to {query:?}")
}

/// One question of each kind in turn: mostly for an address, now and then for what a rule forbids or answers.
fn question(client: &udp::Client, who: &str, n: u32, tally: &Tally) -> Result<()> {
    let begin = Instant::now();
    if n.is_multiple_of(17) {
        let answer = ask(client, &Query::new("x.ads.example", RecordType::A)?, tally)?;
        ensure!(answer.rcode()? == Rcode::REFUSED, "a blocked name: {:?}", answer.message());
    } else if n.is_multiple_of(23) {
        let answer = ask(client, &Query::new("any.example", RecordType(255))?, tally)?;
        ensure!(answer.rcode()? == Rcode::NOERROR, "ANY: {:?}", answer.message());
    } else {
        let name = name(who, n);
        let query = Query::new(&name, RecordType::A)?;
        let query = if n.is_multiple_of(3) { query } else { query.edns(1232) };
        check(&name, &ask(client, &query, tally)?)?;
    }
    tally.answered(begin);
    Ok(())
}

/// From one source, for ever: a query in each period.
pub fn lasting(
    server: SocketAddr,
    number: u32,
    period: Duration,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    let (mut n, own) = (number, unique("lasting"));
    move |stop, tally| {
        let client = udp::Client::connect_from(source(number), server)?;
        tally.session();
        while stop.pause(period) {
            n = n.wrapping_add(1);
            question(&client, &own, n, tally)?;
        }
        Ok(())
    }
}

/// From one source, for ever: nothing but names in `corp.example`, which has a server of its own.
pub fn corporate(
    server: SocketAddr,
    number: u32,
    period: Duration,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    let (mut n, own) = (0_u32, unique("corporate"));
    move |stop, tally| {
        let client = udp::Client::connect_from(source(number), server)?;
        tally.session();
        while stop.pause(period) {
            n = n.wrapping_add(1);
            let name = format!("{own}-{n}.corp.example");
            let begin = Instant::now();
            check(&name, &ask(&client, &Query::new(&name, RecordType::A)?, tally)?)?;
            tally.answered(begin);
        }
        Ok(())
    }
}

/// A new source in each period.
pub fn fleeting(
    server: SocketAddr,
    number: u32,
    period: Duration,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    let (mut n, own) = (number, unique("fleeting"));
    move |stop, tally| {
        while stop.pause(period) {
            n = n.wrapping_add(1);
            let client = udp::Client::connect_from(source(n % 200), server)?;
            tally.session();
            question(&client, &own, n, tally)?;
        }
        Ok(())
    }
}

/// Over TCP: a connection for so many rounds of three queries at once, one in each period, and then another one.
pub fn over_tcp(
    server: SocketAddr,
    period: Duration,
    rounds: u32,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    let (mut n, own) = (0_u32, unique("tcp"));
    move |stop, tally| {
        let mut client = tcp::Client::connect(server)?;
        tally.session();
        for _ in 0..rounds {
            if !stop.pause(period) {
                break;
            }
            let names = [(); 3].map(|()| {
                n = n.wrapping_add(1);
                name(&own, n)
            });
            let queries = names.each_ref().map(|name| Query::new(name, RecordType::A));
            let queries = queries.into_iter().collect::<Result<Vec<_>>>()?;
            let begin = Instant::now();
            for (name, answer) in names.iter().zip(client.ask_all(&queries)?) {
                check(name, &answer)?;
                tally.answered(begin);
            }
        }
        Ok(())
    }
}

/// Asks for so many names that nobody asks for again, as fast as 50 at a time are answered: a cache is full afterwards.
pub fn fill(server: SocketAddr, count: u32) -> Result<()> {
    let tally = Tally::default();
    for first in (0..count).step_by(50) {
        let client = udp::Client::connect_from(source(first / 50 % 200), server)?;
        let query = |n| Query::new(&format!("fill{n}.example"), RecordType::A);
        let queries = (first..first + 50).map(query).collect::<Result<Vec<_>>>()?;
        // Until a session's tunnel is there, only so many datagrams wait for it.
        ask(&client, queries.first().context("no query")?, &tally)?;
        client.ask_all(&queries)?;
    }
    Ok(())
}
