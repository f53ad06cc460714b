//! Strikes the faults of a small world, one after the other. Without any it only counts.

use crate::rng::Rng;
use crate::world::World;
use crate::worlds::fault::{Counts, Fault, Kind, Who};
use std::collections::VecDeque;

/// The faults to come, and how far the world is.
#[derive(Default)]
pub(crate) struct Inject {
    /// The script has begun: things are counted.
    pub(crate) on: bool,
    /// The first is the next to strike.
    pub(crate) faults: VecDeque<Fault>,
    /// Those that have struck.
    pub(crate) struck: usize,
    /// A crash has struck and nobody has dealt with it yet.
    pub(crate) crashed: Option<(Who, u64)>,
    /// Nothing was left to the fate of a power cut: its other fates are the same world.
    pub(crate) fateless: bool,
    /// What there was since the last fault, or since the script began.
    pub(crate) counts: Counts,
}

/// A disk stalls for longer than it is waited for where the peer can take over.
const STALL_US: u64 = 8_000_000;

/// How an operation of the disk ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Well,
    Fails,
    /// So many microseconds from now.
    Late(u64),
    Never,
}

/// What becomes of a message on its way.
pub(crate) enum Passage {
    Through,
    Lost,
    /// It arrives and nothing after it; the number of the cut.
    Last(u64),
}

impl Inject {
    /// Counts one, and says what strikes at it.
    fn strikes(
        &mut self,
        same: impl Fn(Kind) -> bool,
        count: impl Fn(&mut Counts) -> &mut u64,
    ) -> Option<Fault> {
        if !self.on {
            return None;
        }
        let number = count(&mut self.counts);
        *number += 1;
        let fault = *self.faults.front()?;
        if !same(fault.kind) || fault.number != *number {
            return None;
        }
        self.faults.pop_front();
        self.struck += 1;
        self.counts = Counts::default();
        Some(fault)
    }
}

impl World {
    /// Before an event.
    pub(crate) fn inject_event(&mut self) {
        let struck = self.inject.strikes(Kind::is_crash, |counts| &mut counts.events);
        let Some(Fault { kind, number }) = struck else { return };
        match kind {
            Kind::Kill(who) => {
                self.inject.crashed = Some((who, number));
                self.crash_now(who, false);
            }
            Kind::Power(who, fate) => {
                self.inject.crashed = Some((who, number));
                let decides = |node: &usize| {
                    let disk = &self.nodes[*node].disk;
                    !disk.in_flight.is_empty() || disk.meta.pending() > 0 || disk.has_unflushed()
                };
                self.inject.fateless = !who.nodes().iter().any(decides);
                let usual = std::mem::replace(&mut self.rng, Rng::forced(fate));
                self.crash_now(who, true);
                self.rng = usual;
            }
            _ => unreachable!("only crashes are counted by events"),
        }
    }

    fn crash_now(&mut self, who: Who, power: bool) {
        for node in who.nodes() {
            self.note(Some(*node), || format!("! dies, power: {power}"));
            self.kill_node(*node, power);
        }
    }

    /// An operation on the data area or a flush is about to end.
    pub(crate) fn inject_disk(&mut self, node: usize, flush: bool) -> Ending {
        let data = [Kind::Data(node), Kind::Hang(node), Kind::Stall(node)];
        let struck = self.inject.strikes(
            |kind| if flush { kind == Kind::Flush(node) } else { data.contains(&kind) },
            |counts| if flush { &mut counts.flush[node] } else { &mut counts.data[node] },
        );
        let Some(fault) = struck else { return Ending::Well };
        self.disk_failed = true;
        self.nodes[node].harmed = true;
        self.note(Some(node), || format!("! {:?}", fault.kind));
        match fault.kind {
            Kind::Hang(_) => Ending::Never,
            Kind::Stall(_) => {
                self.stall(node, STALL_US, 100);
                Ending::Late(STALL_US)
            }
            _ => Ending::Fails,
        }
    }

    /// A write of metadata is about to end: what lands of it, if it fails.
    pub(crate) fn inject_meta(&mut self, node: usize) -> Option<Rng> {
        let same = |kind| matches!(kind, Kind::Meta(at, _) if at == node);
        let struck = self.inject.strikes(same, |counts| &mut counts.meta[node])?;
        let Kind::Meta(_, fate) = struck.kind else { return None };
        self.disk_failed = true;
        self.nodes[node].harmed = true;
        self.note(Some(node), || "! metadata write fails".to_string());
        Some(Rng::forced(fate))
    }

    /// A message is about to arrive.
    pub(crate) fn inject_message(&mut self, to: usize) -> Passage {
        let same = |kind| match kind {
            Kind::Cut { to: at, .. } | Kind::Deaf(at) => at == to,
            _ => false,
        };
        let struck = self.inject.strikes(same, |counts| &mut counts.heard[to]);
        match struck.map(|fault| (fault.kind, fault.number)) {
            Some((Kind::Cut { delivered: true, .. }, number)) => Passage::Last(number),
            Some((Kind::Cut { .. }, number)) => {
                self.cut_now(number);
                Passage::Lost
            }
            Some(_) => {
                self.note(Some(to), || "! hears nothing more".to_string());
                self.silence(to);
                Passage::Lost
            }
            None => Passage::Through,
        }
    }

    /// The connection ends for both; every other time it stays so until the nodes have given each other up.
    pub(crate) fn cut_now(&mut self, number: u64) {
        let apart = if number.is_multiple_of(2) { 0 } else { 3_000_000 };
        self.note(None, || format!("! cut, apart for {apart} us"));
        self.net.parted_until = self.now + apart;
        self.cut(false);
    }
}
