//! A client over TCP that does nothing by itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use codec_dns::{Decoded, frame_tcp, tcp_length};

use super::query::{Answer, Query};
use super::udp::put;
use crate::PATIENCE;

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// What came next on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A message.
    Message(Answer),
    /// Nothing, in the time there was.
    Nothing,
    /// The end, with or without a reset.
    End,
}

impl Client {
    /// Connects.
    pub fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Where it sends from.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends octets as they are.
    pub fn send_raw(&mut self, octets: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(octets)?)
    }

    /// Sends messages, each with its length in front, in one piece.
    pub fn send(&mut self, messages: &[Vec<u8>]) -> Result<()> {
        self.send_raw(&framed(messages)?)
    }

    /// Ends its side: what is under way may still be answered.
    pub fn shut_down(&self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// The next message.
    pub fn receive(&mut self) -> Result<Answer> {
        match self.next_within(PATIENCE)? {
            Next::Message(answer) => Ok(answer),
            other => bail!("instead of a message came {other:?}"),
        }
    }

    /// What comes next within this time.
    pub fn next_within(&mut self, time: Duration) -> Result<Next> {
        let deadline = Instant::now() + time;
        loop {
            if let Decoded::Complete { message, consumed } = frame_tcp(&self.received, u16::MAX)? {
                let message = message.to_vec();
                self.received.drain(..consumed);
                return Ok(Next::Message(Answer(message)));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Next::Nothing);
            }
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let mut buffer = [0; 16_384];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(Next::End),
                Ok(length) => {
                    self.received.extend_from_slice(buffer.get(..length).unwrap_or_default());
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Next::End),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks once, and waits for the answer; an error if something else comes.
    pub fn ask(&mut self, query: &Query) -> Result<Answer> {
        self.send(&[query.octets()?])?;
        let answer = self.receive()?;
        ensure!(query.is_answered_by(&answer)?, "{query:?} got {:?}", answer.message());
        Ok(answer)
    }

    /// Asks all of these in one piece (RFC 7766 §6.2.1.1), and waits for the answers, which may come in any order: they are
    /// in that of the queries. The queries differ in their IDs.
    pub fn ask_all(&mut self, queries: &[Query]) -> Result<Vec<Answer>> {
        let messages: Vec<Vec<u8>> = queries.iter().map(Query::octets).collect::<Result<_>>()?;
        self.send(&messages)?;
        let mut answers = vec![None; queries.len()];
        for count in 0..queries.len() {
            let answer = self
                .receive()
                .with_context(|| format!("{count} of {} answers came", queries.len()))?;
            put(queries, &mut answers, answer)?;
        }
        Ok(answers.into_iter().flatten().collect())
    }
}

/// Messages as they are on a stream.
pub fn framed(messages: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for message in messages {
        out.extend_from_slice(&tcp_length(message.len())?);
        out.extend_from_slice(message);
    }
    Ok(out)
}
