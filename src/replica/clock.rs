//! Deadlines. Every wait of this node has one: a silent peer, an unanswered request, a hung disk, a client that
//! waits for a greeting.

use super::{Owner, Replica};
use crate::limits::IDLE_FLUSH_MS;
use crate::replica::event::{Notice, Tick};
use crate::replica::request::Phase;
use crate::wire::message::{DiskState, Message, Role};

impl Replica {
    pub(super) fn on_timeout(&mut self) {
        self.next_tick = None;
        if self.peer_is_overdue() {
            let silent = self.link.pulse.is_silent(self.now);
            // A client that waits for this node's own disk, or for its part of the greeting, says nothing of the peer.
            let asked = self.link.is_up() || self.link.has_said();
            if asked && !silent {
                self.rest.peer_was_late(self.now, self.link.is_up());
            }
            self.notify(Notice::PeerTimeout { silent });
            self.drop_link("the peer did not answer in time");
        }
        if !self.link.is_up() {
            self.alone_if_awaited(); // the time to ride through may be over, or to ask again
        }
        if self.disk_is_overdue() {
            self.disk_failed("the disk did not answer in time");
        }
        self.link.pulse.fade(self.now);
        let quarter = self.settings.peer_timeout_ms * 1000 / 4;
        let lease_ends = self.needs_lease() && self.link.pulse.echoed_since(self.now) >= quarter;
        if self.link.conn().is_some() && (self.link.pulse.wants_ping(self.now) || lease_ends) {
            self.link.pulse.ping(self.now);
            self.send(Message::Ping);
        }
    }

    /// This node answers reads from a disk that is good only together with the peer's.
    fn needs_lease(&self) -> bool {
        let target = self.role == Role::Primary && self.disk == DiskState::Inconsistent;
        self.link.is_up() && (target || self.shares_volume())
    }

    /// The peer cannot have become Primary by itself yet, see `Link::may_serve_elsewhere`: it waits for twice the
    /// timeout after it lost this node, and it had it when it answered what was sent then. A node that did not run for
    /// a while has no lease, whatever is in its inbox.
    pub(super) fn has_lease(&self) -> bool {
        let limit = self.settings.peer_timeout_ms * 1000 * 3 / 2;
        self.link.is_up() && self.link.pulse.echoed_since(self.now) < limit
    }

    /// Silence, signs of life in place of a greeting, a request without an answer, or clients that wait for a greeting
    /// to end.
    fn peer_is_overdue(&self) -> bool {
        if self.link.conn().is_none() || self.link.pulse.in_grace(self.now) {
            return false;
        }
        let limit = self.settings.peer_timeout_ms * 1000;
        let late = |since: Option<Tick>| since.is_some_and(|since| self.now.since(since) >= limit);
        let asked = Owner::is_at_peer;
        let waiting_client = || {
            let held = self.requests.iter().filter(|(_, request)| {
                request.kind.is_front_write()
                    && matches!(request.phase, Phase::Held | Phase::AwaitsAlone)
            });
            // Two Primaries: reads wait, too, for it to be known who goes on.
            let requests = held.map(|(_, request)| request).chain(self.awaiting_alone());
            let since = requests.map(|request| request.arrived).chain(self.flusher.asked()).min();
            since.map(|since| since.max(self.link.began()))
        };
        self.link.pulse.is_silent(self.now)
            || self.link.has_not_greeted(self.now, limit)
            || late(self.ops.oldest(asked))
            || (self.link.is_greeting()
                && self.disk == DiskState::UpToDate
                && !(self.is_alone() && self.rests_until().is_some())
                && late(waiting_client()))
    }

    /// A disk that hangs is given up only if the peer can take over; otherwise waiting is all there is. The greeting of
    /// a Secondary may be waiting for that very disk: a peer with good data is told that this node has none. Time in
    /// which this node did not run is not the disk's.
    fn disk_is_overdue(&self) -> bool {
        let limit = self.settings.disk_timeout_ms * 1000;
        let oldest = self.ops.oldest(|owner| !owner.is_at_peer());
        let late = oldest.is_some_and(|since| self.ran.since(since) >= limit);
        let needless =
            self.link.peer_can_read() || (self.follows() && self.link.greets_good_disk());
        late && self.has_disk() && needless
    }

    /// When the next of those is over for which clients wait, to the microsecond: a step later would be a longer stall.
    fn deadline(&self) -> Option<Tick> {
        let pulse = &self.link.pulse;
        let silent = self.link.conn().map(|_| Tick(pulse.heard().0 + pulse.limit_us()));
        let unanswered = self.ops.oldest(Owner::is_at_peer);
        let late = unanswered.map(|since| since.plus_ms(self.settings.peer_timeout_ms));
        let ends = [silent, late, self.ride_through_ends()];
        ends.into_iter().flatten().filter(|at| *at > self.now).min()
    }

    /// Asks to be woken if anything is being waited for.
    pub(super) fn arm_tick(&mut self) {
        // Often enough that a gap is told from a wait.
        let step = self.link.pulse.limit_us().min(self.settings.disk_timeout_ms * 1000) / 8;
        let mut wanted = None;
        let busy = self.link.conn().is_some() || self.requests.len() > 0;
        if busy || !self.flusher.is_idle() {
            wanted = Some(Tick(self.now.0 + step));
        }
        if self.activity.unstable() > 0 {
            wanted = wanted.or(Some(self.now.plus_ms(IDLE_FLUSH_MS / 2)));
        }
        let rests = [
            self.resync.rests_until(self.now),
            self.verify_rests_until(),
            self.repair_rests_until(),
        ];
        if let Some(rest) = rests.into_iter().flatten().min() {
            wanted = Some(wanted.map_or(rest, |at| at.min(rest)));
        }
        let armed = self.next_tick.filter(|at| *at > self.now);
        if armed.is_none() {
            wanted = wanted.map(|at| self.deadline().map_or(at, |deadline| at.min(deadline)));
        }
        self.next_tick = match (armed, wanted) {
            (Some(armed), Some(wanted)) => Some(armed.min(wanted)),
            (armed, wanted) => armed.or(wanted),
        };
    }
}
