//! The pure core of a node: one fact in, a list of wishes out.
//!
//! No I/O, no clock, no thread, no lock, no randomness of its own. The daemon and the simulator drive the same code:
//!
//! ```text
//!   loop:
//!     wait for one fact ─► handle(now, input) ─► while let Some(action) = poll_action() { carry it out }
//! ```
//!
//! **The contract: after each [`Replica::handle`] every action is drained before the next fact goes in.** Asserted.
//! A fact that comes of carrying out an action (a write that ended at once) waits for its own turn.
//!
//! # The safety argument, in the order of a write's life (`request.rs`)
//!
//! 1. It waits for earlier overlapping writes ([`overlap`](self), sector-exact), so both disks apply one order.
//! 2. Its extents are in the activity log, durably, before it is submitted to any disk.
//! 3. It goes to the local disk and to the peer. Without a peer its blocks are set in the dirty bitmap first.
//! 4. With both answers it completes. With only ours it completes after the divergence is on record: bitmap, then
//!    new generation, then completion (`alone.rs`).
//! 5. It counts as unstable, and its extent stays in the log, until a flush of both disks has ended.
//!
//! When two nodes meet, [`generation::verdict`] decides; a resync (`resync.rs`) clears a bit only after the target has
//! flushed the block.

mod activity;
mod admission;
mod alone;
pub mod authority;
pub mod census;
mod clock;
mod consent;
pub mod dirty;
mod durable;
pub mod event;
mod exchange;
mod flush;
pub mod generation;
mod hello;
mod legs;
mod link;
mod losses;
mod ops;
mod order;
mod orders;
pub mod overlap;
mod pace;
mod peer_side;
mod persist;
mod pulse;
mod repair;
mod request;
mod resize;
mod rest;
mod resync;
mod role;
mod settle;
pub mod snapshot;
pub mod split_brain;
mod verify;
mod watermark;

use crate::limits::{AL_RING_BLOCKS, AL_SLOTS, PAGE_BIT_BYTES, REQUESTS_MAX};
use crate::meta::layout::Layout;
use crate::meta::records::AlTransaction;
use crate::meta::superblock::{GenerationId, NodeId, Superblock};
use crate::wire::PROTOCOL_2;
use crate::wire::message::{DiskState, Message, Role, State};
use crate::wire::policy::Policies;
use activity::ActivityLog;
use alone::Alone;
use authority::{OnPeerLost, Separation};
use consent::Consent;
use dirty::Dirty;
use durable::{MetaQueue, Step};
use event::{Action, Buf, Command, CommandId, ConnId, Input, MetaSeq, Notice, OpId, Payload, Tick};
use flush::Flusher;
use link::Link;
use ops::Ops;
use orders::Orders;
use overlap::Overlap;
use repair::Repair;
use request::Requests;
use rest::Rest;
use resync::Resync;
use role::RoleChange;
pub use snapshot::{Connection, GreetingWaits, Replication, Snapshot, StandAlone, Suspended};
use std::collections::VecDeque;
use verify::Verify;
pub use verify::{Verified, VerifyStage};
use watermark::Watermark;

/// What an operator may tune.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The peer is lost after this long without an answer, in milliseconds.
    pub peer_timeout_ms: u64,
    /// The local disk is given up after this long without an answer if the peer can take over, in milliseconds.
    pub disk_timeout_ms: u64,
    /// Slots of the activity log that are used, at most [`AL_SLOTS`]; the simulator makes do with a few.
    pub al_slots: usize,
    /// What was ordered for the case of a split brain.
    pub policies: Policies,
    /// Ask ([`event::Action::AskConsent`]) before a resync overwrites data of this node that is consistent.
    pub ask_consent: bool,
    /// Have what an order or a policy discards saved before a resync overwrites it: [`event::Discarded`].
    pub salvage: bool,
    /// What this node may do as Primary when it has lost its peer.
    pub on_peer_lost: OnPeerLost,
    /// It waits this long for the peer to come back before that, in milliseconds.
    pub ride_through_ms: u64,
    /// A digest of the whole configuration, for the peer to compare with its own; 0 if none is known.
    pub config: u64,
}

/// What the core starts from.
#[derive(Debug)]
pub struct Start {
    /// Where metadata lies on this disk.
    pub layout: Layout,
    /// The superblock as it was chosen from its copies.
    pub superblock: Superblock,
    /// The copy to write first, see `meta::recovery`.
    pub stale_copy: u8,
    /// The other node.
    pub peer: NodeId,
    /// The newest activity-log transaction. With an unreliable log the driver first sets every bit on disk, then
    /// writes a fresh log (`meta::recovery`).
    pub activity: AlTransaction,
    /// Logical block of the local disk in bytes.
    pub block_bytes: u32,
    /// The local disk can discard.
    pub discard: bool,
    /// The local disk tells holes, which read as zeroes, from data: a file does.
    pub holes: bool,
    /// What [`Replica::kept`] said last in an earlier life on this disk, if the host has not lost its power since.
    pub kept: Option<u64>,
    /// Entropy from the operating system, for generation ids.
    pub entropy: u128,
    /// The time of day at [`Tick`] 0, in milliseconds since 1970, for generation ids: people want to know when.
    pub unix_ms: u64,
    /// Tunables.
    pub settings: Settings,
}

/// A node of a resource, as a value.
#[derive(Debug)]
pub struct Replica {
    now: Tick,
    /// The time that this node ran: what its disk is measured by. Behind `now` by all gaps.
    ran: Tick,
    settings: Settings,
    peer_node: NodeId,
    block_bytes: u32,
    discard: bool,
    /// What the superblock on disk says, or will say once the queued steps are durable.
    sb: Superblock,
    /// Its copies in the order in which they are written.
    copies: [u8; 2],
    /// The step that makes `sb` durable.
    sb_durable_with: MetaSeq,
    ids: GenerationSource,
    role: Role,
    disk: DiskState,
    /// Sectors that clients see: the agreed size, or our own before the nodes met.
    sectors: u64,
    /// The earlier life of the daemon had every write that was ever completed, and its disk has them still.
    kept: bool,
    link: Link,
    requests: Requests,
    overlap: Overlap,
    ops: Ops,
    activity: ActivityLog,
    activity_sequence: u64,
    /// The transaction being encoded: kept, so that nothing is allocated.
    log_block: AlTransaction,
    layout: Layout,
    dirty: Dirty,
    meta: MetaQueue,
    flusher: Flusher,
    alone: Alone,
    separation: Separation,
    rest: Rest,
    resync: Resync,
    verify: Verify,
    repair: Repair,
    role_change: RoleChange,
    orders: Orders,
    consent: Consent,
    watermark: Watermark,
    /// The record from before this node yielded, as long as no source has overwritten anything here since.
    given_up: Option<Superblock>,
    actions: VecDeque<Action>,
    next_tick: Option<Tick>,
    counters: Counters,
    started: bool,
}

/// Sums since the start, for status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes read by clients.
    pub read_bytes: u64,
    /// Bytes written by clients.
    pub written_bytes: u64,
    /// Bytes of application data sent to the peer.
    pub sent_bytes: u64,
    /// Bytes of application data received from the peer.
    pub received_bytes: u64,
    /// Activity-log transactions written.
    pub al_writes: u64,
    /// Bitmap pages written.
    pub bitmap_writes: u64,
    /// Bytes of distinct blocks that this node wrote and the peer may not have on stable media, while they were last
    /// apart or since. Kept through the resync, so that it can be compared with what that copied.
    pub apart_bytes: u64,
    /// Bytes copied by resync, in either direction, since the last connect.
    pub resynced_bytes: u64,
    /// Of these, bytes that were zero and not sent.
    pub resynced_zero_bytes: u64,
}

impl Replica {
    /// A node with its metadata read, except for the bitmap: call [`Replica::load_page`] for each page, then
    /// [`Replica::start`].
    pub fn new(start: &Start) -> Replica {
        let sb = start.superblock;
        sb.check().expect("the superblock was checked when it was read");
        let sectors = if sb.agreed_sectors > 0 { sb.agreed_sectors } else { sb.usable_sectors };
        // The last life on this disk, or one that ended before its number was on it.
        let kept = |instance| instance == sb.instance || instance == sb.instance + 1;
        let mut replica = Replica {
            now: Tick(0),
            ran: Tick(0),
            settings: start.settings,
            peer_node: start.peer,
            block_bytes: start.block_bytes,
            discard: start.discard,
            sb,
            copies: [start.stale_copy, 1 - start.stale_copy],
            sb_durable_with: MetaSeq(0),
            ids: GenerationSource { state: start.entropy, unix_ms: start.unix_ms },
            role: Role::Secondary,
            disk: role::disk_at_start(&sb),
            sectors,
            kept: start.kept.is_some_and(kept),
            link: Link::new(Tick(0), start.settings.peer_timeout_ms),
            requests: Requests::new(),
            overlap: Overlap::with_capacity(REQUESTS_MAX),
            ops: Ops::new(),
            activity: ActivityLog::new(sb.usable_sectors, start.settings.al_slots),
            activity_sequence: 0,
            log_block: AlTransaction { sequence: 0, extents: Vec::with_capacity(AL_SLOTS) },
            layout: start.layout,
            dirty: Dirty::new(sb.usable_sectors),
            meta: MetaQueue::new(),
            flusher: Flusher::default(),
            alone: Alone::default(),
            separation: Separation::default(),
            rest: Rest::default(),
            resync: Resync::new(start.holes),
            verify: Verify::new(),
            repair: Repair::default(),
            role_change: RoleChange::default(),
            orders: Orders::default(),
            consent: Consent::default(),
            watermark: Watermark::default(),
            given_up: None,
            actions: VecDeque::with_capacity(4 * REQUESTS_MAX),
            next_tick: None,
            counters: Counters::default(),
            started: false,
        };
        replica.activity_sequence = start.activity.sequence;
        for extent in &start.activity.extents {
            replica.dirty_extent(*extent);
        }
        replica.dirty.truncate(sectors);
        replica
    }

    /// Takes in a bitmap page as it is on disk; `None` if it could not be read or was damaged: then all its blocks
    /// may differ.
    pub fn load_page(&mut self, page: u32, bits: Option<&[u8; PAGE_BIT_BYTES]>) {
        assert!(!self.started, "pages are loaded before the start");
        match bits {
            Some(bits) => self.dirty.load_page(page, bits),
            None => self.dirty.fill_page(page),
        }
    }

    /// Number of bitmap pages.
    pub fn pages(&self) -> u32 {
        self.dirty.pages()
    }

    /// Begins: what a crash left in the activity log becomes bits, durably, before anything else.
    pub fn start(&mut self, now: Tick) {
        assert!(!self.started, "a node starts once");
        self.started = true;
        self.now = now;
        self.sb.instance += 1;
        // Of two Primaries, the other may live on what it has copied from here.
        let fed_primary = self.settings.policies.dual_primary && self.sb.sole_source;
        if self.disk == DiskState::UpToDate && (!self.sb.primary || fed_primary) {
            self.link.assume_lost_primary(now);
        }
        self.sb.crashed |= self.sb.primary;
        self.sb.primary = false;
        self.meta.push(Step::Pages { stale: false });
        self.meta.push(Step::Log);
        self.write_superblock();
        self.step();
    }

    /// One fact. See the contract above.
    #[expect(clippy::needless_pass_by_value, reason = "a fact is handed over, not lent")]
    pub fn handle(&mut self, now: Tick, input: Input<'_>) {
        assert!(self.actions.is_empty(), "every action is drained before the next fact");
        assert!(self.started, "a node is started before it hears of anything");
        assert!(now >= self.now, "time does not go back");
        let gap = now.since(self.now);
        self.now = now;
        // In a gap this node did not run: what is overdue may long have been answered, only not been looked at.
        self.ran = Tick(self.ran.0 + gap.min(self.settings.disk_timeout_ms * 1000 / 4));
        self.link.pulse.gap(now, gap);
        match input {
            Input::Request { id, op } => self.on_request(id, op),
            Input::DiskDone { op, result } => self.on_disk_done(op, result),
            Input::Digests { op, digests } => self.on_digests(op, digests),
            Input::MetaDone { op, ok } => self.on_meta_done(op, ok),
            Input::Connected { conn } => self.on_connected(conn),
            Input::Received { conn, message, buf, payload } => {
                self.on_received(conn, message, buf, payload);
            }
            Input::Disconnected { conn } => self.on_disconnected(conn),
            Input::Command { id, command } => self.on_command(id, command),
            Input::Consent { answer } => self.on_consent(answer),
            Input::Fenced { id, confirmed } => self.on_fenced(id, confirmed),
            Input::DeviceStops => {
                self.role_change.device_stops();
                self.refuse_if_denied();
            }
            Input::Timeout => self.on_timeout(),
        }
        self.step();
    }

    /// The next wish, until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Timeout`] is due; `None` while nothing is waited for.
    pub fn next_timeout(&self) -> Option<Tick> {
        self.next_tick
    }

    /// The peer was Primary when it was lost, or may have been: it may serve clients still.
    pub fn has_lost_primary(&self) -> bool {
        self.link.has_lost_primary()
    }

    /// The number of this life on this disk, if the disk has every write that was ever completed, flushed or not. Not
    /// of one that was given up, which may have dropped what was in its cache.
    ///
    /// A driver notes it where it does not outlive the power, before it carries out what the core wishes: the next life
    /// starts with it. Without the note less is known of which disk has more, and nothing else is lost.
    pub fn kept(&self) -> Option<u64> {
        let has_all = self.kept || self.link.has_all();
        (has_all && self.has_disk()).then_some(self.sb.instance)
    }

    /// The node's role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What follows from what just happened, until nothing more does.
    fn step(&mut self) {
        loop {
            let before = (self.meta.durable(), self.requests.ended);
            self.pump_meta();
            self.pump_role();
            self.pump_link();
            self.pump_requests();
            self.pump_flush();
            self.pump_resync();
            self.pump_verify();
            self.pump_repair();
            self.pump_requests();
            self.pump_watermark();
            self.pump_meta();
            // The last request may just have failed, and nothing else may ever happen.
            let moved = self.pump_role();
            // A step of metadata that had nothing to write is durable at once, and somebody may wait for it; so may
            // somebody for a request that was refused.
            if (self.meta.durable(), self.requests.ended) == before && !moved {
                break;
            }
        }
        self.arm_tick();
        self.check();
    }

    /// Invariants that hold after every step.
    fn check(&self) {
        assert!(self.sb.base.is_none() || self.sb.current.is_some(), "a base needs a generation");
        assert!(
            self.disk != DiskState::UpToDate || self.sb.consistent,
            "an UpToDate disk is recorded as consistent"
        );
        assert!(self.requests.len() <= REQUESTS_MAX, "requests are bounded");
        assert!(self.link.is_up() || !self.resync.is_active(), "a resync needs a connection");
        let beside = self.verify.jobs() + self.repair.jobs();
        assert!(!self.resync.is_active() || beside == 0, "what is being copied is not compared");
    }

    fn on_command(&mut self, id: CommandId, command: Command) {
        match command {
            Command::Promote { force } => self.promote(id, force),
            Command::Demote => self.demote(id),
            Command::Detach => self.detach(id),
            Command::Disconnect => self.disconnect(id),
            Command::Connect { discard_my_data } => self.connect(id, discard_my_data),
            Command::Invalidate { peer } => self.invalidate(id, peer),
            Command::Verify => self.verify(id),
            Command::StopVerify => self.stop_verify(id),
            Command::Repair => self.repair(id),
            Command::Resize => self.resize(id),
        }
    }

    /// The state that the verdict is computed from.
    fn my_state(&self) -> State {
        State {
            current: self.sb.current,
            base: self.sb.base,
            history: self.sb.history,
            disk: self.disk,
            role: self.role,
            dirty_blocks: if self.alone.is_secured() { 0 } else { self.dirty.count() },
            crashed: self.sb.crashed,
            survivor: self.link.has_all(),
            kept: self.kept().is_some() && self.link.peer_speaks(PROTOCOL_2),
            peer_outdated: self.sb.peer_outdated,
            discard_my_data: self.orders.discard_my_data(),
            parted_primary: self.sb.base.is_some() && self.sb.parted_primary,
            policies: self.settings.policies,
            mark: self.sb.mark,
            peer_mark: self.sb.peer_mark,
        }
    }

    /// A name for an operation, with the time of the clock that it is measured by.
    fn begin_op(&mut self, owner: Owner) -> OpId {
        self.ops.begin(owner, if owner.is_at_peer() { self.now } else { self.ran })
    }

    fn has_disk(&self) -> bool {
        self.disk > DiskState::Failed
    }

    fn send(&mut self, message: Message) {
        self.send_with(message, Payload::None, MetaSeq(0));
    }

    fn send_with(&mut self, message: Message, payload: Payload, after: MetaSeq) {
        let conn = self.link.conn().expect("a message is sent on a connection");
        assert!(self.meta.is_durable(after), "a message follows the metadata it relies on");
        self.link.pulse.speak(self.now);
        self.actions.push_back(Action::Send { conn, message, payload, after });
    }

    fn release(&mut self, buf: Option<Buf>) {
        if let Some(buf) = buf {
            self.actions.push_back(Action::Release { buf });
        }
    }

    fn notify(&mut self, notice: Notice) {
        self.actions.push_back(Action::Notify(notice));
    }

    fn close(&mut self, conn: ConnId, drain: bool) {
        self.actions.push_back(Action::Close { conn, drain });
    }

    fn dirty_extent(&mut self, extent: u32) {
        let first = u64::from(extent) * crate::limits::EXTENT_BLOCKS;
        let blocks = self.sb.usable_sectors / crate::limits::BLOCK_SECTORS;
        let end = (first + crate::limits::EXTENT_BLOCKS).min(blocks);
        if first < end {
            self.dirty.set(first..end);
        }
    }
}

/// Makes generation ids that never repeat: the operating system's entropy, run through a permutation.
#[derive(Debug)]
struct GenerationSource {
    state: u128,
    unix_ms: u64,
}

impl GenerationSource {
    fn next(&mut self, now: Tick) -> GenerationId {
        // A Weyl sequence keeps the period at 2^128; the mix is that of splitmix64 on both halves
        // (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let mix = |mut z: u64| {
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        let (high, low) = ((self.state >> 64) as u64, self.state as u64);
        let low = mix(low ^ mix(high));
        let random = u128::from(mix(high ^ low)) << 64 | u128::from(low);
        GenerationId::made(self.unix_ms.wrapping_add(now.0 / 1000), random)
    }
}

fn log_ring_slot(sequence: u64) -> u32 {
    (sequence % AL_RING_BLOCKS) as u32
}

/// An operation that the core started, by what it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// The local leg of a request.
    Local(u32),
    /// The leg of a request at the peer; the id of a message.
    Peer(u32),
    /// The read of a resync job at the source.
    CopyRead(u32),
    /// A metadata write.
    Meta,
    /// The local leg of a flush of both disks.
    FlushLocal,
    /// The peer's leg of it; the id of a message.
    FlushPeer,
    /// A flush that the peer asked for.
    FlushForPeer {
        /// Its id at the peer.
        id: u64,
        /// The connection it came on.
        conn: ConnId,
        /// The watermark is raised after it.
        mark: bool,
    },
    /// The flush at the end of a resync, at the target.
    FlushForEnd,
    /// The flush of a node that becomes the only one with the newest data, for the connection on which it says so.
    FlushForSole(ConnId),
}

impl Owner {
    /// The peer answers it, not the local disk.
    fn is_at_peer(self) -> bool {
        matches!(self, Owner::Peer(_) | Owner::FlushPeer)
    }
}

impl From<OpId> for u64 {
    fn from(op: OpId) -> u64 {
        op.0
    }
}
