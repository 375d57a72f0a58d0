//! Many sessions that are all there at the same time, and messages between them at a steady rate.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::PATIENCE;
use integration::wire::{Connect, Version, publish, subscribe};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Runtime;

const VERSION: Version = Version::V5;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBACK: u8 = 0x90;

/// Every packet that a session receives is shorter: one octet of length.
const LONGEST: usize = 127;

const PAYLOAD: usize = 64;

/// The sessions, each with subscriptions of its own. All of them are one thread.
pub(crate) struct Fleet {
    address: SocketAddr,
    subscriptions: usize,
    epoch: Instant,
    received: Arc<Mutex<Received>>,
    sessions: Vec<OwnedWriteHalf>,
    /// Messages sent, ever.
    sent: usize,
    // After the sessions, which are closed first.
    runtime: Runtime,
}

#[derive(Default)]
struct Received {
    /// From the publisher's write to the subscriber's read, for each message.
    micros: Vec<f64>,
    /// The first session that went wrong, and how.
    fault: Option<String>,
}

/// What came of messages.
pub(crate) struct Sample {
    pub(crate) sent: usize,
    pub(crate) delivered: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) most: f64,
}

impl Fleet {
    /// Without a session yet.
    pub(crate) fn new(address: SocketAddr, subscriptions: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self {
            address,
            subscriptions,
            epoch: Instant::now(),
            received: Arc::default(),
            sessions: Vec::new(),
            sent: 0,
            runtime,
        })
    }

    /// Opens more of them until there are so many, some `at_once`.
    pub(crate) fn open_up_to(&mut self, count: usize, at_once: usize) -> Result<()> {
        let Self { address, subscriptions, epoch, received, sessions, runtime, .. } = self;
        let (address, subscriptions, epoch) = (*address, *subscriptions, *epoch);
        runtime.block_on(async {
            while sessions.len() < count {
                let numbers = (sessions.len()..count).take(at_once);
                let opening: Vec<_> = numbers
                    .map(|number| tokio::spawn(open(address, number, subscriptions)))
                    .collect();
                for opening in opening {
                    let number = sessions.len();
                    let (reader, writer) =
                        opening.await?.with_context(|| format!("session {number}"))?;
                    sessions.push(writer);
                    let received = Arc::clone(received);
                    tokio::spawn(async move {
                        // It ends when it goes wrong, or with the runtime.
                        if let Err(error) = listen(reader, number, epoch, &received).await {
                            let fault = format!("session {number}: {error:#}");
                            lock(&received).fault.get_or_insert(fault);
                        }
                    });
                }
            }
            Ok(())
        })
    }

    /// Has messages go from each session to another in turn, so many per second in all, for this time; and waits until they
    /// have been delivered.
    pub(crate) fn publish_for(&mut self, rate: f64, time: Duration) -> Result<Sample> {
        let Self { epoch, received, sessions, runtime, subscriptions, .. } = self;
        let (first, count) = (self.sent, sessions.len());
        let mut number = first;
        runtime.block_on(async {
            let start = Instant::now();
            let mut due = 0.0;
            while start.elapsed() < time {
                while due < start.elapsed().as_secs_f64() * rate {
                    // Another one each time, and never the same pair twice in a row.
                    let (from, to) = (number % count, (number * 7919 + 1) % count);
                    let topic = topic(to, number / count % *subscriptions);
                    let packet = message(*epoch, &topic, to)?;
                    let writer = sessions.get_mut(from).context("no such session")?;
                    writer.write_all(&packet).await.context("publishing")?;
                    number += 1;
                    due += 1.0;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let until = Instant::now() + PATIENCE;
            while lock(received).micros.len() < number - first && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(())
        })?;
        self.sent = number;
        let mut received = lock(received);
        if let Some(fault) = &received.fault {
            anyhow::bail!("{fault}");
        }
        let mut micros = std::mem::take(&mut received.micros);
        micros.sort_by(f64::total_cmp);
        let part = |part: usize| {
            let index = (micros.len() * part / 100).min(micros.len().saturating_sub(1));
            micros.get(index).copied().context("nothing was delivered")
        };
        let (p50, p99, most) = (part(50)?, part(99)?, part(100)?);
        Ok(Sample { sent: number - first, delivered: micros.len(), p50, p99, most })
    }

    /// Lets time pass in which nobody publishes.
    pub(crate) fn rest(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

fn topic(session: usize, number: usize) -> String {
    format!("bench/{session:06}/{number}")
}

/// A message with the time of sending and the session it is for.
fn message(epoch: Instant, topic: &str, to: usize) -> Result<Vec<u8>> {
    let nanos = u64::try_from(epoch.elapsed().as_nanos())?;
    let mut payload = [nanos.to_be_bytes(), u64::try_from(to)?.to_be_bytes()].concat();
    payload.resize(PAYLOAD, 0);
    Ok(publish(VERSION, topic, &payload, 0, 0))
}

type Reader = BufReader<OwnedReadHalf>;

/// A session with its subscriptions, once the broker has acknowledged them.
async fn open(
    address: SocketAddr,
    number: usize,
    subscriptions: usize,
) -> Result<(Reader, OwnedWriteHalf)> {
    // A storm takes its time.
    let limit = PATIENCE * 9;
    let opened = tokio::time::timeout(limit, async {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::with_capacity(2 * LONGEST, reader);
        let connect = Connect::new(VERSION, &format!("fleet-{number:06}")).keep_alive(300);
        writer.write_all(&connect.encode()).await?;
        let mut body = [0; LONGEST];
        let connack = receive(&mut reader, &mut body).await.context("waiting for CONNACK")?;
        ensure!(matches!(connack, (CONNACK, [_, 0, ..])), "unexpected {connack:02x?}");
        let topics: Vec<String> = (0..subscriptions).map(|topics| topic(number, topics)).collect();
        let filters: Vec<&str> = topics.iter().map(String::as_str).collect();
        writer.write_all(&subscribe(VERSION, 1, &filters, 0)).await?;
        let suback = receive(&mut reader, &mut body).await.context("waiting for SUBACK")?;
        // The packet identifier, no properties, and QoS 0 granted for each.
        let is_granted = matches!(suback, (SUBACK, [0, 1, 0, codes @ ..])
            if codes.len() == subscriptions && codes.iter().all(|code| *code == 0));
        ensure!(is_granted, "unexpected {suback:02x?}");
        anyhow::Ok((reader, writer))
    });
    opened.await.with_context(|| format!("waited {limit:?}"))?
}

/// Takes the session's messages, for as long as it lasts.
async fn listen(
    mut reader: Reader,
    number: usize,
    epoch: Instant,
    received: &Mutex<Received>,
) -> Result<()> {
    let mut body = [0; LONGEST];
    loop {
        let (kind, body) = receive(&mut reader, &mut body).await?;
        let now = epoch.elapsed();
        ensure!(kind == PUBLISH, "unexpected packet of type {kind:#04x}");
        let payload = body.len().checked_sub(PAYLOAD).and_then(|start| body.get(start..));
        let (sent, rest) = payload.and_then(<[u8]>::split_first_chunk).context("short payload")?;
        let to = rest.first_chunk().context("short payload")?;
        let to = u64::from_be_bytes(*to);
        ensure!(to == u64::try_from(number)?, "got a message for session {to}");
        let sent = Duration::from_nanos(u64::from_be_bytes(*sent));
        lock(received).micros.push(now.saturating_sub(sent).as_secs_f64() * 1e6);
    }
}

/// The next packet: its type, and what follows the remaining length.
async fn receive<'a>(reader: &mut Reader, body: &'a mut [u8; LONGEST]) -> Result<(u8, &'a [u8])> {
    let first = reader.read_u8().await?;
    let length = usize::from(reader.read_u8().await?);
    let body = body.get_mut(..length).context("a packet longer than expected")?;
    reader.read_exact(body).await?;
    Ok((first & 0xF0, body))
}

#[cfg(test)]
mod tests {
    use integration::broker::Mosquitto;

    use super::*;

    #[test]
    fn every_message_arrives_at_the_session_it_is_for() {
        let mosquitto = Mosquitto::start().unwrap();
        let mut fleet = Fleet::new(mosquitto.address(), 3).unwrap();
        fleet.open_up_to(4, 2).unwrap();
        fleet.open_up_to(7, 100).unwrap();
        for _ in 0..2 {
            let sample = fleet.publish_for(500.0, Duration::from_millis(100)).unwrap();
            assert!(sample.sent > 0);
            assert_eq!(sample.delivered, sample.sent);
            assert!(sample.p50 <= sample.p99 && sample.p99 <= sample.most);
        }
    }

    #[test]
    fn a_session_that_cannot_be_opened_is_an_error() {
        let address = SocketAddr::from(([127, 0, 0, 1], integration::ports::free_port().unwrap()));
        assert!(Fleet::new(address, 1).unwrap().open_up_to(1, 1).is_err());
    }
}
