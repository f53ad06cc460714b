//! The clients of the device: they use it on whichever node is Primary, and remember what they were told.

use crate::disk::NOISE;
use crate::geometry::WINDOW_BLOCKS;
use crate::node::Fact;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::world::{Event, World};
use rblk::limits::{BLOCK_SECTORS, EXTENT_SECTORS, ZERO_BYTES_MAX};
use rblk::replica::event::{Buf, FrontId, FrontOp, FrontResult};
use rblk::replica::snapshot::{Connection, Suspended};
use rblk::span::Span;
use rblk::wire::message::ZeroKind;
use std::collections::BTreeMap;

/// A request that has not been answered.
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    node: usize,
    op: FrontOp,
    write: u32,
    buf: Option<Buf>,
    /// The event that submitted it.
    invoked: u64,
    /// When, in microseconds.
    pub(crate) since: u64,
}

/// The clients.
pub(crate) struct Client {
    rng: Rng,
    pub(crate) pending: Vec<Option<Pending>>,
    /// Nothing new is asked of this node: it is about to be demoted.
    pub(crate) closed_at: Option<usize>,
    next_write: u32,
    left: u64,
    asked: u64,
    pub(crate) stopped: bool,
    /// How the last request ended, for scenarios.
    pub(crate) last_result: Option<FrontResult>,
    /// Nothing is asked before this time.
    pub(crate) quiet_until: u64,
    /// Requests to a node that is not Primary.
    strays: BTreeMap<u32, Option<Buf>>,
    /// Writes at the victim of a split brain, by request and node: the registers do not know them, since they will be
    /// lost.
    scribbles: BTreeMap<u32, (usize, Buf)>,
    next_scribble: u32,
    /// Writes of dead nodes that may be on their way to the other Primary still, with the connection that they took.
    limbo: Vec<(usize, Option<u64>, Span, u32)>,
}

/// Requests from this one on are scribbles.
const FIRST_SCRIBBLE: u32 = 1 << 20;
/// And from this one on, strays.
const FIRST_STRAY: u32 = 1 << 24;

impl Client {
    pub(crate) fn new(plan: &Plan, rng: Rng) -> Client {
        Client {
            rng,
            pending: vec![None; plan.depth],
            closed_at: None,
            next_write: 1,
            left: plan.ops,
            asked: 0,
            stopped: false,
            last_result: None,
            quiet_until: 0,
            strays: BTreeMap::new(),
            scribbles: BTreeMap::new(),
            next_scribble: FIRST_SCRIBBLE,
            limbo: Vec::new(),
        }
    }

    /// Writes of clients at `node` without an answer.
    pub(crate) fn writes_at(&self, node: usize) -> Vec<(u32, FrontOp)> {
        let at_node = |pending: &&Pending| pending.node == node && pending.write > 0;
        let pending = self.pending.iter().flatten().filter(at_node);
        pending.map(|pending| (pending.write, pending.op)).collect()
    }

    /// All requests were made.
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pending.iter().all(Option::is_none)
    }

    /// Invocation of the oldest read.
    fn oldest(&self) -> u64 {
        self.pending.iter().flatten().map(|p| p.invoked).min().unwrap_or(u64::MAX)
    }

    /// True if a request to the node is not answered.
    pub(crate) fn waits_for(&self, node: usize) -> bool {
        self.pending.iter().flatten().any(|pending| pending.node == node)
    }

    /// When the oldest request to the node was made.
    pub(crate) fn waits_since(&self, node: usize) -> Option<u64> {
        let pending = self.pending.iter().flatten();
        pending.filter(|pending| pending.node == node).map(|p| p.since).min()
    }

    /// When the oldest request was made.
    pub(crate) fn oldest_since(&self) -> Option<u64> {
        self.pending.iter().flatten().map(|p| p.since).min()
    }

    /// Requests that were made, of those planned.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    /// A few requests are left, for the time of healing.
    pub(crate) fn only_a_few(&mut self, count: u64) {
        self.left = count;
    }
}

impl World {
    /// The node whose device can be used now.
    pub(crate) fn primary(&self) -> Option<usize> {
        let good = |node: &usize| self.is_primary(*node) && self.oracle.victim != Some(*node);
        let primaries = || [0, 1].into_iter().filter(good);
        primaries().find(|node| self.serves(*node)).or(primaries().next())
    }

    /// One of the nodes that believe to be Primary: clients know no better. Those of the victim of a split brain do:
    /// what they write there is a scribble.
    fn some_primary(&mut self) -> Option<usize> {
        match (self.is_primary(0), self.is_primary(1)) {
            (true, true) if self.oracle.victim.is_none() => Some(self.rng.below(2) as usize),
            _ => self.primary(),
        }
    }

    /// Time for requests.
    pub(crate) fn client_turn(&mut self) {
        if self.client.stopped {
            return;
        }
        let think = self.plan.think;
        let pause = if self.client.rng.chance(2) {
            1_500_000
        } else {
            self.client.rng.latency(think, 20 * think)
        };
        self.after(pause, Event::Client);
        let Some(node) = self.some_primary() else { return };
        if self.now < self.client.quiet_until && !self.healing {
            return;
        }
        let closed = self.client.closed_at == Some(node) || self.nodes[node].leaving;
        if closed || self.client.left == 0 {
            return;
        }
        let burst = self.client.rng.between(1, self.client.pending.len() as u64);
        for _ in 0..burst {
            // A fact may end the node.
            if self.is_primary(node) && self.client.left > 0 {
                self.ask(node);
            }
        }
    }

    fn ask(&mut self, node: usize) {
        let Some(slot) = self.client.pending.iter().position(Option::is_none) else { return };
        self.client.left -= 1;
        self.client.asked += 1;
        let roll = self.client.rng.below(100);
        let plan = &self.plan;
        let (read, flush, zero) = (plan.read, plan.flush, plan.zero);
        if roll < flush {
            self.submit(node, slot, FrontOp::Flush, None, 0);
        } else if roll < flush + read {
            let span = self.some_span();
            let buf = self.nodes[node].take_buffer(vec![u32::MAX; span.sectors() as usize]);
            self.submit(node, slot, FrontOp::Read { span, buf }, Some(buf), 0);
        } else {
            let write = self.client.next_write;
            self.client.next_write += 1;
            let fua = self.client.rng.chance(self.plan.fua);
            if roll < flush + read + zero {
                let span =
                    if self.client.rng.chance(10) { self.long_span() } else { self.some_span() };
                let kinds = [ZeroKind::Discard, ZeroKind::Zeroes, ZeroKind::ZeroesAllocated];
                let kind = self.client.rng.pick(&kinds);
                self.register.invoke(span, write, 0, self.step);
                self.submit(node, slot, FrontOp::Zero { span, kind, fua }, None, write);
            } else {
                let span = self.some_span();
                self.submit_write(node, slot, span, fua, write);
            }
        }
    }

    fn submit_write(&mut self, node: usize, slot: usize, span: Span, fua: bool, write: u32) {
        let buf = self.nodes[node].take_buffer(vec![write; span.sectors() as usize]);
        self.register.invoke(span, write, write, self.step);
        self.submit(node, slot, FrontOp::Write { span, buf, fua }, Some(buf), write);
    }

    /// A write of a scenario, with a number of its own.
    pub(crate) fn write_now(&mut self, node: usize, span: Span, fua: bool) {
        let slot = self.client.pending.iter().position(Option::is_none).expect("a free request");
        let write = self.client.next_write;
        self.client.next_write += 1;
        self.submit_write(node, slot, span, fua, write);
    }

    /// Zeroes of a scenario.
    pub(crate) fn zero_now(&mut self, node: usize, span: Span, kind: ZeroKind) {
        let slot = self.client.pending.iter().position(Option::is_none).expect("a free request");
        let write = self.client.next_write;
        self.client.next_write += 1;
        self.register.invoke(span, write, 0, self.step);
        self.submit(node, slot, FrontOp::Zero { span, kind, fua: false }, None, write);
    }

    /// A block of noise at a node that goes its own way.
    pub(crate) fn scribble(&mut self, node: usize, block: u64) {
        let id = self.client.next_scribble;
        self.client.next_scribble += 1;
        let span = Span::new(block * BLOCK_SECTORS, BLOCK_SECTORS as u32).expect("a valid span");
        let buf = self.nodes[node].take_buffer(vec![NOISE | id; BLOCK_SECTORS as usize]);
        self.client.scribbles.insert(id, (node, buf));
        let step = self.step;
        if let [Some(fork), _] = self.scribbled() {
            fork.invoke(span, id, NOISE | id, step);
        }
        self.sums.count("scribbles");
        let op = FrontOp::Write { span, buf, fua: false };
        self.tell(node, Fact::Request { id: FrontId(id), op });
    }

    /// Everything that can be asked, of a node that is not Primary: it is refused at once and changes nothing.
    pub(crate) fn stray(&mut self, node: usize) {
        for kind in 0..4 {
            let found = &self.nodes[node];
            if !found.is_running() || found.paused || self.is_primary(node) {
                return;
            }
            let span = self.some_span();
            let noise = NOISE | FIRST_STRAY;
            let buf = (kind < 2)
                .then(|| self.nodes[node].take_buffer(vec![noise; span.sectors() as usize]));
            let op = match (kind, buf) {
                (0, Some(buf)) => FrontOp::Read { span, buf },
                (1, Some(buf)) => FrontOp::Write { span, buf, fua: false },
                (2, _) => FrontOp::Zero { span, kind: ZeroKind::Zeroes, fua: true },
                _ => FrontOp::Flush,
            };
            self.sums.count("requests at a Secondary");
            let id = FIRST_STRAY + kind;
            self.client.strays.insert(id, buf);
            self.tell(node, Fact::Request { id: FrontId(id), op });
            let refused = self.client.strays.is_empty();
            assert!(refused, "oracle client: a Secondary does not refuse a request");
        }
    }

    /// Scribbles without an answer.
    pub(crate) fn scribbles_pending(&self) -> usize {
        self.client.scribbles.len()
    }

    /// A read of a scenario.
    pub(crate) fn read_now(&mut self, node: usize, span: Span) {
        let slot = self.client.pending.iter().position(Option::is_none).expect("a free request");
        let buf = self.nodes[node].take_buffer(vec![u32::MAX; span.sectors() as usize]);
        self.submit(node, slot, FrontOp::Read { span, buf }, Some(buf), 0);
    }

    /// A flush of a scenario.
    pub(crate) fn flush_now(&mut self, node: usize) {
        let slot = self.client.pending.iter().position(Option::is_none).expect("a free request");
        self.submit(node, slot, FrontOp::Flush, None, 0);
    }

    pub(crate) fn submit(
        &mut self,
        node: usize,
        slot: usize,
        op: FrontOp,
        buf: Option<Buf>,
        write: u32,
    ) {
        let (invoked, since) = (self.step, self.now);
        self.client.pending[slot] = Some(Pending { node, op, write, buf, invoked, since });
        self.sums.count(match op {
            FrontOp::Read { .. } => "reads",
            FrontOp::Write { .. } => "writes",
            FrontOp::Zero { .. } => "zeroes",
            FrontOp::Flush => "flushes",
        });
        self.tell(node, Fact::Request { id: FrontId(slot as u32), op });
    }

    /// A span of up to 128 KiB in a window, often small and in the same place as others.
    fn some_span(&mut self) -> Span {
        let windows = self.geometry.windows().min(self.plan.windows) as u64;
        let window = self.client.rng.below(windows) as usize;
        let all = WINDOW_BLOCKS * BLOCK_SECTORS;
        let sectors = match self.client.rng.below(10) {
            0..=2 => self.client.rng.between(1, 12),
            3..=7 => 8,
            8 => 8 * self.client.rng.between(1, 8),
            _ => self.client.rng.between(1, 256),
        };
        let room = all - sectors;
        let offset = match self.client.rng.below(4) {
            0 => self.client.rng.below(room + 1),
            1 => self.client.rng.below(8),
            _ => 8 * self.client.rng.below(room.min(96) / 8 + 1),
        };
        let start = self.geometry.window_start(window) + offset.min(room);
        Span::new(start, sectors as u32).expect("a span in a window")
    }

    /// A span that covers several extents.
    fn long_span(&mut self) -> Span {
        let most = (ZERO_BYTES_MAX / 512).min(self.geometry.sectors);
        let sectors = self.client.rng.between(EXTENT_SECTORS / 2, most);
        let start = self.client.rng.below(self.geometry.sectors - sectors + 1);
        Span::new(start, sectors as u32).expect("a span in the volume")
    }

    /// A core answers.
    pub(crate) fn completed(&mut self, node: usize, id: FrontId, result: FrontResult) {
        if let Some((at, buf)) = self.client.scribbles.remove(&id.0) {
            assert!(at == node, "oracle client: answered by another node");
            self.nodes[node].give_back(buf);
            let (step, done) = (self.step, result == FrontResult::Done);
            for register in self.scribbled().into_iter().flatten() {
                register.scribbled(id.0, done, step);
            }
            return;
        }
        if let Some(buf) = self.client.strays.remove(&id.0) {
            assert!(
                result == FrontResult::Invalid,
                "oracle client: a Secondary answers {result:?}"
            );
            if let Some(buf) = buf {
                self.nodes[node].give_back(buf);
            }
            return;
        }
        let slot = id.0 as usize;
        let pending = self.client.pending[slot].take();
        let pending = pending.expect("oracle client: a request is answered once");
        assert!(pending.node == node, "oracle client: answered by another node");
        assert!(result != FrontResult::Invalid, "oracle client: a valid request was refused");
        self.client.last_result = Some(result);
        let ok = result == FrontResult::Done;
        if !ok {
            self.sums.count("client errors");
            // A node that is demoted while it is cut off from the only good data fails its requests.
            let state = self.nodes[node].snapshot();
            let superseded = state.is_some_and(|state| state.suspended == Suspended::Superseded);
            let lawful = self.disk_failed || self.client.closed_at == Some(node) || superseded;
            assert!(lawful, "oracle client: an error without a disk's error");
        }
        // A node acts as Primary only while a restart would know that it did.
        let recorded = self.nodes[node].disk.meta.superblock.primary;
        assert!(!ok || recorded, "oracle role: node {node} answers, and is not Primary on record");
        let (oldest, step) = (self.client.oldest(), self.step);
        match pending.op {
            FrontOp::Read { .. } if ok && pending.invoked <= self.oracle.ways.chosen_at => {}
            FrontOp::Read { span, buf } if ok => {
                let data = self.nodes[node].buffer(buf).to_vec();
                self.register.read(span, &data, pending.invoked, step, oldest);
            }
            FrontOp::Write { span, fua, .. } | FrontOp::Zero { span, fua, .. } if ok => {
                let zero = matches!(pending.op, FrontOp::Zero { .. });
                let value = if zero { 0 } else { pending.write };
                self.oracle_write_done(node, span, value, fua, pending.invoked);
                self.register.acknowledge(span, pending.write, fua, step);
            }
            FrontOp::Write { span, .. } | FrontOp::Zero { span, .. } => {
                self.register.undecided(span, pending.write, true, step);
            }
            FrontOp::Flush if ok => {
                self.register.flushed(pending.invoked, oldest);
                self.oracle_flush_done(node, pending.invoked);
            }
            FrontOp::Read { .. } | FrontOp::Flush => {}
        }
        if let Some(buf) = pending.buf {
            self.nodes[node].give_back(buf);
        }
    }

    /// A new connection begins only when all of the last one is done.
    pub(crate) fn settle_limbo(&mut self) {
        for (dead, open, span, write) in std::mem::take(&mut self.client.limbo) {
            let other = &self.nodes[1 - dead];
            let over = !other.is_running()
                || (other.seen.1 == Connection::Connected && other.open != open);
            if over {
                self.register.undecided(span, write, false, self.step);
            } else {
                self.client.limbo.push((dead, open, span, write));
            }
        }
    }

    /// The node dies: nobody will hear what became of its clients' requests.
    pub(crate) fn client_lost(&mut self, node: usize) {
        let step = self.step;
        let of_node = self.client.scribbles.iter().filter(|(_, (at, _))| *at == node);
        let lost: Vec<u32> = of_node.map(|(id, _)| *id).collect();
        for id in lost {
            self.client.scribbles.remove(&id);
            for register in self.scribbled().into_iter().flatten() {
                register.scribbled(id, false, step);
            }
        }
        for slot in 0..self.client.pending.len() {
            let Some(pending) = self.client.pending[slot] else { continue };
            if pending.node != node {
                continue;
            }
            if let FrontOp::Write { span, .. } | FrontOp::Zero { span, .. } = pending.op {
                if self.plan.dual {
                    self.client.limbo.push((node, self.nodes[node].open, span, pending.write));
                } else {
                    self.register.undecided(span, pending.write, false, self.step);
                }
            }
            self.client.pending[slot] = None;
        }
        if self.client.closed_at == Some(node) {
            self.client.closed_at = None;
        }
    }
}
