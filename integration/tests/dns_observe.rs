//! `mode: observe`: messages pass untouched, and are counted.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

use codec_dns::{Flags, OptionCode, RecordType};
use integration::dns::clients::{Dig, Kdig, PythonQuery, dnspython};
use integration::dns::query::Query;
use integration::dns::setup::port;
use integration::dns::unbound::Unbound;
use integration::dns::{tcp, udp};
use integration::envoy::{Config, Envoy};
use integration::setup::expect_healthy;
use integration::{PATIENCE, eventually};

fn config() -> Config {
    Config::from_file("envoy-configs/dns-observe.yaml").unwrap()
}

/// Waits until a metric has this value; it is reported once a second.
fn expect_metric(envoy: &Envoy, name: &str, labels: &[(&str, &str)], value: f64) {
    let mut last = None;
    let seen = eventually(name, || {
        last = envoy.metric(name, labels)?;
        Ok((last == Some(value)).then_some(()))
    });
    assert!(seen.is_ok(), "{name} {labels:?} is {last:?}, not {value}");
}

#[test]
fn clients_and_servers_of_others_notice_nothing() {
    let long = "x".repeat(200);
    let long = format!("long.example. TXT \"{long}\" \"{long}\" \"{long}\" \"{long}\"");
    let records = ["www.example. 60 IN A 192.0.2.7", "a.corp.example. 60 IN A 10.0.0.7", &long];
    let server = Unbound::with_records(&records).unwrap();
    let mut envoy = config().port(port::RESOLVER, server.address().port()).start().unwrap();
    let address = envoy.address(port::DNS).unwrap();
    for way in ["+notcp", "+tcp"] {
        let dig = |name, record_type| Dig::new(address, name, record_type).args(&[way]).run();
        let output = dig("www.example", "A").unwrap();
        assert_eq!(output.answers(), ["www.example. 60 IN A 192.0.2.7"], "{way}");
        assert_eq!(dig("other.example", "AAAA").unwrap().status(), "REFUSED", "{way}");
        let output = Kdig::new(address, "a.corp.example", "A").args(&[way]).run().unwrap();
        assert_eq!(output.short(), ["10.0.0.7"], "{way}");
    }
    // Truncated over UDP, and asked for again over TCP.
    let output = Dig::new(address, "long.example", "TXT").args(&["+noedns"]).run().unwrap();
    assert_eq!(output.answers().len(), 1);
    let query = PythonQuery::new(address, "www.example", "A");
    for answer in dnspython(&[query.clone(), query.transport("tcp").edns(1232, true)]).unwrap() {
        assert_eq!(answer.answers(), ["www.example. 60 IN A 192.0.2.7"]);
    }
    for transport in ["udp", "tcp"] {
        let queries = |record_type, zone, value| {
            let labels = [("type", record_type), ("transport", transport), ("zone", zone)];
            expect_metric(&envoy, "dns_queries_total", &labels, value);
        };
        queries("a", "other", 2.0);
        queries("aaaa", "other", 1.0);
        queries("a", "corp_example", 1.0);
        queries("txt", "other", 1.0);
    }
    expect_metric(&envoy, "dns_answers_total", &[("rcode", "noerror")], 8.0);
    expect_metric(&envoy, "dns_answers_total", &[("rcode", "refused")], 2.0);
    expect_metric(&envoy, "dns_truncated_total", &[], 1.0);
    expect_healthy(&mut envoy).unwrap();
}

/// Messages of all kinds, among them some that are no DNS.
fn messages() -> Vec<Vec<u8>> {
    let query = |name| Query::new(name, RecordType::A).unwrap();
    let good = query("www.example").edns(1232).option(OptionCode(65_001), b"?").octets().unwrap();
    vec![
        [&good[..], &[0]].concat(),
        good,
        query("response.example").flags(Flags::QR).octets().unwrap(),
        vec![0xff; 1200],
        b"garbage".to_vec(),
        vec![7],
    ]
}

#[test]
fn not_an_octet_of_a_datagram_is_changed_even_of_what_is_no_dns() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = server.local_addr().unwrap().port();
    let mut envoy = config().port(port::RESOLVER, port).start().unwrap();
    let client = udp::Client::connect(envoy.address(port::DNS).unwrap()).unwrap();
    let mut buffer = [0; 2048];
    for message in messages() {
        client.send(&message).unwrap();
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..len], message);
        server.send_to(&message, from).unwrap();
        assert_eq!(client.receive().unwrap().0, message);
    }
    for direction in ["from_client", "to_client"] {
        expect_metric(&envoy, "dns_decode_errors_total", &[("direction", direction)], 4.0);
    }
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn not_an_octet_of_a_connection_is_changed_even_of_what_is_no_dns() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let mut envoy = config().port(port::RESOLVER, port).start().unwrap();
    // Where messages begin is known as long as no length is that of no message.
    let mut stream = tcp::framed(&messages()[..2]).unwrap();
    stream.extend_from_slice(&[0, 0, 1, 2, 3]);
    stream.extend_from_slice(&[0xff; 100_000]);
    let client = TcpStream::connect(envoy.address(port::DNS).unwrap()).unwrap();
    let (upstream, _) = server.accept().unwrap();
    pass(&client, &upstream, &stream);
    pass(&upstream, &client, &stream);
    for direction in ["from_client", "to_client"] {
        expect_metric(&envoy, "dns_decode_errors_total", &[("direction", direction)], 2.0);
    }
    expect_healthy(&mut envoy).unwrap();
}

/// Writes octets at one end, and reads the same at the other.
fn pass(from: &TcpStream, to: &TcpStream, octets: &[u8]) {
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = vec![0; octets.len()];
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (&*from).write_all(octets).unwrap());
        (&*to).read_exact(&mut received).unwrap();
        writer.join().unwrap();
    });
    assert!(received == octets, "other octets came");
}
