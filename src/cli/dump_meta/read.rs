//! Reads every metadata block of a disk and judges each by itself.

use super::report::{ActivityLog, Bad, Bitmap, Copy, Region, Report, SuperblockView};
use crate::io::disk::Backing;
use crate::limits::{AL_RING_BLOCKS, BLOCK_BYTES, META_BLOCK_BYTES};
use crate::meta::block::{self, BlockError, Owner};
use crate::meta::layout::{Layout, SUPERBLOCK_COPIES};
use crate::meta::records::{AlTransaction, decode_page, recover};
use crate::meta::superblock::{Superblock, choose};

type Block = [u8; META_BLOCK_BYTES];

/// Blocks read at once.
const BATCH_BLOCKS: u32 = 256;
/// Bad blocks that are listed; of the others only the number is told.
const BAD_MAX: usize = 32;

/// Everything that can be told. `expected` is whose metadata it should be, if known; `progress` is told
/// bitmap pages read and in all.
pub(super) fn report(
    backing: &Backing,
    expected: Option<Owner>,
    mut progress: impl FnMut(u64, u64),
) -> Report {
    let mut report = Report {
        disk: backing.path().display().to_string(),
        bytes: backing.bytes(),
        ..Report::default()
    };
    let layout = match Layout::of_disk(backing.bytes()) {
        Ok(layout) => layout,
        Err(error) => {
            report.error = Some(error.to_string());
            return report;
        }
    };
    report.layout = Some(Region::of(&layout));
    let copies = [0, 1].map(|copy| {
        let block = read_block(backing, layout.superblock(copy));
        block.and_then(|block| Superblock::inspect(&layout, copy, &block))
    });
    for (copy, found) in (0..SUPERBLOCK_COPIES).zip(&copies) {
        report.superblocks.push(Copy {
            copy,
            address: layout.superblock(copy),
            found: found.as_ref().ok().map(SuperblockView::of),
            error: found.as_ref().err().map(ToString::to_string),
        });
    }
    let [copy0, copy1] = copies;
    let known = copy0.or(copy1).ok().map(|found| found.owner());
    // A daemon takes only its own, so the copies are judged as it would.
    let judge = |copy: Result<Superblock, BlockError>| match expected {
        Some(owner) => copy.and_then(|found| belongs(found, owner)),
        None => copy,
    };
    match choose(judge(copy0), judge(copy1)) {
        Ok(found) => report.superblock = Some(SuperblockView::of(&found)),
        Err(error) => report.superblock_error = Some(error.to_string()),
    }
    let owner = expected.or(known).or_else(|| owner_of_ring(backing, &layout));
    let Some(owner) = owner else {
        report.error = Some("no block tells whose metadata it is, if there is any".to_owned());
        return report;
    };
    report.activity_log = Some(activity_log(backing, &layout, owner));
    report.bitmap = Some(bitmap(backing, &layout, owner, &mut progress));
    report
}

fn belongs(found: Superblock, owner: Owner) -> Result<Superblock, BlockError> {
    if found.volume != owner.volume {
        return Err(BlockError::Volume { found: found.volume });
    }
    if found.node != owner.node {
        return Err(BlockError::Node { found: found.node });
    }
    Ok(found)
}

/// One block, or [`BlockError::Unreadable`].
fn read_block(backing: &Backing, address: u64) -> Result<Block, BlockError> {
    let mut block = [0; META_BLOCK_BYTES];
    backing.read_at(address, &mut block).map_err(|_| BlockError::Unreadable)?;
    Ok(block)
}

/// The owner that the first sound block of the ring names: for a disk that lost both superblocks.
fn owner_of_ring(backing: &Backing, layout: &Layout) -> Option<Owner> {
    (0..AL_RING_BLOCKS as u32).find_map(|slot| {
        let block = read_block(backing, layout.al_slot(slot)).ok()?;
        block::inspect(&block).ok().map(|(header, _)| header.owner)
    })
}

fn activity_log(backing: &Backing, layout: &Layout, owner: Owner) -> ActivityLog {
    let slots = 0..AL_RING_BLOCKS as u32;
    let ring: Vec<_> = slots
        .map(|slot| {
            let block = read_block(backing, layout.al_slot(slot));
            block.and_then(|block| AlTransaction::decode(layout, owner, slot, &block))
        })
        .collect();
    let mut log = ActivityLog { slots: ring.len() as u64, ..ActivityLog::default() };
    for (slot, found) in (0..).zip(&ring) {
        if let Err(error) = found {
            log.bad.push(Bad { number: slot, error: error.to_string() });
        }
    }
    match recover(&ring) {
        Ok(newest) => {
            log.sequence = Some(newest.sequence);
            log.extents = newest.extents;
        }
        Err(error) => log.error = Some(error.to_string()),
    }
    log
}

fn bitmap(
    backing: &Backing,
    layout: &Layout,
    owner: Owner,
    progress: &mut impl FnMut(u64, u64),
) -> Bitmap {
    let mut bitmap = Bitmap { pages: layout.pages(), ..Bitmap::default() };
    let mut first = 0;
    while first < layout.pages() {
        let end = first.saturating_add(BATCH_BLOCKS).min(layout.pages());
        let mut batch = vec![[0; META_BLOCK_BYTES]; (end - first) as usize];
        let whole = backing.read_at(layout.bitmap_page(first), batch.as_flattened_mut());
        for (page, block) in (first..end).zip(&mut batch) {
            // One bad sector fails the batch: then each page is tried by itself.
            let block = match whole {
                Ok(()) => Ok(*block),
                Err(_) => read_block(backing, layout.bitmap_page(page)),
            };
            match block.and_then(|block| decode_page(layout, owner, page, &block).copied()) {
                Ok(bits) => {
                    let set = bits.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
                    bitmap.out_of_sync_bytes += set * BLOCK_BYTES;
                    bitmap.dirty_pages += u32::from(set > 0);
                }
                Err(error) => {
                    bitmap.bad_pages += 1;
                    if bitmap.bad.len() < BAD_MAX {
                        bitmap.bad.push(Bad { number: page, error: error.to_string() });
                    }
                }
            }
        }
        first = end;
        progress(u64::from(first), u64::from(layout.pages()));
    }
    bitmap
}
