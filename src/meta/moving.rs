//! Metadata follows the end of a disk that has grown. PURE: the caller reads and writes.
//!
//! ```text
//!  before | data | superblock 0 | bitmap, log | superblock 1 |
//!  after  | data ............................................... | superblock 0 | bitmap, log | superblock 1 |
//! ```
//!
//! The new place must lie behind the old one as a whole, so that nothing is lost while both are written. The order:
//!
//! 1. no superblock at the new place, the bitmap there, with the log's extents marked in it, and an empty log; durable
//! 2. superblock 0, durable and read again: from here on the new place counts
//! 3. both old superblocks are wiped, durable: what clients write there later, or a disk that shrinks again, must never
//!    bring this state back
//! 4. superblock 1, durable: as long as it is not there, step 3 may not be done, and is done again
//!
//! A power cut before the end of step 2 leaves the old place as it was, and all of it is done again. A disk whose new
//! end holds whole metadata that was made for that place, be it of another volume, is not this node's to write to.

use super::block::{self, BlockError, Kind, Owner};
use super::former::{self, Former};
use super::layout::Layout;
use super::records;
use super::recovery::{self, RawBlock};
use super::superblock::{ChooseError, Superblock};
use crate::limits::{EXTENT_BLOCKS, META_BLOCK_BYTES, PAGE_BIT_BYTES};
use std::ops::Range;

/// The disk, as far as it is needed here. Offsets are in bytes.
pub trait Disk {
    /// Why it did not write.
    type Error;

    /// A metadata block, or `None` if the disk does not give it.
    fn read(&mut self, at: u64) -> RawBlock;

    /// Writes a block, not necessarily to stable media.
    ///
    /// # Errors
    /// The disk's.
    fn write(&mut self, at: u64, block: &[u8; META_BLOCK_BYTES]) -> Result<(), Self::Error>;

    /// What was written is on stable media.
    ///
    /// # Errors
    /// The disk's.
    fn sync(&mut self) -> Result<(), Self::Error>;
}

/// What a disk's metadata turned out to be.
#[derive(Debug)]
pub struct Found {
    /// Where it lies.
    pub layout: Layout,
    /// The superblock.
    pub superblock: Superblock,
    /// The copy of it to write first.
    pub stale_copy: u8,
    /// The disk has grown since that was written, or was moved.
    pub grown: Option<Grown>,
}

/// A disk that is larger than it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grown {
    /// Its size before, in bytes.
    pub before: u64,
    /// The metadata stays where it is: it can follow to a disk of this size in bytes.
    pub needed: Option<u64>,
}

/// Why a disk has no metadata to start from.
#[derive(Debug)]
pub enum Trouble<E> {
    /// There is none here, nor where the end of the disk was.
    None {
        /// What is here.
        error: ChooseError,
        /// There was no time to look at all places where the end may have been.
        cut_off: bool,
    },
    /// It could not be moved; it is where it was.
    Disk(E),
}

/// The metadata of `owner` on a disk with this layout. Where the disk has grown, it is looked for (see [`former::find`]
/// for `known` and `go_on`) and moved to the new end.
///
/// # Errors
/// See [`Trouble`].
pub fn find<D: Disk>(
    layout: &Layout,
    owner: Owner,
    known: Option<u64>,
    disk: &mut D,
    go_on: impl FnMut() -> bool,
) -> Result<Found, Trouble<D::Error>> {
    let bytes = layout.disk_bytes();
    let search =
        |disk: &mut D, go_on| former::find(bytes, Some(owner), known, |at| disk.read(at), go_on);
    let error = match recovery::superblock(layout, owner, |at| disk.read(at)) {
        Ok((superblock, stale_copy)) => {
            // The copy to write first is that one, if it is not whole.
            if stale_copy == 1 && !has_copy(layout, owner, 1, disk) {
                let former = search(disk, go_on).newest;
                if let Some(former) = former.filter(|former| former.became(&superblock)) {
                    wipe(&former, disk).map_err(Trouble::Disk)?;
                }
                put_last(layout, &superblock, disk).map_err(Trouble::Disk)?;
            }
            return Ok(Found { layout: *layout, superblock, stale_copy, grown: None });
        }
        Err(error) => error,
    };
    if belongs_here(layout, &error, disk) {
        return Err(Trouble::None { error, cut_off: false });
    }
    let search = search(disk, go_on);
    match search.newest {
        Some(former) => move_from(&former, layout, owner, disk),
        None => Err(Trouble::None { error, cut_off: search.cut_off }),
    }
}

/// A whole superblock was made for this very place, or by a version that nobody here can read.
fn belongs_here(layout: &Layout, error: &ChooseError, disk: &mut impl Disk) -> bool {
    let unknown = matches!(error, ChooseError::Foreign { reason: BlockError::Version { .. }, .. });
    let made_for_it = |copy| {
        let at = layout.superblock(copy);
        let block = disk.read(at);
        let header = block.as_deref().and_then(|block| block::inspect(block).ok());
        header.is_some_and(|(it, _)| block::expect_place(&it, Kind::Superblock, at).is_ok())
    };
    unknown || [0, 1].into_iter().any(made_for_it)
}

impl Former {
    /// This is older metadata than `moved`, and no client can have data where it lies.
    fn became(&self, moved: &Superblock) -> bool {
        let old = &self.superblock;
        old.sequence < moved.sequence && moved.agreed_sectors <= old.usable_sectors
    }
}

fn has_copy(layout: &Layout, owner: Owner, copy: u8, disk: &mut impl Disk) -> bool {
    let block = disk.read(layout.superblock(copy));
    block.is_some_and(|block| Superblock::decode(layout, owner, copy, &block).is_ok())
}

/// A disk whose metadata lies behind the first `end` bytes: about the smallest one, in whole MiB.
fn smallest_behind(end: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    // The metadata of a disk is a little more than 1/32768 of it; from there a few steps are enough.
    let mut bytes = (end + end / (1 << 15)).next_multiple_of(MIB);
    while Layout::of_disk(bytes).is_ok_and(|layout| layout.superblock(0) < end) {
        bytes += MIB;
    }
    bytes
}

fn move_from<D: Disk>(
    former: &Former,
    to: &Layout,
    owner: Owner,
    disk: &mut D,
) -> Result<Found, Trouble<D::Error>> {
    let Ok(from) = Layout::of_disk(former.bytes) else {
        unreachable!("metadata was found by the layout of that size");
    };
    let none = |error| Trouble::None { error, cut_off: false };
    // The copy at the end told of it; the other one may be newer.
    let (old, stale_copy) = recovery::superblock(&from, owner, |at| disk.read(at)).map_err(none)?;
    if to.superblock(0) < from.disk_bytes() {
        let needed = Some(smallest_behind(from.disk_bytes()));
        let grown = Some(Grown { before: former.bytes, needed });
        return Ok(Found { layout: from, superblock: old, stale_copy, grown });
    }
    let moved = Superblock { sequence: old.sequence + 1, usable_sectors: to.data_sectors(), ..old };
    assert!(moved.agreed_sectors <= from.data_sectors(), "clients have no data at either place");
    prepare(&from, to, &old, disk).map_err(Trouble::Disk)?;
    let mut block = [0; META_BLOCK_BYTES];
    moved.encode(to, 0, &mut block);
    disk.write(to.superblock(0), &block).map_err(Trouble::Disk)?;
    disk.sync().map_err(Trouble::Disk)?;
    let (superblock, _) = recovery::superblock(to, owner, |at| disk.read(at)).map_err(none)?;
    assert!(superblock == moved, "the old place is wiped only once the new one counts");
    wipe(former, disk).map_err(Trouble::Disk)?;
    put_last(to, &moved, disk).map_err(Trouble::Disk)?;
    let grown = Some(Grown { before: former.bytes, needed: None });
    Ok(Found { layout: *to, superblock, stale_copy: 1, grown })
}

/// All of the new place but its superblocks, which are blank, is on stable media.
fn prepare<D: Disk>(
    from: &Layout,
    to: &Layout,
    old: &Superblock,
    disk: &mut D,
) -> Result<(), D::Error> {
    for copy in [0, 1] {
        disk.write(to.superblock(copy), &[0; META_BLOCK_BYTES])?;
    }
    let marked = marked_by_log(from, old.owner(), disk);
    copy_bitmap(from, to, old, &marked, disk)?;
    for (at, block) in recovery::fresh_ring(to, old.owner()) {
        disk.write(at, &block)?;
    }
    disk.sync()
}

/// The copy at the end: nothing is owed any more.
fn put_last<D: Disk>(
    layout: &Layout,
    superblock: &Superblock,
    disk: &mut D,
) -> Result<(), D::Error> {
    let mut block = [0; META_BLOCK_BYTES];
    superblock.encode(layout, 1, &mut block);
    disk.write(layout.superblock(1), &block)?;
    disk.sync()
}

/// Blocks whose bits are set because the log names them: all, if it cannot be relied on.
fn marked_by_log(from: &Layout, owner: Owner, disk: &mut impl Disk) -> Vec<Range<u64>> {
    match recovery::activity_log(from, owner, |at| disk.read(at)) {
        Ok(newest) => {
            let first = |extent: u32| u64::from(extent) * EXTENT_BLOCKS;
            let blocks = |extent| first(extent)..(first(extent) + EXTENT_BLOCKS);
            newest.extents.iter().map(|extent| blocks(*extent)).collect()
        }
        Err(_) => std::iter::once(0..from.data_blocks()).collect(),
    }
}

/// Writes all pages of the new bitmap. What was added to the disk is not part of the volume yet; where no size was
/// agreed on, all of the disk is, and nothing is known of that part.
fn copy_bitmap<D: Disk>(
    from: &Layout,
    to: &Layout,
    old: &Superblock,
    marked: &[Range<u64>],
    disk: &mut D,
) -> Result<(), D::Error> {
    let unknown = if old.agreed_sectors == 0 { from.data_blocks()..to.data_blocks() } else { 0..0 };
    for page in 0..to.pages() {
        let mut bits = [0; PAGE_BIT_BYTES];
        let blocks = to.page_blocks(page);
        if page < from.pages() {
            let block = disk.read(from.bitmap_page(page));
            let known =
                block.as_deref().map(|it| records::decode_page(from, old.owner(), page, it));
            match known {
                Some(Ok(known)) => bits = *known,
                _ => mark(&mut bits, &blocks, &from.page_blocks(page)),
            }
        }
        for range in marked {
            mark(&mut bits, &blocks, range);
        }
        mark(&mut bits, &blocks, &unknown);
        let mut block = [0; META_BLOCK_BYTES];
        records::encode_page(to, old.owner(), page, 0, &bits, &mut block);
        disk.write(to.bitmap_page(page), &block)?;
    }
    Ok(())
}

/// Sets the bits of `range` in the page that holds those of `blocks`.
fn mark(bits: &mut [u8; PAGE_BIT_BYTES], blocks: &Range<u64>, range: &Range<u64>) {
    for block in range.start.max(blocks.start)..range.end.min(blocks.end) {
        let bit = (block - blocks.start) as usize;
        if let Some(byte) = bits.get_mut(bit / 8) {
            *byte |= 1 << (bit % 8);
        }
    }
}

/// Nobody takes the former metadata for that of this disk any more.
///
/// # Errors
/// The disk's.
pub fn wipe<D: Disk>(former: &Former, disk: &mut D) -> Result<(), D::Error> {
    let Ok(from) = Layout::of_disk(former.bytes) else { return Ok(()) };
    // The copy at the end is the one that a search finds: as long as it is there, the other is looked for, too.
    for copy in [0, 1] {
        disk.write(from.superblock(copy), &[0; META_BLOCK_BYTES])?;
        disk.sync()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
