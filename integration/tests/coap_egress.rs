//! HTTP clients use CoAP servers through Envoy (RFC 8075).

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use integration::coap::draft::{ACK, CON, Draft};
use integration::coap::setup::{self, Setup, port};
use integration::coap::{libcoap, pattern, udp};
use integration::envoy::Envoy;
use integration::relay::{Chance, Fate, Relay};
use integration::setup::expect_healthy;
use serde_json::Value;

/// Where HTTP clients connect, in the example configuration.
const HTTP: u16 = 8080;

struct Response {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Response {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (other, value) = line.split_once(':')?;
            other.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn curl(envoy: &Envoy, path: &str, args: &[&str]) -> Response {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = |name: &str| envoy.process.dir().join(format!("{name}-{number}"));
    let (headers, body) = (file("headers"), file("body"));
    let uri = format!("http://{}{path}", envoy.address(HTTP).unwrap());
    let output = Command::new("curl")
        .args(["-s", "-m", "30", "--path-as-is", "-D"])
        .arg(&headers)
        .arg("-o")
        .arg(&body)
        .args(["-w", "%{http_code}"])
        .args(args)
        .arg(uri)
        .output()
        .unwrap();
    Response {
        status: String::from_utf8(output.stdout).unwrap().parse().unwrap(),
        headers: fs::read_to_string(headers).unwrap_or_default(),
        body: fs::read(body).unwrap_or_default(),
    }
}

#[test]
fn every_method_reaches_the_server_and_its_code_becomes_a_status() {
    let mut setup = Setup::new().unwrap();
    for (method, status) in [
        ("GET", 200),
        ("POST", 201),
        ("PUT", 200),
        ("DELETE", 200),
        ("FETCH", 200),
        ("PATCH", 200),
        ("iPATCH", 200),
    ] {
        // Over HTTP/1.1 Envoy takes no methods that it does not know.
        let mut data = vec!["--http2-prior-knowledge", "-X", method];
        if !matches!(method, "GET" | "DELETE") {
            data.extend(["-d", "x", "-H", "content-type: text/plain"]);
        }
        let response = curl(&setup.envoy, "/methods", &data);
        assert_eq!((response.status, response.text()), (status, method));
        let location = (method == "POST").then_some("/methods/1");
        assert_eq!(response.header("location"), location, "{method}");
    }
    let head = curl(&setup.envoy, "/small", &["-I"]);
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("text/plain; charset=utf-8"))
    );
    for (code, status) in [
        (128, 400),
        (129, 403),
        (130, 500),
        (131, 403),
        (132, 404),
        (133, 400),
        (134, 406),
        (140, 412),
        (141, 413),
        (143, 415),
        (157, 429),
        (160, 500),
        (161, 501),
        (162, 502),
        (163, 503),
        (164, 504),
    ] {
        let response = curl(&setup.envoy, &format!("/status/{code}"), &[]);
        assert_eq!((response.status, response.text()), (status, "status"), "{code}");
    }
    assert_eq!(curl(&setup.envoy, "/small", &["-X", "TRACE"]).status, 501);
    setup.expect_healthy().unwrap();
}

#[test]
fn options_and_headers_become_each_other() {
    let mut setup = Setup::new().unwrap();
    let envoy = &setup.envoy;
    let args = [
        "-X",
        "POST",
        "-d",
        "{}",
        "-H",
        "content-type: application/json",
        "-H",
        "accept: application/json",
    ];
    let response = curl(envoy, "/options?a=b%20c&d", &args);
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    let seen: Value = serde_json::from_str(response.text()).unwrap();
    let has = |number: u16, value: &[u8]| {
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        seen["options"].as_array().unwrap().iter().any(|o| o[0] == number && o[1] == hex.as_str())
    };
    assert!(has(12, &[50]) && has(17, &[50]), "{seen}");
    assert!(has(15, b"a=b c") && has(15, b"d"), "{seen}");
    let response = curl(envoy, "/cached", &[]);
    assert_eq!((response.status, response.header("cache-control")), (200, Some("max-age=30")));
    let etag = response.header("etag").unwrap();
    let again = curl(envoy, "/cached", &["-H", &format!("if-none-match: {etag}")]);
    assert_eq!((again.status, again.body.len()), (304, 0));
    // Content that has no Content-Format, and an answer that CoAP cannot give.
    let unknown = ["-d", "x", "-H", "content-type: application/x-unheard-of"];
    assert_eq!(curl(envoy, "/same", &unknown).status, 415);
    assert_eq!(curl(envoy, "/same", &["-H", "accept: application/x-unheard-of"]).status, 406);
    // A segment is what was meant, slash and all; what a server would resolve is not sent.
    let response = curl(envoy, "/options%2Fx", &[]);
    assert_eq!(response.status, 404);
    let requests = setup.server.requests().unwrap();
    assert_eq!(requests.last().unwrap()["path"], "/options%2Fx".replace("%2F", "/"));
    setup.expect_healthy().unwrap();
}

#[test]
fn bodies_of_up_to_a_megabyte_go_block_wise_in_both_directions() {
    let mut setup = Setup::new().unwrap();
    for length in [1_024, 1_025, 20_000, 1_000_000] {
        let response = curl(&setup.envoy, &format!("/large/{length}"), &[]);
        assert_eq!(response.status, 200, "{length}");
        assert!(response.body == pattern(length), "{length}");
        let file = setup.envoy.process.dir().join("sent");
        fs::write(&file, pattern(length)).unwrap();
        let data = format!("@{}", file.display());
        let args =
            ["-X", "PUT", "-H", "content-type: application/octet-stream", "--data-binary", &data];
        let response = curl(&setup.envoy, "/options", &args);
        assert_eq!(response.status, 200, "{length}: {:?}", response.headers);
        let seen: Value = serde_json::from_str(response.text()).unwrap();
        assert_eq!(seen["length"], length);
    }
    // libcoap's server as well.
    let server = libcoap::Server::start_with(libcoap::Tls::None, &["-d", "10"]).unwrap();
    let config = setup::config().unwrap().port(port::SERVER, server.address().port());
    let mut envoy = config.port(port::FIRMWARE, server.address().port()).start().unwrap();
    let file = envoy.process.dir().join("sent");
    fs::write(&file, pattern(20_000)).unwrap();
    let data = format!("@{}", file.display());
    let args =
        ["-X", "PUT", "-H", "content-type: application/octet-stream", "--data-binary", &data];
    assert_eq!(curl(&envoy, "/kept", &args).status, 201);
    assert!(curl(&envoy, "/kept", &[]).body == pattern(20_000));
    assert!(curl(&envoy, "/.well-known/core", &[]).text().contains("</time>"));
    expect_healthy(&mut envoy).unwrap();
    setup.expect_healthy().unwrap();
}

#[test]
fn a_body_comes_back_block_wise_as_it_went() {
    let mut setup = Setup::new().unwrap();
    for length in [2_000, 100_000] {
        let file = setup.envoy.process.dir().join("sent");
        fs::write(&file, pattern(length)).unwrap();
        let data = format!("@{}", file.display());
        let content = "content-type: application/octet-stream";
        let args = ["-X", "PUT", "-H", content, "--data-binary", &data];
        let response = curl(&setup.envoy, "/same", &args);
        assert_eq!(response.status, 200, "{length}: {:?}", response.headers);
        assert!(response.body == pattern(length), "{length}");
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn slow_responses_are_waited_for_and_notifications_are_server_sent_events() {
    let mut setup = Setup::new().unwrap();
    let response = curl(&setup.envoy, "/slow/1500", &[]);
    assert_eq!((response.status, response.text()), (200, "slow"));
    let args = ["-N", "-m", "3", "-H", "accept: text/event-stream"];
    let response = curl(&setup.envoy, "/ticks/20/20", &args);
    assert_eq!(response.status, 200);
    assert!(response.header("content-type").unwrap().starts_with("text/event-stream"));
    let data: Vec<&str> =
        response.text().lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!((data.first(), data.last()), (Some(&"0"), Some(&"20")), "{data:?}");
    // What cannot be observed is one event, or a plain response.
    let response = curl(&setup.envoy, "/small", &args);
    assert!(response.text().contains("small"), "{}", response.text());
    setup.expect_healthy().unwrap();
}

#[test]
fn loss_on_the_way_to_the_device_costs_time_only() {
    let server = integration::coap::aiocoap::Server::start().unwrap();
    let delay = Duration::from_millis(50);
    let chance = Chance { lost: 8, twice: 10, overtaken: 10, late: 10, delay, ..Chance::new(5) };
    let relay = Relay::by_chance(server.address(), chance).unwrap();
    let config = setup::config().unwrap().port(port::SERVER, relay.address().port());
    let mut envoy = config.port(port::FIRMWARE, relay.address().port()).start().unwrap();
    for n in 0..10 {
        let response = curl(&envoy, &format!("/small?n={n}"), &["-m", "60"]);
        assert_eq!((response.status, response.text()), (200, "small"), "{n}");
    }
    assert!(curl(&envoy, "/large/5000", &["-m", "60"]).body == pattern(5_000));
    let requests = server.requests().unwrap();
    for n in 0..10 {
        let query = format!("n={n}");
        let count = requests.iter().filter(|request| request["query"][0] == query.as_str()).count();
        assert_eq!(count, 1, "{n}");
    }
    assert!(relay.log().iter().any(|(_, fate)| *fate == Fate::Lost));
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn what_a_server_does_wrong_is_a_bad_gateway_and_its_silence_a_timeout() {
    let server = udp::Server::start().unwrap();
    let port = server.address().unwrap().port();
    let config = setup::config().unwrap().port(port::SERVER, port).port(port::FIRMWARE, port);
    let mut envoy = config.replace("timeout: 100s", "timeout: 2s").unwrap().start().unwrap();
    let answered = |respond: &(dyn Fn(u16, &[u8]) -> Vec<u8> + Sync)| {
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| curl(&envoy, "/x", &[]));
            let (request, from) = server.receive().unwrap();
            let message = request.message().unwrap();
            server.send(from, &respond(message.message_id, message.token)).unwrap();
            asking.join().unwrap().status
        })
    };
    let reset = answered(&|id, _| Draft::empty(integration::coap::draft::RST, id).datagram());
    assert_eq!(reset, 502);
    let other = answered(&|id, _| Draft::new(2, 5).kind(ACK).id(id).token(b"other").datagram());
    assert_eq!(other, 504, "a response with another token is none");
    let garbage = answered(&|_, _| vec![0xff; 50]);
    assert_eq!(garbage, 504);
    let unknown = answered(&|id, token| {
        Draft::new(2, 5).kind(ACK).id(id).token(token).option(65_001, b"?").datagram()
    });
    // A critical option that is not understood: the response is rejected (RFC 7252 §5.4.1).
    assert_eq!(unknown, 502);
    let good = answered(&|id, token| {
        let response = Draft::new(2, 5).kind(ACK).id(id).token(token);
        response.option(12, b"").payload(b"good").datagram()
    });
    assert_eq!(good, 200);
    // A separate response is acknowledged.
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| curl(&envoy, "/x", &[]));
        let (request, from) = server.receive().unwrap();
        let message = request.message().unwrap();
        server.send(from, &Draft::empty(ACK, message.message_id).datagram()).unwrap();
        let response = Draft::new(2, 5).kind(CON).id(77).token(message.token).payload(b"late");
        server.send(from, &response.datagram()).unwrap();
        assert_eq!(server.receive().unwrap().0.0, Draft::empty(ACK, 77).datagram());
        assert_eq!(asking.join().unwrap().text(), "late");
    });
    expect_healthy(&mut envoy).unwrap();
}
