//! What an answer says, as far as it makes answers alike.

use codec_dns::{Message, Name, Rcode, RecordType};

/// What response rate limiting has to know of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// QNAME.
    pub name: Name<'a>,
    /// QTYPE.
    pub record_type: RecordType,
    /// The response code.
    pub rcode: Rcode,
    /// What the answer is.
    pub kind: Kind<'a>,
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// NOERROR, with records in the answer section.
    Data,
    /// NOERROR without them (RFC 2308 §2.2).
    NoData,
    /// NOERROR without them, but with the name servers of this zone (RFC 2308 §2.2).
    Referral(Name<'a>),
    /// NXDOMAIN, from this zone.
    NxDomain(Name<'a>),
    /// Any other response code.
    Error,
}

impl<'a> Answer<'a> {
    /// What this message says as an answer.
    ///
    /// The zone of an NXDOMAIN is the owner of the SOA record in the authority section (RFC 2308 §3), and
    /// without one the name above QNAME.
    #[must_use]
    pub fn of(message: &Message<'a>) -> Self {
        let (name, record_type) = match message.question() {
            Some(question) => (question.name, question.record_type),
            None => (Name::ROOT, RecordType(0)),
        };
        let owner = |record_type| {
            let mut records = message.authorities();
            records.find(|record| record.record_type == record_type).map(|record| record.name)
        };
        let rcode = message.rcode();
        let kind = match rcode {
            Rcode::NOERROR if message.header.answers > 0 => Kind::Data,
            Rcode::NOERROR => match (owner(RecordType::SOA), owner(RecordType::NS)) {
                (None, Some(zone)) => Kind::Referral(zone),
                _ => Kind::NoData,
            },
            Rcode::NXDOMAIN => {
                let zone = owner(RecordType::SOA).or_else(|| name.parent());
                Kind::NxDomain(zone.unwrap_or(Name::ROOT))
            }
            _ => Kind::Error,
        };
        Self { name, record_type, rcode, kind }
    }
}
