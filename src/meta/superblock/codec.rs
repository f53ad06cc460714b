//! The superblock as a payload of a metadata block, little-endian.
//!
//! ```text
//! offset  bytes
//!      0      8  usable_sectors
//!      8      8  agreed_sectors
//!     16      8  instance
//!     24      8  flags, see `flag`
//!     32      8  mark
//!     40      8  peer_mark
//!     48     16  current, zero if none
//!     64     16  base, zero if none
//!     80    264  history
//! ```
//!
//! There is one way to write each superblock: whatever decodes is encoded the same again.

use super::{GenerationId, History, Superblock};
use crate::bytes::{get, put};
use crate::limits::{HISTORY_MAX, META_BLOCK_BYTES};
use crate::meta::block::{self, BlockError, Header, Kind, Owner};
use crate::meta::layout::Layout;

mod at {
    pub(super) const USABLE_SECTORS: usize = 0;
    pub(super) const AGREED_SECTORS: usize = 8;
    pub(super) const INSTANCE: usize = 16;
    pub(super) const FLAGS: usize = 24;
    pub(super) const MARK: usize = 32;
    pub(super) const PEER_MARK: usize = 40;
    pub(super) const CURRENT: usize = 48;
    pub(super) const BASE: usize = 64;
    pub(super) const HISTORY: usize = 80;
    pub(super) const END: usize = HISTORY + super::History::BYTES;
}

const _: () = assert!(at::END == 344 && at::END <= block::PAYLOAD_BYTES_MAX);

mod flag {
    pub(super) const CURRENT: u64 = 1 << 0;
    pub(super) const BASE: u64 = 1 << 1;
    pub(super) const CONSISTENT: u64 = 1 << 2;
    pub(super) const OUTDATED: u64 = 1 << 3;
    pub(super) const PEER_OUTDATED: u64 = 1 << 4;
    pub(super) const PRIMARY: u64 = 1 << 5;
    pub(super) const CRASHED: u64 = 1 << 6;
    pub(super) const PARTED_PRIMARY: u64 = 1 << 7;
    pub(super) const SOLE_SOURCE: u64 = 1 << 8;
}

impl Superblock {
    /// Fills `out` with copy `copy`.
    ///
    /// # Panics
    ///
    /// If an invariant is broken, or the layout is of a disk of another size.
    pub fn encode(&self, layout: &Layout, copy: u8, out: &mut [u8; META_BLOCK_BYTES]) {
        if let Err(why) = self.check() {
            panic!("an invalid superblock is never written: {why}");
        }
        assert!(self.usable_sectors == layout.data_sectors());
        let header = Header {
            kind: Kind::Superblock,
            owner: self.owner(),
            address: layout.superblock(copy),
            sequence: self.sequence,
        };
        block::encode(&header, &self.payload(), out);
    }

    /// Copy `copy` of the superblock of this owner.
    ///
    /// # Errors
    ///
    /// If the block is not a sound superblock of this owner for this place, or breaks an invariant.
    pub fn decode(
        layout: &Layout,
        owner: Owner,
        copy: u8,
        block: &[u8; META_BLOCK_BYTES],
    ) -> Result<Superblock, BlockError> {
        let address = layout.superblock(copy);
        let (sequence, payload) = block::decode(block, Kind::Superblock, owner, address)?;
        Superblock::from_payload(layout, owner, sequence, payload)
    }

    /// Copy `copy` of the superblock of whatever owner: for reading a disk of which nothing is known.
    ///
    /// # Errors
    ///
    /// As for `decode`, without `Volume` and `Node`.
    pub fn inspect(
        layout: &Layout,
        copy: u8,
        block: &[u8; META_BLOCK_BYTES],
    ) -> Result<Superblock, BlockError> {
        let (header, payload) = block::inspect(block)?;
        block::expect_place(&header, Kind::Superblock, layout.superblock(copy))?;
        Superblock::from_payload(layout, header.owner, header.sequence, payload)
    }

    fn payload(&self) -> [u8; at::END] {
        let mut out = [0; at::END];
        let flags = [
            (self.current.is_some(), flag::CURRENT),
            (self.base.is_some(), flag::BASE),
            (self.consistent, flag::CONSISTENT),
            (self.outdated, flag::OUTDATED),
            (self.peer_outdated, flag::PEER_OUTDATED),
            (self.primary, flag::PRIMARY),
            (self.crashed, flag::CRASHED),
            (self.parted_primary, flag::PARTED_PRIMARY),
            (self.sole_source, flag::SOLE_SOURCE),
        ];
        let flags: u64 = flags.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum();
        put(&mut out, at::USABLE_SECTORS, &self.usable_sectors.to_le_bytes());
        put(&mut out, at::AGREED_SECTORS, &self.agreed_sectors.to_le_bytes());
        put(&mut out, at::INSTANCE, &self.instance.to_le_bytes());
        put(&mut out, at::FLAGS, &flags.to_le_bytes());
        put(&mut out, at::MARK, &self.mark.to_le_bytes());
        put(&mut out, at::PEER_MARK, &self.peer_mark.to_le_bytes());
        put(&mut out, at::CURRENT, &self.current.map_or(0, |id| id.0).to_le_bytes());
        put(&mut out, at::BASE, &self.base.map_or(0, |id| id.0).to_le_bytes());
        self.history.encode(&mut out[at::HISTORY..]);
        out
    }

    fn from_payload(
        layout: &Layout,
        owner: Owner,
        sequence: u64,
        payload: &[u8],
    ) -> Result<Superblock, BlockError> {
        let payload: &[u8; at::END] = payload
            .try_into()
            .map_err(|_| BlockError::Content("not the length of a superblock"))?;
        let flags = u64::from_le_bytes(get(payload, at::FLAGS));
        let set = |bit: u64| flags & bit != 0;
        let generation = |at| GenerationId(u128::from_le_bytes(get(payload, at)));
        let superblock = Superblock {
            sequence,
            volume: owner.volume,
            node: owner.node,
            usable_sectors: u64::from_le_bytes(get(payload, at::USABLE_SECTORS)),
            agreed_sectors: u64::from_le_bytes(get(payload, at::AGREED_SECTORS)),
            current: set(flag::CURRENT).then(|| generation(at::CURRENT)),
            base: set(flag::BASE).then(|| generation(at::BASE)),
            history: History::decode(&payload[at::HISTORY..]).map_err(BlockError::Content)?,
            consistent: set(flag::CONSISTENT),
            outdated: set(flag::OUTDATED),
            peer_outdated: set(flag::PEER_OUTDATED),
            primary: set(flag::PRIMARY),
            crashed: set(flag::CRASHED),
            parted_primary: set(flag::PARTED_PRIMARY),
            sole_source: set(flag::SOLE_SOURCE),
            instance: u64::from_le_bytes(get(payload, at::INSTANCE)),
            mark: u64::from_le_bytes(get(payload, at::MARK)),
            peer_mark: u64::from_le_bytes(get(payload, at::PEER_MARK)),
        };
        superblock.check().map_err(BlockError::Content)?;
        if superblock.usable_sectors != layout.data_sectors() {
            return Err(BlockError::Content("it was made for a disk of another size"));
        }
        // This finds unknown flags and whatever stands where zero must.
        if superblock.payload() != *payload {
            return Err(BlockError::Content("bytes or flags without a use are not zero"));
        }
        Ok(superblock)
    }
}

impl History {
    /// Bytes of a history on disk and on the wire: the number of ids as u64, the ids, zeroes.
    pub(crate) const BYTES: usize = 8 + 16 * HISTORY_MAX;

    /// Fills `out`, of [`History::BYTES`] bytes.
    pub(crate) fn encode(&self, out: &mut [u8]) {
        assert!(out.len() == History::BYTES);
        out.fill(0);
        put(out, 0, &(self.iter().count() as u64).to_le_bytes());
        for (index, id) in self.iter().enumerate() {
            put(out, 8 + 16 * index, &id.0.to_le_bytes());
        }
    }

    /// Reads [`History::BYTES`] bytes. Bytes without a use are not checked here: whoever calls compares with
    /// what `encode` makes of the result.
    pub(crate) fn decode(bytes: &[u8]) -> Result<History, &'static str> {
        assert!(bytes.len() == History::BYTES);
        let count = u64::from_le_bytes(get(bytes, 0));
        if count > HISTORY_MAX as u64 {
            return Err("the history is longer than a history can be");
        }
        let mut history = History::default();
        // Oldest first, since each goes to the front.
        for index in (0..count as usize).rev() {
            let id = GenerationId(u128::from_le_bytes(get(bytes, 8 + 16 * index)));
            if history.contains(id) {
                return Err("the history lists a generation twice");
            }
            history.push(id);
        }
        Ok(history)
    }
}
