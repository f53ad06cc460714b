//! Frames out of a stream that arrives in pieces of any size. No socket is known here: whoever receives asks
//! where the next bytes belong, puts them there and says how many came.
//!
//! Promises: what comes out depends on the bytes alone, never on how they were cut; nothing a peer sends makes
//! it hold more than the receive buffer, one payload and the replies that were expected.

use super::LinkEvent;
use crate::io::buffer::Pool;
use crate::io::tls;
use crate::limits::{RECEIVE_BYTES, REQUESTS_MAX};
use crate::replica::event::Buf;
use crate::wire::frame::{HEADER_BYTES, Header};
use crate::wire::message::Message;

/// Why a stream without TLS ends if the other end speaks TLS.
pub const SPEAKS_TLS: &str = "The other end speaks TLS, and this node does not: `security` in [net] must be the same \
                              on both nodes";

/// What comes next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moved on the stack, never stored: no allocation")]
pub enum Next {
    /// A whole message.
    Frame(LinkEvent),
    /// More must be received.
    NeedBytes,
    /// The next payload has no buffer to go to.
    NoBuffer,
}

/// Where the next bytes of the stream belong.
#[derive(Debug)]
pub struct Room<'a> {
    /// First these, if a payload is begun: its buffer, the first missing byte of it, and how many are missing.
    pub payload: Option<(Buf, usize, usize)>,
    /// Then these; never empty.
    pub rest: &'a mut [u8],
}

/// Where a payload goes.
enum Place {
    /// A buffer taken for it: nobody else knows it yet.
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

/// Received bytes.
pub struct Assembly {
    bytes: Box<[u8]>,
    /// The part of `bytes` not yet taken apart.
    start: usize,
    end: usize,
    begun: Option<Begun>,
    /// Reads of ours without answer, and where their payload goes.
    expected: Vec<(u64, Buf)>,
}

impl Assembly {
    /// Nothing received, nothing expected.
    pub fn new() -> Assembly {
        Assembly {
            bytes: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            begun: None,
            expected: Vec::with_capacity(REQUESTS_MAX),
        }
    }

    /// The payload of the `ReadReply` to `id` goes into `buf`, which is held until then.
    pub fn expect(&mut self, pool: &mut Pool, id: u64, buf: Buf) {
        assert!(self.expected.len() < REQUESTS_MAX, "more reads than the core can hold");
        assert!(self.expected.iter().all(|(known, _)| *known != id), "read {id} is sent twice");
        pool.hold(buf);
        self.expected.push((id, buf));
    }

    /// The next message, if all of it is here.
    ///
    /// # Errors
    /// Why the stream cannot be believed. Nothing more comes of it then.
    pub fn next(&mut self, pool: &mut Pool) -> Result<Next, String> {
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
        let small = matches!(message, Message::BitmapPage { .. } | Message::DigestReply { .. });
        if bytes > pool.buffer_bytes() && !small {
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
            _ if small => Ok(Some(Place::Bytes(vec![0; bytes].into()))),
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

    /// Where the next bytes belong: missing ones of a payload go straight to their place, and only what follows
    /// them to the receive buffer.
    pub fn room(&mut self) -> Room<'_> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let rest = &mut self.bytes[self.end..];
        assert!(!rest.is_empty(), "a frame without payload is smaller than the receive buffer");
        let payload = match &self.begun {
            Some(Begun { header, got, place: Place::Taken(buf), .. }) => {
                Some((*buf, *got, header.payload_bytes() - got))
            }
            _ => None,
        };
        Room { payload, rest }
    }

    /// `bytes` bytes were put where [`Assembly::room`] said.
    pub fn received(&mut self, bytes: usize) {
        let mut rest = bytes;
        if let Some(Begun { header, got, place: Place::Taken(_), .. }) = &mut self.begun {
            let part = rest.min(header.payload_bytes() - *got);
            *got += part;
            rest -= part;
        }
        self.end += rest;
        assert!(self.end <= self.bytes.len(), "more was received than there was room for");
    }

    /// Puts `bytes` where [`Assembly::room`] says, which must be enough for them: it is for a record of TLS when more
    /// is needed.
    pub fn put(&mut self, pool: &mut Pool, bytes: &[u8]) {
        let room = self.room();
        let mut rest = bytes;
        if let Some((buf, got, missing)) = room.payload {
            let (payload, after) = bytes.split_at(missing.min(bytes.len()));
            pool.bytes_mut(buf, got + payload.len())[got..].copy_from_slice(payload);
            rest = after;
        }
        room.rest[..rest.len()].copy_from_slice(rest);
        self.received(bytes.len());
    }

    /// True if a message has begun and is not complete.
    pub fn is_within_message(&self) -> bool {
        self.begun.is_some() || self.end > 0
    }

    /// Gives up all that was received and expected, and the buffers with it.
    pub fn discard(&mut self, pool: &mut Pool) {
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
    }
}

impl Default for Assembly {
    fn default() -> Assembly {
        Assembly::new()
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
        return if tls::begins_tls(bytes) { Err(SPEAKS_TLS.to_owned()) } else { Ok(None) };
    };
    let header = Header::parse(header).map_err(|error| match tls::begins_tls(bytes) {
        true => SPEAKS_TLS.to_owned(),
        false => broken(&error.to_string()),
    })?;
    let Some(extension) = rest.get(..header.extension_bytes()) else {
        return Ok(None);
    };
    let message = header.message(extension).map_err(|error| broken(&error.to_string()))?;
    Ok(Some((header, message)))
}

fn broken(why: &str) -> String {
    format!("The peer sent a message that cannot be believed: {why}")
}
