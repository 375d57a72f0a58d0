//! DNS over UDP in flows: whose answer is whose, whatever clients, servers and the network do.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use codec_dns::{Flags, InfoCode, Opcode, Rcode, RecordType};
use integration::dns::authority::{Reply, Step, Transport, echoed};
use integration::dns::query::{Answer, Query};
use integration::dns::setup::{
    CORP, Setup, address, addresses, config, rule, udp_settings, virtual_host,
};
use integration::dns::udp::Client;
use integration::eventually;
use integration::ports::source;

/// Well above `linger` and a tick: a query that comes from the same port in the moment in which its session ends is lost.
const QUIET: Duration = Duration::from_millis(400);

fn a(name: &str) -> Query {
    Query::new(name, RecordType::A).unwrap()
}

#[test]
fn clients_share_flows_and_each_gets_its_own_answers() {
    let mut setup = Setup::new().unwrap();
    let clients: Vec<Client> = (0..100).map(|_| setup.client().unwrap()).collect();
    // All with the same IDs.
    for id in 0..5 {
        for (number, client) in clients.iter().enumerate() {
            let query = a(&format!("n{id}.c{number}.example")).id(id);
            client.send(&query.octets().unwrap()).unwrap();
        }
    }
    for (number, client) in clients.iter().enumerate() {
        let mut left: HashSet<u16> = (0..5).collect();
        while !left.is_empty() {
            let answer = client.receive().unwrap();
            let id = answer.id().unwrap();
            assert!(left.remove(&id), "{id} twice");
            let name = format!("n{id}.c{number}.example.");
            assert_eq!(answer.a().unwrap(), [address(&name)]);
        }
    }
    // Two flows for each of two workers, and others for what was late.
    let sources = setup.resolver.sources(Transport::Udp);
    assert!(sources.len() <= 8, "{sources:?}");
    setup.expect_healthy().unwrap();
}

#[test]
fn the_server_cannot_tell_a_query_s_id() {
    let setup = Setup::new().unwrap();
    let client = setup.client().unwrap();
    // Before the tunnel is there, few datagrams are kept.
    client.ask(&a("first.corp.example")).unwrap();
    let queries: Vec<Query> = (0..100).map(|_| a("www.example")).collect();
    client.ask_all(&queries).unwrap();
    let ids: Vec<u16> =
        setup.resolver.asked().iter().map(|asked| asked.message().unwrap().header.id).collect();
    let different: HashSet<&u16> = ids.iter().collect();
    let steps: HashSet<u16> = ids.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert!(ids.len() == 100 && different.len() > 95 && steps.len() > 90, "{ids:?}");
}

#[test]
fn the_longest_zone_that_a_name_is_in_says_who_is_asked() {
    let mut setup = Setup::new().unwrap();
    let client = setup.client().unwrap();
    for name in ["corp.example", "a.corp.example", "b.a.CORP.example"] {
        assert_eq!(client.ask(&a(name)).unwrap().a().unwrap(), [CORP], "{name}");
    }
    for name in ["example.", "xcorp.example.", "corp.example.org.", "."] {
        assert_eq!(client.ask(&a(name)).unwrap().a().unwrap(), [address(name)], "{name}");
    }
    assert_eq!((setup.corp.asked().len(), setup.resolver.asked().len()), (3, 4));
    setup.expect_healthy().unwrap();
}

#[test]
fn what_is_no_answer_to_the_query_does_not_reach_the_client() {
    let mut setup = Setup::with(config().unwrap(), |asked| {
        let good = Reply::to(asked)?.a(address(&asked.name));
        let bad = match asked.name.as_str() {
            "id.example." => good.clone().wrong_id().octets()?,
            "name.example." => good.clone().question("evil.example")?.octets()?,
            "query.example." => asked.octets.clone(),
            "garbage.example." => b"garbage".to_vec(),
            "empty.example." => Vec::new(),
            "cut.example." => good.octets()?.split_off(3),
            "twice.example." => good.octets()?,
            _ => Vec::new(),
        };
        Ok(vec![Step::SendRaw(bad), Step::Wait(Duration::from_millis(20)), good.send()?])
    })
    .unwrap();
    for kind in ["id", "name", "query", "garbage", "empty", "cut", "twice"] {
        let client = setup.client().unwrap();
        let name = format!("{kind}.example.");
        assert_eq!(client.ask(&a(&name)).unwrap().a().unwrap(), [address(&name)]);
        assert!(client.is_quiet_for(QUIET).unwrap(), "{kind}: a second answer");
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn the_letters_of_a_question_keep_their_case() {
    let setup = Setup::new().unwrap();
    let client = setup.client().unwrap();
    let answer = client.ask(&a("wWw.ExAmPlE")).unwrap();
    let question = answer.message().unwrap().question().unwrap();
    assert_eq!(question.name.to_string(), "wWw.ExAmPlE.");
}

#[test]
fn an_answer_without_records_is_passed_on_as_it_is() {
    let setup = Setup::with(config().unwrap(), |asked| {
        Ok(match asked.name.as_str() {
            "nxdomain." => vec![Reply::to(asked)?.rcode(Rcode::NXDOMAIN).soa(60).send()?],
            "servfail." => vec![Reply::to(asked)?.rcode(Rcode::SERVFAIL).send()?],
            "refused." => {
                let reply = Reply::to(asked)?.rcode(Rcode::REFUSED);
                vec![reply.extended_error(InfoCode::NOT_AUTHORITATIVE, "not mine").send()?]
            }
            _ => vec![Step::Send(echoed(asked)?)],
        })
    })
    .unwrap();
    let client = setup.client().unwrap();
    let rcode = |name| client.ask(&a(name)).unwrap().rcode().unwrap();
    assert_eq!(rcode("nxdomain"), Rcode::NXDOMAIN);
    assert_eq!(rcode("servfail"), Rcode::SERVFAIL);
    assert_eq!(rcode("nodata"), Rcode::NOERROR);
    let answer = client.ask(&a("refused").edns(1232)).unwrap();
    let errors = answer.extended_errors().unwrap();
    assert_eq!(errors, [(InfoCode::NOT_AUTHORITATIVE, "not mine".to_owned())]);
}

#[test]
fn an_answer_that_is_longer_than_the_client_takes_is_truncated() {
    let setup =
        Setup::with(config().unwrap(), |asked| Ok(vec![Reply::to(asked)?.text(1000).send()?]))
            .unwrap();
    let client = setup.client().unwrap();
    let query = Query::new("large.example", RecordType::TXT).unwrap();
    let answer = client.ask(&query).unwrap();
    assert!(answer.is_truncated().unwrap() && answer.0.len() <= 512, "{answer:?}");
    let answer = client.ask(&query.clone().edns(1232)).unwrap();
    assert!(!answer.is_truncated().unwrap());
    assert_eq!(answer.texts().unwrap(), ["x".repeat(1000)]);
    // Over TCP there is room.
    let answer = setup.tcp().unwrap().ask(&query).unwrap();
    assert_eq!(answer.texts().unwrap(), ["x".repeat(1000)]);
}

#[test]
fn a_server_that_is_silent_means_servfail() {
    let config = udp_settings(config().unwrap(), "response_timeout: 1.5s").unwrap();
    let config = config
        .replace(
            "response_timeout: 1.5s",
            "response_timeout: 1.5s\n                retry_after: 0.5s",
        )
        .unwrap();
    let mut setup = Setup::with(config, |asked| {
        // The second attempt of one of them is answered.
        let silent = asked.name == "silent." || asked.number == 0;
        if silent { Ok(vec![]) } else { addresses(asked) }
    })
    .unwrap();
    let client = setup.client().unwrap();
    let start = Instant::now();
    let answer = client.ask(&a("lost.").edns(1232)).unwrap();
    assert_eq!(answer.a().unwrap(), [address("lost.")]);
    let answer = client.ask(&a("silent.").edns(1232)).unwrap();
    assert_eq!(answer.rcode().unwrap(), Rcode::SERVFAIL);
    assert_eq!(answer.extended_errors().unwrap()[0].0, InfoCode::NO_REACHABLE_AUTHORITY);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // It is asked every half second until the query is given up.
    assert_eq!((setup.resolver.count("lost."), setup.resolver.count("silent.")), (2, 3));
    setup.expect_healthy().unwrap();
}

#[test]
fn a_server_that_comes_back_is_asked_again() {
    let mut setup = Setup::new().unwrap();
    let client = setup.client().unwrap();
    client.ask(&a("before.")).unwrap();
    setup.resolver.stop();
    let answer = client.ask(&a("meanwhile.").edns(1232)).unwrap();
    assert_eq!(answer.rcode().unwrap(), Rcode::SERVFAIL);
    setup.resolver.restart().unwrap();
    assert_eq!(client.ask(&a("after.")).unwrap().a().unwrap(), [address("after.")]);
    setup.expect_healthy().unwrap();
}

#[test]
fn what_is_no_query_is_answered_as_far_as_it_can_be() {
    let mut setup = Setup::new().unwrap();
    // No header, or a response: silence.
    let response = a("www.example").flags(Flags::QR).octets().unwrap();
    for octets in [&[], &b"garbage"[..], &response] {
        let client = setup.client().unwrap();
        client.send(octets).unwrap();
        assert!(client.is_quiet_for(QUIET).unwrap(), "{octets:?}");
    }
    let client = setup.client().unwrap();
    let query = a("www.example").id(7).octets().unwrap();
    let rcode = |octets: &[u8]| -> (u16, Rcode) {
        client.send(octets).unwrap();
        let answer = client.receive().unwrap();
        (answer.id().unwrap(), answer.rcode().unwrap())
    };
    // A question that is cut off, and one octet too many.
    assert_eq!(rcode(&query[..query.len() - 1]), (7, Rcode::FORMERR));
    assert_eq!(rcode(&[&query[..], &[0]].concat()), (7, Rcode::FORMERR));
    for opcode in [Opcode::STATUS, Opcode::NOTIFY, Opcode::UPDATE, Opcode(9)] {
        let flags = Flags(0).with_opcode(opcode);
        let query = a("www.example").id(8).flags(flags).octets().unwrap();
        assert_eq!(rcode(&query), (8, Rcode::NOTIMP), "{opcode:?}");
    }
    assert_eq!(setup.resolver.asked().len(), 0);
    setup.expect_healthy().unwrap();
}

#[test]
fn rules_answer_without_asking_anybody() {
    let config = rule(config().unwrap(), "{zones: [quiet.example], answer: drop}").unwrap();
    let config = rule(config, "{zones: [gone.example], answer: nxdomain}").unwrap();
    let config = rule(config, "{zones: [no.example], types: [AAAA], answer: refuse}").unwrap();
    let setup = Setup::with(config, addresses).unwrap();
    let ignored = setup.client().unwrap();
    ignored.send(&a("a.quiet.example").octets().unwrap()).unwrap();
    assert!(ignored.is_quiet_for(QUIET).unwrap());
    let client = setup.client().unwrap();
    let ask = |query: &Query| client.ask(query).unwrap().rcode().unwrap();
    assert_eq!(ask(&a("gone.example")), Rcode::NXDOMAIN);
    let aaaa = Query::new("no.example", RecordType::AAAA).unwrap();
    assert_eq!((ask(&aaaa), ask(&a("no.example"))), (Rcode::REFUSED, Rcode::NOERROR));
    let any = Query::new("www.example", RecordType::ANY).unwrap();
    let answer = client.ask(&any).unwrap();
    let types: Vec<RecordType> =
        answer.message().unwrap().answers().map(|record| record.record_type).collect();
    assert_eq!(types, [RecordType::HINFO]);
    assert_eq!(setup.resolver.asked().len(), 1);
}

#[test]
fn a_query_that_envoy_refuses_is_never_forwarded() {
    let mut setup = Setup::new().unwrap();
    let client = setup.client().unwrap();
    let ask = |name: &str| -> (Rcode, Vec<(InfoCode, String)>) {
        let answer: Answer = client.ask(&a(name).edns(1232)).unwrap();
        (answer.rcode().unwrap(), answer.extended_errors().unwrap())
    };
    for name in ["blocked.example", "a.b.blocked.example", "C.BLOCKED.example"] {
        let reason = vec![(InfoCode::BLOCKED, "malware".to_owned())];
        assert_eq!(ask(name), (Rcode::NXDOMAIN, reason), "{name}");
    }
    let reason = vec![(InfoCode::PROHIBITED, "advertisements".to_owned())];
    assert_eq!(ask("x.ads.example"), (Rcode::REFUSED, reason));
    assert_eq!(setup.resolver.asked().len(), 0);
    // The access log has the check.
    let entry = setup.envoy.access_log_entry(|entry| entry["carry"] == "check").unwrap();
    assert_eq!((&entry["code"], &entry["qtype"]), (&404.into(), &"A".into()));
    setup.expect_healthy().unwrap();
}

#[test]
fn a_query_that_envoy_lets_pass_goes_on_in_its_flow() {
    let config = rule(config().unwrap(), "{zones: [checked.example], carry: check}").unwrap();
    let setup = Setup::with(config, addresses).unwrap();
    let client = setup.client().unwrap();
    client.ask(&a("first.corp.example")).unwrap();
    let queries: Vec<Query> = (0..50).map(|n| a(&format!("n{n}.checked.example"))).collect();
    for (number, answer) in client.ask_all(&queries).unwrap().iter().enumerate() {
        let name = format!("n{number}.checked.example.");
        assert_eq!(answer.a().unwrap(), [address(&name)]);
    }
    assert_eq!(setup.resolver.asked().len(), 50);
}

#[test]
fn each_status_of_a_check_has_its_meaning() {
    let statuses = [
        (400, Rcode::FORMERR),
        (401, Rcode::REFUSED),
        (403, Rcode::REFUSED),
        (404, Rcode::NXDOMAIN),
        (429, Rcode::REFUSED),
        (500, Rcode::SERVFAIL),
        (503, Rcode::SERVFAIL),
    ];
    let mut config = rule(config().unwrap(), "{zones: [status.example], carry: check}").unwrap();
    for (status, _) in statuses {
        let host = format!(
            "{{name: s{status}, domains: [s{status}.status.example], routes: [{{match: {{prefix: /}}, direct_response: {{status: {status}}}}}]}}"
        );
        config = virtual_host(config, &host).unwrap();
    }
    let setup = Setup::with(config, addresses).unwrap();
    let client = setup.client().unwrap();
    for (status, rcode) in statuses {
        let answer = client.ask(&a(&format!("s{status}.status.example"))).unwrap();
        assert_eq!(answer.rcode().unwrap(), rcode, "{status}");
    }
    assert_eq!(setup.resolver.asked().len(), 0);
}

#[test]
fn many_one_shot_sources_are_all_answered_and_leave_nothing_behind() {
    const SOURCES: u32 = 10_000;
    let mut setup = Setup::new().unwrap();
    let to = setup.address().unwrap();
    let visit = |first: u32| {
        for hundred in (first..first + SOURCES).step_by(100) {
            let clients: Vec<(Client, Query)> = (hundred..hundred + 100)
                .map(|number| {
                    let client = Client::connect_from(source(number), to).unwrap();
                    let query = a(&format!("s{number}.example"));
                    client.send(&query.octets().unwrap()).unwrap();
                    (client, query)
                })
                .collect();
            for (client, query) in clients {
                assert!(query.is_answered_by(&client.receive().unwrap()).unwrap());
            }
        }
        let sessions = || setup.envoy.stat("udp.dns.downstream_sess_active").unwrap();
        eventually("all sessions to end", || Ok((sessions() == 0).then_some(()))).unwrap();
        setup.envoy.allocated_bytes().unwrap()
    };
    let before = visit(0);
    let after = visit(SOURCES);
    assert!(after < before + (8 << 20), "{before} octets became {after}");
    setup.expect_healthy().unwrap();
}
