//! A world that does only what it is told: for scenarios that read like stories.
//!
//! Every step waits until what it asked for has happened, within a minute of virtual time. All oracles are on.

use crate::fate::DiskPart;
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::{Event, World};
use rblk::limits::BLOCK_SECTORS;
use rblk::meta::superblock::GenerationId;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::replica::snapshot::{Connection, Snapshot};
use rblk::span::Span;
use rblk::wire::message::DiskState;

/// Virtual time that a step may take, in microseconds.
const PATIENCE_US: u64 = 60_000_000;
/// The peer timeout of all stories, in milliseconds.
pub(crate) const PEER_TIMEOUT_MS: u64 = 2_000;

/// A story.
pub(crate) struct Story {
    pub(crate) world: World,
}

impl Story {
    /// Two nodes that were declared equal, or hold nothing yet, and are connected.
    pub(crate) fn of_two(fresh: bool) -> Story {
        Story::planned(|plan| plan.fresh = fresh)
    }

    /// Two nodes of a plan that differs from the usual one.
    pub(crate) fn planned(change: impl FnOnce(&mut Plan)) -> Story {
        let mut plan = Plan { peer_timeout_ms: PEER_TIMEOUT_MS, ..Plan::default() };
        change(&mut plan);
        let mut world = World::quiet(1, plan, Trace::new(false, false));
        world.operator.idle = true;
        let mut story = Story { world };
        story.until("both are connected", |story| story.connected());
        story
    }

    /// And node 0 is Primary.
    pub(crate) fn with_primary() -> Story {
        let mut story = Story::of_two(false);
        assert_eq!(story.promote(0, false), Ok(()));
        story
    }

    /// Lets the world go on until something holds.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Story) -> bool) {
        let limit = self.world.now + PATIENCE_US;
        while !holds(self) {
            assert!(self.world.now < limit, "never: {what}; {}", self.world.why_unsettled());
            self.world.one();
        }
    }

    /// Lets the world go on for a time.
    pub(crate) fn rest(&mut self, ms: u64) {
        let until = self.world.now + ms * 1_000;
        while self.world.next_at().is_some_and(|at| at <= until) {
            self.world.one();
        }
        self.world.now = until;
    }

    pub(crate) fn state(&self, node: usize) -> Snapshot {
        self.world.nodes[node].snapshot().expect("the node runs")
    }

    pub(crate) fn generation(&self, node: usize) -> Option<GenerationId> {
        self.world.nodes[node].disk.meta.superblock.current
    }

    pub(crate) fn connected(&self) -> bool {
        self.connected_at(0) && self.connected_at(1)
    }

    /// As the node sees it.
    pub(crate) fn connected_at(&self, node: usize) -> bool {
        let state = self.world.nodes[node].snapshot();
        state.is_some_and(|state| state.connection == Connection::Connected)
    }

    /// Both are connected, equal and UpToDate.
    pub(crate) fn mirrored(&self) -> bool {
        let good = |node| {
            let state = self.state(node);
            state.disk == DiskState::UpToDate
                && state.peer_disk == Some(DiskState::UpToDate)
                && state.out_of_sync_bytes == 0
        };
        self.connected() && good(0) && good(1)
    }

    /// Waits for the mirror to be whole.
    pub(crate) fn heal(&mut self) {
        self.until("both disks are UpToDate", Story::mirrored);
    }

    /// A command and its answer.
    pub(crate) fn command(&mut self, node: usize, command: Command) -> Result<(), CommandError> {
        self.world.command(node, command);
        self.until("the command is answered", |story| story.world.operator.last_reply.is_some());
        self.world.operator.last_reply.expect("just waited for")
    }

    pub(crate) fn promote(&mut self, node: usize, force: bool) -> Result<(), CommandError> {
        if self.world.nodes.iter().all(|node| node.disk.meta.superblock.current.is_none()) {
            self.world.register.begin_with(&self.world.nodes[node].disk.current.clone());
        }
        self.command(node, Command::Promote { force })
    }

    /// The node leaves in good order and its daemon ends.
    pub(crate) fn leave(&mut self, node: usize) {
        self.world.leave(node);
        self.until("the node has left", |story| !story.world.nodes[node].is_running());
    }

    /// From now on nobody hears anything, and nobody is told.
    pub(crate) fn part_unheard(&mut self) {
        self.world.net.parted_until = u64::MAX;
        self.world.silence(0);
        self.world.silence(1);
    }

    pub(crate) fn kill(&mut self, node: usize, power: bool) {
        self.world.kill_node(node, power);
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.world.start_node(node);
    }

    /// The next such operation of the disk fails.
    pub(crate) fn fail_next(&mut self, node: usize, what: DiskPart) {
        self.world.nodes[node].error_at = Some((what, 0));
    }

    /// The daemon does not run for `ms` milliseconds.
    pub(crate) fn pause(&mut self, node: usize, ms: u64) {
        self.world.nodes[node].paused = true;
        let life = self.world.nodes[node].life;
        self.world.after(ms * 1_000, Event::Resume { node, life });
        self.rest(ms + 1);
    }

    /// No messages pass for `ms` milliseconds, and both sides learn of it.
    pub(crate) fn cut(&mut self, ms: u64) {
        self.world.net.parted_until = self.world.now + ms * 1_000;
        self.world.cut(false);
    }

    /// The first block that clients may touch in an extent.
    pub(crate) fn block_in(&self, extent: usize) -> u64 {
        self.world.geometry.window_start(extent) / BLOCK_SECTORS
    }

    fn span(block: u64, blocks: u64) -> Span {
        Span::of_blocks(block..block + blocks).expect("a valid span")
    }

    fn answered(&mut self) -> FrontResult {
        self.until("the request is answered", |story| story.world.client.is_idle());
        self.world.step += 1; // what is asked from here on comes after it
        self.world.client.last_result.expect("a request was answered")
    }

    /// Writes whole blocks and waits for the answer.
    pub(crate) fn write(&mut self, node: usize, block: u64, blocks: u64) -> FrontResult {
        self.world.write_now(node, Story::span(block, blocks), false);
        self.answered()
    }

    /// The same, and it stays on stable media.
    pub(crate) fn write_fua(&mut self, node: usize, block: u64, blocks: u64) -> FrontResult {
        self.world.write_now(node, Story::span(block, blocks), true);
        self.answered()
    }

    /// Begins a write and does not wait.
    pub(crate) fn begin_write(&mut self, node: usize, block: u64, blocks: u64) {
        self.world.write_now(node, Story::span(block, blocks), false);
    }

    /// Begins a read and does not wait.
    pub(crate) fn begin_read(&mut self, node: usize, block: u64, blocks: u64) {
        self.world.read_now(node, Story::span(block, blocks));
    }

    /// Reads whole blocks; the register checker looks at the content.
    pub(crate) fn read(&mut self, node: usize, block: u64, blocks: u64) -> FrontResult {
        self.begin_read(node, block, blocks);
        self.answered()
    }

    pub(crate) fn flush(&mut self, node: usize) -> FrontResult {
        self.begin_flush(node);
        self.answered()
    }

    /// Begins a flush and does not wait.
    pub(crate) fn begin_flush(&mut self, node: usize) {
        self.world.flush_now(node);
    }

    /// Blocks that the resync of this connection has copied, as the node counts.
    pub(crate) fn copied(&self, node: usize) -> u64 {
        self.state(node).counters.resynced_bytes / 4096
    }

    /// The end: nothing is left over, and both disks are what they must be.
    pub(crate) fn ends_well(mut self) {
        self.heal();
        self.rest(3_000);
        self.world.check_at_rest();
    }
}
