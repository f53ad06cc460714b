//! Metadata out of the core: which blocks are written when, and what is in them.

use super::dirty::Dirty;
use super::durable::{Progress, Step};
use super::{Owner, Replica, log_ring_slot};
use crate::limits::{EXTENT_BLOCKS, META_BLOCK_BYTES, PAGE_BIT_BYTES};
use crate::meta::records;
use crate::replica::event::{Action, MetaBlock, MetaSeq, OpId};

/// Bitmap pages written at once. They lie in one region of the disk; more would only delay the requests.
const PAGES_AT_ONCE: u32 = 16;

impl Replica {
    /// Queues both copies of the superblock as it is now, one after the other.
    pub(super) fn write_superblock(&mut self) -> MetaSeq {
        if !self.has_disk() {
            return self.meta.durable();
        }
        self.sb.sequence += 1;
        self.sb.check().expect("a superblock is sound before it is written");
        for copy in self.copies {
            self.sb_durable_with = self.meta.push(Step::Superblock { copy, content: self.sb });
        }
        self.sb_durable_with
    }

    /// Starts what can be started of the queued metadata.
    pub(super) fn pump_meta(&mut self) {
        while self.has_disk() {
            let Some(step) = self.meta.front() else { return };
            if self.meta.progress == Progress::Last {
                if self.meta.in_flight > 0 {
                    return;
                }
                self.meta.front_is_durable();
                self.metadata_became_durable();
                continue;
            }
            if !self.continue_step(step) {
                return;
            }
        }
    }

    /// Writes the next blocks of the step at the front. False if it must wait for those in flight.
    fn continue_step(&mut self, step: Step) -> bool {
        match step {
            Step::Superblock { copy, .. } => {
                self.write_meta(MetaBlock::Superblock { copy });
                self.meta.progress = Progress::Last;
            }
            Step::Pages { stale } => {
                let from = match self.meta.progress {
                    Progress::Pages(from) => from,
                    _ => 0,
                };
                self.write_pages(from, stale);
            }
            Step::Log => return self.continue_log(),
        }
        self.meta.in_flight < PAGES_AT_ONCE
    }

    fn write_pages(&mut self, from: u32, stale: bool) {
        let mut from = from;
        while self.meta.in_flight < PAGES_AT_ONCE {
            let Some(page) = self.dirty.next_to_save(from, stale) else {
                self.meta.progress = Progress::Last;
                return;
            };
            self.save_page(page);
            from = page + 1;
        }
        self.meta.progress = Progress::Pages(from);
    }

    /// Bits of evicted extents first; the transaction that forgets them after these are durable. In rounds, each waited
    /// for: a page that is marked again while it is being written must not be written twice at once, since the older
    /// content might land last.
    fn continue_log(&mut self) -> bool {
        if self.meta.in_flight > 0 {
            return false;
        }
        while self.meta.in_flight < PAGES_AT_ONCE {
            let Some(extent) = self.activity.next_evicted() else { break };
            let page = Dirty::page_of(u64::from(extent) * EXTENT_BLOCKS);
            self.meta.progress = Progress::Pages(0);
            if self.dirty.is_unsaved(page) {
                self.save_page(page);
            }
        }
        if self.meta.in_flight > 0 {
            return false;
        }
        self.activity_sequence += 1;
        self.counters.al_writes += 1;
        // As it is now: what is evicted until the bytes are asked for has no durable bits yet.
        let transaction = &mut self.log_block;
        transaction.sequence = self.activity_sequence;
        transaction.extents.clear();
        transaction.extents.extend(self.activity.extents());
        self.write_meta(MetaBlock::ActivityLog { slot: log_ring_slot(self.activity_sequence) });
        self.meta.progress = Progress::Last;
        true
    }

    fn save_page(&mut self, page: u32) {
        self.dirty.saving(page);
        self.counters.bitmap_writes += 1;
        self.write_meta(MetaBlock::BitmapPage { page });
    }

    fn write_meta(&mut self, block: MetaBlock) {
        let op = self.begin_op(Owner::Meta);
        self.meta.in_flight += 1;
        self.actions.push_back(Action::Meta { op, block });
    }

    pub(super) fn on_meta_done(&mut self, op: OpId, ok: bool) {
        if self.ops.end(op) != Some(Owner::Meta) {
            return; // the disk was given up meanwhile
        }
        if ok {
            self.meta.in_flight -= 1;
        } else {
            self.disk_failed("a metadata write failed");
        }
    }

    /// The bytes of a metadata block that an action has just named.
    pub fn encode_meta(&mut self, block: MetaBlock, out: &mut [u8; META_BLOCK_BYTES]) {
        let owner = self.sb.owner();
        match block {
            MetaBlock::Superblock { copy } => match self.meta.front() {
                Some(Step::Superblock { copy: front, content }) if front == copy => {
                    content.encode(&self.layout, copy, out);
                }
                _ => unreachable!("a superblock is encoded while its step is written"),
            },
            MetaBlock::ActivityLog { .. } => self.log_block.encode(&self.layout, owner, out),
            MetaBlock::BitmapPage { page } => {
                let mut bits = [0; PAGE_BIT_BYTES];
                self.dirty.page_bits(page, &mut bits);
                let sequence = self.meta.durable().0;
                records::encode_page(&self.layout, owner, page, sequence, &bits, out);
            }
        }
    }

    /// The bits of a page that a message has just named.
    pub fn encode_bits(&self, page: u32, out: &mut [u8; PAGE_BIT_BYTES]) {
        self.dirty.page_bits(page, out);
    }
}
