//! Clients over HTTPS (RFC 8484): Envoy's, for which this is the upstream of a cluster.

use std::net::IpAddr;
use std::rc::Rc;

use bridge::{Bytes, Ended, HeaderMap, Link, Peer, Request, Response, StreamId};
use codec_dns::decode;
use dns_doh::server::{Audience, Endpoint};
use hashbrown::HashMap;
use http::Method;
use http_server::{Clients, RequestId, Service};

use crate::Common;
use crate::proxy::{Outlet, Proxy};

/// The header that says who the client is.
const CLIENT: &str = "x-forwarded-for";

/// The requests of one connection.
#[derive(Debug)]
pub struct Https {
    proxy: Proxy<RequestId>,
    /// Those without an answer.
    requests: HashMap<RequestId, Asked>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The answer is to have no content.
    is_head: bool,
}

struct Outward<'a> {
    clients: &'a mut Clients,
    requests: &'a mut HashMap<RequestId, Asked>,
    audience: Audience,
}

impl Outlet for Outward<'_> {
    type Client = RequestId;

    fn answer(&mut self, client: RequestId, id: u16, message: &[u8]) {
        let Some((_, body)) = message.split_first_chunk::<2>() else { return };
        let Some(asked) = self.requests.remove(&client) else { return };
        let Ok(decoded) = decode(message) else {
            return self.clients.abort(client);
        };
        let response = dns_doh::server::response(&decoded, self.audience);
        if asked.is_head {
            return self.clients.respond(client, response, true);
        }
        let octets = [&id.to_be_bytes(), body].concat();
        self.clients.respond_with(client, response, Bytes::from(octets));
    }

    fn done(&mut self, client: RequestId) {
        // What gets no answer over UDP is cut off here.
        if self.requests.remove(&client).is_some() {
            self.clients.abort(client);
        }
    }
}

impl Https {
    pub(crate) fn new(common: Rc<Common>) -> Self {
        Self { proxy: Proxy::new(common), requests: HashMap::new() }
    }

    fn parts<'a>(
        &'a mut self,
        clients: &'a mut Clients,
    ) -> (&'a mut Proxy<RequestId>, Outward<'a>) {
        let audience = match self.proxy.common().answers_depend_on_client() {
            true => Audience::One,
            false => Audience::All,
        };
        (&mut self.proxy, Outward { clients, requests: &mut self.requests, audience })
    }

    fn settle(&mut self, link: &mut Link) {
        self.proxy.settle(link);
        link.set_deadline(self.proxy.deadline());
    }
}

/// The client's address: the last one is who Envoy itself saw.
fn source(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(CLIENT).iter().next_back()?.to_str().ok()?;
    let ip: IpAddr = last.rsplit(',').next()?.trim().parse().ok()?;
    Some(ip.to_canonical())
}

impl Service for Https {
    fn handle_request(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        request: Request<Bytes>,
    ) {
        let (parts, content) = request.into_parts();
        let max_message_size = usize::from(self.proxy.common().settings.max_query_size);
        // Which paths are right is a matter of Envoy's routes.
        let endpoint = Endpoint { path: None, max_message_size };
        let query = match dns_doh::server::request(&parts, &content, &endpoint) {
            Ok(query) => Bytes::from(query.into_owned()),
            Err(failure) => {
                self.proxy.common().stats.doh_error(failure.label());
                let (parts, text) = failure.response().into_parts();
                let response = Response::from_parts(parts, ());
                return clients.respond_with(id, response, Bytes::from(text));
            }
        };
        self.requests.insert(id, Asked { is_head: parts.method == Method::HEAD });
        let (proxy, mut outlet) = self.parts(clients);
        proxy.query(link, &mut outlet, id, source(&parts.headers), query);
        self.settle(link);
    }

    fn handle_gone(&mut self, _: &mut Link, _: &mut Clients, id: RequestId) {
        self.requests.remove(&id);
    }

    fn handle_room(&mut self, link: &mut Link, _: &mut Clients) {
        self.settle(link);
    }

    fn handle_response(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        response: Response<()>,
    ) {
        let (proxy, mut outlet) = self.parts(clients);
        proxy.handle_response(link, &mut outlet, stream, response);
        self.settle(link);
    }

    fn handle_body(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        body: Bytes,
    ) {
        let (proxy, mut outlet) = self.parts(clients);
        proxy.handle_body(link, &mut outlet, stream, body);
        self.settle(link);
    }

    fn handle_ended(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        how: Ended,
    ) {
        let (proxy, mut outlet) = self.parts(clients);
        proxy.handle_ended(link, &mut outlet, stream, how);
        self.settle(link);
    }

    fn handle_timeout(&mut self, link: &mut Link, clients: &mut Clients) {
        let (proxy, mut outlet) = self.parts(clients);
        proxy.handle_timeout(link, &mut outlet);
        self.settle(link);
    }

    fn handle_close(&mut self, _: Peer) {
        self.proxy.handle_close();
    }
}
