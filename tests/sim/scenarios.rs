//! What users are promised, told as stories.

use crate::fate::DiskPart;
use crate::node::Source;
use crate::story::{PEER_TIMEOUT_MS, Story};
use rblk::limits::{EXTENT_BLOCKS, EXTENT_SECTORS, IDLE_FLUSH_MS};
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::wire::message::DiskState;

/// A client waits at most this long when the peer is lost without a word, in milliseconds.
const STALL_MS: u64 = PEER_TIMEOUT_MS + 1_000;

#[test]
fn a_secondary_that_returns_copies_only_what_was_written_meanwhile() {
    let mut story = Story::with_primary();
    let (here, there) = (story.block_in(1), story.block_in(5));
    assert_eq!(story.write(0, here, 4), FrontResult::Done);
    assert_eq!(story.flush(0), FrontResult::Done);
    story.kill(1, true);
    for block in 0..10 {
        assert_eq!(story.write(0, there + block, 1), FrontResult::Done);
    }
    story.start(1);
    story.heal();
    assert_eq!(story.copied(0), 10);
    story.ends_well();
}

#[test]
fn an_idle_flap_changes_no_generation_and_copies_nothing() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    story.write(0, block, 8);
    story.flush(0);
    let before = [story.generation(0), story.generation(1)];
    for _ in 0..5 {
        story.cut(700);
        story.until("the link is down", |story| !story.connected());
        story.heal();
        assert_eq!([story.copied(0), story.copied(1)], [0, 0]);
    }
    assert_eq!([story.generation(0), story.generation(1)], before);
    story.ends_well();
}

#[test]
fn each_node_knows_the_configuration_of_the_other_while_they_are_connected() {
    let mut story = Story::with_primary();
    let known = |story: &Story| {
        [0, 1].map(|node| (story.state(node).config, story.state(node).peer_config))
    };
    assert_eq!(known(&story), [(1, Some(2)), (2, Some(1))]);
    story.cut(700);
    story.until("both know that the link is down", |story| {
        !story.connected_at(0) && !story.connected_at(1)
    });
    assert_eq!(known(&story), [(1, None), (2, None)]);
    story.heal();
    assert_eq!(known(&story), [(1, Some(2)), (2, Some(1))]);
    story.ends_well();
}

#[test]
fn a_flush_without_the_peer_waits_for_the_record() {
    let mut story = Story::with_primary();
    let block = story.block_in(3);
    let before = story.generation(0);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.kill(1, true);
    assert_eq!(story.flush(0), FrontResult::Done);
    assert_ne!(story.generation(0), before, "what the peer lost is on record before the answer");
    story.start(1);
    story.heal();
    assert_eq!(story.copied(0), 2);
    story.ends_well();
}

#[test]
fn a_killed_primary_copies_the_extents_of_its_activity_log() {
    let mut story = Story::with_primary();
    let (one, two) = (story.block_in(1), story.block_in(6));
    story.write(0, one, 1);
    story.write(0, two, 1);
    story.flush(0);
    story.kill(0, false);
    story.start(0);
    story.until("the log is compared", Story::connected);
    let most = 4 * EXTENT_BLOCKS; // a window may straddle two extents
    assert!(story.state(0).resync_total_bytes / 4096 <= most);
    assert!(story.state(0).resync_total_bytes > 0);
    story.heal();
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, one, 1), FrontResult::Done);
    story.ends_well();
}

/// The volume has more extents than the log has slots, and no client ever flushes: a write that finds no room waits for
/// one flush of both disks, not for the time when one would come by itself.
#[test]
fn a_write_that_finds_no_room_in_the_log_waits_for_one_flush() {
    let mut story = Story::with_primary();
    let extents = story.state(0).sectors / EXTENT_SECTORS;
    assert!(extents > story.world.plan.al_slots as u64);
    let began = story.world.now;
    for turn in 0..2 {
        for extent in 0..extents as usize {
            let (block, before) = (story.block_in(extent) + turn, story.world.now);
            assert_eq!(story.write(0, block, 1), FrontResult::Done);
            let waited = (story.world.now - before) / 1_000;
            assert!(waited < 100, "{waited} ms for extent {extent}");
        }
    }
    assert!(story.world.now - began < IDLE_FLUSH_MS * 1_000, "so nothing came by itself");
    story.ends_well();
}

#[test]
fn a_full_sync_goes_on_where_it_was_interrupted() {
    let mut story = Story::of_two(true);
    assert_eq!(story.promote(0, true), Ok(()));
    story.until("half is copied", |story| {
        story.connected()
            && story.copied(0) > 6 * EXTENT_BLOCKS
            && story.state(0).disk == DiskState::UpToDate
    });
    story.rest(0);
    let left = story.state(0).out_of_sync_bytes / 4096;
    story.cut(1_000);
    story.until("the link is down", |story| !story.connected());
    story.until("the link is back", Story::connected);
    let again = story.state(0).resync_total_bytes / 4096;
    assert!(again <= left, "{again} blocks to copy, and {left} before the cut");
    story.ends_well();
}

#[test]
fn a_primary_without_its_disk_works_on_the_peers() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    story.write(0, block, 4);
    story.fail_next(0, DiskPart::Data);
    assert_eq!(story.write(0, block + 2, 4), FrontResult::Done);
    assert_eq!(story.state(0).disk, DiskState::Diskless);
    assert_eq!(story.read(0, block, 6), FrontResult::Done);
    assert_eq!(story.flush(0), FrontResult::Done);
    assert!(story.world.nodes[1].recorded_alone(), "the peer knows that our disk is old");
    story.leave(0);
    story.start(0);
    story.ends_well();
}

#[test]
fn a_secondary_that_leaves_in_good_order_costs_no_stall() {
    let mut story = Story::with_primary();
    let block = story.block_in(7);
    story.write(0, block, 4);
    story.leave(1);
    let before = story.world.now;
    assert_eq!(story.write(0, block, 4), FrontResult::Done);
    assert!(story.world.now - before < 100_000, "its leave was on record already");
    story.leave(0);
    story.start(1);
    story.rest(1_000);
    let refused = story.promote(1, false);
    assert_eq!(refused, Err(CommandError::NotUpToDate(DiskState::Outdated)));
    story.start(0);
    story.until("both are connected", Story::connected);
    story.ends_well();
}

#[test]
fn a_silent_peer_stalls_a_write_no_longer_than_its_timeout() {
    for paused in [true, false] {
        let mut story = Story::with_primary();
        let block = story.block_in(8);
        story.write(0, block, 1);
        if paused {
            story.world.nodes[1].paused = true;
        } else {
            story.world.silence(1);
            story.world.silence(0);
            story.world.net.parted_until = u64::MAX;
        }
        let before = story.world.now;
        assert_eq!(story.write(0, block, 1), FrontResult::Done);
        let stall = (story.world.now - before) / 1_000;
        assert!(stall < STALL_MS, "stalled for {stall} ms");
    }
}

#[test]
fn a_pause_is_not_held_against_the_disk() {
    let mut story = Story::with_primary();
    let block = story.block_in(8);
    story.begin_write(0, block, 1);
    story.until("the peer writes", |story| !story.world.nodes[1].disk.in_flight.is_empty());
    story.world.nodes[1].paused = true;
    story.rest(60_000);
    story.world.wake(1, [Source::Network, Source::Clock, Source::Disk]);
    story.until("both are connected", Story::connected);
    assert!(story.state(1).disk > DiskState::Failed, "its disk answered long ago");
    story.ends_well();
}

#[test]
fn a_switchover_needs_no_resync() {
    let mut story = Story::with_primary();
    let block = story.block_in(9);
    for turn in 0..6 {
        let (from, to) = (turn % 2, 1 - turn % 2);
        assert_eq!(story.write(from, block + turn as u64, 3), FrontResult::Done);
        assert_eq!(story.command(from, Command::Demote), Ok(()));
        assert_eq!(story.promote(to, false), Ok(()));
        assert_eq!(story.read(to, block, 8), FrontResult::Done);
        assert!(story.mirrored());
    }
    story.ends_well();
}
