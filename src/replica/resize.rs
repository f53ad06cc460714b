//! The volume grows, beside its clients, once both disks have room for it.
//!
//! ```text
//!  Secondary, with the order                      the other, perhaps Primary
//!  flush, bits of what is added
//!  ──durable──► larger size on record, outdated
//!  ──durable──► Bye ──────────────────────────────► goes on alone: the Secondary left in good order
//!               Hello, State ─────────────────────► a verdict that refuses nothing: bits of what is added
//!                                                    ──durable──► larger size on record, and the two part once more
//!               Hello, State ◄────────────────────► Hello, State: they go on, and clients see it
//! ```
//!
//! Where they meet is the only place in which sizes are agreed on, and of two that differ the larger counts there.
//! Wherever the power fails, the next meeting goes on from that: a size never shrinks, and none is on record that the
//! peer's disk had no room for. What is added holds anything on either disk; it is copied as after any interruption.
//!
//! The order is for a Secondary: it leaves as one that is started anew, so a Primary neither waits for it nor has it
//! fenced. Two Primaries would both stand still, for as long as it takes to write the bits.
//!
//! Clients never see a size that a disk of the peer does not have on record, unless that is old by then.

use super::Replica;
use super::durable::Step;
use super::role::Leave;
use crate::limits::BLOCK_SECTORS;
use crate::replica::event::{CommandError, CommandId, Notice};
use crate::replica::generation::Verdict;
use crate::wire::PROTOCOL_2;
use crate::wire::message::{DiskState, Refusal, Role, State};

impl Replica {
    pub(super) fn resize(&mut self, id: CommandId) {
        let meets = self.cannot_change_role().or_else(|| self.cannot_meet());
        if let Some(error) = meets.or_else(|| self.room().err()) {
            self.reply(id, Err(error));
            return;
        }
        self.leave(id, Leave::Resized);
    }

    /// The size that both disks have room for.
    pub(super) fn room(&self) -> Result<u64, CommandError> {
        let Some(hello) = self.link.peer_hello().filter(|_| self.link.is_up()) else {
            return Err(CommandError::PeerAway);
        };
        let both = self.sb.usable_sectors.min(hello.usable_sectors);
        let both = both - both % BLOCK_SECTORS;
        if !self.link.peer_speaks(PROTOCOL_2) {
            Err(CommandError::PeerTooOld)
        } else if self.role == Role::Primary {
            Err(CommandError::IsPrimary)
        } else if self.resync.is_active() {
            Err(CommandError::Resyncing)
        } else if self.verify.is_running() || self.verify.is_repairing() {
            Err(CommandError::Verifying)
        } else if !self.has_disk() {
            Err(CommandError::NoDisk)
        } else if self.disk != DiskState::UpToDate {
            Err(CommandError::NotUpToDate(self.disk))
        } else if !self.link.peer_can_read() {
            Err(CommandError::PeerNotUpToDate)
        } else if both > self.sectors {
            Ok(both)
        } else if self.sb.usable_sectors - self.sb.usable_sectors % BLOCK_SECTORS <= self.sectors {
            Err(CommandError::NoRoom)
        } else {
            Err(CommandError::PeerHasNoRoom)
        }
    }

    /// The two may go on by this verdict, and the peer has the volume larger on record: so has this node, and then they
    /// meet again. True if they part for that.
    pub(super) fn catches_up_in_size(&mut self, found: Verdict) -> bool {
        let mine = self.sb.agreed_sectors;
        let theirs = self.link.peer_hello().map_or(0, |hello| hello.agreed_sectors);
        let refused = matches!(found, Verdict::Refuse(_) | Verdict::StepDown { .. });
        if refused || mine == 0 || theirs <= mine {
            return false;
        }
        self.widen(theirs);
        self.meta.push(Step::Pages { stale: false });
        self.write_superblock();
        self.drop_link("the volume has grown");
        true
    }

    /// Both have stepped back for the other at the same time, one to grow: neither can have gone on, or it would have a
    /// generation of its own. So the lower node does so no more, and they meet again. True if they part for that.
    pub(super) fn takes_step_back(&mut self, found: Verdict, said: &State, peer: &State) -> bool {
        let stepped_back = |state: &State| {
            state.disk == DiskState::Outdated
                && state.role == Role::Secondary
                && state.base.is_none()
                && !state.peer_outdated
        };
        let both = stepped_back(said) && stepped_back(peer) && said.current == peer.current;
        let mine = both && found == Verdict::Refuse(Refusal::SourceOutdated);
        if !mine || self.peer_node < self.sb.node || !self.sb.outdated {
            return false;
        }
        self.sb.outdated = false;
        self.disk = DiskState::Consistent;
        self.write_superblock();
        self.notify(Notice::State);
        self.drop_link("both nodes had stepped back");
        true
    }

    /// The volume has so many sectors from now on. The bits of what is added must be on disk before that is.
    pub(super) fn widen(&mut self, sectors: u64) {
        assert!(
            self.sectors < sectors && sectors <= self.sb.usable_sectors,
            "both disks have room"
        );
        self.dirty.extend(sectors);
        // A node without a disk marks only what the peer may have lost; its own disk finds out when it is back.
        if self.has_disk() {
            self.dirty.set(self.sectors / BLOCK_SECTORS..sectors / BLOCK_SECTORS);
        }
        self.verify.widen(sectors);
        self.sb.agreed_sectors = sectors;
        self.sectors = sectors;
    }
}
