//! What operators order besides roles: to stand alone, to look for the peer again, to give data up.
//!
//! | order | refused while | what it does |
//! |---|---|---|
//! | disconnect | both are Primary, or one works on the other's disk alone | says goodbye, then stands alone |
//! | connect | leaving | looks for the peer again |
//! | ... discard | Primary, or connected | and the next verdict may void this node's changes (`generation.rs`) |
//! | invalidate | Primary, resync, the peer is met, has no good data or is behind | forgets what the data is |
//! | invalidate peer | not UpToDate, resync, the peer is or may be Primary, parted and unrecorded | goes its own way |
//!
//! A node that stands alone neither dials nor listens ([`Replica::wants_peer`]). It came to that by an order, or since
//! the two cannot agree on whose data counts: no waiting helps then, and trying for ever would only hide it. It lasts
//! until an order or a restart of the daemon.
//!
//! An invalid disk is a fresh one: it has no generation, so no rule can take it for a source, and every bit is set. The
//! peer's disk is made invalid without asking it: this node records a generation of its own with every bit set, so the
//! peer finds that all of its data is behind. Both records are durable before the two meet again, and nothing is copied
//! before that. An order goes before what a policy or an earlier order said of this node's data; against a peer that
//! went its own way from the same base it goes before the policies, too: the two are then told of their split brain.

use super::Replica;
use super::durable::Step;
use super::role::Leave;
use crate::meta::superblock::History;
use crate::replica::event::{CommandError, CommandId, MetaSeq, Notice};
use crate::replica::snapshot::StandAlone;
use crate::wire::message::{DiskState, Message, Role};

/// What was ordered and lasts.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Why this node neither dials nor listens.
    alone: Option<StandAlone>,
    /// For the next time that the nodes meet: this node's own way is void.
    discard: bool,
    /// A policy says so, once this node has stepped down.
    discard_later: bool,
}

impl Orders {
    pub(super) fn stand_alone(&self) -> Option<StandAlone> {
        self.alone
    }

    pub(super) fn discard_my_data(&self) -> bool {
        self.discard
    }

    /// The nodes have met, or this node's data is chosen to go on with.
    pub(super) fn keep_my_data(&mut self) {
        self.discard = false;
        self.discard_later = false;
    }

    /// The role is given up.
    pub(super) fn stepped_down(&mut self) {
        self.discard |= std::mem::take(&mut self.discard_later);
    }
}

impl Replica {
    /// True if the driver shall dial or listen.
    pub fn wants_peer(&self) -> bool {
        self.orders.alone.is_none() && !self.consent.is_asked()
    }

    /// From here on there is no peer, until an order.
    pub(super) fn stand_alone(&mut self, why: StandAlone) {
        self.orders.keep_my_data();
        if self.orders.alone.is_none() {
            self.orders.alone = Some(why);
            self.notify(Notice::State);
        }
    }

    pub(super) fn disconnect(&mut self, id: CommandId) {
        let error = self.cannot_change_role().or_else(|| self.cannot_part());
        if let Some(error) = error {
            self.reply(id, Err(error));
            return;
        }
        self.stand_alone(StandAlone::Ordered);
        if self.link.is_up() && self.role == Role::Secondary {
            self.leave(id, Leave::Disconnect);
            return;
        }
        if let (Some(conn), true) = (self.link.conn(), self.link.is_up()) {
            // A Primary goes on: from here on the peer's data is old.
            self.send(Message::Bye { outdated: false });
            self.close(conn, true);
            self.link_lost();
        }
        self.drop_link("this node disconnects");
        self.reply(id, Ok(()));
    }

    /// By a policy this Primary's data loses; `void`: its changes do, and not only its role.
    pub(super) fn must_step_down(&mut self, void: bool) {
        self.orders.discard_later = void;
        if !void {
            self.is_behind_as_primary();
        }
        self.notify(Notice::MustStepDown);
    }

    /// Somebody's clients would be left without data.
    fn cannot_part(&self) -> Option<CommandError> {
        let good = self.disk == DiskState::UpToDate;
        let both = self.role == Role::Primary && self.link.peer_role() == Role::Primary;
        if !self.link.is_up() {
            None
        } else if both {
            Some(CommandError::PeerIsPrimary) // they would freeze, and then part
        } else if self.role == Role::Primary && !good {
            Some(CommandError::NeedsPeer)
        } else if self.link.peer_role() == Role::Primary && !self.link.peer_can_read() {
            Some(CommandError::PeerNeedsUs)
        } else {
            None
        }
    }

    pub(super) fn connect(&mut self, id: CommandId, discard: bool) {
        let error = self.cannot_meet().or_else(|| self.cannot_discard().filter(|_| discard));
        if let Some(error) = error {
            self.reply(id, Err(error));
            return;
        }
        if self.orders.discard != discard && self.link.is_greeting() {
            self.drop_link("an operator changed what this node says of its data");
        }
        self.orders = Orders { alone: None, discard, discard_later: false };
        self.rest.ends();
        self.notify(Notice::State);
        self.reply(id, Ok(()));
    }

    fn cannot_discard(&self) -> Option<CommandError> {
        if self.link.is_up() {
            Some(CommandError::Connected)
        } else if !self.has_disk() {
            Some(CommandError::NoDisk)
        } else if self.role == Role::Primary {
            Some(CommandError::IsPrimary)
        } else {
            self.cannot_change_role()
        }
    }

    pub(super) fn invalidate(&mut self, id: CommandId, peer: bool) {
        let void = if peer { self.cannot_void_peer() } else { self.cannot_void_own() };
        if let Some(error) = self.cannot_change_role().or(void) {
            self.reply(id, Err(error));
            return;
        }
        if peer {
            self.orders.keep_my_data(); // the later order: a policy may have said that this node's changes are void
        }
        self.dirty.set_all();
        // Without a word if the peer is behind, or not met yet; else with a goodbye once this node's record is durable.
        let silent = peer || !self.link.is_up();
        let after = if peer {
            if self.sb.base.is_some() && self.sb.peer_outdated {
                // A generation of its own in any case: should the peer have gone its own way from the same base, no
                // policy may take this order back.
                self.new_generation();
            }
            self.record_alone();
            self.sb_durable_with
        } else {
            self.forget_data()
        };
        self.leave_after(id, if peer { Leave::PeerInvalid } else { Leave::Invalid }, after);
        if silent {
            self.drop_link("an operator declared data invalid");
        }
    }

    fn cannot_void_own(&self) -> Option<CommandError> {
        // Also while a resync is on record there and not here, or its end here and not there.
        let peer_behind = self.sb.peer_outdated || self.sb.base.is_some() || self.sb.sole_source;
        if !self.has_disk() {
            Some(CommandError::NoDisk)
        } else if self.role == Role::Primary {
            Some(CommandError::IsPrimary)
        } else if self.resync.is_active() {
            Some(CommandError::Resyncing)
        } else if self.link.is_up() {
            (!self.link.peer_can_read()).then_some(CommandError::PeerNotUpToDate)
        } else if self.link.has_said() {
            // By what this node has said, the peer may be giving up its own data for it right now.
            Some(CommandError::Busy)
        } else {
            peer_behind.then_some(CommandError::NewestData)
        }
    }

    fn cannot_void_peer(&self) -> Option<CommandError> {
        if !self.has_disk() {
            Some(CommandError::NoDisk)
        } else if self.disk != DiskState::UpToDate {
            Some(CommandError::NotUpToDate(self.disk))
        } else if self.resync.is_active() {
            Some(CommandError::Resyncing)
        } else if !self.link.is_up() {
            let alone = self.role == Role::Primary && !self.is_frozen() || self.sb.peer_outdated;
            match alone {
                false => Some(CommandError::NotConnected),
                true => self.lost_peer_may_read().then_some(CommandError::PeerMayServe),
            }
        } else if self.link.peer_role() == Role::Primary {
            Some(CommandError::PeerIsPrimary)
        } else {
            (!self.link.peer_has_disk()).then_some(CommandError::PeerNotUpToDate)
        }
    }

    /// The peer may not have noticed that it lost this node, and answer reads with what would be void: as another
    /// Primary, or as one that works on this node's data.
    fn lost_peer_may_read(&self) -> bool {
        match self.role {
            Role::Primary => self.peer_may_read(),
            Role::Secondary => self.peer_may_serve(),
        }
    }

    /// Whatever this disk holds is nothing from here on. The bits, all set, are durable before the record is.
    fn forget_data(&mut self) -> MetaSeq {
        self.given_up = None;
        self.meta.push(Step::Pages { stale: false });
        self.sb.current = None;
        self.sb.base = None;
        self.sb.history = History::default();
        self.sb.consistent = false;
        self.sb.outdated = false;
        self.sb.peer_outdated = false;
        self.sb.sole_source = false;
        self.sb.crashed = false;
        self.disk = DiskState::Inconsistent;
        self.notify(Notice::State);
        self.write_superblock()
    }
}
