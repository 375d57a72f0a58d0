//! 200 clients publish while brokers and services die, come back and are slow.
//!
//! Promised, and counted below:
//!
//! * A message that was acknowledged with success was delivered, to the broker or to the service. None is lost.
//! * A QoS 2 message for the broker is delivered once.
//! * A QoS 2 message that is a request is delivered once, if the filter learned what became of each request for it. If it
//!   did not (the service took the request and died before it answered, or the client's connection ended first, so that
//!   the answer had nowhere to go), nobody can know whether to send it again; it is sent again. Those are counted apart.
//!
//! `CHAOS_SEED` repeats a run's choices, as far as threads and sockets allow.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use integration::PATIENCE;
use integration::broker::Mosquitto;
use integration::envoy::Config;
use integration::ports::free_port;
use integration::setup::expect_healthy;
use integration::wire::{Client, Connect, VERSIONS, Version, ack, publish, subscribe};
use rustix::process::Signal;

const CLIENTS: usize = 200;
const MESSAGES: usize = 12;
/// Not acknowledged at once.
const WINDOW: usize = 4;
/// How long things go wrong, and how long the clients may take to finish afterwards.
const CHAOS: Duration = Duration::from_secs(20);
const CALM: Duration = Duration::from_secs(40);

/// A small generator (xorshift*), so that a seed says it all.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
    }
}

// The service.

const NORMAL: u8 = 0;
const SLOW: u8 = 1;
const DOWN: u8 = 2;
const DIES: u8 = 3;
const BUSY: u8 = 4;

/// An HTTP/1.1 service that answers checks and takes messages, or behaves worse.
#[derive(Default)]
struct Service {
    mode: AtomicU8,
    /// By payload: one entry for each time it was taken, with whether it was answered.
    taken: Mutex<HashMap<String, Vec<bool>>>,
    refused: AtomicU64,
}

impl Service {
    fn start(port: u16) -> Arc<Self> {
        let service = Arc::new(Self::default());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let own = Arc::clone(&service);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = Arc::clone(&own);
                // A connection that breaks is Envoy's to notice.
                thread::spawn(move || drop(own.serve(&stream)));
            }
        });
        service
    }

    /// One request, one answer, the end.
    fn serve(&self, stream: &TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        if self.mode.load(Ordering::Relaxed) == DOWN {
            return Ok(());
        }
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(reader.read_line(&mut line)? > 0, "the end");
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_ascii_lowercase());
        }
        let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name));
        let body = if header("transfer-encoding: chunked").is_some() {
            read_chunked(&mut reader)?
        } else {
            let length = header("content-length: ").unwrap_or("0").parse()?;
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            body
        };
        let is_request = header("x-carry: ") == Some("request");
        let mode = self.mode.load(Ordering::Relaxed);
        if mode == SLOW {
            thread::sleep(Duration::from_millis(100));
        }
        let mut stream = stream;
        let answer = |mut stream: &TcpStream, status: &str| {
            write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        };
        if mode == BUSY {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(answer(stream, "503 Service Unavailable")?);
        }
        if !is_request {
            if mode != DIES {
                answer(stream, "200 OK")?;
            }
            return Ok(());
        }
        let payload = String::from_utf8(body)?;
        let index = {
            let mut taken = self.taken.lock().unwrap();
            let times = taken.entry(payload.clone()).or_default();
            times.push(false);
            times.len() - 1
        };
        if mode == DIES {
            return Ok(());
        }
        answer(stream, "200 OK")?;
        stream.flush()?;
        self.taken.lock().unwrap().get_mut(&payload).context("taken")?[index] = true;
        Ok(())
    }
}

fn read_chunked(reader: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16)?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

// The clients.

struct Message {
    topic: String,
    payload: String,
    qos: u8,
    id: u16,
    released: bool,
}

/// What became of one client's messages.
#[derive(Default)]
struct Told {
    published: u64,
    acknowledged: Vec<(String, u8)>,
    /// Under way when a connection ended.
    cut_off: HashSet<String>,
    failed: u64,
    reconnected: u64,
    finished: bool,
}

fn run_client(number: usize, address: SocketAddr, seed: u64, end: &AtomicBool) -> Told {
    let mut random = Random::new(seed ^ (number as u64 + 1) << 20);
    let version = VERSIONS[number % 2];
    let name = format!("client-{number}");
    let mut told = Told::default();
    let mut to_come: Vec<usize> = (0..MESSAGES).rev().collect();
    let mut pending: Vec<Message> = Vec::new();
    let mut next_id = 0_u16;
    while (!to_come.is_empty() || !pending.is_empty()) && !end.load(Ordering::Relaxed) {
        // An error is the end of a connection; the next one goes on.
        let _ = converse(
            &Connect::new(version, &name).persistent(),
            version,
            address,
            &mut random,
            (&mut to_come, &mut pending, &mut next_id),
            &mut told,
            number,
        );
        told.cut_off.extend(pending.iter().map(|message| message.payload.clone()));
        told.reconnected += 1;
        thread::sleep(Duration::from_millis(50 + random.below(300)));
    }
    told.finished = to_come.is_empty() && pending.is_empty();
    told
}

fn converse(
    connect: &Connect,
    version: Version,
    address: SocketAddr,
    random: &mut Random,
    (to_come, pending, next_id): (&mut Vec<usize>, &mut Vec<Message>, &mut u16),
    told: &mut Told,
    number: usize,
) -> Result<()> {
    let mut client = Client::session(address, connect)?;
    client.stream().set_read_timeout(Some(Duration::from_secs(2)))?;
    for message in pending.iter() {
        if message.released {
            client.send(&ack(0x62, message.id))?;
        } else {
            let Message { topic, payload, qos, id, .. } = message;
            let mut octets = publish(version, topic, payload.as_bytes(), *qos, *id);
            octets[0] |= 0x08;
            client.send(&octets)?;
        }
    }
    while !to_come.is_empty() || !pending.is_empty() {
        while pending.len() < WINDOW
            && let Some(n) = to_come.pop()
        {
            let payload = format!("{number}/{n}");
            let qos = 1 + u8::try_from(random.below(2))?;
            let topic = match random.below(3) {
                0 => format!("f/{number}"),
                1 => format!("c/{number}"),
                _ => format!("r/{number}/{}", n % 2),
            };
            *next_id = *next_id % 1000 + 1;
            let message = Message { topic, payload, qos, id: *next_id, released: false };
            let Message { topic, payload, qos, id, .. } = &message;
            let octets = publish(version, topic, payload.as_bytes(), *qos, *id);
            told.published += 1;
            // What is sent may arrive although sending fails.
            pending.push(message);
            client.send(&octets)?;
            thread::sleep(Duration::from_millis(random.below(1500)));
        }
        let packet = client.receive()?;
        let id = packet.id()?;
        let code = packet.body.get(2).copied().unwrap_or_default();
        let at = pending.iter().position(|message| message.id == id).context("an unknown id")?;
        match packet.kind() {
            0x40 | 0x50 if code >= 0x80 => {
                told.failed += 1;
                // A new message for the same purpose.
                let mut message = pending.remove(at);
                *next_id = *next_id % 1000 + 1;
                message.id = *next_id;
                let Message { topic, payload, qos, id, .. } = &message;
                let octets = publish(version, topic, payload.as_bytes(), *qos, *id);
                pending.push(message);
                thread::sleep(Duration::from_millis(100));
                client.send(&octets)?;
            }
            0x40 => {
                let message = pending.remove(at);
                told.acknowledged.push((message.payload, message.qos));
            }
            0x50 => {
                let message = &mut pending[at];
                if !std::mem::replace(&mut message.released, true) {
                    told.acknowledged.push((message.payload.clone(), message.qos));
                }
                client.send(&ack(0x62, id))?;
            }
            0x70 => drop(pending.remove(at)),
            kind => anyhow::bail!("a packet of type {kind:#04x}"),
        }
    }
    Ok(())
}

// The subscriber behind the broker.

/// How often each payload came.
type Delivered = Arc<Mutex<BTreeMap<String, u64>>>;

fn run_subscriber(
    address: SocketAddr,
    delivered: &Delivered,
    end: &AtomicBool,
    ready: &AtomicBool,
) {
    let mut received = HashSet::new();
    while !end.load(Ordering::Relaxed) {
        let _ = subscriber_session(address, delivered, end, ready, &mut received);
        thread::sleep(Duration::from_millis(50));
    }
}

fn subscriber_session(
    address: SocketAddr,
    delivered: &Delivered,
    end: &AtomicBool,
    ready: &AtomicBool,
    received: &mut HashSet<u16>,
) -> Result<()> {
    let connect = Connect::new(Version::V5, "subscriber").persistent().keep_alive(0);
    let mut client = Client::session(address, &connect)?;
    client.send(&subscribe(Version::V5, 1, &["f/#", "c/#"], 2))?;
    client.stream().set_read_timeout(Some(Duration::from_secs(1)))?;
    while !end.load(Ordering::Relaxed) {
        // A read that times out between packets starts anew on a new connection, which loses nothing.
        let packet = client.receive()?;
        match packet.kind() {
            0x90 => ready.store(true, Ordering::Relaxed),
            0x30 => {
                let message = packet.publish(Version::V5)?;
                let payload = String::from_utf8(message.payload.to_vec())?;
                // At QoS 2 the handshake says what is the same message.
                if message.qos < 2 || received.insert(message.id) {
                    *delivered.lock().unwrap().entry(payload).or_default() += 1;
                }
                match message.qos {
                    1 => client.send(&ack(0x40, message.id))?,
                    2 => client.send(&ack(0x50, message.id))?,
                    _ => {}
                }
            }
            0x60 => {
                let id = packet.id()?;
                received.remove(&id);
                client.send(&ack(0x70, id))?;
            }
            kind => anyhow::bail!("a packet of type {kind:#04x}"),
        }
    }
    Ok(())
}

// The test.

fn broker(port: u16, directory: &Path) -> Mosquitto {
    Mosquitto::builder()
        .port(port)
        .persistent_in(directory)
        // Of messages for a subscriber that is away, however many.
        .setting("max_queued_messages 0")
        .start()
        .unwrap()
}

const ENVOY: &str = r#"
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: 1883}}
    filter_chains:
    - filters:
      - name: mqtt
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm
          config:
            name: mqtt
            root_id: mqtt
            failure_policy: FAIL_RELOAD
            vm_config: {vm_id: mqtt, runtime: envoy.wasm.runtime.v8, code: {local: {filename: dist/mqtt.wasm}}}
            configuration:
              "@type": type.googleapis.com/google.protobuf.Struct
              value:
                rules:
                - {topic_filters: ["c/#"], carry: check}
                - {topic_filters: ["r/#"], carry: request}
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: mqtt
          codec_type: HTTP2
          stream_idle_timeout: 0s
          route_config:
            virtual_hosts:
            - name: mqtt
              domains: ["*"]
              routes:
              - match: {path: /}
                route:
                  cluster: broker
                  timeout: 0s
                  upgrade_configs: [{upgrade_type: CONNECT, connect_config: {allow_post: true}}]
              - match: {prefix: /}
                route: {cluster: service, timeout: 15s}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: broker
    connect_timeout: 1s
    load_assignment:
      cluster_name: broker
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 21883}}}}]}]
  - name: service
    connect_timeout: 1s
    circuit_breakers: {thresholds: [{max_connections: 10000, max_pending_requests: 10000, max_requests: 10000}]}
    load_assignment:
      cluster_name: service
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 21080}}}}]}]
"#;

#[test]
fn nothing_acknowledged_is_lost_while_brokers_and_services_come_and_go() {
    let seed = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 =
        seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    println!("CHAOS_SEED={seed}");
    let (broker_port, service_port) = (free_port().unwrap(), free_port().unwrap());
    let service = Service::start(service_port);
    let dir = std::env::temp_dir().join(format!("chaos-{}-{seed}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut mosquitto = broker(broker_port, &dir);
    let mut envoy = Config::from_text(ENVOY)
        .port(21_883, broker_port)
        .port(21_080, service_port)
        .start()
        .unwrap();
    let address = envoy.address(1883).unwrap();

    let (end, ready) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let delivered = Delivered::default();
    let subscriber = {
        let (delivered, end, ready) =
            (Arc::clone(&delivered), Arc::clone(&end), Arc::clone(&ready));
        let address = mosquitto.address();
        thread::spawn(move || run_subscriber(address, &delivered, &end, &ready))
    };
    integration::eventually("a subscription", || Ok(ready.load(Ordering::Relaxed).then_some(())))
        .unwrap();
    let give_up = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let give_up = Arc::clone(&give_up);
            thread::spawn(move || run_client(number, address, seed, &give_up))
        })
        .collect();

    let mut random = Random::new(seed);
    let (begin, mut restarts) = (Instant::now(), 0);
    while begin.elapsed() < CHAOS {
        match random.below(8) {
            0 | 1 => {
                // It writes down what it has; what it loses by a worse end is not the filter's affair.
                mosquitto.process.signal(Signal::TERM).unwrap();
                mosquitto.process.wait(PATIENCE).unwrap();
                thread::sleep(Duration::from_millis(random.below(800)));
                mosquitto = broker(broker_port, &dir);
                restarts += 1;
            }
            2 => {
                // A broker that does not read.
                mosquitto.process.signal(Signal::STOP).unwrap();
                thread::sleep(Duration::from_millis(200 + random.below(800)));
                mosquitto.process.signal(Signal::CONT).unwrap();
            }
            n => {
                let mode = [SLOW, DOWN, DIES, BUSY, NORMAL][usize::try_from(n).unwrap() - 3];
                service.mode.store(mode, Ordering::Relaxed);
            }
        }
        thread::sleep(Duration::from_millis(200 + random.below(800)));
    }
    service.mode.store(NORMAL, Ordering::Relaxed);
    let calm = Instant::now();
    while clients.iter().any(|client| !client.is_finished()) && calm.elapsed() < CALM {
        thread::sleep(Duration::from_millis(50));
    }
    give_up.store(true, Ordering::Relaxed);
    let told: Vec<Told> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    // What the broker still has for its subscriber.
    let settled = Instant::now();
    let mut before = 0;
    while settled.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(700));
        let now = delivered.lock().unwrap().values().sum();
        if now == before {
            break;
        }
        before = now;
    }
    end.store(true, Ordering::Relaxed);
    subscriber.join().unwrap();
    expect_healthy(&mut envoy).unwrap();
    let _ = std::fs::remove_dir_all(&dir);

    let delivered = delivered.lock().unwrap();
    let taken = service.taken.lock().unwrap();
    let (mut lost, mut twice) = (Vec::new(), Vec::new());
    let (mut unanswered, mut cut_off) = (0, 0);
    for client in &told {
        for (payload, qos) in &client.acknowledged {
            let at_broker = delivered.get(payload).copied().unwrap_or_default();
            let at_service = taken.get(payload).map_or(&[][..], Vec::as_slice);
            if at_broker == 0 && at_service.is_empty() {
                lost.push(payload);
            }
            if *qos == 2 && at_broker > 1 {
                twice.push(payload);
            }
            if *qos == 2 && at_service.len() > 1 {
                if at_service.iter().any(|answered| !answered) {
                    unanswered += 1;
                } else if client.cut_off.contains(payload) {
                    cut_off += 1;
                } else {
                    twice.push(payload);
                }
            }
        }
    }
    let sum = |count: fn(&Told) -> u64| told.iter().map(count).sum::<u64>();
    println!(
        "published {}, acknowledged {}, delivered {} to the broker and {} to the service; lost {}; QoS 2 delivered twice \
         {}, and with an unknown outcome {unanswered} (the service died before it answered) and {cut_off} (a connection \
         ended); told that it failed {}, answered 503 {}, connections {}, broker restarts {restarts}",
        sum(|told| told.published),
        sum(|told| told.acknowledged.len() as u64),
        delivered.len(),
        taken.len(),
        lost.len(),
        twice.len(),
        sum(|told| told.failed),
        service.refused.load(Ordering::Relaxed),
        sum(|told| told.reconnected),
    );
    assert_eq!(lost, [""; 0]);
    assert_eq!(twice, [""; 0]);
    let unfinished = told.iter().filter(|told| !told.finished).count();
    assert_eq!(unfinished, 0, "clients that could not finish when all was well again");
}
