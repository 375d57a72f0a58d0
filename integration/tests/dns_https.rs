//! DNS over HTTPS: requests that have a query in them and others, what HTTP's caches are told, and answers of any size.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use codec_dns::{Flags, HEADER_LEN, InfoCode, Rcode, RecordType};
use integration::dns::authority::{Authority, Reply, Transport};
use integration::dns::clients::{Dig, Kdig, PythonQuery, dnspython};
use integration::dns::dnsdist::{Dnsdist, Encrypted};
use integration::dns::https::{Request, Response, send_all};
use integration::dns::query::Query;
use integration::dns::setup::{CORP, Setup, address, addresses, config, port};

fn a(name: &str) -> Query {
    Query::new(name, RecordType::A).unwrap().edns(1232)
}

fn txt(octets: usize) -> Query {
    Query::new(&format!("t{octets}"), RecordType::TXT).unwrap()
}

#[test]
fn a_request_with_a_query_is_answered_and_one_without_is_told_why_not() {
    let mut setup = Setup::new().unwrap();
    let https = setup.envoy.address(port::HTTPS).unwrap();
    for name in ["www.example.", "www.corp.example."] {
        let expected = if name == "www.example." { address(name) } else { CORP };
        for request in [Request::get, Request::post] {
            let query = a(name).id(0);
            let response = request(https, &query).unwrap().send().unwrap();
            let answer = response.answer().unwrap();
            assert!(query.is_answered_by(&answer).unwrap());
            assert_eq!(answer.a().unwrap(), [expected]);
        }
        let expected = [expected.to_string()];
        for arg in ["+https", "+https-get"] {
            assert_eq!(Dig::new(https, name, "A").args(&[arg]).run().unwrap().short(), expected);
        }
        for args in [&["+https"][..], &["+https", "+https-get"]] {
            assert_eq!(Kdig::new(https, name, "A").args(args).run().unwrap().short(), expected);
        }
        // Over HTTP/1.1.
        let query = PythonQuery::new(https, name, "A").transport("https").edns(1232, true);
        let answers = dnspython(&[query]).unwrap();
        assert_eq!((answers[0].rcode(), answers[0].answers().len()), ("NOERROR", 1));
    }
    let head = Request::get(https, &a("www.example")).unwrap().args(&["--head"]).send().unwrap();
    assert_eq!(head.status().unwrap(), 200);
    // curl shows the header section, and nothing is after that.
    assert!(head.text().ends_with("\r\n\r\n"), "{head:?}");
    assert_eq!(head.header("content-type"), Some("application/dns-message"));
    let asked = setup.resolver.asked().len();
    let path = |path: &str| Request::new(https, path);
    let content = || a("x").octets().unwrap();
    let response = a("x").flags(Flags::QR).octets().unwrap();
    let media_type = "content-type: application/dns-message";
    let cases: [(Request, u16); 13] = [
        (path("/other?dns=AAABAAABAAAAAAAAAAABAAE"), 404),
        (path("/dns-query"), 400),
        (path("/dns-query?dns="), 400),
        (path("/dns-query?dns=AAAB"), 400),
        (path("/dns-query?dns=AAABAAABAAAAAAAAAAABAAE="), 400),
        (path("/dns-query?dns=AAABAAABAAAAAAAAAAABAAE&dns=AAABAAABAAAAAAAAAAABAAE"), 400),
        (path("/dns-query").content(content()).header("content-type: text/plain"), 415),
        (path("/dns-query").content(content()).header("content-type:"), 415),
        (path("/dns-query").content(response).header(media_type), 400),
        (path("/dns-query").content(vec![0; 11]).header(media_type), 400),
        (path("/dns-query").content(vec![0; 5000]).header(media_type), 413),
        (Request::get(https, &a("x")).unwrap().args(&["-X", "DELETE"]), 405),
        (Request::post(https, &a("x")).unwrap().args(&["-X", "PUT"]), 405),
    ];
    let (requests, statuses): (Vec<Request>, Vec<u16>) = cases.into_iter().unzip();
    let responses = send_all(&requests).unwrap();
    let came: Vec<u16> = responses.iter().map(|response| response.status().unwrap()).collect();
    assert_eq!(came, statuses, "{responses:?}");
    assert_eq!(responses[11].header("allow"), Some("GET, HEAD, POST"));
    // What is wrong with the message itself has an answer of the DNS.
    let cut = content()[..HEADER_LEN + 1].to_vec();
    let response = path("/dns-query").content(cut).header(media_type).send().unwrap();
    assert_eq!(response.answer().unwrap().rcode().unwrap(), Rcode::FORMERR);
    assert_eq!(setup.resolver.asked().len(), asked);
    setup.expect_healthy().unwrap();
}

#[test]
fn caches_of_http_are_told_how_long_an_answer_holds() {
    let doh = Authority::with_address([192, 0, 2, 1].into(), 77).unwrap();
    let doh = (Dnsdist::start(doh.address(), false, Encrypted::Yes).unwrap(), doh);
    let config = config().unwrap().port(port::DOH, doh.0.https().port());
    let mut setup = Setup::with(config, |asked| {
        let reply = Reply::to(asked)?;
        Ok(vec![match asked.name.as_str() {
            "alias." => reply.ttl(50).cname("target")?.a(CORP).send()?,
            "nodata." => reply.ttl(50).soa(20).send()?,
            "nxdomain." => reply.rcode(Rcode::NXDOMAIN).ttl(10).soa(20).send()?,
            "no-soa." => reply.rcode(Rcode::NXDOMAIN).send()?,
            "zero." => reply.ttl(0).a(CORP).send()?,
            "servfail." => reply.rcode(Rcode::SERVFAIL).send()?,
            _ => reply.ttl(300).a(CORP).send()?,
        }])
    })
    .unwrap();
    let https = setup.envoy.address(port::HTTPS).unwrap();
    // Not for others: with the example's rules, who asks makes a difference.
    let cases = [
        ("www", "private, max-age=300"),
        ("alias", "private, max-age=50"),
        ("nodata", "private, max-age=20"),
        ("nxdomain", "private, max-age=10"),
        ("zero", "private, max-age=0"),
        ("no-soa", "no-store"),
        ("servfail", "no-store"),
        // DoH in front of DoH.
        ("www.doh.example", "private, max-age=77"),
        // By Envoy's virtual host.
        ("x.ads.example", "no-store"),
    ];
    let requests: Vec<Request> =
        cases.iter().map(|(name, _)| Request::get(https, &a(name)).unwrap()).collect();
    let responses = send_all(&requests).unwrap();
    for ((name, expected), response) in cases.iter().zip(&responses) {
        assert_eq!(response.header("cache-control"), Some(*expected), "{name}");
    }
    assert_eq!(responses[7].answer().unwrap().a().unwrap().len(), 1);
    let refused = responses[8].answer().unwrap();
    assert_eq!(refused.extended_errors().unwrap()[0].0, InfoCode::PROHIBITED);
    let entry = setup.envoy.access_log_entry(|entry| entry["carry"] == "request").unwrap();
    // On loopback, Envoy calls a client by an address of its own machine.
    assert!(entry["transport"] == "https" && entry["client"].is_string(), "{entry}");
    setup.expect_healthy().unwrap();
}

#[test]
fn answers_of_any_size_come_whole_and_many_at_once_on_one_connection() {
    let mut setup = Setup::with(config().unwrap(), |asked| {
        let Some(octets) =
            asked.name.strip_prefix('t').and_then(|it| it.trim_end_matches('.').parse().ok())
        else {
            return addresses(asked);
        };
        let reply = Reply::to(asked)?;
        Ok(vec![match asked.transport {
            Transport::Udp if octets > 1200 => reply.truncated().send()?,
            _ => reply.text(octets).send()?,
        }])
    })
    .unwrap();
    let https = setup.envoy.address(port::HTTPS).unwrap();
    // Over UDP to the server, and over TCP again what is truncated there.
    for (octets, over_tcp) in [(1000, 0), (1300, 1), (65_000, 1)] {
        let answer = Request::post(https, &txt(octets)).unwrap().send().unwrap().answer().unwrap();
        assert!(!answer.message().unwrap().header.flags.has(Flags::TC));
        assert_eq!(answer.texts().unwrap(), ["x".repeat(octets)]);
        let count = |transport| setup.resolver.count_over(transport, &format!("t{octets}."));
        assert_eq!((count(Transport::Udp), count(Transport::Tcp)), (1, over_tcp), "{octets}");
    }

    let connections = || setup.envoy.stat("http.doh.downstream_cx_total").unwrap();
    let before = connections();
    let queries: Vec<Query> = (0..250)
        .map(|n| if n % 50 == 7 { txt(60_000) } else { a(&format!("n{n}.example")).id(0) })
        .collect();
    let requests: Vec<Request> = queries
        .iter()
        .enumerate()
        .map(|(n, query)| [Request::get, Request::post][n % 2](https, query).unwrap())
        .collect();
    let responses: Vec<Response> = send_all(&requests).unwrap();
    for (n, (query, response)) in queries.iter().zip(&responses).enumerate() {
        let answer = response.answer().unwrap();
        assert!(query.is_answered_by(&answer).unwrap(), "{n}");
        if n % 50 == 7 {
            assert_eq!(answer.texts().unwrap()[0].len(), 60_000);
        } else {
            assert_eq!(answer.a().unwrap(), [address(&format!("n{n}.example."))]);
        }
    }
    assert_eq!(connections() - before, 1);
    setup.expect_healthy().unwrap();
}
