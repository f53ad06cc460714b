//! What becomes of requests when the peer or the local disk is lost, or the peer comes back.

use super::request::{Kind, Leg, Phase, Request};
use super::{Owner, Replica};

impl Replica {
    /// The connection is gone: what it will never answer, and what nobody waits for any more.
    pub(super) fn requests_lost_peer(&mut self) {
        for at in self.requests.places() {
            let Some(request) = self.requests.find(at).copied() else { continue };
            if request.kind.is_front() {
                self.front_lost_peer(at, request);
            } else {
                self.peers_request_is_orphan(at, request);
            }
        }
    }

    fn front_lost_peer(&mut self, at: u32, request: Request) {
        let awaits = request.phase == Phase::AwaitsOwner;
        if !awaits && (request.phase != Phase::Running || request.peer == Leg::Absent) {
            return;
        }
        // An answer that came counts no more: what the peer accepted may not outlive its power, and nobody can ask
        // it to flush.
        if request.kind.is_write() {
            self.mark_apart(request.span);
        }
        self.requests.get_mut(at).peer = Leg::Lost;
        self.requests.get_mut(at).phase = Phase::Running;
        self.settle(at);
    }

    fn peers_request_is_orphan(&mut self, at: u32, request: Request) {
        self.requests.get_mut(at).orphan = true;
        let answered_by_peer = match request.kind {
            Kind::Compare => self.compare_lost_peer(at, request),
            Kind::Rewrite => self.rewrite_lost_peer(request),
            kind => kind == Kind::CopyOut && request.peer == Leg::Busy,
        };
        // A blocked one may wait for a client's write that itself waits for the next connection.
        if answered_by_peer || request.phase == Phase::Blocked {
            self.finish(at);
        }
    }

    /// True if requests of an older connection are still with the disk.
    pub(super) fn has_orphans(&self) -> bool {
        let conn = self.link.conn();
        let of_old =
            |owner| matches!(owner, Owner::FlushForPeer { conn: old, .. } if Some(old) != conn);
        self.requests.iter().any(|(_, request)| request.orphan) || self.ops.oldest(of_old).is_some()
    }

    /// True if a write is done here, or a read is held, until it is on record that this node is alone.
    pub(super) fn awaits_alone(&self) -> bool {
        self.awaiting_alone().next().is_some()
    }

    /// Those requests.
    pub(super) fn awaiting_alone(&self) -> impl Iterator<Item = &Request> + '_ {
        let frozen = self.is_frozen();
        let awaits = move |request: &&Request| {
            let held_read =
                request.phase == Phase::Held && matches!(request.kind, Kind::FrontRead { .. });
            request.phase == Phase::AwaitsAlone || (frozen && held_read)
        };
        self.requests.iter().map(|(_, request)| request).filter(awaits)
    }

    /// The peer is up: what waited for the record goes to both nodes instead.
    pub(super) fn requests_found_peer(&mut self) {
        for at in self.requests.places() {
            if self.requests.find(at).is_some_and(|request| request.phase == Phase::AwaitsAlone) {
                self.retry(at);
            }
        }
    }

    /// Nobody allows this node to complete alone, and the clients cannot be made to wait.
    pub(super) fn requests_are_denied(&mut self) {
        for at in self.requests.places() {
            if self.requests.find(at).is_some_and(|request| request.phase == Phase::AwaitsAlone) {
                self.requests.get_mut(at).phase = Phase::Running;
                self.requests.get_mut(at).local = Leg::Failed;
                self.settle(at);
            }
        }
    }

    /// The disk is given up: requests that it holds are answered by the deadline's verdict, not by the disk.
    pub(super) fn requests_lost_disk(&mut self) {
        self.ops
            .forget(|owner| matches!(owner, Owner::Local(_) | Owner::CopyRead(_) | Owner::Meta));
        for at in self.requests.places() {
            let Some(request) = self.requests.find(at).copied() else { continue };
            match request.phase {
                Phase::Running if request.local == Leg::Busy => {
                    let entry = self.requests.get_mut(at);
                    entry.local = Leg::Failed;
                    entry.repeat = false;
                    entry.op = None; // the disk may still read into its buffer: see `Payload::Into`
                    self.settle(at);
                }
                Phase::AwaitsAlone => {
                    self.requests.get_mut(at).phase = Phase::Running;
                    self.requests.get_mut(at).local = Leg::Failed;
                    self.settle(at);
                }
                _ => {}
            }
        }
    }

    /// The peer was to record that its disk is the data, and has none now: nobody vouches for what it accepted.
    pub(super) fn requests_lost_owner(&mut self) {
        for at in self.requests.places() {
            if self.requests.find(at).is_some_and(|request| request.phase == Phase::AwaitsOwner) {
                self.requests.get_mut(at).phase = Phase::Running;
                self.requests.get_mut(at).peer = Leg::Failed;
                self.settle(at);
            }
        }
    }

    /// True while a client's request is with us.
    pub(super) fn serves_clients(&self) -> bool {
        self.requests.iter().any(|(_, request)| request.kind.is_front())
    }

    /// Requests by where they wait: at the local disk, at the peer.
    pub(super) fn pending(&self) -> (u64, u64) {
        let count = |wanted: fn(&Request) -> bool| {
            self.requests.iter().filter(|(_, request)| wanted(request)).count() as u64
        };
        (count(|request| request.local == Leg::Busy), count(|request| request.peer == Leg::Busy))
    }
}
