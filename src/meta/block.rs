//! The header that every metadata block shares, and the checks that come before any of its content is
//! believed.
//!
//! A block that decodes was written whole, by this node, for this volume, to this place. Nothing else ever
//! decodes: a torn, rotten, foreign or misdirected write is an error with a reason. No I/O here.
//!
//! ```text
//! offset  bytes  little-endian
//!      0      8  magic "rblkmeta"                    ┐ these three keep their place and meaning in every
//!      8      2  format version                      │ version, so that a newer block is told from a
//!    124      4  crc32c of the block, these 4 zero   ┘ rotten one
//!     10      1  kind: 1 superblock, 2 activity log, 3 bitmap page
//!     11      1  node
//!     12      4  bytes of payload, at most 3,968
//!     16     16  volume
//!     32      8  address: offset of this block on its disk, in bytes
//!     40      8  sequence: by kind
//!     48     76  zero
//!    128  3,968  payload, then zeroes
//! ```

use super::superblock::{NodeId, VolumeId};
use crate::bytes::{all_zero, get, put};
use crate::limits::META_BLOCK_BYTES;
use std::fmt;

/// The version of the metadata format that this build writes, and the only one it reads.
///
/// | version | what changed |
/// |---|---|
/// | 1 | the first |
pub const FORMAT_VERSION: u16 = 1;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 128;

/// Bytes of payload that a block holds.
pub const PAYLOAD_BYTES_MAX: usize = META_BLOCK_BYTES - HEADER_BYTES;

/// No sequence is higher: at a million writes per second it lasts for 146,000 years, and below it adding one
/// never overflows, whatever a disk claims.
pub const SEQUENCE_MAX: u64 = 1 << 62;

const MAGIC: [u8; 8] = *b"rblkmeta";

mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 8;
    pub(super) const KIND: usize = 10;
    pub(super) const NODE: usize = 11;
    pub(super) const PAYLOAD_BYTES: usize = 12;
    pub(super) const VOLUME: usize = 16;
    pub(super) const ADDRESS: usize = 32;
    pub(super) const SEQUENCE: usize = 40;
    pub(super) const SPARE: usize = 48;
    pub(super) const CHECKSUM: usize = 124;
}

const _: () = {
    assert!(at::VERSION == at::MAGIC + MAGIC.len());
    assert!(at::SPARE == at::SEQUENCE + 8);
    assert!(at::CHECKSUM + 4 == HEADER_BYTES);
    assert!(PAYLOAD_BYTES_MAX == 3968);
};

/// What a metadata block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A copy of the superblock.
    Superblock,
    /// A transaction of the activity log.
    ActivityLog,
    /// A page of the dirty bitmap.
    BitmapPage,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Superblock => 1,
            Kind::ActivityLog => 2,
            Kind::BitmapPage => 3,
        }
    }

    fn from_code(code: u8) -> Option<Kind> {
        [Kind::Superblock, Kind::ActivityLog, Kind::BitmapPage]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// Whose metadata it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The volume.
    pub volume: VolumeId,
    /// The node.
    pub node: NodeId,
}

/// The header of a metadata block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the block holds.
    pub kind: Kind,
    /// Whose it is.
    pub owner: Owner,
    /// Its place: offset on the disk in bytes.
    pub address: u64,
    /// Its number, by kind; at most [`SEQUENCE_MAX`].
    pub sequence: u64,
}

/// Why a metadata block is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockError {
    /// The disk did not give it. Never made here: for callers that read.
    Unreadable,
    /// All bytes are zero.
    Blank,
    /// It does not begin with the magic number.
    Magic,
    /// Its checksum is wrong.
    Checksum,
    /// Its format has another version.
    Version {
        /// The version found.
        found: u16,
    },
    /// It is of another volume.
    Volume {
        /// The volume found.
        found: VolumeId,
    },
    /// It is of another node.
    Node {
        /// The node found.
        found: NodeId,
    },
    /// It was written for another place.
    Address {
        /// The place it was written for, in bytes.
        found: u64,
    },
    /// It holds something else.
    Kind {
        /// The kind found, as a number.
        found: u8,
    },
    /// Its content breaks a rule.
    Content(&'static str),
}

impl BlockError {
    /// True if what was there is gone: a torn write, a bad sector, or never written. Such a block tells
    /// nothing.
    ///
    /// False if the block is whole but must not be here or not be so. It may hide a newer one, so it is never
    /// passed over in favour of another copy.
    pub fn is_damage(&self) -> bool {
        match self {
            BlockError::Unreadable
            | BlockError::Blank
            | BlockError::Magic
            | BlockError::Checksum => true,
            BlockError::Version { .. }
            | BlockError::Volume { .. }
            | BlockError::Node { .. }
            | BlockError::Address { .. }
            | BlockError::Kind { .. }
            | BlockError::Content(_) => false,
        }
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockError::Unreadable => f.write_str("The disk could not read the block"),
            BlockError::Blank => {
                f.write_str("The block is all zeroes: no metadata was ever written here")
            }
            BlockError::Magic => f.write_str("The block is not rblk metadata: wrong magic number"),
            BlockError::Checksum => f.write_str(
                "The checksum is wrong: the block was torn by a power cut or has decayed",
            ),
            BlockError::Version { found } => write!(
                f,
                "The block has format version {found}, and this rblk reads version {FORMAT_VERSION}"
            ),
            BlockError::Volume { found } => write!(f, "The block belongs to volume {found}"),
            BlockError::Node { found } => write!(f, "The block belongs to node {}", found.0),
            BlockError::Address { found } => write!(
                f,
                "The block was written for byte {found}: a misdirected write or a copied disk"
            ),
            BlockError::Kind { found } => write!(f, "The block holds a record of kind {found}"),
            BlockError::Content(why) => write!(f, "The content is invalid: {why}"),
        }
    }
}

impl std::error::Error for BlockError {}

/// Fills `out` with a block of this header and payload.
///
/// # Panics
///
/// If the payload is longer than [`PAYLOAD_BYTES_MAX`] or the sequence higher than [`SEQUENCE_MAX`].
pub fn encode(header: &Header, payload: &[u8], out: &mut [u8; META_BLOCK_BYTES]) {
    assert!(payload.len() <= PAYLOAD_BYTES_MAX);
    assert!(header.sequence <= SEQUENCE_MAX);
    assert!(header.address.is_multiple_of(META_BLOCK_BYTES as u64));
    out.fill(0);
    put(out, at::MAGIC, &MAGIC);
    put(out, at::VERSION, &FORMAT_VERSION.to_le_bytes());
    out[at::KIND] = header.kind.code();
    out[at::NODE] = header.owner.node.0;
    put(out, at::PAYLOAD_BYTES, &(payload.len() as u32).to_le_bytes());
    put(out, at::VOLUME, &header.owner.volume.0.to_le_bytes());
    put(out, at::ADDRESS, &header.address.to_le_bytes());
    put(out, at::SEQUENCE, &header.sequence.to_le_bytes());
    put(out, HEADER_BYTES, payload);
    let checksum = checksum(out);
    put(out, at::CHECKSUM, &checksum.to_le_bytes());
}

/// The sequence and the payload of a block that must be of this kind, owner and address.
///
/// # Errors
///
/// Any [`BlockError`] but `Unreadable`.
pub fn decode(
    block: &[u8; META_BLOCK_BYTES],
    kind: Kind,
    owner: Owner,
    address: u64,
) -> Result<(u64, &[u8]), BlockError> {
    let (header, payload) = inspect(block)?;
    let found = header.owner;
    if found.volume != owner.volume {
        return Err(BlockError::Volume { found: found.volume });
    }
    if found.node != owner.node {
        return Err(BlockError::Node { found: found.node });
    }
    expect_place(&header, kind, address)?;
    Ok((header.sequence, payload))
}

/// An error unless the block is of this kind and was written for this address.
pub(super) fn expect_place(header: &Header, kind: Kind, address: u64) -> Result<(), BlockError> {
    if header.kind != kind {
        let found = header.kind.code();
        return Err(BlockError::Kind { found });
    }
    if header.address != address {
        let found = header.address;
        return Err(BlockError::Address { found });
    }
    Ok(())
}

/// The header and the payload of a block of whatever kind, owner and address: for reading a disk of which
/// nothing is known.
///
/// # Errors
///
/// What can be told from the block alone: `Blank`, `Magic`, `Checksum`, `Version`, `Kind`, `Content`.
pub fn inspect(block: &[u8; META_BLOCK_BYTES]) -> Result<(Header, &[u8]), BlockError> {
    if get(block, at::MAGIC) != MAGIC {
        return Err(if all_zero(block) { BlockError::Blank } else { BlockError::Magic });
    }
    if u32::from_le_bytes(get(block, at::CHECKSUM)) != checksum(block) {
        return Err(BlockError::Checksum);
    }
    let found = u16::from_le_bytes(get(block, at::VERSION));
    if found != FORMAT_VERSION {
        return Err(BlockError::Version { found });
    }
    let found = block[at::KIND];
    let kind = Kind::from_code(found).ok_or(BlockError::Kind { found })?;
    let owner = Owner {
        volume: VolumeId(u128::from_le_bytes(get(block, at::VOLUME))),
        node: NodeId(block[at::NODE]),
    };
    let address = u64::from_le_bytes(get(block, at::ADDRESS));
    let sequence = u64::from_le_bytes(get(block, at::SEQUENCE));
    let header = Header { kind, owner, address, sequence };
    Ok((header, payload(block, sequence)?))
}

/// The payload of a block whose checksum is right.
fn payload(block: &[u8; META_BLOCK_BYTES], sequence: u64) -> Result<&[u8], BlockError> {
    if sequence > SEQUENCE_MAX {
        return Err(BlockError::Content("its sequence is higher than any real one"));
    }
    let bytes = u32::from_le_bytes(get(block, at::PAYLOAD_BYTES)) as usize;
    let (payload, rest) = block[HEADER_BYTES..]
        .split_at_checked(bytes)
        .ok_or(BlockError::Content("its payload is longer than a block"))?;
    if !all_zero(&block[at::SPARE..at::CHECKSUM]) || !all_zero(rest) {
        return Err(BlockError::Content("bytes without a use are not zero"));
    }
    Ok(payload)
}

/// crc32c of the block as if its checksum field were zero.
fn checksum(block: &[u8; META_BLOCK_BYTES]) -> u32 {
    let crc = crc32c::crc32c(&block[..at::CHECKSUM]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &block[HEADER_BYTES..])
}
