//! When and how fate strikes: faults that wait for the moment in which they hurt.
//!
//! A fault at a random time mostly meets an idle node. An aimed one waits until its node has begun something, and then
//! strikes while that is under way or just after.

use crate::operator::Fault;
use crate::world::{Event, World};

/// Something a node begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// An operation on the data of its disk.
    DiskOperation,
    /// A write of metadata.
    MetaWrite,
    /// A message to the peer.
    Message,
}

/// A fault that waits.
#[derive(Clone, Copy)]
pub(crate) struct Aim {
    node: usize,
    moment: Moment,
    fault: Fault,
    /// How many such moments pass before.
    skip: u64,
}

impl World {
    /// The fault strikes when the node begins something.
    pub(crate) fn aim_fault(&mut self, node: usize, fault: Fault) {
        let moments = [Moment::DiskOperation, Moment::MetaWrite, Moment::Message];
        let moment = self.rng.pick(&moments);
        let skip = self.rng.pick(&[0, 1, 3, 20]);
        self.aim = Some(Aim { node, moment, fault, skip });
    }

    /// A node begins something that will take `takes` microseconds.
    pub(crate) fn moment(&mut self, node: usize, moment: Moment, takes: u64) {
        let Some(aim) = self.aim.filter(|aim| (aim.node, aim.moment) == (node, moment)) else {
            return;
        };
        if aim.skip > 0 {
            self.aim = Some(Aim { skip: aim.skip - 1, ..aim });
            return;
        }
        self.aim = None;
        self.sums.count("aimed faults");
        // Now, in the middle of it, or just after its end.
        let delay = match self.rng.below(3) {
            0 => 0,
            1 => self.rng.below(takes + 1),
            _ => takes + self.rng.below(500),
        };
        self.after(delay, Event::Strike { node, fault: aim.fault });
    }
}
