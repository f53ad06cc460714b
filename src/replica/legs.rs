//! The two legs of a request: the local disk and the peer, submitted together and answered in any order.
//!
//! What the peer asks of us has a local leg only, and ends with an answer to it.

use super::request::{Kind, Leg, Phase, Request};
use super::resync::is_probe;
use super::{Owner, Replica};
use crate::replica::event::{Action, DiskOp, DiskResult, MetaSeq, OpId, Payload};
use crate::wire::message::{Message, Outcome, ZeroKind};

impl Replica {
    /// Submits. From here to the answers nothing about the request changes but its legs.
    pub(super) fn start_legs(&mut self, at: u32, local: bool, peer: bool) {
        let request = *self.requests.get(at);
        let solo = (request.kind.is_front_write() && !peer)
            || (request.kind.is_peer_write() && !self.link.peer_has_disk());
        if solo {
            self.mark_apart(request.span);
        }
        let leg = |on| if on { Leg::Busy } else { Leg::Absent };
        let entry = self.requests.get_mut(at);
        entry.phase = Phase::Running;
        entry.local = leg(local);
        entry.peer = leg(peer);
        if local {
            self.start_local(at, request);
        }
        if peer {
            self.start_peer(at, request);
        }
    }

    pub(super) fn start_local(&mut self, at: u32, request: Request) {
        let owner = match request.kind {
            Kind::CopyOut | Kind::Rewrite => Owner::CopyRead(at),
            _ => Owner::Local(at),
        };
        let op = self.begin_op(owner);
        let span = request.span;
        self.requests.get_mut(at).op = Some(op);
        if self.needs_log(request.kind) {
            let covered = span.blocks().all(|block| self.activity.covers(block));
            assert!(covered && request.pinned, "a write is covered by the activity log");
        }
        let sole = request.kind.is_front_write() && self.is_sole_beside_primary();
        self.requests.get_mut(at).local_fua = sole || request.kind.is_fua();
        let what = match request.kind {
            Kind::FrontRead { id } => DiskOp::Read { span, id },
            Kind::PeerRead { .. } => DiskOp::ReadPeer { span },
            Kind::Compare | Kind::PeerDigest { .. } => DiskOp::Digest { span },
            Kind::CopyOut if is_probe(span) => DiskOp::Probe { span },
            Kind::CopyOut | Kind::Rewrite => DiskOp::ReadResync { span },
            Kind::FrontWrite { buf, fua, .. } | Kind::PeerWrite { buf, fua, .. } => {
                DiskOp::Write { span, buf, fua: fua || sole }
            }
            Kind::FrontZero { kind, fua, .. } | Kind::PeerZero { kind, fua, .. } => {
                DiskOp::Zero { span, kind, fua: fua || sole }
            }
            Kind::CopyIn { buf: Some(buf), .. } => DiskOp::Write { span, buf, fua: false },
            Kind::CopyIn { buf: None, .. } => {
                DiskOp::Zero { span, kind: ZeroKind::Zeroes, fua: false }
            }
        };
        self.actions.push_back(Action::Disk { op, what, after: self.meta.durable() });
    }

    fn start_peer(&mut self, at: u32, request: Request) {
        let id = u64::from(self.begin_op(Owner::Peer(at)));
        let span = request.span;
        let after = self.meta.durable();
        // The only good copy is the peer's: what a client was told is done must outlive its power.
        let sole = self.disk != crate::wire::message::DiskState::UpToDate;
        let fua = request.kind.is_fua() || sole;
        let (message, payload) = match request.kind {
            Kind::FrontRead { id: front } => (Message::Read { id, span }, Payload::Into(front)),
            Kind::FrontWrite { buf, .. } => (Message::Write { id, span, fua }, Payload::Buf(buf)),
            Kind::FrontZero { kind, .. } => {
                (Message::WriteZero { id, span, kind, fua }, Payload::None)
            }
            Kind::Compare => (Message::DigestAsk { id, span }, Payload::None),
            _ => unreachable!("nothing else goes to the peer"),
        };
        self.counters.sent_bytes += message.payload_bytes();
        let entry = self.requests.get_mut(at);
        entry.sent_zero = matches!(message, Message::WriteZero { .. });
        entry.sent_fua = fua;
        self.link.take_credit(&message);
        self.send_with(message, payload, after);
    }

    pub(super) fn on_disk_done(&mut self, op: OpId, result: DiskResult) {
        let ok = result != DiskResult::Failed;
        match self.ops.end(op) {
            Some(Owner::Local(at)) => {
                let leg = if ok { Leg::Done } else { Leg::Failed };
                self.requests.get_mut(at).local = leg;
                self.order_after_disk(at);
                if !ok {
                    self.local_request_failed(at);
                }
                // With the disk the connection may have gone, and it runs again already.
                if self.requests.find(at).is_some_and(|request| request.local == leg) {
                    self.settle(at);
                }
            }
            Some(Owner::CopyRead(at)) => match self.requests.get(at).kind {
                Kind::Rewrite => self.on_rewrite_read(at, op, result),
                _ => self.on_copy_read(at, op, result),
            },
            Some(Owner::FlushLocal) => self.on_local_flush(ok),
            Some(Owner::FlushForPeer { id, conn, mark }) => {
                self.on_flush_for_peer(id, conn, mark, ok);
            }
            Some(Owner::FlushForEnd) => self.on_flush_for_end(ok),
            Some(Owner::FlushForSole(conn)) => self.on_flush_for_sole(conn, ok),
            // Nobody waits for it any more; if it was a read, its buffer is free.
            Some(Owner::Meta | Owner::Peer(_) | Owner::FlushPeer) | None => {
                self.actions.push_back(Action::ReleaseOp { op });
            }
        }
    }

    /// A write or read of ours failed. Where the peer can take over, this disk is given up: it no longer holds what
    /// it should. Where it cannot, the client learns of it, and the blocks stay marked.
    ///
    /// A write that was to be stable when it ends may have failed in the flush that is part of it: like a flush, it has
    /// then lost whatever else the disk had in its cache, and the next flush would report success.
    fn local_request_failed(&mut self, at: u32) {
        let Request { kind, local_fua, .. } = *self.requests.get(at);
        let peer_takes_over = self.link.peer_can_read();
        match kind {
            // Nobody waits for the data; whoever verifies is told.
            Kind::Compare | Kind::PeerDigest { .. } => {}
            _ if local_fua => self.disk_failed("a stable write failed"),
            Kind::FrontRead { .. } | Kind::PeerRead { .. } if !peer_takes_over => {}
            Kind::FrontWrite { .. } | Kind::FrontZero { .. } if !peer_takes_over => {}
            Kind::FrontRead { .. } | Kind::PeerRead { .. } => self.disk_failed("a read failed"),
            _ => self.disk_failed("a write failed"),
        }
    }

    /// The peer's answer to a request of ours.
    pub(super) fn on_peer_answer(&mut self, id: u64, outcome: Outcome) -> bool {
        let Some(Owner::Peer(at)) = self.ops.owner(OpId(id)) else { return false };
        self.link.pulse.echo(self.ops.since(OpId(id)).unwrap_or_default());
        self.ops.end(OpId(id));
        self.return_credit(at);
        match self.requests.get(at).kind {
            Kind::CopyOut => self.copy_ended(at, outcome),
            Kind::Rewrite => self.rewrite_ended(at, outcome),
            _ => self.peer_leg_ended(at, outcome),
        }
        true
    }

    fn peer_leg_ended(&mut self, at: u32, outcome: Outcome) {
        let done = outcome == Outcome::Done;
        self.requests.get_mut(at).peer = if done { Leg::Done } else { Leg::Failed };
        if !done && self.requests.get(at).kind.is_front_write() {
            let span = self.requests.get(at).span;
            self.mark_apart(span);
        }
        self.settle(at);
    }

    fn return_credit(&mut self, at: u32) {
        let request = *self.requests.get(at);
        let span = request.span;
        let sent = match request.kind {
            Kind::FrontRead { .. } => Message::Read { id: 0, span },
            Kind::Compare => Message::DigestAsk { id: 0, span },
            _ if request.sent_zero => Message::ResyncZero { id: 0, span },
            _ => Message::ResyncData { id: 0, span },
        };
        self.link.return_credit(&sent);
    }

    /// Answers the peer.
    pub(super) fn answer_peer(&mut self, at: u32, request: Request) {
        let (ok, span) = (request.local == Leg::Done, request.span);
        let outcome = if ok { Outcome::Done } else { Outcome::Failed };
        let wanted = !request.orphan && self.link.is_up();
        match request.kind {
            Kind::PeerRead { id } => {
                let op = request.op.filter(|_| ok);
                if wanted {
                    self.link.count_out(&Message::Read { id, span });
                    let payload = op.map_or(Payload::None, Payload::Op);
                    let reply = Message::ReadReply { id, span, outcome };
                    self.send_with(reply, payload, MetaSeq(0));
                }
                if let Some(op) = request.op
                    && !(wanted && ok)
                {
                    self.actions.push_back(Action::ReleaseOp { op });
                }
            }
            Kind::PeerWrite { id, .. } | Kind::PeerZero { id, .. } if wanted => {
                let zero = matches!(request.kind, Kind::PeerZero { .. });
                let received = match zero {
                    true => Message::ResyncZero { id, span },
                    false => Message::ResyncData { id, span },
                };
                self.link.count_out(&received);
                self.send(Message::WriteAck { id, outcome });
            }
            _ => {}
        }
        self.finish(at);
    }
}
