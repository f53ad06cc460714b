//! The index of a set: what it is, which extents it has, and the checksum of each.
//!
//! ```text
//!  {"rblk-salvage":1,"resource":"swarm",...}\n
//!  first block (8) | blocks (4) | crc32c of these blocks (4)      for each extent, numbers little-endian
//!  crc32c of all that (4)
//! ```

use crate::limits::{
    BLOCK_BYTES, DATA_BYTES_MAX, SALVAGE_EXTENT_BLOCKS, SALVAGE_HEADER_BYTES_MAX, UNIX_MS_MAX,
};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read, Write};
use std::ops::Range;

/// The format of this version.
pub const FORMAT: u32 = 1;
/// Bytes of a record.
pub(super) const RECORD_BYTES: u64 = 16;
/// Bytes of the checksum at the end.
pub(super) const TAIL_BYTES: u64 = 4;

/// What a set is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// Version of the format.
    #[serde(rename = "rblk-salvage")]
    pub format: u32,
    /// The resource.
    pub resource: String,
    /// The volume, 32 hexadecimal digits.
    pub volume: String,
    /// The node whose disk this was.
    pub node: String,
    /// The generation that was lost.
    pub generation: String,
    /// The generation that took its place.
    pub source: String,
    /// What both once had in common; null if nothing tells.
    pub base: Option<String>,
    /// When, in milliseconds since 1970.
    pub saved_unix_ms: u64,
    /// Size of the volume in bytes.
    pub volume_bytes: u64,
    /// Blocks of 4 KiB in the set.
    pub blocks: u64,
    /// Records in the index.
    pub extents: u64,
}

/// Some blocks that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The first.
    pub first: u64,
    /// How many.
    pub blocks: u32,
    /// Checksum of their content.
    pub crc: u32,
}

impl Extent {
    /// Its blocks.
    pub fn range(&self) -> Range<u64> {
        self.first..self.first + u64::from(self.blocks)
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK_BYTES
    }

    fn encode(self) -> [u8; RECORD_BYTES as usize] {
        let mut record = [0; RECORD_BYTES as usize];
        record[..8].copy_from_slice(&self.first.to_le_bytes());
        record[8..12].copy_from_slice(&self.blocks.to_le_bytes());
        record[12..].copy_from_slice(&self.crc.to_le_bytes());
        record
    }

    fn decode(record: [u8; RECORD_BYTES as usize]) -> Extent {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = record;
        Extent {
            first: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            blocks: u32::from_le_bytes([i, j, k, l]),
            crc: u32::from_le_bytes([m, n, o, p]),
        }
    }
}

/// Writes an index from front to end.
pub(super) struct Writer<W> {
    out: W,
    crc: u32,
}

impl<W: Write> Writer<W> {
    /// Begins with the header.
    pub(super) fn new(out: W, header: &Header) -> io::Result<Writer<W>> {
        let mut writer = Writer { out, crc: 0 };
        let mut line = serde_json::to_vec(header).map_err(io::Error::other)?;
        line.push(b'\n');
        assert!(line.len() <= SALVAGE_HEADER_BYTES_MAX, "names are short");
        writer.put(&line)?;
        Ok(writer)
    }

    /// The next extent.
    pub(super) fn extent(&mut self, extent: Extent) -> io::Result<()> {
        self.put(&extent.encode())
    }

    /// The end; gives back what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&self.crc.to_le_bytes())?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.out.write_all(bytes)
    }
}

/// Reads an index from front to end, and believes none of it before it has looked.
pub(super) struct Reader<R> {
    input: R,
    crc: u32,
    /// What the header says.
    pub(super) header: Header,
    read: u64,
    blocks: u64,
    end: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header of an index of `bytes` bytes; why it is none, in half a sentence, if it is none.
    pub(super) fn new(mut input: R, bytes: u64) -> Result<Reader<R>, String> {
        let mut line = Vec::new();
        let limit = SALVAGE_HEADER_BYTES_MAX as u64;
        input
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line)
            .map_err(|error| unreadable(&error))?;
        if line.last() != Some(&b'\n') {
            return Err("its index is cut off, or no index".to_owned());
        }
        let format = format_of(&line)?;
        if format != FORMAT {
            return Err(format!(
                "it has format {format}, and this rblk reads format {FORMAT}: use the rblk that made it, or a newer one"
            ));
        }
        let header: Header = serde_json::from_slice(&line)
            .map_err(|error| format!("its index has a damaged first line ({error})"))?;
        check(&header)?;
        let expected = line.len() as u64 + header.extents * RECORD_BYTES + TAIL_BYTES;
        if bytes != expected {
            return Err(format!("its index has {bytes} bytes instead of {expected}"));
        }
        let crc = crc32c::crc32c(&line);
        Ok(Reader { input, crc, header, read: 0, blocks: 0, end: 0 })
    }

    /// The next extent. After the last one the checksum of the index is compared.
    pub(super) fn extent(&mut self) -> Result<Option<Extent>, String> {
        if self.read == self.header.extents {
            return self.tail().map(|()| None);
        }
        let mut record = [0; RECORD_BYTES as usize];
        self.input.read_exact(&mut record).map_err(|error| unreadable(&error))?;
        self.crc = crc32c::crc32c_append(self.crc, &record);
        self.read += 1;
        let extent = Extent::decode(record);
        let volume = self.header.volume_bytes / BLOCK_BYTES;
        let end = extent.first.checked_add(u64::from(extent.blocks));
        let lies_well = extent.first >= self.end && end.is_some_and(|end| end <= volume);
        if extent.blocks == 0 || u64::from(extent.blocks) > SALVAGE_EXTENT_BLOCKS || !lies_well {
            return Err(format!("record {} of its index is damaged", self.read - 1));
        }
        self.end = extent.range().end;
        self.blocks += u64::from(extent.blocks);
        Ok(Some(extent))
    }

    fn tail(&mut self) -> Result<(), String> {
        if self.blocks != self.header.blocks {
            return Err("its index contradicts itself".to_owned());
        }
        let mut tail = [0; TAIL_BYTES as usize];
        self.input.read_exact(&mut tail).map_err(|error| unreadable(&error))?;
        if u32::from_le_bytes(tail) != self.crc {
            return Err("its index does not have the checksum that it should".to_owned());
        }
        Ok(())
    }
}

/// The version of a format may stand before anything that this version knows.
fn format_of(line: &[u8]) -> Result<u32, String> {
    #[derive(Deserialize)]
    struct Format {
        #[serde(rename = "rblk-salvage")]
        format: u32,
    }
    let found: Format = serde_json::from_slice(line)
        .map_err(|_| "its index does not begin as one of rblk does".to_owned())?;
    Ok(found.format)
}

/// Numbers that cannot be true are not calculated with, and what is no name or id is not shown.
fn check(header: &Header) -> Result<(), String> {
    let volume = header.volume_bytes;
    let fits = volume <= DATA_BYTES_MAX
        && volume.is_multiple_of(BLOCK_BYTES)
        && header.blocks <= volume / BLOCK_BYTES
        && header.extents <= header.blocks;
    if !fits {
        return Err("its index names impossible sizes".to_owned());
    }
    let Header { resource, volume, node, generation, source, base, saved_unix_ms, .. } = header;
    let mut texts = [resource, volume, node, generation, source].into_iter().chain(base);
    if !texts.all(|text| text.bytes().all(|c| c.is_ascii_graphic())) {
        return Err("its index has names and ids that are none".to_owned());
    }
    match *saved_unix_ms {
        0..=UNIX_MS_MAX => Ok(()),
        _ => Err("its index names an impossible time".to_owned()),
    }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "its index is cut off".to_owned(),
        _ => format!("its index cannot be read ({error})"),
    }
}
