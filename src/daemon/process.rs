//! What the process asks of the system for itself: a log, locked memory, protection from its own writeback, signals.

use super::mailbox::{Mailbox, Order};
use crate::error::{Error, Result};
use rustix::mm::{MlockAllFlags, mlockall};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::IsTerminal;

/// Writes the log to stderr, which systemd takes to the journal. `RUST_LOG` chooses what.
pub(super) fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // The journal stamps each line itself. A second start in one process shares the first one's log.
    let started = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => log.without_time().try_init(),
        None => log.try_init(),
    };
    drop(started);
}

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
    if let Err(error) = crate::io::set_io_flusher() {
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
    let thread = std::thread::Builder::new().name("rblk-signals".to_owned());
    let watch = move || {
        for _signal in signals.forever() {
            mailbox.post(Order::Stop);
        }
    };
    thread.stack_size(128 << 10).spawn(watch).map_err(failed)?;
    Ok(handle)
}
