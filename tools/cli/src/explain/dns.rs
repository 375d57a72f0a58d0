//! DNS messages: typed by hand, told from octets, and sent through the filter.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bridge::metrics::Registry;
use bridge::{Bridge, Method, Protocol, Request};
use clap::Args;
use codec_dns::{
    Builder, Class, Edns, EdnsFlags, EdnsOption, EdnsOptions, Flags, Message, NameBuf, Question,
    Rcode, RecordType, decode,
};
use filter_dns::Filter;
use filter_dns::config::{Mode, Transport};
use http_server::HttpServer;
use tunnels::Hub;

use super::caller::Caller;
use super::capture::Talk;
use super::coap::{capsule, datagrams};
use super::drive::{Answer, Drive};
use super::{Common, show};
use crate::terminal::Io;

/// A DNS query
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    beyond-http explain dns www.example AAAA\n  \
    beyond-http explain dns ads.example A --config envoy.yaml --status 404 --header content-type=text/plain --body malware\n  \
    beyond-http explain dns www.example A --do --transport tls\n  \
    beyond-http explain dns --hex '000101000001000000000000037777770765786d61706c650000010001'\n  \
    beyond-http explain dns --pcap queries.pcap")]
pub(crate) struct DnsArgs {
    /// A name, and a type [default: A]
    #[arg(value_name = "NAME TYPE", num_args = 1..=2, conflicts_with_all = ["hex", "pcap"])]
    words: Vec<String>,
    /// Ask for DNSSEC records: EDNS with DO
    #[arg(long = "do")]
    dnssec: bool,
    /// Without EDNS
    #[arg(long, conflicts_with = "dnssec")]
    no_edns: bool,
    /// Without RD, which asks for recursion
    #[arg(long)]
    no_recursion: bool,
    /// The ID of the query
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    id: u16,
    /// How the query comes [default: as the configuration says, else udp]
    #[arg(long, value_name = "TRANSPORT", value_parser = ["udp", "tcp", "tls", "https"])]
    pub(crate) transport: Option<String>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What Flag Day 2020 recommends.
const UDP_SIZE: u16 = 1232;

impl DnsArgs {
    /// What the words say; on a stream with its length in front.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub(crate) fn typed(&self, is_tcp: bool) -> Result<Vec<u8>, String> {
        let (name, record_type) = match &*self.words {
            [name] => (name, RecordType::A),
            [name, of] => {
                let record_type = of.to_ascii_uppercase().parse();
                (
                    name,
                    record_type
                        .map_err(|_| format!("knows no type {of}; TYPE123 is one by its number"))?,
                )
            }
            _ => return Err("wants a name; or --hex or --pcap".to_owned()),
        };
        let name = NameBuf::from_text(name).map_err(|error| format!("{name}: {error}"))?;
        let flags = if self.no_recursion { Flags(0) } else { Flags::RD };
        let mut octets = vec![0; 1024];
        let mut query =
            Builder::new(&mut octets, self.id, flags).map_err(|error| error.to_string())?;
        let question = Question { name: name.as_name(), record_type, class: Class::IN };
        query.question(&question).map_err(|error| error.to_string())?;
        if !self.no_edns {
            let flags = if self.dnssec { EdnsFlags::DO } else { EdnsFlags::NONE };
            let edns =
                Edns { payload_size: UDP_SIZE, version: 0, flags, options: EdnsOptions::EMPTY };
            query.edns(edns, None).map_err(|error| error.to_string())?;
        }
        let len = query.finish().map_err(|error| error.to_string())?;
        octets.truncate(len);
        Ok(if is_tcp { framed(&octets) } else { octets })
    }
}

fn framed(octets: &[u8]) -> Vec<u8> {
    let len = u16::try_from(octets.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes()[..], octets].concat()
}

/// Sends what a client sends through the filter.
pub(crate) fn explain(args: &DnsArgs, json: &[u8], talk: &Talk, io: &mut Io<'_>) -> io::Result<()> {
    let metrics = Registry::default();
    let filter = match Filter::new(json, &metrics) {
        Ok(filter) => filter,
        // They were reported before.
        Err(_) => return Ok(()),
    };
    if filter.mode() == Mode::Observe {
        return writeln!(io.out, "mode: observe changes no octet and makes no request");
    }
    let answer = args.common.answer();
    let (limits, client) = (filter.limits(), args.common.client(talk));
    match filter.transport() {
        Transport::Udp => {
            let settings = Rc::new(filter.tunnels(&metrics));
            let drive = Drive::new(limits, client, |_| Hub::new(settings, filter.udp()));
            let caller = tunnel(talk.from);
            datagrams_of(Session { drive: drive.called_by(caller), answer }, talk, io)
        }
        Transport::Tcp | Transport::Tls => {
            let drive = Drive::new(limits, client, |link| filter.stream(link));
            let mut session = Session { drive, answer };
            for message in split(&talk.pieces.concat()) {
                session.exchange(&message, &framed(&message), split, io)?;
            }
            session.end(io)
        }
        Transport::Https => {
            for message in &talk.pieces {
                let (https, bounds) = filter.https();
                let drive = Drive::new(limits.clone(), args.common.client(talk), |_| {
                    HttpServer::new(https, &bounds)
                });
                let caller = post(talk.from, message.len());
                let mut session =
                    Session { drive: drive.called_by(caller), answer: answer.clone() };
                session.exchange(message, message, |got| vec![got.to_vec()], io)?;
            }
            Ok(())
        }
    }
}

fn datagrams_of<P: Protocol>(
    mut session: Session<P>,
    talk: &Talk,
    io: &mut Io<'_>,
) -> io::Result<()> {
    for message in &talk.pieces {
        session.exchange(message, &capsule(message), datagrams, io)?;
    }
    session.end(io)
}

/// The tunnel of `udp_proxy` for this client.
fn tunnel(from: SocketAddr) -> Bridge<Caller> {
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://dns.internal/.well-known/masque/udp/dns.internal/53/")
        .header("capsule-protocol", "?1")
        .header("x-forwarded-for", from.to_string())
        .extension(h2::ext::Protocol::from_static("connect-udp"));
    Caller::bridge(request.body(()).unwrap_or_default(), None)
}

/// A query over HTTPS.
fn post(from: SocketAddr, len: usize) -> Bridge<Caller> {
    let request = Request::builder()
        .method(Method::POST)
        .uri("https://dns.example/dns-query")
        .header("content-type", "application/dns-message")
        .header("content-length", len)
        .header("x-forwarded-for", from.ip().to_string());
    Caller::bridge(request.body(()).unwrap_or_default(), Some(len))
}

struct Session<P> {
    drive: Drive<P>,
    answer: Answer,
}

impl<P: Protocol> Session<P> {
    /// One message of the client's, and all that comes of it; `split` takes apart what it gets.
    fn exchange(
        &mut self,
        message: &[u8],
        native: &[u8],
        split: impl Fn(&[u8]) -> Vec<Vec<u8>>,
        io: &mut Io<'_>,
    ) -> io::Result<()> {
        show::message(io, "the client sends", &describe(message), message)?;
        self.drive.send(native);
        self.answers(message, io)?;
        for exchange in self.drive.exchanges.iter_mut().filter(|exchange| exchange.goes_on) {
            let new = exchange.content.get(exchange.shown..).unwrap_or_default();
            let is_tcp = exchange.header("x-dns-transport") == Some("tcp");
            let messages = if is_tcp { self::split(new) } else { datagrams(new) };
            for message in messages {
                show::message(io, "the DNS server gets", &describe(&message), &message)?;
            }
            exchange.shown = exchange.content.len();
        }
        let got = self.drive.take_got();
        for message in split(&got).iter().filter(|message| !message.is_empty()) {
            show::message(io, "the client gets", &describe(message), message)?;
        }
        Ok(())
    }

    /// Shows what Envoy is asked, and answers: checks and requests as was said, and flows too if there is nothing else.
    fn answers(&mut self, query: &[u8], io: &mut Io<'_>) -> io::Result<()> {
        let mut was_asked = false;
        while let Some(index) = self.drive.exchanges.iter().position(|exchange| !exchange.answered)
        {
            let Some(exchange) = self.drive.exchanges.get(index) else { return Ok(()) };
            let is_flow = exchange.is_flow();
            show::request(io, exchange)?;
            if is_flow {
                writeln!(io.out, "    content: the queries of this flow")?;
            } else {
                show::content(io, &exchange.content)?;
            }
            let mut answer = if is_flow && was_asked { Answer::ok() } else { self.answer.clone() };
            was_asked |= !is_flow;
            let goes_on = is_flow && (200..300).contains(&answer.status);
            if goes_on {
                answer.body.clear();
            }
            let is_made_up =
                exchange.carry() == "request" && answer.status == 200 && answer.body.is_empty();
            if is_made_up && let Some(body) = empty_answer(query) {
                answer.body = body;
                let of = bridge::HeaderValue::from_static("application/dns-message");
                answer.headers.entry("content-type").or_insert(of);
            }
            show::answer(io, &answer)?;
            if is_made_up {
                writeln!(io.out, "    (a DNS message without records, made up here)")?;
            }
            self.drive.answer(index, &answer, goes_on);
        }
        Ok(())
    }

    fn end(&self, io: &mut Io<'_>) -> io::Result<()> {
        if self.drive.is_closed() {
            writeln!(io.out, "the connection is closed")?;
        }
        Ok(())
    }
}

/// What a DoH server may say: its ID is 0, like that of the query it gets.
fn empty_answer(query: &[u8]) -> Option<Vec<u8>> {
    let query = decode(query).ok()?;
    let mut octets = vec![0; 1024];
    let len = Builder::response(&mut octets, &query, Rcode::NOERROR).ok()?.finish().ok()?;
    octets.truncate(len);
    octets.get_mut(..2)?.fill(0);
    Some(octets)
}

/// The messages of a stream; what is not complete is left out.
fn split(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut rest = stream;
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*len));
        let (message, after) = after.split_at_checked(len).unwrap_or((after, &[]));
        messages.push(message.to_vec());
        rest = after;
    }
    messages
}

/// A message in words.
fn describe(octets: &[u8]) -> String {
    match decode(octets) {
        Ok(message) => line(&message),
        Err(error) => format!("no DNS: {error}"),
    }
}

fn line(message: &Message<'_>) -> String {
    let flags = message.header.flags;
    let opcode = flags.opcode().label().to_ascii_uppercase();
    let mut line = format!("{opcode} #{}", message.header.id);
    if flags.is_response() {
        line = format!("answer to {line}, {}", message.rcode().label().to_ascii_uppercase());
    }
    if let Some(question) = message.question() {
        line.push_str(&format!(" {} {}", question.name, question.record_type));
    }
    for (flag, name) in [(Flags::TC, "TC"), (Flags::RD, "RD"), (Flags::AD, "AD"), (Flags::CD, "CD")]
    {
        if flags.has(flag) {
            line.push_str(&format!(", {name}"));
        }
    }
    for record in message.answers() {
        line.push_str(&format!(", {} {} {:?}", record.name, record.record_type, record.data()));
    }
    if let Some(edns) = message.edns() {
        line.push_str(&format!(", EDNS {}", edns.payload_size));
        if edns.flags.has(EdnsFlags::DO) {
            line.push_str(" DO");
        }
        for option in edns.options {
            line.push_str(&match option {
                EdnsOption::ExtendedError(error) => {
                    let text = String::from_utf8_lossy(error.extra_text);
                    format!(", extended error {} ({})", error.info_code.0, text)
                }
                other => format!(", {other:?}"),
            });
        }
    }
    line
}
