//! Fate: which faults strike, and when.
//!
//! A fault is a value: chance has had its say before it strikes. At a random time most faults meet an idle node, so
//! some wait for a moment ([`Moment`]) and strike while something is under way, and some are followed by a second one
//! before anybody could repair what the first has done.

use crate::net::pause_length;
use crate::plan::Faults;
use crate::world::{Event, World};

/// A fault. Lengths in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// An operation of the disk fails, after some that do not.
    DiskError { node: usize, what: DiskPart, skip: u64 },
}

/// Operations of a disk by what they are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DiskPart {
    Data,
    Flush,
    Metadata,
}

/// The groups of faults, as a plan switches them on.
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
    DiskError(DiskPart),
}

impl Kind {
    fn all_of(faults: &Faults) -> Vec<Kind> {
        let all = [
            (faults.cut, Kind::Cut),
            (faults.half_open, Kind::HalfOpen),
            (faults.one_way, Kind::OneWay),
            (faults.slow_net, Kind::SlowNet),
            (faults.kill, Kind::Kill),
            (faults.power, Kind::Power),
            (faults.both, Kind::Both),
            (faults.pause, Kind::Pause),
            (faults.detach, Kind::Detach),
            (faults.switch, Kind::Switch),
            (faults.data_error, Kind::DiskError(DiskPart::Data)),
            (faults.flush_error, Kind::DiskError(DiskPart::Flush)),
            (faults.meta_error, Kind::DiskError(DiskPart::Metadata)),
        ];
        all.into_iter().filter(|(on, _)| *on).map(|(_, kind)| kind).collect()
    }
}

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
    /// Time for a fault.
    pub(crate) fn fault_turn(&mut self) {
        if self.healing {
            return;
        }
        let gap = self.plan.fault_gap;
        let pause = self.rng.between(gap / 8, 2 * gap);
        self.after(pause, Event::Fault);
        let kinds = Kind::all_of(&self.plan.faults);
        if kinds.is_empty() {
            return;
        }
        let kind = self.rng.pick(&kinds);
        let fault = self.draw(kind);
        if self.rng.chance(40) {
            self.aim_fault(fault);
        } else {
            self.strike(fault);
        }
        if self.rng.chance(self.plan.chain) {
            let kind = self.rng.pick(&kinds);
            let fault = self.draw(kind);
            let delay = self.rng.pick(&[1_000, 30_000, 400_000]) + self.rng.below(1_000);
            self.after(delay, Event::Strike { fault });
        }
    }

    /// All that chance decides about a fault.
    fn draw(&mut self, kind: Kind) -> Fault {
        let node = self.rng.below(2) as usize;
        let length = pause_length(&mut self.rng);
        match kind {
            Kind::Cut | Kind::HalfOpen => {
                let apart = if self.rng.chance(50) { length } else { 0 };
                Fault::Cut { half_open: matches!(kind, Kind::HalfOpen), apart }
            }
            Kind::OneWay => Fault::OneWay { node },
            Kind::SlowNet => {
                Fault::SlowNet { more: self.rng.pick(&[50_000, 400_000, 3_000_000]), length }
            }
            Kind::Kill => Fault::Crash { node, power: false, length },
            Kind::Power => Fault::Crash { node, power: true, length },
            Kind::Both => {
                let other = pause_length(&mut self.rng);
                Fault::Both { power: self.rng.chance(50), lengths: [length, other] }
            }
            Kind::Pause => {
                let longer = self.plan.disk_timeout_ms * 1_000 + self.rng.below(1_000_000);
                Fault::Pause { node, length: if self.rng.chance(30) { longer } else { length } }
            }
            Kind::Detach => Fault::Detach { node },
            Kind::Switch => Fault::Switch,
            Kind::DiskError(what) => {
                Fault::DiskError { node, what, skip: self.rng.pick(&[0, 0, 1, 5, 30]) }
            }
        }
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
            Fault::DiskError { node, what, skip } => {
                self.note(Some(node), || format!("! {what:?} will fail, after {skip} more"));
                self.nodes[node].error_at = Some((what, skip));
            }
        }
    }

    fn crash(&mut self, node: usize, power: bool, length: u64) {
        self.sums.count(if power { "power cuts" } else { "kills" });
        self.note(Some(node), || format!("! dies, power: {power}, for {length} us"));
        self.kill_node(node, power);
        self.after(length, Event::Start { node });
    }

    fn pause(&mut self, node: usize, length: u64) {
        if self.nodes[node].is_running() && !self.nodes[node].paused {
            self.sums.count("pauses");
            self.note(Some(node), || format!("! paused for {length} us"));
            self.nodes[node].paused = true;
            let life = self.nodes[node].life;
            self.after(length, Event::Resume { node, life });
        }
    }

    /// The fault strikes when a node begins something.
    fn aim_fault(&mut self, fault: Fault) {
        let node = self.rng.below(2) as usize;
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
        self.after(delay, Event::Strike { fault: aim.fault });
    }
}
