//! The volume grows, beside its clients, once both disks have room for it.
//!
//! ```text
//!  node with the order                          peer
//!  bits of what is added ──durable──►
//!  larger size on record ──durable──► Hello ──► bits of what is added ──durable──► larger size on record
//!                                                                                 ──durable──► State, ..., up
//!  clients see it                     ◄──────── clients see it
//! ```
//!
//! The nodes part for a moment: where they meet is the only place in which sizes are agreed on, and of two that
//! differ the larger counts there. Wherever the power fails, the next meeting goes on from that: a size never shrinks,
//! and none is on record that the peer's disk had no room for. What is added holds anything on either disk; it is
//! copied as after any interruption, from the Primary to the other.
//!
//! Clients never see a size that the peer does not have on record, unless the peer's data is old by then.

use super::Replica;
use super::durable::Step;
use super::role::Leave;
use crate::limits::BLOCK_SECTORS;
use crate::replica::event::{CommandError, CommandId, MetaSeq};
use crate::wire::PROTOCOL_2;
use crate::wire::message::{DiskState, Hello};

impl Replica {
    pub(super) fn resize(&mut self, id: CommandId) {
        let sectors = match self.size_to_grow_to() {
            Ok(sectors) => sectors,
            Err(error) => {
                self.reply(id, Err(error));
                return;
            }
        };
        let after = self.grow(sectors);
        self.leave_after(id, Leave::Resized, after);
        self.drop_link("the volume has grown");
    }

    fn size_to_grow_to(&self) -> Result<u64, CommandError> {
        if let Some(error) = self.cannot_change_role().or_else(|| self.cannot_meet()) {
            return Err(error);
        }
        let Some(hello) = self.link.peer_hello().filter(|_| self.link.is_up()) else {
            return Err(CommandError::PeerAway);
        };
        if !self.link.peer_speaks(PROTOCOL_2) {
            Err(CommandError::PeerTooOld)
        } else if self.resync.is_active() {
            Err(CommandError::Resyncing)
        } else if !self.has_disk() {
            Err(CommandError::NoDisk)
        } else if self.disk != DiskState::UpToDate {
            Err(CommandError::NotUpToDate(self.disk))
        } else if !self.link.peer_can_read() {
            Err(CommandError::PeerNotUpToDate)
        } else if self.sb.usable_sectors <= self.sectors {
            Err(CommandError::NoRoom)
        } else if hello.usable_sectors - hello.usable_sectors % BLOCK_SECTORS <= self.sectors {
            Err(CommandError::PeerHasNoRoom)
        } else {
            let both = self.sb.usable_sectors.min(hello.usable_sectors);
            Ok(both - both % BLOCK_SECTORS)
        }
    }

    /// The peer has the volume larger on record: so has this node, before it says what its data is.
    pub(super) fn catch_up_in_size(&mut self, hello: &Hello) {
        let mine = self.sb.agreed_sectors;
        if mine > 0 && hello.agreed_sectors > mine {
            self.grow(hello.agreed_sectors);
        }
    }

    /// Returns the step after which the larger size is on record. The bits of what is added come before it.
    fn grow(&mut self, sectors: u64) -> MetaSeq {
        assert!(
            self.sectors < sectors && sectors <= self.sb.usable_sectors,
            "both disks have room"
        );
        self.dirty.extend(sectors);
        // A node without a disk marks only what the peer may have lost.
        if self.has_disk() {
            self.dirty.set(self.sectors / BLOCK_SECTORS..sectors / BLOCK_SECTORS);
        }
        self.meta.push(Step::Pages { stale: false });
        self.sb.agreed_sectors = sectors;
        self.sectors = sectors;
        self.write_superblock()
    }
}
