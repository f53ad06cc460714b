//! The helper thread of a ublk device: what the driver does in its own time, off the reactor.
//!
//! ```text
//!   reactor                      helper                               driver
//!      │                           │ create or recover ───────────────► │
//!      │ ◄──────── Made(queue) ────┤ (the number is recorded first)     │
//!      │ arm all tags              │                                    │
//!      ├──────── Start ──────────► │ start ───────────────────────────► │  reads partitions from us
//!      │ ◄──────── Started ────────┤                                    │
//!      ├──────── Stop ───────────► │ stop, delete ────────────────────► │  waits for our answers
//!      │ ◄──────── Gone ───────────┤                                    │
//! ```
//!
//! Hanging up instead of an order leaves the device as it is: its clients wait for the next daemon.

use crate::limits::{UBLK_START_MS, UBLK_STOP_MS};
use rblk_ublk::{Control, Device, Error, Options, Queue};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Time for the driver to start a device.
const START: Duration = Duration::from_millis(UBLK_START_MS);
/// Time for the driver to stop a device, before the operator is told.
const STOP: Duration = Duration::from_millis(UBLK_STOP_MS);

/// Keeps a device's number where the next daemon finds it, before the device exists for clients. An
/// error takes the device back.
pub type Keep = Box<dyn FnOnce(u32) -> std::io::Result<()> + Send>;

/// What to make.
pub(super) struct Wanted {
    /// A device to take over; a new one otherwise.
    pub(super) id: Option<u32>,
    /// What it looks like.
    pub(super) options: Options,
    /// Where its number is kept.
    pub(super) record: Keep,
}

/// What the reactor wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// All tags are armed.
    Start,
    /// Have so many sectors.
    Grow(u64),
    /// Take the device away.
    Stop,
    /// Take the device away unless somebody has it open.
    StopUnlessOpen,
}

/// What the reactor is told.
pub(super) enum Report {
    /// The device is there for us, not yet for clients.
    Made {
        /// Its number.
        id: u32,
        /// Its queue.
        queue: Box<Queue>,
    },
    /// Clients can use it.
    Started,
    /// Clients see that it has grown.
    Grown,
    /// It stays as small as it is.
    NotGrown(String),
    /// It was not taken away: somebody has it open.
    InUse,
    /// Taking it away takes long. It goes on.
    Slow(String),
    /// It is taken away.
    Gone,
    /// It could not be made or taken over.
    Failed {
        /// How that ended.
        why: String,
        /// It has clients, who go on waiting for a daemon; otherwise it is taken away.
        left: bool,
    },
}

/// Sees a device through its life. Runs on a thread of its own.
pub(super) fn oversee(wanted: Wanted, orders: &Receiver<Order>, tell: &dyn Fn(Report)) {
    let left = wanted.id.is_some();
    if let Err(error) = try_oversee(wanted, orders, tell) {
        tell(Report::Failed { why: in_words(&error), left });
    }
}

fn try_oversee(
    wanted: Wanted,
    orders: &Receiver<Order>,
    tell: &dyn Fn(Report),
) -> Result<(), Error> {
    let is_new = wanted.id.is_none();
    let Device { mut control, queue } = match wanted.id {
        None => Device::create(&wanted.options)?,
        Some(id) => Device::recover(id, &wanted.options)?,
    };
    let id = control.id();
    if let Err(source) = (wanted.record)(id) {
        drop(queue);
        take_back(&mut control, is_new);
        return Err(Error::Io {
            what: format!("Recording the number of device {id} failed"),
            source,
        });
    }
    tell(Report::Made { id, queue: Box::new(queue) });
    match orders.recv() {
        Ok(Order::Start) => {}
        // No size is ordered before the start.
        Ok(Order::Stop | Order::StopUnlessOpen | Order::Grow(_)) => {
            take_away(&mut control, tell);
            return Ok(());
        }
        Err(_) => {
            take_back(&mut control, is_new);
            return Ok(());
        }
    }
    if let Err(error) = control.start(START) {
        take_back(&mut control, is_new);
        return Err(error);
    }
    tell(Report::Started);
    obey(&mut control, orders, tell);
    Ok(())
}

/// Carries out orders for a device that is started.
fn obey(control: &mut Control, orders: &Receiver<Order>, tell: &dyn Fn(Report)) {
    while let Ok(order) = orders.recv() {
        if let Order::Grow(sectors) = order {
            match control.grow(sectors, START) {
                Ok(true) => tell(Report::Grown),
                Ok(false) => {}
                Err(error) => tell(Report::NotGrown(in_words(&error))),
            }
            continue;
        }
        if order == Order::StopUnlessOpen {
            // Any other outcome is that of a plain stop, which is tried then.
            if let Err(Error::InUse) = control.stop_unless_open(STOP) {
                tell(Report::InUse);
                continue;
            }
        }
        take_away(control, tell);
        return;
    }
}

/// Stops and deletes a device, however long that takes: clients are losing it already.
fn take_away(control: &mut Control, tell: &dyn Fn(Report)) {
    while let Err(error) = control.stop(STOP) {
        tell(Report::Slow(in_words(&error)));
        if !matches!(error, Error::Timeout { .. }) {
            break;
        }
    }
    if let Err(error) = control.delete(STOP) {
        tell(Report::Slow(in_words(&error)));
    }
    tell(Report::Gone);
}

/// Deletes a device that no client has seen. One that was to be taken over has clients, who wait: it
/// stays.
fn take_back(control: &mut Control, is_new: bool) {
    if is_new {
        // What it fails with would hide why it was tried.
        let _ = control.delete(STOP);
    }
}

/// An error with its cause.
fn in_words(error: &Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
