//! What a seed does: sizes, speeds, and which faults strike when. Swarm style: most groups of faults are off in most
//! seeds, so that each meets the others in every combination and also alone.
//!
//! A plan is a value: it can be written down, and made smaller (`shrink.rs`). What it leaves to chance (latencies, the
//! clients' requests, what survives a power cut) comes from the seed that goes with it.

use crate::authority::WhenLost;
use crate::fate::{Fault, Groups, Strike};
use crate::rng::Rng;
use rblk::limits::EXTENT_BLOCKS;
use rblk::wire::policy::Policies;
use serde::{Deserialize, Serialize};

/// A run, spelled out. Times in microseconds.
///
/// What a kept case does not say is as in [`Plan::default`]: that never changes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) blocks: u64,
    /// The second disk is larger by this many blocks.
    pub(crate) more_blocks: u64,
    /// Both disks have room for so many blocks beyond the volume, and the operator lets it grow at some time.
    pub(crate) spare_blocks: u64,
    pub(crate) al_slots: usize,
    pub(crate) peer_timeout_ms: u64,
    pub(crate) disk_timeout_ms: u64,
    /// Both disks hold nothing yet (rather than being declared equal).
    pub(crate) fresh: bool,
    pub(crate) depth: usize,
    pub(crate) ops: u64,
    /// Requests that are made when the faults are over.
    pub(crate) last_ops: u64,
    /// Mean pause between two requests.
    pub(crate) think: u64,
    pub(crate) fua: u64,
    pub(crate) zero: u64,
    pub(crate) read: u64,
    pub(crate) flush: u64,
    /// Windows that clients use: the fewer, the hotter.
    pub(crate) windows: usize,
    pub(crate) disk_typical: u64,
    pub(crate) disk_worst: u64,
    pub(crate) net_typical: u64,
    pub(crate) net_worst: u64,
    /// How soon the operator looks after a node without a disk, in percent per turn.
    pub(crate) repair: u64,
    /// The operator gives commands without a reason.
    pub(crate) nonsense: bool,
    /// The operator has the disks compared now and then.
    pub(crate) verify: bool,
    /// Digests lie: what is the same seems to differ, and is repaired. That must change nothing.
    pub(crate) lies: bool,
    /// The operator forces a promotion where that loses nothing.
    pub(crate) force: bool,
    /// Both nodes are to be Primary.
    pub(crate) dual: bool,
    /// What both nodes do after a split brain: one digit for each of the four policies, see `policies.rs`.
    pub(crate) policies: [usize; 4],
    /// The nodes ask before a resync overwrites consistent data. Mostly the answer is yes.
    pub(crate) consent: bool,
    /// What an order or a policy discards is saved first. Mostly that succeeds.
    pub(crate) salvage: bool,
    /// The faults are over.
    pub(crate) until: u64,
    pub(crate) on_peer_lost: WhenLost,
    pub(crate) ride_through_ms: u64,
    pub(crate) strikes: Vec<Strike>,
}

impl Default for Plan {
    /// Two small, quick disks, and nobody who does anything.
    fn default() -> Plan {
        Plan {
            blocks: 12 * EXTENT_BLOCKS,
            more_blocks: 0,
            spare_blocks: 0,
            al_slots: 9,
            peer_timeout_ms: 2_000,
            disk_timeout_ms: 5_000,
            fresh: false,
            depth: 16,
            ops: 0,
            last_ops: 20,
            think: 1,
            fua: 0,
            zero: 0,
            read: 0,
            flush: 0,
            windows: 12,
            disk_typical: 100,
            disk_worst: 1_000,
            net_typical: 100,
            net_worst: 1_000,
            repair: 0,
            nonsense: false,
            verify: false,
            lies: false,
            force: false,
            dual: false,
            policies: crate::policies::DEFAULT,
            consent: false,
            salvage: false,
            until: 0,
            on_peer_lost: WhenLost::Continue,
            ride_through_ms: 0,
            strikes: Vec::new(),
        }
    }
}

impl Plan {
    /// What both nodes have ordered for the case of a split brain.
    pub(crate) fn policies(&self) -> Policies {
        Policies { dual_primary: self.dual, ..crate::policies::of(self.policies) }
    }

    /// Both nodes are to be Primary. An operator's split brain has one Primary by its lights, and two that both go on
    /// are one by order: stories tell of those.
    fn two_primaries(&mut self, rng: &mut Rng) {
        self.dual = true;
        self.windows = rng.pick(&[1, 1, 3, 64]);
        self.ride_through_ms = rng.pick(&[0, 1_000, 15_000]);
        if self.on_peer_lost == WhenLost::Continue {
            self.on_peer_lost = WhenLost::Prefer(rng.below(2) as usize);
        }
        self.strikes.retain(|strike| !matches!(strike.fault, Fault::Split { .. }));
    }

    /// The plan of a random run.
    pub(crate) fn random(rng: &mut Rng) -> Plan {
        let extents = if rng.chance(10) { rng.between(32, 36) } else { rng.between(10, 14) };
        let slow = rng.chance(20);
        let disk_timeout_ms = rng.pick(&[1_000, 3_000, 10_000]);
        let mut plan = Plan {
            blocks: extents * EXTENT_BLOCKS + rng.below(EXTENT_BLOCKS),
            more_blocks: if rng.chance(20) { rng.between(1, 2 * EXTENT_BLOCKS) } else { 0 },
            spare_blocks: 0,
            al_slots: rng.pick(&[9, 9, 10, 12, 64]),
            peer_timeout_ms: rng.pick(&[500, 1000, 2000, 4000, 10_000]),
            disk_timeout_ms,
            fresh: rng.chance(25),
            depth: rng.pick(&[1, 2, 4, 8, 16, 40]), // the last is beyond the credits for reads
            ops: rng.pick(&[300, 1_000, 3_000]),
            last_ops: 20,
            think: rng.pick(&[200, 2_000, 20_000]),
            fua: rng.pick(&[0, 10, 30]),
            zero: rng.pick(&[0, 5, 15]),
            read: rng.pick(&[10, 30, 50]),
            flush: rng.pick(&[0, 2, 5, 15]),
            windows: rng.pick(&[1, 3, 64]),
            disk_typical: rng.pick(&[50, 300, 3_000]),
            // A disk that is only slow is never given up: well below the timeout, since a pause may add to it.
            disk_worst: if slow { 2_000_000.min(disk_timeout_ms * 600) } else { 50_000 },
            net_typical: rng.pick(&[30, 200, 2_000]),
            net_worst: if slow { 300_000 } else { 20_000 },
            repair: rng.pick(&[1, 5, 20]),
            nonsense: rng.chance(30),
            verify: false,
            lies: false,
            force: rng.chance(30),
            dual: false,
            policies: crate::policies::DEFAULT,
            consent: false,
            salvage: false,
            until: rng.between(10, 60) * 1_000_000,
            on_peer_lost: match rng.below(8) {
                0 => WhenLost::Suspend,
                1 => WhenLost::Prefer(rng.below(2) as usize),
                2 | 3 => WhenLost::Fence,
                _ => WhenLost::Continue,
            },
            ride_through_ms: rng.pick(&[0, 0, 0, 1_000, 10_000]),
            strikes: Vec::new(),
        };
        plan.strikes = Groups::random(rng).strikes(rng, &plan);
        plan.consent = rng.chance(20); // last: other seeds stay what they were
        plan.policies = crate::policies::random(rng);
        plan.salvage = rng.chance(40);
        if rng.chance(25) {
            plan.two_primaries(rng);
        }
        plan.verify = rng.chance(30);
        plan.lies = plan.verify && rng.chance(40);
        if !plan.fresh && rng.chance(25) {
            plan.spare_blocks = rng.between(1, 2 * EXTENT_BLOCKS);
        }
        plan
    }
}
