//! `mode: observe`: messages pass untouched, and are counted.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use integration::coap::aiocoap::{self, Request};
use integration::coap::draft::{ACK, Draft, NON};
use integration::coap::libcoap::{self, Tls};
use integration::coap::pattern;
use integration::coap::setup::port;
use integration::coap::udp::{Client, Server};
use integration::envoy::Config;
use integration::eventually;
use integration::setup::expect_healthy;

fn config() -> Config {
    Config::from_file("envoy-configs/coap-observe.yaml").unwrap()
}

#[test]
fn clients_and_servers_of_others_notice_nothing() {
    let server = aiocoap::Server::start().unwrap();
    let mut envoy = config().port(port::SERVER, server.address().port()).start().unwrap();
    let address = envoy.address(port::COAP).unwrap();
    for scheme in ["coap", "coap+tcp"] {
        let uri = |path: &str| format!("{scheme}://{address}/{path}");
        let output = libcoap::Client::new(Tls::None, &uri("large/100000")).run().unwrap();
        assert!(output.payload == pattern(100_000), "{scheme}");
        let answers = aiocoap::run(&[
            Request::new("POST", &uri("same")).pattern(100_000),
            Request::new("GET", &uri("ticks/50/5")).observe(30),
            Request::new("GET", &uri("slow/400")),
        ])
        .unwrap();
        assert!(answers[0][0].is_pattern() && answers[0][0].length() == Some(100_000), "{scheme}");
        assert_eq!((answers[1].len(), answers[2][0].text()), (31, "slow"), "{scheme}");
    }
    let counted = |labels: &[(&str, &str)], least: f64| {
        let seen = eventually("a metric", || {
            let requests = envoy.metric("coap_requests_total", labels)?;
            Ok(requests.filter(|requests| *requests >= least))
        });
        seen.unwrap()
    };
    counted(&[("method", "get")], 100.0);
    counted(&[("method", "post")], 98.0);
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn not_an_octet_is_changed_even_of_what_is_no_coap() {
    let server = Server::start().unwrap();
    let port = server.address().unwrap().port();
    let mut envoy = config().port(port::SERVER, port).start().unwrap();
    let client = Client::connect(envoy.address(port::COAP).unwrap()).unwrap();
    let datagrams = [
        Draft::get("a/b").id(1).token(b"t").option(65_001, b"?").datagram(),
        Draft::get("x").kind(NON).id(2).datagram(),
        Draft::empty(ACK, 3).datagram(),
        vec![0xff; 1200],
        vec![0x4f, 1, 2, 3],
        vec![7],
    ];
    for datagram in datagrams {
        client.send(&datagram).unwrap();
        let (received, from) = server.receive().unwrap();
        assert_eq!(received.0, datagram);
        server.send(from, &datagram).unwrap();
        assert_eq!(client.receive().unwrap().0, datagram);
    }
    let seen = eventually("decode errors", || {
        let errors = envoy.metric("coap_decode_errors_total", &[("direction", "from_client")])?;
        Ok(errors.filter(|errors| *errors >= 2.0))
    });
    seen.unwrap();
    expect_healthy(&mut envoy).unwrap();
}
