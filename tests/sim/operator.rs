//! Who runs the two nodes: a cluster manager that wants one Primary, and an operator with odd ideas. Fate is `fate.rs`.

use crate::disk::Image;
use crate::net::pause_length;
use crate::node::{Fact, Node};
use crate::rng::Rng;
use crate::world::{Event, World};
use rblk::replica::event::{Command, CommandError, CommandId};
use rblk::replica::{Connection, Replication};
use rblk::wire::message::{DiskState, Refusal, Role};

/// A command without an answer yet.
#[derive(Clone, Copy)]
struct Asked {
    id: CommandId,
    node: usize,
    command: Command,
}

/// A story's own command, whose answer nobody waits for.
pub(crate) const OF_A_STORY: CommandId = CommandId(0);

/// The manager's memory.
pub(crate) struct Operator {
    rng: Rng,
    /// Decides when the disks are compared.
    verify: Rng,
    next_command: u64,
    asked: Option<Asked>,
    /// Where the Primary should be.
    pub(crate) prefer: usize,
    /// Until then he would make a second Primary, if he could.
    pub(crate) folly_until: u64,
    /// By a policy this Primary must step down.
    pub(crate) must_step_down: Option<usize>,
    /// Until then nobody is promoted: they shall meet first.
    stepped_down_until: u64,
    /// An older copy of each disk.
    images: [Option<Image>; 2],
    pub(crate) healing_since: u64,
    /// It only heals when told to; scenarios act by themselves.
    pub(crate) idle: bool,
    /// Whoever fences is able to, and takes this long; by chance if not said.
    pub(crate) fences: Option<bool>,
    pub(crate) fence_takes: Option<u64>,
    /// It takes no power as long as the link has time to come back; by chance if not said.
    pub(crate) fence_waits: Option<bool>,
    /// Questions that are not answered yet: a node that is back may still be fenced.
    pub(crate) fencing: u64,
    /// Answers to commands, for scenarios.
    pub(crate) last_reply: Option<Result<(), CommandError>>,
}

impl Operator {
    pub(crate) fn new(rng: Rng, verify: Rng) -> Operator {
        Operator {
            rng,
            verify,
            next_command: 0,
            asked: None,
            prefer: 0,
            folly_until: 0,
            must_step_down: None,
            stepped_down_until: 0,
            images: [None, None],
            healing_since: 0,
            idle: false,
            fences: None,
            fence_takes: None,
            fence_waits: None,
            fencing: 0,
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
        self.settle_limbo();
        for node in [0, 1] {
            self.replace_disk(node);
            let mut rng = self.operator.rng.clone();
            self.look_after_disk(node, &mut rng);
            self.operator.rng = rng;
        }
        self.copy_disk();
        if self.plan.verify {
            self.verify_now_and_then();
        }
        if self.plan.spare_blocks > 0 {
            self.resize_now_and_then();
        }
        if self.healing {
            self.heal_more();
        }
        if self.operator.asked.is_some() || self.operator.idle {
            self.connect_for_who_leaves();
            return;
        }
        let told = self.operator.must_step_down.take();
        if let Some(node) = told.filter(|node| self.is_primary(*node)) {
            self.sums.count("Primaries that stepped down");
            self.operator.stepped_down_until = self.now + 3_000_000;
            self.command(node, Command::Demote);
        } else if let Some(node) = self.stands_in_the_way() {
            self.operator.stepped_down_until = self.now + 3_000_000;
            self.command(node, Command::Demote);
        } else if let Some(victim) = self.oracle.victim.filter(|victim| self.is_primary(*victim)) {
            self.folly(victim);
        } else if !self.plan.dual && self.is_primary(0) && self.is_primary(1) {
            let stale = if self.serves(0) { 1 } else { 0 };
            self.command(stale, Command::Demote);
        } else if self.now < self.operator.folly_until && self.split() {
            self.operator.folly_until = 0;
        } else if let Some(node) = self.unsure_source() {
            self.sums.count("sources that were unsure");
            self.command(node, Command::Promote { force: true });
        } else if self.connect_again() {
        } else if self.plan.nonsense && !self.healing && self.operator.rng.chance(15) {
            self.nonsense();
        } else if self.now < self.operator.stepped_down_until {
        } else if self.primary().is_none() {
            self.want_primary();
        } else if self.plan.dual {
            self.want_two_primaries();
        }
    }

    /// One is Primary: the other is to be, too.
    fn want_two_primaries(&mut self) {
        let node = self.operator.rng.below(2) as usize;
        let good = self.nodes[node].is_running() && !self.oracle.is_void(node);
        if good && !self.is_primary(node) {
            self.command(node, Command::Promote { force: false });
        }
    }

    /// The Primary that is behind, and that nobody may overwrite: when all else is over, it is taken out of the way.
    fn stands_in_the_way(&self) -> Option<usize> {
        let refused = |node: &usize| {
            let state = self.nodes[*node].snapshot();
            let reason = state.and_then(|state| state.refusal).map(|(_, reason)| reason);
            matches!(reason, Some(Refusal::PrimaryWouldBeTarget | Refusal::TwoPrimaries))
        };
        [0, 1].into_iter().find(|node| self.healing && self.is_primary(*node) && refused(node))
    }

    /// It cannot tell whether the peer, that holds nothing now, had gone on. Whoever runs the two knows that it had
    /// not.
    pub(crate) fn unsure_source(&self) -> Option<usize> {
        let unsure = |node: &usize| {
            let state = self.nodes[*node].snapshot();
            state.is_some_and(|state| {
                let refused = state.refusal.is_some_and(|(_, why)| why == Refusal::SourceUnsure);
                refused && state.disk == DiskState::Consistent && state.superblock.current.is_some()
            })
        };
        let newest = |node: &usize| {
            !self.oracle.is_void(*node) && self.register.admits_all(&self.nodes[*node].disk.current)
        };
        [0, 1].into_iter().find(|node| unsure(node) && newest(node))
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

    /// Nobody waits for it, whatever the answer is.
    fn verify_now_and_then(&mut self) {
        let rng = &mut self.operator.verify;
        let node = rng.below(2) as usize;
        let command = match rng.below(100) {
            0..5 => Command::Verify,
            5 => Command::StopVerify,
            6 => Command::Repair, // mostly of nothing
            7..16 if self.plan.lies => Command::Repair,
            _ => return,
        };
        self.sums.count("commands of verify");
        self.tell(node, Fact::Command { id: OF_A_STORY, command });
    }

    /// Nobody waits for it either. Where the volume fills the disks already, it is refused.
    fn resize_now_and_then(&mut self) {
        if self.operator.verify.chance(4) {
            let node = self.operator.verify.below(2) as usize;
            self.sums.count("resizes that were asked for");
            self.tell(node, Fact::Command { id: OF_A_STORY, command: Command::Resize });
        }
    }

    /// What was read for a digest, before that is made: now and then a block of it seems to be another.
    pub(crate) fn lie_about(&mut self, data: &mut [u32]) {
        if self.plan.lies && !data.is_empty() && self.operator.verify.chance(20) {
            let at = self.operator.verify.below(data.len() as u64) as usize;
            data[at] ^= 1;
            self.sums.count("digests that lie");
        }
    }

    fn nonsense(&mut self) {
        let node = self.operator.rng.below(2) as usize;
        let command = self.operator.rng.pick(&[
            Command::Promote { force: false },
            Command::Demote,
            Command::Connect { discard_my_data: false },
        ]);
        self.sums.count("nonsense commands");
        if !self.oracle.is_void(node) && self.oracle.victim != Some(node) {
            self.command(node, command);
        }
    }

    /// The victim of a split brain is used for a while: all of that will be lost.
    fn folly(&mut self, victim: usize) {
        if self.healing || self.operator.rng.chance(20) {
            self.command(victim, Command::Demote);
            return;
        }
        for _ in 0..self.operator.rng.below(4) {
            let blocks = self.geometry.dense_blocks() as u64;
            let block = self.geometry.block(self.operator.rng.below(blocks) as usize);
            if self.is_primary(victim) {
                self.scribble(victim, block);
            }
        }
    }

    /// A node that stands alone looks for its peer again, sooner or later. The victim of a split brain mostly says that
    /// its way is void; without that the two meet, and stand alone again.
    fn connect_again(&mut self) -> bool {
        let alone = |node: &usize| {
            let node = &self.nodes[*node];
            node.is_running() && node.seen.1 == Connection::StandAlone
        };
        let Some(node) = [0, 1].into_iter().find(alone) else { return false };
        if !self.healing && !self.operator.rng.chance(15) {
            return false;
        }
        let void = self.oracle.victim == Some(node) || self.oracle.is_void(node);
        if void && self.is_primary(node) {
            self.command(node, Command::Demote); // before that nothing of it can be given up
            return true;
        }
        let discard = void && (self.healing || self.operator.rng.chance(80));
        self.command(node, Command::Connect { discard_my_data: discard });
        true
    }

    /// The role is given up once the clients' last requests are answered, and these may wait for the peer: should the
    /// two stand alone meanwhile, they have to meet first.
    fn connect_for_who_leaves(&mut self) {
        let waits = |asked: &Asked| asked.command == Command::Demote;
        if !self.healing || self.operator.idle || !self.operator.asked.as_ref().is_some_and(waits) {
            return;
        }
        for node in [0, 1] {
            if self.nodes[node].is_running() && self.nodes[node].seen.1 == Connection::StandAlone {
                let command = Command::Connect { discard_my_data: false };
                self.tell(node, Fact::Command { id: OF_A_STORY, command });
                self.dial_soon();
            }
        }
    }

    /// Nobody is Primary.
    fn want_primary(&mut self) {
        if self.operator.rng.chance(30) {
            self.operator.prefer = self.operator.rng.below(2) as usize;
        }
        // A disk that is void may say that it is UpToDate: whoever restored it knows better.
        let prefer = self.operator.prefer;
        let node = if self.oracle.is_void(prefer) { 1 - prefer } else { prefer };
        // What a dead daemon has written may land yet.
        let blank = |node: &Node| {
            node.disk.meta.superblock.current.is_none()
                && (node.is_running() || !node.disk.is_restless())
        };
        let fresh = self.nodes.iter().all(blank);
        let both_run = self.nodes.iter().all(|node| node.is_running());
        // A first Primary on the larger disk would fix a size that the other cannot have.
        let small = self.plan.more_blocks == 0 || node == 0;
        if fresh && self.nodes[node].is_running() && small {
            self.register.begin_with(&self.nodes[node].disk.current.clone());
            self.command(node, Command::Promote { force: true });
        } else if self.healing && self.is_all_there_is(node) {
            self.command(node, Command::Promote { force: true });
        } else if self.may_force(node) && !both_run && self.operator.rng.chance(30) {
            self.sums.count("forced promotions");
            self.command(node, Command::Promote { force: true });
        } else {
            self.command(node, Command::Promote { force: false });
        }
    }

    /// The node's data is outdated by its record, and the disk that had newer was replaced by a blank one: the record
    /// came later than the look at both. What it holds is what there is, and nothing acknowledged is missing.
    fn is_all_there_is(&self, node: usize) -> bool {
        let (mine, other) = (&self.nodes[node], &self.nodes[1 - node]);
        mine.snapshot().is_some_and(|state| state.disk == DiskState::Outdated)
            && other.is_running()
            && other.disk.meta.superblock.current.is_none()
            && !self.oracle.is_void(node)
            && self.register.admits_all(&mine.disk.current)
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
        !self.oracle.is_void(node)
            && !other.is_running()
            && !other.disk.is_restless()
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
        if matches!(command, Command::Demote | Command::Detach) {
            self.client.closed_at = Some(node);
        }
        let ends = matches!(command, Command::Demote | Command::Detach) && self.is_primary(node);
        if ends && self.operator.rng.chance(30) {
            self.tell(node, Fact::DeviceStops);
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
        if id == OF_A_STORY {
            return;
        }
        let asked = self.operator.asked.take().expect("oracle operator: answered once");
        assert!(asked.id == id && asked.node == node, "oracle operator: another answer");
        self.operator.last_reply = Some(result);
        self.note(Some(node), || format!("  reply {result:?}"));
        match asked.command {
            Command::Connect { .. } => self.dial_soon(),
            Command::Invalidate { peer: true } if result.is_ok() => {
                self.declare_void(1 - node, true);
            }
            _ => {}
        }
        if result.is_ok()
            && matches!(asked.command, Command::Disconnect | Command::Invalidate { .. })
        {
            let what =
                if asked.command == Command::Disconnect { "disconnects" } else { "invalidations" };
            self.sums.count(what);
        }
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

    /// A promotion has failed. What it has not made durable never was, once that cannot land any more.
    pub(crate) fn no_split(&mut self) {
        let Some(node) = self.oracle.victim else { return };
        let under_way = self.is_asked() || self.nodes[node].disk.meta.writes_superblock();
        if !under_way && !self.oracle.is_void(node) {
            self.oracle.victim = None;
        }
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

    /// Only while the other disk holds all that was acknowledged: the core refuses what it knows to be a loss, but an
    /// operator can know more, and does what he was told by his own eyes.
    pub(crate) fn invalidate(&mut self, node: usize, peer: bool) {
        let keeper = if peer { node } else { 1 - node };
        let disk = &self.nodes[keeper].disk;
        let sb = &disk.meta.superblock;
        let holds = sb.consistent && !sb.outdated && !self.oracle.is_void(keeper);
        // While the two meet, or a record is on its way, nobody's eyes tell whose data will count in a moment.
        let meeting = self.nodes.iter().any(|node| node.seen.1 == Connection::Greeting);
        if meeting || disk.meta.pending() > 0 {
            return;
        }
        if holds && self.register.admits_all(&disk.current) {
            self.command(node, Command::Invalidate { peer });
        }
    }

    /// A copy of a disk is made now and then.
    fn copy_disk(&mut self) {
        if self.operator.rng.chance(5) {
            let node = self.operator.rng.below(2) as usize;
            self.operator.images[node] = Some(self.nodes[node].disk.image());
        }
    }

    /// A disk is put back to what it was, while the other holds all that was acknowledged. Only if a watermark was
    /// raised and recorded at the peer since the copy was made: within that second the nodes cannot tell, and say so.
    pub(crate) fn restore(&mut self, node: usize) {
        let told = self.nodes[1 - node].disk.meta.superblock.peer_mark;
        let Some(image) = self.operator.images[node].take_if(|image| image.mark < told) else {
            return;
        };
        if self.may_lose(node) {
            self.sums.count("restored disks");
            self.note(Some(node), || format!("! restored to an image with mark {}", image.mark));
            self.forget_last_words(node);
            self.nodes[node].disk.restore(image);
            self.oracle_restored(node);
        }
    }

    /// An operator's folly: the node that does not serve is made Primary beside the one that does.
    fn split(&mut self) -> bool {
        let Some(keeper) = self.primary() else { return false };
        let victim = 1 - keeper;
        let apart = |node: usize| {
            let node = &self.nodes[node];
            node.is_running() && !node.paused && node.seen.1 != Connection::Connected
        };
        // One that has not gone on alone is merely behind: then ancestry decides for the other, and rightly.
        let alone = self.nodes[keeper].recorded_alone();
        let good = self.nodes[keeper].seen.0 == DiskState::UpToDate && alone;
        let void = self.oracle.is_void(0) || self.oracle.is_void(1);
        let whole = self.nodes[victim].disk.meta.superblock.consistent
            && self.nodes[victim].seen.0 > DiskState::Inconsistent; // not about to be overwritten either
        let lawful = good
            && whole
            && !void
            && self.oracle.fragile.is_none()
            && apart(keeper)
            && apart(victim);
        if lawful {
            self.sums.count("split brains");
            self.note(Some(victim), || "! made Primary beside a Primary".to_string());
            self.oracle.victim = Some(victim);
            self.command(victim, Command::Promote { force: true });
        }
        lawful
    }

    /// Faults are over.
    pub(crate) fn begin_healing(&mut self) {
        self.note(None, || "all faults end".to_string());
        self.healing = true;
        self.operator.healing_since = self.now;
        self.net.parted_until = 0;
        self.net.calm();
        self.mend_disks();
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
        let wanted = if self.plan.dual { 2 } else { 1 };
        let primaries = [0, 1].into_iter().filter(|node| self.is_primary(*node)).count();
        let primary = primaries >= wanted || self.operator.idle;
        primary
            && self.nodes.iter().all(|node| {
                let Some(state) = node.snapshot() else { return false };
                let quiet = node.disk.in_flight.is_empty() && node.disk.meta.pending() == 0;
                state.connection == Connection::Connected
                    && state.replication == Replication::Established
                    && state.disk == DiskState::UpToDate
                    && state.peer_disk == Some(DiskState::UpToDate)
                    && state.out_of_sync_bytes == 0
                    && node.holds_nothing()
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
