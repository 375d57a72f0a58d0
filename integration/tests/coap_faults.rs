//! What networks, servers and clients do wrong: loss, repetition, malformed messages, floods, and servers that are gone.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use integration::coap::aiocoap::{self, Request};
use integration::coap::draft::{ACK, CON, Draft, NON, RST};
use integration::coap::libcoap::{self, Tls};
use integration::coap::setup::{self, Setup, expect_no_sessions, port};
use integration::coap::udp::{Client, Datagram};
use integration::coap::{echo, pattern, udp};
use integration::envoy::Envoy;
use integration::ports::source;
use integration::relay::{Chance, Direction, Fate, Relay};
use integration::setup::expect_healthy;
use integration::{eventually, raise_descriptor_limit};
use services::web::Web;

const QUIET: Duration = Duration::from_millis(300);

fn chance(seed: u64) -> Chance {
    let delay = Duration::from_millis(80);
    Chance { lost: 10, twice: 10, overtaken: 10, late: 20, delay, ..Chance::new(seed) }
}

/// Sends a request until it has its response, more often than RFC 7252 §4.8 allows, and answers what comes.
fn insist(client: &Client, request: &Draft) -> Datagram {
    let sent = Datagram(request.datagram());
    let token = sent.message().unwrap().token.to_vec();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut acknowledged = false;
    loop {
        assert!(Instant::now() < deadline, "no response to {sent:?}");
        if !acknowledged {
            client.send(&sent.0).unwrap();
        }
        let until = Instant::now() + Duration::from_millis(150);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let Some(datagram) = client.receive_within(left).unwrap() else { break };
            let message = datagram.message().unwrap();
            if datagram.0[0] >> 4 & 3 == CON {
                client.send(&Draft::empty(ACK, message.message_id).datagram()).unwrap();
            }
            if message.token == token && message.code.is_response() {
                return datagram;
            }
            acknowledged |= message.message_id == sent.message().unwrap().message_id;
        }
    }
}

#[test]
fn on_a_bad_network_all_requests_complete_and_each_is_done_once() {
    let config = setup::udp_settings(setup::config().unwrap(), "separate_after: 0.1s").unwrap();
    let config = setup::udp_settings(config, "ack_timeout: 0.3s").unwrap();
    let config = setup::udp_settings(config, "response_timeout: 5s").unwrap();
    let mut setup = Setup::start(config).unwrap();
    let web = Web::default();
    let _running = services::start(web.clone(), setup.web).unwrap();
    let relay = Relay::by_chance(setup.address().unwrap(), chance(7)).unwrap();
    let address = relay.address();
    // Eight at once, each with requests of all kinds, one after the other.
    let clients: Vec<_> = (0..8)
        .map(|n| {
            std::thread::spawn(move || {
                let client = Client::connect(address).unwrap();
                for (i, id) in (0..15_u16).zip(1..) {
                    let (path, text) = match i % 5 {
                        0 => (format!("telemetry/once/{n}/{i}"), None),
                        1 => ("small".to_owned(), Some("small")),
                        2 => ("config/small".to_owned(), Some("small")),
                        // Separate responses: of the filter, and of the server.
                        3 => (format!("telemetry/slow/250?{n}-{i}"), Some("slow")),
                        _ => ("slow/150".to_owned(), Some("slow")),
                    };
                    let (path, query) = path.split_once('?').unwrap_or((&path, "once"));
                    let kind = if i % 5 == 0 && i % 2 == 0 { NON } else { CON };
                    let request = Draft::get(path).kind(kind).query(query).id(id);
                    let answer = insist(&client, &request.token(&[n, i as u8]));
                    assert_eq!(answer.code().unwrap(), "2.05", "{path}");
                    assert!(text.is_none_or(|text| answer.text().unwrap() == text), "{path}");
                }
            })
        })
        .collect();
    let uri = |path: &str| format!("coap://{address}/{path}");
    let output = libcoap::Client::new(Tls::None, &uri("large/10000")).run().unwrap();
    assert!(output.payload == pattern(10_000), "{} {}", output.payload.len(), output.complaint);
    let put = Request::new("PUT", &uri("telemetry/same")).pattern(10_000);
    let answers = aiocoap::responses(&[put]).unwrap();
    assert_eq!((answers[0].code(), answers[0].length()), ("2.04", Some(10_000)));
    assert!(answers[0].is_pattern());
    for client in clients {
        client.join().unwrap();
    }
    let count = |wanted: &dyn Fn(&str, &str) -> bool| {
        let requests = web.requests().into_iter();
        requests.filter(|request| wanted(&request.path, &request.query)).count()
    };
    for n in 0..8 {
        for i in [0, 5, 10] {
            assert_eq!(count(&|path, _| path == format!("/once/{n}/{i}")), 1, "{n} {i}");
        }
        for i in [3, 8, 13] {
            assert_eq!(count(&|_, query| query == format!("{n}-{i}")), 1, "{n} {i}");
        }
    }
    assert_eq!(count(&|path, _| path == "/same"), 1);
    assert!(relay.log().iter().filter(|(_, fate)| *fate == Fate::Lost).count() > 10);
    drop(relay);
    setup.expect_healthy().unwrap();
    setup.expect_no_sessions().unwrap();
}

#[test]
fn a_response_that_is_lost_is_had_by_asking_again() {
    let mut setup = Setup::new().unwrap();
    let web = Web::default();
    let _running = services::start(web.clone(), setup.web).unwrap();
    for path in ["telemetry/x", "config/small", "small"] {
        let relay = Relay::start(setup.address().unwrap(), |passing| {
            let first = passing.direction == Direction::Down && passing.number == 0;
            if first { Fate::Lost } else { Fate::Arrives }
        });
        let relay = relay.unwrap();
        let uri = format!("coap://{}/{path}", relay.address());
        let output = libcoap::Client::new(Tls::None, &uri).run().unwrap();
        assert!(!output.text().unwrap().is_empty(), "{path}");
    }
    assert_eq!(web.requests().len(), 1);
    // The server knows its retransmissions by itself; the check is not repeated.
    assert_eq!(setup.server.requests().unwrap().len(), 2);
    let log = setup.envoy.access_log();
    assert_eq!(log.iter().filter(|entry| entry["carry"] == "check").count(), 1);
    setup.expect_healthy().unwrap();
}

/// A malformed datagram, and what comes back: its kind and code, or nothing.
type Malformed = (&'static str, Vec<u8>, Option<(u8, &'static str)>);

fn malformed() -> Vec<Malformed> {
    const REJECTED: Option<(u8, &str)> = Some((RST, "0.00"));
    let get = || Draft::get("small").token(b"t");
    let bytes = |tail: &[u8]| [&[0x40, 1, 0x12, 0x34][..], tail].concat();
    let non = |mut datagram: Vec<u8>| {
        datagram[0] |= 0x10;
        datagram
    };
    let twice = |number: u16, value: &[u8]| get().option(number, value).option(number, value);
    let answer = |kind: u8, code| Some((kind, code));
    vec![
        ("nothing", vec![], None),
        ("one octet", vec![0x40], None),
        ("three octets", vec![0x40, 1, 0], None),
        ("version 0", vec![0x00, 1, 0, 1], None),
        ("version 2", vec![0x80, 1, 0, 1], None),
        ("version 3", vec![0xc0, 1, 0, 1], None),
        ("token length 9", vec![0x49, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9], REJECTED),
        ("token length 15", [&[0x4f, 1, 0, 1][..], &[0; 15]].concat(), REJECTED),
        ("token length 9, NON", vec![0x59, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9], None),
        ("token cut off", vec![0x44, 1, 0, 1, 1], REJECTED),
        ("code class 1", vec![0x40, 0b001_00001, 0, 1], REJECTED),
        ("code class 6", vec![0x40, 0b110_00001, 0, 1], REJECTED),
        ("code class 7", vec![0x40, 0b111_00001, 0, 1], REJECTED),
        ("code class 6, NON", vec![0x50, 0b110_00001, 0, 1], None),
        ("empty with a token", vec![0x41, 0, 0, 1, 7], REJECTED),
        ("empty with a payload", vec![0x40, 0, 0, 1, 0xff, 7], REJECTED),
        ("empty NON", vec![0x50, 0, 0, 1], None),
        ("ACK with a request", vec![0x60, 1, 0, 1], None),
        ("RST with a response", vec![0x70, 0x45, 0, 1], None),
        ("ACK of nothing", vec![0x60, 0, 0, 1], None),
        ("RST of nothing", vec![0x70, 0, 0, 1], None),
        ("ACK with a response to nothing", vec![0x60, 0x45, 0, 1], None),
        ("NON response to nothing", vec![0x50, 0x45, 0, 1], None),
        ("CON response to nothing", vec![0x40, 0x45, 0, 1], REJECTED),
        ("option delta 15", bytes(&[0xf0]), REJECTED),
        ("option length 15", bytes(&[0xbf]), REJECTED),
        ("option cut off", bytes(&[0xb5, b'a']), REJECTED),
        ("extended delta cut off", bytes(&[0xd0]), REJECTED),
        ("option number above 65535", bytes(&[0xe0, 0xff, 0xff, 0xe0, 0xff, 0xff]), REJECTED),
        ("payload marker without a payload", bytes(&[0xff]), REJECTED),
        ("payload marker without a payload, NON", non(bytes(&[0xff])), None),
        ("Uri-Port of 3 octets", get().option(7, &[1, 2, 3]).datagram(), answer(ACK, "4.02")),
        ("Uri-Host of no octets", get().option(3, b"").datagram(), answer(ACK, "4.02")),
        ("Uri-Host twice", twice(3, b"a").datagram(), answer(ACK, "4.02")),
        ("Accept twice", twice(17, b"").datagram(), answer(ACK, "4.02")),
        ("Uri-Path of 256 octets", get().option(11, &[b'a'; 256]).datagram(), answer(ACK, "4.02")),
        ("Uri-Path not UTF-8", get().option(11, b"\xff").datagram(), answer(ACK, "4.02")),
        ("Uri-Path not UTF-8, NON", get().option(11, b"\xff").kind(NON).datagram(), None),
        ("Uri-Query not UTF-8", get().option(15, b"\xc3").datagram(), answer(ACK, "4.02")),
        ("Uri-Path ..", get().option(11, b"..").datagram(), answer(ACK, "4.02")),
        ("Block2 with size exponent 7", get().option(23, &[7]).datagram(), answer(ACK, "4.00")),
        ("Block1, NON", get().option(27, &[7]).kind(NON).datagram(), answer(NON, "4.00")),
        ("Hop-Limit 0", get().option(16, &[0]).datagram(), answer(ACK, "4.00")),
        (
            "65 options",
            (0..64).fold(get(), |draft, _| draft.option(15, b"q")).datagram(),
            answer(ACK, "4.00"),
        ),
        ("1480 octets", get().payload(&[7; 1464]).datagram(), answer(ACK, "4.13")),
        ("1480 octets, NON", get().kind(NON).payload(&[7; 1464]).datagram(), answer(NON, "4.13")),
    ]
}

#[test]
fn malformed_datagrams_are_answered_as_the_standard_says_and_reach_nobody() {
    let mut setup = Setup::new().unwrap();
    let mut wrong = Vec::new();
    // They stay until the end: with the port of another, a request would be one that came before.
    let mut clients = Vec::new();
    for ((what, mut datagram, expected), id) in malformed().into_iter().zip(0x1000_u16..) {
        // From a source of its own, and from one that has a flow.
        for has_flow in [false, true] {
            clients.push(setup.client().unwrap());
            let client = clients.last().unwrap();
            if has_flow {
                client.request(&Draft::get("small").id(1).token(b"flow")).unwrap();
            }
            if let Some(place) = datagram.get_mut(2..4) {
                place.copy_from_slice(&id.to_be_bytes());
            }
            client.send(&datagram).unwrap();
            let patience =
                if expected.is_some() { Duration::from_secs(2) } else { Duration::from_millis(60) };
            let answer = client.receive_within(patience).unwrap();
            let seen = answer.as_ref().map(|answer| (answer.0[0] >> 4 & 3, answer.code().unwrap()));
            let seen = seen.as_ref().map(|(kind, code)| (*kind, code.as_str()));
            if seen != expected {
                wrong.push(format!("{what}, flow: {has_flow}: {seen:?}, not {expected:?}"));
            } else if let Some(answer) = answer {
                let message = answer.message().unwrap();
                if seen != Some((NON, message.code.to_string().as_str())) {
                    assert_eq!(message.message_id, id, "{what}");
                }
                let token: &[u8] = if message.code.is_response() { b"t" } else { b"" };
                assert_eq!(message.token, token, "{what}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let paths: Vec<String> = setup
        .server
        .requests()
        .unwrap()
        .iter()
        .map(|request| request["options"].to_string())
        .collect();
    assert_eq!(paths.len(), malformed().len());
    assert!(paths.iter().all(|options| *options == r#"[[11,"736d616c6c"]]"#), "{paths:?}");
    setup.expect_healthy().unwrap();
    setup.expect_no_sessions().unwrap();
}

/// A fast server, and an Envoy in front of it with these settings of the filter.
fn fast(
    settings: &[&str],
    edit: impl FnOnce(integration::envoy::Config) -> integration::envoy::Config,
) -> (Envoy, echo::Server) {
    raise_descriptor_limit();
    let server = echo::Server::start().unwrap();
    let mut config = edit(setup::config().unwrap());
    for setting in settings {
        config = setup::udp_settings(config, setting).unwrap();
    }
    let config = config.port(port::SERVER, server.port()).port(port::FIRMWARE, server.port());
    (config.start().unwrap(), server)
}

/// One request from each of so many sources, a hundred at a time.
fn visit(address: SocketAddr, sources: std::ops::Range<u32>) {
    let mut sources = sources.peekable();
    while sources.peek().is_some() {
        let clients: Vec<(Client, Draft)> = sources
            .by_ref()
            .take(100)
            .map(|number| {
                let client = Client::connect_from(source(number), address).unwrap();
                let id = (number % 0x1_0000) as u16;
                (client, Draft::post("visit", &number.to_be_bytes()).id(id).token(b"v"))
            })
            .collect();
        for (client, request) in &clients {
            client.send(&request.datagram()).unwrap();
        }
        for (client, request) in &clients {
            let answer = match client.receive_within(Duration::from_secs(2)).unwrap() {
                Some(answer) => answer,
                // Loopback loses what a socket's buffer has no room for.
                None => client.exchange(request).unwrap(),
            };
            assert_eq!(answer.code().unwrap(), "2.05");
        }
    }
}

#[test]
fn memory_is_level_however_many_sources_there_were() {
    let (mut envoy, _server) =
        fast(&["max_remembered: 500", "max_rate_limit_keys: 500"], |config| {
            config.replace("idle_timeout: 2s", "idle_timeout: 0.5s").unwrap()
        });
    let address = envoy.address(port::COAP).unwrap();
    let mut resident = Vec::new();
    for round in 0..12 {
        visit(address, round * 2500..(round + 1) * 2500);
        expect_no_sessions(&mut envoy).unwrap();
        resident.push(envoy.process.resident_bytes().unwrap() / 1024);
    }
    // All tables of both workers are full, and what the allocators keep has found its size, long before that round.
    let (then, last) = (resident[7], resident[11]);
    assert!(last < then + 3 * 1024, "KiB: {resident:?}");
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn a_flood_is_bounded_by_the_circuit_breaker_and_is_over_when_it_is_over() {
    // A server that never answers.
    let silent = udp::Server::start().unwrap();
    raise_descriptor_limit();
    let config = setup::config().unwrap();
    let config = config.replace(
        "max_pending_requests: 20000, max_requests: 20000",
        "max_pending_requests: 300, max_requests: 300",
    );
    let config =
        config.unwrap().replace("        idle_timeout: 300s\n", "        idle_timeout: 8s\n");
    let config = setup::udp_settings(config.unwrap(), "response_timeout: 3s").unwrap();
    let config = config.port(port::SERVER, silent.address().unwrap().port());
    let server = echo::Server::start().unwrap();
    let mut envoy = config.port(port::FIRMWARE, server.port()).start().unwrap();
    let address = envoy.address(port::COAP).unwrap();
    visit_firmware(address, 1);
    let before = envoy.process.resident_bytes().unwrap();
    // Requests that are never answered, and garbage; from 6,000 sources.
    for number in 0..6000_u32 {
        let client = Client::connect_from(source(number + 100_000), address).unwrap();
        if number % 2 == 0 {
            client.send(&Draft::get("never").id(1).token(b"never").datagram()).unwrap();
        } else {
            client.send(&number.to_be_bytes().repeat(20)).unwrap();
        }
    }
    let streams = envoy.stat("cluster.coap_udp.upstream_rq_active").unwrap();
    assert!(streams <= 300, "{streams}");
    let flows = envoy.stat("cluster.coap_server.upstream_rq_active").unwrap();
    assert!(flows <= 300, "{flows}");
    let grown = envoy.process.resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < 100 << 20, "{} KiB", grown / 1024);
    expect_no_sessions(&mut envoy).unwrap();
    visit_firmware(address, 2);
    assert!(envoy.stat("cluster.coap_udp.upstream_rq_active_overflow").unwrap() > 0);
    expect_healthy(&mut envoy).unwrap();
}

fn visit_firmware(address: SocketAddr, id: u16) {
    let client = Client::connect(address).unwrap();
    let answer = client.exchange(&Draft::post("fw", b"well-behaved").id(id).token(b"w")).unwrap();
    assert_eq!(answer.text().unwrap(), "well-behaved");
}

#[test]
fn one_source_of_garbage_does_not_keep_others_from_being_served() {
    let (mut envoy, _server) = fast(&[], |config| config.concurrency(1));
    let address = envoy.address(port::COAP).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let flood = std::thread::spawn(move || {
        let client = Client::connect(address).unwrap();
        let mut number = 0_u32;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            for _ in 0..100 {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let length = 1 + number as usize % 60;
                let garbage = number.to_be_bytes().repeat(15);
                // Refused, for a moment, if Envoy has no socket's buffer left.
                let _ = client.send(&garbage[..length]);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    for id in 1..50 {
        let client = Client::connect(address).unwrap();
        let answer = insist(&client, &Draft::post("x", b"well-behaved").id(id).token(b"w"));
        assert_eq!(answer.text().unwrap(), "well-behaved");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    flood.join().unwrap();
    expect_healthy(&mut envoy).unwrap();
    expect_no_sessions(&mut envoy).unwrap();
}

#[test]
fn servers_that_are_gone_are_found_again_when_they_are_back() {
    let mut setup = Setup::new().unwrap();
    let client = setup.client().unwrap();
    let get = |path: &str, id| Draft::get(path).id(id).token(b"t");
    // No HTTP service yet: Envoy's own 503.
    let answer = client.exchange(&get("telemetry/x", 1)).unwrap();
    assert_eq!(answer.code().unwrap(), "5.03");
    let web = Web::default();
    let running = services::start(web.clone(), setup.web).unwrap();
    assert_eq!(client.exchange(&get("telemetry/x", 2)).unwrap().code().unwrap(), "2.05");
    drop(running);
    let code = client.exchange(&get("telemetry/x", 3)).unwrap().code().unwrap();
    assert!(["5.02", "5.03"].contains(&code.as_str()), "{code}");
    let _running = services::start(web, setup.web).unwrap();
    assert_eq!(client.exchange(&get("telemetry/x", 4)).unwrap().code().unwrap(), "2.05");

    // Of a UDP server nobody knows whether it is there, but from the kernel.
    assert_eq!(client.request(&get("small", 5)).unwrap().code().unwrap(), "2.05");
    let address = setup.server.address();
    setup.server.process.kill().unwrap();
    client.send(&get("small", 6).datagram()).unwrap();
    if let Some(answer) = client.receive_within(Duration::from_secs(1)).unwrap() {
        assert!(answer.code().unwrap().starts_with("5."), "{answer:?}");
    }
    let socket = std::net::UdpSocket::bind(address).unwrap();
    // The client's retransmission, or its next request, finds it in the same flow.
    eventually("a request at the server that is back", || {
        client.send(&get("small", 7).datagram())?;
        socket.set_read_timeout(Some(QUIET))?;
        let mut buffer = [0; 1500];
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { return Ok(None) };
        let request = Datagram(buffer[..length].to_vec());
        let id = request.message()?.message_id;
        let response = Draft::new(2, 5).kind(ACK).id(id).token(b"t").payload(b"back");
        socket.send_to(&response.datagram(), from)?;
        Ok(Some(()))
    })
    .unwrap();
    let text = eventually("the response", || {
        let answer = client.receive()?;
        Ok((answer.code()? == "2.05").then(|| answer.text().unwrap().to_owned()))
    });
    assert_eq!(text.unwrap(), "back");
    expect_healthy(&mut setup.envoy).unwrap();
}
