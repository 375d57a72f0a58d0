//! CoAP requests as HTTP requests, and HTTP responses as CoAP responses (RFC 8075).

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use integration::coap::aiocoap::{self, Request};
use integration::coap::draft::{ACK, CON, Draft, NON, RST};
use integration::coap::libcoap::{self, Tls};
use integration::coap::setup::{self, Setup};
use integration::coap::udp::{Client, Datagram};
use integration::coap::{pattern, tcp};
use integration::envoy::Config;
use integration::eventually;
use serde_json::Value;
use services::recorder::Recorded;
use services::web::Web;

const QUIET: Duration = Duration::from_millis(300);
const SCHEMES: [&str; 2] = ["coap", "coap+tcp"];

const IF_MATCH: u16 = 1;
const URI_HOST: u16 = 3;
const ETAG: u16 = 4;
const IF_NONE_MATCH: u16 = 5;
const OBSERVE: u16 = 6;
const URI_PATH: u16 = 11;
const CONTENT_FORMAT: u16 = 12;
const MAX_AGE: u16 = 14;
const ACCEPT: u16 = 17;
const BLOCK2: u16 = 23;
const BLOCK1: u16 = 27;
const SIZE1: u16 = 60;
const NO_RESPONSE: u16 = 258;

struct Bridge {
    setup: Setup,
    web: Web,
    _running: services::Running,
}

impl Bridge {
    fn new() -> Self {
        Self::start(Setup::new())
    }

    fn start(setup: anyhow::Result<Setup>) -> Self {
        let (setup, web) = (setup.unwrap(), Web::default());
        let running = services::start(web.clone(), setup.web).unwrap();
        Self { setup, web, _running: running }
    }

    fn uri(&self, scheme: &str, path: &str) -> String {
        self.setup.uri(scheme, &format!("telemetry/{path}")).unwrap()
    }

    fn client(&self) -> Client {
        self.setup.client().unwrap()
    }

    /// The requests for this path that came to the service.
    fn came(&self, path: &str) -> Vec<Recorded> {
        self.web.requests().into_iter().filter(|request| request.path == path).collect()
    }

    fn observations(&self, expected: f64) {
        let seen = eventually("the number of observations", || {
            let active = self.setup.envoy.metric("coap_observations_active", &[])?;
            Ok((active == Some(expected)).then_some(()))
        });
        let active = self.setup.envoy.metric("coap_observations_active", &[]);
        assert!(seen.is_ok(), "{active:?}, not {expected}");
    }
}

/// Gives up a client that does not acknowledge after 2 s to 3 s.
fn impatient() -> Config {
    let config = setup::udp_settings(setup::config().unwrap(), "ack_timeout: 0.3s").unwrap();
    setup::udp_settings(config, "max_retransmit: 2").unwrap()
}

/// A request for the HTTP service.
fn to(path: &str) -> Draft {
    Draft::get("telemetry").path(path)
}

fn with_method(detail: u8, path: &str) -> Draft {
    Draft::new(0, detail).path("telemetry").path(path)
}

fn kind(datagram: &Datagram) -> u8 {
    datagram.0[0] >> 4 & 3
}

/// The value of an option in a response.
fn option(datagram: &Datagram, number: u16) -> Option<Vec<u8>> {
    use codec_coap::OptionValue;
    let message = datagram.message().unwrap();
    let found = message.options.iter().find(|option| option.number.0 == number)?;
    Some(match found.value {
        OptionValue::Empty => Vec::new(),
        OptionValue::Opaque(octets) => octets.to_vec(),
        OptionValue::String(text) => text.as_bytes().to_vec(),
        OptionValue::Uint(value) => {
            value.to_be_bytes().into_iter().skip_while(|octet| *octet == 0).collect()
        }
    })
}

fn json(datagram: &Datagram) -> Value {
    serde_json::from_slice(datagram.message().unwrap().payload).unwrap()
}

#[test]
fn methods_paths_and_options_become_those_of_http() {
    let mut bridge = Bridge::new();
    let client = bridge.client();
    let methods = ["GET", "POST", "PUT", "DELETE", "FETCH", "PATCH", "iPATCH"];
    for ((method, code), detail) in
        methods.iter().zip(["2.05", "2.04", "2.04", "2.02", "2.05", "2.04", "2.04"]).zip(1..)
    {
        let request = with_method(detail, "a/b c/").id(detail.into()).token(b"method");
        let request = request.query("k=v w").query("x&y").payload(b"content");
        let request = request.uint(CONTENT_FORMAT, 50).uint(ACCEPT, 50);
        let answer = client.exchange(&request).unwrap();
        assert_eq!((answer.code().unwrap().as_str(), kind(&answer)), (code, ACK), "{method}");
        assert_eq!(answer.message().unwrap().token, b"method");
        assert_eq!(answer.message().unwrap().message_id, u16::from(detail));
        let seen = json(&answer);
        assert_eq!(seen["method"], *method);
        assert_eq!(seen["path"], "/a/b%20c");
        assert_eq!(seen["query"], "k=v%20w&x%26y");
        let header = |name: &str| seen["headers"][name][0].clone();
        assert_eq!(header("accept"), "application/json", "{method}");
        assert_eq!(header("x-forwarded-for"), "127.0.0.1", "{method}");
        assert_eq!(header("x-coap-method").as_str().unwrap().to_lowercase(), method.to_lowercase());
        if !matches!(*method, "GET" | "DELETE") {
            assert_eq!(header("content-type"), "application/json", "{method}");
            assert_eq!(seen["content"], "content", "{method}");
        }
        assert_eq!(option(&answer, CONTENT_FORMAT), Some(vec![50]), "{method}");
    }
    for scheme in SCHEMES {
        let requests = methods.map(|method| Request::new(method, &bridge.uri(scheme, "x")));
        let answers = aiocoap::responses(&requests).unwrap();
        let codes: Vec<&str> = answers.iter().map(aiocoap::Response::code).collect();
        assert_eq!(codes, ["2.05", "2.04", "2.04", "2.02", "2.05", "2.04", "2.04"], "{scheme}");
        for method in methods {
            let client = libcoap::Client::new(Tls::None, &bridge.uri(scheme, "x?y=z"));
            let output = client.method(&method.to_lowercase()).run().unwrap();
            let seen: Value = serde_json::from_str(output.text().unwrap()).unwrap();
            assert_eq!((&seen["method"], &seen["query"]), (&method.into(), &"y=z".into()));
        }
    }
    bridge.setup.expect_healthy().unwrap();
    bridge.setup.expect_no_sessions().unwrap();
}

#[test]
fn resources_are_created_changed_validated_and_deleted() {
    let mut bridge = Bridge::new();
    let client = bridge.client();
    let mut next_id = 0;
    let mut ask = |request: Draft| {
        next_id += 1;
        client.exchange(&request.id(next_id).token(b"kept")).unwrap()
    };
    let put = |payload: &[u8]| with_method(3, "kept/x").payload(payload);
    assert_eq!(ask(to("kept/x")).code().unwrap(), "4.04");
    let created = ask(put(b"one").uint(CONTENT_FORMAT, 42).option(IF_NONE_MATCH, b""));
    assert_eq!(created.code().unwrap(), "2.01");
    assert_eq!(ask(put(b"two").option(IF_NONE_MATCH, b"")).code().unwrap(), "4.12");
    let answer = ask(to("kept/x"));
    assert_eq!((answer.code().unwrap().as_str(), answer.text().unwrap()), ("2.05", "one"));
    assert_eq!(option(&answer, CONTENT_FORMAT), Some(vec![42]));
    assert_eq!(option(&answer, MAX_AGE), Some(vec![30]));
    let etag = option(&answer, ETAG).unwrap();
    let valid = ask(to("kept/x").option(ETAG, &etag));
    assert_eq!((valid.code().unwrap().as_str(), valid.text().unwrap()), ("2.03", ""));
    assert_eq!(option(&valid, ETAG), Some(etag.clone()));
    assert_eq!(option(&valid, MAX_AGE), Some(vec![30]));
    assert_eq!(ask(put(b"two").option(IF_MATCH, b"other")).code().unwrap(), "4.12");
    assert_eq!(ask(put(b"two").option(IF_MATCH, &etag)).code().unwrap(), "2.04");
    assert_eq!(ask(to("kept/x").option(ETAG, &etag)).text().unwrap(), "two");
    assert_eq!(ask(with_method(4, "kept/x")).code().unwrap(), "2.02");
    assert_eq!(ask(with_method(4, "kept/x")).code().unwrap(), "4.04");
    let created = ask(with_method(2, "status/201").query("location=/a/b%20c?q=1"));
    assert_eq!(created.code().unwrap(), "2.01");
    let message = created.message().unwrap();
    assert!(message.options.location_path().map(|text| text.as_str()).eq(["a", "b c"]));
    assert!(message.options.location_query().map(|text| text.as_str()).eq(["q=1"]));
    bridge.setup.expect_healthy().unwrap();
}

#[test]
fn each_status_becomes_its_code() {
    let mut bridge = Bridge::new();
    let client = bridge.client();
    let table = [
        (200, "2.05"),
        (202, "2.05"),
        (204, "2.05"),
        (301, "5.02"),
        (302, "5.02"),
        (400, "4.00"),
        (401, "4.01"),
        (402, "4.00"),
        (403, "4.03"),
        (404, "4.04"),
        (405, "4.05"),
        (406, "4.06"),
        (407, "5.02"),
        (408, "5.04"),
        (409, "4.09"),
        (410, "4.04"),
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
        (599, "5.00"),
    ];
    for (status, code) in table {
        let request = to(&format!("status/{status}")).query("retry-after=7").id(status).token(b"s");
        let answer = client.exchange(&request).unwrap();
        assert_eq!((kind(&answer), answer.code().unwrap().as_str()), (ACK, code), "{status}");
        let max_age = matches!(status, 429 | 503).then(|| vec![7]);
        assert_eq!(option(&answer, MAX_AGE), max_age, "{status}");
    }
    bridge.setup.expect_healthy().unwrap();
}

#[test]
fn bodies_of_up_to_a_megabyte_go_block_wise_in_both_directions() {
    let mut bridge = Bridge::new();
    for scheme in SCHEMES {
        for length in [1_024, 1_025, 20_000, 1 << 20] {
            let uri = bridge.uri(scheme, "same");
            let answers =
                aiocoap::responses(&[Request::new("POST", &uri).pattern(length)]).unwrap();
            let seen = (answers[0].code(), answers[0].length());
            assert_eq!(seen, ("2.04", Some(length as u64)), "{scheme}");
            assert!(answers[0].is_pattern(), "{scheme} {length}");
        }
        let file = bridge.setup.envoy.process.dir().join("body");
        for length in [20_000, 1_000_000] {
            std::fs::write(&file, pattern(length)).unwrap();
            let uri = bridge.uri(scheme, &format!("kept/{length}-{}", &scheme[4..]));
            let put = libcoap::Client::new(Tls::None, &uri).method("put");
            let output = put.args(&["-f", &file.to_string_lossy()]).run().unwrap();
            assert_eq!(output.complaint, "", "{scheme} {length}");
            // With blocks of 256 octets, if the client wants that.
            let get = libcoap::Client::new(Tls::None, &uri).args(&["-b", "256"]);
            let output = get.run().unwrap();
            assert!(output.payload == pattern(length), "{scheme} {}", output.payload.len());
            let output = libcoap::Client::new(Tls::None, &uri).run().unwrap();
            assert!(output.payload == pattern(length), "{scheme} {}", output.payload.len());
        }
    }
    // One HTTP request for each transfer, and one for its response, however many blocks they took.
    assert_eq!(bridge.came("/same").len(), 8);
    let kept = |name: &str| bridge.came(&format!("/kept/{name}"));
    for name in ["20000-", "1000000-", "20000-+tcp", "1000000-+tcp"] {
        assert_eq!(kept(name).len(), 3, "{name}");
    }
    bridge.setup.expect_healthy().unwrap();
    bridge.setup.expect_no_sessions().unwrap();
}

#[test]
fn a_body_above_the_limit_or_with_a_missing_block_is_refused() {
    let config = setup::udp_settings(setup::config().unwrap(), "max_body_size: 3000").unwrap();
    let mut bridge = Bridge::start(Setup::start(config));
    let client = bridge.client();
    let block = |number: u32, more: u32, id: u16, length: usize| {
        let put = with_method(3, "kept/blocks").id(id).token(b"block");
        put.uint(BLOCK1, number << 4 | more << 3 | 6).payload(&vec![7; length])
    };
    let answer = client.exchange(&block(0, 1, 1, 1024)).unwrap();
    assert_eq!(
        (answer.code().unwrap().as_str(), option(&answer, BLOCK1)),
        ("2.31", Some(vec![14]))
    );
    // The second is missing.
    assert_eq!(client.exchange(&block(2, 1, 2, 1024)).unwrap().code().unwrap(), "4.08");
    assert_eq!(client.exchange(&block(0, 1, 3, 1024)).unwrap().code().unwrap(), "2.31");
    assert_eq!(client.exchange(&block(1, 1, 4, 1024)).unwrap().code().unwrap(), "2.31");
    let answer = client.exchange(&block(2, 1, 5, 1024)).unwrap();
    assert_eq!(answer.code().unwrap(), "4.13");
    assert_eq!(option(&answer, SIZE1), Some(3000_u32.to_be_bytes()[2..].to_vec()));
    // A body that says beforehand how large it is.
    let answer = client.exchange(&block(0, 1, 6, 1024).uint(SIZE1, 3001)).unwrap();
    assert_eq!(answer.code().unwrap(), "4.13");
    // Not as long as it says.
    assert_eq!(client.exchange(&block(0, 1, 7, 1000)).unwrap().code().unwrap(), "4.00");
    assert!(bridge.came("/kept/blocks").is_empty());
    // A response above the limit.
    let file = bridge.setup.envoy.process.dir().join("body");
    std::fs::write(&file, pattern(3001)).unwrap();
    let put = libcoap::Client::new(Tls::None, &bridge.uri("coap+tcp", "kept/long")).method("put");
    assert_eq!(put.args(&["-f", &file.to_string_lossy()]).run().unwrap().complaint, "");
    let answer = client.exchange(&to("kept/long").id(8).token(b"long")).unwrap();
    assert_eq!(answer.code().unwrap(), "5.02");
    // A block beyond the end, and one of a response that nobody keeps.
    let beyond = to("events/1/1").id(9).token(b"x").uint(BLOCK2, 5 << 4 | 6);
    assert_eq!(client.exchange(&beyond).unwrap().code().unwrap(), "4.02");
    let late = with_method(2, "same").id(10).token(b"x").uint(BLOCK2, 5 << 4 | 6);
    assert_eq!(client.exchange(&late).unwrap().code().unwrap(), "4.08");
    assert!(bridge.came("/same").is_empty());
    bridge.setup.expect_healthy().unwrap();
}

#[test]
fn a_slow_response_comes_separately_until_it_is_acknowledged() {
    let mut bridge = Bridge::new();
    let client = bridge.client();
    let slow = to("slow/1500").id(1).token(b"slow");
    let begin = std::time::Instant::now();
    let answer = client.exchange(&slow).unwrap();
    let after = begin.elapsed();
    assert_eq!(answer.0, Draft::empty(ACK, 1).datagram());
    // `separate_after` is 0.5 s.
    assert!(after >= Duration::from_millis(400), "{after:?}");
    // Whoever did not hear the acknowledgement hears it again.
    assert_eq!(client.exchange(&slow).unwrap(), answer);
    let first = client.receive().unwrap();
    assert_eq!((first.text().unwrap(), kind(&first)), ("slow", CON));
    assert_eq!(first.message().unwrap().token, b"slow");
    assert_ne!(first.message().unwrap().message_id, 1);
    // Not acknowledged: again after 2 s to 3 s, and after 4 s to 6 s.
    let sent = std::time::Instant::now();
    assert_eq!(client.receive().unwrap(), first);
    assert!(sent.elapsed() >= Duration::from_secs(1), "{:?}", sent.elapsed());
    client.send(&Draft::empty(ACK, first.message().unwrap().message_id).datagram()).unwrap();
    assert!(client.is_quiet_for(Duration::from_secs(7)).unwrap());
    assert_eq!(bridge.came("/slow/1500").len(), 1);

    // Rejected is heard as well.
    let client = bridge.client();
    assert_eq!(client.exchange(&to("slow/700").id(2)).unwrap().0, Draft::empty(ACK, 2).datagram());
    let id = client.receive().unwrap().message().unwrap().message_id;
    client.send(&Draft::empty(RST, id).datagram()).unwrap();
    // A non-confirmable request has a non-confirmable response, and nothing before it.
    let client = bridge.client();
    let answer = client.exchange(&to("slow/700").kind(NON).id(3).token(b"non")).unwrap();
    assert_eq!((answer.text().unwrap(), kind(&answer)), ("slow", NON));
    assert_eq!(answer.message().unwrap().token, b"non");
    assert!(client.is_quiet_for(Duration::from_secs(3)).unwrap());
    bridge.setup.expect_healthy().unwrap();
    bridge.setup.expect_no_sessions().unwrap();
}

#[test]
fn a_request_that_came_before_costs_envoy_nothing_and_gets_the_same_octets() {
    let mut bridge = Bridge::new();
    let client = bridge.client();
    let count = |bridge: &Bridge| bridge.setup.envoy.stat("http.coap.downstream_rq_total").unwrap();
    let post = with_method(2, "once").id(1).token(b"once").payload(b"once");
    let answer = client.exchange(&post).unwrap();
    let before = count(&bridge);
    for _ in 0..20 {
        assert_eq!(client.exchange(&post).unwrap(), answer);
    }
    assert_eq!(count(&bridge), before);
    // While it is under way, nothing is said at all.
    let slow = with_method(1, "slow/400").id(2).token(b"slow");
    for _ in 0..5 {
        client.send(&slow.datagram()).unwrap();
    }
    assert_eq!(client.receive().unwrap().text().unwrap(), "slow");
    assert!(client.is_quiet_for(QUIET).unwrap());
    // NON likewise.
    let non = with_method(2, "once").kind(NON).id(3).token(b"non");
    let answer_to_non = client.exchange(&non).unwrap();
    assert_eq!(client.exchange(&non).unwrap(), answer_to_non);
    // Another token does not make it another message (RFC 7252 §4.5).
    assert_eq!(client.exchange(&with_method(2, "other").id(1).token(b"other")).unwrap(), answer);
    // After the session has ended as well; but another client's message ID is another message ID.
    bridge.setup.expect_no_sessions().unwrap();
    let before = count(&bridge);
    assert_eq!(client.exchange(&post).unwrap(), answer);
    assert_eq!(count(&bridge), before);
    assert_eq!(bridge.came("/once").len(), 2);
    assert_eq!(bridge.came("/slow/400").len(), 1);
    assert_eq!(bridge.client().exchange(&post).unwrap().code().unwrap(), "2.04");
    assert_eq!(bridge.came("/once").len(), 3);
    bridge.setup.expect_healthy().unwrap();
}

#[test]
fn what_cannot_be_an_http_request_is_refused_as_the_standard_says() {
    let mut bridge = Bridge::new();
    let client = bridge.client();
    let before = bridge.web.requests().len();
    let unknown = to("x").token(b"?").option(65_001, b"?");
    let answer = client.exchange(&unknown.clone().id(1)).unwrap();
    assert_eq!((answer.code().unwrap().as_str(), kind(&answer)), ("4.02", ACK));
    assert!(answer.text().unwrap().contains("65001"), "{answer:?}");
    client.send(&unknown.kind(NON).id(2).datagram()).unwrap();
    assert!(client.is_quiet_for(QUIET).unwrap());
    // A proxy is not what this is: Proxy-Uri, Proxy-Scheme.
    for (number, value, id) in [(35, &b"coap://a/b"[..], 3), (39, b"http", 4)] {
        let answer = client.exchange(&to("x").token(b"p").option(number, value).id(id)).unwrap();
        assert_eq!(answer.code().unwrap(), "5.05", "{number}");
    }
    // An unknown method, OSCORE, and a host that is none.
    let answer = client.exchange(&with_method(8, "x").token(b"m").id(5)).unwrap();
    assert_eq!(answer.code().unwrap(), "4.05");
    let answer = client.exchange(&to("x").token(b"o").option(9, b"").id(6)).unwrap();
    assert_eq!(answer.code().unwrap(), "4.02");
    for (host, id) in [(&b"a b"[..], 7), (b"a/b", 8), (b"a\r\nx: y", 9), (b"a@b", 10)] {
        let answer = client.exchange(&to("x").token(b"h").option(URI_HOST, host).id(id)).unwrap();
        assert_eq!(answer.code().unwrap(), "4.00", "{host:?}");
    }
    assert_eq!(bridge.web.requests().len(), before);
    bridge.setup.expect_healthy().unwrap();
}

#[test]
fn no_path_no_query_and_no_payload_can_add_or_forge_a_header() {
    let mut bridge = Bridge::new();
    let client = bridge.client();
    let segments: [(&[u8], &str); 9] = [
        (b"a/b", "a%2Fb"),
        (b"100%", "100%25"),
        (b"%2F", "%252F"),
        (b"x\r\nforged: yes", "x%0D%0Aforged:%20yes"),
        (b"\0", "%00"),
        ("\u{fc}\u{4f60}".as_bytes(), "%C3%BC%E4%BD%A0"),
        (b"?q#f", "%3Fq%23f"),
        (b"", ""),
        (b"...", "..."),
    ];
    for ((segment, expected), id) in segments.iter().zip(1..) {
        let request = to("p").option(URI_PATH, segment).option(URI_PATH, b"end");
        let request = request.option(15, segment).id(id).token(b"path");
        let answer = client.exchange(&request).unwrap();
        assert_eq!(answer.code().unwrap(), "2.05", "{segment:?}");
        let seen = json(&answer);
        assert_eq!(seen["path"], format!("/p/{expected}/end"));
        assert!(seen["headers"]["forged"].is_null(), "{seen}");
    }
    // Neither is passed on as a path that a server would resolve (RFC 7252 §5.10.1).
    for (segment, id) in [(&b"."[..], 20), (b"..", 21), (b"\xff", 22)] {
        let request = to("p").option(URI_PATH, segment).option(URI_PATH, b"secret").id(id);
        assert_eq!(client.exchange(&request).unwrap().code().unwrap(), "4.02", "{segment:?}");
    }
    assert!(bridge.web.requests().iter().all(|request| !request.path.contains("secret")));
    // The same in flows and in their access log.
    let flow = Draft::get("x\r\nforged: yes").id(30).token(b"flow");
    assert_eq!(client.request(&flow).unwrap().code().unwrap(), "4.04");
    bridge.setup.expect_no_sessions().unwrap();
    let entry = bridge.setup.envoy.access_log_entry(|entry| entry["carry"] == "flow").unwrap();
    assert_eq!(entry["path"], "/x%0D%0Aforged%3A%20yes");
    bridge.setup.expect_healthy().unwrap();
}

#[test]
fn no_response_is_honoured_by_class() {
    let mut bridge = Bridge::new();
    let client = bridge.client();
    let ask = |kind, status: u16, id, classes: u32| {
        let request = with_method(2, &format!("status/{status}")).kind(kind).token(b"no");
        client.send(&request.id(id).uint(NO_RESPONSE, classes).datagram()).unwrap();
    };
    // All of them (RFC 7967 §2.1), and those with another class than the one that comes.
    ask(NON, 204, 1, 26);
    assert!(client.is_quiet_for(QUIET).unwrap());
    ask(CON, 204, 2, 26);
    assert_eq!(client.receive().unwrap().0, Draft::empty(ACK, 2).datagram());
    ask(NON, 404, 3, 2);
    assert_eq!(client.receive().unwrap().code().unwrap(), "4.04");
    ask(NON, 404, 4, 8);
    ask(NON, 503, 5, 16);
    assert!(client.is_quiet_for(QUIET).unwrap());
    eventually("all five requests", || Ok((bridge.web.requests().len() == 5).then_some(())))
        .unwrap();
    bridge.setup.expect_healthy().unwrap();
}

#[test]
fn server_sent_events_are_notifications_until_the_client_cancels() {
    let mut bridge = Bridge::start(Setup::start(impatient()));
    for scheme in SCHEMES {
        let uri = bridge.uri(scheme, "events/100/10");
        let seen = aiocoap::run(&[Request::new("GET", &uri).observe(40)]).unwrap().remove(0);
        let numbers: Vec<u64> = seen.iter().map(|seen| seen.text().parse().unwrap()).collect();
        assert_eq!((numbers.len(), numbers[0]), (41, 0), "{scheme}");
        assert!(numbers.is_sorted(), "{numbers:?}");
        // The service ends the events, and with them the observation ends.
        let client = libcoap::Client::new(Tls::None, &bridge.uri(scheme, "events/20/10"));
        let all: String = (0..20).map(|number| number.to_string()).collect();
        let mut running = client.args(&["-s", "30"]).start().unwrap();
        running.wait_for("20 events", |out| out.starts_with(all.as_bytes())).unwrap();
    }
    bridge.observations(0.0);

    let observe = |path: &str, id: u16| {
        let client = bridge.client();
        let get = to(path).uint(OBSERVE, 0).id(id).token(b"observe");
        let first = client.response({
            client.send(&get.datagram()).unwrap();
            &get
        });
        (client, get, first.unwrap())
    };
    // More notifications than may be non-confirmable in a row; all are acknowledged.
    let (client, get, first) = observe("events/100000/50", 1);
    assert!(option(&first, OBSERVE).is_some());
    let mut sequence = 0;
    let mut confirmable = 0;
    for _ in 0..20 {
        let next = client.response(&get).unwrap();
        confirmable += usize::from(kind(&next) == CON);
        let number = next.message().unwrap().options.observe().unwrap();
        assert!(number > sequence);
        sequence = number;
    }
    assert!(confirmable > 0);
    bridge.observations(1.0);
    // GET with Observe 1 (RFC 7641 §3.6) is another request, which is not observed.
    let cancel = to("events/1/1").uint(OBSERVE, 1).id(2).token(b"observe");
    client.send(&cancel.datagram()).unwrap();
    eventually("the answer to the cancellation", || {
        Ok((client.receive()?.message()?.options.observe().is_none()).then_some(()))
    })
    .unwrap();
    bridge.observations(0.0);
    assert!(client.is_quiet_for(QUIET).unwrap());

    // RST to a notification, confirmable or not.
    let (client, _, _) = observe("events/100000/50", 3);
    let notification = client.receive().unwrap();
    let id = notification.message().unwrap().message_id;
    client.send(&Draft::empty(RST, id).datagram()).unwrap();
    bridge.observations(0.0);
    while client.receive_within(Duration::from_millis(20)).unwrap().is_some() {}
    assert!(client.is_quiet_for(QUIET).unwrap());

    // The end of the events is told with an error code, and with it the observation is over (RFC 7641 §4.2).
    let (client, get, first) = observe("events/3/100", 4);
    assert_eq!(first.text().unwrap(), "0");
    let codes: Vec<String> =
        (0..3).map(|_| client.response(&get).unwrap().code().unwrap()).collect();
    assert_eq!(codes, ["2.05", "2.05", "5.03"]);
    // Whoever does not acknowledge it hears it again; here it was acknowledged.
    assert!(client.is_quiet_for(QUIET).unwrap());

    // What is no stream of events is not observed.
    let (_, _, first) = observe("x", 5);
    assert_eq!((first.code().unwrap().as_str(), option(&first, OBSERVE)), ("2.05", None));
    let accept = json(&first)["headers"]["accept"][0].as_str().unwrap().to_owned();
    assert!(accept.starts_with("text/event-stream"), "{accept}");
    bridge.setup.expect_no_sessions().unwrap();
    bridge.setup.expect_healthy().unwrap();
}

#[test]
fn a_client_that_is_gone_is_not_notified_for_ever() {
    let mut bridge = Bridge::start(Setup::start(impatient()));
    let client = bridge.client();
    let get = to("events/100000/20").uint(OBSERVE, 0).id(1).token(b"gone");
    client.send(&get.datagram()).unwrap();
    client.receive().unwrap();
    bridge.observations(1.0);
    drop(client);
    bridge.observations(0.0);
    bridge.setup.expect_no_sessions().unwrap();
    bridge.setup.expect_healthy().unwrap();
}

#[test]
fn uri_host_chooses_the_virtual_host() {
    let host = r#"            - {name: other, domains: ["other.example", "[2001:db8::1]", "odd.example:5699"], routes: [{name: other, match: {prefix: /}, direct_response: {status: 403, body: {inline_string: "other"}}}]}"#;
    let config = setup::config().unwrap();
    let config = config
        .replace("            virtual_hosts:\n", &format!("            virtual_hosts:\n{host}\n"));
    let mut bridge = Bridge::start(Setup::start(config.unwrap()));
    let client = bridge.client();
    let ask = |host: &[u8], port: u32, id| {
        let mut request = to("x").option(URI_HOST, host).id(id).token(b"host");
        if port > 0 {
            request = request.uint(7, port);
        }
        client.exchange(&request).unwrap().code().unwrap()
    };
    let table = [
        (&b"other.example"[..], 0, "4.03"),
        (b"OTHER.example", 5683, "4.03"),
        (b"2001:db8::1", 0, "4.03"),
        (b"odd.example", 5699, "4.03"),
        (b"odd.example", 0, "2.05"),
        (b"third.example", 0, "2.05"),
    ];
    for ((host, port, code), id) in table.into_iter().zip(100..) {
        assert_eq!(ask(host, port, id), code, "{host:?}:{port}");
    }
    // In flows too, and there the response is the route's.
    let flow = Draft::get("small").option(URI_HOST, b"other.example").id(1).token(b"flow");
    let answer = client.request(&flow).unwrap();
    assert_eq!(answer.code().unwrap(), "4.03");
    let flow = Draft::get("small").option(URI_HOST, b"third.example").id(2).token(b"flow");
    assert_eq!(client.request(&flow).unwrap().text().unwrap(), "small");
    let (mut stream, _) = tcp::Client::connect(bridge.setup.address().unwrap(), 1 << 20).unwrap();
    let answer = stream.request(&to("x").option(URI_HOST, b"other.example").token(b"tcp")).unwrap();
    assert_eq!(answer.code().unwrap(), "4.03");
    bridge.setup.expect_healthy().unwrap();
}
