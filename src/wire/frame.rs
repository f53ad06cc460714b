//! A message as bytes: a header of 64, for some messages an extension, then the payload. No I/O here.
//!
//! Lengths are checked before anything is read or added up; a frame that decodes is the
//! one way to write its message, byte for byte. No input panics, and nothing is allocated.
//!
//! ```text
//! stream:   | header, 64 bytes | extension, by type | payload, by type and span | next header …
//!
//! offset  bytes  header, little-endian; what a message does not use is zero
//!      0      4  magic "rblk"
//!      4      1  type
//!      5      1  code: role, outcome, refusal or kind of zeroes
//!      6      1  flag: 0 or 1
//!      7      1  zero
//!      8      8  id
//!     16      8  first sector of the span
//!     24      4  sectors of the span
//!     28      4  bytes of payload, at most IO_BYTES_MAX
//!     32      4  crc32c of the payload; 0 without payload
//!     36      4  bytes of extension, at most 512
//!     40      4  crc32c of the extension; 0 without extension
//!     44      4  page
//!     48      2  Hello: oldest protocol version the sender speaks
//!     50      2  Hello: newest
//!     52      8  zero
//!     60      4  crc32c of the 60 bytes before
//! ```
//!
//! # What every version keeps
//!
//! Two nodes say Hello before they know of each other's version. So for ever: the header's length and
//! checksum, the types 1 (Hello) and 3 (Refuse), code 1 of Refuse (no version in common), and the fields of
//! Hello here and in its extension. A later version may append to the extension of Hello; a node takes what
//! it knows and skips the rest, but only if the sender's newest version is newer than its own.

mod codes;
mod error;
mod extension;
mod fields;
#[cfg(test)]
mod tests;

pub use error::FrameError;

use super::message::Message;
use crate::bytes::{get, put};
use crate::limits::IO_BYTES_MAX;
use codes::{Code, Kind};
use fields::Fields;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 64;
/// Bytes that an extension has at most.
pub const EXTENSION_BYTES_MAX: usize = 512;
/// Bytes of a frame at most, without its payload.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + EXTENSION_BYTES_MAX;

const MAGIC: [u8; 4] = *b"rblk";

mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const KIND: usize = 4;
    pub(super) const CODE: usize = 5;
    pub(super) const FLAG: usize = 6;
    pub(super) const ID: usize = 8;
    pub(super) const SPAN_START: usize = 16;
    pub(super) const SPAN_SECTORS: usize = 24;
    pub(super) const PAYLOAD_BYTES: usize = 28;
    pub(super) const PAYLOAD_CRC: usize = 32;
    pub(super) const EXTENSION_BYTES: usize = 36;
    pub(super) const EXTENSION_CRC: usize = 40;
    pub(super) const PAGE: usize = 44;
    pub(super) const PROTOCOL_MIN: usize = 48;
    pub(super) const PROTOCOL_MAX: usize = 50;
    pub(super) const SPARE: usize = 52;
    pub(super) const CRC: usize = 60;
}

const _: () = {
    assert!(at::PAYLOAD_BYTES + 4 == at::PAYLOAD_CRC && at::EXTENSION_CRC + 4 == at::PAGE);
    assert!(at::SPARE == at::PROTOCOL_MAX + 2 && at::CRC == at::SPARE + 8);
    assert!(at::CRC + 4 == HEADER_BYTES);
    assert!(IO_BYTES_MAX <= u32::MAX as usize);
};

/// Puts header and extension of `message` into `out` and returns their length. `payload_crc` is the crc32c of
/// the payload, 0 without payload.
///
/// # Panics
///
/// If the message is one that no peer would accept: see [`FrameError::Value`].
pub fn encode(message: &Message, payload_crc: u32, out: &mut [u8; FRAME_BYTES_MAX]) -> usize {
    if let Err(why) = fields::check(message) {
        panic!("an invalid message is never sent: {why}");
    }
    let payload_bytes = message.payload_bytes();
    assert!(payload_bytes > 0 || payload_crc == 0);
    let (header, extension) = out.split_at_mut(HEADER_BYTES);
    let extension_bytes = extension::encode(message, extension);
    let extension = &extension[..extension_bytes];
    let lengths = Lengths {
        payload_bytes: payload_bytes as u32,
        payload_crc,
        extension_bytes: extension_bytes as u32,
        extension_crc: crc32c::crc32c(extension),
    };
    header.copy_from_slice(&seal(&Fields::of(message), &lengths));
    HEADER_BYTES + extension_bytes
}

/// What follows a header: lengths in bytes, and checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Lengths {
    payload_bytes: u32,
    payload_crc: u32,
    extension_bytes: u32,
    extension_crc: u32,
}

/// The bytes of a header.
fn seal(fields: &Fields, lengths: &Lengths) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    put(&mut out, at::MAGIC, &MAGIC);
    out[at::KIND] = fields.kind.code();
    out[at::CODE] = fields.code;
    out[at::FLAG] = fields.flag;
    put(&mut out, at::ID, &fields.id.to_le_bytes());
    put(&mut out, at::SPAN_START, &fields.span_start.to_le_bytes());
    put(&mut out, at::SPAN_SECTORS, &fields.span_sectors.to_le_bytes());
    put(&mut out, at::PAYLOAD_BYTES, &lengths.payload_bytes.to_le_bytes());
    put(&mut out, at::PAYLOAD_CRC, &lengths.payload_crc.to_le_bytes());
    put(&mut out, at::EXTENSION_BYTES, &lengths.extension_bytes.to_le_bytes());
    put(&mut out, at::EXTENSION_CRC, &lengths.extension_crc.to_le_bytes());
    put(&mut out, at::PAGE, &fields.page.to_le_bytes());
    put(&mut out, at::PROTOCOL_MIN, &fields.protocol_min.to_le_bytes());
    put(&mut out, at::PROTOCOL_MAX, &fields.protocol_max.to_le_bytes());
    let crc = crc32c::crc32c(&out[..at::CRC]);
    put(&mut out, at::CRC, &crc.to_le_bytes());
    out
}

/// A header that is whole and whose lengths are those of its message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    fields: Fields,
    lengths: Lengths,
    /// The message, unless it needs an extension.
    message: Option<Message>,
}

impl Header {
    /// Reads a header and checks all that can be known without what follows it.
    ///
    /// # Errors
    ///
    /// Any [`FrameError`] but those of extension and payload content.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
        if get(bytes, at::MAGIC) != MAGIC {
            return Err(FrameError::Magic);
        }
        if u32::from_le_bytes(get(bytes, at::CRC)) != crc32c::crc32c(&bytes[..at::CRC]) {
            return Err(FrameError::HeaderChecksum);
        }
        let found = bytes[at::KIND];
        let kind = Kind::from_code(found).ok_or(FrameError::Kind { found })?;
        let (fields, lengths) = open(kind, bytes);
        let found = lengths.extension_bytes;
        if !extension::length_fits(&fields, found as usize) {
            return Err(FrameError::ExtensionLength { found });
        }
        let found = lengths.payload_bytes;
        if found as usize > IO_BYTES_MAX {
            return Err(FrameError::PayloadLength { found });
        }
        let message = fields.message()?;
        let payload_bytes = message.map_or(0, |message| message.payload_bytes());
        if u64::from(found) != payload_bytes {
            return Err(FrameError::PayloadLength { found });
        }
        let header = Header { fields, lengths, message };
        header.check_unused(bytes)?;
        Ok(header)
    }

    /// There is one way to write a header: this finds whatever stands where zero must.
    fn check_unused(&self, bytes: &[u8; HEADER_BYTES]) -> Result<(), FrameError> {
        let fields = match self.message {
            Some(message) => Fields::of(&message),
            None => self.fields.of_extended(),
        };
        let stray_crc = self.lengths.payload_bytes == 0 && self.lengths.payload_crc != 0
            || self.lengths.extension_bytes == 0 && self.lengths.extension_crc != 0;
        if stray_crc || seal(&fields, &self.lengths) != *bytes {
            return Err(FrameError::Unused);
        }
        Ok(())
    }

    /// Bytes of extension that follow, at most [`EXTENSION_BYTES_MAX`].
    pub fn extension_bytes(&self) -> usize {
        self.lengths.extension_bytes as usize
    }

    /// Bytes of payload that follow the extension, at most [`IO_BYTES_MAX`].
    pub fn payload_bytes(&self) -> usize {
        self.lengths.payload_bytes as usize
    }

    /// The crc32c that the payload must have; 0 without payload.
    pub fn payload_crc(&self) -> u32 {
        self.lengths.payload_crc
    }

    /// The protocol versions, oldest and newest, that the sender of a Hello speaks; `None` for another
    /// message.
    pub fn protocol(&self) -> Option<(u16, u16)> {
        let hello = self.fields.kind == Kind::Hello;
        hello.then_some((self.fields.protocol_min, self.fields.protocol_max))
    }

    /// The message, given the extension. Its `payload_bytes` are the header's.
    ///
    /// # Errors
    ///
    /// If the extension has another length than [`Header::extension_bytes`], is damaged or invalid.
    pub fn message(&self, extension: &[u8]) -> Result<Message, FrameError> {
        if extension.len() != self.extension_bytes() {
            let found = u32::try_from(extension.len()).unwrap_or(u32::MAX);
            return Err(FrameError::ExtensionLength { found });
        }
        if let Some(message) = self.message {
            return Ok(message);
        }
        if crc32c::crc32c(extension) != self.lengths.extension_crc {
            return Err(FrameError::ExtensionChecksum);
        }
        let message = extension::decode(&self.fields, extension)?;
        fields::check(&message).map_err(FrameError::Value)?;
        assert!(message.payload_bytes() == u64::from(self.lengths.payload_bytes));
        Ok(message)
    }

    /// An error unless `payload` is the payload that was announced.
    ///
    /// # Errors
    ///
    /// If its length or checksum is wrong.
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), FrameError> {
        if payload.len() != self.payload_bytes() {
            let found = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            return Err(FrameError::PayloadLength { found });
        }
        if crc32c::crc32c(payload) != self.lengths.payload_crc {
            return Err(FrameError::PayloadChecksum);
        }
        Ok(())
    }
}

/// The fields of a header whose checksum is right.
fn open(kind: Kind, bytes: &[u8; HEADER_BYTES]) -> (Fields, Lengths) {
    let fields = Fields {
        kind,
        code: bytes[at::CODE],
        flag: bytes[at::FLAG],
        id: u64::from_le_bytes(get(bytes, at::ID)),
        span_start: u64::from_le_bytes(get(bytes, at::SPAN_START)),
        span_sectors: u32::from_le_bytes(get(bytes, at::SPAN_SECTORS)),
        page: u32::from_le_bytes(get(bytes, at::PAGE)),
        protocol_min: u16::from_le_bytes(get(bytes, at::PROTOCOL_MIN)),
        protocol_max: u16::from_le_bytes(get(bytes, at::PROTOCOL_MAX)),
    };
    let lengths = Lengths {
        payload_bytes: u32::from_le_bytes(get(bytes, at::PAYLOAD_BYTES)),
        payload_crc: u32::from_le_bytes(get(bytes, at::PAYLOAD_CRC)),
        extension_bytes: u32::from_le_bytes(get(bytes, at::EXTENSION_BYTES)),
        extension_crc: u32::from_le_bytes(get(bytes, at::EXTENSION_CRC)),
    };
    (fields, lengths)
}
