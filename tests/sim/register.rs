//! What each sector may read as: a register per sector that knows of crashes.
//!
//! Every write that may still be there is an entry. Times are event numbers.
//!
//! | what happens | what follows for the other entries of the sector |
//! |---|---|
//! | a write is acknowledged | those done before it was invoked are gone |
//! | a read returns an entry that is done | the others done before the read was invoked are gone |
//! | the client's node dies, a write fails | pending writes are done, one way or the other |
//! | a flush ends | what was gone when it was submitted is lost: not even a power cut brings it back |
//! | acknowledged data may have been lost lawfully | what is gone but not lost may be back |
//!
//! A read must return an entry that was not gone at some time between its invocation and its end. A write that
//! failed stays undecided until a later write is acknowledged: reading it decides nothing.

use crate::disk::Disk;
use crate::geometry::Geometry;
use rblk::span::Span;

const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    value: u32,
    /// The write; 0 for what was there at first.
    write: u32,
    invoked: u64,
    done: u64,
    gone: u64,
    lost: bool,
    failed: bool,
}

/// All registers.
pub(crate) struct Register {
    geometry: Geometry,
    sectors: Vec<Vec<Entry>>,
}

impl Register {
    pub(crate) fn new(geometry: &Geometry) -> Register {
        let first = Entry {
            value: 0,
            write: 0,
            invoked: 0,
            done: 0,
            gone: NEVER,
            lost: false,
            failed: false,
        };
        let sectors = vec![vec![first]; geometry.dense_sectors()];
        Register { geometry: geometry.clone(), sectors }
    }

    /// What a disk holds that goes its own way: of what it has only in its cache, also what a power cut leaves.
    pub(crate) fn of(geometry: &Geometry, disk: &Disk, now: u64) -> Register {
        let mut register = Register::new(geometry);
        for (at, entries) in register.sectors.iter_mut().enumerate() {
            let value = disk.current[at];
            entries[0].value = value;
            for kept in disk.survivors(at).into_iter().filter(|kept| *kept != value) {
                entries.insert(0, Entry { value: kept, gone: now, ..entries[0] });
            }
        }
        register
    }

    /// The content of the first disk that becomes the data.
    pub(crate) fn begin_with(&mut self, content: &[u32]) {
        for (entries, value) in self.sectors.iter_mut().zip(content) {
            entries[0].value = *value;
        }
    }

    fn each(&mut self, span: Span, mut change: impl FnMut(&mut Vec<Entry>)) {
        for piece in self.geometry.pieces(span) {
            for entries in &mut self.sectors[piece.dense] {
                change(entries);
            }
        }
    }

    /// A write begins.
    pub(crate) fn invoke(&mut self, span: Span, write: u32, value: u32, now: u64) {
        let entry = Entry {
            value,
            write,
            invoked: now,
            done: NEVER,
            gone: NEVER,
            lost: false,
            failed: false,
        };
        self.each(span, |entries| entries.push(entry));
    }

    /// A write is acknowledged; with `fua` it is stable.
    pub(crate) fn acknowledge(&mut self, span: Span, write: u32, fua: bool, now: u64) {
        self.each(span, |entries| {
            let mut invoked = 0;
            for entry in entries.iter_mut().filter(|entry| entry.write == write) {
                entry.done = now;
                invoked = entry.invoked;
            }
            for entry in entries.iter_mut().filter(|entry| entry.done < invoked) {
                entry.gone = entry.gone.min(now);
                entry.lost |= fua;
            }
        });
    }

    /// A write at a node that went its own way has ended, with or without an answer.
    pub(crate) fn scribbled(&mut self, write: u32, done: bool, now: u64) {
        for entries in &mut self.sectors {
            let Some(at) = entries.iter().position(|entry| entry.write == write) else { continue };
            entries[at].done = now;
            entries[at].failed = !done;
            let invoked = entries[at].invoked;
            for entry in entries.iter_mut().filter(|entry| done && entry.done < invoked) {
                entry.gone = entry.gone.min(now);
            }
        }
    }

    /// A write failed, or its client's node died.
    pub(crate) fn undecided(&mut self, span: Span, write: u32, failed: bool, now: u64) {
        self.each(span, |entries| {
            for entry in entries.iter_mut().filter(|entry| entry.write == write) {
                entry.done = now;
                entry.failed = failed;
            }
        });
    }

    /// A read that was invoked at `since` ends; `oldest` is the invocation of the oldest read that is left.
    pub(crate) fn read(&mut self, span: Span, data: &[u32], since: u64, now: u64, oldest: u64) {
        let pieces: Vec<_> = self.geometry.pieces(span).collect();
        let mut outside = data.iter().copied().filter(|value| *value != 0).count();
        for piece in pieces {
            for (index, at) in piece.dense.enumerate() {
                let value = data[piece.offset + index];
                outside -= usize::from(value != 0);
                self.read_one(at, value, since, now, oldest);
            }
        }
        assert!(outside == 0, "oracle register: data where nothing was ever written");
    }

    fn read_one(&mut self, at: usize, value: u32, since: u64, now: u64, oldest: u64) {
        let entries = &mut self.sectors[at];
        let fits = |entry: &Entry| entry.value == value && entry.gone >= since;
        let found = entries.iter().any(fits);
        assert!(
            found,
            "oracle register: dense sector {at} (block {}) read as {value:#x} since {since}: {entries:?}",
            self.geometry.block(at / 8),
        );
        let undecided = |entry: &Entry| fits(entry) && (entry.done == NEVER || entry.failed);
        if !entries.iter().any(undecided) {
            for entry in entries.iter_mut() {
                if !fits(entry) && entry.done < since && !entry.failed {
                    entry.gone = entry.gone.min(now);
                }
            }
        }
        entries.retain(|entry| !(entry.lost && entry.gone < oldest));
    }

    /// A flush that was submitted at `since` ends well.
    pub(crate) fn flushed(&mut self, since: u64, oldest: u64) {
        for entries in self.sectors.iter_mut().filter(|entries| entries.len() > 1) {
            for entry in entries.iter_mut() {
                entry.lost |= entry.gone < since;
            }
            entries.retain(|entry| !(entry.lost && entry.gone < oldest));
        }
    }

    /// What both disks had only in their caches may be lost.
    pub(crate) fn caches_lost(&mut self) {
        for entry in self.sectors.iter_mut().flatten().filter(|entry| !entry.lost) {
            entry.gone = NEVER;
        }
    }

    /// True if `value` comes of a write that was not done when the one that was invoked at `since` was.
    pub(crate) fn is_concurrent(&self, at: usize, value: u32, since: u64) -> bool {
        self.sectors[at].iter().any(|entry| entry.value == value && entry.done >= since)
    }

    /// True if `value` may be in the sector now.
    pub(crate) fn admits(&self, at: usize, value: u32) -> bool {
        self.sectors[at].iter().any(|entry| entry.value == value && entry.gone == NEVER)
    }

    /// True if every sector of `content` may be what the volume holds.
    pub(crate) fn admits_all(&self, content: &[u32]) -> bool {
        content.iter().enumerate().all(|(at, value)| self.admits(at, *value))
    }

    /// True if `value` is no older than what a flush that was invoked at `since` promises for the sector. What another
    /// node has written and flushed meanwhile, going on alone, is not in its promise.
    pub(crate) fn is_durable(&self, at: usize, value: u32, since: u64) -> bool {
        let counts = |entry: &Entry| !entry.lost || entry.gone >= since;
        self.sectors[at].iter().any(|entry| entry.value == value && counts(entry))
    }

    /// The entries of a sector, for the report.
    pub(crate) fn explain(&self, at: usize) -> String {
        format!("block {}: {:?}", self.geometry.block(at / 8), self.sectors[at])
    }
}
