//! Fate: which faults strike, and when.
//!
//! A fault is a value: chance has had its say before it strikes. At a random time most faults meet an idle node, so
//! some wait for a moment ([`Moment`]) and strike while something is under way, and some are followed by a second one
//! before anybody could repair what the first has done.

use crate::media::{MetaPart, Stranger, some_spoil};
use crate::metadisk::Spoil;
use crate::net::pause_length;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::world::{Event, World};
use rblk::replica::event::Command;
use serde::{Deserialize, Serialize};

/// A fault. Lengths in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// The connection ends, and the network may stay down.
    Cut { half_open: bool, apart: u64 },
    /// Nothing more arrives at the node on this connection, and nobody is told.
    OneWay { node: usize },
    /// Every message takes longer.
    SlowNet { more: u64, length: u64 },
    /// The daemon dies, alone or with the power.
    Crash { node: usize, power: bool, length: u64 },
    /// Both die.
    Both { power: bool, lengths: [u64; 2] },
    /// The daemon does not run.
    Pause { node: usize, length: u64 },
    /// The node leaves in good order.
    Detach { node: usize },
    /// The other node becomes Primary.
    Switch,
    /// An operator takes the nodes apart.
    Disconnect { node: usize },
    /// An operator declares data void.
    Invalidate { node: usize, peer: bool },
    /// An operator makes a second Primary while the network is down.
    Split { apart: u64 },
    /// A node loses its power and comes back with an older image of its disk.
    Restore { node: usize, length: u64 },
    /// An operation of the disk fails, after some that do not.
    DiskError { node: usize, what: DiskPart, skip: u64 },
    /// The next operation on the disk's data never ends.
    DiskHang { node: usize },
    /// Operations of the disk that begin in this time do not end before it is over: so many percent of them.
    Stall { node: usize, length: u64, share: u64 },
    /// A block of data cannot be read until it is written.
    Latent { node: usize, block: u64 },
    /// A block of metadata does not read as it was written.
    Spoil { node: usize, part: MetaPart, how: Spoil },
    /// The next start finds the wrong disk.
    Foreign { node: usize, whose: Stranger, length: u64 },
    /// The disk is replaced by a fresh one.
    Blank { node: usize, length: u64 },
    /// Every connection ends soon after it began; the listener hears of it in so many percent of the cases.
    Storm { gap: u64, heard: u64, length: u64 },
    /// The node speaks another version of the protocol.
    Skew { node: usize, length: u64 },
    /// Somebody asks a Secondary.
    Stray { node: usize },
    /// Nobody asks anything.
    Idle { length: u64 },
}

/// Operations of a disk by what they are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum DiskPart {
    Data,
    /// Writes of data that are stable when they end; they are data, too.
    Stable,
    Flush,
    Metadata,
}

/// The groups of faults that are on in a plan.
pub(crate) struct Groups(Vec<Kind>);

#[derive(Clone, Copy)]
enum Kind {
    Cut,
    HalfOpen,
    OneWay,
    SlowNet,
    Kill,
    Power,
    Both,
    Pause,
    Detach,
    Switch,
    Disconnect,
    Invalidate,
    Split,
    Restore,
    Foreign,
    Blank,
    Storm,
    Skew,
    Stray,
    Idle,
    DiskError(DiskPart),
    DiskHang,
    Stall,
    Latent,
    Spoil,
}

const KINDS: [Kind; 20] = [
    Kind::Cut,
    Kind::HalfOpen,
    Kind::OneWay,
    Kind::SlowNet,
    Kind::Kill,
    Kind::Power,
    Kind::Both,
    Kind::Pause,
    Kind::Detach,
    Kind::Switch,
    Kind::Disconnect,
    Kind::Invalidate,
    Kind::Split,
    Kind::Restore,
    Kind::Foreign,
    Kind::Blank,
    Kind::Storm,
    Kind::Skew,
    Kind::Stray,
    Kind::Idle,
];

/// Of disks, which are good in most plans.
const DISK_KINDS: [Kind; 7] = [
    Kind::DiskError(DiskPart::Data),
    Kind::DiskError(DiskPart::Flush),
    Kind::DiskError(DiskPart::Metadata),
    Kind::DiskHang,
    Kind::Stall,
    Kind::Latent,
    Kind::Spoil,
];

impl Groups {
    pub(crate) fn random(rng: &mut Rng) -> Groups {
        let share = rng.pick(&[15, 30, 50]);
        let disks = rng.chance(30);
        let all = KINDS.iter().chain(DISK_KINDS.iter().filter(|_| disks));
        Groups(all.copied().filter(|_| rng.chance(share)).collect())
    }

    /// All faults of a plan, in the order of their times.
    pub(crate) fn strikes(&self, rng: &mut Rng, plan: &Plan) -> Vec<Strike> {
        let gap = rng.pick(&[200_000, 1_000_000, 4_000_000]);
        let chain = rng.pick(&[0, 0, 50]);
        let mut strikes = Vec::new();
        let mut at = rng.between(100_000, 2 * gap);
        while at < plan.until && !self.0.is_empty() {
            let fault = self.draw(rng, plan);
            strikes.push(Strike { at, fault, aim: rng.chance(40).then(|| Aim::random(rng)) });
            if rng.chance(chain) {
                let at = at + rng.pick(&[1_000, 30_000, 400_000]) + rng.below(1_000);
                strikes.push(Strike { at, fault: self.draw(rng, plan), aim: None });
            }
            at += rng.between(gap / 8, 2 * gap);
        }
        strikes.sort_by_key(|strike| strike.at);
        strikes
    }

    /// All that chance decides about a fault.
    fn draw(&self, rng: &mut Rng, plan: &Plan) -> Fault {
        let kind = rng.pick(&self.0);
        let node = rng.below(2) as usize;
        let length = pause_length(rng);
        match kind {
            Kind::Cut | Kind::HalfOpen => {
                let apart = if rng.chance(50) { length } else { 0 };
                Fault::Cut { half_open: matches!(kind, Kind::HalfOpen), apart }
            }
            Kind::OneWay => Fault::OneWay { node },
            Kind::SlowNet => {
                Fault::SlowNet { more: rng.pick(&[50_000, 400_000, 3_000_000]), length }
            }
            Kind::Kill => Fault::Crash { node, power: false, length },
            Kind::Power => Fault::Crash { node, power: true, length },
            Kind::Both => {
                let other = pause_length(rng);
                Fault::Both { power: rng.chance(50), lengths: [length, other] }
            }
            Kind::Pause => {
                let longer = plan.disk_timeout_ms * 1_000 + rng.below(1_000_000);
                Fault::Pause { node, length: if rng.chance(30) { longer } else { length } }
            }
            Kind::Detach => Fault::Detach { node },
            Kind::Switch => Fault::Switch,
            Kind::Disconnect => Fault::Disconnect { node },
            Kind::Invalidate => Fault::Invalidate { node, peer: rng.chance(30) },
            Kind::Split => Fault::Split { apart: length },
            Kind::Restore => Fault::Restore { node, length },
            Kind::DiskError(what) => {
                Fault::DiskError { node, what, skip: rng.pick(&[0, 0, 1, 5, 30]) }
            }
            Kind::DiskHang => Fault::DiskHang { node },
            other => draw_more(other, rng, plan, node, length),
        }
    }
}

/// The same for what is rarer.
fn draw_more(kind: Kind, rng: &mut Rng, plan: &Plan, node: usize, length: u64) -> Fault {
    match kind {
        Kind::Stall => {
            let patience = plan.disk_timeout_ms * 1_000;
            let length = rng.pick(&[patience / 3, patience * 6 / 5, patience * 3]);
            Fault::Stall { node, length, share: rng.pick(&[30, 100]) }
        }
        Kind::Latent => Fault::Latent { node, block: rng.below(1 << 20) },
        Kind::Spoil => {
            let (part, how) = some_spoil(rng);
            Fault::Spoil { node, part, how }
        }
        Kind::Foreign => {
            Fault::Foreign { node, whose: rng.pick(&[Stranger::Volume, Stranger::Peer]), length }
        }
        Kind::Blank => Fault::Blank { node, length },
        Kind::Storm => {
            let (gap, heard) = (rng.pick(&[2_000, 20_000, 200_000]), rng.pick(&[0, 50, 100]));
            // Long ones are many events that show little more.
            let length = if rng.chance(15) { 2 * length } else { length / 4 };
            Fault::Storm { gap, heard, length: length + 300_000 }
        }
        Kind::Skew => Fault::Skew { node, length },
        Kind::Stray => Fault::Stray { node },
        Kind::Idle => Fault::Idle { length: 4 * length },
        _ => unreachable!("drawn before"),
    }
}

/// Something a node begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Moment {
    /// An operation on the data of its disk.
    DiskOperation,
    /// A write of metadata.
    MetaWrite,
    /// A message to the peer.
    Message,
}

/// What a fault waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Aim {
    node: usize,
    moment: Moment,
    /// How many such moments pass before.
    skip: u64,
    /// How far what has begun then is, in percent of the time that it takes.
    done: u64,
    /// And so many microseconds later.
    late: u64,
}

impl Aim {
    fn random(rng: &mut Rng) -> Aim {
        let moments = [Moment::DiskOperation, Moment::MetaWrite, Moment::Message];
        // At once, in the middle of it, or just after its end.
        let (done, late) = match rng.below(3) {
            0 => (0, 0),
            1 => (rng.below(101), 0),
            _ => (100, rng.below(500)),
        };
        Aim {
            node: rng.below(2) as usize,
            moment: rng.pick(&moments),
            skip: rng.pick(&[0, 1, 3, 20]),
            done,
            late,
        }
    }
}

/// A fault of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Strike {
    pub(crate) at: u64,
    pub(crate) fault: Fault,
    /// From then on it waits for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) aim: Option<Aim>,
}

impl World {
    /// The time of one of the plan's faults.
    pub(crate) fn fault_turn(&mut self, strike: Strike) {
        match strike.aim {
            Some(aim) => self.aim = Some((aim, strike.fault)),
            None => self.strike(strike.fault),
        }
    }

    /// A node begins something that will take `takes` microseconds.
    pub(crate) fn moment(&mut self, node: usize, moment: Moment, takes: u64) {
        let Some((aim, fault)) = &mut self.aim else { return };
        if (aim.node, aim.moment) != (node, moment) {
            return;
        }
        if aim.skip > 0 {
            aim.skip -= 1;
            return;
        }
        let (delay, fault) = (takes * aim.done / 100 + aim.late, *fault);
        self.aim = None;
        self.sums.count("aimed faults");
        self.after(delay, Event::Strike(fault));
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        if self.healing {
            return;
        }
        match fault {
            Fault::Cut { half_open, apart } => {
                self.sums.count("cuts");
                self.note(None, || format!("! cut, apart for {apart} us"));
                self.net.parted_until = self.net.parted_until.max(self.now + apart);
                self.cut(half_open);
            }
            Fault::OneWay { node } => {
                self.sums.count("one-way losses");
                self.note(Some(node), || "! hears nothing more".to_string());
                self.silence(node);
            }
            Fault::SlowNet { more, length } => {
                self.sums.count("slow networks");
                self.note(None, || format!("! network slower by {more} us for {length} us"));
                self.net.slow = (self.now + length, more);
            }
            Fault::Crash { node, power, length } => self.crash(node, power, length),
            Fault::Both { power, lengths } => {
                self.crash(0, power, lengths[0]);
                self.crash(1, power, lengths[1]);
            }
            Fault::Pause { node, length } => self.pause(node, length),
            Fault::Detach { node } => {
                self.sums.count("detaches");
                self.leave(node);
            }
            Fault::Switch => self.switch_over(),
            Fault::Disconnect { node } => self.command(node, Command::Disconnect),
            Fault::Invalidate { node, peer } => self.invalidate(node, peer),
            Fault::Restore { node, length } => {
                self.crash(node, true, length);
                self.restore(node);
            }
            Fault::Split { apart } => {
                self.net.parted_until = self.net.parted_until.max(self.now + apart);
                self.cut(false);
                self.operator.folly_until = self.now + apart;
            }
            Fault::DiskError { node, what, skip } => {
                self.note(Some(node), || format!("! {what:?} will fail, after {skip} more"));
                self.nodes[node].error_at = Some((what, skip));
            }
            Fault::Storm { gap, heard, length } => self.storm(gap, heard, length),
            Fault::Skew { node, length } => self.skew(node, length),
            Fault::Stray { node } => self.stray(node),
            Fault::Idle { length } => {
                self.sums.count("idle times");
                self.client.quiet_until = self.now + length;
            }
            Fault::Stall { .. }
            | Fault::Latent { .. }
            | Fault::Spoil { .. }
            | Fault::Foreign { .. }
            | Fault::Blank { .. } => self.media_fault(fault),
            Fault::DiskHang { node } => {
                self.note(Some(node), || "! the next operation will hang".to_string());
                self.nodes[node].hang_next = true;
            }
        }
    }

    fn crash(&mut self, node: usize, power: bool, length: u64) {
        self.sums.count(if power { "power cuts" } else { "kills" });
        self.note(Some(node), || format!("! dies, power: {power}, for {length} us"));
        self.kill_node(node, power);
        self.after(length, Event::Start { node });
    }

    pub(crate) fn pause(&mut self, node: usize, length: u64) {
        if self.nodes[node].is_running() && !self.nodes[node].paused {
            self.sums.count("pauses");
            self.note(Some(node), || format!("! paused for {length} us"));
            self.nodes[node].paused = true;
            let life = self.nodes[node].life;
            self.after(length, Event::Resume { node, life });
        }
    }
}
