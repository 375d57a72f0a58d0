//! An HTTP client in front of a filter that is reached over HTTP/2: for Envoy's `udp_proxy`, and for HTTPS.

use std::time::Duration;

use bridge::{
    Bridge, Bytes, Ended, Input, Limits, Link, Peer, Protocol, Request, Response, StreamId, Want,
};

use super::drive::Client;

/// One request, whose content is what comes in and whose response's content is what goes out.
pub(crate) struct Caller {
    /// Until it is made.
    request: Option<Request<()>>,
    stream: Option<StreamId>,
    /// How many octets of content are still to come, if that is known.
    left: Option<usize>,
}

impl Caller {
    /// Makes this request when there is something to send: content of this length, or without an end.
    pub(crate) fn bridge(request: Request<()>, len: Option<usize>) -> Bridge<Self> {
        let client = Client { address: String::new(), server_name: None };
        let caller = Self { request: Some(request), stream: None, left: len };
        Bridge::new(Limits::default(), Box::new(client), Duration::ZERO, |_| caller)
    }
}

impl Protocol for Caller {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        if let Some(request) = self.request.take_if(|_| !input.is_empty()) {
            self.stream = link.open(request, false).ok();
        }
        let Some(stream) = self.stream else { return Want::More };
        let n = link.send(stream, input, input.len());
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(n);
            if *left == 0 {
                link.finish(stream);
            }
        }
        if input.is_empty() { Want::More } else { Want::Room }
    }

    fn handle_native_end(&mut self, _: &mut Link) {}

    fn handle_response(&mut self, _: &mut Link, _: StreamId, _: Response<()>) {}

    fn handle_body(&mut self, link: &mut Link, _: StreamId, body: Bytes) {
        link.reply(body);
    }

    fn handle_ended(&mut self, _: &mut Link, _: StreamId, _: Ended) {}

    fn handle_timeout(&mut self, _: &mut Link) {}

    fn handle_close(&mut self, _: Peer) {}
}
