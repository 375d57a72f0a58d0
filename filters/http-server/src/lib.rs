//! An HTTP/2 server on the native side of a bridge.
//!
//! [`HttpServer`] is a [`Protocol`] whose native peer is an HTTP/2 client with prior knowledge (RFC
//! 9113 §3.3): Envoy, for which the listener is the upstream of a cluster. It hands complete
//! requests to a [`Service`], which answers them through [`Clients`], at once or later, as a whole
//! or piece by piece, and may open streams towards the next filter meanwhile.
//!
//! Like the bridge it is deterministic: everything happens inside the calls of [`Protocol`].
//!
//! # Bounds
//!
//! [`Limits`] says how many requests there may be at once, how long their header sections and
//! contents may be, and how much content all of them together hold. A request beyond those is
//! refused by HTTP/2's own means (a stream too many is REFUSED_STREAM) or answered with 413 or 503.
//! What a service sends is held until the client has room for it; [`Clients::held`] tells a service
//! that streams how much that is.

mod clients;

use std::fmt;

pub use bridge::server::RequestId;
use bridge::{Bytes, Ended, Input, Link, Peer, Protocol, Request, Response, StreamId, Want};

pub use clients::Clients;
use clients::Event;

/// How much the client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests that may be open at once (SETTINGS_MAX_CONCURRENT_STREAMS, RFC 9113 §6.5.2).
    pub max_requests: u32,
    /// The largest header section of a request, in octets as RFC 9113 §6.5.2 counts them.
    pub max_header_list_size: u32,
    /// The longest content of a request, in octets; more is answered with 413.
    pub max_content: usize,
    /// The octets of content that all incomplete requests together may hold; a request that would
    /// need more is answered with 503.
    pub max_held: usize,
    /// Octets the client may send on one stream before they are read (RFC 9113 §5.2).
    pub stream_window: u32,
    /// The same for all streams together.
    pub connection_window: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_requests: 1000,
            max_header_list_size: 64 << 10,
            max_content: 1 << 20,
            max_held: 16 << 20,
            stream_window: 256 << 10,
            connection_window: 1 << 20,
        }
    }
}

/// What answers the requests.
///
/// Every method may answer any request with [`Clients`], and use the [`Link`] except for its native
/// side, which is the server's.
pub trait Service {
    /// A complete request arrived.
    fn handle_request(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        request: Request<Bytes>,
    );

    /// The client does not want the answer any more. The last report about this request; nothing
    /// can be sent for it.
    fn handle_gone(&mut self, link: &mut Link, clients: &mut Clients, id: RequestId);

    /// A stream towards the next filter may have room again.
    fn handle_room(&mut self, link: &mut Link, clients: &mut Clients);

    /// As [`Protocol::handle_response`].
    fn handle_response(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        response: Response<()>,
    );

    /// As [`Protocol::handle_body`].
    fn handle_body(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        body: Bytes,
    );

    /// As [`Protocol::handle_ended`].
    fn handle_ended(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        how: Ended,
    );

    /// As [`Protocol::handle_timeout`].
    fn handle_timeout(&mut self, link: &mut Link, clients: &mut Clients);

    /// As [`Protocol::handle_close`]: nothing can be sent either way. The last call.
    fn handle_close(&mut self, by: Peer);
}

/// A [`Service`] that is reached over HTTP/2.
pub struct HttpServer<S> {
    service: S,
    clients: Clients,
    closed: bool,
}

impl<S: fmt::Debug> fmt::Debug for HttpServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServer")
            .field("service", &self.service)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

impl<S: Service> HttpServer<S> {
    /// A server for a connection that was just accepted.
    #[must_use]
    pub fn new(service: S, limits: &Limits) -> Self {
        Self { service, clients: Clients::new(limits), closed: false }
    }

    /// The service, to look at.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// Calls the service, and moves what there is to move afterwards.
    fn call(&mut self, link: &mut Link, call: impl FnOnce(&mut S, &mut Link, &mut Clients)) {
        call(&mut self.service, link, &mut self.clients);
        self.pump(link);
    }

    /// Moves everything that can move between the client and the service.
    fn pump(&mut self, link: &mut Link) {
        while let Some(event) = self.clients.next_event() {
            match event {
                Event::Complete(id, request) => {
                    self.service.handle_request(link, &mut self.clients, id, request);
                }
                Event::Gone(id) => self.service.handle_gone(link, &mut self.clients, id),
                Event::Lost => self.closed = true,
            }
        }
        // If the connection is over, these say why.
        if let Some(octets) = self.clients.take_output() {
            link.reply(octets);
        }
        if self.closed {
            link.set_deadline(None);
            link.close();
        }
    }
}

impl<S: Service> Protocol for HttpServer<S> {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        if self.closed {
            input.clear();
            return Want::More;
        }
        if !input.is_empty() {
            let n = input.len();
            self.clients.receive(input.take(n));
            self.pump(link);
        }
        self.call(link, S::handle_room);
        Want::More
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        self.clients.close();
        self.pump(link);
    }

    fn handle_response(&mut self, link: &mut Link, stream: StreamId, response: Response<()>) {
        self.call(link, |service, link, clients| {
            service.handle_response(link, clients, stream, response);
        });
    }

    fn handle_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes) {
        self.call(link, |service, link, clients| service.handle_body(link, clients, stream, body));
    }

    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended) {
        self.call(link, |service, link, clients| service.handle_ended(link, clients, stream, how));
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        self.call(link, S::handle_timeout);
    }

    fn handle_close(&mut self, by: Peer) {
        self.service.handle_close(by);
    }
}
