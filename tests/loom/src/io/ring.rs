//! A twin of the ring: watched counters complete their tokens, and one counter is always read to wake it.

use super::counter::Counter;
pub(crate) use super::waker::Waker;
use std::collections::VecDeque;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token(pub(crate) u32);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    pub(crate) result: i32,
}

/// The read of the waker's counter.
const WAKE: Token = Token(u32::MAX);

pub(crate) struct Ring {
    wake_counter: Counter,
    reads: bool,
    watched: Vec<(Counter, Token)>,
    ready: VecDeque<Completion>,
}

impl Ring {
    pub(crate) fn new() -> Ring {
        let wake_counter = Counter::to_read().expect("a counter");
        Ring { wake_counter, reads: true, watched: Vec::new(), ready: VecDeque::new() }
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::new(self.wake_counter.clone())
    }

    pub(crate) fn watch(&mut self, counter: &Counter, token: Token) {
        self.watched.push((counter.clone(), token));
    }

    pub(crate) fn cancel(&mut self, token: Token) {
        self.watched.retain(|(_, watched)| *watched != token);
        self.ready.push_back(Completion { token, result: -125 });
    }

    /// Takes wakeups by itself, as the real one.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        while let Some(done) = self.ready.pop_front() {
            if done.token != WAKE {
                return Some(done);
            }
            self.reads = true;
        }
        None
    }

    /// Sleeps until something completes; false if nothing ever will. The kernel resets a counter that it reads, not
    /// one that it watches.
    #[must_use]
    pub(crate) fn wait(&mut self) -> bool {
        let Ring { wake_counter, reads, watched, ready } = self;
        Counter::sleep(|counts| {
            if *reads && counts[wake_counter.index()] > 0 {
                counts[wake_counter.index()] = 0;
                *reads = false;
                ready.push_back(Completion { token: WAKE, result: 8 });
            }
            watched.retain(|(counter, token)| {
                let rings = counts[counter.index()] > 0;
                if rings {
                    ready.push_back(Completion { token: *token, result: 1 });
                }
                !rings
            });
            !ready.is_empty()
        })
    }
}
