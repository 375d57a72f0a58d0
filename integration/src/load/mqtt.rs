//! MQTT sessions that last, that come and go, and that are idle.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Stop, Tally, expect_own};
use crate::wire::{Client, Connect, VERSIONS, Version, ack, publish};

/// How long anything may take in a session.
const PATIENCE: Duration = Duration::from_secs(10);

/// A session that is open.
#[derive(Debug)]
pub struct Session {
    client: Client,
    version: Version,
    name: String,
    id: u16,
}

impl Session {
    /// One with this name; odd numbers speak 5.0.
    pub fn open(address: SocketAddr, name: &str, number: u32, tally: &Tally) -> Result<Self> {
        let version = VERSIONS.get(number as usize % 2).copied().context("no version")?;
        let connect = Connect::new(version, name);
        let client = Client::session(address, &connect)?;
        client.stream().set_read_timeout(Some(PATIENCE))?;
        client.stream().set_write_timeout(Some(PATIENCE))?;
        tally.session();
        Ok(Self { client, version, name: name.to_owned(), id: 0 })
    }

    /// Subscribes to the topic that [`Session::echo`] uses.
    pub fn subscribe(&mut self) -> Result<()> {
        let suback = self.client.subscribe(&[&self.topic()], 2)?;
        ensure!(suback.body.last().is_some_and(|code| *code < 0x80), "refused: {suback:?}");
        Ok(())
    }

    fn topic(&self) -> String {
        format!("echo/{}", self.name)
    }

    fn next_id(&mut self) -> u16 {
        self.id = self.id % 60_000 + 1;
        self.id
    }

    /// Publishes with this QoS, and waits for the message to come back and for all acknowledgements in both directions.
    pub fn echo(&mut self, number: u64, length: usize, qos: u8) -> Result<()> {
        let (topic, id) = (self.topic(), self.next_id());
        let mut payload = format!("{} {number} ", self.name).into_bytes();
        payload.resize(payload.len().max(length), b'.');
        self.client.send(&publish(self.version, &topic, &payload, qos, id))?;
        let (mut sent, mut received) = (qos == 0, false);
        while !sent || !received {
            let packet = self.client.receive()?;
            if packet.kind() == 0x30 {
                let message = packet.publish(self.version)?;
                expect_own("topic", message.topic.as_bytes(), topic.as_bytes())?;
                expect_own("message", message.payload, &payload)?;
                ensure!(!received, "a message came twice");
                match message.qos {
                    0 => received = true,
                    1 => {
                        received = true;
                        self.client.send(&ack(0x40, message.id))?;
                    }
                    _ => self.client.send(&ack(0x50, message.id))?,
                }
                continue;
            }
            let code = packet.body.get(2).copied().unwrap_or_default();
            ensure!(code < 0x80, "refused with {code:#04x}: {packet:?}");
            match packet.kind() {
                0x40 | 0x70 if packet.id()? == id => sent = true,
                0x50 if packet.id()? == id => self.client.send(&ack(0x62, id))?,
                0x60 => {
                    received = true;
                    self.client.send(&ack(0x70, packet.id()?))?;
                }
                _ => bail!("an unexpected packet: {packet:02x?}"),
            }
        }
        Ok(())
    }

    /// Publishes at QoS 1 what a rule makes an HTTP request of, and waits for its acknowledgement.
    pub fn telemetry(&mut self, number: u64) -> Result<()> {
        let topic = format!("telemetry/{}", self.name);
        let id = self.next_id();
        let payload = format!("{} {number}", self.name);
        self.client.send(&publish(self.version, &topic, payload.as_bytes(), 1, id))?;
        let puback = self.client.expect(0x40)?;
        let code = puback.body.get(2).copied().unwrap_or_default();
        ensure!(puback.id()? == id && code < 0x80, "{puback:?}");
        Ok(())
    }

    /// PINGREQ and PINGRESP.
    pub fn ping(&mut self) -> Result<()> {
        self.client.ping()
    }
}

/// Publishes to itself once in each period, with each QoS in turn, now and then 20,000 octets, and telemetry; for ever.
pub fn lasting(
    address: SocketAddr,
    number: u32,
    period: Duration,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    move |stop, tally| {
        let mut session = Session::open(address, &format!("lasting-{number}"), number, tally)?;
        session.subscribe()?;
        let mut n = u64::from(number);
        while stop.pause(period) {
            n += 1;
            let begin = Instant::now();
            if n.is_multiple_of(7) {
                session.telemetry(n)?;
            } else {
                let length = if n.is_multiple_of(20) { 20_000 } else { 100 };
                session.echo(n, length, (n % 3) as u8)?;
            }
            tally.answered(begin);
        }
        session.client.disconnect()
    }
}

/// A session in each period: it subscribes, publishes once to itself and ends, with DISCONNECT, FIN or a close at once.
pub fn fleeting(
    address: SocketAddr,
    number: u32,
    period: Duration,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    let mut n = 0;
    move |stop, tally| {
        while stop.pause(period) {
            n += 1;
            let name = format!("fleeting-{number}-{n}");
            let begin = Instant::now();
            let mut session = Session::open(address, &name, n, tally)?;
            session.subscribe()?;
            session.echo(u64::from(n), 50, (n % 3) as u8)?;
            tally.answered(begin);
            match n % 3 {
                0 => session.client.disconnect()?,
                1 => {
                    session.client.finish()?;
                    session.client.read_to_close(PATIENCE)?;
                }
                _ => drop(session),
            }
        }
        Ok(())
    }
}

/// A session of a user named `eu-…`, who has a broker of his own: PINGREQ in each period.
pub fn european(
    address: SocketAddr,
    number: u32,
    period: Duration,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    move |stop, tally| {
        let name = format!("european-{number}");
        let connect = Connect::new(Version::V5, &name).user("eu-x").password("x");
        let mut client = Client::session(address, &connect)?;
        tally.session();
        while stop.pause(period) {
            let begin = Instant::now();
            client.ping()?;
            tally.answered(begin);
        }
        client.disconnect()
    }
}

/// A session that says nothing but PINGREQ, each 20 seconds.
pub fn idle(
    address: SocketAddr,
    number: u32,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    const QUIET: Duration = Duration::from_secs(20);
    move |stop, tally| {
        let mut session = Session::open(address, &format!("idle-{number}"), number, tally)?;
        loop {
            let until = Instant::now() + QUIET;
            // Whether it was closed is to be known soon.
            while Instant::now() < until {
                if !stop.pause(Duration::from_millis(500)) {
                    return session.client.disconnect();
                }
                let stream = session.client.stream();
                stream.set_nonblocking(true)?;
                let peeked = stream.peek(&mut [0]);
                stream.set_nonblocking(false)?;
                match peeked {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Ok(0) => bail!("closed by the other side"),
                    other => bail!("something came: {other:?}"),
                }
            }
            let begin = Instant::now();
            session.ping()?;
            tally.answered(begin);
        }
    }
}
