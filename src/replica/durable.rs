//! The order of metadata: steps that become durable one after the other.
//!
//! A step is a group of blocks that may be written at once. Step N + 1 starts when all of step N is on stable media,
//! so a number ([`MetaSeq`]) is enough to say what something must follow.
//!
//! ```text
//!   Pages ──────────► Superblock copy 0 ──► Superblock copy 1      a new generation: bits first
//!   Log: pages of evicted extents ──► transaction                  turn-over of the activity log
//! ```
//!
//! A transaction of the activity log takes in every extent that was asked for before it starts: group commit.

use crate::limits::META_STEPS_MAX;
use crate::meta::superblock::Superblock;
use crate::replica::event::MetaSeq;
use std::collections::VecDeque;

/// What a step writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// All bitmap pages that the disk misses bits of; with `stale` also those it has too many of.
    Pages {
        /// Write pages with cleared bits as well.
        stale: bool,
    },
    /// A transaction of the activity log, and before it the pages of evicted extents.
    Log,
    /// A copy of the superblock, with the content it had when it was asked for.
    Superblock {
        /// Which copy.
        copy: u8,
        /// The content.
        content: Superblock,
    },
}

/// What is being written of the step at the front.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Nothing yet.
    Waiting,
    /// Pages from this one on are still to be written.
    Pages(u32),
    /// The last blocks are in flight.
    Last,
}

/// The queue of steps.
#[derive(Debug)]
pub(super) struct MetaQueue {
    steps: VecDeque<(MetaSeq, Step)>,
    pub(super) progress: Progress,
    /// Writes in flight, all of the step at the front.
    pub(super) in_flight: u32,
    next: MetaSeq,
    durable: MetaSeq,
}

impl MetaQueue {
    pub(super) fn new() -> MetaQueue {
        MetaQueue {
            steps: VecDeque::with_capacity(META_STEPS_MAX),
            progress: Progress::Waiting,
            in_flight: 0,
            next: MetaSeq(1),
            durable: MetaSeq(0),
        }
    }

    /// Adds a step.
    pub(super) fn push(&mut self, step: Step) -> MetaSeq {
        let seq = self.next;
        self.next = MetaSeq(seq.0 + 1);
        self.steps.push_back((seq, step));
        seq
    }

    /// The step of the next transaction of the activity log: one that is queued and has not started, or a new one.
    pub(super) fn log_step(&mut self) -> MetaSeq {
        self.next_such(Step::Log)
    }

    /// The step after which the bits set so far are durable: one that is queued and has not started, or a new one. A
    /// link that comes and goes while the disk is slow must not queue one after the other.
    pub(super) fn pages_step(&mut self) -> MetaSeq {
        self.next_such(Step::Pages { stale: false })
    }

    fn next_such(&mut self, wanted: Step) -> MetaSeq {
        let started = usize::from(self.progress != Progress::Waiting);
        let queued = self.steps.iter().skip(started).find(|(_, step)| *step == wanted);
        match queued {
            Some((seq, _)) => *seq,
            None => self.push(wanted),
        }
    }

    /// Steps that are not durable.
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// The step being written.
    pub(super) fn front(&self) -> Option<Step> {
        self.steps.front().map(|(_, step)| *step)
    }

    /// The step at the front is on stable media.
    pub(super) fn front_is_durable(&mut self) {
        assert!(self.in_flight == 0, "a step is durable when all its writes are");
        let (seq, _) = self.steps.pop_front().expect("a step was being written");
        assert!(seq > self.durable, "steps become durable in order");
        self.durable = seq;
        self.progress = Progress::Waiting;
    }

    /// The newest durable step.
    pub(super) fn durable(&self) -> MetaSeq {
        self.durable
    }

    /// True if everything up to `seq` is on stable media.
    pub(super) fn is_durable(&self, seq: MetaSeq) -> bool {
        seq <= self.durable
    }

    /// The disk has failed: nothing more becomes durable.
    pub(super) fn abandon(&mut self) {
        self.steps.clear();
        self.progress = Progress::Waiting;
        self.in_flight = 0;
    }
}
