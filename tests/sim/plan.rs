//! What a seed does: sizes, speeds, and which groups of faults are on. Swarm style: most groups are off in most
//! seeds, so that each meets the others in every combination and also alone.

use crate::rng::Rng;
use rblk::limits::EXTENT_BLOCKS;

/// A seed, spelled out. Times in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) blocks: u64,
    /// The second disk is larger by this many blocks.
    pub(crate) more_blocks: u64,
    pub(crate) al_slots: usize,
    pub(crate) peer_timeout_ms: u64,
    pub(crate) disk_timeout_ms: u64,
    /// Both disks hold nothing yet (rather than being declared equal).
    pub(crate) fresh: bool,
    pub(crate) depth: usize,
    pub(crate) ops: u64,
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
    /// Mean time between two faults.
    pub(crate) fault_gap: u64,
    /// How often a fault is followed by another at once, in percent.
    pub(crate) chain: u64,
    /// How soon the operator looks after a node without a disk, in percent per turn.
    pub(crate) repair: u64,
    pub(crate) until: u64,
    pub(crate) faults: Faults,
}

/// Groups of faults.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) cut: bool,
    pub(crate) half_open: bool,
    pub(crate) one_way: bool,
    pub(crate) slow_net: bool,
    pub(crate) kill: bool,
    pub(crate) power: bool,
    pub(crate) both: bool,
    pub(crate) pause: bool,
    pub(crate) detach: bool,
    pub(crate) switch: bool,
    pub(crate) nonsense: bool,
    pub(crate) force: bool,
    pub(crate) data_error: bool,
    pub(crate) flush_error: bool,
    pub(crate) meta_error: bool,
    pub(crate) hang: bool,
}

impl Faults {
    /// Disks fail in this seed.
    pub(crate) fn disks(&self) -> bool {
        self.data_error || self.flush_error || self.meta_error || self.hang
    }

    fn random(rng: &mut Rng) -> Faults {
        let share = rng.pick(&[15, 30, 50]);
        let disks = rng.chance(30);
        let mut on = || rng.chance(share);
        Faults {
            cut: on(),
            half_open: on(),
            one_way: on(),
            slow_net: on(),
            kill: on(),
            power: on(),
            both: on(),
            pause: on(),
            detach: on(),
            switch: on(),
            nonsense: on(),
            force: on(),
            data_error: disks && on(),
            flush_error: disks && on(),
            meta_error: disks && on(),
            hang: disks && on(),
        }
    }
}

impl Plan {
    /// The plan of a random run.
    pub(crate) fn random(rng: &mut Rng) -> Plan {
        let extents = if rng.chance(10) { rng.between(32, 36) } else { rng.between(10, 14) };
        let slow = rng.chance(20);
        let disk_timeout_ms = rng.pick(&[1_000, 3_000, 10_000]);
        Plan {
            blocks: extents * EXTENT_BLOCKS + rng.below(EXTENT_BLOCKS),
            more_blocks: if rng.chance(20) { rng.between(1, 2 * EXTENT_BLOCKS) } else { 0 },
            al_slots: rng.pick(&[9, 9, 10, 12, 64]),
            peer_timeout_ms: rng.pick(&[500, 1000, 2000, 4000, 10_000]),
            disk_timeout_ms,
            fresh: rng.chance(25),
            depth: rng.pick(&[1, 2, 4, 8, 16, 40]), // the last is beyond the credits for reads
            ops: rng.pick(&[300, 1_000, 3_000]),
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
            fault_gap: rng.pick(&[200_000, 1_000_000, 4_000_000]),
            chain: rng.pick(&[0, 0, 50]),
            repair: rng.pick(&[1, 5, 20]),
            until: rng.between(10, 60) * 1_000_000,
            faults: Faults::random(rng),
        }
    }
}
