//! CoAP over TCP and TLS (RFC 8323) through Envoy.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use codec_coap::{Code, OptionNumber, OptionValue};
use integration::coap::draft::Draft;
use integration::coap::libcoap::{self, Tls};
use integration::coap::setup::{self, Setup, port};
use integration::coap::tcp::{Client, Frame};
use integration::root;
use services::web::Web;

const SOON: Duration = Duration::from_secs(5);

fn csm() -> Draft {
    Draft::new(7, 1)
}

/// The connection ends, and the last that was said is Abort (RFC 8323 §5.6); that message.
fn expect_abort(client: &mut Client, what: &str) -> Frame {
    loop {
        let frame = client.receive().with_context(|| what.to_owned()).unwrap();
        if frame.message().unwrap().code == Code::ABORT {
            assert_eq!(client.read_to_close(SOON).unwrap(), b"", "{what}");
            return frame;
        }
    }
}

#[test]
fn signaling_is_between_the_client_and_envoy() {
    let mut setup = Setup::new().unwrap();
    let address = setup.address().unwrap();
    let mut client = Client::open(address).unwrap();
    client.send(&csm().stream()).unwrap();
    let first = client.receive().unwrap();
    let message = first.message().unwrap();
    assert_eq!(message.code, Code::CSM);
    assert_eq!(message.max_message_size(), Some(65_536));
    assert!(message.block_wise_transfer());
    client.ping().unwrap();
    // Custody (§5.4.1), an empty message (§3.4) and signaling that is not known (§5.1).
    client.send(&Draft::default().stream()).unwrap();
    client.send(&Draft::new(7, 31).token(b"?").stream()).unwrap();
    client.send(&Draft::new(7, 2).token(b"custody").option(2, b"").stream()).unwrap();
    let pong = client.receive().unwrap();
    let message = pong.message().unwrap();
    assert_eq!((message.code, message.token), (Code::PONG, &b"custody"[..]));
    assert!(message.custody());
    // All of it octet by octet.
    for octet in Draft::get("small").token(b"slow").stream() {
        client.send(&[octet]).unwrap();
    }
    assert_eq!(client.receive().unwrap().text().unwrap(), "small");
    // Release (§5.5): the client wants no more.
    client.send(&Draft::new(7, 4).stream()).unwrap();
    client.read_to_close(SOON).unwrap();
    let mut client = setup.tcp().unwrap();
    client.send(&Draft::new(7, 5).payload(b"enough").stream()).unwrap();
    client.read_to_close(SOON).unwrap();
    setup.expect_healthy().unwrap();
    setup.expect_no_sessions().unwrap();
}

#[test]
fn what_is_no_message_ends_the_connection_with_an_abort() {
    let mut setup = Setup::new().unwrap();
    let get = |path: &str| Draft::get(path).token(b"t").stream();
    let table: [(&str, Vec<u8>); 9] = [
        ("a reserved token length", vec![0x0f, 1]),
        ("a reserved code class", vec![0x00, 0b001_00001]),
        ("a reserved option delta", vec![0x10, 1, 0xf0]),
        ("an option beyond the end", vec![0x10, 1, 0xb5]),
        ("a payload marker without a payload", vec![0x10, 1, 0xff]),
        ("a message above the limit", Draft::put("same", &[0; 70_000]).token(b"t").stream()),
        ("four gigabytes", vec![0xf0, 0xff, 0xff, 0xff, 0xff, 3]),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        ("a CSM option that is critical and unknown", csm().option(99, b"").stream()),
    ];
    for (what, bytes) in table {
        let mut client = setup.tcp().unwrap();
        // What came before is answered.
        let answer = client.request(&Draft::get("small").token(b"before")).unwrap();
        assert_eq!(answer.text().unwrap(), "small");
        client.send(&bytes).unwrap();
        let abort = expect_abort(&mut client, what);
        if what.contains("CSM") {
            let abort = abort.message().unwrap();
            let bad =
                abort.options.iter().find(|option| option.number == OptionNumber::BAD_CSM_OPTION);
            assert!(matches!(bad.unwrap().value, OptionValue::Uint(99)), "{abort:?}");
        }
    }
    // A bad option concerns one request alone.
    let mut client = setup.tcp().unwrap();
    let bad = Draft::get("small").token(b"bad").option(11, b"\xff");
    client.send(&bad.stream()).unwrap();
    assert_eq!(client.receive().unwrap().code().unwrap(), "4.02");
    client.send(&get("small")).unwrap();
    assert_eq!(client.receive().unwrap().text().unwrap(), "small");
    assert_eq!(setup.server.requests().unwrap().len(), 10);
    drop(client);
    setup.expect_healthy().unwrap();
    setup.expect_no_sessions().unwrap();
}

#[test]
fn a_connection_that_does_not_begin_with_csm_is_aborted() {
    let mut setup = Setup::new().unwrap();
    let mut client = Client::open(setup.address().unwrap()).unwrap();
    // "MUST treat a missing or invalid CSM as a connection error" (§3.3).
    client.send(&Draft::get("small").token(b"t").stream()).unwrap();
    expect_abort(&mut client, "a request first");
    assert!(setup.server.requests().unwrap().is_empty());
    setup.expect_healthy().unwrap();
}
#[test]
fn requests_that_come_together_are_all_answered() {
    let mut setup = Setup::new().unwrap();
    let web = Web::default();
    let _running = services::start(web.clone(), setup.web).unwrap();
    let mut client = setup.tcp().unwrap();
    // Flow, check and request in turn, in one write; one connection to the server.
    let paths = ["small", "config/small", "telemetry/same"];
    let mut all = Vec::new();
    for n in 0..60_u8 {
        all.extend(Draft::get(paths[usize::from(n) % 3]).token(&[n]).stream());
    }
    client.send(&all).unwrap();
    let mut answered = [false; 60];
    for _ in 0..60 {
        let frame = client.receive().unwrap();
        assert_eq!(frame.code().unwrap(), "2.05");
        answered[usize::from(frame.message().unwrap().token[0])] = true;
    }
    assert!(answered.iter().all(|answered| *answered));
    let remotes: Vec<String> =
        setup.server.requests().unwrap().iter().map(|r| r["remote"].to_string()).collect();
    assert_eq!(remotes.len(), 40);
    assert!(remotes.iter().all(|remote| *remote == remotes[0]), "{remotes:?}");
    assert_eq!(web.requests().len(), 20);
    setup.expect_healthy().unwrap();
}

#[test]
fn large_messages_go_whole_as_far_as_both_sides_take_them() {
    let mut setup = Setup::new().unwrap();
    let web = Web::default();
    let _running = services::start(web, setup.web).unwrap();
    let body = vec![b'x'; 60_000];
    // The client takes 16 MiB, Envoy 64 KiB: one message each way.
    let mut client = setup.tcp().unwrap();
    let answer = client.request(&Draft::put("telemetry/kept/x", &body).token(b"put")).unwrap();
    assert_eq!(answer.code().unwrap(), "2.01");
    let answer = client.request(&Draft::get("telemetry/kept/x").token(b"get")).unwrap();
    assert!(answer.message().unwrap().payload == body);
    // One that takes 1152 octets, the base value (§5.3.1), gets blocks.
    let (mut client, _) = Client::connect(setup.address().unwrap(), 1152).unwrap();
    let answer = client.request(&Draft::get("telemetry/kept/x").token(b"get")).unwrap();
    let message = answer.message().unwrap();
    assert!(answer.0.len() <= 1152);
    assert!(message.options.block2().is_some_and(|block| block.more && block.num == 0));
    setup.expect_healthy().unwrap();
}

#[test]
fn tls_clients_are_served_and_their_server_name_is_the_authority() {
    assert!(Command::new(root().join("scripts/dev-certs")).status().unwrap().success());
    let mut setup = Setup::new().unwrap();
    let web = Web::default();
    let _running = services::start(web.clone(), setup.web).unwrap();
    let port = setup.envoy.port(port::TLS).unwrap();
    for tls in Tls::BOTH {
        let ask = |path: &str| {
            let uri = format!("coaps+tcp://localhost:{port}/{path}");
            libcoap::Client::new(tls, &uri).certificate("device-1").run().unwrap()
        };
        assert_eq!(ask("small").text().unwrap(), "small", "{tls:?}");
        assert_eq!(ask("large/100000").payload.len(), 100_000, "{tls:?}");
        let seen: serde_json::Value =
            serde_json::from_str(ask("telemetry/x").text().unwrap()).unwrap();
        assert_eq!(seen["path"], "/x", "{tls:?}");
        assert!(seen["headers"]["host"][0].as_str().unwrap().starts_with("localhost"), "{seen}");
    }
    let uri = format!("coaps+tcp://localhost:{port}/status/132");
    let refused = libcoap::Client::new(Tls::OpenSsl, &uri).certificate("device-1").run().unwrap();
    assert!(refused.complaint.contains("4.04"), "{refused:?}");
    setup.expect_healthy().unwrap();
    setup.expect_no_sessions().unwrap();
}

#[test]
fn a_tcp_server_that_is_not_there_is_said_to_be_so_and_found_when_it_is() {
    let port = integration::ports::free_port().unwrap();
    let config = setup::config().unwrap().port(port::SERVER, port).port(port::FIRMWARE, port);
    let mut envoy = config.start().unwrap();
    let address = envoy.address(port::COAP).unwrap();
    let (mut client, _) = Client::connect(address, 1 << 20).unwrap();
    let get = Draft::get("small").token(b"t");
    let code = client.request(&get).unwrap().code().unwrap();
    assert!(code.starts_with("5."), "{code}");
    let server = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    client.send(&get.stream()).unwrap();
    let (mut connection, _) = server.accept().unwrap();
    let mut seen = [0; 64];
    std::io::Read::read(&mut connection, &mut seen).unwrap();
    // It goes away in the middle of the exchange.
    drop(connection);
    let code = client.receive().unwrap().code().unwrap();
    assert!(code.starts_with("5."), "{code}");
    client.ping().unwrap();
    integration::setup::expect_healthy(&mut envoy).unwrap();
}
