//! Back-off from a peer whose disk is slower than the peer timeout.
//!
//! ```text
//!   up ─► a request gets no answer in time, though the peer is heard ─► lost: one stall for the clients
//!   ▲                                                                     │
//!   └── resync ◄── greeting ends ◄── rests: none, then 10 s, 20 s, 40 s … 5 min ──┘
//! ```
//!
//! Such a peer greets, is taken in, and is late again: each time costs this node's clients one peer timeout. So a
//! Primary that goes on alone puts off its part of the greeting, longer each time, until a connection has lasted. The
//! first time costs nothing: a disk that hangs may have been given up, or its node mended. Never between two Primaries:
//! there the other one's clients wait for the greeting.

use super::Replica;
use super::authority::OnPeerLost;
use crate::limits::{REST_AFTER_LATE_MS, REST_AFTER_LATE_MS_MAX};
use crate::replica::event::Tick;
use crate::wire::message::Role;

/// How often in a row the peer was late, and until when it is left alone.
#[derive(Debug, Default)]
pub(super) struct Rest {
    late: u32,
    up_since: Tick,
    until: Tick,
}

impl Rest {
    /// The nodes are connected.
    pub(super) fn link_is_up(&mut self, now: Tick) {
        self.up_since = now;
    }

    /// The peer was heard, and did not answer in time, perhaps in its greeting.
    pub(super) fn peer_was_late(&mut self, now: Tick, was_up: bool) {
        if was_up && now.since(self.up_since) / 1000 >= REST_AFTER_LATE_MS_MAX {
            self.late = 0;
        }
        let rest_ms = match self.late {
            0 => 0,
            times => (REST_AFTER_LATE_MS << (times - 1).min(16)).min(REST_AFTER_LATE_MS_MAX),
        };
        self.late = self.late.saturating_add(1);
        self.until = now.plus_ms(rest_ms);
    }

    /// The connection is gone. One that has lasted is a new beginning.
    pub(super) fn link_is_down(&mut self, now: Tick) {
        if now.since(self.up_since) / 1000 >= REST_AFTER_LATE_MS_MAX {
            self.late = 0;
        }
    }

    /// An operator wants the two connected now.
    pub(super) fn ends(&mut self) {
        *self = Rest { up_since: self.up_since, ..Rest::default() };
    }
}

impl Replica {
    /// Until when this node puts off its part of the greeting; `None` if it does not.
    pub(super) fn rests_until(&self) -> Option<Tick> {
        // One that is not alone yet, and will be when its ride-through is over: the peer comes back in time, and is
        // late once more, for ever.
        let will_be = self.settings.on_peer_lost == OnPeerLost::Continue && self.rides_through();
        let can_wait = self.role == Role::Primary
            && (self.is_alone() || will_be)
            && !self.settings.policies.dual_primary
            && !self.link.has_said();
        (can_wait && self.now < self.rest.until).then_some(self.rest.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late_after(rest: &mut Rest, up_at: Tick, ms: u64) -> (Tick, u64) {
        rest.link_is_up(up_at);
        let now = up_at.plus_ms(ms);
        rest.peer_was_late(now, true);
        (rest.until, rest.until.since(now) / 1000)
    }

    #[test]
    fn each_time_in_a_row_is_longer_up_to_a_limit() {
        let mut rest = Rest::default();
        let mut at = Tick(0);
        let mut rests = Vec::new();
        for _ in 0..9 {
            let (until, ms) = late_after(&mut rest, at, 5_000);
            rests.push(ms / 1000);
            at = until;
        }
        assert_eq!(rests, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        let (_, ms) = late_after(&mut rest, at, REST_AFTER_LATE_MS_MAX);
        assert_eq!(ms, 0, "a connection that lasted is a new beginning");
        late_after(&mut rest, at, 5_000);
        rest.link_is_up(at);
        rest.link_is_down(at.plus_ms(REST_AFTER_LATE_MS_MAX));
        assert_eq!(late_after(&mut rest, at, 5_000).1, 0, "also if it did not end by that");
        for _ in 0..100 {
            rest.peer_was_late(at, false);
        }
        rest.ends();
        assert_eq!(late_after(&mut rest, at, 5_000).1, 0, "an operator asked for it");
    }
}
