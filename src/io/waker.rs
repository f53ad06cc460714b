//! Wakes the reactor from another thread.

use super::counter::Counter;

/// Makes [`super::ring::Ring::wait`] return, from any thread. Wakeups that come before the reactor looks
/// are one.
#[derive(Clone, Debug)]
pub struct Waker {
    counter: Counter,
}

impl Waker {
    /// A waker of whoever reads `counter`.
    pub(super) fn new(counter: Counter) -> Waker {
        Waker { counter }
    }

    /// Wakes the reactor. Never blocks.
    pub fn wake(&self) {
        self.counter.add();
    }
}
