//! What several tests need.

#![allow(dead_code, reason = "not every test needs all of it")]

use codec_dns::{Builder, EncodeError, Message, Name, RecordType, Section};

pub(crate) const SECTIONS: [Section; 3] =
    [Section::Answer, Section::Authority, Section::Additional];

/// The message, built anew from what was decoded; a TSIG record is left out.
pub(crate) fn rebuild(message: &Message<'_>) -> Result<Vec<u8>, EncodeError> {
    // Without compression, a message can get longer than it was.
    let mut out = vec![0xaa; 65_535];
    let mut builder = Builder::new(&mut out, message.header.id, message.header.flags)?;
    builder.set_rcode(message.rcode());
    if let Some(edns) = message.edns() {
        builder.edns(edns, None)?;
    }
    for question in message.questions() {
        builder.question(&question)?;
    }
    for section in SECTIONS {
        for record in message.records(section) {
            if record.record_type != RecordType::TSIG {
                builder.copy(section, &record)?;
            }
        }
    }
    let len = builder.finish()?;
    out.truncate(len);
    Ok(out)
}

/// Everything that a message says, names to the letter; a TSIG record is left out.
pub(crate) fn content(message: &Message<'_>) -> Vec<String> {
    let header = message.header;
    let mut lines = vec![format!("{} {:?} {:?}", header.id, header.flags, message.rcode())];
    lines.extend(message.questions().map(|question| format!("{question:?}")));
    for section in SECTIONS {
        let records = message.records(section);
        let records = records.filter(|record| record.record_type != RecordType::TSIG);
        lines.extend(records.map(|record| format!("{section:?} {record:?}")));
    }
    lines.push(format!("{:?}", message.edns()));
    lines
}

/// A record's octets: name, type, class, TTL, and RDATA behind its length.
pub(crate) fn record(
    name: &[u8],
    record_type: RecordType,
    class: u16,
    ttl: u32,
    rdata: &[u8],
) -> Vec<u8> {
    let mut octets = name.to_vec();
    octets.extend(record_type.0.to_be_bytes());
    octets.extend(class.to_be_bytes());
    octets.extend(ttl.to_be_bytes());
    octets.extend((rdata.len() as u16).to_be_bytes());
    octets.extend(rdata);
    octets
}

/// A message with these counts in its header, and these octets behind it.
pub(crate) fn message(flags: u16, counts: [u16; 4], parts: &[&[u8]]) -> Vec<u8> {
    let mut octets = vec![0x12, 0x34];
    octets.extend(flags.to_be_bytes());
    for count in counts {
        octets.extend(count.to_be_bytes());
    }
    octets.extend(parts.concat());
    octets
}

pub(crate) fn wire(name: Name<'_>) -> Vec<u8> {
    name.to_wire(&mut [0; 255]).to_vec()
}
