//! A run of sectors: what a request, a frame and a lock all speak of.

use crate::limits::{BLOCK_SECTORS, EXTENT_SECTORS, SECTOR_BYTES};
use std::ops::Range;

/// A run of 512-byte sectors, never empty. Addresses are relative to the data area of the volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    start: u64,
    sectors: u32,
}

impl Span {
    /// `sectors` sectors from sector `start` on; `None` if empty or past the end of the address space.
    pub fn new(start: u64, sectors: u32) -> Option<Span> {
        // The end in bytes must fit an i64, which is what the kernel takes as a file offset.
        let end = start.checked_add(u64::from(sectors))?;
        let fits = end <= (i64::MAX as u64) / SECTOR_BYTES;
        (sectors > 0 && fits).then_some(Span { start, sectors })
    }

    /// The span of `bytes` bytes from byte `offset` on; `None` unless both are multiples of a sector.
    pub fn from_bytes(offset: u64, bytes: u64) -> Option<Span> {
        let aligned = offset.is_multiple_of(SECTOR_BYTES) && bytes.is_multiple_of(SECTOR_BYTES);
        let sectors = u32::try_from(bytes / SECTOR_BYTES).ok()?;
        if aligned { Span::new(offset / SECTOR_BYTES, sectors) } else { None }
    }

    /// The span of these blocks; `None` if there are none, or more than a span has.
    pub fn of_blocks(blocks: Range<u64>) -> Option<Span> {
        let count = blocks.end.checked_sub(blocks.start)?;
        let sectors = u32::try_from(count.checked_mul(BLOCK_SECTORS)?).ok()?;
        Span::new(blocks.start.checked_mul(BLOCK_SECTORS)?, sectors)
    }

    /// The first sector.
    pub fn start(self) -> u64 {
        self.start
    }

    /// The number of sectors.
    pub fn sectors(self) -> u32 {
        self.sectors
    }

    /// The sector after the last.
    pub fn end(self) -> u64 {
        self.start + u64::from(self.sectors)
    }

    /// The first byte.
    pub fn offset(self) -> u64 {
        self.start * SECTOR_BYTES
    }

    /// The length in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.sectors) * SECTOR_BYTES
    }

    /// True if the two share a sector.
    pub fn overlaps(self, other: Span) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// True if `self` lies within a volume of `sectors` sectors.
    pub fn within(self, sectors: u64) -> bool {
        self.end() <= sectors
    }

    /// The blocks (bits of the dirty bitmap) that the span touches.
    pub fn blocks(self) -> Range<u64> {
        self.start / BLOCK_SECTORS..self.end().div_ceil(BLOCK_SECTORS)
    }

    /// The blocks that the span covers whole: only these does it make equal when copied.
    pub fn whole_blocks(self) -> Range<u64> {
        let first = self.start.div_ceil(BLOCK_SECTORS);
        first..(self.end() / BLOCK_SECTORS).max(first)
    }

    /// True if the span begins and ends with a block.
    pub fn is_whole(self) -> bool {
        self.whole_blocks() == self.blocks()
    }

    /// The activity-log extents that the span touches.
    pub fn extents(self) -> Range<u32> {
        // At most 2^31 extents exist in the largest volume (limits.rs), so the numbers fit.
        let first = self.start / EXTENT_SECTORS;
        let end = self.end().div_ceil(EXTENT_SECTORS);
        u32::try_from(first).unwrap_or(u32::MAX)..u32::try_from(end).unwrap_or(u32::MAX)
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.start, self.sectors)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sectors {}+{}", self.start, self.sectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_leave_out_the_ragged_ends() {
        let span = Span::new(7, 10).expect("valid");
        assert_eq!(span.blocks(), 0..3);
        assert_eq!(span.whole_blocks(), 1..2);
        let inner = Span::new(1, 2).expect("valid");
        assert!(inner.whole_blocks().is_empty());
    }

    #[test]
    fn empty_and_overflowing_spans_do_not_exist() {
        assert!(Span::new(5, 0).is_none());
        assert!(Span::new(u64::MAX, 1).is_none());
        assert!(Span::from_bytes(100, 512).is_none());
        assert!(Span::from_bytes(0, 1 << 50).is_none());
    }

    #[test]
    fn overlap_is_exact_to_the_sector() {
        let a = Span::new(8, 8).expect("valid");
        assert!(a.overlaps(Span::new(15, 1).expect("valid")));
        assert!(!a.overlaps(Span::new(16, 1).expect("valid")));
        assert!(!a.overlaps(Span::new(0, 8).expect("valid")));
    }
}
