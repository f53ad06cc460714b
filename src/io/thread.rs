//! Threads of the daemon.
//!
//! All of them share the daemon's memory, and with it the locks that an allocation takes: one that waited for writeback
//! with such a lock in hand would keep the reactor waiting, and the writeback may be of the very volume that the
//! reactor serves. So every thread is marked, not the reactor alone.

use std::io::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// From `linux/prctl.h`; since Linux 5.6.
const PR_SET_IO_FLUSHER: libc::c_int = 57;
/// After a client could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Starts a thread of the daemon: marked where the system allows it (whether it does, the reactor has told).
///
/// # Errors
/// The system has none left.
pub fn spawn<T: Send + 'static>(
    name: &str,
    stack_bytes: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let marked = move || {
        let _ = mark_io_flusher(true);
        body()
    };
    Builder::new().name(name.to_owned()).stack_size(stack_bytes).spawn(marked)
}

/// Hands whoever connects to `admit`, until `stopping`: who sets that wakes the thread out of `accept` by connecting.
pub fn accept_until<T>(
    stopping: &AtomicBool,
    accept: impl Fn() -> Result<T>,
    mut admit: impl FnMut(T),
) {
    while !stopping.load(Ordering::SeqCst) {
        let accepted = accept();
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok(client) => admit(client),
            // Out of file descriptors or memory: a pause, so that the loop does not eat a core meanwhile.
            Err(_) => std::thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// Marks this thread as one that serves a disk: its allocations do not wait for writeback, which might wait for it.
/// Threads that the kernel makes for it and processes that it starts inherit that: those that serve no disk take the
/// mark away.
///
/// # Errors
/// The process lacks `CAP_SYS_RESOURCE`.
pub fn mark_io_flusher(serves_a_disk: bool) -> Result<()> {
    // SAFETY: the call takes numbers only and changes a flag of this thread.
    let result =
        unsafe { libc::prctl(PR_SET_IO_FLUSHER, libc::c_ulong::from(serves_a_disk), 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the calling thread; `None` where the process may not ask.
    fn is_marked() -> Option<bool> {
        const PR_GET_IO_FLUSHER: libc::c_int = 58;
        // SAFETY: as in `mark_io_flusher`.
        let result = unsafe { libc::prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) };
        (result >= 0).then_some(result == 1)
    }

    #[test]
    fn threads_are_marked_and_those_they_are_started_from_need_not_be() {
        let outer = std::thread::spawn(|| {
            let inner = spawn("test", 64 << 10, is_marked).expect("a thread");
            (is_marked(), inner.join().expect("it ends"))
        });
        match outer.join().expect("it ends") {
            (None, inner) => assert_eq!(inner, None, "without CAP_SYS_RESOURCE"),
            (outer, inner) => assert_eq!((outer, inner), (Some(false), Some(true))),
        }
    }
}
