//! The pool of payload buffers: one mapping, made at the start, never grown.
//!
//! A buffer is free, or has a count of references. Whoever takes one has the first; everyone who still
//! needs the bytes (an operation on the ring, a frame waiting to be sent, a client) holds one of its own
//! and releases it when done. At zero the buffer is free. Releasing or reading a free buffer is a bug of
//! ours and panics, since the bytes of another request would be served.
//!
//! A buffer that the disk fills is nobody else's to read or to fill until that has ended, however long a disk hangs:
//! what is asked for then is put in another buffer. Its bytes cannot be had meanwhile ([`Pool::is_filled`] tells).
//!
//! The buffer last released is the first to be taken: little memory is touched, and it is still in the cache.

use super::ring::Ring;
use crate::replica::event::Buf;
use rustix::mm::{MapFlags, ProtFlags, mlock, mmap_anonymous, munmap};
use std::io::{Error, Result};
use std::ptr::NonNull;

/// Alignment of every buffer: the page, which satisfies `O_DIRECT` on any disk.
pub const BUFFER_ALIGN: usize = 4096;

/// Buffers of one size.
pub struct Pool {
    start: NonNull<u8>,
    /// Bytes of one buffer.
    bytes: usize,
    references: Vec<u32>,
    /// Of each buffer, the operations that the disk fills it with.
    fills: Vec<u32>,
    free: Vec<Buf>,
    /// Index of the mapping among the ring's registered buffers.
    registered: Option<u16>,
    /// The kernel may still write to it: never unmap.
    leaked: bool,
}

impl Pool {
    /// `count` buffers of `bytes` bytes, a multiple of [`BUFFER_ALIGN`], zeroed.
    ///
    /// # Errors
    /// The memory is not there.
    pub fn new(count: usize, bytes: usize) -> Result<Pool> {
        assert!(count > 0 && bytes > 0 && bytes.is_multiple_of(BUFFER_ALIGN), "buffer size");
        let total = count.checked_mul(bytes).ok_or(rustix::io::Errno::NOMEM)?;
        let numbers = u32::try_from(count).map_err(|_| rustix::io::Errno::NOMEM)?;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                total,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or_else(|| Error::other("Mapped at zero"))?;
        Ok(Pool {
            start,
            bytes,
            references: vec![0; count],
            fills: vec![0; count],
            // Buffer 0 is on top of the stack.
            free: (0..numbers).rev().map(Buf).collect(),
            registered: None,
            leaked: false,
        })
    }

    /// Registers the memory with the ring. Where the locked-memory limit forbids it the pool works all the
    /// same, only slower: each operation pins its pages.
    ///
    /// # Errors
    /// The kernel refuses for another reason.
    pub fn register(&mut self, ring: &mut Ring) -> Result<()> {
        assert!(self.registered.is_none(), "registered twice");
        // SAFETY: the pool unmaps only after the ring has let go: registered pages stay pinned until then.
        match unsafe { ring.add_buffer(self.start.as_ptr(), self.total()) } {
            Ok(index) => self.registered = Some(index),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Locks the memory, so that no write has to wait for swap, which may lie on this very volume.
    ///
    /// # Errors
    /// The locked-memory limit of the process is too low.
    pub fn lock(&self) -> Result<()> {
        // SAFETY: the range is our own mapping; locking does not change its content.
        unsafe { mlock(self.start.as_ptr().cast(), self.total())? };
        Ok(())
    }

    /// A free buffer with one reference; `None` if all are in use. Its content is whatever was there.
    pub fn take(&mut self) -> Option<Buf> {
        let buf = self.free.pop()?;
        let references = &mut self.references[buf.0 as usize];
        assert_eq!(*references, 0, "buffer {} was free and in use", buf.0);
        *references = 1;
        Some(buf)
    }

    /// One more reference.
    pub fn hold(&mut self, buf: Buf) {
        self.check(buf);
        self.references[buf.0 as usize] += 1;
    }

    /// One reference less; with the last one the buffer is free.
    pub fn release(&mut self, buf: Buf) {
        self.check(buf);
        let references = &mut self.references[buf.0 as usize];
        *references -= 1;
        if *references == 0 {
            assert!(!self.is_filled(buf), "buffer {} is released while it is filled", buf.0);
            self.free.push(buf);
        }
    }

    /// References to a buffer in use.
    pub fn references(&self, buf: Buf) -> u32 {
        self.check(buf);
        self.references[buf.0 as usize]
    }

    /// The disk fills it from now on. Who starts that holds a reference until [`Pool::end_fill`].
    pub fn begin_fill(&mut self, buf: Buf) {
        self.check(buf);
        self.fills[buf.0 as usize] += 1;
    }

    /// The disk has ended, well or not.
    pub fn end_fill(&mut self, buf: Buf) {
        self.check(buf);
        self.fills[buf.0 as usize] -= 1;
    }

    /// True while the disk may write to it.
    pub fn is_filled(&self, buf: Buf) -> bool {
        self.fills[buf.0 as usize] > 0
    }

    /// The first `len` bytes. Not to be asked for while an operation writes to them.
    pub fn bytes(&self, buf: Buf, len: usize) -> &[u8] {
        self.check_bytes(buf, len);
        // SAFETY: `ptr` checks that the buffer exists and is in use; buffers do not overlap.
        unsafe { std::slice::from_raw_parts(self.ptr(buf), len) }
    }

    /// The first `len` bytes, to be filled. Not to be asked for while an operation uses them.
    pub fn bytes_mut(&mut self, buf: Buf, len: usize) -> &mut [u8] {
        self.check_bytes(buf, len);
        // SAFETY: as in `bytes`, and `self` is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.ptr(buf), len) }
    }

    /// Copies the first `len` bytes of `from` into `to`. Not to be asked for while an operation writes to either.
    pub fn copy(&mut self, from: Buf, to: Buf, len: usize) {
        self.check_bytes(from, len);
        self.check_bytes(to, len);
        assert_ne!(from, to);
        // SAFETY: `ptr` checks that both exist and are in use; two buffers do not overlap, and no reference into either
        // is made.
        unsafe { std::ptr::copy_nonoverlapping(self.ptr(from), self.ptr(to), len) }
    }

    /// Where the buffer begins, for an operation on the ring: who starts one holds a reference until it has
    /// ended.
    pub fn ptr(&self, buf: Buf) -> *mut u8 {
        self.check(buf);
        // SAFETY: `check` has seen that the number is below the count of buffers in the mapping.
        unsafe { self.start.as_ptr().add(buf.0 as usize * self.bytes) }
    }

    /// Index for `READ_FIXED` and `WRITE_FIXED`; `None` if plain operations are to be used.
    pub fn registered(&self) -> Option<u16> {
        self.registered
    }

    /// Bytes of each buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.bytes
    }

    /// Buffers that can be taken.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Buffers in all.
    pub fn count(&self) -> usize {
        self.references.len()
    }

    /// Keeps the memory mapped for good: the kernel may still write to it.
    pub fn leak(&mut self) {
        self.leaked = true;
    }

    fn total(&self) -> usize {
        self.references.len() * self.bytes
    }

    fn check_bytes(&self, buf: Buf, len: usize) {
        assert!(len <= self.bytes, "{len} bytes of a buffer of {}", self.bytes);
        // Another's bytes in a client's answer, perhaps: worse than to stop.
        assert!(!self.is_filled(buf), "the disk fills buffer {}", buf.0);
    }

    fn check(&self, buf: Buf) {
        let references = self.references.get(buf.0 as usize).copied();
        assert!(references.is_some_and(|count| count > 0), "buffer {} is not in use", buf.0);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: our own mapping, unmapped once; operations on it have ended, or have its pages pinned.
            let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.total()) };
            debug_assert!(unmapped.is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_released_is_taken_first() {
        let mut pool = Pool::new(3, 4096).expect("memory");
        let (a, b) = (pool.take().expect("free"), pool.take().expect("free"));
        assert_eq!((a, b, pool.free()), (Buf(0), Buf(1), 1));
        pool.release(a);
        assert_eq!(pool.take(), Some(a));
        assert_eq!(pool.take(), Some(Buf(2)));
        assert_eq!(pool.take(), None);
    }

    #[test]
    fn a_buffer_is_free_after_the_last_of_its_references() {
        let mut pool = Pool::new(1, 8192).expect("memory");
        let buf = pool.take().expect("free");
        pool.hold(buf);
        pool.bytes_mut(buf, 8192).fill(7);
        pool.release(buf);
        assert_eq!(pool.take(), None);
        assert_eq!(pool.bytes(buf, 8192)[8191], 7);
        pool.release(buf);
        assert_eq!(pool.free(), 1);
    }

    #[test]
    fn buffers_are_aligned_and_apart() {
        let mut pool = Pool::new(4, 4096).expect("memory");
        let bufs: Vec<Buf> = std::iter::from_fn(|| pool.take()).collect();
        for (number, &buf) in bufs.iter().enumerate() {
            assert!((pool.ptr(buf) as usize).is_multiple_of(BUFFER_ALIGN));
            pool.bytes_mut(buf, 4096).fill(number as u8);
        }
        for (number, &buf) in bufs.iter().enumerate() {
            assert!(pool.bytes(buf, 4096).iter().all(|&byte| byte == number as u8));
        }
    }

    #[test]
    fn a_buffer_is_filled_until_the_last_of_the_operations_has_ended() {
        let mut pool = Pool::new(2, 4096).expect("memory");
        let (a, b) = (pool.take().expect("free"), pool.take().expect("free"));
        pool.begin_fill(a);
        pool.begin_fill(a);
        pool.end_fill(a);
        assert!(pool.is_filled(a) && !pool.is_filled(b));
        pool.end_fill(a);
        assert!(!pool.is_filled(a));
        pool.copy(a, b, 4096);
    }

    #[test]
    #[should_panic(expected = "the disk fills buffer 0")]
    fn the_bytes_of_a_buffer_that_is_filled_cannot_be_had() {
        let mut pool = Pool::new(1, 4096).expect("memory");
        let buf = pool.take().expect("free");
        pool.begin_fill(buf);
        pool.bytes(buf, 1);
    }

    #[test]
    #[should_panic(expected = "buffer 0 is released while it is filled")]
    fn a_buffer_that_is_filled_does_not_become_free() {
        let mut pool = Pool::new(1, 4096).expect("memory");
        let buf = pool.take().expect("free");
        pool.begin_fill(buf);
        pool.release(buf);
    }

    #[test]
    #[should_panic(expected = "buffer 0 is not in use")]
    fn releasing_twice_is_caught() {
        let mut pool = Pool::new(1, 4096).expect("memory");
        let buf = pool.take().expect("free");
        pool.release(buf);
        pool.release(buf);
    }

    #[test]
    #[should_panic(expected = "buffer 0 is not in use")]
    fn reading_a_free_buffer_is_caught() {
        let pool = Pool::new(1, 4096).expect("memory");
        pool.bytes(Buf(0), 1);
    }
}
