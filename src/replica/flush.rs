//! Flush means both: one flush of both disks at a time, shared by all who wait.
//!
//! ```text
//!   asked ──► next ──(no flush runs)──► running: local disk + peer ──► both answered
//!                                                                       ├─ both done: epoch stable, answered
//!                                                                       ├─ one done: answered once that is on record
//!                                                                       └─ only a resync target: next, with the source
//! ```
//!
//! A flush covers what had been answered before it *started*, so one that arrives while another runs waits for the
//! next. A failed flush means that disk has failed: it is never tried again (reliability: the kernel drops
//! the failed pages, and a second flush would report success).

use super::request::Leg;
use super::{Owner, Replica};
use crate::limits::{FRONT_REQUESTS_MAX, IDLE_FLUSH_MS};
use crate::replica::event::{Action, ConnId, DiskOp, FrontId, FrontResult, OpId, Tick};
use crate::wire::message::{DiskState, Message, Outcome};

#[derive(Clone, Copy, Debug)]
struct Run {
    local: Leg,
    peer: Leg,
}

/// A client that waits for a flush, and since when.
#[derive(Clone, Copy, Debug)]
struct Asked {
    id: FrontId,
    at: Tick,
}

/// The one flush that runs and those who wait.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    running: Option<Run>,
    /// Clients answered by the flush that runs.
    covered: Vec<Asked>,
    /// Clients for the next.
    next: Vec<Asked>,
    /// Clients whose flush is done here, and wait for the record that this node is alone, or that the peer owns
    /// the data.
    unrecorded: Vec<Asked>,
    /// The core itself wants a flush: room in the activity log, resync, change of role.
    wanted: bool,
    last: Tick,
}

impl Flusher {
    /// True if a client waits for a flush.
    pub(super) fn serves_clients(&self) -> bool {
        !(self.covered.is_empty() && self.next.is_empty() && self.unrecorded.is_empty())
    }

    /// Clients whose flush is not answered.
    pub(super) fn clients(&self) -> usize {
        self.covered.len() + self.next.len() + self.unrecorded.len()
    }

    /// Since when a client waits for a flush to begin or for the record that one needs.
    pub(super) fn asked(&self) -> Option<Tick> {
        self.next.iter().chain(&self.unrecorded).map(|asked| asked.at).min()
    }

    /// True while one runs.
    pub(super) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// A flush is done here and waits for the record that this node is alone.
    pub(super) fn awaits_alone(&self) -> bool {
        !self.unrecorded.is_empty()
    }

    /// True if none runs and none is wanted.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none() && !self.wanted && !self.serves_clients()
    }
}

impl Replica {
    pub(super) fn flush_for_client(&mut self, id: FrontId) {
        assert!(self.flusher.next.len() < FRONT_REQUESTS_MAX, "flushes are bounded by the front");
        self.flusher.next.push(Asked { id, at: self.now });
    }

    /// The core wants what has been accepted so far to become stable on both nodes.
    pub(super) fn want_flush(&mut self) {
        self.flusher.wanted = true;
    }

    pub(super) fn pump_flush(&mut self) {
        let starved = self.requests.log_is_starved() && self.activity.unstable() > 0;
        // Resync too: an interruption costs what was copied since the last flush, so it must not be long ago.
        let unstable = self.activity.unstable() > 0
            || self.resync.has_unstable()
            || self.repair.has_unstable();
        let idle = unstable && self.now >= self.flusher.last.plus_ms(IDLE_FLUSH_MS);
        self.flusher.wanted |= starved || idle || self.mark_is_due();
        let asked = self.flusher.wanted || !self.flusher.next.is_empty();
        if self.flusher.running.is_none() && asked {
            self.start_flush();
        }
    }

    fn start_flush(&mut self) {
        let peer = self.link.is_up() && self.link.peer_has_disk();
        let local = self.has_disk();
        if !local && !peer {
            if self.link.is_up() || self.is_hopeless() {
                self.fail_flushes();
            }
            return; // without a disk: wait for the peer to come back
        }
        if !peer && self.is_hopeless() {
            self.fail_flushes();
            return;
        }
        // Only an answer to a client says something about the data. A change of role must not wait here: the greeting
        // waits for it.
        let undecided = self.disk == DiskState::UpToDate && !self.may_write_alone();
        let no_voucher = self.disk == DiskState::Inconsistent;
        if !peer && (undecided || no_voucher) && !self.flusher.next.is_empty() {
            return; // clients wait: for the peer that is about to be back, or for the one with the data
        }
        self.flusher.wanted = false;
        let flusher = &mut self.flusher;
        assert!(flusher.covered.is_empty(), "the last flush has answered all it covered");
        std::mem::swap(&mut flusher.covered, &mut flusher.next);
        flusher.last = self.now;
        self.activity.close_epoch();
        self.resync.close_epoch();
        self.repair.close_epoch();
        let leg = |on| if on { Leg::Busy } else { Leg::Absent };
        self.flusher.running = Some(Run { local: leg(local), peer: leg(peer) });
        if local {
            let op = self.begin_op(Owner::FlushLocal);
            let after = self.meta.durable();
            self.actions.push_back(Action::Disk { op, what: DiskOp::Flush, after });
        }
        if peer {
            let id = u64::from(self.begin_op(Owner::FlushPeer));
            let mark = self.ask_for_mark();
            self.send(Message::Flush { id, mark });
        }
    }

    pub(super) fn on_local_flush(&mut self, ok: bool) {
        self.flush_leg(|run| &mut run.local, if ok { Leg::Done } else { Leg::Failed });
        if !ok {
            self.disk_failed("a flush failed");
        }
        self.settle_flush();
    }

    pub(super) fn on_flush_ack(&mut self, id: u64, outcome: Outcome) -> bool {
        if self.ops.owner(OpId(id)) != Some(Owner::FlushPeer) {
            // Its disk failed while it was flushing: the news overtook the answer, and nobody waits for that any more.
            return !self.link.peer_has_disk();
        }
        self.ops.end(OpId(id));
        let leg = if outcome == Outcome::Done { Leg::Done } else { Leg::Failed };
        self.flush_leg(|run| &mut run.peer, leg);
        self.settle_flush();
        true
    }

    fn flush_leg(&mut self, which: impl Fn(&mut Run) -> &mut Leg, answer: Leg) {
        let run = self.flusher.running.as_mut().expect("an answer belongs to the flush that runs");
        let leg = which(run);
        assert!(*leg == Leg::Busy, "a leg answers once");
        *leg = answer;
    }

    /// The connection is gone.
    pub(super) fn flush_lost_peer(&mut self) {
        if let Some(run) = self.flusher.running.as_mut()
            && run.peer != Leg::Absent
        {
            run.peer = Leg::Lost;
        }
        self.settle_flush();
    }

    /// The peer's disk is given up: it will not answer for it any more.
    pub(super) fn flush_lost_peer_disk(&mut self) {
        self.ops.forget(|owner| owner == Owner::FlushPeer);
        if let Some(run) = self.flusher.running.as_mut()
            && run.peer == Leg::Busy
        {
            run.peer = Leg::Failed;
        }
        self.settle_flush();
    }

    /// The local disk is given up.
    pub(super) fn flush_lost_disk(&mut self) {
        self.ops.forget(|owner| owner == Owner::FlushLocal);
        // What it had flushed already went with it.
        if let Some(run) = self.flusher.running.as_mut()
            && run.local != Leg::Absent
        {
            run.local = Leg::Failed;
        }
        self.settle_flush();
        self.settle_unrecorded_flushes();
    }

    fn settle_flush(&mut self) {
        let Some(run) = self.flusher.running else { return };
        if run.local == Leg::Busy || run.peer == Leg::Busy {
            return;
        }
        self.flusher.running = None;
        let both = run.local == Leg::Done && run.peer == Leg::Done;
        let alone = matches!(run.peer, Leg::Absent | Leg::Lost);
        let back = alone && self.link.is_up() && self.link.peer_has_disk();
        if both {
            self.activity.closed_is_stable();
            self.resync_is_stable();
            self.repair_is_stable();
            self.watermark.flush_ended();
        } else if run.peer != Leg::Absent && !back {
            self.unstable_becomes_dirty();
            self.resync.forget_epochs();
            self.repair.forget_epochs();
        } // else nothing waited for the peer when it began, and what came since is the next flush's
        let one = run.local == Leg::Done || run.peer == Leg::Done;
        // A disk that is being resynced cannot answer for the data, so there is no record to wait for.
        let vouches = !self.has_disk() || self.disk == DiskState::UpToDate;
        let covered = std::mem::take(&mut self.flusher.covered);
        for asked in &covered {
            if both {
                self.complete(asked.id, FrontResult::Done);
            } else if (back && run.local == Leg::Done) || (one && !vouches) {
                self.flusher.next.push(*asked); // by both
            } else if one {
                self.flusher.unrecorded.push(*asked);
            } else if run.peer == Leg::Lost && !self.has_disk() {
                self.flusher.next.push(*asked); // without a disk: again when the peer is back
            } else {
                self.complete(asked.id, FrontResult::IoError);
            }
        }
        self.flusher.covered = covered;
        self.flusher.covered.clear();
        self.settle_unrecorded_flushes();
    }

    /// Answers flushes that only one node has done, once the record says why that is enough.
    pub(super) fn settle_unrecorded_flushes(&mut self) {
        if self.flusher.unrecorded.is_empty() {
            return;
        }
        if self.alone.data_lost() {
            self.flush_lost_owner(); // they and all others that wait
            return;
        }
        let recorded = if self.has_disk() {
            // Nothing differs: the peer, wherever it is, holds all of it on stable media. Of what another Primary has
            // written nobody here knows: not after it is lost, nor while it is up and could not flush it.
            let dual = self.settings.policies.dual_primary;
            let all_mine = !dual || !(self.link.is_up() || self.link.has_lost_primary());
            (self.dirty.count() == 0 && all_mine) || self.is_alone()
        } else {
            self.alone.peer_owns_data()
        };
        if recorded {
            let mut unrecorded = std::mem::take(&mut self.flusher.unrecorded);
            for Asked { id, .. } in unrecorded.drain(..) {
                self.complete(id, FrontResult::Done);
            }
            self.flusher.unrecorded = unrecorded;
        } else if self.has_disk() {
            self.want_alone();
        }
    }

    /// The peer is there: what only this node has flushed is flushed again, by both.
    pub(super) fn flush_found_peer(&mut self) {
        let unrecorded = std::mem::take(&mut self.flusher.unrecorded);
        self.flusher.next.extend(&unrecorded);
        self.flusher.unrecorded = unrecorded;
        self.flusher.unrecorded.clear();
    }

    /// The peer was to record that its disk is the data, and has none now.
    pub(super) fn flush_lost_owner(&mut self) {
        self.flush_found_peer();
        self.fail_flushes();
    }

    /// Nobody allows this node to complete alone, and the clients cannot be made to wait.
    pub(super) fn flush_is_denied(&mut self) {
        let mut unrecorded = std::mem::take(&mut self.flusher.unrecorded);
        for Asked { id, .. } in unrecorded.drain(..) {
            self.complete(id, FrontResult::IoError);
        }
        self.flusher.unrecorded = unrecorded;
    }

    fn fail_flushes(&mut self) {
        let mut next = std::mem::take(&mut self.flusher.next);
        for Asked { id, .. } in next.drain(..) {
            self.complete(id, FrontResult::IoError);
        }
        self.flusher.next = next;
        self.flusher.wanted = false;
    }

    /// What both disks accepted but may not both keep is out of sync from now on.
    pub(super) fn unstable_becomes_dirty(&mut self) {
        self.count_apart_anew();
        let dirty = &mut self.dirty;
        let counters = &mut self.counters;
        self.activity.take_unstable(|block| {
            counters.apart_bytes += dirty.set(block..block + 1) * crate::limits::BLOCK_BYTES;
        });
    }

    /// This node is about to be the only one whose data counts, while clients may live on the other: what they were
    /// told is done must not be lost with this node's power.
    pub(super) fn flush_for_start(&mut self) {
        self.link.flushing = self.flush_as_sole();
    }

    /// Starts the flush, or waits for an earlier one that a slow disk still has: a link that comes and goes, or a peer
    /// that says the same again, must not queue one flush after the other. False without a disk.
    pub(super) fn flush_as_sole(&mut self) -> bool {
        let Some(conn) = self.link.conn().filter(|_| self.has_disk()) else { return false };
        if self.ops.oldest(|owner| matches!(owner, Owner::FlushForSole(_))).is_some() {
            self.link.flush_again = true;
            return true;
        }
        let op = self.begin_op(Owner::FlushForSole(conn));
        let after = self.meta.durable();
        self.actions.push_back(Action::Disk { op, what: DiskOp::Flush, after });
        true
    }

    pub(super) fn on_flush_for_sole(&mut self, conn: ConnId, ok: bool) {
        if !ok {
            self.disk_failed("a flush failed");
        } else if std::mem::take(&mut self.link.flush_again) {
            self.link.flushing = self.flush_as_sole();
        } else if self.link.conn() == Some(conn) {
            self.link.flushing = false;
            self.answer_disk_failed();
            self.answer_promotion();
        }
    }

    /// The peer asks us to flush.
    pub(super) fn flush_for_peer(&mut self, id: u64, conn: ConnId, mark: bool) {
        if !self.has_disk() {
            self.link.peer_flush_answered();
            self.send(Message::FlushAck { id, outcome: Outcome::Failed });
            return;
        }
        let op = self.begin_op(Owner::FlushForPeer { id, conn, mark });
        let after = self.meta.durable();
        self.actions.push_back(Action::Disk { op, what: DiskOp::Flush, after });
    }

    pub(super) fn on_flush_for_peer(&mut self, id: u64, conn: ConnId, mark: bool, ok: bool) {
        let outcome = if ok { Outcome::Done } else { Outcome::Failed };
        if self.link.conn() == Some(conn) {
            self.link.peer_flush_answered();
            self.send(Message::FlushAck { id, outcome });
            if mark && ok {
                self.watermark.flush_for_peer_ended();
            }
        }
        if !ok {
            self.disk_failed("a flush failed");
        }
    }
}
