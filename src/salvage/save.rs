//! From a disk into a set. Runs on a thread of its own, for as long as it takes; memory: one extent.

use super::index::{Extent, Header, RECORD_BYTES, TAIL_BYTES, Writer};
use super::marks::Marks;
use super::store::{DATA, INDEX, Store};
use crate::error::{Error, Kind, Result};
use crate::io::disk::Handle;
use crate::limits::{
    BLOCK_BYTES, SALVAGE_EXTENT_BLOCKS, SALVAGE_HEADER_BYTES_MAX, SALVAGE_SETS_MAX,
    SALVAGE_SPARE_BYTES, SALVAGE_SYNC_BYTES, UNIX_MS_MAX,
};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

/// What is to be saved.
#[derive(Debug)]
pub struct Order {
    /// Where to.
    pub store: Store,
    /// What all sets of the resource may take together, in bytes.
    pub max_bytes: u64,
    /// Where from.
    pub disk: Handle,
    /// Which blocks.
    pub marks: Marks,
    /// Which data it is; blocks and extents are filled in.
    pub header: Header,
}

/// How far it has come, and the wish that it ends. Shared between threads.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes saved.
    pub done: AtomicU64,
    /// It shall end.
    pub cancel: AtomicBool,
}

/// A set that is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Saved {
    /// Its name.
    pub id: String,
    /// What it holds, in bytes.
    pub bytes: u64,
}

/// Saves. Nothing of it is left if it fails.
///
/// # Errors
/// There is no room within the bound or on the file system; the disk cannot be read, or the files not be written; it
/// was told to end.
pub fn save(order: &Order, progress: &Progress) -> Result<Saved> {
    let (blocks, extents) = order.marks.count();
    let header = Header { blocks, extents, ..order.header.clone() };
    let need = blocks * BLOCK_BYTES
        + extents * RECORD_BYTES
        + TAIL_BYTES
        + SALVAGE_HEADER_BYTES_MAX as u64;
    let folder = order.store.folder();
    order.store.prepare().map_err(|error| failed("make the folder", folder, &error))?;
    fits_the_bound(order, &header, need)?;
    fits_the_file_system(folder, need)?;
    let node = &header.node;
    let saved = copy(order, &header, progress).and_then(|()| {
        // Told so later than this, it does not matter any more: all was read before.
        goes_on(progress)?;
        let id = name_of(&header);
        order
            .store
            .finish(node, &id, &header)
            .map_err(|error| failed("finish it in", folder, &error))
    });
    match saved {
        Ok(id) => Ok(Saved { id, bytes: blocks * BLOCK_BYTES }),
        Err(error) => {
            order.store.abandon(node);
            Err(error)
        }
    }
}

/// Sorts by time, and tells generations apart.
fn name_of(header: &Header) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(header.saved_unix_ms.min(UNIX_MS_MAX));
    let time = humantime::format_rfc3339_seconds(time).to_string().replace(['-', ':'], "");
    let generation = &header.generation;
    format!("{time}-{}", &generation[generation.len().saturating_sub(8)..])
}

fn fits_the_bound(order: &Order, header: &Header, need: u64) -> Result<()> {
    let mut others = 0;
    let mut used = 0;
    let sets = order.store.list()?;
    // One more could not even be listed; what it replaces is still there for a moment.
    if sets.len() >= SALVAGE_SETS_MAX {
        return Err(Error::new(Kind::Refused, "Cannot save what would be overwritten")
            .why(format!("there are {} sets of this resource, and no more are kept", sets.len())));
    }
    for listed in sets {
        // What the new one replaces is gone when that is whole.
        if !listed.set.as_ref().is_ok_and(|set| set.header.replaces(header)) {
            others += 1;
            used += listed.bytes;
        }
    }
    if used.saturating_add(need) <= order.max_bytes {
        return Ok(());
    }
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let already = match others {
        0 => String::new(),
        _ => format!(", of which {others} take {} already", mib(used)),
    };
    let why = format!(
        "it takes {}, and `max` in [salvage] allows {} for all sets of this resource{already}",
        mib(need),
        mib(order.max_bytes)
    );
    Err(Error::new(Kind::Refused, "Cannot save what would be overwritten").why(why))
}

fn fits_the_file_system(folder: &Path, need: u64) -> Result<()> {
    let found = rustix::fs::statvfs(folder)
        .map_err(|error| failed("look for room in", folder, &error.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free >= need.saturating_add(SALVAGE_SPARE_BYTES) {
        return Ok(());
    }
    let why =
        format!("it takes {need} bytes, and the file system of {} has {free}", folder.display());
    Err(Error::new(Kind::Refused, "Cannot save what would be overwritten").why(why))
}

fn goes_on(progress: &Progress) -> Result<()> {
    if progress.cancel.load(Ordering::Relaxed) {
        return Err(Error::new(Kind::Refused, "What would be overwritten was not saved")
            .why("it was told to end"));
    }
    Ok(())
}

fn copy(order: &Order, header: &Header, progress: &Progress) -> Result<()> {
    let partial = order
        .store
        .begin(&header.node)
        .map_err(|error| failed("begin in", order.store.folder(), &error))?;
    let to = |name| partial.join(name);
    let write = |error: io::Error| failed("write to", &partial, &error);
    let backing = order.disk.inspect().map_err(|error| {
        Error::new(Kind::Io, "Cannot save what would be overwritten").why(error.to_string())
    })?;
    let data = create(&to(DATA)).map_err(write)?;
    let index = BufWriter::new(create(&to(INDEX)).map_err(write)?);
    let mut index = Writer::new(index, header).map_err(write)?;
    let mut buffer = vec![0; (SALVAGE_EXTENT_BLOCKS * BLOCK_BYTES) as usize];
    let (mut at, mut synced) = (0, 0);
    for range in order.marks.extents() {
        goes_on(progress)?;
        let blocks = (range.end - range.start) as u32;
        let bytes = &mut buffer[..blocks as usize * BLOCK_BYTES as usize];
        backing
            .read_at(range.start * BLOCK_BYTES, bytes)
            .map_err(|error| failed("read", order.disk.path(), &error))?;
        // Zeroes are left out: the file has a hole there.
        if bytes.iter().any(|byte| *byte != 0) {
            data.write_all_at(bytes, at).map_err(write)?;
        }
        let crc = crc32c::crc32c(bytes);
        index.extent(Extent { first: range.start, blocks, crc }).map_err(write)?;
        at += bytes.len() as u64;
        progress.done.store(at, Ordering::Relaxed);
        if at - synced >= SALVAGE_SYNC_BYTES {
            data.sync_data().map_err(write)?;
            synced = at;
        }
    }
    data.set_len(at).and_then(|()| data.sync_all()).map_err(write)?;
    let index = index.finish().and_then(|out| out.into_inner().map_err(io::Error::from));
    index.and_then(|file| file.sync_all()).map_err(write)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    let full =
        if error.kind() == io::ErrorKind::StorageFull { "its file system is full: " } else { "" };
    Error::new(Kind::Io, "Cannot save what would be overwritten")
        .why(format!("{full}cannot {doing} {} ({error})", path.display()))
}
