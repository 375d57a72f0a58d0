//! Rules decide about single messages: a real client, a real broker, and an HTTP service that answers as its path says.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cloudevents::binding::http::to_event;
use cloudevents::{AttributesReader, Data, Event};
use integration::client::Mosquitto;
use integration::envoy::Config;
use integration::eventually;
use integration::ports::free_port;
use integration::setup::{Setup, port};
use integration::wire::{
    Client, Connect, Packet, VERSIONS, Version, ack, packet, publish, subscribe,
};
use services::Running;
use services::recorder::{Answer, Recorded, Recorder};

/// The least that is needed: the session to the broker, all else to the service.
const CONFIG: &str = r#"
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
static_resources:
  listeners:
  - name: mqtt
    address: {socket_address: {address: 127.0.0.1, port_value: 1883}}
    per_connection_buffer_limit_bytes: 1048576
    filter_chains:
    - filters:
      - name: mqtt
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm
          config:
            name: mqtt
            failure_policy: FAIL_RELOAD
            vm_config: {vm_id: mqtt, runtime: envoy.wasm.runtime.v8, code: {local: {filename: dist/mqtt.wasm}}}
            configuration:
              "@type": type.googleapis.com/google.protobuf.Struct
              value: FILTER
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: mqtt
          codec_type: HTTP2
          stream_idle_timeout: 0s
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: mqtt
              domains: ["*"]
              routes:
              - match: {path: /}
                route:
                  cluster: broker
                  timeout: 0s
                  upgrade_configs: [{upgrade_type: CONNECT, connect_config: {allow_post: true}}]
              - match: {prefix: /}
                route: {cluster: service, timeout: 5s}
  clusters:
  - name: broker
    type: STATIC
    load_assignment: {cluster_name: broker, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 21883}}}}]}]}
  - name: service
    type: STATIC
    load_assignment: {cluster_name: service, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 28080}}}}]}]}
"#;

/// `…/403/…` is answered with 403, `…/slow/…` late.
fn answer(request: &Recorded) -> Answer {
    let segments = || request.path.split('/');
    let status = segments().find_map(|segment| segment.parse::<u16>().ok());
    let slow = segments().any(|segment| segment == "slow");
    Answer {
        after: Duration::from_millis(if slow { 300 } else { 0 }),
        status: status.and_then(|status| status.try_into().ok()).unwrap_or_default(),
        content: [b"re: ", &request.content[..]].concat(),
    }
}

struct Bench {
    setup: Setup,
    service: Recorder,
    address: SocketAddr,
    _running: Running,
}

impl Bench {
    /// With this filter configuration, as YAML in flow style.
    fn start(filter: &str) -> Self {
        Self::with_workers(filter, 2)
    }

    fn with_workers(filter: &str, workers: u32) -> Self {
        let (service, service_port) = (Recorder::answering(answer), free_port().unwrap());
        let running = services::start(service.clone(), service_port).unwrap();
        let config = Config::from_text(CONFIG.replace("FILTER", filter)).port(28080, service_port);
        let config = config.concurrency(workers);
        let setup = Setup::start(config).unwrap();
        let address = setup.mqtt().unwrap();
        Self { setup, service, address, _running: running }
    }

    fn client(&self, version: Version, id: &str) -> Client {
        Client::session(self.address, &Connect::new(version, id)).unwrap()
    }

    /// A subscriber behind the filter's back.
    fn at_broker(&self, filter: &str) -> Client {
        let connect = Connect::new(Version::V5, "at-broker");
        let mut client = Client::session(self.setup.broker.address(), &connect).unwrap();
        client.subscribe(&[filter], 2).unwrap();
        client
    }

    fn requests(&self, path: &str) -> Vec<Recorded> {
        self.service.requests().into_iter().filter(|request| request.path == path).collect()
    }

    fn end(mut self) {
        self.setup.expect_healthy().unwrap();
    }
}

/// PUBLISH of MQTT 5.0 with properties, given as their octets.
fn publish_with(topic: &str, properties: &[u8], payload: &[u8], qos: u8, id: u16) -> Vec<u8> {
    let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
    body.extend(topic.as_bytes());
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.push(u8::try_from(properties.len()).unwrap());
    body.extend([properties, payload].concat());
    packet(0x30 | qos << 1, &body)
}

fn text_property(id: u8, texts: &[&str]) -> Vec<u8> {
    let mut octets = vec![id];
    for text in texts {
        octets.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        octets.extend(text.as_bytes());
    }
    octets
}

fn codes(packet: &Packet, version: Version) -> &[u8] {
    &packet.body[if version == Version::V5 { 3 } else { 2 }..]
}

#[test]
fn messages_keep_their_order_while_verdicts_are_pending() {
    let bench = Bench::start("{rules: [{topic_filters: [checked/#], carry: check}]}");
    for version in VERSIONS {
        let mut subscriber = bench.at_broker("#");
        let mut client = bench.client(version, "order");
        let mut all = Vec::new();
        for n in 0..100_u8 {
            let topic = match n % 20 {
                0 => "checked/slow/x",
                n if n % 2 == 0 => "checked/fast",
                _ => "free/x",
            };
            // One QoS: the broker keeps no order between messages of different ones.
            all.extend(publish(version, topic, &[n], 1, u16::from(n) + 1));
        }
        client.send(&all).unwrap();
        for n in 0..100 {
            let (_, payload) = subscriber.receive_publish().unwrap();
            assert_eq!(payload, [n], "{version:?}");
        }
    }
    assert!(bench.requests("/checked/slow/x").len() >= 10);
    bench.end();
}

#[test]
fn a_message_taken_by_a_service_is_acknowledged_after_the_answer_and_not_before() {
    let bench =
        Bench::start("{rules: [{packets: [publish], topic_filters: [s/#], carry: request}]}");
    for version in VERSIONS {
        let mut subscriber = bench.at_broker("#");
        let mut client = bench.client(version, "after");
        for (qos, first) in [(1, 0x40), (2, 0x50)] {
            let start = Instant::now();
            client.send(&publish(version, "s/slow/x", b"21.5", qos, 5)).unwrap();
            let answer = client.expect(first).unwrap();
            assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
            assert_eq!(answer.id().unwrap(), 5);
            assert_eq!(answer.body.get(2).copied().unwrap_or(0), 0);
            if qos == 2 {
                client.send(&ack(0x62, 5)).unwrap();
                assert_eq!(client.expect(0x70).unwrap().id().unwrap(), 5);
            }
        }
        // The others go to the broker, and the ones above did not.
        client.publish("other", b"x", 2).unwrap();
        assert_eq!(subscriber.receive_publish().unwrap().0, "other");
    }
    let requests = bench.requests("/s/slow/x");
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| request.content == b"21.5"));
    assert_eq!(requests[0].header("x-mqtt-client-id"), "after");
    assert_eq!(requests[0].header("content-length"), "4");
    bench.end();
}

#[test]
fn a_qos_2_message_that_is_sent_again_is_delivered_once_also_after_reconnecting() {
    let bench = Bench::start("{rules: [{packets: [publish], carry: request}]}");
    for version in VERSIONS {
        let name = format!("again-{version:?}");
        let connect = Connect::new(version, &name).persistent();
        let topic = format!("once/{version:?}");
        let message = publish(version, &topic, b"x", 2, 9);
        let again = [&[message[0] | 0x08], &message[1..]].concat();
        let mut client = Client::session(bench.address, &connect).unwrap();
        client.send(&message).unwrap();
        client.expect(0x50).unwrap();
        client.send(&again).unwrap();
        client.expect(0x50).unwrap();
        drop(client);
        let mut client = eventually("the session to go on", || {
            let (client, connack) = Client::connect(bench.address, &connect)?;
            Ok(connack.session_present().then_some(client))
        })
        .unwrap();
        client.send(&again).unwrap();
        client.expect(0x50).unwrap();
        client.send(&ack(0x62, 9)).unwrap();
        client.expect(0x70).unwrap();
        assert_eq!(bench.requests(&format!("/once/{version:?}")).len(), 1);
        // Released: the same identifier is another message.
        client.send(&message).unwrap();
        client.expect(0x50).unwrap();
        assert_eq!(bench.requests(&format!("/once/{version:?}")).len(), 2);
    }
    bench.end();
}

#[test]
fn refused_and_failed_messages_are_answered_by_version_and_never_forwarded() {
    let rules =
        "rules: [{topic_filters: [c/#], carry: check}, {topic_filters: [r/#], carry: request}]";
    let bench = Bench::start(&format!("{{{rules}}}"));
    let mut subscriber = bench.at_broker("#");
    let table =
        [(400, 0x83), (401, 0x87), (403, 0x87), (404, 0x90), (413, 0x97), (429, 0x97), (418, 0x80)];
    let mut client = bench.client(Version::V5, "v5");
    for carry in ["c", "r"] {
        for (status, code) in table.into_iter().chain([(500, 0x83), (503, 0x83)]) {
            for (qos, first) in [(1, 0x40), (2, 0x50)] {
                let topic = format!("{carry}/{status}/x");
                client.send(&publish(Version::V5, &topic, b"x", qos, 3)).unwrap();
                let answer = client.expect(first).unwrap();
                assert_eq!(answer.body[2], code, "{topic} at QoS {qos}");
            }
        }
    }
    let mut client = bench.client(Version::V3, "v3");
    for carry in ["c", "r"] {
        for (status, _) in table {
            client.publish(&format!("{carry}/{status}/x"), b"x", 1).unwrap();
            client.publish(&format!("{carry}/{status}/x"), b"x", 2).unwrap();
            client.publish(&format!("{carry}/{status}/x"), b"x", 0).unwrap();
        }
        // A failure is never acknowledged; the session goes on.
        client.send(&publish(Version::V3, &format!("{carry}/503/x"), b"x", 1, 4)).unwrap();
        client.send(&publish(Version::V3, &format!("{carry}/503/x"), b"x", 2, 5)).unwrap();
        assert!(client.is_quiet_for(Duration::from_millis(300)).unwrap());
        client.ping().unwrap();
    }
    assert!(subscriber.is_quiet_for(Duration::from_millis(100)).unwrap());
    subscriber.ping().unwrap();
    for (name, least) in [
        ("mqtt_verdicts_total.packet=publish.verdict=failed.source=asked", 4),
        ("mqtt_verdicts_total.packet=publish.verdict=refused.source=asked", 20),
        ("mqtt_requests_total.verdict=failed", 4),
        ("mqtt_requests_total.verdict=refused", 20),
    ] {
        eventually(name, || {
            let count = bench.setup.envoy.stat(&format!("wasmcustom.{name}"))?;
            Ok((count >= least).then_some(()))
        })
        .unwrap();
    }
    bench.end();

    let bench =
        Bench::start(&format!("{{{rules}, refused_in_3_1_1: disconnect, failed: disconnect}}"));
    for (topic, version) in [
        ("c/403/x", Version::V3),
        ("r/403/x", Version::V3),
        ("c/503/x", Version::V3),
        ("r/503/x", Version::V5),
    ] {
        let mut client = bench.client(version, "closed");
        client.send(&publish(version, topic, b"x", 1, 4)).unwrap();
        let last = client.read_to_close(Duration::from_secs(5)).unwrap();
        assert_eq!(
            last,
            if version == Version::V5 { &[0xE0, 1, 0x89][..] } else { &[] },
            "{topic}"
        );
    }
    bench.end();
}

#[test]
fn topic_aliases_stay_right_when_only_some_messages_reach_the_broker() {
    let bench =
        Bench::start("{rules: [{packets: [publish], topic_filters: [http/#], carry: request}]}");
    let mut subscriber = bench.at_broker("#");
    let connect = Connect::new(Version::V5, "alias");
    let (mut client, connack) = Client::connect(bench.address, &connect).unwrap();
    // Topic Alias Maximum of the filter, not of the broker.
    assert!(connack.body.windows(3).any(|three| three == [0x22, 0, 16]), "{connack:02x?}");
    let alias = |n: u8| vec![0x23, 0, n];
    let messages = [
        ("http/a", 1, "1"), // taken, and the alias with it
        ("", 1, "2"),       // the same
        ("mqtt/b", 2, "3"), // forwarded
        ("", 2, "4"),
        ("mqtt/c", 1, "5"), // the alias means another topic now
        ("", 1, "6"),
        ("", 2, "7"),
        ("http/d", 2, "8"),
        ("", 2, "9"),
    ];
    for (topic, n, payload) in messages {
        client.send(&publish_with(topic, &alias(n), payload.as_bytes(), 1, 1)).unwrap();
        assert_eq!(client.expect(0x40).unwrap().body.get(2).copied().unwrap_or(0) & 0x80, 0);
    }
    for (topic, payload) in
        [("mqtt/b", b"3"), ("mqtt/b", b"4"), ("mqtt/c", b"5"), ("mqtt/c", b"6"), ("mqtt/b", b"7")]
    {
        assert_eq!(subscriber.receive_publish().unwrap(), (topic.to_owned(), payload.to_vec()));
    }
    let taken: Vec<_> = bench.service.requests().into_iter().map(|r| (r.path, r.content)).collect();
    let expected = [("/http/a", b"1"), ("/http/a", b"2"), ("/http/d", b"8"), ("/http/d", b"9")];
    assert_eq!(taken, expected.map(|(path, content)| (path.to_owned(), content.to_vec())));
    // Above the maximum.
    client.send(&publish_with("x", &alias(17), b"", 1, 1)).unwrap();
    assert_eq!(client.read_to_close(Duration::from_secs(5)).unwrap(), [0xE0, 1, 0x94]);
    bench.end();
}

#[test]
fn a_subscribe_reaches_the_broker_with_the_allowed_filters_and_has_one_suback() {
    let bench = Bench::start(
        "{rules: [{packets: [subscribe], topic_filters: [d/#], carry: check, verdict_cache: 60s}]}",
    );
    for version in VERSIONS {
        let mut client = bench.client(version, "sub");
        let filters = ["d/403/x", "free/+", "d/slow/x", "d/404/#", "#"];
        client.send(&subscribe(version, 77, &filters, 1)).unwrap();
        let suback = client.expect(0x90).unwrap();
        assert_eq!(suback.id().unwrap(), 77);
        let expected =
            if version == Version::V5 { [0x87, 1, 1, 0x8F, 1] } else { [0x80, 1, 1, 0x80, 1] };
        assert_eq!(codes(&suback, version), expected);
        // `#` was asked about too, because it reaches d/#.
        assert_eq!(bench.requests("/%23")[0].method, "GET");
        let all_refused = subscribe(version, 78, &["d/403/x", "d/404/#"], 1);
        client.send(&all_refused).unwrap();
        let suback = client.expect(0x90).unwrap();
        let expected = if version == Version::V5 { [0x87, 0x8F] } else { [0x80, 0x80] };
        assert_eq!((suback.id().unwrap(), codes(&suback, version)), (78, &expected[..]));
        client.publish("free/x", b"x", 0).unwrap();
        assert_eq!(client.receive_publish().unwrap().0, "free/x");
        assert!(!bench.setup.broker.log().contains("d/403/x"), "the broker heard of it");
        // Nobody was asked twice by one session.
        let asked = bench.requests("/d/403/x").len();
        assert_eq!(asked, if version == Version::V3 { 1 } else { 2 });
    }
    bench.end();
}

#[test]
fn a_will_message_is_no_way_around_a_rule() {
    let bench = Bench::start("{rules: [{topic_filters: [w/#], carry: check}]}");
    for version in VERSIONS {
        let refused = Connect::new(version, "w1").will("w/403/x", b"gone", 1);
        let (mut client, connack) = Client::connect(bench.address, &refused).unwrap();
        let code = if version == Version::V5 { 0x87 } else { 0x05 };
        assert_eq!(connack.connack_code().unwrap(), code);
        assert_eq!(client.read_to_close(Duration::from_secs(5)).unwrap(), b"");
        assert!(!bench.setup.broker.has_seen("w1"));
        let mut subscriber = bench.at_broker("w/#");
        let allowed = Connect::new(version, "w2").will("w/ok", b"gone", 1);
        drop(Client::session(bench.address, &allowed).unwrap());
        let will = subscriber.receive_publish().unwrap();
        assert_eq!(will, ("w/ok".to_owned(), b"gone".to_vec()));
    }
    bench.end();
}

#[test]
fn a_refused_delivery_is_acknowledged_to_the_broker_and_kept_from_the_client() {
    let bench =
        Bench::start("{rules: [{packets: [delivery], topic_filters: [d/#], carry: check}]}");
    for version in VERSIONS {
        let mut client = bench.client(version, "reader");
        client.subscribe(&["#"], 2).unwrap();
        let connect = Connect::new(Version::V5, "writer");
        let mut writer = Client::session(bench.setup.broker.address(), &connect).unwrap();
        // More than the broker keeps in flight: it goes on only if each is acknowledged.
        for n in 0..30_u8 {
            for qos in 0..3 {
                writer.publish("d/403/x", &[n], qos).unwrap();
            }
            writer.publish("d/ok", &[n], 1).unwrap();
        }
        for n in 0..30 {
            assert_eq!(
                client.receive_publish().unwrap(),
                ("d/ok".to_owned(), vec![n]),
                "{version:?}"
            );
        }
        client.ping().unwrap();
        client.disconnect().unwrap();
    }
    let request = &bench.requests("/d/403/x")[0];
    assert_eq!(request.method, "GET");
    assert_eq!(request.header("x-mqtt-direction"), "to-client");
    bench.end();
}

fn event(request: &Recorded) -> Event {
    to_event(&request.headers, request.content.clone()).unwrap()
}

#[test]
fn a_cloudevents_sdk_accepts_what_a_message_becomes() {
    let bench = Bench::start(
        "{rules: [{topic_filters: [b/#], packets: [publish], carry: request, cloudevents: binary},
                  {topic_filters: [s/#], packets: [publish], carry: request, cloudevents: structured},
                  {topic_filters: [p/#], packets: [publish], carry: request, cloudevents: protobuf}]}",
    );
    let mut client = bench.client(Version::V5, "dev-1");
    let json = text_property(3, &["application/json"]);
    for topic in ["b/x", "s/x", "p/x", "b/\u{fc}"] {
        client.send(&publish_with(topic, &json, b"{\"t\":21}", 1, 1)).unwrap();
        client.expect(0x40).unwrap();
    }
    for path in ["/b/x", "/s/x", "/b/%C3%BC"] {
        let event = event(&bench.requests(path)[0]);
        assert_eq!(event.ty(), "mqtt.publish");
        assert_eq!(event.source().as_str(), "mqtt://mqtt/dev-1", "{path}");
        assert_eq!(event.datacontenttype(), Some("application/json"));
        match event.data().unwrap() {
            Data::Binary(data) => assert_eq!(data, b"{\"t\":21}"),
            Data::String(data) => assert_eq!(data, "{\"t\":21}"),
            Data::Json(data) => assert_eq!(data["t"], 21),
        }
    }
    let ids: std::collections::BTreeSet<_> = ["/b/x", "/s/x", "/b/%C3%BC"]
        .map(|path| event(&bench.requests(path)[0]).id().to_owned())
        .into();
    assert_eq!(ids.len(), 3);
    let protobuf = &bench.requests("/p/x")[0];
    assert_eq!(protobuf.header("content-type"), "application/cloudevents+protobuf");

    // An event already, in the MQTT binding's binary mode.
    let properties: Vec<u8> =
        [("specversion", "1.0"), ("id", "e1"), ("source", "/dev/1"), ("type", "t.x")]
            .iter()
            .flat_map(|(name, value)| text_property(0x26, &[name, value]))
            .collect();
    client.send(&publish_with("b/own", &properties, b"x", 1, 1)).unwrap();
    client.expect(0x40).unwrap();
    let event = event(&bench.requests("/b/own")[0]);
    assert_eq!((event.id(), event.ty(), event.source().as_str()), ("e1", "t.x", "/dev/1"));
    bench.end();
}

#[test]
fn a_reply_is_published_to_the_response_topic_and_the_trace_goes_on() {
    let bench = Bench::start(
        "{rules: [{packets: [publish], topic_filters: [rpc/#], carry: request, publish_reply: true,
                   user_properties: [Tenant]}]}",
    );
    let requester = Mosquitto::requester(bench.address.port(), "rpc/sum", "replies/1");
    let said = requester.args(&["-m", "1+1"]).run().unwrap();
    assert!(said.lines().any(|line| line == "re: 1+1"), "{said}");

    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let properties = [
        text_property(0x26, &["traceparent", trace]),
        text_property(0x26, &["tracestate", "a=1"]),
        text_property(0x26, &["Tenant", "acme\r\nx-forged: 1"]),
    ]
    .concat();
    let mut client = bench.client(Version::V5, "trace");
    client.send(&publish_with("rpc/trace", &properties, b"", 1, 1)).unwrap();
    client.expect(0x40).unwrap();
    let request = &bench.requests("/rpc/trace")[0];
    assert_eq!(&request.header("traceparent")[..35], &trace[..35]);
    assert_eq!(request.header("tracestate"), "a=1");
    assert_eq!(request.header("x-mqtt-user-property-tenant"), "acme%0D%0Ax-forged:%201");
    assert_eq!(request.header("x-forged"), "");
    bench.end();
}

#[test]
fn payloads_of_eight_megabytes_stream_through_a_check_and_a_request() {
    let bench = Bench::start(
        "{rules: [{packets: [publish], topic_filters: [r/#], carry: request}, {topic_filters: [c/#], carry: check}]}",
    );
    let payload: Vec<u8> = (0..8 << 20).map(|n: u32| (n % 251) as u8).collect();
    for version in VERSIONS {
        let mut subscriber = bench.at_broker("#");
        let mut client = bench.client(version, "big");
        client.publish("c/x", &payload, 1).unwrap();
        assert!(subscriber.receive_publish().unwrap().1 == payload);
        // Refused: none of it arrives, and the session goes on.
        client.send(&publish(version, "c/403/x", &payload, 1, 3)).unwrap();
        client.expect(0x40).unwrap();
        client.publish("c/after", b"x", 1).unwrap();
        assert_eq!(subscriber.receive_publish().unwrap().0, "c/after");
        client.send(&publish(version, "r/413/x", &payload, 0, 0)).unwrap();
        client.publish("r/413/small", b"x", 0).unwrap();
        client.ping().unwrap();
    }
    bench.end();
}

#[test]
fn token_buckets_delay_drop_refuse_or_disconnect() {
    let limit = |exceeded: &str| {
        Bench::start(&format!(
            "{{rate_limits: [{{messages: {{per_second: 20, burst: 5}}, exceeded: {exceeded}}}]}}"
        ))
    };
    for version in VERSIONS {
        let bench = limit("delay");
        let mut client = bench.client(version, "rate");
        let start = Instant::now();
        for n in 0..25 {
            client.send(&publish(version, "t", b"x", 1, n + 1)).unwrap();
        }
        for n in 0..25 {
            assert_eq!(client.expect(0x40).unwrap().id().unwrap(), n + 1);
        }
        // 5 at once, 20 more at 20 per second.
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(900), "{took:?}");
        bench.end();

        let bench = limit("reject");
        let mut client = bench.client(version, "rate");
        let mut all = Vec::new();
        for n in 0..25 {
            all.extend(publish(version, "t", b"x", 1, n + 1));
        }
        client.send(&all).unwrap();
        let answers: Vec<Packet> = (0..25).map(|_| client.expect(0x40).unwrap()).collect();
        let refused = answers.iter().filter(|answer| answer.body.get(2) == Some(&0x97)).count();
        if version == Version::V5 {
            assert!((15..=20).contains(&refused), "{refused}");
        }
        client.ping().unwrap();
        bench.end();

        let bench = limit("drop");
        let mut client = bench.client(version, "rate");
        client.send(&all).unwrap();
        client.send(&[0xC0, 0]).unwrap();
        let mut acknowledged = 0;
        while client.receive().unwrap().kind() == 0x40 {
            acknowledged += 1;
        }
        assert!((5..10).contains(&acknowledged), "{acknowledged}");
        bench.end();

        let bench = limit("disconnect");
        let mut client = bench.client(version, "rate");
        client.send(&all).unwrap();
        let last = client.read_to_close(Duration::from_secs(5)).unwrap();
        assert_eq!(last.ends_with(&[0xE0, 1, 0x96]), version == Version::V5, "{last:02x?}");
        bench.end();
    }
}

#[test]
fn connections_of_one_client_share_a_bucket() {
    // Each worker counts for itself.
    let bench = Bench::with_workers(
        "{rate_limits: [{per: username, octets: {per_second: 10000, burst: 10000}, exceeded: reject}]}",
        1,
    );
    let mut clients = ["a", "b"].map(|id| {
        let connect = Connect::new(Version::V5, id).user("same").password("x");
        Client::session(bench.address, &connect).unwrap()
    });
    let refused = |client: &mut Client| {
        client.send(&publish(Version::V5, "t", &[0; 6000], 1, 1)).unwrap();
        client.expect(0x40).unwrap().body.get(2) == Some(&0x97)
    };
    assert!(!refused(&mut clients[0]));
    assert!(refused(&mut clients[1]));
    let mut other = bench.client(Version::V5, "nobody");
    assert!(!refused(&mut other));
    bench.end();
}

#[test]
fn limits_on_topics_subscriptions_and_messages_in_flight() {
    let bench = Bench::start(
        "{max_topic_length: 20, max_topic_levels: 3, max_subscriptions: 2, max_in_flight: 3}",
    );
    for version in VERSIONS {
        let (mut client, connack) =
            Client::connect(bench.address, &Connect::new(version, "limits")).unwrap();
        let v5 = version == Version::V5;
        if v5 {
            assert!(connack.body.windows(3).any(|three| three == [0x21, 0, 3]), "{connack:02x?}");
        }
        for topic in ["a/b/c/d", "aaaaaaaaaaaaaaaaaaaaa"] {
            client.send(&publish(version, topic, b"x", 1, 1)).unwrap();
            let answer = client.expect(0x40).unwrap();
            assert_eq!(answer.body.get(2).copied(), v5.then_some(0x90), "{topic}");
        }
        let suback = client.subscribe(&["a", "b/+/c/#", "b"], 0).unwrap();
        let expected = if v5 { [0, 0x8F, 0] } else { [0, 0x80, 0] };
        assert_eq!(codes(&suback, version), expected);
        let suback = client.subscribe(&["a", "c"], 0).unwrap();
        assert_eq!(codes(&suback, version), if v5 { [0, 0x97] } else { [0, 0x80] });
        // QoS 2 messages that the client never releases.
        for id in 1..=3 {
            client.send(&publish(version, "q", b"x", 2, id)).unwrap();
            client.expect(0x50).unwrap();
        }
        client.send(&publish(version, "q", b"x", 2, 4)).unwrap();
        let last = client.read_to_close(Duration::from_secs(5)).unwrap();
        assert_eq!(last, if v5 { &[0xE0, 1, 0x93][..] } else { &[] });
    }
    bench.end();
}

#[test]
fn a_silent_client_is_disconnected_after_one_and_a_half_keep_alives() {
    let bench = Bench::start("{enforce_keep_alive: true}");
    for version in VERSIONS {
        // mosquitto counts whole seconds: with an odd number it would be the first.
        let connect = Connect::new(version, "silent").keep_alive(2);
        let mut client = Client::session(bench.address, &connect).unwrap();
        let mut last_ping = Instant::now();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(1400));
            last_ping = Instant::now();
            client.ping().unwrap();
        }
        let last = client.read_to_close(integration::PATIENCE).unwrap();
        let silence = last_ping.elapsed();
        assert!(silence >= Duration::from_millis(2900), "{silence:?}");
        assert_eq!(last, if version == Version::V5 { &[0xE0, 1, 0x8D][..] } else { &[] });
    }
    bench.end();
}

#[test]
fn each_tenant_has_a_topic_tree_of_its_own() {
    let bench = Bench::start("{topic_prefix: 'tenants/{username}/'}");
    for version in VERSIONS {
        let connect = |tenant: &str, id: &str| Connect::new(version, id).user(tenant).password("x");
        let client =
            |tenant: &str, id: &str| Client::session(bench.address, &connect(tenant, id)).unwrap();
        let mut everything = bench.at_broker("#");
        let mut acme = client("acme", "a1");
        let mut other = client("other", "o1");
        acme.subscribe(&["#"], 2).unwrap();
        other.subscribe(&["#"], 2).unwrap();
        if version == Version::V5 {
            let suback = client("acme", "a2").subscribe(&["$share/g/s/+"], 1).unwrap();
            assert_eq!(codes(&suback, version), [1]);
        }
        let mut publisher = client("other", "o2");
        for qos in 0..3 {
            publisher.publish("x/y", &[qos], qos).unwrap();
            assert_eq!(everything.receive_publish().unwrap().0, "tenants/other/x/y");
            assert_eq!(other.receive_publish().unwrap(), ("x/y".to_owned(), vec![qos]));
        }
        drop(
            Client::session(bench.address, &connect("acme", "a3").will("gone", b"a3", 0)).unwrap(),
        );
        assert_eq!(acme.receive_publish().unwrap(), ("gone".to_owned(), b"a3".to_vec()));
        assert_eq!(everything.receive_publish().unwrap().0, "tenants/acme/gone");
        assert!(other.is_quiet_for(Duration::from_millis(100)).unwrap());
        if version == Version::V5 {
            let property = text_property(8, &["answers"]);
            acme.send(&publish_with("ask", &property, b"?", 0, 0)).unwrap();
            assert_eq!(acme.receive_publish().unwrap().0, "ask");
            let seen = everything.expect(0x30).unwrap();
            let prefixed = b"tenants/acme/answers";
            assert!(seen.body.windows(prefixed.len()).any(|part| part == prefixed));
        }
        // A name that reaches into another's tree.
        for name in ["acme/x", "+", "#", ""] {
            let (_, connack) = Client::connect(bench.address, &connect(name, "bad")).unwrap();
            let code = if version == Version::V5 { 0x85 } else { 0x02 };
            assert_eq!(connack.connack_code().unwrap(), code, "{name:?}");
        }
        let unsubscribe =
            [&[0, 9][..], if version == Version::V5 { &[0] } else { &[] }, &[0, 1, b'#']];
        acme.send(&packet(0xA2, &unsubscribe.concat())).unwrap();
        let unsuback = acme.expect(0xB0).unwrap();
        assert_eq!(unsuback.body.get(3).copied().unwrap_or(0), 0, "unsubscribed");
        acme.publish("x", b"x", 1).unwrap();
        acme.ping().unwrap();
    }
    bench.end();
}

#[test]
fn a_service_that_hangs_slows_the_client_and_not_envoys_memory() {
    let bench =
        Bench::start("{rules: [{topic_filters: [slow/#], carry: check}], max_pending_messages: 8}");
    let mut client = bench.client(Version::V5, "flood");
    client.ping().unwrap();
    let before = bench.setup.envoy.allocated_bytes().unwrap();
    let flood = publish(Version::V5, "slow/x", &[0; 1000], 0, 0).repeat(20_000);
    client.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(client.send(&flood).is_err(), "20 MB went through at 8 messages each 300 ms");
    let grown = bench.setup.envoy.allocated_bytes().unwrap().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    assert!(bench.requests("/slow/x").len() < 100);
    bench.end();
}

#[test]
fn mistakes_in_rules_are_all_named() {
    let filter =
        "{rules: [{carry: chek}, {carry: check, topic_filters: ['a#'], cloudevents: binary},
                           {carry: request, packets: [subscribe]}],
                   rate_limits: [{per: username}, {messages: {per_second: 100, burst: 1}}],
                   topic_prefix: '/x', max_pending_messages: 0}";
    let log = Config::from_text(CONFIG.replace("FILTER", filter))
        .port(port::BROKER, 1)
        .port(28080, 1)
        .start_refused()
        .unwrap();
    for mistake in [
        "rules[0].carry: unknown variant `chek`",
        "rules[1].topic_filters[0]: topic filter has # elsewhere than as its last level",
        "rules[1].cloudevents: has a meaning only with carry: request",
        "rules[2].carry: request needs publish among the packets",
        "rate_limits[0]: needs messages, octets or both",
        "rate_limits[1].messages.burst: must be from a tenth of per_second",
        "topic_prefix: must end with /",
        "max_pending_messages: must be from 1 to 1000 (got 0)",
    ] {
        assert!(log.contains(mistake), "{mistake:?} is not in\n{log}");
    }
}
