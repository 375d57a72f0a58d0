//! `check`: what is right passes, and each thing that is wrong is said with its place.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::path::Path;

use support::{Folder, Run, repository, run, run_with};

/// An example configuration.
fn example(name: &str) -> String {
    std::fs::read_to_string(repository("envoy-configs").join(name)).expect("an example")
}

/// Checks a text that has this in the place of that.
#[track_caller]
fn changed(name: &str, from: &str, to: &str) -> Run {
    let text = example(name);
    assert!(text.contains(from), "{name} does not have {from:?}");
    run_with(&["check", "--quiet", "-"], &text.replace(from, to), false)
}

/// That such a change is an error (or else a warning) in each of these lines, and nothing more.
#[track_caller]
fn expect(run: &Run, severity: &str, wanted: &[&str]) {
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), wanted.len(), "{run:#?}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.contains(&format!(": {severity}: ")), "{line}");
        assert!(line.contains(wanted), "{line}\nis not about {wanted}");
    }
    assert_eq!(run.code, u8::from(severity == "error"));
}

fn files_below(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|of| of == "yaml") {
            found.push(path.to_str().expect("a path").to_owned());
        }
    }
}

#[test]
fn every_configuration_that_we_ship_is_right() {
    let mut files = Vec::new();
    files_below(&repository("envoy-configs"), &mut files);
    assert!(files.len() > 10);
    let mut args = vec!["check", "--strict"];
    args.extend(files.iter().map(String::as_str));
    let run = run(&args);
    assert_eq!(run.code, 0, "{}", run.out);
    for name in ["mqtt.yaml", "coap.yaml", "dns.yaml", "recipes/jwt.yaml"] {
        let is_checked =
            |line: &str| line.contains(&format!("{name}:")) && line.contains("checked: ");
        assert!(run.out.lines().any(is_checked), "{name} is not checked:\n{}", run.out);
    }
}

#[test]
fn a_filter_s_mistakes_have_file_line_column_and_path() {
    let folder = Folder::new("mistakes");
    let file = folder.write(
        "mqtt.yaml",
        "mode: brigde\nconnect_timeout: 0s\nrules:\n- {carry: chek}\nsise: 3\n",
    );
    let run = run(&["check", &file]);
    assert_eq!(run.code, 1);
    let wanted = [
        ":1:1: error: mode: unknown variant `brigde`, expected `bridge` or `observe` (got \"brigde\")",
        ":2:1: error: connect_timeout: must be more than 0s and at most 3600s (got 0ns)",
        ":4:4: error: rules[0].carry: unknown variant `chek`",
        ":5:1: error: sise: unknown field `sise`",
    ];
    for wanted in wanted {
        assert!(run.out.contains(&format!("{file}{wanted}")), "{wanted} is not in\n{}", run.out);
    }
    assert!(run.out.contains("checked: mqtt filter, by the file's name \"mqtt\""), "{}", run.out);
    assert!(run.out.ends_with(" errors, 0 warnings\n"), "{}", run.out);
}

#[test]
fn json_says_the_same() {
    let run = run_with(
        &["check", "--filter", "dns", "--format", "json", "-"],
        r#"{"max_flows": 0}"#,
        false,
    );
    let json: serde_json::Value = serde_json::from_str(&run.out).expect("JSON");
    let finding = &json["findings"][0];
    assert_eq!(finding["file"], "<stdin>");
    assert_eq!((&finding["line"], &finding["column"]), (&1.into(), &2.into()));
    assert_eq!((&finding["severity"], &finding["path"]), (&"error".into(), &"max_flows".into()));
    assert_eq!(json["filters"][0]["filter"], "dns");
    assert_eq!(run.code, 1);
}

#[test]
fn the_filter_is_guessed_or_named() {
    let run = run_with(&["check", "-"], "zones: [{zone: corp.example}]", false);
    assert!(run.out.contains("dns filter, by its fields"), "{run:?}");
    // Several filters have that.
    let run = run_with(&["check", "-"], "rules: []", false);
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{run:?}");
    assert!(run.err.contains("--filter"), "{run:?}");
    let run = run_with(&["check", "--filter", "coap", "-"], "rules: []", false);
    assert_eq!(run.code, 0, "{run:?}");
    // By the name alone, where the module's says nothing.
    let run = changed("recipes/split.yaml", "dist/mqtt.wasm", "plugin.wasm");
    assert_eq!((run.code, run.out.as_str()), (0, ""));
    let text = example("recipes/split.yaml").replace("mqtt.wasm", "a.wasm");
    let run = run_with(&["check", "-"], &text, false);
    assert!(run.out.contains("mqtt filter, by name \"mqtt\""), "{run:?}");
}

#[test]
fn what_cannot_be_read_is_told_apart_from_mistakes() {
    assert_eq!(run(&["check", "/does/not/exist.yaml"]).code, 2);
    assert_eq!(run(&["check"]).code, 2);
    assert_eq!(run(&["chekc"]).code, 2);
    let run = run_with(&["check", "-"], "a: [1,\n", false);
    assert_eq!(run.code, 2);
    assert!(run.out.contains("is no YAML"), "{run:?}");
    let folder = Folder::new("unreadable");
    assert_eq!(support::run(&["check", &folder.write("x.yaml", [0xff, 0xfe])]).code, 2);
    // A file without a filter of ours is no mistake if there is one with.
    let other = folder.write("other.yaml", "services: {web: {}}\n");
    assert_eq!(support::run(&["check", &other]).code, 2);
    let mqtt = folder.write("mqtt.yaml", "mode: bridge\n");
    let run = support::run(&["check", &other, &mqtt]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("has none of our filters"), "{run:?}");
}

#[test]
fn what_envoy_s_yaml_makes_of_a_value_is_known() {
    // Text, of a number as large as this, which the filter takes for what it was.
    let run = changed("mqtt.yaml", "max_packet_size: 16777216", "max_packet_size: 4000000000");
    expect(&run, "error", &["max_packet_size: must be from 14 to 268435460 (got 4000000000)"]);
    // A truth value, of this word.
    let run = changed("mqtt.yaml", "max_packet_size: 16777216", "max_packet_size: yes");
    expect(&run, "error", &["max_packet_size: invalid type: boolean `true`"]);
}

#[test]
fn istio_s_objects_have_filters_of_ours() {
    let plugin = "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: x}\nspec:\n  \
                  url: oci://registry.example/mqtt:1\n  type: NETWORK\n  failStrategy: FAIL_RELOAD\n  \
                  pluginConfig: {max_packet_size: 4000000000}\n";
    let extension = plugin.replace("WasmPlugin", "TrafficExtension").replace("\n  ", "\n    ");
    let extension = extension.replace("spec:\n", "spec:\n  wasm:\n");
    for (object, path) in [(plugin, "spec"), (&*extension, "spec.wasm")] {
        let checked = |text: &str| run_with(&["check", "-q", "-"], text, false);
        // Here a number is one, and above the limit as such.
        expect(
            &checked(object),
            "error",
            &[&format!("{path}.pluginConfig.max_packet_size: must be from")],
        );
        let right = object.replace("4000000000", "16777216");
        expect(&checked(&right), "warning", &[]);
        expect(
            &checked(&right.replace("type: NETWORK", "priority: 1")),
            "error",
            &["has to be type: NETWORK"],
        );
        let closes = right.replace("FAIL_RELOAD", "FAIL_CLOSE");
        expect(
            &checked(&closes),
            "warning",
            &["failStrategy: failStrategy should be FAIL_RELOAD (got FAIL_CLOSE)"],
        );
    }
}

#[test]
fn configurations_in_other_documents_are_found() {
    let filter = r#"{"name": "mqtt", "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
        "config": {"failurePolicy": "FAIL_RELOAD", "vmConfig": {"code": {"local": {"filename": "/etc/dns.wasm"}}},
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "{\"max_flows\": 0}"}}}}"#;
    let patch = format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nspec:\n  configPatches:\n  - applyTo: NETWORK_FILTER\n    \
         patch: {{operation: INSERT_BEFORE, value: {filter}}}\n"
    );
    let run = run_with(&["check", "-q", "-"], &patch, false);
    expect(
        &run,
        "error",
        &[
            "spec.configPatches[0].patch.value.typedConfig.config.configuration.value.max_flows: must be",
        ],
    );
    // As text in a ConfigMap: each line is where it is.
    let mut map =
        String::from("apiVersion: v1\nkind: ConfigMap\ndata:\n  envoy.yaml: |  # all of it\n\n");
    for line in example("mqtt.yaml").replace("mode: bridge\n", "mode: brigde\n").lines() {
        map.push_str(&format!("    {line}\n"));
    }
    let run = run_with(&["check", "-q", "-"], &map, false);
    expect(&run, "error", &["data[\"envoy.yaml\"].static_resources.listeners[0]"]);
    let line = map.lines().position(|line| line.contains("brigde")).expect("the line") + 1;
    let column =
        map.lines().nth(line - 1).and_then(|text| text.find("mode")).expect("the column") + 1;
    assert!(run.out.starts_with(&format!("<stdin>:{line}:{column}: error: ")), "{}", run.out);
    // Several documents in a file.
    let run = run_with(&["check", "-q", "-"], &format!("{patch}---\n{patch}"), false);
    assert_eq!(run.out.lines().count(), 2, "{run:?}");
}

#[test]
fn merge_keys_are_not_for_envoy() {
    let run = changed(
        "recipes/split.yaml",
        "        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n",
        "        typed_config:\n          <<: {}\n          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n",
    );
    expect(&run, "error", &["<<: is a merge key"]);
}

/// What is wrong around a filter: the file, what is there, what is put there, how bad that is, and what is said.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    (
        "recipes/split.yaml",
        "            failure_policy: FAIL_RELOAD\n",
        "",
        "warning",
        "failure_policy should be FAIL_RELOAD (got none)",
    ),
    (
        "recipes/split.yaml",
        "codec_type: HTTP2",
        "codec_type: AUTO",
        "error",
        "codec_type has to be HTTP2",
    ),
    (
        "recipes/split.yaml",
        "          codec_type: HTTP2\n",
        "",
        "error",
        "codec_type has to be HTTP2, which is what the filter before it speaks (got none",
    ),
    (
        "mqtt.yaml",
        "mode: bridge\n",
        "mode: bridge\n                codec: auto\n",
        "error",
        "codec_type has to be AUTO",
    ),
    (
        "recipes/split.yaml",
        "stream_idle_timeout: 0s",
        "stream_idle_timeout: 300s",
        "warning",
        "stream_idle_timeout should be 0s (got 300s)",
    ),
    (
        "recipes/mirror.yaml",
        "                  timeout: 0s\n",
        "",
        "warning",
        "timeout should be 0s (got none, which is 15s)",
    ),
    (
        "recipes/mirror.yaml",
        "upgrade_configs: [{upgrade_type: CONNECT, connect_config: {allow_post: true}}]",
        "cluster_header: x",
        "error",
        "the session's octets reach no broker",
    ),
    (
        "recipes/mirror.yaml",
        "connect_config: {allow_post: true}",
        "connect_config: {}",
        "error",
        "the session's octets reach no broker",
    ),
    (
        "recipes/mirror.yaml",
        "match: {path: /}",
        "match: {path: /session}",
        "error",
        "needs a route that takes POST /",
    ),
    (
        "mqtt.yaml",
        "alpn_protocols: [mqtt]",
        "alpn_protocols: [mqtt, h2]",
        "warning",
        "should not offer h2",
    ),
    (
        "mqtt-observe.yaml",
        "idle_timeout: 0s",
        "idle_timeout: 60s",
        "warning",
        "idle_timeout should be 0s (got 60s)",
    ),
    (
        "mqtt-observe.yaml",
        "          upstream_connect_mode: ON_DOWNSTREAM_DATA\n",
        "",
        "error",
        "needs upstream_connect_mode: ON_DOWNSTREAM_DATA",
    ),
    (
        "mqtt-observe.yaml",
        "max_early_data_bytes: 65536",
        "max_early_data_bytes: 100",
        "warning",
        "max_early_data_bytes should be at least",
    ),
    (
        "coap-observe.yaml",
        "          upgrade_configs: [{upgrade_type: CONNECT-UDP}]\n",
        "",
        "error",
        "needs upgrade_configs: [{upgrade_type: CONNECT-UDP}]",
    ),
    (
        "coap-observe.yaml",
        "http2_protocol_options: {allow_connect: true, max_concurrent_streams: 10000}\n          upgrade",
        "http2_protocol_options: {max_concurrent_streams: 10000}\n          upgrade",
        "error",
        "needs http2_protocol_options: {allow_connect: true}",
    ),
    (
        "dns-failover.yaml",
        "          buffer_options: {max_buffered_datagrams: 256, max_buffered_bytes: 65536}\n",
        "",
        "error",
        "needs buffer_options",
    ),
    (
        "dns-failover.yaml",
        "headers_to_add:\n          - header: {key: x-forwarded-for,",
        "headers_to_add:\n          - header: {key: x-client,",
        "warning",
        "headers_to_add should have x-forwarded-for",
    ),
    (
        "coap.yaml",
        "value: \"%DOWNSTREAM_REMOTE_ADDRESS%\"",
        "value: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\"",
        "warning",
        "(got %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%)",
    ),
    (
        "dns-failover.yaml",
        "idle_timeout: 60s",
        "idle_timeout: 5s",
        "warning",
        "idle_timeout of udp_proxy should be longer than idle_timeout of the filter, 10s (got 5s)",
    ),
    (
        "coap.yaml",
        "idle_timeout: 900s",
        "idle_timeout: 600s",
        "warning",
        "should be longer than dtls.idle_timeout of the filter, 600s",
    ),
    (
        "dns-failover.yaml",
        "{allow_connect: true, max_concurrent_streams: 10000}",
        "{max_concurrent_streams: 10000}",
        "error",
        "the tunnels of udp_proxy are CONNECT requests",
    ),
    (
        "dns-failover.yaml",
        "thresholds: [{max_connections: 20000, max_pending_requests: 20000, max_requests: 20000}]",
        "thresholds: [{max_connections: 20000, max_pending_requests: 20000}]",
        "warning",
        "circuit_breakers should set max_requests",
    ),
    ("dns-failover.yaml", "server_listener_name: dns_udp", "server_listener_name: dns", "none", ""),
    (
        "dns-failover.yaml",
        "server_listener_name: dns_udp",
        "server_listener_name: dns_upd",
        "error",
        "leads to an internal listener that is not here: dns_upd",
    ),
    (
        "dns-failover.yaml",
        "value: {transport: udp, retry",
        "value: {transport: tls, retry",
        "error",
        "has to be udp: datagrams of udp_proxy come here (got tls)",
    ),
    (
        "dns-failover.yaml",
        "value: {transport: tcp}",
        "value: {}",
        "warning",
        "but this is a TCP listener",
    ),
    (
        "dns-failover.yaml",
        "timeout: 1s\n                  retry_policy: {per_try_idle_timeout: 0.25s}",
        "timeout: 1s\n                  retry_policy: {per_try_idle_timeout: 2s}",
        "warning",
        "should be shorter than the route's timeout, 1s (got 2s)",
    ),
    (
        "dns-failover.yaml",
        "                  timeout: 1s\n                  retry_policy",
        "                  timeout: 0s\n                  retry_policy",
        "error",
        "must not be 0s for flows over UDP",
    ),
    (
        "dns-failover.yaml",
        "                  timeout: 1s\n                  retry_policy",
        "                  retry_policy",
        "warning",
        "timeout should be 0.25s for flows over UDP",
    ),
    (
        "dns-failover.yaml",
        "    upstream_config:\n      name: envoy.filters.connection_pools.http.udp\n      typed_config: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.udp.v3.UdpConnectionPoolProto}\n",
        "",
        "error",
        "has endpoints over UDP, and needs upstream_config",
    ),
    (
        "dns-failover.yaml",
        "                  upgrade_configs: [{upgrade_type: CONNECT, connect_config: {allow_post: true}}]\n",
        "",
        "error",
        "flows over TCP reach no server",
    ),
    (
        "dns-failover.yaml",
        "- name: envoy.bootstrap.internal_listener\n  typed_config: {\"@type\": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener}",
        "  []",
        "error",
        "needs the bootstrap extension envoy.bootstrap.internal_listener",
    ),
    (
        "dns-failover.yaml",
        "generate_request_id: false",
        "use_remote_address: true",
        "warning",
        "should be false: the filter says in x-forwarded-for",
    ),
    (
        "dns.yaml",
        "        explicit_http_config: {http2_protocol_options: {}}\n    load_assignment:\n      cluster_name: dns_https",
        "        explicit_http_config: {http_protocol_options: {}}\n    load_assignment:\n      cluster_name: dns_https",
        "error",
        "needs http2_protocol_options (explicit_http_config of its HttpProtocolOptions): the dns filter",
    ),
    (
        "coap.yaml",
        "        session_filters: *capsules\n",
        "",
        "error",
        "needs the session filter envoy.filters.udp.session.http_capsule",
    ),
    ("coap.yaml", "        tunneling_config: *tunnel\n", "", "error", "needs tunneling_config"),
    (
        "recipes/split.yaml",
        "network.http_connection_manager.v3.HttpConnectionManager",
        "network.tcp_proxy.v3.TcpProxy",
        "error",
        "has to be an HTTP connection manager",
    ),
    (
        "recipes/split.yaml",
        "filters.network.wasm.v3.Wasm",
        "filters.http.wasm.v3.Wasm",
        "error",
        "has to be a network filter",
    ),
    (
        "recipes/split.yaml",
        "address: 127.0.0.1, port_value: 1883",
        "protocol: UDP, address: 127.0.0.1, port_value: 1883",
        "error",
        "cannot be on a UDP listener",
    ),
    (
        "mqtt-observe.yaml",
        "tcp_proxy.v3.TcpProxy",
        "http_connection_manager.v3.HttpConnectionManager",
        "error",
        "should be tcp_proxy",
    ),
    (
        "mqtt.yaml",
        "\"@type\": type.googleapis.com/google.protobuf.Struct\n",
        "\"@type\": type.googleapis.com/google.protobuf.Int32Value\n",
        "error",
        "has to be a google.protobuf.Struct or a google.protobuf.StringValue",
    ),
    (
        "mqtt.yaml",
        "              \"@type\": type.googleapis.com/google.protobuf.Struct\n",
        "",
        "error",
        "needs \"@type\": type.googleapis.com/google.protobuf.Struct",
    ),
    (
        "recipes/jwt.yaml",
        "          codec_type: HTTP2\n",
        "          codec_type: HTTP2\n          http2_protocol_options: {max_concurrent_streams: 10}\n",
        "warning",
        "should be at least 65",
    ),
];

#[test]
fn what_stands_around_a_filter_is_checked() {
    for (file, from, to, severity, what) in CASES {
        let run = changed(file, from, to);
        let lines: Vec<&str> = run.out.lines().collect();
        match *severity {
            // Another listener that takes no tunnels: nothing is known to be wrong.
            "none" => {
                assert!(!run.out.contains("error"), "{file}: {from:?} as {to:?}\n{}", run.out)
            }
            severity => {
                let is_it =
                    |line: &&str| line.contains(&format!(": {severity}: ")) && line.contains(what);
                assert!(
                    lines.iter().any(is_it),
                    "{file}: {from:?} as {to:?} is not {what:?}:\n{}",
                    run.out
                );
                assert_eq!(run.code, u8::from(run.out.contains(": error: ")), "{file}: {what}");
                // What is wrong once is not said about everything.
                assert!(lines.len() <= 3, "{file}: {from:?} as {to:?}\n{}", run.out);
            }
        }
    }
}

#[test]
fn warnings_fail_where_that_is_wanted() {
    let text =
        example("recipes/split.yaml").replace("            failure_policy: FAIL_RELOAD\n", "");
    assert_eq!(run_with(&["check", "-"], &text, false).code, 0);
    assert_eq!(run_with(&["check", "--strict", "-"], &text, false).code, 1);
}

#[test]
fn a_filter_needs_something_after_it() {
    let filter = "name: mqtt\ntyped_config:\n  \"@type\": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm\n  \
                  config: {failure_policy: FAIL_RELOAD, name: mqtt, configuration: {\"@type\": type.googleapis.com/google.protobuf.Struct, value: {MODE}}}\n";
    let chain = |mode: &str| {
        let filter = filter.replace("MODE", mode).replace('\n', "\n    ");
        format!(
            "name: x\naddress: {{socket_address: {{address: 127.0.0.1, port_value: 1}}}}\nfilter_chains:\n- filters:\n  - {filter}\n"
        )
    };
    let run = run_with(&["check", "-q", "-"], &chain("mode: bridge"), false);
    expect(&run, "error", &["needs an HTTP connection manager after it"]);
    let run = run_with(&["check", "-q", "-"], &chain("mode: observe"), false);
    expect(&run, "error", &["needs a filter after it"]);
    // Alone, as in a patch, nobody knows.
    let run = run_with(&["check", "-q", "-"], &filter.replace("MODE", "mode: bridge"), false);
    expect(&run, "warning", &[]);
}

#[test]
fn colour_is_for_terminals() {
    let text = "mode: brigde";
    let plain = run_with(&["check", "--filter", "mqtt", "-"], text, false);
    assert!(!plain.out.contains('\x1b'));
    let coloured = run_with(&["check", "--color", "always", "--filter", "mqtt", "-"], text, false);
    assert!(coloured.out.contains("\x1b[1;31merror\x1b[0m"), "{coloured:?}");
}

#[test]
fn every_command_has_help_with_examples() {
    for args in [&["--help"][..], &["check", "--help"], &["init", "--help"], &["explain", "--help"]]
    {
        let run = run(args);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{args:?}");
        assert!(run.out.contains("Usage: beyond-http"), "{args:?}");
    }
    for command in
        [&["check"][..], &["init"], &["explain", "mqtt"], &["explain", "coap"], &["explain", "dns"]]
    {
        let run = run(&[command, &["--help"]].concat());
        let example = format!("\n  beyond-http {} ", command.join(" "));
        assert!(run.out.contains(&example), "{command:?}: {}", run.out);
    }
    assert!(run(&["--version"]).out.starts_with("beyond-http 0."));
    assert!(run(&["completions", "bash"]).out.contains("beyond-http"));
}

#[test]
fn nothing_that_is_read_is_trusted() {
    let text = example("dns.yaml");
    // Cut off anywhere, and with any character in the place of another.
    for at in (0..text.len()).step_by(997).filter(|at| text.is_char_boundary(*at)) {
        let _ = run_with(&["check", "-"], &text[..at], false);
        let mut other = text.clone();
        other.insert_str(at, "]\u{1f980}*&{");
        let _ = run_with(&["check", "-"], &other, false);
    }
}

#[test]
fn who_stops_reading_is_no_error() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut err = Vec::new();
    let code = beyond_http::run(
        ["beyond-http", "init", "--mqtt", "127.0.0.1", "--yes"],
        &mut beyond_http::Io {
            input: &mut std::io::empty(),
            out: &mut Closed,
            err: &mut err,
            asks: false,
            colour: false,
        },
    );
    assert_eq!((code, err), (0, Vec::new()));
}
