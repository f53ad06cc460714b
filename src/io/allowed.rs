//! What a ring may be asked for: the operations that rblk uses, and no others (`IORING_REGISTER_RESTRICTIONS`).
//!
//! A ring does its work past every seccomp filter: an entry that is wrong in its first byte could open, rename or send
//! anything. Promises: what is not listed here ends with `EACCES`, and is never done; the list of a ring is never
//! longer again. What it does not do: keep code that has taken over the process from making a ring of its own.

use io_uring::register::Restriction;
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io::Result;
use std::sync::Once;

/// What is submitted. Who uses another one adds it here: without that it fails on its first use, in any test.
const OPERATIONS: [u8; 16] = [
    // Does nothing: tests and benches measure the ring itself with it.
    opcode::Nop::CODE,
    // The disk; `Read` is the waker's, too.
    opcode::Read::CODE,
    opcode::Write::CODE,
    opcode::ReadFixed::CODE,
    opcode::WriteFixed::CODE,
    opcode::Fsync::CODE,
    opcode::Fallocate::CODE,
    // The link, and clients by NBD.
    opcode::Accept::CODE,
    opcode::Connect::CODE,
    opcode::Recv::CODE,
    opcode::RecvMsg::CODE,
    opcode::SendMsg::CODE,
    // Bells and timers, and what ends an operation early.
    opcode::PollAdd::CODE,
    opcode::Timeout::CODE,
    opcode::AsyncCancel::CODE,
    // Requests of ublk.
    opcode::UringCmd16::CODE,
];

/// `IORING_REGISTER_FILES_UPDATE` and `IORING_REGISTER_BUFFERS_UPDATE`: places in tables that are there from the
/// beginning. The numbers are those of `linux/io_uring.h`.
const REGISTRATIONS: [u8; 2] = [6, 16];

/// Lets a ring that was made disabled be asked for what is listed here alone, then enables it. Where the kernel takes
/// no list, that is said once, and the ring works without.
///
/// # Errors
/// It cannot be enabled.
pub(super) fn enable(uring: &IoUring<squeue::Entry, cqueue::Entry>) -> Result<()> {
    if let Err(error) = restrict(uring) {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            tracing::warn!(
                "io_uring takes no list of what rblk may ask of it ({error}): it goes on without; this is said once"
            );
        });
    }
    uring.submitter().register_enable_rings()
}

fn restrict(uring: &IoUring<squeue::Entry, cqueue::Entry>) -> Result<()> {
    let mut all: Vec<Restriction> = OPERATIONS.into_iter().map(Restriction::sqe_op).collect();
    all.extend(REGISTRATIONS.map(Restriction::register_op));
    // No other flag: nothing is chained, drained or picked from buffers of the kernel's choice.
    all.push(Restriction::sqe_flags_allowed(squeue::Flags::FIXED_FILE.bits()));
    uring.submitter().register_restrictions(&mut all)
}

#[cfg(test)]
#[path = "allowed_tests.rs"]
mod tests;
