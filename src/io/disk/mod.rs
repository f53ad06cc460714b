//! Requests to the backing disk, on the ring.
//!
//! A request ends exactly once, with all of its bytes done or with an error. Short transfers are continued,
//! `EAGAIN` and `EINTR` tried again a bounded number of times, and whatever else the kernel says is an
//! error: a cancelled operation, the end of the disk and zero bytes too. A failed flush is never repeated,
//! since the kernel has dropped the pages it could not write.
//!
//! ```text
//!   Read, Write:  Transfer ─┐ (short)
//!                     ▲─────┘
//!                     └───────────────────────────────────────────► done
//!   Zero:         PunchHole ──► ZeroRange ──► WriteZeroes ─┐           ▲
//!                     │ (not      │ (not           ▲───────┘           │
//!                     │ supported)│ supported)     │                   │
//!                     └───────────┴────────────────┴──► Sync (if fua) ─┘
//!   Flush:        Sync ───────────────────────────────────────────► done
//! ```

mod holder;
mod holes;
mod open;
mod operation;
mod signature;
mod work;

pub use open::{Backing, Handle, OpenError, OpenMode};
pub use signature::{file_system_bytes, signature};
pub use work::{DiskDone, DiskError, DiskRequest, Work};

use super::Io;
use super::buffer::Pool;
use super::faults::{Faults, Verdict, shorten};
use super::ring::{Completion, Owner, Token};
use crate::limits::{
    DISK_OPERATIONS_MAX, META_BLOCK_BYTES, META_BUFFERS_MAX, RESYNC_JOBS_MAX, ZERO_PIECE_BYTES,
};
use crate::replica::event::Buf;
use holes::Holes;
use io_uring::{opcode, squeue, types};
use operation::{Abilities, Operation, Stage, Step};
use std::os::fd::AsFd;
use std::time::Duration;

/// The disk, on a ring.
pub struct Disk {
    backing: Backing,
    fixed: types::Fixed,
    /// By slot: the index of the token.
    operations: Vec<Option<Operation>>,
    free: Vec<u32>,
    /// Buffers of one metadata block.
    pub meta: Pool,
    zeroes: Pool,
    zero_buf: Buf,
    abilities: Abilities,
    /// Of a file that tells them.
    holes: Option<Holes>,
    /// A question that could not be asked, to be answered with no.
    unasked: Vec<u64>,
    /// Faults on purpose.
    pub faults: Faults,
}

impl Disk {
    /// Puts the backing on the ring of `io`.
    ///
    /// # Errors
    /// Memory or the ring's tables do not suffice.
    pub fn new(backing: Backing, io: &mut Io) -> std::io::Result<Disk> {
        let mut meta = Pool::new(META_BUFFERS_MAX, META_BLOCK_BYTES)?;
        meta.register(&mut io.ring)?;
        let mut zeroes = Pool::new(1, ZERO_PIECE_BYTES)?;
        zeroes.register(&mut io.ring)?;
        let zero_buf = zeroes.take().ok_or(rustix::io::Errno::NOMEM)?;
        let fixed = io.ring.add_file(backing.file.as_fd())?;
        let holes = match backing.holes() {
            true => Some(Holes::start(&backing.file, io.ring.waker())?),
            false => None,
        };
        Ok(Disk {
            holes,
            unasked: Vec::with_capacity(RESYNC_JOBS_MAX),
            backing,
            fixed,
            operations: (0..DISK_OPERATIONS_MAX).map(|_| None).collect(),
            free: (0..DISK_OPERATIONS_MAX as u32).rev().collect(),
            meta,
            zeroes,
            zero_buf,
            abilities: Abilities { punch_hole: true, zero_range: true },
            faults: Faults::default(),
        })
    }

    /// What it is made of.
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.operations.len() - self.free.len()
    }

    /// Gives the backing up. Others can have it when its last operation has ended.
    ///
    /// # Errors
    /// The ring's.
    pub fn close(self, io: &mut Io) -> std::io::Result<()> {
        io.ring.remove_file(self.fixed)
    }

    /// Starts a request. Its buffer is held, and one to read into is filled, until it has ended. The result always
    /// comes from [`Disk::on_completion`].
    ///
    /// # Panics
    /// With more than [`DISK_OPERATIONS_MAX`] requests in flight, or more bytes than the buffer has: bugs
    /// of ours.
    pub fn start(&mut self, io: &mut Io, request: DiskRequest) {
        match request.what {
            Work::Read { len, buf, .. } | Work::Write { len, buf, .. } => {
                assert!(len as usize <= io.pool.buffer_bytes(), "{len} bytes of one buffer");
                io.pool.hold(buf);
                if let Work::Read { .. } = request.what {
                    io.pool.begin_fill(buf);
                }
            }
            Work::MetaRead { block, .. } | Work::MetaWrite { block, .. } => self.meta.hold(block),
            Work::Zero { .. } | Work::Flush => {}
        }
        let slot = self.free.pop();
        let slot = slot.expect("the limits bound the requests of all sources together");
        self.operations[slot as usize] = Some(Operation::new(request, self.abilities));
        let (offset, len) = request.what.range();
        let end = offset.checked_add(len);
        if end.is_some_and(|end| end <= self.backing.bytes()) {
            self.submit(io, slot, None);
        } else {
            // As the kernel says when there is no more room.
            io.ring.inject(token(slot), -libc::ENOSPC);
        }
    }

    /// Asks whether `len` bytes at `offset` are a hole; the answer comes from [`Disk::probed`].
    pub fn probe(&mut self, user: u64, offset: u64, len: u64) {
        if !self.holes.as_ref().is_some_and(|holes| holes.ask(user, offset, len)) {
            self.unasked.push(user);
        }
    }

    /// An answer to [`Disk::probe`]: who asked, and whether it is a hole. The ring wakes when there is one.
    pub fn probed(&mut self) -> Option<(u64, bool)> {
        let unasked = self.unasked.pop().map(|user| (user, false));
        unasked.or_else(|| self.holes.as_ref()?.answer())
    }

    /// Takes a completion of [`Owner::Disk`]; tells the request that has ended with it, if one has.
    pub fn on_completion(&mut self, io: &mut Io, completion: Completion) -> Option<DiskDone> {
        let slot = completion.token.index();
        let unit = if self.backing.direct { u64::from(self.backing.block_bytes()) } else { 1 };
        let operation = self.operations[slot as usize].as_mut();
        let operation = operation.expect("a completion belongs to an operation in flight");
        match operation.on_result(completion.result, unit, &mut self.abilities) {
            Step::Submit(pause) => {
                self.submit(io, slot, pause);
                None
            }
            Step::Ended(result) => self.finish(io, slot, result),
        }
    }

    fn finish(
        &mut self,
        io: &mut Io,
        slot: u32,
        result: Result<(), DiskError>,
    ) -> Option<DiskDone> {
        let operation = self.operations[slot as usize].take()?;
        self.free.push(slot);
        let mut zero = false;
        match operation.work {
            Work::Read { len, buf, detect_zero, .. } => {
                io.pool.end_fill(buf);
                zero = detect_zero && result.is_ok() && is_zero(io.pool.bytes(buf, len as usize));
                io.pool.release(buf);
            }
            Work::Write { buf, .. } => io.pool.release(buf),
            Work::MetaRead { block, .. } | Work::MetaWrite { block, .. } => {
                self.meta.release(block);
            }
            Work::Zero { .. } | Work::Flush => {}
        }
        let user = operation.user;
        Some(DiskDone { user, result, zero })
    }

    /// Puts the next operation of a request on the ring, after `pause` if there is one.
    fn submit(&mut self, io: &mut Io, slot: u32, pause: Option<Duration>) {
        let Some(operation) = &self.operations[slot as usize] else {
            return;
        };
        let (offset, rest) = operation.rest();
        let verdict = match (self.faults.verdict(operation.class(), offset, rest), pause) {
            (Verdict::Pass, Some(pause)) => Verdict::Delay(pause),
            (verdict, _) => verdict,
        };
        let entry = match operation.stage {
            Stage::Transfer | Stage::WriteZeroes => {
                let mut part = self.part(&io.pool, operation);
                if verdict == Verdict::Short {
                    part.bytes = shorten(part.bytes, self.backing.block_bytes() as usize);
                }
                part.entry(self.fixed)
            }
            Stage::PunchHole => self.fallocate(libc::FALLOC_FL_PUNCH_HOLE, offset, rest),
            Stage::ZeroRange => self.fallocate(libc::FALLOC_FL_ZERO_RANGE, offset, rest),
            Stage::Sync => {
                let sync = opcode::Fsync::new(self.fixed);
                sync.flags(types::FsyncFlags::DATASYNC).build()
            }
        };
        // SAFETY: the buffer is held by the operation until `finish`, which follows its completion; the
        // pools give no memory back while the ring has operations, and the file is registered.
        unsafe { io.ring.push_faulty(entry, token(slot), verdict) };
    }

    /// The memory that the next transfer of `operation` moves.
    fn part(&self, payload: &Pool, operation: &Operation) -> Part {
        let (offset, rest) = operation.rest();
        let whole = |pool: &Pool, buf, write, flags| Part {
            // `done` is below the length, which the buffer was asserted to have.
            start: pool.ptr(buf).wrapping_add(operation.done as usize),
            bytes: rest as usize,
            offset,
            registered: pool.registered(),
            write,
            flags,
        };
        match operation.work {
            Work::Read { buf, .. } => whole(payload, buf, false, 0),
            Work::Write { buf, fua: false, .. } => whole(payload, buf, true, 0),
            Work::Write { buf, fua: true, .. } => whole(payload, buf, true, libc::RWF_DSYNC),
            Work::MetaRead { block, .. } => whole(&self.meta, block, false, 0),
            Work::MetaWrite { block, .. } => whole(&self.meta, block, true, libc::RWF_DSYNC),
            Work::Zero { .. } | Work::Flush => Part {
                start: self.zeroes.ptr(self.zero_buf),
                bytes: rest.min(ZERO_PIECE_BYTES as u64) as usize,
                offset,
                registered: self.zeroes.registered(),
                write: true,
                flags: 0,
            },
        }
    }

    fn fallocate(&self, mode: i32, offset: u64, len: u64) -> squeue::Entry {
        let mode = mode | libc::FALLOC_FL_KEEP_SIZE;
        opcode::Fallocate::new(self.fixed, len).offset(offset).mode(mode).build()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.in_flight() > 0 {
            // The kernel may still read from and write to them.
            self.meta.leak();
            self.zeroes.leak();
        }
    }
}

fn token(slot: u32) -> Token {
    Token::new(Owner::Disk, 0, slot)
}

/// One read or write.
struct Part {
    start: *mut u8,
    bytes: usize,
    offset: u64,
    /// Index of the registered buffer it lies in.
    registered: Option<u16>,
    write: bool,
    flags: i32,
}

impl Part {
    fn entry(&self, file: types::Fixed) -> squeue::Entry {
        let (start, offset) = (self.start, self.offset);
        // Buffers are far below 4 GiB.
        let bytes = self.bytes as u32;
        match (self.write, self.registered) {
            (false, Some(index)) => {
                opcode::ReadFixed::new(file, start, bytes, index).offset(offset).build()
            }
            (false, None) => opcode::Read::new(file, start, bytes).offset(offset).build(),
            (true, Some(index)) => {
                let write = opcode::WriteFixed::new(file, start, bytes, index);
                write.offset(offset).rw_flags(self.flags).build()
            }
            (true, None) => {
                let write = opcode::Write::new(file, start, bytes);
                write.offset(offset).rw_flags(self.flags).build()
            }
        }
    }
}

/// True if all bytes are zero. Ends at the first 256 bytes that are not, which for data is mostly at once;
/// within them it has no branch, so that the compiler uses vectors.
pub fn is_zero(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks(256);
    chunks.all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests;
