//! Two nodes, their disks and the network between them, in virtual time: one event after the other.
//!
//! Events are ordered by time and then by number, so a seed is one run and no other. An event first has its effect
//! on the world (a write reaches the disk), then it becomes a fact for a node, which may be paused and hear of it
//! later.

use crate::bounds::Bounds;
use crate::client::Client;
use crate::coverage::Coverage;
use crate::fate::{Aim, Fault, Strike};
use crate::geometry::Geometry;
use crate::net::{Frame, Net};
use crate::node::{Fact, Node, Source};
use crate::operator::Operator;
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::register::Register;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::worlds::inject::Inject;
use rblk::replica::GreetingWaits;
use rblk::replica::event::{Discarded, FenceId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// What happens at a time. `life` names the life of a daemon: what was meant for an earlier one is nobody's.
pub(crate) enum Event {
    Start { node: usize },
    Timer { node: usize, life: u32 },
    DiskEnd { node: usize, life: u32, op: u64 },
    MetaEnd { node: usize, life: u32, op: u64 },
    Connected { node: usize, conn: u64 },
    Disconnected { node: usize, conn: u64 },
    Deliver { node: usize, conn: u64, frame: Box<Frame> },
    Dial,
    Gust { conn: u64 },
    Resume { node: usize, life: u32 },
    Exit { node: usize, life: u32 },
    Consent { node: usize, life: u32, discarded: Option<Discarded> },
    Fence { node: usize, life: u32, id: FenceId, waits: bool },
    Client,
    Operator,
    Fault(Strike),
    Strike(Fault),
}

struct Entry {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Sums for the summary.
#[derive(Default, Clone)]
pub(crate) struct Sums {
    pub(crate) seeds: u64,
    pub(crate) events: u64,
    pub(crate) virtual_us: u64,
    /// The longest that a client waited for a node that could have answered.
    pub(crate) longest_wait_us: u64,
    pub(crate) kinds: BTreeMap<&'static str, u64>,
    pub(crate) coverage: Coverage,
}

impl Sums {
    pub(crate) fn count(&mut self, kind: &'static str) {
        *self.kinds.entry(kind).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Sums) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.virtual_us += other.virtual_us;
        self.longest_wait_us = self.longest_wait_us.max(other.longest_wait_us);
        self.coverage.add(&other.coverage);
        for (kind, count) in &other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
    }
}

/// A run.
pub(crate) struct World {
    pub(crate) now: u64,
    /// Events so far: the order of things for the register checker.
    pub(crate) step: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    number: u64,
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) geometry: Geometry,
    pub(crate) nodes: [Node; 2],
    pub(crate) net: Net,
    pub(crate) client: Client,
    pub(crate) register: Register,
    pub(crate) operator: Operator,
    pub(crate) oracle: Oracle,
    pub(crate) bounds: Bounds,
    /// A fault that waits for its moment.
    pub(crate) aim: Option<(Aim, Fault)>,
    pub(crate) trace: Trace,
    pub(crate) sums: Sums,
    /// The fault of a small world.
    pub(crate) inject: Inject,
    /// A disk was made to fail on purpose: clients may see errors.
    pub(crate) disk_failed: bool,
    /// Faults are over: everything is being healed, and must be.
    pub(crate) healing: bool,
    pub(crate) settled: bool,
}

/// A run that has not settled this long after the faults ended never will.
const SETTLE_US: u64 = 300_000_000;

impl World {
    /// The run of a seed and its plan.
    pub(crate) fn new(seed: u64, plan: &Plan, trace: Trace) -> World {
        let mut world = World::quiet(seed, plan.clone(), trace);
        world.at(1_000, Event::Operator);
        world.at(1_500, Event::Client);
        for strike in &plan.strikes {
            world.at(strike.at, Event::Fault(*strike));
        }
        world
    }

    /// Both nodes start at once, and nobody does anything.
    pub(crate) fn quiet(seed: u64, plan: Plan, trace: Trace) -> World {
        let mut rng = Rng::stream(seed, 1);
        let geometry = Geometry::new(&mut rng, plan.blocks);
        let nodes = [0, 1].map(|id| Node::new(id, &plan, &geometry));
        let register = Register::new(&geometry);
        let oracle = Oracle::new(&geometry, &nodes);
        let mut world = World {
            now: 0,
            step: 0,
            queue: BinaryHeap::new(),
            number: 0,
            client: Client::new(&plan, Rng::stream(seed, 2)),
            operator: Operator::new(Rng::stream(seed, 3), Rng::stream(seed, 4)),
            rng,
            plan,
            geometry,
            nodes,
            net: Net::default(),
            register,
            oracle,
            bounds: Bounds::default(),
            aim: None,
            trace,
            sums: Sums { seeds: 1, ..Sums::default() },
            inject: Inject::default(),
            disk_failed: false,
            healing: false,
            settled: false,
        };
        world.at(0, Event::Start { node: 0 });
        let later = world.rng.below(5_000);
        world.at(later, Event::Start { node: 1 });
        world
    }

    /// Something will happen `delay` microseconds from now.
    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.queue.push(Reverse(Entry { at: at.max(self.now), number: self.number, event }));
    }

    /// Runs to the end: faults, then healing, then rest.
    pub(crate) fn run(&mut self) {
        while !self.settled {
            self.one();
            if !self.healing && (self.now >= self.plan.until || self.client.is_done()) {
                self.begin_healing();
            }
            if self.healing && self.step.is_multiple_of(64) && self.somebody_rests() {
                self.operator.healing_since = self.now;
            }
            let late = self.healing && self.now > self.operator.healing_since + SETTLE_US;
            assert!(!late, "oracle liveness: after healing {}", self.why_unsettled());
        }
        self.check_at_rest();
        self.sums.virtual_us = self.now;
        self.sums.events = self.step;
        self.sums.longest_wait_us = self.bounds.longest_wait;
    }

    /// A Primary lets a peer rest that was too slow: that ends.
    fn somebody_rests(&self) -> bool {
        let waits = self.nodes.iter().filter_map(|node| node.snapshot()?.greeting_waits);
        waits.into_iter().any(|waits| matches!(waits, GreetingWaits::Rest { .. }))
    }

    /// When the next event is due.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse(entry)| entry.at)
    }

    /// One event.
    pub(crate) fn one(&mut self) {
        self.inject_event();
        let Some(Reverse(entry)) = self.queue.pop() else {
            panic!("oracle liveness: nothing will ever happen again");
        };
        assert!(self.step < 3_000_000, "oracle liveness: events without end");
        self.step += 1;
        self.now = entry.at;
        self.trace.fact(self.now);
        match entry.event {
            Event::Start { node } => self.start_node(node),
            Event::Timer { node, life } => self.timer(node, life),
            Event::DiskEnd { node, life, op } => self.disk_end(node, life, op),
            Event::MetaEnd { node, life, op } => self.meta_end(node, life, op),
            Event::Connected { node, conn } => self.connected(node, conn),
            Event::Disconnected { node, conn } => self.disconnected(node, conn),
            Event::Deliver { node, conn, frame } => self.deliver(node, conn, *frame),
            Event::Dial => self.dial(),
            Event::Gust { conn } => self.gust(conn),
            Event::Resume { node, life } => self.resume(node, life),
            Event::Exit { node, life } => self.exit(node, life),
            Event::Consent { node, life, discarded } => self.consent(node, life, discarded),
            Event::Fence { node, life, id, waits } => self.fence_turn(node, life, id, waits),
            Event::Client => self.client_turn(),
            Event::Operator => self.operator_turn(),
            Event::Fault(strike) => self.fault_turn(strike),
            Event::Strike(fault) => self.strike(fault),
        }
        self.check_step();
    }

    /// A fact for a node: heard now, or when it runs again. A dead node hears nothing.
    pub(crate) fn tell(&mut self, node: usize, fact: Fact) {
        if !self.nodes[node].is_running() {
            return;
        }
        if self.nodes[node].paused {
            self.nodes[node].inbox.push_back(fact);
        } else {
            self.handle(node, fact);
        }
    }

    fn resume(&mut self, node: usize, life: u32) {
        if self.nodes[node].life != life || !self.nodes[node].paused {
            return;
        }
        // A daemon that runs again looks at its sources in the order in which its loop happens to stand.
        let mut order = [Source::Disk, Source::Network, Source::Clock];
        order.rotate_left(self.rng.below(3) as usize);
        if self.rng.chance(50) {
            order.swap(1, 2);
        }
        self.wake(node, order);
    }

    /// A paused node goes on, and hears what came meanwhile in this order of sources. The end of a connection comes
    /// after what was received on it, and after what other sources had to say by then; clients come last.
    pub(crate) fn wake(&mut self, node: usize, order: [Source; 3]) {
        self.nodes[node].paused = false;
        let mut ended = false;
        let inbox = self.nodes[node].inbox.drain(..);
        let mut ranked: Vec<(usize, Fact)> = inbox
            .map(|fact| {
                ended |= matches!(fact, Fact::Disconnected { .. });
                let place = order.iter().position(|source| *source == fact.source());
                let late = ended && fact.source() == Source::Network;
                (
                    place.filter(|_| !late).unwrap_or(order.len() + usize::from(place.is_none())),
                    fact,
                )
            })
            .collect();
        ranked.sort_by_key(|(place, _)| *place);
        self.nodes[node].inbox.extend(ranked.into_iter().map(|(_, fact)| fact));
        self.note(Some(node), || format!("resumed, hears {order:?}"));
        while let Some(fact) = self.nodes[node].inbox.pop_front() {
            if !self.nodes[node].is_running() {
                self.nodes[node].inbox.clear();
                break;
            }
            self.handle(node, fact);
            self.step += 1;
        }
    }

    /// A line of the trace.
    pub(crate) fn note(&mut self, node: Option<usize>, text: impl FnOnce() -> String) {
        if !self.trace.on {
            return;
        }
        let (name, state) = match node {
            Some(node) => (node.to_string(), self.nodes[node].columns()),
            None => ("-".to_string(), String::new()),
        };
        self.trace.line(format!("{:>11}  {name}  {state:<36}  {}", self.now, text()));
    }
}
