//! A client over TCP or TLS (RFC 7766, RFC 7858).

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bridge::{Bytes, Direction, Ended, Input, Link, Peer, Protocol, Response, StreamId, Want};
use codec_dns::{Decoded, frame_tcp, tcp_length};

use crate::Common;
use crate::proxy::{Outlet, Proxy};

/// One client's connection. Its queries are answered as the answers come (RFC 7766 §6.2.1.1).
#[derive(Debug)]
pub struct Stream {
    proxy: Proxy<()>,
    source: Option<IpAddr>,
    progress: Progress,
}

#[derive(Debug)]
struct Progress {
    /// Queries without an answer.
    outstanding: usize,
    /// Answers to be sent.
    output: Vec<u8>,
    /// When the last query came, or the last answer went.
    last_active: Duration,
    now: Duration,
}

impl Outlet for Progress {
    type Client = ();

    fn answer(&mut self, (): (), id: u16, message: &[u8]) {
        let Some((_, body)) = message.split_first_chunk::<2>() else { return };
        let Ok(length) = tcp_length(message.len()) else { return };
        self.output.extend_from_slice(&length);
        self.output.extend_from_slice(&id.to_be_bytes());
        self.output.extend_from_slice(body);
        self.last_active = self.now;
    }

    fn done(&mut self, (): ()) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }
}

impl Stream {
    pub(crate) fn new(common: Rc<Common>, link: &mut Link) -> Self {
        let address = link.surroundings().source_address();
        let source = address.and_then(|address| address.trim_matches(['[', ']']).parse().ok());
        let now = link.now();
        let progress = Progress { outstanding: 0, output: Vec::new(), last_active: now, now };
        let stream = Self {
            proxy: Proxy::new(common),
            source: source.map(|source: IpAddr| source.to_canonical()),
            progress,
        };
        link.set_deadline(stream.deadline());
        stream
    }

    /// A connection on which nothing is under way ends after a time.
    fn idle_until(&self) -> Option<Duration> {
        let timeout = self.proxy.common().settings.idle_timeout;
        (self.progress.outstanding == 0).then_some(self.progress.last_active + timeout)
    }

    fn deadline(&self) -> Option<Duration> {
        [self.idle_until(), self.proxy.deadline()].into_iter().flatten().min()
    }

    /// Says what was gathered.
    fn flush(&mut self, link: &mut Link) {
        self.proxy.settle(link);
        let output = std::mem::take(&mut self.progress.output);
        link.reply(Bytes::from(output));
        link.set_deadline(self.deadline());
    }
}

impl Protocol for Stream {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        self.progress.now = link.now();
        let settings = Rc::clone(self.proxy.common());
        let settings = &settings.settings;
        let mut want = Want::More;
        loop {
            if self.progress.outstanding >= settings.max_pipelined {
                want = Want::Room;
                break;
            }
            let len = match frame_tcp(input.as_slice(), settings.max_query_size) {
                Ok(Decoded::Complete { message, .. }) => message.len(),
                Ok(Decoded::Incomplete { .. }) => break,
                Err(error) => {
                    let stats = &self.proxy.common().stats;
                    stats.decode_error(Direction::FromClient, error.label());
                    input.clear();
                    self.flush(link);
                    link.close();
                    return Want::More;
                }
            };
            input.skip(2);
            let query = input.take(len);
            // A message that is not complete does not count.
            self.progress.last_active = link.now();
            self.progress.outstanding += 1;
            self.proxy.query(link, &mut self.progress, (), self.source, query);
        }
        self.flush(link);
        want
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        link.close();
    }

    fn handle_response(&mut self, link: &mut Link, stream: StreamId, response: Response<()>) {
        self.progress.now = link.now();
        self.proxy.handle_response(link, &mut self.progress, stream, response);
        self.flush(link);
    }

    fn handle_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes) {
        self.progress.now = link.now();
        self.proxy.handle_body(link, &mut self.progress, stream, body);
        self.flush(link);
    }

    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended) {
        self.progress.now = link.now();
        self.proxy.handle_ended(link, &mut self.progress, stream, how);
        self.flush(link);
    }

    fn handle_writable(&mut self, link: &mut Link, stream: StreamId) {
        self.proxy.handle_writable(link, stream);
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        self.progress.now = link.now();
        self.proxy.handle_timeout(link, &mut self.progress);
        self.flush(link);
        if self.idle_until().is_some_and(|until| until <= link.now()) {
            link.close();
        }
    }

    fn handle_close(&mut self, _: Peer) {
        self.proxy.handle_close();
    }
}
