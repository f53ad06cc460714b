//! From a set into an image: a file of the volume's size with the blocks in their places and holes elsewhere.

use super::store::{DATA, Set, open_regular};
use crate::error::{Error, Kind, Result};
use crate::limits::{BLOCK_BYTES, SALVAGE_EXTENT_BLOCKS};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// A file for an image. An existing one is emptied, but only with `force`, and only if it is a regular file.
///
/// # Errors
/// It is there already, or cannot be made.
pub fn new_output(path: &Path, force: bool) -> Result<File> {
    let what = || format!("Cannot export to {}", path.display());
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            return Err(Error::new(Kind::Refused, what())
                .why("it is not a regular file")
                .remedy("name a file that is not there yet"));
        }
        Ok(_) if !force => {
            return Err(Error::new(Kind::Refused, what())
                .why("it is there already")
                .remedy("name another file; --force overwrites this one"));
        }
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let options =
        if force { options.create(true).truncate(true) } else { options.create_new(true) };
    options.open(path).map_err(|error| Error::io(what(), error))
}

/// Writes the image of `set` to `out`, which is empty. `progress` is told bytes done and in all.
///
/// # Errors
/// The set is damaged, also where it was whole when it was opened; or the files cannot be read or written.
pub fn export(set: &Set, out: &File, mut progress: impl FnMut(u64, u64)) -> Result<()> {
    let damaged = |why: String| {
        Error::new(Kind::Metadata, format!("Cannot export {}", set.path.display()))
            .why(why)
            .remedy("look at the disk that the set is on; what has been written is not the whole")
    };
    let write = |error: io::Error| match error.kind() {
        ErrorKind::StorageFull => "there is no room left for the image".to_owned(),
        _ => format!("the image cannot be written ({error})"),
    };
    let data = open_regular(&set.path.join(DATA))
        .map_err(|error| damaged(format!("its data cannot be opened ({error})")))?;
    let total = set.header.blocks * BLOCK_BYTES;
    out.set_len(set.header.volume_bytes).map_err(|error| damaged(write(error)))?;
    let mut buffer = vec![0; (SALVAGE_EXTENT_BLOCKS * BLOCK_BYTES) as usize];
    let mut at = 0;
    set.each_extent(|extent| {
        let bytes = &mut buffer[..extent.bytes() as usize];
        data.read_exact_at(bytes, at)
            .map_err(|error| format!("its data cannot be read ({error})"))?;
        let to = extent.first * BLOCK_BYTES;
        if crc32c::crc32c(bytes) != extent.crc {
            return Err(format!(
                "its data is damaged: bytes {to} to {} of the volume do not have their checksum",
                to + extent.bytes()
            ));
        }
        if bytes.iter().any(|byte| *byte != 0) {
            out.write_all_at(bytes, to).map_err(write)?;
        }
        at += extent.bytes();
        progress(at, total);
        Ok(())
    })
    .map_err(damaged)?;
    out.sync_all().map_err(|error| damaged(write(error)))
}
