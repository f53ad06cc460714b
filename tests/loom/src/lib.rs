//! All interleavings of what threads share: the mailbox of the daemon's loop, its waker, and bells.
//!
//! The files under test are those of the daemon. Around them stand twins: of the standard library's channels
//! (`sync.rs`), and of the kernel's event counters and the ring that watches them (`io/`), made of loom's locks.
//! A thread that would sleep for ever is a deadlock, which loom reports.
//!
//! ```text
//!   control client ── mailbox.rs ──► channel ─┐
//!   signal thread  ── mailbox.rs ──► channel ─┤        turn: completions, then orders
//!                         └ waker.rs ► counter ─► ring ──► loop ──► sleep
//!   helper thread  ── channel, then bell.rs ► counter ─► ring ──► its owner
//! ```

#![cfg(test)]
#![allow(
    unreachable_pub,
    dead_code,
    reason = "the daemon's files are seen here without their users"
)]

#[path = "../../../src/daemon/mailbox.rs"]
mod mailbox;

mod bells;
mod ctl;
mod error;
mod io;
mod limits;
mod orders;
mod sync;

/// All interleavings in which threads are interrupted at most so often against their will: errors of this kind need
/// one or two interruptions, and without a bound a test would take hours.
fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(body);
}
