//! Which answers may be kept, for how long, and in which octets.

use codec_dns::{
    Builder, Class, ClientSubnet, EdnsOption, EncodeError, Flags, Message, Opcode, Rcode,
    RecordData, RecordType, Section,
};

use crate::asked::Asked;
use crate::limits::{Limits, seconds};
use crate::network::Network;

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// It is kept.
    Yes,
    /// It is no response to a query.
    NotAnAnswer,
    /// Records are missing in it (TC).
    Truncated,
    /// Its signature is good for one message (RFC 8945 §5.3, RFC 2931 §3).
    Signed,
    /// It answers another question.
    OtherQuestion,
    /// It is for another subnet than it was asked for, which forged answers are (RFC 7871 §7.3).
    OtherSubnet,
    /// A question for more or less than records of one type and class (RFC 6895 §3.1, §3.2).
    MetaType,
    /// A response code that says nothing about the name.
    OtherRcode(Rcode),
    /// It leads to other servers.
    Referral,
    /// A negative answer without an SOA record, which would say for how long it holds (RFC 2308 §5).
    NoSoa,
    /// It holds for this once only (RFC 1035 §3.2.1).
    ZeroTtl,
    /// It is larger than an answer may be.
    TooLarge,
    /// A failure, and failures are not kept.
    Failure,
    /// A failure where there is an answer, which is kept (RFC 8767 §5).
    FailureWithAnswer,
}

impl Stored {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Yes => "stored",
            Self::NotAnAnswer => "not_an_answer",
            Self::Truncated => "truncated",
            Self::Signed => "signed",
            Self::OtherQuestion => "other_question",
            Self::OtherSubnet => "other_subnet",
            Self::MetaType => "meta_type",
            Self::OtherRcode(_) => "other_rcode",
            Self::Referral => "referral",
            Self::NoSoa => "no_soa",
            Self::ZeroTtl => "zero_ttl",
            Self::TooLarge => "too_large",
            Self::Failure => "failure",
            Self::FailureWithAnswer => "failure_with_answer",
        }
    }
}

/// An answer that says something about what was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// Records.
    Positive,
    /// That there is no such name, or no such record; SOA MINIMUM, if there is an SOA record.
    Negative(Option<u32>),
    /// Nothing: SERVFAIL.
    Failure,
}

impl Answer {
    /// What the answer says.
    pub(crate) fn read(asked: &Asked<'_>, answer: &Message<'_>) -> Result<Self, Stored> {
        let flags = answer.header.flags;
        if !flags.is_response() || flags.opcode() != Opcode::QUERY {
            return Err(Stored::NotAnAnswer);
        }
        if flags.has(Flags::TC) {
            return Err(Stored::Truncated);
        }
        if answer.question() != Some(asked.question) {
            return Err(Stored::OtherQuestion);
        }
        let question = asked.question;
        if is_meta(question.record_type, question.class) {
            return Err(Stored::MetaType);
        }
        let mut additionals = answer.additionals();
        if answer.is_signed() || additionals.any(|record| record.record_type == RecordType::SIG) {
            return Err(Stored::Signed);
        }
        match answer.rcode() {
            Rcode::NOERROR => {
                if answer.answers().any(|record| record.record_type == question.record_type) {
                    return Ok(Self::Positive);
                }
                let has = |section, record_type| {
                    answer.records(section).any(|record| record.record_type == record_type)
                };
                let minimum = minimum(answer);
                if minimum.is_none()
                    && answer.header.answers == 0
                    && has(Section::Authority, RecordType::NS)
                {
                    return Err(Stored::Referral);
                }
                Ok(Self::Negative(minimum))
            }
            Rcode::NXDOMAIN => Ok(Self::Negative(minimum(answer))),
            Rcode::SERVFAIL => Ok(Self::Failure),
            other => Err(Stored::OtherRcode(other)),
        }
    }
}

/// Whether such a question has no answer that could be kept: TYPE 128 to 255 are questions and messages
/// about messages (RFC 6895 §3.1).
fn is_meta(record_type: RecordType, class: Class) -> bool {
    matches!(record_type, RecordType(0 | 128..=255) | RecordType::OPT)
        || matches!(class, Class(0) | Class::NONE | Class::ANY)
}

/// SOA MINIMUM of the authority section; the smallest of several.
fn minimum(answer: &Message<'_>) -> Option<u32> {
    let soas = answer.authorities().filter(|record| record.record_type == RecordType::SOA);
    soas.filter_map(|record| match record.data() {
        RecordData::Soa(soa) => Some(soa.minimum),
        _ => None,
    })
    .min()
}

/// Whom an answer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audience {
    /// Who asks from this network; without one, who asks without a subnet.
    pub(crate) network: Option<Network>,
    /// And all others.
    pub(crate) is_for_all: bool,
    /// SCOPE PREFIX-LENGTH of the answer.
    pub(crate) scope_prefix: u8,
}

impl Audience {
    /// Whom the answer is for (RFC 7871 §7.3.1).
    pub(crate) fn read(asked: &Asked<'_>, answer: &Message<'_>) -> Result<Self, Stored> {
        let said = answer.edns().and_then(|edns| edns.options.client_subnet());
        let unnamed = Self { network: None, is_for_all: false, scope_prefix: 0 };
        let Some(subnet) = asked.subnet else {
            return if said.is_none() { Ok(unnamed) } else { Err(Stored::OtherSubnet) };
        };
        let key = |subnet: ClientSubnet| (subnet.address(), subnet.source_prefix());
        if said.is_some_and(|said| key(said) != key(subnet)) {
            return Err(Stored::OtherSubnet);
        }
        let scope_prefix = said.map_or(0, |said| said.scope_prefix());
        Ok(match (scope_prefix, subnet.source_prefix()) {
            (_, 0) => unnamed,
            (0, _) => Self { is_for_all: true, ..unnamed },
            (scope, source) if scope <= source => {
                Self { network: Network::around(subnet, scope), is_for_all: false, scope_prefix }
            }
            _ => Self { network: Network::exactly(subnet), is_for_all: false, scope_prefix },
        })
    }

    /// Whom a failure is for: who asked, because nothing says that others fail.
    pub(crate) fn of_failure(asked: &Asked<'_>) -> Self {
        let network = asked.subnet.and_then(Network::exactly);
        Self { network, is_for_all: false, scope_prefix: 0 }
    }
}

/// An answer's octets, and how many of them are what.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The message; where its TTLs are, two octets each; its extended errors, each with its length.
    pub(crate) octets: Box<[u8]>,
    pub(crate) message_len: u16,
    /// Where its question ends.
    pub(crate) question_end: u16,
    pub(crate) ttls: u16,
    /// After so many seconds the first of its records expires.
    pub(crate) lifetime: u32,
}

impl Encoded {
    /// Encodes an answer with the TTLs that it will be kept with. `room` is as long as it may get.
    pub(crate) fn new(
        asked: &Asked<'_>,
        answer: &Message<'_>,
        kind: Answer,
        limits: &Limits,
        room: &mut [u8],
    ) -> Result<Self, Stored> {
        let ttls = Ttls::new(kind, limits).ok_or(Stored::NoSoa)?;
        let mut lifetime = ttls.failure.unwrap_or(u32::MAX);
        let most = room.len();
        let mut question_end = 0;
        let mut write = || {
            let flags = answer.header.flags.without(UNKEPT).with(asked.flags.repeated());
            let mut builder = Builder::new(room, 0, flags)?;
            builder.question(&asked.question)?;
            question_end = builder.len() as u16;
            // Failures have no records.
            let sections = [Section::Answer, Section::Authority, Section::Additional];
            for section in sections.into_iter().filter(|_| ttls.failure.is_none()) {
                for record in answer.records(section) {
                    let ttl = ttls.kept(section, record.ttl);
                    lifetime = lifetime.min(ttl);
                    builder.record(section, record.name, record.class, ttl, &record.data())?;
                }
            }
            builder.finish()
        };
        // What was decoded can be encoded, unless names get longer without the compression that they had.
        let len = write().map_err(|_: EncodeError| Stored::TooLarge)?;
        if lifetime == 0 {
            return Err(Stored::ZeroTtl);
        }
        let message = room.get(..len).unwrap_or_default();
        let decoded = codec_dns::decode(message).map_err(|_| Stored::TooLarge)?;
        let ttls = decoded.ttl_offsets().count();
        let errors = || extended_errors(answer);
        let errors_len: usize = errors().map(|(_, text)| 4 + text.len()).sum();
        let whole = len + 2 * ttls + errors_len;
        if whole > most {
            return Err(Stored::TooLarge);
        }
        let mut octets = Vec::with_capacity(whole);
        octets.extend_from_slice(message);
        // Neither an offset nor a length in a message is above 65,535.
        octets.extend(decoded.ttl_offsets().flat_map(|at| (at as u16).to_be_bytes()));
        for (info_code, text) in errors() {
            octets.extend(info_code.to_be_bytes());
            octets.extend((text.len() as u16).to_be_bytes());
            octets.extend_from_slice(text);
        }
        let octets = octets.into_boxed_slice();
        Ok(Self { octets, message_len: len as u16, question_end, ttls: ttls as u16, lifetime })
    }
}

/// Flags that are not kept: AA, because a cache is no authority, and what is the query's own.
const UNKEPT: Flags = Flags::AA.with(Flags::Z).with(Flags::RD).with(Flags::CD);

fn extended_errors<'a>(answer: &Message<'a>) -> impl Iterator<Item = (u16, &'a [u8])> {
    let options = answer.edns().map(|edns| edns.options);
    options.into_iter().flatten().filter_map(|option| match option {
        EdnsOption::ExtendedError(error) => Some((error.info_code.0, error.extra_text)),
        _ => None,
    })
}

/// What is made of TTLs.
#[derive(Clone, Copy)]
struct Ttls {
    min: u32,
    max: u32,
    /// For the authority section of a negative answer: SOA MINIMUM, and the limit. Also for what else there
    /// is in it: it proves the same (RFC 9077 §3).
    negative: Option<(u32, u32)>,
    /// For how long a failure is kept.
    failure: Option<u32>,
}

impl Ttls {
    /// `None` for a negative answer that does not say how long it holds.
    fn new(kind: Answer, limits: &Limits) -> Option<Self> {
        let (min, max) = (seconds(limits.min_ttl), seconds(limits.max_ttl));
        let (negative, failure) = match kind {
            Answer::Positive => (None, None),
            Answer::Negative(minimum) => {
                (Some((minimum?, max.min(seconds(limits.max_negative_ttl)))), None)
            }
            Answer::Failure => (None, Some(seconds(limits.failure_ttl))),
        };
        Some(Self { min, max, negative, failure })
    }

    /// The TTL that a record is kept with; zero: not at all.
    fn kept(&self, section: Section, sent: u32) -> u32 {
        // RFC 2181 §8.
        let ttl = if sent > i32::MAX as u32 { 0 } else { sent };
        let (ttl, max) = match self.negative {
            Some((minimum, max)) if section == Section::Authority => (ttl.min(minimum), max),
            _ => (ttl, self.max),
        };
        if ttl == 0 { 0 } else { ttl.max(self.min).min(max) }
    }
}
