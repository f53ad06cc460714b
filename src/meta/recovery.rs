//! From the blocks on a disk to what a node starts from. PURE: the caller reads and writes.
//!
//! ```text
//!   superblock copies ──► choose ──► superblock
//!   log ring ───────────► recover ─┬► newest transaction
//!                                  └► unreliable: set every bit on disk, *then* write a fresh ring
//!   bitmap pages ───────► each page, or all its bits if it is damaged
//! ```
//!
//! The order in the unreliable case matters: a fresh log before the full bitmap would, after a power cut between the
//! two, look like a clean node.

use super::block::{BlockError, Owner};
use super::layout::Layout;
use super::records::{self, AlTransaction, Unreliable};
use super::superblock::{ChooseError, Superblock, choose};
use crate::limits::{AL_RING_BLOCKS, META_BLOCK_BYTES, PAGE_BIT_BYTES};

/// One metadata block as it was read; `None` if the disk could not read it.
pub type RawBlock = Option<Box<[u8; META_BLOCK_BYTES]>>;

/// The superblock of a disk, and the copy of it to write first from here on: the damaged or older one, if one is. A
/// power cut may tear a copy that is being written, and then the other is all there is. `read` reads the block at a
/// byte offset.
///
/// # Errors
///
/// See [`choose`].
pub fn superblock(
    layout: &Layout,
    owner: Owner,
    mut read: impl FnMut(u64) -> RawBlock,
) -> Result<(Superblock, u8), ChooseError> {
    let mut copy = |copy| match read(layout.superblock(copy)) {
        Some(block) => Superblock::decode(layout, owner, copy, &block),
        None => Err(BlockError::Unreadable),
    };
    let (first, second) = (copy(0), copy(1));
    let newest = choose(first, second)?;
    Ok((newest, u8::from(second != Ok(newest))))
}

/// The newest transaction of the activity log.
///
/// # Errors
///
/// If the log cannot be relied on: see the picture above for what the caller does then.
pub fn activity_log(
    layout: &Layout,
    owner: Owner,
    mut read: impl FnMut(u64) -> RawBlock,
) -> Result<AlTransaction, Unreliable> {
    let mut ring = Vec::with_capacity(AL_RING_BLOCKS as usize);
    for slot in 0..AL_RING_BLOCKS as u32 {
        ring.push(match read(layout.al_slot(slot)) {
            Some(block) => AlTransaction::decode(layout, owner, slot, &block),
            None => Err(BlockError::Unreadable),
        });
    }
    records::recover(&ring)
}

/// The blocks of a fresh ring, with their offsets, in the order to write them.
pub fn fresh_ring(
    layout: &Layout,
    owner: Owner,
) -> impl Iterator<Item = (u64, [u8; META_BLOCK_BYTES])> + '_ {
    (0..AL_RING_BLOCKS as u32).map(move |slot| {
        let mut block = [0; META_BLOCK_BYTES];
        AlTransaction::initial(slot).encode(layout, owner, &mut block);
        (layout.al_slot(slot), block)
    })
}

/// A bitmap page with bits all clear or all set.
pub fn uniform_page(layout: &Layout, owner: Owner, page: u32, set: bool) -> [u8; META_BLOCK_BYTES] {
    let mut bits = [0; PAGE_BIT_BYTES];
    if set {
        let blocks = layout.page_blocks(page);
        for bit in 0..(blocks.end - blocks.start) as usize {
            if let Some(byte) = bits.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    let mut block = [0; META_BLOCK_BYTES];
    records::encode_page(layout, owner, page, 0, &bits, &mut block);
    block
}
