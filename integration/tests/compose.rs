//! `compose.yaml` and the images: everything that `docs/compose.md` shows, from outside the containers, and what clients see
//! of a broker, a DNS server and an Envoy that go away and come back.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration::client::Mosquitto;
use integration::coap::libcoap::{self, Tls};
use integration::compose::{PATIENCE, Project, dashboard_titles, docker, no_engine, port};
use integration::dns::clients::{Dig, Kdig, Output};
use integration::wire::{Client, Connect, VERSIONS, Version, publish_retained};
use integration::{eventually_within, root};
use serde_json::Value;

/// "Server unavailable" in CONNACK, 5.0 and 3.1.1.
const UNAVAILABLE: [u8; 2] = [0x88, 0x03];

fn skipped(test: &str) -> bool {
    let Some(reason) = no_engine() else { return false };
    // Not captured as the output of a test that passes is: it did not run.
    let note = format!("{test} is SKIPPED, there is no Docker engine: {reason}\n");
    std::io::Write::write_all(&mut std::io::stderr(), note.as_bytes()).unwrap();
    true
}

fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, || Ok(probe())).unwrap()
}

#[test]
fn compose_brings_everything_up_and_it_survives_what_goes_away() {
    if skipped("compose") {
        return;
    }
    let project = Project::up().unwrap();
    containers_are_confined(&project);

    mqtt_goes_to_the_broker_and_telemetry_becomes_events(&project);
    coap_is_served_over_udp_tcp_and_http(&project);
    dns_is_served_over_udp_tcp_tls_and_https(&project);
    prometheus_and_grafana_see_it(&project);

    a_stopped_broker_is_unavailable_and_comes_back(&project);
    a_stopped_dns_server_leaves_stale_answers_and_comes_back(&project);
    a_crashed_envoy_is_started_again(&project);
}

fn containers_are_confined(project: &Project) {
    let containers = project.containers().unwrap();
    let services: Vec<&str> = containers.keys().map(String::as_str).collect();
    let all =
        ["coap-server", "dns-server", "envoy", "events", "grafana", "mosquitto", "prometheus"];
    assert_eq!(services, all);
    for (service, container) in &containers {
        let at = |path: &str| container.pointer(path).unwrap_or(&Value::Null);
        assert_eq!(at("/HostConfig/ReadonlyRootfs"), true, "{service}");
        assert_eq!(at("/HostConfig/RestartPolicy/Name"), "unless-stopped", "{service}");
        assert_eq!(at("/HostConfig/CapDrop/0"), "ALL", "{service}");
        assert_eq!(at("/HostConfig/SecurityOpt/0"), "no-new-privileges:true", "{service}");
        assert_eq!(at("/State/Health/Status"), "healthy", "{service}");
        // Not what was asked for: the users of the processes that run.
        let processes = docker(&["top", at("/Id").as_str().unwrap(), "-eo", "uid,pid"]).unwrap();
        let users: Vec<&str> =
            processes.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert!(!users.is_empty() && !users.contains(&"0"), "{service}: {processes}");
        // Nothing is open to the network unless LISTEN says so.
        let ports = at("/HostConfig/PortBindings").as_object().cloned().unwrap_or_default();
        for binding in ports.values().filter_map(Value::as_array).flatten() {
            assert_eq!(binding["HostIp"], "127.0.0.1", "{service}: {binding}");
        }
    }
}

fn session(project: &Project, version: Version, name: &str) -> Option<Client> {
    let address = project.address(port::MQTT).unwrap();
    Client::session(address, &Connect::new(version, name)).ok()
}

/// A message goes from one client to another, through Envoy and the broker.
fn exchange(project: &Project, version: Version, topic: &str) -> Option<()> {
    let mut subscriber = session(project, version, "subscriber")?;
    subscriber.subscribe(&[topic], 1).ok()?;
    let mut publisher = session(project, version, "publisher")?;
    publisher.publish(topic, b"hello", 1).ok()?;
    let (got, payload) = subscriber.receive_publish().ok()?;
    assert_eq!((got.as_str(), payload.as_slice()), (topic, &b"hello"[..]));
    Some(())
}

fn mqtt_goes_to_the_broker_and_telemetry_becomes_events(project: &Project) {
    for version in VERSIONS {
        eventually("a message", || exchange(project, version, "greetings"));
    }
    let tls = project.port(port::MQTT_TLS).unwrap();
    let message = ["-m", "21.5", "-q", "1"];
    Mosquitto::publisher(tls, Version::V5, "telemetry/room 1")
        .tls(None)
        .args(&message)
        .run()
        .unwrap();
    let event = find_event(project, |event| event["path"] == "/telemetry/room%201");
    let attributes = &event["cloudevent"];
    // A header's value is percent-encoded (CloudEvents HTTP binding §3.1.3.2).
    assert_eq!(attributes["subject"], "telemetry/room%201");
    assert_eq!(attributes["specversion"], "1.0");
    assert_eq!(event["data"], "21.5");

    let refused = Connect::new(Version::V5, "refused").user("blocked");
    let (_, connack) = Client::connect(project.address(port::MQTT).unwrap(), &refused).unwrap();
    assert_eq!(connack.connack_code().unwrap(), 0x87, "not authorized");
}

fn find_event(project: &Project, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually("an event", || {
        let shown = project.get_json(port::EVENTS, "/events").unwrap();
        shown["events"].as_array().unwrap().iter().find(|event| wanted(event)).cloned()
    })
}

fn coap(project: &Project, scheme: &str, path: &str) -> libcoap::Client {
    let address = project.address(port::COAP).unwrap();
    libcoap::Client::new(Tls::None, &format!("{scheme}://{address}{path}")).args(&["-B", "15"])
}

fn coap_is_served_over_udp_tcp_and_http(project: &Project) {
    for scheme in ["coap", "coap+tcp"] {
        eventually("the time over CoAP", || {
            let output = coap(project, scheme, "/time").run().ok()?;
            output.text().is_ok_and(|time| time.contains(':')).then_some(())
        });
    }
    assert!(project.get(port::HTTP, "/time").unwrap().contains(':'));

    let told = coap(project, "coap", "/telemetry/device-1").method("post");
    told.args(&["-e", "17", "-t", "0"]).run().unwrap();
    let event = find_event(project, |event| event["path"] == "/telemetry/device-1");
    assert_eq!((&event["method"], &event["data"]), (&"POST".into(), &"17".into()));

    let refused = coap(project, "coap", "/config/name").method("put").args(&["-e", "x"]);
    assert!(refused.run().unwrap().complaint.contains("4.03"));
}

fn dig(project: &Project, name: &str) -> Dig {
    Dig::new(project.address(port::DNS).unwrap(), name, "A").args(&["+tries=3"])
}

fn dns_is_served_over_udp_tcp_tls_and_https(project: &Project) {
    let trusted = ["+tls-ca=.build/certs/ca.crt", "+tls-hostname=localhost"];
    let kdig =
        |name: &str| Kdig::new(project.address(name).unwrap(), "www.example", "A").args(&trusted);
    let answers: [Output; 4] = [
        dig(project, "www.example").run().unwrap(),
        dig(project, "www.example").args(&["+tcp"]).run().unwrap(),
        kdig(port::DNS_TLS).args(&["+tls"]).run().unwrap(),
        kdig(port::DOH).args(&["+https"]).run().unwrap(),
    ];
    for answer in answers {
        assert_eq!(answer.short(), ["192.0.2.1"], "{answer:?}");
    }
    let refused = dig(project, "ads.example").run().unwrap();
    assert_eq!(refused.status(), "REFUSED");
    assert!(refused.0.contains("advertisements"), "{refused:?}");
}

fn prometheus_and_grafana_see_it(project: &Project) {
    // Of all three filters: what the clients above did has been counted, scraped and stored.
    for query in ["mqtt_packets_total", "coap_requests_total", "dns_queries_total"] {
        eventually(query, || {
            let path = format!("/api/v1/query?query={query}");
            let answer = project.get_json(port::PROMETHEUS, &path).unwrap();
            (!answer["data"]["result"].as_array().unwrap().is_empty()).then_some(())
        });
    }
    // Nothing is known of a target that was not scraped yet.
    eventually("all targets to be up", || {
        let targets = project.get_json(port::PROMETHEUS, "/api/v1/targets").unwrap();
        let targets = targets["data"]["activeTargets"].as_array().unwrap();
        assert!(targets.iter().any(|target| target["labels"]["job"] == "envoy"));
        targets.iter().all(|target| target["health"] == "up").then_some(())
    });

    assert_eq!(project.get_json(port::GRAFANA, "/api/health").unwrap()["database"], "ok");
    let found = project.get_json(port::GRAFANA, "/api/search?type=dash-db").unwrap();
    let mut titles: Vec<&str> =
        found.as_array().unwrap().iter().filter_map(|one| one["title"].as_str()).collect();
    titles.sort_unstable();
    assert_eq!(titles, dashboard_titles().unwrap());
}

fn a_stopped_broker_is_unavailable_and_comes_back(project: &Project) {
    let mut keeper = session(project, Version::V5, "keeper").unwrap();
    keeper.send(&publish_retained(Version::V5, "kept", b"for later", 1, 1)).unwrap();
    keeper.expect(0x40).unwrap();

    project.stop("mosquitto").unwrap();
    // The session that was there has ended.
    assert!(keeper.ping().is_err());
    let address = project.address(port::MQTT).unwrap();
    for (version, code) in [Version::V5, Version::V3].into_iter().zip(UNAVAILABLE) {
        eventually("a refusal", || {
            let (_, connack) = Client::connect(address, &Connect::new(version, "late")).ok()?;
            (connack.connack_code().unwrap() == code).then_some(())
        });
    }
    // The other protocols go on.
    assert_eq!(dig(project, "www.example").run().unwrap().status(), "NOERROR");

    project.start("mosquitto").unwrap();
    eventually("the broker", || exchange(project, Version::V5, "again"));
    let mut reader = session(project, Version::V5, "reader").unwrap();
    reader.subscribe(&["kept"], 1).unwrap();
    assert_eq!(reader.receive_publish().unwrap().1, b"for later");
}

fn a_stopped_dns_server_leaves_stale_answers_and_comes_back(project: &Project) {
    // It holds for a second. Each of Envoy's workers has a cache, and nobody knows which one a query meets.
    for _ in 0..20 {
        assert_eq!(dig(project, "brief.example").run().unwrap().short(), ["192.0.2.2"]);
    }
    project.stop("dns-server").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    eventually("a stale answer", || {
        let answer = dig(project, "brief.example").run().ok()?;
        (answer.short() == ["192.0.2.2"]).then_some(())
    });
    // Nobody has asked for this one before.
    eventually("a failure", || {
        let answer = dig(project, "mail.example").run().ok()?;
        (answer.status() == "SERVFAIL").then_some(())
    });
    // The other protocols go on.
    eventually("a message", || exchange(project, Version::V5, "meanwhile"));

    project.start("dns-server").unwrap();
    eventually("the DNS server", || {
        let answer = dig(project, "mail.example").run().ok()?;
        (answer.short() == ["192.0.2.25"]).then_some(())
    });
}

fn a_crashed_envoy_is_started_again(project: &Project) {
    let mut client = session(project, Version::V5, "before").unwrap();
    client.ping().unwrap();
    project.crash("envoy").unwrap();
    assert!(client.ping().is_err());
    eventually("a restart", || {
        let envoy = project.inspect("envoy").unwrap();
        (envoy["RestartCount"].as_u64() > Some(0)).then_some(())
    });
    eventually("messages through the new Envoy", || exchange(project, Version::V5, "back"));
    project.wait_until_healthy().unwrap();
    assert_eq!(dig(project, "www.example").run().unwrap().short(), ["192.0.2.1"]);
    assert!(coap(project, "coap", "/time").run().unwrap().text().unwrap().contains(':'));
}

#[test]
fn the_filters_images_are_the_same_each_time_and_what_the_specifications_say() {
    let module = root().join("dist/dns.wasm");
    assert!(module.exists(), "make wasm");
    let run = root().join(".build/run");
    std::fs::create_dir_all(&run).unwrap();
    let dir = run.join(format!("image-{}", std::process::id()));
    let make = |folder: &Path| {
        let mut command = Command::new(root().join("scripts/wasm-image"));
        let made = command.arg(&module).args(["test/dns", "1.2.3"]).arg(folder).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap()
    };
    let (first, second) = (dir.join("first/dns"), dir.join("second/dns"));
    let printed = make(&first);
    assert_eq!(printed, make(&second));
    let archive = |folder: &Path| std::fs::read(folder.with_extension("tar")).unwrap();
    assert!(archive(&first) == archive(&second), "the archives differ");

    let json = |path: &str| -> Value {
        serde_json::from_slice(&std::fs::read(first.join(path)).unwrap()).unwrap()
    };
    // OCI image layout 1.0.0: every blob is what its name and its descriptor say.
    assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let blob = |descriptor: &Value| -> String {
        let digest = descriptor["digest"].as_str().unwrap();
        let path = format!("blobs/{}", digest.replace(':', "/"));
        let size = std::fs::metadata(first.join(&path)).unwrap().len();
        assert_eq!(descriptor["size"], size);
        assert_eq!(digest, format!("sha256:{}", sha256(&first.join(&path))));
        path
    };
    let index = json("index.json");
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    let manifest = |tag: &str| {
        let manifests = index["manifests"].as_array().unwrap();
        let name = "org.opencontainers.image.ref.name";
        let found = manifests.iter().find(|one| one["annotations"][name] == tag).unwrap();
        assert_eq!(found["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        let digest = found["digest"].as_str().unwrap();
        assert!(printed.contains(&format!("test/dns:{tag}@{digest}")), "{printed}");
        json(&blob(found))
    };

    // The variant `compat`: one layer, with plugin.wasm.
    let compat = manifest("1.2.3");
    assert_eq!(compat["annotations"]["module.wasm.image/variant"], "compat");
    assert_eq!(compat["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    let [layer] = compat["layers"].as_array().unwrap().as_slice() else { panic!("{compat}") };
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let unpacked = dir.join("unpacked");
    std::fs::create_dir_all(&unpacked).unwrap();
    let layer = first.join(blob(layer));
    let tar = Command::new("tar").arg("-xzf").arg(&layer).arg("-C").arg(&unpacked).status();
    assert!(tar.unwrap().success());
    let files: Vec<_> = std::fs::read_dir(&unpacked).unwrap().flatten().collect();
    assert_eq!(files.iter().map(std::fs::DirEntry::file_name).collect::<Vec<_>>(), ["plugin.wasm"]);
    assert_eq!(sha256(&unpacked.join("plugin.wasm")), sha256(&module));
    let config = json(&blob(&compat["config"]));
    let plain = Command::new("sh").args(["-c", "gzip -dc \"$0\" | sha256sum"]).arg(&layer).output();
    let plain = String::from_utf8(plain.unwrap().stdout).unwrap();
    let diff_id = config["rootfs"]["diff_ids"][0].as_str().unwrap();
    assert_eq!(diff_id.strip_prefix("sha256:"), plain.split_whitespace().next());

    // The variant `oci`: two layers, the configuration and the module as it is.
    let artifact = manifest("1.2.3-artifact");
    let [config, content] = artifact["layers"].as_array().unwrap().as_slice() else {
        panic!("{artifact}")
    };
    assert_eq!(config["mediaType"], "application/vnd.module.wasm.config.v1+json");
    assert_eq!(json(&blob(config))["type"], "envoy_proxy");
    assert_eq!(content["mediaType"], "application/vnd.module.wasm.content.layer.v1+wasm");
    assert_eq!(sha256(&first.join(blob(content))), sha256(&module));
    blob(&artifact["config"]);

    if !skipped("docker load of the filter's image") {
        let archive = first.with_extension("tar");
        let image = "test/dns:1.2.3";
        docker(&["load", "--input", &archive.to_string_lossy()]).unwrap();
        // It is never run: a container is how Docker gives files out.
        let container = docker(&["create", image, "plugin.wasm"]).unwrap();
        let out = dir.join("from-docker.wasm");
        let from = format!("{}:/plugin.wasm", container.trim());
        let copied = docker(&["cp", &from, &out.to_string_lossy()]);
        docker(&["rm", container.trim()]).unwrap();
        docker(&["rmi", image]).unwrap();
        copied.unwrap();
        assert_eq!(sha256(&out), sha256(&module));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}
