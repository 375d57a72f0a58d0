//! A client over TCP (RFC 8323) that does nothing by itself but say CSM first.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use codec_coap::{Code, Decoded, TcpMessage, decode_tcp, frame_tcp};

use super::draft::Draft;
use crate::PATIENCE;

/// More than any message here has.
const MAX_MESSAGE_SIZE: u32 = 16 << 20;

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(pub Vec<u8>);

impl Frame {
    /// What it says; an error if that is no CoAP.
    pub fn message(&self) -> Result<TcpMessage<'_>> {
        let decoded = decode_tcp(&self.0).context("received what is no message")?;
        decoded.complete().context("a message longer than its header says")
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

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// What came after the last message that was taken out.
    received: Vec<u8>,
}

impl Client {
    /// Opens a connection and says nothing.
    pub fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Opens a connection, and both sides say CSM (RFC 8323 §5.3): block-wise, and messages of this size.
    pub fn connect(server: SocketAddr, max_message_size: u32) -> Result<(Self, Frame)> {
        let mut client = Self::open(server)?;
        let csm = Draft::new(7, 1).uint(2, max_message_size).option(4, b"");
        client.send(&csm.stream())?;
        let answer = client.receive()?;
        ensure!(answer.message()?.code == Code::CSM, "expected CSM, got {}", answer.code()?);
        Ok((client, answer))
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends no more (FIN), still receives.
    pub fn finish(&self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// The next message.
    pub fn receive(&mut self) -> Result<Frame> {
        loop {
            if let Decoded::Complete { message, .. } = frame_tcp(&self.received, MAX_MESSAGE_SIZE)?
                && self.received.len() >= message.len()
            {
                let rest = self.received.split_off(message.len());
                return Ok(Frame(std::mem::replace(&mut self.received, rest)));
            }
            let mut buffer = [0; 16_384];
            let count = self.stream.read(&mut buffer).context("waiting for a message")?;
            ensure!(count > 0, "the connection ended before a message");
            self.received.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
    }

    /// Sends a request and waits for the response with its token, skipping all else.
    pub fn request(&mut self, draft: &Draft) -> Result<Frame> {
        let sent = Frame(draft.stream());
        self.send(&sent.0)?;
        let token = sent.message()?.token;
        loop {
            let frame = self.receive()?;
            let message = frame.message()?;
            ensure!(message.code != Code::ABORT, "aborted: {:?}", frame.text());
            if message.code.is_response() && message.token == token {
                return Ok(frame);
            }
        }
    }

    /// Ping and pong (RFC 8323 §5.4), with nothing else between them.
    pub fn ping(&mut self) -> Result<()> {
        self.send(&Draft::new(7, 2).token(b"ping").stream())?;
        let frame = self.receive()?;
        let message = frame.message()?;
        ensure!(message.code == Code::PONG && message.token == b"ping", "no pong: {message:?}");
        Ok(())
    }

    /// Waits until the peer closes, within `limit`; what it still sent before that.
    pub fn read_to_close(&mut self, limit: Duration) -> Result<Vec<u8>> {
        let deadline = Instant::now() + limit;
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the connection was still open after {limit:?}");
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(std::mem::take(&mut self.received)),
                Ok(count) => {
                    self.received.extend_from_slice(buffer.get(..count).unwrap_or_default());
                }
                // A close with bytes unread on the other side is a reset.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Ok(std::mem::take(&mut self.received));
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether nothing comes within `time`, neither a byte nor the end.
    pub fn is_quiet_for(&self, time: Duration) -> Result<bool> {
        self.stream.set_read_timeout(Some(time))?;
        let quiet = self.received.is_empty()
            && self.stream.peek(&mut [0]).is_err_and(|error| {
                matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
            });
        self.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(quiet)
    }
}
