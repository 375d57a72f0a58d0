//! The load that dnsperf cannot make: a new port for each query. One thread, which waits for all sockets together.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use codec_dns::{RecordType, patch};
use integration::bench::gate::Side as _;
use integration::bench::load::{GIVE_UP, Measured, SOURCE, Tally, kib_per_session};
use integration::dns::dnsperf::{self, name};
use integration::dns::query::Query;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::gate::Gate;

/// How many different names are asked for.
pub(crate) const NAMES: usize = 1000;

/// What dnsperf measured, and what it cost.
pub(crate) struct LongLived {
    pub(crate) measured: dnsperf::Measured,
    pub(crate) cpu_micros: Option<f64>,
}

/// Clients with a port each, for this time.
pub(crate) fn long_lived(gate: &Gate, load: &dnsperf::Load) -> Result<LongLived> {
    let before = gate.cpu_seconds()?;
    let measured = dnsperf::run(gate.address, load)?;
    let used = before.zip(gate.cpu_seconds()?).map(|(before, after)| after - before);
    ensure!(measured.completed > 0.0, "{} answered nothing", gate.side.name());
    Ok(LongLived { measured, cpu_micros: used.map(|used| used * 1e6 / measured.completed) })
}

/// So many queries under way for this time, each from a new port, or all from one port each.
pub(crate) fn run(gate: &Gate, clients: usize, one_shot: bool, time: Duration) -> Result<Measured> {
    let mut queries = Queries::new()?;
    let mut tally = Tally::after_warm_up(time);
    let before = gate.cpu_seconds()?;
    let mut clients: Vec<Client> =
        (0..clients).map(|_| Client::new(gate.address, &mut queries)).collect::<Result<_>>()?;
    while Instant::now() < tally.until {
        for index in ready(&clients, Duration::from_millis(20))? {
            let client = clients.get_mut(index).context("no such client")?;
            if client.receive(&mut tally)? {
                client.go_on(one_shot, &mut queries)?;
            }
        }
        for client in &mut clients {
            if client.sent.elapsed() > GIVE_UP {
                tally.gave_up();
                client.go_on(true, &mut queries)?;
            }
        }
    }
    let used = before.zip(gate.cpu_seconds()?).map(|(before, after)| after - before);
    // What is still under way must not burden the next side. It is answered soon, or never.
    std::thread::sleep(Duration::from_millis(20));
    tally.measured(gate.side.name(), used)
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
    kib_per_session(process, before, sessions).map(Some)
}

/// The clients whose sockets have something.
fn ready(clients: &[Client], most: Duration) -> Result<Vec<usize>> {
    let mut sockets: Vec<PollFd<'_>> =
        clients.iter().map(|client| PollFd::new(&client.socket, PollFlags::IN)).collect();
    poll(&mut sockets, Some(&Timespec::try_from(most)?))?;
    let ready = sockets.iter().enumerate().filter(|(_, socket)| !socket.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
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
        tally.answered(self.sent);
        Ok(true)
    }
}

fn open() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((SOURCE, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
