//! Two DNS servers that stand in for each other: `envoy-configs/dns-failover.yaml`.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use codec_dns::{Rcode, RecordType};
use integration::dns::authority::{Authority, Transport};
use integration::dns::query::{Answer, Query};
use integration::dns::setup::{addresses, port};
use integration::dns::{tcp, udp};
use integration::envoy::{Config, Envoy};
use integration::eventually;
use integration::setup::expect_healthy;

/// The port of the second server in the example configuration.
const SECOND: u16 = 25_354;

struct Setup {
    envoy: Envoy,
    servers: [Authority; 2],
}

impl Setup {
    /// Without health checks, if they are to be no help.
    fn new(servers: [Authority; 2], with_health_checks: bool) -> Self {
        let [first, second] = servers.each_ref().map(|server| server.address().port());
        let mut config = Config::from_file("envoy-configs/dns-failover.yaml").unwrap();
        // A worker has flows of its own.
        config = config.concurrency(1).port(port::RESOLVER, first).port(SECOND, second);
        config = config.replace("flow_lifetime: 10s", "flow_lifetime: 1s").unwrap();
        if !with_health_checks {
            config = config.replace("interval: 2s", "interval: 3600s").unwrap();
        }
        Self { envoy: config.start().unwrap(), servers }
    }

    /// Asks over UDP until the server has been asked that way.
    fn ask_until_asked(&self, server: &Authority) {
        let before = count(server, Transport::Udp);
        let client = client(&self.envoy);
        let asked = eventually("a server to be asked", || {
            // Many at once need more than one flow.
            let answers = client.ask_all(&queries(50)).unwrap();
            assert!(answers.iter().all(is_good));
            Ok((count(server, Transport::Udp) > before).then_some(()))
        });
        asked.unwrap();
    }

    fn stat(&self, name: &str) -> u64 {
        self.envoy.stat(&format!("cluster.resolver_udp.{name}")).unwrap()
    }

    fn wait_for(&self, name: &str, value: u64) {
        eventually(name, || Ok((self.stat(name) == value).then_some(()))).unwrap();
    }
}

fn servers() -> [Authority; 2] {
    [(); 2].map(|()| Authority::start(addresses).unwrap())
}

/// A client that has been answered: until a session's tunnel is there, only so many datagrams wait for it.
fn client(envoy: &Envoy) -> udp::Client {
    let client = udp::Client::connect(envoy.address(port::DNS).unwrap()).unwrap();
    assert!(is_good(&client.ask(&queries(1)[0]).unwrap()));
    client
}

fn queries(number: usize) -> Vec<Query> {
    (0..number).map(|n| Query::new(&format!("n{n}.example"), RecordType::A).unwrap()).collect()
}

fn is_good(answer: &Answer) -> bool {
    answer.rcode().unwrap() == Rcode::NOERROR
}

fn count(server: &Authority, transport: Transport) -> usize {
    server.asked().iter().filter(|asked| asked.transport == transport).count()
}

const EJECTED: &str = "outlier_detection.ejections_enforced_consecutive_local_origin_failure";

#[test]
fn a_server_that_does_not_answer_over_udp_is_left_out() {
    let silent = Authority::start(|_| Ok(Vec::new())).unwrap();
    let mut setup = Setup::new([Authority::start(addresses).unwrap(), silent], true);
    setup.ask_until_asked(&setup.servers[1]);
    let client = client(&setup.envoy);
    let ejected = eventually("the server to be left out", || {
        assert!(is_good(&client.ask(&queries(1)[0]).unwrap()));
        Ok((setup.stat(EJECTED) == 1).then_some(()))
    });
    ejected.unwrap();
    // A flow that it has already is tried by one query in 16 until it ends, and no other comes instead.
    eventually("nobody to ask it", || {
        let before = count(&setup.servers[1], Transport::Udp);
        assert!(client.ask_all(&queries(100)).unwrap().iter().all(is_good));
        let tried = count(&setup.servers[1], Transport::Udp) - before;
        assert!(tried <= 100 / 16 + 1, "{tried}");
        Ok((tried == 0).then_some(()))
    })
    .unwrap();
    expect_healthy(&mut setup.envoy).unwrap();
}

#[test]
fn servers_that_answer_are_never_left_out_for_it() {
    let config = Config::from_file("envoy-configs/dns-failover.yaml").unwrap();
    let servers = servers();
    let [first, second] = servers.each_ref().map(|server| server.address().port());
    let mut envoy = config
        .port(port::RESOLVER, first)
        .port(SECOND, second)
        .replace("flow_lifetime: 10s", "flow_lifetime: 0.1s")
        .unwrap()
        .start()
        .unwrap();
    let client = client(&envoy);
    for _ in 0..20 {
        assert!(client.ask_all(&queries(20)).unwrap().iter().all(is_good));
        // Longer than anything that could be taken for silence.
        std::thread::sleep(Duration::from_millis(120));
    }
    let sources: usize = servers.iter().map(|server| server.sources(Transport::Udp).len()).sum();
    assert!(sources >= 10, "{sources} flows");
    let ejected = envoy.stat(&format!("cluster.resolver_udp.{EJECTED}")).unwrap();
    assert_eq!(ejected, 0);
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn a_server_that_is_gone_is_left_out_until_it_is_back() {
    let mut setup = Setup::new(servers(), true);
    for server in &setup.servers {
        setup.ask_until_asked(server);
    }
    setup.servers[0].stop();
    setup.wait_for("membership_healthy", 1);
    let client = client(&setup.envoy);
    assert!(client.ask_all(&queries(100)).unwrap().iter().all(is_good));
    setup.servers[0].restart().unwrap();
    setup.wait_for("membership_healthy", 2);
    expect_healthy(&mut setup.envoy).unwrap();
}

#[test]
fn a_server_that_is_gone_costs_no_query_over_tcp() {
    let mut setup = Setup::new(servers(), false);
    setup.servers[0].stop();
    for _ in 0..20 {
        let mut client = tcp::Client::connect(setup.envoy.address(port::DNS).unwrap()).unwrap();
        assert!(client.ask_all(&queries(5)).unwrap().iter().all(is_good));
    }
    expect_healthy(&mut setup.envoy).unwrap();
}
