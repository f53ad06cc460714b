//! Wakes the reactor from another thread.

use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Makes [`super::ring::Ring::wait`] return, from any thread. Wakeups that come before the reactor looks
/// are one.
#[derive(Clone, Debug)]
pub struct Waker {
    fd: Arc<OwnedFd>,
}

impl Waker {
    /// A waker of a new event counter. It blocks when read: a non-blocking one would make io_uring give up
    /// at once instead of waiting.
    pub(super) fn new() -> std::io::Result<Waker> {
        let fd = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        Ok(Waker { fd })
    }

    /// Wakes the reactor. Never blocks: the counter would have to overflow 64 bits.
    pub fn wake(&self) {
        while rustix::io::write(&*self.fd, &1u64.to_ne_bytes()) == Err(rustix::io::Errno::INTR) {}
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
