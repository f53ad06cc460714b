//! The dirty bitmap: which blocks of 4 KiB may differ from the peer's. 32 MiB per TiB, in memory whole.
//!
//! On disk it lives in pages ([`crate::meta::records`]). A bit that is *set* must reach the disk before the activity
//! log lets go of its extent; a bit that is *cleared* may stay set on disk for any time: it only copies too much.
//!
//! ```text
//!   page state     set()        saved          clear()
//!   Clean ───────► Unsaved ───► Clean ───────► Stale ───► (written with the next chance) Clean
//! ```

use crate::limits::{BLOCK_SECTORS, PAGE_BIT_BYTES, PAGE_BLOCKS};
use std::ops::Range;

const WORDS_PER_PAGE: usize = PAGE_BIT_BYTES / 8;

/// How the copy on disk relates to the page in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    /// Equal.
    Clean,
    /// The disk has bits that are cleared here.
    Stale,
    /// Bits are set here that the disk does not have.
    Unsaved,
}

/// The bitmap.
#[derive(Debug)]
pub struct Dirty {
    words: Vec<u64>,
    pages: Vec<Page>,
    blocks: u64,
    count: u64,
    /// Times that bits were cleared.
    forgets: u64,
}

impl Dirty {
    /// All clear, for a volume of `sectors` sectors.
    pub fn new(sectors: u64) -> Dirty {
        let blocks = sectors.div_ceil(BLOCK_SECTORS);
        let pages = usize::try_from(blocks.div_ceil(PAGE_BLOCKS)).unwrap_or(usize::MAX);
        Dirty {
            words: vec![0; pages * WORDS_PER_PAGE],
            pages: vec![Page::Clean; pages],
            blocks,
            count: 0,
            forgets: 0,
        }
    }

    /// Blocks that may differ.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All bits: pages follow each other without a gap.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Times that bits were cleared: what was found marked still is while this stands.
    pub fn forgets(&self) -> u64 {
        self.forgets
    }

    /// The volume ends here: bits beyond mean nothing and are dropped.
    pub fn truncate(&mut self, sectors: u64) {
        let blocks = sectors / BLOCK_SECTORS;
        assert!(blocks <= self.blocks, "a volume does not grow here");
        self.clear(blocks..self.blocks);
        self.blocks = blocks;
    }

    /// The volume ends here from now on. What is added is not marked.
    ///
    /// # Panics
    /// If the disk ends before that.
    pub fn extend(&mut self, sectors: u64) {
        let blocks = sectors / BLOCK_SECTORS;
        let room = self.pages.len() as u64 * PAGE_BLOCKS;
        assert!((self.blocks..=room).contains(&blocks), "the bitmap has room");
        self.blocks = blocks;
    }

    /// Number of pages.
    pub fn pages(&self) -> u32 {
        // A page stands for 124 MiB: 2^32 of them exceed the largest volume.
        self.pages.len() as u32
    }

    /// The page that block `block` belongs to.
    pub fn page_of(block: u64) -> u32 {
        (block / PAGE_BLOCKS) as u32
    }

    /// Sets the bits of `blocks`. Returns how many were clear before.
    pub fn set(&mut self, blocks: Range<u64>) -> u64 {
        self.add(&blocks, u64::MAX)
    }

    /// Clears the bits of `blocks`. Returns how many were set before.
    pub fn clear(&mut self, blocks: Range<u64>) -> u64 {
        let mut removed = 0;
        self.for_words(&blocks, |word, mask, page| {
            let old = mask & *word;
            if old != 0 {
                *word &= !old;
                if *page == Page::Clean {
                    *page = Page::Stale;
                }
                removed += u64::from(old.count_ones());
            }
        });
        assert!(removed <= self.count, "the count of set bits is exact");
        self.count -= removed;
        self.forgets += u64::from(removed > 0);
        removed
    }

    /// Sets every bit.
    pub fn set_all(&mut self) {
        self.set(0..self.blocks);
        assert!(self.count == self.blocks);
    }

    /// Clears every bit.
    pub fn clear_all(&mut self) {
        self.clear(0..self.blocks);
        assert!(self.count == 0);
    }

    /// True if a bit of `blocks` is set.
    pub fn any(&self, blocks: Range<u64>) -> bool {
        self.next_before(blocks.start, blocks.end).is_some()
    }

    /// The first set bit from `from` on.
    pub fn next(&self, from: u64) -> Option<u64> {
        self.next_before(from, self.blocks)
    }

    /// The first set bit from `from` on and below `end`: looks no further, for a bitmap has millions of words.
    fn next_before(&self, from: u64, end: u64) -> Option<u64> {
        let end = end.min(self.blocks);
        if from >= end {
            return None;
        }
        let last = ((end - 1) / 64) as usize;
        let mut at = (from / 64) as usize;
        let mut word = self.words[at] & (u64::MAX << (from % 64));
        while word == 0 {
            at += 1;
            if at > last {
                return None;
            }
            word = self.words[at];
        }
        let bit = at as u64 * 64 + u64::from(word.trailing_zeros());
        (bit < end).then_some(bit)
    }

    /// The run of set bits that begins at `first`, at most `max` long.
    pub fn run(&self, first: u64, max: u64) -> Range<u64> {
        let limit = self.blocks.min(first + max);
        let mut end = first;
        while end < limit {
            let ones = (self.words[(end / 64) as usize] >> (end % 64)).trailing_ones();
            end += u64::from(ones);
            if ones == 0 || !end.is_multiple_of(64) {
                break;
            }
        }
        first..end.min(limit)
    }

    /// Copies out the bits of a page, little-endian words in order.
    pub fn page_bits(&self, page: u32, out: &mut [u8; PAGE_BIT_BYTES]) {
        for (bytes, word) in out.chunks_exact_mut(8).zip(self.page_words(page)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// True if no bit of the page is set.
    pub fn page_is_empty(&self, page: u32) -> bool {
        self.page_words(page).iter().all(|word| *word == 0)
    }

    /// True if every bit of the page is set.
    pub fn page_is_full(&self, page: u32) -> bool {
        let blocks = self.page_blocks(page);
        self.run(blocks.start, PAGE_BLOCKS).end == blocks.end
    }

    /// Adds the bits of a page that came from the peer. Bits beyond the volume are ignored.
    pub fn or_page(&mut self, page: u32, bits: &[u8; PAGE_BIT_BYTES]) {
        let first = self.page_blocks(page).start;
        for (index, bytes) in bits.chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(bytes.try_into().unwrap_or([0; 8]));
            if word != 0 {
                self.or_word(first + index as u64 * 64, word);
            }
        }
    }

    /// Sets every bit of a page.
    pub fn fill_page(&mut self, page: u32) {
        self.set(self.page_blocks(page));
    }

    /// Takes in a page as it was read from disk at the start. What the activity log has set in memory by then is
    /// not on disk, unless the page has it too.
    pub fn load_page(&mut self, page: u32, bits: &[u8; PAGE_BIT_BYTES]) {
        let pairs = bits.chunks_exact(8).zip(self.page_words(page));
        let on_disk = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or([0; 8]));
        let mut missing = false;
        for (bytes, word) in pairs {
            missing |= word & !on_disk(bytes) != 0;
        }
        self.or_page(page, bits);
        self.pages[page as usize] = if missing { Page::Unsaved } else { Page::Clean };
    }

    /// True if the disk misses bits of this page.
    pub fn is_unsaved(&self, page: u32) -> bool {
        self.pages[page as usize] == Page::Unsaved
    }

    /// The first page from `from` on that the disk misses bits of, or with `stale` has too many.
    pub fn next_to_save(&self, from: u32, stale: bool) -> Option<u32> {
        let wanted = |page: &Page| match page {
            Page::Clean => false,
            Page::Stale => stale,
            Page::Unsaved => true,
        };
        let rest = self.pages.get(from as usize..)?;
        rest.iter().position(wanted).map(|at| from + at as u32)
    }

    /// The page is being written as it is now.
    pub fn saving(&mut self, page: u32) {
        self.pages[page as usize] = Page::Clean;
    }

    fn page_blocks(&self, page: u32) -> Range<u64> {
        let first = u64::from(page) * PAGE_BLOCKS;
        first..(first + PAGE_BLOCKS).min(self.blocks)
    }

    fn page_words(&self, page: u32) -> &[u64] {
        let first = page as usize * WORDS_PER_PAGE;
        &self.words[first..first + WORDS_PER_PAGE]
    }

    /// Adds the bits of the word that begins at block `first`, a multiple of 64.
    fn or_word(&mut self, first: u64, word: u64) {
        self.add(&(first..self.blocks.min(first + 64)), word);
    }

    /// Sets those bits of `blocks` that `bits` has in each word. Returns how many were clear before.
    fn add(&mut self, blocks: &Range<u64>, bits: u64) -> u64 {
        let mut added = 0;
        self.for_words(blocks, |word, mask, page| {
            let new = mask & bits & !*word;
            if new != 0 {
                *word |= new;
                *page = Page::Unsaved;
                added += u64::from(new.count_ones());
            }
        });
        self.count += added;
        added
    }

    fn for_words(&mut self, blocks: &Range<u64>, mut each: impl FnMut(&mut u64, u64, &mut Page)) {
        assert!(blocks.end <= self.blocks, "a block lies within the volume");
        let mut block = blocks.start;
        while block < blocks.end {
            let low = block % 64;
            let high = (blocks.end - (block - low)).min(64);
            let mask = (u64::MAX << low) & (u64::MAX >> (64 - high));
            let page = (block / PAGE_BLOCKS) as usize;
            each(&mut self.words[(block / 64) as usize], mask, &mut self.pages[page]);
            block += 64 - low;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Against a set of block numbers.
        #[test]
        fn agrees_with_a_set(
            steps in proptest::collection::vec((0u64..40_000, 1u64..700, any::<bool>()), 1..40)
        ) {
            let blocks = 40_000;
            let mut dirty = Dirty::new(blocks * BLOCK_SECTORS);
            let mut model = BTreeSet::new();
            for (start, len, set) in steps {
                let range = start..(start + len).min(blocks);
                let changed = if set { dirty.set(range.clone()) } else { dirty.clear(range.clone()) };
                let before = model.len();
                for block in range {
                    if set { model.insert(block); } else { model.remove(&block); }
                }
                prop_assert_eq!(changed, model.len().abs_diff(before) as u64);
                prop_assert_eq!(dirty.count(), model.len() as u64);
                prop_assert_eq!(dirty.next(start), model.range(start..).next().copied());
            }
            let mut copy = Dirty::new(blocks * BLOCK_SECTORS);
            let mut bits = [0; PAGE_BIT_BYTES];
            for page in 0..dirty.pages() {
                dirty.page_bits(page, &mut bits);
                copy.or_page(page, &bits);
                prop_assert_eq!(copy.page_is_empty(page), dirty.page_is_empty(page));
            }
            prop_assert_eq!(&copy.words, &dirty.words);
        }
    }

    #[test]
    fn a_set_bit_is_unsaved_until_its_page_is_written() {
        let mut dirty = Dirty::new(2 * PAGE_BLOCKS * BLOCK_SECTORS);
        assert_eq!(dirty.next_to_save(0, true), None);
        dirty.set(PAGE_BLOCKS..PAGE_BLOCKS + 1);
        assert!(dirty.is_unsaved(1));
        assert_eq!(dirty.next_to_save(0, false), Some(1));
        dirty.saving(1);
        assert_eq!(dirty.next_to_save(0, true), None);
        dirty.clear(PAGE_BLOCKS..PAGE_BLOCKS + 1);
        assert_eq!(dirty.next_to_save(0, false), None);
        assert_eq!(dirty.next_to_save(0, true), Some(1));
        dirty.set(PAGE_BLOCKS + 5..PAGE_BLOCKS + 6);
        dirty.clear(PAGE_BLOCKS + 5..PAGE_BLOCKS + 6);
        assert!(dirty.is_unsaved(1), "clearing does not hide that something was set");
    }

    #[test]
    fn bits_of_a_crash_stay_unsaved_when_their_page_is_loaded() {
        let mut dirty = Dirty::new(2 * PAGE_BLOCKS * BLOCK_SECTORS);
        dirty.set(5..6);
        dirty.load_page(0, &[0; PAGE_BIT_BYTES]);
        assert!(dirty.is_unsaved(0), "the disk has no bit of what the log named");
        dirty.load_page(0, &[0xFF; PAGE_BIT_BYTES]);
        assert!(!dirty.is_unsaved(0));
    }

    #[test]
    fn tracking_a_tebibyte_costs_32_mebibytes() {
        let dirty = Dirty::new((1 << 40) / crate::limits::SECTOR_BYTES);
        let bytes = dirty.words.len() * 8 + dirty.pages.len();
        assert!(bytes >> 20 == 32, "{bytes} bytes");
    }

    #[test]
    fn a_full_page_is_recognised_at_the_ragged_end() {
        let mut dirty = Dirty::new((PAGE_BLOCKS + 100) * BLOCK_SECTORS);
        dirty.set_all();
        assert!(dirty.page_is_full(0) && dirty.page_is_full(1));
        dirty.clear(PAGE_BLOCKS + 99..PAGE_BLOCKS + 100);
        assert!(!dirty.page_is_full(1));
        assert_eq!(dirty.run(PAGE_BLOCKS, 500), PAGE_BLOCKS..PAGE_BLOCKS + 99);
    }
}
