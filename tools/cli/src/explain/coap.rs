//! CoAP messages: typed by hand, told from octets, and sent through the filter.

use std::io;

use bridge::HeaderMap;
use bridge::metrics::Registry;
use clap::Args;
use codec_coap::{
    CoapOption, Code, Decoded, Message, MessageType, OptionNumber, OptionValue, Options,
    TcpMessage, decode, decode_tcp, frame_tcp, uri,
};
use filter_coap::config::Mode;
use filter_coap::{Client, Filter};
use tunnels::datagram;

use super::capture::Talk;
use super::drive::{Answer, Drive};
use super::{Common, hex, show};
use crate::terminal::Io;

/// A CoAP message
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    beyond-http explain coap GET coap://host/a/b?x=1\n  \
    beyond-http explain coap PUT coap://host/config/led --payload on --config envoy.yaml --status 403\n  \
    beyond-http explain coap GET coap://host/temp --observe 0 --non --token 01ff\n  \
    beyond-http explain coap --hex '40 01 00 01 b1 61'\n  \
    beyond-http explain coap --transport tcp --pcap session.pcapng")]
pub(crate) struct CoapArgs {
    /// GET, POST, PUT, DELETE, FETCH, PATCH or iPATCH, and a URI
    #[arg(value_name = "METHOD URI", num_args = 2, conflicts_with_all = ["hex", "pcap"])]
    words: Vec<String>,
    /// A non-confirmable message
    #[arg(long)]
    non: bool,
    /// The token, in hexadecimal digits
    #[arg(long, default_value = "01", value_name = "HEX")]
    token: String,
    /// The message ID
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    message_id: u16,
    /// Observe: 0 to begin, 1 to end
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=1))]
    observe: Option<u32>,
    /// Content-Format by its number, such as 50 for JSON
    #[arg(long, value_name = "NUMBER")]
    content_format: Option<u16>,
    /// Accept by its number
    #[arg(long, value_name = "NUMBER")]
    accept: Option<u16>,
    /// Content of the message
    #[arg(long, default_value = "")]
    payload: String,
    /// How the message comes [default: as the configuration says, else udp]
    #[arg(long, value_name = "TRANSPORT", value_parser = ["udp", "tcp"])]
    pub(crate) transport: Option<String>,
    #[command(flatten)]
    pub(crate) common: Common,
}

const METHODS: [(&str, Code); 7] = [
    ("GET", Code::GET),
    ("POST", Code::POST),
    ("PUT", Code::PUT),
    ("DELETE", Code::DELETE),
    ("FETCH", Code::FETCH),
    ("PATCH", Code::PATCH),
    ("iPATCH", Code::IPATCH),
];

impl CoapArgs {
    /// What the words say.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub(crate) fn typed(&self, is_tcp: bool) -> Result<Vec<u8>, String> {
        let [method, uri] = &*self.words else {
            return Err("wants a method and a URI; or --hex or --pcap".to_owned());
        };
        let known = METHODS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(method));
        let (_, code) = known.ok_or_else(|| format!("knows no method {method}"))?;
        let token = hex::parse(&self.token).map_err(|error| format!("--token {error}"))?;
        let mut buffer = vec![0; uri.len() + 64];
        let uri = uri::Uri::parse(uri).map_err(|error| format!("{uri}: {error}"))?;
        let of_uri = uri.options(None, &mut buffer).map_err(|error| error.to_string())?;
        let mut options: Vec<CoapOption<'_>> = of_uri.iter().collect();
        let numbers = [
            (OptionNumber::OBSERVE, self.observe),
            (OptionNumber::CONTENT_FORMAT, self.content_format.map(u32::from)),
            (OptionNumber::ACCEPT, self.accept.map(u32::from)),
        ];
        options.extend(
            numbers.into_iter().filter_map(|(number, value)| Some(CoapOption::new(number, value?))),
        );
        options.sort_by_key(|option| option.number);
        let options = Options::from(&*options);
        let (token, payload) = (&*token, self.payload.as_bytes());
        if is_tcp {
            return on_tcp(&TcpMessage { code, token, options, payload });
        }
        let message_type =
            if self.non { MessageType::NonConfirmable } else { MessageType::Confirmable };
        let message =
            Message { message_type, code, message_id: self.message_id, token, options, payload };
        let mut octets = vec![0; message.encoded_len().map_err(|error| error.to_string())?];
        message.encode(&mut octets).map_err(|error| error.to_string())?;
        Ok(octets)
    }
}

fn on_tcp(message: &TcpMessage<'_>) -> Result<Vec<u8>, String> {
    let mut octets = vec![0; message.encoded_len().map_err(|error| error.to_string())?];
    message.encode(&mut octets).map_err(|error| error.to_string())?;
    Ok(octets)
}

/// Sends what a client sends through the filter.
pub(crate) fn explain(
    args: &CoapArgs,
    json: &[u8],
    talk: &Talk,
    io: &mut Io<'_>,
) -> io::Result<()> {
    let filter = match Filter::new(json, &Registry::default()) {
        Ok(filter) => filter,
        // They were reported before.
        Err(_) => return Ok(()),
    };
    match filter.mode() {
        Mode::Bridge => {}
        Mode::Observe => {
            return writeln!(io.out, "mode: observe changes no octet and makes no request");
        }
        Mode::Egress => {
            return writeln!(
                io.out,
                "mode: egress serves HTTP clients: no CoAP client sends it messages"
            );
        }
    }
    let is_tcp = talk.is_tcp;
    let client = Client { address: Some(talk.from), headers: HeaderMap::new() };
    let drive =
        Drive::new(filter.limits(), args.common.client(talk), |link| filter.carry(link, client));
    let mut session = Session { drive, is_tcp, answer: args.common.answer() };
    let messages = if is_tcp { split(&talk.pieces.concat(), true) } else { talk.pieces.clone() };
    if is_tcp && !messages.first().is_some_and(|first| is_csm(first)) {
        let csm = TcpMessage { code: Code::CSM, token: &[], options: Options::EMPTY, payload: &[] };
        session.drive.send(&on_tcp(&csm).unwrap_or_default());
        session.drive.take_got();
    }
    for message in &messages {
        show::message(io, "the client sends", &describe(message, is_tcp), message)?;
        if is_tcp {
            session.drive.send(message);
        } else {
            session.drive.send(&capsule(message));
        }
        session.answers(io)?;
        session.results(io)?;
        if session.drive.is_closed() {
            writeln!(io.out, "the session is closed")?;
            break;
        }
    }
    Ok(())
}

fn is_csm(message: &[u8]) -> bool {
    matches!(decode_tcp(message), Ok(Decoded::Complete { message, .. }) if message.code == Code::CSM)
}

/// A datagram in its capsule.
pub(super) fn capsule(octets: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    // Nothing is written where it is too long for a datagram.
    datagram::write(&mut stream, octets.len(), |out| {
        out.extend_from_slice(octets);
        true
    });
    stream
}

struct Session<P> {
    drive: Drive<P>,
    is_tcp: bool,
    answer: Answer,
}

impl<P: bridge::Protocol> Session<P> {
    /// Shows what Envoy is asked, and answers: checks and requests as was said, and flows too if there is nothing else.
    fn answers(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let mut was_asked = false;
        while let Some(index) = self.drive.exchanges.iter().position(|exchange| !exchange.answered)
        {
            let Some(exchange) = self.drive.exchanges.get(index) else { return Ok(()) };
            let is_flow = exchange.is_flow();
            show::request(io, exchange)?;
            if is_flow {
                writeln!(io.out, "    content: the messages of this flow")?;
            } else {
                show::content(io, &exchange.content)?;
            }
            let answer = if is_flow && was_asked { Answer::ok() } else { self.answer.clone() };
            was_asked |= !is_flow;
            show::answer(io, &answer)?;
            let goes_on = is_flow && (200..300).contains(&answer.status);
            let answer = if goes_on { Answer { body: Vec::new(), ..answer } } else { answer };
            self.drive.answer(index, &answer, goes_on);
        }
        Ok(())
    }

    /// Shows what servers and the client get.
    fn results(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        for exchange in self.drive.exchanges.iter_mut().filter(|exchange| exchange.goes_on) {
            let new = exchange.content.get(exchange.shown..).unwrap_or_default().to_vec();
            exchange.shown = exchange.content.len();
            for message in split(&new, self.is_tcp) {
                show::message(
                    io,
                    "the CoAP server gets",
                    &describe(&message, self.is_tcp),
                    &message,
                )?;
            }
        }
        let got = self.drive.take_got();
        for message in split(&got, self.is_tcp) {
            show::message(io, "the client gets", &describe(&message, self.is_tcp), &message)?;
        }
        Ok(())
    }
}

/// The messages of a stream: in capsules, or over TCP. What is not complete is the last one.
fn split(stream: &[u8], is_tcp: bool) -> Vec<Vec<u8>> {
    if !is_tcp {
        return datagrams(stream);
    }
    let mut messages = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let len = match frame_tcp(rest, u32::MAX) {
            Ok(Decoded::Complete { message, .. }) => message.len().min(rest.len()),
            _ => rest.len(),
        };
        let (message, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        messages.push(message.to_vec());
        rest = after;
    }
    messages
}

/// The datagrams in capsules.
pub(super) fn datagrams(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    let mut rest = stream;
    loop {
        let len = match datagram::next(rest) {
            datagram::Next::Datagram { from, len } => {
                datagrams.push(rest.get(from..len).unwrap_or_default().to_vec());
                len
            }
            datagram::Next::Nothing(len) => len,
            datagram::Next::Incomplete | datagram::Next::Malformed => return datagrams,
        };
        rest = rest.get(len..).unwrap_or_default();
    }
}

/// A message in words.
fn describe(octets: &[u8], is_tcp: bool) -> String {
    if is_tcp {
        return match decode_tcp(octets) {
            Ok(Decoded::Complete { message, .. }) => {
                let TcpMessage { code, token, options, payload } = message;
                line("", code, token, &options, payload)
            }
            Ok(Decoded::Incomplete { .. }) => "the beginning of a message".to_owned(),
            Err(error) => format!("no CoAP: {error}"),
        };
    }
    match decode(octets) {
        Ok(Message { message_type, code, message_id, token, options, payload }) => {
            let kind = format!("{} #{message_id} ", message_type.label().to_ascii_uppercase());
            line(&kind, code, token, &options, payload)
        }
        Err(error) => format!("no CoAP: {error}"),
    }
}

fn line(kind: &str, code: Code, token: &[u8], options: &Options<'_>, payload: &[u8]) -> String {
    let method = METHODS.into_iter().find(|(_, known)| *known == code);
    let name = match method {
        Some((name, _)) => name.to_owned(),
        None => format!("{}.{:02} {}", code.class(), code.detail(), code.label().replace('_', " ")),
    };
    let mut line = format!("{kind}{name}");
    if !token.is_empty() {
        line.push_str(&format!(", token {}", hex::joined(token)));
    }
    for option in options.iter() {
        let number = option.number;
        let value = match option.value {
            OptionValue::Empty => String::new(),
            OptionValue::Uint(value) => format!(" {value}"),
            OptionValue::String(text) => format!(" {:?}", text.as_str()),
            OptionValue::Opaque(octets) => format!(" {}", hex::joined(octets)),
        };
        // Numbers mean something else in signaling messages.
        let name = if code.is_signaling() { number.0.to_string() } else { number.to_string() };
        line.push_str(&format!(", {name}{value}"));
    }
    if !payload.is_empty() {
        let text = hex::readable(payload).map(|text| format!(": {text}")).unwrap_or_default();
        line.push_str(&format!(", {}{text}", show::count(payload.len())));
    }
    line
}
