//! A ublk block device served from the caller's own `io_uring`.
//!
//! ```text
//!   client: read, write, fsync on /dev/ublkbN
//!      │                                        ┌─ control thread ─────────────────────┐
//!   kernel ublk_drv ── /dev/ublk-control ◄──────┤ Control: start, stop, delete         │
//!      │                                        └──────────────────────────────────────┘
//!      │                                        ┌─ I/O thread, with the caller's ring ─┐
//!      └────────────── /dev/ublkcN ◄───────────►│ Queue: arm, on_completion, commit    │
//!                                               └──────────────────────────────────────┘
//! ```
//!
//! # A device's life
//!
//! 1. [`available`] says whether this kernel can, or in one sentence why not.
//! 2. [`Device::create`], or [`Device::recover`] for one whose server died, gives a [`Control`] and a
//!    [`Queue`].
//! 3. The I/O thread pushes one [`Queue::arm`] entry per tag. That thread owns the queue from then on.
//! 4. The control thread calls [`Control::start`], which returns when all tags are armed and the device
//!    exists. On some kernels it reads the partition table: the I/O thread must be serving meanwhile.
//! 5. Each completion goes to [`Queue::on_completion`]; each request is answered with a
//!    [`Queue::commit`] entry, which also names the buffer for the tag's next request.
//! 6. [`Control::stop`] returns when the requests in flight are answered and the device is gone; then
//!    [`Control::delete`]. Leaving without either keeps the device for the next process: clients just
//!    wait, and requests in flight are sent again to the next server.
//!
//! # Promises
//!
//! - Nothing here blocks the I/O thread or allocates on it.
//! - What the kernel hands over is checked: an unknown or oversized request is never passed on.
//! - Data is copied between request and buffer by the kernel: what a server has seen does not change
//!   under it.

#![deny(missing_docs)]

mod command;
mod device;
mod error;
mod features;
mod list;
mod openers;
mod options;
mod queue;
mod request;
mod signals;
mod sys;

pub use device::{Control, Device};
pub use error::Error;
pub use features::{Features, Unavailable, available};
pub use list::{DeviceInfo, DeviceState, device_info, devices};
pub use openers::{is_held, openers};
pub use options::Options;
pub use queue::Queue;
pub use request::{Event, Op, Request};
