//! The kernel's event counter: how one thread tells another, which sleeps in the ring, that there is something
//! to do. What it counts is never lost, only summed up.
//!
//! The rule of who announces: announce first, count up after that. The rule of who is told: take the count first, look
//! for what was announced after that. Any other order sleeps over an announcement: `tests/loom` shows it.

use rustix::event::{EventfdFlags, eventfd};
use std::io::Result;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// A counter; for any thread, and as many as wanted.
#[derive(Clone, Debug)]
pub struct Counter(Arc<OwnedFd>);

impl Counter {
    /// A counter at zero that the ring reads. It blocks when read: a non-blocking one would make io_uring give up
    /// at once instead of waiting.
    ///
    /// # Errors
    /// No file descriptor is free.
    pub fn to_read() -> Result<Counter> {
        Ok(Counter(Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?)))
    }

    /// A counter at zero that the ring polls and its owner takes.
    ///
    /// # Errors
    /// No file descriptor is free.
    pub fn to_poll() -> Result<Counter> {
        Ok(Counter(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Counts one up. Never blocks: the counter would have to overflow 64 bits.
    pub fn add(&self) {
        while rustix::io::write(&*self.0, &1u64.to_ne_bytes()) == Err(rustix::io::Errno::INTR) {}
    }

    /// Sets a counter that is polled to zero.
    pub fn take(&self) {
        // It may be zero already.
        let _ = rustix::io::read(&*self.0, &mut [0; 8]);
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
