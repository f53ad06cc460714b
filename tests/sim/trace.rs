//! The trace: one line per event in fixed columns, and a hash over all of them.
//!
//! ```text
//!     time us  n  role disk conn gen       dirty busy  event
//!    12045310  0  Pri  UpTo Conn 9F21C6A0*    12 3+2   Received 2 WriteAck id: 4101, Done
//!    12045310  0  Pri  UpTo Conn 9F21C6A0*    12 3+2     answer 3 Done
//!    12046002  1  ---  ---- ---- --------      - 0+0   ! dies, power: true, for 20000 us
//!    12050000  -                                       all faults end
//! ```
//!
//! - `n` is the node, `-` for the world.
//! - role, disk (its first four letters) and connection (`Down`, `Hi..` while greeting, `Conn`) are the core's, after
//!   the event; a dead node shows dashes.
//! - `gen` is the first half word of the current generation in the core's superblock, `*` if a base is tracked.
//! - `dirty` counts marked blocks; `busy` counts operations on data and on metadata that are with the disk.
//! - An event is what a core hears: `Request`, `DiskDone`, `MetaDone`, `Received CONNECTION MESSAGE`, `Connected`,
//!   `Disconnected`, `Command`, `Timeout`. Indented above it stands what it did at once: `write`, `answer`, `reply`,
//!   `notice`. `!` marks a fault.
//!
//! Lines are only made when a run is replayed; the hash is always made, from the same facts.

use std::collections::VecDeque;

/// Lines that are kept for the report of a failure.
pub(crate) const LINES_KEPT: usize = 60;

/// The trace of a run.
pub(crate) struct Trace {
    hash: u64,
    /// Lines are made.
    pub(crate) on: bool,
    /// Lines are printed at once as well.
    pub(crate) print: bool,
    pub(crate) lines: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(on: bool, print: bool) -> Trace {
        Trace { hash: 0xCBF2_9CE4_8422_2325, on, print, lines: VecDeque::new() }
    }

    /// Adds a fact to the hash.
    pub(crate) fn fact(&mut self, value: u64) {
        self.hash = (self.hash ^ value).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(29);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn line(&mut self, line: String) {
        if self.print {
            eprintln!("{line}");
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}
