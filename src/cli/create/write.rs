//! Writes fresh metadata so that a crash at any point leaves either none, or all of it.
//!
//! ```text
//! 1. both superblocks blank      from here on the disk knows nothing
//! 2. bitmap pages, all clear; activity log, all slots initial
//! 3. superblock 0, superblock 1  from here on the disk is a fresh one
//! ```
//!
//! Each step is on stable media before the next begins. Never: an old superblock beside a new bitmap,
//! which would declare old data clean.

use crate::io::disk::Backing;
use crate::limits::{AL_RING_BLOCKS, META_BLOCK_BYTES, PAGE_BIT_BYTES};
use crate::meta::layout::{Layout, SUPERBLOCK_COPIES};
use crate::meta::records::{AlTransaction, encode_page};
use crate::meta::superblock::Superblock;
use std::io;

/// Blocks written at once: large enough for a disk's full speed, small enough for a smooth progress bar.
const BATCH_BLOCKS: u32 = 1024;

type Block = [u8; META_BLOCK_BYTES];

/// Writes everything. `progress` is told the number of bitmap pages written.
pub(super) fn metadata(
    backing: &Backing,
    layout: &Layout,
    superblock: &Superblock,
    mut progress: impl FnMut(u64),
) -> io::Result<()> {
    for copy in 0..SUPERBLOCK_COPIES {
        backing.write_at_durable(layout.superblock(copy), &[0; META_BLOCK_BYTES])?;
    }
    let owner = superblock.owner();
    let mut first = 0;
    while first < layout.pages() {
        let end = first.saturating_add(BATCH_BLOCKS).min(layout.pages());
        let mut batch = vec![[0; META_BLOCK_BYTES]; (end - first) as usize];
        for (page, block) in (first..end).zip(&mut batch) {
            encode_page(layout, owner, page, 0, &[0; PAGE_BIT_BYTES], block);
        }
        backing.write_at_durable(layout.bitmap_page(first), batch.as_flattened())?;
        first = end;
        progress(u64::from(first));
    }
    let mut ring = vec![[0; META_BLOCK_BYTES]; AL_RING_BLOCKS as usize];
    for (slot, block) in (0..).zip(&mut ring) {
        AlTransaction::initial(slot).encode(layout, owner, block);
    }
    backing.write_at_durable(layout.al_slot(0), ring.as_flattened())?;
    for copy in 0..SUPERBLOCK_COPIES {
        let mut block = [0; META_BLOCK_BYTES];
        superblock.encode(layout, copy, &mut block);
        backing.write_at_durable(layout.superblock(copy), &block)?;
        // Read back: a disk that does not keep it is found now, not after the first crash.
        let found = read_block(backing, layout.superblock(copy))?;
        if found != block {
            let text = format!("copy {copy} of the superblock reads back differently");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    Ok(())
}

/// One metadata block.
pub(super) fn read_block(backing: &Backing, address: u64) -> io::Result<Block> {
    let mut block = [0; META_BLOCK_BYTES];
    backing.read_at(address, &mut block)?;
    Ok(block)
}
