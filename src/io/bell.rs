//! A completion that another thread causes: how helper threads tell the reactor that something is ready
//! for it.
//!
//! Unlike the [`super::ring::Waker`], which belongs to the ring and wakes everybody, a bell belongs to
//! one owner and completes that owner's token. Rings that come before the owner looks are one.

use super::counter::Counter;
use super::ring::{Completion, Ring, Token};
use std::io::Result;

/// The reactor's end.
pub struct Bell {
    counter: Counter,
    token: Token,
    armed: bool,
}

/// The other end; for any thread, and as many as wanted.
#[derive(Clone)]
pub struct Ringer(Counter);

impl Bell {
    /// A bell that completes `token`, armed.
    ///
    /// # Errors
    /// No file descriptor is free.
    pub fn new(ring: &mut Ring, token: Token) -> Result<Bell> {
        let mut bell = Bell { counter: Counter::to_poll()?, token, armed: false };
        bell.arm(ring);
        Ok(bell)
    }

    /// An end for another thread.
    pub fn ringer(&self) -> Ringer {
        Ringer(self.counter.clone())
    }

    /// Takes the bell's completion. With `again` it can ring once more; look for what was announced
    /// after this, not before, or an announcement is missed.
    pub fn on_completion(&mut self, ring: &mut Ring, done: Completion, again: bool) {
        assert!(done.token == self.token && self.armed, "not this bell");
        self.armed = false;
        self.counter.take();
        if again && done.result >= 0 {
            self.arm(ring);
        }
    }

    /// Asks for a last completion, upon which it is not armed any more.
    pub fn cancel(&mut self, ring: &mut Ring) {
        if self.armed {
            ring.cancel(self.token);
        }
    }

    /// True while it has an operation on the ring.
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    fn arm(&mut self, ring: &mut Ring) {
        self.armed = true;
        ring.watch(&self.counter, self.token);
    }
}

impl Ringer {
    /// Completes the bell's token. Never blocks.
    pub fn ring(&self) {
        self.0.add();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::io::ring::Owner;
    use std::time::Duration;

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

    fn next(ring: &mut Ring) -> Completion {
        loop {
            if let Some(done) = ring.next() {
                return done;
            }
            ring.wait(PATIENCE).expect("ring");
        }
    }

    #[test]
    fn rings_from_another_thread_complete_the_token() {
        let mut ring = Ring::new(8).expect("ring");
        let token = Token::new(Owner::Probe, 1, 2);
        let mut bell = Bell::new(&mut ring, token).expect("bell");
        for _ in 0..3 {
            let ringer = bell.ringer();
            let other = std::thread::spawn(move || {
                ringer.ring();
                ringer.ring();
            });
            other.join().expect("thread");
            let done = next(&mut ring);
            assert_eq!(done.token, token);
            bell.on_completion(&mut ring, done, true);
        }
        bell.cancel(&mut ring);
        let done = next(&mut ring);
        bell.on_completion(&mut ring, done, true);
        assert!(!bell.is_armed());
    }
}
