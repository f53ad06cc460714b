//! What the peer says once the connection is up. Nothing it says can panic this node: what no correct peer sends
//! ends the connection.

use super::request::Kind;
use super::{Owner, Replica};
use crate::replica::event::{Buf, ConnId, Notice, OpId};
use crate::span::Span;
use crate::wire::message::{Message, Role};

impl Replica {
    pub(super) fn on_peer_message(&mut self, conn: ConnId, message: Message, buf: Option<Buf>) {
        match message {
            Message::Write { .. }
            | Message::WriteZero { .. }
            | Message::Read { .. }
            | Message::DigestAsk { .. }
            | Message::ResyncData { .. }
            | Message::ResyncZero { .. }
            | Message::Flush { .. } => {
                if self.link.count_in(&message) {
                    self.on_peer_request(conn, message, buf);
                } else {
                    self.release(buf);
                    self.broken("more requests than it was allowed");
                }
                return;
            }
            _ => {}
        }
        self.release(buf);
        let understood = match message {
            Message::WriteAck { id, outcome } => {
                self.is_answer_to(id, Kind::is_front_write) && self.on_peer_answer(id, outcome)
            }
            Message::ResyncAck { id, outcome } => {
                self.is_answer_to(id, |kind| matches!(kind, Kind::CopyOut | Kind::Rewrite))
                    && self.on_peer_answer(id, outcome)
            }
            Message::ReadReply { id, span, outcome } => {
                self.is_reply_to(id, span) && self.on_peer_answer(id, outcome)
            }
            Message::FlushAck { id, outcome } => self.on_flush_ack(id, outcome),
            _ => return self.on_peer_news(message),
        };
        if !understood {
            self.broken("an answer to nothing that was asked");
        }
    }

    fn is_answer_to(&self, id: u64, wanted: impl Fn(Kind) -> bool) -> bool {
        match self.ops.owner(OpId(id)) {
            Some(Owner::Peer(at)) => wanted(self.requests.get(at).kind),
            _ => false,
        }
    }

    fn is_reply_to(&self, id: u64, span: Span) -> bool {
        match self.ops.owner(OpId(id)) {
            Some(Owner::Peer(at)) => {
                let request = self.requests.get(at);
                matches!(request.kind, Kind::FrontRead { .. }) && request.span == span
            }
            _ => false,
        }
    }

    fn on_peer_request(&mut self, conn: ConnId, message: Message, buf: Option<Buf>) {
        let serves = self.link.peer_role() == Role::Primary
            && (self.role == Role::Secondary || self.settings.policies.dual_primary);
        match (message, buf) {
            (Message::Write { id, span, fua }, Some(buf)) if serves && self.fits(span) => {
                self.counters.received_bytes += span.bytes();
                self.admit(Kind::PeerWrite { id, buf, fua }, span);
            }
            (Message::WriteZero { id, span, kind, fua }, None) if serves && self.fits(span) => {
                self.admit(Kind::PeerZero { id, kind, fua }, span);
            }
            (Message::Read { id, span }, None) if serves && self.fits(span) => {
                self.admit(Kind::PeerRead { id }, span);
            }
            (Message::ResyncData { id, span }, Some(buf)) => {
                self.on_copy_in(id, span, Some(buf));
            }
            (Message::ResyncZero { id, span }, None) => self.on_copy_in(id, span, None),
            (Message::DigestAsk { id, span }, None) if self.fits(span) => {
                self.on_digest_ask(id, span);
            }
            (Message::Flush { id, mark }, None) => self.flush_for_peer(id, conn, mark),
            (_, buf) => {
                self.release(buf);
                self.broken("a request that it may not make, or outside the volume");
            }
        }
    }

    /// The span lies within the volume and is small enough to be tracked.
    fn fits(&self, span: Span) -> bool {
        span.within(self.sectors) && span.bytes() <= crate::limits::ZERO_BYTES_MAX
    }

    /// Everything that is neither a request nor an answer to one.
    fn on_peer_news(&mut self, message: Message) {
        match message {
            Message::ResyncEnd { current, history } => self.on_resync_end(current, history),
            Message::ResyncEndAck => self.on_resync_end_ack(),
            Message::PromoteAsk => self.on_promote_ask(),
            Message::PromoteAnswer { granted } => self.on_promote_answer(granted),
            Message::RoleIs { role } => {
                let both = role == Role::Primary && self.role == Role::Primary;
                if both && !self.settings.policies.dual_primary {
                    self.broken("it became Primary beside a Primary");
                    return;
                }
                self.link.set_peer_role(role);
                self.notify(Notice::State);
            }
            Message::DiskFailed => self.on_peer_disk_failed(),
            Message::Mark { mark, more } => self.on_mark(mark, more),
            Message::DiskFailedAck { current } => self.on_disk_failed_ack(current),
            _ => self.broken("a message out of turn"),
        }
    }
}
