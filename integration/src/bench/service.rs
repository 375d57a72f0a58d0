//! An HTTP/1.1 service that costs next to nothing, and what it can do by itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::dns::responder::respond;

/// What it answers every request with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 204.
    NoContent,
    /// 200 and the content that came.
    Same,
    /// 200 and what [`responder`](crate::dns::responder) answers to the DNS query that came (RFC 8484).
    Dns,
}

/// Starts it, for as long as this process lives.
pub fn start(answer: Answer) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(&stream, answer));
        }
    });
    Ok(address)
}

fn serve(mut stream: &TcpStream, answer: Answer) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let (mut line, mut content) = (String::new(), Vec::new());
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let field = line.trim_end().to_ascii_lowercase();
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().context("content-length")?;
            }
            if field.is_empty() {
                break;
            }
        }
        content.resize(length, 0);
        reader.read_exact(&mut content)?;
        if answer == Answer::NoContent {
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
            continue;
        }
        let content = match answer {
            Answer::Dns => answer_to(&content).context("no DNS query")?,
            _ => std::mem::take(&mut content),
        };
        let content_type = match answer {
            Answer::Dns => "content-type: application/dns-message\r\n",
            _ => "",
        };
        let length = content.len();
        // One write, so one segment.
        let mut response =
            format!("HTTP/1.1 200 OK\r\n{content_type}content-length: {length}\r\n\r\n")
                .into_bytes();
        response.extend_from_slice(&content);
        stream.write_all(&response)?;
    }
}

/// The answer to a DNS query.
fn answer_to(query: &[u8]) -> Option<Vec<u8>> {
    // Room for the record.
    let mut message = [query, &[0; 16]].concat();
    let length = respond(&mut message, query.len())?;
    message.truncate(length);
    Some(message)
}

/// How many requests per second one that answers with [`Answer::Same`] takes from so many clients, with one request at a
/// time each.
pub fn alone(service: SocketAddr, clients: usize, time: Duration) -> Result<f64> {
    const REQUEST: &[u8] = b"POST /bench HTTP/1.1\r\nhost: x\r\ncontent-length: 32\r\n\r\n0123456789abcdef0123456789abcdef";
    const RESPONSE: usize = b"HTTP/1.1 200 OK\r\ncontent-length: 32\r\n\r\n".len() + 32;
    let until = Instant::now() + time;
    let client = move || -> Result<u64> {
        let mut stream = TcpStream::connect(service)?;
        stream.set_nodelay(true)?;
        let mut response = [0; RESPONSE];
        let mut count = 0;
        while Instant::now() < until {
            stream.write_all(REQUEST)?;
            stream.read_exact(&mut response)?;
            count += 1;
        }
        Ok(count)
    };
    let clients: Vec<_> = (0..clients).map(|_| thread::spawn(client)).collect();
    let mut total = 0;
    for client in clients {
        total += client.join().map_err(|_| anyhow::anyhow!("a client ended"))??;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(total as f64 / time.as_secs_f64())
}
