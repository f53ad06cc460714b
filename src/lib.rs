//! rblk: a replicated block device without a kernel module.
//!
//! ```text
//!     cli ──► ctl (control socket) ──► daemon (one process per resource)
//!                                        │  drives
//!                   front/ (ublk, nbd) ──┤
//!                   io/ (ring, disk, net)┤──► replica/   PURE: one input at a time in, actions out
//!                   meta/, wire/ codecs ─┘
//! ```
//!
//! Arrows go one way, and `tests/tidy.rs` keeps them so. `replica/`, `wire/` and `meta/` do no I/O, read no clock and
//! hold no lock: the daemon and the simulator in `tests/sim` run the same code.
//!
//! # Where to start
//!
//! 1. [`replica::event`]: the vocabulary between the core and the world.
//! 2. [`replica`] and `replica/request.rs`: one write from the client to its completion.
//! 3. `replica/generation.rs`: how two nodes that meet again decide who copies what.
//! 4. `daemon/run.rs`: the loop that makes it real.

#![forbid(unsafe_op_in_unsafe_fn)]

mod bytes;
pub mod cli;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod error;
pub mod front;
pub mod handlers;
pub mod import;
pub mod io;
pub mod key;
pub mod limits;
pub mod meta;
pub mod metrics;
pub mod pair;
pub mod replica;
pub mod salvage;
pub mod span;
mod sync;
pub mod transport;
pub mod wire;
