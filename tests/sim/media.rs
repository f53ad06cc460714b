//! Disks that misbehave without failing: they stall and go on, cannot read what they hold, or are not the right ones.
//!
//! | fault | what it is | how it ends |
//! |---|---|---|
//! | stall | some or all operations end late, perhaps after the disk was given up | by itself |
//! | latent | a block of data cannot be read | it is written, or the faults end |
//! | spoil | a block of metadata reads as nothing, as garbage, or with a bit turned | it is written, or mended |
//! | foreign | at a start the disk of another volume, or a copy of the peer's, is there | the right one is put back |
//! | blank | a fresh disk is put in and created anew | all is copied from the peer |
//!
//! A node whose superblock is nowhere to be found, or is another's, does not start and touches nothing. Whoever looks
//! after it mends the disk, or makes it a fresh one if the peer has everything.

use crate::fate::Fault;
use crate::metadisk::{Blocks, MetaDisk, Spoil};
use crate::node::{Fact, Node};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::world::{Event, World};
use rblk::meta::block::Owner;
use rblk::meta::recovery;
use rblk::meta::superblock::{Superblock, VolumeId};
use rblk::replica::Connection;
use rblk::wire::message::DiskState;
use serde::{Deserialize, Serialize};

/// Blocks of metadata by what they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum MetaPart {
    /// The first copy of the superblock: the second stands for it.
    Superblock,
    /// Both copies.
    Superblocks,
    /// A place in the ring of the activity log.
    Log,
    /// A page of the bitmap.
    Page,
}

/// Whose disk is there instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Stranger {
    /// Another volume's.
    Volume,
    /// A copy of the peer's.
    Peer,
}

/// What a node's disk does besides failing.
#[derive(Default)]
pub(crate) struct Media {
    /// Until then so many percent of the operations that begin do not end before.
    stall: (u64, u64),
    /// All take so much longer.
    pub(crate) slower: u64,
    /// What the next start finds instead of the node's own metadata.
    foreign: Option<Blocks>,
    /// The last start was refused.
    pub(crate) refused: bool,
}

impl Media {
    pub(crate) fn stalls(&self, now: u64) -> bool {
        now < self.stall.0
    }
}

impl World {
    pub(crate) fn media_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Stall { node, length, share } => self.stall(node, length, share),
            Fault::Latent { node, block } => {
                self.sums.count("unreadable blocks");
                self.note(Some(node), || format!("! dense block {block} cannot be read"));
                let blocks = self.geometry.dense_blocks() as u64;
                self.nodes[node].disk.spoil((block % blocks) as usize);
            }
            Fault::Spoil { node, part, how } => self.spoil(node, part, how),
            Fault::Foreign { node, whose, length } => {
                self.kill_node(node, false);
                self.put_in_foreign(node, whose);
                self.after(length, Event::Start { node });
            }
            Fault::Blank { node, length } => {
                self.kill_node(node, true);
                if self.may_lose(node) {
                    self.put_in_blank(node);
                }
                self.after(length, Event::Start { node });
            }
            other => unreachable!("{other:?} is none of a disk"),
        }
    }

    /// Operations that begin in the next `length` microseconds do not end before these are over.
    pub(crate) fn stall(&mut self, node: usize, length: u64, share: u64) {
        self.sums.count("stalled disks");
        self.note(Some(node), || format!("! {share}% of its operations stall for {length} us"));
        self.nodes[node].media.stall = (self.now + length, share);
    }

    /// How much longer an operation takes that begins now.
    pub(crate) fn stalled(&mut self, node: usize) -> u64 {
        let (until, share) = self.nodes[node].media.stall;
        if self.now >= until || !self.rng.chance(share) {
            return self.nodes[node].media.slower;
        }
        self.nodes[node].harmed = true;
        self.disk_failed = true;
        self.sums.count("stalled operations");
        until - self.now
    }

    fn spoil(&mut self, node: usize, part: MetaPart, how: Spoil) {
        let meta = &mut self.nodes[node].disk.meta;
        let addresses = match part {
            // While the two differ, the second is the state before: not what anybody was told of.
            MetaPart::Superblock | MetaPart::Superblocks if !meta.superblocks_agree() => return,
            MetaPart::Superblock => vec![meta.layout.superblock(0)],
            MetaPart::Superblocks => vec![meta.layout.superblock(0), meta.layout.superblock(1)],
            MetaPart::Log => vec![meta.some_slot(&mut self.rng)],
            MetaPart::Page => vec![meta.some_page(&mut self.rng)],
        };
        // A write that was torn looks the same, and was never relied on.
        if how == Spoil::Flipped && addresses.iter().any(|address| meta.is_newest_slot(*address)) {
            return;
        }
        for address in addresses {
            self.nodes[node].disk.meta.spoil(address, how);
        }
        self.sums.count("spoiled metadata");
        self.note(Some(node), || format!("! {part:?} of its metadata: {how:?}"));
    }

    /// Somebody put the wrong disk in.
    pub(crate) fn put_in_foreign(&mut self, node: usize, whose: Stranger) {
        let own = &self.nodes[node].disk.meta;
        let blocks = match whose {
            Stranger::Peer => self.nodes[1 - node].disk.meta.copy(),
            Stranger::Volume => {
                let volume = VolumeId::of("another", &["one", "two"]);
                MetaDisk::new(own.layout, Superblock { volume, ..own.superblock }).copy()
            }
        };
        self.sums.count("foreign disks");
        self.note(Some(node), || format!("! the disk of a stranger: {whose:?}"));
        self.nodes[node].media.foreign = Some(blocks);
    }

    /// The disk is a fresh one from here on. Only while nobody uses it.
    pub(crate) fn put_in_blank(&mut self, node: usize) {
        self.sums.count("blank disks");
        self.note(Some(node), || "! a blank disk".to_string());
        self.forget_last_words(node);
        let plan = Plan { fresh: true, ..self.plan.clone() };
        let fresh = Node::new(node, &plan, &self.geometry).disk.meta;
        self.nodes[node].disk.meta.replace(fresh);
        self.nodes[node].disk.mend();
        self.oracle_superblock(node); // what it held is void
    }

    /// What the node said last may not tell more than its disk did, nor what the peer has not heard yet: whoever
    /// changes a disk takes longer than its peer to hear the last word.
    pub(crate) fn forget_last_words(&mut self, node: usize) {
        self.silence(1 - node);
        self.nodes[1 - node].inbox.retain(|fact| !matches!(fact, Fact::Received { .. }));
    }

    /// What a start finds on the disk, as the daemon looks for it. `None`: it does not start.
    pub(crate) fn find_superblock(&mut self, node: usize) -> Option<(Superblock, u8)> {
        let media = &self.nodes[node].media;
        let meta = &self.nodes[node].disk.meta;
        let owner: Owner = meta.superblock.owner();
        let found = match &media.foreign {
            Some(blocks) => {
                recovery::superblock(&meta.layout, owner, |at| blocks.get(&at).cloned())
            }
            None => recovery::superblock(&meta.layout, owner, |at| meta.read(at)),
        };
        let wrong = media.foreign.is_some();
        assert!(!(wrong && found.is_ok()), "oracle metadata: a stranger's disk is taken");
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                let excused = wrong || meta.is_spoiled();
                assert!(excused, "oracle metadata: no superblock is found: {why}");
                self.sums.count("refused starts");
                self.note(Some(node), || format!("does not start: {why}"));
                self.nodes[node].media.refused = true;
                return None;
            }
        };
        self.nodes[node].media.refused = false;
        Some(found)
    }

    /// Somebody looks after a node that did not start.
    pub(crate) fn look_after_disk(&mut self, node: usize, rng: &mut Rng) {
        if !self.nodes[node].media.refused || !(self.healing || rng.chance(20)) {
            return;
        }
        let own = self.nodes[node].media.foreign.is_none();
        if own && rng.chance(50) && self.may_lose(node) {
            self.put_in_blank(node);
        }
        self.put_right(node);
        self.after(20_000, Event::Start { node });
    }

    /// A disk hangs, or stalls or did so a moment ago: who has no other waits for it.
    pub(crate) fn disks_wait(&self) -> bool {
        const MOMENT_US: u64 = 1_000_000;
        let stalls = |node: &Node| node.media.stalls(self.now.saturating_sub(MOMENT_US));
        self.nodes.iter().any(|node| node.disk.hangs() || stalls(node))
    }

    /// The right disk is there and can be read.
    pub(crate) fn put_right(&mut self, node: usize) {
        self.nodes[node].disk.meta.mend();
        self.nodes[node].media.foreign = None;
        self.nodes[node].media.refused = false;
    }

    /// Disks are whole again, but for what a refused start shows.
    pub(crate) fn mend_disks(&mut self) {
        for node in &mut self.nodes {
            node.disk.mend();
            node.media.stall = (0, 0);
        }
    }

    /// The other disk has everything, and nobody uses this one.
    pub(crate) fn may_lose(&self, node: usize) -> bool {
        let (own, keeper) = (&self.nodes[node].disk.meta, &self.nodes[1 - node].disk);
        let sb = &keeper.meta.superblock;
        let newest = own.superblock.base.is_some() || own.superblock.peer_outdated;
        // What it is about to record counts, too: a target is void the moment that it decides to be one.
        let meant = self.nodes[1 - node].snapshot().map_or(*sb, |state| state.superblock);
        let whole = [sb, &meant].iter().all(|sb| sb.consistent && !sb.outdated);
        let holds = whole && !self.oracle.is_void(1 - node) && !newest;
        let given_up =
            self.nodes[1 - node].is_running() && self.nodes[1 - node].seen.0 <= DiskState::Failed;
        let split = self.oracle.victim.is_some() || self.nodes[node].is_running();
        // One that is being greeted may be about to yield to this disk, by what was said before this one is gone.
        let meets = self.nodes[1 - node].seen.1 == Connection::Greeting;
        // An order that was given while both disks were good may be heard after this one is gone.
        holds
            && !given_up
            && !meets
            && !split
            && !self.is_asked()
            && self.register.admits_all(&keeper.current)
    }
}

/// All that chance decides about the block that is spoiled.
pub(crate) fn some_spoil(rng: &mut Rng) -> (MetaPart, Spoil) {
    let parts = [MetaPart::Superblock, MetaPart::Superblocks, MetaPart::Log, MetaPart::Page];
    (rng.pick(&parts), rng.pick(&[Spoil::Unreadable, Spoil::Garbage, Spoil::Flipped]))
}
