//! Verify: do both disks hold the same? Block by block, beside the clients' writes.
//!
//! ```text
//!  node that verifies                                              peer
//!  next span ─► overlap index (locks it) ─┬─► read ─► digests      |
//!                                         └─► DigestAsk ─────────► overlap index (locks it) ─► read ─► digests
//!  compare, unlock ◄───────────────────────── DigestReply ────────────────────────────────────────────┘
//! ```
//!
//! - Both ends hold the span while they read: no write is half done, so digests that differ are disks that differ.
//! - A span that the peer's own clients are writing just then is skipped there and asked for again: their writes wait
//!   for this node's lock, so the peer must not wait for them. Of two nodes that both verify, the one with the lower
//!   number goes first.
//! - What is marked out of sync already is no news and not counted.
//! - A connection that breaks does not end a verify: it goes on where it was once both disks are UpToDate again. What a
//!   resync has copied meanwhile is equal.
//! - Nothing tells which of two blocks is the right one. So a difference is remembered and told, and no mark is set:
//!   with marks, the next greeting would copy one over the other, in a direction that nobody chose. An operator
//!   chooses, and has it repaired from there: `repair.rs`.
//! - A span with which the connection broke three times is given up: a disk that takes longer to read it than the nodes
//!   wait for each other must not part them again and again.

use super::Replica;
use super::pace::Pace;
use super::request::{Kind, Leg, Phase, Request};
use super::resync::SKIPPED_PAUSE_MS;
use crate::limits::{
    BLOCK_BYTES, BLOCK_SECTORS, DIFFERENCES_MAX, IO_BYTES_MAX, VERIFY_JOBS_MAX, VERIFY_TRIES_MAX,
};
use crate::replica::event::{
    CommandError, CommandId, DiskResult, MetaSeq, Notice, OpId, Payload, Tick,
};
use crate::span::Span;
use crate::wire::PROTOCOL_2;
use crate::wire::digest::{self, Digests};
use crate::wire::message::{DiskState, Message, Outcome, Role};
use std::collections::VecDeque;
use std::ops::Range;

/// A span is given up if the connection broke so often while both were asked to read it.
const BROKE_MAX: u8 = 3;
/// The peer counts as verifying for this long after its last question, in milliseconds.
const ASKED_MS: u64 = 1_000;

/// Where a verify stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VerifyStage {
    /// None was begun in this life of the daemon.
    #[default]
    Never,
    /// Blocks are being compared, or will be once both disks are UpToDate again.
    Running,
    /// An operator ended it.
    Stopped,
    /// All blocks were looked at.
    Done,
    /// This node's disk was given up: it is attached again by a new start.
    BrokenOff,
    /// All blocks were looked at, and what differed is being copied to the peer; then it is done again.
    Repairing,
}

/// The verify that runs, or the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verified {
    /// Where it stands.
    pub stage: VerifyStage,
    /// When it began.
    pub began: Tick,
    /// When it ended, if it has.
    pub ended: Tick,
    /// What there is to look at, in bytes.
    pub total_bytes: u64,
    /// Of that, done.
    pub done_bytes: u64,
    /// Of that, different on the two disks, not marked out of sync by anything else, and not repaired since.
    pub differing_bytes: u64,
    /// Of that, not readable on this node's disk.
    pub unreadable_bytes: u64,
    /// Of that, not readable on the peer's disk, and not written anew there since.
    pub peer_unreadable_bytes: u64,
    /// Of that, left out: clients of the peer were writing there at each attempt.
    pub busy_bytes: u64,
    /// What the last repair was to copy, in bytes.
    pub repair_bytes: u64,
    /// Of that, copied to the peer, and stable there.
    pub repaired_bytes: u64,
}

/// A span that is being compared.
#[derive(Debug)]
struct Job {
    at: u32,
    again: Again,
    own: Option<Digests>,
    peers: Option<Digests>,
    skipped: bool,
}

/// A span, how often it was skipped, and how often the connection broke with it; not before its time.
#[derive(Clone, Copy, Debug)]
struct Again {
    span: Span,
    tries: u16,
    broke: u8,
    at: Tick,
}

/// The verify of this node, and what it does for the peer's.
#[derive(Debug)]
pub(super) struct Verify {
    verified: Verified,
    /// The next block that was not tried.
    cursor: u64,
    jobs: Vec<Job>,
    again: VecDeque<Again>,
    pub(super) pace: Pace,
    pub(super) differences: Vec<Range<u64>>,
    /// Of those, the blocks that the peer's disk did not read: whether they differ is not known.
    unread: Vec<Range<u64>>,
    /// What was read for the peer by the operation that has just ended.
    for_peer: Option<Digests>,
    /// The peer's last question.
    asked: Option<Tick>,
}

impl Verify {
    pub(super) fn new() -> Verify {
        Verify {
            verified: Verified::default(),
            cursor: 0,
            jobs: Vec::with_capacity(VERIFY_JOBS_MAX),
            again: VecDeque::with_capacity(2 * VERIFY_JOBS_MAX),
            pace: Pace::new(),
            differences: Vec::new(),
            unread: Vec::new(),
            for_peer: None,
            asked: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.verified.stage == VerifyStage::Running
    }

    pub(super) fn is_repairing(&self) -> bool {
        self.verified.stage == VerifyStage::Repairing
    }

    /// Spans that are being compared.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// The peer was asking a moment ago.
    fn serves_peer(&self, now: Tick) -> bool {
        self.asked.is_some_and(|at| now < at.plus_ms(ASKED_MS))
    }

    /// A client's request that came at `arrived` is answered, beside so many jobs of a repair.
    pub(super) fn request_ends(&mut self, arrived: Tick, now: Tick, repairs: usize) {
        if self.is_running() || self.is_repairing() {
            self.pace.request_ends(arrived, now, self.jobs.len() + repairs);
        } else {
            self.pace.request_ends_alone(arrived, now);
        }
    }

    fn begin(&mut self, now: Tick, sectors: u64) {
        assert!(self.jobs.is_empty(), "what an earlier verify compares is not counted here");
        self.verified = Verified {
            stage: VerifyStage::Running,
            began: now,
            total_bytes: sectors / BLOCK_SECTORS * BLOCK_BYTES,
            ..Verified::default()
        };
        self.cursor = 0;
        self.again.clear();
        self.differences.clear();
        self.unread.clear();
        self.pace.begins(now);
    }

    /// The volume has grown.
    pub(super) fn widen(&mut self, sectors: u64) {
        if self.is_running() {
            self.verified.total_bytes = sectors / BLOCK_SECTORS * BLOCK_BYTES;
        }
    }

    /// The blocks that are listed are being copied.
    pub(super) fn repair_begins(&mut self, blocks: u64, now: Tick) {
        self.verified.stage = VerifyStage::Repairing;
        self.verified.repair_bytes = blocks * BLOCK_BYTES;
        self.verified.repaired_bytes = 0;
        self.pace.begins(now);
    }

    /// These blocks of the list are equal now, on stable media.
    pub(super) fn repaired(&mut self, blocks: &Range<u64>) {
        let common = |run: &Range<u64>| {
            run.end.min(blocks.end).saturating_sub(run.start.max(blocks.start)) * BLOCK_BYTES
        };
        let (all, unread) = (common(blocks), self.unread.iter().map(common).sum::<u64>());
        self.verified.repaired_bytes += all;
        // What is only told is no reason to end: a sum that does not fit is the simulator's to find.
        let found = &mut self.verified;
        debug_assert!(
            found.peer_unreadable_bytes >= unread && found.differing_bytes >= all - unread
        );
        found.peer_unreadable_bytes = found.peer_unreadable_bytes.saturating_sub(unread);
        found.differing_bytes = found.differing_bytes.saturating_sub(all - unread);
    }

    /// What was found and is not repaired.
    pub(super) fn repair_ends(&mut self, mut left: Vec<Range<u64>>) {
        left.sort_unstable_by_key(|run| run.start);
        for run in left {
            match self.differences.last_mut() {
                Some(last) if last.end >= run.start => last.end = last.end.max(run.end),
                _ => self.differences.push(run),
            }
        }
        self.verified.stage = VerifyStage::Done; // when it was verified, it was
    }

    fn end(&mut self, now: Tick, stage: VerifyStage) {
        self.verified.stage = stage;
        self.verified.ended = now;
    }

    /// The next span to compare.
    fn next(&mut self, now: Tick, sectors: u64) -> Option<Again> {
        if self.again.front().is_some_and(|again| again.at <= now) {
            return self.again.pop_front();
        }
        let end = sectors / BLOCK_SECTORS;
        // Each span that is begun may have to be tried again: no more wait for that than there is room for.
        if self.cursor >= end || self.again.len() >= VERIFY_JOBS_MAX {
            return None;
        }
        let blocks = (end - self.cursor).min(IO_BYTES_MAX as u64 / BLOCK_BYTES);
        let span = Span::of_blocks(self.cursor..self.cursor + blocks)?;
        self.cursor += blocks;
        Some(Again { span, tries: 0, broke: 0, at: now })
    }

    /// True if every span was compared or given up.
    fn is_over(&self, sectors: u64) -> bool {
        let left = self.cursor < sectors / BLOCK_SECTORS;
        self.jobs.is_empty() && self.again.is_empty() && !left
    }

    fn job(&mut self, at: u32) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.at == at)
    }

    fn take(&mut self, at: u32, now: Tick) -> Option<Job> {
        let place = self.jobs.iter().position(|job| job.at == at)?;
        self.pace.job_ends(now);
        Some(self.jobs.swap_remove(place))
    }

    fn try_again(&mut self, again: Again) {
        assert!(self.again.len() < 2 * VERIFY_JOBS_MAX, "no more spans wait than were begun");
        self.again.push_back(again);
    }

    /// The span was not compared since clients write it: later, or never.
    fn skipped(&mut self, again: Again, now: Tick) {
        if again.tries >= VERIFY_TRIES_MAX {
            self.verified.busy_bytes += again.span.bytes();
            self.verified.done_bytes += again.span.bytes();
        } else {
            let at = now.plus_ms(SKIPPED_PAUSE_MS);
            self.try_again(Again { tries: again.tries + 1, at, ..again });
        }
    }

    fn differs(&mut self, block: u64) {
        list(&mut self.differences, block);
    }

    /// The peer's disk does not read the span.
    fn is_unread(&mut self, span: Span) {
        self.verified.peer_unreadable_bytes += span.bytes();
        for block in span.blocks() {
            // What finds no room here must not be repaired: nobody would know what it was.
            if list(&mut self.unread, block) {
                self.differs(block);
            }
        }
    }
}

/// False if there is no room: the next verify finds it.
fn list(runs: &mut Vec<Range<u64>>, block: u64) -> bool {
    let full = runs.len() >= DIFFERENCES_MAX;
    match runs.last_mut() {
        Some(last) if last.end == block => last.end += 1,
        // Not with those before it: what lies between is not known to differ, or to be readable.
        _ if full => return false,
        _ => runs.push(block..block + 1),
    }
    true
}

impl Replica {
    /// The verify that runs, or the last one.
    pub fn verified(&self) -> &Verified {
        &self.verify.verified
    }

    /// Runs of blocks that the last verify found to differ and that were not repaired since. If there are more than
    /// [`DIFFERENCES_MAX`], the others are not listed, and are found by the next verify.
    pub fn differences(&self) -> &[Range<u64>] {
        &self.verify.differences
    }

    /// The digests that the message just sent has as its payload.
    pub fn encode_digests(&self) -> Vec<u8> {
        self.verify.for_peer.as_ref().expect("digests are sent when they are read").encode()
    }

    pub(super) fn verify(&mut self, id: CommandId) {
        let result = match self.cannot_verify() {
            Some(error) => Err(error),
            None => {
                self.verify.begin(self.now, self.sectors);
                self.notify(Notice::VerifyBegins);
                Ok(())
            }
        };
        self.reply(id, result);
    }

    pub(super) fn cannot_verify(&self) -> Option<CommandError> {
        let jobs = self.verify.jobs() + self.repair.jobs();
        if self.verify.is_running() || self.verify.is_repairing() || jobs > 0 {
            Some(CommandError::Verifying)
        } else if !self.link.is_up() {
            Some(CommandError::PeerAway)
        } else if !self.link.peer_speaks(PROTOCOL_2) {
            Some(CommandError::PeerTooOld)
        } else if self.resync.is_active() {
            Some(CommandError::Resyncing)
        } else if !self.has_disk() {
            Some(CommandError::NoDisk)
        } else if self.disk != DiskState::UpToDate {
            Some(CommandError::NotUpToDate(self.disk))
        } else {
            (!self.link.peer_can_read()).then_some(CommandError::PeerNotUpToDate)
        }
    }

    pub(super) fn stop_verify(&mut self, id: CommandId) {
        if self.verify.is_running() {
            self.verify.end(self.now, VerifyStage::Stopped);
            self.notify(Notice::VerifyEnds);
        } else if self.verify.is_repairing() {
            self.stop_repair();
        }
        self.reply(id, Ok(()));
    }

    /// Both disks hold what they should, as far as anybody knows.
    pub(super) fn may_compare(&self) -> bool {
        self.disk == DiskState::UpToDate
            && self.link.peer_can_read()
            && self.link.peer_speaks(PROTOCOL_2)
            && !self.resync.is_active()
            && !self.role_change.is_leaving()
    }

    pub(super) fn pump_verify(&mut self) {
        if self.verify.is_running() && !self.has_disk() {
            self.verify.end(self.now, VerifyStage::BrokenOff);
            self.notify(Notice::VerifyEnds);
        }
        if !self.compares() {
            return;
        }
        let pending = self.serves_clients();
        let paced = self.verify.pace.window(self.now, pending).min(VERIFY_JOBS_MAX);
        // Its own clients are not slowed, but those of the peer may be, and this node does not see how long they wait.
        let idle = !self.verify.pace.has_clients(self.now, pending);
        let elsewhere = self.link.peer_role() == Role::Primary && idle;
        let window = if elsewhere { 1 } else { paced };
        while self.verify.jobs() < window
            && self.link.has_read_credit()
            && let Some(again) = self.verify.next(self.now, self.sectors)
        {
            self.verify.pace.job_begins(self.now);
            let at = self.admit(Kind::Compare, again.span);
            self.verify.jobs.push(Job { at, again, own: None, peers: None, skipped: false });
        }
        if self.verify.is_over(self.sectors) {
            self.verify.end(self.now, VerifyStage::Done);
            self.notify(Notice::VerifyEnds);
        }
    }

    /// When the next span may be tried, if one waits for its time.
    pub(super) fn verify_rests_until(&self) -> Option<Tick> {
        if !self.compares() {
            return None;
        }
        let again = self.verify.again.iter().map(|again| again.at);
        again.chain(self.verify.pace.waits_until(self.now)).filter(|at| *at > self.now).min()
    }

    /// What this node does about a verify: of its own, of the peer.
    pub(super) fn verifies(&self) -> (bool, bool) {
        (self.compares(), self.verify.serves_peer(self.now))
    }

    /// A verify of this node runs, and does not wait for a disk.
    fn compares(&self) -> bool {
        self.verify.is_running() && self.may_compare()
    }

    /// Blocks of a span were read.
    pub(super) fn on_digests(&mut self, op: OpId, digests: &Digests) {
        if let Some(super::Owner::Local(at)) = self.ops.owner(op) {
            let request = *self.requests.get(at);
            let blocks = digest::count(request.span);
            assert!(digests.as_slice().len() == blocks, "one digest for each block");
            match (request.kind, self.verify.job(at)) {
                (Kind::PeerDigest { .. }, _) => self.verify.for_peer = Some(*digests),
                (Kind::Compare, Some(job)) => job.own = Some(*digests),
                (Kind::Compare, None) => {
                    assert!(request.orphan, "a job is forgotten with its link");
                }
                _ => unreachable!("only a verify asks the disk for digests"),
            }
        }
        self.on_disk_done(op, DiskResult::Done);
    }

    /// The peer verifies. What it asks for is not being written there.
    pub(super) fn on_digest_ask(&mut self, id: u64, span: Span) {
        self.verify.asked = Some(self.now);
        let first = self.sb.node < self.peer_node;
        let in_the_way = self.overlap.overlapping(span).any(|at| {
            let kind = self.requests.get(at).kind;
            // Theirs wait for the lock that the peer has on this span, as what is written anew there does: nobody may
            // wait for them here.
            kind.is_front_write() || kind == Kind::Rewrite || (kind == Kind::Compare && first)
        });
        if in_the_way {
            self.answer_digest(id, span, Outcome::Skipped);
        } else {
            self.admit(Kind::PeerDigest { id }, span);
        }
    }

    fn answer_digest(&mut self, id: u64, span: Span, outcome: Outcome) {
        self.link.count_out(&Message::DigestAsk { id, span });
        let payload = match outcome {
            Outcome::Done => Payload::Digests,
            _ => Payload::None,
        };
        self.send_with(Message::DigestReply { id, span, outcome }, payload, MetaSeq(0));
    }

    /// What the peer asked for was read, or could not be.
    pub(super) fn peer_digest_settled(&mut self, at: u32, request: Request) {
        let Kind::PeerDigest { id } = request.kind else { unreachable!("called for these") };
        if !request.orphan && self.link.is_up() {
            let outcome = match request.local {
                // There is no disk any more, or its data was declared void: that is told in another way.
                _ if self.disk != DiskState::UpToDate => Outcome::Skipped,
                Leg::Done => Outcome::Done,
                _ => Outcome::Failed,
            };
            self.answer_digest(id, request.span, outcome);
        }
        self.finish(at);
    }

    /// The peer's answer. False if nothing was asked, or something else.
    pub(super) fn on_digest_reply(
        &mut self,
        id: u64,
        span: Span,
        outcome: Outcome,
        payload: &[u8],
    ) -> bool {
        let Some(super::Owner::Peer(at)) = self.ops.owner(OpId(id)) else { return false };
        let request = *self.requests.get(at);
        let digests = Digests::decode(payload, digest::count(span));
        let sound = outcome != Outcome::Done || digests.is_some();
        if request.kind != Kind::Compare || request.span != span || !sound {
            return false;
        }
        if let Some(job) = self.verify.job(at) {
            job.peers = digests.filter(|_| outcome == Outcome::Done);
            job.skipped = outcome == Outcome::Skipped;
        }
        self.on_peer_answer(id, outcome)
    }

    /// Both ends have read a span, or will not.
    pub(super) fn compare_settled(&mut self, at: u32, request: Request) {
        if let Some(job) = self.verify.take(at, self.now)
            && self.verify.is_running()
        {
            self.judge(&job, request);
        }
        self.finish(at);
    }

    fn judge(&mut self, job: &Job, request: Request) {
        let bytes = request.span.bytes();
        match (&job.own, &job.peers) {
            // What was read a moment ago counts only if both disks are still there and what they should be.
            _ if !self.may_compare() => return self.verify.try_again(job.again),
            (Some(own), Some(peers)) => self.compare(request.span, own, peers),
            _ if job.skipped => return self.verify.skipped(job.again, self.now),
            (None, _) => self.verify.verified.unreadable_bytes += bytes,
            (_, None) => self.verify.is_unread(request.span),
        }
        self.verify.verified.done_bytes += bytes;
    }

    /// The connection was lost, perhaps, because a disk took too long with this request: the peer was heard of.
    pub(super) fn parted_over(&self, request: &Request) -> bool {
        let long = self.settings.peer_timeout_ms * 1000 / 2;
        self.now.since(request.arrived) >= long && self.link.pulse.silent_us(self.now) < long
    }

    /// One of the disks does not read the span in time.
    fn give_up(&mut self, span: Span, here: bool) {
        let found = &mut self.verify.verified;
        found.done_bytes += span.bytes();
        if here {
            found.unreadable_bytes += span.bytes();
        } else {
            self.verify.is_unread(span);
        }
    }

    fn compare(&mut self, span: Span, own: &Digests, peers: &Digests) {
        for ((block, own), peers) in span.blocks().zip(own.as_slice()).zip(peers.as_slice()) {
            if own != peers && !self.dirty.any(block..block + 1) {
                self.verify.verified.differing_bytes += BLOCK_BYTES;
                self.verify.differs(block);
            }
        }
    }

    /// The connection is gone: the span is compared again on the next one. True if the request is over with it.
    pub(super) fn compare_lost_peer(&mut self, at: u32, request: Request) -> bool {
        if let Some(job) = self.verify.take(at, self.now)
            && self.verify.is_running()
        {
            let slow = request.phase == Phase::Running && self.parted_over(&request);
            let broke = job.again.broke + u8::from(slow);
            let again = Again { at: self.now, broke, ..job.again };
            if again.broke < BROKE_MAX {
                self.verify.try_again(again);
            } else {
                self.give_up(again.span, request.local == Leg::Busy);
            }
        }
        self.requests.get_mut(at).peer = Leg::Lost;
        request.phase == Phase::Running && request.local != Leg::Busy
    }
}
