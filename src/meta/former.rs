//! Metadata of a disk that has grown since: it lies where the end of the disk was, and nobody would look there. PURE.
//!
//! ```text
//!   | data | superblock 0 | bitmap, log | superblock 1 |  what was added ........ |
//!                                                      ^ the former end           ^ the end
//! ```
//!
//! Nothing on the disk says where that was, so the sizes that people and volume managers choose are tried, after the
//! one that was noted elsewhere.

use super::block::Owner;
use super::layout::Layout;
use super::recovery::RawBlock;
use super::superblock::Superblock;
use crate::limits::FORMER_SIZES_MAX;

const GIB: u64 = 1 << 30;
/// Volumes of LVM are a whole number of extents, which have 4 MiB unless somebody chose otherwise.
const LVM_EXTENT_BYTES: u64 = 4 << 20;
/// Partitions and images begin and end at a whole MiB.
const MIB: u64 = 1 << 20;
/// So many sizes that are a whole number of GiB smaller are tried first: most volumes grow by that.
const BY_GIB: u64 = 1024;

/// A disk that was smaller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Former {
    /// Its size then, in bytes.
    pub bytes: u64,
    /// What it said.
    pub superblock: Superblock,
}

/// Sizes below `bytes` that the disk may have had, the likelier first: at most [`FORMER_SIZES_MAX`], some of them
/// twice.
fn sizes(bytes: u64) -> impl Iterator<Item = u64> {
    let by_gib = (1..=BY_GIB).map_while(move |less| bytes.checked_sub(less * GIB));
    let multiples = move |step: u64| {
        let last = (bytes - 1) / step;
        (1..=last).rev().map(move |count| count * step)
    };
    let others = FORMER_SIZES_MAX - BY_GIB as usize;
    let by_extent = multiples(LVM_EXTENT_BYTES).take(others / 2);
    by_gib.chain(by_extent).chain(multiples(MIB).take(others / 2)).filter(|size| *size > 0)
}

/// What a search has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Search {
    /// The newest metadata that was found.
    pub newest: Option<Former>,
    /// There was no time to look everywhere.
    pub cut_off: bool,
}

/// Looks for the metadata that a disk of `bytes` had when it was smaller: of `owner`, or of anybody. `read` reads the
/// block at a byte offset, and `go_on` says whether there is time for another one: a block is read for each size, that
/// of `known`, if there is one, first. Of several the newest counts: a disk may have been made anew in between.
pub fn find(
    bytes: u64,
    owner: Option<Owner>,
    known: Option<u64>,
    mut read: impl FnMut(u64) -> RawBlock,
    mut go_on: impl FnMut() -> bool,
) -> Search {
    let mut search = Search { newest: None, cut_off: false };
    let known = known.filter(|known| *known < bytes);
    for bytes in known.into_iter().chain(sizes(bytes)) {
        if !go_on() {
            search.cut_off = true;
            break;
        }
        let Ok(layout) = Layout::of_disk(bytes) else { continue };
        let Some(block) = read(layout.superblock(1)) else { continue };
        let found = match owner {
            Some(owner) => Superblock::decode(&layout, owner, 1, &block),
            None => Superblock::inspect(&layout, 1, &block),
        };
        if let Ok(superblock) = found {
            let newer = |it: Former| superblock.sequence > it.superblock.sequence;
            if search.newest.is_none_or(newer) {
                search.newest = Some(Former { bytes, superblock });
            }
        }
    }
    search
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::META_BLOCK_BYTES;
    use crate::meta::superblock::{GenerationId, NodeId, VolumeId};

    /// A disk of `bytes` with nothing on it but the last block that it had with `former` bytes.
    fn grown(former: u64, owner: Owner) -> impl Fn(u64) -> RawBlock {
        let layout = Layout::of_disk(former).expect("a usual size");
        let superblock = Superblock::fresh(owner, &layout, Some(GenerationId(1 << 96)));
        let mut last = Box::new([0; META_BLOCK_BYTES]);
        superblock.encode(&layout, 1, &mut last);
        move |at| {
            Some(if at == layout.superblock(1) {
                last.clone()
            } else {
                Box::new([0; META_BLOCK_BYTES])
            })
        }
    }

    #[test]
    fn usual_ways_to_grow_are_found() {
        let owner = Owner { volume: VolumeId(7), node: NodeId(1) };
        let other = Owner { volume: VolumeId(8), node: NodeId(1) };
        for (before, after) in [
            (64 * MIB, 100 * MIB),
            (10 * GIB, 20 * GIB),
            (100 * GIB, 1_000 * GIB),
            (10 * GIB + 4 * MIB, 15 * GIB - 8 * MIB),
            (333 * MIB, 334 * MIB),
            (500 * GIB + 512, 700 * GIB + 512),
        ] {
            let read = grown(before, owner);
            let found = |owner, known| {
                let search = find(after, owner, known, &read, || true);
                assert!(!search.cut_off);
                search.newest.map(|found| (found.bytes, found.superblock.volume))
            };
            assert_eq!(found(Some(owner), None), Some((before, owner.volume)));
            assert_eq!(found(None, Some(before)), Some((before, owner.volume)));
            assert_eq!(found(Some(other), None), None, "of another volume");
            let none = Search { newest: None, cut_off: true };
            assert_eq!(find(after, None, None, &read, || false), none, "there is no time");
        }
    }

    #[test]
    fn of_several_the_newest_counts() {
        let owner = Owner { volume: VolumeId(7), node: NodeId(1) };
        for (older, newer) in [(10 * GIB, 20 * GIB - MIB), (20 * GIB, 10 * GIB)] {
            let read = |at| {
                let block =
                    grown(older, owner)(at).filter(|block| block.iter().any(|byte| *byte > 0));
                block.or_else(|| {
                    let layout = Layout::of_disk(newer).expect("a usual size");
                    let mut last = Box::new([0; META_BLOCK_BYTES]);
                    let fresh = Superblock::fresh(owner, &layout, None);
                    Superblock { sequence: 9, ..fresh }.encode(&layout, 1, &mut last);
                    (at == layout.superblock(1)).then_some(last)
                })
            };
            let search = find(30 * GIB, Some(owner), Some(older), read, || true);
            assert_eq!(search.newest.map(|found| found.bytes), Some(newer));
        }
    }

    #[test]
    fn a_disk_that_has_none_costs_a_bounded_number_of_reads() {
        for bytes in [1, MIB, MIB + 1, GIB, 1 << 50] {
            let mut reads = 0;
            let none = |_| {
                reads += 1;
                None
            };
            let search = find(bytes, None, None, none, || true);
            assert_eq!(search, Search { newest: None, cut_off: false });
            assert!(reads <= FORMER_SIZES_MAX && sizes(bytes).all(|size| 0 < size && size < bytes));
        }
    }
}
