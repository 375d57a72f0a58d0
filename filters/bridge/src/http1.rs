//! The HTTP/1.1 client towards the next filter (RFC 9112): one request in the life of a connection, whose content is chunked.
//!
//! It has none of what many streams on one connection cost: no frames of at most 16 KiB, no windows, no header tables. In
//! exchange there is nothing to ask the next filter for, so the native peer can be written to only when the next filter has
//! said something of itself.

use std::collections::VecDeque;
use std::io::Write;

use bytes::{Buf, Bytes};
use h2::Reason;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};

use crate::http2::{Ended, Event, OpenError, StreamId};

/// The only stream.
const STREAM: StreamId = StreamId::ONLY;

/// Header fields of a response; more are a failure.
const MAX_FIELDS: usize = 100;

/// The longest line before a chunk, with its extensions.
const MAX_CHUNK_LINE: usize = 256;

#[derive(Debug)]
pub(crate) struct Http1 {
    output: Vec<u8>,
    /// What the next filter sent, from where it was not understood yet.
    incoming: Bytes,
    max_head: usize,
    /// Our side has ended.
    finished: bool,
    /// [`Event::Lost`] is to be reported.
    given_up: bool,
    reading: Reading,
}

/// What the next octets from the next filter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Head,
    /// The line with a chunk's size.
    ChunkSize,
    /// So many octets of a chunk.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    /// Lines up to an empty one.
    Trailers,
    /// So many octets of content, and no more.
    Content(u64),
    /// Content until the connection ends.
    Rest,
    Done,
}

/// The next filter does not speak HTTP/1.1.
struct Malformed;

impl Http1 {
    /// With the request's header section ready to be taken.
    pub(crate) fn new(request: &Request<()>, max_head: usize) -> Result<Self, OpenError> {
        let uri = request.uri();
        let authority = uri.authority().ok_or(OpenError::InvalidRequest)?;
        let mut output = Vec::with_capacity(512);
        for part in [
            request.method().as_str().as_bytes(),
            b" ",
            uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes(),
            b" HTTP/1.1\r\nhost: ",
            authority.as_str().as_bytes(),
            b"\r\ntransfer-encoding: chunked\r\n",
        ] {
            output.extend_from_slice(part);
        }
        // Neither kind of text can have a line end in it.
        for (name, value) in request.headers() {
            output.extend_from_slice(name.as_str().as_bytes());
            output.extend_from_slice(b": ");
            output.extend_from_slice(value.as_bytes());
            output.extend_from_slice(b"\r\n");
        }
        output.extend_from_slice(b"\r\n");
        Ok(Self {
            output,
            incoming: Bytes::new(),
            max_head,
            finished: false,
            given_up: false,
            reading: Reading::Head,
        })
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// The memory goes along: a bridge that has nothing to say holds none.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Sends octets as one chunk. There is always room: what the next filter cannot pass on it leaves in the native transport.
    pub(crate) fn send(&mut self, octets: &[u8]) -> usize {
        if self.finished || octets.is_empty() {
            return 0;
        }
        self.output.reserve(octets.len() + 24);
        // Writing to memory does not fail.
        let _ = write!(self.output, "{:x}\r\n", octets.len());
        self.output.extend_from_slice(octets);
        self.output.extend_from_slice(b"\r\n");
        octets.len()
    }

    /// Ends our side, with the last chunk.
    pub(crate) fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            self.output.extend_from_slice(b"0\r\n\r\n");
        }
    }

    /// Gives the connection up, which is the only way to reset the only stream.
    pub(crate) fn give_up(&mut self) {
        self.finished = true;
        self.given_up = true;
    }

    /// Offers octets from the next filter.
    pub(crate) fn receive(&mut self, octets: Bytes) {
        if self.incoming.is_empty() {
            self.incoming = octets;
        } else {
            self.incoming = [&*self.incoming, &*octets].concat().into();
        }
    }

    /// Reports what happened.
    pub(crate) fn poll(&mut self, events: &mut VecDeque<Event>) {
        if !self.given_up {
            if self.read(events).is_ok() {
                return;
            }
            let how = Ended::Reset(Reason::PROTOCOL_ERROR.into());
            events.push_back(Event::Ended(STREAM, how));
        }
        events.push_back(Event::Lost);
    }

    fn read(&mut self, events: &mut VecDeque<Event>) -> Result<(), Malformed> {
        loop {
            match self.reading {
                Reading::Head => {
                    if !self.read_head(events)? {
                        return Ok(());
                    }
                }
                Reading::ChunkSize => match httparse::parse_chunk_size(&self.incoming) {
                    Ok(httparse::Status::Complete((read, size))) => {
                        self.incoming.advance(read.min(self.incoming.len()));
                        self.reading = match size {
                            0 => Reading::Trailers,
                            size => Reading::Chunk(size),
                        };
                    }
                    Ok(httparse::Status::Partial) if self.incoming.len() < MAX_CHUNK_LINE => {
                        return Ok(());
                    }
                    _ => return Err(Malformed),
                },
                Reading::Chunk(0) => self.reading = Reading::ChunkEnd,
                Reading::ChunkEnd => {
                    let Some(end) = self.incoming.get(..2) else { return Ok(()) };
                    if end != b"\r\n" {
                        return Err(Malformed);
                    }
                    self.incoming.advance(2);
                    self.reading = Reading::ChunkSize;
                }
                Reading::Trailers => {
                    let Some(end) = self.incoming.iter().position(|octet| *octet == b'\n') else {
                        // A line like any of the head's.
                        return if self.incoming.len() < self.max_head {
                            Ok(())
                        } else {
                            Err(Malformed)
                        };
                    };
                    let line = self.incoming.split_to(end + 1);
                    if line.as_ref() == b"\r\n" {
                        self.end(events);
                    }
                }
                Reading::Content(0) => self.end(events),
                Reading::Chunk(left) | Reading::Content(left) => {
                    if self.incoming.is_empty() {
                        return Ok(());
                    }
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.incoming.len());
                    let left = left - here as u64;
                    self.reading = match self.reading {
                        Reading::Chunk(_) => Reading::Chunk(left),
                        _ => Reading::Content(left),
                    };
                    events.push_back(Event::Body(STREAM, self.incoming.split_to(here)));
                }
                Reading::Rest => {
                    if !self.incoming.is_empty() {
                        events.push_back(Event::Body(STREAM, std::mem::take(&mut self.incoming)));
                    }
                    return Ok(());
                }
                Reading::Done => {
                    // Nothing was asked for.
                    self.incoming.clear();
                    return Ok(());
                }
            }
        }
    }

    fn end(&mut self, events: &mut VecDeque<Event>) {
        self.reading = Reading::Done;
        events.push_back(Event::Ended(STREAM, Ended::Complete));
    }

    /// Whether the header section was there.
    fn read_head(&mut self, events: &mut VecDeque<Event>) -> Result<bool, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(&self.incoming) {
            Ok(httparse::Status::Complete(length)) if length <= self.max_head => length,
            Ok(httparse::Status::Partial) if self.incoming.len() < self.max_head => {
                return Ok(false);
            }
            _ => return Err(Malformed),
        };
        let status = head.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed)?;
        let mut response = Response::new(());
        *response.status_mut() = status;
        for field in &*head.headers {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed)?;
            let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed)?;
            response.headers_mut().append(name, value);
        }
        self.incoming.advance(length);
        if status.is_informational() {
            // Another one follows.
            return Ok(true);
        }
        self.reading = framing(&response)?;
        events.push_back(Event::Response(STREAM, response));
        Ok(true)
    }
}

/// How long a response's content is (RFC 9112 §6.3).
fn framing(response: &Response<()>) -> Result<Reading, Malformed> {
    if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Reading::Content(0));
    }
    if let Some(coding) = response.headers().get("transfer-encoding") {
        let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        return if chunked { Ok(Reading::ChunkSize) } else { Err(Malformed) };
    }
    match response.headers().get("content-length") {
        None => Ok(Reading::Rest),
        Some(length) => {
            let length = length.to_str().ok().and_then(|length| length.parse().ok());
            length.map(Reading::Content).ok_or(Malformed)
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail by panicking"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn http() -> Http1 {
        let request = Request::post("http://mqtt/").header("x-name", "value").body(());
        let mut http = Http1::new(&request.expect("valid"), 4096).expect("a request with a host");
        http.take_output();
        http
    }

    /// What is reported of these octets, in one line for each event; content that follows content is joined.
    fn reported(octets: &[&[u8]]) -> Vec<String> {
        let (mut http, mut events, mut out) = (http(), VecDeque::new(), Vec::<String>::new());
        for piece in octets {
            http.receive(Bytes::copy_from_slice(piece));
            http.poll(&mut events);
        }
        for event in events {
            match event {
                Event::Response(STREAM, response) => {
                    let fields = response.headers().iter();
                    let fields = fields.map(|(name, value)| format!(" {name}={value:?}"));
                    out.push(format!(
                        "{}{}",
                        response.status().as_u16(),
                        fields.collect::<String>()
                    ));
                }
                Event::Body(STREAM, body) => match out.last_mut() {
                    Some(last) if last.starts_with("body ") => {
                        *last += &String::from_utf8_lossy(&body);
                    }
                    _ => out.push(format!("body {}", String::from_utf8_lossy(&body))),
                },
                Event::Ended(STREAM, how) => out.push(format!("{how:?}")),
                Event::Lost => out.push("lost".to_owned()),
                other => panic!("{other:?}"),
            }
        }
        out
    }

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nserver: e\r\n\r\n\
        3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\n";

    #[test]
    fn a_request_is_one_head_chunks_and_an_end() {
        let request = Request::post("http://a.example:1/p?q").header("x-name", "a  b").body(());
        let mut http = Http1::new(&request.expect("valid"), 4096).expect("a request with a host");
        assert_eq!(http.send(b"0123456789abcdef!"), 17);
        assert_eq!(http.send(b""), 0);
        assert!(http.has_output());
        assert_eq!(
            String::from_utf8_lossy(&http.take_output()),
            "POST /p?q HTTP/1.1\r\nhost: a.example:1\r\ntransfer-encoding: chunked\r\nx-name: a  b\r\n\r\n\
             11\r\n0123456789abcdef!\r\n"
        );
        assert!(!http.has_output());
        http.finish();
        http.finish();
        assert_eq!(http.send(b"more"), 0);
        assert_eq!(http.take_output(), b"0\r\n\r\n");
    }

    #[test]
    fn a_request_needs_a_host() {
        let request = Request::post("/path").body(()).expect("valid");
        assert_eq!(Http1::new(&request, 4096).err(), Some(OpenError::InvalidRequest));
    }

    #[test]
    fn content_comes_in_chunks_by_length_or_until_the_end() {
        let chunked = "200 transfer-encoding=\"chunked\" server=\"e\"";
        assert_eq!(reported(&[CHUNKED]), [chunked, "body abc0123456789", "Complete"]);
        let counted: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\nno\nrubbish";
        assert_eq!(reported(&[counted]), ["403 content-length=\"3\"", "body no\n", "Complete"]);
        let rest: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!(reported(&[rest, b"def"]), ["200", "body abcdef"]);
        let none: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(reported(&[none]), ["204", "Complete"]);
    }

    #[test]
    fn what_is_no_response_ends_the_connection() {
        let long = [b"HTTP/1.1 200 OK\r\nx: ", &[b'y'; 4096][..]].concat();
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(MAX_FIELDS + 1));
        let whole = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(4096));
        let chunk: fn(&[u8]) -> Vec<u8> =
            |tail| [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", tail].concat();
        for octets in [
            b"PRI * HTTP/2.0\r\n\r\n".to_vec(),
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n".to_vec(),
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_vec(),
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n".to_vec(),
            long,
            many.into_bytes(),
            whole.into_bytes(),
            chunk(b"xyz\r\n"),
            chunk(b"11111111111111111\r\n"),
            chunk(b"1\r\nab\r\n"),
            chunk(&[b"1;", &[b'x'; MAX_CHUNK_LINE][..]].concat()),
            chunk(&[b"0\r\n", &[b'x'; 4096][..]].concat()),
        ] {
            let reported = reported(&[&octets]);
            let text = String::from_utf8_lossy(&octets);
            assert_eq!(reported.last().map(String::as_str), Some("lost"), "{text}: {reported:?}");
            let reset = format!("{:?}", Ended::Reset(Reason::PROTOCOL_ERROR.into()));
            assert_eq!(reported.iter().rev().nth(1), Some(&reset), "{text}");
        }
    }

    #[test]
    fn who_gives_it_up_hears_nothing_more_about_it() {
        let (mut http, mut events) = (http(), VecDeque::new());
        http.give_up();
        http.receive(Bytes::from_static(CHUNKED));
        http.poll(&mut events);
        assert!(matches!(events.make_contiguous(), [Event::Lost]));
        assert_eq!(http.send(b"x"), 0);
    }

    proptest! {
        #[test]
        fn any_split_means_the_same(cuts in prop::collection::vec(0..CHUNKED.len(), 0..6)) {
            let mut cuts = cuts;
            cuts.extend([0, CHUNKED.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &CHUNKED[ends[0]..ends[1]]).collect();
            prop_assert_eq!(reported(&pieces), reported(&[CHUNKED]));
        }

        #[test]
        fn no_octets_make_it_panic_or_hold_much(
            pieces in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                Just(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
                Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
                Just(b"fffffff\r\n".to_vec()),
                Just(b"\r\n".to_vec()),
                Just(b"0\r\n".to_vec()),
            ], 0..40)
        ) {
            let (mut http, mut events) = (http(), VecDeque::new());
            for piece in pieces {
                http.receive(piece.into());
                http.poll(&mut events);
                prop_assert!(http.incoming.len() <= 4096);
                if matches!(events.back(), Some(Event::Lost)) {
                    break;
                }
            }
        }
    }
}
