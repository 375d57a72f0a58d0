//! Dashboards and alerts: whether what they look for is what a real Envoy has after real traffic, and whether each alert has
//! a test and a runbook.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use codec_dns::RecordType;
use integration::coap::draft::{CON, Draft};
use integration::coap::{self, libcoap};
use integration::dns;
use integration::dns::query::Query;
use integration::envoy::Envoy;
use integration::process::program;
use integration::setup::{Setup, bridge_config};
use integration::wire::{Client, Connect, Version, publish};
use integration::{eventually, root};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use serde_json::Value;

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const ALERT_TESTS: &str = "deploy/prometheus/alerts_test.yml";
const PROMETHEUS: &str = "deploy/prometheus/prometheus.yml";
const DASHBOARDS: &str = "deploy/grafana/dashboards";
const RUNBOOKS: &str = "docs/observability.md";

/// Metrics for which it takes more trouble, or time, than this test makes: those have to be in the filters' source.
const NOT_SEEN: [&str; 26] = [
    "coap_block_transfers_total",
    "coap_confirmable_total",
    "coap_egress_datagrams_dropped_total",
    "coap_egress_datagrams_ignored_total",
    "coap_egress_events_skipped_total",
    "coap_egress_retransmissions_total",
    "coap_egress_timeouts_total",
    "coap_limited_total",
    "dns_blocks_total",
    "dns_cache_evictions_total",
    "dns_cache_stale_total",
    "dns_cookies_total",
    "dns_doh_errors_total",
    "dns_limited_total",
    "dns_retried_total",
    "dns_timeouts_total",
    "dns_truncated_total",
    "dns_unmatched_total",
    "dtls_associations_closed_total",
    "dtls_records_dropped_total",
    "mqtt_replies_total",
    "mqtt_limited_total",
    "udp_dropped_total",
    "websocket_faults_total",
    // Prometheus' own.
    "ALERTS",
    "up",
];

/// What Prometheus puts to everything that it scrapes.
const OF_PROMETHEUS: [&str; 2] = ["job", "instance"];
/// Labels of `ALERTS`, some by the rule.
const OF_ALERTS: [&str; 4] = ["alertname", "alertstate", "severity", "envoy_cluster_name"];

/// Metrics by name: their labels, with the values seen.
#[derive(Default)]
struct Metrics(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Metrics {
    fn add(&mut self, exposition: &str) {
        for line in exposition.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, rest)) = line.split_once('{') else { continue };
            let labels = self.0.entry(name.to_owned()).or_default();
            let (inside, _) = rest.rsplit_once('}').unwrap();
            for label in inside.split("\",").filter(|label| !label.is_empty()) {
                let (key, value) = label.split_once("=\"").unwrap();
                let value = value.trim_end_matches('"').to_owned();
                labels.entry(key.to_owned()).or_default().insert(value);
            }
        }
    }

    /// The labels of what a selector can mean: with those that the source gives to metrics which were not seen.
    fn selected(&self, selector: &VectorSelector, source: &Source) -> Result<Labels, String> {
        let matchers = &selector.matchers.matchers;
        let by_name = |matcher: &&Matcher| matcher.name == "__name__";
        let name = selector.name.as_deref();
        let is_meant = |known: &str| {
            name.is_none_or(|name| name == known)
                && matchers.iter().filter(by_name).all(|matcher| matcher.is_match(known))
        };
        let mut labels: Labels = OF_PROMETHEUS.map(str::to_owned).into();
        let mut values = BTreeMap::new();
        let mut found = false;
        for (_, of_metric) in self.0.iter().filter(|(known, _)| is_meant(known)) {
            found = true;
            labels.extend(of_metric.keys().cloned());
            values.extend(of_metric.clone());
        }
        if let Some(name) = name.filter(|name| !found && NOT_SEEN.contains(name)) {
            found = true;
            match name {
                "up" => {}
                "ALERTS" => labels.extend(OF_ALERTS.map(str::to_owned)),
                _ => labels.extend(source.labels(name)?),
            }
        }
        if !found {
            return Err(format!("no such metric: {selector}"));
        }
        for matcher in matchers.iter().filter(|matcher| matcher.name != "__name__") {
            if !labels.contains(&matcher.name) {
                return Err(format!("{selector}: no such label: {}", matcher.name));
            }
            let known = values.get(&matcher.name);
            let is_known =
                |value: &str| known.is_some_and(|known| known.contains(value)) || source.has(value);
            let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '|');
            // A pattern that is more than a list has to match something; and so has that of a variable, which is all.
            let is_right = match &matcher.op {
                _ if OF_PROMETHEUS.contains(&matcher.name.as_str()) => true,
                MatchOp::Re(_) | MatchOp::NotRe(_) if !matcher.value.chars().all(is_word) => {
                    known.is_some_and(|known| known.iter().any(|value| matcher.is_match(value)))
                }
                _ => matcher.value.split('|').all(is_known),
            };
            if !is_right && name != Some("ALERTS") {
                return Err(format!("{selector}: no such value: {matcher}"));
            }
        }
        Ok(labels)
    }

    /// The labels of what an expression gives.
    fn labels(&self, expr: &Expr, source: &Source) -> Result<Labels, String> {
        match expr {
            Expr::VectorSelector(selector) => self.selected(selector, source),
            Expr::MatrixSelector(matrix) => self.selected(&matrix.vs, source),
            Expr::Subquery(inner) => self.labels(&inner.expr, source),
            Expr::Paren(inner) => self.labels(&inner.expr, source),
            Expr::Unary(inner) => self.labels(&inner.expr, source),
            Expr::Binary(both) => {
                let left = self.labels(&both.lhs, source)?;
                Ok(&left | &self.labels(&both.rhs, source)?)
            }
            Expr::Aggregate(aggregate) => {
                let inner = self.labels(&aggregate.expr, source)?;
                match &aggregate.modifier {
                    None => Ok(Labels::new()),
                    Some(LabelModifier::Include(by)) => {
                        let by: Labels = by.labels.iter().cloned().collect();
                        match by.difference(&inner).next() {
                            Some(label) => Err(format!("no label {label} to group by: {expr}")),
                            None => Ok(by),
                        }
                    }
                    Some(LabelModifier::Exclude(_)) => Err(format!("use by, not without: {expr}")),
                }
            }
            Expr::Call(call) => {
                let mut labels = Labels::new();
                for argument in &call.args.args {
                    labels.extend(self.labels(argument, source)?);
                }
                // label_replace(vector, label, replacement, source, pattern)
                if let ("label_replace", Some(Expr::StringLiteral(label))) =
                    (call.func.name, call.args.args.get(1).map(AsRef::as_ref))
                {
                    labels.insert(label.val.clone());
                }
                Ok(labels)
            }
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(Labels::new()),
            Expr::Extension(_) => Err(format!("cannot be judged: {expr:?}")),
        }
    }
}

type Labels = BTreeSet<String>;

/// The filters' source, for what does not happen in a short test.
struct Source(Vec<String>);

impl Source {
    fn read() -> Self {
        let mut files = Vec::new();
        for folder in ["filters", "protocol-codecs"] {
            collect(&root().join(folder), &mut files);
        }
        Self(files)
    }

    /// Whether there is such a string.
    fn has(&self, text: &str) -> bool {
        let literal = format!("\"{text}\"");
        self.0.iter().any(|file| file.contains(&literal))
    }

    /// The labels of a metric: those in the file that makes it.
    fn labels(&self, name: &str) -> Result<Labels, String> {
        let literal = format!("\"{name}\"");
        let mut files = self.0.iter().filter(|file| file.contains(&literal)).peekable();
        files.peek().ok_or_else(|| format!("no filter has the metric {name}"))?;
        let labels = files.flat_map(|file| file.split("(\"").skip(1));
        Ok(labels.filter_map(|rest| Some(rest.split_once("\",")?.0.to_owned())).collect())
    }
}

/// The text of all files of Rust below, but for tests.
fn collect(folder: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "tests" | "fuzz" | "bench" | "target") {
            collect(&path, files);
        } else if name.ends_with(".rs") {
            files.push(fs::read_to_string(&path).unwrap());
        }
    }
}

/// A query, and what makes the names of its lines.
struct Asked {
    place: String,
    query: String,
    legend: String,
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All rules, with the name of each.
fn alerts() -> Vec<(String, Value)> {
    let file = yaml(ALERTS);
    let groups = file.get("groups").and_then(Value::as_array).unwrap();
    let rules =
        groups.iter().flat_map(|group| group.get("rules").and_then(Value::as_array).unwrap());
    rules.map(|rule| (text(rule, "/alert"), rule.clone())).collect()
}

fn text(value: &Value, pointer: &str) -> String {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no {pointer} in {value}")).to_owned()
}

fn queries() -> Vec<Asked> {
    let mut queries: Vec<Asked> = alerts()
        .into_iter()
        .map(|(name, rule)| Asked {
            place: name,
            query: text(&rule, "/expr"),
            legend: String::new(),
        })
        .collect();
    for name in ["overview", "mqtt", "coap", "dns"] {
        let json: Value =
            serde_json::from_str(&read(&format!("{DASHBOARDS}/{name}.json"))).unwrap();
        for panel in json.get("panels").and_then(Value::as_array).unwrap() {
            let place = format!("{name}: {}", text(panel, "/title"));
            for target in panel.get("targets").and_then(Value::as_array).into_iter().flatten() {
                let (query, legend) = (text(target, "/expr"), text(target, "/legendFormat"));
                queries.push(Asked { place: place.clone(), query, legend });
            }
        }
        for variable in json.pointer("/templating/list").and_then(Value::as_array).unwrap() {
            let query = text(variable, "/query");
            if let Some(inside) = query.strip_prefix("label_values(") {
                let (selector, label) = inside.trim_end_matches(')').rsplit_once(", ").unwrap();
                let query = format!("sum by ({label}) ({selector})");
                let place = format!("{name}: variable {}", text(variable, "/name"));
                queries.push(Asked { place, query, legend: String::new() });
            }
        }
    }
    queries
}

/// What is wrong with a query.
fn judge(asked: &Asked, metrics: &Metrics, source: &Source) -> Result<(), String> {
    // Grafana's variables stand where a duration or a text is wanted.
    let query = asked.query.replace("$__rate_interval", "5m").replace("$__range", "1h");
    let query = query.replace("$prefix", ".*").replace("$cluster", ".*");
    let labels = metrics.labels(&parser::parse(&query)?, source)?;
    for part in asked.legend.split("{{").skip(1) {
        let label = part.split_once("}}").map_or(part, |(label, _)| label);
        if !labels.contains(label) {
            return Err(format!("no label {label} for the legend {:?}: {query}", asked.legend));
        }
    }
    Ok(())
}

/// Something of everything about MQTT.
fn mqtt_traffic() -> Setup {
    let rules = "max_buffered_size: 65536
                rules:
                - {topic_filters: [checked/#], carry: check, verdict_cache: 60s}
                - {topic_filters: [taken/#], packets: [publish], carry: request}";
    let config = bridge_config().unwrap().replace("max_buffered_size: 65536", rules).unwrap();
    let setup = Setup::start(config).unwrap();
    let address = setup.mqtt().unwrap();
    let mut client = Client::session(address, &Connect::new(Version::V5, "seen")).unwrap();
    client.subscribe(&["seen"], 0).unwrap();
    client.publish("seen", b"x", 0).unwrap();
    client.receive_publish().unwrap();
    // No route is made for messages there: both are refused.
    for (id, topic) in [(1, "checked/a"), (2, "checked/a"), (3, "taken/a")] {
        client.send(&publish(Version::V5, topic, b"x", 1, id)).unwrap();
        client.expect(0x40).unwrap();
    }
    client.disconnect().unwrap();
    let blocked = Connect::new(Version::V5, "x").user("blocked");
    Client::connect(address, &blocked).unwrap();
    for octets in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], &[0; 20]] {
        let mut client = Client::open(address, Version::V5).unwrap();
        client.send(octets).unwrap();
        client.read_to_close(integration::PATIENCE).unwrap();
    }
    setup
}

/// Something of everything about CoAP, with the server behind Envoy.
fn coap_traffic() -> (Envoy, libcoap::Server) {
    use coap::setup::port;
    let server = libcoap::Server::start().unwrap();
    let config = coap::setup::config().unwrap().port(port::SERVER, server.address().port());
    let envoy = config.port(port::FIRMWARE, server.address().port()).start().unwrap();
    let client = coap::udp::Client::connect(envoy.address(port::COAP).unwrap()).unwrap();
    let drafts = [
        Draft::get("time").kind(CON).id(1).token(b"a"),
        Draft::put("config/led", b"on").kind(CON).id(2).token(b"b"),
        // The same again.
        Draft::put("config/led", b"on").kind(CON).id(2).token(b"b"),
        Draft::post("telemetry/x", b"1").kind(CON).id(3).token(b"c"),
    ];
    for draft in &drafts {
        client.request(draft).unwrap();
    }
    client.send(&[0x40]).unwrap();
    let key = ["-u", "device-1", "-k", "key-of-device-1!"];
    let uri = format!("coaps://{}/time", envoy.address(port::TLS).unwrap());
    libcoap::Client::new(libcoap::Tls::OpenSsl, &uri).args(&key).run().unwrap();
    let uri = format!("http://{}/time", envoy.address(8080).unwrap());
    let answer = Command::new("curl").args(["-sf", "-m", "30", &uri]).output().unwrap();
    assert!(answer.status.success(), "{answer:?}");
    (envoy, server)
}

/// Something of everything about DNS.
fn dns_traffic() -> dns::setup::Setup {
    let config = dns::setup::cached_with("{name: dns}").unwrap();
    let setup = dns::setup::Setup::with(config, dns::setup::addresses).unwrap();
    let client = setup.client().unwrap();
    for (name, record_type) in [
        ("www.example", RecordType::A),
        ("www.example", RecordType::A),
        ("www.blocked.example", RecordType::A),
        ("any.example", RecordType::ANY),
    ] {
        client.ask(&Query::new(name, record_type).unwrap()).unwrap();
    }
    client.send(&[0; 5]).unwrap();
    setup
}

/// Waits until the filter has reported what came last.
fn expect_counted(envoy: &Envoy, metric: &str) {
    eventually(metric, || envoy.metric(metric, &[])).unwrap();
}

#[test]
fn every_metric_label_and_value_of_dashboards_and_alerts_exists() {
    let source = Source::read();
    let mut metrics = Metrics::default();
    let mqtt = mqtt_traffic();
    let (coap, _server) = coap_traffic();
    let dns = dns_traffic();
    for (envoy, last) in [
        (&mqtt.envoy, ["mqtt_decode_errors_total", "websocket_handshakes_total"]),
        (&coap, ["dtls_negotiated_total", "coap_egress_request_microseconds_count"]),
        (&dns.envoy, ["dns_decode_errors_total", "dns_cache_hits_total"]),
    ] {
        for metric in last {
            expect_counted(envoy, metric);
        }
        metrics.add(&envoy.get("/stats/prometheus").unwrap());
    }
    let queries = queries();
    let judged = queries.iter().map(|asked| (asked, judge(asked, &metrics, &source)));
    let wrong: Vec<String> = judged
        .filter_map(|(asked, judged)| Some(format!("{}: {}", asked.place, judged.err()?)))
        .collect();
    assert!(wrong.is_empty(), "of {} queries:\n{}", queries.len(), wrong.join("\n"));
}

#[test]
fn a_query_that_names_what_is_not_there_is_found() {
    let mut metrics = Metrics::default();
    metrics.add("# TYPE\npackets_total{type=\"publish\",qos=\"0\"} 1\nactive{} 0\n");
    let source = Source(vec![r#"counter("udp_dropped_total", &[("reason", "no_room")])"#.into()]);
    let judge = |query: &str, legend: &str| {
        let (query, legend) = (query.to_owned(), legend.to_owned());
        judge(&Asked { place: String::new(), query, legend }, &metrics, &source)
    };
    for (query, legend) in [
        (
            "sum by (type) (rate(packets_total{job=~\"$job\",qos=\"0\"}[$__rate_interval]))",
            "{{type}}",
        ),
        ("packets_total{type=~\"pub.*\"} / on (job) active > 0", ""),
        ("{__name__=~\"packets_.*\"}", "{{qos}}"),
        ("rate(udp_dropped_total{reason=\"no_room\"}[5m])", "{{reason}}"),
    ] {
        assert_eq!(judge(query, legend), Ok(()), "{query}");
    }
    for (query, legend) in [
        ("rate(packet_total[5m])", ""),
        ("sum by (kind) (packets_total)", ""),
        ("packets_total{kind=\"publish\"}", ""),
        ("packets_total{type=\"publihs\"}", ""),
        ("packets_total{type=~\"publish|publihs\"}", ""),
        ("packets_total{type=~\"sub.*\"}", ""),
        ("sum by (type) (packets_total)", "{{qos}}"),
        ("{__name__=~\"octets_.*\"}", ""),
        ("udp_dropped_total{cause=\"no_room\"}", ""),
        ("dns_blocks_total", ""),
        ("sum (", ""),
    ] {
        assert!(judge(query, legend).is_err(), "{query}");
    }
}

/// Runs a program in the repository's root; its output is shown if it fails.
fn expect_success(command: &mut Command) {
    let output = command.current_dir(root()).output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&said));
}

#[test]
fn prometheus_accepts_its_configuration_and_the_alerts_fire_when_they_should() {
    let promtool = program("promtool").unwrap();
    expect_success(Command::new(&promtool).args(["check", "config", PROMETHEUS]));
    expect_success(Command::new(&promtool).args(["test", "rules", ALERT_TESTS]));
}

#[test]
fn each_alert_has_a_test_and_a_runbook() {
    let (tests, runbooks) = (read(ALERT_TESTS), read(RUNBOOKS));
    for (name, rule) in alerts() {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
        assert!(runbooks.contains(&format!("\n### {name}\n")), "{name} is not in {RUNBOOKS}");
        let link = format!("{RUNBOOKS}#{}", name.to_lowercase());
        assert!(text(&rule, "/annotations/runbook").ends_with(&link), "{name}: {link}");
    }
}

#[test]
fn grafana_is_told_how_often_prometheus_scrapes_and_where_the_dashboards_are() {
    let provisioning = "deploy/grafana/provisioning";
    let source = yaml(&format!("{provisioning}/datasources/prometheus.yaml"));
    assert_eq!(text(&source, "/datasources/0/type"), "prometheus");
    let interval = text(&yaml(PROMETHEUS), "/global/scrape_interval");
    assert_eq!(text(&source, "/datasources/0/jsonData/timeInterval"), interval);
    let provider = yaml(&format!("{provisioning}/dashboards/beyond-http.yaml"));
    let path = text(&provider, "/providers/0/options/path");
    assert!(read(RUNBOOKS).contains(&format!("`{path}`")), "{RUNBOOKS} does not say {path}");
}

#[test]
fn the_dashboards_are_what_their_source_says() {
    let sdk = Command::new(root().join("scripts/grafana-sdk")).output().unwrap();
    assert!(sdk.status.success(), "scripts/grafana-sdk: {sdk:?}");
    let path = String::from_utf8(sdk.stdout).unwrap();
    let mut generate = Command::new("python3");
    generate.args(["-B", "tools/dashboards/generate.py", "--check"]).env("PYTHONPATH", path.trim());
    expect_success(&mut generate);
}
