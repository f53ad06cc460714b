//! Two Primaries write the same sectors at once: one order, the same on both disks.
//!
//! The node with the lower number, the *orderer*, needs the overlap index alone: what overlaps runs there one after the
//! other, and a write of either node counts as run only when both disks have it. The other node, the *follower*, starts
//! its own writes on both legs at once, as if nobody else wrote. If a write of the orderer's comes in that overlaps one
//! which the orderer has not answered, then it was put before that one: had the orderer begun the follower's write, it
//! would hold its own back until after the answer. So it goes ahead here, too:
//!
//! ```text
//!  orderer                                           follower
//!  write A ──► index: runs ──── Write A ─────────╲╱── Write B ──── write B: both legs run
//!  B comes in, waits for A                       ╱╲                A comes in: B is not answered, so A overtakes it
//!                                                                   waits for B's local leg, if that is with the disk
//!  A is done on both: completes ◄─── WriteAck A ────────────────── writes A
//!  B runs, is done ──────────────── WriteAck B ──────────────────► writes B again: its content must be the last
//!                                                                   both legs are answered: completes
//! ```
//!
//! Nobody waits in a circle: what the orderer waits for at the follower waits there for the disk alone. No two writes
//! that overlap are ever with a disk at once. A reader may see B, A, B while both are under way, as with any two writes
//! that are; once one has completed, nothing older is read again.
//!
//! If the connection is lost in between, the answer never comes: both are run again by whoever asked for them, and
//! their blocks are marked until both disks have them.

use super::Replica;
use super::request::{Leg, Phase, Request};

impl Replica {
    /// The peer says which of two writes comes first.
    fn is_follower(&self) -> bool {
        self.settings.policies.dual_primary && self.peer_node < self.sb.node
    }

    /// A write of the peer has come in and is not the first in its place.
    pub(super) fn order_peer_write(&mut self, at: u32) {
        if !self.is_follower() {
            return;
        }
        let span = self.requests.get(at).span;
        for earlier in self.overlap.neighbours(at, span, false) {
            self.let_overtake(at, earlier);
        }
    }

    /// The local leg of a write of our own is not with the disk any more: what waited for that alone goes ahead.
    pub(super) fn order_after_disk(&mut self, at: u32) {
        let own = *self.requests.get(at);
        if !own.kind.is_front_write() || !self.is_follower() || !gives_way(&own) {
            return;
        }
        for later in self.overlap.neighbours(at, own.span, true) {
            let waiting = *self.requests.get(later);
            if waiting.kind.is_peer_write() && waiting.phase == Phase::Blocked {
                self.let_overtake(later, at);
            }
        }
    }

    fn let_overtake(&mut self, later: u32, earlier: u32) {
        let own = self.requests.get_mut(earlier);
        if !gives_way(own) {
            return;
        }
        if own.phase == Phase::Running && own.local == Leg::Done {
            own.local = Leg::Busy;
            own.repeat = true;
        }
        if self.overlap.overtake(later, earlier) {
            self.unblocked(later);
        }
    }

    /// Everything that overtook a request has run.
    pub(super) fn turn_came_again(&mut self, at: u32) {
        if !std::mem::take(&mut self.requests.get_mut(at).repeat) {
            return;
        }
        if self.has_disk() {
            let request = *self.requests.get(at);
            self.start_local(at, request);
        } else {
            self.requests.get_mut(at).local = Leg::Failed; // what overtook it was let go with the disk
            self.settle(at);
        }
    }
}

/// The orderer has not begun it, or would have waited with whatever comes in now; and it is not with our disk.
fn gives_way(own: &Request) -> bool {
    match own.phase {
        Phase::AwaitsAlone | Phase::AwaitsOwner => false,
        Phase::Running => {
            let with_disk = own.local == Leg::Busy && !own.repeat;
            let unanswered = matches!(own.peer, Leg::Busy | Leg::Absent | Leg::Lost);
            own.kind.is_front_write() && unanswered && !with_disk
        }
        _ => own.kind.is_front_write() || own.kind.is_own_lock(),
    }
}
