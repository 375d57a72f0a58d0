//! Peers that do not read, and too little of what Envoy needs: connections, descriptors, memory.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use codec_dns::RecordType;
use integration::coap::draft::Draft;
use integration::coap::tcp;
use integration::dns::query::Query;
use integration::dns::tcp::framed;
use integration::envoy::{Config, Envoy};
use integration::load::ledger::Mood;
use integration::load::trio::{Trio, configs};
use integration::wire::{Client, Connect, Version, publish};

use crate::scene::{Doors, Fault, LASTS, PROTOCOLS, Row, Servers, attempt, command, run, wait};

/// How many clients of each protocol do not read.
const DEAF: usize = 10;

/// With the Envoys of others. Twice: what the allocator and the modules keep after the first time has to be enough for the second one.
pub(crate) fn buffers(trio: &mut Trio, servers: &mut Servers) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for again in ["", ", again"] {
        let name = format!("30 clients that do not read what they asked for, for 6 s{again}");
        let fault = Fault { harms: [false; 3], ..Fault::of_servers(&name) };
        let doors = Doors::of(trio)?;
        rows.push(run(&fault, trio, servers, doors, |_, _| deaf(doors))?);
    }
    for again in ["", ", again"] {
        let name = format!(
            "a broker that does not read for 6 s, and 10 more clients that publish 32 KiB each as fast as they can{again}"
        );
        let fault = Fault::of_servers(&name);
        let doors = Doors::of(trio)?;
        rows.push(run(&fault, trio, servers, doors, |_, servers| {
            servers.broker.become_(Mood::Hung);
            let floods: Vec<_> = (0..DEAF)
                .map(|number| {
                    let name = format!("flood-{number}");
                    thread::spawn(move || flood(doors.mqtt, &name))
                })
                .collect();
            let mut sent = 0;
            for thread in floods {
                sent += thread.join().ok().context("a client panicked")??;
            }
            servers.broker.become_(Mood::Well);
            let each = mib(sent / DEAF);
            Ok(format!("they sent {each:.1} MiB each until nothing more was taken"))
        })?);
    }
    Ok(rows)
}

/// Clients of each protocol over TCP that ask, and do not read.
fn deaf(doors: Doors) -> Result<String> {
    let mut streams = Vec::new();
    for number in 0..DEAF {
        let connect = Connect::new(Version::V3, &format!("deaf-{number}"));
        streams.push(Client::session(doors.mqtt, &connect)?.stream().try_clone()?);
    }
    let (mut client, _) = tcp::Client::connect(doors.coap_tcp, 1 << 20)?;
    client.request(&Draft::put("large", &[b'x'; 1000]).token(b"l"))?;
    let get = Draft::get("large").token(b"g").stream().repeat(1000);
    let query = Query::new("known1.example", RecordType::A)?.octets()?;
    let queries = framed(&vec![query; 1000])?;
    let mut notes = Vec::new();
    // CoAP's CSM has to come first.
    let kinds = [
        ("CoAP", doors.coap_tcp, get, Draft::new(7, 1).stream()),
        ("DNS", doors.dns_tcp, queries, Vec::new()),
    ];
    let asking: Vec<_> = kinds
        .into_iter()
        .map(|(protocol, address, octets, begin)| {
            let one = || {
                let (octets, begin) = (octets.clone(), begin.clone());
                thread::spawn(move || ask_without_end(address, &begin, &octets))
            };
            (protocol, (0..DEAF).map(|_| one()).collect::<Vec<_>>())
        })
        .collect();
    for (protocol, threads) in asking {
        let (mut sent, mut open) = (0, 0);
        for thread in threads {
            let asked = thread.join().ok().context("a client panicked")??;
            sent += asked.0;
            open += usize::from(asked.1);
        }
        let each = mib(sent / DEAF);
        notes.push(format!(
            "{protocol}: {each:.1} MiB of requests taken of each, {open} of {DEAF} still open"
        ));
    }
    Ok(notes.join("; "))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mib(octets: usize) -> f64 {
    octets as f64 / 1_048_576.0
}

/// Sends these octets again and again and reads nothing, for as long as faults last: how many were taken, and whether the connection is
/// still open.
fn ask_without_end(address: SocketAddr, begin: &[u8], octets: &[u8]) -> Result<(usize, bool)> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(begin)?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    let (mut sent, until) = (0, Instant::now() + LASTS);
    while Instant::now() < until {
        match stream.write(octets) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Ok((sent, false)),
        }
    }
    Ok((sent, true))
}

/// Publishes without end at QoS 0; how many octets were taken.
fn flood(address: SocketAddr, name: &str) -> Result<usize> {
    let mut payload = format!("{name}/").into_bytes();
    payload.resize(32 * 1024, b'.');
    let message = publish(Version::V3, &format!("ledger/{name}"), &payload, 0, 0);
    let connect = Connect::new(Version::V3, name).encode();
    // The broker says nothing, not even CONNACK.
    Ok(ask_without_end(address, &connect, &message)?.0)
}

/// With Envoys of their own.
pub(crate) fn limits() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let most = "max_active_downstream_connections: ";
    let few = |config: Config, count: u32| {
        config.replace(&format!("{most}100000"), &format!("{most}{count}"))
    };
    let [mqtt, coap, dns] = configs()?;
    let mut servers = Servers::start()?;
    let mut trio = Trio::start([few(mqtt, 80)?, few(coap, 20)?, dns], servers.addresses())?;
    let doors = Doors::of(&trio)?;
    let mut fault = Fault::of_servers(
        "200 connections to MQTT and to CoAP where 80 and 20 are allowed (overload manager)",
    );
    // Those that come and go may find no place.
    fault.harms = [false, true, false];
    rows.push(run(&fault, &mut trio, &mut servers, doors, |_, _| {
        let mut open = Vec::new();
        for address in [doors.mqtt, doors.coap_tcp] {
            for _ in 0..200 {
                open.push(TcpStream::connect(address)?);
            }
        }
        wait(LASTS)?;
        let closed = open.iter().filter(|stream| is_closed(stream)).count();
        Ok(format!("{closed} of 400 were closed at once"))
    })?);

    for (n, protocol) in PROTOCOLS.into_iter().enumerate() {
        let name = format!(
            "{protocol}: 10 more descriptors than are in use, and 200 connections that come"
        );
        rows.push(starve(&name, &[n], Resource::Descriptors, &mut trio, &mut servers));
    }
    let name = "8 MiB more of data (RLIMIT_DATA) than are in use, and 200 connections that come";
    rows.push(starve(name, &[0, 1, 2], Resource::Data, &mut trio, &mut servers));
    Ok(rows)
}

/// What there can be too little of.
#[derive(Debug, Clone, Copy)]
enum Resource {
    Descriptors,
    Data,
}

impl Resource {
    /// What `prlimit` calls it, what an Envoy may have of it now, and what it shall have.
    fn limits(self, pid: &str) -> Result<(&'static str, String, String)> {
        let (option, row) = match self {
            Self::Descriptors => ("nofile", "Max open files"),
            Self::Data => ("data", "Max data size"),
        };
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let line = limits.lines().find_map(|line| line.strip_prefix(row));
        let before = line.and_then(|line| line.split_whitespace().next()).context("no limit")?;
        let few = match self {
            Self::Descriptors => fs::read_dir(format!("/proc/{pid}/fd"))?.count() + 10,
            Self::Data => {
                let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
                let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
                let kib = line.and_then(|line| line.split_whitespace().next()).context("VmData")?;
                (kib.parse::<usize>()? + 8 * 1024) * 1024
            }
        };
        Ok((option, before.to_owned(), few.to_string()))
    }
}

/// Gives some Envoys hardly more than they have for as long as faults last. One that ends is started again, as whatever watches over it
/// would do.
fn starve(
    name: &str,
    which: &[usize],
    resource: Resource,
    trio: &mut Trio,
    servers: &mut Servers,
) -> Row {
    let mut fault = Fault::of_all(name);
    fault.recovery = Duration::from_secs(30);
    // Of the one that ended.
    fault.clean_log = false;
    let row = Doors::of(trio).and_then(|doors| {
        run(&fault, trio, servers, doors, |trio, _| {
            let addresses = [doors.mqtt, doors.coap_tcp, doors.dns_tcp];
            let mut befores = Vec::new();
            let mut open = Vec::new();
            for n in which {
                let envoy = trio.envoys.get(*n).context("no such Envoy")?;
                let pid = envoy.process.pid().to_string();
                let (option, before, few) = resource.limits(&pid)?;
                limit(&pid, option, &few)?;
                befores.push(before);
                let address = addresses.get(*n).context("no address")?;
                let one = || TcpStream::connect_timeout(address, Duration::from_secs(1));
                open.extend((0..200).map(|_| one()));
            }
            wait(LASTS)?;
            drop(open);
            let mut notes = Vec::new();
            for (n, before) in which.iter().zip(befores) {
                let envoy = trio.envoys.get_mut(*n).context("no such Envoy")?;
                let protocol = PROTOCOLS.get(*n).copied().unwrap_or_default();
                if envoy.process.exit_status()?.is_some() {
                    notes.push(format!(
                        "Envoy for {protocol} ended ({}) and was started again",
                        last_words(envoy)
                    ));
                    envoy.replace()?;
                } else {
                    let pid = envoy.process.pid().to_string();
                    let (option, ..) = resource.limits(&pid)?;
                    limit(&pid, option, &before)?;
                    notes.push(format!("Envoy for {protocol} went on"));
                }
            }
            Ok(notes.join(", "))
        })
    });
    attempt(name, row)
}

/// Sets the soft limit alone: the hard one cannot be raised again by everybody.
fn limit(pid: &str, option: &str, value: &str) -> Result<()> {
    command("prlimit", &["--pid", pid, &format!("--{option}={value}:")])
}

/// Why an Envoy ended, by its log.
fn last_words(envoy: &Envoy) -> String {
    let log = envoy.process.stderr();
    let signs =
        ["assert failure", "Fatal process", "panic", "Caught", "bad_alloc", "out of memory"];
    let line = log.lines().find(|line| signs.iter().any(|sign| line.contains(sign)));
    let line = line.unwrap_or("it says nothing").replace('|', "¦");
    // Without the time and the thread.
    line.rsplit_once("] ").map_or(line.clone(), |(_, words)| words.to_owned())
}

fn is_closed(mut stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    match stream.read(&mut [0; 16]) {
        Ok(0) => true,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        Ok(_) => false,
    }
}
