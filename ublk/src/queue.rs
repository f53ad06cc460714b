//! The I/O half of a device: one hardware queue, served on the caller's ring.
//!
//! ```text
//!                arm                        request                 commit
//!      Idle ───────────► Armed (kernel) ─────────────► Taken (server) ───────► Armed
//!                          │ abort
//!                          └───────► Gone
//! ```
//!
//! Each tag has one entry on the ring or one request with the server, never both. A commit carries the
//! answer and the address of the buffer for the tag's next request. Buffers belong to the kernel while
//! the tag is `Armed`.

use crate::error::Error;
use crate::request::{Bounds, Event, decode};
use crate::sys;
use io_uring::{opcode, squeue, types};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// Where a tag is. See the picture above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tag {
    Idle,
    Armed,
    Taken,
    Gone,
}

/// The queue of a device. It may be moved to another thread until the first entry is submitted, and must
/// then be served by that thread alone: the driver ties it to the task.
pub struct Queue {
    device: File,
    descriptors: Descriptors,
    bounds: Bounds,
    tags: Box<[Tag]>,
    armed: usize,
}

impl Queue {
    /// Takes the open `/dev/ublkcN` of a device that is not started.
    pub(crate) fn new(device: File, depth: u16, bounds: Bounds) -> Result<Queue, Error> {
        let descriptors = Descriptors::map(&device, depth).map_err(|source| Error::Io {
            what: "Mapping the request descriptors failed".to_owned(),
            source,
        })?;
        let tags = vec![Tag::Idle; usize::from(depth)].into();
        Ok(Queue { device, descriptors, bounds, tags, armed: 0 })
    }

    /// The number of tags: they run from 0 to this less one.
    pub fn depth(&self) -> u16 {
        self.tags.len() as u16
    }

    /// Requests may reach so far from now on: before [`crate::Control::grow`] tells clients.
    pub fn set_sectors(&mut self, sectors: u64) {
        self.bounds.sectors = sectors;
    }

    /// Bytes that the buffer of each tag must have.
    pub fn buffer_bytes(&self) -> usize {
        (self.bounds.buffer_sectors * sys::SECTOR_BYTES) as usize
    }

    /// Entries on the ring. At 0 nothing of this queue is left there.
    pub fn armed(&self) -> usize {
        self.armed
    }

    /// The entry that makes a tag ready for its first request. The caller sets its `user_data` and
    /// pushes it; all tags must be armed before the device can start.
    ///
    /// `buffer` takes the data of the request. For the pushed entry to be sound it must be valid for as
    /// many bytes as the device's buffers have, and untouched by others, until the tag's completion, and
    /// further until the commit of the request that came with it.
    ///
    /// # Panics
    /// If the tag does not exist or was armed before.
    pub fn arm(&mut self, tag: u16, buffer: *mut u8) -> squeue::Entry {
        self.advance(tag, Tag::Idle, Tag::Armed);
        self.armed += 1;
        self.entry(sys::UBLK_U_IO_FETCH_REQ, tag, 0, buffer)
    }

    /// The entry that answers a request and makes its tag ready for the next, with data in `buffer` (as
    /// in [`Queue::arm`]). The data of a read must lie in `buffer` too, be it the one that the tag had so
    /// far or another: the driver takes the new address before it completes the request.
    ///
    /// `result` is the number of bytes done for reads and writes, 0 for all others, or a negated error
    /// number. Fewer bytes than asked for make the kernel ask for the rest.
    ///
    /// # Panics
    /// If the tag has no request.
    pub fn commit(&mut self, tag: u16, result: i32, buffer: *mut u8) -> squeue::Entry {
        self.advance(tag, Tag::Taken, Tag::Armed);
        self.armed += 1;
        self.entry(sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, result, buffer)
    }

    /// Tells what the completion of a tag's entry means.
    ///
    /// # Panics
    /// If the tag has no entry on the ring.
    pub fn on_completion(&mut self, tag: u16, result: i32) -> Event {
        self.armed -= 1;
        if result == 0 {
            self.advance(tag, Tag::Armed, Tag::Taken);
            return decode(tag, self.descriptors.read(tag), self.bounds);
        }
        self.advance(tag, Tag::Armed, Tag::Gone);
        // A positive result asks for a step of a mode that was not agreed on.
        let errno = if result < 0 { -result } else { libc::EPROTO };
        Event::Aborted { tag, errno }
    }

    /// Moves a tag on; its state is an invariant between us and the caller.
    fn advance(&mut self, tag: u16, from: Tag, to: Tag) {
        let state = &mut self.tags[usize::from(tag)];
        assert_eq!(*state, from, "ublk tag {tag} cannot become {to:?}");
        *state = to;
    }

    fn entry(&self, code: u32, tag: u16, result: i32, buffer: *mut u8) -> squeue::Entry {
        // struct ublksrv_io_cmd: queue, tag, result, buffer; the queue is 0.
        let mut command = [0; 16];
        command[2..4].copy_from_slice(&tag.to_ne_bytes());
        command[4..8].copy_from_slice(&result.to_ne_bytes());
        command[8..16].copy_from_slice(&(buffer as u64).to_ne_bytes());
        let device = types::Fd(self.device.as_raw_fd());
        opcode::UringCmd16::new(device, code).cmd(command).build()
    }
}

/// The kernel's table of request descriptors, one per tag, mapped read-only.
struct Descriptors {
    base: NonNull<sys::ublksrv_io_desc>,
    bytes: usize,
    depth: u16,
}

// SAFETY: the mapping belongs to the process and is only read, by whoever owns the value.
unsafe impl Send for Descriptors {}

impl Descriptors {
    fn map(device: &File, depth: u16) -> io::Result<Descriptors> {
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        let bytes = (usize::from(depth) * size_of::<sys::ublksrv_io_desc>()).next_multiple_of(page);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours. Offset 0
        // is the table of queue 0, and the driver checks the length.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                device.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Descriptors { base, bytes, depth })
    }

    /// The descriptor of a tag whose request is with us: the kernel leaves it alone until the commit.
    fn read(&self, tag: u16) -> sys::ublksrv_io_desc {
        assert!(tag < self.depth);
        // SAFETY: the table has `depth` descriptors and is mapped until drop. Volatile, since another
        // party wrote it; the completion on the ring, read with acquire, orders that write before.
        unsafe { self.base.as_ptr().add(usize::from(tag)).read_volatile() }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`; no reference into it exists.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
