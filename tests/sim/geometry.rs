//! Which sectors of the volume are ever touched, so that a run keeps only those.
//!
//! Each extent has one window of 48 blocks; a window may reach into the next extent. A volume that is smaller than an
//! extent has one at each end. Everything outside the windows
//! reads as zero for ever. A sector in a window has a dense number.
//!
//! ```text
//!   volume   |....extent 0....|....extent 1....|....extent 2....|
//!   windows      [----]                     [----]        [----]
//!   dense        0..384                     384..768      768..1152
//! ```

use crate::rng::Rng;
use rblk::limits::{BLOCK_SECTORS, EXTENT_BLOCKS};
use rblk::span::Span;
use std::ops::Range;

/// Blocks in a window: a request of 128 KiB fits with room to move.
pub(crate) const WINDOW_BLOCKS: u64 = 48;
const WINDOW_SECTORS: u64 = WINDOW_BLOCKS * BLOCK_SECTORS;

/// Where the windows are.
#[derive(Clone)]
pub(crate) struct Geometry {
    /// Sectors of the volume.
    pub(crate) sectors: u64,
    /// First block of each window, ascending; one for each whole extent, and at least two.
    starts: Vec<u64>,
}

/// The part of a span that lies in one window.
pub(crate) struct Piece {
    /// Dense sectors.
    pub(crate) dense: Range<usize>,
    /// Sectors from the start of the span.
    pub(crate) offset: usize,
}

impl Geometry {
    /// Windows for a volume of `blocks` blocks. The first starts with the volume and the last ends with it.
    pub(crate) fn new(rng: &mut Rng, blocks: u64) -> Geometry {
        let extents = blocks / EXTENT_BLOCKS;
        let reach = WINDOW_BLOCKS / 2;
        let mut starts = Vec::new();
        for extent in 0..extents {
            let offset = match rng.below(3) {
                0 => EXTENT_BLOCKS - reach,
                _ => rng.between(reach, EXTENT_BLOCKS - WINDOW_BLOCKS),
            };
            starts.push(extent * EXTENT_BLOCKS + offset);
        }
        starts.resize(starts.len().max(2), 0);
        starts[0] = 0;
        let last = starts.len() - 1;
        starts[last] = blocks - WINDOW_BLOCKS;
        Geometry { sectors: blocks * BLOCK_SECTORS, starts }
    }

    /// Sectors in all windows.
    pub(crate) fn dense_sectors(&self) -> usize {
        self.starts.len() * WINDOW_SECTORS as usize
    }

    /// Blocks in all windows.
    pub(crate) fn dense_blocks(&self) -> usize {
        self.starts.len() * WINDOW_BLOCKS as usize
    }

    pub(crate) fn windows(&self) -> usize {
        self.starts.len()
    }

    /// First sector of a window.
    pub(crate) fn window_start(&self, window: usize) -> u64 {
        self.starts[window] * BLOCK_SECTORS
    }

    /// The block of the volume that a dense block stands for.
    pub(crate) fn block(&self, dense: usize) -> u64 {
        let window = dense / WINDOW_BLOCKS as usize;
        self.starts[window] + (dense % WINDOW_BLOCKS as usize) as u64
    }

    /// The parts of `span` that lie in windows.
    pub(crate) fn pieces(&self, span: Span) -> impl Iterator<Item = Piece> + '_ {
        let first = self
            .starts
            .partition_point(|start| (start + WINDOW_BLOCKS) * BLOCK_SECTORS <= span.start());
        let windows = self.starts[first..].iter().enumerate();
        windows
            .map(move |(index, start)| (first + index, start * BLOCK_SECTORS))
            .take_while(move |(_, start)| *start < span.end())
            .map(move |(window, start)| {
                let from = span.start().max(start);
                let to = span.end().min(start + WINDOW_SECTORS);
                let base = window as u64 * WINDOW_SECTORS;
                Piece {
                    dense: (base + from - start) as usize..(base + to - start) as usize,
                    offset: (from - span.start()) as usize,
                }
            })
    }
}
