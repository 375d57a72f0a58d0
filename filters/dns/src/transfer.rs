//! Zone transfers: answers of several messages (RFC 5936 §2.2, RFC 1995 §4).

use codec_dns::{Message, RecordData, RecordType};

/// How much of a transfer has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    /// It is asked for what is new.
    asks_for_news: bool,
    /// The serial of the SOA record that it begins with, and ends with.
    serial: Option<u32>,
    records: u64,
    /// The second record is an SOA as well: it is the differences that come.
    is_incremental: bool,
    /// How many SOA records with that serial have come.
    seen: u32,
}

impl Transfer {
    /// One of which nothing has come; nothing if that is no type of transfers.
    pub(crate) fn of(record_type: RecordType) -> Option<Self> {
        let asks_for_news = match record_type {
            RecordType::AXFR => false,
            RecordType::IXFR => true,
            _ => return None,
        };
        Some(Self { asks_for_news, serial: None, records: 0, is_incremental: false, seen: 0 })
    }

    /// Counts a message. Whether it was the last one.
    pub(crate) fn add(&mut self, message: &Message<'_>) -> bool {
        let mut ends = false;
        for record in message.answers() {
            self.records += 1;
            let serial = match record.data() {
                RecordData::Soa(soa) => Some(soa.serial),
                _ => None,
            };
            let expected = *self.serial.get_or_insert(serial.unwrap_or_default());
            self.is_incremental |= self.records == 2 && serial.is_some_and(|it| it != expected);
            ends = serial == Some(expected);
            self.seen += u32::from(ends);
        }
        // Of differences, the last ones lead to the serial, too (RFC 1995 §4).
        let last = if self.is_incremental { 3 } else { 2 };
        // A single SOA says that there is nothing new (RFC 1995 §2).
        ends && (self.seen >= last || self.asks_for_news && self.records == 1)
    }
}

#[cfg(test)]
mod tests {
    use codec_dns::{Builder, Class, Flags, NameBuf, Section, Soa, decode};

    use super::*;

    /// Whether the transfer is over after each message; a number is the serial of an SOA, none an address.
    fn over(record_type: RecordType, messages: &[&[Option<u32>]]) -> Vec<bool> {
        let name = NameBuf::from_text("example").expect("a name");
        let mut transfer = Transfer::of(record_type).expect("a transfer");
        let add = |records: &&[Option<u32>]| {
            let mut out = [0; 2000];
            let mut message = Builder::new(&mut out, 1, Flags::QR).expect("room");
            for record in *records {
                let (mname, rname) = (name.as_name(), name.as_name());
                let data = match *record {
                    Some(serial) => RecordData::Soa(Soa {
                        mname,
                        rname,
                        serial,
                        refresh: 1,
                        retry: 1,
                        expire: 1,
                        minimum: 1,
                    }),
                    None => RecordData::A([192, 0, 2, 1].into()),
                };
                message.record(Section::Answer, mname, Class::IN, 1, &data).expect("room");
            }
            let len = message.finish().expect("room");
            transfer.add(&decode(&out[..len]).expect("a message"))
        };
        messages.iter().map(add).collect()
    }

    #[test]
    fn a_whole_zone_ends_with_the_soa_that_it_began_with() {
        for record_type in [RecordType::AXFR, RecordType::IXFR] {
            let over = |messages: &[&[Option<u32>]]| over(record_type, messages);
            assert_eq!(over(&[&[Some(7), None, Some(7)]]), [true]);
            let three: [&[_]; 3] = [&[Some(7), None], &[None], &[None, Some(7)]];
            assert_eq!(over(&three), [false, false, true]);
            assert_eq!(over(&[&[Some(7), Some(7)]]), [true]);
        }
        let one_each: [&[_]; 3] = [&[Some(9)], &[None], &[Some(9)]];
        assert_eq!(over(RecordType::AXFR, &one_each), [false, false, true]);
    }

    #[test]
    fn differences_end_with_it_for_the_third_time() {
        let over = |messages: &[&[Option<u32>]]| over(RecordType::IXFR, messages);
        let one = [Some(9), Some(8), None, Some(9), None, Some(9)];
        assert_eq!(over(&[&one]), [true]);
        // Cut where a message could be thought to be the last.
        assert_eq!(over(&[&one[..4], &one[4..]]), [false, true]);
        let two = [Some(9), Some(7), None, Some(8), None, Some(8), Some(9), None, Some(9)];
        assert_eq!(over(&[&two[..7], &two[7..]]), [false, true]);
        assert_eq!(over(&[&[Some(9)]]), [true]);
    }
}
