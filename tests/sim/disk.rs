//! A disk: what it holds, what of it survives a power cut, and what is in flight.
//!
//! Content is a write's number per sector. A write that ended is *current*; it becomes *stable* with a flush that
//! started after its end, or at once with FUA. What a crash leaves:
//!
//! | in flight or ended | daemon killed | power cut |
//! |---|---|---|
//! | ended, not flushed | kept | each sector: the stable, the current, or a value between |
//! | write in flight | lands whole, in its own time, or never | each sector landed or not, or lost |
//! | metadata in flight | lands whole, in its own time, or never | torn at 64 bytes |
//!
//! A write of a killed daemon may land until the next one has opened the disk, which it does alone: not after that.
//!
//! Sectors may be unreadable until they are written (`media.rs` says when). A disk that stalls ends its operations
//! late, and that may be after it was given up.
//!
//! A flush that fails drops what it was to make stable, as a kernel does: a later flush of the same daemon succeeds and
//! does not make that stable either. The flush that is part of a write with FUA or of a write of metadata is no other.
//!
//! Two overlapping writes in flight on one disk have no defined end: the disk refuses them, as an oracle.

use crate::geometry::Geometry;
use crate::metadisk::{Blocks, MetaDisk};
use crate::rng::Rng;
use rblk::limits::BLOCK_SECTORS;
use rblk::span::Span;
use std::collections::BTreeMap;

/// Values from here on were never written by a client.
pub(crate) const NOISE: u32 = 0xC000_0000;

/// What an operation does.
#[derive(Clone)]
pub(crate) enum Work {
    Read,
    /// A read that resync locked its span for.
    ReadLocked,
    /// Whether a span that resync locked is a hole.
    Probe,
    /// Sector values; none: zeroes.
    Write {
        data: Option<Vec<u32>>,
        fua: bool,
    },
    /// What was not stable when it started.
    Flush(Vec<Unflushed>),
}

/// A copy of a disk.
pub(crate) struct Image {
    current: Vec<u32>,
    blocks: Blocks,
    /// Its watermark.
    pub(crate) mark: u64,
}

/// A sector that a flush will make stable.
#[derive(Clone)]
pub(crate) struct Unflushed {
    at: usize,
    value: u32,
    stamp: u64,
}

/// An operation in flight.
#[derive(Clone)]
pub(crate) struct DataOp {
    pub(crate) span: Option<Span>,
    pub(crate) work: Work,
    /// It never ends.
    pub(crate) hung: bool,
}

/// A disk.
#[derive(Clone)]
pub(crate) struct Disk {
    geometry: Geometry,
    pub(crate) current: Vec<u32>,
    pub(crate) stable: Vec<u32>,
    /// A value that was current after the stable one.
    between: Vec<u32>,
    volatile: Vec<bool>,
    /// The write that is current and the one that is stable, by number: a flush never brings back an older one.
    stamps: Vec<[u64; 2]>,
    /// Writes up to this one were dropped by a flush that failed.
    dropped: u64,
    next_stamp: u64,
    /// Volatile sectors by dense block.
    loose: Vec<u8>,
    /// Sectors that cannot be read until they are written, and how many they are.
    bad: Vec<bool>,
    bad_count: usize,
    pub(crate) in_flight: BTreeMap<u64, DataOp>,
    pub(crate) meta: MetaDisk,
    /// Dense blocks that changed since the oracle last looked.
    pub(crate) changed: Vec<u32>,
}

impl Disk {
    /// Writes that have begun and not ended, with their values; none: zeroes.
    pub(crate) fn writes_in_flight(&self) -> impl Iterator<Item = (Span, Option<&Vec<u32>>)> {
        self.in_flight.values().filter_map(|op| match &op.work {
            Work::Write { data, .. } => Some((op.span?, data.as_ref())),
            _ => None,
        })
    }

    /// A disk with `value` in every sector.
    pub(crate) fn new(geometry: &Geometry, meta: MetaDisk, value: impl Fn(usize) -> u32) -> Disk {
        let current: Vec<u32> = (0..geometry.dense_sectors()).map(value).collect();
        Disk {
            geometry: geometry.clone(),
            stable: current.clone(),
            between: current.clone(),
            volatile: vec![false; current.len()],
            stamps: vec![[0; 2]; current.len()],
            dropped: 0,
            next_stamp: 1,
            loose: vec![0; geometry.dense_blocks()],
            bad: vec![false; current.len()],
            bad_count: 0,
            current,
            in_flight: BTreeMap::new(),
            meta,
            changed: (0..geometry.dense_blocks() as u32).collect(),
        }
    }

    /// True if a sector of the dense block would not survive a power cut for sure.
    pub(crate) fn is_loose(&self, block: usize) -> bool {
        self.loose[block] > 0
    }

    /// True if a power cut may leave something else of the dense block than it holds.
    pub(crate) fn may_change(&self, block: usize) -> bool {
        let first = block * BLOCK_SECTORS as usize;
        let mut sectors = first..first + BLOCK_SECTORS as usize;
        sectors.any(|at| self.survivors(at) != [self.current[at]; 2])
    }

    /// What a power cut may leave of a sector instead of what it holds.
    pub(crate) fn survivors(&self, at: usize) -> [u32; 2] {
        let between = if self.volatile[at] { self.between[at] } else { self.current[at] };
        [self.stable[at], between]
    }

    /// An operation will never end.
    pub(crate) fn hang(&mut self, op: u64) {
        self.in_flight.get_mut(&op).expect("an operation in flight").hung = true;
    }

    /// True if an operation hangs.
    pub(crate) fn hangs(&self) -> bool {
        self.in_flight.values().any(|op| op.hung)
    }

    /// True if a power cut may take something.
    pub(crate) fn has_unflushed(&self) -> bool {
        self.loose.iter().any(|loose| *loose > 0)
    }

    /// Takes in an operation.
    pub(crate) fn start(&mut self, op: u64, span: Option<Span>, work: Work, hung: bool) {
        let writes = |work: &Work| matches!(work, Work::Write { .. });
        let locked = |work: &Work| matches!(work, Work::ReadLocked | Work::Probe);
        // Nothing is written beside a write, or beside a read that has its span for itself.
        let exclude = |one: &Work, other: &Work| {
            writes(one) && (writes(other) || locked(other)) || locked(one) && writes(other)
        };
        if let Some(span) = span {
            let clash = self.in_flight.values().find(|other| {
                exclude(&work, &other.work) && other.span.is_some_and(|other| other.overlaps(span))
            });
            if let Some(clash) = clash {
                panic!("oracle overlap: {span:?} beside {:?} in flight", clash.span);
            }
        }
        let old = self.in_flight.insert(op, DataOp { span, work, hung });
        assert!(old.is_none(), "oracle driver: an operation's name was used twice");
    }

    /// All sectors that are not stable, with their values.
    pub(crate) fn unflushed(&self) -> Vec<Unflushed> {
        let loose = (0..self.volatile.len()).filter(|at| self.volatile[*at]);
        let entry = |at| Unflushed { at, value: self.current[at], stamp: self.stamps[at][0] };
        loose.map(entry).collect()
    }

    /// The content of a span.
    pub(crate) fn read(&self, span: Span) -> Vec<u32> {
        let mut out = vec![0; span.sectors() as usize];
        for piece in self.geometry.pieces(span) {
            let len = piece.dense.len();
            out[piece.offset..piece.offset + len].copy_from_slice(&self.current[piece.dense]);
        }
        out
    }

    /// Carries out a write: all of it, or with `keep` only the sectors that it says yes to.
    fn write(
        &mut self,
        span: Span,
        data: Option<&[u32]>,
        fua: bool,
        mut keep: impl FnMut() -> bool,
    ) {
        let pieces: Vec<_> = self.geometry.pieces(span).collect();
        for piece in pieces {
            for (index, at) in piece.dense.enumerate() {
                if keep() {
                    let value = data.map_or(0, |data| data[piece.offset + index]);
                    self.set(at, value, fua);
                }
            }
        }
    }

    fn set(&mut self, at: usize, value: u32, fua: bool) {
        if self.volatile[at] {
            self.between[at] = self.current[at];
        }
        self.current[at] = value;
        if self.bad_count > 0 {
            self.bad_count -= usize::from(std::mem::take(&mut self.bad[at]));
        }
        self.stamps[at][0] = self.next_stamp;
        self.next_stamp += 1;
        self.set_volatile(at, !fua);
        if fua {
            self.stable[at] = value;
            self.stamps[at][1] = self.stamps[at][0];
        }
    }

    fn set_volatile(&mut self, at: usize, volatile: bool) {
        let block = at / BLOCK_SECTORS as usize;
        if self.changed.last() != Some(&(block as u32)) {
            self.changed.push(block as u32);
        }
        match (self.volatile[at], volatile) {
            (false, true) => {
                self.loose[block] += 1;
                self.between[at] = self.stable[at];
            }
            (true, false) => self.loose[block] -= 1,
            _ => {}
        }
        self.volatile[at] = volatile;
    }

    /// An operation ends well. What was read, if it was a read.
    pub(crate) fn finish(&mut self, op: u64) -> Option<Vec<u32>> {
        let op = self.in_flight.remove(&op).expect("an operation in flight");
        match (op.work, op.span) {
            (Work::Read | Work::ReadLocked | Work::Probe, Some(span)) => {
                return Some(self.read(span));
            }
            (Work::Write { data, fua }, Some(span)) => {
                self.write(span, data.as_deref(), fua, || true);
            }
            (Work::Flush(sectors), _) => {
                for Unflushed { at, value, stamp } in sectors {
                    if stamp > self.stamps[at][1].max(self.dropped) {
                        self.stable[at] = value;
                        self.between[at] = value;
                        self.stamps[at][1] = stamp;
                        self.set_volatile(at, self.stamps[at][0] != stamp);
                    }
                }
            }
            _ => unreachable!("reads and writes have a span"),
        }
        None
    }

    /// An operation fails: a write has reached any of its sectors, and what a flush was for is lost to flushes.
    pub(crate) fn fail(&mut self, op: u64, rng: &mut Rng) {
        let op = self.in_flight.remove(&op).expect("an operation in flight");
        match &op.work {
            Work::Flush(sectors) => {
                let newest = sectors.iter().map(|sector| sector.stamp).max();
                self.dropped = self.dropped.max(newest.unwrap_or(0));
            }
            Work::Write { fua: true, .. } => self.drop_cache(),
            _ => {}
        }
        if let (Work::Write { data, .. }, Some(span)) = (op.work, op.span) {
            self.write(span, data.as_deref(), false, || rng.chance(50));
        }
    }

    /// A flush that was part of something else has failed: what has ended until now is lost to flushes.
    pub(crate) fn drop_cache(&mut self) {
        self.dropped = self.next_stamp - 1;
    }

    /// What a copy of the whole disk would hold now: a snapshot of the volume below it.
    pub(crate) fn image(&self) -> Image {
        Image {
            current: self.current.clone(),
            blocks: self.meta.copy(),
            mark: self.meta.superblock.mark,
        }
    }

    /// The disk is put back to what it was.
    pub(crate) fn restore(&mut self, image: Image) {
        for (at, value) in image.current.into_iter().enumerate() {
            self.set(at, value, true);
        }
        self.meta.restore(image.blocks);
    }

    /// Nothing of what the disk holds may ever be used again: every sector becomes noise of its own.
    pub(crate) fn scramble(&mut self) {
        for at in 0..self.current.len() {
            self.set(at, NOISE | at as u32, true);
        }
    }

    /// A dense block cannot be read any more.
    pub(crate) fn spoil(&mut self, block: usize) {
        let sectors = BLOCK_SECTORS as usize;
        for at in block * sectors..(block + 1) * sectors {
            self.bad_count += usize::from(!std::mem::replace(&mut self.bad[at], true));
        }
    }

    /// What is stored changes by itself.
    pub(crate) fn rot(&mut self, span: Span) {
        for piece in self.geometry.pieces(span).collect::<Vec<_>>() {
            for at in piece.dense {
                self.set(at, self.current[at] ^ 1, true);
            }
        }
    }

    /// Everything can be read again.
    pub(crate) fn mend(&mut self) {
        self.bad.fill(false);
        self.bad_count = 0;
    }

    /// True if the operation reads what cannot be read.
    pub(crate) fn is_unreadable(&self, op: u64) -> bool {
        let Some(DataOp { span: Some(span), work: Work::Read | Work::ReadLocked, .. }) =
            self.in_flight.get(&op)
        else {
            return false;
        };
        self.bad_count > 0
            && self.geometry.pieces(*span).any(|piece| self.bad[piece.dense].contains(&true))
    }

    /// The daemon is gone. What it had with the disk lands in its own time, or never.
    pub(crate) fn daemon_killed(&mut self, rng: &mut Rng) {
        let writes = |op: &DataOp| matches!(op.work, Work::Write { .. });
        self.in_flight.retain(|_, op| writes(op) && rng.chance(75));
        self.meta.daemon_killed(rng);
    }

    /// A daemon opens the disk, alone: what is left of its forerunner's writes lands now or never.
    pub(crate) fn open(&mut self, rng: &mut Rng) {
        self.dropped = 0; // a disk that is opened again was looked after
        for op in self.in_flight.keys().copied().collect::<Vec<_>>() {
            if rng.chance(50) {
                self.finish(op);
            }
        }
        self.in_flight.clear();
        self.meta.open(rng);
    }

    /// Writes of a dead daemon may still land.
    pub(crate) fn is_restless(&self) -> bool {
        !self.in_flight.is_empty() || self.meta.pending() > 0
    }

    /// The power is gone.
    pub(crate) fn power_cut(&mut self, rng: &mut Rng) {
        self.dropped = 0;
        for (_, op) in std::mem::take(&mut self.in_flight) {
            if let (Work::Write { data, .. }, Some(span)) = (op.work, op.span) {
                let share = rng.pick(&[0, 50, 100]);
                self.write(span, data.as_deref(), false, || rng.chance(share));
            }
        }
        let kept = rng.pick(&[0, 50, 90]);
        for at in 0..self.current.len() {
            if self.volatile[at] {
                if !rng.chance(kept) {
                    self.current[at] =
                        if rng.chance(20) { self.between[at] } else { self.stable[at] };
                }
                self.stable[at] = self.current[at];
                self.stamps[at][1] = self.stamps[at][0];
                self.set_volatile(at, false);
            }
        }
        self.meta.power_cut(rng);
    }
}
