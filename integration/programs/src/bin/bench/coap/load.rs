//! The load: clients that each keep some requests under way. All of them are one thread, which waits for their sockets
//! together, so that the load itself takes little of the machine.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use codec_coap::{Code, Message, MessageType, decode};
use integration::bench::gate::Side as _;
use integration::bench::load::{GIVE_UP, Measured, SOURCE, Tally, kib_per_session};
use integration::coap::draft::{ACK, Draft, NON};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::gate::{Gate, addressed};

const PAYLOAD: [u8; 32] = [0x55; 32];

/// What the clients do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    /// Requests that each has under way; at most 256.
    pub(crate) window: usize,
    /// Whether each request comes from a new socket, so from a new port.
    pub(crate) one_shot: bool,
    /// Whether they are confirmable.
    pub(crate) confirmable: bool,
}

/// Makes requests for this time.
pub(crate) fn run(gate: &Gate, load: &Load, time: Duration) -> Result<Measured> {
    let mut tally = Tally::after_warm_up(time);
    let cpu_before = gate.cpu_seconds()?;
    let mut clients: Vec<Client> =
        (0..load.clients).map(|_| Client::new(gate, load)).collect::<Result<_>>()?;
    while Instant::now() < tally.until {
        wait(&mut clients, &mut tally, Duration::from_millis(50))?;
    }
    let cpu = cpu_before.zip(gate.cpu_seconds()?).map(|(before, after)| after - before);
    // What is still under way must not burden the next side. It is answered soon, or never.
    tally.closed = true;
    let drained = Instant::now() + GIVE_UP;
    while clients.iter().any(Client::is_waiting) && Instant::now() < drained {
        wait(&mut clients, &mut tally, Duration::from_millis(50))?;
    }
    tally.measured(gate.side.name(), cpu)
}

/// What a session without a message takes, in KiB of the proxy's resident memory: the difference that so many make which
/// had a request each. None, if there is no proxy.
pub(crate) fn session_memory(gate: &Gate, sessions: usize) -> Result<Option<f64>> {
    let Some(process) = gate.process() else { return Ok(None) };
    let load = Load { clients: 1, window: 1, one_shot: false, confirmable: true };
    let mut tally = Tally::closed(Duration::from_secs(60));
    let mut open = |count: usize, clients: &mut Vec<Client>| -> Result<()> {
        // A few at a time, so that none is lost.
        for _ in 0..count.div_ceil(50) {
            let mut some: Vec<Client> =
                (0..50.min(count)).map(|_| Client::new(gate, &load)).collect::<Result<_>>()?;
            while some.iter().any(Client::is_waiting) {
                wait(&mut some, &mut tally, Duration::from_millis(50))?;
            }
            clients.append(&mut some);
        }
        Ok(())
    };
    let mut clients = Vec::new();
    open(200, &mut clients)?;
    let before = process.resident_bytes()?;
    open(sessions, &mut clients)?;
    ensure!(tally.unanswered() == 0, "{} lost requests", gate.side.name());
    kib_per_session(process, before, sessions).map(Some)
}

/// Waits until a socket has something, and lets its client go on.
fn wait(clients: &mut [Client], tally: &mut Tally, most: Duration) -> Result<()> {
    let mut sockets: Vec<PollFd<'_>> =
        clients.iter().map(|client| PollFd::new(&client.socket, PollFlags::IN)).collect();
    poll(&mut sockets, Some(&Timespec::try_from(most)?))?;
    let ready: Vec<bool> = sockets.iter().map(|socket| !socket.revents().is_empty()).collect();
    for (client, ready) in clients.iter_mut().zip(ready) {
        if ready {
            client.receive(tally)?;
        }
        client.give_up(tally)?;
    }
    Ok(())
}

/// One client: its socket, and the requests under way.
struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    /// The request, in which message ID and token are filled in.
    template: Vec<u8>,
    one_shot: bool,
    /// By the first byte of the token: the rest of it, and the time of sending.
    under_way: Vec<Option<(u32, Instant)>>,
}

/// The first byte says which of the window it is, the others which request of this program: a late answer to a port that
/// another client has now must not be taken for one of its own.
const TOKEN_LEN: usize = 5;

static REQUESTS: AtomicU32 = AtomicU32::new(0);

impl Client {
    fn new(gate: &Gate, load: &Load) -> Result<Self> {
        let mut draft = addressed(gate, Draft::post("", &PAYLOAD)).token(&[0; TOKEN_LEN]);
        if !load.confirmable {
            draft = draft.kind(NON);
        }
        let mut client = Self {
            socket: open(gate.address)?,
            server: gate.address,
            template: draft.datagram(),
            one_shot: load.one_shot,
            under_way: vec![None; load.window],
        };
        for place in 0..load.window {
            client.send(place)?;
        }
        Ok(client)
    }

    fn is_waiting(&self) -> bool {
        self.under_way.iter().any(Option::is_some)
    }

    fn send(&mut self, place: usize) -> Result<()> {
        let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let [a, b, c, d] = number.to_be_bytes();
        let header = self.template.get_mut(2..4 + TOKEN_LEN).context("the template is short")?;
        header.copy_from_slice(&[c, d, u8::try_from(place)?, a, b, c, d]);
        let under_way = self.under_way.get_mut(place).context("no such place")?;
        *under_way = Some((number, Instant::now()));
        match self.socket.send(&self.template) {
            // No room for it: it counts as lost on the way.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            sent => Ok(sent.map(drop)?),
        }
    }

    /// Takes all answers that are there, and makes another request for each.
    fn receive(&mut self, tally: &mut Tally) -> Result<()> {
        let mut buffer = [0; 2048];
        loop {
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let message = decode(buffer.get(..length).unwrap_or_default())?;
            if let Some(place) = self.answered(&message, tally)?
                && !tally.closed
            {
                self.go_on(place)?;
                if self.one_shot {
                    return Ok(());
                }
            }
        }
    }

    /// Which place has its answer.
    fn answered(&mut self, message: &Message<'_>, tally: &mut Tally) -> Result<Option<usize>> {
        if message.message_type == MessageType::Confirmable {
            // A response of its own; what it costs to acknowledge it is part of this side.
            self.socket.send(&Draft::empty(ACK, message.message_id).datagram())?;
        }
        // That the response comes later.
        if message.code == Code::EMPTY && message.message_type == MessageType::Acknowledgement {
            return Ok(None);
        }
        // 2.05 of the server, 2.04 of the HTTP service.
        let is_echo = message.code.class() == 2 && message.payload == PAYLOAD;
        ensure!(is_echo, "unexpected answer: {message:?}");
        let &[place, ref number @ ..] = message.token else { return Ok(None) };
        match self.under_way.get_mut(usize::from(place)) {
            Some(under_way)
                if under_way.is_some_and(|(current, _)| current.to_be_bytes() == number) =>
            {
                if let Some((_, sent)) = under_way.take() {
                    tally.answered(sent);
                }
                Ok(Some(usize::from(place)))
            }
            // A duplicate, one that was given up, or one of an earlier client.
            _ => Ok(None),
        }
    }

    fn go_on(&mut self, place: usize) -> Result<()> {
        if self.one_shot {
            self.socket = open(self.server)?;
        }
        self.send(place)
    }

    fn give_up(&mut self, tally: &mut Tally) -> Result<()> {
        let late = |(_, sent): &(u32, Instant)| sent.elapsed() > GIVE_UP;
        for place in 0..self.under_way.len() {
            let under_way = self.under_way.get_mut(place).context("no such place")?;
            if under_way.take_if(|request| late(request)).is_some() && !tally.closed {
                tally.gave_up();
                self.go_on(place)?;
            }
        }
        Ok(())
    }
}

fn open(server: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((SOURCE, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
