//! A DNS server that does what a test says, also what no decent server would do.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use codec_dns::{
    Builder, CharStrings, Class, Decoded, Edns, EdnsOption, EdnsOptions, ExtendedError, Flags,
    InfoCode, Message, NameBuf, Question, Rcode, RecordData, RecordType, Section, Soa, decode,
    frame_tcp, patch,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;

use super::local;
use super::tcp::framed;
use crate::ports::free_port;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A message on a connection.
    Tcp,
}

/// A query that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// QNAME in lower case, with the dot at its end.
    pub name: String,
    /// QTYPE.
    pub record_type: RecordType,
    /// How it came.
    pub transport: Transport,
    /// Where from.
    pub source: SocketAddr,
    /// How many came before for this name, whatever their type and transport.
    pub number: usize,
    /// All of it.
    pub octets: Vec<u8>,
}

impl Asked {
    /// What it says.
    pub fn message(&self) -> Result<Message<'_>> {
        Ok(decode(&self.octets)?)
    }
}

/// What the server does about a query, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Sends this message.
    Send(Vec<u8>),
    /// Sends these octets: over TCP without a length in front. Between one such step and the
    /// next no answer to another query is sent.
    SendRaw(Vec<u8>),
    /// Waits; other queries are served meanwhile.
    Wait(Duration),
    /// Ends the server's side of the connection; over UDP, nothing.
    ShutDown,
}

/// A message over TCP in pieces of so many octets, with a pause after each.
pub fn slowly(message: Vec<u8>, piece: usize, pause: Duration) -> Result<Vec<Step>> {
    let octets = framed(&[message])?;
    let pieces = octets.chunks(piece.max(1));
    Ok(pieces.flat_map(|piece| [Step::SendRaw(piece.to_vec()), Step::Wait(pause)]).collect())
}

type Behaviour = Arc<dyn Fn(&Asked) -> Result<Vec<Step>> + Send + Sync>;

/// The server, over UDP and TCP on one port, in a thread of this process; dropping it ends it.
#[must_use = "it ends when this is dropped"]
pub struct Authority {
    port: u16,
    behaviour: Behaviour,
    asked: Arc<Mutex<Vec<Asked>>>,
    remembers: bool,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Authority {
    /// Starts one that does this about each query: nothing at all, if that is empty. What is not DNS is not answered.
    pub fn start(
        behaviour: impl Fn(&Asked) -> Result<Vec<Step>> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::start_with(behaviour, true)
    }

    /// The same, but it remembers no query, so that a load may last as long as it likes: each is the first one for its name.
    pub fn forgetful(
        behaviour: impl Fn(&Asked) -> Result<Vec<Step>> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::start_with(behaviour, false)
    }

    fn start_with(
        behaviour: impl Fn(&Asked) -> Result<Vec<Step>> + Send + Sync + 'static,
        remembers: bool,
    ) -> Result<Self> {
        let (port, behaviour, asked) = (free_port()?, Arc::new(behaviour), Arc::default());
        let mut authority = Self { port, behaviour, asked, remembers, running: None };
        authority.restart()?;
        Ok(authority)
    }

    /// Starts one that answers each query for an address with this one, for so many seconds, and others with no data.
    pub fn with_address(address: Ipv4Addr, ttl: u32) -> Result<Self> {
        Self::start(move |asked| {
            let reply = Reply::to(asked)?.ttl(ttl);
            let reply = match asked.record_type {
                RecordType::A => reply.a(address),
                _ => reply.soa(ttl),
            };
            Ok(vec![reply.send()?])
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// All queries so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many queries came for this name, in presentation format with the dot at its end.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.asked().iter().filter(|asked| asked.name == name).count()
    }

    /// How many came for it this way.
    #[must_use]
    pub fn count_over(&self, transport: Transport, name: &str) -> usize {
        let asked = self.asked();
        asked.iter().filter(|asked| asked.transport == transport && asked.name == name).count()
    }

    /// Where queries came from this way: over UDP, the sockets of who asks; over TCP, its connections.
    #[must_use]
    pub fn sources(&self, transport: Transport) -> BTreeSet<SocketAddr> {
        let asked = self.asked();
        asked.iter().filter(|asked| asked.transport == transport).map(|it| it.source).collect()
    }

    /// Ends it, with all its connections; the port is kept for a restart.
    pub fn stop(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            // That the other end is gone is what is waited for.
            drop(stop);
            let _ = thread.join();
        }
    }

    /// Starts it again on the same port, if it does not run.
    pub fn restart(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        // Bound before this returns, so that nobody comes too early.
        let udp = std::net::UdpSocket::bind(self.address())?;
        udp.set_nonblocking(true)?;
        let tcp = std::net::TcpListener::bind(self.address())?;
        tcp.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Self { behaviour, asked, remembers, .. } = &*self;
        let (behaviour, asked) = (behaviour.clone(), Arc::clone(asked));
        let desk = Desk { behaviour, asked, remembers: *remembers };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.spawn(serve_udp(udp, desk.clone()));
            runtime.spawn(serve_tcp(tcp, desk));
            // Dropping the runtime ends all that runs in it.
            let _ = runtime.block_on(stopped);
        });
        self.running = Some(Running { stop, thread });
        Ok(())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Clone)]
struct Desk {
    behaviour: Behaviour,
    asked: Arc<Mutex<Vec<Asked>>>,
    remembers: bool,
}

impl Desk {
    /// Notes a query, and says what is to be done.
    fn steps(&self, octets: &[u8], transport: Transport, source: SocketAddr) -> Vec<Step> {
        let Ok(message) = decode(octets) else { return Vec::new() };
        let Some(question) = message.question() else { return Vec::new() };
        let name = question.name.to_string().to_ascii_lowercase();
        let record_type = question.record_type;
        let asked = {
            let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let number = all.iter().filter(|asked| asked.name == name).count();
            let octets = octets.to_vec();
            let asked = Asked { name, record_type, transport, source, number, octets };
            if self.remembers {
                all.push(asked.clone());
            }
            asked
        };
        (self.behaviour)(&asked).unwrap_or_else(|error| {
            eprintln!("the server cannot answer {asked:?}: {error:#}");
            Vec::new()
        })
    }
}

async fn serve_udp(socket: std::net::UdpSocket, desk: Desk) {
    let Ok(socket) = UdpSocket::from_std(socket) else { return };
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 65_536];
    loop {
        // An error is that an earlier client is gone.
        let Ok((length, source)) = socket.recv_from(&mut buffer).await else { continue };
        let octets = buffer.get(..length).unwrap_or_default();
        let steps = desk.steps(octets, Transport::Udp, source);
        let socket = Arc::clone(&socket);
        let answer = async move {
            for step in steps {
                match step {
                    Step::Send(octets) | Step::SendRaw(octets) => {
                        // A client that is gone needs no answer.
                        let _ = socket.send_to(&octets, source).await;
                    }
                    Step::Wait(time) => tokio::time::sleep(time).await,
                    Step::ShutDown => {}
                }
            }
        };
        tokio::spawn(answer);
    }
}

async fn serve_tcp(listener: std::net::TcpListener, desk: Desk) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, source)) = listener.accept().await else { continue };
        // Pieces are to be pieces.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        let writer = Arc::new(tokio::sync::Mutex::new(writer));
        tokio::spawn(serve_connection(reader, writer, source, desk.clone()));
    }
}

type Writer = Arc<tokio::sync::Mutex<OwnedWriteHalf>>;

async fn serve_connection(
    mut reader: OwnedReadHalf,
    writer: Writer,
    source: SocketAddr,
    desk: Desk,
) {
    let mut received = Vec::new();
    loop {
        while let Ok(Decoded::Complete { message, consumed }) = frame_tcp(&received, u16::MAX) {
            let steps = desk.steps(message, Transport::Tcp, source);
            received.drain(..consumed);
            let writer = Arc::clone(&writer);
            // Answers may overtake one another (RFC 7766 §7).
            tokio::spawn(async move {
                // A client that is gone needs no answer.
                let _ = write(&writer, steps).await;
            });
        }
        match reader.read_buf(&mut received).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

async fn write(writer: &Writer, steps: Vec<Step>) -> Result<()> {
    // Held as long as somebody else's octets would come between these.
    let mut held = None;
    for step in steps {
        let (octets, is_raw) = match step {
            Step::Wait(time) => {
                tokio::time::sleep(time).await;
                continue;
            }
            Step::ShutDown => (None, false),
            Step::Send(octets) => (Some(framed(&[octets])?), false),
            Step::SendRaw(octets) => (Some(octets), true),
        };
        let mut guard = match held.take() {
            Some(guard) => guard,
            None => writer.lock().await,
        };
        match octets {
            Some(octets) => guard.write_all(&octets).await?,
            None => guard.shutdown().await?,
        }
        held = is_raw.then_some(guard);
    }
    Ok(())
}

/// A response about to be sent: authoritative, NOERROR, with the query's ID and question, and with EDNS if the query has
/// it, unless something else is said. Its records have the
/// question's name.
#[derive(Debug, Clone)]
pub struct Reply {
    query: Vec<u8>,
    id: u16,
    name: NameBuf,
    flags: Flags,
    rcode: Rcode,
    ttl: u32,
    answers: Vec<Data>,
    soa: Option<u32>,
    error: Option<(InfoCode, String)>,
}

#[derive(Debug, Clone)]
enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(Box<NameBuf>),
    /// The strings as they are sent.
    Txt(Vec<u8>),
    Other(RecordType, Vec<u8>),
}

impl Reply {
    /// An empty one; its TTL is 300 seconds.
    pub fn to(asked: &Asked) -> Result<Self> {
        let query = asked.message()?;
        let question = query.question().context("no question")?;
        Ok(Self {
            query: asked.octets.clone(),
            id: query.header.id,
            name: question.name.into(),
            flags: Flags::AA,
            rcode: Rcode::NOERROR,
            ttl: 300,
            answers: Vec::new(),
            soa: None,
            error: None,
        })
    }

    /// With another ID than the query has.
    #[must_use]
    pub fn wrong_id(mut self) -> Self {
        self.id = !self.id;
        self
    }

    /// As if this had been asked: another name, or the same with its letters in another case.
    pub fn question(mut self, name: &str) -> Result<Self> {
        self.name = NameBuf::from_text(name)?;
        Ok(self)
    }

    /// With this response code.
    #[must_use]
    pub fn rcode(mut self, rcode: Rcode) -> Self {
        self.rcode = rcode;
        self
    }

    /// With these flags too.
    #[must_use]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags = self.flags.with(flags);
        self
    }

    /// With TC.
    #[must_use]
    pub fn truncated(self) -> Self {
        self.flags(Flags::TC)
    }

    /// All records live for so many seconds.
    #[must_use]
    pub fn ttl(mut self, ttl: u32) -> Self {
        self.ttl = ttl;
        self
    }

    /// With one more IPv4 address.
    #[must_use]
    pub fn a(self, address: impl Into<Ipv4Addr>) -> Self {
        self.data(Data::A(address.into()))
    }

    /// With one more IPv6 address.
    #[must_use]
    pub fn aaaa(self, address: impl Into<Ipv6Addr>) -> Self {
        self.data(Data::Aaaa(address.into()))
    }

    /// With a CNAME to this name, which the records after it have.
    pub fn cname(self, target: &str) -> Result<Self> {
        Ok(self.data(Data::Cname(Box::new(NameBuf::from_text(target)?))))
    }

    /// With one more text of so many octets.
    #[must_use]
    pub fn text(self, octets: usize) -> Self {
        let text = vec![b'x'; octets];
        let strings = text.chunks(255).flat_map(|chunk| {
            let length = u8::try_from(chunk.len()).unwrap_or(u8::MAX);
            std::iter::once(length).chain(chunk.iter().copied())
        });
        self.data(Data::Txt(strings.collect()))
    }

    /// With one more record of any type.
    #[must_use]
    pub fn other(self, record_type: RecordType, octets: &[u8]) -> Self {
        self.data(Data::Other(record_type, octets.to_vec()))
    }

    /// With an SOA in the authority section, as negative answers have it: with this MINIMUM (RFC 2308 §5).
    #[must_use]
    pub fn soa(mut self, minimum: u32) -> Self {
        self.soa = Some(minimum);
        self
    }

    /// With an extended error; it needs EDNS in the query.
    #[must_use]
    pub fn extended_error(mut self, code: InfoCode, text: &str) -> Self {
        self.error = Some((code, text.to_owned()));
        self
    }

    fn data(mut self, data: Data) -> Self {
        self.answers.push(data);
        self
    }

    /// The message.
    pub fn octets(&self) -> Result<Vec<u8>> {
        let query = decode(&self.query)?;
        let asked = query.question().context("no question")?;
        let mut out = vec![0; 65_535];
        let mut message = Builder::new(&mut out, self.id, query.header.response(self.rcode).flags)?;
        message.set_rcode(self.rcode);
        message.set_flags(self.flags);
        let name = self.name.as_name();
        message.question(&Question { name, ..asked })?;
        let mut owner = name;
        for data in &self.answers {
            let strings;
            let record = match data {
                Data::A(address) => RecordData::A(*address),
                Data::Aaaa(address) => RecordData::Aaaa(*address),
                Data::Cname(target) => RecordData::Cname(target.as_name()),
                Data::Txt(octets) => {
                    strings = CharStrings::new(octets).context("an empty text")?;
                    RecordData::Txt(strings)
                }
                Data::Other(record_type, octets) => {
                    RecordData::Other { record_type: *record_type, octets }
                }
            };
            message.record(Section::Answer, owner, Class::IN, self.ttl, &record)?;
            if let Data::Cname(target) = data {
                owner = target.as_name();
            }
        }
        if let Some(minimum) = self.soa {
            let soa = Soa {
                mname: name,
                rname: name,
                serial: 1,
                refresh: 3600,
                retry: 600,
                expire: 86_400,
                minimum,
            };
            let soa = RecordData::Soa(soa);
            message.record(Section::Authority, name, Class::IN, self.ttl, &soa)?;
        }
        let error = self.error.as_ref().map(|(info_code, text)| {
            EdnsOption::ExtendedError(ExtendedError {
                info_code: *info_code,
                extra_text: text.as_bytes(),
            })
        });
        if query.edns().is_some() {
            let options = EdnsOptions::from(error.as_slice());
            message.edns(Edns { options, ..Edns::new(1232) }, None)?;
        }
        let length = message.finish()?;
        out.truncate(length);
        Ok(out)
    }

    /// The step that sends it.
    pub fn send(&self) -> Result<Step> {
        Ok(Step::Send(self.octets()?))
    }
}

/// The query itself as if it were the response: with QR, and nothing answered.
pub fn echoed(asked: &Asked) -> Result<Vec<u8>> {
    let mut octets = asked.octets.clone();
    let flags = asked.message()?.header.flags;
    patch::set_flags(&mut octets, flags.with(Flags::QR))?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::super::query::Query;
    use super::super::{tcp, udp};
    use super::*;

    const QUIET: Duration = Duration::from_millis(60);

    fn query(name: &str) -> Query {
        Query::new(name, RecordType::A).unwrap()
    }

    #[test]
    fn queries_are_answered_and_counted_over_both_transports() {
        let server = Authority::with_address([192, 0, 2, 1].into(), 60).unwrap();
        let client = udp::Client::connect(server.address()).unwrap();
        let answer = client.ask(&query("A.example").dnssec_ok()).unwrap();
        assert_eq!(answer.a().unwrap(), [Ipv4Addr::new(192, 0, 2, 1)]);
        assert_eq!(answer.ttls().unwrap(), [60]);
        let mut client = tcp::Client::connect(server.address()).unwrap();
        let queries: Vec<Query> = (0..20).map(|_| query("b.example")).collect();
        assert_eq!(client.ask_all(&queries).unwrap().len(), 20);
        assert_eq!((server.count("a.example."), server.count("b.example.")), (1, 20));
        assert_eq!(server.count_over(Transport::Udp, "b.example."), 0);
        assert_eq!(server.sources(Transport::Tcp).len(), 1);
    }

    #[test]
    fn it_does_what_it_is_told() {
        let server = Authority::start(|asked| {
            let reply = Reply::to(asked)?;
            Ok(match asked.name.as_str() {
                "nothing." => vec![],
                "twice." => vec![reply.send()?, Step::Wait(QUIET), reply.send()?],
                "wrong-id." => vec![reply.wrong_id().send()?],
                "garbage." => vec![Step::SendRaw(b"garbage".to_vec())],
                _ => vec![reply.text(5_000).send()?],
            })
        });
        let server = server.unwrap();
        let client = udp::Client::connect(server.address()).unwrap();
        client.send(&query("nothing").octets().unwrap()).unwrap();
        assert!(client.is_quiet_for(QUIET).unwrap());
        client.ask(&query("twice")).unwrap();
        client.receive().unwrap();
        assert!(client.ask(&query("wrong-id")).is_err());
        client.send(&query("garbage").octets().unwrap()).unwrap();
        assert_eq!(client.receive().unwrap().0, b"garbage");
        assert_eq!(client.ask(&query("large")).unwrap().texts().unwrap(), ["x".repeat(5_000)]);
    }

    #[test]
    fn a_slow_server_ends_its_side_when_it_is_done() {
        let server = Authority::start(|asked| {
            let message = Reply::to(asked)?.a([192, 0, 2, 2]).octets()?;
            let mut steps = slowly(message, 10, Duration::from_millis(5))?;
            steps.push(Step::ShutDown);
            Ok(steps)
        });
        let server = server.unwrap();
        let mut client = tcp::Client::connect(server.address()).unwrap();
        assert_eq!(client.ask(&query("slow")).unwrap().a().unwrap().len(), 1);
        assert_eq!(client.next_within(crate::PATIENCE).unwrap(), tcp::Next::End);
    }

    #[test]
    fn it_comes_back_on_the_same_port() {
        let mut server = Authority::with_address([192, 0, 2, 1].into(), 60).unwrap();
        let mut before = tcp::Client::connect(server.address()).unwrap();
        before.ask(&query("a")).unwrap();
        server.stop();
        assert_eq!(before.next_within(crate::PATIENCE).unwrap(), tcp::Next::End);
        assert!(tcp::Client::connect(server.address()).is_err());
        server.restart().unwrap();
        tcp::Client::connect(server.address()).unwrap().ask(&query("a")).unwrap();
        udp::Client::connect(server.address()).unwrap().ask(&query("a")).unwrap();
        assert_eq!(server.count("a."), 3);
    }
}
