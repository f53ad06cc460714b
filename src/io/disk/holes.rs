//! Asks the file system whether a part of a file is a hole: on a thread of its own, since the answer may have to be
//! read from the disk, and a disk may hang.
//!
//! ```text
//!   Disk::probe ─► asks ─► thread: SEEK_DATA ─► answers, and the reactor is woken ─► Disk::probed
//! ```
//!
//! The thread ends with the [`Holes`], and has the file open until then: a question that hangs keeps the file locked,
//! as an operation on the ring does.

use crate::io::thread;
use crate::io::waker::Waker;
use crate::limits::RESYNC_JOBS_MAX;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const STACK_BYTES: usize = 64 << 10;

struct Ask {
    user: u64,
    offset: u64,
    len: u64,
}

/// The asking end.
pub(super) struct Holes {
    asks: SyncSender<Ask>,
    answers: Receiver<(u64, bool)>,
}

impl Holes {
    /// Starts the thread.
    ///
    /// # Errors
    /// No descriptor or no thread is to be had.
    pub(super) fn start(file: &File, waker: Waker) -> std::io::Result<Holes> {
        let (asks, to_answer) = sync_channel::<Ask>(RESYNC_JOBS_MAX);
        let (answer, answers) = sync_channel(RESYNC_JOBS_MAX);
        let file = file.try_clone()?;
        let work = move || {
            while let Ok(Ask { user, offset, len }) = to_answer.recv() {
                if answer.send((user, is_hole(&file, offset, len))).is_err() {
                    return;
                }
                waker.wake();
            }
        };
        thread::spawn("rblk-holes", STACK_BYTES, work)?;
        Ok(Holes { asks, answers })
    }

    /// Asks whether `len` bytes at `offset` are a hole. False if too many questions wait, or nobody answers any more.
    pub(super) fn ask(&self, user: u64, offset: u64, len: u64) -> bool {
        self.asks.try_send(Ask { user, offset, len }).is_ok()
    }

    /// An answer.
    pub(super) fn answer(&self) -> Option<(u64, bool)> {
        self.answers.try_recv().ok()
    }
}

/// True if no byte of the range has ever been written, or what was has been given back. What cannot be told is data.
fn is_hole(file: &File, offset: u64, len: u64) -> bool {
    // The position that this moves is nobody's: every other operation names its own.
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => data >= offset + len,
        Err(errno) => errno == Errno::NXIO, // there is none up to the end
    }
}

#[cfg(test)]
mod tests {
    use super::is_hole;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_hole_ends_where_data_begins() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(64 << 20).expect("room");
        assert!(is_hole(&file, 0, 64 << 20));
        file.write_all_at(&[1; 4096], 32 << 20).expect("room");
        file.sync_all().expect("a disk");
        assert!(is_hole(&file, 0, 32 << 20));
        assert!(!is_hole(&file, 0, (32 << 20) + 1));
        assert!(!is_hole(&file, 32 << 20, 4096));
        assert!(is_hole(&file, 40 << 20, 24 << 20));
    }
}
