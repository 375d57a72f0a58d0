//! What is wrong between clients and Envoy: over UDP and over TCP, for all three protocols at the same time.

use anyhow::Result;
use integration::load::trio::Trio;
use integration::relay::tcp::{Relay, Way};

use crate::scene::{Doors, Fault, LASTS, Row, Servers, Sky, Weather, run, under, wait};

pub(crate) fn all(trio: &mut Trio, servers: &mut Servers) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let straight = Doors::of(trio)?;
    let cases = [
        (
            "bad network, UDP: 10 % lost, 10 % twice, 10 % overtaken, 20 % late; TCP: 7 octets at a time",
            Weather::Bad,
            Way::Trickle,
        ),
        ("slow network: 1.4 s over UDP, 0.3 s each way over TCP", Weather::Slow, Way::Late),
        (
            "no network for 6 s over TCP, nothing is closed; a bad one over UDP",
            Weather::Bad,
            Way::Blocked,
        ),
        ("all connections over TCP reset by the network, three times", Weather::Fine, Way::Cut),
    ];
    for (name, weather, way) in cases {
        let sky = Sky::new();
        let mqtt = Relay::start(straight.mqtt)?;
        let (coap_udp, coap_tcp) =
            (under(straight.coap_udp, &sky)?, Relay::start(straight.coap_tcp)?);
        let (dns_udp, dns_tcp) = (under(straight.dns_udp, &sky)?, Relay::start(straight.dns_tcp)?);
        let doors = Doors {
            mqtt: mqtt.address(),
            coap_udp: coap_udp.address(),
            coap_tcp: coap_tcp.address(),
            dns_udp: dns_udp.address(),
            dns_tcp: dns_tcp.address(),
        };
        let become_ =
            |way| [&mqtt, &coap_tcp, &dns_tcp].into_iter().for_each(|relay| relay.become_(way));
        let row = run(&Fault::of_all(name), trio, servers, doors, |_, _| {
            sky.become_(weather);
            for _ in 0..3 {
                become_(way);
                wait(LASTS / 3)?;
            }
            become_(Way::Open);
            sky.become_(Weather::Fine);
            Ok(String::new())
        });
        rows.push(row?);
    }
    Ok(rows)
}
