//! Answers as a client gets them.

use std::num::NonZeroU16;

use codec_dns::{
    Builder, ClientSubnet, Cookie, Edns, EdnsFlags, EdnsOption, EdnsOptions, EncodeError,
    ExtendedError, Flags, InfoCode, Message, OptionCode, Rcode, RecordData, Section,
};
use dns_cache::ExtendedErrors;

/// Responses to padded queries are filled up to a multiple of so many octets (RFC 8467 §4.1).
const BLOCK: NonZeroU16 = NonZeroU16::new(468).unwrap();
/// More octets than an OPT record takes with all that the filter may put into it, padding included.
const MAX_OPT: usize = 1024;
/// As many options of an answer are taken over.
const MAX_OPTIONS: usize = 16;
/// The longest text of an extended error, in octets.
pub(crate) const MAX_EXTRA_TEXT: usize = 128;

/// Options of an OPT record that is being put together; more than there is room for are left out.
struct OptionList<'a> {
    options: [EdnsOption<'a>; MAX_OPTIONS],
    len: usize,
}

impl<'a> OptionList<'a> {
    fn new() -> Self {
        Self { options: [EdnsOption::Padding(&[]); MAX_OPTIONS], len: 0 }
    }

    fn push(&mut self, option: EdnsOption<'a>) {
        if let Some(place) = self.options.get_mut(self.len) {
            *place = option;
            self.len += 1;
        }
    }

    fn options(&self) -> EdnsOptions<'_> {
        EdnsOptions::from(self.options.get(..self.len).unwrap_or_default())
    }
}

/// Whether an option goes on to the other side: what is hop by hop does not, nor what is the filter's own.
fn passes(option: &EdnsOption<'_>, owns_cookies: bool, owns_subnet: bool) -> bool {
    match option.code() {
        OptionCode::TCP_KEEPALIVE | OptionCode::PADDING => false,
        OptionCode::COOKIE => !owns_cookies,
        OptionCode::CLIENT_SUBNET => !owns_subnet,
        _ => true,
    }
}

/// Why the filter says what it says (RFC 8914).
pub(crate) type Reason<'a> = (InfoCode, &'a [u8]);

/// What the filter has to say to a client besides the answer itself.
#[derive(Debug)]
pub(crate) struct Shape<'a> {
    /// The client's query.
    pub(crate) query: &'a Message<'a>,
    /// The longest answer it can be sent, in octets.
    pub(crate) limit: usize,
    /// The longest query that is taken over UDP, in octets.
    pub(crate) payload_size: u16,
    /// Nobody on the way sees the answer.
    pub(crate) is_encrypted: bool,
    /// How long an idle connection is kept, in units of 100 milliseconds (RFC 7828 §3.1).
    pub(crate) keepalive: Option<u16>,
    /// Cookies are the filter's own: the one to send, and that the server's are not passed on.
    pub(crate) cookie: Option<[u8; 24]>,
    pub(crate) owns_cookies: bool,
    /// The client subnet is the filter's own.
    pub(crate) owns_subnet: bool,
    /// The scope of a cached answer, for a client that sent a subnet.
    pub(crate) subnet: Option<ClientSubnet>,
    /// Why it is as it is.
    pub(crate) reason: Option<Reason<'a>>,
    /// What the server said about that, where the answer is from the cache.
    pub(crate) errors: Option<ExtendedErrors<'a>>,
}

impl<'a> Shape<'a> {
    pub(crate) fn new(query: &'a Message<'a>, limit: usize, payload_size: u16) -> Self {
        Self {
            query,
            limit,
            payload_size,
            is_encrypted: false,
            keepalive: None,
            cookie: None,
            owns_cookies: false,
            owns_subnet: false,
            subnet: None,
            reason: None,
            errors: None,
        }
    }

    /// Whether an answer with this OPT record can go to the client as it is.
    fn fits(&self, answer: Option<Edns<'_>>) -> bool {
        let Some(query) = self.query.edns() else { return answer.is_none() };
        let says_something = self.keepalive.is_some()
            || self.cookie.is_some()
            || self.subnet.is_some()
            || self.reason.is_some()
            || self.errors.is_some()
            || self.pads(&query);
        let Some(answer) = answer else { return false };
        !says_something && answer.options.iter().all(|option| self.passes(&option))
    }

    /// Whether a server's option is for the client.
    fn passes(&self, option: &EdnsOption<'_>) -> bool {
        passes(option, self.owns_cookies, self.owns_subnet)
    }

    fn pads(&self, query: &Edns<'_>) -> bool {
        let is_padding = |option: EdnsOption<'_>| option.code() == OptionCode::PADDING;
        self.is_encrypted && query.options.iter().any(is_padding)
    }

    /// Adds the OPT record, if the client speaks EDNS.
    fn edns<'b>(
        &'b self,
        builder: &mut Builder<'b>,
        server: Option<Edns<'b>>,
        options: &'b mut OptionList<'b>,
    ) -> Result<(), EncodeError> {
        let Some(query) = self.query.edns() else { return Ok(()) };
        if let Some(cookie) = &self.cookie
            && let Some((client, server)) = cookie.split_first_chunk()
        {
            options.push(EdnsOption::Cookie(Cookie { client: *client, server }));
        }
        if let Some(keepalive) = self.keepalive {
            options.push(EdnsOption::TcpKeepalive(Some(keepalive)));
        }
        if let Some(subnet) = self.subnet {
            options.push(EdnsOption::ClientSubnet(subnet));
        }
        if let Some((info_code, extra_text)) = self.reason {
            options.push(EdnsOption::ExtendedError(ExtendedError { info_code, extra_text }));
        }
        for error in self.errors.iter().flat_map(Clone::clone) {
            options.push(EdnsOption::ExtendedError(error));
        }
        if let Some(server) = server {
            for option in server.options.iter().filter(|option| self.passes(option)) {
                options.push(option);
            }
        }
        let flags = server.map_or(EdnsFlags(query.flags.0 & EdnsFlags::DO.0), |edns| edns.flags);
        let edns =
            Edns { payload_size: self.payload_size, version: 0, flags, options: options.options() };
        builder.edns(edns, self.pads(&query).then_some(BLOCK))
    }

    /// Writes a server's answer as the client gets it, or says that it gets it as it is.
    pub(crate) fn relay(&self, answer: &Message<'_>, out: &mut Vec<u8>) -> Relayed {
        let octets = answer.octets();
        let server = answer.edns();
        if octets.len() <= self.limit && (answer.is_signed() || self.fits(server)) {
            return Relayed::AsItIs;
        }
        if octets.len() <= self.limit + MAX_OPT && !answer.is_signed() {
            out.clear();
            out.resize((octets.len() + MAX_OPT).min(self.limit), 0);
            let mut options = OptionList::new();
            let written = Builder::again(out, answer).and_then(|mut again| {
                self.edns(&mut again, server, &mut options)?;
                // Without EDNS there is no place for more than four bits.
                if self.query.edns().is_none() && answer.rcode().0 > 15 {
                    again.set_rcode(Rcode::SERVFAIL);
                }
                again.finish()
            });
            if let Ok(len) = written {
                out.truncate(len);
                return Relayed::Written;
            }
        }
        match self.truncate(answer.header.flags, out) {
            Ok(()) => Relayed::Truncated,
            Err(_) => Relayed::Impossible,
        }
    }

    /// Writes an answer without records that asks the client to come over TCP.
    pub(crate) fn truncate(&self, flags: Flags, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.write(flags.with(Flags::TC), out, |_| Ok(()))
    }

    /// Writes an answer without records.
    pub(crate) fn error(&self, rcode: Rcode, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let flags = self.flags().with_low_rcode(rcode);
        self.write(flags, out, |builder| {
            builder.set_rcode(rcode);
            Ok(())
        })
    }

    /// Writes the answer to a query for all types that says as little as possible (RFC 8482 §4.2).
    pub(crate) fn minimal_any(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        const TTL: u32 = 3600;
        let Some(question) = self.query.question() else { return Err(EncodeError::Full) };
        let hinfo = RecordData::Hinfo { cpu: b"RFC8482", os: b"" };
        self.write(self.flags(), out, |builder| {
            builder.record(Section::Answer, question.name, question.class, TTL, &hinfo)
        })
    }

    /// Those of an answer of the filter's own.
    fn flags(&self) -> Flags {
        self.query.header.response(Rcode::NOERROR).flags.with(Flags::RA)
    }

    fn write(
        &self,
        flags: Flags,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Builder<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        out.clear();
        out.resize(self.limit.min(MAX_OPT + 512), 0);
        let mut options = OptionList::new();
        let id = self.query.header.id;
        let mut builder = Builder::new(out, id, flags)?;
        for question in self.query.questions() {
            builder.question(&question)?;
        }
        fill(&mut builder)?;
        self.edns(&mut builder, None, &mut options)?;
        let len = builder.finish()?;
        out.truncate(len);
        Ok(())
    }
}

/// How an answer goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// As the server sent it.
    AsItIs,
    /// As it was written.
    Written,
    /// Without its records, as it was written.
    Truncated,
    /// Not at all.
    Impossible,
}

/// A query as it goes on, if it has to be another one.
pub(crate) struct Outgoing {
    /// The longest answer over UDP that may be asked for, in octets.
    pub(crate) payload_size: u16,
    /// Cookies are the filter's own.
    pub(crate) owns_cookies: bool,
    /// What becomes of the client subnet.
    pub(crate) subnet: Subnet,
}

/// What becomes of a query's client subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subnet {
    Pass,
    Strip,
    Set(ClientSubnet),
}

impl Outgoing {
    fn passes(&self, option: &EdnsOption<'_>) -> bool {
        passes(option, self.owns_cookies, self.subnet != Subnet::Pass)
    }

    /// The octets of the other query; none if it goes on as it is.
    pub(crate) fn write(&self, query: &Message<'_>) -> Option<Vec<u8>> {
        let edns = query.edns();
        let unchanged = match edns {
            Some(edns) => {
                !matches!(self.subnet, Subnet::Set(_))
                    && edns.payload_size <= self.payload_size
                    && edns.options.iter().all(|option| self.passes(&option))
            }
            None => !matches!(self.subnet, Subnet::Set(_)),
        };
        if unchanged || query.is_signed() {
            return None;
        }
        let mut options = OptionList::new();
        if let Subnet::Set(subnet) = self.subnet {
            options.push(EdnsOption::ClientSubnet(subnet));
        }
        for option in edns.iter().flat_map(|edns| edns.options.iter()) {
            if self.passes(&option) {
                options.push(option);
            }
        }
        let payload_size = edns.map_or(self.payload_size, |edns| edns.payload_size);
        let edns = Edns {
            payload_size: payload_size.min(self.payload_size),
            version: 0,
            flags: edns.map_or(EdnsFlags::NONE, |edns| edns.flags),
            options: options.options(),
        };
        let mut out = vec![0; query.octets().len() + MAX_OPT];
        let mut again = Builder::again(&mut out, query).ok()?;
        again.edns(edns, None).ok()?;
        let len = again.finish().ok()?;
        out.truncate(len);
        Some(out)
    }
}
