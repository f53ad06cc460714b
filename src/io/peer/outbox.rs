//! The sending half of a link.
//!
//! One `SENDMSG` is on the ring at a time, so that bytes cannot overtake each other. It gathers all frames
//! that were queued while the one before was under way. What it points to is not touched until it has
//! ended. With TLS it points to sealed records, at most [`crate::limits::TLS_SEAL_BYTES`] at a time: see `sealed.rs`.

use super::sealed::Sealed;
use super::{Body, retry};
use crate::io::Io;
use crate::io::buffer::Pool;
use crate::io::faults::{Faults, OpClass, Verdict};
use crate::io::ring::{Ring, Token};
use crate::io::tls::Session;
use crate::limits::SEND_FRAMES_MAX;
use crate::replica::event::Buf;
use crate::wire::frame::{FRAME_BYTES_MAX, encode};
use crate::wire::message::Message;
use io_uring::{opcode, types};
use std::os::fd::RawFd;

/// What `SENDMSG` takes at a time (`UIO_MAXIOV`).
const AREAS_MAX: usize = 1024;

/// Frames in order.
#[derive(Default)]
struct Batch {
    /// Headers and extensions of all frames, one after the other.
    heads: Vec<u8>,
    frames: Vec<Frame>,
}

struct Frame {
    head_bytes: usize,
    payload_bytes: usize,
    body: Body,
}

/// Memory to send, and the buffer to release when it is sent.
pub(super) struct Area {
    pub(super) start: *const u8,
    pub(super) bytes: usize,
    buf: Option<Buf>,
}

/// Frames to be sent.
#[derive(Default)]
pub(super) struct Outbox {
    next: Batch,
    flying: Batch,
    /// What `flying` consists of, and how many of it are sent.
    areas: Vec<Area>,
    sent: usize,
    /// With TLS: what is sent in place of the areas.
    sealed: Sealed,
    /// Read by the kernel when the operation is submitted: rebuilt for each.
    vectors: Vec<libc::iovec>,
    header: Option<Box<libc::msghdr>>,
    in_flight: bool,
    retries: u8,
}

impl Outbox {
    pub(super) fn push(
        &mut self,
        pool: &mut Pool,
        message: &Message,
        body: Body,
    ) -> Result<(), String> {
        if self.next.frames.len() >= SEND_FRAMES_MAX {
            return Err("The peer does not take what it asked for".to_owned());
        }
        let payload_bytes = message.payload_bytes() as usize;
        let payload: &[u8] = match &body {
            Body::None => &[],
            Body::Buf(buf) => pool.bytes(*buf, payload_bytes),
            Body::Bytes(bytes) => bytes,
        };
        assert_eq!(payload.len(), payload_bytes, "the payload of {message:?}");
        let crc = if payload.is_empty() { 0 } else { crc32c::crc32c(payload) };
        let mut head = [0; FRAME_BYTES_MAX];
        let head_bytes = encode(message, crc, &mut head);
        self.next.heads.extend_from_slice(&head[..head_bytes]);
        if let Body::Buf(buf) = body {
            pool.hold(buf);
        }
        self.next.frames.push(Frame { head_bytes, payload_bytes, body });
        Ok(())
    }

    pub(super) fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// True if nothing that can be sent waits for it: without an open session, frames cannot.
    pub(super) fn is_empty(&self, tls: Option<&Session>) -> bool {
        let closed = tls.is_some_and(|tls| !tls.is_open());
        let frames = self.next.frames.is_empty() && self.areas.is_empty();
        let control = tls.is_some_and(Session::has_control);
        !self.in_flight && (frames || closed) && !control
    }

    pub(super) fn flush(
        &mut self,
        io: &mut Io,
        target: (RawFd, Token),
        faults: &mut Faults,
        tls: Option<&mut Session>,
    ) -> Result<(), String> {
        if self.in_flight {
            return Ok(());
        }
        if let Some(tls) = tls {
            return self.flush_sealed(io, target, faults, tls);
        }
        if self.next.frames.is_empty() {
            return Ok(());
        }
        assert!(self.areas.is_empty() && self.flying.frames.is_empty());
        std::mem::swap(&mut self.next, &mut self.flying);
        self.lay_out(&io.pool);
        self.submit(&mut io.ring, target, faults);
        Ok(())
    }

    /// Seals what is queued, as much as goes at a time, and sends that. The session's own words go first.
    fn flush_sealed(
        &mut self,
        io: &mut Io,
        target: (RawFd, Token),
        faults: &mut Faults,
        tls: &mut Session,
    ) -> Result<(), String> {
        tls.take_control(self.sealed.begin());
        if tls.is_open() {
            if self.areas.is_empty() && !self.next.frames.is_empty() {
                std::mem::swap(&mut self.next, &mut self.flying);
                self.lay_out(&io.pool);
            }
            while self.sent < self.areas.len() && self.sealed.has_room() {
                let bytes = self.sealed.gather(&self.areas[self.sent..]);
                if bytes == 0 {
                    // Nothing but empty payloads is left.
                    self.sent = self.areas.len();
                    break;
                }
                self.advance(&mut io.pool, bytes);
                self.sealed.seal(tls)?;
            }
            if self.sent == self.areas.len() {
                self.clear_flying(&mut io.pool);
            }
        }
        self.submit_sealed(&mut io.ring, target, faults);
        Ok(())
    }

    /// Sends that nothing more comes, in an open session. Nothing else must be waiting.
    pub(super) fn say_goodbye(
        &mut self,
        io: &mut Io,
        target: (RawFd, Token),
        faults: &mut Faults,
        tls: &mut Session,
    ) {
        tls.say_goodbye(self.sealed.begin());
        self.submit_sealed(&mut io.ring, target, faults);
    }

    /// Goes on after a `SENDMSG`: with the rest of the batch, if there is one.
    pub(super) fn on_result(
        &mut self,
        io: &mut Io,
        result: i32,
        target: (RawFd, Token),
        faults: &mut Faults,
        tls: Option<&mut Session>,
    ) -> Result<(), String> {
        self.in_flight = false;
        match usize::try_from(result) {
            Ok(bytes) if bytes > 0 => {
                self.retries = 0;
                match tls {
                    Some(_) => self.sealed.advance(bytes),
                    None => self.advance(&mut io.pool, bytes),
                }
            }
            _ => retry(result, &mut self.retries)?,
        }
        if let Some(tls) = tls {
            return match self.sealed.rest().is_empty() {
                true => self.flush_sealed(io, target, faults, tls),
                false => {
                    self.submit_sealed(&mut io.ring, target, faults);
                    Ok(())
                }
            };
        }
        if self.sent < self.areas.len() {
            self.submit(&mut io.ring, target, faults);
        } else {
            self.clear_flying(&mut io.pool);
        }
        Ok(())
    }

    /// The operation has ended, and nothing more is to be sent.
    pub(super) fn on_cancelled(&mut self, pool: &mut Pool) {
        self.in_flight = false;
        self.discard(pool);
    }

    /// Gives up what was not sent, and the buffers with it.
    pub(super) fn discard(&mut self, pool: &mut Pool) {
        assert!(!self.in_flight, "the kernel still reads it");
        self.clear_flying(pool);
        self.sealed.clear();
        for frame in self.next.frames.drain(..) {
            if let Body::Buf(buf) = frame.body {
                pool.release(buf);
            }
        }
        self.next.heads.clear();
    }

    /// Leaves all memory to the kernel for good.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.flying));
        std::mem::forget(std::mem::take(&mut self.sealed));
        std::mem::forget(std::mem::take(&mut self.vectors));
        std::mem::forget(self.header.take());
    }

    /// Headers that follow each other without payload are one area.
    fn lay_out(&mut self, pool: &Pool) {
        let heads = self.flying.heads.as_ptr();
        let (mut begin, mut end) = (0, 0);
        let head = |begin: usize, end: usize| Area {
            start: heads.wrapping_add(begin),
            bytes: end - begin,
            buf: None,
        };
        for frame in &self.flying.frames {
            end += frame.head_bytes;
            let (start, buf) = match &frame.body {
                Body::None => continue,
                Body::Buf(buf) => (pool.ptr(*buf).cast_const(), Some(*buf)),
                Body::Bytes(bytes) => (bytes.as_ptr(), None),
            };
            self.areas.push(head(begin, end));
            let bytes = frame.payload_bytes;
            self.areas.push(Area { start, bytes, buf });
            begin = end;
        }
        if end > begin {
            self.areas.push(head(begin, end));
        }
    }

    fn submit(&mut self, ring: &mut Ring, (fd, token): (RawFd, Token), faults: &mut Faults) {
        let areas = self.areas[self.sent..].iter().take(AREAS_MAX);
        self.vectors.clear();
        self.vectors.extend(areas.map(|area| libc::iovec {
            iov_base: area.start.cast_mut().cast(),
            iov_len: area.bytes,
        }));
        self.send(ring, (fd, token), faults);
    }

    fn submit_sealed(&mut self, ring: &mut Ring, target: (RawFd, Token), faults: &mut Faults) {
        let rest = self.sealed.rest();
        if rest.is_empty() {
            return;
        }
        let start = rest.as_ptr().cast_mut().cast();
        self.vectors.clear();
        self.vectors.push(libc::iovec { iov_base: start, iov_len: rest.len() });
        self.send(ring, target, faults);
    }

    /// Sends what `vectors` names.
    fn send(&mut self, ring: &mut Ring, (fd, token): (RawFd, Token), faults: &mut Faults) {
        let first = &mut self.vectors[0];
        let verdict = faults.verdict(OpClass::Write, 0, first.iov_len as u64);
        if verdict == Verdict::Short {
            first.iov_len = faults.crumb(first.iov_len);
            self.vectors.truncate(1);
        }
        // SAFETY: all fields of a message header may be zero: no name, no control data.
        let header = self.header.get_or_insert_with(|| Box::new(unsafe { std::mem::zeroed() }));
        header.msg_iov = self.vectors.as_mut_ptr();
        header.msg_iovlen = self.vectors.len();
        // Without it, a closed connection would raise SIGPIPE.
        let flags = libc::MSG_NOSIGNAL as u32;
        let entry = opcode::SendMsg::new(types::Fd(fd), &raw const **header).flags(flags).build();
        // SAFETY: header, vectors, heads, bodies and sealed records stay as they are while `in_flight`, and buffers are
        // held; on drop they are leaked, with the descriptor.
        unsafe { ring.push_faulty(entry, token, verdict) };
        self.in_flight = true;
    }

    /// Counts `bytes` as sent; buffers sent whole are released.
    fn advance(&mut self, pool: &mut Pool, mut bytes: usize) {
        while bytes > 0 {
            let area = &mut self.areas[self.sent];
            let part = bytes.min(area.bytes);
            area.start = area.start.wrapping_add(part);
            area.bytes -= part;
            bytes -= part;
            if area.bytes == 0 {
                if let Some(buf) = area.buf.take() {
                    pool.release(buf);
                }
                self.sent += 1;
            }
        }
    }

    fn clear_flying(&mut self, pool: &mut Pool) {
        for buf in self.areas.drain(..).filter_map(|area| area.buf) {
            pool.release(buf);
        }
        self.sent = 0;
        self.flying.frames.clear();
        self.flying.heads.clear();
    }
}
