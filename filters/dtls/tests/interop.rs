//! Handshakes with other people's clients over real sockets: OpenSSL's `s_client`, and libcoap's clients
//! with OpenSSL and with GnuTLS. A test says so and does nothing where its program is not installed
//! (Debian's packages `openssl` and `libcoap3-bin`).
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use bridge::metrics::Registry;
use bridge::{Bridge, Bytes, Ended, Input, Limits, Link, Peer, Protocol, Response, StreamId, Want};
use codec_capsule::{Datagram, Decoded};
use common::{KEY, NoTls, capsule, mutual, psk, server_certificate, settings};
use dtls::{Dtls, Identity, Shared};

/// Answers a CoAP request with 2.05 and `hello`, and sends back everything else.
struct Answer;

impl Protocol for Answer {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        while let Ok(Decoded::Complete { value, consumed }) =
            codec_capsule::decode(input.as_slice(), 70_000)
        {
            let payload = Datagram::decode(value.value).expect("a datagram").payload;
            let reply = match *payload {
                // Confirmable, 0.01 (RFC 7252 §3).
                [first @ 0x40..=0x48, 0x01, high, low, ref rest @ ..] => {
                    let token = &rest[..usize::from(first & 15)];
                    [&[first | 0x20, 0x45, high, low], token, b"\xffhello"].concat()
                }
                _ => payload.to_vec(),
            };
            link.reply(capsule(&reply));
            input.skip(consumed);
        }
        Want::More
    }
    fn handle_native_end(&mut self, link: &mut Link) {
        link.close();
    }
    fn handle_response(&mut self, _: &mut Link, _: StreamId, _: Response<()>) {}
    fn handle_body(&mut self, _: &mut Link, _: StreamId, _: Bytes) {}
    fn handle_ended(&mut self, _: &mut Link, _: StreamId, _: Ended) {}
    fn handle_timeout(&mut self, _: &mut Link) {}
    fn handle_close(&mut self, _: Peer) {}
}

/// A server on a real socket, in its own thread.
struct Server {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<String>>>,
    identities: Arc<Mutex<Vec<Identity>>>,
}

impl Server {
    fn start(fields: String) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        let port = socket.local_addr().expect("bound").port();
        let stop = Arc::<AtomicBool>::default();
        let identities = Arc::<Mutex<Vec<Identity>>>::default();
        let (stopped, known) = (stop.clone(), identities.clone());
        let thread = std::thread::spawn(move || serve(&fields, &socket, &stopped, &known));
        Self { port, stop, thread: Some(thread), identities }
    }

    /// Stops, and returns the metrics that moved.
    fn stop(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("started").join().expect("no panic")
    }

    fn identities(&self) -> Vec<Identity> {
        self.identities.lock().expect("no panic").clone()
    }
}

fn serve(
    fields: &str,
    socket: &UdpSocket,
    stop: &AtomicBool,
    known: &Arc<Mutex<Vec<Identity>>>,
) -> Vec<String> {
    let registry = Registry::default();
    // The certificates of the tests are as old as the tests.
    let shared = Shared::with_unix_time(settings(fields), &registry, || {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().max(common::UNIX_TIME)
    });
    let shared = shared.expect("randomness");
    let start = Instant::now();
    let mut sessions: HashMap<SocketAddr, Bridge<Dtls<Answer>>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let stops = stop.load(Ordering::Relaxed);
        let received = socket.recv_from(&mut buffer);
        if stops && received.is_err() {
            // What clients said before they ended was read.
            break;
        }
        if let Ok((len, source)) = received {
            let session = sessions.entry(source).or_insert_with(|| {
                let (shared, known) = (shared.clone(), known.clone());
                Bridge::new(Limits::default(), Box::new(NoTls), start.elapsed(), move |_| {
                    Dtls::new(shared, source.to_string().as_bytes(), move |_, identity| {
                        known.lock().expect("no panic").push(identity.clone());
                        Answer
                    })
                })
            });
            session.handle_native(start.elapsed(), capsule(&buffer[..len]));
        }
        sessions.retain(|client, session| {
            if session.next_step().deadline.is_some_and(|at| at <= start.elapsed()) {
                session.handle_timeout(start.elapsed());
            }
            let (first, rest) = session.take_native();
            let octets = [first.as_ref(), rest.as_slice()].concat();
            let mut octets = octets.as_slice();
            while let Ok(Decoded::Complete { value, consumed }) =
                codec_capsule::decode(octets, 70_000)
            {
                let datagram = Datagram::decode(value.value).expect("a datagram");
                socket.send_to(datagram.payload, client).expect("sent");
                octets = &octets[consumed..];
            }
            !session.next_step().close
        });
    }
    let mut moved = Vec::new();
    registry.changes(|change| moved.push(format!("{} {}", change.name(), change.by)));
    moved
}

fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

fn cert(name: &str) -> String {
    format!("{}/tests/certs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs `s_client`, sends a line and reads it back.
fn s_client(server: &Server, arguments: &[&str]) -> bool {
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", server.port), "-quiet"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let mut input = client.stdin.take().expect("piped");
    let mut output = BufReader::new(client.stdout.take().expect("piped"));
    input.write_all(b"round trip\n").expect("written");
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        output.read_line(&mut line).expect("read");
        line
    });
    let end = Instant::now() + Duration::from_secs(10);
    while !reader.is_finished() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(input);
    // It says close_notify at the end of its input.
    std::thread::sleep(Duration::from_millis(200));
    let _ = client.kill();
    client.wait().expect("ended");
    reader.join().expect("no panic") == "round trip\n"
}

fn psk_name() -> Identity {
    Identity::Psk("device-1".into())
}

#[test]
fn openssl_with_a_pre_shared_key() {
    if !is_installed("openssl") {
        return;
    }
    let server = Server::start(psk());
    let psk = ["-dtls1_2", "-psk_identity", "device-1", "-psk", KEY, "-cipher", "PSK-AES128-CCM8"];
    assert!(s_client(&server, &psk));
    assert_eq!(server.identities(), [psk_name()]);
    let metrics = server.stop();
    assert!(metrics.contains(&"dtls_handshakes_total.result=completed 1".to_owned()));
}

#[test]
fn openssl_with_a_wrong_key_fails() {
    if !is_installed("openssl") {
        return;
    }
    let server = Server::start(psk());
    let psk = ["-dtls1_2", "-psk_identity", "device-1", "-psk", "00", "-cipher", "PSK-AES128-CCM8"];
    assert!(!s_client(&server, &psk));
    let metrics = server.stop();
    assert!(metrics.contains(&"dtls_handshakes_total.result=bad_psk 1".to_owned()), "{metrics:?}");
}

#[test]
fn openssl_with_certificates() {
    if !is_installed("openssl") {
        return;
    }
    let server = Server::start(format!("{}, {}", psk(), mutual()));
    let (ca, cert, key) = (cert("ca.pem"), cert("client.pem"), cert("client.key"));
    let arguments = ["-dtls1_2", "-CAfile", &ca, "-cert", &cert, "-key", &key];
    for suite in [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ] {
        let arguments = [&arguments[..], &["-cipher", suite, "-verify_return_error"]].concat();
        assert!(s_client(&server, &arguments), "{suite}");
    }
    // A small MTU: the client's certificate comes in fragments.
    assert!(s_client(&server, &[&arguments[..], &["-mtu", "300"]].concat()));
    let identities = server.identities();
    assert_eq!(identities.len(), 4);
    assert!(identities.iter().all(|identity| matches!(identity,
        Identity::Certificate(certificate) if certificate.uris == ["urn:dev:1"])));

    // Without a certificate, and with one that nobody trusted signed.
    assert!(!s_client(&server, &["-dtls1_2", "-CAfile", &ca]));
    let (cert, key) = (self::cert("stranger.pem"), self::cert("stranger.key"));
    assert!(!s_client(&server, &["-dtls1_2", "-CAfile", &ca, "-cert", &cert, "-key", &key]));
    assert_eq!(server.identities().len(), 4);
    let metrics = server.stop();
    for result in ["no_client_certificate", "certificate_unknown_ca"] {
        assert!(
            metrics.contains(&format!("dtls_handshakes_total.result={result} 1")),
            "{metrics:?}"
        );
    }
}

#[test]
fn openssl_without_a_client_certificate() {
    if !is_installed("openssl") {
        return;
    }
    let server = Server::start(server_certificate());
    let ca = cert("ca.pem");
    assert!(s_client(&server, &["-dtls1_2", "-CAfile", &ca, "-verify_return_error"]));
    assert_eq!(server.identities(), [Identity::Anonymous]);
}

/// Gets a resource with one of libcoap's clients.
fn coap(program: &str, server: &Server, arguments: &[&str]) -> bool {
    let url = format!("coaps://127.0.0.1:{}/x", server.port);
    let output = Command::new(program)
        .args(arguments)
        .args(["-B", "10", "-m", "get", &url])
        .output()
        .expect("a libcoap client");
    let answered = String::from_utf8_lossy(&output.stdout).contains("hello");
    if !answered {
        eprintln!("{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    answered
}

#[test]
fn libcoap_with_openssl_and_with_gnutls() {
    for program in ["coap-client-openssl", "coap-client-gnutls"] {
        if !is_installed(program) {
            continue;
        }
        // Its key is text.
        let key: String = "sixteen octets ok".bytes().map(|octet| format!("{octet:02x}")).collect();
        let psk = format!(r#""psk": [{{"identity": "device-1", "key": "{key}"}}]"#);
        let server = Server::start(format!("{psk}, {}", mutual()));
        assert!(
            coap(program, &server, &["-u", "device-1", "-k", "sixteen octets ok"]),
            "{program}"
        );
        assert_eq!(server.identities(), [psk_name()]);
        let (ca, cert, key) = (cert("ca.pem"), cert("client.pem"), cert("client.key"));
        // The server is not called 127.0.0.1, which -n accepts.
        assert!(coap(program, &server, &["-R", &ca, "-C", &ca, "-c", &cert, "-j", &key, "-n"]));
        assert!(matches!(server.identities()[1], Identity::Certificate(_)));
        let metrics = server.stop();
        assert!(metrics.contains(&"dtls_handshakes_total.result=completed 2".to_owned()));
        let closed = "dtls_associations_closed_total.reason=closed 2".to_owned();
        assert!(metrics.contains(&closed), "{metrics:?}");
    }
}
