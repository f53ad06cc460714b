//! What operators are promised when they take nodes apart, together again, or give data up.

use crate::disk::Image;
use crate::fate::DiskPart;
use crate::story::Story;
use rblk::limits::EXTENT_BLOCKS;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::replica::generation::Full;
use rblk::replica::{Connection, StandAlone};
use rblk::wire::message::{DiskState, Refusal};

const CONNECT: Command = Command::Connect { discard_my_data: false };
const DISCARD: Command = Command::Connect { discard_my_data: true };
const INVALIDATE: Command = Command::Invalidate { peer: false };
const INVALIDATE_PEER: Command = Command::Invalidate { peer: true };

impl Story {
    fn order(&mut self, node: usize, command: Command) {
        assert_eq!(self.command(node, command), Ok(()), "{command:?} at {node}");
    }

    /// Node 0 is Primary, node 1 is made Primary by force without it, and both write: two blocks at `here`, one at
    /// `there`. They still are when the link is back.
    pub(crate) fn go_different_ways(&mut self, here: u64, there: u64) {
        self.cut(3_000);
        self.until("the link is down", |story| !story.connected());
        assert_eq!(self.write(0, here, 2), FrontResult::Done);
        self.world.oracle.victim = Some(1);
        assert_eq!(self.promote(1, true), Ok(()));
        self.world.scribble(1, there);
        self.until("it is written", |story| story.world.scribbles_pending() == 0);
    }

    /// The same, and node 1 steps down: on return they have met.
    pub(crate) fn split(&mut self, here: u64, there: u64) {
        self.go_different_ways(here, there);
        assert_eq!(self.command(1, Command::Demote), Ok(()));
        self.until("both stand alone", |story| story.alone(0) && story.alone(1));
    }

    /// Copies the disk of `node` now; later puts it back.
    pub(crate) fn image(&self, node: usize) -> Image {
        self.world.nodes[node].disk.image()
    }

    pub(crate) fn put_back(&mut self, node: usize, image: Image) {
        self.kill(node, true);
        self.world.nodes[node].disk.restore(image);
        self.world.oracle_restored(node);
    }

    pub(crate) fn alone(&self, node: usize) -> bool {
        self.state(node).connection == Connection::StandAlone
    }
}

#[test]
fn a_disconnected_secondary_steps_back_and_costs_no_stall() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    story.write(0, block, 4);
    story.order(1, Command::Disconnect);
    assert_eq!(story.state(1).disk, DiskState::Outdated);
    let before = story.world.now;
    assert_eq!(story.write(0, block + 2, 4), FrontResult::Done);
    assert!(story.world.now - before < 100_000, "its leave was on record already");
    story.rest(20_000);
    assert!(story.alone(1) && !story.connected(), "it neither dials nor listens");
    assert!(story.state(0).peer_left);
    let refused = story.promote(1, false);
    assert_eq!(refused, Err(CommandError::NotUpToDate(DiskState::Outdated)));
    story.order(1, CONNECT);
    story.heal();
    assert_eq!(story.copied(0), 6, "what was written without it, and what nobody had flushed");
    story.ends_well();
}

#[test]
fn a_disconnected_primary_goes_on_and_its_peer_knows_that_it_is_behind() {
    let mut story = Story::with_primary();
    let block = story.block_in(3);
    story.write(0, block, 1);
    story.flush(0);
    story.order(0, Command::Disconnect);
    assert_eq!(story.write(0, block + 4, 3), FrontResult::Done);
    assert!(story.world.nodes[0].recorded_alone());
    story.until("the peer knows", |story| story.state(1).disk == DiskState::Outdated);
    story.kill(1, true);
    story.start(1);
    story.rest(20_000);
    assert_eq!(story.state(1).disk, DiskState::Outdated, "durably");
    assert!(story.alone(0) && !story.connected());
    story.order(0, CONNECT);
    story.heal();
    assert_eq!(story.copied(0), 3);
    story.ends_well();
}

#[test]
fn an_idle_disconnect_changes_no_generation_and_copies_nothing() {
    for node in [0, 1] {
        let mut story = Story::with_primary();
        let block = story.block_in(2);
        story.write(0, block, 8);
        story.flush(0);
        let before = [story.generation(0), story.generation(1)];
        story.order(node, Command::Disconnect);
        story.order(node, Command::Disconnect); // again changes nothing
        story.rest(5_000);
        story.order(node, CONNECT);
        story.heal();
        story.order(node, CONNECT);
        assert_eq!([story.generation(0), story.generation(1)], before);
        assert_eq!([story.copied(0), story.copied(1)], [0, 0]);
        story.ends_well();
    }
}

#[test]
fn a_resync_goes_on_after_a_disconnect_where_it_stopped() {
    for node in [0, 1] {
        let mut story = Story::of_two(true);
        assert_eq!(story.promote(0, true), Ok(()));
        story.until("half is copied", |story| {
            story.connected() && story.copied(0) > 6 * EXTENT_BLOCKS
        });
        story.order(node, Command::Disconnect);
        story.until("the link is down", |story| {
            [0, 1].iter().all(|node| story.state(*node).connection != Connection::Connected)
        });
        assert_eq!(story.state(1).disk, DiskState::Inconsistent);
        let left = story.state(0).out_of_sync_bytes / 4096;
        let refused = story.promote(1, false);
        assert_eq!(refused, Err(CommandError::NotUpToDate(DiskState::Inconsistent)));
        story.order(node, CONNECT);
        story.until("the link is back", Story::connected);
        let again = story.state(0).resync_total_bytes / 4096;
        assert!(again <= left, "{again} blocks to copy, and {left} when it stopped");
        story.ends_well();
    }
}

#[test]
fn nobody_is_disconnected_from_the_only_good_data() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    story.write(0, block, 4);
    story.fail_next(0, DiskPart::Data);
    assert_eq!(story.write(0, block, 4), FrontResult::Done);
    assert_eq!(story.state(0).disk, DiskState::Diskless);
    assert_eq!(story.command(0, Command::Disconnect), Err(CommandError::NeedsPeer));
    assert_eq!(story.command(1, Command::Disconnect), Err(CommandError::PeerNeedsUs));
    assert_eq!(story.command(1, INVALIDATE), Err(CommandError::PeerNotUpToDate));
    assert_eq!(story.command(1, INVALIDATE_PEER), Err(CommandError::PeerIsPrimary));
    assert_eq!(story.command(0, INVALIDATE_PEER), Err(CommandError::NoDisk));
    assert_eq!(story.read(0, block, 4), FrontResult::Done);
    story.leave(0);
    story.start(0);
    story.ends_well();
}

#[test]
fn two_who_discard_stand_still_too() {
    let mut story = Story::with_primary();
    let (here, there) = (story.block_in(2), story.block_in(6));
    story.split(here, there);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    let before = [story.generation(0), story.generation(1)];
    story.order(0, DISCARD);
    story.order(1, DISCARD);
    story.until("they have met", |story| story.alone(0) && story.alone(1));
    let why = Some(StandAlone::Refused(Refusal::BothDiscard));
    assert_eq!(story.state(0).stand_alone, why);
    assert_eq!([story.generation(0), story.generation(1)], before, "both keep their data");
    // The word counted for that meeting alone.
    story.order(0, CONNECT);
    story.order(1, CONNECT);
    story.until("they have met", |story| story.alone(0) && story.alone(1));
    let why = Some(StandAlone::Refused(Refusal::SplitBrain));
    assert_eq!(story.state(0).stand_alone, why);
}

#[test]
fn discarding_costs_nothing_where_ancestry_decides() {
    let mut story = Story::with_primary();
    let block = story.block_in(5);
    story.write(0, block, 4);
    story.flush(0);
    story.order(1, Command::Disconnect);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    story.order(0, DISCARD); // the node with the newer data
    story.order(1, CONNECT);
    story.heal();
    assert_eq!(story.copied(0), 2, "it is the source all the same");
    assert!(!story.state(0).discard_my_data, "the word is used up");
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.read(0, block, 4), FrontResult::Done);
    story.ends_well();
}

#[test]
fn a_node_that_becomes_primary_discards_nothing() {
    let mut story = Story::with_primary();
    let block = story.block_in(5);
    story.cut(u64::MAX / 4_000);
    story.until("the link is down", |story| !story.connected());
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    story.order(0, DISCARD);
    assert!(story.state(0).discard_my_data);
    assert_eq!(story.promote(0, false), Ok(()));
    assert!(!story.state(0).discard_my_data);
}

#[test]
fn an_invalid_disk_is_copied_whole() {
    let mut story = Story::with_primary();
    let blocks = story.state(0).sectors / 8;
    let block = story.block_in(3);
    story.write(0, block, 4);
    assert_eq!(story.command(0, INVALIDATE), Err(CommandError::IsPrimary));
    story.order(1, INVALIDATE); // what it holds is scrambled from here on
    story.until("the link is back", Story::connected);
    assert_eq!(story.command(1, INVALIDATE), Err(CommandError::Resyncing));
    assert_eq!(story.command(0, INVALIDATE_PEER), Err(CommandError::Resyncing));
    assert_eq!(story.write(0, block + 2, 4), FrontResult::Done);
    story.heal();
    assert_eq!(story.copied(0), blocks);
    story.ends_well();
}

#[test]
fn the_peers_disk_is_copied_whole_when_it_is_declared_invalid() {
    for primary in [0, 1] {
        let mut story = Story::with_primary();
        let blocks = story.state(0).sectors / 8;
        let block = story.block_in(3);
        story.write(0, block, 4);
        if primary == 1 {
            assert_eq!(story.command(0, Command::Demote), Ok(()));
            assert_eq!(story.promote(1, false), Ok(()));
            assert_eq!(story.command(0, INVALIDATE_PEER), Err(CommandError::PeerIsPrimary));
        }
        story.order(primary, INVALIDATE_PEER);
        story.heal();
        assert_eq!(story.copied(primary), blocks);
        assert_eq!(story.read(primary, block, 4), FrontResult::Done);
        story.ends_well();
    }
}

#[test]
fn an_invalid_disk_is_remembered_until_the_nodes_meet() {
    let mut story = Story::with_primary();
    let blocks = story.state(0).sectors / 8;
    let block = story.block_in(3);
    story.write(0, block, 4);
    story.order(1, Command::Disconnect);
    story.order(1, INVALIDATE);
    assert_eq!(story.state(1).disk, DiskState::Inconsistent);
    let refused = story.promote(1, false);
    assert_eq!(refused, Err(CommandError::NotUpToDate(DiskState::Inconsistent)));
    story.kill(1, true);
    story.start(1);
    story.heal();
    assert_eq!(story.copied(0), blocks);
    story.ends_well();
}

#[test]
fn the_newest_data_is_not_invalidated() {
    let mut story = Story::with_primary();
    let block = story.block_in(3);
    story.order(1, Command::Disconnect);
    assert_eq!(
        story.command(1, INVALIDATE_PEER),
        Err(CommandError::NotUpToDate(DiskState::Outdated))
    );
    assert_eq!(story.write(0, block, 4), FrontResult::Done);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.command(0, INVALIDATE), Err(CommandError::NewestData));
    // The peer's may be, without it: it learns of it when they meet.
    let blocks = story.state(0).sectors / 8;
    story.order(0, INVALIDATE_PEER);
    story.order(1, CONNECT);
    story.heal();
    assert_eq!(story.copied(0), blocks);
    story.ends_well();
}

/// A resync is over: both are whole, and the source's disk may be given up as well as the target's, also while the two
/// are parted.
#[test]
fn a_source_is_invalidated_once_its_target_is_whole() {
    let mut story = Story::with_primary();
    let blocks = story.state(0).sectors / 8;
    let block = story.block_in(3);
    story.kill(1, false);
    assert_eq!(story.write(0, block, 4), FrontResult::Done);
    story.start(1);
    story.heal();
    assert_eq!(story.copied(0), 4, "it was the source");
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.promote(1, false), Ok(()));
    story.cut(10_000);
    story.until("the link is down", |story| !story.connected_at(0) && !story.connected_at(1));
    story.order(0, INVALIDATE);
    story.heal();
    assert_eq!(story.copied(1), blocks);
    assert_eq!(story.read(1, block, 4), FrontResult::Done);
    story.ends_well();
}

/// A node that is forced goes its own way, even if it writes nothing: the other learns of it when they meet, with
/// nothing to copy. Else the two would part as strangers when the other is the one to go on.
#[test]
fn a_forced_node_that_wrote_nothing_takes_the_other_along() {
    let mut story = Story::with_primary();
    let block = story.block_in(3);
    assert_eq!(story.write_fua(0, block, 4), FrontResult::Done);
    assert_eq!(story.flush(0), FrontResult::Done);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    let before = story.generation(0);
    story.cut(10_000);
    story.until("the link is down", |story| !story.connected_at(0) && !story.connected_at(1));
    assert_eq!(story.promote(0, true), Ok(()));
    assert_ne!(story.generation(0), before);
    assert_eq!(story.state(0).out_of_sync_bytes, 0);
    story.heal();
    assert_eq!(story.copied(0), 0);
    story.kill(0, true);
    story.until("it is lost", |story| !story.connected_at(1));
    assert_eq!(story.promote(1, true), Ok(()));
    assert_eq!(story.write(1, block, 2), FrontResult::Done);
    story.start(0);
    story.rest(5_000);
    assert_eq!(story.state(0).stand_alone, None);
    story.heal();
    assert_eq!(story.copied(1), 2, "only what was written without it");
    story.ends_well();
}

/// The image is from before the disk ever held data: nothing is marked on it, and it is copied whole all the same.
#[test]
fn a_disk_restored_to_nothing_is_copied_whole() {
    let mut story = Story::of_two(true);
    let blocks = story.state(0).sectors / 8;
    let image = story.image(1);
    assert_eq!(story.promote(0, true), Ok(()));
    story.heal();
    let block = story.block_in(4);
    story.write(0, block, 4);
    story.flush(0);
    story.rest(3_000);
    story.put_back(1, image);
    story.start(1);
    story.until("the link is back", Story::connected);
    assert_eq!(story.state(1).full_resync, Some(Full::Fresh));
    story.heal();
    assert_eq!(story.copied(0), blocks);
    story.ends_well();
}

#[test]
fn a_restored_primary_is_copied_from_its_peer() {
    let mut story = Story::with_primary();
    let blocks = story.state(0).sectors / 8;
    let block = story.block_in(4);
    story.write(0, block, 4);
    story.rest(3_000);
    let image = story.image(0);
    story.write(0, block + 2, 4);
    story.flush(0);
    story.rest(3_000);
    story.kill(1, true); // so that nobody survives who could be believed for that
    story.put_back(0, image);
    story.start(1);
    story.start(0);
    story.heal();
    assert_eq!(story.copied(1), blocks);
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.read(0, block, 6), FrontResult::Done);
    story.ends_well();
}

#[test]
fn a_restored_disk_that_went_its_own_way_is_no_source() {
    let mut story = Story::with_primary();
    let blocks = story.state(0).sectors / 8;
    let block = story.block_in(4);
    story.write(0, block, 4);
    story.rest(3_000);
    let image = story.image(1);
    story.write(0, block + 2, 4);
    story.flush(0);
    story.rest(3_000);
    story.put_back(1, image);
    story.kill(0, true);
    story.start(1);
    story.world.oracle.victim = Some(1);
    assert_eq!(story.promote(1, true), Ok(()));
    story.world.scribble(1, block);
    story.until("it is written", |story| story.world.scribbles_pending() == 0);
    assert_eq!(story.command(1, Command::Demote), Ok(()));
    story.start(0);
    story.until("both stand alone", |story| story.alone(0) && story.alone(1));
    let why = Some(StandAlone::Refused(Refusal::RolledBack));
    assert_eq!(story.state(0).stand_alone, why, "its base is the other's generation, and yet");
    story.order(1, DISCARD);
    story.order(0, CONNECT);
    story.heal();
    assert_eq!(story.copied(0), blocks);
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.read(0, block, 6), FrontResult::Done);
    story.ends_well();
}

#[test]
fn crashes_and_flaps_raise_no_alarm() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    for turn in 0..12 {
        story.write(0, block + turn, 4);
        story.flush(0);
        story.rest(300 * turn);
        match turn % 3 {
            0 => story.cut(100),
            1 => story.kill(1, true),
            _ => story.kill(0, true),
        }
        for node in [0, 1] {
            story.start(node);
        }
        story.until("the link is back", Story::connected);
        let full = [0, 1].map(|node| story.state(node).full_resync);
        assert_eq!(full, [None, None]);
        story.heal();
        let _ = story.promote(0, false);
    }
    story.ends_well();
}

/// A split brain in which an operator has declared the other side void: no policy takes that back.
#[test]
fn a_policy_does_not_take_back_that_the_peer_is_void() {
    let mut story = Story::planned(|plan| plan.policies = [5, 3, 0, 1]); // discards node 0, or the Secondary
    assert_eq!(story.promote(0, false), Ok(()));
    let (here, there) = (story.block_in(2), story.block_in(6));
    let blocks = story.state(0).sectors / 8;
    story.cut(3_000);
    story.until("the link is down", |story| !story.connected());
    assert_eq!(story.write(0, here, 2), FrontResult::Done);
    story.world.oracle.victim = Some(1);
    assert_eq!(story.promote(1, true), Ok(()));
    story.world.scribble(1, there);
    story.until("it is written", |story| story.world.scribbles_pending() == 0);
    assert_eq!(story.command(1, Command::Demote), Ok(()));
    story.order(0, INVALIDATE_PEER);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    story.until("both stand alone", |story| story.alone(0) && story.alone(1));
    story.order(1, DISCARD);
    story.order(0, CONNECT);
    story.heal();
    assert_eq!(story.copied(0), blocks);
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.read(0, here, 2), FrontResult::Done);
    story.ends_well();
}

/// A mark is told when it is durable, not before: a power cut between the two would look like an older image.
#[test]
fn a_power_cut_while_a_mark_is_recorded_raises_no_alarm() {
    for turn in 0..10 {
        let mut story = Story::with_primary();
        for _ in 0..turn {
            story.world.rng.next();
        }
        let block = story.block_in(4);
        story.write(0, block, 4);
        story.world.plan.disk_typical = 800_000;
        let recording = |story: &Story| story.world.nodes[1].disk.meta.writes_superblock();
        story.until("the mark is being recorded", recording);
        story.rest(300);
        assert!(recording(&story), "and the peer would have heard of it");
        story.kill(1, true);
        story.world.plan.disk_typical = 100;
        story.start(1);
        story.until("the link is back", Story::connected);
        let full = [0, 1].map(|node| story.state(node).full_resync);
        assert_eq!(full, [None, None]);
        story.ends_well();
    }
}
