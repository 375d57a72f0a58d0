//! `init`: what it writes is right, and it writes over nothing.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use support::{Folder, run, run_with};

#[test]
fn whatever_is_chosen_passes_the_strictest_check() {
    let servers =
        [["--mqtt", "127.0.0.1:21883"], ["--coap", "[::1]"], ["--dns", "dns.example:5353"]];
    for chosen in 1..8 {
        for more in [
            &[][..],
            &["--tls"],
            &["--rate-limit"],
            &["--no-access-log", "--admin-port", "0", "--tls", "--rate-limit"],
        ] {
            let mut args = vec!["init", "--yes"];
            for (bit, server) in servers.iter().enumerate() {
                if chosen >> bit & 1 == 1 {
                    args.extend(server);
                }
            }
            args.extend(more);
            let written = run(&args);
            assert_eq!((written.code, written.err.as_str()), (0, ""), "{args:?}");
            let checked = run_with(&["check", "--strict", "-"], &written.out, false);
            assert_eq!(checked.code, 0, "{args:?}: {}", checked.out);
            assert!(checked.out.ends_with(": 0 errors, 0 warnings\n"), "{args:?}: {}", checked.out);
            assert_eq!(written.out.contains("tls_certificates"), more.contains(&"--tls"));
            assert_eq!(written.out.contains("access_log:"), !more.contains(&"--no-access-log"));
            assert_eq!(written.out.contains("admin:"), !more.contains(&"--admin-port"));
            assert_eq!(written.out.contains("rate_limits:"), more.contains(&"--rate-limit"));
        }
    }
}

#[test]
fn addresses_and_paths_are_where_they_belong() {
    let run = run(&[
        "init",
        "--dns",
        "[2001:db8::1]:5353",
        "--module-dir",
        "/opt/wasm/",
        "--listen",
        "::",
        "--dns-port",
        "1053",
    ]);
    for wanted in [
        "address: \"2001:db8::1\", port_value: 5353",
        "filename: \"/opt/wasm/dns.wasm\"",
        "address: \"::\", port_value: 1053",
    ] {
        assert!(run.out.contains(wanted), "{wanted} is not in\n{}", run.out);
    }
    // A name has to be resolved.
    assert!(support::run(&["init", "--mqtt", "broker.example"]).out.contains("type: STRICT_DNS"));
}

#[test]
fn a_file_is_not_overwritten_by_accident() {
    let folder = Folder::new("overwrite");
    let file = folder.write("envoy.yaml", "mine");
    let args = ["init", "--mqtt", "127.0.0.1", "--yes", "--output", &file];
    let refused = run(&args);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("--force"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "mine");
    assert_eq!(run(&[&args[..], &["--force"]].concat()).code, 0);
    assert!(std::fs::read_to_string(&file).expect("the file").starts_with("# MQTT through"));
    let new = folder.file("new.yaml");
    assert_eq!(run(&["init", "--mqtt", "127.0.0.1", "-o", &new]).code, 0);
    assert_eq!(run(&["check", &new]).code, 0);
    assert_eq!(run(&["init", "--mqtt", "127.0.0.1", "-o", "/does/not/exist/x"]).code, 2);
}

#[test]
fn somebody_at_a_terminal_is_asked() {
    let run = run_with(&["init"], "127.0.0.1:21883\n\n127.0.0.1\ny\nmy.crt\n\nn\n", true);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("Address of an MQTT broker"), "{run:?}");
    for wanted in [
        "# MQTT, DNS through",
        "port_value: 21883",
        "address: 127.0.0.1, port_value: 53",
        "filename: \"my.crt\"",
        "certs/server.key",
    ] {
        assert!(run.out.contains(wanted), "{wanted} is not in\n{}", run.out);
    }
    assert!(!run.out.contains("coap") && !run.out.contains("rate_limits"));
    // What flags say is not asked.
    let run = run_with(&["init", "--mqtt", "127.0.0.1"], "", true);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    // Nobody answers.
    assert_eq!(run_with(&["init"], "", true).code, 2);
}

#[test]
fn what_cannot_be_written_is_refused() {
    for args in [
        &["init"][..],
        &["init", "--mqtt", "a b"],
        &["init", "--mqtt", "host:99999"],
        &["init", "--mqtt", "x\", y: z"],
        &["init", "--mqtt", "h", "--module-dir", "a\"b"],
        &["init", "--mqtt", "h", "--module-dir", "a\nb"],
        &["init", "--mqtt", "h", "--tls", "--tls-key", ""],
        &["init", "--mqtt", "h", "--listen", "host"],
    ] {
        let run = run(args);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}");
        assert!(!run.err.is_empty());
    }
}
