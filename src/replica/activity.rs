//! The activity log: which extents of 4 MiB may hold writes that the two disks do not share on stable media yet.
//!
//! After a crash of the Primary nobody knows which writes reached which disk; whatever the log names is compared.
//! So an extent enters the log, durably, before the first write into it starts, and stays while it has
//!
//! - *pins*: requests in flight, or
//! - *unstable blocks*: writes that both disks have accepted but not both have flushed.
//!
//! Unstable blocks live in two epochs. A flush of both disks closes the open epoch when it starts, and when it has
//! ended on both, the closed epoch is stable:
//!
//! ```text
//!   write ends ──► open epoch ──(flush starts)──► closed epoch ──(flush ends on both)──► gone
//!                       └──────────────┬──────────────┘
//!                                 peer lost ──► bits of the dirty bitmap
//! ```

use crate::limits::{AL_SLOTS, EXTENT_BLOCKS, EXTENT_BYTES, EXTENT_SECTORS, ZERO_BYTES_MAX};
use crate::replica::event::MetaSeq;
use crate::span::Span;
use std::ops::Range;

const WORDS: usize = (EXTENT_BLOCKS / 64) as usize;
const NO_SLOT: u16 = u16::MAX;
const OPEN: usize = 0;
const CLOSED: usize = 1;

#[derive(Clone, Copy, Debug)]
struct Slot {
    extent: Option<u32>,
    pins: u32,
    /// The metadata step that makes the slot durable.
    durable_with: MetaSeq,
    unstable: [[u64; WORDS]; 2],
    unstable_count: [u32; 2],
}

impl Slot {
    const EMPTY: Slot = Slot {
        extent: None,
        pins: 0,
        durable_with: MetaSeq(0),
        unstable: [[0; WORDS]; 2],
        unstable_count: [0; 2],
    };

    fn is_idle(&self) -> bool {
        self.pins == 0 && self.unstable_count == [0; 2]
    }
}

/// The log.
#[derive(Debug)]
pub(super) struct ActivityLog {
    slots: Vec<Slot>,
    /// Slot of each extent of the volume.
    index: Vec<u16>,
    /// Where the search for an idle slot goes on: the clock's hand.
    hand: usize,
    /// Extents that were evicted since the last transaction began: their bits must be durable before it.
    evicted: Vec<u32>,
    /// Blocks in both epochs.
    unstable: u64,
    /// Times that an extent left the log.
    forgets: u64,
}

impl ActivityLog {
    /// Empty, with `slots` slots, for a volume of `sectors` sectors.
    pub(super) fn new(sectors: u64, slots: usize) -> ActivityLog {
        // A request must fit the log by itself, however long it is.
        let longest = (ZERO_BYTES_MAX / EXTENT_BYTES + 1) as usize;
        assert!((longest..=AL_SLOTS).contains(&slots), "the activity log has room for a request");
        let extents = usize::try_from(sectors.div_ceil(EXTENT_SECTORS)).unwrap_or(usize::MAX);
        ActivityLog {
            slots: vec![Slot::EMPTY; slots],
            index: vec![NO_SLOT; extents],
            hand: 0,
            evicted: Vec::with_capacity(AL_SLOTS),
            unstable: 0,
            forgets: 0,
        }
    }

    /// Pins `extents` if all of them are in the log or find room; else changes nothing and returns `None`.
    /// Returns the step after which writes may start; extents that were not in the log become durable with
    /// `next`, the step of the next transaction.
    pub(super) fn pin(
        &mut self,
        extents: Range<u32>,
        next: impl FnOnce() -> MetaSeq,
    ) -> Option<MetaSeq> {
        let missing = extents.clone().filter(|extent| self.slot_of(*extent).is_none()).count();
        // Slots of this very request must not be evicted for it: pin those first.
        let mut after = MetaSeq(0);
        for extent in extents.clone() {
            if let Some(slot) = self.slot_of(extent) {
                self.slots[slot].pins += 1;
                after = after.max(self.slots[slot].durable_with);
            }
        }
        if missing == 0 {
            return Some(after);
        }
        if self.slots.iter().filter(|slot| slot.is_idle()).count() < missing {
            self.unpin_present(extents);
            return None;
        }
        let durable_with = next();
        for extent in extents {
            if self.slot_of(extent).is_none() {
                self.assign(extent, durable_with);
            }
        }
        Some(after.max(durable_with))
    }

    /// True if all of `extents` are in the log.
    pub(super) fn is_hot(&self, extents: Range<u32>) -> bool {
        extents.into_iter().all(|extent| self.slot_of(extent).is_some())
    }

    /// A request that pinned `extents` has ended.
    pub(super) fn unpin(&mut self, extents: Range<u32>) {
        for extent in extents {
            let slot = self.slot_of(extent).expect("a pinned extent is in the log");
            assert!(self.slots[slot].pins > 0, "pins and unpins are paired");
            self.slots[slot].pins -= 1;
        }
    }

    /// Both disks have accepted a write to `span`; not yet on stable media. Its extents are pinned.
    pub(super) fn mark_unstable(&mut self, span: Span) {
        for block in span.blocks() {
            let extent = u32::try_from(block / EXTENT_BLOCKS).unwrap_or(u32::MAX);
            let slot = self.slot_of(extent).expect("a written extent is in the log");
            let slot = &mut self.slots[slot];
            let bit = block % EXTENT_BLOCKS;
            let word = &mut slot.unstable[OPEN][(bit / 64) as usize];
            if *word >> (bit % 64) & 1 == 0 {
                *word |= 1 << (bit % 64);
                slot.unstable_count[OPEN] += 1;
                self.unstable += 1;
            }
        }
    }

    /// Blocks that both disks have accepted but not both have flushed.
    pub(super) fn unstable(&self) -> u64 {
        self.unstable
    }

    /// A flush of both disks starts: it covers the open epoch.
    pub(super) fn close_epoch(&mut self) {
        for slot in &mut self.slots {
            assert!(slot.unstable_count[CLOSED] == 0, "one flush of both disks at a time");
            slot.unstable.swap(OPEN, CLOSED);
            slot.unstable_count.swap(OPEN, CLOSED);
        }
    }

    /// The flush has ended well on both disks.
    pub(super) fn closed_is_stable(&mut self) {
        for slot in &mut self.slots {
            if slot.unstable_count[CLOSED] > 0 {
                self.unstable -= u64::from(slot.unstable_count[CLOSED]);
                slot.unstable[CLOSED] = [0; WORDS];
                slot.unstable_count[CLOSED] = 0;
            }
        }
    }

    /// Forgets both epochs, naming each unstable block: the peer is lost, and the dirty bitmap takes over.
    pub(super) fn take_unstable(&mut self, mut each: impl FnMut(u64)) {
        for slot in &mut self.slots {
            let Some(extent) = slot.extent else { continue };
            if slot.unstable_count == [0; 2] {
                continue;
            }
            for word in 0..WORDS {
                let mut bits = slot.unstable[OPEN][word] | slot.unstable[CLOSED][word];
                while bits != 0 {
                    let bit = u64::from(bits.trailing_zeros());
                    each(u64::from(extent) * EXTENT_BLOCKS + word as u64 * 64 + bit);
                    bits &= bits - 1;
                }
            }
            slot.unstable = [[0; WORDS]; 2];
            slot.unstable_count = [0; 2];
        }
        self.unstable = 0;
    }

    /// Empties the log, but for extents in which something is in flight or unstable.
    pub(super) fn clear(&mut self) {
        for at in 0..self.slots.len() {
            if let Some(extent) = self.slots[at].extent.filter(|_| self.slots[at].is_idle()) {
                self.evicted.push(extent);
                self.index[extent as usize] = NO_SLOT;
                self.forgets += 1;
                self.slots[at] = Slot::EMPTY;
            }
        }
    }

    /// Takes the extents that were evicted since the last transaction, one at a time.
    pub(super) fn next_evicted(&mut self) -> Option<u32> {
        self.evicted.pop()
    }

    /// The extents in the log.
    pub(super) fn extents(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().filter_map(|slot| slot.extent)
    }

    /// Slots in use.
    pub(super) fn active(&self) -> usize {
        self.extents().count()
    }

    /// Extents that requests hold.
    pub(super) fn pinned(&self) -> usize {
        self.slots.iter().filter(|slot| slot.pins > 0).count()
    }

    /// True if `block` lies in an extent of the log.
    pub(super) fn covers(&self, block: u64) -> bool {
        let extent = u32::try_from(block / EXTENT_BLOCKS).unwrap_or(u32::MAX);
        self.slot_of(extent).is_some()
    }

    /// Times that an extent left the log.
    pub(super) fn forgets(&self) -> u64 {
        self.forgets
    }

    fn slot_of(&self, extent: u32) -> Option<usize> {
        let slot = *self.index.get(extent as usize)?;
        (slot != NO_SLOT).then_some(usize::from(slot))
    }

    fn unpin_present(&mut self, extents: Range<u32>) {
        for extent in extents {
            if let Some(slot) = self.slot_of(extent) {
                self.slots[slot].pins -= 1;
            }
        }
    }

    fn assign(&mut self, extent: u32, durable_with: MetaSeq) {
        let count = self.slots.len();
        let found =
            (0..count).map(|step| (self.hand + step) % count).find(|at| self.slots[*at].is_idle());
        let at = found.expect("the caller counted the idle slots");
        self.hand = (at + 1) % count;
        if let Some(old) = self.slots[at].extent {
            self.index[old as usize] = NO_SLOT;
            self.forgets += 1;
            if self.evicted.len() == self.evicted.capacity() {
                // More evictions than slots between two transactions: the same extents come and go.
                self.evicted.sort_unstable();
                self.evicted.dedup();
            }
            self.evicted.push(old);
        }
        self.index[extent as usize] = at as u16;
        self.slots[at] = Slot { extent: Some(extent), pins: 1, durable_with, ..Slot::EMPTY };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(log: &mut ActivityLog, extent: u64) -> Option<MetaSeq> {
        let span = Span::new(extent * EXTENT_SECTORS, 8).expect("valid");
        log.pin(span.extents(), || MetaSeq(7))
    }

    #[test]
    fn an_extent_stays_until_its_writes_are_stable_on_both() {
        let mut log = ActivityLog::new(EXTENT_SECTORS * 2000, AL_SLOTS);
        for extent in 0..AL_SLOTS as u64 {
            assert_eq!(write(&mut log, extent), Some(MetaSeq(7)));
        }
        assert_eq!(write(&mut log, 1500), None, "all slots are pinned");
        let span = Span::new(0, 8).expect("valid");
        log.mark_unstable(span);
        log.unpin(span.extents());
        assert_eq!(write(&mut log, 1500), None, "accepted is not stable");
        log.close_epoch();
        assert_eq!(write(&mut log, 1500), None, "a flush that runs is not done");
        log.closed_is_stable();
        assert_eq!(write(&mut log, 1500), Some(MetaSeq(7)));
        assert!(!log.covers(0) && log.covers(1500 * EXTENT_BLOCKS));
        assert_eq!(log.next_evicted(), Some(0));
    }

    #[test]
    fn a_write_that_ends_during_a_flush_needs_the_next_one() {
        let mut log = ActivityLog::new(EXTENT_SECTORS * 4, AL_SLOTS);
        let span = Span::new(0, 8).expect("valid");
        write(&mut log, 0);
        log.close_epoch();
        log.mark_unstable(span);
        log.closed_is_stable();
        assert_eq!(log.unstable(), 1);
        let mut lost = Vec::new();
        log.take_unstable(|block| lost.push(block));
        assert_eq!(lost, [0]);
        assert_eq!(log.unstable(), 0);
    }

    #[test]
    fn a_pin_that_finds_no_room_changes_nothing() {
        let mut log = ActivityLog::new(EXTENT_SECTORS * 2000, AL_SLOTS);
        for extent in 0..AL_SLOTS as u64 {
            write(&mut log, extent);
        }
        let before = format!("{log:?}");
        let both = 0..AL_SLOTS as u32 + 1;
        assert_eq!(log.pin(both, || MetaSeq(8)), None);
        assert_eq!(format!("{log:?}"), before);
    }
}
