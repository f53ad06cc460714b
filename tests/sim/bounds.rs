//! What is bounded, after every event: queues, credits and operations by `limits.rs`, and how long a client waits.
//!
//! A client may wait for ever only for data that no running node has, for a disk that hangs, or for a daemon that does
//! not run. A node that is [able](World::is_able) can always answer: with the peer, or alone once it has given the peer
//! up. Whatever the network does meanwhile, it must do so in time.

use crate::node::Node;
use crate::world::World;
use rblk::limits::{
    AL_SLOTS, DISK_OPERATIONS_MAX, FRONT_REQUESTS_MAX, META_BUFFERS_MAX, META_STEPS_MAX,
    OPERATIONS_MAX, PEER_DATA_CREDITS, PEER_READ_CREDITS, PEER_ZERO_CREDITS, REQUESTS_MAX,
    RESYNC_JOBS_MAX, RESYNC_UNSTABLE_SPANS_MAX, VERIFY_JOBS_MAX,
};
use rblk::replica::authority::OnPeerLost;
use rblk::replica::census::{Census, Credits};
use rblk::wire::message::DiskState;

/// Peer timeouts that a client may have to wait: one for the peer that has fallen silent, one for a greeting that
/// does not end, and as much again if the peer comes back between them and goes once more.
const PEER_TIMEOUTS: u64 = 5;
/// Operations of a disk, one after the other, between a request and its answer, for each request that may be queued.
const OPERATIONS: u64 = 6;

/// Since when each node can answer all that it is asked.
#[derive(Default)]
pub(crate) struct Bounds {
    able_since: [Option<u64>; 2],
    /// The longest that an able node let a client wait, in microseconds.
    pub(crate) longest_wait: u64,
}

impl World {
    /// After a fact of a node.
    pub(crate) fn check_census(&self, node: usize) {
        let Some(replica) = &self.nodes[node].replica else { return };
        let census = replica.census();
        let disk = &self.nodes[node].disk;
        let fits = |credits: Credits| {
            credits.data <= PEER_DATA_CREDITS
                && credits.read <= PEER_READ_CREDITS
                && credits.zero <= PEER_ZERO_CREDITS
                && credits.flush <= 1
        };
        let bounded = census.requests <= REQUESTS_MAX
            && census.waiting <= census.requests
            && census.operations <= OPERATIONS_MAX
            && census.flushes <= FRONT_REQUESTS_MAX
            && census.steps <= META_STEPS_MAX
            && census.meta_writes <= META_BUFFERS_MAX
            && census.resync_jobs <= RESYNC_JOBS_MAX
            && census.verify_jobs <= VERIFY_JOBS_MAX
            && census.resync_spans <= 2 * (RESYNC_UNSTABLE_SPANS_MAX + RESYNC_JOBS_MAX)
            && census.al_active <= AL_SLOTS
            && fits(census.sent)
            && fits(census.taken);
        assert!(bounded, "oracle bounds: node {node}: {census:?}");
        let at_disk = disk.in_flight.len() <= DISK_OPERATIONS_MAX;
        assert!(at_disk, "oracle bounds: node {node}: {} with its disk", disk.in_flight.len());
    }

    /// Nothing is going on: nothing is held.
    pub(crate) fn check_nothing_is_held(&self) {
        for node in &self.nodes {
            let census = node.replica.as_ref().map(|replica| replica.census());
            assert!(node.holds_nothing(), "oracle rest: node {} holds {census:?}", node.id);
        }
    }

    /// It has the newest data on a disk that works, and runs, and need not ask anybody whether it may go on.
    fn is_able(&self, node: usize) -> bool {
        let found = &self.nodes[node];
        found.is_running()
            && !found.paused
            && self.is_primary(node)
            && found.seen.0 == DiskState::UpToDate
            && !found.media.stalls(self.now)
            && !found.harmed
            && self.plan.on_peer_lost.of(node) == OnPeerLost::Continue
            && self.plan.ride_through_ms == 0 // each loss of the peer begins it anew
    }

    /// How long a client of an able node waits at most, in microseconds, if it does since then. Requests for the same
    /// sectors wait for each other; in a network so slow that the peer just answers each in time, that adds up.
    fn patience(&self, since: u64) -> u64 {
        let requests = self.plan.depth as u64 + 4;
        let (slow_until, slower) = self.net.slow;
        let in_time = 2 * slower < self.plan.peer_timeout_ms * 1_000;
        let network = if since < slow_until && in_time { requests * 2 * slower } else { 0 };
        let disk = OPERATIONS * requests;
        let timeouts = PEER_TIMEOUTS + if self.plan.dual { 2 } else { 0 };
        timeouts * self.plan.peer_timeout_ms * 1_000
            + network
            + disk * (2 * self.plan.disk_typical)
            + 12 * self.plan.disk_worst.max(50_000)
    }

    /// After every event: one that was paused for long may have been so between two of them.
    pub(crate) fn check_waits(&mut self) {
        for node in [0, 1] {
            if !self.is_able(node) {
                self.bounds.able_since[node] = None;
                continue;
            }
            let able_since = *self.bounds.able_since[node].get_or_insert(self.now);
            if !self.step.is_multiple_of(64) {
                continue;
            }
            let Some(since) = self.client.waits_since(node) else { continue };
            let since = since.max(able_since);
            let waited = self.now - since;
            self.bounds.longest_wait = self.bounds.longest_wait.max(waited);
            assert!(
                waited <= self.patience(since),
                "oracle patience: a client of node {node} waits {waited} us: {}",
                self.why_unsettled()
            );
        }
    }
}

impl Node {
    /// No request, operation, credit or place in the log is taken.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.replica.as_ref().is_none_or(|replica| {
            let census = Census { al_active: 0, ..replica.census() };
            census == Census::default() && replica.pinned() == 0
        })
    }
}
