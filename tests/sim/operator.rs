//! Who runs the two nodes: a cluster manager that wants one Primary, and an operator with odd ideas. Fate is `fate.rs`.

use crate::net::pause_length;
use crate::node::Fact;
use crate::rng::Rng;
use crate::world::{Event, World};
use rblk::replica::event::{Command, CommandError, CommandId};
use rblk::replica::{Connection, Replication};
use rblk::wire::message::{DiskState, Role};

/// A command without an answer yet.
#[derive(Clone, Copy)]
struct Asked {
    id: CommandId,
    node: usize,
    command: Command,
}

/// The manager's memory.
pub(crate) struct Operator {
    rng: Rng,
    next_command: u64,
    asked: Option<Asked>,
    /// Where the Primary should be.
    pub(crate) prefer: usize,
    pub(crate) healing_since: u64,
    /// It only heals when told to; scenarios act by themselves.
    pub(crate) idle: bool,
    /// Answers to commands, for scenarios.
    pub(crate) last_reply: Option<Result<(), CommandError>>,
}

impl Operator {
    pub(crate) fn new(rng: Rng) -> Operator {
        Operator {
            rng,
            next_command: 0,
            asked: None,
            prefer: 0,
            healing_since: 0,
            idle: false,
            last_reply: None,
        }
    }
}

impl World {
    /// The manager looks after things.
    pub(crate) fn operator_turn(&mut self) {
        let pause = self.operator.rng.between(50_000, 400_000);
        self.after(pause, Event::Operator);
        self.forget_fragile();
        for node in [0, 1] {
            self.replace_disk(node);
        }
        if self.healing {
            self.heal_more();
        }
        if self.operator.asked.is_some() || self.operator.idle {
            return;
        }
        if self.is_primary(0) && self.is_primary(1) {
            let stale = if self.serves(0) { 1 } else { 0 };
            self.command(stale, Command::Demote);
        } else if self.plan.nonsense && !self.healing && self.operator.rng.chance(15) {
            self.nonsense();
        } else if self.primary().is_none() {
            self.want_primary();
        }
    }

    /// A node that lost its disk, or waits for it for ever, starts anew.
    fn replace_disk(&mut self, node: usize) {
        let target = &self.nodes[node];
        let broken = target.snapshot().is_some_and(|state| state.disk <= DiskState::Failed);
        let hangs = self.healing && target.disk.hangs();
        if (broken || hangs) && (self.healing || self.operator.rng.chance(self.plan.repair)) {
            self.note(Some(node), || "! restarted for its disk".to_string());
            if broken && self.operator.rng.chance(50) && self.operator.asked.is_none() && !hangs {
                self.leave(node);
            } else {
                self.kill_node(node, false);
                self.after(20_000, Event::Start { node });
            }
        }
    }

    fn nonsense(&mut self) {
        let node = self.operator.rng.below(2) as usize;
        let command = self.operator.rng.pick(&[Command::Promote { force: false }, Command::Demote]);
        self.sums.count("nonsense commands");
        self.command(node, command);
    }

    /// Nobody is Primary.
    fn want_primary(&mut self) {
        if self.operator.rng.chance(30) {
            self.operator.prefer = self.operator.rng.below(2) as usize;
        }
        let node = self.operator.prefer;
        let fresh = self.nodes.iter().all(|node| node.disk.meta.superblock.current.is_none());
        let both_run = self.nodes.iter().all(|node| node.is_running());
        // A first Primary on the larger disk would fix a size that the other cannot have.
        let small = self.plan.more_blocks == 0 || node == 0;
        if fresh && self.nodes[node].is_running() && small {
            self.register.begin_with(&self.nodes[node].disk.current.clone());
            self.command(node, Command::Promote { force: true });
        } else if self.may_force(node) && !both_run && self.operator.rng.chance(30) {
            self.sums.count("forced promotions");
            self.command(node, Command::Promote { force: true });
        } else {
            self.command(node, Command::Promote { force: false });
        }
    }

    /// The plan allows it.
    fn may_force(&self, node: usize) -> bool {
        self.plan.force && self.loses_nothing(node)
    }

    /// Nothing acknowledged is lost if the node is made Primary by force now.
    pub(crate) fn loses_nothing(&self, node: usize) -> bool {
        let (mine, other) = (&self.nodes[node], &self.nodes[1 - node]);
        let (sb, peer) = (&mine.disk.meta.superblock, &other.disk.meta.superblock);
        let good = mine.snapshot().is_some_and(|state| state.disk >= DiskState::Consistent);
        !other.is_running()
            && good
            && sb.current == peer.current
            && peer.base.is_none()
            && !peer.peer_outdated // it may be promoted without force
            && self.register.admits_all(&mine.disk.current)
    }

    /// Gives a command, if none is under way.
    pub(crate) fn command(&mut self, node: usize, command: Command) {
        if !self.nodes[node].is_running() || self.operator.asked.is_some() {
            return;
        }
        if !matches!(command, Command::Promote { .. }) {
            self.client.closed_at = Some(node);
        }
        self.operator.next_command += 1;
        let id = CommandId(self.operator.next_command);
        self.operator.asked = Some(Asked { id, node, command });
        self.operator.last_reply = None;
        self.tell(node, Fact::Command { id, command });
    }

    /// The other node is to be Primary.
    pub(crate) fn switch_over(&mut self) {
        if let Some(primary) = self.primary() {
            self.sums.count("switchovers");
            self.operator.prefer = 1 - primary;
            self.command(primary, Command::Demote);
        }
    }

    pub(crate) fn leave(&mut self, node: usize) {
        if self.operator.asked.is_none() && self.nodes[node].is_running() {
            self.nodes[node].leaving = true;
            self.command(node, Command::Detach);
        }
    }

    /// A command has no answer yet.
    pub(crate) fn is_asked(&self) -> bool {
        self.operator.asked.is_some()
    }

    /// A core answers the operator.
    pub(crate) fn replied(&mut self, node: usize, id: CommandId, result: Result<(), CommandError>) {
        let asked = self.operator.asked.take().expect("oracle operator: answered once");
        assert!(asked.id == id && asked.node == node, "oracle operator: another answer");
        self.operator.last_reply = Some(result);
        self.note(Some(node), || format!("  reply {result:?}"));
        if asked.command == Command::Detach {
            if result.is_ok() {
                let life = self.nodes[node].life;
                let delay = self.operator.rng.below(2_000);
                self.after(delay, Event::Exit { node, life });
            } else {
                self.nodes[node].leaving = false;
            }
        }
        if self.client.closed_at == Some(node) {
            self.client.closed_at = None;
        }
    }

    /// The node is dead: no answer will come.
    pub(crate) fn operator_lost(&mut self, node: usize) {
        self.operator.asked = self.operator.asked.filter(|asked| asked.node != node);
    }

    /// A daemon that has left ends.
    pub(crate) fn exit(&mut self, node: usize, life: u32) {
        if self.nodes[node].life != life {
            return;
        }
        self.note(Some(node), || "ends".to_string());
        self.kill_node(node, false);
        if !self.operator.idle {
            let pause = pause_length(&mut self.operator.rng);
            self.after(pause, Event::Start { node });
        }
    }

    /// Faults are over.
    pub(crate) fn begin_healing(&mut self) {
        self.note(None, || "all faults end".to_string());
        self.healing = true;
        self.operator.healing_since = self.now;
        self.net.parted_until = 0;
        self.net.slow = (0, 0);
        self.aim = None;
        for node in [0, 1] {
            let life = self.nodes[node].life;
            self.after(1_000, Event::Resume { node, life });
            self.after(10_000, Event::Start { node });
        }
        self.client.only_a_few(self.plan.last_ops);
    }

    fn heal_more(&mut self) {
        if self.client.is_done() {
            self.client.stopped = true;
        }
        self.settled = self.client.stopped && self.client.is_idle() && self.is_at_rest();
    }

    /// Both nodes run, are connected and equal, and nothing is going on.
    fn is_at_rest(&self) -> bool {
        let primary = self.primary().is_some() || self.operator.idle;
        primary
            && self.nodes.iter().all(|node| {
                let Some(state) = node.snapshot() else { return false };
                let quiet = node.disk.in_flight.is_empty() && node.disk.meta.pending() == 0;
                state.connection == Connection::Connected
                    && state.replication == Replication::Established
                    && state.disk == DiskState::UpToDate
                    && state.peer_disk == Some(DiskState::UpToDate)
                    && state.out_of_sync_bytes == 0
                    && state.local_pending + state.peer_pending == 0
                    && !node.leaving
                    && quiet
            })
    }

    /// What stands in the way of rest, for the report.
    pub(crate) fn why_unsettled(&self) -> String {
        let states = self.nodes.iter().map(|node| {
            let refusal = node.snapshot().and_then(|state| state.refusal);
            let sync = node.snapshot().map(|state| (state.replication, state.peer_disk));
            format!("node {}: {} refusal {refusal:?} {sync:?}", node.id, node.columns())
        });
        let states: Vec<String> = states.collect();
        let waiting = self.client.oldest_since();
        let client = (self.client.stopped, self.client.closed_at, self.client.is_done());
        let asked = self.operator.asked.map(|asked| (asked.node, asked.command));
        format!(
            "{states:?}, oldest request since {waiting:?}, client {client:?}, command under way {asked:?}"
        )
    }

    fn forget_fragile(&mut self) {
        let calm = |state: rblk::replica::Snapshot| {
            state.connection == Connection::Connected
                && state.disk == DiskState::UpToDate
                && state.peer_disk == Some(DiskState::UpToDate)
        };
        if self.nodes.iter().all(|node| node.snapshot().is_some_and(calm)) {
            self.oracle.fragile = None;
        }
    }

    /// True if `node` is Primary.
    pub(crate) fn is_primary(&self, node: usize) -> bool {
        self.nodes[node].role() == Some(Role::Primary)
    }
}
