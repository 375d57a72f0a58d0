//! What answers are found by.

use std::hash::{BuildHasher, Hasher};

use codec_dns::{ClientSubnet, EdnsFlags, Flags, MAX_NAME_LEN, Message, Opcode, Question};

/// What is asked for, with all that makes a difference for the answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The question.
    pub question: Question<'a>,
    /// The flags that it is asked with.
    pub flags: AskedFlags,
    /// Whom it is asked for, as the server gets to know it (RFC 7871 §6).
    pub subnet: Option<ClientSubnet>,
}

impl<'a> Asked<'a> {
    /// What this query asks for; `None` if it is no query, or has no question.
    pub fn of(query: &Message<'a>) -> Option<Self> {
        let flags = query.header.flags;
        if flags.is_response() || flags.opcode() != Opcode::QUERY {
            return None;
        }
        let edns = query.edns();
        Some(Self {
            question: query.question()?,
            flags: AskedFlags::new(flags, edns.map_or(EdnsFlags::NONE, |edns| edns.flags)),
            subnet: edns.and_then(|edns| edns.options.client_subnet()),
        })
    }
}

/// The flags of a query that its answer depends on: RD, AD, CD of the header (RFC 1035 §4.1.1, RFC 6840
/// §5.7, RFC 4035 §3.2.2), DO and CO of the OPT record (RFC 3225 §3, RFC 9824 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AskedFlags {
    header: Flags,
    edns: EdnsFlags,
}

impl AskedFlags {
    /// Those among these flags.
    #[inline]
    pub const fn new(header: Flags, edns: EdnsFlags) -> Self {
        const HEADER: Flags = Flags::RD.with(Flags::AD).with(Flags::CD);
        const EDNS: EdnsFlags = EdnsFlags::DO.with(EdnsFlags::CO);
        Self { header: Flags(header.0 & HEADER.0), edns: EdnsFlags(edns.0 & EDNS.0) }
    }

    /// Those that an answer repeats.
    pub(crate) const fn repeated(self) -> Flags {
        self.header.without(Flags::AD)
    }
}

/// Octets of a question behind its name: type and class (RFC 1035 §4.1.2).
pub(crate) const QUESTION_FIXED: usize = 4;

/// What is asked for, in the form that answers are compared with.
pub(crate) struct Key {
    /// The question's octets, its name in lower case.
    question: [u8; MAX_NAME_LEN + QUESTION_FIXED],
    len: usize,
    pub(crate) flags: AskedFlags,
    /// The hash of all of it.
    pub(crate) hash: u64,
}

impl Key {
    #[inline]
    pub(crate) fn new(asked: &Asked<'_>, hasher: &impl BuildHasher) -> Self {
        let Asked { question: Question { name, record_type, class }, flags, .. } = *asked;
        let mut question = [0; MAX_NAME_LEN + QUESTION_FIXED];
        let mut len = 0;
        if let Some(place) = question.first_chunk_mut() {
            len = name.to_wire(place).len();
            // A length octet is below any letter.
            place.get_mut(..len).unwrap_or_default().make_ascii_lowercase();
        }
        let [t, y] = record_type.0.to_be_bytes();
        let [c, l] = class.0.to_be_bytes();
        if let Some(place) = question.get_mut(len..).and_then(|rest| rest.first_chunk_mut()) {
            *place = [t, y, c, l];
            len += QUESTION_FIXED;
        }
        let mut state = hasher.build_hasher();
        state.write(question.get(..len).unwrap_or_default());
        state.write_u32(u32::from(flags.header.0) << 16 | u32::from(flags.edns.0));
        Self { question, len, flags, hash: state.finish() }
    }

    /// Whether this is the question, its name in any case.
    #[inline]
    pub(crate) fn is(&self, question: &[u8]) -> bool {
        let this = self.question.get(..self.len).unwrap_or_default();
        match (this.split_last_chunk(), question.split_last_chunk()) {
            (Some((name, fixed)), Some((other_name, other_fixed))) => {
                let fixed: &[u8; QUESTION_FIXED] = fixed;
                fixed == other_fixed && name.eq_ignore_ascii_case(other_name)
            }
            _ => false,
        }
    }
}
