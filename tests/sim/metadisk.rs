//! The metadata end of a disk: real blocks of 4 KiB, and what a restart would make of them.
//!
//! The view is kept decoded, by the production codecs, and follows every write. A power cut tears what is in flight
//! at 64 bytes; the view is then read again from the blocks, as a daemon does at its start.

use crate::rng::Rng;
use rblk::limits::{AL_RING_BLOCKS, EXTENT_BLOCKS, META_BLOCK_BYTES, PAGE_BIT_BYTES, PAGE_BLOCKS};
use rblk::meta::block::Owner;
use rblk::meta::layout::Layout;
use rblk::meta::records::{self, AlTransaction};
use rblk::meta::recovery;
use rblk::meta::superblock::Superblock;
use rblk::replica::event::MetaBlock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Finer than a sector: a superblock fits into one, and its two copies would never be needed.
const TEAR_BYTES: usize = 64;

type Block = Box<[u8; META_BLOCK_BYTES]>;
/// All metadata blocks, by address.
pub(crate) type Blocks = BTreeMap<u64, Block>;
type Bits = Box<[u8; PAGE_BIT_BYTES]>;

/// What a block says.
#[derive(Clone)]
enum Content {
    Superblock(Superblock),
    Log { sequence: u64, extents: u64 },
    Page { page: u32, bits: Bits },
}

#[derive(Clone)]
struct MetaWrite {
    address: u64,
    block: Block,
    content: Content,
}

/// How a block reads that the disk has spoiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Spoil {
    /// Not at all.
    Unreadable,
    /// As something else.
    Garbage,
    /// With one bit turned.
    Flipped,
}

/// The metadata blocks and those in flight.
#[derive(Clone)]
pub(crate) struct MetaDisk {
    pub(crate) layout: Layout,
    owner: Owner,
    blocks: BTreeMap<u64, Block>,
    in_flight: BTreeMap<u64, MetaWrite>,
    /// Blocks that do not read as they were written, until they are written again.
    spoiled: BTreeMap<u64, Spoil>,
    /// The activity log cannot be relied on: a start would take everything for dirty.
    log_lost: bool,
    /// What a start would find now.
    pub(crate) superblock: Superblock,
    log_sequence: u64,
    log: u64,
    pages: Vec<Bits>,
    /// Grows whenever [`MetaDisk::record`] covers less than before.
    pub(crate) version: u64,
}

/// What is recorded as dirty, see [`MetaDisk::record`].
pub(crate) struct Record<'a> {
    on_disk: &'a [Bits],
    in_flight: Vec<(u32, &'a Bits)>,
    logged: u64,
    /// A disk without a generation holds nothing: whatever its bitmap says, it is copied whole.
    fresh: bool,
}

impl Record<'_> {
    /// True if a start would take `block` for dirty.
    pub(crate) fn covers(&self, block: u64) -> bool {
        if self.fresh || self.logged >> (block / EXTENT_BLOCKS) & 1 == 1 {
            return true;
        }
        let page = block / PAGE_BLOCKS;
        let has = |bits: &Bits| {
            let bit = (block % PAGE_BLOCKS) as usize;
            bits[bit / 8] >> (bit % 8) & 1 == 1
        };
        let mut landing = self.in_flight.iter().filter(|(at, _)| u64::from(*at) == page);
        has(&self.on_disk[page as usize]) && landing.all(|(_, bits)| has(bits))
    }
}

impl MetaDisk {
    /// What `create` writes.
    pub(crate) fn new(layout: Layout, superblock: Superblock) -> MetaDisk {
        let owner = superblock.owner();
        let mut blocks = BTreeMap::new();
        for (address, block) in recovery::fresh_ring(&layout, owner) {
            blocks.insert(address, Box::new(block));
        }
        for page in 0..layout.pages() {
            let block = recovery::uniform_page(&layout, owner, page, false);
            blocks.insert(layout.bitmap_page(page), Box::new(block));
        }
        for copy in [0, 1] {
            let mut block = Box::new([0; META_BLOCK_BYTES]);
            superblock.encode(&layout, copy, &mut block);
            blocks.insert(layout.superblock(copy), block);
        }
        let in_flight = BTreeMap::new();
        let (log_sequence, log) = (0, 0);
        let pages = (0..layout.pages()).map(|_| Box::new([0; PAGE_BIT_BYTES])).collect();
        MetaDisk {
            layout,
            owner,
            blocks,
            in_flight,
            spoiled: BTreeMap::new(),
            log_lost: false,
            superblock,
            log_sequence,
            log,
            pages,
            version: 0,
        }
    }

    pub(crate) fn copy(&self) -> Blocks {
        self.blocks.clone()
    }

    pub(crate) fn restore(&mut self, blocks: Blocks) {
        assert!(self.in_flight.is_empty(), "a disk is restored while nobody uses it");
        self.blocks = blocks;
        self.spoiled.clear();
        self.read_again();
    }

    /// A block is spoiled from here on.
    pub(crate) fn spoil(&mut self, address: u64, how: Spoil) {
        assert!(self.blocks.contains_key(&address), "a block of the metadata");
        self.spoiled.insert(address, how);
        self.read_again();
    }

    /// Another disk is put in.
    pub(crate) fn replace(&mut self, fresh: MetaDisk) {
        assert!(self.in_flight.is_empty(), "a disk is replaced while nobody uses it");
        *self = MetaDisk { version: self.version + 1, ..fresh };
    }

    /// The newest transaction of the log stands there.
    pub(crate) fn is_newest_slot(&self, address: u64) -> bool {
        address == self.layout.al_slot((self.log_sequence % AL_RING_BLOCKS) as u32)
    }

    pub(crate) fn is_spoiled(&self) -> bool {
        !self.spoiled.is_empty()
    }

    /// Both copies of the superblock are whole and say the same.
    pub(crate) fn superblocks_agree(&self) -> bool {
        let found = [0, 1].map(|copy| {
            let block = self.read(self.layout.superblock(copy))?;
            Superblock::decode(&self.layout, self.owner, copy, &block).ok()
        });
        found[0].is_some() && found[0] == found[1] && !self.writes_superblock()
    }

    /// Everything reads again as it was written.
    pub(crate) fn mend(&mut self) {
        if !self.spoiled.is_empty() {
            self.spoiled.clear();
            self.read_again();
        }
    }

    /// A block as a daemon reads it.
    pub(crate) fn read(&self, address: u64) -> recovery::RawBlock {
        let mut block = self.blocks.get(&address).cloned()?;
        match self.spoiled.get(&address) {
            None => {}
            Some(Spoil::Unreadable) => return None,
            Some(Spoil::Garbage) => block.fill(0xA5),
            Some(Spoil::Flipped) => block[META_BLOCK_BYTES / 2] ^= 1,
        }
        Some(block)
    }

    fn put(&mut self, address: u64, block: Block) {
        self.spoiled.remove(&address);
        self.blocks.insert(address, block);
    }

    /// The newest transaction; an unreliable log is repaired the way a daemon does.
    pub(crate) fn recover_log(&mut self) -> AlTransaction {
        match recovery::activity_log(&self.layout, self.owner, |at| self.read(at)) {
            Ok(newest) => newest,
            Err(_) => {
                for page in 0..self.layout.pages() {
                    let block = recovery::uniform_page(&self.layout, self.owner, page, true);
                    self.put(self.layout.bitmap_page(page), Box::new(block));
                }
                let ring: Vec<_> = recovery::fresh_ring(&self.layout, self.owner).collect();
                for (address, block) in ring {
                    self.put(address, Box::new(block));
                }
                self.read_again();
                recovery::activity_log(&self.layout, self.owner, |at| self.read(at))
                    .expect("a fresh ring is reliable")
            }
        }
    }

    /// The bits of a page; `None` if it is damaged.
    pub(crate) fn recover_page(&self, page: u32) -> Option<Bits> {
        let block = self.read(self.layout.bitmap_page(page))?;
        let bits = records::decode_page(&self.layout, self.owner, page, &block).ok()?;
        Some(Box::new(*bits))
    }

    fn read_again(&mut self) {
        self.version += 1;
        let whole = self.spoiled.is_empty();
        match recovery::superblock(&self.layout, self.owner, |at| self.read(at)) {
            Ok((found, _)) => self.superblock = found,
            Err(why) => assert!(!whole, "oracle metadata: a power cut took the superblock: {why}"),
        }
        let log = recovery::activity_log(&self.layout, self.owner, |at| self.read(at));
        self.log_lost = log.is_err();
        match log {
            Ok(newest) => {
                self.log_sequence = newest.sequence;
                self.log = newest.extents.iter().fold(0, |set, extent| set | 1 << extent);
            }
            Err(why) => assert!(!whole, "oracle metadata: a power cut took the log: {why}"),
        }
        self.pages = (0..self.layout.pages())
            .map(|page| self.recover_page(page).unwrap_or_else(|| Box::new([255; PAGE_BIT_BYTES])))
            .collect();
    }

    /// Takes in a write; the block must decode.
    pub(crate) fn start(&mut self, op: u64, what: MetaBlock, block: Block) {
        let (address, content) = match what {
            MetaBlock::Superblock { copy } => {
                let found = Superblock::decode(&self.layout, self.owner, copy, &block);
                let found = found.expect("oracle metadata: a superblock decodes");
                (self.layout.superblock(copy), Content::Superblock(found))
            }
            MetaBlock::ActivityLog { slot } => {
                let found = AlTransaction::decode(&self.layout, self.owner, slot, &block);
                let found = found.expect("oracle metadata: a transaction decodes");
                let extents = found.extents.iter().fold(0, |set, extent| set | 1 << extent);
                let content = Content::Log { sequence: found.sequence, extents };
                (self.layout.al_slot(slot), content)
            }
            MetaBlock::BitmapPage { page } => {
                let bits = records::decode_page(&self.layout, self.owner, page, &block);
                let bits = Box::new(*bits.expect("oracle metadata: a page decodes"));
                (self.layout.bitmap_page(page), Content::Page { page, bits })
            }
        };
        let clash = self.in_flight.values().any(|other| other.address == address);
        assert!(!clash, "oracle metadata: one block is written twice at once");
        self.version += u64::from(self.takes_away(&content));
        self.in_flight.insert(op, MetaWrite { address, block, content });
    }

    /// A start would take less for dirty if this were written, as far as can be seen from what is on disk.
    fn takes_away(&self, content: &Content) -> bool {
        match content {
            Content::Superblock(found) => found.current.is_some(),
            Content::Log { extents, .. } => self.log_lost || self.log & !extents != 0,
            Content::Page { page, bits } => {
                let mut pairs = self.pages[*page as usize].iter().zip(bits.iter());
                pairs.any(|(old, new)| old & !new != 0)
            }
        }
    }

    /// A write is on stable media. While it was in flight it counted already, for what it takes away.
    pub(crate) fn finish(&mut self, op: u64) {
        let write = self.in_flight.remove(&op).expect("a metadata write in flight");
        self.put(write.address, write.block);
        match write.content {
            Content::Superblock(found) => {
                if found.sequence >= self.superblock.sequence {
                    self.superblock = found;
                }
            }
            Content::Log { sequence, extents } => {
                assert!(sequence > self.log_sequence, "oracle metadata: transactions are in order");
                (self.log_sequence, self.log) = (sequence, extents);
            }
            Content::Page { page, bits } => self.pages[page as usize] = bits,
        }
        if self.log_lost {
            self.read_again();
        }
    }

    /// A write failed: old, new or torn.
    pub(crate) fn fail(&mut self, op: u64, rng: &mut Rng) {
        let write = self.in_flight.remove(&op).expect("a metadata write in flight");
        let share = rng.pick(&[0, 50, 100]);
        self.tear(&write, share, rng);
        self.read_again();
    }

    pub(crate) fn daemon_killed(&mut self, rng: &mut Rng) {
        self.in_flight.retain(|_, _| rng.chance(75));
        self.version += 1;
    }

    /// What is left of a killed daemon's writes lands now or never.
    pub(crate) fn open(&mut self, rng: &mut Rng) {
        self.tear_all(&[0, 100], rng);
    }

    /// True if the operation is still with the disk.
    pub(crate) fn has(&self, op: u64) -> bool {
        self.in_flight.contains_key(&op)
    }

    /// An address of the metadata of each sort, by lot.
    pub(crate) fn some_page(&self, rng: &mut Rng) -> u64 {
        self.layout.bitmap_page(rng.below(u64::from(self.layout.pages())) as u32)
    }

    pub(crate) fn some_slot(&self, rng: &mut Rng) -> u64 {
        self.layout.al_slot(rng.below(AL_RING_BLOCKS) as u32)
    }

    pub(crate) fn power_cut(&mut self, rng: &mut Rng) {
        self.tear_all(&[0, 30, 50, 70, 100], rng);
    }

    fn tear_all(&mut self, shares: &[u64], rng: &mut Rng) {
        let torn = std::mem::take(&mut self.in_flight);
        for write in torn.values() {
            let share = rng.pick(shares);
            self.tear(write, share, rng);
        }
        if !torn.is_empty() {
            self.read_again();
        }
    }

    /// `share` percent of a write lands.
    fn tear(&mut self, write: &MetaWrite, share: u64, rng: &mut Rng) {
        let old = self.blocks.get_mut(&write.address).expect("every block was written at create");
        let torn = old.chunks_exact_mut(TEAR_BYTES).zip(write.block.chunks_exact(TEAR_BYTES));
        for (old, new) in torn {
            if rng.chance(share) {
                old.copy_from_slice(new);
            }
        }
        if share == 100 {
            self.spoiled.remove(&write.address);
        }
    }

    /// What a start after a crash right now would find, whatever lands of what is in flight.
    pub(crate) fn record(&self) -> Record<'_> {
        let on_disk = if self.log_lost { u64::MAX } else { self.log };
        let (mut logged, mut pages) = (on_disk, Vec::new());
        let mut fresh = self.superblock.current.is_none();
        for write in self.in_flight.values() {
            match &write.content {
                Content::Page { page, bits } => pages.push((*page, bits)),
                Content::Log { extents, .. } => logged &= extents,
                Content::Superblock(found) => fresh &= found.current.is_none(),
            }
        }
        Record { on_disk: &self.pages, in_flight: pages, logged, fresh }
    }

    /// A superblock is being written.
    pub(crate) fn writes_superblock(&self) -> bool {
        self.in_flight.values().any(|write| matches!(write.content, Content::Superblock(_)))
    }

    /// Metadata writes in flight.
    pub(crate) fn pending(&self) -> usize {
        self.in_flight.len()
    }
}
