//! What the volume must hold: one number per block, from which the block's content follows.

use super::nbd::Volume;
use crate::error::{Error, Kind, Result};
use std::time::{Duration, Instant};

/// Bytes of a block.
pub(super) const BLOCK: u64 = 4096;
/// Bytes written with one request where many blocks are.
const REQUEST: u64 = 128 << 10;

/// The expected content: 0 for a block never written, else the seed of its content.
pub(super) struct Image {
    seeds: Vec<u64>,
    next: u64,
}

/// What [`Image::scatter`] did.
pub(super) struct Scattered {
    /// Different blocks, in bytes.
    pub(super) changed_bytes: u64,
    /// The longest time that one write took.
    pub(super) longest: Duration,
}

impl Image {
    pub(super) fn new(bytes: u64) -> Image {
        Image { seeds: vec![0; (bytes / BLOCK) as usize], next: 1 }
    }

    /// The content of block `index`.
    pub(super) fn block(&self, index: usize) -> Vec<u8> {
        let mut state = self.seeds[index];
        let never_written = state == 0;
        let mut word = || {
            if never_written { 0 } else { splitmix(&mut state) }
        };
        (0..BLOCK / 8).flat_map(|_| word().to_le_bytes()).collect()
    }

    /// Blocks of the volume.
    pub(super) fn blocks(&self) -> usize {
        self.seeds.len()
    }

    /// Writes the first `bytes` of the volume.
    pub(super) fn write_front(&mut self, volume: &mut Volume, bytes: u64) -> Result<()> {
        let blocks = ((bytes / BLOCK) as usize).min(self.seeds.len());
        for first in (0..blocks).step_by((REQUEST / BLOCK) as usize) {
            let end = (first + (REQUEST / BLOCK) as usize).min(blocks);
            let mut content = Vec::with_capacity(REQUEST as usize);
            for index in first..end {
                self.renew(index);
                content.extend(self.block(index));
            }
            volume.write(first as u64 * BLOCK, &content)?;
        }
        Ok(())
    }

    /// Writes `count` single blocks all over the volume.
    pub(super) fn scatter(&mut self, volume: &mut Volume, count: u64) -> Result<Scattered> {
        let mut state = 42;
        let mut changed = vec![false; self.seeds.len()];
        let mut longest = Duration::ZERO;
        for _ in 0..count {
            let index = (splitmix(&mut state) % self.seeds.len() as u64) as usize;
            self.renew(index);
            changed[index] = true;
            let began = Instant::now();
            volume.write(index as u64 * BLOCK, &self.block(index))?;
            longest = longest.max(began.elapsed());
        }
        let blocks = changed.iter().filter(|changed| **changed).count() as u64;
        Ok(Scattered { changed_bytes: blocks * BLOCK, longest })
    }

    /// Reads the whole volume back.
    pub(super) fn verify(&self, volume: &mut Volume) -> Result<()> {
        let step = (REQUEST / BLOCK) as usize;
        for first in (0..self.seeds.len()).step_by(step) {
            let end = (first + step).min(self.seeds.len());
            let mut found = vec![0; (end - first) * BLOCK as usize];
            volume.read(first as u64 * BLOCK, &mut found)?;
            for (index, content) in (first..end).zip(found.chunks(BLOCK as usize)) {
                if content != self.block(index) {
                    return Err(wrong(index, "read from the volume"));
                }
            }
        }
        Ok(())
    }

    fn renew(&mut self, index: usize) {
        self.seeds[index] = self.next;
        self.next += 1;
    }
}

/// The error that block `index` is not what was written.
pub(super) fn wrong(index: usize, place: &str) -> Error {
    let at = index as u64 * BLOCK;
    Error::new(Kind::Refused, "The demo has failed")
        .why(format!("the block at byte {at}, {place}, is not what was written"))
        .remedy("run it again with --keep and report it with the logs")
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
