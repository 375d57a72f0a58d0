//! CoAP in flows: messages pass as they are, between clients and servers of others.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::net::SocketAddr;
use std::time::Duration;

use integration::coap::aiocoap::{self, Request};
use integration::coap::draft::{ACK, CON, Draft, NON, RST};
use integration::coap::libcoap::{self, Tls};
use integration::coap::setup::{self, Setup, expect_no_sessions, port};
use integration::coap::{pattern, udp};
use integration::eventually;
use integration::ports::free_port;
use integration::setup::expect_healthy;

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "FETCH", "PATCH", "iPATCH"];
const SCHEMES: [&str; 2] = ["coap", "coap+tcp"];
const QUIET: Duration = Duration::from_millis(300);

const OBSERVE: u16 = 6;
const NO_RESPONSE: u16 = 258;

fn libcoap(uri: &str) -> libcoap::Client {
    libcoap::Client::new(Tls::None, uri)
}

#[test]
fn every_method_passes_over_udp_and_tcp() {
    let mut setup = Setup::new().unwrap();
    for scheme in SCHEMES {
        let uri = setup.uri(scheme, "methods").unwrap();
        for method in METHODS {
            let client = libcoap(&uri).method(&method.to_lowercase());
            assert_eq!(client.run().unwrap().text().unwrap(), method, "{scheme}");
        }
        let requests = METHODS.map(|method| Request::new(method, &uri));
        let answers = aiocoap::responses(&requests).unwrap();
        let codes: Vec<&str> = answers.iter().map(aiocoap::Response::code).collect();
        assert_eq!(codes, ["2.05", "2.01", "2.04", "2.02", "2.05", "2.04", "2.04"], "{scheme}");
        // Location-Path.
        assert_eq!(answers[1].option(8), Some("6d6574686f6473"), "{scheme}");
    }
    setup.expect_healthy().unwrap();
    setup.expect_no_sessions().unwrap();
}

#[test]
fn bodies_of_up_to_a_megabyte_pass_block_wise_in_both_directions() {
    let mut setup = Setup::new().unwrap();
    for scheme in SCHEMES {
        let uri = |path: &str| setup.uri(scheme, path).unwrap();
        for length in [20_000, 1_000_000] {
            let output = libcoap(&uri(&format!("large/{length}"))).run().unwrap();
            assert!(output.payload == pattern(length), "{scheme}: {}", output.payload.len());
        }
        let same = |length| Request::new("POST", &uri("same")).pattern(length);
        let answers = aiocoap::responses(&[same(20_000), same(1 << 20)]).unwrap();
        for (answer, length) in answers.iter().zip([20_000, 1 << 20]) {
            assert_eq!((answer.code(), answer.length()), ("2.04", Some(length)), "{scheme}");
            assert!(answer.is_pattern(), "{scheme}");
        }
    }
    // As a server libcoap keys block-wise transfers by the client's endpoint.
    let server = libcoap::Server::start_with(Tls::None, &["-d", "10"]).unwrap();
    let config = setup::config().unwrap().port(port::SERVER, server.address().port());
    let mut envoy = config.port(port::FIRMWARE, server.address().port()).start().unwrap();
    let address = envoy.address(port::COAP).unwrap();
    let dir = envoy.process.dir().join("body");
    let body: Vec<u8> = b"abcdefghij".repeat(5_000);
    std::fs::write(&dir, &body).unwrap();
    let file = dir.to_string_lossy().into_owned();
    for scheme in SCHEMES {
        let uri = format!("{scheme}://{address}/kept-{}", &scheme[4..]);
        let put = libcoap(&uri).method("put").args(&["-f", &file]);
        assert_eq!(put.run().unwrap().complaint, "", "{scheme}");
        assert!(libcoap(&uri).run().unwrap().payload == body, "{scheme}");
    }
    let text = libcoap(&format!("coap://{address}/.well-known/core")).run().unwrap();
    assert!(text.text().unwrap().contains("</time>"), "{text:?}");
    expect_healthy(&mut envoy).unwrap();
    setup.expect_healthy().unwrap();
}

#[test]
fn notifications_of_a_server_come_until_they_are_cancelled() {
    let config =
        setup::config().unwrap().replace("idle_timeout: 300s", "idle_timeout: 4s").unwrap();
    let mut setup = Setup::start(config).unwrap();
    let all: String = (0..=100).map(|number| number.to_string()).collect();
    for scheme in SCHEMES {
        let uri = setup.uri(scheme, "ticks/100/5").unwrap();
        let seen = aiocoap::run(&[Request::new("GET", &uri).observe(50)]).unwrap().remove(0);
        assert_eq!(seen.len(), 51, "{scheme}");
        let client = libcoap(&uri).args(&["-s", "30"]);
        client.start().unwrap().wait_for("100 notifications", |out| out == all.as_bytes()).unwrap();
    }
    // An observation is a reason for a session to go on, beyond the idle timeout of 2 s.
    let observe = |setup: &Setup, id| {
        let client = setup.client().unwrap();
        let get = Draft::get("ticks/1000/700").uint(OBSERVE, 0).id(id).token(b"observe");
        let first = client.request(&get).unwrap();
        assert_eq!(
            (first.text().unwrap(), first.message().unwrap().options.observe().is_some()),
            ("0", true)
        );
        (client, get)
    };
    let expect_observed = |setup: &Setup, number: f64| {
        let seen = eventually("the number of observations", || {
            let active = setup.envoy.metric("coap_observations_active", &[])?;
            Ok((active == Some(number)).then_some(()))
        });
        assert!(seen.is_ok(), "{:?}", setup.envoy.metric("coap_observations_active", &[]));
    };
    // Those clients are gone without a word: their sessions end as idle ones of udp_proxy.
    expect_observed(&setup, 0.0);
    let (by_get, get) = observe(&setup, 1);
    let (by_reset, _) = observe(&setup, 2);
    expect_observed(&setup, 2.0);
    for number in ["1", "2", "3", "4"] {
        assert_eq!(by_get.response(&get).unwrap().text().unwrap(), number);
    }
    let cancel = Draft::get("ticks/1000/700").uint(OBSERVE, 1).id(9).token(b"observe");
    let answer = by_get.request(&cancel).unwrap();
    assert_eq!(answer.message().unwrap().options.observe(), None);
    let notification = by_reset.receive().unwrap();
    let reset = Draft::empty(RST, notification.message().unwrap().message_id);
    by_reset.send(&reset.datagram()).unwrap();
    expect_observed(&setup, 0.0);
    while by_reset.receive_within(Duration::from_millis(50)).unwrap().is_some() {}
    assert!(by_reset.is_quiet_for(Duration::from_millis(1500)).unwrap());
    assert!(by_get.is_quiet_for(QUIET).unwrap());
    setup.expect_no_sessions().unwrap();
    setup.expect_healthy().unwrap();
}

#[test]
fn message_layer_and_options_stay_between_client_and_server() {
    let mut setup = Setup::new().unwrap();
    let client = setup.client().unwrap();
    // A separate response: the server's own acknowledgement, then the server's own message.
    let slow = Draft::get("slow/600").id(1).token(b"slow");
    let answer = client.exchange(&slow).unwrap();
    assert_eq!(answer.0, Draft::empty(ACK, 1).datagram());
    let answer = client.response(&slow).unwrap();
    assert_eq!((answer.code().unwrap().as_str(), answer.text().unwrap()), ("2.05", "slow"));
    assert_eq!(answer.0[0] >> 4 & 3, CON);

    let non = Draft::get("small").kind(NON).id(3).token(b"non");
    let answer = client.exchange(&non).unwrap();
    assert_eq!((answer.text().unwrap(), answer.0[0] >> 4 & 3), ("small", NON));
    // A ping (§4.3); all flows have one server here.
    assert_eq!(
        client.exchange(&Draft::default().id(4)).unwrap().0,
        Draft::empty(RST, 4).datagram()
    );
    // No-Response for 2.xx (RFC 7967): the acknowledgement alone, and nothing for a NON.
    let silent = |kind, id| {
        Draft::put("same", b"x").kind(kind).id(id).token(b"no").uint(NO_RESPONSE, 2).datagram()
    };
    client.send(&silent(NON, 5)).unwrap();
    assert!(client.is_quiet_for(QUIET).unwrap());
    client.send(&silent(CON, 6)).unwrap();
    assert_eq!(client.receive().unwrap().0, Draft::empty(ACK, 6).datagram());
    assert!(client.is_quiet_for(QUIET).unwrap());

    // Critical or not, known or not: what options mean is the server's affair.
    let options =
        Draft::get("options").id(7).token(b"opt").option(65_001, b"?").option(65_000, b"!");
    let answer = client.request(&options.query("a=b")).unwrap();
    let text = answer.text().unwrap().to_owned();
    for option in [r#"[15, "613d62"]"#, r#"[65000, "21"]"#, r#"[65001, "3f"]"#] {
        assert!(text.contains(option), "{text}");
    }
    let strict = Draft::get("strict").id(8).token(b"strict").option(65_001, b"?");
    let answer = client.request(&strict).unwrap();
    assert_eq!((answer.code().unwrap().as_str(), answer.text().unwrap()), ("4.02", "[65001]"));

    let uri = |path: &str| setup.uri("coap", path).unwrap();
    let list = libcoap(&uri(".well-known/core")).run().unwrap();
    for path in ["</small>", "</fw/small>"] {
        assert!(list.text().unwrap().contains(path), "{list:?}");
    }
    let answers = aiocoap::responses(&[
        Request::new("GET", &uri("cached")),
        Request::new("GET", &uri("nothing")),
        Request::new("GET", &uri("status/157")),
        Request::new("GET", &uri("small")).non_confirmable(),
    ])
    .unwrap();
    let codes: Vec<&str> = answers.iter().map(aiocoap::Response::code).collect();
    assert_eq!(codes, ["2.05", "4.04", "4.29", "2.05"]);
    let etag = answers[0].option(4).unwrap();
    let etag: Vec<u8> = (0..etag.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&etag[at..at + 2], 16).unwrap())
        .collect();
    let valid =
        client.request(&Draft::get("cached").id(9).token(b"etag").option(4, &etag)).unwrap();
    assert_eq!(valid.code().unwrap(), "2.03");
    setup.expect_healthy().unwrap();
}

#[test]
fn a_separate_response_that_was_lost_comes_again() {
    let mut setup = Setup::new().unwrap();
    let client = setup.client().unwrap();
    client.send(&Draft::get("slow/300").id(2).token(b"again").datagram()).unwrap();
    assert_eq!(client.receive().unwrap().0, Draft::empty(ACK, 2).datagram());
    // Not acknowledged, for it might not have come. The server tries again after 2 s to 3 s (RFC 7252 §4.8).
    let first = client.receive().unwrap();
    assert_eq!(first, client.receive().unwrap());
    client.send(&Draft::empty(ACK, first.message().unwrap().message_id).datagram()).unwrap();
    assert!(client.is_quiet_for(Duration::from_secs(7)).unwrap());
    setup.expect_no_sessions().unwrap();
}

/// An Envoy with two servers by hand: the default one, and the one for `/fw`.
fn two_servers() -> (integration::envoy::Envoy, udp::Server, udp::Server, udp::Client) {
    let (default, firmware) = (udp::Server::start().unwrap(), udp::Server::start().unwrap());
    let config = setup::config().unwrap();
    let config = config.port(port::SERVER, default.address().unwrap().port());
    let config = config.port(port::FIRMWARE, firmware.address().unwrap().port());
    let envoy = config.port(port::WEB, free_port().unwrap()).start().unwrap();
    let client = udp::Client::connect(envoy.address(port::COAP).unwrap()).unwrap();
    (envoy, default, firmware, client)
}

fn response(kind: u8, id: u16, token: &[u8], text: &str) -> Vec<u8> {
    Draft::new(2, 5).kind(kind).id(id).token(token).payload(text.as_bytes()).datagram()
}

#[test]
fn two_servers_answer_one_client_and_each_hears_what_is_meant_for_it() {
    let (mut envoy, default, firmware, client) = two_servers();
    let answers = |server: &udp::Server, from: SocketAddr, text: &str, id: u16| {
        server.send(from, &response(CON, id, text.as_bytes(), text)).unwrap();
        let answer = client.receive().unwrap();
        assert_eq!(answer.text().unwrap(), text);
        answer.message().unwrap().message_id
    };
    let arrives = |server: &udp::Server, expected: Vec<u8>| {
        assert_eq!(server.receive().unwrap().0.0, expected);
    };
    let requests = [("small", &default), ("fw/image", &firmware)];
    let mut from = Vec::new();
    for ((path, server), id) in requests.iter().zip(10..) {
        let token = if id == 10 { &b"default"[..] } else { b"firmware" };
        let request = Draft::get(path).id(id).token(token).datagram();
        client.send(&request).unwrap();
        let (received, address) = server.receive().unwrap();
        assert_eq!(received.0, request);
        from.push(address);
        server.send(address, &Draft::empty(ACK, id).datagram()).unwrap();
        assert_eq!(client.receive().unwrap().0, Draft::empty(ACK, id).datagram());
    }
    // The first of each comes, and is acknowledged by one and rejected at the other.
    let id = answers(&default, from[0], "default", 500);
    client.send(&Draft::empty(ACK, id).datagram()).unwrap();
    arrives(&default, Draft::empty(ACK, 500).datagram());
    let id = answers(&firmware, from[1], "firmware", 700);
    client.send(&Draft::empty(RST, id).datagram()).unwrap();
    arrives(&firmware, Draft::empty(RST, 700).datagram());
    // A client does not know that there are two servers: a ping of one of them is answered to that one.
    firmware.send(from[1], &Draft::default().id(800).datagram()).unwrap();
    let ping = client.receive().unwrap();
    client.send(&Draft::empty(RST, ping.message().unwrap().message_id).datagram()).unwrap();
    arrives(&firmware, Draft::empty(RST, 800).datagram());
    // A request of a server, as in LwM2M, and its response by token.
    let read = Draft::get("3/0/1").id(900).token(b"read").datagram();
    firmware.send(from[1], &read).unwrap();
    assert_eq!(client.receive().unwrap().0, read);
    client.send(&Draft::empty(ACK, 900).datagram()).unwrap();
    arrives(&firmware, Draft::empty(ACK, 900).datagram());
    let value = response(NON, 901, b"read", "17");
    client.send(&value).unwrap();
    arrives(&firmware, value);
    assert!(default.receive_within(QUIET).unwrap().is_none());
    // With two servers, a ping of the client is answered by Envoy.
    assert_eq!(
        client.exchange(&Draft::default().id(77)).unwrap().0,
        Draft::empty(RST, 77).datagram()
    );
    expect_healthy(&mut envoy).unwrap();
    expect_no_sessions(&mut envoy).unwrap();
}

#[test]
fn messages_of_two_servers_with_the_same_message_id_are_told_apart() {
    let (mut envoy, default, firmware, client) = two_servers();
    let mut from = Vec::new();
    for (path, server, id) in [("small", &default, 1), ("fw/image", &firmware, 2)] {
        client.send(&Draft::get(path).id(id).token(path.as_bytes()).datagram()).unwrap();
        let (_, address) = server.receive().unwrap();
        server.send(address, &Draft::empty(ACK, id).datagram()).unwrap();
        client.receive().unwrap();
        from.push(address);
    }
    // To the client it is one endpoint that says both, and a message ID means one message only (RFC 7252 §4.4).
    default.send(from[0], &response(CON, 500, b"small", "a")).unwrap();
    let first = client.receive().unwrap();
    firmware.send(from[1], &response(CON, 500, b"fw/image", "b")).unwrap();
    let second = client.receive().unwrap();
    let ids = [&first, &second].map(|datagram| datagram.message().unwrap().message_id);
    assert_ne!(ids[0], ids[1], "the client takes the second for a duplicate of the first");
    for id in ids {
        client.send(&Draft::empty(ACK, id).datagram()).unwrap();
    }
    assert_eq!(default.receive().unwrap().0.0, Draft::empty(ACK, 500).datagram());
    assert_eq!(firmware.receive().unwrap().0.0, Draft::empty(ACK, 500).datagram());
    expect_healthy(&mut envoy).unwrap();
}
