//! A node: the production core and its driver, with the driver's side of the contract asserted.
//!
//! The contract of buffers: a buffer is free when the request it came with has been answered *and* no operation
//! uses it. Each `ReadResync` and `ReadPeer` is followed by exactly one send or release of its buffer.

use crate::coverage::input_of;
use crate::disk::{DataOp, Disk, Work};
use crate::fact::digests_of;
pub(crate) use crate::fact::{Fact, Source};
use crate::fate::{DiskPart, Moment};
use crate::geometry::Geometry;
use crate::media::Media;
use crate::metadisk::MetaDisk;
use crate::net::Content;
use crate::plan::Plan;
use crate::world::{Event, World};
use crate::worlds::inject::Ending;
use rblk::limits::{AL_RING_BLOCKS, PAGE_BLOCKS};
use rblk::limits::{BLOCK_SECTORS, BUFFERS_MAX, META_BLOCK_BYTES, PAGE_BIT_BYTES};
use rblk::meta::block::Owner;
use rblk::meta::layout::Layout;
use rblk::meta::superblock::{GenerationId, NodeId, Superblock, VolumeId};
use rblk::replica::event::{
    Action, Buf, ConnId, Discarded, DiskOp, DiskResult, FrontId, FrontOp, Input, Notice, OpId,
    Payload, Tick,
};
use rblk::replica::{Connection, Replica, Settings, Snapshot, Start};
use rblk::span::Span;
use rblk::wire::message::{DiskState, Message, Outcome, Role};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The generation that two disks declared equal begin with.
pub(crate) const FIRST_GENERATION: GenerationId = GenerationId(0x1111_1111 << 96 | 1);

/// A buffer of the pool.
#[derive(Default)]
struct Buffer {
    data: Vec<u32>,
    /// It holds a request's payload that has not been answered or released.
    owned: bool,
    /// Operations and expected answers that name it.
    users: u32,
}

/// A node.
pub(crate) struct Node {
    pub(crate) id: usize,
    pub(crate) life: u32,
    pub(crate) replica: Option<Box<Replica>>,
    pub(crate) paused: bool,
    pub(crate) inbox: VecDeque<Fact>,
    pub(crate) disk: Disk,
    pub(crate) media: Media,
    /// The connection that the driver has open.
    pub(crate) open: Option<u64>,
    /// It was connected in this life.
    pub(crate) was_up: bool,
    /// The core's disk and connection after its last fact: a whole snapshot is too slow for every step.
    pub(crate) seen: (DiskState, Connection),
    /// It has been asked to leave.
    pub(crate) leaving: bool,
    /// An operation of this disk fails, after some more of its kind.
    pub(crate) error_at: Option<(DiskPart, u64)>,
    /// The next operation on its data never ends.
    pub(crate) hang_next: bool,
    /// The next one takes so long.
    pub(crate) delay_next: Option<u64>,
    /// What touches this part of the data takes so long.
    pub(crate) slow: Option<(Span, u64)>,
    /// A write of its metadata takes so long.
    pub(crate) slow_meta: Option<u64>,
    /// A fault was injected into this disk in this life of the daemon: it may be given up.
    pub(crate) harmed: bool,
    /// How often it asked whether its data may be overwritten; in all lives.
    pub(crate) asked: u32,
    /// What is answered.
    pub(crate) vetoes: bool,
    /// What it discards cannot be saved.
    pub(crate) unsavable: bool,
    /// What was last saved of what it discards, and the sectors of its disk as they were then.
    pub(crate) saved: Option<(Discarded, Vec<u32>)>,
    /// It has a reason to go on alone, whatever the configuration says.
    pub(crate) excused: bool,
    /// What its core said last of having everything; gone with the power.
    pub(crate) kept: Option<u64>,
    /// The time of day at virtual time 0, as its host has it.
    pub(crate) unix_ms: u64,
    timer: Option<Tick>,
    buffers: Vec<Buffer>,
    op_buffers: BTreeMap<u64, Buf>,
    /// Buffers of reads whose digests are wanted.
    digested: BTreeMap<u64, Buf>,
    op_uses: BTreeMap<u64, Buf>,
    expected: BTreeMap<u64, Buf>,
    /// The buffer of each read of a client that the core has.
    reads: BTreeMap<u32, Buf>,
    /// Reads for the peer or resync whose buffer was sent or released.
    ended_reads: BTreeSet<u64>,
    pub(crate) settings: Settings,
}

impl Node {
    /// A node whose disk was just created.
    pub(crate) fn new(id: usize, plan: &Plan, geometry: &Geometry) -> Node {
        let more = if id == 1 { plan.more_blocks } else { 0 };
        let blocks = plan.blocks + plan.spare_blocks + more;
        let bytes = (blocks + blocks.div_ceil(PAGE_BLOCKS) + 2 + AL_RING_BLOCKS) * 4096;
        let layout = Layout::of_disk(bytes).expect("the plan's disks can be laid out");
        assert!(layout.data_blocks() == blocks);
        let owner = Owner { volume: VolumeId::of("sim", &["one", "two"]), node: NodeId(id as u8) };
        let superblock = Superblock {
            agreed_sectors: if plan.fresh { 0 } else { plan.blocks * BLOCK_SECTORS },
            ..Superblock::fresh(owner, &layout, (!plan.fresh).then_some(FIRST_GENERATION))
        };
        let garbage = if plan.fresh { 0x8000_0000 | (id as u32) << 24 } else { 0 };
        let value = |at: usize| if garbage > 0 { garbage | at as u32 } else { 0 };
        let disk = Disk::new(geometry, MetaDisk::new(layout, superblock), value);
        Node {
            id,
            life: 0,
            replica: None,
            paused: false,
            inbox: VecDeque::new(),
            disk,
            media: Media::default(),
            open: None,
            was_up: false,
            seen: (DiskState::Diskless, Connection::Connecting),
            leaving: false,
            error_at: None,
            hang_next: false,
            delay_next: None,
            slow: None,
            slow_meta: None,
            harmed: false,
            asked: 0,
            vetoes: false,
            unsavable: false,
            saved: None,
            excused: false,
            kept: None,
            unix_ms: 1_700_000_000_000,
            timer: None,
            buffers: Vec::new(),
            op_buffers: BTreeMap::new(),
            digested: BTreeMap::new(),
            op_uses: BTreeMap::new(),
            expected: BTreeMap::new(),
            reads: BTreeMap::new(),
            ended_reads: BTreeSet::new(),
            settings: settings_of(id, plan),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.replica.is_some()
    }

    /// It runs, and looks for its peer.
    pub(crate) fn wants_peer(&self) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.wants_peer())
    }

    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        self.replica.as_ref().map(|replica| replica.snapshot())
    }

    /// It is the target of a resync.
    pub(crate) fn is_target(&self) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.disk() == DiskState::Inconsistent)
    }

    pub(crate) fn role(&self) -> Option<Role> {
        self.replica.as_ref().map(|replica| replica.role())
    }

    /// The durable record that this node goes on alone.
    pub(crate) fn recorded_alone(&self) -> bool {
        let sb = &self.disk.meta.superblock;
        sb.base.is_some() && sb.peer_outdated
    }

    /// While this stays the same, no block has ceased to be recorded here: the version of the metadata, the life
    /// (0 while the core has no say), and how often the core forgot something.
    pub(crate) fn grounds(&self) -> (u64, u32, u64) {
        let core = self.replica.as_ref().filter(|_| self.has_disk());
        let life = core.map_or(0, |_| self.life + 1);
        (self.disk.meta.version, life, core.map_or(0, |core| core.forgets()))
    }

    /// The columns of a trace line that say how the node is.
    pub(crate) fn columns(&self) -> String {
        let busy = (self.disk.in_flight.len(), self.disk.meta.pending());
        let Some(state) = self.snapshot() else {
            return format!("---  ---- ---- --------      - {}+{}", busy.0, busy.1);
        };
        let role = if state.role == Role::Primary { "Pri" } else { "Sec" };
        let disk = format!("{:?}", state.disk);
        let conn = match state.connection {
            Connection::StandAlone => "Solo",
            Connection::Connecting => "Down",
            Connection::Greeting => "Hi..",
            Connection::Connected => "Conn",
        };
        let sb = &state.superblock;
        let generation = sb.current.map_or("none".to_string(), |id| format!("{id:?}"));
        let base = if sb.base.is_some() { "*" } else { " " };
        let dirty = state.out_of_sync_bytes / 4096;
        let disk = &disk[..4];
        format!("{role}  {disk} {conn} {generation:<8}{base} {dirty:>5} {}+{}", busy.0, busy.1)
    }

    pub(crate) fn take_buffer(&mut self, data: Vec<u32>) -> Buf {
        let free = self.buffers.iter().position(|buffer| !buffer.owned && buffer.users == 0);
        let at = free.unwrap_or_else(|| {
            self.buffers.push(Buffer::default());
            self.buffers.len() - 1
        });
        // Operations of a disk that hangs or was given up keep their buffers, beyond what the limits allow for.
        let given_up = self.seen.0 <= DiskState::Failed;
        let hung = self.disk.in_flight.values().filter(|op| given_up || op.hung).count();
        assert!(at < BUFFERS_MAX + hung, "oracle bounds: more buffers than the limits promise");
        self.buffers[at] = Buffer { data, owned: true, users: 0 };
        Buf(at as u32)
    }

    pub(crate) fn buffer(&self, buf: Buf) -> &[u32] {
        &self.buffers[buf.0 as usize].data
    }

    fn read_buffer(&self, id: FrontId) -> Buf {
        *self.reads.get(&id.0).expect("oracle driver: no read of a client")
    }

    fn use_buffer(&mut self, buf: Buf) {
        let buffer = &mut self.buffers[buf.0 as usize];
        assert!(buffer.owned, "oracle buffers: an action names a buffer that was given back");
        buffer.users += 1;
    }

    fn unuse(&mut self, buf: Buf) {
        let buffer = &mut self.buffers[buf.0 as usize];
        assert!(buffer.users > 0);
        buffer.users -= 1;
    }

    /// The request that a buffer came with is answered.
    pub(crate) fn give_back(&mut self, buf: Buf) {
        let buffer = &mut self.buffers[buf.0 as usize];
        assert!(buffer.owned, "oracle buffers: a buffer is given back twice");
        buffer.owned = false;
    }

    /// Buffers that hold something although nothing is going on.
    pub(crate) fn leaked(&self) -> usize {
        let used = |buffer: &&Buffer| buffer.owned || buffer.users > 0;
        self.buffers.iter().filter(used).count()
            + self.op_buffers.len()
            + self.digested.len()
            + self.expected.len()
    }

    fn forget_memory(&mut self) {
        self.replica = None;
        self.paused = false;
        self.inbox.clear();
        self.open = None;
        self.was_up = false;
        self.leaving = false;
        self.harmed = false;
        self.error_at = None;
        self.hang_next = false;
        self.timer = None;
        self.buffers.clear();
        self.op_buffers.clear();
        self.digested.clear();
        self.op_uses.clear();
        self.expected.clear();
        self.reads.clear();
        self.ended_reads.clear();
        self.life += 1;
    }
}

/// What a node's configuration says, by the plan.
fn settings_of(id: usize, plan: &Plan) -> Settings {
    Settings {
        peer_timeout_ms: plan.peer_timeout_ms,
        disk_timeout_ms: plan.disk_timeout_ms,
        al_slots: plan.al_slots,
        policies: plan.policies(),
        ask_consent: plan.consent,
        salvage: plan.salvage,
        on_peer_lost: plan.on_peer_lost.of(id),
        ride_through_ms: plan.ride_through_ms,
        config: 1 + id as u64,
    }
}

impl World {
    /// A daemon starts on the disk as it is, by the steps of the real one.
    pub(crate) fn start_node(&mut self, node: usize) {
        if self.nodes[node].is_running() {
            return;
        }
        let entropy = u128::from(self.rng.next()) << 64 | u128::from(self.rng.next());
        let now = Tick(self.now);
        self.nodes[node].disk.open(&mut self.rng);
        self.oracle_superblock(node); // one of its forerunner may have landed
        let Some((superblock, stale_copy)) = self.find_superblock(node) else { return };
        let target = &mut self.nodes[node];
        target.excused = false;
        let meta = &mut target.disk.meta;
        let activity = meta.recover_log();
        let start = Start {
            layout: meta.layout,
            superblock,
            stale_copy,
            peer: NodeId(1 - node as u8),
            activity,
            block_bytes: 512,
            discard: true,
            holes: node == 1,
            kept: target.kept,
            entropy,
            unix_ms: target.unix_ms,
            settings: target.settings,
        };
        let mut replica = Box::new(Replica::new(&start));
        for page in 0..replica.pages() {
            replica.load_page(page, target.disk.meta.recover_page(page).as_deref());
        }
        replica.start(now);
        target.replica = Some(replica);
        self.sums.count("starts");
        self.drain(node);
        self.note(Some(node), || "started".to_string());
        self.dial_soon();
    }

    /// The daemon ends, in whatever way; with `power` its disk loses what was not stable.
    pub(crate) fn kill_node(&mut self, node: usize, power: bool) {
        if !self.nodes[node].is_running() && !power {
            return;
        }
        self.oracle_before_crash(node, power);
        self.client_lost(node);
        self.net_lost(node, power);
        self.nodes[node].forget_memory();
        let (disk, rng) = (&mut self.nodes[node].disk, &mut self.rng);
        if power {
            self.nodes[node].kept = None;
            let disk = &mut self.nodes[node].disk;
            disk.power_cut(rng);
            self.oracle_after_power_cut(node);
        } else {
            disk.daemon_killed(rng);
        }
        self.oracle_superblock(node); // one that was in flight may have landed with the power
        self.operator_lost(node);
        self.dial_soon();
    }

    /// One fact, then everything that the core wants.
    pub(crate) fn handle(&mut self, node: usize, fact: Fact) {
        let text = if self.trace.on { fact.describe() } else { String::new() };
        let now = Tick(self.now);
        let before = self.record_of_waiter(node);
        self.oracle_excuse(node, &fact);
        match fact {
            Fact::Connected { conn } => self.hears_begin(node, conn),
            Fact::Disconnected { conn } => self.hears_end(node, conn),
            // When it hears of it, not before: a driver that runs dials whenever its core wants to.
            Fact::Consent { .. } => self.dial_soon(),
            _ => {}
        }
        self.oracle_receive(node, &fact);
        let target = &mut self.nodes[node];
        let input = input_of(&fact, target.open);
        let mut replica = target.replica.take().expect("only a running node hears of anything");
        self.sums.coverage.count(&replica, input);
        match fact {
            Fact::Request { id, op } => {
                if let FrontOp::Read { buf, .. } = op {
                    target.reads.insert(id.0, buf);
                }
                replica.handle(now, Input::Request { id, op });
            }
            Fact::DiskDone { op, result } => replica.handle(now, Input::DiskDone { op, result }),
            Fact::Digests { op, digests } => {
                replica.handle(now, Input::Digests { op, digests: &digests });
            }
            Fact::MetaDone { op, ok } => replica.handle(now, Input::MetaDone { op, ok }),
            Fact::Connected { conn } => {
                replica.handle(now, Input::Connected { conn: ConnId(conn) });
            }
            Fact::Disconnected { conn } => {
                replica.handle(now, Input::Disconnected { conn: ConnId(conn) });
            }
            Fact::Received { conn, message, content } => {
                let conn = ConnId(conn);
                let (buf, payload) = target.take_in(&message, content, conn);
                replica.handle(now, Input::Received { conn, message, buf, payload: &payload });
            }
            Fact::Command { id, command } => replica.handle(now, Input::Command { id, command }),
            Fact::Consent { answer } => replica.handle(now, Input::Consent { answer }),
            Fact::Fenced { id, confirmed } => {
                replica.handle(now, Input::Fenced { id, confirmed });
            }
            Fact::DeviceStops => replica.handle(now, Input::DeviceStops),
            Fact::Timeout => replica.handle(now, Input::Timeout),
        }
        target.replica = Some(replica);
        self.oracle_authority(node, before);
        self.drain(node);
        self.oracle_idle(node);
        self.note(Some(node), || text);
    }

    /// A node leaves nothing undone until it hears of something else: that may never be. It is told that a connection
    /// has ended which it does not know.
    fn oracle_idle(&mut self, node: usize) {
        let Some(replica) = self.nodes[node].replica.as_mut() else { return };
        if self.step.is_multiple_of(8) {
            replica.handle(Tick(self.now), Input::Disconnected { conn: ConnId(u64::MAX) });
            let left = replica.poll_action();
            assert!(left.is_none(), "oracle idle: {left:?} was left undone");
        }
    }

    /// Carries out what the core wants, in order.
    fn drain(&mut self, node: usize) {
        let core = self.nodes[node].replica.as_ref();
        self.nodes[node].kept = core.expect("a node drains while it runs").kept();
        let mut count = 0;
        loop {
            let replica = self.nodes[node].replica.as_mut().expect("a node drains while it runs");
            let Some(action) = replica.poll_action() else { break };
            count += 1;
            assert!(count < 20_000, "oracle bounds: one fact wants too much");
            self.carry_out(node, action);
        }
        let target = &mut self.nodes[node];
        let Some(replica) = target.replica.as_ref() else { return };
        let was_up = target.seen.1 == Connection::Connected;
        target.seen = (replica.disk(), replica.connection());
        if !was_up && target.seen.1 == Connection::Connected {
            // Together again: what was learnt apart is void. A peer without a disk is out of it all the same.
            let peer = replica.snapshot().peer_disk;
            target.excused = peer.is_some_and(|disk| disk <= DiskState::Failed);
        }
        target.was_up |= target.seen.1 == Connection::Connected;
        let skewed = target.seen.1 == Connection::Connected && self.net.is_skewed(target.open);
        assert!(!skewed, "oracle version: two that speak different versions are connected");
        let differing = replica.verified().differing_bytes;
        let planted = self.oracle.planted || self.plan.lies;
        assert!(differing == 0 || planted, "oracle verify: {differing} bytes differ, says {node}");
        let given_up = target.seen.0 <= DiskState::Failed;
        assert!(target.harmed || !given_up, "oracle blame: a disk without a fault is given up");
        let due = replica.next_timeout();
        let (life, armed) = (target.life, target.timer);
        if due != armed {
            target.timer = due;
            if let Some(due) = due {
                let late = self.rng.below(2_000);
                self.at(due.0 + 1 + late, Event::Timer { node, life });
            }
        }
        self.check_census(node);
    }

    pub(crate) fn timer(&mut self, node: usize, life: u32) {
        let target = &self.nodes[node];
        let due = target.timer.is_some_and(|due| due.0 <= self.now);
        if target.life == life && target.is_running() && due {
            self.nodes[node].timer = None;
            self.tell(node, Fact::Timeout);
        }
    }

    fn carry_out(&mut self, node: usize, action: Action) {
        match action {
            Action::Disk { op, what, .. } => self.start_disk(node, op.0, what),
            Action::Meta { op, block } => {
                let mut bytes = Box::new([0; META_BLOCK_BYTES]);
                let target = &mut self.nodes[node];
                let replica = target.replica.as_mut().expect("running");
                replica.encode_meta(block, &mut bytes);
                self.note(Some(node), || format!("  write {} {block:?}", op.0));
                let target = &mut self.nodes[node];
                target.disk.meta.start(op.0, block, bytes);
                let (life, slow) = (target.life, target.slow_meta);
                let usual = self.disk_latency() + self.stalled(node);
                let delay = slow.unwrap_or(usual);
                self.after(delay, Event::MetaEnd { node, life, op: op.0 });
                self.moment(node, Moment::MetaWrite, delay);
            }
            Action::Send { conn, message, payload, .. } => {
                self.oracle_send(node, &message);
                let content = self.nodes[node].content(&message, payload);
                self.send(node, conn.0, message, content);
            }
            Action::Close { conn, drain } => self.close(node, conn.0, drain),
            Action::Complete { id, result, .. } => {
                self.note(Some(node), || format!("  answer {} {result:?}", id.0));
                self.nodes[node].reads.remove(&id.0);
                self.completed(node, id, result);
            }
            Action::Release { buf } => self.nodes[node].give_back(buf),
            Action::ReleaseOp { op } => {
                if let Some(buf) = self.nodes[node].op_buffers.remove(&op.0) {
                    let pending = self.nodes[node].disk.in_flight.contains_key(&op.0);
                    assert!(!pending, "oracle buffers: released while the disk reads into it");
                    self.nodes[node].give_back(buf);
                    self.nodes[node].ended_reads.insert(op.0);
                } else {
                    let twice = self.nodes[node].ended_reads.contains(&op.0);
                    assert!(!twice, "oracle buffers: an operation's buffer is released twice");
                }
            }
            Action::AskConsent { discarded } => self.consent_asked(node, discarded),
            Action::Reply { id, result } => self.replied(node, id, result),
            Action::Fence { id, link_has_ms } => self.fence_asked(node, id, link_has_ms),
            Action::Notify(notice) => {
                // What is on its way while a disk fails comes out of turn.
                let lawful = self.oracle.stranger || self.disk_failed;
                let rude = matches!(notice, Notice::PeerBroken(_)) && !lawful;
                assert!(!rude, "oracle manners: {node} says {notice:?}");
                if notice == Notice::MustStepDown {
                    self.operator.must_step_down = Some(node);
                }
                self.note(Some(node), || format!("  notice {notice:?}"));
            }
        }
    }

    fn start_disk(&mut self, node: usize, op: u64, what: DiskOp) {
        let target = &mut self.nodes[node];
        let (span, work) = match what {
            DiskOp::Read { span, id } => {
                let buf = target.read_buffer(id);
                target.use_buffer(buf);
                target.op_uses.insert(op, buf);
                (Some(span), Work::Read)
            }
            DiskOp::ReadResync { span } | DiskOp::ReadPeer { span } => {
                let buf = target.take_buffer(Vec::new());
                target.op_buffers.insert(op, buf);
                let locked = matches!(what, DiskOp::ReadResync { .. });
                (Some(span), if locked { Work::ReadLocked } else { Work::Read })
            }
            DiskOp::Digest { span } => {
                let buf = target.take_buffer(Vec::new());
                target.digested.insert(op, buf);
                (Some(span), Work::ReadLocked)
            }
            DiskOp::Write { span, buf, fua } => {
                target.use_buffer(buf);
                target.op_uses.insert(op, buf);
                let data = Some(target.buffer(buf).to_vec());
                (Some(span), Work::Write { data, fua })
            }
            DiskOp::Zero { span, fua, .. } => (Some(span), Work::Write { data: None, fua }),
            DiskOp::Probe { span } => (Some(span), Work::Probe),
            DiskOp::Flush => (None, Work::Flush(target.disk.unflushed())),
        };
        let life = target.life;
        let hung = std::mem::take(&mut self.nodes[node].hang_next) && !self.healing;
        self.nodes[node].disk.start(op, span, work, hung);
        if hung {
            self.nodes[node].harmed = true;
            self.disk_failed = true;
            self.sums.count("hung disk operations");
            self.note(Some(node), || format!("! disk operation {op} hangs"));
        } else {
            let latency = self.disk_latency() + self.stalled(node);
            let slow = |(slow, delay): (Span, u64)| {
                span.is_some_and(|span| span.overlaps(slow)).then_some(delay)
            };
            let slow = self.nodes[node].slow.and_then(slow);
            let delay = self.nodes[node].delay_next.take().or(slow).unwrap_or(latency);
            self.after(delay, Event::DiskEnd { node, life, op });
            self.moment(node, Moment::DiskOperation, delay);
        }
    }

    /// Disks that are healed are not slow any more.
    fn disk_latency(&mut self) -> u64 {
        let worst = if self.healing { 50_000 } else { self.plan.disk_worst };
        self.rng.latency(self.plan.disk_typical, worst)
    }

    pub(crate) fn disk_end(&mut self, node: usize, life: u32, op: u64) {
        if self.nodes[node].life != life {
            if self.is_ghost(node, life) && self.nodes[node].disk.in_flight.contains_key(&op) {
                self.nodes[node].disk.finish(op);
            }
            return;
        }
        let flush = matches!(
            self.nodes[node].disk.in_flight.get(&op),
            Some(DataOp { work: Work::Flush(_), .. })
        );
        let stable = matches!(
            self.nodes[node].disk.in_flight.get(&op),
            Some(DataOp { work: Work::Write { fua: true, .. }, .. })
        );
        let part = if flush { DiskPart::Flush } else { DiskPart::Data };
        let injected = self.inject_disk(node, flush);
        match injected {
            Ending::Well | Ending::Fails => {}
            Ending::Late(delay) => return self.after(delay, Event::DiskEnd { node, life, op }),
            Ending::Never => return self.nodes[node].disk.hang(op),
        }
        let unreadable = self.is_unreadable(node, op);
        let strikes =
            self.disk_fails(node, part) || (stable && self.disk_fails(node, DiskPart::Stable));
        let fails = strikes || injected == Ending::Fails || unreadable;
        let target = &mut self.nodes[node];
        let mut result = DiskResult::Done;
        if let Some(buf) = target.digested.remove(&op) {
            target.give_back(buf);
            if !fails && let Some(mut data) = target.disk.finish(op) {
                self.lie_about(&mut data);
                let digests = Box::new(digests_of(&data));
                self.tell(node, Fact::Digests { op: OpId(op), digests });
                return;
            }
        }
        if fails {
            target.disk.fail(op, &mut self.rng);
            result = DiskResult::Failed;
        } else if let Some(data) = target.disk.finish(op) {
            let buf = target.op_buffers.get(&op).or(target.op_uses.get(&op)).copied();
            if !target.op_uses.contains_key(&op) && data.iter().all(|value| *value == 0) {
                result = DiskResult::DoneZero;
            }
            // Only a probe has none.
            if let Some(buf) = buf {
                target.buffers[buf.0 as usize].data = data;
            }
        }
        if let Some(buf) = target.op_uses.remove(&op) {
            target.unuse(buf);
        }
        self.tell(node, Fact::DiskDone { op: OpId(op), result });
    }

    pub(crate) fn meta_end(&mut self, node: usize, life: u32, op: u64) {
        if self.nodes[node].life != life {
            if self.is_ghost(node, life) && self.nodes[node].disk.meta.has(op) {
                self.nodes[node].disk.meta.finish(op);
                self.oracle_superblock(node);
            }
            return;
        }
        let mut injected = self.inject_meta(node);
        let fails = self.disk_fails(node, DiskPart::Metadata);
        if let Some(fate) = &mut injected {
            self.nodes[node].disk.meta.fail(op, fate);
        } else if fails {
            self.nodes[node].disk.meta.fail(op, &mut self.rng);
        } else {
            self.nodes[node].disk.meta.finish(op);
        }
        self.oracle_superblock(node); // one that failed may have landed
        let ok = !fails && injected.is_none();
        if !ok {
            self.nodes[node].disk.drop_cache();
        }
        self.tell(node, Fact::MetaDone { op: OpId(op), ok });
    }

    /// This was the last life of a node that is dead: its writes may still land.
    fn is_ghost(&self, node: usize, life: u32) -> bool {
        !self.nodes[node].is_running() && self.nodes[node].life == life + 1
    }

    fn is_unreadable(&mut self, node: usize, op: u64) -> bool {
        let unreadable = self.nodes[node].disk.is_unreadable(op);
        if unreadable {
            self.nodes[node].harmed = true;
            self.disk_failed = true;
            self.sums.count("reads of unreadable blocks");
            self.note(Some(node), || format!("! operation {op} cannot read"));
        }
        unreadable
    }

    /// True if the operation that ends now is the one that fails.
    fn disk_fails(&mut self, node: usize, what: DiskPart) -> bool {
        let target = &mut self.nodes[node];
        match target.error_at {
            Some((part, 0)) if part == what => target.error_at = None,
            Some((part, left)) if part == what => {
                target.error_at = Some((part, left - 1));
                return false;
            }
            _ => return false,
        }
        if self.healing {
            return false;
        }
        target.harmed = true;
        self.disk_failed = true;
        self.sums.count(match what {
            DiskPart::Data => "data errors",
            DiskPart::Stable => "stable write errors",
            DiskPart::Flush => "flush errors",
            DiskPart::Metadata => "metadata write errors",
        });
        self.note(Some(node), || format!("! {what:?} fails"));
        true
    }
}

impl Node {
    /// The content that goes with a message.
    fn content(&mut self, message: &Message, payload: Payload) -> Content {
        match payload {
            Payload::None => Content::None,
            Payload::Buf(buf) => {
                assert!(self.buffers[buf.0 as usize].owned, "oracle buffers: sent after its end");
                Content::Sectors(self.buffer(buf).to_vec())
            }
            Payload::Into(front) => {
                let buf = self.read_buffer(front);
                let Message::Read { id, .. } = message else { panic!("oracle driver: no read") };
                self.use_buffer(buf);
                self.expected.insert(*id, buf);
                Content::None
            }
            Payload::Op(op) => {
                let buf = self.op_buffers.remove(&op.0);
                let buf = buf.expect("oracle buffers: an operation's buffer is sent once");
                let data = self.buffer(buf).to_vec();
                self.give_back(buf);
                self.ended_reads.insert(op.0);
                Content::Sectors(data)
            }
            Payload::Digests => {
                let replica = self.replica.as_ref().expect("running");
                Content::Digests(replica.encode_digests())
            }
            Payload::Bits { page } => {
                let mut bits = Box::new([0; PAGE_BIT_BYTES]);
                self.replica.as_ref().expect("running").encode_bits(page, &mut bits);
                Content::Bits(bits)
            }
        }
    }

    /// Puts what came with a message where the core expects it.
    fn take_in(
        &mut self,
        message: &Message,
        content: Content,
        conn: ConnId,
    ) -> (Option<Buf>, Vec<u8>) {
        if let Message::ReadReply { id, outcome, .. } = message {
            if self.open == Some(conn.0)
                && let Some(buf) = self.expected.remove(id)
            {
                self.unuse(buf);
                if let (Outcome::Done, Content::Sectors(data)) = (outcome, content) {
                    self.buffers[buf.0 as usize].data = data;
                }
            }
            return (None, Vec::new());
        }
        match content {
            Content::None => (None, Vec::new()),
            Content::Sectors(data) => (Some(self.take_buffer(data)), Vec::new()),
            Content::Bits(bits) => (None, bits.to_vec()),
            Content::Digests(bytes) => (None, bytes),
        }
    }

    /// Half of an answer arrives where the core expects it. False if it expects none.
    pub(crate) fn take_half(&mut self, id: u64, data: &[u32]) -> bool {
        let Some(buf) = self.expected.get(&id) else { return false };
        let (half, buffer) = (data.len() / 2, &mut self.buffers[buf.0 as usize]);
        buffer.data[..half].copy_from_slice(&data[..half]);
        true
    }

    /// The connection is gone: its answers will not come.
    pub(crate) fn expect_nothing(&mut self) {
        for (_, buf) in std::mem::take(&mut self.expected) {
            self.unuse(buf);
        }
    }

    /// The disk is in use by the core.
    pub(crate) fn has_disk(&self) -> bool {
        self.is_running() && self.seen.0 > DiskState::Failed
    }
}
