//! The load that dnsperf cannot make: a new port for each query. One thread, which waits for all sockets together.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use codec_dns::{RecordType, patch};
use integration::bench::Latency;
use integration::dns::dnsperf::{self, name};
use integration::dns::query::Query;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::gate::Gate;

/// An address of the load's own: its ports are not those from which proxies take theirs.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// After which a query counts as unanswered, and another one takes its place.
const GIVE_UP: Duration = Duration::from_secs(1);

/// What runs, but is not measured.
const WARM_UP: Duration = Duration::from_millis(100);

/// How many different names are asked for.
pub(crate) const NAMES: usize = 1000;

pub(crate) struct Measured {
    pub(crate) rate: f64,
    pub(crate) latency: Latency,
    /// CPU time of the proxy per query, if there is one.
    pub(crate) cpu_micros: Option<f64>,
    /// In percent.
    pub(crate) unanswered: f64,
}

/// What dnsperf measured, and what it cost.
pub(crate) struct LongLived {
    pub(crate) measured: dnsperf::Measured,
    pub(crate) cpu_micros: Option<f64>,
}

/// Clients with a port each, for this time.
pub(crate) fn long_lived(gate: &Gate, load: &dnsperf::Load) -> Result<LongLived> {
    let before = cpu_seconds(gate)?;
    let measured = dnsperf::run(gate.address, load)?;
    let used = before.zip(cpu_seconds(gate)?).map(|(before, after)| after - before);
    ensure!(measured.completed > 0.0, "{} answered nothing", gate.side.name());
    Ok(LongLived { measured, cpu_micros: used.map(|used| used * 1e6 / measured.completed) })
}

/// So many queries under way for this time, each from a new port, or all from one port each.
pub(crate) fn run(gate: &Gate, clients: usize, one_shot: bool, time: Duration) -> Result<Measured> {
    let mut queries = Queries::new()?;
    let start = Instant::now();
    let (from, until) = (start + WARM_UP, start + WARM_UP + time);
    let mut tally = Tally { from, until, completed: 0, unanswered: 0, micros: Vec::new() };
    let before = cpu_seconds(gate)?;
    let mut clients: Vec<Client> =
        (0..clients).map(|_| Client::new(gate.address, &mut queries)).collect::<Result<_>>()?;
    while Instant::now() < until {
        for index in ready(&clients, Duration::from_millis(20))? {
            let client = clients.get_mut(index).context("no such client")?;
            if client.receive(&mut tally)? {
                client.go_on(one_shot, &mut queries)?;
            }
        }
        for client in &mut clients {
            if client.sent.elapsed() > GIVE_UP {
                tally.unanswered += 1;
                client.go_on(true, &mut queries)?;
            }
        }
    }
    let used = before.zip(cpu_seconds(gate)?).map(|(before, after)| after - before);
    let answered = float(tally.micros.len());
    ensure!(answered > 0.0, "{} answered nothing", gate.side.name());
    // What is still under way must not burden the next side. It is answered soon, or never.
    std::thread::sleep(Duration::from_millis(20));
    Ok(Measured {
        rate: answered / time.as_secs_f64(),
        cpu_micros: used.map(|used| used * 1e6 / float(tally.completed)),
        unanswered: 100.0 * float(tally.unanswered) / (answered + float(tally.unanswered)),
        latency: Latency::of(tally.micros)?,
    })
}

/// What a session without a query takes, in KiB of the proxy's resident memory: the difference that so many make which had
/// a query each. None, if there is no proxy.
pub(crate) fn session_memory(gate: &Gate, sessions: usize) -> Result<Option<f64>> {
    let Some(process) = gate.process() else { return Ok(None) };
    let mut queries = Queries::new()?;
    let mut open = |count: usize, clients: &mut Vec<Client>| -> Result<()> {
        for _ in 0..count {
            let mut client = Client::new(gate.address, &mut queries)?;
            let poll_once = |client: &Client| ready(std::slice::from_ref(client), GIVE_UP);
            ensure!(!poll_once(&client)?.is_empty(), "{} lost a query", gate.side.name());
            client.take()?;
            clients.push(client);
        }
        Ok(())
    };
    let mut clients = Vec::new();
    open(200, &mut clients)?;
    let before = process.resident_bytes()?;
    open(sessions, &mut clients)?;
    let grown = process.resident_bytes()?.saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let grown = grown as f64;
    Ok(Some(grown / 1024.0 / float(sessions)))
}

fn cpu_seconds(gate: &Gate) -> Result<Option<f64>> {
    gate.process().map(|process| process.cpu_seconds()).transpose()
}

/// The clients whose sockets have something.
fn ready(clients: &[Client], most: Duration) -> Result<Vec<usize>> {
    let mut sockets: Vec<PollFd<'_>> =
        clients.iter().map(|client| PollFd::new(&client.socket, PollFlags::IN)).collect();
    poll(&mut sockets, Some(&Timespec::try_from(most)?))?;
    let ready = sockets.iter().enumerate().filter(|(_, socket)| !socket.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
}

struct Tally {
    from: Instant,
    until: Instant,
    /// All that were answered before `until`.
    completed: usize,
    /// Of those answered between `from` and `until`.
    micros: Vec<f64>,
    unanswered: usize,
}

/// The queries, one after the other, again and again.
struct Queries {
    all: Vec<Vec<u8>>,
    next: usize,
}

impl Queries {
    fn new() -> Result<Self> {
        let query = |number| Query::new(&name(number), RecordType::A)?.octets();
        Ok(Self { all: (0..NAMES).map(query).collect::<Result<_>>()?, next: 0 })
    }

    /// The next one, with an ID that no other under way has.
    fn next(&mut self) -> Result<(u16, &[u8])> {
        self.next += 1;
        let index = self.next % self.all.len();
        let query = self.all.get_mut(index).context("no queries")?;
        let [.., a, b] = self.next.to_be_bytes();
        let id = u16::from_be_bytes([a, b]);
        patch::set_id(query, id)?;
        Ok((id, query))
    }
}

/// One query under way.
struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    id: u16,
    sent: Instant,
}

impl Client {
    fn new(server: SocketAddr, queries: &mut Queries) -> Result<Self> {
        let mut client = Self { socket: open()?, server, id: 0, sent: Instant::now() };
        client.go_on(false, queries)?;
        Ok(client)
    }

    fn go_on(&mut self, new_port: bool, queries: &mut Queries) -> Result<()> {
        if new_port {
            self.socket = open()?;
        }
        let (id, query) = queries.next()?;
        (self.id, self.sent) = (id, Instant::now());
        match self.socket.send_to(query, self.server) {
            // No room for it: it counts as lost on the way.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            sent => Ok(sent.map(drop)?),
        }
    }

    /// Whether the answer came; an error, if something else did.
    fn take(&mut self) -> Result<bool> {
        let mut buffer = [0; 2048];
        let length = match self.socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let header = codec_dns::header(buffer.get(..length).unwrap_or_default())?;
        let is_good = header.flags.low_rcode() == 0 && header.answers == 1;
        ensure!(header.flags.is_response() && is_good, "unexpected answer: {header:?}");
        // Another ID is that of one that was given up.
        Ok(header.id == self.id)
    }

    fn receive(&mut self, tally: &mut Tally) -> Result<bool> {
        if !self.take()? {
            return Ok(false);
        }
        let now = Instant::now();
        if now < tally.until {
            tally.completed += 1;
            if now >= tally.from {
                tally.micros.push((now - self.sent).as_secs_f64() * 1e6);
            }
        }
        Ok(true)
    }
}

fn open() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((SOURCE, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn float(number: usize) -> f64 {
    number as f64
}
