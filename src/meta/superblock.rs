//! The superblock: who this node is, which generation its data has, and what it knows of the peer.
//!
//! Invariants, asserted before every write and checked after every read:
//!
//! 1. `current` is `None` only for a disk that never held data: then `base` is `None`, the history is
//!    empty and `consistent` is false.
//! 2. `base` is `Some` only while the bitmap tracks what a peer of that generation misses.
//! 3. `sequence` grows by one with each write; the copy with the higher sequence is the truth.
//! 4. `agreed_sectors`, once set, never exceeds `usable_sectors`.
//! 5. `mark` never goes back on one disk, and `peer_mark` is at most what the peer has said to be durable there: a peer
//!    that shows a lower one was restored from an older image.

mod codec;

use super::block::{BlockError, Owner, SEQUENCE_MAX};
use super::layout::Layout;
use crate::limits::HISTORY_MAX;
use std::fmt;

/// No watermark is higher, on disk or on the wire.
pub const MARK_MAX: u64 = SEQUENCE_MAX;

/// Names one state of the data from which it went on in one line only. Never reused.
///
/// Its layout is that of a UUID of version 7 (RFC 9562, section 5.7): when the node made it by its own clock, then the
/// operating system's entropy. The time is for people alone; nothing is decided by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GenerationId(pub u128);

impl GenerationId {
    /// An id made at a time, in milliseconds since 1970, with random bits.
    pub fn made(unix_ms: u64, random: u128) -> GenerationId {
        const VERSION: u128 = 7 << 76;
        const VARIANT: u128 = 0b10 << 62;
        let fixed: u128 = 0xF << 76 | 0b11 << 62;
        let bits = u128::from(unix_ms) << 80 | random & ((1 << 80) - 1) & !fixed;
        GenerationId(bits | VERSION | VARIANT)
    }

    /// When it was made by the clock of the node that made it, in milliseconds since 1970; `None` for an id that says
    /// nothing of it, such as that of disks that were created in sync.
    pub fn made_at(self) -> Option<u64> {
        let timed = self.0 >> 76 & 0xF == 7 && self.0 >> 62 & 0b11 == 0b10;
        timed.then_some((self.0 >> 80) as u64)
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032X}", self.0)
    }
}

impl fmt::Debug for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The random end is enough to tell generations apart in a trace.
        write!(f, "{:08X}", self.0 as u32)
    }
}

/// Names a volume. Derived from the resource name and both node names, so that the two nodes agree on it
/// without having met.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VolumeId(pub u128);

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032X}", self.0)
    }
}

impl fmt::Debug for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl VolumeId {
    /// The volume of the resource `name` with these nodes, in the order of the configuration. Another name,
    /// another node or another order is another volume.
    pub fn of(name: &str, nodes: &[&str]) -> VolumeId {
        /// Made once by chance; sets our ids apart from all others of version 5.
        const NAMESPACE: uuid::Uuid =
            uuid::Uuid::from_u128(0x5f0c_9e0a_7a35_4a1c_b1d7_2f61_8c9d_33e4);
        let mut text = Vec::new();
        for part in std::iter::once(&name).chain(nodes) {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            text.extend_from_slice(&(part.len() as u64).to_le_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        VolumeId(uuid::Uuid::new_v5(&NAMESPACE, &text).as_u128())
    }
}

/// A node of the resource: its place in the configuration, 0 or 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u8);

/// Earlier generations of the data, newest first, at most [`HISTORY_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    ids: [Option<GenerationId>; HISTORY_MAX],
}

impl History {
    /// Adds the newest; the oldest falls out. An id that is already there moves to the front.
    pub fn push(&mut self, id: GenerationId) {
        let known = self.ids.iter().position(|entry| *entry == Some(id));
        let end = known.unwrap_or(HISTORY_MAX - 1);
        self.ids.copy_within(0..end, 1);
        self.ids[0] = Some(id);
    }

    /// True if the data once was of generation `id`.
    pub fn contains(&self, id: GenerationId) -> bool {
        self.iter().any(|entry| entry == id)
    }

    /// Newest first.
    pub fn iter(&self) -> impl Iterator<Item = GenerationId> + '_ {
        self.ids.iter().flatten().copied()
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The superblock as a value. Its two copies on disk are equal but for their address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Grows by one with each write.
    pub sequence: u64,
    /// The volume this disk belongs to.
    pub volume: VolumeId,
    /// The node this disk belongs to.
    pub node: NodeId,
    /// Sectors of this disk's data area.
    pub usable_sectors: u64,
    /// Size of the volume that both nodes agreed on, in sectors; 0 before they first met.
    pub agreed_sectors: u64,
    /// The generation of the data; `None` on a fresh disk.
    pub current: Option<GenerationId>,
    /// The generation our bitmap is relative to: a peer of this generation misses exactly the blocks set.
    /// `None` while nothing is tracked.
    pub base: Option<GenerationId>,
    /// Generations the data went through before.
    pub history: History,
    /// The data is one point in time of the volume. False on a fresh disk and on a resync target.
    pub consistent: bool,
    /// The peer's data is newer: this node left gracefully, or was told so.
    pub outdated: bool,
    /// The peer's data is older than ours, and the peer cannot become Primary without force.
    pub peer_outdated: bool,
    /// The peer may have given up its data for ours since both were last known to be equal: ours may be the only good.
    pub sole_source: bool,
    /// This node was Primary when the superblock was written. Seen at start, it means a crash.
    pub primary: bool,
    /// This node crashed as Primary, and its disk was not compared with the peer's since.
    pub crashed: bool,
    /// This node was Primary when `current` was made from `base`.
    pub parted_primary: bool,
    /// Number of times this disk was attached: names the life of a daemon.
    pub instance: u64,
    /// Watermark of this disk. It grows only together with the peer, so no life apart can catch up with it.
    pub mark: u64,
    /// The highest watermark that the peer has said to be durable on its disk.
    pub peer_mark: u64,
}

impl Superblock {
    /// That of a disk which was just created and has never met its peer: with the data of generation `current`, or with
    /// none.
    pub fn fresh(owner: Owner, layout: &Layout, current: Option<GenerationId>) -> Superblock {
        Superblock {
            sequence: 1,
            volume: owner.volume,
            node: owner.node,
            usable_sectors: layout.data_sectors(),
            agreed_sectors: 0,
            current,
            base: None,
            history: History::default(),
            consistent: current.is_some(),
            outdated: false,
            peer_outdated: false,
            sole_source: false,
            primary: false,
            crashed: false,
            parted_primary: false,
            instance: 0,
            mark: 0,
            peer_mark: 0,
        }
    }

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        Owner { volume: self.volume, node: self.node }
    }

    /// The invariants at the head of this file, as far as one superblock shows them.
    ///
    /// # Errors
    ///
    /// The first that is broken, as half a sentence.
    pub fn check(&self) -> Result<(), &'static str> {
        let fresh = self.base.is_none() && self.history == History::default() && !self.consistent;
        if self.current.is_none() && !fresh {
            return Err("data without a generation cannot be consistent, tracked or have a past");
        }
        if self.agreed_sectors > self.usable_sectors {
            return Err("the agreed size is larger than the disk");
        }
        let counters = [self.sequence, self.instance, self.mark, self.peer_mark];
        if counters.iter().any(|counter| *counter > SEQUENCE_MAX) {
            return Err("a counter is higher than any real one");
        }
        Ok(())
    }
}

/// Why a disk's superblock is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChooseError {
    /// Neither copy is there. Two times [`BlockError::Blank`] is a disk without metadata.
    Neither {
        /// What is wrong with copy 0.
        copy0: BlockError,
        /// What is wrong with copy 1.
        copy1: BlockError,
    },
    /// A copy is whole, but of somebody else, of another version, for another place, or invalid. It may be
    /// newer than the other copy, so that is not believed either.
    Foreign {
        /// Which copy.
        copy: u8,
        /// What is wrong with it.
        reason: BlockError,
    },
    /// Both copies have the same sequence and say different things.
    Differ {
        /// The sequence.
        sequence: u64,
    },
}

impl fmt::Display for ChooseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChooseError::Neither { copy0, copy1 } => {
                write!(f, "No copy of the superblock is usable; copy 0: {copy0}; copy 1: {copy1}")
            }
            ChooseError::Foreign { copy, reason } => {
                write!(f, "Copy {copy} of the superblock is not ours to use: {reason}")
            }
            ChooseError::Differ { sequence } => {
                write!(f, "The copies of the superblock contradict each other at number {sequence}")
            }
        }
    }
}

impl std::error::Error for ChooseError {}

/// The superblock of a disk, given what its two copies decode to.
///
/// | copy 0 | copy 1 | result |
/// |---|---|---|
/// | valid | valid | the higher sequence; equal sequences must be equal throughout |
/// | valid | damaged | copy 0 |
/// | damaged | valid | copy 1 |
/// | damaged | damaged | `Neither` |
/// | whole but wrong | any | `Foreign`, and the other way round |
///
/// A copy is damaged if [`BlockError::is_damage`] says so. Since copies are written one after the other, the
/// one that remains is the last that was complete.
///
/// # Errors
///
/// See the table.
pub fn choose(
    copy0: Result<Superblock, BlockError>,
    copy1: Result<Superblock, BlockError>,
) -> Result<Superblock, ChooseError> {
    for (copy, result) in [(0, &copy0), (1, &copy1)] {
        match result {
            Err(reason) if !reason.is_damage() => {
                return Err(ChooseError::Foreign { copy, reason: *reason });
            }
            _ => {}
        }
    }
    match (copy0, copy1) {
        (Ok(a), Ok(b)) if a.sequence == b.sequence && a != b => {
            Err(ChooseError::Differ { sequence: a.sequence })
        }
        (Ok(a), Ok(b)) if b.sequence > a.sequence => Ok(b),
        (Ok(superblock), _) | (_, Ok(superblock)) => Ok(superblock),
        (Err(copy0), Err(copy1)) => Err(ChooseError::Neither { copy0, copy1 }),
    }
}
