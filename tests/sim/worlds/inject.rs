//! Strikes the one fault of a small world. Without one it only counts.

use crate::rng::Rng;
use crate::world::World;
use crate::worlds::fault::{Counts, Fault, Kind, Who};

/// The fault to come, and how far the world is.
#[derive(Default)]
pub(crate) struct Inject {
    /// The script has begun: things are counted.
    pub(crate) on: bool,
    pub(crate) fault: Option<Fault>,
    /// It has struck.
    pub(crate) struck: bool,
    /// Nothing was left to the fate of a power cut: its other fates are the same world.
    pub(crate) fateless: bool,
    pub(crate) counts: Counts,
}

/// What becomes of a message on its way.
pub(crate) enum Passage {
    Through,
    Lost,
    /// It arrives and nothing after it.
    Last,
}

impl Inject {
    /// Counts one, and says what strikes at it.
    fn strikes(
        &mut self,
        same: impl Fn(Kind) -> bool,
        count: impl Fn(&mut Counts) -> &mut u64,
    ) -> Option<Kind> {
        if !self.on {
            return None;
        }
        let number = count(&mut self.counts);
        *number += 1;
        let fault = self.fault.filter(|fault| same(fault.kind) && fault.number == *number)?;
        self.struck = true;
        Some(fault.kind)
    }
}

impl World {
    /// Before an event.
    pub(crate) fn inject_event(&mut self) {
        let struck = self.inject.strikes(Kind::is_crash, |counts| &mut counts.events);
        match struck {
            Some(Kind::Kill(who)) => self.crash_now(who, false),
            Some(Kind::Power(who, fate)) => {
                let decided = |node: usize| {
                    let disk = &self.nodes[node].disk;
                    !disk.in_flight.is_empty() || disk.meta.pending() > 0 || disk.has_unflushed()
                };
                self.inject.fateless =
                    ![0, 1].into_iter().any(|node| who.includes(node) && decided(node));
                let usual = std::mem::replace(&mut self.rng, Rng::forced(fate));
                self.crash_now(who, true);
                self.rng = usual;
            }
            _ => {}
        }
    }

    fn crash_now(&mut self, who: Who, power: bool) {
        for node in [0, 1] {
            if who.includes(node) {
                self.note(Some(node), || format!("! dies, power: {power}"));
                self.kill_node(node, power);
            }
        }
    }

    /// An operation on the data area or a flush is about to end. True if it fails.
    pub(crate) fn inject_disk(&mut self, node: usize, flush: bool) -> bool {
        let struck = match flush {
            true => self
                .inject
                .strikes(|kind| kind == Kind::Flush(node), |counts| &mut counts.flush[node]),
            false => self
                .inject
                .strikes(|kind| kind == Kind::Data(node), |counts| &mut counts.data[node]),
        };
        if struck.is_some() {
            self.disk_failed = true;
            self.note(Some(node), || format!("! disk operation fails, flush: {flush}"));
        }
        struck.is_some()
    }

    /// A write of metadata is about to end: how it fails, if it does.
    pub(crate) fn inject_meta(&mut self, node: usize) -> Option<Rng> {
        let same = |kind| matches!(kind, Kind::Meta(at, _) if at == node);
        let Some(Kind::Meta(_, fate)) = self.inject.strikes(same, |counts| &mut counts.meta[node])
        else {
            return None;
        };
        self.disk_failed = true;
        self.note(Some(node), || "! metadata write fails".to_string());
        Some(Rng::forced(fate))
    }

    /// A message is about to arrive.
    pub(crate) fn inject_message(&mut self, to: usize) -> Passage {
        let same = |kind| match kind {
            Kind::Cut { to: at, .. } | Kind::Deaf(at) => at == to,
            _ => false,
        };
        match self.inject.strikes(same, |counts| &mut counts.heard[to]) {
            Some(Kind::Cut { delivered: true, .. }) => Passage::Last,
            Some(Kind::Cut { .. }) => {
                self.cut_now();
                Passage::Lost
            }
            Some(Kind::Deaf(_)) => {
                self.note(Some(to), || "! hears nothing more".to_string());
                self.silence(to);
                Passage::Lost
            }
            _ => Passage::Through,
        }
    }

    /// The connection ends for both; after every other cut it stays so until the nodes have given each other up.
    pub(crate) fn cut_now(&mut self) {
        let number = self.inject.fault.map_or(0, |fault| fault.number);
        let apart = if number % 2 == 0 { 0 } else { 3_000_000 };
        self.note(None, || format!("! cut, apart for {apart} us"));
        self.net.parted_until = self.now + apart;
        self.cut(false);
    }
}
