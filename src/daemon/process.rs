//! What the process asks of the system for itself: locked memory, protection from its own writeback, signals.

use super::mailbox::{Mailbox, Order};
use crate::error::{Error, Result};
use crate::io::thread;
use rustix::mm::{MlockAllFlags, mlockall};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Of the thread that waits for signals.
const STACK_BYTES: usize = 128 << 10;

/// Keeps the daemon from waiting for itself: its pages stay in memory, and when memory is short, its own allocations do
/// not wait for writes to the very device it serves. Returns what the system refused, in words.
pub(super) fn protect() -> Vec<String> {
    let mut refused = Vec::new();
    // On fault: what is never touched need not be there. The pools are touched at once.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if let Err(error) = mlockall(flags) {
        refused.push(format!(
            "memory cannot be locked ({error}): clients may stall when memory is short; \
             run as root or raise LimitMEMLOCK"
        ));
    }
    if let Err(error) = thread::mark_io_flusher(true) {
        refused.push(format!(
            "this thread cannot be marked as serving a disk ({error}): run as root, with CAP_SYS_RESOURCE"
        ));
    }
    refused
}

/// Turns SIGTERM and SIGINT into an order to stop.
///
/// # Errors
/// The system does not allow it.
pub(super) fn watch_signals(mailbox: Mailbox) -> Result<signal_hook::iterator::Handle> {
    let failed = |error| Error::io("Cannot watch for signals", error);
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let handle = signals.handle();
    let watch = move || {
        for _signal in signals.forever() {
            mailbox.post(Order::Stop);
        }
    };
    thread::spawn("rblk-signals", STACK_BYTES, watch).map_err(failed)?;
    Ok(handle)
}
