//! What must hold, seen by somebody who sees both disks at once.
//!
//! | oracle | checked |
//! |---|---|
//! | tracked | every step: where the disks differ, a node knows it (its memory; the metadata on disk if it is dead): |
//! |  | the block is marked, or the disk has no generation and is copied whole, whatever is marked |
//! | stable | every step: where they may differ after a power cut of both now, the metadata on a disk knows it |
//! | primaries | every step: at most one that has the newest data or reaches it, unless both may be Primary |
//! | vouched | each completion: both disks have it, or a record of the divergence is on disk |
//! | lineage | each superblock: a target's generation is an ancestor of its source's; one solo child per generation |
//! | target | each block of a resync: the record of its target says Inconsistent |
//! | role | each answer to a client: the record of its node says Primary |
//! | counted | each superblock: whom the other has on record as behind, with the same generation, has so, too |
//! | told | each message: what it says of metadata is on disk |
//! | restored | each step: a disk that was put back takes part only once all of it is marked |
//! | void | each superblock: a disk that an operator declared void, or that went its own way, is never a source |
//! | verify | each fact: no verify finds a difference, unless a story has planted one |
//! | manners | each fact: no node says of the other that it breaks the rules |
//! | blame | each fact: a disk that was given no fault, and is only slow, is not given up |
//!
//! The register checker (`register.rs`), the disks (`disk.rs`) and the driver (`node.rs`) hold the other oracles.

use crate::disk::Disk;
use crate::geometry::Geometry;
use crate::node::{FIRST_GENERATION, Fact, Node};
use crate::policies::Ways;
use crate::world::World;
use rblk::limits::BLOCK_SECTORS;
use rblk::meta::superblock::GenerationId;
use rblk::replica::{Connection, Verified, VerifyStage};
use rblk::span::Span;
use rblk::wire::message::{DiskState, Message, Role};
use std::collections::BTreeMap;

const SECTORS: usize = BLOCK_SECTORS as usize;
/// Whatever comes next, all suspects are looked at.
const UNKNOWN_GROUNDS: [(u64, u32, u64); 2] = [(u64::MAX, 0, 0); 2];

/// A block on both disks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// Equal and stable on both.
    Same,
    /// Equal now, perhaps not after a power cut.
    MayDiffer,
    Differs,
}

/// What the oracle remembers.
pub(crate) struct Oracle {
    /// Dense blocks that differ, or may after a power cut.
    suspects: Vec<u32>,
    /// What the last look at each dense block told; it is looked at again when a disk changes it.
    compared: Vec<Compared>,
    /// What each node's records were like at the last look, see [`Node::grounds`].
    grounds: [(u64, u32, u64); 2],
    /// Every generation's parent.
    parents: BTreeMap<u128, Option<u128>>,
    /// The newest durable generation of each disk, and whether it was consistent.
    last: [(Option<GenerationId>, bool); 2],
    /// The child of each generation under which something was completed by one node alone.
    solo: BTreeMap<u128, u128>,
    /// This node lost its power and was not resynced since: the other holds data that nobody else has.
    pub(crate) fragile: Option<usize>,
    /// The event of each node's last power cut.
    powerless_at: [u64; 2],
    /// The connection on which each node, as Primary, said last that it parts and goes on alone.
    parted_on: [Option<u64>; 2],
    /// The connection on which it last sent data of a repair.
    rewrote_on: [Option<u64>; 2],
    /// What this disk holds is nothing any more, until a resync of it has ended.
    void: [bool; 2],
    /// This disk was put back to an older image with this mark, and nobody has noticed yet.
    restored: [Option<u64>; 2],
    /// The event at which each disk was last put back.
    restored_at: [u64; 2],
    /// This node was made Primary beside a Primary: it goes its own way from the next durable generation on, and an
    /// operator has decided already that this way will be lost.
    pub(crate) victim: Option<usize>,
    /// The victim's way and the other's, until one is chosen.
    pub(crate) ways: Ways,
    /// Set by scenarios that split the lineage on purpose.
    pub(crate) split: bool,
    /// Set by scenarios in which a disk has changed by itself.
    pub(crate) planted: bool,
    /// Set by scenarios whose peer is made by hand and breaks the rules on purpose.
    pub(crate) stranger: bool,
}

impl Oracle {
    pub(crate) fn new(geometry: &Geometry, nodes: &[Node; 2]) -> Oracle {
        let last = [0, 1].map(|node: usize| {
            let sb = &nodes[node].disk.meta.superblock;
            (sb.current, sb.consistent)
        });
        let mut parents = BTreeMap::new();
        parents.insert(FIRST_GENERATION.0, None);
        Oracle {
            suspects: Vec::new(),
            compared: vec![Compared::Same; geometry.dense_blocks()],
            grounds: UNKNOWN_GROUNDS,
            parents,
            last,
            solo: BTreeMap::new(),
            fragile: None,
            powerless_at: [0; 2],
            parted_on: [None; 2],
            rewrote_on: [None; 2],
            void: [false; 2],
            restored: [None; 2],
            restored_at: [0; 2],
            victim: None,
            ways: Ways::default(),
            split: false,
            planted: false,
            stranger: false,
        }
    }

    /// Of two ways the victim's was chosen: `loser` is void, and the other went on lawfully.
    pub(crate) fn choose_way(
        &mut self,
        loser: usize,
        base: Option<GenerationId>,
        new: GenerationId,
    ) {
        self.void = [loser == 0, loser == 1];
        self.victim = None;
        self.fragile = None;
        if let Some(base) = base {
            self.solo.insert(base.0, new.0);
        }
    }

    pub(crate) fn is_void(&self, node: usize) -> bool {
        self.void[node]
    }

    /// True if `old` is `new` or one of its forefathers.
    fn is_ancestor(&self, old: GenerationId, new: GenerationId) -> bool {
        let mut at = Some(new.0);
        while let Some(id) = at {
            if id == old.0 {
                return true;
            }
            at = self.parents.get(&id).copied().flatten();
        }
        false
    }
}

impl World {
    /// After every event.
    pub(crate) fn check_step(&mut self) {
        self.no_split();
        let serves = [0, 1].map(|node| self.serves(node) && self.oracle.victim != Some(node));
        let lawful = self.oracle.split || self.plan.dual;
        assert!(serves != [true, true] || lawful, "oracle primaries: both are Primary");
        let mut changed = Vec::new();
        for node in [0, 1] {
            for block in std::mem::take(&mut self.nodes[node].disk.changed) {
                changed.push(block);
                let now = self.compare(block as usize);
                let before = std::mem::replace(&mut self.oracle.compared[block as usize], now);
                if before == Compared::Same && now != Compared::Same {
                    self.oracle.suspects.push(block);
                }
            }
        }
        let fresh = self.nodes.iter().all(|node| node.disk.meta.superblock.current.is_none());
        let mut suspects = std::mem::take(&mut self.oracle.suspects);
        for node in [0, 1] {
            // One that has given up its disk uses nothing of what was put back.
            let alive = self.nodes[node].has_disk();
            let takes_part = alive && self.nodes[node].seen.1 == Connection::Connected;
            let unnoticed = self.oracle.restored[node].is_some();
            assert!(!(takes_part && unnoticed), "oracle restored: node {node} takes part");
        }
        let same = |block: &u32| self.oracle.compared[*block as usize] == Compared::Same;
        let mut all = self.step.is_multiple_of(64);
        if all {
            suspects.retain(|block| !same(block));
        }
        // Until it is noticed, nobody knows how a disk that was put back differs.
        if !fresh && !self.oracle.split && self.oracle.restored == [None; 2] {
            // What was recorded still is unless a record shrank; now and then all is looked at in any case.
            let grounds = [0, 1].map(|node: usize| self.nodes[node].grounds());
            all |= grounds != self.oracle.grounds;
            let looked_at = if all { &mut suspects } else { &mut changed };
            looked_at.retain(|block| !same(block));
            self.check_recorded(looked_at);
            self.oracle.grounds = grounds;
        } else {
            self.oracle.grounds = UNKNOWN_GROUNDS;
        }
        self.oracle.suspects = suspects;
        self.check_waits();
    }

    /// True for a Primary that can complete writes: a cut-off one without good data cannot, and may find that the other
    /// node was promoted meanwhile. What it reads is for the register checker to judge.
    pub(crate) fn serves(&self, node: usize) -> bool {
        let (disk, connection) = self.nodes[node].seen;
        let other = &self.nodes[1 - node];
        let heard = other.seen.1 == Connection::Connected && other.open == self.nodes[node].open;
        let reaches = connection == Connection::Connected && heard && other.is_running();
        self.is_primary(node) && (disk == DiskState::UpToDate || reaches)
    }

    fn compare(&self, block: usize) -> Compared {
        let [one, two] = [&self.nodes[0].disk, &self.nodes[1].disk];
        let range = block * SECTORS..(block + 1) * SECTORS;
        // A repair of what is the same makes nothing that a power cut could take: where digests lie, or the peer could
        // not read it.
        let repairs = self.plan.verify;
        let loose = |disk: &Disk| disk.is_loose(block) && (!repairs || disk.may_change(block));
        let loose = loose(one) || loose(two);
        if one.current[range.clone()] != two.current[range.clone()] {
            Compared::Differs
        } else if loose || one.stable[range.clone()] != two.stable[range] {
            Compared::MayDiffer
        } else {
            Compared::Same
        }
    }

    /// Somebody knows of each of these blocks.
    fn check_recorded(&self, suspects: &[u32]) {
        if suspects.is_empty() {
            return;
        }
        let records = [0, 1].map(|node: usize| self.nodes[node].disk.meta.record());
        // What a node knows that has its disk is in its memory; what is known of the others is on their disks.
        let cores = [0, 1].map(|node: usize| {
            let node = &self.nodes[node];
            node.replica.as_ref().filter(|_| node.has_disk())
        });
        for block in suspects {
            let number = self.geometry.block(*block as usize);
            if self.oracle.compared[*block as usize] == Compared::Differs {
                let tracked = cores.iter().zip(&records).any(|(core, record)| match core {
                    Some(core) => core.tracks(number) || core.is_fresh(),
                    None => record.covers(number),
                });
                assert!(tracked, "oracle tracked: block {number} differs and nobody knows");
            }
            let covered = records.iter().any(|record| record.covers(number));
            assert!(
                covered,
                "oracle stable: block {number} may differ after a power cut, unrecorded"
            );
        }
    }

    /// A client's write, invoked at event `since`, is about to be answered.
    pub(crate) fn oracle_write_done(
        &mut self,
        node: usize,
        span: Span,
        value: u32,
        fua: bool,
        since: u64,
    ) {
        // A write of another Primary may have come in between.
        let beside =
            |at: usize, found: u32| self.plan.dual && self.register.is_concurrent(at, found, since);
        let has = |node: &Node| {
            let content = if fua { &node.disk.stable } else { &node.disk.current };
            self.geometry.pieces(span).all(|piece| {
                let mut sectors = piece.dense.clone().zip(&content[piece.dense]);
                sectors.all(|(at, found)| *found == value || beside(at, *found))
            })
        };
        let mut has = [has(&self.nodes[0]), has(&self.nodes[1])];
        // A disk that accepted it may have lost it to a power cut before the other's answer.
        has[1 - node] |= !fua && self.oracle.powerless_at[1 - node] > since;
        // And one that was put back may have had it on stable media before.
        has[1 - node] |= self.oracle.restored_at[1 - node] > since;
        if has != [true, true] {
            self.vouched(node, has, "a write");
        }
    }

    /// A client's flush, invoked at event `since`, is about to be answered.
    pub(crate) fn oracle_flush_done(&mut self, node: usize, since: u64) {
        let has = |node: &Node| {
            let mut sectors = node.disk.stable.iter().enumerate();
            sectors.all(|(at, value)| self.register.is_durable(at, *value, since))
        };
        let mut has = [has(&self.nodes[0]), has(&self.nodes[1])];
        // A flush that finds nothing written since the peer parted is answered without a record: the peer has it all on
        // stable media. That its disk was put back behind everybody's back is known to nobody before they meet.
        let peer = 1 - node;
        has[peer] |= self.oracle.restored_at[peer] > since || self.oracle.restored[peer].is_some();
        if has != [true, true] {
            self.vouched(node, has, "a flush");
        }
    }

    /// Only one disk has what is being completed at `node`: the record must say so.
    fn vouched(&mut self, node: usize, has: [bool; 2], what: &str) {
        let peer = 1 - node;
        let by = if has[node] && self.nodes[node].has_disk() { node } else { peer };
        assert!(has[by], "oracle vouched: {what} completes at {node}, disks that have it: {has:?}");
        let target = !self.nodes[node].disk.meta.superblock.consistent;
        let without = target || !self.nodes[node].has_disk();
        assert!(by == node || without, "oracle vouched: {what} is not on the disk of {node}");
        let other = &self.nodes[1 - by].disk.meta.superblock;
        let recorded = self.nodes[by].recorded_alone();
        let known = recorded || !other.consistent;
        assert!(known, "oracle vouched: {what} completes at {node}, only {by} has it, unrecorded");
        let sb = &self.nodes[by].disk.meta.superblock;
        if let (Some(base), Some(current), true) = (sb.base, sb.current, recorded) {
            let child = *self.oracle.solo.entry(base.0).or_insert(current.0);
            assert!(
                child == current.0 || self.oracle.split,
                "oracle lineage: both nodes went on alone from {base:?}"
            );
        }
    }

    /// Whoever counts on the other being behind goes on without asking: the other's record must say so, too.
    fn check_counted_out(&self) {
        for node in [0, 1] {
            let [mine, theirs] =
                [node, 1 - node].map(|node| &self.nodes[node].disk.meta.superblock);
            let counts = mine.consistent && mine.peer_outdated && mine.current == theirs.current;
            let behind = theirs.outdated || !theirs.consistent || self.oracle.void != [false; 2];
            assert!(!counts || behind, "oracle counted: {node} goes on alone, and the other may");
        }
    }

    /// A superblock of `node` has become durable.
    pub(crate) fn oracle_superblock(&mut self, node: usize) {
        self.check_counted_out();
        let sb = &self.nodes[node].disk.meta.superblock;
        let noticed = |mark: u64| sb.current.is_none() || (!sb.consistent && sb.mark > mark);
        self.oracle.restored[node] = self.oracle.restored[node].filter(|mark| !noticed(*mark));
        let (old, was_consistent) = self.oracle.last[node];
        let now = (sb.current, sb.consistent);
        if now == (old, was_consistent) {
            return;
        }
        self.oracle.last[node] = now;
        let went_its_own_way = self.oracle.victim == Some(node) && sb.consistent && was_consistent;
        if sb.current.is_none() || went_its_own_way {
            self.declare_void(node, sb.current.is_none());
            if went_its_own_way {
                self.begin_fork(node);
            }
        }
        let sb = self.nodes[node].disk.meta.superblock;
        let Some(new) = sb.current else { return };
        if sb.current != old && !self.oracle.parents.contains_key(&new.0) {
            self.oracle.parents.insert(new.0, old.map(|old| old.0));
        }
        let Some(old) = old else { return };
        if sb.consistent && !was_consistent {
            self.oracle.void[node] = false;
            self.oracle.victim = self.oracle.victim.filter(|victim| *victim != node);
            self.end_fork();
        }
        if !sb.consistent {
            self.way_may_be_chosen(node, new);
        }
        let sb = &self.nodes[node].disk.meta.superblock;
        let becomes_target = was_consistent && !sb.consistent;
        if becomes_target {
            self.oracle_salvage(node, old);
        }
        let sb = &self.nodes[node].disk.meta.superblock;
        if becomes_target || (sb.current != Some(old) && !sb.consistent) {
            let descends = self.oracle.is_ancestor(old, new) || self.oracle.void[node];
            assert!(descends, "oracle lineage: {old:?} is overwritten by {new:?}, no descendant");
            assert!(!self.oracle.void[1 - node], "oracle void: node {node} is overwritten from it");
        }
    }

    /// The disk of `node` was put back to an older image.
    pub(crate) fn oracle_restored(&mut self, node: usize) {
        let sb = &self.nodes[node].disk.meta.superblock;
        self.oracle.last[node] = (sb.current, sb.consistent);
        self.oracle.restored[node] = Some(sb.mark);
        self.oracle.restored_at[node] = self.step;
        self.declare_void(node, false);
    }

    /// Nothing of what the disk of `node` holds may be used any more. With `noise` that is put to the test.
    pub(crate) fn declare_void(&mut self, node: usize, noise: bool) {
        assert!(!self.oracle.void[1 - node], "oracle void: no disk is left");
        self.note(Some(node), || "! its data is void".to_string());
        self.oracle.void[node] = true;
        if self.oracle.fragile == Some(1 - node) {
            // What the other lost with its power was on this disk alone.
            self.register.caches_lost();
            self.oracle.fragile = None;
        }
        if noise {
            self.nodes[node].disk.scramble();
        }
    }

    /// What a message says of its sender's metadata is on disk.
    pub(crate) fn oracle_send(&mut self, node: usize, message: &Message) {
        if let Message::State(state) = message {
            self.remember_said(node, state);
        }
        if matches!(message, Message::Bye { outdated: false }) {
            self.oracle.parted_on[node] = self.nodes[node].open;
        }
        let sender = &self.nodes[node];
        let target = self.nodes[1 - node].is_target();
        let repairs = |verified: &Verified| {
            let over = verified.repair_bytes > 0 && !target;
            over || verified.stage == VerifyStage::Repairing
        };
        let copies = matches!(message, Message::ResyncData { .. });
        if copies && sender.replica.as_ref().is_some_and(|replica| repairs(replica.verified())) {
            self.oracle.rewrote_on[node] = sender.open;
        }
        let sb = &sender.disk.meta.superblock;
        let true_ = match message {
            Message::State(state) if state.disk > DiskState::Failed => {
                state.current == sb.current && state.base == sb.base
            }
            Message::ResyncEnd { current, .. } => sb.current == Some(*current) && !sb.peer_outdated,
            Message::ResyncEndAck => sb.consistent,
            Message::Ready => sender
                .snapshot()
                .is_none_or(|state| state.disk != DiskState::Inconsistent || !sb.consistent),
            Message::DiskFailedAck { current } => {
                sb.current == Some(*current) && sender.recorded_alone()
            }
            // Invalid is worse than outdated: the peer may go on without it all the more.
            Message::Bye { outdated } => !outdated || sb.outdated || !sb.consistent,
            Message::RoleIs { role: Role::Primary } => sb.primary,
            _ => true,
        };
        assert!(true_, "oracle told: {message:?} is ahead of the metadata: {sb:?}");
    }

    /// The first block of a resync meets a disk that is no source any more, durably.
    pub(crate) fn oracle_receive(&self, node: usize, fact: &Fact) {
        let Fact::Received { conn, message, .. } = fact else { return };
        let copies = matches!(message, Message::ResyncData { .. } | Message::ResyncZero { .. });
        let heard = copies && self.nodes[node].open == Some(*conn) && !self.oracle.stranger;
        if !heard {
            return;
        }
        let sb = &self.nodes[node].disk.meta.superblock;
        // A repair writes single blocks anew; it needs no record since it changes nothing that counts. Its data may
        // arrive when it is over, or its sender dead.
        let sender = self.nodes[1 - node].replica.as_ref().map(|replica| replica.verified());
        let target = self.nodes[node].is_target();
        let repairs = match sender {
            Some(verified) if verified.stage == VerifyStage::Repairing => true,
            Some(_) if target => false,
            _ => self.oracle.rewrote_on[1 - node] == Some(*conn),
        };
        let recorded = !sb.consistent || repairs;
        assert!(recorded, "oracle target: node {node} is overwritten unrecorded");
    }

    /// A node is about to die. Decides whether acknowledged, unflushed data may be lost with it.
    pub(crate) fn oracle_before_crash(&mut self, node: usize, power: bool) {
        let other = 1 - node;
        if power && self.oracle.victim == Some(node) {
            self.fork_loses_caches();
        }
        if power {
            self.oracle.powerless_at[node] = self.step;
            match self.truth_without(node) {
                Truth::Kept => {}
                Truth::AtPeer => self.oracle.fragile = Some(node),
                Truth::Gone => self.register.caches_lost(),
            }
        } else if self.oracle.fragile == Some(other) {
            // The peer crashed as Primary and lost its cache; this node forgets that it survived.
            let peer = &self.nodes[other];
            let crashed = peer.snapshot().is_some_and(|state| state.superblock.crashed);
            let on_disk = &peer.disk.meta.superblock;
            if crashed || on_disk.primary || on_disk.crashed {
                self.register.caches_lost();
            }
        }
    }

    /// After a power cut: if the record that this node goes on alone was on its way and has landed, then its disk is
    /// the data, without what it lost.
    pub(crate) fn oracle_after_power_cut(&mut self, node: usize) {
        if self.oracle.fragile == Some(node) && self.nodes[node].recorded_alone() {
            self.oracle.fragile = None;
            self.register.caches_lost();
        }
    }

    fn truth_without(&self, node: usize) -> Truth {
        let (lost, other) = (&self.nodes[node], &self.nodes[1 - node]);
        let (sb, peer) = (&lost.disk.meta.superblock, &other.disk.meta.superblock);
        if self.oracle.void[node] {
            return Truth::Kept; // a void disk loses nothing
        }
        if self.oracle.void[1 - node] {
            return Truth::Gone;
        }
        let together = lost.seen.1 == Connection::Connected
            && other.seen.1 == Connection::Connected
            && lost.open == other.open;
        let serves_too = self.plan.dual && (together || !lost.recorded_alone());
        if self.is_primary(other.id) && (!self.is_primary(node) || serves_too) {
            // Its clients live on: with its own disk, or with what was stable here before they were answered. A target
            // is no disk to live on.
            let source = lost.recorded_alone() && other.is_target();
            return if source { Truth::Kept } else { Truth::AtPeer };
        }
        let holds = self.register.admits_all(&other.disk.current);
        if !holds || lost.recorded_alone() {
            return Truth::Gone;
        }
        if other.recorded_alone() {
            return Truth::Kept;
        }
        let survives = match other.snapshot() {
            Some(state) => other.was_up && state.disk >= DiskState::Consistent,
            None => peer.primary && !sb.primary && peer.consistent,
        };
        // What it has said is on its way: heard, the other is behind, as if it had been heard before.
        let parts = self.oracle.parted_on[node].is_some_and(|conn| other.open == Some(conn));
        if survives && !parts { Truth::AtPeer } else { Truth::Gone }
    }

    /// The end of a run: both disks are equal, hold what they must, and nothing is left over.
    pub(crate) fn check_at_rest(&mut self) {
        for at in 0..self.geometry.dense_sectors() {
            let found = [0, 1].map(|node: usize| self.nodes[node].disk.current[at]);
            assert!(found[0] == found[1], "oracle rest: dense sector {at} differs: {found:x?}");
            assert!(
                self.register.admits(at, found[0]),
                "oracle rest: dense sector {at} holds {:#x}: {}",
                found[0],
                self.register.explain(at)
            );
        }
        let seen = [0, 1].map(|node: usize| self.nodes[node].snapshot());
        if let [Some(one), Some(two)] = seen
            && [one.connection, two.connection] == [Connection::Connected; 2]
        {
            let roles = [Some(one.role), Some(two.role)];
            let told = [two.peer_role, one.peer_role];
            assert!(roles == told, "oracle rest: roles {roles:?} are known as {told:?}");
        }
        for node in &self.nodes {
            assert!(node.leaked() == 0, "oracle rest: node {} leaks buffers", node.id);
        }
        self.check_nothing_is_held();
    }
}

/// What a power cut of one node leaves of what was acknowledged and not flushed.
enum Truth {
    /// The other node is on record as having the newest data, or all of it was stable.
    Kept,
    /// The other node has it, as long as it lives.
    AtPeer,
    /// It may be lost.
    Gone,
}
