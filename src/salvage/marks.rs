//! Which blocks are saved: a copy of the bitmap, or all.

use crate::limits::SALVAGE_EXTENT_BLOCKS;
use std::ops::Range;

/// The blocks to save of a volume.
#[derive(Clone, Debug)]
pub struct Marks {
    /// 64 blocks to a word, the lowest bit first; `None` is all of them.
    words: Option<Vec<u64>>,
    blocks: u64,
}

impl Marks {
    /// Those whose bit is set, of a volume of `blocks` blocks.
    pub fn of(words: &[u64], blocks: u64) -> Marks {
        Marks { words: Some(words.to_vec()), blocks }
    }

    /// All of a volume.
    pub fn all(blocks: u64) -> Marks {
        Marks { words: None, blocks }
    }

    /// Blocks of the volume.
    pub fn volume_blocks(&self) -> u64 {
        self.blocks
    }

    /// How many blocks these are, in how many extents.
    pub fn count(&self) -> (u64, u64) {
        self.extents().fold((0, 0), |(blocks, extents), extent| {
            (blocks + (extent.end - extent.start), extents + 1)
        })
    }

    /// The blocks in ascending runs, each of at most [`SALVAGE_EXTENT_BLOCKS`].
    pub fn extents(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let start = self.next(from)?;
            let limit = self.blocks.min(start + SALVAGE_EXTENT_BLOCKS);
            let mut end = start + 1;
            while end < limit && self.is_set(end) {
                end += 1;
            }
            from = end;
            Some(start..end)
        })
    }

    fn is_set(&self, block: u64) -> bool {
        match &self.words {
            None => true,
            Some(words) => {
                let word = words.get((block / 64) as usize).copied().unwrap_or(0);
                word >> (block % 64) & 1 == 1
            }
        }
    }

    /// The first from `from` on.
    fn next(&self, from: u64) -> Option<u64> {
        let Some(words) = &self.words else {
            return (from < self.blocks).then_some(from);
        };
        let first = (from / 64) as usize;
        let mut word = words.get(first)? & (u64::MAX << (from % 64));
        let mut at = first;
        while word == 0 {
            at += 1;
            word = *words.get(at)?;
        }
        let block = at as u64 * 64 + u64::from(word.trailing_zeros());
        (block < self.blocks).then_some(block)
    }
}
