//! Twins of the standard library's bounded channel: one lock, one condition, no message lost or kept.

use loom::sync::{Arc, Condvar, Mutex};
use std::collections::VecDeque;

struct State<T> {
    queue: VecDeque<T>,
    bound: usize,
    senders: usize,
    receiver: bool,
}

struct Channel<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

pub(crate) struct SyncSender<T>(Arc<Channel<T>>);

pub(crate) struct Receiver<T>(Arc<Channel<T>>);

/// The other end is gone, or the channel is full.
#[derive(Debug)]
pub(crate) struct Failed;

pub(crate) fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let state = State { queue: VecDeque::new(), bound, senders: 1, receiver: true };
    let channel = Arc::new(Channel { state: Mutex::new(state), changed: Condvar::new() });
    (SyncSender(channel.clone()), Receiver(channel))
}

impl<T> Channel<T> {
    fn with<R>(&self, change: impl FnOnce(&mut State<T>) -> R) -> R {
        let result = change(&mut self.state.lock().expect("nobody panics with it"));
        self.changed.notify_all();
        result
    }
}

impl<T> SyncSender<T> {
    pub(crate) fn try_send(&self, message: T) -> Result<(), Failed> {
        self.0.with(|state| {
            if !state.receiver || state.queue.len() >= state.bound {
                return Err(Failed);
            }
            state.queue.push_back(message);
            Ok(())
        })
    }

    pub(crate) fn send(&self, message: T) -> Result<(), Failed> {
        let mut state = self.0.state.lock().expect("nobody panics with it");
        while state.receiver && state.queue.len() >= state.bound {
            state = self.0.changed.wait(state).expect("nobody panics with it");
        }
        if !state.receiver {
            return Err(Failed);
        }
        state.queue.push_back(message);
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, Failed> {
        self.0.with(|state| state.queue.pop_front().ok_or(Failed))
    }

    pub(crate) fn recv(&self) -> Result<T, Failed> {
        let mut state = self.0.state.lock().expect("nobody panics with it");
        loop {
            if let Some(message) = state.queue.pop_front() {
                drop(state);
                self.0.changed.notify_all();
                return Ok(message);
            }
            if state.senders == 0 {
                return Err(Failed);
            }
            state = self.0.changed.wait(state).expect("nobody panics with it");
        }
    }
}

impl<T> Clone for SyncSender<T> {
    fn clone(&self) -> SyncSender<T> {
        self.0.with(|state| state.senders += 1);
        SyncSender(self.0.clone())
    }
}

impl<T> Drop for SyncSender<T> {
    fn drop(&mut self) {
        self.0.with(|state| state.senders -= 1);
    }
}

impl<T> Drop for Receiver<T> {
    /// What nobody will take is dropped at once, and with it the other end of its answer.
    fn drop(&mut self) {
        let left = self.0.with(|state| {
            state.receiver = false;
            std::mem::take(&mut state.queue)
        });
        drop(left);
    }
}
