//! What the command-line tool writes works in the real Envoy, and what it says of a configuration is what Envoy says.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::net::Ipv4Addr;

use codec_dns::RecordType;
use integration::broker;
use integration::client::Mosquitto;
use integration::coap::draft::Draft;
use integration::coap::{echo, udp as coap};
use integration::dns::query::Query;
use integration::dns::responder::Responder;
use integration::dns::udp as dns;
use integration::envoy::{Config, Envoy};
use integration::eventually;
use integration::setup::expect_healthy;
use integration::wire::VERSIONS;

/// Runs the tool with these arguments, and this on standard input: its exit code, and what it printed.
fn tool(args: &[&str], input: &str) -> (u8, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = beyond_http::run(
        std::iter::once("beyond-http").chain(args.iter().copied()),
        &mut beyond_http::Io {
            input: &mut input.as_bytes(),
            out: &mut out,
            err: &mut err,
            asks: false,
            colour: false,
        },
    );
    (code, String::from_utf8(out).unwrap())
}

/// A configuration for these servers.
fn init(args: &[&str]) -> String {
    let mut all = vec!["init", "--yes", "--listen", "127.0.0.1"];
    all.extend(["--tls-certificate", ".build/certs/server.crt"]);
    all.extend(["--tls-key", ".build/certs/server.key"]);
    all.extend(args);
    let (code, yaml) = tool(&all, "");
    assert_eq!(code, 0);
    yaml
}

/// Envoy with what `init` writes for one protocol; its server is at this port instead of the written one.
fn start(args: &[&str], written: u16, server: u16) -> Envoy {
    let yaml = init(&[args, &["--rate-limit"]].concat());
    let (code, said) = tool(&["check", "--strict", "-"], &yaml);
    assert_eq!(code, 0, "{said}");
    Config::from_text(yaml).port(written, server).start().unwrap()
}

/// The access log has a flow, the metrics have the protocol, and nothing went wrong.
fn expect_seen(envoy: &mut Envoy, protocol: &str) {
    envoy.access_log_entry(|entry| entry["carry"] == "flow").unwrap();
    let prefix = format!("{protocol}_");
    eventually("a metric", || {
        let stats = envoy.get("/stats/prometheus")?;
        Ok(stats.lines().any(|line| line.starts_with(&prefix)).then_some(()))
    })
    .unwrap();
    expect_healthy(envoy).unwrap();
}

#[test]
fn what_init_writes_serves_mqtt_clients() {
    let broker = broker::Mosquitto::start().unwrap();
    let mut envoy = start(&["--mqtt", "127.0.0.1:21883", "--tls"], 21_883, broker.port());
    for version in VERSIONS {
        for (written, tls) in [(1883, false), (8883, true)] {
            let port = envoy.port(written).unwrap();
            let topic = format!("{version:?}/{written}");
            let over = |client: Mosquitto| if tls { client.tls(None) } else { client };
            let subscriber = Mosquitto::subscriber(port, version, &topic);
            let mut subscriber = over(subscriber).start_subscribed().unwrap();
            let publisher = Mosquitto::publisher(port, version, &topic);
            over(publisher).args(&["-q", "1", "-m", "hello"]).run().unwrap();
            let messages = subscriber.wait_for_messages(1).unwrap();
            assert_eq!(messages, [format!("{topic} hello")]);
        }
    }
    expect_seen(&mut envoy, "mqtt");
}

#[test]
fn what_init_writes_serves_coap_clients() {
    let device = echo::Server::start().unwrap();
    let mut envoy = start(&["--coap", "127.0.0.1:25683"], 25_683, device.port());
    let client = coap::Client::connect(envoy.address(5683).unwrap()).unwrap();
    let answer = client.request(&Draft::post("a/b", b"hello").token(b"1")).unwrap();
    assert_eq!((&*answer.code().unwrap(), answer.text().unwrap()), ("2.05", "hello"));
    expect_seen(&mut envoy, "coap");
}

#[test]
fn what_init_writes_serves_dns_clients() {
    let resolver = Responder::start().unwrap();
    let args = ["--dns", "127.0.0.1:25353", "--tls"];
    let mut envoy = start(&args, 25_353, resolver.address().port());
    let client = dns::Client::connect(envoy.address(53).unwrap()).unwrap();
    let answer = client.ask(&Query::new("www.example", RecordType::A).unwrap()).unwrap();
    assert_eq!(answer.a().unwrap(), [Ipv4Addr::new(192, 0, 2, 1)]);
    // A flow is logged at its end, a minute later.
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn check_says_what_envoy_says() {
    // A wrong word, a number that Envoy's YAML makes text of, a word that it makes a truth value of, an unknown field, and
    // a mistake of meaning.
    let wrong = "                \
                authority: mqtt\n                \
                mode: brigde\n                \
                max_pending_size: 3000000000\n                \
                topic_prefix: yes\n                \
                rate_limits: [{per: client_id, messages: {per_second: 1.5}}]\n                \
                connect_timeout: 0s\n                \
                sise: big\n";
    let yaml = init(&["--mqtt", "127.0.0.1:21883"]);
    let right = "                connect_timeout: 10s\n";
    assert!(yaml.contains(right));
    let yaml = yaml.replace(right, wrong);

    let (code, said) = tool(&["check", "--quiet", "-"], &yaml);
    assert_eq!(code, 1, "{said}");
    let value = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.config.\
                 configuration.value.";
    let mut ours: Vec<&str> = said
        .lines()
        .map(|line| line.split_once(value).unwrap_or_else(|| panic!("no mistake: {line}")).1)
        .collect();

    let log = Config::from_text(yaml).start_refused().unwrap();
    let (_, list) = log.split_once("mistake(s):\n").unwrap_or_else(|| panic!("no list:\n{log}"));
    let mut theirs: Vec<&str> = list.lines().map_while(|line| line.strip_prefix("  ")).collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert!(ours.len() >= 6, "{ours:#?}");
    assert_eq!(ours, theirs);
}

#[test]
fn merge_keys_are_refused_by_envoy_as_check_says() {
    let yaml = init(&["--mqtt", "127.0.0.1:21883"]);
    let route = "              - match: {path: /}\n";
    assert!(yaml.contains(route));
    let yaml = yaml.replace(route, "              - <<: {}\n                match: {path: /}\n");
    let (code, said) = tool(&["check", "--quiet", "-"], &yaml);
    assert_eq!(code, 1);
    assert!(said.contains("is a merge key"), "{said}");
    let log = Config::from_text(yaml).start_refused().unwrap();
    assert!(log.contains("<<"), "{log}");
}
