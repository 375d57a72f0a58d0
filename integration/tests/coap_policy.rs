//! Envoy's own routes and filters decide about CoAP requests, and the filter's limits.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use integration::coap::aiocoap::{self, Request};
use integration::coap::draft::{ACK, CON, Draft, NON};
use integration::coap::setup::{self, Setup, expect_no_sessions, port};
use integration::coap::{tcp, udp};
use integration::envoy::{Config, Envoy};
use integration::eventually;
use integration::setup::expect_healthy;
use services::web::Web;

const QUIET: Duration = Duration::from_millis(300);

const OBSERVE: u16 = 6;
const ECHO: u16 = 252;

fn kind(datagram: &udp::Datagram) -> u8 {
    datagram.0[0] >> 4 & 3
}

fn max_age(datagram: &udp::Datagram) -> Option<u32> {
    datagram.message().unwrap().options.max_age()
}

fn echo(datagram: &udp::Datagram) -> Option<Vec<u8>> {
    datagram.message().unwrap().options.echo().map(<[u8]>::to_vec)
}

/// All ports of one address at one worker, so that limits per worker are limits.
fn with_one_worker(config: Config) -> Config {
    config.concurrency(1)
}

#[test]
fn each_status_of_a_check_or_a_route_is_its_code_and_nothing_reaches_the_server() {
    let table = [
        (302, "5.02"),
        (400, "4.00"),
        (401, "4.01"),
        (403, "4.03"),
        (404, "4.04"),
        (405, "4.05"),
        (406, "4.06"),
        (409, "4.09"),
        (412, "4.12"),
        (413, "4.13"),
        (415, "4.15"),
        (418, "4.00"),
        (422, "4.22"),
        (429, "4.29"),
        (451, "4.03"),
        (500, "5.00"),
        (501, "5.01"),
        (502, "5.02"),
        (503, "5.03"),
        (504, "5.04"),
    ];
    let mut config =
        setup::rule(setup::config().unwrap(), "{paths: [/check/**], carry: check}").unwrap();
    config = setup::rule(config, "{paths: [/request/**], carry: request}").unwrap();
    for (status, _) in table {
        // In flows the path is the first segment alone.
        let regex = format!("/((check|request)/{status}|flow-{status})");
        let answer = format!("direct_response: {{status: {status}}}");
        let header = r#"response_headers_to_add: [{header: {key: retry-after, value: "7"}}]"#;
        let path = format!(r#"match: {{safe_regex: {{regex: "{regex}"}}}}"#);
        config = setup::route(config, &format!("{{{path}, {answer}, {header}}}")).unwrap();
    }
    let mut setup = Setup::start(config).unwrap();
    let client = setup.client().unwrap();
    let mut stream = setup.tcp().unwrap();
    for (status, code) in table {
        for (way, place) in ["check/", "request/", "flow-"].into_iter().zip(0..) {
            let path = format!("{way}{status}");
            let token = format!("{status}");
            let id = status * 8 + place * 2;
            let request = Draft::get(&path).token(token.as_bytes());
            let answer = client.exchange(&request.clone().id(id)).unwrap();
            assert_eq!(answer.code().unwrap(), code, "{path}");
            let message = answer.message().unwrap();
            assert_eq!((kind(&answer), message.message_id), (ACK, id), "{path}");
            assert_eq!(message.token, token.as_bytes(), "{path}");
            let retry_after = matches!(status, 429 | 503).then_some(7);
            assert_eq!(max_age(&answer), retry_after, "{path}");
            if way != "request/" {
                assert!(!answer.text().unwrap().is_empty(), "{path}");
            }
            let answer = client.exchange(&request.clone().kind(NON).id(id + 1)).unwrap();
            assert_eq!((answer.code().unwrap().as_str(), kind(&answer)), (code, NON), "{path}");
            assert_eq!(answer.message().unwrap().token, token.as_bytes(), "{path}");
            if way != "flow-" {
                let answer = stream.request(&request).unwrap();
                assert_eq!(answer.code().unwrap(), code, "{path}");
            }
        }
    }
    assert!(setup.server.requests().unwrap().is_empty());
    setup.expect_healthy().unwrap();
    setup.expect_no_sessions().unwrap();
}

#[test]
fn rbac_decides_by_method_path_and_client_address() {
    let rules = "                policies:\n";
    let nobody = "                  nobody:\n                    permissions: [{any: true}]\n                    principals: [{remote_ip: {address_prefix: 127.0.0.9, prefix_len: 32}}]\n";
    let config = setup::config().unwrap().replace(rules, &format!("{rules}{nobody}")).unwrap();
    let mut setup = Setup::start(config).unwrap();
    let web = Web::default();
    let _running = services::start(web.clone(), setup.web).unwrap();
    let address = setup.address().unwrap();
    let client = setup.client().unwrap();
    let ask = |request: Draft| client.request(&request.token(b"rbac")).unwrap().code().unwrap();
    // Under /config only GET may pass; everywhere else anything.
    assert_eq!(ask(Draft::get("config/methods").id(1)), "2.05");
    for (detail, id) in (2..8).zip(10..) {
        assert_eq!(ask(Draft::new(0, detail).path("config/methods").id(id)), "4.03", "0.0{detail}");
    }
    assert_eq!(ask(Draft::put("methods", b"x").id(2)), "2.04");
    // A path that only looks like another one.
    assert_eq!(ask(Draft::put("config%2Fmethods", b"x").id(3)), "4.04");
    let twisted = Draft::new(0, 3).option(11, b"config").option(11, b"").path("methods");
    assert_eq!(ask(twisted.id(4)), "4.03");
    let seen = setup.server.requests().unwrap();
    let paths: Vec<&str> = seen.iter().map(|request| request["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/config/methods", "/methods", "/config%2Fmethods"]);

    let nobody = udp::Client::connect_from(Ipv4Addr::new(127, 0, 0, 9), address).unwrap();
    for (path, id) in [("small", 1), ("config/small", 2), ("telemetry/x", 3)] {
        let answer = nobody.exchange(&Draft::get(path).id(id).token(b"no")).unwrap();
        assert_eq!((answer.code().unwrap().as_str(), kind(&answer)), ("4.03", ACK), "{path}");
    }
    assert_eq!(setup.server.requests().unwrap().len(), 3);
    assert!(web.requests().is_empty());
    setup.expect_healthy().unwrap();
}

#[test]
fn a_verdict_is_kept_for_as_long_as_the_rule_says() {
    let rule = "{paths: [/kept/**], carry: check, verdict_cache: 1s}";
    let mut setup = Setup::start(setup::rule(setup::config().unwrap(), rule).unwrap()).unwrap();
    let client = setup.client().unwrap();
    let count = |setup: &Setup| setup.envoy.stat("http.coap.downstream_rq_total").unwrap();
    let ask = |path: &str, id| {
        let answer = client.request(&Draft::get(path).id(id).token(b"v")).unwrap();
        assert_eq!(answer.code().unwrap(), "4.04");
    };
    // A tunnel, a check and a flow.
    ask("kept/a", 1);
    let before = count(&setup);
    for id in 2..12 {
        ask("kept/a", id);
    }
    assert_eq!(count(&setup), before);
    ask("kept/b", 12);
    assert_eq!(count(&setup), before + 1);
    std::thread::sleep(Duration::from_millis(1100));
    ask("kept/a", 13);
    assert_eq!(count(&setup), before + 2);
    assert_eq!(setup.server.requests().unwrap().len(), 13);
    setup.expect_healthy().unwrap();
}

#[test]
fn too_many_requests_of_one_address_are_refused_until_there_is_room_again() {
    let config = setup::limited("{per_second: 1, burst: 5}").unwrap();
    let mut setup = Setup::start(with_one_worker(config)).unwrap();
    let web = Web::default();
    let _running = services::start(web.clone(), setup.web).unwrap();
    let address = setup.address().unwrap();
    let ip = Ipv4Addr::new(127, 0, 0, 5);
    let connect = |ip| udp::Client::connect_from(ip, address).unwrap();
    let paths = ["small", "config/small", "telemetry/same"];
    for (n, id) in (0..5).zip(1..) {
        // Each from another port: it is the address that counts.
        let client = connect(ip);
        let answer = client.exchange(&Draft::get(paths[n % 3]).id(id).token(b"t")).unwrap();
        assert_eq!(answer.code().unwrap(), "2.05", "{n}");
    }
    let client = connect(ip);
    for (path, id) in paths.iter().zip(1..) {
        let request = Draft::get(path).id(id).token(b"t");
        let answer = client.exchange(&request).unwrap();
        assert_eq!((answer.code().unwrap().as_str(), kind(&answer)), ("4.29", ACK), "{path}");
        assert_eq!(answer.message().unwrap().message_id, id);
        assert!(max_age(&answer).is_some_and(|seconds| (1..=5).contains(&seconds)), "{answer:?}");
        let answer = client.exchange(&request.kind(NON).id(id + 10)).unwrap();
        assert_eq!((answer.code().unwrap().as_str(), kind(&answer)), ("4.29", NON), "{path}");
    }
    assert_eq!(web.requests().len() + setup.server.requests().unwrap().len(), 5);
    let other = connect(Ipv4Addr::new(127, 0, 0, 6));
    assert_eq!(other.exchange(&Draft::get("small").id(1)).unwrap().code().unwrap(), "2.05");
    std::thread::sleep(Duration::from_millis(1200));
    let answer = client.exchange(&Draft::get("small").id(20)).unwrap();
    assert_eq!(answer.code().unwrap(), "2.05");
    let limited = [("limit", "rate"), ("action", "reject")];
    let counted = eventually("the metric of what was refused", || {
        let refused = setup.envoy.metric("coap_limited_total", &limited)?;
        Ok((refused == Some(6.0)).then_some(()))
    });
    counted.unwrap();
    expect_healthy(&mut setup.envoy).unwrap();
}

#[test]
fn who_has_not_shown_where_it_is_gets_no_large_response() {
    let config =
        setup::config().unwrap().replace("amplification_factor: 0", "amplification_factor: 3");
    let mut setup = Setup::start(config.unwrap()).unwrap();
    let web = Web::default();
    let _running = services::start(web.clone(), setup.web).unwrap();
    let mut id = 0;
    for (path, observes) in [
        ("large/1000", false),
        ("config/large/1000", false),
        ("telemetry/x", false),
        ("ticks/10/50", true),
        ("telemetry/events/10/50", true),
    ] {
        let client = setup.client().unwrap();
        for kind_of_request in [CON, NON] {
            id += 1;
            let mut request = Draft::get(path).kind(kind_of_request).id(id).token(b"guarded");
            if observes {
                request = request.uint(OBSERVE, 0);
            }
            let answer = client.exchange(&request).unwrap();
            assert_eq!(answer.code().unwrap(), "4.01", "{path}");
            assert_eq!(kind(&answer), if kind_of_request == CON { ACK } else { NON }, "{path}");
            assert_eq!(answer.message().unwrap().token, b"guarded");
            assert!(answer.0.len() <= 3 * request.datagram().len(), "{path}");
            assert!(client.is_quiet_for(QUIET).unwrap(), "{path}");
            // Another value, or another client's, proves nothing.
            let value = echo(&answer).unwrap();
            for (stranger, value) in
                [(&client, &b"anything"[..]), (&setup.client().unwrap(), &value[..])]
            {
                id += 1;
                let answer =
                    stranger.exchange(&request.clone().id(id).option(ECHO, value)).unwrap();
                assert_eq!(answer.code().unwrap(), "4.01", "{path}");
            }
            if kind_of_request == NON {
                id += 1;
                let answer = client.exchange(&request.clone().id(id).option(ECHO, &value)).unwrap();
                assert_eq!(answer.code().unwrap(), "2.05", "{path}");
                // From now on it is known, and needs no Echo.
                id += 1;
                let again = Draft::get("large/1000").id(id).token(b"again");
                assert_eq!(client.request(&again).unwrap().code().unwrap(), "2.05", "{path}");
            }
        }
    }
    // Small responses need no proof.
    let answer = setup.client().unwrap().exchange(&Draft::get("small").id(1)).unwrap();
    assert_eq!(answer.code().unwrap(), "2.05");
    expect_healthy(&mut setup.envoy).unwrap();
}

#[test]
fn a_proof_is_remembered_after_the_session() {
    let config =
        setup::config().unwrap().replace("amplification_factor: 0", "amplification_factor: 3");
    let mut setup = Setup::start(config.unwrap()).unwrap();
    let client = setup.client().unwrap();
    let large = Draft::get("large/1000").token(b"t");
    let value = echo(&client.exchange(&large.clone().id(1)).unwrap()).unwrap();
    let answer = client.exchange(&large.clone().id(2).option(ECHO, &value)).unwrap();
    assert_eq!(answer.code().unwrap(), "2.05");
    expect_no_sessions(&mut setup.envoy).unwrap();
    assert_eq!(client.exchange(&large.id(3)).unwrap().code().unwrap(), "2.05");
    // aiocoap's client knows Echo.
    let uri = setup.uri("coap", "large/1000").unwrap();
    let answers = aiocoap::responses(&[Request::new("GET", &uri)]).unwrap();
    assert!(answers[0].is_pattern(), "{answers:?}");
    expect_healthy(&mut setup.envoy).unwrap();
}

/// An Envoy that answers at most three times the octets, in front of a server by hand.
fn guarded() -> (Envoy, udp::Server) {
    let server = udp::Server::start().unwrap();
    let config =
        setup::config().unwrap().replace("amplification_factor: 0", "amplification_factor: 3");
    let config = setup::udp_settings(config.unwrap(), "ack_timeout: 0.1s").unwrap();
    let config = setup::udp_settings(config, "max_retransmit: 8").unwrap();
    let port = server.address().unwrap().port();
    let config = config.port(port::SERVER, port).port(port::FIRMWARE, port);
    (config.start().unwrap(), server)
}

#[test]
fn a_server_that_tries_again_does_not_get_around_the_guard() {
    let (mut envoy, server) = guarded();
    let victim = udp::Client::connect(envoy.address(port::COAP).unwrap()).unwrap();
    let request = Draft::get("x").id(1).token(b"victim").datagram();
    victim.send(&request).unwrap();
    let (_, from) = server.receive().unwrap();
    server.send(from, &Draft::empty(ACK, 1).datagram()).unwrap();
    let large = Draft::new(2, 5).id(500).token(b"victim").payload(&[7; 1000]).datagram();
    // Nobody acknowledges it.
    for _ in 0..4 {
        server.send(from, &large).unwrap();
    }
    let mut octets = 0;
    while let Some(datagram) = victim.receive_within(QUIET).unwrap() {
        octets += datagram.0.len();
        assert!(datagram.0.len() < 1000, "the whole response came");
    }
    assert!(octets <= 3 * request.len() * 5, "{octets}");
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn what_is_sent_again_counts_for_the_guard() {
    let (mut envoy, _server) = guarded();
    let web = Web::default();
    let _running = services::start(web, envoy.port(port::WEB).unwrap()).unwrap();
    let victim = udp::Client::connect(envoy.address(port::COAP).unwrap()).unwrap();
    // A separate response: an acknowledgement, the response, and four times the response again.
    let request = Draft::get("telemetry/slow/600").id(1).token(b"victim").datagram();
    victim.send(&request).unwrap();
    let end = Instant::now() + Duration::from_secs(8);
    let mut octets = 0;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        octets += victim.receive_within(left).unwrap().map_or(0, |datagram| datagram.0.len());
    }
    assert!(octets <= 3 * request.len(), "{octets} octets for {}", request.len());
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn an_lwm2m_device_is_routed_by_the_endpoint_name_it_registered_with() {
    let (default, factory) = (udp::Server::start().unwrap(), udp::Server::start().unwrap());
    let config = setup::udp_settings(setup::config().unwrap(), "flow_key: lwm2m_endpoint").unwrap();
    let config = setup::udp_settings(config, "registration_timeout: 60s").unwrap();
    let header = "headers: [{name: x-lwm2m-endpoint, string_match: {prefix: factory-}}]";
    let route = format!(
        "{{match: {{prefix: /, {header}}}, route: {{cluster: coap_firmware, timeout: 0.25s}}}}"
    );
    let config = setup::route(config, &route).unwrap();
    let config = config.port(port::SERVER, default.address().unwrap().port());
    let mut envoy = config.port(port::FIRMWARE, factory.address().unwrap().port()).start().unwrap();
    let address = envoy.address(port::COAP).unwrap();
    let register = |name: &str, server: &udp::Server| {
        let device = udp::Client::connect(address).unwrap();
        let query = format!("ep={name}");
        let register =
            Draft::post("rd", b"</1/0>").query(&query).query("lt=300").id(1).token(b"rd");
        device.send(&register.datagram()).unwrap();
        let (received, from) = server.receive().unwrap();
        assert_eq!(received.0, register.datagram());
        let created = Draft::new(2, 1).kind(ACK).id(1).token(b"rd").datagram();
        server.send(from, &created).unwrap();
        assert_eq!(device.receive().unwrap().0, created);
        (device, from)
    };
    let (device, from) = register("factory-17", &factory);
    register("home-4", &default);
    register("x\r\nx-lwm2m-endpoint: factory-1", &default);
    // Long after the idle timeout the server still reaches the device, and hears its answer.
    std::thread::sleep(Duration::from_millis(3500));
    let read = Draft::get("3/0/0").id(900).token(b"read").datagram();
    factory.send(from, &read).unwrap();
    assert_eq!(device.receive().unwrap().0, read);
    let value = Draft::new(2, 5).kind(ACK).id(900).token(b"read").payload(b"maker").datagram();
    device.send(&value).unwrap();
    assert_eq!(factory.receive().unwrap(), (udp::Datagram(value), from));
    // What it sends itself goes the same way, whatever its path.
    let update = Draft::post("rd/17", b"").id(2).token(b"up").datagram();
    device.send(&update).unwrap();
    assert_eq!(factory.receive().unwrap(), (udp::Datagram(update), from));
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn clients_over_tcp_have_their_address_and_their_limits_too() {
    let config = setup::limited("{per_second: 1, burst: 3}").unwrap();
    let mut setup = Setup::start(with_one_worker(config)).unwrap();
    let (mut client, _) = tcp::Client::connect(setup.address().unwrap(), 1 << 20).unwrap();
    let codes: Vec<String> = (0..5_u8)
        .map(|n| client.request(&Draft::get("small").token(&[n])).unwrap().code().unwrap())
        .collect();
    assert_eq!(codes, ["2.05", "2.05", "2.05", "4.29", "4.29"]);
    client.ping().unwrap();
    expect_healthy(&mut setup.envoy).unwrap();
}
