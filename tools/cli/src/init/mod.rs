//! `init`: a complete Envoy configuration, from flags or from a few questions.

mod template;

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;

use crate::protocol::Protocol;
use crate::terminal::{Exit, Io};

/// Write a complete Envoy configuration
#[derive(Debug, Args)]
#[command(
    long_about = "Writes a complete, commented Envoy configuration for MQTT, CoAP and DNS, or some of them. On a terminal it \
        asks what no flag says; with --yes, or without a terminal, it takes the defaults.",
    after_long_help = "Examples:\n  \
        beyond-http init\n  \
        beyond-http init --mqtt 10.0.0.5:1883 --rate-limit --output envoy.yaml\n  \
        beyond-http init --coap 127.0.0.1:25683 --dns 127.0.0.1:25353 --yes > envoy.yaml\n  \
        beyond-http init --mqtt broker.example --tls --tls-certificate cert.pem --tls-key key.pem -o envoy.yaml"
)]
pub(crate) struct InitArgs {
    /// MQTT, for this broker [default port: 1883]
    #[arg(long, value_name = "HOST[:PORT]")]
    mqtt: Option<String>,
    /// CoAP, for this server over UDP and TCP [default port: 5683]
    #[arg(long, value_name = "HOST[:PORT]")]
    coap: Option<String>,
    /// DNS, for this server over UDP and TCP [default port: 53]
    #[arg(long, value_name = "HOST[:PORT]")]
    dns: Option<String>,
    /// Listen for TLS too
    #[arg(long)]
    tls: bool,
    /// The server's certificate chain, as a PEM file
    #[arg(long, value_name = "FILE", default_value = "certs/server.crt")]
    tls_certificate: String,
    /// Its private key, as a PEM file
    #[arg(long, value_name = "FILE", default_value = "certs/server.key")]
    tls_key: String,
    /// Limit what clients may do
    #[arg(long)]
    rate_limit: bool,
    /// Without an access log
    #[arg(long)]
    no_access_log: bool,
    /// Envoy's admin port on 127.0.0.1; 0 for none
    #[arg(long, value_name = "PORT", default_value_t = 9901)]
    admin_port: u16,
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    listen: IpAddr,
    /// The port for MQTT
    #[arg(long, value_name = "PORT", default_value_t = 1883)]
    mqtt_port: u16,
    /// The port for MQTT over TLS
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    mqtt_tls_port: u16,
    /// The port for CoAP
    #[arg(long, value_name = "PORT", default_value_t = 5683)]
    coap_port: u16,
    /// The port for CoAP over TLS
    #[arg(long, value_name = "PORT", default_value_t = 5684)]
    coap_tls_port: u16,
    /// The port for DNS
    #[arg(long, value_name = "PORT", default_value_t = 53)]
    dns_port: u16,
    /// The port for DNS over TLS
    #[arg(long, value_name = "PORT", default_value_t = 853)]
    dns_tls_port: u16,
    /// Where the modules are, as Envoy sees it
    #[arg(long, value_name = "PATH", default_value = "dist")]
    module_dir: String,
    /// Where to write; - is standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: String,
    /// Overwrite the file if there is one
    #[arg(long)]
    force: bool,
    /// Ask nothing
    #[arg(long, short)]
    yes: bool,
}

/// What is to be written.
struct Plan {
    mqtt: Option<Server>,
    coap: Option<Server>,
    dns: Option<Server>,
    tls: Option<Tls>,
    rate_limit: bool,
    access_log: bool,
    admin: Option<u16>,
    address: String,
    ports: Ports,
    module_dir: String,
}

struct Ports {
    mqtt: u16,
    mqtt_tls: u16,
    coap: u16,
    coap_tls: u16,
    dns: u16,
    dns_tls: u16,
}

struct Tls {
    certificate: String,
    key: String,
}

impl Plan {
    fn servers(&self) -> impl Iterator<Item = (Protocol, &Server)> {
        let servers = [
            (Protocol::Mqtt, &self.mqtt),
            (Protocol::Coap, &self.coap),
            (Protocol::Dns, &self.dns),
        ];
        servers.into_iter().filter_map(|(protocol, server)| Some((protocol, server.as_ref()?)))
    }

    fn protocols(&self) -> impl Iterator<Item = Protocol> {
        self.servers().map(|(protocol, _)| protocol)
    }
}

/// Who answers what the filter passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    /// As it stands in the configuration: an IPv6 address without brackets, in quotes.
    host: String,
    port: u16,
}

/// What is no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NoServer;

impl fmt::Display for NoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is no address or name with an optional port")
    }
}

impl Server {
    fn parse(text: &str, default_port: u16) -> Result<Self, NoServer> {
        if let Ok(ip) = IpAddr::from_str(text) {
            return Ok(Self { host: quoted(ip), port: default_port });
        }
        let (host, port) = match text.rsplit_once(':').filter(|_| !text.ends_with(']')) {
            Some((host, port)) => {
                (host, port.parse().ok().filter(|port| *port > 0).ok_or(NoServer)?)
            }
            None => (text, default_port),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Ok(ip) = IpAddr::from_str(bare.unwrap_or(host)) {
            return Ok(Self { host: quoted(ip), port });
        }
        // Nothing that YAML could take for something else.
        let is_label = |label: &str| {
            let letters = label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            letters && !label.is_empty() && label.len() <= 63 && !label.starts_with('-')
        };
        let name = host.strip_suffix('.').unwrap_or(host);
        if bare.is_some() || name.len() > 253 || !name.split('.').all(is_label) {
            return Err(NoServer);
        }
        Ok(Self { host: format!("\"{host}\""), port })
    }
}

fn quoted(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"{ip}\""),
    }
}

/// What stands between quotes in the configuration.
fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\'))
}

pub(crate) fn run(args: &InitArgs, io: &mut Io<'_>) -> io::Result<Exit> {
    let plan = match plan(args, io)? {
        Ok(plan) => plan,
        Err(error) => {
            io.complain(&error)?;
            return Ok(Exit::Unusable);
        }
    };
    let text = template::write(&plan);
    if args.output == "-" {
        io.out.write_all(text.as_bytes())?;
        return Ok(Exit::Fine);
    }
    let mut options = OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    match options.open(&args.output).and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => {
            io.note(&format!("wrote {0}; next: envoy -c {0}", args.output))?;
            Ok(Exit::Fine)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            io.complain(&format!("{} is there already: --force overwrites it", args.output))?;
            Ok(Exit::Unusable)
        }
        Err(error) => {
            io.complain(&format!("{}: {error}", args.output))?;
            Ok(Exit::Unusable)
        }
    }
}

fn plan(args: &InitArgs, io: &mut Io<'_>) -> io::Result<Result<Plan, String>> {
    let asks = io.asks && !args.yes;
    let given = [&args.mqtt, &args.coap, &args.dns];
    let asks_servers = asks && given.iter().all(|server| server.is_none());
    let mut servers = Vec::new();
    let defaults = [
        ("MQTT", "an MQTT broker", 1883, "127.0.0.1:21883"),
        ("CoAP", "a CoAP server", 5683, "127.0.0.1:25683"),
        ("DNS", "a DNS server", 53, "127.0.0.1:25353"),
    ];
    for (text, (name, what, port, example)) in given.into_iter().zip(defaults) {
        let text = match text {
            None if asks_servers => {
                let answer = ask(
                    io,
                    &format!("Address of {what}, such as {example} (empty: no {name})"),
                    "",
                )?;
                (!answer.is_empty()).then_some(answer)
            }
            text => text.clone(),
        };
        let server =
            text.map(|text| Server::parse(&text, port).map_err(|error| format!("{text}: {error}")));
        match server.transpose() {
            Ok(server) => servers.push(server),
            Err(error) => return Ok(Err(error)),
        }
    }
    let mut servers = servers.into_iter();
    let mut next = || servers.next().flatten();
    let (mqtt, coap, dns) = (next(), next(), next());
    if mqtt.is_none() && coap.is_none() && dns.is_none() {
        return Ok(Err("needs at least one of --mqtt, --coap and --dns".to_owned()));
    }
    let mut certificate = args.tls_certificate.clone();
    let mut key = args.tls_key.clone();
    let mut tls = args.tls;
    let mut rate_limit = args.rate_limit;
    if asks_servers {
        tls = tls || confirm(io, "Listen for TLS too?")?;
        if tls && !args.tls {
            certificate = ask(io, "The server's certificate chain, a PEM file", &certificate)?;
            key = ask(io, "Its private key, a PEM file", &key)?;
        }
        rate_limit = rate_limit || confirm(io, "Limit what clients may do?")?;
    }
    for path in [&args.module_dir, &certificate, &key] {
        if !is_path(path) {
            return Ok(Err(format!(
                "{path:?} is no path that can be written into a configuration"
            )));
        }
    }
    Ok(Ok(Plan {
        mqtt,
        coap,
        dns,
        tls: tls.then_some(Tls { certificate, key }),
        rate_limit,
        access_log: !args.no_access_log,
        admin: (args.admin_port > 0).then_some(args.admin_port),
        address: quoted(args.listen),
        ports: Ports {
            mqtt: args.mqtt_port,
            mqtt_tls: args.mqtt_tls_port,
            coap: args.coap_port,
            coap_tls: args.coap_tls_port,
            dns: args.dns_port,
            dns_tls: args.dns_tls_port,
        },
        module_dir: args.module_dir.trim_end_matches('/').to_owned(),
    }))
}

/// Asks, and takes the default for an empty answer.
fn ask(io: &mut Io<'_>, question: &str, default: &str) -> io::Result<String> {
    let default_shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    write!(io.err, "{question}{default_shown}: ")?;
    io.err.flush()?;
    let mut answer = String::new();
    io.input.read_line(&mut answer)?;
    let answer = answer.trim();
    Ok(if answer.is_empty() { default } else { answer }.to_owned())
}

fn confirm(io: &mut Io<'_>, question: &str) -> io::Result<bool> {
    let answer = ask(io, &format!("{question} (y/n)"), "n")?;
    Ok(answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_ports() {
        let server = |host: &str, port| Ok(Server { host: host.to_owned(), port });
        assert_eq!(Server::parse("10.0.0.1", 53), server("10.0.0.1", 53));
        assert_eq!(Server::parse("10.0.0.1:5353", 53), server("10.0.0.1", 5353));
        assert_eq!(Server::parse("[2001:db8::1]:5353", 53), server("\"2001:db8::1\"", 5353));
        assert_eq!(Server::parse("[::1]", 53), server("\"::1\"", 53));
        assert_eq!(Server::parse("2001:db8::1", 53), server("\"2001:db8::1\"", 53));
        assert_eq!(Server::parse("broker.example.", 53), server("\"broker.example.\"", 53));
        for none in
            ["", ":53", "a b", "x:", "x:0", "x:70000", "x:y", "a}b", "\"", "[name]:1", "-a", "a..b"]
        {
            assert_eq!(Server::parse(none, 53), Err(NoServer), "{none:?}");
        }
    }
}
