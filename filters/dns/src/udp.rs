//! Clients over UDP: all of a worker's share one connection.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bridge::{Bytes, Ended, Link, Peer, Response, StreamId};
use hashbrown::HashMap;
use tunnels::{Client, Clients, RequestId, Service};

use crate::Common;
use crate::proxy::{Outlet, Proxy};

/// The clients of one connection of `udp_proxy`.
#[derive(Debug)]
pub struct Udp {
    proxy: Proxy<RequestId>,
    sessions: Sessions,
}

#[derive(Debug)]
struct Sessions {
    sessions: HashMap<RequestId, Session>,
    /// Sessions whose client has asked once, and others, in the order in which they are looked at.
    lingering: VecDeque<(Duration, RequestId)>,
    idle: VecDeque<(Duration, RequestId)>,
}

/// A client: one address and port.
#[derive(Debug)]
struct Session {
    source: Option<IpAddr>,
    /// Queries without an answer.
    outstanding: u32,
    /// The client has asked again after it was answered.
    is_known: bool,
    answered: bool,
    last_active: Duration,
    /// It is in the list of those that linger, and in that of those that are idle.
    is_lingering: bool,
    is_idle: bool,
}

struct Outward<'a> {
    clients: &'a mut Clients,
    sessions: &'a mut Sessions,
    linger: Duration,
    idle_timeout: Duration,
    now: Duration,
}

impl Outlet for Outward<'_> {
    type Client = RequestId;

    fn answer(&mut self, client: RequestId, id: u16, message: &[u8]) {
        let Some((_, body)) = message.split_first_chunk::<2>() else { return };
        self.clients.send(client, message.len(), |out| {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(body);
            true
        });
        if let Some(session) = self.sessions.sessions.get_mut(&client) {
            session.answered = true;
        }
    }

    fn done(&mut self, client: RequestId) {
        let Sessions { sessions, lingering, idle } = self.sessions;
        let Some(session) = sessions.get_mut(&client) else { return };
        session.outstanding = session.outstanding.saturating_sub(1);
        session.last_active = self.now;
        if session.outstanding > 0 {
        } else if session.is_known {
            if !std::mem::replace(&mut session.is_idle, true) {
                idle.push_back((self.now + self.idle_timeout, client));
            }
        } else if !std::mem::replace(&mut session.is_lingering, true) {
            lingering.push_back((self.now + self.linger, client));
        }
    }
}

impl Udp {
    pub(crate) fn new(common: Rc<Common>) -> Self {
        let sessions = Sessions {
            sessions: HashMap::new(),
            lingering: VecDeque::new(),
            idle: VecDeque::new(),
        };
        Self { proxy: Proxy::new(common), sessions }
    }

    fn parts<'a>(
        &'a mut self,
        link: &Link,
        clients: &'a mut Clients,
    ) -> (&'a mut Proxy<RequestId>, Outward<'a>) {
        let settings = &self.proxy.common().settings;
        let (linger, idle_timeout) = (settings.linger, settings.idle_timeout);
        let sessions = &mut self.sessions;
        (&mut self.proxy, Outward { clients, sessions, linger, idle_timeout, now: link.now() })
    }

    /// Ends the sessions whose time has come.
    fn end_idle(&mut self, link: &Link, clients: &mut Clients) {
        let now = link.now();
        let settings = &self.proxy.common().settings;
        let Sessions { sessions, lingering, idle } = &mut self.sessions;
        while let Some(id) = due(lingering, now) {
            let Some(session) = sessions.get_mut(&id) else { continue };
            session.is_lingering = false;
            if session.is_known {
                if !std::mem::replace(&mut session.is_idle, true) {
                    idle.push_back((now + settings.idle_timeout, id));
                }
            } else if session.outstanding == 0 {
                sessions.remove(&id);
                clients.end(id);
            }
        }
        while let Some(id) = due(idle, now) {
            let Some(session) = sessions.get_mut(&id) else { continue };
            session.is_idle = false;
            if session.outstanding > 0 {
            } else if session.last_active + settings.idle_timeout > now {
                session.is_idle = true;
                // Later than it could be, so that the list stays in order.
                idle.push_back((now + settings.idle_timeout, id));
            } else {
                sessions.remove(&id);
                clients.end(id);
            }
        }
    }

    fn deadline(&self) -> Option<Duration> {
        let first = |list: &VecDeque<(Duration, RequestId)>| list.front().map(|(at, _)| *at);
        let Sessions { lingering, idle, .. } = &self.sessions;
        [first(lingering), first(idle), self.proxy.deadline()].into_iter().flatten().min()
    }
}

fn due(list: &mut VecDeque<(Duration, RequestId)>, now: Duration) -> Option<RequestId> {
    let (at, id) = *list.front()?;
    if at > now {
        return None;
    }
    list.pop_front();
    Some(id)
}

impl Service for Udp {
    fn handle_client(&mut self, link: &mut Link, _: &mut Clients, id: RequestId, of: Client) {
        let session = Session {
            source: of.address.map(|address| address.ip().to_canonical()),
            outstanding: 0,
            is_known: false,
            answered: false,
            last_active: link.now(),
            is_lingering: false,
            is_idle: true,
        };
        self.sessions.sessions.insert(id, session);
        // One that never asks ends as well; but what it asks may be a while on its way.
        let timeout = self.proxy.common().settings.idle_timeout;
        self.sessions.idle.push_back((link.now() + timeout, id));
    }

    fn handle_datagram(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        datagram: Bytes,
    ) {
        let Some(session) = self.sessions.sessions.get_mut(&id) else { return };
        session.is_known |= session.answered;
        session.outstanding += 1;
        session.last_active = link.now();
        let source = session.source;
        let (proxy, mut outlet) = self.parts(link, clients);
        if datagram.len() > usize::from(proxy.common().settings.max_query_size) {
            proxy.too_long();
            return outlet.done(id);
        }
        proxy.query(link, &mut outlet, id, source, datagram);
    }

    fn handle_gone(&mut self, _: &mut Link, _: &mut Clients, id: RequestId) {
        self.sessions.sessions.remove(&id);
    }

    fn handle_response(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        response: Response<()>,
    ) {
        let (proxy, mut outlet) = self.parts(link, clients);
        proxy.handle_response(link, &mut outlet, stream, response);
    }

    fn handle_body(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        body: Bytes,
    ) {
        let (proxy, mut outlet) = self.parts(link, clients);
        proxy.handle_body(link, &mut outlet, stream, body);
    }

    fn handle_ended(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        how: Ended,
    ) {
        let (proxy, mut outlet) = self.parts(link, clients);
        proxy.handle_ended(link, &mut outlet, stream, how);
    }

    fn handle_writable(&mut self, link: &mut Link, _: &mut Clients, stream: StreamId) {
        self.proxy.handle_writable(link, stream);
    }

    fn settle(&mut self, link: &mut Link, _: &mut Clients) {
        self.proxy.settle(link);
        link.set_deadline(self.deadline());
    }

    fn handle_timeout(&mut self, link: &mut Link, clients: &mut Clients) {
        let (proxy, mut outlet) = self.parts(link, clients);
        proxy.handle_timeout(link, &mut outlet);
        self.end_idle(link, clients);
    }

    fn handle_close(&mut self, _: Peer) {
        self.proxy.handle_close();
    }
}
