//! Carrying out what the core wishes.
//!
//! Buffers are counted: a client's request, a received frame, a disk operation and a frame being sent each hold a
//! reference of their own, so none is used again while anybody still needs its bytes.

use super::run::Daemon;
use crate::config::Digest;
use crate::io::disk::{DiskRequest, Work};
use crate::io::peer::Body;
use crate::limits::{BUFFERS_MAX, FRONT_REQUESTS_MAX, META_BLOCK_BYTES, PAGE_BIT_BYTES};
use crate::limits::{PEER_DATA_CREDITS, PEER_READ_CREDITS, RESYNC_JOBS_MAX};
use crate::replica::event::{Action, Buf, ConnId, DiskOp, FrontId, Input};
use crate::replica::event::{MetaBlock, Notice, OpId, Payload};
use crate::wire::digest::Digests;
use crate::wire::message::Message;
use std::collections::VecDeque;

/// Set in the name of a disk request that writes metadata.
pub(super) const META: u64 = 1 << 63;

/// Buffers of reads that the core started without one: for the peer and for resync.
#[derive(Default)]
pub(super) struct ReadBuffers {
    filled: Vec<(OpId, Buf)>,
    /// Of reads whose digests are wanted, with the bytes that each reads.
    digested: Vec<(OpId, Buf, usize)>,
    /// Reads, of the disk and of the peer, that found no free buffer: see [`Daemon::retry_reads`].
    waiting: VecDeque<Action>,
}

// A Primary whose disk hangs has a second buffer for every read of its clients, beside all that the disk keeps: theirs,
// and those of peer and resync.
const _: () = {
    let of_peer = PEER_DATA_CREDITS + PEER_READ_CREDITS;
    assert!(BUFFERS_MAX >= 2 * FRONT_REQUESTS_MAX + of_peer + RESYNC_JOBS_MAX);
};

impl Daemon {
    /// Carries out every wish of the core.
    pub(super) fn act(&mut self) {
        self.note.follow(&self.replica);
        while let Some(action) = self.replica.poll_action() {
            self.hops.wished(&action);
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Disk { op, what, .. } => {
                if !self.start_disk(op, what) {
                    self.reads.waiting.push_back(action);
                }
            }
            Action::Meta { op, block } => self.write_meta(op, block),
            Action::Send { conn, message, payload, .. } => {
                let body = match payload {
                    Payload::None => Body::None,
                    Payload::Buf(buf) => Body::Buf(buf),
                    Payload::Into(front) => {
                        if !self.expect_reply(conn, &message, front) {
                            self.reads.waiting.push_back(action);
                            return;
                        }
                        Body::None
                    }
                    Payload::Op(op) => {
                        let buf = self.reads.take(op).expect("a filled buffer is sent once");
                        self.peers.send(&mut self.io, conn, &message, Body::Buf(buf));
                        self.io.pool.release(buf);
                        return;
                    }
                    Payload::Digests => Body::Bytes(self.replica.encode_digests().into()),
                    Payload::Bits { page } => {
                        let mut bits = Box::new([0; PAGE_BIT_BYTES]);
                        self.replica.encode_bits(page, &mut bits);
                        Body::Bytes(bits)
                    }
                };
                self.peers.send(&mut self.io, conn, &message, body);
            }
            Action::Close { conn, drain } => {
                let now = self.clock.now();
                self.peers.close(&mut self.io, now, conn, drain);
            }
            Action::Complete { id, result, .. } => {
                if let Some(front) = &mut self.front {
                    front.complete(&mut self.io, id, result);
                }
                if let Some(buf) = self.front_buffers[id.0 as usize].take() {
                    self.io.pool.release(buf);
                }
                self.front_pending -= 1;
            }
            Action::Release { buf } => self.io.pool.release(buf),
            Action::ReleaseOp { op } => {
                if let Some(buf) = self.reads.take(op) {
                    self.io.pool.release(buf);
                }
            }
            Action::AskConsent { discarded } => self.ask_consent(discarded),
            Action::Reply { id, result } => self.on_reply(id, result),
            Action::Fence { id, link_has_ms } => self.fence_peer(id, link_has_ms),
            Action::Notify(notice) => self.on_notice(notice),
        }
    }

    /// The peer's answer to a client's read goes into the buffer of the client's request. But not while the disk may
    /// still read into that, given up though it is: the client would get what the disk has. Then the request, and the
    /// front with it, move to another; the disk's is free when the disk has ended. False if there is none.
    fn expect_reply(&mut self, conn: ConnId, message: &Message, front: FrontId) -> bool {
        // Of a connection that has ended while the read waited: the request may be over, and another have its name.
        let Message::Read { id, .. } = *message else { return true };
        if !self.peers.is_current(conn) {
            return true;
        }
        let place = front.0 as usize;
        let mut buf = self.front_buffers[place].expect("a read has a buffer");
        if self.io.pool.is_filled(buf) {
            let Some(fresh) = self.io.pool.take() else { return false };
            if let Some(front_end) = &mut self.front {
                front_end.move_read(&mut self.io, front, fresh);
            }
            self.front_buffers[place] = Some(fresh);
            self.io.pool.release(buf);
            buf = fresh;
        }
        self.peers.expect_reply(&mut self.io, conn, id, buf);
        true
    }

    /// False if it needs a buffer and none is free.
    fn start_disk(&mut self, op: OpId, what: DiskOp) -> bool {
        let work = match what {
            DiskOp::Read { span, id } => {
                let buf = self.front_buffers[id.0 as usize].expect("a read has a buffer");
                read(span, buf, false)
            }
            DiskOp::ReadResync { span } | DiskOp::ReadPeer { span } => {
                let Some(buf) = self.io.pool.take() else { return false };
                self.reads.filled.push((op, buf));
                read(span, buf, matches!(what, DiskOp::ReadResync { .. }))
            }
            DiskOp::Digest { span } => {
                let Some(buf) = self.io.pool.take() else { return false };
                self.reads.digested.push((op, buf, span.bytes() as usize));
                read(span, buf, false)
            }
            DiskOp::Write { span, buf, fua } => {
                Work::Write { offset: span.offset(), len: span.bytes() as u32, buf, fua }
            }
            DiskOp::Zero { span, kind, fua } => {
                Work::Zero { offset: span.offset(), len: span.bytes(), kind, fua }
            }
            DiskOp::Flush => Work::Flush,
            DiskOp::Probe { span } => {
                self.disk.probe(op.0, span.offset(), span.bytes());
                return true;
            }
        };
        self.disk.start(&mut self.io, DiskRequest { user: op.0, what: work });
        true
    }

    /// A read has ended; if it went well and its digests are wanted, the core is told those. False if not.
    pub(super) fn digest(&mut self, op: OpId, ok: bool) -> bool {
        let Some(at) = self.reads.digested.iter().position(|(known, ..)| *known == op) else {
            return false;
        };
        let (_, buf, bytes) = self.reads.digested.swap_remove(at);
        let digests = ok.then(|| Digests::of(self.io.pool.bytes(buf, bytes)));
        self.io.pool.release(buf);
        if let Some(digests) = &digests {
            self.feed(Input::Digests { op, digests });
        }
        ok
    }

    /// Reads that had to wait for a buffer. Rare: the limits leave one for each, but frames that wait to be sent may
    /// keep some for a while. All else goes on meanwhile, and gives buffers back. What was for a connection that is
    /// gone is dropped, so no more wait than the core can ask for at once.
    pub(super) fn retry_reads(&mut self) {
        if self.reads.waiting.is_empty() {
            return;
        }
        let peers = &self.peers;
        self.reads.waiting.retain(|action| match action {
            Action::Send { conn, .. } => peers.is_current(*conn),
            _ => true,
        });
        while self.io.pool.free() > 0
            && let Some(action) = self.reads.waiting.pop_front()
        {
            self.carry_out(action);
        }
    }

    fn write_meta(&mut self, op: OpId, block: MetaBlock) {
        let offset = match block {
            MetaBlock::Superblock { copy } => self.layout.superblock(copy),
            MetaBlock::ActivityLog { slot } => self.layout.al_slot(slot),
            MetaBlock::BitmapPage { page } => self.layout.bitmap_page(page),
        };
        let mut bytes = [0; META_BLOCK_BYTES];
        self.replica.encode_meta(block, &mut bytes);
        let buf = self.disk.meta.take().expect("metadata writes in flight are bounded");
        self.disk.meta.bytes_mut(buf, META_BLOCK_BYTES).copy_from_slice(&bytes);
        let what = Work::MetaWrite { offset, block: buf };
        self.disk.start(&mut self.io, DiskRequest { user: op.0 | META, what });
        self.disk.meta.release(buf); // the disk holds its own until the write has ended
    }

    fn on_notice(&mut self, notice: Notice) {
        self.run_handlers(&notice);
        self.tell_salvage(&notice);
        match notice {
            Notice::Role(role) => tracing::info!(?role, "this node is {role:?}"),
            Notice::State => {
                self.follow_inheritance();
                self.follow_size();
                self.log_state();
            }
            Notice::PeerBroken(why) => {
                tracing::error!("closed the connection: the peer sent {why}");
            }
            Notice::Refused { by_peer, reason } => {
                let who = if by_peer { "the peer refused" } else { "refused the peer" };
                tracing::error!("{who}: {}", self.refusal_text(reason));
                let now = self.clock.now();
                self.peers.back_off(now);
            }
            Notice::Alone(generation) => {
                let generation = generation.to_string();
                tracing::warn!(generation, "going on alone, as generation {generation}");
            }
            Notice::PeerTimeout { silent } => {
                let why = match silent {
                    true => "nothing was heard of the peer for too long",
                    false => "the peer is there and did not answer a request in time",
                };
                tracing::warn!("{why}");
                self.peers.peer_timed_out(why, silent);
            }
            Notice::DiskFailed(why) => tracing::error!("{why}: see the kernel log for the disk"),
            Notice::ResyncStarted { source, blocks, full } => {
                let way = if source { "to" } else { "from" };
                let kib = blocks * crate::limits::BLOCK_BYTES / 1024;
                tracing::info!("resync {way} the peer begins: {kib} KiB out of sync");
                if let Some(full) = full {
                    tracing::warn!("everything is copied: {}", super::status::full_text(full));
                }
            }
            Notice::ResyncDone => tracing::info!("resync done: both disks are equal"),
            Notice::VerifyBegins => tracing::info!("verify begins: both disks are compared"),
            Notice::VerifyEnds => super::verify::log_end(self.replica.verified()),
            Notice::RepairBegins => super::verify::log_repair_begins(self.replica.verified()),
            Notice::RepairEnds => super::verify::log_repair_ends(self.replica.verified()),
            Notice::MustStepDown => self.step_down(),
        }
        self.remember_events();
    }

    fn log_state(&mut self) {
        let s = self.replica.snapshot();
        let state = (s.connection, s.replication, s.disk, s.peer_role, s.peer_disk);
        if self.logged != Some(state) {
            self.logged = Some(state);
            let peer = match (s.peer_role, s.peer_disk) {
                (Some(role), Some(disk)) => format!("peer {role:?} {disk:?}"),
                _ => "peer unknown".to_owned(),
            };
            tracing::info!(
                connection = ?s.connection,
                replication = ?s.replication,
                disk = ?s.disk,
                peer_role = s.peer_role.map(tracing::field::debug),
                peer_disk = s.peer_disk.map(tracing::field::debug),
                "{:?}, {:?}, this disk {:?}, {peer}",
                s.connection,
                s.replication,
                s.disk
            );
            if let Some(theirs) = s.peer_config
                && theirs != s.config
            {
                let (mine, theirs) = (Digest(s.config), Digest(theirs));
                tracing::warn!(
                    "the peer runs with another configuration ({theirs}) than this node ({mine}): see `rblk doctor`"
                );
            }
        }
    }
}

impl ReadBuffers {
    fn take(&mut self, op: OpId) -> Option<Buf> {
        let at = self.filled.iter().position(|(known, _)| *known == op)?;
        Some(self.filled.swap_remove(at).1)
    }
}

fn read(span: crate::span::Span, buf: Buf, detect_zero: bool) -> Work {
    Work::Read { offset: span.offset(), len: span.bytes() as u32, buf, detect_zero }
}
