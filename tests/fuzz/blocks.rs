//! Metadata blocks: whatever decodes is encoded to the same bytes again, and was written for this very place.

use super::input::Input;
use rblk::limits::{AL_RING_BLOCKS, META_BLOCK_BYTES};
use rblk::meta::block::{self, BlockError, Owner};
use rblk::meta::layout::Layout;
use rblk::meta::records::{self, AlTransaction};
use rblk::meta::superblock::{NodeId, Superblock, VolumeId};

/// As in the vectors, which are seeds of this target.
const OWNER: Owner =
    Owner { volume: VolumeId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff), node: NodeId(1) };
const DISK_BYTES: u64 = 64 << 20;

type Block = [u8; META_BLOCK_BYTES];

/// First a byte for the place and what is repaired, then a number, then the block; what is missing of it is zero.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (how, number) = (input.byte(), u32::from(input.byte()));
    let rest = input.take(META_BLOCK_BYTES);
    let mut found = [0; META_BLOCK_BYTES];
    found[..rest.len()].copy_from_slice(rest);
    if how & 0x80 != 0 {
        seal(&mut found);
    }
    let layout = Layout::of_disk(DISK_BYTES).expect("a usual size");
    let verdict = match how & 3 {
        0 => superblock(&layout, (number % 2) as u8, &found),
        1 => transaction(&layout, number % AL_RING_BLOCKS as u32, &found),
        _ => page(&layout, number % layout.pages(), &found),
    };
    if let Err(error) = verdict {
        assert!(!error.to_string().is_empty());
    }
}

/// Makes the checksum right.
pub(crate) fn seal(block: &mut Block) {
    let checksum = crc32c::crc32c(&block[..124]);
    let checksum = crc32c::crc32c_append(checksum, &[0; 4]);
    let checksum = crc32c::crc32c_append(checksum, &block[128..]);
    block[124..128].copy_from_slice(&checksum.to_le_bytes());
}

fn superblock(layout: &Layout, copy: u8, found: &Block) -> Result<(), BlockError> {
    let inspected = Superblock::inspect(layout, copy, found);
    let superblock = Superblock::decode(layout, OWNER, copy, found)?;
    assert_eq!(inspected, Ok(superblock));
    assert_eq!(superblock.check(), Ok(()));
    let mut again = [0; META_BLOCK_BYTES];
    superblock.encode(layout, copy, &mut again);
    assert!(again == *found, "a superblock is encoded differently");
    Ok(())
}

fn transaction(layout: &Layout, slot: u32, found: &Block) -> Result<(), BlockError> {
    let transaction = AlTransaction::decode(layout, OWNER, slot, found)?;
    assert_eq!(transaction.slot(), slot);
    let mut again = [0; META_BLOCK_BYTES];
    transaction.encode(layout, OWNER, &mut again);
    assert!(again == *found, "a transaction is encoded differently");
    Ok(())
}

fn page(layout: &Layout, page: u32, found: &Block) -> Result<(), BlockError> {
    let bits = records::decode_page(layout, OWNER, page, found)?;
    let (header, _) = block::inspect(found)?;
    let mut again = [0; META_BLOCK_BYTES];
    records::encode_page(layout, OWNER, page, header.sequence, bits, &mut again);
    assert!(again == *found, "a page is encoded differently");
    Ok(())
}
