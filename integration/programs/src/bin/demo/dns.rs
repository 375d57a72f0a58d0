//! DNS: a resolver, a server for one zone, and an Envoy that sends each query to one of them, or answers it.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::dns::unbound::Unbound;
use integration::envoy::{Config, Envoy};
use integration::eventually;
use serde_json::Value;

use crate::commands::{expect, run};
use crate::{Chosen, check_stop, say, text};

const CONFIG: &str = "envoy-configs/dns.yaml";
/// What the development certificate is trusted by.
const CA: &str = ".build/certs/ca.crt";

/// Ports on 127.0.0.1, each with the number that `envoy-configs/dns.yaml` has for it as default. Envoy's admin has another
/// one, because 9901 is that of the Envoy for MQTT.
pub(crate) struct Ports {
    /// UDP and TCP.
    dns: u16,
    tls: u16,
    https: u16,
    admin: u16,
}

impl Ports {
    pub(crate) fn choose(chosen: &mut Chosen) -> Self {
        Self {
            dns: chosen.port("DNS_PORT", 1053),
            tls: chosen.port("DNS_TLS_PORT", 1853),
            https: chosen.port("DNS_HTTPS_PORT", 8053),
            admin: chosen.port("DNS_ADMIN_PORT", 9903),
        }
    }
}

/// What the resolver has. For it `www.corp.example` is what the rest of the world may see of it.
const RECORDS: [&str; 7] = [
    "www.example. 300 IN A 192.0.2.1",
    "www.example. 300 IN AAAA 2001:db8::1",
    "mail.example. 300 IN MX 10 www.example.",
    "admin.example. 300 IN A 127.0.0.1",
    "text.example. 300 IN TXT \"so it is\"",
    "www.corp.example. 300 IN A 198.51.100.80",
    "www.doh.example. 300 IN A 192.0.2.3",
];
/// What the zone's own server has.
const CORP_RECORDS: [&str; 1] = ["www.corp.example. 300 IN A 10.0.0.80"];

/// So many queries for TXT records at once, of which the first five are answered over UDP.
const TEXTS: usize = 8;
const TEXT_LIMIT: &str =
    "{name: txt, types: [TXT], queries: {per_second: 1, burst: 5}, exceeded: truncate}";

/// Who is behind Envoy.
#[derive(Debug, Clone, Copy)]
enum Behind {
    Resolver,
    Corp,
    Https,
    Nobody,
}

/// What has to be in Envoy's access log: transport, carry, query name or zone, response code, and who answered.
const EXPECTED: [(&str, &str, &str, u64, Behind); 5] = [
    ("udp", "flow", "dns", 200, Behind::Resolver),
    ("tcp", "flow", "dns", 200, Behind::Resolver),
    ("udp", "flow", "corp.example", 200, Behind::Corp),
    ("udp", "check", "www.blocked.example", 404, Behind::Nobody),
    ("udp", "request", "www.doh.example", 200, Behind::Https),
];

pub(crate) struct Demo {
    ports: Ports,
    pub(crate) envoy: Envoy,
    resolver: Unbound,
    https: u16,
    corp: Unbound,
    /// How many entries of the access log were printed.
    printed: usize,
}

impl Demo {
    pub(crate) fn start(ports: Ports) -> Result<Self> {
        let resolver = Unbound::with_https(&RECORDS)?;
        let https = resolver.https().context("unbound without HTTPS")?.port();
        let corp = Unbound::with_records(&CORP_RECORDS)?;
        say(&format!(
            "DNS: starting unbound on {}, with DNS over HTTPS on {https}, and another one for corp.example on {}",
            resolver.address().port(),
            corp.address().port(),
        ));
        check_stop()?;
        let Ports { dns, tls, https: doh, admin } = ports;
        say(&format!(
            "starting Envoy with {CONFIG}: DNS over UDP and TCP on {dns}, over TLS on {tls}, over HTTPS on {doh}, admin on \
             {admin}"
        ));
        const TRANSPORT: &str = "                transport: udp\n";
        const LIMITS: &str = "                rate_limits: &dns_rate_limits\n";
        let envoy = Config::from_file(CONFIG)?
            .port(1053, dns)
            .port(1853, tls)
            .port(8053, doh)
            .port(9901, admin)
            .port(25_353, resolver.address().port())
            .port(25_453, corp.address().port())
            .port(28_443, https)
            // Each worker has a cache of its own.
            .concurrency(1)
            // Flows are logged when they end.
            .replace(TRANSPORT, &format!("{TRANSPORT}                flow_lifetime: 1s\n"))?
            .replace(LIMITS, &format!("{LIMITS}                - {TEXT_LIMIT}\n"))?
            .start()?;
        Ok(Self { ports, envoy, resolver, https, corp, printed: 0 })
    }

    /// All that is to be seen, each outcome checked.
    pub(crate) fn show(&mut self) -> Result<()> {
        let Ports { dns, tls, https, admin } = self.ports;
        let (dns, tls) = (dns.to_string(), tls.to_string());
        let server = ["@127.0.0.1", "-p", &dns];
        let dig = |args: &[&str]| run("dig", &[&server, args].concat());
        let only_answer = ["+noall", "+answer"];
        let over_tls = ["@127.0.0.1", "-p", &tls, "+tls-ca=.build/certs/ca.crt"];
        let over_tls = [&over_tls[..], &["+tls-hostname=localhost", "+noall", "+answer"]].concat();

        say(
            "DNS clients ask a resolver: over UDP, TCP and TLS; and curl asks over HTTPS where admin.example is",
        );
        let said = dig(&[&only_answer[..], &["www.example"]].concat())?;
        show(&said, |line| line.ends_with("192.0.2.1"), 1)?;
        let said = dig(&[&only_answer[..], &["+tcp", "mail.example", "MX"]].concat())?;
        show(&said, |line| line.ends_with("10 www.example."), 1)?;
        let said = run("kdig", &[&over_tls[..], &["www.example", "AAAA"]].concat())?;
        show(&said, |line| line.ends_with("2001:db8::1"), 1)?;
        let doh = format!("https://localhost:{https}/dns-query");
        let ready = format!("http://admin.example:{admin}/ready");
        let args = ["-s4", "--cacert", CA, "--doh-url", &doh, &ready];
        expect("curl", &args, |said| said == "LIVE")?;

        say(
            "split horizon: what the resolver says of www.corp.example, and what the zone's own server says through Envoy",
        );
        let resolver = self.resolver.address().port().to_string();
        let direct = ["@127.0.0.1", "-p", &resolver, "+noall", "+answer", "www.corp.example"];
        show(&run("dig", &direct)?, |line| line.ends_with("198.51.100.80"), 1)?;
        let said = dig(&[&only_answer[..], &["www.corp.example"]].concat())?;
        show(&said, |line| line.ends_with("10.0.0.80"), 1)?;

        say("a blocklist is virtual hosts with a direct_response, whose text tells the client why");
        let said = dig(&["+noall", "+comments", "www.blocked.example"])?;
        let is_reason =
            |line: &str| line.contains("status: NXDOMAIN") || line.contains("EDE: 15 (Blocked)");
        show(&said, is_reason, 2)?;

        say("doh.example is for a DoH server: each query is an HTTP request to it");
        let said = dig(&[&only_answer[..], &["www.doh.example"]].concat())?;
        show(&said, |line| line.ends_with("192.0.2.3"), 1)?;

        say(
            "the first name again, a second later, over UDP and TLS: both have it from the filter's cache",
        );
        sleep(Duration::from_millis(1100));
        let is_older = |line: &str| {
            let ttl = line.split_whitespace().nth(1).and_then(|ttl| ttl.parse::<u32>().ok());
            line.ends_with("192.0.2.1") && ttl.is_some_and(|ttl| ttl < 300)
        };
        let said = dig(&[&only_answer[..], &["www.example"]].concat())?;
        show(&said, is_older, 1)?;
        let said = run("kdig", &[&over_tls[..], &["www.example"]].concat())?;
        show(&said, is_older, 1)?;
        let asked = self.resolver.count("www.example.", "A");
        ensure!(asked == 1, "unbound was asked {asked} times");
        println!("    → unbound was asked for it once");

        say(&format!(
            "{TEXTS} queries for TXT records at once, with a limit of 5: the others are asked to come over TCP, which a \
             forged address cannot"
        ));
        let queries = ["text.example", "TXT"].repeat(TEXTS);
        let said = dig(&[&["+noall", "+comments", "+answer"][..], &queries].concat())?;
        let truncated = said.lines().filter(|line| line.contains("retrying in TCP mode")).count();
        let is_answer = |line: &str| line.ends_with("\"so it is\"");
        ensure!(truncated > 0 && said.lines().filter(|line| is_answer(line)).count() == TEXTS);
        println!("    → {TEXTS} answers, {truncated} of them after");
        show(&said, |line| line.starts_with(";; Truncated"), truncated)?;

        say("what Envoy saw: its access log, one line per flow, check and request");
        for (transport, carry, name, code, behind) in EXPECTED {
            self.check(transport, carry, name, code, behind)?;
        }
        let log = self.envoy.access_log();
        print_rows(true, &log);
        self.printed = log.len();

        say("… and the filter's metrics, from /stats/prometheus, without the histograms");
        for line in self.metrics(truncated)? {
            println!("    {line}");
        }
        Ok(())
    }

    /// An error unless this went where it should have gone.
    fn check(
        &mut self,
        transport: &str,
        carry: &str,
        name: &str,
        code: u64,
        behind: Behind,
    ) -> Result<()> {
        check_stop()?;
        let upstream = match behind {
            Behind::Resolver => self.resolver.address().to_string(),
            Behind::Corp => self.corp.address().to_string(),
            Behind::Https => format!("127.0.0.1:{}", self.https),
            Behind::Nobody => "-".to_owned(),
        };
        let entry = self.envoy.access_log_entry(|entry| {
            let wanted = [("transport", transport), ("carry", carry)];
            wanted.iter().all(|(key, value)| text(entry, key) == *value) && name_of(entry) == name
        })?;
        let as_expected = entry.get("code").and_then(Value::as_u64) == Some(code)
            && text(&entry, "upstream") == upstream;
        ensure!(as_expected, "expected {code} by {upstream}, got {entry}");
        Ok(())
    }

    /// The filter's metrics once it has reported what came last: it does so every second.
    fn metrics(&mut self, truncated: usize) -> Result<Vec<String>> {
        #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
        let truncated = truncated as f64;
        eventually("the filter to report every query", || {
            check_stop()?;
            let limited = self.envoy.metric("dns_limited_total", &[("limit", "txt")])?;
            let sessions = self.envoy.metric("udp_sessions_active", &[])?;
            Ok((limited == Some(truncated) && sessions == Some(0.0)).then_some(()))
        })?;
        let errors = self.envoy.metric("dns_decode_errors_total", &[])?;
        ensure!(errors.is_none_or(|count| count == 0.0), "the filter counted decode errors");
        integration::setup::expect_healthy(&mut self.envoy)?;
        let text = self.envoy.get("/stats/prometheus")?;
        let ours = |line: &&str| {
            (line.starts_with("dns_") || line.starts_with("udp_"))
                && !line.starts_with("dns_answer_microseconds")
        };
        Ok(text.lines().filter(ours).map(str::to_owned).collect())
    }

    pub(crate) fn explain(&self) {
        let Ports { dns, tls, https, admin } = self.ports;
        println!(
            "    dig @127.0.0.1 -p {dns} www.example
    dig @127.0.0.1 -p {dns} ads.example
    dig @127.0.0.1 -p {dns} +notcp www.example ANY
    kdig @127.0.0.1 -p {tls} +tls-ca={CA} +tls-hostname=localhost www.corp.example
    kdig @127.0.0.1 -p {https} +https +tls-ca={CA} +tls-hostname=localhost www.doh.example
    curl -s http://127.0.0.1:{admin}/stats/prometheus | grep -E '^(dns|udp)_'
    less {}",
            self.envoy.process.dir().join("stderr").display()
        );
    }

    /// Prints what has come into the access log; an error if something has ended by itself.
    pub(crate) fn follow(&mut self) -> Result<()> {
        for server in [&mut self.resolver, &mut self.corp] {
            server.process.expect_running()?;
        }
        self.envoy.process.expect_running()?;
        let log = self.envoy.access_log();
        print_rows(false, log.get(self.printed..).unwrap_or_default());
        self.printed = log.len();
        Ok(())
    }
}

/// Shows those of the lines that a command said that are wanted; an error unless they are so many.
fn show(said: &str, wanted: impl Fn(&str) -> bool, number: usize) -> Result<()> {
    let lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut lines: Vec<String> = lines.filter(|line| wanted(line)).collect();
    ensure!(lines.len() == number, "something else than expected was said:\n{said}");
    lines.dedup();
    lines.iter().for_each(|line| println!("    → {line}"));
    Ok(())
}

/// The query name of a check or request; a flow has none, but the zone is its authority.
fn name_of(entry: &Value) -> &str {
    match text(entry, "qname") {
        "-" => text(entry, "authority"),
        name => name,
    }
}

/// Access-log entries as lines of a table.
fn print_rows(header: bool, entries: &[Value]) {
    let row = |[transport, carry, name, record_type, code, upstream]: [&str; 6]| {
        println!("    {transport:<10} {carry:<8} {name:<22} {record_type:<6} {code:<5} {upstream}");
    };
    if header {
        row(["TRANSPORT", "CARRY", "NAME", "TYPE", "CODE", "UPSTREAM"]);
    }
    for entry in entries {
        let code = entry.get("code").map(Value::to_string).unwrap_or_default();
        row([
            text(entry, "transport"),
            text(entry, "carry"),
            name_of(entry),
            text(entry, "qtype"),
            &code,
            text(entry, "upstream"),
        ]);
    }
}
