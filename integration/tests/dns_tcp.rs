//! DNS over TCP and TLS: framing, pipelining, and servers that are slow, close or break off.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use codec_dns::{Rcode, RecordType};
use integration::dns::authority::{Reply, Step, Transport, slowly};
use integration::dns::query::Query;
use integration::dns::setup::{CORP, Setup, address, addresses, config};
use integration::dns::tcp::{Next, framed};

const QUIET: Duration = Duration::from_millis(200);

fn a(name: &str) -> Query {
    Query::new(name, RecordType::A).unwrap()
}

#[test]
fn pipelined_queries_are_all_answered() {
    let mut setup = Setup::with(config().unwrap(), |asked| {
        // Every tenth is late: answers overtake one another.
        let mut steps = addresses(asked)?;
        if asked.name.ends_with("0.example.") {
            steps.insert(0, Step::Wait(Duration::from_millis(50)));
        }
        Ok(steps)
    })
    .unwrap();
    let mut client = setup.tcp().unwrap();
    let queries: Vec<Query> = (0..1000).map(|n| a(&format!("n{n}.example"))).collect();
    for (number, answer) in client.ask_all(&queries).unwrap().iter().enumerate() {
        assert_eq!(answer.a().unwrap(), [address(&format!("n{number}.example."))]);
    }
    assert_eq!(setup.resolver.sources(Transport::Udp).len(), 0);
    let connections = setup.resolver.sources(Transport::Tcp).len();
    assert!(connections <= 2, "{connections} connections");
    setup.expect_healthy().unwrap();
}

#[test]
fn any_split_of_a_stream_is_the_same_queries() {
    let setup = Setup::new().unwrap();
    let queries: Vec<Query> = (0..3).map(|n| a(&format!("n{n}.corp.example"))).collect();
    let messages: Vec<Vec<u8>> = queries.iter().map(|query| query.octets().unwrap()).collect();
    let stream = framed(&messages).unwrap();
    for piece in [1, 2, 3, 7, stream.len() - 1] {
        let mut client = setup.tcp().unwrap();
        for piece in stream.chunks(piece) {
            client.send_raw(piece).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        for _ in &queries {
            assert_eq!(client.receive().unwrap().a().unwrap(), [CORP]);
        }
    }
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let mut setup = Setup::new().unwrap();
    for octets in [&[0, 0][..], &[0, 5, 1, 2, 3, 4, 5], &[0xff, 0xff, 1, 2, 3]] {
        let mut client = setup.tcp().unwrap();
        client.send_raw(octets).unwrap();
        assert_eq!(client.next_within(integration::PATIENCE).unwrap(), Next::End, "{octets:?}");
    }
    let mut client = setup.tcp().unwrap();
    client.send(&[[&a("x").octets().unwrap()[..], &[0]].concat()]).unwrap();
    assert_eq!(client.receive().unwrap().rcode().unwrap(), Rcode::FORMERR);
    setup.expect_healthy().unwrap();
}

#[test]
fn an_answer_may_come_in_pieces_and_may_be_as_long_as_a_message_can_be() {
    let setup = Setup::with(config().unwrap(), |asked| {
        let reply = Reply::to(asked)?;
        Ok(match asked.name.as_str() {
            "slow." => slowly(reply.a(address("slow.")).octets()?, 7, Duration::from_millis(5))?,
            _ => vec![reply.text(65_000).send()?],
        })
    })
    .unwrap();
    let mut client = setup.tcp().unwrap();
    let long = Query::new("long.", RecordType::TXT).unwrap();
    let answers = client.ask_all(&[a("slow."), long.clone(), a("slow."), long]).unwrap();
    assert_eq!(answers[2].a().unwrap(), [address("slow.")]);
    assert_eq!(answers[3].texts().unwrap(), ["x".repeat(65_000)]);
}

#[test]
fn a_server_that_closes_after_an_answer_is_asked_on_another_connection() {
    let mut setup = Setup::with(config().unwrap(), |asked| {
        let mut steps = addresses(asked)?;
        steps.push(Step::ShutDown);
        Ok(steps)
    })
    .unwrap();
    let mut client = setup.tcp().unwrap();
    for number in 0..20 {
        let name = format!("n{number}.example.");
        assert_eq!(client.ask(&a(&name)).unwrap().a().unwrap(), [address(&name)]);
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_server_that_is_gone_means_servfail_and_one_that_comes_back_is_asked_again() {
    let mut setup = Setup::new().unwrap();
    let mut client = setup.tcp().unwrap();
    client.ask(&a("before.")).unwrap();
    setup.resolver.stop();
    assert_eq!(client.ask(&a("meanwhile.")).unwrap().rcode().unwrap(), Rcode::SERVFAIL);
    setup.resolver.restart().unwrap();
    assert_eq!(client.ask(&a("after.")).unwrap().a().unwrap(), [address("after.")]);
    setup.expect_healthy().unwrap();
}

#[test]
fn a_wrong_id_over_tcp_does_not_reach_the_client() {
    let setup = Setup::with(config().unwrap(), |asked| {
        let good = Reply::to(asked)?.a(address(&asked.name));
        Ok(vec![good.clone().wrong_id().send()?, good.send()?])
    })
    .unwrap();
    let mut client = setup.tcp().unwrap();
    for name in ["a.", "b."] {
        assert_eq!(client.ask(&a(name)).unwrap().a().unwrap(), [address(name)]);
        assert_eq!(client.next_within(QUIET).unwrap(), Next::Nothing);
    }
}
