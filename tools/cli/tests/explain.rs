//! `explain`: what the filters do, shown.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use support::{Folder, Run, repository, run, run_with};

fn example(name: &str) -> String {
    repository("envoy-configs").join(name).to_str().expect("a path").to_owned()
}

/// That these stand in what was printed, in this order.
#[track_caller]
fn says(run: &Run, wanted: &[&str]) {
    assert_eq!(run.code, 0, "{run:#?}");
    let mut rest = run.out.as_str();
    for wanted in wanted {
        let Some((_, after)) = rest.split_once(wanted) else {
            panic!("{wanted:?} is not in, or not behind the others in:\n{}", run.out);
        };
        rest = after;
    }
}

#[test]
fn a_session_is_a_request_and_a_status_is_a_connack() {
    let connect = ["explain", "mqtt", "connect", "--username", "u", "--password", "p"];
    let run = run(&[&connect[..], &["--status", "403"]].concat());
    says(
        &run,
        &[
            "the client sends: CONNECT 5.0 of \"client-1\", user name \"u\"\n    10 1b 00 04 4d 51 54 54 05 ",
            "Envoy sees POST /\n    :authority: mqtt\n",
            "    x-carry: flow\n    authorization: Basic dTpw\n    x-mqtt-client-id: client-1\n",
            "answered with 403\n",
            "the client gets: CONNACK 0x87 not authorized",
            "    20 ",
            "the connection is closed",
        ],
    );
    let run = support::run(&[&connect[..], &["--status", "403", "--v3"]].concat());
    says(
        &run,
        &[
            "x-mqtt-version: 3.1.1",
            "the client gets: CONNACK 0x05 not authorized\n    20 02 00 05\n",
        ],
    );
    let run = support::run(&connect);
    says(
        &run,
        &["answered with 200", "the broker gets the session", "the client gets: CONNACK 0x00"],
    );
}

#[test]
fn a_publish_is_what_the_rules_say() {
    let publish =
        ["explain", "mqtt", "publish", "telemetry/room1/temp", "--qos", "1", "--payload", "21.5"];
    // In the session.
    says(
        &run(&publish),
        &[
            "the client sends: PUBLISH",
            "the broker gets: PUBLISH to \"telemetry/room1/temp\", QoS 1, packet 1",
        ],
    );
    assert!(!run(&publish).out.contains("Envoy sees"));
    let config = example("recipes/mirror.yaml");
    let publish = [&publish[..], &["--config", &config]].concat();
    let as_request = [
        "Envoy sees POST /telemetry/room1/temp\n",
        "    x-carry: request\n    x-mqtt-qos: 1\n",
        "    content-length: 4\n    content, 4 octets: 21.5\n        32 31 2e 35\n",
    ];
    says(&run(&publish), &[&as_request[..], &["answered with 200\nthe client gets: PUBACK of packet 1, 0x00 success\n    40 02 00 01"]].concat());
    let refused = run(&[&publish[..], &["--status", "429"]].concat());
    says(&refused, &[&as_request[..], &["answered with 429\nthe client gets: PUBACK of packet 1, 0x97 quota exceeded\n    40 03 00 01 97"]].concat());
}

#[test]
fn a_subscribe_is_checked() {
    let config = example("recipes/jwt.yaml");
    let subscribe = [
        "explain",
        "mqtt",
        "subscribe",
        "alerts/#",
        "--config",
        &config,
        "--password",
        "token",
        "--username",
        "u",
    ];
    let asked =
        ["Envoy sees GET /alerts/%23\n", "    authorization: Bearer token\n", "    no content\n"];
    says(&run(&subscribe), &[&asked[..], &["answered with 200\nthe broker gets: SUBSCRIBE, packet 1, to \"alerts/#\" at QoS 0\n"]].concat());
    let refused = run(&[&subscribe[..], &["--status", "401"]].concat());
    says(
        &refused,
        &[
            &asked[..],
            &["the client gets: SUBACK of packet 1, 0x87 not authorized\n    90 04 00 01 00 87"],
        ]
        .concat(),
    );
}

#[test]
fn a_coap_request_is_a_flow_a_check_or_a_request() {
    says(
        &run(&["explain", "coap", "GET", "coap://host/a/b?x=1", "--non", "--token", "01ff"]),
        &[
            "the client sends: NON #1 GET, token 01ff",
            "Envoy sees POST /a\n    :authority: host\n",
            "    x-carry: flow\n",
            "answered with 200\nthe CoAP server gets: NON #1 GET, token 01ff",
        ],
    );
    let config = example("coap.yaml");
    let put = [
        "explain",
        "coap",
        "PUT",
        "coap://host/config/led",
        "--payload",
        "on",
        "--config",
        &config,
    ];
    let asked = ["Envoy sees PUT /config/led\n", "    x-carry: check\n"];
    let refused = run(&[&put[..], &["--status", "403"]].concat());
    says(&refused, &[&asked[..], &["the client gets: ACK #1 4.03 forbidden, token 01, 9 octets: Forbidden\n    61 83 00 01 01 ff"]].concat());
    assert!(!refused.out.contains("the CoAP server gets"));
    // What is let through is a flow besides, to the very server.
    says(
        &run(&put),
        &[
            &asked[..],
            &["answered with 200\nEnvoy sees POST /config\n", "the CoAP server gets: CON #1 PUT"],
        ]
        .concat(),
    );
    let post = [
        "explain",
        "coap",
        "post",
        "coap://host/telemetry/x",
        "--payload",
        "on",
        "--config",
        &config,
        "--transport",
        "tcp",
    ];
    says(
        &run(&[&post[..], &["--status", "201", "--header", "location=/telemetry/x/1"]].concat()),
        &[
            "Envoy sees POST /telemetry/x\n",
            "    x-coap-transport: tcp\n",
            "the client gets: 2.01 created, token 01, 8 (Location-Path) \"telemetry\"",
        ],
    );
}

#[test]
fn a_client_that_has_not_proved_its_address_is_challenged() {
    // As the filter's defaults want it (RFC 9175).
    let run = run(&["explain", "coap", "GET", "coap://host/a", "--observe", "0"]);
    says(&run, &["the client gets: ACK #1 4.01 unauthorized", "(Echo)"]);
    assert!(!run.out.contains("Envoy sees"));
}

#[test]
fn a_dns_query_over_every_transport() {
    for (transport, how) in [("udp", "udp"), ("tcp", "tcp"), ("tls", "tcp"), ("https", "tcp")] {
        let run = run(&["explain", "dns", "www.example", "AAAA", "--do", "--transport", transport]);
        let carried = format!("    x-carry: flow\n    x-dns-transport: {how}\n");
        says(
            &run,
            &[
                "the client sends: QUERY #1 www.example. AAAA, RD, EDNS 1232 DO\n    00 01 01 00 ",
                "Envoy sees POST /dns-query\n    :authority: dns\n",
                &carried,
                "answered with 200\nthe DNS server gets: QUERY #",
                "www.example. AAAA, RD",
            ],
        );
        let run = support::run(&[
            "explain",
            "dns",
            "www.example",
            "--transport",
            transport,
            "--status",
            "503",
        ]);
        says(
            &run,
            &["answered with 503\nthe client gets: answer to QUERY #1, SERVFAIL www.example. A"],
        );
    }
}

#[test]
fn a_blocked_name_has_a_reason() {
    let config = example("dns.yaml");
    let ads = ["explain", "dns", "ads.example", "--config", &config, "--status", "404"];
    says(
        &run(&[&ads[..], &["--header", "content-type=text/plain", "--body", "malware"]].concat()),
        &[
            "Envoy sees GET /dns-query\n    :authority: ads.example\n",
            "    x-carry: check\n",
            "    x-dns-qtype: A\n",
            "the client gets: answer to QUERY #1, NXDOMAIN ads.example. A",
            "extended error 15 (malware)",
        ],
    );
    let doh = run(&["explain", "dns", "x.doh.example", "--config", &config, "--transport", "tls"]);
    says(
        &doh,
        &[
            "    x-carry: request\n    x-dns-transport: tls\n",
            "made up here",
            "the client gets: answer to QUERY #1, NOERROR",
        ],
    );
    // A rule of the filter's own asks nobody.
    let any = run(&["explain", "dns", "www.example", "ANY", "--config", &config]);
    says(
        &any,
        &["the client sends", "the client gets: answer to QUERY #1, NOERROR www.example. ANY"],
    );
    assert!(!any.out.contains("Envoy sees"));
}

#[test]
fn octets_may_come_as_hexadecimal_digits() {
    says(
        &run(&["explain", "mqtt", "--hex", "30 06 00 01 74 00 32 31"]),
        &["PUBLISH to \"t\", QoS 0, 2 octets: 21"],
    );
    says(
        &run(&["explain", "mqtt", "--hex", "ffff"]),
        &["the client sends: no MQTT", "the client gets: DISCONNECT 0x81"],
    );
    says(
        &run(&["explain", "coap", "--hex", "40:01:00:01:b1:61"]),
        &["CON #1 GET", "Envoy sees POST /a"],
    );
    // Two datagrams of a client, one flow.
    let two = run(&["explain", "coap", "--hex", "40010001b161", "--hex", "40010002b161"]);
    says(
        &two,
        &["Envoy sees POST /a", "the CoAP server gets: CON #1", "the CoAP server gets: CON #2"],
    );
    assert_eq!(two.out.matches("Envoy sees").count(), 1);
    for (args, at) in [
        (["explain", "mqtt", "--hex", "30 0g"], "'g' at character 5"),
        (["explain", "coap", "--hex", "401"], "half an octet at character 3"),
    ] {
        let run = run(&args);
        assert_eq!((run.code, run.out.as_str()), (2, ""));
        assert!(run.err.contains(at), "{run:?}");
    }
    // Any octets are explained somehow.
    for protocol in ["mqtt", "coap", "dns"] {
        for octet in ["00", "10", "40", "80", "ff"] {
            for count in [1, 2, 5, 12, 40] {
                let run = run(&["explain", protocol, "--hex", &octet.repeat(count)]);
                assert_eq!(run.code, 0, "{run:?}");
            }
        }
    }
}

#[test]
fn words_that_say_nothing_are_refused() {
    for args in [
        &["explain"][..],
        &["explain", "mqtt"],
        &["explain", "mqtt", "publish"],
        &["explain", "mqtt", "publish", "a/#"],
        &["explain", "mqtt", "subscribe", "a#"],
        &["explain", "mqtt", "publish", "t", "--qos", "3"],
        &["explain", "mqtt", "publish", "t", "--status", "99"],
        &["explain", "mqtt", "publish", "t", "--header", "x"],
        &["explain", "coap", "GET"],
        &["explain", "coap", "GOT", "coap://h/"],
        &["explain", "coap", "GET", "http://h/"],
        &["explain", "coap", "GET", "coap://h/", "--token", "0"],
        &["explain", "coap", "GET", "coap://h/", "--token", "010203040506070809"],
        &["explain", "dns"],
        &["explain", "dns", "a..b"],
        &["explain", "dns", "a", "NOTYPE"],
        &["explain", "dns", "a", "--config", "/does/not/exist"],
        &["explain", "dns", "--pcap", "/does/not/exist"],
    ] {
        let run = run(args);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}");
        assert!(!run.err.is_empty(), "{args:?}");
    }
}

#[test]
fn a_configuration_is_taken_from_wherever_it_is() {
    let run = run_with(
        &["explain", "mqtt", "publish", "t", "--config", "-"],
        "rules: [{carry: check}]",
        false,
    );
    says(&run, &["Envoy sees POST /t"]);
    let run = run_with(
        &["explain", "mqtt", "publish", "t", "--config", "-"],
        "rules: [{carry: chek}]",
        false,
    );
    assert_eq!((run.code, run.out.as_str()), (1, ""));
    assert!(run.err.contains("rules[0].carry: unknown variant"), "{run:?}");
    let run =
        run_with(&["explain", "dns", "a.example", "--config", &example("mqtt.yaml")], "", false);
    assert_eq!(run.code, 2);
    let run =
        run_with(&["explain", "mqtt", "publish", "t", "--config", "-"], "mode: observe", false);
    says(&run, &["mode: observe changes no octet"]);
}

/// A capture of these packets of IP.
fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for number in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 101] {
        file.extend(u32::to_le_bytes(number));
    }
    for packet in packets {
        let len = packet.len() as u32;
        for number in [0, 0, len, len] {
            file.extend(u32::to_le_bytes(number));
        }
        file.extend(packet);
    }
    file
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4([192, 0, 2, 7], [192, 0, 2, 1], 64).udp(from, to);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).expect("a packet");
    packet
}

fn tcp(number: u32, payload: &[u8]) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4([192, 0, 2, 7], [192, 0, 2, 1], 64)
        .tcp(40_000, 1883, number, 1000);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).expect("a packet");
    packet
}

#[test]
fn captures_are_read() {
    let folder = Folder::new("captures");
    let get = |id| vec![0x40, 1, 0, id, 0xb1, 0x61];
    let file = folder.write(
        "coap.pcap",
        pcap(&[udp(1000, 5683, &get(1)), udp(1001, 5683, &get(2)), udp(1000, 5683, &get(3))]),
    );
    says(
        &run(&["explain", "coap", "--pcap", &file]),
        &[
            "from 192.0.2.7:1000 over UDP\n",
            "CON #1 GET",
            "    x-forwarded-for: 192.0.2.7\n",
            "the CoAP server gets: CON #1",
            "the CoAP server gets: CON #3",
            "from 192.0.2.7:1001 over UDP\n",
            "the CoAP server gets: CON #2",
        ],
    );
    // A stream whose segments came in another order.
    let connect = [&[0x10, 14, 0, 4][..], b"MQTT", &[5, 2, 0, 60, 0, 0, 1], b"x"].concat();
    let publish = [&[0x30, 5, 0, 1][..], b"t", &[0], b"m"].concat();
    let next = 100 + connect.len() as u32;
    let file = folder.write(
        "mqtt.pcap",
        pcap(&[tcp(100, &connect), tcp(next + 3, &publish[3..]), tcp(next, &publish[..3])]),
    );
    says(
        &run(&["explain", "mqtt", "--pcap", &file]),
        &[
            "the client sends: CONNECT 5.0 of \"x\"",
            "x-mqtt-client-id: x",
            "the client sends: PUBLISH to \"t\"",
            "the broker gets: PUBLISH to \"t\"",
        ],
    );
    let run = run(&["explain", "mqtt", "--pcap", &file, "--port", "1884"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("has nothing to port 1884"), "{run:?}");
    let cut = folder.write("cut.pcap", &pcap(&[tcp(100, &connect)])[..50]);
    let run = support::run(&["explain", "mqtt", "--pcap", &cut]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("the block at octet 24 is not complete"), "{run:?}");
}
