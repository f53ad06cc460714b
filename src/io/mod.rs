//! The outside world through one `io_uring`: disk, sockets, timers, mailbox. Linux only.
//!
//! ```text
//!     daemon ──► disk   net   peer   (state machines: start, on_completion, give up their buffers)
//!                   \    |    /
//!                    ring ── buffer      one thread, no locks, nothing allocated per request
//!                      │
//!                    kernel
//! ```
//!
//! Two rules hold this room together:
//!
//! 1. **Memory belongs to an operation until its completion**, also when it was cancelled. Every state
//!    machine says when nothing of it is left on the ring, and is dropped only then; [`Io`] waits for the
//!    rest.
//! 2. **A completion reaches the one who started it** by its [`ring::Token`], and nobody else.
//!
//! Besides the `ublk` crate this is the only room with `unsafe`.

mod allowed;
pub mod bell;
pub mod buffer;
pub mod client;
pub mod clock;
pub mod counter;
pub mod disk;
pub mod faults;
pub mod net;
pub mod peer;
pub mod ring;
pub mod socket_peer;
pub mod thread;
pub mod tls;
mod token;
pub mod ublk;
mod waker;

use crate::limits::QUIESCE_MS;
use std::time::Duration;

/// The ring and the pool of payload buffers: what everyone who does I/O is lent.
pub struct Io {
    /// Operations and their completions.
    pub ring: ring::Ring,
    /// Payload buffers.
    pub pool: buffer::Pool,
}

impl Io {
    /// A ring for `entries` submissions at a time, and `count` buffers of `bytes` bytes, registered with it
    /// where the locked-memory limit allows. To be made on the thread that uses it.
    ///
    /// # Errors
    /// What is missing on this host, in words for the operator.
    pub fn new(entries: u32, count: usize, bytes: usize) -> std::io::Result<Io> {
        let mut ring = ring::Ring::new(entries)?;
        let mut pool = buffer::Pool::new(count, bytes)?;
        pool.register(&mut ring)?;
        Ok(Io { ring, pool })
    }
}

/// Everything that is open now, but for standard input, output and error, ends when this process becomes another
/// program.
///
/// # Errors
/// The kernel is older than 5.11.
pub fn close_on_exec() -> std::io::Result<()> {
    let (first, last) = (3 as libc::c_uint, libc::c_uint::MAX);
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: the call takes numbers only; it closes nothing, it sets a flag of descriptors.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

impl Drop for Io {
    fn drop(&mut self) {
        if !self.ring.quiesce(Duration::from_millis(QUIESCE_MS)) {
            // The kernel may still write to a buffer: its memory must never be used for anything else.
            self.pool.leak();
        }
    }
}
