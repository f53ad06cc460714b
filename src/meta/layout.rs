//! Where everything lies on a disk, computed from its size alone.
//!
//! ```text
//! block 0                                              disk rounded down to 4 KiB
//! | data area | superblock 0 | bitmap pages | ring of the activity log | superblock 1 |
//!  D            1              ceil(D / 31,744)   64                      1     blocks of 4 KiB
//! ```
//!
//! The data area is the largest that fits, so that a disk of the same size gets the same layout everywhere
//! and for ever. Regions never overlap and never leave the disk. At times one block stays unused before
//! superblock 1: where data for it would need another bitmap page.

use crate::limits::{
    AL_RING_BLOCKS, BLOCK_BYTES, BLOCK_SECTORS, DATA_BYTES_MAX, DATA_BYTES_MIN, EXTENT_BLOCKS,
    META_BLOCK_BYTES, PAGE_BLOCKS,
};
use std::fmt;
use std::ops::Range;

/// Copies of the superblock.
pub const SUPERBLOCK_COPIES: u8 = 2;

const FIXED_BLOCKS: u64 = SUPERBLOCK_COPIES as u64 + AL_RING_BLOCKS;

/// Bytes of the smallest disk that a layout exists for.
pub const DISK_BYTES_MIN: u64 = DATA_BYTES_MIN
    + (FIXED_BLOCKS + (DATA_BYTES_MIN / BLOCK_BYTES).div_ceil(PAGE_BLOCKS)) * BLOCK_BYTES;

const _: () = {
    // One unit for data and metadata keeps this file free of conversions.
    assert!(META_BLOCK_BYTES as u64 == BLOCK_BYTES);
    assert!(
        DATA_BYTES_MIN.is_multiple_of(BLOCK_BYTES) && DATA_BYTES_MAX.is_multiple_of(BLOCK_BYTES)
    );
    // Numbers of extents and pages are u32.
    assert!(DATA_BYTES_MAX / BLOCK_BYTES / EXTENT_BLOCKS < u32::MAX as u64);
};

/// The map of one disk. Addresses are offsets on the disk in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Blocks of the data area.
    data_blocks: u64,
    /// Whole blocks of the disk.
    disk_blocks: u64,
}

/// Why a disk cannot be laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LayoutError {
    /// The disk is smaller than [`DISK_BYTES_MIN`].
    TooSmall {
        /// Size of the disk.
        bytes: u64,
    },
    /// The data area would be larger than [`DATA_BYTES_MAX`].
    TooLarge {
        /// Size of the disk.
        bytes: u64,
    },
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::TooSmall { bytes } => write!(
                f,
                "The disk has {bytes} bytes, and data with its metadata needs {DISK_BYTES_MIN}"
            ),
            LayoutError::TooLarge { bytes } => {
                write!(f, "The disk has {bytes} bytes, and a volume holds at most {DATA_BYTES_MAX}")
            }
        }
    }
}

impl std::error::Error for LayoutError {}

impl Layout {
    /// The layout of a disk of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// If the disk is too small or too large.
    pub fn of_disk(bytes: u64) -> Result<Layout, LayoutError> {
        let disk_blocks = bytes / BLOCK_BYTES;
        let rest = disk_blocks.saturating_sub(FIXED_BLOCKS);
        // Each page brings PAGE_BLOCKS blocks of data along.
        let data_blocks = rest - rest.div_ceil(PAGE_BLOCKS + 1);
        if data_blocks < DATA_BYTES_MIN / BLOCK_BYTES {
            return Err(LayoutError::TooSmall { bytes });
        }
        if data_blocks > DATA_BYTES_MAX / BLOCK_BYTES {
            return Err(LayoutError::TooLarge { bytes });
        }
        let layout = Layout { data_blocks, disk_blocks };
        let ring_end = layout.ring() + AL_RING_BLOCKS;
        assert!(ring_end < disk_blocks && disk_blocks - ring_end <= 2);
        Ok(layout)
    }

    /// Whole blocks of the disk, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_blocks * BLOCK_BYTES
    }

    /// Blocks of the data area: as many bits has the bitmap.
    pub fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// Sectors of the data area.
    pub fn data_sectors(&self) -> u64 {
        self.data_blocks * BLOCK_SECTORS
    }

    /// Extents of the data area; the last may be short.
    pub fn extents(&self) -> u32 {
        self.data_blocks.div_ceil(EXTENT_BLOCKS) as u32
    }

    /// Pages of the bitmap; the last may be short.
    pub fn pages(&self) -> u32 {
        self.data_blocks.div_ceil(PAGE_BLOCKS) as u32
    }

    /// The blocks of data whose bits page `page` holds.
    ///
    /// # Panics
    ///
    /// If there is no such page.
    pub fn page_blocks(&self, page: u32) -> Range<u64> {
        assert!(page < self.pages());
        let first = u64::from(page) * PAGE_BLOCKS;
        first..(first + PAGE_BLOCKS).min(self.data_blocks)
    }

    /// The address of a copy of the superblock.
    ///
    /// # Panics
    ///
    /// If `copy` is neither 0 nor 1.
    pub fn superblock(&self, copy: u8) -> u64 {
        assert!(copy < SUPERBLOCK_COPIES);
        let block = if copy == 0 { self.data_blocks } else { self.disk_blocks - 1 };
        block * BLOCK_BYTES
    }

    /// The address of a page of the bitmap.
    ///
    /// # Panics
    ///
    /// If there is no such page.
    pub fn bitmap_page(&self, page: u32) -> u64 {
        assert!(page < self.pages());
        (self.bitmap() + u64::from(page)) * BLOCK_BYTES
    }

    /// The address of a slot of the activity log's ring.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    pub fn al_slot(&self, slot: u32) -> u64 {
        assert!(u64::from(slot) < AL_RING_BLOCKS);
        (self.ring() + u64::from(slot)) * BLOCK_BYTES
    }

    /// The first block of the bitmap.
    fn bitmap(&self) -> u64 {
        self.data_blocks + 1
    }

    /// The first block of the ring.
    fn ring(&self) -> u64 {
        self.bitmap() + u64::from(self.pages())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sizes that matter: anything, around a page more or less, and around both ends.
    fn sizes() -> impl Strategy<Value = u64> {
        let page = (PAGE_BLOCKS + 1) * BLOCK_BYTES;
        prop_oneof![
            any::<u64>(),
            0..4 * DISK_BYTES_MIN,
            (0..40u64, 0..4 * BLOCK_BYTES).prop_map(move |(pages, more)| {
                FIXED_BLOCKS * BLOCK_BYTES + pages * page + more - BLOCK_BYTES
            }),
            DATA_BYTES_MAX..DATA_BYTES_MAX + (64 << 30),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn regions_follow_each_other_and_end_with_the_disk(bytes in sizes()) {
            let Ok(layout) = Layout::of_disk(bytes) else {
                prop_assert!(!(DISK_BYTES_MIN..=DATA_BYTES_MAX).contains(&bytes));
                return Ok(());
            };
            let last_page = layout.bitmap_page(layout.pages() - 1);
            let last_slot = layout.al_slot(AL_RING_BLOCKS as u32 - 1);
            prop_assert_eq!(layout.data_blocks() * BLOCK_BYTES, layout.superblock(0));
            prop_assert_eq!(layout.superblock(0) + BLOCK_BYTES, layout.bitmap_page(0));
            prop_assert_eq!(last_page + BLOCK_BYTES, layout.al_slot(0));
            let unused = layout.superblock(1) - (last_slot + BLOCK_BYTES);
            prop_assert!(unused == 0 || unused == BLOCK_BYTES);
            prop_assert_eq!(layout.superblock(1) + BLOCK_BYTES, bytes / BLOCK_BYTES * BLOCK_BYTES);
            let last = layout.page_blocks(layout.pages() - 1);
            prop_assert!(!last.is_empty() && last.end == layout.data_blocks());
            prop_assert!(u64::from(layout.extents()) * EXTENT_BLOCKS >= layout.data_blocks());
        }
    }

    #[test]
    fn the_smallest_and_the_largest_disk() {
        let least = Layout::of_disk(DISK_BYTES_MIN).expect("large enough");
        assert_eq!(least.data_sectors() * 512, DATA_BYTES_MIN);
        let bytes = DISK_BYTES_MIN - 1;
        assert_eq!(Layout::of_disk(bytes), Err(LayoutError::TooSmall { bytes }));
        for bytes in [0, 4095, 66 * 4096] {
            assert_eq!(Layout::of_disk(bytes), Err(LayoutError::TooSmall { bytes }));
        }
        let blocks = DATA_BYTES_MAX / BLOCK_BYTES;
        let most = (blocks + FIXED_BLOCKS + blocks.div_ceil(PAGE_BLOCKS)) * BLOCK_BYTES;
        assert_eq!(Layout::of_disk(most).map(|most| most.data_blocks()), Ok(blocks));
        let bytes = most + BLOCK_BYTES;
        assert_eq!(Layout::of_disk(bytes), Err(LayoutError::TooLarge { bytes }));
        let bytes = u64::MAX;
        assert_eq!(Layout::of_disk(bytes), Err(LayoutError::TooLarge { bytes }));
    }
}
