//! What can be asked of the disk, and what it answers.

use crate::io::faults::OpClass;
use crate::limits::META_BLOCK_BYTES;
use crate::replica::event::Buf;
use crate::wire::message::ZeroKind;

/// What to do. Offsets and lengths are in bytes, from the start of the disk, in whole logical blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Read into a payload buffer.
    Read {
        /// Where.
        offset: u64,
        /// How much, at most a buffer.
        len: u32,
        /// Into what.
        buf: Buf,
        /// Tell whether all bytes are zero.
        detect_zero: bool,
    },
    /// Write a payload buffer.
    Write {
        /// Where.
        offset: u64,
        /// How much, at most a buffer.
        len: u32,
        /// The content.
        buf: Buf,
        /// On stable media before it ends.
        fua: bool,
    },
    /// Leave zeroes to be read.
    Zero {
        /// Where.
        offset: u64,
        /// How much.
        len: u64,
        /// Whether the space may be given back.
        kind: ZeroKind,
        /// On stable media before it ends.
        fua: bool,
    },
    /// Put all writes that have ended on stable media.
    Flush,
    /// Read a metadata block into a buffer of [`Disk::meta`].
    MetaRead {
        /// Where.
        offset: u64,
        /// Into what.
        block: Buf,
    },
    /// Write a metadata block from a buffer of [`Disk::meta`]; on stable media before it ends.
    MetaWrite {
        /// Where.
        offset: u64,
        /// The content.
        block: Buf,
    },
}

impl Work {
    pub(super) fn range(&self) -> (u64, u64) {
        match *self {
            Work::Read { offset, len, .. } | Work::Write { offset, len, .. } => {
                (offset, len.into())
            }
            Work::Zero { offset, len, .. } => (offset, len),
            Work::Flush => (0, 0),
            Work::MetaRead { offset, .. } | Work::MetaWrite { offset, .. } => {
                (offset, META_BLOCK_BYTES as u64)
            }
        }
    }

    pub(super) fn class(&self) -> OpClass {
        match self {
            Work::Read { .. } | Work::MetaRead { .. } => OpClass::Read,
            Work::Write { fua: false, .. } => OpClass::Write,
            Work::Write { fua: true, .. } | Work::MetaWrite { .. } => OpClass::StableWrite,
            Work::Zero { .. } => OpClass::Zero,
            Work::Flush => OpClass::Flush,
        }
    }
}

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskRequest {
    /// Returned with the result.
    pub user: u64,
    /// What to do.
    pub what: Work,
}

/// A request has ended. Its buffer is the caller's again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskDone {
    /// From the request.
    pub user: u64,
    /// All bytes done, or not.
    pub result: Result<(), DiskError>,
    /// All bytes read are zero. Only if it was asked for.
    pub zero: bool,
}

/// Why a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskError {
    pub(super) class: OpClass,
    pub(super) offset: u64,
    pub(super) len: u64,
    /// `None` if the kernel did nothing and gave no reason: the end of the disk.
    pub(super) errno: Option<i32>,
}

impl std::fmt::Display for DiskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (len, offset) = (self.len, self.offset);
        match self.class {
            OpClass::Read => write!(f, "Reading {len} bytes at {offset} failed: ")?,
            OpClass::Write | OpClass::StableWrite => {
                write!(f, "Writing {len} bytes at {offset} failed: ")?;
            }
            OpClass::Zero => write!(f, "Zeroing {len} bytes at {offset} failed: ")?,
            OpClass::Flush => write!(f, "Flushing failed: ")?,
        }
        match self.errno {
            Some(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(errno)),
            None => write!(f, "the disk ends there"),
        }
    }
}

impl std::error::Error for DiskError {}
