//! Every recipe of `envoy-configs/recipes` does what `docs/recipes.md` says of it, and refuses what it says it refuses.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use integration::client::Mosquitto;
use integration::envoy::Config;
use integration::ports::free_port;
use integration::setup::{Setup, port};
use integration::wire::{Client, Connect, Packet, VERSIONS, Version, ack, publish};
use integration::{eventually, root};
use services::Running;
use services::acl::Acl;
use services::authorizer::Authorizer;
use services::limiter::Limiter;
use services::recorder::{Recorded, Recorder};

/// The HTTP services' ports in the recipes.
const SERVICE: u16 = 28_080;
const SERVICE_2: u16 = 28_081;

/// "Not authorized", in all acknowledgements of 5.0.
const NOT_AUTHORIZED: u8 = 0x87;
/// "Quota exceeded", in PUBACK, PUBREC and SUBACK of 5.0.
const QUOTA_EXCEEDED: u8 = 0x97;

fn path(name: &str) -> String {
    format!("envoy-configs/recipes/{name}")
}

fn recipe(name: &str) -> Config {
    Config::from_file(&path(&format!("{name}.yaml"))).unwrap()
}

fn text(name: &str) -> String {
    std::fs::read_to_string(root().join(path(name))).unwrap()
}

/// A CONNECT is answered with this CONNACK code, by version, and the connection closed after it.
fn expect_refusal(address: SocketAddr, connect: &Connect, version: Version, v5: u8, v3: u8) {
    let (mut client, connack) = Client::connect(address, connect).unwrap();
    let code = if version == Version::V5 { v5 } else { v3 };
    assert_eq!(connack.connack_code().unwrap(), code, "{connect:?}: {connack:02x?}");
    assert_eq!(client.read_to_close(Duration::from_secs(5)).unwrap(), b"");
}

/// Publishes at QoS 1 or 2, through all acknowledgements; the reason code of the one that decides (0 in 3.1.1, which has
/// none).
fn publish_code(client: &mut Client, version: Version, topic: &str, qos: u8) -> u8 {
    client.send(&publish(version, topic, topic.as_bytes(), qos, 9)).unwrap();
    let decided = client.expect(if qos == 1 { 0x40 } else { 0x50 }).unwrap();
    assert_eq!(decided.id().unwrap(), 9);
    let code = decided.body.get(2).copied().unwrap_or(0);
    if version == Version::V3 {
        assert_eq!(decided.body.len(), 2, "{decided:02x?}");
    }
    if qos == 2 && code < 0x80 {
        client.send(&ack(0x62, 9)).unwrap();
        client.expect(0x70).unwrap();
    }
    code
}

/// Publishes what nobody can decide about: 0x83, "implementation specific error", in 5.0, and in 3.1.1 no acknowledgement.
/// The session goes on.
fn expect_failure(client: &mut Client, version: Version, topic: &str, qos: u8) {
    if version == Version::V5 {
        assert_eq!(publish_code(client, version, topic, qos), 0x83);
    } else {
        client.send(&publish(version, topic, b"x", qos, 10 + u16::from(qos))).unwrap();
        assert!(client.is_quiet_for(Duration::from_millis(500)).unwrap());
    }
    client.ping().unwrap();
}

/// What SUBACK says of each topic filter.
fn suback_codes(suback: &Packet, version: Version) -> Vec<u8> {
    let properties = if version == Version::V5 { 1 + usize::from(suback.body[2]) } else { 0 };
    suback.body[2 + properties..].to_vec()
}

/// The code that stands for a refusal with this reason in 5.0; in 3.1.1 a SUBACK says 0x80 …
fn suback_refusal(version: Version, v5: u8) -> u8 {
    if version == Version::V5 { v5 } else { 0x80 }
}

/// … and a PUBACK or PUBREC has no code.
fn puback_refusal(version: Version, v5: u8) -> u8 {
    if version == Version::V5 { v5 } else { 0 }
}

/// The topics of the messages that arrive until this one does, this one left out.
fn topics_until(client: &mut Client, last: &str) -> Vec<String> {
    let mut topics = Vec::new();
    loop {
        let (topic, _) = client.receive_publish().unwrap();
        if topic == last {
            return topics;
        }
        topics.push(topic);
    }
}

/// A client behind Envoy's back, which sees what really reached the broker.
fn witness(setup: &Setup, version: Version) -> Client {
    let connect = Connect::new(version, &format!("witness-{version:?}"));
    let mut witness = Client::session(setup.broker.address(), &connect).unwrap();
    witness.subscribe(&["#"], 0).unwrap();
    witness
}

/// Another one, which publishes at the broker what marks the end of what the witness has to see.
fn mark_end(setup: &Setup) {
    let connect = Connect::new(Version::V5, "marker");
    let mut marker = Client::session(setup.broker.address(), &connect).unwrap();
    marker.publish("end", b"", 1).unwrap();
}

// jwt.yaml

/// A token of the development issuer.
fn token(claims: &[&str]) -> String {
    let output = Command::new(root().join("scripts/dev-jwt")).args(claims).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn jwt_a_valid_token_gives_a_session_and_its_claims_reach_the_log() {
    let token = token(&["sub=sensor-1", "roles=reader,device", "tenant=blue"]);
    let mut setup = Setup::start(recipe("jwt")).unwrap();
    let port = setup.envoy.port(port::MQTT).unwrap();
    for version in VERSIONS {
        Mosquitto::publisher(port, version, "t")
            .args(&["-i", "sensor-1", "-u", "any", "-P", &token, "-q", "1", "-m", "x"])
            .run()
            .unwrap();
    }
    assert!(setup.broker.has_seen("sensor-1"));
    let entry = setup.envoy.access_log_entry(|entry| entry["client_id"] == "sensor-1").unwrap();
    assert_eq!(entry["code"], 200);
    assert_eq!(entry["subject"], "sensor-1");
    assert_eq!(entry["tenant"], "blue");
    assert_eq!(entry["roles"].to_string(), r#"["reader","device"]"#);
    setup.expect_healthy().unwrap();
}

#[test]
fn jwt_what_is_no_valid_token_is_a_bad_password() {
    let valid = token(&["sub=sensor-1", "roles=device"]);
    let (signed, signature) = valid.rsplit_once('.').unwrap();
    let other = token(&["sub=sensor-1", "roles=device", "tenant=red"]);
    let (_, other_signature) = other.rsplit_once('.').unwrap();
    assert_ne!(signature, other_signature);
    let (_, claims) = signed.split_once('.').unwrap();
    let mut setup = Setup::start(recipe("jwt")).unwrap();
    let address = setup.mqtt().unwrap();
    for (case, password) in [
        ("expired", token(&["sub=sensor-1", "roles=device", "exp=-60"])),
        ("no end", token(&["sub=sensor-1", "roles=device", "exp="])),
        ("other issuer", token(&["sub=sensor-1", "roles=device", "iss=https://evil.example"])),
        ("another token's signature", format!("{signed}.{other_signature}")),
        // {"alg":"none"}
        ("no signature", format!("eyJhbGciOiJub25lIn0.{claims}.")),
        ("no token", "hunter2".to_owned()),
        ("not even text for a header", "two words".to_owned()),
    ] {
        for version in VERSIONS {
            let connect = Connect::new(version, "sensor-1").user(case).password(&password);
            expect_refusal(address, &connect, version, 0x86, 0x04);
        }
    }
    for version in VERSIONS {
        let nothing = Connect::new(version, "sensor-1");
        expect_refusal(address, &nothing, version, 0x86, 0x04);
        let said = Mosquitto::publisher(address.port(), version, "t")
            .args(&["-i", "sensor-1", "-u", "any", "-P", "hunter2", "-m", "x"])
            .run_refused()
            .unwrap();
        assert!(said.to_lowercase().contains("bad user name or password"), "{said}");
    }
    assert!(!setup.broker.has_seen("sensor-1"));
    setup
        .envoy
        .access_log_entry(|entry| {
            entry["details"].as_str().is_some_and(|text| text.contains("Jwt_is_expired"))
        })
        .unwrap();
    setup.expect_healthy().unwrap();
}

#[test]
fn jwt_a_valid_token_without_the_right_claims_is_not_authorized() {
    let mut setup = Setup::start(recipe("jwt")).unwrap();
    let address = setup.mqtt().unwrap();
    let device = token(&["sub=sensor-1", "roles=device"]);
    let nobody = token(&["roles=device"]);
    for (client_id, token) in [
        ("sensor-1", token(&["sub=sensor-1", "roles=device", "aud=other"])),
        ("sensor-1", token(&["sub=sensor-1", "roles=admin"])),
        ("sensor-1", token(&["sub=sensor-1"])),
        ("sensor-2", device.clone()),
        ("", device),
        ("sensor-1", nobody.clone()),
        ("", nobody),
    ] {
        for version in VERSIONS {
            let connect = Connect::new(version, client_id).user("any").password(&token);
            expect_refusal(address, &connect, version, 0x87, 0x05);
        }
    }
    assert!(!setup.broker.has_seen("sensor-1") && !setup.broker.has_seen("sensor-2"));
    setup.expect_healthy().unwrap();
}

#[test]
fn jwt_what_a_client_may_do_ends_with_its_token() {
    let mut setup = Setup::start(recipe("jwt")).unwrap();
    let address = setup.mqtt().unwrap();
    let mut witness = witness(&setup, Version::V5);
    // Expired, but for ten seconds not so to somebody whose clock may be wrong.
    let token = token(&["sub=sensor-1", "roles=device", "exp=-5"]);
    for version in VERSIONS {
        let connect = Connect::new(version, "sensor-1").user("any").password(&token);
        let mut client = Client::session(address, &connect).unwrap();
        assert_eq!(publish_code(&mut client, version, "valid", 1), 0);
    }
    let connect = Connect::new(Version::V5, "sensor-1").user("any").password(&token);
    let mut client = Client::session(address, &connect).unwrap();
    assert_eq!(publish_code(&mut client, Version::V5, "before", 1), 0);
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(publish_code(&mut client, Version::V5, "after", 1), NOT_AUTHORIZED);
    let suback = client.subscribe(&["after"], 1).unwrap();
    assert_eq!(suback_codes(&suback, Version::V5), [NOT_AUTHORIZED]);
    // The answer of before holds for a minute.
    assert_eq!(publish_code(&mut client, Version::V5, "before", 1), 0);
    client.ping().unwrap();
    for version in VERSIONS {
        let connect = Connect::new(version, "sensor-1").user("any").password(&token);
        expect_refusal(address, &connect, version, 0x86, 0x04);
    }
    mark_end(&setup);
    assert_eq!(topics_until(&mut witness, "end"), ["valid", "valid", "before", "before"]);
    setup.expect_healthy().unwrap();
}

// basic-auth.yaml

#[test]
fn basic_auth_takes_the_listed_passwords_and_no_others() {
    let mut setup = Setup::start(recipe("basic-auth")).unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        for (user, password) in [("sensor-1", "correct-horse"), ("sensor-2", "battery-staple")] {
            let connect = Connect::new(version, "right").user(user).password(password);
            Client::session(address, &connect).unwrap().ping().unwrap();
        }
        for (user, password) in [
            ("sensor-1", "guess"),
            ("sensor-1", "battery-staple"),
            ("sensor-1", ""),
            ("sensor-3", "correct-horse"),
            // Not sensor-1 with the password "x:correct-horse".
            ("sensor-1:x", "correct-horse"),
            ("", "correct-horse"),
        ] {
            let connect = Connect::new(version, "wrong").user(user).password(password);
            expect_refusal(address, &connect, version, 0x86, 0x04);
        }
        expect_refusal(address, &Connect::new(version, "wrong"), version, 0x86, 0x04);
        expect_refusal(
            address,
            &Connect::new(version, "wrong").user("sensor-1"),
            version,
            0x86,
            0x04,
        );
        let client = Mosquitto::publisher(address.port(), version, "t").args(&["-m", "x"]);
        client.clone().args(&["-u", "sensor-1", "-P", "correct-horse"]).run().unwrap();
        let said = client.args(&["-u", "sensor-1", "-P", "guess"]).run_refused().unwrap();
        assert!(said.to_lowercase().contains("bad user name or password"), "{said}");
    }
    assert!(setup.broker.has_seen("right") && !setup.broker.has_seen("wrong"));
    setup.expect_healthy().unwrap();
}

// ext-authz.yaml

fn start_with_authorizer() -> (Setup, Running) {
    let port = free_port().unwrap();
    let acl = Acl::read(&text("ext-authz.acl")).unwrap();
    let authorizer = services::start(Authorizer(acl), port).unwrap();
    (Setup::start(recipe("ext-authz").port(SERVICE, port)).unwrap(), authorizer)
}

fn sensor(version: Version) -> Connect {
    Connect::new(version, &format!("sensor-{version:?}")).user("sensor-1").password("correct-horse")
}

#[test]
fn ext_authz_the_service_decides_about_sessions() {
    let (mut setup, _authorizer) = start_with_authorizer();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        Client::session(address, &sensor(version)).unwrap().ping().unwrap();
        for (user, password) in
            [("sensor-1", "guess"), ("sensor-9", "correct-horse"), ("sensor-1:", "correct-horse")]
        {
            let connect = Connect::new(version, "wrong").user(user).password(password);
            expect_refusal(address, &connect, version, 0x86, 0x04);
        }
        expect_refusal(address, &Connect::new(version, "wrong"), version, 0x86, 0x04);
        let retired = Connect::new(version, "wrong").user("retired-7").password("old-password");
        expect_refusal(address, &retired, version, 0x87, 0x05);
    }
    assert!(setup.broker.has_seen("sensor-V5") && !setup.broker.has_seen("wrong"));
    // In words, too, where the version has a place for them.
    let retired = Connect::new(Version::V5, "wrong").user("retired-7").password("old-password");
    let (_, connack) = Client::connect(address, &retired).unwrap();
    let reason = String::from_utf8_lossy(&connack.body);
    assert!(reason.contains("403 Forbidden: not in the list"), "{reason}");
    setup.expect_healthy().unwrap();
}

#[test]
fn ext_authz_without_the_service_clients_are_told_to_try_again() {
    let (mut setup, authorizer) = start_with_authorizer();
    let address = setup.mqtt().unwrap();
    let mut clients = VERSIONS.map(|version| Client::session(address, &sensor(version)).unwrap());
    drop(authorizer);
    for (client, version) in clients.iter_mut().zip(VERSIONS) {
        let late = Connect::new(version, "late").user("sensor-1").password("correct-horse");
        expect_refusal(address, &late, version, 0x88, 0x03);
        for qos in 1..3 {
            expect_failure(client, version, "telemetry/sensor-1/t", qos);
        }
        let suback = client.subscribe(&["commands/sensor-1/#"], 1).unwrap();
        assert_eq!(suback_codes(&suback, version), [suback_refusal(version, 0x83)]);
    }
    assert!(!setup.broker.has_seen("late"));
    setup.expect_healthy().unwrap();
}

#[test]
fn ext_authz_the_service_decides_about_each_publish() {
    let (mut setup, _authorizer) = start_with_authorizer();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut witness = witness(&setup, version);
        let mut client = Client::session(address, &sensor(version)).unwrap();
        let allowed = "telemetry/sensor-1/temperature";
        for (topic, refusal) in [
            (allowed, 0),
            ("telemetry/sensor-2/temperature", puback_refusal(version, NOT_AUTHORIZED)),
            ("telemetry/sensor-10", puback_refusal(version, NOT_AUTHORIZED)),
            ("alerts/fire", puback_refusal(version, NOT_AUTHORIZED)),
        ] {
            client.publish(topic, topic.as_bytes(), 0).unwrap();
            for qos in 1..3 {
                let code = publish_code(&mut client, version, topic, qos);
                assert_eq!(code, refusal, "{version:?} {topic} QoS {qos}");
            }
        }
        client.ping().unwrap();
        mark_end(&setup);
        assert_eq!(topics_until(&mut witness, "end"), [allowed; 3]);

        let port = address.port();
        let publisher = Mosquitto::publisher(port, version, "alerts/fire");
        let said = publisher
            .args(&["-u", "sensor-1", "-P", "correct-horse", "-q", "1", "-m", "x"])
            .run()
            .unwrap();
        if version == Version::V5 {
            assert!(said.contains("RC:135"), "{said}");
        }
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn ext_authz_the_service_decides_about_each_topic_filter() {
    let (mut setup, _authorizer) = start_with_authorizer();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut client = Client::session(address, &sensor(version)).unwrap();
        let suback = client
            .subscribe(&["commands/sensor-1/#", "#", "commands/+/reboot", "commands/sensor-1/+"], 1)
            .unwrap();
        let refused = suback_refusal(version, NOT_AUTHORIZED);
        assert_eq!(suback_codes(&suback, version), [1, refused, refused, 1]);
        // What was refused is not subscribed to; what was granted is.
        mark_end(&setup);
        let operator = Connect::new(version, "o").user("operator-anna").password("battery-staple");
        let mut operator = Client::session(address, &operator).unwrap();
        operator.publish("commands/sensor-2/reboot", b"", 1).unwrap();
        operator.publish("commands/sensor-1/stop", b"", 1).unwrap();
        let (topic, _) = client.receive_publish().unwrap();
        assert_eq!(topic, "commands/sensor-1/stop");
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn ext_authz_the_same_question_is_not_asked_again_at_once() {
    let (mut setup, _authorizer) = start_with_authorizer();
    let address = setup.mqtt().unwrap();
    let mut client = Client::session(address, &sensor(Version::V5)).unwrap();
    for _ in 0..20 {
        // 0x10: no matching subscribers, says the broker.
        let code = publish_code(&mut client, Version::V5, "telemetry/sensor-1/t", 1);
        assert_eq!(code, 0x10);
    }
    // The session, and the topic: once more if the ten seconds of a verdict happened to end in between.
    let asked = setup.envoy.stat("http.mqtt.ext_authz.ok").unwrap();
    assert!((2..=3).contains(&asked), "asked {asked} times");
    setup.expect_healthy().unwrap();
}

// rbac-topics.yaml

#[test]
fn rbac_who_may_publish_where() {
    let mut setup = Setup::start(recipe("rbac-topics")).unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut witness = witness(&setup, version);
        let denied = puback_refusal(version, NOT_AUTHORIZED);
        for (user, topic, expected) in [
            ("sensor-1", "telemetry/1/temperature", 0),
            ("sensor-1", "telemetry/", 0),
            ("sensor-1", "telemetry", denied),
            ("sensor-1", "telemetry-internal/1", denied),
            ("sensor-1", "/telemetry/1", denied),
            ("sensor-1", "alerts/fire", denied),
            // Not a path that everybody reads alike: "topic name invalid".
            ("sensor-1", "telemetry/../alerts/fire", puback_refusal(version, 0x90)),
            ("operator-anna", "telemetry/1/temperature", denied),
            ("operator-anna", "alerts/fire", denied),
        ] {
            let connect = Connect::new(version, "publisher").user(user).password("x");
            let mut client = Client::session(address, &connect).unwrap();
            for qos in 1..3 {
                let code = publish_code(&mut client, version, topic, qos);
                assert_eq!(code, expected, "{version:?} {user} {topic} QoS {qos}");
            }
            client.publish(topic, b"", 0).unwrap();
            client.ping().unwrap();
        }
        mark_end(&setup);
        let arrived = topics_until(&mut witness, "end");
        let expected = [["telemetry/1/temperature"; 3], ["telemetry/"; 3]].concat();
        assert_eq!(arrived, expected);
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn rbac_a_will_is_no_way_around() {
    let mut setup = Setup::start(recipe("rbac-topics")).unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let connect = Connect::new(version, "heir").user("sensor-1").password("x");
        let allowed = connect.clone().will("telemetry/1/status", b"gone", 1);
        Client::session(address, &allowed).unwrap().disconnect().unwrap();
        let denied = connect.will("alerts/fire", b"gone", 1);
        expect_refusal(address, &denied, version, 0x87, 0x05);
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn rbac_who_may_subscribe_where() {
    let mut setup = Setup::start(recipe("rbac-topics")).unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let refused = suback_refusal(version, NOT_AUTHORIZED);
        // A shared subscription is its topic filter; brokers grant them to 3.1.1 clients as well.
        let (share, other_share) = ("$share/g/alerts/#", "$share/alerts/#");
        let filters = ["alerts/#", "alerts/+", share, "alerts", "#", "+/fire", other_share];
        let mut operator = Connect::new(version, "operator").user("operator-anna").password("x");
        for (user, granted) in [("operator-anna", 1), ("sensor-1", refused)] {
            operator = operator.user(user);
            let mut client = Client::session(address, &operator).unwrap();
            let suback = client.subscribe(&filters, 1).unwrap();
            let mut expected = [refused; 7];
            expected[..3].fill(granted);
            assert_eq!(suback_codes(&suback, version), expected, "{version:?} {user}");
        }
        let said = Mosquitto::subscriber(address.port(), version, "#")
            .args(&["-u", "operator-anna", "-P", "x", "-E"])
            .start()
            .and_then(|running| {
                eventually("a SUBACK", || {
                    let said = format!("{}{}", running.process.stdout(), running.process.stderr());
                    Ok(said.contains("Subscribed (mid:").then_some(said))
                })
            })
            .unwrap();
        let code = format!("Subscribed (mid: 1): {refused}");
        assert!(said.contains(&code), "{said}");
    }
    setup.expect_healthy().unwrap();
}

// rate-limits.yaml

/// The limits of the file, but nothing is filled up while a test runs.
fn rate_limits_without_refill() -> Config {
    recipe("rate-limits")
        .replace(
            "{max_tokens: 20, tokens_per_fill: 10, fill_interval: 1s}",
            "{max_tokens: 20, tokens_per_fill: 1, fill_interval: 3600s}",
        )
        .unwrap()
        .replace(
            "{max_tokens: 5, tokens_per_fill: 1, fill_interval: 1s}",
            "{max_tokens: 5, tokens_per_fill: 1, fill_interval: 3600s}",
        )
        .unwrap()
}

#[test]
fn rate_limits_each_client_has_its_own() {
    let mut setup = Setup::start(rate_limits_without_refill()).unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut witness = witness(&setup, version);
        let [mut busy, mut other] = ["busy", "other"].map(|name| {
            let connect = Connect::new(version, &format!("{name}-{version:?}"));
            Client::session(address, &connect).unwrap()
        });
        let refused = puback_refusal(version, QUOTA_EXCEEDED);
        for n in 0..24 {
            let code = publish_code(&mut busy, version, "busy", 1 + n % 2);
            assert_eq!(code, if n < 20 { 0 } else { refused }, "message {n} in {version:?}");
        }
        busy.publish("busy", b"", 0).unwrap();
        // The session goes on, and others are not concerned.
        busy.ping().unwrap();
        assert_eq!(publish_code(&mut other, version, "other", 1), 0);
        mark_end(&setup);
        let arrived = topics_until(&mut witness, "end");
        assert_eq!(arrived.iter().filter(|topic| *topic == "busy").count(), 20);
        assert_eq!(arrived.iter().filter(|topic| *topic == "other").count(), 1);
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn rate_limits_a_topic_has_one_for_all_clients() {
    let mut setup = Setup::start(rate_limits_without_refill()).unwrap();
    let address = setup.mqtt().unwrap();
    let mut witness = witness(&setup, Version::V5);
    let mut codes = Vec::new();
    for n in 0..8 {
        let connect = Connect::new(Version::V5, &format!("client-{n}"));
        let mut client = Client::session(address, &connect).unwrap();
        codes.push(publish_code(&mut client, Version::V5, "alarms/fire", 1));
        assert_eq!(publish_code(&mut client, Version::V5, "alarms-other", 1), 0);
    }
    let (passed, refused) = (0, QUOTA_EXCEEDED);
    assert_eq!(codes, [passed, passed, passed, passed, passed, refused, refused, refused]);
    mark_end(&setup);
    let arrived = topics_until(&mut witness, "end");
    assert_eq!(arrived.iter().filter(|topic| *topic == "alarms/fire").count(), 5);
    setup.expect_healthy().unwrap();
}

// global-rate-limit.yaml

/// The recipe, patient: a busy machine must not make a limit pass.
fn global_rate_limit(limiter: u16) -> Config {
    recipe("global-rate-limit")
        .replace("timeout: 0.2s", "timeout: 20s")
        .unwrap()
        .port(SERVICE_2, limiter)
}

fn start_limiter() -> (u16, Running) {
    let port = free_port().unwrap();
    let limiter = Limiter::read(&text("global-rate-limit.json")).unwrap();
    (port, services::start(limiter, port).unwrap())
}

#[test]
fn global_rate_limit_sessions_are_counted_over_several_envoys() {
    let (limiter, _running) = start_limiter();
    let mut setups = [(); 2].map(|()| Setup::start(global_rate_limit(limiter)).unwrap());
    let addresses = setups.each_ref().map(|setup| setup.mqtt().unwrap());
    let anna = |version| Connect::new(version, "").user("anna").password("x");
    let mut accepted = Vec::new();
    for n in 0..5 {
        let connect = anna(VERSIONS[n % 2]);
        accepted.push(Client::session(addresses[n % 2], &connect).unwrap());
    }
    for address in addresses {
        for version in VERSIONS {
            expect_refusal(address, &anna(version), version, 0x9F, 0x03);
            let bob = Connect::new(version, "").user("bob").password("x");
            Client::session(address, &bob).unwrap();
            // Without a user name there is nothing to count by.
            Client::session(address, &Connect::new(version, "")).unwrap();
        }
    }
    let said = Mosquitto::publisher(addresses[0].port(), Version::V5, "t")
        .args(&["-u", "anna", "-P", "x", "-m", "x"])
        .run_refused()
        .unwrap();
    assert!(said.contains("Connection rate exceeded"), "{said}");
    for client in &mut accepted {
        client.ping().unwrap();
    }
    for setup in &mut setups {
        setup.expect_healthy().unwrap();
    }
}

#[test]
fn global_rate_limit_without_the_service_nothing_is_limited() {
    let mut setup = Setup::start(global_rate_limit(free_port().unwrap())).unwrap();
    let address = setup.mqtt().unwrap();
    for n in 0..8 {
        let connect = Connect::new(VERSIONS[n % 2], "").user("anna").password("x");
        Client::session(address, &connect).unwrap();
    }
    assert_eq!(setup.envoy.stat("cluster.broker.ratelimit.error").unwrap(), 8);
    setup.expect_healthy().unwrap();
}

#[test]
fn global_rate_limit_each_publish_counts() {
    let (limiter, _running) = start_limiter();
    let mut setup = Setup::start(global_rate_limit(limiter)).unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut witness = witness(&setup, version);
        let connect = Connect::new(version, &format!("busy-{version:?}"));
        let mut client = Client::session(address, &connect).unwrap();
        let started = Instant::now();
        let refused = puback_refusal(version, QUOTA_EXCEEDED);
        for n in 0..14 {
            let code = publish_code(&mut client, version, "t", 1 + n % 2);
            assert_eq!(code, if n < 10 { 0 } else { refused }, "message {n} in {version:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(10), "the window ended meanwhile");
        mark_end(&setup);
        assert_eq!(topics_until(&mut witness, "end").len(), 10);
    }
    setup.expect_healthy().unwrap();
}

// fault.yaml

/// The recipe's delay, but for what Envoy's timers have of tolerance.
const LATE: Duration = Duration::from_millis(490);

fn expect_late(started: Instant) {
    let time = started.elapsed();
    assert!(time >= LATE, "{time:?}");
}

#[test]
fn fault_some_sessions_fail_and_some_are_slow() {
    let mut setup = Setup::start(recipe("fault")).unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        expect_refusal(address, &Connect::new(version, "chaos-1"), version, 0x88, 0x03);
        let started = Instant::now();
        Client::session(address, &Connect::new(version, "slow-1")).unwrap().ping().unwrap();
        expect_late(started);
        Client::session(address, &Connect::new(version, "fine-1")).unwrap().ping().unwrap();
    }
    let said = Mosquitto::publisher(address.port(), Version::V5, "t")
        .args(&["-i", "chaos-2", "-m", "x"])
        .run_refused()
        .unwrap();
    assert!(said.contains("Server unavailable"), "{said}");
    let seen = ["chaos-1", "slow-1", "fine-1"].map(|name| setup.broker.has_seen(name));
    assert_eq!(seen, [false, true, true]);
    // Two were disturbed in each version, and one more.
    assert_eq!(setup.envoy.stat("http.mqtt.fault.aborts_injected").unwrap(), 3);
    assert_eq!(setup.envoy.stat("http.mqtt.fault.delays_injected").unwrap(), 2);
    setup.expect_healthy().unwrap();
}

#[test]
fn fault_some_messages_are_refused_and_some_fail() {
    let mut setup = Setup::start(recipe("fault")).unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut witness = witness(&setup, version);
        let mut client = Client::session(address, &Connect::new(version, "client")).unwrap();
        let refused = puback_refusal(version, QUOTA_EXCEEDED);
        for qos in 1..3 {
            assert_eq!(publish_code(&mut client, version, "chaos/busy/1", qos), refused);
            assert_eq!(publish_code(&mut client, version, "chaos/none", qos), 0);
            assert_eq!(publish_code(&mut client, version, "fine", qos), 0);
        }
        for qos in 1..3 {
            expect_failure(&mut client, version, "chaos/down/1", qos);
        }
        mark_end(&setup);
        let arrived = topics_until(&mut witness, "end");
        assert_eq!(arrived, ["chaos/none", "fine", "chaos/none", "fine"]);
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn fault_some_messages_come_late_but_in_order() {
    let mut setup = Setup::start(recipe("fault")).unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut witness = witness(&setup, version);
        let mut client = Client::session(address, &Connect::new(version, "client")).unwrap();
        let started = Instant::now();
        client.publish("chaos/slow/1", b"", 0).unwrap();
        client.publish("fine", b"", 0).unwrap();
        mark_end(&setup);
        client.publish("end-of-client", b"", 1).unwrap();
        expect_late(started);
        let arrived = topics_until(&mut witness, "end-of-client");
        assert_eq!(arrived, ["end", "chaos/slow/1", "fine"]);
        // On a busy machine one may be late for another reason.
        let is_urgent = (0..3).any(|_| {
            let started = Instant::now();
            client.publish("chaos/slow/1", b"", 2).unwrap();
            started.elapsed() < LATE
        });
        assert!(is_urgent, "QoS 2 is urgent here");
    }
    setup.expect_healthy().unwrap();
}

// mirror.yaml

#[test]
fn mirror_each_message_goes_to_the_service_and_a_copy_to_the_next_one() {
    let (service, next) = (Recorder::default(), Recorder::default());
    let (port, next_port) = (free_port().unwrap(), free_port().unwrap());
    let _service = services::start(service.clone(), port).unwrap();
    let _next = services::start(next.clone(), next_port).unwrap();
    let config = recipe("mirror").port(SERVICE, port).port(SERVICE_2, next_port);
    let mut setup = Setup::start(config).unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut witness = witness(&setup, version);
        let connect = Connect::new(version, "client").user("anna").password("secret");
        let mut client = Client::session(address, &connect).unwrap();
        let before = service.requests().len();
        for qos in 0..3 {
            client.publish("telemetry/1/a b", b"21 degrees", qos).unwrap();
        }
        client.publish("other", b"", 1).unwrap();
        mark_end(&setup);
        assert_eq!(topics_until(&mut witness, "end"), ["other"]);
        for (recorder, authority) in [(&service, "mqtt"), (&next, "mqtt-shadow")] {
            let requests = eventually("three requests", || {
                let requests = recorder.requests().split_off(before);
                Ok((requests.len() == 3).then_some(requests))
            });
            for (request, qos) in requests.unwrap().iter().zip(["0", "1", "2"]) {
                expect_telemetry(request, authority, qos);
            }
        }
    }
    setup.expect_healthy().unwrap();
}

fn expect_telemetry(request: &Recorded, authority: &str, qos: &str) {
    assert_eq!(request.method, "POST");
    assert_eq!(request.path, "/telemetry/1/a%20b");
    assert_eq!(request.content, b"21 degrees");
    for (name, value) in [
        ("host", authority),
        ("content-type", "application/octet-stream"),
        ("x-protocol", "mqtt"),
        ("x-carry", "request"),
        ("x-mqtt-client-id", "client"),
        ("x-mqtt-username", "anna"),
        ("x-mqtt-qos", qos),
        // Nobody there needs the password.
        ("authorization", ""),
    ] {
        assert_eq!(request.header(name), value, "{name} of {request:?}");
    }
}

#[test]
fn mirror_without_the_service_a_message_is_not_acknowledged_and_without_the_next_one_it_is() {
    let service = Recorder::default();
    let port = free_port().unwrap();
    let _service = services::start(service.clone(), port).unwrap();
    let mut setup = Setup::start(recipe("mirror").port(SERVICE, port)).unwrap();
    let address = setup.mqtt().unwrap();
    for (n, version) in VERSIONS.into_iter().enumerate() {
        let mut client = Client::session(address, &Connect::new(version, "client")).unwrap();
        assert_eq!(publish_code(&mut client, version, "telemetry/1", 1), 0);
        assert_eq!(service.requests().len(), n + 1);
    }
    setup.expect_healthy().unwrap();

    let mut setup = Setup::start(recipe("mirror")).unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut client = Client::session(address, &Connect::new(version, "client")).unwrap();
        for qos in 1..3 {
            expect_failure(&mut client, version, "telemetry/1", qos);
        }
    }
    setup.expect_healthy().unwrap();
}

// split.yaml

/// Which of these clients are at the second broker, after each has connected twice.
fn at_second_broker(setup: &Setup, clients: &[String]) -> Vec<bool> {
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        for client in clients {
            let connect = Connect::new(version, client);
            Client::session(address, &connect).unwrap().disconnect().unwrap();
        }
    }
    let at = |client: &String| {
        let seen = [setup.broker.has_seen(client), setup.eu.has_seen(client)];
        assert!(seen[0] != seen[1], "{client} was seen by {seen:?}");
        seen[1]
    };
    clients.iter().map(at).collect()
}

#[test]
fn split_a_share_of_the_clients_is_at_the_second_broker_and_stays_there() {
    let clients: Vec<String> = (0..60).map(|n| format!("client-{n}")).collect();
    let mut setup = Setup::start(recipe("split")).unwrap();
    let fifth = at_second_broker(&setup, &clients);
    let count = fifth.iter().filter(|at| **at).count();
    assert!((4..=22).contains(&count), "{count} of 60 clients");
    // By hash, not by Envoy: another one decides the same.
    let mut again = Setup::start(recipe("split")).unwrap();
    assert_eq!(at_second_broker(&again, &clients), fifth);

    // Without an identifier: at random.
    let before = setup.envoy.stat("cluster.broker_next.upstream_rq_total").unwrap();
    let address = setup.mqtt().unwrap();
    for n in 0..60 {
        let connect = Connect::new(VERSIONS[n % 2], "");
        Client::session(address, &connect).unwrap().disconnect().unwrap();
    }
    let after = setup.envoy.stat("cluster.broker_next.upstream_rq_total").unwrap();
    assert!((1..=30).contains(&(after - before)), "{} of 60", after - before);
    setup.expect_healthy().unwrap();
    again.expect_healthy().unwrap();
}

#[test]
fn split_a_larger_share_moves_clients_in_one_direction_only() {
    let clients: Vec<String> = (0..60).map(|n| format!("client-{n}")).collect();
    let setup = Setup::start(recipe("split")).unwrap();
    let fifth = at_second_broker(&setup, &clients);
    let config = recipe("split")
        .replace("{name: broker, weight: 80}", "{name: broker, weight: 50}")
        .unwrap()
        .replace("{name: broker_next, weight: 20}", "{name: broker_next, weight: 50}")
        .unwrap();
    let half = at_second_broker(&Setup::start(config).unwrap(), &clients);
    assert!(fifth.iter().zip(&half).all(|(before, after)| after >= before));
    assert!(half.iter().filter(|at| **at).count() > fifth.iter().filter(|at| **at).count());
}

#[test]
fn split_a_session_that_finds_its_broker_dead_is_told_unavailable() {
    let mut setup = Setup::start(recipe("split")).unwrap();
    let clients: Vec<String> = (0..20).map(|n| format!("client-{n}")).collect();
    let second = at_second_broker(&setup, &clients);
    setup.eu.process.kill().unwrap();
    let address = setup.mqtt().unwrap();
    for (client, second) in clients.iter().zip(second) {
        for version in VERSIONS {
            let connect = Connect::new(version, client);
            if second {
                expect_refusal(address, &connect, version, 0x88, 0x03);
            } else {
                Client::session(address, &connect).unwrap().disconnect().unwrap();
            }
        }
    }
    setup.expect_healthy().unwrap();
}
