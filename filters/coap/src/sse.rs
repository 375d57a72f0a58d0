//! Server-sent events (HTML Living Standard §9.2): of each event its data, within a bound.

/// Reads a stream of events, however it is split.
#[derive(Debug)]
pub(crate) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last octet was a carriage return: a line feed after it ends no other line.
    returned: bool,
    /// More of the event came than is kept: it is left out.
    too_long: bool,
    started: bool,
    most: usize,
}

impl Events {
    /// Keeps up to so many octets of an event.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            returned: false,
            too_long: false,
            started: false,
            most,
        }
    }

    /// Reads the next octets and hands over the data of each event that they complete. Events that were too
    /// long are left out.
    pub(crate) fn read(&mut self, octets: &[u8], mut event: impl FnMut(Vec<u8>)) {
        for &octet in octets {
            match octet {
                b'\n' if std::mem::take(&mut self.returned) => {}
                b'\n' | b'\r' => {
                    self.returned = octet == b'\r';
                    self.end_line(&mut event);
                }
                _ => {
                    self.returned = false;
                    if self.line.len() + self.data.len() < self.most {
                        self.line.push(octet);
                    } else {
                        self.too_long = true;
                    }
                }
            }
        }
    }

    fn end_line(&mut self, event: &mut impl FnMut(Vec<u8>)) {
        let line = std::mem::take(&mut self.line);
        let mut text = &*line;
        if !std::mem::replace(&mut self.started, true) {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        if text.is_empty() {
            let data = std::mem::take(&mut self.data);
            let too_long = std::mem::take(&mut self.too_long);
            if std::mem::take(&mut self.has_data) && !too_long {
                event(data);
            }
            return;
        }
        let value = text.strip_prefix(b"data").and_then(|rest| match rest {
            [] => Some(rest),
            [b':', b' ', rest @ ..] | [b':', rest @ ..] => Some(rest),
            _ => None,
        });
        if let Some(value) = value {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(most: usize, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut events = Events::new(most);
        for piece in pieces {
            events.read(piece, |event| found.push(event));
        }
        found
    }

    #[test]
    fn events_are_read_as_the_standard_says_however_they_are_split() {
        let stream =
            b"\xef\xbb\xbf: hello\n\ndata: a\ndata:b\r\ndata\n\nid: 1\nevent: x\ndata: c\r\r\
            database: no\n\ndata: cut off";
        let expected = [&b"a\nb\n"[..], b"c"];
        assert_eq!(events(100, &[stream]), expected);
        let octets: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(100, &octets), expected);
    }

    #[test]
    fn an_event_that_is_too_long_is_left_out_and_the_next_is_read() {
        let long = [b"data: ".to_vec(), vec![b'x'; 1000], b"\n\ndata: y\n\n".to_vec()].concat();
        assert_eq!(events(100, &[&long]), [b"y"]);
    }
}
