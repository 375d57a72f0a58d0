//! The loads. Each opens its own connections and closes them again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use integration::bench::{Latency, float, sample_time};
use integration::broker::Sink;
use integration::wire::{Client, Connect, DISCONNECT, Version, packet, publish};
use integration::{PATIENCE, eventually};

use super::gate::Gate;

const VERSION: Version = Version::V5;

/// About so many bytes of PUBLISH packets: many per write, so that system calls here are not what is measured.
fn bulk_buffer(payload: usize, size: usize) -> Vec<u8> {
    let packet = publish(VERSION, "bench/bulk", &vec![0x55; payload], 0, 0);
    packet.repeat(size / packet.len())
}

/// For bytes, and for messages that may take their time one by one.
pub(crate) const MEGABYTE: usize = 1 << 20;
pub(crate) const MESSAGES: usize = 1 << 15;

/// The octets of each of its packets.
pub(crate) fn bulk_packet_len(payload: usize) -> f64 {
    float(publish(VERSION, "bench/bulk", &vec![0x55; payload], 0, 0).len() as u64)
}

pub(crate) struct Bulk {
    pub(crate) megabytes_per_second: f64,
    /// CPU time of the proxy, if there is one.
    pub(crate) cpu_seconds_per_gigabyte: Option<f64>,
}

/// One connection publishes as fast as it goes; the clock stops when the sink has the last byte.
pub(crate) fn bulk(
    gate: &Gate,
    sink: &Sink,
    payload: usize,
    size: usize,
    quick: bool,
) -> Result<Bulk> {
    let buffer = bulk_buffer(payload, size);
    let mut expected = sink.received();
    let mut client = Client::session(gate.address, &Connect::new(VERSION, "bulk"))?;
    // The first megabytes find windows and buffers small.
    for _ in 0..16 {
        client.send(&buffer)?;
        expected += buffer.len() as u64;
    }
    wait_for_bytes(sink, expected)?;

    let (cpu_before, bytes_before, start) = (gate.cpu_seconds()?, expected, Instant::now());
    while start.elapsed() < sample_time(quick) {
        client.send(&buffer)?;
        expected += buffer.len() as u64;
    }
    wait_for_bytes(sink, expected)?;
    let (elapsed, bytes) = (start.elapsed(), float(expected - bytes_before));
    let cpu = cpu_before.zip(gate.cpu_seconds()?).map(|(before, after)| after - before);

    client.disconnect()?;
    eventually("the session to end", || Ok((sink.sessions() == 0).then_some(())))?;
    Ok(Bulk {
        megabytes_per_second: bytes / 1e6 / elapsed.as_secs_f64(),
        cpu_seconds_per_gigabyte: cpu.map(|seconds| seconds / (bytes / 1e9)),
    })
}

fn wait_for_bytes(sink: &Sink, expected: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while sink.received() < expected {
        ensure!(
            Instant::now() < deadline,
            "{} of {expected} bytes arrived at the sink",
            sink.received()
        );
        thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

/// The same towards a real broker; the clock stops when it has answered a PINGREQ sent after the last packet.
pub(crate) fn bulk_confirmed(gate: &Gate, payload: usize, quick: bool) -> Result<f64> {
    let buffer = bulk_buffer(payload, MEGABYTE);
    let mut client = Client::session(gate.address, &Connect::new(VERSION, "bulk"))?;
    for _ in 0..16 {
        client.send(&buffer)?;
    }
    client.ping()?;
    let (mut bytes, start) = (0, Instant::now());
    while start.elapsed() < sample_time(quick) {
        client.send(&buffer)?;
        bytes += buffer.len() as u64;
    }
    client.ping()?;
    let rate = float(bytes) / 1e6 / start.elapsed().as_secs_f64();
    client.disconnect()?;
    Ok(rate)
}

/// Topics of messages that are published at once: requests of one topic follow one another.
const TOPICS: usize = 32;

/// Messages of 64 octets per second at QoS 1, 64 of them unacknowledged.
pub(crate) fn acknowledged(gate: &Gate, quick: bool) -> Result<f64> {
    const WINDOW: usize = 64;
    let mut client = Client::session(gate.address, &Connect::new(VERSION, "acknowledged"))?;
    let burst: Vec<u8> = (0..WINDOW)
        .flat_map(|n| {
            let id = u16::try_from(n + 1).unwrap_or(1);
            publish(VERSION, &format!("bench/{}/qos1", n % TOPICS), &[0x55; 64], 1, id)
        })
        .collect();
    let mut round = || -> Result<()> {
        client.send(&burst)?;
        for _ in 0..WINDOW {
            client.expect(0x40)?;
        }
        Ok(())
    };
    for _ in 0..4 {
        round()?;
    }
    let (mut count, start) = (0, Instant::now());
    while start.elapsed() < sample_time(quick) {
        round()?;
        count += WINDOW as u64;
    }
    let rate = float(count) / start.elapsed().as_secs_f64();
    client.disconnect()?;
    Ok(rate)
}

/// From PUBLISH to PUBACK, one message at a time.
pub(crate) fn acknowledgement(gate: &Gate, quick: bool) -> Result<Latency> {
    let messages = if quick { 500 } else { 2_000 };
    let mut client = Client::session(gate.address, &Connect::new(VERSION, "acknowledgement"))?;
    let packet = publish(VERSION, "bench/0/qos1", &[0x55; 64], 1, 1);
    let mut micros = Vec::with_capacity(messages);
    for _ in 0..messages {
        let start = Instant::now();
        client.send(&packet)?;
        client.expect(0x40)?;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
    }
    client.disconnect()?;
    Latency::of(micros)
}

/// Publisher and subscriber each have a connection through the same gate: a message passes it twice, and the broker
/// once. 1,000 messages per second, far from what any side can carry.
pub(crate) fn latency(gate: &Gate, quick: bool) -> Result<Latency> {
    const PERIOD: Duration = Duration::from_millis(1);
    const TOPIC: &str = "bench/latency";
    let messages = if quick { 500 } else { 2_000 };

    let mut subscriber = Client::session(gate.address, &Connect::new(VERSION, "latency-sub"))?;
    subscriber.subscribe(&[TOPIC], 0)?;
    let mut publisher = Client::session(gate.address, &Connect::new(VERSION, "latency-pub"))?;

    let epoch = Instant::now();
    let length = publish(VERSION, TOPIC, &[0; 64], 0, 0).len();
    let receiver = thread::spawn(move || -> Result<Vec<f64>> {
        let mut stream = subscriber.stream();
        let mut buffer = vec![0; length];
        let mut micros = Vec::with_capacity(messages);
        for _ in 0..messages {
            stream.read_exact(&mut buffer).context("waiting for a message")?;
            let now = epoch.elapsed();
            // The payload ends the packet, and starts with the time of sending.
            let sent = buffer.get(length - 64..).and_then(|payload| payload.first_chunk());
            let sent = u64::from_be_bytes(*sent.context("a message without a time")?);
            micros.push((now - Duration::from_nanos(sent)).as_secs_f64() * 1e6);
        }
        Ok(micros)
    });
    for number in 0..messages {
        let due = PERIOD * u32::try_from(number)?;
        thread::sleep(due.saturating_sub(epoch.elapsed()));
        let mut payload = [0; 64];
        let nanos = u64::try_from(epoch.elapsed().as_nanos())?;
        if let Some(start) = payload.first_chunk_mut() {
            *start = nanos.to_be_bytes();
        }
        publisher.send(&publish(VERSION, TOPIC, &payload, 0, 0))?;
    }
    Latency::of(receiver.join().map_err(|_| anyhow!("the receiving thread panicked"))??)
}

/// Sessions per second from CONNECT over CONNACK to DISCONNECT and the end of the connection, four at a time.
pub(crate) fn connections(gate: &Gate, quick: bool) -> Result<f64> {
    let (address, start) = (gate.address, Instant::now());
    let threads: Vec<_> = (0..4)
        .map(|number| {
            thread::spawn(move || -> Result<u64> {
                let mut count = 0;
                while start.elapsed() < sample_time(quick) {
                    one_session(address, number, count)?;
                    count += 1;
                }
                Ok(count)
            })
        })
        .collect();
    let mut total = 0;
    for thread in threads {
        total += thread.join().map_err(|_| anyhow!("a client thread panicked"))??;
    }
    Ok(float(total) / start.elapsed().as_secs_f64())
}

fn one_session(address: SocketAddr, thread: u32, number: u64) -> Result<()> {
    const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let client_id = format!("session-{thread}-{number}");
    stream.write_all(&Connect::new(VERSION, &client_id).encode())?;
    let mut connack = [0; CONNACK.len()];
    stream.read_exact(&mut connack).context("waiting for CONNACK")?;
    ensure!(connack == CONNACK, "unexpected CONNACK {connack:02x?}");
    stream.write_all(&DISCONNECT)?;
    let end = stream.read(&mut [0]).context("waiting for the end")?;
    ensure!(end == 0, "bytes after DISCONNECT");
    Ok(())
}

pub(crate) struct Memory {
    /// Resident memory of the process per connection, in KiB.
    pub(crate) resident: f64,
    /// What Envoy's allocator counts per connection, in KiB; without the memory of the wasm VM.
    pub(crate) allocated: Option<f64>,
}

/// What each further connection adds, from `few` to `many` of them.
pub(crate) fn memory(gate: &Gate, sink: &Sink, few: usize, many: usize) -> Result<Memory> {
    let mut clients = Vec::with_capacity(many);
    let mut at = |count: usize| -> Result<(u64, Option<u64>)> {
        while clients.len() < count {
            let client_id = format!("idle-{:06}", clients.len());
            let connect = Connect::new(VERSION, &client_id).keep_alive(0);
            clients.push(Client::session(gate.address, &connect)?);
        }
        eventually("all sessions to be open", || {
            Ok((sink.sessions() == count as u64).then_some(()))
        })?;
        // Buffers that were needed for a moment only are given back.
        thread::sleep(Duration::from_millis(1500));
        let resident = gate.process().context("no process to look at")?.resident_bytes()?;
        let allocated = gate.envoy().map(|envoy| envoy.allocated_bytes()).transpose()?;
        Ok((resident, allocated))
    };
    let (first, then) = (at(few)?, at(many)?);
    let each = |before: u64, after: u64| {
        (float(after) - float(before)) / 1024.0 / float((many - few) as u64)
    };
    // Still the same sessions: a client that was dropped would flatter the result.
    for client in clients.iter_mut().step_by(97) {
        client.stream().write_all(&packet(0xC0, &[]))?;
    }
    Ok(Memory {
        resident: each(first.0, then.0),
        allocated: first.1.zip(then.1).map(|(before, after)| each(before, after)),
    })
}
