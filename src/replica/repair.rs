//! Repair: what a verify has found to differ is written anew on the peer, as the Primary has it, beside its clients.
//!
//! ```text
//!  Primary                                                             peer
//!  next span ─► overlap index (locks it) ─► read ─► ResyncData ─────► overlap index ─► write
//!  unlock ◄──────────────────────────────────────── ResyncAck ───────────┘
//!  all is copied ─► flush of both ─► done
//! ```
//!
//! Both disks go on counting as equal, and the connection stays. Nothing is marked, no generation is made, nobody goes
//! alone: a mark says that the disks differ and not which is right, and whoever later is the source for another reason
//! would copy the wrong half over the right one. A repair that ends early leaves different what was different, and it
//! stays listed.
//!
//! A node copies only while it is Primary and the peer is not. What the peer's disk has taken counts once both have
//! flushed; whatever breaks before, it is copied again.

use super::request::{Kind, Leg, Request};
use super::resync::SKIPPED_PAUSE_MS;
use super::{Owner, Replica};
use crate::limits::{BLOCK_BYTES, IO_BYTES_MAX, RESYNC_JOBS_MAX, RESYNC_UNSTABLE_SPANS_MAX};
use crate::replica::event::{
    Action, CommandError, CommandId, DiskResult, MetaSeq, Notice, OpId, Payload, Tick,
};
use crate::span::Span;
use crate::wire::PROTOCOL_2;
use crate::wire::message::{DiskState, Message, Outcome, Role};
use std::collections::VecDeque;
use std::ops::Range;

/// The repair that runs.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// Runs of blocks to copy.
    left: VecDeque<Range<u64>>,
    jobs: usize,
    /// An operator has ended it.
    stopped: bool,
    /// A job was skipped: no other begins before this time.
    rest_until: Tick,
    /// Copied since the last flush began, and before it.
    copied: Vec<Span>,
    closed: Vec<Span>,
    /// Blocks that one of the disks does not do.
    failed: Vec<Range<u64>>,
}

impl Repair {
    /// Spans that are being copied.
    pub(super) fn jobs(&self) -> usize {
        self.jobs
    }

    /// Spans were copied and no flush has covered them.
    pub(super) fn has_unstable(&self) -> bool {
        !self.copied.is_empty()
    }

    /// A flush of both disks starts: it covers what was copied so far.
    pub(super) fn close_epoch(&mut self) {
        assert!(self.closed.is_empty(), "one flush of both disks at a time");
        std::mem::swap(&mut self.copied, &mut self.closed);
    }

    /// The flush did not end well on both.
    pub(super) fn forget_epochs(&mut self) {
        let again = self.closed.drain(..).chain(self.copied.drain(..));
        self.left.extend(again.map(Span::blocks));
    }

    fn again(&mut self, span: Span) {
        self.left.push_back(span.blocks());
    }

    /// As much of the next run as a buffer takes.
    fn next(&mut self) -> Option<Span> {
        let run = self.left.front_mut()?;
        let end = run.end.min(run.start + IO_BYTES_MAX as u64 / BLOCK_BYTES);
        let span = Span::of_blocks(run.start..end)?;
        run.start = end;
        if run.is_empty() {
            self.left.pop_front();
        }
        Some(span)
    }

    fn is_over(&self) -> bool {
        self.jobs == 0 && self.left.is_empty() && self.closed.is_empty() && self.copied.is_empty()
    }
}

impl Replica {
    /// Has what the last verify found copied from here to the peer.
    pub(super) fn repair(&mut self, id: CommandId) {
        let result = match self.cannot_repair() {
            Some(error) => Err(error),
            None => {
                self.repair = Repair::default();
                self.repair.left = std::mem::take(&mut self.verify.differences).into();
                self.verify.repair_begins(self.repair.left.iter().map(blocks_of).sum(), self.now);
                self.notify(Notice::RepairBegins);
                Ok(())
            }
        };
        self.reply(id, result);
    }

    fn cannot_repair(&self) -> Option<CommandError> {
        if self.verify.is_running() || self.verify.is_repairing() || self.repair.jobs > 0 {
            Some(CommandError::Verifying)
        } else if self.verify.differences.is_empty() {
            Some(CommandError::NothingToRepair)
        } else if !self.link.is_up() {
            Some(CommandError::PeerAway)
        } else if self.link.peer_role() == Role::Primary {
            Some(CommandError::PeerIsPrimary)
        } else if self.role != Role::Primary {
            Some(CommandError::NotPrimary)
        } else {
            self.cannot_change_role().or_else(|| self.cannot_verify())
        }
    }

    /// It may go on, now or later: nobody has decided against it, or against this node's data, since it began.
    fn may_repair(&self) -> bool {
        let peer = !self.link.is_up() || self.link.peer_role() == Role::Secondary;
        let good = self.role == Role::Primary && self.disk == DiskState::UpToDate;
        good && peer && !self.repair.stopped
    }

    /// A span may be copied now.
    pub(super) fn rewrites(&self) -> bool {
        self.verify.is_repairing() && self.may_repair() && self.may_compare()
    }

    pub(super) fn pump_repair(&mut self) {
        if !self.verify.is_repairing() {
            return;
        }
        if !self.may_repair() {
            self.repair.stopped = true; // for good: what is decided now may be undone before the last job ends
            if self.repair.jobs == 0 {
                self.end_repair();
            }
            return;
        }
        if !self.rewrites() {
            return; // until both disks are UpToDate again
        }
        let pending = self.serves_clients();
        let window = self.verify.pace.window(self.now, pending).min(RESYNC_JOBS_MAX);
        while self.repair.jobs < window
            && self.now >= self.repair.rest_until
            && self.repair.copied.len() < RESYNC_UNSTABLE_SPANS_MAX
            && self.link.has_data_credit()
            && let Some(span) = self.repair.next()
        {
            self.repair.jobs += 1;
            self.verify.pace.job_begins(self.now);
            self.admit(Kind::Rewrite, span);
        }
        self.pump_requests();
        let full = self.repair.copied.len() >= RESYNC_UNSTABLE_SPANS_MAX;
        let all = self.repair.jobs == 0 && self.repair.left.is_empty();
        if (full || all) && self.repair.has_unstable() {
            self.want_flush();
            self.pump_flush();
        }
        if self.repair.is_over() {
            self.end_repair();
        }
    }

    /// An operator ends it: no other job begins.
    pub(super) fn stop_repair(&mut self) {
        self.repair.stopped = true;
    }

    /// What is not copied, or not stable at the peer, stays listed.
    fn end_repair(&mut self) {
        self.repair.forget_epochs();
        let left = self.repair.left.drain(..).chain(self.repair.failed.drain(..));
        self.verify.repair_ends(left.collect());
        self.notify(Notice::RepairEnds);
    }

    /// When the next span may be tried, if one waits for its time.
    pub(super) fn repair_rests_until(&self) -> Option<Tick> {
        let rest = Some(self.repair.rest_until).filter(|until| *until > self.now);
        let listens = self.verify.pace.waits_until(self.now);
        rest.into_iter().chain(listens).min().filter(|_| self.rewrites())
    }

    /// This node has read a span: to the peer with it.
    pub(super) fn on_rewrite_read(&mut self, at: u32, op: OpId, result: DiskResult) {
        let request = *self.requests.get(at);
        if request.orphan || result == DiskResult::Failed || !self.rewrites() {
            self.actions.push_back(Action::ReleaseOp { op });
            self.rewrite_ended(at, Outcome::Failed);
            return;
        }
        let id = u64::from(self.begin_op(Owner::Peer(at)));
        let entry = self.requests.get_mut(at);
        (entry.local, entry.peer) = (Leg::Done, Leg::Busy);
        let message = Message::ResyncData { id, span: request.span };
        self.link.take_credit(&message);
        self.send_with(message, Payload::Op(op), MetaSeq(0));
    }

    /// The peer has answered, or this node has no disk to read from.
    pub(super) fn rewrite_ended(&mut self, at: u32, outcome: Outcome) {
        let Request { span, orphan, .. } = *self.requests.get(at);
        match outcome {
            _ if orphan => {} // it was put back with its connection
            Outcome::Done if self.link.peer_has_disk() => {
                self.repair.copied.push(span);
                self.watermark.data_was_written();
            }
            _ if !self.rewrites() => self.repair.again(span),
            Outcome::Failed => self.repair.failed.push(span.blocks()),
            Outcome::Done | Outcome::Skipped => {
                self.repair.again(span);
                self.repair.rest_until = self.now.plus_ms(SKIPPED_PAUSE_MS);
            }
        }
        self.finish(at);
    }

    /// The connection is gone: the span is copied again on the next one; not if the peer's disk took so long that it
    /// may have gone for that. True if the request is over with it.
    pub(super) fn rewrite_lost_peer(&mut self, request: Request) -> bool {
        assert!(self.verify.is_repairing(), "a repair ends after its last job");
        let slow = request.peer == Leg::Busy && self.parted_over(&request);
        if request.orphan {
            // An earlier connection was lost, and the disk reads it still.
        } else if slow {
            self.repair.failed.push(request.span.blocks());
        } else {
            self.repair.again(request.span);
        }
        request.peer == Leg::Busy
    }

    /// A job has left.
    pub(super) fn rewrite_left(&mut self) {
        assert!(self.repair.jobs > 0, "jobs are counted");
        self.repair.jobs -= 1;
        self.verify.pace.job_ends(self.now);
    }

    /// A flush of both has ended: what it covered is stable at the peer.
    pub(super) fn repair_is_stable(&mut self) {
        for span in self.repair.closed.drain(..) {
            self.verify.repaired(&span.blocks());
        }
    }

    /// What the peer sends may be a repair: it is Primary, and no resync runs.
    pub(super) fn may_be_repair(&self) -> bool {
        !self.resync.is_active()
            && self.link.peer_role() == Role::Primary
            && self.link.peer_speaks(PROTOCOL_2)
    }

    /// Not now: clients write here, or this node's data is on its way to count no more. The peer hears of that in
    /// another way; a disk that has just failed is an answer.
    pub(super) fn declines_repair(&self) -> bool {
        let leaves = self.role_change.is_leaving() || self.disk != DiskState::UpToDate;
        self.role == Role::Primary || (self.has_disk() && leaves)
    }
}

fn blocks_of(run: &Range<u64>) -> u64 {
    run.end - run.start
}
