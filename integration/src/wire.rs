//! MQTT by hand: packets as bytes, and a client that sends and shows exactly what it is told to.
//!
//! Written apart from the project's codec on purpose: a mistake in that one must not hide behind itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::PATIENCE;

/// The protocol's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V3,
    /// MQTT 5.0.
    V5,
}

/// Both versions, for tests that promise the same of each.
pub const VERSIONS: [Version; 2] = [Version::V3, Version::V5];

/// `PINGREQ`.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// `DISCONNECT`, with reason code 0 in 5.0.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// A packet from its first byte and what follows the remaining length.
#[must_use]
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).unwrap_or_default();
        length /= 128;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A CONNECT packet in the making.
#[derive(Debug, Clone)]
pub struct Connect {
    version: Version,
    client_id: String,
    username: Option<String>,
    password: Option<Vec<u8>>,
    clean: bool,
    keep_alive: u16,
    session_expiry: u32,
    will: Option<(String, Vec<u8>, u8)>,
}

impl Connect {
    /// A clean session without user name or will; keep alive 60 s.
    #[must_use]
    pub fn new(version: Version, client_id: &str) -> Self {
        Self {
            version,
            client_id: client_id.to_owned(),
            username: None,
            password: None,
            clean: true,
            keep_alive: 60,
            session_expiry: 0,
            will: None,
        }
    }

    /// With a user name.
    #[must_use]
    pub fn user(mut self, name: &str) -> Self {
        self.username = Some(name.to_owned());
        self
    }

    /// With a password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.as_bytes().to_vec());
        self
    }

    /// Resumes a session, and keeps it for an hour.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.clean = false;
        self.session_expiry = 3600;
        self
    }

    /// Keep alive in seconds.
    #[must_use]
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// With a will.
    #[must_use]
    pub fn will(mut self, topic: &str, payload: &[u8], qos: u8) -> Self {
        self.will = Some((topic.to_owned(), payload.to_vec(), qos));
        self
    }

    /// The packet's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put(&mut body, b"MQTT");
        body.push(if self.version == Version::V5 { 5 } else { 4 });
        let mut flags = u8::from(self.clean) << 1;
        if let Some((_, _, qos)) = &self.will {
            flags |= 0x04 | qos << 3;
        }
        flags |= u8::from(self.password.is_some()) << 6 | u8::from(self.username.is_some()) << 7;
        body.push(flags);
        body.extend_from_slice(&self.keep_alive.to_be_bytes());
        if self.version == Version::V5 {
            if self.session_expiry == 0 {
                body.push(0);
            } else {
                body.extend_from_slice(&[5, 0x11]);
                body.extend_from_slice(&self.session_expiry.to_be_bytes());
            }
        }
        put(&mut body, self.client_id.as_bytes());
        if let Some((topic, payload, _)) = &self.will {
            if self.version == Version::V5 {
                body.push(0);
            }
            put(&mut body, topic.as_bytes());
            put(&mut body, payload);
        }
        if let Some(username) = &self.username {
            put(&mut body, username.as_bytes());
        }
        if let Some(password) = &self.password {
            put(&mut body, password);
        }
        packet(0x10, &body)
    }
}

/// A PUBLISH packet; the packet identifier is left out at QoS 0.
#[must_use]
pub fn publish(version: Version, topic: &str, payload: &[u8], qos: u8, id: u16) -> Vec<u8> {
    publish_with(version, topic, payload, qos << 1, id)
}

/// A retained PUBLISH packet.
#[must_use]
pub fn publish_retained(
    version: Version,
    topic: &str,
    payload: &[u8],
    qos: u8,
    id: u16,
) -> Vec<u8> {
    publish_with(version, topic, payload, qos << 1 | 1, id)
}

fn publish_with(version: Version, topic: &str, payload: &[u8], flags: u8, id: u16) -> Vec<u8> {
    let mut body = Vec::with_capacity(payload.len() + topic.len() + 8);
    put(&mut body, topic.as_bytes());
    if flags & 0x06 != 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    if version == Version::V5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    packet(0x30 | flags, &body)
}

/// A SUBSCRIBE packet for several topic filters at one QoS.
#[must_use]
pub fn subscribe(version: Version, id: u16, filters: &[&str], qos: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        put(&mut body, filter.as_bytes());
        body.push(qos);
    }
    packet(0x82, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP, by first byte, with success.
#[must_use]
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// A packet as it came: first byte, and what follows the remaining length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Type and flags.
    pub first: u8,
    /// All that follows the remaining length.
    pub body: Vec<u8>,
}

impl Packet {
    /// The packet type, as in the high half of the first byte: `0x20` for CONNACK.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.first & 0xF0
    }

    /// A CONNACK's return code or reason code.
    pub fn connack_code(&self) -> Result<u8> {
        ensure!(self.kind() == 0x20, "expected CONNACK, got {self:?}");
        self.body.get(1).copied().context("CONNACK without a code")
    }

    /// A CONNACK's session-present flag.
    #[must_use]
    pub fn session_present(&self) -> bool {
        self.body.first() == Some(&1)
    }

    /// An acknowledgement's packet identifier.
    pub fn id(&self) -> Result<u16> {
        let bytes = self.body.first_chunk().context("no packet identifier")?;
        Ok(u16::from_be_bytes(*bytes))
    }

    /// A PUBLISH taken apart.
    pub fn publish(&self, version: Version) -> Result<Publish<'_>> {
        ensure!(self.kind() == 0x30, "expected PUBLISH, got first byte {:#04x}", self.first);
        let (length, rest) = self.body.split_first_chunk().context("no topic")?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (topic, mut rest) = rest.split_at_checked(length).context("truncated topic")?;
        let qos = self.first >> 1 & 3;
        let mut id = 0;
        if qos > 0 {
            let (bytes, after) = rest.split_first_chunk().context("no packet identifier")?;
            id = u16::from_be_bytes(*bytes);
            rest = after;
        }
        if version == Version::V5 {
            // Brokers here send fewer than 128 bytes of properties.
            let (&length, after) = rest.split_first().context("no properties")?;
            rest = after.get(usize::from(length)..).context("truncated properties")?;
        }
        Ok(Publish {
            topic: std::str::from_utf8(topic)?,
            qos,
            id,
            retain: self.first & 1 == 1,
            payload: rest,
        })
    }
}

/// A PUBLISH packet's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The topic name.
    pub topic: &'a str,
    /// The QoS.
    pub qos: u8,
    /// The packet identifier; 0 at QoS 0.
    pub id: u16,
    /// The retain flag.
    pub retain: bool,
    /// The payload.
    pub payload: &'a [u8],
}

/// A client that does nothing by itself.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    version: Version,
}

impl Client {
    /// Opens a TCP connection and sends nothing.
    pub fn open(address: SocketAddr, version: Version) -> Result<Self> {
        Self::accepted(TcpStream::connect(address)?, version)
    }

    /// The other end: a connection that a server accepted.
    pub fn accepted(stream: TcpStream, version: Version) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, version })
    }

    /// In another version, when the peer has said so.
    #[must_use]
    pub fn speaking(self, version: Version) -> Self {
        Self { version, ..self }
    }

    /// The protocol's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Sends a CONNECT and waits for its CONNACK, whatever it says.
    pub fn connect(address: SocketAddr, connect: &Connect) -> Result<(Self, Packet)> {
        let mut client = Self::open(address, connect.version)?;
        client.send(&connect.encode())?;
        let connack = client.receive()?;
        connack.connack_code()?;
        Ok((client, connack))
    }

    /// A session that must be accepted.
    pub fn session(address: SocketAddr, connect: &Connect) -> Result<Self> {
        let (client, connack) = Self::connect(address, connect)?;
        ensure!(connack.connack_code()? == 0, "refused: {connack:02x?}");
        Ok(client)
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends no more (FIN), still receives.
    pub fn finish(&self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// The next packet.
    pub fn receive(&mut self) -> Result<Packet> {
        let mut first = [0];
        self.stream.read_exact(&mut first).context("waiting for a packet")?;
        let [first] = first;
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            let [byte] = byte;
            length |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                let mut body = vec![0; length];
                self.stream.read_exact(&mut body)?;
                return Ok(Packet { first, body });
            }
        }
        bail!("the remaining length has more than four bytes")
    }

    /// The next packet, which has to be of this kind: `0x40` for PUBACK.
    pub fn expect(&mut self, kind: u8) -> Result<Packet> {
        let packet = self.receive()?;
        ensure!(packet.kind() == kind, "expected a packet of type {kind:#04x}, got {packet:02x?}");
        Ok(packet)
    }

    /// Subscribes and waits for the SUBACK.
    pub fn subscribe(&mut self, filters: &[&str], qos: u8) -> Result<Packet> {
        self.send(&subscribe(self.version, 1, filters, qos))?;
        self.expect(0x90)
    }

    /// Publishes and goes through the acknowledgements of its QoS.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: u8) -> Result<()> {
        self.send(&publish(self.version, topic, payload, qos, 7))?;
        match qos {
            0 => Ok(()),
            1 => self.expect(0x40).map(drop),
            _ => {
                self.expect(0x50)?;
                self.send(&ack(0x62, 7))?;
                self.expect(0x70).map(drop)
            }
        }
    }

    /// Receives a PUBLISH and goes through the acknowledgements of its QoS; topic and payload.
    pub fn receive_publish(&mut self) -> Result<(String, Vec<u8>)> {
        let packet = self.expect(0x30)?;
        let publish = packet.publish(self.version)?;
        match publish.qos {
            0 => {}
            1 => self.send(&ack(0x40, publish.id))?,
            _ => {
                self.send(&ack(0x50, publish.id))?;
                self.expect(0x60)?;
                self.send(&ack(0x70, publish.id))?;
            }
        }
        Ok((publish.topic.to_owned(), publish.payload.to_vec()))
    }

    /// PINGREQ and PINGRESP: proof that the session lives, and that all that was sent before has arrived.
    pub fn ping(&mut self) -> Result<()> {
        self.send(&PINGREQ)?;
        self.expect(0xD0).map(drop)
    }

    /// Says DISCONNECT and closes.
    pub fn disconnect(mut self) -> Result<()> {
        self.send(&DISCONNECT)
    }

    /// Waits until the peer closes, within `limit`; what it still sent before that.
    pub fn read_to_close(&mut self, limit: Duration) -> Result<Vec<u8>> {
        let deadline = Instant::now() + limit;
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "the connection was still open after {limit:?}");
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => received.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                // A close with bytes unread on the other side is a reset.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(received)
    }

    /// Whether nothing comes within `time`, neither a byte nor the end.
    pub fn is_quiet_for(&self, time: Duration) -> Result<bool> {
        self.stream.set_read_timeout(Some(time))?;
        let quiet = self.stream.peek(&mut [0]).is_err_and(|error| {
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        });
        self.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_is_as_in_the_standard() {
        let bytes = Connect::new(Version::V3, "a").user("u").password("p").encode();
        assert_eq!(bytes, *b"\x10\x13\x00\x04MQTT\x04\xC2\x00\x3C\x00\x01a\x00\x01u\x00\x01p");
        let bytes = Connect::new(Version::V5, "a").persistent().encode();
        assert_eq!(
            bytes,
            *b"\x10\x13\x00\x04MQTT\x05\x00\x00\x3C\x05\x11\x00\x00\x0E\x10\x00\x01a"
        );
    }

    #[test]
    fn a_publish_comes_apart_as_it_was_put_together() {
        for version in VERSIONS {
            for qos in 0..3 {
                let bytes = publish(version, "a/b", b"hello", qos, 258);
                let body = bytes[2..].to_vec();
                let packet = Packet { first: bytes[0], body };
                let publish = packet.publish(version).unwrap();
                let id = if qos == 0 { 0 } else { 258 };
                assert_eq!(
                    publish,
                    Publish { topic: "a/b", qos, id, retain: false, payload: b"hello" }
                );
            }
        }
    }

    #[test]
    fn long_packets_have_long_lengths() {
        assert_eq!(packet(0x30, &[0; 128])[..3], [0x30, 0x80, 0x01]);
        assert_eq!(packet(0x30, &[0; 16_384])[..4], [0x30, 0x80, 0x80, 0x01]);
    }
}
