//! The receiving half of a link: takes bytes off the socket and hands them to the assembly.
//!
//! The kernel writes to two places only: the receive buffer, and a payload buffer that was taken for this
//! payload and that nobody else knows yet. Replies to reads are copied: their buffer belongs to a request,
//! which may go on without us when the link is closed. With TLS it writes to the session's buffer instead, and what is
//! opened goes the same ways.

use super::assembly::{Assembly, Next};
use super::retry;
use crate::io::Io;
use crate::io::buffer::Pool;
use crate::io::faults::{Faults, OpClass, Verdict};
use crate::io::ring::Token;
use crate::io::tls::Session;
use crate::replica::event::Buf;
use io_uring::{opcode, types};
use std::os::fd::RawFd;

/// Two areas and the message header that names them: read by the kernel when the operation is submitted.
struct Gather {
    vectors: [libc::iovec; 2],
    header: libc::msghdr,
}

/// Bytes on their way in.
pub(super) struct Inbox {
    assembly: Assembly,
    gather: Option<Box<Gather>>,
    in_flight: bool,
    retries: u8,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let gather = Gather {
            vectors: [none; 2],
            // SAFETY: all fields of a message header may be zero: no name, no control data.
            header: unsafe { std::mem::zeroed() },
        };
        Inbox {
            assembly: Assembly::new(),
            gather: Some(Box::new(gather)),
            in_flight: false,
            retries: 0,
        }
    }

    pub(super) fn in_flight(&self) -> bool {
        self.in_flight
    }

    pub(super) fn expect(&mut self, pool: &mut Pool, id: u64, buf: Buf) {
        self.assembly.expect(pool, id, buf);
    }

    /// The next message, if all of it is here.
    pub(super) fn next(
        &mut self,
        pool: &mut Pool,
        tls: Option<&mut Session>,
    ) -> Result<Next, String> {
        assert!(!self.in_flight, "the kernel still writes to it");
        let Some(tls) = tls else { return self.assembly.next(pool) };
        loop {
            let next = self.assembly.next(pool)?;
            let more = matches!(next, Next::NeedBytes);
            if !more || !tls.open(|bytes| self.assembly.put(pool, bytes))? {
                return Ok(next);
            }
        }
    }

    /// Starts to receive.
    pub(super) fn receive(
        &mut self,
        io: &mut Io,
        (fd, token): (RawFd, Token),
        faults: &mut Faults,
        tls: Option<&mut Session>,
    ) {
        if let Some(tls) = tls {
            let room = tls.room();
            let verdict = faults.verdict(OpClass::Read, 0, room.len() as u64);
            let short = verdict == Verdict::Short;
            let bytes = if short { faults.crumb(room.len()) } else { room.len() } as u32;
            let entry = opcode::Recv::new(types::Fd(fd), room.as_mut_ptr(), bytes).build();
            // SAFETY: what is behind the received part of the session's buffer is not touched while `in_flight`, and
            // the buffer is leaked on drop, with the descriptor.
            unsafe { io.ring.push_faulty(entry, token, verdict) };
            self.in_flight = true;
            return;
        }
        let room = self.assembly.room();
        let verdict = faults.verdict(OpClass::Read, 0, room.rest.len() as u64);
        let short = |len: usize| {
            if verdict == Verdict::Short { faults.crumb(len) } else { len }
        };
        let entry = match (room.payload, &mut self.gather) {
            (Some((buf, got, missing)), Some(gather)) => {
                let start = io.pool.ptr(buf).wrapping_add(got);
                let rest = (room.rest.as_mut_ptr(), room.rest.len());
                let areas = [(start, short(missing)), rest];
                gather.vectors = areas
                    .map(|(start, bytes)| libc::iovec { iov_base: start.cast(), iov_len: bytes });
                gather.header.msg_iov = gather.vectors.as_mut_ptr();
                gather.header.msg_iovlen = if verdict == Verdict::Short { 1 } else { 2 };
                opcode::RecvMsg::new(types::Fd(fd), &raw mut gather.header).build()
            }
            _ => {
                let bytes = short(room.rest.len()) as u32;
                opcode::Recv::new(types::Fd(fd), room.rest.as_mut_ptr(), bytes).build()
            }
        };
        // SAFETY: receive buffer, vectors and payload buffer are not touched while `in_flight`, and leaked
        // on drop, with the descriptor; the payload buffer is held by the assembly.
        unsafe { io.ring.push_faulty(entry, token, verdict) };
        self.in_flight = true;
    }

    pub(super) fn on_result(
        &mut self,
        result: i32,
        tls: Option<&mut Session>,
    ) -> Result<(), String> {
        self.in_flight = false;
        let Ok(bytes) = usize::try_from(result) else {
            return retry(result, &mut self.retries);
        };
        if bytes == 0 {
            if tls.is_some_and(|tls| tls.peer().is_none()) {
                return Err(
                    "No TLS session with the other end: it closed the connection during the handshake".to_owned(),
                );
            }
            let within = self.assembly.is_within_message();
            let place = if within { " in the middle of a message" } else { "" };
            return Err(format!("The peer closed the connection{place}"));
        }
        self.retries = 0;
        match tls {
            Some(tls) => tls.received(bytes),
            None => self.assembly.received(bytes),
        }
        Ok(())
    }

    /// The operation has ended without having received anything.
    pub(super) fn on_cancelled(&mut self) {
        self.in_flight = false;
    }

    /// Gives up all that was received and expected, and the buffers with it.
    pub(super) fn discard(&mut self, pool: &mut Pool) {
        assert!(!self.in_flight, "the kernel still writes to it");
        self.assembly.discard(pool);
    }

    /// Leaves all memory to the kernel for good.
    pub(super) fn leak(&mut self) {
        self.assembly.leak();
        std::mem::forget(self.gather.take());
    }
}
