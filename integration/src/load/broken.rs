//! Clients that send what nobody should, and do not care what becomes of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::Result;

use super::{Stop, Tally, coap};
use crate::coap::draft::Draft;
use crate::wire::{Connect, Version, publish};

/// How long a connection that is of no use may stay.
const MOMENT: Duration = Duration::from_millis(200);

/// A small generator (xorshift), so that each run sends the same.
#[derive(Debug)]
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Up to so many octets.
    fn octets(&mut self, most: u32) -> Vec<u8> {
        let length = 1 + self.next() % most;
        (0..length).map(|_| (self.next() >> 24) as u8).collect()
    }
}

/// Sends a broken thing in each period to each of these, over TCP to all of them, over UDP to CoAP and DNS.
pub fn all(
    mqtt: SocketAddr,
    coap: SocketAddr,
    dns: SocketAddr,
    period: Duration,
) -> impl FnMut(&Stop, &Tally) -> Result<()> + Send + 'static {
    let mut random = Random(0x9E37_79B9);
    move |stop, tally| {
        while stop.pause(period) {
            for address in [mqtt, coap, dns] {
                tally.session();
                // Closed before all is sent, as it may be.
                let _ = connection(address, &stream(&mut random, address == mqtt));
            }
            for address in [coap, dns] {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                let octets = datagram(&mut random);
                let _ = socket.send_to(&octets, address);
            }
            tally.counted();
        }
        Ok(())
    }
}

/// Random octets, half a message, or a good beginning and random octets.
fn stream(random: &mut Random, is_mqtt: bool) -> Vec<u8> {
    let begin = if is_mqtt {
        Connect::new(Version::V5, "broken").encode()
    } else {
        Draft::get("half").token(b"half").stream()
    };
    match random.next() % 4 {
        0 => random.octets(2000),
        1 => begin.get(..begin.len() / 2).unwrap_or_default().to_vec(),
        2 => [begin, random.octets(300)].concat(),
        _ => {
            let message = publish(Version::V5, "broken", &[b'x'; 300], 1, 1);
            [&begin[..], message.get(..100).unwrap_or_default()].concat()
        }
    }
}

fn datagram(random: &mut Random) -> Vec<u8> {
    match random.next() % 4 {
        0 => coap::stray_reset(random.next() as u16),
        1 => Draft::get("broken").token(b"long").payload(&[7; 1400]).datagram(),
        2 => [&[0x40, 1, 0, 1, 0xff][..], &random.octets(3)].concat(),
        _ => random.octets(100),
    }
}

fn connection(address: SocketAddr, octets: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(octets)?;
    stream.set_read_timeout(Some(MOMENT))?;
    let mut buffer = [0; 1024];
    // Until it is closed, or the moment is over.
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}
