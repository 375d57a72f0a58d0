//! The CoAP clients and servers of these tests understand one another with nothing between them: what fails with Envoy
//! between them is Envoy's fault, or the filter's.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use integration::coap::aiocoap::{self, Request};
use integration::coap::draft::Draft;
use integration::coap::libcoap::{self, Tls};
use integration::coap::{pattern, tcp, udp};
use integration::relay::{Chance, Direction, Fate, Relay};

#[test]
fn libcoap_and_aiocoap_exchange_every_method() {
    let server = aiocoap::Server::start().unwrap();
    for scheme in ["coap", "coap+tcp"] {
        let uri = format!("{scheme}://{}/methods", server.address());
        for method in ["get", "post", "put", "delete", "fetch", "patch", "ipatch"] {
            let output = libcoap::Client::new(Tls::None, &uri).method(method).run().unwrap();
            assert!(output.text().unwrap().eq_ignore_ascii_case(method), "{scheme} {output:?}");
        }
    }
}

#[test]
fn a_megabyte_goes_block_wise_in_both_directions() {
    let server = aiocoap::Server::start().unwrap();
    let uri = |path: &str| format!("coap://{}/{path}", server.address());
    let output = libcoap::Client::new(Tls::None, &uri("large/1000000")).run().unwrap();
    assert!(output.payload == pattern(1_000_000), "{}", output.payload.len());
    let there_and_back = Request::new("POST", &uri("same")).pattern(1 << 20);
    let answers = aiocoap::responses(&[there_and_back]).unwrap();
    assert_eq!((answers[0].code(), answers[0].length()), ("2.04", Some(1 << 20)));
    assert!(answers[0].is_pattern());
}

#[test]
fn notifications_come_until_they_are_cancelled() {
    let server = aiocoap::Server::start().unwrap();
    let uri = format!("coap://{}/ticks/100/5", server.address());
    let seen = aiocoap::run(&[Request::new("GET", &uri).observe(50)]).unwrap().remove(0);
    assert_eq!(seen.len(), 51);
    let client = libcoap::Client::new(Tls::None, &uri).args(&["-s", "30"]);
    let all: String = (0..=100).map(|number| number.to_string()).collect();
    client.start().unwrap().wait_for("100 notifications", |out| out == all.as_bytes()).unwrap();
}

#[test]
fn aiocoap_sees_the_refusals_of_its_server() {
    let mut server = aiocoap::Server::start().unwrap();
    let uri = |path: &str| format!("coap://{}/{path}", server.address());
    let answers = aiocoap::responses(&[
        Request::new("GET", &uri("nothing")),
        Request::new("GET", &uri("status/157")),
        Request::new("GET", &uri("strict")),
        Request::new("GET", &uri("strict")).option(65_001, b"x"),
        Request::new("GET", &uri("cached")),
        Request::new("GET", &uri("slow/300")),
        Request::new("GET", &uri("small")).non_confirmable(),
        Request::new("GET", &uri("large/20000")).one_block(),
    ])
    .unwrap();
    let codes: Vec<&str> = answers.iter().map(aiocoap::Response::code).collect();
    assert_eq!(codes, ["4.04", "4.29", "2.05", "4.02", "2.05", "2.05", "2.05", "2.05"]);
    assert_eq!(answers[4].option(14), Some("1e"));
    assert_eq!((answers[6].text(), answers[7].length()), ("small", Some(1024)));
    let non = aiocoap::request_seen(&mut server, |request| request["type"] == "NON").unwrap();
    assert_eq!(non["path"], "/small");
}

#[test]
fn the_raw_clients_are_understood() {
    let server = libcoap::Server::start().unwrap();
    let client = udp::Client::connect(server.address()).unwrap();
    let answer = client.exchange(&Draft::get(".well-known/core").id(7).token(b"t")).unwrap();
    assert_eq!(answer.code().unwrap(), "2.05");
    assert!(answer.text().unwrap().contains("</time>"));
    // An empty acknowledgement first, the response on its own.
    let slow = Draft::get("async").query("1").id(8).token(b"s");
    let answer = client.request(&slow).unwrap();
    assert_eq!(answer.code().unwrap(), "2.05");
    assert_ne!(answer.message().unwrap().message_id, 8);

    let (mut client, csm) = tcp::Client::connect(server.address(), 100_000).unwrap();
    assert!(csm.message().unwrap().max_message_size().is_some());
    let answer = client.request(&Draft::get("time").token(b"t")).unwrap();
    assert_eq!(answer.code().unwrap(), "2.05");
    client.finish().unwrap();
    client.read_to_close(Duration::from_secs(5)).unwrap();

    // Not libcoap's server: of 4.3.1, its pong has no token.
    let server = aiocoap::Server::start().unwrap();
    tcp::Client::connect(server.address(), 100_000).unwrap().0.ping().unwrap();
}

#[test]
fn libcoaps_clients_speak_tls_and_dtls_with_its_servers() {
    let psk = ["-k", "secret", "-u", "device"];
    for server_tls in Tls::BOTH {
        let certificate = libcoap::certificate("server");
        let mut args: Vec<&str> = certificate.iter().map(String::as_str).collect();
        args.extend(["-k", "secret"]);
        let server = libcoap::Server::start_with(server_tls, &args).unwrap();
        let port = server.secure_address().port();
        for tls in Tls::BOTH {
            for scheme in ["coaps", "coaps+tcp"] {
                let client = libcoap::Client::new(tls, &format!("{scheme}://localhost:{port}/"));
                let with_psk = client.clone().args(&psk).run().unwrap();
                let with_certificate = client.certificate("device-1").run().unwrap();
                for output in [with_psk, with_certificate] {
                    let text = String::from_utf8_lossy(&output.payload);
                    assert!(text.contains("test server"), "{server_tls:?} {tls:?} {output:?}");
                }
            }
        }
    }
}

#[test]
fn a_lossy_network_costs_time_and_nothing_else() {
    let server = aiocoap::Server::start().unwrap();
    let delay = Duration::from_millis(50);
    let chance = Chance { lost: 3, twice: 5, overtaken: 10, late: 20, delay, ..Chance::new(1) };
    let relay = Relay::by_chance(server.address(), chance).unwrap();
    let uri = |path: &str| format!("coap://{}/{path}", relay.address());
    let output = libcoap::Client::new(Tls::None, &uri("large/20000")).run().unwrap();
    assert!(output.payload == pattern(20_000), "{}", output.complaint);
    let answers = aiocoap::responses(&[Request::new("PUT", &uri("same")).pattern(20_000)]).unwrap();
    assert_eq!((answers[0].code(), answers[0].length()), ("2.04", Some(20_000)));
    assert!(answers[0].is_pattern());
    let lost = relay.log().iter().filter(|(_, fate)| *fate == Fate::Lost).count();
    assert!(lost > 0, "the seed loses nothing");
}

#[test]
fn a_lost_response_makes_the_client_send_its_request_again() {
    let server = aiocoap::Server::start().unwrap();
    let relay =
        Relay::start(server.address(), |passing| match (passing.direction, passing.number) {
            (Direction::Down, 0) => Fate::Lost,
            _ => Fate::Arrives,
        });
    let relay = relay.unwrap();
    let uri = format!("coap://{}/small", relay.address());
    let output = libcoap::Client::new(Tls::None, &uri).run().unwrap();
    assert_eq!(output.text().unwrap(), "small");
    let log = relay.log();
    let up: Vec<_> = log.iter().filter(|(passing, _)| passing.direction == Direction::Up).collect();
    assert_eq!(up.len(), 2);
    assert_eq!(up[0].0.content, up[1].0.content);
    // A duplicate: answered again, and not asked again.
    assert_eq!(server.requests().unwrap().len(), 1);
}
