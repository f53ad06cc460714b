//! The life of one block request, and the table that holds them.
//!
//! ```text
//!            overlap          activity log         durable?        gate            both legs answered
//!  arrives ─► Blocked ─► NeedsLog ─► NeedsDurable ─► Held ─► Running ─► settle ─┬─► completed
//!                                                     ▲                         ├─► AwaitsAlone ─► completed
//!                                                     └──── peer lost, disk ────┴─► AwaitsOwner ─► completed
//!                                                           lost: try again
//! ```
//!
//! The way in is `admission.rs`, the legs are `legs.rs`, the end is `settle.rs`; `losses.rs` says what a lost peer or
//! disk means for what is under way. Reads skip the first three. Two legs run at once: the local disk and the peer.
//! What must never happen:
//!
//! - a write submitted while an earlier overlapping one is in flight, or before its extents are durable in the log;
//! - a write without a peer leg whose blocks are not set in the dirty bitmap before it is submitted;
//! - a completion that only one node can vouch for, before the record says that this node is alone (`alone.rs`) or
//!   the peer has recorded that our disk is old ([`Phase::AwaitsOwner`]).

use crate::limits::REQUESTS_MAX;
use crate::replica::event::{Buf, FrontId, MetaSeq, OpId, Tick};
use crate::span::Span;
use crate::wire::message::ZeroKind;
use std::collections::VecDeque;

/// What a request is, and for whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    FrontRead {
        id: FrontId,
    },
    FrontWrite {
        id: FrontId,
        buf: Buf,
        fua: bool,
    },
    FrontZero {
        id: FrontId,
        kind: ZeroKind,
        fua: bool,
    },
    PeerRead {
        id: u64,
    },
    PeerWrite {
        id: u64,
        buf: Buf,
        fua: bool,
    },
    PeerZero {
        id: u64,
        kind: ZeroKind,
        fua: bool,
    },
    /// A resync job at the source: locked, read, sent, answered.
    CopyOut,
    /// A job of a repair: locked, read, sent, answered.
    Rewrite,
    /// A job of a verify: locked, read on both nodes, compared.
    Compare,
    /// The peer verifies: locked, read, answered.
    PeerDigest {
        id: u64,
    },
    /// Resync data at the target. `None`: zeroes.
    CopyIn {
        id: u64,
        buf: Option<Buf>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Blocked,
    NeedsLog,
    NeedsDurable(MetaSeq),
    Held,
    Running,
    AwaitsAlone,
    AwaitsOwner,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leg {
    /// Does not take part.
    Absent,
    /// Under way.
    Busy,
    /// Accepted.
    Done,
    /// Refused.
    Failed,
    /// The peer is gone: whether it accepted, nobody will say.
    Lost,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) span: Span,
    pub(super) phase: Phase,
    pub(super) local: Leg,
    pub(super) peer: Leg,
    /// The disk operation of the local leg, while there is one.
    pub(super) op: Option<OpId>,
    /// It went to the peer without payload.
    pub(super) sent_zero: bool,
    /// What the peer says is done is on stable media there.
    pub(super) sent_fua: bool,
    /// The same of the local disk.
    pub(super) local_fua: bool,
    /// It holds pins of the activity log.
    pub(super) pinned: bool,
    /// The local leg is to be run again, once what has overtaken it has run; it counts as busy until then.
    pub(super) repeat: bool,
    /// The connection it came on or was sent on is gone.
    pub(super) orphan: bool,
    pub(super) arrived: Tick,
}

/// All requests, and the queues they wait in. Nothing here grows.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) slots: Vec<Option<Request>>,
    pub(super) free: Vec<u32>,
    /// Wait for room in the activity log, in order.
    pub(super) log_queue: VecDeque<u32>,
    /// Wait for a transaction to become durable.
    pub(super) durable_queue: VecDeque<u32>,
    /// May start as soon as the gate opens.
    pub(super) held: VecDeque<u32>,
    pub(super) woken: Vec<u32>,
    /// How many have ended since the start: what waits for one may go on then.
    pub(super) ended: u64,
    /// The head of `log_queue` found no room: nobody overtakes it, or it might starve.
    pub(super) starved: bool,
}

impl Requests {
    pub(super) fn new() -> Requests {
        Requests {
            slots: vec![None; REQUESTS_MAX],
            free: (0..REQUESTS_MAX as u32).rev().collect(),
            log_queue: VecDeque::with_capacity(REQUESTS_MAX),
            durable_queue: VecDeque::with_capacity(REQUESTS_MAX),
            held: VecDeque::with_capacity(REQUESTS_MAX),
            woken: Vec::with_capacity(REQUESTS_MAX),
            ended: 0,
            starved: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Requests in queues.
    pub(super) fn waiting(&self) -> usize {
        self.log_queue.len() + self.durable_queue.len() + self.held.len()
    }

    /// True if a write waits for room in the activity log.
    pub(super) fn log_is_starved(&self) -> bool {
        self.starved
    }

    pub(super) fn get(&self, at: u32) -> &Request {
        self.slots[at as usize].as_ref().expect("a request in use")
    }

    pub(super) fn get_mut(&mut self, at: u32) -> &mut Request {
        self.slots[at as usize].as_mut().expect("a request in use")
    }

    /// All requests with their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Request)> {
        self.slots.iter().enumerate().filter_map(|(at, r)| Some((at as u32, r.as_ref()?)))
    }

    /// Places in use, as a list of numbers that stays good while requests end.
    pub(super) fn places(&self) -> std::ops::Range<u32> {
        0..self.slots.len() as u32
    }

    pub(super) fn find(&self, at: u32) -> Option<&Request> {
        self.slots[at as usize].as_ref()
    }
}

impl Kind {
    /// It has its span for itself while it runs: it writes, or must not be written over.
    pub(super) fn is_write(self) -> bool {
        !matches!(self, Kind::FrontRead { .. } | Kind::PeerRead { .. })
    }

    pub(super) fn is_front(self) -> bool {
        matches!(self, Kind::FrontRead { .. } | Kind::FrontWrite { .. } | Kind::FrontZero { .. })
    }

    pub(super) fn is_front_write(self) -> bool {
        self.is_front() && self.is_write()
    }

    /// This node's clients do not wait for it: it only keeps them off while it reads.
    pub(super) fn is_own_lock(self) -> bool {
        matches!(self, Kind::CopyOut | Kind::Compare | Kind::Rewrite)
    }

    pub(super) fn is_peer_write(self) -> bool {
        matches!(self, Kind::PeerWrite { .. } | Kind::PeerZero { .. })
    }

    /// It stays on stable media once answered, without a flush.
    pub(super) fn is_fua(self) -> bool {
        matches!(
            self,
            Kind::FrontWrite { fua: true, .. }
                | Kind::FrontZero { fua: true, .. }
                | Kind::PeerWrite { fua: true, .. }
                | Kind::PeerZero { fua: true, .. }
        )
    }

    /// The buffer of a received frame, which is released when the request ends.
    pub(super) fn received_buf(self) -> Option<Buf> {
        match self {
            Kind::PeerWrite { buf, .. } => Some(buf),
            Kind::CopyIn { buf, .. } => buf,
            _ => None,
        }
    }
}
