//! MQTT publishers and a broker that write down what they sent, what was acknowledged and what arrived: whether anything is missing,
//! or there twice, is then known exactly, whatever happens between them.
//!
//! The broker has no subscribers; but a client whose name begins with `deaf` gets messages without end. It writes a message down before it acknowledges it, and forgets nothing when it goes down.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::sockopt::set_socket_linger;

use super::lock;
use crate::ports::free_port;
use crate::wire::{Client, Connect, VERSIONS, Version, ack, publish};

/// How the broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// As it should be.
    Well,
    /// It takes 300 ms for each packet.
    Slow,
    /// It reads nothing, and accepts connections without a word.
    Hung,
    /// It resets each connection with its tenth packet.
    Resetting,
    /// It closes each connection after one octet of an answer.
    HalfAnswers,
    /// It sends what no broker may: packets of clients, bad lengths, random octets.
    Lying,
    /// Nothing listens, all connections are gone.
    Down,
}

const MOODS: [Mood; 7] = [
    Mood::Well,
    Mood::Slow,
    Mood::Hung,
    Mood::Resetting,
    Mood::HalfAnswers,
    Mood::Lying,
    Mood::Down,
];

/// What no broker may send after a CONNACK.
const LIES: [&[u8]; 6] = [
    &[0x10, 2, 0, 0],
    &[0x36, 5, 0, 1, b'x', 0, 1],
    &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1],
    &[0x00, 0],
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    &[0x40, 2, 0xFF, 0xFE],
];

#[derive(Debug, Default)]
struct Book {
    /// By payload, at each QoS: how often it came that was not a repetition of the same packet.
    arrived: Mutex<BTreeMap<String, u64>>,
    /// Messages that came in a session of somebody else.
    foreign: Mutex<Vec<String>>,
    /// Packet identifiers at QoS 2 that were not released, by client (MQTT 5.0 §4.3.3).
    unreleased: Mutex<HashMap<String, HashSet<u16>>>,
}

/// The broker, in threads of this process.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    mood: Arc<AtomicU8>,
    book: Arc<Book>,
    end: Arc<AtomicBool>,
}

impl Broker {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let listener = listen(address)?;
        let broker = Self {
            address,
            mood: Arc::new(AtomicU8::new(Mood::Well as u8)),
            book: Arc::default(),
            end: Arc::default(),
        };
        let (mood, book, end) =
            (Arc::clone(&broker.mood), Arc::clone(&broker.book), Arc::clone(&broker.end));
        thread::spawn(move || accept(address, listener, &mood, &book, &end));
        Ok(broker)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it is like that.
    pub fn become_(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::Relaxed);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.become_(Mood::Down);
        self.end.store(true, Ordering::Relaxed);
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn current(mood: &AtomicU8) -> Mood {
    MOODS.get(usize::from(mood.load(Ordering::Relaxed))).copied().unwrap_or(Mood::Well)
}

const GLANCE: Duration = Duration::from_millis(10);

fn accept(
    address: SocketAddr,
    listener: TcpListener,
    mood: &Arc<AtomicU8>,
    book: &Arc<Book>,
    end: &AtomicBool,
) {
    let mut listener = Some(listener);
    while !end.load(Ordering::Relaxed) {
        if current(mood) == Mood::Down {
            listener = None;
        } else if listener.is_none() {
            listener = listen(address).ok();
        }
        match listener.as_ref().and_then(|listener| listener.accept().ok()) {
            Some((stream, _)) => {
                let (mood, book) = (Arc::clone(mood), Arc::clone(book));
                // How a session ends is the client's to notice.
                thread::spawn(move || drop(serve(stream, &mood, &book)));
            }
            None => thread::sleep(GLANCE),
        }
    }
}

fn serve(stream: TcpStream, mood: &AtomicU8, book: &Book) -> Result<()> {
    stream.set_nonblocking(false)?;
    let mut client = Client::accepted(stream, Version::V5)?;
    let mut name = String::new();
    for number in 0_usize.. {
        // Until there is a packet to be read, so that the mood is known when it comes.
        loop {
            match current(mood) {
                Mood::Down => return Ok(()),
                Mood::Hung => thread::sleep(GLANCE),
                _ if client.is_quiet_for(GLANCE)? => {}
                _ => break,
            }
        }
        let packet = client.receive()?;
        let answer;
        match packet.kind() {
            0x10 => {
                name = client_id(&packet.body)?;
                let is_v5 = packet.body.get(6) == Some(&5);
                client = client.speaking(if is_v5 { Version::V5 } else { Version::V3 });
                answer = if is_v5 { vec![0x20, 3, 1, 0, 0] } else { vec![0x20, 2, 1, 0] };
            }
            0x30 => {
                let message = packet.publish(client.version())?;
                write_down(book, &name, message.topic, message.payload, message.qos, message.id);
                answer = match message.qos {
                    0 => Vec::new(),
                    1 => ack(0x40, message.id),
                    _ => ack(0x50, message.id),
                };
            }
            0x60 => {
                let id = packet.id()?;
                lock(&book.unreleased).entry(name.clone()).or_default().remove(&id);
                answer = ack(0x70, id);
            }
            0xC0 => answer = vec![0xD0, 0],
            0xE0 => return Ok(()),
            kind => bail!("a packet of type {kind:#04x}"),
        }
        match current(mood) {
            Mood::Slow => thread::sleep(Duration::from_millis(300)),
            Mood::Resetting if number % 10 == 9 => {
                return Ok(set_socket_linger(client.stream(), Some(Duration::ZERO))?);
            }
            Mood::HalfAnswers => {
                client.send(answer.get(..1).unwrap_or_default())?;
                return Ok(());
            }
            Mood::Lying if number > 0 => {
                let lie = LIES.get(number % LIES.len()).copied().unwrap_or_default();
                client.send(lie)?;
            }
            _ => {}
        }
        client.send(&answer)?;
        if packet.kind() == 0x10 && name.starts_with("deaf") {
            let message = publish(client.version(), "flood", &[b'x'; 32 * 1024], 0, 0);
            while current(mood) != Mood::Down {
                client.send(&message)?;
            }
            return Ok(());
        }
    }
    Ok(())
}

/// A CONNECT's client identifier; there is nothing but that, and in 5.0 fewer than 128 octets of properties.
fn client_id(body: &[u8]) -> Result<String> {
    let properties = match body.get(6) {
        Some(5) => 1 + usize::from(body.get(10).copied().context("no properties")?),
        _ => 0,
    };
    let rest = body.get(10 + properties..).context("no client identifier")?;
    let (length, rest) = rest.split_first_chunk().context("no client identifier")?;
    let name = rest.get(..usize::from(u16::from_be_bytes(*length))).context("it is cut off")?;
    Ok(std::str::from_utf8(name)?.to_owned())
}

fn write_down(book: &Book, name: &str, topic: &str, payload: &[u8], qos: u8, id: u16) {
    let payload = String::from_utf8_lossy(payload).into_owned();
    let is_own = payload.split('/').next() == Some(name) && topic.rsplit('/').next() == Some(name);
    if !is_own {
        lock(&book.foreign).push(format!("{name} brought {payload:?} for {topic}"));
    }
    if qos == 2 && !lock(&book.unreleased).entry(name.to_owned()).or_default().insert(id) {
        return;
    }
    *lock(&book.arrived).entry(payload).or_default() += 1;
}

/// What publishers have of theirs.
#[derive(Debug, Default)]
pub struct Publishers {
    told: Mutex<Told>,
    give_up: AtomicBool,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Told {
    published: u64,
    acknowledged: Vec<(String, u8)>,
    connections: u64,
    unfinished: u64,
    /// When each publisher was last told of one.
    last: BTreeMap<String, Instant>,
}

/// What the two books say together.
#[derive(Debug, Clone, Default)]
pub struct Balance {
    /// Messages that were sent at least once.
    pub published: u64,
    /// Those that were acknowledged.
    pub acknowledged: u64,
    /// Acknowledged, and never at the broker.
    pub lost: Vec<String>,
    /// QoS 2, and more than once at the broker.
    pub twice: Vec<String>,
    /// QoS 1, and more than once at the broker, as it may be.
    pub repeated: u64,
    /// In a session that was not the publisher's.
    pub foreign: Vec<String>,
    /// Connections that publishers made.
    pub connections: u64,
    /// Messages that were not acknowledged in the end.
    pub unfinished: u64,
}

impl Balance {
    /// Whether all is as it was promised.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost.is_empty()
            && self.twice.is_empty()
            && self.foreign.is_empty()
            && self.unfinished == 0
            && self.acknowledged > 0
    }
}

impl Publishers {
    /// Starts so many, each with a message in each period at QoS 1 or 2, until [`Publishers::balance`].
    pub fn start(address: SocketAddr, count: u32, period: Duration) -> Arc<Self> {
        static RUN: AtomicU32 = AtomicU32::new(0);
        // A broker may have books of several runs.
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        let publishers = Arc::new(Self::default());
        for number in 0..count {
            let own = Arc::clone(&publishers);
            let thread = thread::spawn(move || own.publish(address, run, number, period));
            lock(&publishers.threads).push(thread);
        }
        publishers
    }

    /// How many publishers had an acknowledgement after that.
    #[must_use]
    pub fn served_since(&self, then: Instant) -> usize {
        lock(&self.told).last.values().filter(|last| **last > then).count()
    }

    /// Messages acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        lock(&self.told).acknowledged.len()
    }

    fn publish(&self, address: SocketAddr, run: u32, number: u32, period: Duration) {
        let name = format!("publisher-{run}-{number}");
        let version = VERSIONS.get(number as usize % 2).copied().unwrap_or(Version::V5);
        let mut pending = Pending { name, version, ..Pending::default() };
        thread::sleep(period * (number % 10) / 10);
        let mut patience: Option<Instant> = None;
        loop {
            let over = self.give_up.load(Ordering::Relaxed);
            if over && pending.messages.is_empty() {
                return;
            }
            // What is under way when it is over has a while to be acknowledged.
            let since = over.then(|| *patience.get_or_insert_with(Instant::now));
            if since.is_some_and(|since| since.elapsed() > FINISH) {
                lock(&self.told).unfinished += pending.messages.len() as u64;
                return;
            }
            // An error is the end of a connection; the next one goes on.
            let _ = self.converse(address, &mut pending, period);
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn converse(&self, address: SocketAddr, pending: &mut Pending, period: Duration) -> Result<()> {
        let Pending { name, version, messages, number } = pending;
        let version = *version;
        lock(&self.told).connections += 1;
        let connect = Connect::new(version, name).persistent();
        let mut client = Client::open(address, version)?;
        client.stream().set_read_timeout(Some(ANSWER))?;
        client.send(&connect.encode())?;
        ensure!(client.receive()?.connack_code()? == 0, "refused");
        for message in messages.iter() {
            if message.released {
                client.send(&ack(0x62, message.id))?;
            } else {
                let mut octets = message.octets(version, name);
                if let Some(first) = octets.first_mut() {
                    *first |= 0x08;
                }
                client.send(&octets)?;
            }
        }
        let mut next = Instant::now();
        loop {
            let over = self.give_up.load(Ordering::Relaxed);
            if over && messages.is_empty() {
                return client.disconnect();
            }
            if !over && messages.len() < WINDOW && next <= Instant::now() {
                next = Instant::now() + period;
                *number += 1;
                let message = Message {
                    payload: format!("{name}/{number}"),
                    qos: 1 + (*number % 2) as u8,
                    id: (*number % 60_000) as u16 + 1,
                    released: false,
                    sent: Instant::now(),
                };
                let octets = message.octets(version, name);
                // What is sent may arrive although sending fails.
                messages.push(message);
                lock(&self.told).published += 1;
                client.send(&octets)?;
            }
            if client.is_quiet_for(GLANCE)? {
                let oldest = messages.first().map(|message| message.sent);
                ensure!(oldest.is_none_or(|sent| sent.elapsed() < ANSWER), "no answer");
                continue;
            }
            client.stream().set_read_timeout(Some(ANSWER))?;
            let packet = client.receive()?;
            let id = packet.id()?;
            let code = packet.body.get(2).copied().unwrap_or_default();
            ensure!(code < 0x80, "refused");
            let at = messages.iter().position(|message| message.id == id);
            // An acknowledgement of what nobody sent is a broken server's.
            let at = at.context("an unknown packet identifier")?;
            let message = messages.get_mut(at).context("no message")?;
            match (packet.kind(), message.qos) {
                (0x40, 1) | (0x70, 2) => {
                    let message = messages.remove(at);
                    if message.qos == 1 || !message.released {
                        self.acknowledge(name, &message);
                    }
                }
                (0x50, 2) => {
                    if !std::mem::replace(&mut message.released, true) {
                        let message = message.clone();
                        self.acknowledge(name, &message);
                    }
                    client.send(&ack(0x62, id))?;
                }
                (kind, _) => bail!("a packet of type {kind:#04x}"),
            }
        }
    }

    fn acknowledge(&self, name: &str, message: &Message) {
        let mut told = lock(&self.told);
        told.acknowledged.push((message.payload.clone(), message.qos));
        told.last.insert(name.to_owned(), Instant::now());
    }

    /// Lets all of them finish, and compares.
    pub fn balance(&self, broker: &Broker) -> Balance {
        self.give_up.store(true, Ordering::Relaxed);
        for thread in lock(&self.threads).drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
        let told = lock(&self.told);
        let arrived = lock(&broker.book.arrived);
        let mut balance = Balance {
            published: told.published,
            acknowledged: told.acknowledged.len() as u64,
            foreign: lock(&broker.book.foreign).clone(),
            connections: told.connections,
            unfinished: told.unfinished,
            ..Balance::default()
        };
        for (payload, qos) in &told.acknowledged {
            match arrived.get(payload).copied().unwrap_or_default() {
                0 => balance.lost.push(payload.clone()),
                1 => {}
                _ if *qos == 2 => balance.twice.push(payload.clone()),
                _ => balance.repeated += 1,
            }
        }
        balance
    }
}

/// Not acknowledged at once.
const WINDOW: usize = 4;
/// How long a publisher waits for an acknowledgement before it connects anew.
const ANSWER: Duration = Duration::from_secs(3);
/// How long publishers may take in the end for what is not acknowledged.
const FINISH: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Pending {
    name: String,
    version: Version,
    messages: Vec<Message>,
    number: u32,
}

impl Default for Pending {
    fn default() -> Self {
        Self { name: String::new(), version: Version::V5, messages: Vec::new(), number: 0 }
    }
}

#[derive(Debug, Clone)]
struct Message {
    payload: String,
    qos: u8,
    id: u16,
    released: bool,
    sent: Instant,
}

impl Message {
    fn octets(&self, version: Version, name: &str) -> Vec<u8> {
        let topic = format!("ledger/{name}");
        publish(version, &topic, self.payload.as_bytes(), self.qos, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet;

    #[test]
    fn a_broker_that_goes_down_and_is_slow_loses_nothing_by_itself() {
        let broker = Broker::start().unwrap();
        let publishers = Publishers::start(broker.address(), 4, Duration::from_millis(5));
        for mood in [Mood::Well, Mood::Down, Mood::Resetting, Mood::HalfAnswers, Mood::Well] {
            broker.become_(mood);
            thread::sleep(Duration::from_millis(150));
        }
        let balance = publishers.balance(&broker);
        assert!(balance.holds(), "{balance:?}");
        assert!(balance.connections > 4, "{balance:?}");
    }

    #[test]
    fn what_is_wrong_is_found() {
        let book = Book::default();
        write_down(&book, "publisher-1", "ledger/publisher-1", b"publisher-1/1", 2, 1);
        write_down(&book, "publisher-1", "ledger/publisher-1", b"publisher-1/1", 2, 1);
        assert_eq!(lock(&book.arrived)["publisher-1/1"], 1);
        write_down(&book, "publisher-1", "ledger/publisher-1", b"publisher-1/1", 2, 2);
        assert_eq!(lock(&book.arrived)["publisher-1/1"], 2);
        write_down(&book, "publisher-2", "ledger/publisher-1", b"publisher-1/2", 1, 1);
        assert_eq!(lock(&book.foreign).len(), 1);
    }

    #[test]
    fn a_client_identifier_is_found_in_each_version() {
        for version in VERSIONS {
            let connect = Connect::new(version, "abc").persistent().encode();
            assert_eq!(client_id(&connect[2..]).unwrap(), "abc");
            assert_eq!(packet(0x10, &connect[2..]), connect);
        }
    }
}
