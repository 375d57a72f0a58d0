//! One connection: Envoy's callbacks on one side, a bridge or an observer on the other.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bridge::{Bridge, Bytes, Direction, Link, Observer, Peer, Surroundings};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::{Action, BufferType, PeerType};

use crate::root::Shared;
use crate::{Filter, Mode, Session, filter_state};

pub(crate) struct Connection<F: Filter> {
    id: u32,
    shared: Rc<Shared<F>>,
    state: Rc<RefCell<State<F>>>,
}

pub(crate) struct State<F: Filter> {
    session: Session<F>,
    delivery: Delivery,
    passage: Passage,
    /// Envoy was told to close the connection.
    closing: bool,
    closed: bool,
}

/// Where the client's octets are that the session has not taken.
#[derive(Default)]
struct Delivery {
    /// Envoy has offered octets at least once, so its read buffer can be used.
    readable: bool,
    /// Some are in Envoy's read buffer.
    left: bool,
    /// These were in Envoy's read buffer before those that are left, and go back there.
    aside: Vec<u8>,
    /// When the connection's deadline is looked at next.
    watched: Option<Duration>,
    /// The next filter has written something since the connection was served last, and what follows is
    /// gathered until then.
    gathers: bool,
    gathered: Vec<u8>,
}

/// How much of the octets passing by the observer has been shown.
#[derive(Default)]
struct Passage {
    /// Octets to skip in each direction before the observer wants to see any.
    skip: [u64; 2],
    /// How many octets it was shown at once lately.
    window: usize,
    /// The client's octets wait for the observer to let them proceed; it was shown so many.
    held: Option<usize>,
}

/// No more octets of the next filter are gathered.
const MAX_GATHERED: usize = 256 << 10;

/// How many octets an observer is shown at once, at least and at most: few of a large packet, whose
/// content it skips, and many small packets, because each look costs a call.
const WINDOW: std::ops::RangeInclusive<usize> = 1 << 10..=1 << 16;

struct EnvoyConnection;

impl Surroundings for EnvoyConnection {
    fn server_name(&self) -> Option<String> {
        let name = hostcalls::get_property(vec!["connection", "requested_server_name"]);
        let name = String::from_utf8(name.ok().flatten()?).ok()?;
        (!name.is_empty()).then_some(name)
    }

    fn source_address(&self) -> Option<String> {
        let address = hostcalls::get_property(vec!["source", "address"]);
        let address = String::from_utf8(address.ok().flatten()?).ok()?;
        // `address:port`, with brackets around an IPv6 address.
        Some(address.rsplit_once(':').map_or(&*address, |(address, _)| address).to_owned())
    }
}

impl<F: Filter> Connection<F> {
    pub(crate) fn new(id: u32, shared: Rc<Shared<F>>) -> Self {
        let now = shared.now();
        let session = match &shared.mode {
            Mode::Bridge(limits) => {
                let surroundings = Box::new(EnvoyConnection);
                let carry = |link: &mut Link| shared.filter.carry(link);
                Session::Bridge(Box::new(Bridge::new(limits.clone(), surroundings, now, carry)))
            }
            Mode::Observe => Session::Observe(shared.filter.watch(now)),
        };
        let state = State {
            session,
            delivery: Delivery::default(),
            passage: Passage::default(),
            closing: false,
            closed: false,
        };
        let state = Rc::new(RefCell::new(state));
        shared.add(id, &state);
        Self { id, shared, state }
    }
}

impl<F: Filter> Drop for Connection<F> {
    fn drop(&mut self) {
        self.shared.remove(self.id);
    }
}

impl<F: Filter> Context for Connection<F> {}

impl<F: Filter> StreamContext for Connection<F> {
    fn on_new_connection(&mut self) -> Action {
        let state = &mut *self.state.borrow_mut();
        state.delivery.watch(&self.shared, self.id, state.session.deadline());
        if let Session::Observe(observer) = &state.session
            && !observer.may_proceed()
        {
            state.passage.held = Some(0);
            return Action::Pause;
        }
        Action::Continue
    }

    fn on_downstream_data(&mut self, size: usize, end: bool) -> Action {
        let state = &mut *self.state.borrow_mut();
        state.delivery.readable = true;
        if state.closing || state.closed {
            return Action::Pause;
        }
        match &mut state.session {
            Session::Bridge(bridge) => {
                state.delivery.left = size > 0;
                if bridge.accepts_native() {
                    let octets = state.delivery.take_all();
                    #[cfg(feature = "trap")]
                    trap_on_command(&octets);
                    let now = self.shared.now();
                    bridge.handle_native(now, octets);
                    if end {
                        bridge.handle_native_end(now);
                    }
                    // What was taken must not reach the next filter as it is.
                    state.delivery.deliver(bridge, &self.shared, self.id, true);
                    if bridge.next_step().close {
                        self.shared.wake(self.id);
                    }
                } else {
                    state.delivery.put_back();
                }
                Action::Pause
            }
            Session::Observe(observer) => {
                state.passage.show(observer, Direction::FromClient, size);
                if observer.may_proceed() {
                    state.passage.held = None;
                    Action::Continue
                } else {
                    Action::Pause
                }
            }
        }
    }

    fn on_upstream_data(&mut self, size: usize, _end: bool) -> Action {
        let state = &mut *self.state.borrow_mut();
        match &mut state.session {
            Session::Bridge(bridge) => {
                let delivery = &mut state.delivery;
                if let Some(octets) = self.get_upstream_data(0, size) {
                    if delivery.gather(bridge, &octets) {
                        self.set_upstream_data(0, usize::MAX, &[]);
                        return Action::Continue;
                    }
                    bridge.handle_http(self.shared.now(), delivery.with_gathered(octets));
                }
                if self.shared.gathers && !delivery.gathers {
                    delivery.gathers = true;
                    self.shared.wake(self.id);
                }
                let (first, rest) = bridge.take_native();
                self.set_upstream_data(0, usize::MAX, &first);
                if !rest.is_empty() {
                    self.set_upstream_data(usize::MAX, 0, &rest);
                }
                let step = bridge.next_step();
                let resumed = state.delivery.left && bridge.accepts_native();
                if step.http_output || step.close || resumed {
                    self.shared.wake(self.id);
                }
                state.delivery.watch(&self.shared, self.id, step.deadline);
            }
            Session::Observe(observer) => {
                state.passage.show(observer, Direction::ToClient, size);
            }
        }
        Action::Continue
    }

    fn on_downstream_close(&mut self, by: PeerType) {
        let by = match by {
            PeerType::Remote => Peer::Native,
            _ => Peer::Next,
        };
        self.state.borrow_mut().close(by);
        self.shared.remove(self.id);
    }
}

impl<F: Filter> State<F> {
    fn close(&mut self, by: Peer) {
        if !std::mem::replace(&mut self.closed, true) {
            match &mut self.session {
                Session::Bridge(bridge) => bridge.handle_close(by),
                Session::Observe(observer) => observer.handle_close(by),
            }
        }
    }

    /// Does what could not be done where it became due. Called in the connection's context, from a
    /// stack with nothing of the connection on it.
    pub(crate) fn serve(&mut self, shared: &Shared<F>, id: u32) {
        if self.closing || self.closed {
            return;
        }
        if let Session::Bridge(bridge) = &mut self.session {
            self.delivery.gathers = false;
            if !self.delivery.gathered.is_empty() {
                bridge.handle_http(shared.now(), self.delivery.with_gathered(Vec::new()));
            }
            let waiting = self.delivery.left || !self.delivery.aside.is_empty();
            if waiting && bridge.accepts_native() {
                let octets = self.delivery.take_all();
                bridge.handle_native(shared.now(), octets);
                self.delivery.deliver(bridge, shared, id, true);
            } else {
                self.delivery.put_back();
                self.delivery.deliver(bridge, shared, id, false);
            }
            if bridge.next_step().close {
                // Envoy flushes what was written before; until then nothing is left to do, and
                // doing it would keep Envoy from flushing.
                self.closing = true;
                close_downstream();
            }
        }
    }

    /// A deadline of this connection passed. Called in its context, from a clean stack.
    pub(crate) fn expire(&mut self, shared: &Shared<F>, id: u32, now: Duration) {
        if self.closing || self.closed {
            return;
        }
        self.delivery.watched = None;
        match &mut self.session {
            Session::Bridge(bridge) => {
                bridge.handle_timeout(now);
                self.serve(shared, id);
            }
            Session::Observe(observer) => {
                if observer.deadline().is_some_and(|deadline| deadline <= now)
                    && observer.handle_timeout()
                {
                    self.closing = true;
                    close_downstream();
                } else if observer.may_proceed() && self.passage.held.take().is_some() {
                    resume();
                }
            }
        }
        self.delivery.watch(shared, id, self.session.deadline());
    }
}

impl Delivery {
    /// Keeps octets of the next filter for later, if more are likely to come before that. Where octets for
    /// the client wait for a turn, this is it.
    fn gather<P: bridge::Protocol>(&mut self, bridge: &Bridge<P>, octets: &[u8]) -> bool {
        let gathers = self.gathers
            && self.gathered.len() + octets.len() <= MAX_GATHERED
            && !bridge.next_step().native_output;
        if gathers {
            self.gathered.extend_from_slice(octets);
        }
        gathers
    }

    /// What was gathered, and these octets behind it.
    fn with_gathered(&mut self, octets: Vec<u8>) -> Bytes {
        if self.gathered.is_empty() {
            return Bytes::from(octets);
        }
        let mut all = std::mem::take(&mut self.gathered);
        all.extend_from_slice(&octets);
        Bytes::from(all)
    }

    /// Takes all of the client's octets, leaving Envoy's buffer as it is: it is about to be
    /// replaced.
    fn take_all(&mut self) -> Bytes {
        let mut all = std::mem::take(&mut self.aside);
        if std::mem::take(&mut self.left) {
            let more = hostcalls::get_buffer(BufferType::DownstreamData, 0, usize::MAX);
            let more = more.ok().flatten().unwrap_or_default();
            if all.is_empty() {
                all = more;
            } else {
                all.extend_from_slice(&more);
            }
        }
        Bytes::from(all)
    }

    fn put_back(&mut self) {
        if !self.aside.is_empty() && self.readable {
            let aside = std::mem::take(&mut self.aside);
            let _ = hostcalls::set_buffer(BufferType::DownstreamData, 0, 0, &aside);
            self.left = true;
        }
    }

    /// Hands the bridge's octets to the next filter. `taken` says that Envoy's buffer holds only
    /// octets that were taken from it.
    fn deliver<F: Filter>(
        &mut self,
        bridge: &mut Bridge<F::Protocol>,
        shared: &Shared<F>,
        id: u32,
        taken: bool,
    ) {
        if !self.readable {
            // The client has sent nothing, so the next filter cannot be given anything either, and
            // the client cannot be answered.
            let _ = bridge.take_native();
            return;
        }
        let step = bridge.next_step();
        if step.native_output {
            bridge.request_turn();
        }
        let octets = bridge.take_http();
        if !octets.is_empty() {
            if !taken {
                self.aside = self.take_all().into();
                if !self.aside.is_empty() {
                    shared.wake(id);
                }
            }
            let _ = hostcalls::set_buffer(BufferType::DownstreamData, 0, usize::MAX, &octets);
            resume();
        } else if taken {
            let _ = hostcalls::set_buffer(BufferType::DownstreamData, 0, usize::MAX, &[]);
        }
        self.watch(shared, id, step.deadline);
    }

    /// Has the deadline looked at when it is due, unless the connection is looked at before that
    /// anyway. One entry in the shared list of deadlines for each connection is enough.
    fn watch<F: Filter>(&mut self, shared: &Shared<F>, id: u32, deadline: Option<Duration>) {
        if let Some(deadline) = deadline
            && self.watched.is_none_or(|watched| deadline < watched)
        {
            self.watched = Some(deadline);
            shared.watch_deadline(id, deadline);
        }
    }
}

impl Passage {
    /// Shows an observer what it wants to see of the octets in Envoy's buffer.
    fn show(&mut self, observer: &mut impl Observer, direction: Direction, size: usize) {
        let [from_client, to_client] = &mut self.skip;
        let (buffer, skip, shown) = match direction {
            Direction::FromClient => {
                (BufferType::DownstreamData, from_client, self.held.unwrap_or_default())
            }
            Direction::ToClient => (BufferType::UpstreamData, to_client, 0),
        };
        observer.passed(direction, size.saturating_sub(shown));
        let window_size = &mut self.window;
        let mut at = shown + pass(skip, size.saturating_sub(shown));
        while at < size {
            *window_size = (*window_size).clamp(*WINDOW.start(), *WINDOW.end());
            let window = hostcalls::get_buffer(buffer, at, (*window_size).min(size - at));
            let window = window.ok().flatten().filter(|window| !window.is_empty());
            let Some(window) = window else { break };
            at += window.len();
            *skip = observer.see(direction, &window);
            *window_size = if *skip < window.len() as u64 { *window_size * 2 } else { 0 };
            at += pass(skip, size.saturating_sub(at));
        }
        if direction == Direction::FromClient
            && let Some(shown) = &mut self.held
        {
            *shown = size;
        }
        observer.attributes(&mut filter_state::set);
    }
}

/// Skips as many of the next `size` octets as are to be skipped, and returns how many.
fn pass(skip: &mut u64, size: usize) -> usize {
    let passed = usize::try_from(*skip).unwrap_or(usize::MAX).min(size);
    *skip -= passed as u64;
    passed
}

fn resume() {
    let _ = hostcalls::resume_downstream();
}

fn close_downstream() {
    let _ = hostcalls::close_downstream();
}

/// For the tests of what a trap does: what nothing in a module of users can do.
#[cfg(feature = "trap")]
fn trap_on_command(octets: &[u8]) {
    const COMMAND: &[u8] = b"trap on command";
    if octets.windows(COMMAND.len()).any(|window| window == COMMAND) {
        std::process::abort();
    }
}
