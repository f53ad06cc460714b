//! The records besides the superblock: transactions of the activity log, and pages of the dirty bitmap.
//!
//! # Activity log
//!
//! A ring of [`AL_RING_BLOCKS`] slots. Transaction `n` lives in slot `n % AL_RING_BLOCKS` and lists *all*
//! active extents, so the newest one alone is the truth. One transaction is in flight at a time.
//!
//! ```text
//! slot       0    1    2    3    4   …   63        newest: 66, in slot 2
//! sequence   64   65   66   3    4   …   63        slot 3 torn: 67 was being written, does not count
//!                           ▲ the only slot that a power cut can tear
//! ```
//!
//! A torn block mixes two sound ones, so it shows a wrong checksum and nothing else: an unreadable or blank
//! slot is not torn but lost. What cannot be told is a newest transaction that was written whole and whose
//! bytes changed later without a read error: it looks torn, and the one before it is taken.
//!
//! At create every slot gets [`AlTransaction::initial`], so each other picture, be it a second damaged slot
//! or a number out of order, means that the disk lost something. Then nothing is known, and [`recover`] says
//! so: the caller takes every block for dirty.
//!
//! # Bitmap
//!
//! Page `p` holds the bits of blocks `p * PAGE_BLOCKS ..`, lowest bit of the first byte first. Its number is
//! not stored: the address of the block tells it. Bits past the data area are zero.

use super::block::{self, BlockError, Header, Kind, Owner, PAYLOAD_BYTES_MAX};
use super::layout::Layout;
use crate::bytes::{all_zero, put};
use crate::limits::{AL_RING_BLOCKS, AL_SLOTS, META_BLOCK_BYTES, PAGE_BIT_BYTES};
use std::fmt;

const _: () = {
    assert!(AL_SLOTS * 4 == PAYLOAD_BYTES_MAX);
    assert!(PAGE_BIT_BYTES == PAYLOAD_BYTES_MAX);
};

/// The complete set of active extents at one time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlTransaction {
    /// Its number; the next has one more.
    pub sequence: u64,
    /// The active extents in any order, none twice, at most [`AL_SLOTS`]. Refill one vector of that capacity,
    /// and nothing is allocated.
    pub extents: Vec<u32>,
}

impl AlTransaction {
    /// What slot `slot` holds on a fresh disk.
    pub fn initial(slot: u32) -> AlTransaction {
        assert!(u64::from(slot) < AL_RING_BLOCKS);
        AlTransaction { sequence: u64::from(slot), extents: Vec::new() }
    }

    /// The slot that the transaction lives in.
    pub fn slot(&self) -> u32 {
        (self.sequence % AL_RING_BLOCKS) as u32
    }

    /// Fills `out` with the block for slot [`AlTransaction::slot`].
    ///
    /// # Panics
    ///
    /// If the extents are too many, not all different, or not all of the volume.
    pub fn encode(&self, layout: &Layout, owner: Owner, out: &mut [u8; META_BLOCK_BYTES]) {
        if let Err(why) = check_extents(&self.extents, layout) {
            panic!("an invalid transaction is never written: {why}");
        }
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        for (index, extent) in self.extents.iter().enumerate() {
            put(&mut payload, index * 4, &extent.to_le_bytes());
        }
        let header = Header {
            kind: Kind::ActivityLog,
            owner,
            address: layout.al_slot(self.slot()),
            sequence: self.sequence,
        };
        block::encode(&header, &payload[..self.extents.len() * 4], out);
    }

    /// The transaction in slot `slot`.
    ///
    /// # Errors
    ///
    /// If the block is not a sound transaction of this owner for this slot.
    pub fn decode(
        layout: &Layout,
        owner: Owner,
        slot: u32,
        block: &[u8; META_BLOCK_BYTES],
    ) -> Result<AlTransaction, BlockError> {
        let address = layout.al_slot(slot);
        let (sequence, payload) = block::decode(block, Kind::ActivityLog, owner, address)?;
        let (extents, rest) = payload.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(BlockError::Content("part of an extent number"));
        }
        let extents = extents.iter().map(|raw| u32::from_le_bytes(*raw)).collect();
        let transaction = AlTransaction { sequence, extents };
        check_extents(&transaction.extents, layout).map_err(BlockError::Content)?;
        if transaction.slot() != slot {
            return Err(BlockError::Content("its sequence belongs into another slot"));
        }
        Ok(transaction)
    }
}

/// The rules for a set of extents.
fn check_extents(extents: &[u32], layout: &Layout) -> Result<(), &'static str> {
    if extents.len() > AL_SLOTS {
        return Err("more extents than the activity log has slots");
    }
    if extents.iter().any(|extent| *extent >= layout.extents()) {
        return Err("an extent lies outside the volume");
    }
    let mut sorted = [0; AL_SLOTS];
    let sorted = &mut sorted[..extents.len()];
    sorted.copy_from_slice(extents);
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("an extent is listed twice");
    }
    Ok(())
}

/// The activity log cannot tell what was active: every block must be taken for dirty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreliable {
    /// No slot holds a transaction.
    NoTransaction {
        /// What is wrong with slot 0.
        reason: BlockError,
    },
    /// A slot is bad that no power cut can have damaged.
    Slot {
        /// Which.
        slot: u32,
        /// What is wrong with it.
        reason: BlockError,
    },
    /// A slot holds a transaction that must have been overwritten.
    Gap {
        /// Which.
        slot: u32,
        /// The sequence it has.
        found: u64,
        /// The newest sequence of the ring.
        newest: u64,
    },
}

impl fmt::Display for Unreliable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreliable::NoTransaction { reason } => {
                write!(f, "The activity log holds no transaction; slot 0: {reason}")
            }
            Unreliable::Slot { slot, reason } => {
                write!(f, "Slot {slot} of the activity log is lost: {reason}")
            }
            Unreliable::Gap { slot, found, newest } => write!(
                f,
                "Slot {slot} of the activity log holds transaction {found} while the newest is \
                 {newest}: the disk lost a write"
            ),
        }
    }
}

impl std::error::Error for Unreliable {}

/// The newest transaction of the ring, given what each slot decodes to, slot 0 first. A slot that could not
/// be read is [`BlockError::Unreadable`].
///
/// # Errors
///
/// [`Unreliable`] unless all slots agree that it is the newest; see the head of this file.
///
/// # Panics
///
/// If not exactly [`AL_RING_BLOCKS`] slots are given.
pub fn recover(ring: &[Result<AlTransaction, BlockError>]) -> Result<AlTransaction, Unreliable> {
    assert!(ring.len() as u64 == AL_RING_BLOCKS);
    let transactions = ring.iter().filter_map(|slot| slot.as_ref().ok());
    let newest = match (transactions.max_by_key(|found| found.sequence), &ring[0]) {
        (Some(newest), _) => newest,
        (None, Err(reason)) => return Err(Unreliable::NoTransaction { reason: *reason }),
        (None, Ok(_)) => unreachable!("slot 0 is a transaction"),
    };
    for (slot, found) in (0..).zip(ring) {
        check_slot(slot, found, newest)?;
    }
    Ok(newest.clone())
}

/// The rule for one slot, once the newest transaction is known.
fn check_slot(
    slot: u32,
    found: &Result<AlTransaction, BlockError>,
    newest: &AlTransaction,
) -> Result<(), Unreliable> {
    let ring = AL_RING_BLOCKS as u32;
    // How many transactions ago the slot was written: 0 for the newest, 63 for the next to be overwritten.
    let age = (newest.slot() + ring - slot) % ring;
    match found {
        Ok(found) if found.sequence.checked_add(u64::from(age)) == Some(newest.sequence) => Ok(()),
        Ok(found) => {
            let (found, newest) = (found.sequence, newest.sequence);
            Err(Unreliable::Gap { slot, found, newest })
        }
        Err(BlockError::Checksum) if age == ring - 1 => Ok(()),
        Err(reason) => Err(Unreliable::Slot { slot, reason: *reason }),
    }
}

/// Fills `out` with the block for page `page` of the bitmap. `sequence` is for diagnosis: it may tell in
/// which step of metadata the page was written, and nothing depends on it.
///
/// # Panics
///
/// If there is no such page, or a bit past the data area is set.
pub fn encode_page(
    layout: &Layout,
    owner: Owner,
    page: u32,
    sequence: u64,
    bits: &[u8; PAGE_BIT_BYTES],
    out: &mut [u8; META_BLOCK_BYTES],
) {
    assert!(!bits_past_the_end(layout, page, bits));
    let address = layout.bitmap_page(page);
    let header = Header { kind: Kind::BitmapPage, owner, address, sequence };
    block::encode(&header, bits, out);
}

/// The bits of page `page` of the bitmap.
///
/// # Errors
///
/// If the block is not a sound page of this owner with this number: then all its bits must be taken for set.
pub fn decode_page<'a>(
    layout: &Layout,
    owner: Owner,
    page: u32,
    block: &'a [u8; META_BLOCK_BYTES],
) -> Result<&'a [u8; PAGE_BIT_BYTES], BlockError> {
    let address = layout.bitmap_page(page);
    let (_, payload) = block::decode(block, Kind::BitmapPage, owner, address)?;
    let bits: &[u8; PAGE_BIT_BYTES] =
        payload.try_into().map_err(|_| BlockError::Content("not a whole page of bits"))?;
    if bits_past_the_end(layout, page, bits) {
        return Err(BlockError::Content("bits past the end of the data area are set"));
    }
    Ok(bits)
}

/// True if a bit is set that stands for no block.
fn bits_past_the_end(layout: &Layout, page: u32, bits: &[u8; PAGE_BIT_BYTES]) -> bool {
    let blocks = layout.page_blocks(page);
    let used = (blocks.end - blocks.start) as usize;
    let partial = bits.get(used / 8).is_some_and(|byte| byte >> (used % 8) != 0);
    partial || !all_zero(bits.get(used / 8 + 1..).unwrap_or_default())
}
