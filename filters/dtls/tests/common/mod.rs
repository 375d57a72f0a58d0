//! A server, the filter's side with a protocol that echoes, and a client: dimpl in the client's role. Between
//! them a network under the test's control, and a clock that only the test moves.
#![allow(dead_code, unreachable_pub, reason = "not every test needs all of it")]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge::metrics::Registry;
use bridge::{
    Bridge, Bytes, Ended, Input, Limits, Link, Peer, Protocol, Response, StreamId, Surroundings,
    Want,
};
use codec_capsule::{Datagram, Decoded, UDP_PAYLOAD};
use dimpl::{DtlsCertificate, Output, PskResolver};
use dtls::{Dtls, Identity, Settings, Shared};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub const KEY: &str = "00112233445566778899aabbccddeeff";
/// 2050-01-01, when the certificates of the tests are valid.
pub const UNIX_TIME: Duration = Duration::from_secs(2_524_608_000);

pub fn pem(name: &str) -> String {
    let text = match name {
        "ca.pem" => include_str!("../certs/ca.pem"),
        "server.pem" => include_str!("../certs/server.pem"),
        "server.key" => include_str!("../certs/server.key"),
        "client.pem" => include_str!("../certs/client.pem"),
        "client.key" => include_str!("../certs/client.key"),
        "stranger.pem" => include_str!("../certs/stranger.pem"),
        "stranger.key" => include_str!("../certs/stranger.key"),
        "server-only.pem" => include_str!("../certs/server-only.pem"),
        "server-only.key" => include_str!("../certs/server-only.key"),
        _ => panic!("no certificate of the tests is called {name}"),
    };
    text.to_owned()
}

pub fn certificate(name: &str) -> DtlsCertificate {
    let certificate = CertificateDer::from_pem_slice(pem(&format!("{name}.pem")).as_bytes());
    let key = PrivateKeyDer::from_pem_slice(pem(&format!("{name}.key")).as_bytes());
    DtlsCertificate {
        certificate: certificate.expect("PEM").to_vec(),
        private_key: key.expect("PEM").secret_der().to_vec(),
    }
}

/// Fields of the configuration, as JSON.
pub fn psk() -> String {
    format!(r#""psk": [{{"identity": "device-1", "key": "{KEY}"}}]"#)
}

pub fn server_certificate() -> String {
    let json = |name| serde_json::Value::String(pem(name)).to_string();
    format!(r#""certificate": {}, "private_key": {}"#, json("server.pem"), json("server.key"))
}

pub fn mutual() -> String {
    let ca = serde_json::Value::String(pem("ca.pem"));
    let server = server_certificate();
    format!(r#"{server}, "client_certificates": "required", "trusted_ca": {ca}"#)
}

pub fn settings(fields: &str) -> Settings {
    let (config, mut mistakes) = filter_config::read(format!("{{{fields}}}").as_bytes());
    let settings = Settings::compile(config, "dtls", &mut mistakes);
    assert_eq!(mistakes.into_list(), []);
    settings.expect("no mistakes")
}

pub struct NoTls;
impl Surroundings for NoTls {
    fn server_name(&self) -> Option<String> {
        None
    }
}

/// What [`Echo`] was told and did.
#[derive(Debug, Default)]
pub struct Log {
    pub identities: Vec<Identity>,
    pub received: Vec<Vec<u8>>,
    pub ended: bool,
    pub timeouts: Vec<Duration>,
    pub gone: Option<Peer>,
    /// Whether it waits for room.
    pub wait: bool,
}

/// Sends every datagram back. After `bye` it closes, and `later` sets a deadline in 10 s.
#[derive(Debug)]
pub struct Echo(pub Rc<RefCell<Log>>);

impl Protocol for Echo {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        while let Ok(Decoded::Complete { value, consumed }) =
            codec_capsule::decode(input.as_slice(), 70_000)
        {
            if self.0.borrow().wait {
                return Want::Room;
            }
            let payload = Datagram::decode(value.value).expect("a datagram").payload.to_vec();
            link.reply(capsule(&payload));
            match payload.as_slice() {
                b"bye" => link.close(),
                b"later" => link.set_deadline(Some(link.now() + Duration::from_secs(10))),
                _ => {}
            }
            input.skip(consumed);
            self.0.borrow_mut().received.push(payload);
        }
        assert!(input.is_empty(), "capsules come whole");
        Want::More
    }
    fn handle_native_end(&mut self, link: &mut Link) {
        self.0.borrow_mut().ended = true;
        link.close();
    }
    fn handle_response(&mut self, _: &mut Link, _: StreamId, _: Response<()>) {}
    fn handle_body(&mut self, _: &mut Link, _: StreamId, _: Bytes) {}
    fn handle_ended(&mut self, _: &mut Link, _: StreamId, _: Ended) {}
    fn handle_timeout(&mut self, link: &mut Link) {
        self.0.borrow_mut().timeouts.push(link.now());
    }
    fn handle_close(&mut self, by: Peer) {
        self.0.borrow_mut().gone = Some(by);
    }
}

pub fn capsule(payload: &[u8]) -> Bytes {
    let datagram = Datagram { context_id: UDP_PAYLOAD, payload };
    let mut capsule = vec![0; datagram.encoded_len().expect("a UDP payload")];
    datagram.encode(&mut capsule).expect("room");
    Bytes::from(capsule)
}

/// All that clients share.
pub struct Worker {
    pub shared: Rc<Shared>,
    pub registry: Registry,
}

impl Worker {
    pub fn new(fields: &str) -> Self {
        Self::at(fields, || UNIX_TIME)
    }

    pub fn at(fields: &str, unix_time: fn() -> Duration) -> Self {
        let registry = Registry::default();
        let shared = Shared::with_unix_time(settings(fields), &registry, unix_time);
        Self { shared: shared.expect("randomness"), registry }
    }

    pub fn session(&self, source: &str) -> Session {
        let log = Rc::<RefCell<Log>>::default();
        let (shared, given) = (self.shared.clone(), log.clone());
        let source = source.to_owned();
        let bridge = Bridge::new(Limits::default(), Box::new(NoTls), Duration::ZERO, move |_| {
            Dtls::new(shared, source.as_bytes(), move |_, identity| {
                given.borrow_mut().identities.push(identity.clone());
                Echo(given)
            })
        });
        Session { bridge, log, closed: false }
    }

    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        self.registry.counter(name, labels).value()
    }

    pub fn handshakes(&self, result: &str) -> i64 {
        self.count("dtls_handshakes_total", &[("result", result)])
    }

    pub fn dropped(&self, reason: &str) -> i64 {
        self.count("dtls_records_dropped_total", &[("reason", reason)])
    }
}

/// The filter's side of one client.
pub struct Session {
    pub bridge: Bridge<Dtls<Echo>>,
    pub log: Rc<RefCell<Log>>,
    pub closed: bool,
}

impl Session {
    /// Gives it a datagram, and returns those it sends.
    pub fn receive(&mut self, now: Duration, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.bridge.handle_native(now, capsule(datagram));
        self.take()
    }

    pub fn take(&mut self) -> Vec<Vec<u8>> {
        let (first, rest) = self.bridge.take_native();
        self.closed |= self.bridge.next_step().close;
        let octets = [first.as_ref(), rest.as_slice()].concat();
        let mut octets = octets.as_slice();
        let mut datagrams = Vec::new();
        while !octets.is_empty() {
            let Decoded::Complete { value, consumed } =
                codec_capsule::decode(octets, 70_000).expect("a capsule")
            else {
                panic!("half a capsule");
            };
            datagrams.push(Datagram::decode(value.value).expect("a datagram").payload.to_vec());
            octets = &octets[consumed..];
        }
        datagrams
    }
}

pub struct Key(pub Vec<u8>);
impl PskResolver for Key {
    fn resolve(&self, _: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V12,
    V13,
    Auto,
}

/// A DTLS client.
pub struct Client {
    pub dtls: dimpl::Dtls,
    start: Instant,
    wake: Duration,
    pub connected: bool,
    pub received: Vec<Vec<u8>>,
    pub close_notify: bool,
    pub error: Option<dimpl::Error>,
}

impl Client {
    pub fn with_psk(identity: &str, key: &str, now: Duration) -> Self {
        let digits = key.as_bytes().chunks(2);
        let key = digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let config = dimpl::Config::builder()
            .with_psk_client(identity.as_bytes().to_vec(), Arc::new(Key(key)))
            .build();
        Self::new(now, |at| dimpl::Dtls::new_12_psk(Arc::new(config.expect("valid")), at))
    }

    pub fn with_certificate(name: &str, version: Version, now: Duration) -> Self {
        let config = Arc::new(dimpl::Config::builder().build().expect("valid"));
        let certificate = certificate(name);
        Self::new(now, |at| match version {
            Version::V12 => dimpl::Dtls::new_12(config, certificate, at),
            Version::V13 => dimpl::Dtls::new_13(config, certificate, at),
            Version::Auto => dimpl::Dtls::new_auto(config, certificate, at),
        })
    }

    fn new(now: Duration, make: impl FnOnce(Instant) -> dimpl::Dtls) -> Self {
        let start = Instant::now();
        let mut dtls = make(start + now);
        dtls.set_active(true);
        Self {
            dtls,
            start,
            wake: Duration::ZERO,
            connected: false,
            received: Vec::new(),
            close_notify: false,
            error: None,
        }
    }

    pub fn receive(&mut self, now: Duration, datagram: &[u8]) -> Vec<Vec<u8>> {
        let result = self.dtls.handle_timeout(self.start + now);
        if let Err(error) = result.and_then(|()| self.dtls.handle_packet(datagram)) {
            self.error = Some(error);
            return Vec::new();
        }
        self.poll()
    }

    /// Tells the time, if the client waits for it.
    pub fn tick(&mut self, now: Duration) -> Vec<Vec<u8>> {
        if now < self.wake || self.error.is_some() {
            return Vec::new();
        }
        if let Err(error) = self.dtls.handle_timeout(self.start + now) {
            self.error = Some(error);
            return Vec::new();
        }
        self.poll()
    }

    pub fn send(&mut self, payload: &[u8]) -> Vec<Vec<u8>> {
        self.dtls.send_application_data(payload).expect("sent");
        self.poll()
    }

    pub fn close(&mut self) -> Vec<Vec<u8>> {
        self.dtls.close().expect("closed");
        self.poll()
    }

    fn poll(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 1 << 16];
        let mut datagrams = Vec::new();
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(datagram) => datagrams.push(datagram.to_vec()),
                Output::Connected => self.connected = true,
                Output::ApplicationData(payload) => self.received.push(payload.to_vec()),
                Output::CloseNotify => self.close_notify = true,
                Output::Timeout(at) => {
                    self.wake = at.saturating_duration_since(self.start);
                    return datagrams;
                }
                _ => {}
            }
        }
    }
}

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

/// A client and its session.
pub struct World {
    pub session: Session,
    pub client: Client,
    pub now: Duration,
    /// Every datagram that was sent, whether or not it arrived.
    pub seen: Vec<(Way, Vec<u8>)>,
}

impl World {
    pub fn new(worker: &Worker, client: impl FnOnce(Duration) -> Client) -> Self {
        let now = Duration::from_secs(100);
        let session = worker.session("192.0.2.1:5684");
        Self { session, client: client(now), now, seen: Vec::new() }
    }

    /// Lets datagrams travel, the way `network` says, until all is quiet for this time.
    pub fn run_through(
        &mut self,
        time: Duration,
        mut sent: Vec<Vec<u8>>,
        network: &mut dyn FnMut(Way, Vec<u8>) -> Vec<Vec<u8>>,
    ) {
        let end = self.now + time;
        loop {
            let mut up = std::mem::take(&mut sent);
            up.extend(self.client.tick(self.now));
            let mut down = Vec::new();
            if self.session.bridge.next_step().deadline.is_some_and(|at| at <= self.now) {
                self.session.bridge.handle_timeout(self.now);
                down.extend(self.session.take());
            }
            while !up.is_empty() || !down.is_empty() {
                let mut answers = Vec::new();
                for datagram in std::mem::take(&mut up) {
                    self.seen.push((Way::Up, datagram.clone()));
                    for datagram in network(Way::Up, datagram) {
                        answers.extend(self.session.receive(self.now, &datagram));
                    }
                }
                answers.extend(std::mem::take(&mut down));
                for datagram in answers {
                    self.seen.push((Way::Down, datagram.clone()));
                    for datagram in network(Way::Down, datagram) {
                        up.extend(self.client.receive(self.now, &datagram));
                    }
                }
            }
            if self.now >= end {
                return;
            }
            // The filter's tick.
            self.now = (self.now + Duration::from_millis(100)).min(end);
        }
    }

    pub fn run(&mut self, time: Duration, sent: Vec<Vec<u8>>) {
        self.run_through(time, sent, &mut |_, datagram| vec![datagram]);
    }

    /// Shakes hands over a good network.
    pub fn connect(&mut self) {
        self.run(Duration::from_millis(100), Vec::new());
        assert!(self.client.connected, "no association: {:?}", self.client.error);
    }

    /// Sends a datagram, and returns what comes back.
    pub fn exchange(&mut self, payload: &[u8]) -> Vec<Vec<u8>> {
        let sent = self.client.send(payload);
        self.run(Duration::ZERO, sent);
        std::mem::take(&mut self.client.received)
    }

    pub fn identities(&self) -> Vec<Identity> {
        self.session.log.borrow().identities.clone()
    }
}
