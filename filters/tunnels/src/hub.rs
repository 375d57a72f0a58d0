//! All sessions of a connection, served together.

use std::collections::VecDeque;
use std::rc::Rc;

use bridge::server::{Received, RequestId, Server};
use bridge::{Bytes, Ended, Input, Link, Peer, Protocol, Response, StreamId, Want};
use hashbrown::HashMap;

use crate::datagram::{self, Next};
use crate::{Client, Settings};

/// What serves the clients of a connection.
///
/// Every method may send datagrams to any client, and use the [`Link`] except for its native side, which
/// is the tunnels'.
pub trait Service {
    /// A client's first datagram is about to come.
    fn handle_client(&mut self, link: &mut Link, clients: &mut Clients, id: RequestId, of: Client);

    /// A datagram came from a client.
    fn handle_datagram(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        datagram: Bytes,
    );

    /// `udp_proxy` has ended a session. The last report about this client; nothing can be sent to it.
    fn handle_gone(&mut self, link: &mut Link, clients: &mut Clients, id: RequestId);

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

    /// As [`Protocol::handle_writable`].
    fn handle_writable(&mut self, link: &mut Link, clients: &mut Clients, stream: StreamId);

    /// Everything that happened was reported: the moment to send what was gathered.
    fn settle(&mut self, link: &mut Link, clients: &mut Clients);

    /// As [`Protocol::handle_timeout`].
    fn handle_timeout(&mut self, link: &mut Link, clients: &mut Clients);

    /// As [`Protocol::handle_close`].
    fn handle_close(&mut self, by: Peer);
}

/// The clients of a connection, to send to.
pub struct Clients {
    settings: Rc<Settings>,
    server: Server,
    tunnels: HashMap<RequestId, Tunnel>,
    /// Tunnels with something to send, or to end.
    ready: Vec<RequestId>,
}

#[derive(Debug, Default)]
struct Tunnel {
    /// The beginning of a capsule.
    input: Input,
    /// Capsules for the client.
    output: Vec<u8>,
    is_ready: bool,
    ends: bool,
    /// The service was told that the client is gone.
    is_gone: bool,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").field("tunnels", &self.tunnels.len()).finish_non_exhaustive()
    }
}

impl Clients {
    /// Has a datagram written for a client, which goes out when all that happened was reported. `write` puts
    /// its `len` octets behind what is there; whether it did so is what it returns.
    pub fn send(&mut self, id: RequestId, len: usize, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let Some(tunnel) = self.tunnels.get_mut(&id).filter(|tunnel| !tunnel.ends) else { return };
        if datagram::write(&mut tunnel.output, len, write)
            && !std::mem::replace(&mut tunnel.is_ready, true)
        {
            self.ready.push(id);
        }
    }

    /// Ends a client's session after what was sent to it.
    pub fn end(&mut self, id: RequestId) {
        if let Some(tunnel) = self.tunnels.get_mut(&id) {
            tunnel.ends = true;
            if !std::mem::replace(&mut tunnel.is_ready, true) {
                self.ready.push(id);
            }
        }
    }

    /// Hands what was gathered to the server. Whether there was anything.
    fn flush(&mut self) -> bool {
        let any = !self.ready.is_empty();
        for id in self.ready.drain(..) {
            let Some(tunnel) = self.tunnels.get_mut(&id) else { continue };
            tunnel.is_ready = false;
            let octets = Bytes::from(std::mem::take(&mut tunnel.output));
            let room = octets.is_empty() || self.server.room(id, octets.len()) == octets.len();
            if !room {
                self.settings.dropped.increment();
            }
            match (tunnel.ends, room) {
                (true, true) => self.server.finish_with(id, octets),
                (true, false) => self.server.finish(id),
                (false, true) => self.server.send(id, octets),
                (false, false) => {}
            }
            if tunnel.ends {
                self.tunnels.remove(&id);
                self.server.reset(id);
                self.settings.active.add(-1);
            }
        }
        any
    }
}

/// One connection with the tunnels of many clients, which a [`Service`] serves.
pub struct Hub<S> {
    service: S,
    clients: Clients,
    events: VecDeque<Received>,
    /// Something happened since the connection was served.
    touched: bool,
}

impl<S> std::fmt::Debug for Hub<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("clients", &self.clients).finish_non_exhaustive()
    }
}

impl<S: Service> Hub<S> {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(settings: Rc<Settings>, service: S) -> Self {
        let clients = Clients {
            server: settings.server(),
            settings,
            tunnels: HashMap::new(),
            ready: Vec::new(),
        };
        Self { service, clients, events: VecDeque::new(), touched: true }
    }

    /// The service, to look at.
    pub fn service(&self) -> &S {
        &self.service
    }

    fn receive(&mut self, link: &mut Link, event: Received) {
        match event {
            Received::Request(id, request) => {
                let clients = &mut self.clients;
                let client = clients.settings.accept(&mut clients.server, id, request);
                if let Some(client) = client {
                    clients.tunnels.insert(id, Tunnel::default());
                    self.service.handle_client(link, clients, id, client);
                }
            }
            Received::Body(id, octets) => self.read(link, id, octets),
            // A session whose one side has ended has nobody to take answers either.
            Received::Ended(id, Ended::Complete) => self.gone(link, id),
            Received::Ended(id, Ended::Reset(_)) => {
                if let Some(tunnel) = self.clients.tunnels.remove(&id) {
                    self.clients.settings.active.add(-1);
                    if !tunnel.is_gone {
                        self.service.handle_gone(link, &mut self.clients, id);
                    }
                }
            }
            // Datagrams do not wait.
            Received::Writable(_) => {}
            Received::Lost => link.close(),
        }
    }

    /// Ends a session whose client is gone, and tells the service once. A request that was refused is none.
    fn gone(&mut self, link: &mut Link, id: RequestId) {
        self.clients.end(id);
        let tunnel = self.clients.tunnels.get_mut(&id);
        if tunnel.is_some_and(|tunnel| !std::mem::replace(&mut tunnel.is_gone, true)) {
            self.service.handle_gone(link, &mut self.clients, id);
        }
    }

    /// Hands the datagrams among a client's octets to the service.
    fn read(&mut self, link: &mut Link, id: RequestId, octets: Bytes) {
        let Some(tunnel) = self.clients.tunnels.get_mut(&id).filter(|tunnel| !tunnel.ends) else {
            return;
        };
        tunnel.input.push(octets);
        let octets = tunnel.input.take(usize::MAX);
        let mut at = 0;
        loop {
            match datagram::next(octets.get(at..).unwrap_or_default()) {
                Next::Incomplete => break,
                Next::Nothing(len) => at += len,
                Next::Datagram { from, len } => {
                    let datagram = octets.slice(at + from..at + len);
                    at += len;
                    self.service.handle_datagram(link, &mut self.clients, id, datagram);
                }
                // Nobody knows where the next one begins.
                Next::Malformed => return self.gone(link, id),
            }
        }
        if at < octets.len()
            && let Some(tunnel) = self.clients.tunnels.get_mut(&id)
        {
            tunnel.input.push(octets.slice(at..));
        }
    }
}

impl<S: Service> Protocol for Hub<S> {
    fn handle_native(&mut self, _: &mut Link, input: &mut Input) -> Want {
        if !input.is_empty() {
            // All that came before has been polled.
            self.touched = true;
            self.clients.server.receive(input.take(input.len()));
        }
        Want::More
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        link.close();
    }

    fn handle_response(&mut self, link: &mut Link, stream: StreamId, response: Response<()>) {
        self.touched = true;
        self.service.handle_response(link, &mut self.clients, stream, response);
    }

    fn handle_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes) {
        self.touched = true;
        self.service.handle_body(link, &mut self.clients, stream, body);
    }

    fn handle_writable(&mut self, link: &mut Link, stream: StreamId) {
        self.touched = true;
        self.service.handle_writable(link, &mut self.clients, stream);
    }

    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended) {
        self.touched = true;
        self.service.handle_ended(link, &mut self.clients, stream, how);
    }

    /// Does what the server reported, and says what there is to say.
    fn settle(&mut self, link: &mut Link) -> bool {
        if !std::mem::take(&mut self.touched) {
            return false;
        }
        loop {
            self.clients.server.poll(&mut self.events);
            if self.events.is_empty() {
                self.service.settle(link, &mut self.clients);
                if !self.clients.flush() {
                    break;
                }
                continue;
            }
            while let Some(event) = self.events.pop_front() {
                self.receive(link, event);
            }
        }
        if self.clients.server.has_output() {
            link.reply(Bytes::from(self.clients.server.take_output()));
        }
        true
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        self.touched = true;
        self.service.handle_timeout(link, &mut self.clients);
    }

    fn handle_close(&mut self, by: Peer) {
        let open = i64::try_from(self.clients.tunnels.len()).unwrap_or_default();
        self.clients.settings.active.add(-open);
        self.service.handle_close(by);
    }
}
