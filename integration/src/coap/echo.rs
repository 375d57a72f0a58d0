//! A CoAP server that costs next to nothing: it answers every request with 2.05 and the request's payload.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use codec_coap::{Code, Message, MessageType, Options, decode};

use super::local;
use crate::ports::free_port;

/// How soon it notices that it is to end.
const GLANCE: Duration = Duration::from_millis(50);

/// The server, in a thread of this process; dropping it ends it.
///
/// Messages take one thread, one system call in and one out, no exchange state and no allocation: what stands in front of
/// it is the bottleneck. Confirmable requests are answered in the acknowledgement, others with a non-confirmable message
/// of the same message ID; pings with a reset.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct Server {
    port: u16,
    requests: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let port = free_port()?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(GLANCE))?;
        let requests = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            let mut answer = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                // Nothing for a while; or, on Linux, that an earlier client is gone, which is of no interest.
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                let Some(length) = respond(buffer.get(..length).unwrap_or_default(), &mut answer)
                else {
                    continue;
                };
                count.fetch_add(1, Ordering::Relaxed);
                // A client that is gone needs no answer.
                let _ = socket.send_to(answer.get(..length).unwrap_or_default(), client);
            }
        });
        Ok(Self { port, requests, stop, thread: Some(thread) })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// Messages answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes the answer; its length, if there is one.
fn respond(datagram: &[u8], answer: &mut [u8]) -> Option<usize> {
    let request = decode(datagram).ok()?;
    let message_type = match request.message_type {
        MessageType::Confirmable if request.code == Code::EMPTY => {
            return Message::empty(MessageType::Reset, request.message_id).encode(answer).ok();
        }
        MessageType::Confirmable => MessageType::Acknowledgement,
        MessageType::NonConfirmable => MessageType::NonConfirmable,
        MessageType::Acknowledgement | MessageType::Reset => return None,
    };
    if !request.code.is_request() {
        return None;
    }
    let response =
        Message { message_type, code: Code::CONTENT, options: Options::EMPTY, ..request };
    response.encode(answer).ok()
}

#[cfg(test)]
mod tests {
    use super::super::draft::{Draft, NON};
    use super::super::udp::Client;
    use super::*;

    #[test]
    fn a_request_comes_back_as_its_response() {
        let server = Server::start().unwrap();
        let client = Client::connect(server.address()).unwrap();
        let request = Draft::post("a/b", b"hello").id(7).token(b"tok");
        let answer = client.exchange(&request).unwrap();
        let message = answer.message().unwrap();
        assert_eq!(message.message_type, MessageType::Acknowledgement);
        assert_eq!((message.code, message.message_id), (Code::CONTENT, 7));
        assert_eq!((message.token, message.payload), (&b"tok"[..], &b"hello"[..]));
        let answer = client.exchange(&request.kind(NON)).unwrap();
        assert_eq!(answer.message().unwrap().message_type, MessageType::NonConfirmable);
        assert_eq!(server.answered(), 2);
    }

    #[test]
    fn garbage_is_not_answered() {
        let server = Server::start().unwrap();
        let client = Client::connect(server.address()).unwrap();
        client.send(b"garbage").unwrap();
        client.send(&[]).unwrap();
        // What was sent before was looked at before.
        let answer = client.exchange(&Draft::default().id(9)).unwrap();
        assert_eq!(answer.0, [0x70, 0, 0, 9]);
    }
}
