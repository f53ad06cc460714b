//! Resync: the source copies every marked block to the target, beside the clients' writes.
//!
//! ```text
//!  source                                                              target
//!  next marked span ─► overlap index (locks it) ─► read ─► ResyncData ─────► overlap index ─► write
//!                                                                              │
//!  unlock, remember as copied ◄─────────────────────────────────── ResyncAck ──┘
//!  flush of both ─► copied spans are stable: clear their bits
//!  no bits left ─► record that the peer counts again ─► ResyncEnd ──────────► flush, record UpToDate
//!  record: nothing tracked any more ◄───────────────────────────── ResyncEndAck
//! ```
//!
//! - From the moment the connection is up, every client write goes to both nodes and needs both answers, so the cursor
//!   only moves forward and no write is lost between copy and end.
//! - A bit is cleared only after the target has flushed the block: an interruption at any point costs at most what
//!   was copied since the last flush.
//! - The source stops counting the peer as outdated *before* the target may call itself UpToDate: at no time may both
//!   go on alone.
//! - A target that is Primary writes by itself; resync data that meets such a write is skipped and comes again.

use super::pace::Pace;
use super::request::{Kind, Leg};
use super::{Owner, Replica};
use crate::limits::{
    BLOCK_BYTES, EXTENT_BYTES, IO_BYTES_MAX, RESYNC_JOBS_MAX, RESYNC_UNSTABLE_SPANS_MAX,
    ZERO_BYTES_MAX,
};
use crate::meta::superblock::{GenerationId, History};
use crate::replica::durable::Step;
use crate::replica::event::{
    Action, Buf, DiskOp, DiskResult, MetaSeq, Notice, OpId, Payload, Tick,
};
use crate::span::Span;
use crate::wire::message::{DiskState, Message, Outcome};

/// Pause before a span is tried again that the peer's client was writing, in milliseconds.
pub(super) const SKIPPED_PAUSE_MS: u64 = 10;
/// Pause before a span is tried again that could not be read or written, in milliseconds.
const FAILED_PAUSE_MS: u64 = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Off,
    /// Source: copying.
    Copying,
    /// Source: all copied and stable; the record that the peer counts again is being written.
    Closing(MetaSeq),
    /// Source: `ResyncEnd` is out.
    Ended,
    /// Target: taking in.
    Receiving,
    /// Target: the last flush, then the record.
    Flushing {
        current: GenerationId,
        history: History,
    },
    /// Target: the record is being written.
    Recording(MetaSeq),
}

/// One side of a resync.
#[derive(Debug)]
pub(super) struct Resync {
    stage: Stage,
    /// Source: after this step the union of both bitmaps is durable, and nothing is copied before.
    union: MetaSeq,
    /// Next block to look at.
    cursor: u64,
    /// The disk tells holes from data.
    holes: bool,
    /// Below this block nobody asks for holes again: there was data in a span that ends here.
    probed: u64,
    /// The job that asks the disk. No other begins meanwhile: it may have to start over at this one's beginning.
    probing: Option<u32>,
    jobs: usize,
    pub(super) pace: Pace,
    /// Copied since the last flush began, and before it.
    copied: Vec<Span>,
    closed: Vec<Span>,
    /// A job was skipped or failed: no other pass before this time.
    rest_until: Tick,
    /// Target: the connection was lost while the record that all is here was being written.
    unheard: Option<MetaSeq>,
    pub(super) total_blocks: u64,
    pub(super) began: Tick,
}

impl Resync {
    pub(super) fn new(holes: bool) -> Resync {
        let spans = || Vec::with_capacity(RESYNC_UNSTABLE_SPANS_MAX + RESYNC_JOBS_MAX);
        Resync {
            stage: Stage::Off,
            union: MetaSeq(0),
            cursor: 0,
            holes,
            probed: 0,
            probing: None,
            jobs: 0,
            pace: Pace::new(),
            copied: spans(),
            closed: spans(),
            rest_until: Tick(0),
            unheard: None,
            total_blocks: 0,
            began: Tick(0),
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.stage != Stage::Off
    }

    pub(super) fn is_source(&self) -> bool {
        matches!(self.stage, Stage::Copying | Stage::Closing(_) | Stage::Ended)
    }

    /// Resync jobs in flight.
    pub(super) fn jobs(&self) -> usize {
        self.jobs
    }

    /// Copied spans that are not stable.
    pub(super) fn spans(&self) -> usize {
        self.copied.len() + self.closed.len()
    }

    /// Spans were copied and no flush has covered them.
    pub(super) fn has_unstable(&self) -> bool {
        !self.copied.is_empty()
    }

    fn rest(&mut self, until: Tick) {
        self.rest_until = self.rest_until.max(until);
    }

    /// When the next pass or the next job may begin, if one is waited for.
    pub(super) fn rests_until(&self, now: Tick) -> Option<Tick> {
        let rest = (self.rest_until > now).then_some(self.rest_until);
        let until = rest.into_iter().chain(self.pace.waits_until(now)).min();
        until.filter(|_| self.stage == Stage::Copying)
    }

    /// A client's request that came at `arrived` is answered.
    pub(super) fn request_ends(&mut self, arrived: Tick, now: Tick) {
        match self.stage {
            Stage::Off => self.pace.request_ends_alone(arrived, now),
            Stage::Copying => self.pace.request_ends(arrived, now, self.jobs),
            _ => {}
        }
    }

    /// A job has left.
    pub(super) fn job_ended(&mut self, at: u32, now: Tick) {
        self.probe_ended(at);
        self.pace.job_ends(now);
        assert!(self.jobs > 0, "jobs are counted");
        self.jobs -= 1;
    }

    fn probe_ended(&mut self, at: u32) {
        self.probing = self.probing.filter(|probing| *probing != at);
    }

    /// A flush of both disks starts: it covers what was copied so far.
    pub(super) fn close_epoch(&mut self) {
        assert!(self.closed.is_empty(), "one flush of both disks at a time");
        std::mem::swap(&mut self.copied, &mut self.closed);
    }

    /// A block of `span` differs again, or may: what was copied before says nothing about it any more, and the flush
    /// that makes the copy stable must not clear its bit.
    pub(super) fn forget_copies_of(&mut self, span: Span) {
        let blocks = span.blocks();
        let untouched = |copy: &Span| {
            let copied = copy.blocks();
            copied.end <= blocks.start || blocks.end <= copied.start
        };
        self.copied.retain(untouched);
        self.closed.retain(untouched);
    }

    /// The flush did not end well on both: what was copied may not be stable, and stays marked.
    pub(super) fn forget_epochs(&mut self) {
        self.closed.clear();
        self.copied.clear();
    }
}

/// A span that no buffer takes is not read: the disk is asked whether it is a hole.
pub(super) fn is_probe(span: Span) -> bool {
    span.bytes() > IO_BYTES_MAX as u64
}

impl Replica {
    pub(super) fn resync_begins(&mut self, source: bool, union: MetaSeq) {
        let stage = if source { Stage::Copying } else { Stage::Receiving };
        self.resync.stage = stage;
        self.resync.union = union;
        self.resync.cursor = 0;
        self.resync.probed = 0;
        self.resync.pace.begins(self.now);
        self.resync.rest_until = self.now;
        self.resync.total_blocks = self.dirty.count();
        self.resync.began = self.now;
        let full = self.full_resync();
        self.notify(Notice::ResyncStarted { source, blocks: self.dirty.count(), full });
    }

    /// The connection or a disk is gone. Marked blocks stay marked.
    pub(super) fn resync_stops(&mut self) {
        if !self.resync.is_active() {
            return;
        }
        if let Stage::Recording(after) = self.resync.stage {
            self.resync.unheard = Some(after);
        }
        self.resync.stage = Stage::Off;
        self.resync.forget_epochs();
        self.ops.forget(|owner| owner == Owner::FlushForEnd);
    }

    /// The record that all is here is durable after all: this node stands where it would if the connection had been
    /// lost a moment later.
    pub(super) fn unheard_record_is_durable(&mut self) {
        let Some(_) = self.resync.unheard.take_if(|after| self.meta.is_durable(*after)) else {
            return;
        };
        if self.disk == DiskState::Inconsistent && self.sb.consistent {
            self.disk = if self.follows() { DiskState::Consistent } else { DiskState::UpToDate };
            self.meta.push(Step::Pages { stale: true });
            self.notify(Notice::State);
        }
    }

    pub(super) fn pump_resync(&mut self) {
        match self.resync.stage {
            Stage::Copying if self.meta.is_durable(self.resync.union) => self.pump_copying(),
            Stage::Closing(after) if self.meta.is_durable(after) => {
                let Some(current) = self.sb.current else { unreachable!("a source has data") };
                let message = Message::ResyncEnd { current, history: self.sb.history };
                self.resync.stage = Stage::Ended;
                self.send_with(message, Payload::None, after);
            }
            Stage::Recording(after) if self.meta.is_durable(after) => {
                self.resync.stage = Stage::Off;
                self.disk = DiskState::UpToDate;
                self.send_with(Message::ResyncEndAck, Payload::None, after);
                self.meta.push(Step::Pages { stale: true });
                self.notify(Notice::ResyncDone);
            }
            _ => {}
        }
    }

    fn pump_copying(&mut self) {
        self.start_copies();
        if self.resync.jobs > 0 || self.dirty.next(self.resync.cursor).is_some() {
            return;
        }
        if !self.resync.copied.is_empty() {
            self.want_flush();
            self.pump_flush();
        } else if self.resync.closed.is_empty() {
            self.pass_ended();
        }
    }

    /// As many as the pace, the target and the flushes allow.
    fn start_copies(&mut self) {
        let pending = self.serves_clients();
        let window = self.resync.pace.window(self.now, pending);
        let clients = self.resync.pace.has_clients(self.now, pending);
        while self.resync.jobs < window
            && self.resync.probing.is_none()
            && self.link.has_data_credit()
        {
            if self.resync.copied.len() >= RESYNC_UNSTABLE_SPANS_MAX {
                self.want_flush();
                self.pump_flush();
                if self.resync.copied.len() >= RESYNC_UNSTABLE_SPANS_MAX {
                    break;
                }
            }
            let Some(span) = self.next_to_copy(clients) else { break };
            self.resync.jobs += 1;
            self.resync.pace.job_begins(self.now);
            let at = self.admit(Kind::CopyOut, span);
            self.resync.probing = is_probe(span).then_some(at);
        }
        self.pump_requests();
    }

    /// One pass is over and stable.
    fn pass_ended(&mut self) {
        if self.dirty.count() > 0 {
            if self.now >= self.resync.rest_until {
                self.resync.cursor = 0; // skipped or failed blocks: another pass
                self.start_copies();
            }
            return;
        }
        assert!(self.disk == DiskState::UpToDate, "only the newest data is copied");
        self.meta.push(Step::Pages { stale: true });
        self.sb.peer_outdated = false;
        let after = self.write_superblock();
        self.resync.stage = Stage::Closing(after);
    }

    /// Blocks in a row that are all marked: as many as a buffer takes, or more, if they may be a hole.
    fn next_to_copy(&mut self, clients: bool) -> Option<Span> {
        let Some(first) = self.dirty.next(self.resync.cursor) else {
            // The bitmap of a large volume is not walked again at every event.
            self.resync.cursor = u64::MAX;
            return None;
        };
        let longest = match self.resync.holes && first >= self.resync.probed {
            // As long as one is filled with zeroes, nobody writes there.
            true if clients => EXTENT_BYTES,
            true => ZERO_BYTES_MAX,
            false => IO_BYTES_MAX as u64,
        };
        let run = self.dirty.run(first, longest / BLOCK_BYTES);
        self.resync.cursor = run.end;
        // A volume is a whole number of blocks, so a run never passes its end.
        let span = Span::of_blocks(run)?;
        assert!(span.within(self.sectors), "marked blocks lie within the volume");
        Some(span)
    }

    /// There is data in a span that was taken for a hole, or nobody can tell: it is read after all.
    fn is_no_hole(&mut self, at: u32) {
        let blocks = self.requests.get(at).span.blocks();
        self.resync.probed = self.resync.probed.max(blocks.end);
        self.resync.cursor = self.resync.cursor.min(blocks.start);
        self.finish(at);
    }

    /// The source has read a span, or asked whether it is a hole.
    pub(super) fn on_copy_read(&mut self, at: u32, op: OpId, result: DiskResult) {
        let request = *self.requests.get(at);
        self.resync.probe_ended(at);
        if is_probe(request.span) && result != DiskResult::DoneZero {
            self.is_no_hole(at);
            return;
        }
        if request.orphan || result == DiskResult::Failed || !self.resync.is_active() {
            self.actions.push_back(Action::ReleaseOp { op });
            self.copy_ended(at, Outcome::Failed);
            if result == DiskResult::Failed && !request.orphan {
                // Nothing to copy from: the block stays marked, and the resync cannot end.
                self.notify(Notice::DiskFailed(
                    "a read for resync failed; its block stays out of sync",
                ));
            }
            return;
        }
        let span = request.span;
        let id = u64::from(self.begin_op(Owner::Peer(at)));
        self.requests.get_mut(at).local = Leg::Done;
        self.requests.get_mut(at).peer = Leg::Busy;
        self.requests.get_mut(at).sent_zero = result == DiskResult::DoneZero;
        if result == DiskResult::DoneZero {
            self.actions.push_back(Action::ReleaseOp { op });
            let message = Message::ResyncZero { id, span };
            self.counters.resynced_zero_bytes += span.bytes();
            self.link.take_credit(&message);
            self.send(message);
        } else {
            let message = Message::ResyncData { id, span };
            self.link.take_credit(&message);
            self.send_with(message, Payload::Op(op), MetaSeq(0));
        }
    }

    /// The target has answered, or will not.
    pub(super) fn copy_ended(&mut self, at: u32, outcome: Outcome) {
        let span = self.requests.get(at).span;
        if self.resync.stage == Stage::Copying && !self.requests.get(at).orphan {
            match outcome {
                Outcome::Done => {
                    self.resync.copied.push(span);
                    self.watermark.data_was_written();
                    self.counters.resynced_bytes += span.bytes();
                }
                Outcome::Skipped => self.resync.rest(self.now.plus_ms(SKIPPED_PAUSE_MS)),
                Outcome::Failed => self.resync.rest(self.now.plus_ms(FAILED_PAUSE_MS)),
            }
        }
        self.finish(at);
    }

    /// A flush of both has ended: what it covered is stable at the target.
    pub(super) fn resync_is_stable(&mut self) {
        let mut closed = std::mem::take(&mut self.resync.closed);
        for span in closed.drain(..) {
            self.dirty.clear(span.whole_blocks());
        }
        self.resync.closed = closed;
    }

    /// The target: a span of the source's data. Or the peer repairs.
    pub(super) fn on_copy_in(&mut self, id: u64, span: Span, buf: Option<Buf>) {
        let receiving = self.resync.stage == Stage::Receiving;
        let repair = buf.is_some() && self.may_be_repair();
        if !(receiving || repair) || !span.within(self.sectors) || !span.is_whole() {
            self.release(buf);
            self.broken("resync data out of turn");
            return;
        }
        let meets_client =
            self.overlap.overlapping(span).any(|at| self.requests.get(at).kind.is_front_write());
        if meets_client || (repair && self.declines_repair()) {
            self.release(buf);
            self.answer_resync(id, span, buf.is_some(), Outcome::Skipped);
            return;
        }
        self.admit(Kind::CopyIn { id, buf }, span);
    }

    /// A span has been written at the target.
    pub(super) fn answer_copy(&mut self, at: u32, request: super::request::Request) {
        let Kind::CopyIn { id, buf } = request.kind else { unreachable!("called for copies") };
        let done = request.local == Leg::Done;
        if !request.orphan && self.link.is_up() {
            let outcome = if done { Outcome::Done } else { Outcome::Failed };
            if done && self.resync.stage == Stage::Receiving {
                self.dirty.clear(request.span.whole_blocks());
                self.counters.resynced_bytes += request.span.bytes();
            }
            self.answer_resync(id, request.span, buf.is_some(), outcome);
        }
        self.finish(at);
    }

    fn answer_resync(&mut self, id: u64, span: Span, data: bool, outcome: Outcome) {
        let request =
            if data { Message::ResyncData { id, span } } else { Message::ResyncZero { id, span } };
        self.link.count_out(&request);
        self.send(Message::ResyncAck { id, outcome });
    }

    /// The target: the source says that all is sent.
    pub(super) fn on_resync_end(&mut self, current: GenerationId, history: History) {
        let writing = self.requests.iter().any(|(_, r)| matches!(r.kind, Kind::CopyIn { .. }));
        if self.resync.stage != Stage::Receiving || writing {
            self.broken("the end of a resync out of turn");
            return;
        }
        self.resync.stage = Stage::Flushing { current, history };
        let op = self.begin_op(Owner::FlushForEnd);
        let after = self.meta.durable();
        self.actions.push_back(Action::Disk { op, what: DiskOp::Flush, after });
    }

    pub(super) fn on_flush_for_end(&mut self, ok: bool) {
        let Stage::Flushing { current, history } = self.resync.stage else { return };
        if !ok {
            self.disk_failed("a flush failed");
            return;
        }
        self.sb.current = Some(current);
        self.sb.history = history;
        self.sb.base = None;
        self.sb.consistent = true;
        self.dirty.clear_all();
        let after = self.write_superblock();
        self.resync.stage = Stage::Recording(after);
    }

    /// The source: the target is UpToDate, durably. Nothing is tracked any more.
    pub(super) fn on_resync_end_ack(&mut self) {
        if self.resync.stage != Stage::Ended {
            self.broken("an answer to no end of resync");
            return;
        }
        self.resync.stage = Stage::Off;
        self.link.set_peer_disk(DiskState::UpToDate);
        self.sb.base = None;
        self.sb.sole_source = false;
        self.sb.crashed = false;
        self.write_superblock();
        self.notify(Notice::ResyncDone);
        if self.dirty.count() > 0 {
            // A client's write failed here while the resync ended: the next connection copies its blocks.
            self.drop_link("blocks are out of sync again");
        }
    }
}
