//! The connection to the peer, from the first word to the last.
//!
//! ```text
//!             Hello both       State both        bits both ways      durable       Ready both
//!   Down ──► Hello ─────────► State ──verdict──► Exchange ──────────► Prepare ────► Ready ────► Up
//!     ▲                                  └─ equal, fresh, one disk ──────┘  └► Yield ┘           │
//!     └──────────── refused, broken, timed out, disconnected: from anywhere ────────────────────┘
//! ```
//!
//! Where one gives up its data for the other's, each record waits for the one that it relies on:
//!
//! ```text
//!   source: Prepare: "ours may be the only good data" ── Ready ──►  target: Yield: "ours is inconsistent"
//!   source: Up:      "the peer's data is old"        ◄── Ready ──
//! ```
//!
//! Likewise a node whose data is old on record says that it is not only after the peer has ceased to count on it.
//!
//! Whatever breaks in between, the source cannot be declared invalid while the target may have yielded, and cannot be
//! promoted on the word of a target that has not.
//!
//! What was said in `State` must stay true until the connection is up: whoever changes its generation, role or disk
//! meanwhile starts the conversation anew. Frames of an older connection are dropped by its number.

use super::census::Credits;
use super::exchange::Exchange;
use super::pulse::Pulse;
use super::{Owner, Replica};
use crate::limits::{PEER_DATA_CREDITS, PEER_READ_CREDITS, PEER_ZERO_CREDITS};
use crate::replica::event::{Buf, ConnId, MetaSeq, Notice, Payload, Tick};
use crate::replica::generation::{Side, Verdict, needs_operator, verdict};
use crate::replica::snapshot::StandAlone;
use crate::wire::message::{DiskState, Hello, Message, Refusal, Role, State};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Down,
    Hello,
    State,
    Exchange,
    Prepare(MetaSeq),
    /// Only a target: the source is ready; that this node's data is inconsistent is being recorded, then the union of
    /// both bitmaps.
    Yield(MetaSeq),
    Ready,
    Up,
}

/// The connection.
#[derive(Debug)]
pub(super) struct Link {
    conn: Option<ConnId>,
    newest: Option<ConnId>,
    pub(super) phase: Phase,
    peer_hello: Option<Hello>,
    peer_state: Option<State>,
    said: Option<State>,
    pub(super) verdict: Option<Verdict>,
    pub(super) got_ready: bool,
    /// The source's flush before it is ready is under way.
    pub(super) flushing: bool,
    /// Another such flush is wanted when the one that is under way has ended: it may have begun too early.
    pub(super) flush_again: bool,
    /// The peer asked to become Primary, and is answered after that flush.
    pub(super) owes_answer: bool,
    pub(super) exchange: Exchange,
    peer_role: Role,
    peer_disk: DiskState,
    has_all: bool,
    /// The peer was Primary when it was lost, and when that was.
    lost_primary: Option<Tick>,
    /// The peer greets this node, and cannot be up by itself: it was not told that this node is ready.
    peer_noticed: bool,
    /// Its signs of life.
    pub(super) pulse: Pulse,
    /// When this node began to greet, perhaps on an earlier connection.
    began: Tick,
    /// What we have out at the peer, and what it has out here.
    out: Credits,
    taken: Credits,
    last_refusal: Option<(bool, Refusal)>,
    /// What the peer said of itself when the nodes last met, its role and disk as it said last; kept when the
    /// connection ends, and for people alone.
    met: Option<State>,
    peer_left: bool,
}

impl Link {
    pub(super) fn new(now: Tick, timeout_ms: u64) -> Link {
        Link {
            conn: None,
            newest: None,
            phase: Phase::Down,
            peer_hello: None,
            peer_state: None,
            said: None,
            verdict: None,
            got_ready: false,
            flushing: false,
            flush_again: false,
            owes_answer: false,
            exchange: Exchange::default(),
            peer_role: Role::Secondary,
            peer_disk: DiskState::Diskless,
            has_all: false,
            lost_primary: None,
            peer_noticed: false,
            pulse: Pulse::of(now, timeout_ms),
            began: now,
            out: Credits::default(),
            taken: Credits::default(),
            last_refusal: None,
            met: None,
            peer_left: false,
        }
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        self.conn
    }

    pub(super) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// A connection exists and has not come up yet.
    pub(super) fn is_greeting(&self) -> bool {
        self.conn.is_some() && !self.is_up()
    }

    /// The peer was told that nothing is out of sync: until it is up, nothing may become so.
    pub(super) fn said_clean(&self) -> bool {
        self.said.is_some_and(|said| said.dirty_blocks == 0)
    }

    /// The peer was sent this node's bitmap, or is being sent it.
    pub(super) fn has_sent_bitmap(&self) -> bool {
        matches!(self.phase, Phase::Exchange | Phase::Prepare(_) | Phase::Yield(_) | Phase::Ready)
    }

    /// The peer was told what this node's data is, and decides.
    pub(super) fn has_said(&self) -> bool {
        self.said.is_some()
    }

    /// The peer has told this node what its data is.
    pub(super) fn peer_has_said(&self) -> bool {
        self.peer_state.is_some()
    }

    /// The peer has an UpToDate disk, as it said during the greeting that is under way.
    pub(super) fn greets_good_disk(&self) -> bool {
        let good = |state: State| state.disk == DiskState::UpToDate;
        self.is_greeting() && self.peer_state.is_some_and(good)
    }

    /// This node has every write that was ever completed, since it met the peer in this life of the daemon.
    pub(super) fn has_all(&self) -> bool {
        self.has_all
    }

    /// What the peer said last of its role on this connection. During the greeting it may be up already.
    fn peer_is_primary(&self) -> bool {
        let said = self.peer_state.is_some_and(|state| state.role == Role::Primary);
        if self.is_up() { self.peer_role == Role::Primary } else { self.is_greeting() && said }
    }

    /// A Primary that was lost so recently may not have noticed, and serves its clients still.
    pub(super) fn may_serve_elsewhere(&self, now: Tick, timeout_ms: u64) -> bool {
        self.peer_is_primary()
            || self.lost_primary.is_some_and(|lost| now < lost.plus_ms(2 * timeout_ms))
    }

    /// The peer was Primary when it was lost, and has not been met since.
    pub(super) fn has_lost_primary(&self) -> bool {
        self.lost_primary.is_some()
    }

    /// The peer knows that it had lost this node.
    pub(super) fn peer_noticed(&self) -> bool {
        self.peer_noticed
    }

    /// This node has just started: a peer that was Primary then, on this node's data, may not have noticed.
    pub(super) fn assume_lost_primary(&mut self, now: Tick) {
        self.lost_primary = Some(now);
    }

    pub(super) fn peer_role(&self) -> Role {
        self.peer_role
    }

    pub(super) fn peer_disk(&self) -> DiskState {
        self.peer_disk
    }

    pub(super) fn set_peer_disk(&mut self, disk: DiskState) {
        self.peer_disk = disk;
        if let Some(met) = &mut self.met {
            met.disk = disk;
        }
    }

    pub(super) fn set_peer_role(&mut self, role: Role) {
        self.peer_role = role;
        if let Some(met) = &mut self.met {
            met.role = role;
        }
    }

    /// The peer has a disk that takes writes.
    pub(super) fn peer_has_disk(&self) -> bool {
        self.peer_disk > DiskState::Failed
    }

    /// The peer's disk has the newest data.
    pub(super) fn peer_can_read(&self) -> bool {
        self.is_up() && self.peer_disk == DiskState::UpToDate
    }

    pub(super) fn peer_hello(&self) -> Option<&Hello> {
        self.peer_hello.as_ref()
    }

    pub(super) fn met(&self) -> Option<&State> {
        self.met.as_ref()
    }

    pub(super) fn last_refusal(&self) -> Option<(bool, Refusal)> {
        self.last_refusal
    }

    /// The last connection ended with the peer's goodbye.
    pub(super) fn peer_left(&self) -> bool {
        self.peer_left
    }

    pub(super) fn set_peer_left(&mut self) {
        self.peer_left = true;
    }

    /// Whoever is there says nothing of who he is, whatever else he says: a peer does so at once.
    pub(super) fn has_not_greeted(&self, now: Tick, limit_us: u64) -> bool {
        self.phase == Phase::Hello && now.since(self.pulse.began()) >= limit_us
    }

    pub(super) fn began(&self) -> Tick {
        self.began
    }

    pub(super) fn has_data_credit(&self) -> bool {
        self.peer_hello.is_some_and(|hello| self.out.data < usize::from(hello.data_credits))
    }

    pub(super) fn has_read_credit(&self) -> bool {
        self.peer_hello.is_some_and(|hello| self.out.read < usize::from(hello.read_credits))
    }

    pub(super) fn has_zero_credit(&self) -> bool {
        self.peer_hello.is_some_and(|hello| self.out.zero < usize::from(hello.zero_credits))
    }

    /// What we have out at the peer, and what it has out here.
    pub(super) fn credits(&self) -> (Credits, Credits) {
        (self.out, self.taken)
    }

    /// A request goes out.
    pub(super) fn take_credit(&mut self, message: &Message) {
        if let Some(count) = counted(&mut self.out, message) {
            *count += 1;
        }
    }

    /// The answer to a request of that kind came in.
    pub(super) fn return_credit(&mut self, request: &Message) {
        if let Some(count) = counted(&mut self.out, request) {
            assert!(*count > 0, "credits are returned once");
            *count -= 1;
        }
    }

    /// A request of the peer came in. False if it has more out than we allowed.
    pub(super) fn count_in(&mut self, message: &Message) -> bool {
        let limits = Credits {
            data: PEER_DATA_CREDITS,
            read: PEER_READ_CREDITS,
            zero: PEER_ZERO_CREDITS,
            flush: 1,
        };
        let mut limits = limits;
        let limit = counted(&mut limits, message).copied().unwrap_or(0);
        match counted(&mut self.taken, message) {
            Some(count) if *count < limit => {
                *count += 1;
                true
            }
            _ => false,
        }
    }

    /// A request of the peer, of that kind, has been answered.
    pub(super) fn count_out(&mut self, request: &Message) {
        if let Some(count) = counted(&mut self.taken, request) {
            assert!(*count > 0, "each request of the peer is answered once");
            *count -= 1;
        }
    }

    pub(super) fn peer_flush_answered(&mut self) {
        self.taken.flush = 0;
    }

    fn begin(&mut self, conn: ConnId, now: Tick, timeout_ms: u64) {
        let has_all = self.has_all;
        let (last_refusal, lost_primary) = (self.last_refusal, self.lost_primary);
        let (met, peer_noticed) = (self.met, self.peer_noticed);
        *self = Link::new(now, timeout_ms);
        self.met = met;
        self.peer_noticed = peer_noticed;
        self.lost_primary = lost_primary;
        self.conn = Some(conn);
        self.newest = Some(conn);
        self.phase = Phase::Hello;
        self.has_all = has_all;
        self.last_refusal = last_refusal;
    }

    fn end(&mut self) {
        self.conn = None;
        self.pulse.end();
        self.exchange = Exchange::default();
        self.phase = Phase::Down;
        self.said = None;
        self.verdict = None;
        self.flush_again = false;
        self.owes_answer = false;
        self.peer_disk = DiskState::Diskless;
        self.peer_role = Role::Secondary;
        self.out = Credits::default();
        self.taken = Credits::default();
    }
}

/// The counter that a message takes from: what holds a buffer, or a place in a queue, at its receiver.
fn counted<'a>(credits: &'a mut Credits, message: &Message) -> Option<&'a mut usize> {
    match message {
        Message::Write { .. } | Message::ResyncData { .. } => Some(&mut credits.data),
        Message::WriteZero { .. } | Message::ResyncZero { .. } => Some(&mut credits.zero),
        Message::Read { .. } | Message::DigestAsk { .. } => Some(&mut credits.read),
        Message::Flush { .. } => Some(&mut credits.flush),
        _ => None,
    }
}

impl Replica {
    pub(super) fn on_connected(&mut self, conn: ConnId) {
        let unwanted = self.role_change.is_leaving() || !self.wants_peer();
        if unwanted || self.link.newest.is_some_and(|newest| conn <= newest) {
            self.close(conn, false);
            return;
        }
        // To clients that wait for it, one greeting that replaces another is the same one: a peer that dials again and
        // again must not hold them for ever.
        let began = if self.link.is_greeting() { self.link.began } else { self.now };
        if self.link.conn.is_some() {
            // The peer would not have dialled while the old one lived.
            self.drop_link("replaced by a newer connection");
        }
        self.link.begin(conn, self.now, self.settings.peer_timeout_ms);
        self.link.began = began;
        self.send(Message::Hello(self.my_hello()));
        self.notify(Notice::State);
    }

    pub(super) fn on_disconnected(&mut self, conn: ConnId) {
        if self.link.conn == Some(conn) {
            self.link_lost();
        }
    }

    /// A message of the peer. Whatever it is, it never panics: a peer that breaks the rules loses the connection.
    pub(super) fn on_received(
        &mut self,
        conn: ConnId,
        message: Message,
        buf: Option<Buf>,
        payload: &[u8],
    ) {
        if self.link.conn != Some(conn) {
            self.release(buf);
            return;
        }
        self.link.pulse.hear(self.now);
        match (self.link.phase, message) {
            (_, Message::Ping) => self.send(Message::Pong),
            (_, Message::Pong) => self.link.pulse.ponged(self.now),
            (_, Message::Refuse(reason)) => self.refused(true, reason),
            (_, Message::Bye { outdated }) => self.on_bye(outdated),
            (Phase::Hello, Message::Hello(hello)) => self.on_hello(&hello),
            (Phase::State, Message::State(state)) if self.link.peer_state.is_none() => {
                self.link.peer_state = Some(state);
                self.link.met = Some(state);
            }
            (
                Phase::Exchange,
                Message::BitmapPage { .. }
                | Message::BitmapFull { .. }
                | Message::BitmapAck
                | Message::BitmapEnd,
            ) => self.on_bitmap(message, payload),
            (Phase::Prepare(_) | Phase::Ready, Message::Ready) if !self.link.got_ready => {
                self.link.got_ready = true;
            }
            (Phase::Up, Message::DigestReply { id, span, outcome }) => {
                if !self.on_digest_reply(id, span, outcome, payload) {
                    self.broken("digests of nothing that was asked for");
                }
            }
            (Phase::Up, _) => self.on_peer_message(conn, message, buf),
            _ => {
                self.release(buf);
                self.broken("a message out of turn");
            }
        }
    }

    fn on_hello(&mut self, hello: &Hello) {
        if let Err(refusal) = self.check_hello(hello) {
            self.refuse(refusal);
            return;
        }
        self.link.peer_hello = Some(*hello);
        self.link.peer_noticed = true;
        if self.greets_in_vain() {
            self.drop_link("clients wait, and this peer does not get through its greetings");
            return;
        }
        self.alone_if_awaited();
        self.link.phase = Phase::State;
    }

    /// Moves the greeting on as far as it goes.
    pub(super) fn pump_link(&mut self) {
        loop {
            let before = (self.link.conn, self.link.phase);
            match self.link.phase {
                Phase::State => self.pump_state(),
                Phase::Exchange => self.pump_exchange(),
                Phase::Prepare(after) if self.meta.is_durable(after) && !self.link.flushing => {
                    self.prepared(after);
                }
                Phase::Yield(after) if self.meta.is_durable(after) => self.yielded(after),
                Phase::Ready if self.link.got_ready => self.link_is_up(),
                _ => {}
            }
            if before == (self.link.conn, self.link.phase) {
                return;
            }
        }
    }

    /// Says what this node's data is, once that is durable, and decides when the peer has said the same.
    fn pump_state(&mut self) {
        if self.link.said.is_none() {
            let after = self.sb_durable_with;
            let undecided = !self.meta.is_durable(after) && self.has_disk();
            if undecided || self.alone.is_recording() || self.role_change.is_busy() {
                return;
            }
            // Nothing may overtake them. Not later than here: a peer that was sent no bitmap can go on alone meanwhile.
            if self.has_orphans() || self.rests_until().is_some() {
                return;
            }
            let state = self.my_state();
            self.link.said = Some(state);
            let after = if self.has_disk() { after } else { MetaSeq(0) };
            self.send_with(Message::State(state), Payload::None, after);
        }
        let (Some(said), Some(peer_state)) = (self.link.said, self.link.peer_state) else { return };
        let now = self.my_state();
        let changed = (said.current, said.base, said.disk, said.role)
            != (now.current, now.base, now.disk, now.role)
            || (said.dirty_blocks == 0 && now.dirty_blocks > 0);
        // Whatever changes these drops the connection itself; this is for the one that is forgotten.
        if changed {
            self.drop_link("this node's state changed during the greeting");
            return;
        }
        let me = Side { node: self.sb.node, state: &said };
        let peer = Side { node: self.peer_node, state: &peer_state };
        let found = verdict(me, peer);
        if self.catches_up_in_size(found) || self.takes_step_back(found, &said, &peer_state) {
            return;
        }
        self.link.verdict = Some(found);
        match found {
            Verdict::Refuse(reason) => {
                // Requests that waited for this peer's disk wait in vain.
                let needed = self.role == Role::Primary && !self.has_disk();
                if needed && matches!(reason, Refusal::NoSource | Refusal::DataLost) {
                    self.alone.set_data_lost(true);
                }
                self.refuse(reason);
            }
            Verdict::StepDown { me, void } => {
                if me {
                    self.must_step_down(void);
                }
                self.refuse(Refusal::PrimaryMustStepDown);
            }
            Verdict::Target { full } => {
                let discarded = self.discarded_by(me, peer, full.is_some());
                self.may_be_target(found, discarded);
            }
            Verdict::Source { .. } => self.start_exchange(found),
            Verdict::Equal | Verdict::Fresh | Verdict::OneDisk => self.prepare(),
        }
    }

    /// What the verdict changes, durably, before this node is ready, or yields.
    pub(super) fn prepare(&mut self) {
        let (Some(found), Some(hello), Some(peer)) =
            (self.link.verdict, self.link.peer_hello, self.link.peer_state)
        else {
            unreachable!("a verdict follows both greetings");
        };
        let before = self.sb;
        let Ok(agreed) = self.agree_on_size(&hello) else {
            self.refuse(Refusal::Size);
            return;
        };
        self.set_size(agreed);
        match found {
            Verdict::Equal => {
                self.sb.peer_mark = peer.mark;
                // A peer that counts on it goes on without asking anybody: until it is ready, and does so no more.
                self.sb.outdated &= peer.peer_outdated && !self.sb.peer_outdated;
                self.sb.peer_outdated = false;
                self.sb.sole_source = false;
                self.sb.crashed = false;
                self.sb.base = None;
            }
            Verdict::Source { .. } => {
                self.sb.peer_mark = self.sb.peer_mark.max(peer.mark);
                self.sb.sole_source = true;
                self.flush_for_start();
            }
            Verdict::Target { .. } | Verdict::Fresh | Verdict::OneDisk => {}
            Verdict::Refuse(_) | Verdict::StepDown { .. } => {}
        }
        let after = if self.sb == before || !self.has_disk() {
            self.sb_durable_with
        } else {
            self.write_superblock()
        };
        self.link.phase = Phase::Prepare(if self.has_disk() { after } else { MetaSeq(0) });
    }

    /// What this node needs for itself is durable. A target yields only to a source that is ready for it, and data is
    /// old on record until a peer that counts on that is ready.
    fn prepared(&mut self, after: MetaSeq) {
        let (Some(found), Some(peer)) = (self.link.verdict, self.link.peer_state) else {
            unreachable!("a verdict follows both greetings");
        };
        match found {
            Verdict::Target { .. } if self.link.got_ready => {
                self.link.phase = Phase::Yield(self.yield_to(&peer));
            }
            Verdict::Equal if self.sb.outdated && self.link.got_ready => {
                self.sb.outdated = false;
                self.link.phase = Phase::Prepare(self.write_superblock());
            }
            Verdict::Target { .. } => {}
            Verdict::Equal if self.sb.outdated => {}
            _ => self.say_ready(after),
        }
    }

    /// The record that this node's data is inconsistent is durable; then the union of both bitmaps must be.
    fn yielded(&mut self, after: MetaSeq) {
        if self.link.exchange.is_joined() {
            self.say_ready(after);
        } else {
            self.link.phase = Phase::Yield(self.join_bitmaps());
        }
    }

    fn say_ready(&mut self, after: MetaSeq) {
        self.link.peer_noticed = false;
        self.send_with(Message::Ready, Payload::None, after);
        self.link.phase = Phase::Ready;
    }

    fn link_is_up(&mut self) {
        let (Some(found), Some(peer)) = (self.link.verdict, self.link.peer_state) else {
            unreachable!("a connection comes up after its verdict");
        };
        self.link.phase = Phase::Up;
        self.link.pulse.link_is_up(self.now);
        self.given_up = None;
        // The bits of a Primary without a disk: what the peer had accepted, and may have lost when it was started anew.
        // A Secondary without one says nothing of what its disk had, and that may come back.
        let told = peer.role == Role::Primary && peer.dirty_blocks == 0;
        self.link.has_all |= found != Verdict::OneDisk || told;
        self.link.lost_primary = None;
        self.link.last_refusal = None;
        self.link.peer_role = peer.role;
        self.orders.keep_my_data();
        self.consent.void();
        self.counters.resynced_bytes = 0;
        self.counters.resynced_zero_bytes = 0;
        match found {
            Verdict::Equal => {
                self.disk = DiskState::UpToDate;
                self.link.peer_disk = DiskState::UpToDate;
            }
            Verdict::Fresh => self.link.peer_disk = DiskState::Inconsistent,
            Verdict::OneDisk => self.up_with_one_disk(&peer),
            Verdict::Source { .. } => {
                self.disk = DiskState::UpToDate;
                self.link.peer_disk = DiskState::Inconsistent;
                // Not before: the peer has it on record by now, and nobody makes it Primary without force.
                if !std::mem::replace(&mut self.sb.peer_outdated, true) {
                    self.write_superblock();
                }
                let union = self.join_bitmaps();
                self.resync_begins(true, union);
            }
            Verdict::Target { .. } => {
                self.link.peer_disk = DiskState::UpToDate;
                self.resync_begins(false, MetaSeq(0));
            }
            Verdict::Refuse(_) | Verdict::StepDown { .. } => {
                unreachable!("a refused connection does not come up")
            }
        }
        self.separation.ends();
        self.rest.link_is_up(self.now);
        self.role_change_found_peer();
        if self.link.peer_has_disk() {
            self.requests_found_peer();
            self.flush_found_peer();
        } else {
            self.alone_if_awaited();
        }
        self.notify(Notice::State);
    }

    fn up_with_one_disk(&mut self, peer: &State) {
        if self.has_disk() {
            self.link.peer_disk = DiskState::Diskless;
            if peer.role == Role::Primary {
                self.disk = DiskState::UpToDate; // the verdict: ours is the very data it works on
            }
        } else {
            self.link.peer_disk = peer.disk;
            if self.role == Role::Primary {
                self.link.peer_disk = DiskState::UpToDate;
                self.alone.set_data_lost(false);
                self.ask_peer_to_own();
            }
        }
    }

    pub(super) fn refuse(&mut self, reason: Refusal) {
        self.send(Message::Refuse(reason));
        self.refused(false, reason);
    }

    fn refused(&mut self, by_peer: bool, reason: Refusal) {
        self.link.last_refusal = Some((by_peer, reason));
        self.notify(Notice::Refused { by_peer, reason });
        // Said by our peer, not by a stranger at its address.
        let policies = &self.settings.policies;
        if needs_operator(reason, policies) && self.link.peer_hello.is_some() {
            self.stand_alone(StandAlone::Refused(reason));
        }
        if let Some(conn) = self.link.conn {
            self.close(conn, true);
        }
        self.link_lost();
    }

    /// The peer does what no correct peer does.
    pub(super) fn broken(&mut self, why: &'static str) {
        self.notify(Notice::PeerBroken(why));
        self.drop_link(why);
    }

    /// Ends the connection from this side.
    pub(super) fn drop_link(&mut self, _why: &'static str) {
        if let Some(conn) = self.link.conn {
            self.close(conn, false);
            self.link_lost();
        }
    }

    /// The connection is gone. From here its frames are strangers.
    pub(super) fn link_lost(&mut self) {
        let was_up = self.link.is_up();
        let was_in_sync = was_up && self.link.peer_disk == DiskState::UpToDate;
        if was_in_sync && self.disk == DiskState::UpToDate {
            self.counters.apart_bytes = 0;
        }
        if was_up {
            self.rest.link_is_down(self.now);
        }
        self.resync_stops();
        self.repair.forget_epochs();
        if self.link.peer_is_primary() {
            self.link.lost_primary = Some(self.now);
        }
        self.link.end();
        self.watermark.forget();
        self.ops.forget(|owner| matches!(owner, Owner::Peer(_) | Owner::FlushPeer));
        self.unstable_becomes_dirty();
        self.alone.forget_owner();
        self.requests_lost_peer();
        self.flush_lost_peer();
        self.role_change_lost_peer();
        if was_up && self.follows() && !self.sb.peer_outdated {
            // A Primary that vanished may have gone on: whether this is the newest data is not known any more. A node
            // that is becoming Primary has the peer's word that it is not one.
            if self.disk == DiskState::UpToDate {
                self.disk = DiskState::Consistent;
                self.lost_in_sync();
            }
        }
        if self.disk == DiskState::Outdated && !self.sb.outdated {
            self.disk = DiskState::Consistent; // by its record: the greeting has found it equal, and broke off then
        }
        self.alone_if_awaited();
        self.notify(Notice::State);
    }
}
