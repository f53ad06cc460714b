//! Where the time of a request goes: a histogram for each hop, always on.
//!
//! ```text
//!   client ─► front-write ────────────────────────────────────────────────► answered
//!                │ activity-log (only if its extent is not in it)
//!                ├─► disk-write ─────────────► accepted ─┐
//!                └─► peer: network, its disk, network ────┴─ both
//! ```
//!
//! Times are those at which the core heard and wished something, in microseconds; reading a clock for that costs
//! nothing more. Nothing here is allocated, locked or grown after the start.

use crate::ctl::status::Latency;
use crate::limits::{FRONT_REQUESTS_MAX, HOP_BOUNDS_US, HOP_US_MAX, OPERATIONS_MAX};
use crate::replica::event::{
    Action, DiskOp, DiskResult, FrontOp, FrontResult, Input, MetaBlock, Tick,
};
use crate::wire::message::{Message, Outcome};
use hdrhistogram::Histogram;

/// Decimal digits that a histogram tells apart: a tail is known to one percent, in 20 KiB each.
const DIGITS: u8 = 2;
/// Operations remembered at once: a power of two, so that those in flight never share a place.
const PLACES: usize = OPERATIONS_MAX.next_power_of_two();

/// A part of a request's way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hop {
    FrontRead,
    FrontWrite,
    FrontFlush,
    ActivityLog,
    DiskRead,
    DiskWrite,
    DiskFlush,
    Peer,
}

impl Hop {
    const ALL: [Hop; 8] = [
        Hop::FrontRead,
        Hop::FrontWrite,
        Hop::FrontFlush,
        Hop::ActivityLog,
        Hop::DiskRead,
        Hop::DiskWrite,
        Hop::DiskFlush,
        Hop::Peer,
    ];

    fn name(self) -> &'static str {
        match self {
            Hop::FrontRead => "front-read",
            Hop::FrontWrite => "front-write",
            Hop::FrontFlush => "front-flush",
            Hop::ActivityLog => "activity-log",
            Hop::DiskRead => "disk-read",
            Hop::DiskWrite => "disk-write",
            Hop::DiskFlush => "disk-flush",
            Hop::Peer => "peer",
        }
    }
}

/// When something began, and what.
#[derive(Clone, Copy)]
struct Began {
    /// Name of the operation; none has 0.
    op: u64,
    at: Tick,
    hop: Hop,
}

struct Times {
    histogram: Histogram<u64>,
    sum_us: u64,
    buckets: [u64; HOP_BOUNDS_US.len() + 1],
}

/// The histograms and what is under way.
pub(super) struct Hops {
    now: Tick,
    times: [Times; Hop::ALL.len()],
    operations: Box<[Began]>,
    requests: Box<[Option<(Tick, Hop)>]>,
}

impl Hops {
    /// Nothing passed yet. What the core wishes before it hears anything begins `now`.
    pub(super) fn new(now: Tick) -> Hops {
        let none = Began { op: 0, at: Tick(0), hop: Hop::Peer };
        Hops {
            now,
            times: Hop::ALL.map(|_| Times {
                histogram: Histogram::new_with_bounds(1, HOP_US_MAX, DIGITS)
                    .expect("the bounds are constants"),
                sum_us: 0,
                buckets: [0; HOP_BOUNDS_US.len() + 1],
            }),
            operations: vec![none; PLACES].into_boxed_slice(),
            requests: vec![None; FRONT_REQUESTS_MAX].into_boxed_slice(),
        }
    }

    /// The core is about to hear something.
    pub(super) fn heard(&mut self, now: Tick, input: &Input<'_>) {
        self.now = now;
        match *input {
            Input::Request { id, op } => {
                let hop = match op {
                    FrontOp::Read { .. } => Hop::FrontRead,
                    FrontOp::Write { .. } => Hop::FrontWrite,
                    FrontOp::Flush => Hop::FrontFlush,
                    FrontOp::Zero { .. } => return,
                };
                self.requests[id.0 as usize] = Some((now, hop));
            }
            Input::DiskDone { op, result } => self.ended(op.0, result != DiskResult::Failed),
            Input::Digests { op, .. } => self.ended(op.0, true),
            Input::MetaDone { op, ok } => self.ended(op.0, ok),
            Input::Received { message: Message::WriteAck { id, outcome }, .. } => {
                self.ended(id, outcome == Outcome::Done);
            }
            _ => {}
        }
    }

    /// The core wishes something.
    pub(super) fn wished(&mut self, action: &Action) {
        match *action {
            Action::Disk { op, what, .. } => match what {
                DiskOp::Read { .. }
                | DiskOp::ReadPeer { .. }
                | DiskOp::ReadResync { .. }
                | DiskOp::Digest { .. } => {
                    self.began(op.0, Hop::DiskRead);
                }
                DiskOp::Write { .. } => self.began(op.0, Hop::DiskWrite),
                DiskOp::Flush => self.began(op.0, Hop::DiskFlush),
                DiskOp::Zero { .. } | DiskOp::Probe { .. } => {}
            },
            Action::Meta { op, block: MetaBlock::ActivityLog { .. } } => {
                self.began(op.0, Hop::ActivityLog);
            }
            Action::Send { message: Message::Write { id, .. }, .. } => self.began(id, Hop::Peer),
            Action::Complete { id, result: FrontResult::Done, .. } => {
                if let Some((at, hop)) = self.requests[id.0 as usize].take() {
                    self.record(hop, self.now.since(at));
                }
            }
            _ => {}
        }
    }

    /// What status says of them.
    pub(super) fn latencies(&self) -> Vec<Latency> {
        let latency = |hop: Hop| {
            let Times { histogram, sum_us, buckets } = &self.times[hop as usize];
            Latency {
                hop: hop.name().to_owned(),
                count: histogram.len(),
                sum_us: *sum_us,
                p50_us: histogram.value_at_quantile(0.5),
                p99_us: histogram.value_at_quantile(0.99),
                max_us: histogram.max(),
                buckets: buckets.to_vec(),
            }
        };
        Hop::ALL.map(latency).into()
    }

    fn began(&mut self, op: u64, hop: Hop) {
        self.operations[op as usize % PLACES] = Began { op, at: self.now, hop };
    }

    fn ended(&mut self, op: u64, well: bool) {
        let place = &mut self.operations[op as usize % PLACES];
        let Began { op: known, at, hop } = *place;
        if op == 0 || known != op {
            return; // of a connection that is gone, or not measured
        }
        place.op = 0;
        if well {
            self.record(hop, self.now.since(at));
        }
    }

    fn record(&mut self, hop: Hop, us: u64) {
        let times = &mut self.times[hop as usize];
        times.histogram.saturating_record(us);
        times.sum_us = times.sum_us.saturating_add(us);
        times.buckets[HOP_BOUNDS_US.partition_point(|bound| *bound < us)] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::event::{Buf, ConnId, FrontId, MetaSeq, OpId, Payload};
    use crate::span::Span;

    fn of(hops: &Hops, name: &str) -> Latency {
        hops.latencies().into_iter().find(|latency| latency.hop == name).expect("a hop")
    }

    #[test]
    fn a_write_is_split_into_its_hops() {
        let mut hops = Hops::new(Tick(0));
        let (id, span) = (FrontId(5), Span::new(8, 8).expect("valid"));
        let op = FrontOp::Write { span, buf: Buf(0), fua: false };
        hops.heard(Tick(1000), &Input::Request { id, op });
        let after = MetaSeq(0);
        let what = DiskOp::Write { span, buf: Buf(0), fua: false };
        hops.wished(&Action::Disk { op: OpId(4097), what, after });
        let (conn, message) = (ConnId(1), Message::Write { id: 4098, span, fua: false });
        hops.wished(&Action::Send { conn, message, payload: Payload::Buf(Buf(0)), after });
        hops.heard(Tick(1060), &Input::DiskDone { op: OpId(4097), result: DiskResult::Done });
        let message = Message::WriteAck { id: 4098, outcome: Outcome::Done };
        for now in [1100, 1200] {
            // The second is an answer to nothing.
            hops.heard(Tick(now), &Input::Received { conn, message, buf: None, payload: &[] });
        }
        hops.wished(&Action::Complete { id, result: FrontResult::Done, after });
        for (name, us) in [("disk-write", 60), ("peer", 100), ("front-write", 200)] {
            let latency = of(&hops, name);
            assert_eq!((latency.count, latency.sum_us), (1, us), "{name}");
            assert!(latency.max_us.abs_diff(us) <= us / 100, "{name}: {}", latency.max_us);
        }
        assert_eq!(of(&hops, "front-read").count, 0);
    }

    #[test]
    fn what_fails_or_takes_for_ever_spoils_nothing() {
        let mut hops = Hops::new(Tick(0));
        hops.wished(&Action::Disk { op: OpId(1), what: DiskOp::Flush, after: MetaSeq(0) });
        hops.heard(Tick(9), &Input::DiskDone { op: OpId(1), result: DiskResult::Failed });
        assert_eq!(of(&hops, "disk-flush").count, 0);
        hops.wished(&Action::Disk { op: OpId(2), what: DiskOp::Flush, after: MetaSeq(0) });
        hops.heard(Tick(u64::MAX), &Input::DiskDone { op: OpId(2), result: DiskResult::Done });
        let latency = of(&hops, "disk-flush");
        assert!(latency.count == 1 && latency.max_us >= HOP_US_MAX);
        assert_eq!(latency.buckets.last(), Some(&1));
    }

    #[test]
    fn a_bucket_has_its_upper_bound() {
        let mut hops = Hops::new(Tick(0));
        for us in [0, 10, 11, 20, 10_000_000, 10_000_001] {
            hops.record(Hop::Peer, us);
        }
        let buckets = of(&hops, "peer").buckets;
        assert_eq!((buckets[0], buckets[1], buckets[18], buckets[19]), (2, 2, 1, 1));
    }
}
