//! CoAP clients that last and that come and go, over UDP and over TCP, with blocks and observations.
//!
//! The server is libcoap's, which keeps what was PUT; below `/telemetry` is an HTTP service that gives back what came, and below
//! `/config` nothing may be PUT.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use codec_coap::{Block, MessageType, OptionNumber, OptionValue};

use super::{Stop, Tally, expect_own};
use crate::coap::draft::{ACK, Draft, RST};
use crate::coap::tcp;
use crate::coap::udp::{Client, Datagram};
use crate::ports::source;

/// As RFC 7252 §4.8 has it, without what is random in it and in the time of later ones.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_RETRANSMIT: u32 = 4;

/// The size exponent of 512 octets.
const SZX: u32 = 5;

/// A client over UDP, with a source of its own.
#[derive(Debug)]
pub struct Udp {
    client: Client,
    id: u16,
    token: u32,
}

impl Udp {
    /// The `number`th.
    pub fn new(server: SocketAddr, number: u32, tally: &Tally) -> Result<Self> {
        tally.session();
        // Each address has its own limit of requests.
        let client = Client::connect_from(source(number % 200), server)?;
        Ok(Self { client, id: number as u16, token: number << 16 })
    }

    /// The response to a confirmable request, which is sent again if none comes.
    pub fn request(&mut self, request: &Draft, tally: &Tally) -> Result<Datagram> {
        self.id = self.id.wrapping_add(1);
        self.token = self.token.wrapping_add(1);
        let token = self.token.to_be_bytes();
        let datagram = request.clone().id(self.id).token(&token).datagram();
        for attempt in 0..=MAX_RETRANSMIT {
            if attempt > 0 {
                tally.repeated();
            }
            // Refused, if nothing listens; it may when it is sent again.
            let _ = self.client.send(&datagram);
            let until = Instant::now() + ACK_TIMEOUT;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                let Ok(Some(answer)) = self.client.receive_within(left) else { break };
                if self.is_response(&answer, &token)? {
                    return Ok(answer);
                }
            }
        }
        bail!("no response to {request:?}")
    }

    /// Whether it is the response to this; what is confirmable is acknowledged. What belongs to an earlier request is none.
    fn is_response(&self, datagram: &Datagram, token: &[u8]) -> Result<bool> {
        let message = datagram.message()?;
        if message.message_type == MessageType::Confirmable {
            self.client.send(&Draft::empty(ACK, message.message_id).datagram())?;
        }
        if message.message_type == MessageType::Reset && message.message_id == self.id {
            bail!("answered with a reset");
        }
        Ok(message.code.is_response() && message.token == token)
    }
}

fn expect_code(got: &str, codes: &[&str]) -> Result<()> {
    ensure!(codes.contains(&got), "the answer is {got}, not {codes:?}");
    Ok(())
}

/// Puts its own name at its own path, and gets it; telemetry and what is forbidden now and then.
fn exchange(client: &mut Udp, name: &str, n: u32, tally: &Tally) -> Result<()> {
    let own = format!("{name} {n}");
    let begin = Instant::now();
    if n.is_multiple_of(5) {
        let post = Draft::post(&format!("telemetry/{name}"), own.as_bytes());
        let answer = client.request(&post, tally)?;
        expect_code(&answer.code()?, &["2.04"])?;
        expect_own("telemetry", answer.message()?.payload, own.as_bytes())?;
    } else if n.is_multiple_of(11) {
        let put = Draft::put(&format!("config/{name}"), own.as_bytes());
        expect_code(&client.request(&put, tally)?.code()?, &["4.03"])?;
    } else {
        let put = Draft::put(name, own.as_bytes());
        expect_code(&client.request(&put, tally)?.code()?, &["2.01", "2.04"])?;
        tally.answered(begin);
        let begin = Instant::now();
        let answer = client.request(&Draft::get(name), tally)?;
        expect_code(&answer.code()?, &["2.05"])?;
        expect_own("representation", answer.message()?.payload, own.as_bytes())?;
        tally.answered(begin);
        return Ok(());
    }
    tally.answered(begin);
    Ok(())
}

/// Three blocks there and back (RFC 7959), at the server or, as telemetry, in the filter.
fn blocks(client: &mut Udp, path: &str, n: u32, tally: &Tally) -> Result<()> {
    let body = format!("{path} {n} ").repeat(200);
    let body = body.as_bytes().get(..1400).context("a short body")?;
    let is_telemetry = path.starts_with("telemetry");
    let begin = Instant::now();
    let chunks: Vec<&[u8]> = body.chunks(512).collect();
    let mut answer = None;
    for (number, chunk) in (0_u32..).zip(&chunks) {
        let more = number as usize + 1 < chunks.len();
        let block = number << 4 | u32::from(more) << 3 | SZX;
        let draft = if is_telemetry { Draft::post(path, chunk) } else { Draft::put(path, chunk) };
        let got = client.request(&draft.uint(27, block), tally)?;
        let codes: &[&str] = if more { &["2.31"] } else { &["2.01", "2.04"] };
        expect_code(&got.code()?, codes)?;
        answer = Some(got);
    }
    let mut received = Vec::new();
    if is_telemetry {
        // Its response is the first block of what came.
        received = answer.context("no answer")?.message()?.payload.to_vec();
    }
    loop {
        let number = u32::try_from(received.len() / 512)?;
        if received.len() % 512 != 0 || received.len() >= body.len() {
            break;
        }
        let draft = if is_telemetry {
            // A later block of a response is asked for with the same method (RFC 7959 §2.4).
            Draft::new(0, 2).path(path)
        } else {
            Draft::get(path)
        };
        let got = client.request(&draft.uint(23, number << 4 | SZX), tally)?;
        expect_code(&got.code()?, &["2.05", "2.04"])?;
        let message = got.message()?;
        let block = match message.options.get(OptionNumber::BLOCK2) {
            Some(OptionValue::Uint(value)) => Block::from_uint(value),
            _ => bail!("no Block2 in {message:?}"),
        };
        ensure!(block.num == number, "block {} instead of {number}", block.num);
        received.extend_from_slice(message.payload);
        if !block.more {
            break;
        }
    }
    expect_own("blocks", &received, body)?;
    tally.answered(begin);
    Ok(())
}

/// From one source, for ever: requests in each period, and now and then blocks.
pub fn lasting(
    server: SocketAddr,
    number: u32,
    period: Duration,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    let mut n = number;
    move |stop, tally| {
        let name = format!("lasting-{number}");
        let mut client = Udp::new(server, number, tally)?;
        while stop.pause(period) {
            n = n.wrapping_add(1);
            match n % 16 {
                3 => blocks(&mut client, &format!("blocks-{number}"), n, tally)?,
                9 => blocks(&mut client, &format!("telemetry/blocks-{number}"), n, tally)?,
                _ => exchange(&mut client, &name, n, tally)?,
            }
        }
        Ok(())
    }
}

/// From one source, for ever: nothing but telemetry, which is for an HTTP service.
pub fn telemetry(
    server: SocketAddr,
    number: u32,
    period: Duration,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    let mut n = 0_u32;
    move |stop, tally| {
        let mut client = Udp::new(server, number, tally)?;
        while stop.pause(period) {
            n = n.wrapping_add(1);
            let own = format!("telemetry {number} {n}");
            let begin = Instant::now();
            let post = Draft::post(&format!("telemetry/{number}"), own.as_bytes());
            let answer = client.request(&post, tally)?;
            expect_code(&answer.code()?, &["2.04"])?;
            expect_own("telemetry", answer.message()?.payload, own.as_bytes())?;
            tally.answered(begin);
        }
        Ok(())
    }
}

/// A new source in each period.
pub fn fleeting(
    server: SocketAddr,
    number: u32,
    period: Duration,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    let mut n = number;
    move |stop, tally| {
        while stop.pause(period) {
            n = n.wrapping_add(1);
            let name = format!("fleeting-{number}-{}", n % 10);
            exchange(&mut Udp::new(server, n, tally)?, &name, n, tally)?;
        }
        Ok(())
    }
}

/// Observes `/time` (RFC 7641) for 20 notifications, cancels, and begins again from a new source.
pub fn observing(
    server: SocketAddr,
    number: u32,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    /// libcoap notifies each second.
    const LATE: Duration = Duration::from_secs(8);
    move |stop, tally| {
        while stop.goes_on() {
            let mut observer = Udp::new(server, number, tally)?;
            let answer = observer.request(&Draft::get("time").option(6, b""), tally)?;
            expect_code(&answer.code()?, &["2.05"])?;
            let token = observer.token.to_be_bytes();
            for _ in 0..20 {
                if !stop.goes_on() {
                    break;
                }
                let until = Instant::now() + LATE;
                loop {
                    let left = until.saturating_duration_since(Instant::now());
                    ensure!(!left.is_zero(), "no notification within {LATE:?}");
                    let Some(datagram) = observer.client.receive_within(left)? else { continue };
                    if observer.is_response(&datagram, &token)? {
                        break;
                    }
                }
                tally.counted();
            }
            // With the same token, which `request` would change.
            observer.token = observer.token.wrapping_sub(1);
            observer.request(&Draft::get("time").uint(6, 1), tally)?;
        }
        Ok(())
    }
}

/// Over TCP: a connection for so many exchanges, one in each period, and then another one.
pub fn over_tcp(
    server: SocketAddr,
    number: u32,
    period: Duration,
    exchanges: u32,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    let mut n = 0_u32;
    move |stop, tally| {
        let (mut client, _) = tcp::Client::connect(server, 1 << 20)?;
        tally.session();
        let name = format!("tcp-{number}");
        for _ in 0..exchanges {
            if !stop.pause(period) {
                break;
            }
            n = n.wrapping_add(1);
            let own = format!("{name} {n}");
            let token = n.to_be_bytes();
            let begin = Instant::now();
            if n.is_multiple_of(5) {
                let post = Draft::post(&format!("telemetry/{name}"), own.as_bytes());
                let answer = client.request(&post.token(&token))?;
                expect_code(&answer.code()?, &["2.04"])?;
                expect_own("telemetry", answer.message()?.payload, own.as_bytes())?;
            } else {
                let put = Draft::put(&name, own.as_bytes()).token(&token);
                expect_code(&client.request(&put)?.code()?, &["2.01", "2.04"])?;
                let answer = client.request(&Draft::get(&name).token(&token))?;
                expect_code(&answer.code()?, &["2.05"])?;
                expect_own("representation", answer.message()?.payload, own.as_bytes())?;
            }
            tally.answered(begin);
        }
        Ok(())
    }
}

/// A reset for a message that nobody sent, for [`broken`](super::broken) clients.
#[must_use]
pub(super) fn stray_reset(id: u16) -> Vec<u8> {
    Draft::empty(RST, id).datagram()
}
