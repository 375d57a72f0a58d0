//! An Envoy for each protocol, servers behind them that can be made to fail, and clients that count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::bench::{check_stop, service};
use integration::coap::libcoap::{Server as CoapServer, Tls};
use integration::dns::authority::{Asked, Authority, Reply, Step};
use integration::dns::setup::addresses;
use integration::envoy::Envoy;
use integration::load::ledger::{Balance, Broker, Publishers};
use integration::load::trio::{self, Trio};
use integration::load::{Counts, Load, Tally, coap, dns, mqtt};
use integration::process::Process;
use integration::relay::{Chance, Direction, Fate, Passing, Relay};
use integration::setup::expect_healthy;
use integration::{eventually_within, raise_descriptor_limit};

/// How long a fault lasts, and how long all is well before it.
pub(crate) const LASTS: Duration = Duration::from_secs(6);
const CALM: Duration = Duration::from_secs(3);
/// Nothing fails for so long: it has recovered.
const QUIET: Duration = Duration::from_secs(4);
/// As long as recovery may take at most, unless a fault says otherwise.
pub(crate) const RECOVERY: Duration = Duration::from_secs(15);
/// By how much there may be more when all clients are gone, in MiB: of what Envoy has allocated, and of resident memory, which has besides
/// what the allocator keeps for later, and the modules' memory, which does not shrink.
const MORE_ALLOCATED: u64 = 8;
const MORE_RESIDENT: u64 = 64;

/// How many clients publish to the broker that keeps a book.
const PUBLISHERS: u32 = 30;

/// The protocols, in the order of all arrays here.
pub(crate) const PROTOCOLS: [&str; 3] = ["MQTT", "CoAP", "DNS"];

/// How what is behind Envoy over UDP behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Weather {
    Fine,
    /// Each datagram is 700 ms late.
    Slow,
    /// 10 % lost, 10 % twice, 10 % overtaken, 20 % up to 80 ms late.
    Bad,
    /// Each datagram of the server is another one.
    Lying,
    /// The server resets each message.
    Resetting,
}

const WEATHERS: [Weather; 5] =
    [Weather::Fine, Weather::Slow, Weather::Bad, Weather::Lying, Weather::Resetting];

/// A [`Weather`] that threads share.
#[derive(Debug, Clone)]
pub(crate) struct Sky(Arc<AtomicU8>);

impl Sky {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(Weather::Fine as u8)))
    }

    pub(crate) fn become_(&self, weather: Weather) {
        self.0.store(weather as u8, Ordering::Relaxed);
    }

    fn now(&self) -> Weather {
        let weather = WEATHERS.get(usize::from(self.0.load(Ordering::Relaxed)));
        weather.copied().unwrap_or(Weather::Fine)
    }
}

/// What stands behind the Envoys.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) broker: Broker,
    pub(crate) coap: CoapServer,
    pub(crate) dns: Authority,
    /// Between Envoy and the CoAP server over UDP.
    pub(crate) coap_sky: Sky,
    /// What the DNS server does, over UDP and TCP.
    pub(crate) dns_sky: Sky,
    /// It says nothing.
    pub(crate) dns_silent: Arc<AtomicBool>,
    coap_way: Relay,
    /// Those of clients to whom nothing happens.
    broker_eu: Broker,
    corp: Authority,
    service: SocketAddr,
}

impl Servers {
    pub(crate) fn start() -> Result<Self> {
        raise_descriptor_limit();
        let coap = CoapServer::start_with(Tls::None, &["-d", "1000"])?;
        let (coap_sky, dns_sky) = (Sky::new(), Sky::new());
        let dns_silent = Arc::<AtomicBool>::default();
        let (sky, silent) = (dns_sky.clone(), Arc::clone(&dns_silent));
        let dns = Authority::forgetful(move |asked| answer(asked, sky.now(), &silent))?;
        let coap_way = under(coap.address(), &coap_sky)?;
        Ok(Self {
            broker: Broker::start()?,
            coap,
            dns,
            coap_sky,
            dns_sky,
            dns_silent,
            coap_way,
            broker_eu: Broker::start()?,
            corp: Authority::forgetful(addresses)?,
            service: service::start(service::Answer::Same)?,
        })
    }

    /// Where Envoys find them.
    pub(crate) fn addresses(&self) -> trio::Servers {
        trio::Servers {
            broker: self.broker.address(),
            broker_eu: self.broker_eu.address(),
            coap_udp: self.coap_way.address(),
            coap_tcp: self.coap.address(),
            dns: self.dns.address(),
            corp: self.corp.address(),
            service: self.service,
        }
    }
}

/// A UDP relay under this sky.
pub(crate) fn under(server: SocketAddr, sky: &Sky) -> Result<Relay> {
    let sky = sky.clone();
    let mut liar = Liar::default();
    Relay::altering(server, move |passing| liar.fate(passing, sky.now()))
}

fn answer(asked: &Asked, weather: Weather, silent: &AtomicBool) -> Result<Vec<Step>> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    if silent.load(Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let good = addresses(asked)?;
    let wrong = [192, 0, 2, 66];
    Ok(match weather {
        Weather::Fine | Weather::Bad => good,
        Weather::Slow => [vec![Step::Wait(Duration::from_millis(700))], good].concat(),
        Weather::Resetting => vec![Step::ShutDown],
        Weather::Lying => vec![match NUMBER.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => Reply::to(asked)?.a(wrong).wrong_id().send()?,
            1 => Reply::to(asked)?.a(wrong).question("somebody.example")?.send()?,
            2 => Step::SendRaw(vec![0xFF; 40]),
            3 => Step::SendRaw(asked.octets.clone()),
            _ => Step::SendRaw(vec![0, 3, 1]),
        }],
    })
}

/// Makes of a CoAP server's datagrams what it should not have sent.
#[derive(Debug, Default)]
struct Liar {
    number: usize,
    /// What it said to somebody.
    said: Vec<u8>,
}

impl Liar {
    fn fate(&mut self, passing: &mut Passing, weather: Weather) -> Fate {
        let is_answer = passing.direction == Direction::Down;
        match weather {
            Weather::Fine => Fate::Arrives,
            Weather::Slow => Fate::Late(Duration::from_millis(700)),
            Weather::Bad => {
                let delay = Duration::from_millis(80);
                let chance = Chance {
                    lost: 10,
                    twice: 10,
                    overtaken: 10,
                    late: 20,
                    delay,
                    ..Chance::new(5)
                };
                chance.fate(passing)
            }
            Weather::Resetting if is_answer => {
                let id = passing.content.get(2..4).unwrap_or(&[0, 0]).to_vec();
                passing.content = [&[0x70, 0][..], &id].concat();
                Fate::Arrives
            }
            Weather::Lying if is_answer => {
                self.number += 1;
                let honest = passing.content.clone();
                let content = &mut passing.content;
                match self.number % 6 {
                    // Of another request: message ID, token.
                    0 => flip(content, 3),
                    1 => flip(content, 5),
                    2 => content.truncate(6),
                    3 => *content = vec![0xFF; 50],
                    // A code that does not exist.
                    4 => {
                        if let Some(code) = content.get_mut(1) {
                            *code = 0xC5;
                        }
                    }
                    // What somebody else was told.
                    _ => content.clone_from(&self.said),
                }
                self.said = honest;
                Fate::Arrives
            }
            Weather::Resetting | Weather::Lying => Fate::Arrives,
        }
    }
}

fn flip(content: &mut [u8], at: usize) {
    if let Some(octet) = content.get_mut(at) {
        *octet ^= 0x55;
    }
}

/// Where clients find each protocol; not Envoy itself, if something is in between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doors {
    pub(crate) mqtt: SocketAddr,
    pub(crate) coap_udp: SocketAddr,
    pub(crate) coap_tcp: SocketAddr,
    pub(crate) dns_udp: SocketAddr,
    pub(crate) dns_tcp: SocketAddr,
}

impl Doors {
    pub(crate) fn of(trio: &Trio) -> Result<Self> {
        let [mqtt, coap, dns] = trio.addresses()?;
        Ok(Self { mqtt, coap_udp: coap, coap_tcp: coap, dns_udp: dns, dns_tcp: dns })
    }
}

/// Clients of all three protocols.
pub(crate) struct Clients {
    publishers: Arc<Publishers>,
    pub(crate) tallies: [Arc<Tally>; 3],
    /// Clients of the same Envoys whose servers are others.
    bystanders: Arc<Tally>,
    load: Load,
}

impl Clients {
    pub(crate) fn start(doors: Doors) -> Self {
        let ms = Duration::from_millis;
        let publishers = Publishers::start(doors.mqtt, PUBLISHERS, ms(100));
        let tallies: [Arc<Tally>; 3] = Default::default();
        let mut load = Load::default();
        let [tally, coap_tally, dns_tally] = &tallies;
        load.clients("idle MQTT", 20, ms(1000), tally, |n| mqtt::idle(doors.mqtt, n));

        let (udp, tcp, tally) = (doors.coap_udp, doors.coap_tcp, coap_tally);
        load.clients("lasting CoAP", 8, ms(250), tally, |n| coap::lasting(udp, n, ms(250)));
        load.clients("fleeting CoAP", 2, ms(250), tally, |n| {
            coap::fleeting(udp, 1000 * n + 100, ms(250))
        });
        load.clients("CoAP over TCP", 3, ms(250), tally, |n| coap::over_tcp(tcp, n, ms(250), 20));

        let (udp, tcp, tally) = (doors.dns_udp, doors.dns_tcp, dns_tally);
        load.clients("lasting DNS", 8, ms(100), tally, |n| dns::lasting(udp, n, ms(100)));
        load.clients("fleeting DNS", 2, ms(100), tally, |n| dns::fleeting(udp, n, ms(100)));
        load.clients("DNS over TCP", 3, ms(250), tally, |_| dns::over_tcp(tcp, ms(250), 20));

        let bystanders = Arc::<Tally>::default();
        let tally = &bystanders;
        load.clients("European", 4, ms(250), tally, |n| mqtt::european(doors.mqtt, n, ms(250)));
        load.clients("telemetry", 4, ms(250), tally, |n| {
            coap::telemetry(doors.coap_udp, n + 150, ms(250))
        });
        load.clients("corporate", 4, ms(250), tally, |n| {
            dns::corporate(doors.dns_udp, n + 150, ms(250))
        });
        Self { publishers, tallies, bystanders, load }
    }

    /// What failed, in its own words.
    fn notes(&self) -> Vec<String> {
        let tallies = self.tallies.iter().chain([&self.bystanders]);
        tallies.flat_map(|tally| tally.take_notes()).collect()
    }

    fn counts(&self) -> [Counts; 3] {
        self.tallies.each_ref().map(|tally| tally.counts())
    }

    /// How many exchanges went well so far, by protocol.
    fn progress(&self) -> [u64; 3] {
        let [_, coap, dns] = self.counts();
        [self.publishers.acknowledged() as u64, coap.answered, dns.answered]
    }
}

/// What is done to whom, and what is promised nevertheless.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) name: String,
    /// Whose clients may fail while it lasts.
    pub(crate) harms: [bool; 3],
    /// Whether those of other servers may fail, too.
    pub(crate) harms_bystanders: bool,
    /// How long it may take until nobody fails any more.
    pub(crate) recovery: Duration,
    /// Of two processes, or with a trap, Envoy's log is not clean.
    pub(crate) clean_log: bool,
}

impl Fault {
    /// One of servers, all three of them.
    pub(crate) fn of_servers(name: &str) -> Self {
        let name = name.to_owned();
        Self {
            name,
            harms: [true; 3],
            harms_bystanders: false,
            recovery: RECOVERY,
            clean_log: true,
        }
    }

    /// One of Envoy, or of the way to it.
    pub(crate) fn of_all(name: &str) -> Self {
        Self { harms_bystanders: true, ..Self::of_servers(name) }
    }
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) fault: String,
    pub(crate) mqtt: String,
    pub(crate) coap: String,
    pub(crate) dns: String,
    pub(crate) bystanders: String,
    pub(crate) recovery: String,
    pub(crate) memory: String,
    /// What was promised and is not so.
    pub(crate) broken: Vec<String>,
    /// What else there is to say.
    pub(crate) note: String,
    /// The first failures in their own words.
    pub(crate) failures: Vec<String>,
}

/// Looks at the resident memory of processes again and again, and keeps the most.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Watch {
    fn start(pid: u32) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut most = 0;
            while !stopped.load(Ordering::Relaxed) {
                most = most.max(resident_mib(pid).unwrap_or_default());
                thread::sleep(Duration::from_millis(50));
            }
            most
        });
        Self { stop, thread }
    }

    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the watch panicked")
    }
}

fn resident_mib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse::<u64>()? / 1024)
}

/// Waits, but not longer than until Ctrl-C.
pub(crate) fn wait(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        check_stop()?;
        thread::sleep(left.min(Duration::from_millis(100)));
    }
    Ok(())
}

/// Starts clients, lets all be well for a while, does what `harm` does, and looks until all is well again. `harm` also heals, and may
/// replace an Envoy; it returns what else there is to say.
pub(crate) fn run(
    fault: &Fault,
    trio: &mut Trio,
    servers: &mut Servers,
    doors: Doors,
    harm: impl FnOnce(&mut Trio, &mut Servers) -> Result<String>,
) -> Result<Row> {
    eprintln!("{} …", fault.name);
    let clients = Clients::start(doors);
    let mut broken = Vec::new();
    let served = eventually_within(Duration::from_secs(30), "all clients to be served", || {
        check_stop()?;
        Ok(clients.progress().iter().all(|progress| *progress > 20).then_some(()))
    });
    served.with_context(|| clients.notes().into_iter().take(3).collect::<Vec<_>>().join("; "))?;
    wait(CALM)?;
    let (calm, calm_bystanders) = (clients.counts(), clients.bystanders.counts());
    for (protocol, counts) in PROTOCOLS.iter().zip(calm) {
        if counts.failed > 0 {
            broken.push(format!("{protocol} failed before the fault"));
        }
    }
    let (before, allocated) = (resident(trio)?, allocations(trio)?);
    let watches = trio.envoys.each_ref().map(|envoy| Watch::start(envoy.process.pid()));
    let note = harm(trio, servers)?;
    let healed = Instant::now();
    let recovery = recover(&clients, healed, fault.recovery)?;
    let mut peak = Vec::new();
    for watch in watches {
        peak.push(watch.stop()?);
    }
    let (end, bystanders) = (clients.counts(), clients.bystanders.counts());

    // The publishers while all others are there: they finish what is not acknowledged.
    let balance = clients.publishers.balance(&servers.broker);
    let failures = clients.notes();
    clients.load.stop();
    let bystanders = bystanders.since(calm_bystanders);
    check(fault, &balance, &calm, &end, recovery, &mut broken);
    if bystanders.foreign > 0 || !fault.harms_bystanders && bystanders.failed > 0 {
        broken.push(format!("others failed {} times", bystanders.failed));
    }
    for envoy in &mut trio.envoys {
        if let Err(error) = nobody_left(envoy) {
            broken.push(format!("{error:#}"));
        }
        if fault.clean_log
            && let Err(error) = expect_healthy(envoy)
        {
            broken.push(format!("{error:#}"));
        }
    }
    let after = resident(trio)?;
    let mut memory = Vec::new();
    for ((protocol, before), (peak, after)) in
        PROTOCOLS.iter().zip(before).zip(peak.into_iter().zip(after))
    {
        memory.push(format!("{before}/{peak}/{after}"));
        if after > before + MORE_RESIDENT {
            broken.push(format!("{protocol}: {before} MiB resident before, {after} MiB after"));
        }
    }
    for ((protocol, before), after) in PROTOCOLS.iter().zip(allocated).zip(allocations(trio)?) {
        if after > before + MORE_ALLOCATED {
            broken.push(format!("{protocol}: {before} MiB allocated before, {after} MiB after"));
        }
    }
    let [mqtt, coap, dns] = end;
    let [calm_mqtt, calm_coap, calm_dns] = calm;
    let show = |counts: Counts| {
        let Counts { answered, repeated, failed, .. } = counts;
        format!("{answered} / {repeated} / {failed}")
    };
    Ok(Row {
        fault: fault.name.clone(),
        mqtt: format!(
            "{} / {} / {} / {} / {}; {}, {}",
            balance.published,
            balance.acknowledged,
            balance.lost.len(),
            balance.twice.len(),
            balance.repeated,
            balance.connections,
            mqtt.since(calm_mqtt).failed,
        ),
        coap: show(coap.since(calm_coap)),
        dns: show(dns.since(calm_dns)),
        bystanders: show(bystanders),
        recovery: recovery
            .map_or_else(|| "never".to_owned(), |time| format!("{:.1} s", time.as_secs_f64())),
        memory: memory.join(", "),
        broken,
        note,
        failures,
    })
}

/// By the allocators of the Envoys, in MiB.
fn allocations(trio: &Trio) -> Result<[u64; 3]> {
    let mut all = [0; 3];
    for (envoy, place) in trio.envoys.iter().zip(&mut all) {
        *place = envoy.allocated_bytes()? >> 20;
    }
    Ok(all)
}

fn resident(trio: &Trio) -> Result<[u64; 3]> {
    let mut all = [0; 3];
    for (envoy, place) in trio.envoys.iter().zip(&mut all) {
        *place = envoy.process.resident_bytes()? >> 20;
    }
    Ok(all)
}

/// How long it took until nobody failed any more, each publisher had an acknowledgement, and CoAP and DNS got on.
fn recover(clients: &Clients, healed: Instant, limit: Duration) -> Result<Option<Duration>> {
    let [_, coap, dns] = clients.progress();
    let mut served = None;
    loop {
        wait(Duration::from_millis(50))?;
        let now = Instant::now();
        let [_, coap_now, dns_now] = clients.progress();
        let publishers = clients.publishers.served_since(healed) == PUBLISHERS as usize;
        if served.is_none() && publishers && coap_now > coap && dns_now > dns {
            served = Some(now);
        }
        let tallies = clients.tallies.iter().chain([&clients.bystanders]);
        let failures = tallies.filter_map(|tally| tally.last_failure());
        let failure = failures.filter(|at| *at > healed).max().unwrap_or(healed);
        if let Some(served) = served
            && now.duration_since(failure) > QUIET
        {
            return Ok(Some(served.max(failure).duration_since(healed)));
        }
        if now.duration_since(healed) > limit + QUIET {
            return Ok(None);
        }
    }
}

fn check(
    fault: &Fault,
    balance: &Balance,
    calm: &[Counts; 3],
    end: &[Counts; 3],
    recovery: Option<Duration>,
    broken: &mut Vec<String>,
) {
    for (what, list) in [
        ("acknowledged and lost", &balance.lost),
        ("QoS 2 and twice", &balance.twice),
        ("in another's session", &balance.foreign),
    ] {
        if let Some(first) = list.first() {
            broken.push(format!("{} messages {what}: {first} …", list.len()));
        }
    }
    if balance.unfinished > 0 {
        broken.push(format!("{} messages are not acknowledged in the end", balance.unfinished));
    }
    let unharmed = !fault.harms.first().copied().unwrap_or_default();
    if unharmed && balance.connections > u64::from(PUBLISHERS) {
        broken.push(format!("publishers had {} connections", balance.connections));
    }
    for (((protocol, harmed), calm), end) in PROTOCOLS.iter().zip(fault.harms).zip(calm).zip(end) {
        let during = end.since(*calm);
        if during.foreign > 0 {
            broken.push(format!("{protocol} got {} answers of others", during.foreign));
        }
        if !harmed && during.failed > 0 {
            broken.push(format!("{protocol} failed {} times and should not know", during.failed));
        }
    }
    match recovery {
        Some(time) if time <= fault.recovery => {}
        _ => broken.push(format!("it has not recovered within {:?}", fault.recovery)),
    }
}

/// Waits until Envoy has no session and no connection of a client any more.
pub(crate) fn nobody_left(envoy: &mut Envoy) -> Result<()> {
    let mut left = String::new();
    eventually_within(Duration::from_secs(30), "the end of all sessions", || {
        envoy.process.expect_running()?;
        let stats = envoy.get("/stats")?;
        let open = stats.lines().filter(|line| {
            let name = line.split(": ").next().unwrap_or_default();
            let is_listener = name.starts_with("listener.127")
                && name.ends_with("downstream_cx_active")
                && !name.contains("worker");
            is_listener || name.ends_with("downstream_sess_active")
        });
        left = open.filter(|line| !line.ends_with(": 0")).collect::<Vec<_>>().join(", ");
        Ok(left.is_empty().then_some(()))
    })
    .with_context(|| left)
}

/// A line for a fault that ended it all.
pub(crate) fn attempt(name: &str, row: Result<Row>) -> Row {
    row.unwrap_or_else(|error| Row {
        fault: name.to_owned(),
        mqtt: String::new(),
        coap: String::new(),
        dns: String::new(),
        bystanders: String::new(),
        recovery: "never".to_owned(),
        memory: String::new(),
        broken: vec![first_lines(&error)],
        note: String::new(),
        failures: Vec::new(),
    })
}

fn first_lines(error: &anyhow::Error) -> String {
    let text = format!("{error:#}").replace('|', "¦");
    let lines: Vec<&str> = text.lines().collect();
    let begin = lines.first().copied().unwrap_or_default();
    // What Envoy says of its own end.
    let end =
        lines.iter().find(|line| line.contains("assert failure") || line.contains("critical"));
    format!("{begin} {}", end.unwrap_or(&""))
}

/// Runs a program to its end.
pub(crate) fn command(name: &str, args: &[&str]) -> Result<()> {
    let path = integration::process::program(name)?;
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    let mut process = Process::start(name, &path, |_| Ok(args))?;
    let status = process.wait(Duration::from_secs(20))?;
    ensure!(status.success(), "{name}: {status} {}", process.stderr());
    Ok(())
}
