//! One filter configuration on one worker: its connections, wake-ups, timers and metrics.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bridge::metrics::{Kind, Registry};
use hashbrown::HashMap;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::{ContextType, LogLevel, MetricType};

use crate::configuration;
use crate::connection::{Connection, State};
use crate::{Filter, Mode};

/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How many ticks pass between two reports of the metrics.
const TICKS_PER_REPORT: u32 = 10;

pub(crate) fn create<F: Filter>(id: u32) -> Box<dyn RootContext> {
    Box::new(Root::<F> { id, shared: None, registry: Registry::default(), ticks: 0 })
}

struct Root<F: Filter> {
    id: u32,
    /// Set once the configuration was accepted.
    shared: Option<Rc<Shared<F>>>,
    registry: Registry,
    ticks: u32,
}

/// What the connections of one filter share.
pub(crate) struct Shared<F: Filter> {
    pub(crate) filter: F,
    pub(crate) mode: Mode,
    pub(crate) gathers: bool,
    queue: u32,
    started: Instant,
    connections: RefCell<HashMap<u32, Rc<RefCell<State<F>>>>>,
    /// Connections with something to do, and whether the queue already holds a wake-up for them.
    woken: RefCell<Vec<u32>>,
    deadlines: RefCell<BinaryHeap<Reverse<(Duration, u32)>>>,
}

impl<F: Filter> Shared<F> {
    /// The time since the filter was configured, on a clock that never goes back.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn add(&self, id: u32, state: &Rc<RefCell<State<F>>>) {
        self.connections.borrow_mut().insert(id, Rc::clone(state));
    }

    pub(crate) fn remove(&self, id: u32) {
        self.connections.borrow_mut().remove(&id);
    }

    /// Has [`State::serve`] called for a connection soon, from a stack with nothing else on it.
    pub(crate) fn wake(&self, id: u32) {
        let mut woken = self.woken.borrow_mut();
        if woken.is_empty()
            && let Err(status) = hostcalls::enqueue_shared_queue(self.queue, None)
        {
            log::error!("no wake-up: the queue answered {status:?}");
        }
        if woken.last() != Some(&id) {
            woken.push(id);
        }
    }

    /// Has the connection's deadline looked at when it is due.
    pub(crate) fn watch_deadline(&self, id: u32, deadline: Duration) {
        self.deadlines.borrow_mut().push(Reverse((deadline, id)));
    }

    fn connection(&self, id: u32) -> Option<Rc<RefCell<State<F>>>> {
        self.connections.borrow().get(&id).map(Rc::clone)
    }

    fn serve_woken(&self) {
        let woken = std::mem::take(&mut *self.woken.borrow_mut());
        for id in woken {
            if let Some(state) = self.connection(id)
                && hostcalls::set_effective_context(id).is_ok()
            {
                state.borrow_mut().serve(self, id);
            }
        }
    }

    fn expire(&self) {
        let now = self.now();
        loop {
            let mut deadlines = self.deadlines.borrow_mut();
            match deadlines.peek() {
                Some(Reverse((deadline, _))) if *deadline <= now => {}
                _ => return,
            }
            let due = deadlines.pop();
            drop(deadlines);
            if let Some(Reverse((_, id))) = due
                && let Some(state) = self.connection(id)
                && hostcalls::set_effective_context(id).is_ok()
            {
                state.borrow_mut().expire(self, id, now);
            }
        }
    }
}

impl<F: Filter> Context for Root<F> {}

impl<F: Filter> RootContext for Root<F> {
    fn on_vm_start(&mut self, _: usize) -> bool {
        follow_log_level();
        true
    }

    fn on_configure(&mut self, _: usize) -> bool {
        let json = configuration::as_json(self.get_plugin_configuration().unwrap_or_default());
        let filter = match F::configure(&json, &self.registry) {
            Ok(filter) => filter,
            Err(mistakes) => {
                let mut report = format!("the configuration has {} mistake(s):", mistakes.len());
                for mistake in mistakes {
                    report.push_str("\n  ");
                    report.push_str(&mistake);
                }
                log::error!("{report}");
                return false;
            }
        };
        // Queues are shared by all workers under one name space, so the name must be unique to
        // this one.
        let unique = RandomState::new().hash_one(self.id);
        let queue = self.register_shared_queue(&format!("wake-up {} {unique:016x}", self.id));
        self.set_tick_period(TICK);
        self.shared = Some(Rc::new(Shared {
            mode: filter.mode(),
            gathers: filter.gathers(),
            filter,
            queue,
            started: Instant::now(),
            connections: RefCell::default(),
            woken: RefCell::default(),
            deadlines: RefCell::default(),
        }));
        true
    }

    fn on_tick(&mut self) {
        if let Some(shared) = &self.shared {
            shared.expire();
        }
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_REPORT) {
            follow_log_level();
            report(&self.registry);
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        if let Some(shared) = &self.shared {
            let _ = self.dequeue_shared_queue(queue);
            shared.serve_woken();
        }
    }

    fn create_stream_context(&self, id: u32) -> Option<Box<dyn StreamContext>> {
        let shared = self.shared.as_ref()?;
        Some(Box::new(Connection::new(id, Rc::clone(shared))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }
}

/// Lets through what Envoy would log, so that nothing else costs a call.
fn follow_log_level() {
    proxy_wasm::set_log_level(hostcalls::get_log_level().unwrap_or(LogLevel::Info));
}

fn report(registry: &Registry) {
    registry.changes(|change| {
        let id = change.id().or_else(|| {
            let kind = match change.kind() {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let id = hostcalls::define_metric(kind, change.name()).ok()?;
            change.set_id(id);
            Some(id)
        });
        if let Some(id) = id
            && change.kind() == Kind::Histogram
        {
            for value in change.take_values() {
                let _ = hostcalls::record_metric(id, value);
            }
        } else if let Some(id) = id {
            // Gauges are moved, not set: all workers share one.
            let _ = hostcalls::increment_metric(id, change.by);
        }
    });
}
