//! The receiving half of a link.
//!
//! The kernel writes to two places only: the receive buffer, and a payload buffer that was taken for this
//! payload and that nobody else knows yet. Replies to reads are copied: their buffer belongs to a request,
//! which may go on without us when the link is closed.

use super::{LinkEvent, retry};
use crate::io::Io;
use crate::io::buffer::Pool;
use crate::io::faults::{Faults, OpClass, Verdict};
use crate::io::ring::Token;
use crate::limits::{RECEIVE_BYTES, REQUESTS_MAX};
use crate::replica::event::Buf;
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::message::Message;
use io_uring::{opcode, types};
use std::os::fd::RawFd;

/// What comes next.
#[expect(clippy::large_enum_variant, reason = "moved on the stack, never stored: no allocation")]
pub(super) enum Next {
    Frame(LinkEvent),
    /// More must be received.
    NeedBytes,
    /// The next payload has no buffer to go to.
    NoBuffer,
}

/// Where a payload goes.
enum Place {
    /// A buffer taken for it: the kernel may write to it.
    Taken(Buf),
    /// The buffer of a request of ours.
    Reply(Buf),
    Bytes(Box<[u8]>),
}

/// A frame whose payload is not complete.
struct Begun {
    header: Header,
    message: Message,
    place: Place,
    got: usize,
}

/// Two areas and the message header that names them: read by the kernel when the operation is submitted.
struct Gather {
    vectors: [libc::iovec; 2],
    header: libc::msghdr,
}

/// Received bytes.
pub(super) struct Inbox {
    bytes: Box<[u8]>,
    /// The part of `bytes` not yet taken apart.
    start: usize,
    end: usize,
    begun: Option<Begun>,
    /// Reads of ours without answer, and where their payload goes.
    expected: Vec<(u64, Buf)>,
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
            bytes: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            begun: None,
            expected: Vec::with_capacity(REQUESTS_MAX),
            gather: Some(Box::new(gather)),
            in_flight: false,
            retries: 0,
        }
    }

    pub(super) fn in_flight(&self) -> bool {
        self.in_flight
    }

    pub(super) fn expect(&mut self, pool: &mut Pool, id: u64, buf: Buf) {
        assert!(self.expected.len() < REQUESTS_MAX, "more reads than the core can hold");
        assert!(self.expected.iter().all(|(known, _)| *known != id), "read {id} is sent twice");
        pool.hold(buf);
        self.expected.push((id, buf));
    }

    /// The next message, if all of it is here.
    pub(super) fn next(&mut self, pool: &mut Pool) -> Result<Next, String> {
        assert!(!self.in_flight, "the kernel still writes to it");
        if self.begun.is_none() {
            let waiting = &self.bytes[self.start..self.end];
            let Some((header, message)) = head(waiting)? else {
                return Ok(Next::NeedBytes);
            };
            let Some(place) = self.place(pool, &header, &message)? else {
                return Ok(Next::NoBuffer);
            };
            self.start += HEADER_BYTES + header.extension_bytes();
            self.begun = Some(Begun { header, message, place, got: 0 });
        }
        let Some(begun) = &mut self.begun else {
            return Ok(Next::NeedBytes);
        };
        let missing = begun.header.payload_bytes() - begun.got;
        let part = missing.min(self.end - self.start);
        let target = begun.target(pool);
        target[..part].copy_from_slice(&self.bytes[self.start..self.start + part]);
        begun.got += part;
        self.start += part;
        if part < missing {
            return Ok(Next::NeedBytes);
        }
        self.complete(pool)
    }

    /// Decides where the payload goes; `None` if no buffer is free.
    fn place(
        &mut self,
        pool: &mut Pool,
        header: &Header,
        message: &Message,
    ) -> Result<Option<Place>, String> {
        let bytes = header.payload_bytes();
        if bytes > pool.buffer_bytes() && !matches!(message, Message::BitmapPage { .. }) {
            return Err(broken("its payload is larger than a buffer"));
        }
        match message {
            Message::ReadReply { id, .. } => {
                let known = self.expected.iter().position(|(known, _)| known == id);
                let index =
                    known.ok_or_else(|| broken("it answers a read that we did not send"))?;
                let (_, buf) = self.expected.swap_remove(index);
                Ok(Some(Place::Reply(buf)))
            }
            _ if bytes == 0 => Ok(Some(Place::Bytes(Box::default()))),
            Message::BitmapPage { .. } => Ok(Some(Place::Bytes(vec![0; bytes].into()))),
            _ => Ok(pool.take().map(Place::Taken)),
        }
    }

    fn complete(&mut self, pool: &mut Pool) -> Result<Next, String> {
        let Some(begun) = self.begun.take() else {
            return Ok(Next::NeedBytes);
        };
        let Begun { header, message, place, .. } = begun;
        let bytes = header.payload_bytes();
        let checked = match &place {
            Place::Taken(buf) | Place::Reply(buf) => header.check_payload(pool.bytes(*buf, bytes)),
            Place::Bytes(payload) => header.check_payload(payload),
        };
        let (buf, payload) = match place {
            Place::Taken(buf) => (Some(buf), Box::default()),
            Place::Reply(buf) => {
                pool.release(buf);
                (None, Box::default())
            }
            Place::Bytes(payload) => (None, payload),
        };
        if let Err(error) = checked {
            if let Some(buf) = buf {
                pool.release(buf);
            }
            return Err(broken(&error.to_string()));
        }
        Ok(Next::Frame(LinkEvent::Received { message, buf, payload }))
    }

    /// Starts to receive. If a payload is begun, its missing bytes go straight to their place, and only
    /// what follows them to the receive buffer.
    pub(super) fn receive(
        &mut self,
        io: &mut Io,
        (fd, token): (RawFd, Token),
        faults: &mut Faults,
    ) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let rest = &mut self.bytes[self.end..];
        assert!(!rest.is_empty(), "a frame without payload is smaller than the receive buffer");
        let verdict = faults.verdict(OpClass::Read, 0, rest.len() as u64);
        let short = |len: usize| {
            if verdict == Verdict::Short { faults.crumb(len) } else { len }
        };
        let direct = match &self.begun {
            Some(Begun { header, got, place: Place::Taken(buf), .. }) => {
                Some((io.pool.ptr(*buf).wrapping_add(*got), header.payload_bytes() - got))
            }
            _ => None,
        };
        let entry = match (direct, &mut self.gather) {
            (Some((start, missing)), Some(gather)) => {
                let areas = [(start, short(missing)), (rest.as_mut_ptr(), rest.len())];
                gather.vectors = areas
                    .map(|(start, bytes)| libc::iovec { iov_base: start.cast(), iov_len: bytes });
                gather.header.msg_iov = gather.vectors.as_mut_ptr();
                gather.header.msg_iovlen = if verdict == Verdict::Short { 1 } else { 2 };
                opcode::RecvMsg::new(types::Fd(fd), &raw mut gather.header).build()
            }
            _ => {
                let bytes = short(rest.len()) as u32;
                opcode::Recv::new(types::Fd(fd), rest.as_mut_ptr(), bytes).build()
            }
        };
        // SAFETY: receive buffer, vectors and payload buffer are not touched while `in_flight`, and leaked
        // on drop, with the descriptor; the payload buffer is held by `begun`.
        unsafe { io.ring.push_faulty(entry, token, verdict) };
        self.in_flight = true;
    }

    pub(super) fn on_result(&mut self, result: i32) -> Result<(), String> {
        self.in_flight = false;
        let Ok(bytes) = usize::try_from(result) else {
            return retry(result, &mut self.retries);
        };
        if bytes == 0 {
            let within = self.begun.is_some() || self.end > 0;
            let place = if within { " in the middle of a message" } else { "" };
            return Err(format!("The peer closed the connection{place}"));
        }
        self.retries = 0;
        let mut rest = bytes;
        if let Some(Begun { header, got, place: Place::Taken(_), .. }) = &mut self.begun {
            let part = rest.min(header.payload_bytes() - *got);
            *got += part;
            rest -= part;
        }
        self.end += rest;
        assert!(self.end <= self.bytes.len(), "the kernel received more than it was asked to");
        Ok(())
    }

    /// The operation has ended without having received anything.
    pub(super) fn on_cancelled(&mut self) {
        self.in_flight = false;
    }

    /// Gives up all that was received and expected, and the buffers with it.
    pub(super) fn discard(&mut self, pool: &mut Pool) {
        assert!(!self.in_flight, "the kernel still writes to it");
        if let Some(Begun { place: Place::Taken(buf) | Place::Reply(buf), .. }) = self.begun.take()
        {
            pool.release(buf);
        }
        for (_, buf) in self.expected.drain(..) {
            pool.release(buf);
        }
        (self.start, self.end) = (0, 0);
    }

    /// Leaves all memory to the kernel for good.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.bytes));
        std::mem::forget(self.gather.take());
    }
}

impl Begun {
    /// The part of the payload that is missing.
    fn target<'a>(&'a mut self, pool: &'a mut Pool) -> &'a mut [u8] {
        let bytes = self.header.payload_bytes();
        match &mut self.place {
            Place::Taken(buf) | Place::Reply(buf) => &mut pool.bytes_mut(*buf, bytes)[self.got..],
            Place::Bytes(payload) => &mut payload[self.got..],
        }
    }
}

/// Header and message at the start of `bytes`; `None` if not all of it is here.
fn head(bytes: &[u8]) -> Result<Option<(Header, Message)>, String> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let header = Header::parse(header).map_err(|error| broken(&error.to_string()))?;
    let Some(extension) = rest.get(..header.extension_bytes()) else {
        return Ok(None);
    };
    let message = header.message(extension).map_err(|error| broken(&error.to_string()))?;
    Ok(Some((header, message)))
}

fn broken(why: &str) -> String {
    format!("The peer sent a message that cannot be believed: {why}")
}
