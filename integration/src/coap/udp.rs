//! A client and a server over UDP that do nothing by themselves.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use codec_coap::{Message, MessageType, decode};

use super::draft::{ACK, Draft};
use crate::PATIENCE;
use crate::ports::free_port;
use crate::udp::receive_within;

/// A datagram as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram(pub Vec<u8>);

impl Datagram {
    /// What it says; an error if that is no CoAP.
    pub fn message(&self) -> Result<Message<'_>> {
        decode(&self.0).with_context(|| format!("received {:02x?}", self.0))
    }

    /// The code as it is written: `2.05`.
    pub fn code(&self) -> Result<String> {
        Ok(self.message()?.code.to_string())
    }

    /// The payload, which has to be text.
    pub fn text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(self.message()?.payload)?)
    }
}

impl From<Vec<u8>> for Datagram {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets)
    }
}

/// Receives datagrams.
pub type Client = crate::udp::Client<Datagram>;

impl Client {
    /// Sends a message and waits for the first that comes back: an answer, an empty acknowledgement or a reset.
    pub fn exchange(&self, draft: &Draft) -> Result<Datagram> {
        self.send(&draft.datagram())?;
        self.receive()
    }

    /// Sends a request and waits for the response with its token, skipping empty acknowledgements, and acknowledging the
    /// response if that is confirmable. Sends nothing twice.
    pub fn request(&self, draft: &Draft) -> Result<Datagram> {
        self.send(&draft.datagram())?;
        self.response(draft)
    }

    /// The next response to this request: again and again, if it observes.
    pub fn response(&self, request: &Draft) -> Result<Datagram> {
        let request = Datagram(request.datagram());
        let token = request.message()?.token;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let datagram = self.receive_within(left)?;
            let datagram =
                datagram.with_context(|| format!("no response to {:02x?}", request.0))?;
            let message = datagram.message()?;
            if message.message_type == MessageType::Confirmable {
                self.send(&Draft::empty(ACK, message.message_id).datagram())?;
            }
            ensure!(
                message.message_type != MessageType::Reset,
                "the request was answered with a reset"
            );
            if message.code.is_response() && message.token == token {
                return Ok(datagram);
            }
        }
    }
}

/// A server that does nothing by itself.
#[derive(Debug)]
pub struct Server(UdpSocket);

impl Server {
    /// One on a port of its own.
    pub fn start() -> Result<Self> {
        Ok(Self(UdpSocket::bind((Ipv4Addr::LOCALHOST, free_port()?))?))
    }

    /// Its address.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// The next datagram, and who sent it.
    pub fn receive(&self) -> Result<(Datagram, SocketAddr)> {
        let received = self.receive_within(PATIENCE)?;
        received.with_context(|| format!("waited {PATIENCE:?} in vain for a datagram"))
    }

    /// The next datagram, if one comes within this time.
    pub fn receive_within(&self, time: Duration) -> Result<Option<(Datagram, SocketAddr)>> {
        Ok(receive_within(&self.0, time)?.map(|(octets, client)| (Datagram(octets), client)))
    }

    /// Sends bytes as they are.
    pub fn send(&self, client: SocketAddr, bytes: &[u8]) -> Result<()> {
        let sent = self.0.send_to(bytes, client)?;
        ensure!(sent == bytes.len(), "{sent} of {} bytes were sent", bytes.len());
        Ok(())
    }
}
