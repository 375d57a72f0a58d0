//! A UDP relay between clients and a server that does to datagrams what networks do: lose, repeat, delay and reorder them.
//!
//! What happens to a datagram depends on which client it belongs to, on its direction and on how many went before it there,
//! and on nothing else: neither on the time nor on what other clients do. So a run can be repeated, as far as the two peers
//! send the same datagrams again.

pub mod tcp;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::ports::free_port;

/// More clients at once than any test has; further ones are not served.
const MAX_CLIENTS: usize = 20_000;

/// How long a datagram waits for the one that is to overtake it.
const OVERTAKEN_WITHIN: Duration = Duration::from_millis(200);

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// A datagram on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passing {
    /// The client's number, in the order of their first datagrams, from 0.
    pub client: usize,
    /// Where it goes.
    pub direction: Direction,
    /// How many of this client went this way before.
    pub number: u64,
    /// What it says.
    pub content: Vec<u8>,
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives,
    /// It is lost.
    Lost,
    /// It arrives twice.
    Twice,
    /// It arrives so much later.
    Late(Duration),
    /// It arrives right after the next one of this client in this direction; after 200 ms, if there is none.
    Overtaken,
}

/// Shares of the datagrams in percent, by chance; what remains arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance {
    /// Another seed, other datagrams.
    pub seed: u64,
    /// Lost.
    pub lost: u64,
    /// Arrive twice.
    pub twice: u64,
    /// Are overtaken.
    pub overtaken: u64,
    /// Arrive late, by up to [`Chance::delay`].
    pub late: u64,
    /// The longest delay.
    pub delay: Duration,
}

impl Chance {
    /// All datagrams arrive.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, lost: 0, twice: 0, overtaken: 0, late: 0, delay: Duration::ZERO }
    }

    /// What becomes of this one.
    #[must_use]
    pub fn fate(&self, passing: &Passing) -> Fate {
        let direction = u64::from(passing.direction == Direction::Up);
        let place = (passing.client as u64) << 33 | direction << 32 | passing.number;
        let random = mix(mix(self.seed) ^ place);
        let share = random % 100;
        let twice = self.lost + self.twice;
        let overtaken = twice + self.overtaken;
        if share < self.lost {
            Fate::Lost
        } else if share < twice {
            Fate::Twice
        } else if share < overtaken {
            Fate::Overtaken
        } else if share < overtaken + self.late {
            Fate::Late(self.delay * u32::try_from(mix(random) % 1000).unwrap_or(0) / 1000)
        } else {
            Fate::Arrives
        }
    }
}

/// The finalizer of SplitMix64: each bit of the result depends on each bit of the input.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

type Log = Arc<Mutex<Vec<(Passing, Fate)>>>;

/// A relay in a thread of this process; dropping it ends it.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct Relay {
    address: SocketAddr,
    log: Log,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// One in front of `server` where chance decides.
    pub fn by_chance(server: SocketAddr, chance: Chance) -> Result<Self> {
        Self::start(server, move |passing| chance.fate(passing))
    }

    /// One in front of `server` where `fate` decides: it is asked about each datagram once, in the order of their coming.
    pub fn start(
        server: SocketAddr,
        mut fate: impl FnMut(&Passing) -> Fate + Send + 'static,
    ) -> Result<Self> {
        Self::altering(server, move |passing| fate(passing))
    }

    /// The same where `fate` may also say that a datagram has another content.
    pub fn altering(
        server: SocketAddr,
        fate: impl FnMut(&mut Passing) -> Fate + Send + 'static,
    ) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        // Bound before this returns, so that nobody comes too early.
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let log = Log::default();
        let (stop, stopped) = oneshot::channel();
        let seen = Arc::clone(&log);
        let thread = std::thread::spawn(move || {
            runtime.spawn(async move {
                let Ok(socket) = UdpSocket::from_std(socket) else { return };
                let (back, returning) = mpsc::unbounded_channel();
                let clients = Clients { numbers: HashMap::new(), all: Vec::new() };
                let desk =
                    Desk { socket: Arc::new(socket), server, clients, back, fate, log: seen };
                desk.serve(returning).await;
            });
            // Dropping the runtime ends all that runs in it.
            let _ = runtime.block_on(stopped);
        });
        Ok(Self { address, log, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients send to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All datagrams so far, and what became of them.
    #[must_use]
    pub fn log(&self) -> Vec<(Passing, Fate)> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // That the other end is gone is what is waited for.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where datagrams of one client go out.
#[derive(Clone)]
enum Exit {
    /// To the server, from the client's own socket.
    Up(Arc<UdpSocket>),
    /// To the client, from where it sent to.
    Down(Arc<UdpSocket>, SocketAddr),
}

impl Exit {
    /// Sends, or loses: both are what a network may do.
    async fn send(&self, content: &[u8]) {
        let _ = match self {
            Self::Up(socket) => socket.send(content).await,
            Self::Down(socket, client) => socket.send_to(content, *client).await,
        };
    }
}

#[derive(Default)]
struct Lane {
    passed: u64,
    /// What the next datagram is to overtake; empty once it was sent.
    behind: Option<Arc<Mutex<Option<Vec<u8>>>>>,
}

struct Client {
    up: Exit,
    down: Exit,
    lanes: [Lane; 2],
}

struct Clients {
    numbers: HashMap<SocketAddr, usize>,
    all: Vec<Client>,
}

/// All of the relay, in one task, so that the order of datagrams is clear.
struct Desk<F> {
    socket: Arc<UdpSocket>,
    server: SocketAddr,
    clients: Clients,
    back: mpsc::UnboundedSender<(usize, Vec<u8>)>,
    fate: F,
    log: Log,
}

impl<F: FnMut(&mut Passing) -> Fate> Desk<F> {
    async fn serve(mut self, mut returning: mpsc::UnboundedReceiver<(usize, Vec<u8>)>) {
        let mut buffer = vec![0; 65_536];
        let socket = Arc::clone(&self.socket);
        loop {
            tokio::select! {
                received = socket.recv_from(&mut buffer) => {
                    // An error is that of an earlier datagram to a client that is gone.
                    let Ok((length, address)) = received else { continue };
                    let content = buffer.get(..length).unwrap_or_default().to_vec();
                    if let Some(client) = self.client(address).await {
                        self.pass(client, Direction::Up, content).await;
                    }
                }
                Some((client, content)) = returning.recv() => {
                    self.pass(client, Direction::Down, content).await;
                }
            }
        }
    }

    /// The number of the client there; a new one gets a socket of its own, so that the server sees different sources.
    async fn client(&mut self, address: SocketAddr) -> Option<usize> {
        if let Some(number) = self.clients.numbers.get(&address) {
            return Some(*number);
        }
        let number = self.clients.all.len();
        if number >= MAX_CLIENTS {
            return None;
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
        socket.connect(self.server).await.ok()?;
        let socket = Arc::new(socket);
        let (back, reader) = (self.back.clone(), Arc::clone(&socket));
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                // An error is that nothing listens there: for this datagram, not for ever.
                let Ok(length) = reader.recv(&mut buffer).await else { continue };
                let content = buffer.get(..length).unwrap_or_default().to_vec();
                if back.send((number, content)).is_err() {
                    return;
                }
            }
        });
        self.clients.all.push(Client {
            up: Exit::Up(socket),
            down: Exit::Down(Arc::clone(&self.socket), address),
            lanes: Default::default(),
        });
        self.clients.numbers.insert(address, number);
        Some(number)
    }

    async fn pass(&mut self, client: usize, direction: Direction, content: Vec<u8>) {
        let Some(Client { up, down, lanes: [up_lane, down_lane] }) =
            self.clients.all.get_mut(client)
        else {
            return;
        };
        let (exit, lane) = match direction {
            Direction::Up => (up, up_lane),
            Direction::Down => (down, down_lane),
        };
        let mut passing = Passing { client, direction, number: lane.passed, content };
        lane.passed += 1;
        let fate = (self.fate)(&mut passing);
        let overtaken = lane.behind.take();
        match fate {
            Fate::Lost => {}
            Fate::Arrives => exit.send(&passing.content).await,
            Fate::Twice => {
                exit.send(&passing.content).await;
                exit.send(&passing.content).await;
            }
            Fate::Late(time) => send_later(exit.clone(), time, passing.content.clone()),
            Fate::Overtaken => {
                let waiting = Arc::new(Mutex::new(Some(passing.content.clone())));
                lane.behind = Some(Arc::clone(&waiting));
                send_unless_taken(exit.clone(), waiting);
            }
        }
        if let Some(content) = overtaken.and_then(|waiting| take(&waiting)) {
            exit.send(&content).await;
        }
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push((passing, fate));
    }
}

fn take(waiting: &Mutex<Option<Vec<u8>>>) -> Option<Vec<u8>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn send_later(exit: Exit, time: Duration, content: Vec<u8>) {
    let due = Instant::now() + time;
    tokio::spawn(async move {
        sleep_until(due).await;
        exit.send(&content).await;
    });
}

fn send_unless_taken(exit: Exit, waiting: Arc<Mutex<Option<Vec<u8>>>>) {
    let due = Instant::now() + OVERTAKEN_WITHIN;
    tokio::spawn(async move {
        sleep_until(due).await;
        let content = take(&waiting);
        if let Some(content) = content {
            exit.send(&content).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coap::draft::Draft;
    use crate::coap::echo::Server;
    use crate::coap::udp::Client;

    const QUIET: Duration = Duration::from_millis(60);

    /// A datagram that the server answers with one of the same message ID.
    fn ping(id: u16) -> Vec<u8> {
        Draft::default().id(id).datagram()
    }

    fn pong(client: &Client) -> Option<u16> {
        let answer = client.receive_within(QUIET).unwrap()?;
        Some(answer.message().unwrap().message_id)
    }

    fn relay(fates: Vec<Fate>) -> (Server, Relay, Client) {
        let server = Server::start().unwrap();
        let relay = Relay::start(server.address(), move |passing| match passing.direction {
            Direction::Up => fates.get(passing.number as usize).copied().unwrap_or(Fate::Arrives),
            Direction::Down => Fate::Arrives,
        });
        let relay = relay.unwrap();
        let client = Client::connect(relay.address()).unwrap();
        (server, relay, client)
    }

    #[test]
    fn datagrams_meet_their_fate() {
        let (_server, relay, client) = relay(vec![Fate::Lost, Fate::Twice, Fate::Overtaken]);
        client.send(&ping(1)).unwrap();
        assert_eq!(pong(&client), None);
        client.send(&ping(2)).unwrap();
        assert_eq!([pong(&client), pong(&client), pong(&client)], [Some(2), Some(2), None]);
        client.send(&ping(3)).unwrap();
        client.send(&ping(4)).unwrap();
        assert_eq!([pong(&client), pong(&client), pong(&client)], [Some(4), Some(3), None]);
        let up = relay.log().into_iter().filter(|(passing, _)| passing.direction == Direction::Up);
        let fates: Vec<Fate> = up.map(|(_, fate)| fate).collect();
        assert_eq!(fates, [Fate::Lost, Fate::Twice, Fate::Overtaken, Fate::Arrives]);
    }

    #[test]
    fn a_late_datagram_arrives_when_it_is_due() {
        let (_server, _relay, client) = relay(vec![Fate::Late(Duration::from_millis(100))]);
        client.send(&ping(1)).unwrap();
        client.send(&ping(2)).unwrap();
        assert_eq!(pong(&client), Some(2));
        assert_eq!(client.receive().unwrap().message().unwrap().message_id, 1);
    }

    #[test]
    fn what_nothing_overtakes_arrives_nevertheless() {
        let (_server, _relay, client) = relay(vec![Fate::Overtaken]);
        client.send(&ping(1)).unwrap();
        assert_eq!(client.receive().unwrap().message().unwrap().message_id, 1);
        client.send(&ping(2)).unwrap();
        assert_eq!([pong(&client), pong(&client)], [Some(2), None]);
    }

    #[test]
    fn each_client_has_a_source_of_its_own_and_gets_its_own_answers() {
        let server = Server::start().unwrap();
        let relay = Relay::by_chance(server.address(), Chance::new(1)).unwrap();
        let clients: Vec<Client> =
            (0..20).map(|_| Client::connect(relay.address()).unwrap()).collect();
        for (client, id) in clients.iter().zip(0..) {
            client.send(&ping(id)).unwrap();
        }
        for (client, id) in clients.iter().zip(0..) {
            assert_eq!(client.receive().unwrap().message().unwrap().message_id, id);
        }
    }

    #[test]
    fn chance_has_the_shares_that_were_asked_for_and_repeats_itself() {
        let delay = Duration::from_millis(100);
        let chance =
            Chance { lost: 10, twice: 5, overtaken: 20, late: 15, delay, ..Chance::new(7) };
        let fates = |chance: Chance| -> Vec<Fate> {
            let passing = |number| Passing {
                client: 3,
                direction: Direction::Down,
                number,
                content: Vec::new(),
            };
            (0..10_000).map(|number| chance.fate(&passing(number))).collect()
        };
        let first = fates(chance);
        let share = |wanted: fn(&Fate) -> bool| first.iter().filter(|fate| wanted(fate)).count();
        assert!((900..1100).contains(&share(|fate| *fate == Fate::Lost)));
        assert!((400..600).contains(&share(|fate| *fate == Fate::Twice)));
        assert!((1850..2150).contains(&share(|fate| *fate == Fate::Overtaken)));
        assert!((1350..1650).contains(&share(|fate| matches!(fate, Fate::Late(_)))));
        assert!(first.iter().all(|fate| !matches!(fate, Fate::Late(time) if *time > delay)));
        assert_eq!(first, fates(chance));
        assert_ne!(first, fates(Chance { seed: 8, ..chance }));
    }
}
