//! A request's way in: overlap, activity log, and the gate that says where it may run now.
//!
//! Nothing is submitted here before its turn: not while an earlier overlapping request is in flight, not before its
//! extents are durable in the log, not to a disk or peer that cannot take it.

use super::Replica;
use super::request::{Kind, Leg, Phase, Request};
use crate::replica::event::{FrontId, FrontOp, FrontResult};
use crate::span::Span;
use crate::wire::message::{DiskState, Role};

/// Where a held request may run now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gate {
    /// On these legs.
    Open { local: bool, peer: bool },
    /// Nowhere yet.
    Hold,
    /// Nowhere, for good.
    Refuse,
}

impl Replica {
    pub(super) fn on_request(&mut self, id: FrontId, op: FrontOp) {
        let span = match op {
            FrontOp::Flush => {
                if self.role == Role::Primary {
                    self.flush_for_client(id);
                } else {
                    self.complete(id, FrontResult::Invalid);
                }
                return;
            }
            FrontOp::Read { span, .. }
            | FrontOp::Write { span, .. }
            | FrontOp::Zero { span, .. } => span,
        };
        if self.role != Role::Primary || !span.within(self.sectors) {
            self.complete(id, FrontResult::Invalid);
            return;
        }
        let kind = match op {
            FrontOp::Read { .. } => Kind::FrontRead { id },
            FrontOp::Write { buf, fua, .. } => Kind::FrontWrite { id, buf, fua },
            FrontOp::Zero { kind, fua, .. } => Kind::FrontZero { id, kind, fua },
            FrontOp::Flush => unreachable!("answered above"),
        };
        self.resync.pace.request_comes(self.now);
        self.verify.pace.request_comes(self.now);
        if kind.is_write() {
            self.counters.written_bytes += span.bytes();
        } else {
            self.counters.read_bytes += span.bytes();
        }
        self.admit(kind, span);
    }

    /// Takes in a request and moves it as far as it can go.
    pub(super) fn admit(&mut self, kind: Kind, span: Span) -> u32 {
        let at = self.requests.free.pop().expect("every source of requests is bounded");
        let write = kind.is_write();
        self.requests.slots[at as usize] = Some(Request {
            kind,
            span,
            phase: if write { Phase::Blocked } else { Phase::Held },
            local: Leg::Absent,
            peer: Leg::Absent,
            op: None,
            sent_zero: false,
            sent_fua: false,
            local_fua: false,
            pinned: false,
            repeat: false,
            orphan: false,
            arrived: self.now,
        });
        if write {
            if self.overlap.insert(at, span) {
                self.unblocked(at);
            } else if kind.is_peer_write() {
                self.order_peer_write(at);
            }
        } else {
            self.requests.held.push_back(at);
        }
        at
    }

    /// Nothing earlier overlaps the request any more.
    pub(super) fn unblocked(&mut self, at: u32) {
        let request = *self.requests.get(at);
        if request.phase != Phase::Blocked {
            self.turn_came_again(at);
            return;
        }
        if request.orphan {
            self.finish(at); // the peer's, and nobody waits for it any more
            return;
        }
        if self.needs_log(request.kind) {
            self.requests.get_mut(at).phase = Phase::NeedsLog;
            self.requests.log_queue.push_back(at);
        } else {
            self.hold(at);
        }
    }

    pub(super) fn hold(&mut self, at: u32) {
        self.requests.get_mut(at).phase = Phase::Held;
        self.requests.held.push_back(at);
    }

    /// Writes that only our own record can tell the peer about: the Primary's, and with a diskless Primary the ones
    /// that it sends us.
    pub(super) fn needs_log(&self, kind: Kind) -> bool {
        let tracked = kind.is_front_write() || (kind.is_peer_write() && !self.link.peer_has_disk());
        tracked && self.has_disk()
    }

    /// Moves all requests that can move.
    pub(super) fn pump_requests(&mut self) {
        self.pump_log_queue();
        self.pump_durable_queue();
        // Each is looked at once; those that cannot start keep their order.
        for _ in 0..self.requests.held.len() {
            let Some(at) = self.requests.held.pop_front() else { break };
            self.try_start(at);
        }
    }

    fn pump_log_queue(&mut self) {
        let mut waiting = self.requests.log_queue.len();
        let mut head = true;
        while waiting > 0 {
            waiting -= 1;
            let Some(at) = self.requests.log_queue.pop_front() else { break };
            let request = *self.requests.get(at);
            let extents = request.span.extents();
            if request.orphan || !self.needs_log(request.kind) {
                self.hold(at);
                continue;
            }
            let may_try = head || (!self.requests.starved && self.activity.is_hot(extents.clone()));
            let meta = &mut self.meta;
            let pinned =
                if may_try { self.activity.pin(extents, || meta.log_step()) } else { None };
            match pinned {
                Some(after) => {
                    if head {
                        self.requests.starved = false;
                    }
                    let request = self.requests.get_mut(at);
                    request.pinned = true;
                    request.phase = Phase::NeedsDurable(after);
                    self.requests.durable_queue.push_back(at);
                }
                None => {
                    if head {
                        self.requests.starved = true;
                    }
                    head = false;
                    self.requests.log_queue.push_back(at);
                }
            }
        }
        if self.requests.log_queue.is_empty() {
            self.requests.starved = false;
        }
    }

    fn pump_durable_queue(&mut self) {
        for _ in 0..self.requests.durable_queue.len() {
            let Some(at) = self.requests.durable_queue.pop_front() else { break };
            let Phase::NeedsDurable(after) = self.requests.get(at).phase else {
                unreachable!("only requests that wait for a transaction are in this queue");
            };
            let orphan = self.requests.get(at).orphan;
            if self.meta.is_durable(after) || orphan || !self.has_disk() {
                self.hold(at);
            } else {
                self.requests.durable_queue.push_back(at);
            }
        }
    }

    fn try_start(&mut self, at: u32) {
        let request = *self.requests.get(at);
        assert!(request.phase == Phase::Held);
        if request.orphan {
            self.finish(at);
            return;
        }
        if self.needs_log(request.kind) && !request.pinned {
            // What it was admitted under has changed: the peer's disk is gone.
            self.requests.get_mut(at).phase = Phase::NeedsLog;
            self.requests.log_queue.push_back(at);
            return;
        }
        if request.kind.is_write() && self.overlap.is_blocked(at, request.span) {
            self.requests.held.push_back(at);
            return;
        }
        let gate = match request.kind {
            Kind::FrontRead { .. } => self.read_gate(request.span),
            Kind::FrontWrite { .. } => self.write_gate(self.link.has_data_credit()),
            Kind::FrontZero { .. } => self.write_gate(self.link.has_zero_credit()),
            Kind::PeerRead { .. } => self.own_disk_gate(self.disk >= DiskState::Consistent),
            Kind::PeerWrite { .. } | Kind::PeerZero { .. } => self.peer_write_gate(),
            Kind::Compare => self.compare_gate(),
            Kind::PeerDigest { .. } => self.own_disk_gate(self.disk >= DiskState::Consistent),
            Kind::Rewrite => self.own_disk_gate(self.rewrites()),
            Kind::CopyIn { .. } | Kind::CopyOut => self.own_disk_gate(true),
        };
        match gate {
            Gate::Open { local, peer } => self.start_legs(at, local, peer),
            Gate::Hold => self.requests.held.push_back(at),
            Gate::Refuse => {
                let request = self.requests.get_mut(at);
                request.phase = Phase::Running;
                request.local = Leg::Failed;
                request.peer = Leg::Failed;
                self.settle(at);
            }
        }
    }

    fn own_disk_gate(&self, readable: bool) -> Gate {
        if self.has_disk() && readable {
            Gate::Open { local: true, peer: false }
        } else {
            Gate::Refuse
        }
    }

    /// Both ends read, or nobody.
    fn compare_gate(&self) -> Gate {
        match (self.may_compare(), self.link.has_read_credit()) {
            (true, true) => Gate::Open { local: true, peer: true },
            (true, false) => Gate::Hold,
            _ => Gate::Refuse,
        }
    }

    /// A diskless Primary's write is acknowledged by us alone, so our record must say so first.
    fn peer_write_gate(&self) -> Gate {
        if !self.has_disk() {
            Gate::Refuse
        } else if self.link.peer_has_disk() || self.is_alone() {
            Gate::Open { local: true, peer: false }
        } else {
            Gate::Hold
        }
    }

    fn write_gate(&self, credit: bool) -> Gate {
        if self.is_hopeless() {
            return Gate::Refuse;
        }
        let local = self.has_disk();
        if self.link.is_up() && self.link.peer_has_disk() {
            return match credit {
                true => Gate::Open { local, peer: true },
                false => Gate::Hold,
            };
        }
        if self.disk == DiskState::UpToDate && self.may_write_alone() {
            return Gate::Open { local: true, peer: false };
        }
        Gate::Hold
    }

    /// No disk that could answer will come back by itself, or the peer went on without this node; or the node is
    /// leaving and cannot wait.
    pub(super) fn is_hopeless(&self) -> bool {
        let no_data = !self.has_disk() || self.disk == DiskState::Inconsistent;
        let peer_gone = !self.link.is_up() && self.role_change.is_draining();
        let peer_empty = self.link.is_up() && !self.link.peer_can_read();
        self.alone.data_lost()
            || self.separation.is_superseded()
            || (no_data && (peer_gone || peer_empty))
    }

    fn read_gate(&self, span: Span) -> Gate {
        let local = match self.disk {
            DiskState::UpToDate => self.knows_newest(),
            // Cut off from its source, a target cannot know what was written there since.
            DiskState::Inconsistent => self.has_lease() && !self.dirty.any(span.blocks()),
            _ => false,
        };
        if local {
            return Gate::Open { local: true, peer: false };
        }
        if self.link.peer_can_read() {
            return match self.link.has_read_credit() {
                true => Gate::Open { local: false, peer: true },
                false => Gate::Hold,
            };
        }
        let given_up = self.role_change.is_draining() && self.is_denied();
        if self.is_hopeless() || given_up { Gate::Refuse } else { Gate::Hold }
    }
}
