//! A DNS server that costs next to nothing: to each question it answers that it is 192.0.2.1, for an hour.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use codec_dns::{Flags, HEADER_LEN, Header, Rcode};

use super::local;
use crate::ports::free_port;

/// How soon it notices that it is to end.
const GLANCE: Duration = Duration::from_millis(50);

/// An answer: the question's name, A, IN, 3,600 seconds, 192.0.2.1.
const ANSWER: [u8; 16] = [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 1];

/// The server, in a thread of this process; dropping it ends it.
///
/// A query takes one system call in and one out, and no allocation: what stands in front of it is the bottleneck.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct Responder {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let port = free_port()?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(GLANCE))?;
        // Refused, bursts of queries may be lost.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                // Nothing for a while; or, on Linux, that an earlier client is gone, which is of no interest.
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(length) = respond(&mut buffer, length) {
                    // A client that is gone needs no answer.
                    let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), client);
                }
            }
        });
        Ok(Self { port, stop, thread: Some(thread) })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Turns the query of this length into its answer, whose length this is. It has no EDNS, whatever the query has.
pub fn respond(buffer: &mut [u8], length: usize) -> Option<usize> {
    let header = codec_dns::header(buffer.get(..length)?).ok()?;
    if header.flags.is_response() || header.questions != 1 {
        return None;
    }
    let mut end = HEADER_LEN;
    loop {
        match usize::from(*buffer.get(end)?) {
            0 => break,
            label => end += 1 + label,
        }
    }
    // The root's label, QTYPE and QCLASS.
    end += 5;
    if end > length {
        return None;
    }
    let response = header.response(Rcode::NOERROR);
    let flags = response.flags.with(Flags::AA);
    let response = Header { flags, questions: 1, answers: 1, ..response };
    buffer.get_mut(..HEADER_LEN)?.copy_from_slice(&response.to_octets());
    buffer.get_mut(end..end + ANSWER.len())?.copy_from_slice(&ANSWER);
    Some(end + ANSWER.len())
}

#[cfg(test)]
mod tests {
    use codec_dns::RecordType;

    use super::super::query::Query;
    use super::super::udp::Client;
    use super::*;

    #[test]
    fn every_question_gets_the_address() {
        let server = Responder::start().unwrap();
        let client = Client::connect(server.address()).unwrap();
        client.send(b"garbage").unwrap();
        for query in ["www.example", ".", "a.b.c.d.e"] {
            let query = Query::new(query, RecordType::A).unwrap();
            for query in [query.clone(), query.dnssec_ok()] {
                let answer = client.ask(&query).unwrap();
                assert_eq!(answer.a().unwrap(), [Ipv4Addr::new(192, 0, 2, 1)]);
                assert_eq!(answer.ttls().unwrap(), [3600]);
            }
        }
    }
}
