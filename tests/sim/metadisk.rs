//! The metadata end of a disk: real blocks of 4 KiB, and what a restart would make of them.
//!
//! The view is kept decoded, by the production codecs, and follows every write. A power cut tears what is in flight
//! at 64 bytes; the view is then read again from the blocks, as a daemon does at its start.

use crate::rng::Rng;
use rblk::limits::{EXTENT_BLOCKS, META_BLOCK_BYTES, PAGE_BIT_BYTES, PAGE_BLOCKS};
use rblk::meta::block::Owner;
use rblk::meta::layout::Layout;
use rblk::meta::records::{self, AlTransaction};
use rblk::meta::recovery;
use rblk::meta::superblock::Superblock;
use rblk::replica::event::MetaBlock;
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

/// The metadata blocks and those in flight.
#[derive(Clone)]
pub(crate) struct MetaDisk {
    pub(crate) layout: Layout,
    owner: Owner,
    blocks: BTreeMap<u64, Block>,
    in_flight: BTreeMap<u64, MetaWrite>,
    /// What a start would find now.
    pub(crate) superblock: Superblock,
    log_sequence: u64,
    log: u64,
    pages: Vec<Bits>,
    /// Grows with every change of what [`MetaDisk::record`] says.
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
        self.read_again();
    }

    /// A block as a daemon reads it.
    pub(crate) fn read(&self, address: u64) -> recovery::RawBlock {
        self.blocks.get(&address).cloned()
    }

    /// The newest transaction; an unreliable log is repaired the way a daemon does.
    pub(crate) fn recover_log(&mut self) -> AlTransaction {
        match recovery::activity_log(&self.layout, self.owner, |at| self.read(at)) {
            Ok(newest) => newest,
            Err(_) => {
                for page in 0..self.layout.pages() {
                    let block = recovery::uniform_page(&self.layout, self.owner, page, true);
                    self.blocks.insert(self.layout.bitmap_page(page), Box::new(block));
                }
                let ring: Vec<_> = recovery::fresh_ring(&self.layout, self.owner).collect();
                for (address, block) in ring {
                    self.blocks.insert(address, Box::new(block));
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
        (self.superblock, _) = recovery::superblock(&self.layout, self.owner, |at| self.read(at))
            .expect("oracle metadata: no power cut takes both copies of the superblock");
        let log = recovery::activity_log(&self.layout, self.owner, |at| self.read(at));
        match log {
            Ok(newest) => {
                self.log_sequence = newest.sequence;
                self.log = newest.extents.iter().fold(0, |set, extent| set | 1 << extent);
            }
            Err(why) => panic!("oracle metadata: a power cut made the log unreliable: {why}"),
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
        self.in_flight.insert(op, MetaWrite { address, block, content });
        self.version += 1;
    }

    /// A write is on stable media.
    pub(crate) fn finish(&mut self, op: u64) {
        let write = self.in_flight.remove(&op).expect("a metadata write in flight");
        self.blocks.insert(write.address, write.block);
        self.version += 1;
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
    }

    /// A write failed: old, new or torn.
    pub(crate) fn fail(&mut self, op: u64, rng: &mut Rng) {
        let write = self.in_flight.remove(&op).expect("a metadata write in flight");
        let share = rng.pick(&[0, 50, 100]);
        self.tear(&write, share, rng);
        self.read_again();
    }

    pub(crate) fn daemon_killed(&mut self, rng: &mut Rng) {
        self.tear_all(&[0, 100], rng);
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
    }

    /// What a start after a crash right now would find, whatever lands of what is in flight.
    pub(crate) fn record(&self) -> Record<'_> {
        let (mut logged, mut pages) = (self.log, Vec::new());
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

    /// A page of the bitmap rots.
    pub(crate) fn rot(&mut self, page: u32) {
        let address = self.layout.bitmap_page(page);
        let block = self.blocks.get_mut(&address).expect("every block was written at create");
        block[META_BLOCK_BYTES / 2] ^= 1;
        self.read_again();
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
