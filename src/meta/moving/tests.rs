//! Every power cut on the way: the metadata is at the old place or at the new one, and says no less than before.

use super::*;
use crate::meta::records::AlTransaction;
use crate::meta::superblock::{GenerationId, NodeId, VolumeId};
use std::collections::BTreeMap;

const OWNER: Owner = Owner { volume: VolumeId(7), node: NodeId(1) };
const MIB: u64 = 1 << 20;
const BEFORE: u64 = 300 * MIB;
const AFTER: u64 = 420 * MIB;

type Block = [u8; META_BLOCK_BYTES];

/// A disk with a volatile cache, whose power is cut after so many operations.
#[derive(Clone, Default)]
struct Model {
    stable: BTreeMap<u64, Block>,
    cached: Vec<(u64, Block)>,
    operations: u32,
    cut_at: Option<u32>,
}

#[derive(Debug, PartialEq)]
struct PowerCut;

impl Model {
    fn operation(&mut self) -> Result<(), PowerCut> {
        self.operations += 1;
        if self.cut_at.is_some_and(|cut| self.operations > cut) { Err(PowerCut) } else { Ok(()) }
    }

    /// What is left after a power cut: of what was cached each block by chance, whole, torn or not at all.
    fn restarted(mut self, chance: &mut u64) -> Model {
        for (at, new) in std::mem::take(&mut self.cached) {
            *chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let mut block = self.stable.get(&at).copied().unwrap_or([0; META_BLOCK_BYTES]);
            let kept = match *chance >> 61 {
                0..3 => 0,
                3..6 => META_BLOCK_BYTES,
                _ => 512 * (1 + (*chance >> 40) as usize % 7),
            };
            block[..kept].copy_from_slice(&new[..kept]);
            self.stable.insert(at, block);
        }
        Model { stable: self.stable, ..Model::default() }
    }
}

impl Disk for Model {
    type Error = PowerCut;

    fn read(&mut self, at: u64) -> RawBlock {
        let cached = self.cached.iter().rev().find(|(to, _)| *to == at).map(|(_, block)| *block);
        Some(Box::new(cached.or_else(|| self.stable.get(&at).copied()).unwrap_or([0; 4096])))
    }

    fn write(&mut self, at: u64, block: &Block) -> Result<(), PowerCut> {
        self.operation()?;
        self.cached.push((at, *block));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), PowerCut> {
        self.operation()?;
        self.stable.extend(std::mem::take(&mut self.cached));
        Ok(())
    }
}

fn layout(bytes: u64) -> Layout {
    Layout::of_disk(bytes).expect("a usual size")
}

/// A disk of 300 MiB with bits in each page and extent 5 in its log, as it looks once it is larger.
fn grown(agreed: bool) -> (Model, Superblock) {
    let from = layout(BEFORE);
    let mut superblock = Superblock::fresh(OWNER, &from, Some(GenerationId(1 << 96)));
    superblock.sequence = 41;
    superblock.mark = 9;
    superblock.primary = true;
    superblock.agreed_sectors = if agreed { from.data_sectors() - 64 } else { 0 };
    let mut model = Model::default();
    let mut block = [0; META_BLOCK_BYTES];
    superblock.encode(&from, 0, &mut block);
    model.stable.insert(from.superblock(0), block);
    // The copy at the end is an older one.
    Superblock { sequence: 40, ..superblock }.encode(&from, 1, &mut block);
    model.stable.insert(from.superblock(1), block);
    for page in 0..from.pages() {
        let mut bits = [0; PAGE_BIT_BYTES];
        bits[page as usize] = 1;
        records::encode_page(&from, OWNER, page, 0, &bits, &mut block);
        model.stable.insert(from.bitmap_page(page), block);
    }
    for (at, block) in recovery::fresh_ring(&from, OWNER) {
        model.stable.insert(at, block);
    }
    let newest = AlTransaction { sequence: crate::limits::AL_RING_BLOCKS, extents: vec![5] };
    newest.encode(&from, OWNER, &mut block);
    model.stable.insert(from.al_slot(newest.slot()), block);
    (model, superblock)
}

fn is_set(model: &mut Model, layout: &Layout, block: u64) -> bool {
    let page = (block / crate::limits::PAGE_BLOCKS) as u32;
    let raw = model.read(layout.bitmap_page(page)).expect("readable");
    let bits = records::decode_page(layout, OWNER, page, &raw).expect("a sound page");
    let bit = (block % crate::limits::PAGE_BLOCKS) as usize;
    bits[bit / 8] >> (bit % 8) & 1 == 1
}

/// It lies at the new end, says what it said, and nothing is left at the old one.
fn check_moved(mut model: Model, before: &Superblock) {
    let to = layout(AFTER);
    let found = find(&to, OWNER, None, &mut model, || true).expect("it is there");
    let expected = Superblock { sequence: 42, usable_sectors: to.data_sectors(), ..*before };
    assert_eq!(found.superblock, expected);
    let pages = layout(BEFORE).pages();
    for page in 0..pages {
        let block = u64::from(page) * (crate::limits::PAGE_BLOCKS + 8);
        assert!(is_set(&mut model, &to, block) && !is_set(&mut model, &to, block + 1));
    }
    for block in [5 * EXTENT_BLOCKS, 6 * EXTENT_BLOCKS - 1] {
        assert!(is_set(&mut model, &to, block), "the log names it");
    }
    assert!(!is_set(&mut model, &to, 6 * EXTENT_BLOCKS));
    let added = is_set(&mut model, &to, to.data_blocks() - 1);
    assert_eq!(
        added,
        before.agreed_sectors == 0,
        "what was added to a volume that has no size yet"
    );
    let log = recovery::activity_log(&to, OWNER, |at| model.read(at));
    assert_eq!(log.map(|newest| newest.extents), Ok(vec![]));
    let left = |bytes| recovery::superblock(&layout(bytes), OWNER, |at| model.clone().read(at));
    assert!(
        matches!(left(BEFORE), Err(ChooseError::Neither { .. })),
        "should the disk shrink again"
    );
}

#[test]
fn metadata_follows_the_end_of_the_disk() {
    for agreed in [true, false] {
        let (mut model, before) = grown(agreed);
        let found = find(&layout(AFTER), OWNER, None, &mut model, || true).expect("it is found");
        assert_eq!(found.grown, Some(Grown { before: BEFORE, needed: None }));
        assert_eq!(found.layout, layout(AFTER));
        assert_eq!(found.superblock.check(), Ok(()));
        check_moved(model, &before);
    }
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing() {
    let (mut whole, before) = grown(true);
    find(&layout(AFTER), OWNER, None, &mut whole, || true).expect("it is found");
    let mut chance = 1;
    for cut in 0..whole.operations {
        for _ in 0..20 {
            let (mut model, _) = grown(true);
            model.cut_at = Some(cut);
            let cut = find(&layout(AFTER), OWNER, None, &mut model, || true);
            assert!(matches!(cut, Err(Trouble::Disk(PowerCut))));
            let mut model = model.restarted(&mut chance);
            // A second one, in what is done again.
            model.cut_at = Some((chance >> 33) as u32 % (whole.operations + 1));
            let _ = find(&layout(AFTER), OWNER, None, &mut model, || true);
            let mut model = model.restarted(&mut chance);
            find(&layout(AFTER), OWNER, None, &mut model, || true).expect("it is there");
            check_moved(model, &before);
        }
    }
}

#[test]
fn what_is_damaged_is_taken_for_marked() {
    let (mut model, _) = grown(true);
    let (from, to) = (layout(BEFORE), layout(AFTER));
    model.stable.insert(from.bitmap_page(1), [0xA5; META_BLOCK_BYTES]);
    find(&to, OWNER, None, &mut model, || true).expect("it is found");
    let page = from.page_blocks(1);
    assert!(is_set(&mut model, &to, page.start + 77) && is_set(&mut model, &to, page.end - 1));
    assert!(!is_set(&mut model, &to, page.start - 1));

    let (mut model, _) = grown(true);
    for slot in 0..crate::limits::AL_RING_BLOCKS as u32 {
        model.stable.insert(from.al_slot(slot), [0xA5; META_BLOCK_BYTES]);
    }
    find(&to, OWNER, None, &mut model, || true).expect("it is found");
    assert!((0..from.data_blocks()).step_by(97).all(|block| is_set(&mut model, &to, block)));
    assert!(!is_set(&mut model, &to, from.data_blocks()));
}

#[test]
fn a_disk_that_has_hardly_grown_stays_as_it_was() {
    let (mut model, before) = grown(true);
    let content = model.stable.clone();
    let found = find(&layout(BEFORE + 64 * 4096), OWNER, None, &mut model, || true).expect("found");
    let Some(Grown { before: size, needed: Some(needed) }) = found.grown else {
        panic!("{found:?}")
    };
    assert_eq!((size, found.layout, found.superblock), (BEFORE, layout(BEFORE), before));
    assert_eq!(found.stale_copy, 1, "the older one");
    assert!(model.stable == content, "nothing was written");
    assert!(needed.is_multiple_of(MIB) && layout(needed).superblock(0) >= BEFORE);
    assert!(layout(needed - MIB).superblock(0) < BEFORE);
    let found = find(&layout(needed), OWNER, None, &mut model, || true).expect("found");
    assert_eq!(found.grown, Some(Grown { before: BEFORE, needed: None }));
}

#[test]
fn left_overs_of_other_volumes_at_the_new_end_stand_in_nobodys_way() {
    // A volume of another size lay there: whole blocks, of another owner, for another place.
    let other = Owner { volume: VolumeId(8), node: NodeId(0) };
    let elsewhere = layout(64 * MIB);
    let mut block = [0; META_BLOCK_BYTES];
    Superblock::fresh(other, &elsewhere, None).encode(&elsewhere, 1, &mut block);
    let to = layout(AFTER);
    for copies in [&[0][..], &[1], &[0, 1]] {
        let (mut model, before) = grown(true);
        for copy in copies {
            model.stable.insert(to.superblock(*copy), block);
        }
        find(&to, OWNER, None, &mut model, || true).expect("it is moved");
        check_moved(model, &before);
    }
}

#[test]
fn a_disk_of_another_volume_is_not_taken_over() {
    let other = Owner { volume: VolumeId(8), node: NodeId(1) };
    let to = layout(AFTER);
    let mut whole = [0; META_BLOCK_BYTES];
    Superblock::fresh(other, &to, None).encode(&to, 1, &mut whole);
    // Sound; of a format that this build does not know; and with content that it would not write.
    for change in [0, 1, 2] {
        let (mut model, _) = grown(true);
        let mut block = whole;
        if change > 0 {
            match change {
                1 => block[8..10].copy_from_slice(&99_u16.to_le_bytes()),
                _ => block[152..160].fill(0xFF), // its flags
            }
            block[124..128].fill(0);
            let sum = crc32c::crc32c(&block);
            block[124..128].copy_from_slice(&sum.to_le_bytes());
        }
        model.stable.insert(to.superblock(1), block);
        let content = model.stable.clone();
        let refused = find(&to, OWNER, None, &mut model, || true);
        assert!(
            matches!(refused, Err(Trouble::None { error: ChooseError::Foreign { .. }, .. })),
            "{refused:?}"
        );
        assert!(model.stable == content, "nothing was written");
    }
}

#[test]
fn a_search_that_was_cut_off_says_so() {
    let (mut model, _) = grown(true);
    let found = find(&layout(AFTER), OWNER, None, &mut model, || false);
    assert!(matches!(found, Err(Trouble::None { cut_off: true, .. })), "{found:?}");
    // With the size that was noted, one look is enough.
    let mut looks = 1..=1;
    let found = find(&layout(AFTER), OWNER, Some(BEFORE), &mut model, || looks.next().is_some());
    assert_eq!(found.expect("found").grown, Some(Grown { before: BEFORE, needed: None }));
}

#[test]
fn blocks_of_clients_are_not_wiped() {
    // Whole metadata of this very node, of another life, in what is data of the volume now.
    let (mut model, _) = grown(true);
    let to = layout(AFTER);
    let superblock = Superblock {
        sequence: 500,
        agreed_sectors: to.data_sectors(),
        ..Superblock::fresh(OWNER, &to, Some(GenerationId(2 << 96)))
    };
    let mut block = [0; META_BLOCK_BYTES];
    superblock.encode(&to, 0, &mut block);
    model.stable.insert(to.superblock(0), block);
    let before = model.stable.clone();
    let found = find(&to, OWNER, None, &mut model, || true).expect("one copy is enough");
    assert_eq!(found.superblock, superblock);
    model.stable.remove(&to.superblock(1)); // the copy that was missing
    assert!(model.stable == before, "nothing else was written");
}
