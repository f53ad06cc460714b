//! Properties of the metadata codecs, and the rules that choose between blocks.

use super::block::{self, BlockError, Header, Kind, Owner};
use super::layout::Layout;
use super::records::{self, AlTransaction, Unreliable, recover};
use super::superblock::{ChooseError, GenerationId, History, NodeId, Superblock, VolumeId, choose};
use crate::limits::{AL_RING_BLOCKS, AL_SLOTS, META_BLOCK_BYTES, PAGE_BIT_BYTES};
use proptest::prelude::*;
use std::collections::HashSet;

type Block = [u8; META_BLOCK_BYTES];
type Ring = Vec<Result<AlTransaction, BlockError>>;

const OWNER: Owner = Owner { volume: VolumeId(7), node: NodeId(1) };
const RING: u32 = AL_RING_BLOCKS as u32;

/// 5 GiB and a bit: 41 pages, more extents than the activity log has slots, last page and extent short.
fn layout() -> Layout {
    Layout::of_disk((5 << 30) + 12 * 4096).expect("a usual size")
}

fn superblock() -> Superblock {
    Superblock {
        sequence: 10,
        volume: OWNER.volume,
        node: OWNER.node,
        usable_sectors: layout().data_sectors(),
        agreed_sectors: 0,
        current: Some(GenerationId(1)),
        base: None,
        history: History::default(),
        consistent: true,
        outdated: false,
        peer_outdated: false,
        sole_source: false,
        primary: true,
        crashed: false,
        parted_primary: false,
        instance: 3,
        mark: 4,
        peer_mark: 5,
    }
}

prop_compose! {
    fn arbitrary_superblock()(
        sequence in 0..=block::SEQUENCE_MAX,
        volume: u128,
        node: u8,
        agreed_sectors in 0..=layout().data_sectors(),
        current: Option<u128>,
        base: Option<u128>,
        history in prop::collection::vec(any::<u128>(), 0..20),
        flags: [bool; 7],
        counters in prop::array::uniform3(0..=block::SEQUENCE_MAX),
    ) -> Superblock {
        let mut earlier = History::default();
        history.iter().for_each(|id| earlier.push(GenerationId(*id)));
        let known = current.is_some();
        Superblock {
            sequence,
            volume: VolumeId(volume),
            node: NodeId(node),
            usable_sectors: layout().data_sectors(),
            agreed_sectors,
            current: current.map(GenerationId),
            base: base.filter(|_| known).map(GenerationId),
            history: if known { earlier } else { History::default() },
            consistent: known && flags[0],
            outdated: flags[1],
            peer_outdated: flags[2],
            primary: flags[3],
            crashed: flags[4],
            parted_primary: flags[5],
            sole_source: flags[6],
            instance: counters[0],
            mark: counters[1],
            peer_mark: counters[2],
        }
    }
}

/// A set of extents, in random order.
fn arbitrary_extents() -> impl Strategy<Value = Vec<u32>> {
    let all: Vec<u32> = (0..layout().extents()).collect();
    let counts = prop_oneof![0..40usize, Just(AL_SLOTS)];
    counts.prop_flat_map(move |count| prop::sample::subsequence(all.clone(), count).prop_shuffle())
}

/// Damages one byte.
fn flip((at, xor): (usize, u8), block: &mut Block) {
    block[at] ^= xor;
}

fn one_flip() -> impl Strategy<Value = (usize, u8)> {
    (prop_oneof![0..block::HEADER_BYTES, 0..META_BLOCK_BYTES], 1..=u8::MAX)
}

proptest! {
    #[test]
    fn a_superblock_comes_back_and_shows_any_damage(
        superblock in arbitrary_superblock(), copy in 0..2u8, damage in one_flip(),
    ) {
        let mut block = [0xaa; META_BLOCK_BYTES];
        superblock.encode(&layout(), copy, &mut block);
        let decode = |block: &Block| {
            Superblock::decode(&layout(), superblock.owner(), copy, block)
        };
        prop_assert_eq!(decode(&block), Ok(superblock));
        prop_assert_eq!(Superblock::inspect(&layout(), copy, &block), Ok(superblock));
        flip(damage, &mut block);
        prop_assert!(decode(&block).is_err_and(|reason| reason.is_damage()));
    }

    #[test]
    fn a_transaction_comes_back_and_shows_any_damage(
        sequence in 0..=block::SEQUENCE_MAX, extents in arbitrary_extents(), damage in one_flip(),
    ) {
        let transaction = AlTransaction { sequence, extents };
        let mut block = [0xaa; META_BLOCK_BYTES];
        transaction.encode(&layout(), OWNER, &mut block);
        let decode = |slot, block: &Block| AlTransaction::decode(&layout(), OWNER, slot, block);
        let slot = transaction.slot();
        let elsewhere = decode((slot + 1) % RING, &block);
        prop_assert_eq!(elsewhere, Err(BlockError::Address { found: layout().al_slot(slot) }));
        prop_assert_eq!(decode(slot, &block), Ok(transaction));
        flip(damage, &mut block);
        prop_assert!(decode(slot, &block).is_err_and(|reason| reason.is_damage()));
    }

    #[test]
    fn a_page_comes_back_and_shows_any_damage(
        page in 0..layout().pages(), sequence in 0..=block::SEQUENCE_MAX, byte: u8,
        damage in one_flip(),
    ) {
        let blocks = layout().page_blocks(page);
        let mut bits = [0; PAGE_BIT_BYTES];
        bits[..((blocks.end - blocks.start) / 8) as usize].fill(byte);
        let mut block = [0xaa; META_BLOCK_BYTES];
        records::encode_page(&layout(), OWNER, page, sequence, &bits, &mut block);
        let decode = |page, block: &Block| {
            records::decode_page(&layout(), OWNER, page, block).copied()
        };
        prop_assert_eq!(decode(page, &block), Ok(bits));
        let found = layout().bitmap_page(page);
        let other = (page + 1) % layout().pages();
        prop_assert_eq!(decode(other, &block), Err(BlockError::Address { found }));
        flip(damage, &mut block);
        prop_assert!(decode(page, &block).is_err_and(|reason| reason.is_damage()));
    }

    /// A right checksum proves nothing: the payload may say anything.
    #[test]
    fn no_content_panics(
        kind in prop_oneof![
            Just(Kind::Superblock), Just(Kind::ActivityLog), Just(Kind::BitmapPage)
        ],
        place in 0..2u8,
        sequence in 0..=block::SEQUENCE_MAX,
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..=block::PAYLOAD_BYTES_MAX),
            prop::collection::vec(prop_oneof![9 => Just(0u8), 1 => any::<u8>()], 344),
        ],
    ) {
        let layout = layout();
        let address = match kind {
            Kind::Superblock => layout.superblock(place),
            Kind::ActivityLog => layout.al_slot(place.into()),
            Kind::BitmapPage => layout.bitmap_page(place.into()),
        };
        let mut block = [0; META_BLOCK_BYTES];
        block::encode(&Header { kind, owner: OWNER, address, sequence }, &payload, &mut block);
        let mut again = [0; META_BLOCK_BYTES];
        // What decodes is encoded the same way again.
        if let Ok(found) = Superblock::decode(&layout, OWNER, place, &block) {
            found.encode(&layout, place, &mut again);
        } else if let Ok(found) = AlTransaction::decode(&layout, OWNER, place.into(), &block) {
            found.encode(&layout, OWNER, &mut again);
        } else if let Ok(bits) = records::decode_page(&layout, OWNER, place.into(), &block) {
            records::encode_page(&layout, OWNER, place.into(), sequence, bits, &mut again);
        } else {
            return Ok(());
        }
        prop_assert!(again == block);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), META_BLOCK_BYTES)) {
        let block: &Block = bytes.as_slice().try_into().expect("4096 bytes");
        prop_assert!(block::inspect(block).is_err());
    }

    /// Whatever transactions were written, and whichever of them a power cut tore, the newest whole one is
    /// found.
    #[test]
    fn the_newest_transaction_is_found(written in 0..300u64, torn: bool) {
        let mut ring = ring_after(written);
        let newest = ring_newest(written);
        if torn {
            ring[((newest + 1) % AL_RING_BLOCKS) as usize] = Err(BlockError::Checksum);
        }
        prop_assert_eq!(recover(&ring).map(|found| found.sequence), Ok(newest));
    }

    /// No other picture is believed.
    #[test]
    fn any_other_ring_is_unreliable(written in 0..300u64, slot in 0..RING, sequence: u64) {
        let mut ring = ring_after(written);
        let newest = ring_newest(written);
        let place = slot as usize;
        let whole = ring[place].clone();
        if u64::from(slot) != (newest + 1) % AL_RING_BLOCKS {
            ring[place] = Err(BlockError::Checksum);
            // A rotten newest cannot be told from one that was torn before it counted: the limit of this log.
            let is_newest = u64::from(slot) == newest % AL_RING_BLOCKS;
            prop_assert_eq!(recover(&ring).is_err(), !is_newest);
        }
        for reason in [BlockError::Unreadable, BlockError::Blank, BlockError::Content("why")] {
            ring[place] = Err(reason);
            prop_assert!(recover(&ring).is_err());
        }
        let other = AlTransaction { sequence, extents: vec![] };
        let next = other.sequence == newest + 1 && other.slot() == slot;
        if Ok(&other) != whole.as_ref() && !next {
            ring[place] = Ok(other);
            prop_assert!(recover(&ring).is_err());
        }
    }
}

/// A ring after create and so many transactions.
fn ring_after(written: u64) -> Ring {
    let mut ring: Ring = (0..RING).map(|slot| Ok(AlTransaction::initial(slot))).collect();
    for sequence in AL_RING_BLOCKS..AL_RING_BLOCKS + written {
        let transaction = AlTransaction { sequence, extents: vec![] };
        let slot = transaction.slot() as usize;
        ring[slot] = Ok(transaction);
    }
    ring
}

fn ring_newest(written: u64) -> u64 {
    AL_RING_BLOCKS - 1 + written
}

#[test]
fn a_ring_with_a_second_damaged_slot_is_unreliable() {
    let mut ring = ring_after(100);
    ring[36] = Err(BlockError::Checksum);
    assert_eq!(recover(&ring).map(|found| found.sequence), Ok(163));
    ring[37] = Err(BlockError::Checksum);
    let reason = BlockError::Checksum;
    assert_eq!(recover(&ring), Err(Unreliable::Slot { slot: 37, reason }));
}

#[test]
fn a_ring_without_a_transaction_is_unreliable() {
    let ring: Ring = (0..RING).map(|_| Err(BlockError::Blank)).collect();
    assert_eq!(recover(&ring), Err(Unreliable::NoTransaction { reason: BlockError::Blank }));
}

#[test]
fn a_lost_write_leaves_a_gap() {
    let mut ring = ring_after(5);
    ring[2] = Ok(AlTransaction::initial(2));
    assert_eq!(recover(&ring), Err(Unreliable::Gap { slot: 2, found: 2, newest: 68 }));
}

#[test]
fn the_copy_with_the_higher_sequence_is_the_truth() {
    let older = superblock();
    let newer = Superblock { sequence: 11, primary: false, ..older };
    let torn = || Err(BlockError::Checksum);
    assert_eq!(choose(Ok(newer), Ok(older)), Ok(newer));
    assert_eq!(choose(Ok(older), Ok(newer)), Ok(newer));
    assert_eq!(choose(Ok(newer), Ok(newer)), Ok(newer));
    assert_eq!(choose(Ok(older), torn()), Ok(older));
    assert_eq!(choose(Err(BlockError::Unreadable), Ok(older)), Ok(older));
    let twin = Superblock { crashed: true, ..older };
    assert_eq!(choose(Ok(older), Ok(twin)), Err(ChooseError::Differ { sequence: 10 }));
    let (copy0, copy1) = (BlockError::Blank, BlockError::Checksum);
    assert_eq!(choose(Err(copy0), torn()), Err(ChooseError::Neither { copy0, copy1 }));
}

#[test]
fn a_whole_but_wrong_copy_is_never_passed_over() {
    let reasons = [
        BlockError::Version { found: 2 },
        BlockError::Volume { found: VolumeId(8) },
        BlockError::Node { found: NodeId(0) },
        BlockError::Address { found: 0 },
        BlockError::Kind { found: 9 },
        BlockError::Content("why"),
    ];
    for reason in reasons {
        let foreign = |copy| Err(ChooseError::Foreign { copy, reason });
        assert_eq!(choose(Err(reason), Ok(superblock())), foreign(0));
        assert_eq!(choose(Ok(superblock()), Err(reason)), foreign(1));
        assert_eq!(choose(Err(BlockError::Checksum), Err(reason)), foreign(1));
    }
}

#[test]
fn foreign_metadata_is_told_by_name() {
    let layout = layout();
    let mut block = [0; META_BLOCK_BYTES];
    superblock().encode(&layout, 0, &mut block);
    let decode = |owner, copy| Superblock::decode(&layout, owner, copy, &block);
    let other = Owner { volume: VolumeId(8), ..OWNER };
    assert_eq!(decode(other, 0), Err(BlockError::Volume { found: OWNER.volume }));
    let other = Owner { node: NodeId(0), ..OWNER };
    assert_eq!(decode(other, 0), Err(BlockError::Node { found: NodeId(1) }));
    assert_eq!(decode(OWNER, 1), Err(BlockError::Address { found: layout.superblock(0) }));
    let wrong_kind = AlTransaction::decode(&layout, OWNER, 0, &block);
    assert_eq!(wrong_kind, Err(BlockError::Kind { found: 1 }));
}

#[test]
#[should_panic(expected = "an invalid superblock is never written")]
fn a_broken_superblock_is_not_written() {
    let broken = Superblock { current: None, ..superblock() };
    broken.encode(&layout(), 0, &mut [0; META_BLOCK_BYTES]);
}

#[test]
#[should_panic(expected = "an extent is listed twice")]
fn a_broken_transaction_is_not_written() {
    let broken = AlTransaction { sequence: 70, extents: vec![4, 9, 4] };
    broken.encode(&layout(), OWNER, &mut [0; META_BLOCK_BYTES]);
}

#[test]
#[should_panic(expected = "bits_past_the_end")]
fn a_broken_page_is_not_written() {
    let last = layout().pages() - 1;
    let bits = [0xff; PAGE_BIT_BYTES];
    records::encode_page(&layout(), OWNER, last, 0, &bits, &mut [0; META_BLOCK_BYTES]);
}

#[test]
fn a_volume_is_named_by_everything_in_its_configuration() {
    let names = [
        VolumeId::of("swarm", &["docker1", "docker2"]),
        VolumeId::of("swarm", &["docker2", "docker1"]),
        VolumeId::of("swarmd", &["ocker1", "docker2"]),
        VolumeId::of("swarm", &["docker1docker2"]),
        VolumeId::of("swarm", &["docker1", "docker3"]),
    ];
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    // Disks that exist carry it: it must never change.
    assert_eq!(names[0].to_string(), "1150EFD93BC656BFB657466175223087");
}
