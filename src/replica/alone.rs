//! Going on with one disk: the record comes first, the completion after it.
//!
//! ```text
//!   a completion needs it                         (peer lost, or its disk is)
//!        │ bitmap pages ──durable──► superblock {new current, base = old current, peer outdated} ──durable──► alone
//!        ▼                                                                                            │
//!   AwaitsAlone ◄─────────────────────────────────────────────────────────────────────────── completed
//! ```
//!
//! The order is the safety argument (`reliability`, safe orders of a shrinking mirror): completing first would leave
//! data that was acknowledged here under a generation that the peer shares, and nobody would know that the two
//! differ. A generation is made once per divergence and only when a completion needs it: a link that flaps without
//! writes changes nothing.
//!
//! The mirror image is a Primary whose own disk fails: the peer makes the record, and only then its answers count.
//! Until then the peer may hold in its cache only what clients were told is done. So the bits of a Primary without a
//! disk mean what the peer may lose with its power, and a peer that restarted is refused (`generation.rs`, rule 2).

use super::durable::Step;
use super::{Owner, Replica};
use crate::limits::BLOCK_BYTES;
use crate::replica::event::{MetaSeq, Notice};
use crate::span::Span;
use crate::wire::message::{DiskState, Message, Role};

/// Where this node stands.
#[derive(Debug, Default)]
pub(super) struct Alone {
    /// The step that will make the record durable; `None` when none is being made.
    recording: Option<MetaSeq>,
    /// The peer asked for the record (its disk failed) and waits for the answer.
    answer_peer: bool,
    /// Our disk failed, and the peer has recorded that its data is the newer.
    peer_owns: bool,
    /// Our disk failed while it alone had the newest data.
    data_lost: bool,
    /// Our disk failed, and since then the peer had all on stable media that clients were told is done.
    secured: bool,
}

impl Alone {
    /// The peer has recorded that our disk is old: its answer alone completes a request.
    pub(super) fn peer_owns_data(&self) -> bool {
        self.peer_owns
    }

    /// Nothing here can serve data, and no peer will.
    pub(super) fn data_lost(&self) -> bool {
        self.data_lost
    }

    /// This node has no disk and the peer needs none of its cache: our bits mean nothing.
    pub(super) fn is_secured(&self) -> bool {
        self.secured
    }

    /// This node has no disk, and the peer was found to have none of the data that it needs.
    pub(super) fn set_data_lost(&mut self, lost: bool) {
        self.data_lost = lost;
    }

    pub(super) fn forget_owner(&mut self) {
        self.peer_owns = false;
        self.answer_peer = false;
    }

    pub(super) fn is_recording(&self) -> bool {
        self.recording.is_some()
    }
}

impl Replica {
    /// The record that this node goes on alone is on stable media.
    pub(super) fn is_alone(&self) -> bool {
        self.has_disk()
            && self.sb.peer_outdated
            && self.sb.base.is_some()
            && self.alone.recording.is_none()
            && self.meta.is_durable(self.sb_durable_with)
    }

    /// A write may be started without the peer. Its completion may still have to wait for the record.
    pub(super) fn may_write_alone(&self) -> bool {
        if self.link.is_up() {
            return !self.link.peer_has_disk();
        }
        // While the peer is being greeted, what was said of the bitmap must stay true; and a node that is not alone
        // yet waits a moment rather than diverge from a peer that is almost there. Nor may a block be marked after its
        // page was sent: a target would take it for equal, and read it by itself once it is Primary.
        let may_mark = self.is_alone() && !self.link.said_clean() && !self.link.has_sent_bitmap();
        !self.link.is_greeting() || may_mark
    }

    /// A completion needs the record: makes it, once.
    pub(super) fn want_alone(&mut self) {
        if self.is_alone() || self.alone.recording.is_some() {
            self.settle_alone();
            return;
        }
        // While a peer is greeted, that decides, one way or the other; and one that is up but refused a write is
        // about to say that its disk has failed.
        let peer_decides =
            self.link.is_greeting() || (self.link.is_up() && self.link.peer_has_disk());
        if self.disk == DiskState::UpToDate && !peer_decides {
            if self.may_go_alone() {
                self.record_alone();
            } else {
                self.refuse_if_denied();
            }
        }
    }

    /// The device or the role is being given up, and waits for requests that nobody allows to be completed: they fail.
    /// What they wrote here is marked, and is copied from the peer or to it when the two meet.
    pub(super) fn refuse_if_denied(&mut self) {
        if self.role_change.is_draining() && self.is_denied() {
            self.requests_are_denied();
            self.flush_is_denied();
        }
    }

    /// The connection is gone: whoever waited for its outcome needs the record now.
    pub(super) fn alone_if_awaited(&mut self) {
        if self.awaits_alone() {
            self.want_alone();
        }
        self.settle_unrecorded_flushes();
    }

    /// Sets the bits of a write that the peer does not get, or may have lost.
    pub(super) fn mark_apart(&mut self, span: Span) {
        if !self.has_disk() {
            return; // nobody is told that it is done before the peer has it for good
        }
        self.count_apart_anew();
        self.resync.forget_copies_of(span);
        self.counters.apart_bytes += self.dirty.set(span.blocks()) * BLOCK_BYTES;
    }

    /// The disks were equal until now: what is marked from here on is what they differ by.
    pub(super) fn count_apart_anew(&mut self) {
        if self.dirty.count() == 0 {
            self.counters.apart_bytes = 0;
        }
    }

    /// Bits first, then the generation that makes them meaningful.
    pub(super) fn record_alone(&mut self) {
        assert!(self.disk == DiskState::UpToDate, "only the newest data goes on alone");
        self.unstable_becomes_dirty();
        self.meta.push(Step::Pages { stale: false });
        if self.sb.base.is_none() || !self.sb.peer_outdated {
            self.new_generation();
        }
        self.sb.peer_outdated = true;
        self.sb.agreed_sectors = self.sectors;
        self.alone.recording = Some(self.write_superblock());
    }

    /// The data goes its own way from here.
    pub(super) fn new_generation(&mut self) {
        let next = self.ids.next(self.now);
        assert!(!self.sb.history.contains(next), "generation ids never repeat");
        if let Some(base) = self.sb.base {
            self.sb.history.push(base);
        }
        if let Some(old) = self.sb.current {
            self.sb.history.push(old);
        }
        self.sb.base = self.sb.current;
        self.sb.current = Some(next);
        self.sb.parted_primary = self.role == Role::Primary;
    }

    /// A step of metadata became durable: perhaps the one that was waited for.
    pub(super) fn metadata_became_durable(&mut self) {
        self.unheard_record_is_durable();
        let Some(seq) = self.alone.recording else { return };
        if !self.meta.is_durable(seq) {
            return;
        }
        if !self.meta.is_durable(self.sb_durable_with) {
            // A newer superblock is on its way; it has the record too, and whoever looks waits for the newest.
            self.alone.recording = Some(self.sb_durable_with);
            return;
        }
        self.alone.recording = None;
        if let Some(current) = self.sb.current {
            self.notify(Notice::Alone(current));
        }
        self.settle_alone();
        self.settle_unrecorded_flushes();
        self.answer_disk_failed();
    }

    /// The peer's disk failed: from here on our disk is the data.
    pub(super) fn on_peer_disk_failed(&mut self) {
        if self.link.peer_has_disk() {
            self.link.set_peer_disk(DiskState::Diskless);
            self.repair.forget_epochs();
            self.resync_stops();
            self.unstable_becomes_dirty();
            self.flush_lost_peer_disk();
            self.notify(Notice::State);
        }
        if !self.has_disk() {
            // Nobody has data any more: new requests are refused by the gate.
            self.requests_lost_owner();
            self.flush_lost_owner();
            return;
        }
        if self.disk != DiskState::UpToDate {
            self.drop_link("the peer's disk failed while ours was not up to date");
            return;
        }
        self.alone.answer_peer = true;
        self.link.flushing = self.flush_as_sole();
        if !self.is_alone() && !self.alone.is_recording() {
            self.record_alone();
        }
    }

    /// Answers once our data is stable and the record is, too.
    pub(super) fn answer_disk_failed(&mut self) {
        let ready = self.alone.answer_peer && self.alone.recording.is_none() && !self.link.flushing;
        let (Some(current), true) = (self.sb.current, ready && self.link.is_up()) else { return };
        self.alone.answer_peer = false;
        let after = self.meta.durable();
        let message = Message::DiskFailedAck { current };
        self.send_with(message, crate::replica::event::Payload::None, after);
    }

    /// The peer has recorded that our disk is old.
    pub(super) fn on_disk_failed_ack(&mut self, current: crate::meta::superblock::GenerationId) {
        if self.has_disk() {
            self.broken("the peer acknowledged a disk failure that did not happen");
            return;
        }
        self.sb.current = Some(current);
        self.sb.base = None;
        self.alone.peer_owns = true;
        self.alone.secured = true;
        self.settle_owned();
        self.settle_unrecorded_flushes();
    }

    /// The local disk is given up, for good: it is attached again by a new start. Requests go on at the peer once it
    /// has recorded that.
    pub(super) fn disk_failed(&mut self, why: &'static str) {
        if !self.has_disk() {
            return;
        }
        // A peer that is away, and that nothing was recorded against, may come back with all of it.
        let peer_is_old = self.sb.peer_outdated || self.alone.is_recording();
        let peer_has_none = self.link.is_up() && !self.link.peer_can_read();
        self.alone.data_lost = self.role == Role::Primary
            && self.disk == DiskState::UpToDate
            && (peer_is_old || peer_has_none);
        // What a target is told is done is on stable media at its source.
        self.alone.secured = self.disk != DiskState::UpToDate;
        if self.beside_primary() {
            // What that one's clients were told is done, and ours may have read, is in none of our bits.
            self.dirty.set_all();
        }
        self.disk = DiskState::Diskless;
        self.notify(Notice::DiskFailed(why));
        self.meta.abandon();
        self.alone.recording = None;
        self.watermark.forget();
        self.ops.forget(|owner| {
            matches!(
                owner,
                Owner::FlushForPeer { .. } | Owner::FlushForEnd | Owner::FlushForSole(_)
            )
        });
        if self.link.is_up() {
            self.resync_stops();
            self.refuse_promotion();
            self.send(Message::DiskFailed);
        } else if self.link.conn().is_some() {
            self.drop_link("the disk failed during the handshake");
        }
        self.requests_lost_disk();
        self.flush_lost_disk();
        self.role_change_lost_disk();
        self.notify(Notice::State);
    }

    /// Another Primary writes to both disks, or did when it was lost.
    fn beside_primary(&self) -> bool {
        let now = self.link.is_up() && self.link.peer_role() == Role::Primary;
        let both = self.settings.policies.dual_primary && self.role == Role::Primary;
        both && (now || self.link.has_lost_primary())
    }

    /// A Primary without a disk has reached a peer that has one: its answers count once it says so.
    pub(super) fn ask_peer_to_own(&mut self) {
        self.send(Message::DiskFailed);
    }
}
