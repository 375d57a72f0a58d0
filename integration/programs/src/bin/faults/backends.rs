//! Servers that are killed, hang, are slow, reset and lie: a broker, a CoAP server and a DNS server at the same time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use integration::load::ledger::Mood;
use integration::load::trio::Trio;
use rustix::process::Signal;

use crate::scene::{Doors, Fault, LASTS, Row, Servers, Weather, run, wait};

pub(crate) fn all(trio: &mut Trio, servers: &mut Servers) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let doors = Doors::of(trio)?;
    let fault = Fault::of_servers("servers killed, back after 6 s");
    rows.push(run(&fault, trio, servers, doors, |_, servers| {
        servers.broker.become_(Mood::Down);
        servers.coap.process.kill()?;
        servers.dns.stop();
        wait(LASTS)?;
        servers.broker.become_(Mood::Well);
        servers.coap.restart()?;
        servers.dns.restart()?;
        Ok(String::new())
    })?);
    let fault = Fault::of_servers("servers hang for 6 s: nothing is read, nothing is closed");
    rows.push(run(&fault, trio, servers, doors, |_, servers| {
        servers.broker.become_(Mood::Hung);
        servers.coap.process.signal(Signal::STOP)?;
        servers.dns_silent.store(true, Ordering::Relaxed);
        wait(LASTS)?;
        servers.broker.become_(Mood::Well);
        servers.coap.process.signal(Signal::CONT)?;
        servers.dns_silent.store(false, Ordering::Relaxed);
        Ok(String::new())
    })?);
    let weathers = [
        (
            "servers slow: 300 ms for each packet (MQTT), 1.4 s (CoAP), 0.7 s (DNS)",
            Mood::Slow,
            Weather::Slow,
        ),
        (
            "servers reset: connections (MQTT), requests (CoAP); close connections, say nothing over UDP (DNS)",
            Mood::Resetting,
            Weather::Resetting,
        ),
        (
            "servers lie: packets of clients, other IDs and tokens, others' answers, other questions, garbage",
            Mood::Lying,
            Weather::Lying,
        ),
        (
            "servers behind a bad network over UDP; a broker that closes after one octet",
            Mood::HalfAnswers,
            Weather::Bad,
        ),
    ];
    for (name, mood, weather) in weathers {
        let mut fault = Fault::of_servers(name);
        if weather == Weather::Slow {
            // What is under way is slow for that much longer.
            fault.recovery += Duration::from_secs(5);
        }
        rows.push(run(&fault, trio, servers, doors, |_, servers| {
            servers.broker.become_(mood);
            servers.coap_sky.become_(weather);
            servers.dns_sky.become_(weather);
            wait(LASTS)?;
            servers.broker.become_(Mood::Well);
            servers.coap_sky.become_(Weather::Fine);
            servers.dns_sky.become_(Weather::Fine);
            Ok(String::new())
        })?);
    }
    Ok(rows)
}
