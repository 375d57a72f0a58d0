//! `explain`: what Envoy sees of a message, and what the client gets for a status.
//!
//! Nothing is described from a table: the message goes through the filter's own engine, whose HTTP/2 requests are shown and
//! answered.

mod caller;
mod capture;
mod coap;
mod dns;
mod drive;
mod hex;
mod mqtt;
mod show;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bridge::{HeaderMap, HeaderName, HeaderValue};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::protocol::Protocol;
use crate::terminal::{Exit, Io};
use crate::{check, files};
use capture::Talk;
use drive::{Answer, Client};

/// Show what HTTP request a message becomes, and what a status answers
#[derive(Debug, Args)]
#[command(
    long_about = "Shows what HTTP request Envoy sees of an MQTT packet, a CoAP message or a DNS query, and what the \
    client gets for a given status. The message goes through the very code of the filter, with its own configuration or \
    the defaults; Envoy's part, and that of the servers, is played here."
)]
pub(crate) struct ExplainArgs {
    #[command(subcommand)]
    message: Message,
}

#[derive(Debug, Subcommand)]
enum Message {
    Mqtt(mqtt::MqttArgs),
    Coap(coap::CoapArgs),
    Dns(dns::DnsArgs),
}

/// What all messages have in common.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The filter's configuration, or an Envoy configuration that has it; - is standard input
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// The octets of the message; may be repeated: over UDP each is a datagram
    #[arg(long, value_name = "HEX")]
    hex: Vec<String>,
    /// A capture (pcap or pcapng) of what clients have sent; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "hex")]
    pcap: Option<String>,
    /// The servers' port in the capture; may be repeated [default: the protocol's own]
    #[arg(long, value_name = "PORT")]
    port: Vec<u16>,
    /// What Envoy, or a service behind it, answers
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// A header field of that answer, as NAME=VALUE; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The content of that answer
    #[arg(long, default_value = "")]
    body: String,
    /// The client's address
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))]
    source: IpAddr,
    /// The name that the client asked for in the TLS handshake
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once('=').ok_or("needs NAME=VALUE")?;
    let name = name.to_ascii_lowercase().parse().map_err(|_| "has no name of a header field")?;
    let value = value.parse().map_err(|_| "has no value of a header field")?;
    Ok((name, value))
}

impl Common {
    fn client(&self, talk: &Talk) -> Client {
        Client { address: talk.from.ip().to_string(), server_name: self.sni.clone() }
    }

    fn answer(&self) -> Answer {
        let headers: HeaderMap = self.header.iter().cloned().collect();
        Answer { status: self.status, headers, body: self.body.clone().into_bytes() }
    }

    /// The octets given, as what one client sends.
    fn given(
        &self,
        is_tcp: bool,
        typed: impl FnOnce() -> Result<Vec<u8>, String>,
    ) -> Result<Talk, String> {
        let pieces = match &*self.hex {
            [] => vec![typed()?],
            texts => texts.iter().map(|text| hex::parse(text)).collect::<Result<_, _>>()?,
        };
        let pieces = if is_tcp { vec![pieces.concat()] } else { pieces };
        Ok(Talk { from: SocketAddr::new(self.source, 40_000), is_tcp, pieces, is_cut: false })
    }
}

impl Answer {
    fn ok() -> Self {
        Self { status: 200, headers: HeaderMap::new(), body: Vec::new() }
    }
}

/// A configuration that is to be used.
struct Configuration {
    json: Value,
    transport: String,
}

pub(crate) fn run(args: &ExplainArgs, io: &mut Io<'_>) -> io::Result<Exit> {
    let (protocol, common, transport) = match &args.message {
        Message::Mqtt(args) => (Protocol::Mqtt, &args.common, None),
        Message::Coap(args) => (Protocol::Coap, &args.common, args.transport.as_deref()),
        Message::Dns(args) => (Protocol::Dns, &args.common, args.transport.as_deref()),
    };
    let configuration = match configuration(protocol, common, transport, io)? {
        Ok(configuration) => configuration,
        Err(exit) => return Ok(exit),
    };
    let talks = match talks(args, protocol, common, &configuration, io)? {
        Ok(talks) => talks,
        Err(error) => {
            io.complain(&error)?;
            return Ok(Exit::Unusable);
        }
    };
    let json = configuration.json.to_string();
    for talk in &talks {
        if talks.len() > 1 {
            let line = io.bold(&format!(
                "from {} over {}",
                talk.from,
                if talk.is_tcp { "TCP" } else { "UDP" }
            ));
            writeln!(io.out, "{line}")?;
        }
        match &args.message {
            Message::Mqtt(args) => mqtt::explain(args, json.as_bytes(), talk, io)?,
            Message::Coap(args) => coap::explain(args, json.as_bytes(), talk, io)?,
            Message::Dns(args) => dns::explain(args, json.as_bytes(), talk, io)?,
        }
        if talk.is_cut {
            writeln!(
                io.out,
                "(something is missing in the capture here: what follows is left out)"
            )?;
        }
    }
    Ok(Exit::Fine)
}

/// The filter's configuration; mistakes in it are reported.
fn configuration(
    protocol: Protocol,
    common: &Common,
    transport: Option<&str>,
    io: &mut Io<'_>,
) -> io::Result<Result<Configuration, Exit>> {
    let mut json = json!({});
    if let Some(file) = &common.config {
        let text = match files::read_text(file, io.input) {
            Ok(text) => text,
            Err(error) => {
                io.complain(&format!("{file}: {error}"))?;
                return Ok(Err(Exit::Unusable));
            }
        };
        let found = match check::configurations(file, &text, protocol) {
            Ok(found) => found,
            Err(error) => {
                io.complain(&format!("{file}: {error}"))?;
                return Ok(Err(Exit::Unusable));
            }
        };
        let of = |json: &Value| {
            json.get("transport").and_then(Value::as_str).unwrap_or("udp").to_owned()
        };
        let wanted =
            found.iter().find(|json| transport.is_none_or(|transport| of(json) == transport));
        let Some(chosen) = wanted.or(found.first()) else {
            io.complain(&format!("{file}: has no configuration of the {protocol} filter"))?;
            return Ok(Err(Exit::Unusable));
        };
        json = chosen.clone();
        if found.len() > 1 && transport.is_none() {
            io.note(&format!(
                "{file}: has {} {protocol} filters, and this is the first; --transport chooses another",
                found.len()
            ))?;
        }
    }
    if let (Some(transport), Some(fields)) = (transport, json.as_object_mut()) {
        fields.insert("transport".to_owned(), transport.into());
    }
    let mistakes = protocol.mistakes(json.to_string().as_bytes());
    for mistake in &mistakes {
        io.complain(&mistake.to_string())?;
    }
    if !mistakes.is_empty() {
        return Ok(Err(Exit::Mistakes));
    }
    let transport = match protocol {
        Protocol::Mqtt => "tcp",
        _ => json.get("transport").and_then(Value::as_str).unwrap_or("udp"),
    };
    let transport = transport.to_owned();
    Ok(Ok(Configuration { json, transport }))
}

/// What clients send.
fn talks(
    args: &ExplainArgs,
    protocol: Protocol,
    common: &Common,
    configuration: &Configuration,
    io: &mut Io<'_>,
) -> io::Result<Result<Vec<Talk>, String>> {
    let is_tcp = matches!(&*configuration.transport, "tcp" | "tls");
    let Some(file) = &common.pcap else {
        let talk = match &args.message {
            Message::Mqtt(args) => common.given(is_tcp, || args.typed()),
            Message::Coap(args) => common.given(is_tcp, || args.typed(is_tcp)),
            Message::Dns(args) => common.given(is_tcp, || args.typed(is_tcp)),
        };
        return Ok(talk.map(|talk| vec![talk]));
    };
    let content = match files::read(file, io.input) {
        Ok(content) => content,
        Err(error) => return Ok(Err(format!("{file}: {error}"))),
    };
    let ports = match (&*common.port, protocol) {
        ([], Protocol::Mqtt) => vec![1883],
        ([], Protocol::Coap) => vec![5683],
        ([], Protocol::Dns) => vec![53],
        (ports, _) => ports.to_vec(),
    };
    let captured = match capture::read(&content, &ports) {
        Ok(captured) => captured,
        Err(error) => return Ok(Err(format!("{file}: {error}"))),
    };
    if captured.skipped > 0 {
        io.note(&format!(
            "{file}: {} packets are left out: fragments, or none of IP",
            captured.skipped
        ))?;
    }
    let fits = |talk: &Talk| talk.is_tcp == is_tcp;
    let (talks, others): (Vec<_>, Vec<_>) = captured.talks.into_iter().partition(fits);
    if !others.is_empty() {
        let (have, other) = if is_tcp { ("TCP", "UDP") } else { ("UDP", "TCP") };
        io.note(&format!("{file}: what came over {other} is left out: the filter's clients here use {have} (--transport)"))?;
    }
    if talks.is_empty() {
        return Ok(Err(format!(
            "{file}: has nothing to port {}",
            ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
        )));
    }
    Ok(Ok(talks))
}
