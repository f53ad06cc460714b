//! A twin of the kernel's event counter. All counters of an execution lie in one kernel, which a ring sleeps in.

use loom::sync::{Condvar, Mutex, MutexGuard};
use loom::thread::JoinHandle;
use std::io::Result;

struct State {
    counts: Vec<u64>,
    /// Threads that may still count.
    helpers: usize,
}

struct Kernel {
    state: Mutex<State>,
    changed: Condvar,
}

loom::lazy_static! {
    static ref KERNEL: Kernel = Kernel {
        state: Mutex::new(State { counts: Vec::new(), helpers: 0 }),
        changed: Condvar::new(),
    };
}

#[derive(Clone, Debug)]
pub(crate) struct Counter(usize);

fn lock() -> MutexGuard<'static, State> {
    KERNEL.state.lock().expect("nobody panics with it")
}

impl Counter {
    pub(crate) fn to_read() -> Result<Counter> {
        Counter::to_poll()
    }

    pub(crate) fn to_poll() -> Result<Counter> {
        let mut state = lock();
        state.counts.push(0);
        Ok(Counter(state.counts.len() - 1))
    }

    pub(crate) fn add(&self) {
        lock().counts[self.0] += 1;
        KERNEL.changed.notify_all();
    }

    pub(crate) fn take(&self) {
        lock().counts[self.0] = 0;
    }

    /// Sleeps until `look` finds something among the counters. False if it never will, since every helper has ended.
    pub(super) fn sleep(mut look: impl FnMut(&mut Vec<u64>) -> bool) -> bool {
        let mut state = lock();
        loop {
            if look(&mut state.counts) {
                return true;
            }
            if state.helpers == 0 {
                return false;
            }
            state = KERNEL.changed.wait(state).expect("nobody panics with it");
        }
    }

    pub(super) fn index(&self) -> usize {
        self.0
    }
}

/// A thread that may wake a ring.
pub(crate) fn helper<T: 'static>(work: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    lock().helpers += 1;
    loom::thread::spawn(move || {
        let result = work();
        lock().helpers -= 1;
        KERNEL.changed.notify_all();
        result
    })
}
