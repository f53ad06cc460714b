//! The end of a request: what both legs' answers mean, and when the client may hear of it.
//!
//! | local | peer | a write |
//! |---|---|---|
//! | done | done | completes; unstable until both have flushed |
//! | done | refused, lost or absent | completes when it is on record that this node is alone |
//! | disk given up | done, and stable | completes when the peer has recorded that our disk is old |
//! | disk given up | done | runs again: what the peer has in its cache is not enough any more |
//! | no disk | lost | runs again when the peer is back |
//! | anything else | | fails, and its blocks are marked |

use super::Replica;
use super::request::{Kind, Leg, Phase, Request};
use crate::replica::event::{Action, FrontId, FrontResult};
use crate::wire::message::{DiskState, Outcome};

impl Replica {
    /// Decides on a request once both legs have answered.
    pub(super) fn settle(&mut self, at: u32) {
        let request = *self.requests.get(at);
        if request.local == Leg::Busy || request.peer == Leg::Busy {
            return;
        }
        match request.kind {
            Kind::FrontRead { id } => self.settle_read(at, id, request),
            Kind::FrontWrite { id, .. } | Kind::FrontZero { id, .. } => {
                self.settle_write(at, id, request);
            }
            Kind::PeerRead { .. } | Kind::PeerWrite { .. } | Kind::PeerZero { .. } => {
                self.answer_peer(at, request);
            }
            Kind::Compare => self.compare_settled(at, request),
            Kind::PeerDigest { .. } => self.peer_digest_settled(at, request),
            Kind::CopyIn { .. } => self.answer_copy(at, request),
            // They had no disk to read from.
            Kind::CopyOut if request.local == Leg::Failed => self.copy_ended(at, Outcome::Failed),
            Kind::Rewrite if request.local == Leg::Failed => {
                self.rewrite_ended(at, Outcome::Failed);
            }
            Kind::CopyOut | Kind::Rewrite => {}
        }
    }

    fn settle_read(&mut self, at: u32, id: FrontId, request: Request) {
        let outlived = match self.disk {
            DiskState::Inconsistent => !self.has_lease(),
            _ => !self.knows_newest(),
        };
        if request.local == Leg::Done && outlived {
            self.retry(at); // what it read may have been old by the time it was read
        } else if request.local == Leg::Done || request.peer == Leg::Done {
            self.complete(id, FrontResult::Done);
            self.finish(at);
        } else if request.peer == Leg::Lost {
            self.retry(at); // wherever the data is now, the gate knows
        } else if request.local == Leg::Failed && self.link.peer_can_read() {
            self.retry(at); // the disk was given up just now
        } else {
            self.complete(id, FrontResult::IoError);
            self.finish(at);
        }
    }

    fn settle_write(&mut self, at: u32, id: FrontId, request: Request) {
        match (request.local, request.peer) {
            (_, Leg::Done) if !self.has_disk() && self.link.is_up() => {
                if request.sent_fua {
                    self.requests.get_mut(at).phase = Phase::AwaitsOwner;
                    self.settle_owned();
                } else {
                    self.retry(at);
                }
            }
            // Begun before clients of the other node came to rely on this disk alone.
            (Leg::Done, _) if self.is_sole_beside_primary() && !request.local_fua => self.retry(at),
            (Leg::Done, Leg::Done) if self.link.is_up() && self.link.peer_has_disk() => {
                self.watermark.data_was_written();
                if !request.kind.is_fua() && request.pinned {
                    self.activity.mark_unstable(request.span);
                }
                self.complete(id, FrontResult::Done);
                self.finish(at);
            }
            // The connection came up while our disk was still writing: both must have it.
            (Leg::Done, Leg::Absent | Leg::Lost)
                if self.link.is_up() && self.link.peer_has_disk() =>
            {
                self.mark_apart(request.span);
                self.retry(at);
            }
            (Leg::Done, _) => {
                self.mark_apart(request.span);
                if self.disk == DiskState::UpToDate {
                    self.requests.get_mut(at).phase = Phase::AwaitsAlone;
                    self.want_alone();
                } else {
                    self.retry(at); // a resync target, or a disk given up meanwhile: not ours to vouch for
                }
            }
            (_, Leg::Lost) if !self.has_disk() => self.retry(at),
            _ => {
                // Some disk may hold it, another not: no promise, but not forgotten either.
                self.mark_apart(request.span);
                self.complete(id, FrontResult::IoError);
                self.finish(at);
            }
        }
    }

    /// The request runs again from the gate on. Its buffer, its place in the order and its pins are unchanged.
    pub(super) fn retry(&mut self, at: u32) {
        let request = self.requests.get_mut(at);
        request.local = Leg::Absent;
        request.peer = Leg::Absent;
        self.hold(at);
    }

    /// Completes what waited for the record that this node is alone.
    pub(super) fn settle_alone(&mut self) {
        if !self.is_alone() || self.peer_may_read() {
            return;
        }
        for at in self.requests.places() {
            let Some(request) = self.requests.find(at) else { continue };
            if request.phase != Phase::AwaitsAlone {
                continue;
            }
            if let Kind::FrontWrite { id, .. } | Kind::FrontZero { id, .. } = request.kind {
                let marked = request.span.blocks().all(|block| self.dirty.any(block..block + 1));
                assert!(marked, "a write completed alone is marked out of sync");
                self.complete(id, FrontResult::Done);
                self.finish(at);
            }
        }
    }

    /// Completes what waited for the peer's record that our disk is old.
    pub(super) fn settle_owned(&mut self) {
        if !self.alone.peer_owns_data() {
            return;
        }
        for at in self.requests.places() {
            let Some(request) = self.requests.find(at) else { continue };
            if request.phase != Phase::AwaitsOwner {
                continue;
            }
            if let Kind::FrontWrite { id, .. } | Kind::FrontZero { id, .. } = request.kind {
                self.complete(id, FrontResult::Done);
                self.finish(at);
            }
        }
    }

    pub(super) fn complete(&mut self, id: FrontId, result: FrontResult) {
        let after = self.meta.durable();
        self.actions.push_back(Action::Complete { id, result, after });
    }

    /// The request is over: everything it held is given back, and those that waited for it go on.
    pub(super) fn finish(&mut self, at: u32) {
        let request = self.requests.slots[at as usize].take().expect("a request ends once");
        self.requests.free.push(at);
        self.requests.ended += 1;
        if request.pinned && self.has_disk() {
            self.activity.unpin(request.span.extents());
        }
        self.release(request.kind.received_buf());
        match request.kind {
            Kind::CopyOut => self.resync.job_ended(at, self.now),
            Kind::Rewrite => self.rewrite_left(),
            _ => {}
        }
        if request.kind.is_front() {
            self.resync.request_ends(request.arrived, self.now);
            self.verify.request_ends(request.arrived, self.now, self.repair.jobs());
        }
        if !request.kind.is_write() {
            return;
        }
        let mut woken = std::mem::take(&mut self.requests.woken);
        self.overlap.remove(at, request.span, &mut woken);
        for at in woken.drain(..) {
            self.unblocked(at);
        }
        self.requests.woken = woken;
    }
}
