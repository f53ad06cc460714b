//! Looks at the disks themselves, after both daemons have ended.

use super::image::{BLOCK, Image, wrong};
use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Bytes compared at once.
const CHUNK: u64 = 1 << 20;

/// Compares the first `bytes` of two disks.
pub(super) fn equal(one: &Path, two: &Path, bytes: u64) -> Result<()> {
    let (mut a, mut b) = (open(one)?, open(two)?);
    let mut at = 0;
    while at < bytes {
        let len = CHUNK.min(bytes - at) as usize;
        let (mut left, mut right) = (vec![0; len], vec![0; len]);
        fill(&mut a, &mut left, one)?;
        fill(&mut b, &mut right, two)?;
        if let Some(offset) = left.iter().zip(&right).position(|(l, r)| l != r) {
            return Err(Error::new(Kind::Refused, "The two disks differ")
                .why(format!("first at byte {}", at + offset as u64))
                .remedy("run `rblk demo --keep` and report it with the logs"));
        }
        at += len as u64;
    }
    Ok(())
}

/// Compares a disk with what was written.
pub(super) fn holds(disk: &Path, image: &Image) -> Result<()> {
    let mut file = open(disk)?;
    let mut content = vec![0; BLOCK as usize];
    for index in 0..image.blocks() {
        fill(&mut file, &mut content, disk)?;
        if content != image.block(index) {
            return Err(wrong(index, "on the disk"));
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path)
        .map_err(|error| Error::io(format!("Cannot open {}", path.display()), error))?;
    Ok(BufReader::with_capacity(CHUNK as usize, file))
}

fn fill(file: &mut impl Read, content: &mut [u8], path: &Path) -> Result<()> {
    let read = file.read_exact(content);
    read.map_err(|error| Error::io(format!("Cannot read {}", path.display()), error))
}
