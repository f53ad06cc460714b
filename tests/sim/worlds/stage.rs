//! Where a script is played: a story that faults may disturb.
//!
//! Until a fault strikes, everything that the script asks for must happen. A crash ends the script at once. After
//! any other fault the script goes on as an operator would who sees what he can do: a request to a node that is not
//! Primary is not made, a command may be refused, and what does not come is not waited for long.

use crate::authority::WhenLost;
use crate::plan::Plan;
use crate::story::{PEER_TIMEOUT_MS, Story};
use crate::trace::Trace;
use crate::world::World;
use crate::worlds::fault::Fault;
use rblk::limits::BLOCK_SECTORS;
use rblk::replica::event::{Command, FrontResult};
use rblk::replica::snapshot::{Connection, Snapshot, Suspended};
use rblk::span::Span;
use rblk::wire::message::{DiskState, Role, ZeroKind};

/// Virtual time that a step may take before the fault, in microseconds.
const PATIENCE_US: u64 = 60_000_000;
/// And after it: longer than a stall and any timeout of the nodes after that.
const PATIENCE_AFTER_US: u64 = 20_000_000;
/// Whoever fences takes so long, in microseconds.
const FENCE_US: u64 = 50_000;

/// The script was ended by a crash.
pub(crate) struct Over;

/// How a script or a part of it ends.
pub(crate) type Played = Result<(), Over>;

/// The world that a script needs.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Blocks of the volume.
    pub(crate) blocks: u64,
    /// Blocks by which the second disk is larger.
    pub(crate) more_blocks: u64,
    /// Blocks that both disks have beyond the volume.
    pub(crate) spare_blocks: u64,
    /// Both disks hold nothing yet.
    pub(crate) fresh: bool,
    /// What both nodes do when they lose each other. Whoever fences is able to, and soon.
    pub(crate) when_lost: WhenLost,
}

/// A story under faults.
pub(crate) struct Stage {
    pub(crate) story: Story,
}

impl Stage {
    pub(crate) fn new(shape: Shape, schedule: u64, faults: &[Fault], trace: Trace) -> Stage {
        let plan = Plan {
            blocks: shape.blocks,
            more_blocks: shape.more_blocks,
            spare_blocks: shape.spare_blocks,
            fresh: shape.fresh,
            on_peer_lost: shape.when_lost,
            peer_timeout_ms: PEER_TIMEOUT_MS,
            ..Plan::default()
        };
        let mut world = World::quiet(schedule, plan, trace);
        world.operator.idle = true;
        world.operator.fences = Some(true);
        world.operator.fence_takes = Some(FENCE_US);
        world.inject.faults = faults.iter().copied().collect();
        Stage { story: Story { world } }
    }

    pub(crate) fn world(&mut self) -> &mut World {
        &mut self.story.world
    }

    /// What happens from here on is counted, and may be struck.
    pub(crate) fn begin(&mut self) {
        self.story.world.inject.on = true;
    }

    /// A fault has struck.
    pub(crate) fn struck(&self) -> bool {
        self.story.world.inject.struck > 0
    }

    /// One event. A crash ends whatever is being played.
    pub(crate) fn one(&mut self) -> Played {
        self.story.world.one();
        if self.story.world.inject.crashed.is_some() { Err(Over) } else { Ok(()) }
    }

    /// Lets the world go on until something holds.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Story) -> bool) -> Played {
        let begun = self.story.world.now;
        while !holds(&self.story) {
            let waited = self.story.world.now - begun;
            if self.struck() && (waited > PATIENCE_AFTER_US || self.story.world.next_at().is_none())
            {
                break;
            }
            assert!(waited < PATIENCE_US, "never: {what}; {}", self.story.world.why_unsettled());
            self.one()?;
        }
        Ok(())
    }

    /// Lets the world go on for a time.
    pub(crate) fn rest(&mut self, ms: u64) -> Played {
        let until = self.story.world.now + ms * 1_000;
        while self.story.world.next_at().is_some_and(|at| at <= until) {
            self.one()?;
        }
        self.story.world.now = until;
        Ok(())
    }

    /// Both nodes run and have shaken hands.
    pub(crate) fn connect(&mut self) -> Played {
        self.until("both are connected", Story::connected)
    }

    /// Both disks are UpToDate.
    pub(crate) fn heal(&mut self) -> Played {
        self.until("both disks are UpToDate", |story| both_run(story) && story.mirrored())
    }

    /// Something holds for a node that runs.
    pub(crate) fn until_node(
        &mut self,
        what: &str,
        node: usize,
        holds: impl Fn(&Snapshot) -> bool,
    ) -> Played {
        self.until(what, |story| {
            story.world.nodes[node].snapshot().is_some_and(|state| holds(&state))
        })
    }

    /// The node has noticed that its peer is gone.
    pub(crate) fn until_apart(&mut self, node: usize) -> Played {
        self.until_node("the loss is noticed", node, |state| {
            state.connection != Connection::Connected
        })
    }

    /// True if a client may ask something of the node now.
    pub(crate) fn serves(&self, node: usize) -> bool {
        let world = &self.story.world;
        let free = world.client.pending.iter().any(Option::is_none);
        let able = world.is_primary(node) && !world.nodes[node].leaving && free;
        assert!(able || self.struck(), "node {node} cannot be asked");
        able && world.client.closed_at != Some(node)
    }

    /// Asks and does not wait.
    pub(crate) fn begin_write(&mut self, node: usize, block: u64, blocks: u64) {
        if self.serves(node) {
            self.world().write_now(node, span(block, blocks), false);
        }
    }

    /// Everything that was asked is answered; before the fault, well.
    pub(crate) fn answered(&mut self) -> Played {
        self.until("the requests are answered", |story| story.world.client.is_idle())?;
        for node in [0, 1] {
            let world = &self.story.world;
            if let Some(state) =
                world.nodes[node].snapshot().filter(|_| world.client.waits_for(node))
            {
                let found = &world.nodes[node];
                let waits = found.paused || found.disk.hangs() || found.media.stalls(world.now);
                let excused = waits || state.suspended != Suspended::No;
                assert!(
                    excused,
                    "oracle liveness: node {node} owes an answer: {}",
                    world.why_unsettled()
                );
            }
        }
        let last = self.story.world.client.last_result;
        assert!(self.struck() || last == Some(FrontResult::Done), "answered with {last:?}");
        Ok(())
    }

    pub(crate) fn write(&mut self, node: usize, block: u64, blocks: u64) -> Played {
        self.begin_write(node, block, blocks);
        self.answered()
    }

    pub(crate) fn begin_write_fua(&mut self, node: usize, block: u64, blocks: u64) {
        if self.serves(node) {
            self.world().write_now(node, span(block, blocks), true);
        }
    }

    pub(crate) fn begin_zero(&mut self, node: usize, block: u64, blocks: u64, kind: ZeroKind) {
        if self.serves(node) {
            self.world().zero_now(node, span(block, blocks), kind);
        }
    }

    pub(crate) fn begin_flush(&mut self, node: usize) {
        if self.serves(node) {
            self.world().flush_now(node);
        }
    }

    pub(crate) fn begin_read(&mut self, node: usize, block: u64, blocks: u64) {
        if self.serves(node) {
            self.world().read_now(node, span(block, blocks));
        }
    }

    pub(crate) fn flush(&mut self, node: usize) -> Played {
        self.begin_flush(node);
        self.answered()
    }

    pub(crate) fn read(&mut self, node: usize, block: u64, blocks: u64) -> Played {
        self.begin_read(node, block, blocks);
        self.answered()
    }

    /// A command, and its answer if it gets one.
    pub(crate) fn command(&mut self, node: usize, command: Command) -> Played {
        if self.story.world.is_asked() {
            assert!(self.struck(), "one command after the other");
            return Ok(());
        }
        self.world().command(node, command);
        self.until("the command is answered", |story| !story.world.is_asked())?;
        let reply = self.story.world.operator.last_reply;
        assert!(self.struck() || reply == Some(Ok(())), "{command:?} at {node}: {reply:?}");
        Ok(())
    }

    pub(crate) fn promote(&mut self, node: usize) -> Played {
        self.command(node, Command::Promote { force: false })
    }

    pub(crate) fn demote(&mut self, node: usize) -> Played {
        self.command(node, Command::Demote)
    }

    /// The volume grows; refused only where something was struck.
    pub(crate) fn resize(&mut self, node: usize) -> Played {
        self.command(node, Command::Resize)
    }

    /// The first Primary of two disks that hold nothing yet.
    pub(crate) fn promote_first(&mut self, node: usize) -> Played {
        let nodes = &self.story.world.nodes;
        let fresh = nodes.iter().all(|node| node.disk.meta.superblock.current.is_none());
        if fresh && nodes[node].is_running() {
            let content = nodes[node].disk.current.clone();
            self.world().register.begin_with(&content);
            self.command(node, Command::Promote { force: true })
        } else {
            self.promote(node)
        }
    }

    /// An operator who forces only what loses nothing.
    pub(crate) fn promote_survivor(&mut self, node: usize) -> Played {
        if self.story.world.loses_nothing(node) {
            self.command(node, Command::Promote { force: true })
        } else {
            self.promote(node)
        }
    }

    /// The node leaves in good order and its daemon ends.
    pub(crate) fn leave(&mut self, node: usize) -> Played {
        self.world().leave(node);
        self.until("the node has left", |story| !story.world.nodes[node].is_running())
    }

    pub(crate) fn kill(&mut self, node: usize, power: bool) {
        self.world().kill_node(node, power);
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.world().start_node(node);
    }

    /// The node stops for a time, and goes on.
    pub(crate) fn pause(&mut self, node: usize, ms: u64) -> Played {
        if self.story.world.nodes[node].is_running() {
            self.world().pause(node, ms * 1_000);
        }
        self.until("the node goes on", |story| !story.world.nodes[node].paused)
    }

    /// The first block that clients may touch in an extent.
    pub(crate) fn block(&self, extent: usize) -> u64 {
        self.story.block_in(extent)
    }
}

/// Both daemons run.
pub(crate) fn both_run(story: &Story) -> bool {
    story.world.nodes.iter().all(|node| node.is_running())
}

fn span(block: u64, blocks: u64) -> Span {
    let sectors = u32::try_from(blocks * BLOCK_SECTORS).expect("a small span");
    Span::new(block * BLOCK_SECTORS, sectors).expect("a valid span")
}

/// The node is a Primary whose own disk has the newest data.
pub(crate) fn stands_alone(state: &Snapshot) -> bool {
    state.role == Role::Primary && state.disk == DiskState::UpToDate
}
