//! The queue of a ublk device on our ring, with buffers of our pool.
//!
//! Each tag owns one buffer at a time, into which the kernel copies the data of the tag's next write, and
//! out of which it takes the data of a read. A request that has ended may still have its buffer in use
//! elsewhere (a frame that waits to be sent, a disk that hangs): then its tag goes on with another one. If
//! none is free the answer has to wait, and is tried again. A read whose data comes from elsewhere while a
//! disk that hangs may still fill its buffer has got another one before.
//!
//! A commit names the buffer first and completes the request after that (`ublk_fill_io_cmd` or
//! `ublk_config_io_buf` before `__ublk_complete_rq` in the driver): what a client reads lies in the buffer
//! that the commit names, never in the one before.

use super::Io;
use super::ring::{Completion, Token};
use crate::replica::event::Buf;
use rblk_ublk::{Event, Queue};

/// The queue of a device, all tags armed. Dropped with entries on the ring, its buffers stay taken:
/// their memory is the kernel's until the ring is gone.
pub struct UblkQueue {
    queue: Queue,
    /// By tag.
    buffers: Vec<Buf>,
    token: fn(u16) -> Token,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Bytes of data done, 0 for requests without data, or a negated error number.
    pub result: i32,
    /// The tag's buffer holds data for the client.
    pub data: bool,
}

impl UblkQueue {
    /// Arms all tags of `queue`; `token` names them on the ring. `None` if the pool has too few buffers.
    ///
    /// # Panics
    /// If the device's requests are larger than the pool's buffers.
    pub fn new(io: &mut Io, queue: Queue, token: fn(u16) -> Token) -> Option<UblkQueue> {
        let depth = queue.depth();
        assert!(queue.buffer_bytes() <= io.pool.buffer_bytes(), "requests are larger than buffers");
        if io.pool.free() < usize::from(depth) {
            return None;
        }
        let buffers = (0..depth).map_while(|_| io.pool.take()).collect();
        let mut queue = UblkQueue { queue, buffers, token };
        for tag in 0..depth {
            let buffer = io.pool.ptr(queue.buffer(tag));
            let entry = queue.queue.arm(tag, buffer);
            // SAFETY: the buffer is a reference of the tag, given back at the earliest after its next
            // completion. It is large enough for what the kernel puts there, as was asserted.
            unsafe { io.ring.push(entry, token(tag)) };
        }
        Some(queue)
    }

    /// The buffer with the data of a tag's request.
    pub fn buffer(&self, tag: u16) -> Buf {
        self.buffers[usize::from(tag)]
    }

    /// Requests may reach so far from now on.
    pub fn set_sectors(&mut self, sectors: u64) {
        self.queue.set_sectors(sectors);
    }

    /// The tag goes on with buffer `next`, of which the caller gives it a reference; it lets go of the one it had.
    pub fn change_buffer(&mut self, io: &mut Io, tag: u16, next: Buf) {
        let old = std::mem::replace(&mut self.buffers[usize::from(tag)], next);
        io.pool.release(old);
    }

    /// Tells what the completion of a tag's entry means. A tag that is out of use gives its buffer back.
    pub fn on_completion(&mut self, io: &mut Io, tag: u16, done: Completion) -> Event {
        let event = self.queue.on_completion(tag, done.result);
        if let Event::Aborted { .. } = event {
            io.pool.release(self.buffer(tag));
        }
        event
    }

    /// Answers a tag's request. `held` references to its buffer are about to be released by the caller:
    /// they do not count as use. False if there is other use and no buffer is free: try again later.
    #[must_use]
    pub fn commit(&mut self, io: &mut Io, tag: u16, answer: Answer, held: u32) -> bool {
        let old = self.buffer(tag);
        if io.pool.references(old) > 1 + held {
            let Some(next) = io.pool.take() else {
                return false;
            };
            if answer.data {
                io.pool.copy(old, next, usize::try_from(answer.result).unwrap_or(0));
            }
            self.change_buffer(io, tag, next);
        }
        assert!(!io.pool.is_filled(self.buffer(tag)), "the disk fills what is the kernel's now");
        let now = io.pool.ptr(self.buffer(tag));
        let entry = self.queue.commit(tag, answer.result, now);
        // SAFETY: as in `new`.
        unsafe { io.ring.push(entry, (self.token)(tag)) };
        true
    }

    /// Entries on the ring.
    pub fn armed(&self) -> usize {
        self.queue.armed()
    }
}
