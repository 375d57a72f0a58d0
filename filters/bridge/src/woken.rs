//! Which streams may have something to say, told by the wakers that `h2` calls.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// Streams whose state may have changed.
#[derive(Debug, Default)]
pub(crate) struct Woken(Mutex<Vec<u32>>);

impl Woken {
    pub(crate) fn push(&self, id: u32) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.last() != Some(&id) {
            ids.push(id);
        }
    }

    pub(crate) fn take(&self) -> Vec<u32> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A waker that adds this stream.
pub(crate) fn waker(id: u32, woken: &Arc<Woken>) -> Waker {
    Waker::from(Arc::new(StreamWaker { id, woken: Arc::clone(woken) }))
}

#[derive(Debug)]
struct StreamWaker {
    id: u32,
    woken: Arc<Woken>,
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.woken.push(self.id);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.push(self.id);
    }
}
