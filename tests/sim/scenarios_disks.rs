//! What becomes of disks, told as stories.

use crate::fate::DiskPart;
use crate::node::Source;
use crate::story::{PEER_TIMEOUT_MS, Story};
use rblk::limits::EXTENT_BLOCKS;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::replica::{Connection, Suspended};
use rblk::span::Span;
use rblk::wire::message::{DiskState, Refusal};

/// A pause is not held against the disk, also where it is too short to be noticed by the peer's clock.
#[test]
fn a_pause_below_the_peer_timeout_is_not_held_against_the_disk() {
    for node in [0, 1] {
        let mut story = Story::planned(|plan| {
            plan.peer_timeout_ms = 10_000;
            plan.disk_timeout_ms = 1_000;
        });
        assert_eq!(story.promote(0, false), Ok(()));
        let block = story.block_in(2);
        story.begin_write(0, block, 1);
        let busy = |story: &Story| !story.world.nodes[node].disk.in_flight.is_empty();
        story.until("the disk is at work", busy);
        story.world.nodes[node].paused = true;
        story.rest(2_000);
        story.world.wake(node, [Source::Clock, Source::Network, Source::Disk]);
        story.until("the write is answered", |story| story.world.client.is_idle());
        assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
        assert_eq!(story.state(node).disk, DiskState::UpToDate);
        story.ends_well();
    }
}

/// A disk that hangs is given up after its timeout, however often the daemon stops for a moment.
#[test]
fn a_hung_disk_is_given_up_though_the_daemon_stops_often() {
    let mut story = Story::planned(|plan| plan.disk_timeout_ms = 1_000);
    assert_eq!(story.promote(0, false), Ok(()));
    story.world.nodes[0].hang_next = true;
    let block = story.block_in(3);
    story.begin_write(0, block, 1);
    for _ in 0..12 {
        story.pause(0, 300);
    }
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done), "the peer took over");
    assert_eq!(story.state(0).disk, DiskState::Diskless);
}

/// Each waits for the one before. When there is nowhere to write to any more, none waits for something else to happen.
#[test]
fn a_queue_of_writes_to_one_block_fails_at_once() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    story.fail_next(1, DiskPart::Data);
    assert_eq!(story.write(0, block, 1), FrontResult::Done);
    let gone = |story: &Story| story.state(0).peer_disk == Some(DiskState::Diskless);
    story.until("the Secondary has given its disk up", gone);
    story.fail_next(0, DiskPart::Data);
    for _ in 0..8 {
        let span = Span::of_blocks(block..block + 1).expect("a valid span");
        story.world.write_now(0, span, true);
    }
    story.until("the disk is given up", |story| story.state(0).disk != DiskState::UpToDate);
    assert!(story.world.client.is_idle(), "a write waits for nothing");
    assert_eq!(story.world.client.last_result, Some(FrontResult::IoError));
}

/// The Secondary lost its cache, and then the Primary its disk: nobody has all that clients were told is done.
#[test]
fn a_primary_without_its_disk_does_not_take_a_peer_that_lost_its_cache_for_the_data() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    assert_eq!(story.write(0, block, 32), FrontResult::Done);
    story.kill(1, true);
    story.until("the loss is noticed", |story| story.state(0).connection == Connection::Connecting);
    story.fail_next(0, DiskPart::Flush);
    story.begin_flush(0);
    story.until("the disk is given up", |story| story.state(0).disk == DiskState::Diskless);
    assert_eq!(story.state(0).suspended, Suspended::NoData, "the peer may still have it all");
    story.start(1);
    assert_eq!(story.read(0, block, 32), FrontResult::IoError, "never what the peer has instead");
    assert_eq!(story.state(0).refusal.map(|refusal| refusal.1), Some(Refusal::DataLost));
    assert_eq!(story.write(0, block, 1), FrontResult::IoError);
    assert_eq!(story.flush(0), FrontResult::IoError);
    // The disk can be read after all.
    story.kill(0, false);
    story.start(0);
    story.heal();
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.read(0, block, 32), FrontResult::Done);
    story.ends_well();
}

/// The same, but the disk fails first and the peer dies before it has flushed.
#[test]
fn a_peer_that_dies_before_it_owns_the_data_does_not_own_it() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    assert_eq!(story.write(0, block, 32), FrontResult::Done);
    story.fail_next(0, DiskPart::Data);
    story.begin_write(0, block + 40, 1);
    story.until("the disk is given up", |story| story.state(0).disk == DiskState::Diskless);
    story.kill(1, true);
    story.start(1);
    story.until("the write is answered", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::IoError));
    assert_eq!(story.read(0, block, 32), FrontResult::IoError);
    story.kill(0, false);
    story.start(0);
    story.heal();
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, block, 32), FrontResult::Done);
    story.ends_well();
}

/// A peer that only was out of reach has it all, and a request waits for it.
#[test]
fn a_primary_without_its_disk_waits_for_a_peer_that_lived_on() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    assert_eq!(story.write(0, block, 32), FrontResult::Done);
    story.cut(1_000);
    story.until("the link is down", |story| !story.connected());
    story.fail_next(0, DiskPart::Flush);
    story.begin_flush(0);
    story.until("the disk is given up", |story| story.state(0).disk == DiskState::Diskless);
    assert_eq!(story.read(0, block, 32), FrontResult::Done);
    assert_eq!(story.write(0, block + 8, 1), FrontResult::Done);
    assert_eq!(story.flush(0), FrontResult::Done);
    // From here on all of it is on stable media there, so not even its power is needed.
    story.kill(1, true);
    story.start(1);
    assert_eq!(story.read(0, block, 32), FrontResult::Done);
    story.leave(0);
    story.start(0);
    story.ends_well();
}

/// A write that both disks were given, of which one fails, is not done before the other has it for good.
#[test]
fn a_write_in_flight_when_the_disk_fails_outlives_the_peers_power() {
    let mut story = Story::with_primary();
    let (block, other) = (story.block_in(4), story.block_in(5));
    // At the peer the first write ends after the flush with which it takes over.
    story.world.nodes[1].delay_next = Some(200_000);
    story.begin_write(0, block, 32);
    story.until("both disks are at work", |story| {
        story.world.nodes.iter().all(|node| !node.disk.in_flight.is_empty())
    });
    story.until("ours has it", |story| story.world.nodes[0].disk.in_flight.is_empty());
    story.fail_next(0, DiskPart::Data);
    story.begin_write(0, other, 1);
    story.until("the disk is given up", |story| story.state(0).disk == DiskState::Diskless);
    story.until("the writes are answered", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    story.kill(1, true);
    story.start(1);
    assert_eq!(story.read(0, block, 32), FrontResult::Done);
    story.leave(0);
    story.start(0);
    story.ends_well();
}

/// Nobody waits for ever for a disk that will not come back.
#[test]
fn a_primary_without_any_disk_can_be_demoted_while_a_flush_waits() {
    let mut story = Story::with_primary();
    story.cut(600_000);
    story.until("the link is down", |story| !story.connected());
    story.fail_next(0, DiskPart::Flush);
    story.begin_flush(0);
    story.until("the disk is given up", |story| story.state(0).disk == DiskState::Diskless);
    story.begin_flush(0);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.world.client.last_result, Some(FrontResult::IoError));
}

/// A Primary whose disk is still being filled, and the peer that it is filled from: 1 promoted first, then 0.
fn primary_target() -> (Story, u64) {
    let mut story = Story::of_two(true);
    assert_eq!(story.promote(1, true), Ok(()));
    story
        .until("the resync runs", |story| story.connected() && story.copied(0) > 2 * EXTENT_BLOCKS);
    assert_eq!(story.command(1, Command::Demote), Ok(()));
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.state(0).disk, DiskState::Inconsistent);
    let block = story.block_in(0);
    assert_eq!(story.read(0, block, 1), FrontResult::Done);
    story.part_unheard();
    // Or else it answers somebody who has died meanwhile, and learns so.
    story.until("its disk rests", |story| story.world.nodes[0].disk.in_flight.is_empty());
    (story, block)
}

/// A daemon that did not run may have been replaced meanwhile: what it copied before is old.
#[test]
fn a_primary_that_did_not_run_reads_nothing_from_a_disk_that_needs_the_peer() {
    let (mut story, block) = primary_target();
    story.world.nodes[0].paused = true;
    story.rest(4 * PEER_TIMEOUT_MS);
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.write(1, block, 1), FrontResult::Done);
    story.begin_read(0, block, 1);
    story.world.wake(0, [Source::Clock, Source::Network, Source::Disk]);
    story.rest(4 * PEER_TIMEOUT_MS);
    assert!(!story.world.client.is_idle(), "the read waits for the peer");
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.world.client.last_result, Some(FrontResult::IoError));
    story.world.net.parted_until = 0;
    story.ends_well();
}

/// Nor may its data be declared void then: its clients still read it.
#[test]
fn a_primary_that_has_not_noticed_is_not_declared_invalid() {
    let (mut story, block) = primary_target();
    let void = Command::Invalidate { peer: true };
    story.kill(1, true);
    story.start(1);
    assert_eq!(story.command(1, void), Err(CommandError::PeerMayServe));
    assert_eq!(story.read(0, block, 1), FrontResult::Done, "it has not noticed yet");
    story.rest(2 * PEER_TIMEOUT_MS);
    assert_eq!(story.command(1, void), Ok(()));
    story.begin_read(0, block, 1);
    story.rest(4 * PEER_TIMEOUT_MS);
    assert!(!story.world.client.is_idle(), "it waits for the node whose data counts");
    story.world.net.parted_until = 0;
    assert_eq!(story.command(1, Command::Connect { discard_my_data: false }), Ok(()));
    story.until("it is answered", |story| story.world.client.is_idle());
    story.ends_well();
}

/// A node that has just started does not know whether the other works as Primary on its data.
#[test]
fn a_node_that_has_just_started_gives_a_primary_time_to_notice() {
    let (mut story, block) = primary_target();
    story.kill(1, true);
    story.start(1);
    assert_eq!(story.read(0, block, 1), FrontResult::Done, "it has not noticed yet");
    assert_eq!(story.promote(1, false), Err(CommandError::PeerMayServe));
    story.rest(2 * PEER_TIMEOUT_MS);
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.write(1, block, 1), FrontResult::Done);
    story.begin_read(0, block, 1);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.world.client.last_result, Some(FrontResult::IoError));
    story.world.net.parted_until = 0;
    story.ends_well();
}

/// Alone, a write that was to be stable at once fails, perhaps in the flush that is part of it: as with a flush, what
/// was completed before may be lost, so no later flush says that it is stable.
#[test]
fn a_stable_write_that_fails_alone_is_a_failed_flush() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    story.kill(1, false);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.fail_next(0, DiskPart::Stable);
    assert_eq!(story.write_fua(0, block + 8, 1), FrontResult::IoError);
    assert_eq!(story.state(0).disk, DiskState::Diskless);
    assert_eq!(story.flush(0), FrontResult::IoError);
    assert_eq!(story.read(0, block, 2), FrontResult::IoError);
    story.kill(0, true);
    story.start(0);
    story.start(1);
    story.ends_well();
}

/// The same beside a resync target, which cannot answer for the data either.
#[test]
fn a_stable_write_that_fails_beside_a_target_is_a_failed_flush() {
    let mut story = Story::of_two(true);
    assert_eq!(story.promote(0, true), Ok(()));
    story.until("it is copied", |story| story.copied(0) > 0);
    let block = story.block_in(2);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    assert_eq!(story.state(1).disk, DiskState::Inconsistent);
    story.fail_next(0, DiskPart::Stable);
    assert_eq!(story.write_fua(0, block + 8, 1), FrontResult::IoError);
    assert_eq!(story.flush(0), FrontResult::IoError);
    assert_eq!(story.state(0).disk, DiskState::Diskless);
    story.kill(0, true);
    story.start(0);
    story.ends_well();
}

/// A node that went on alone lost its disk when it stepped down: what was completed meanwhile is on that disk only. The
/// other is not taken for the data because it is the only one that has a disk now.
#[test]
fn what_was_completed_alone_is_not_forgotten_with_the_disk() {
    let mut story = Story::with_primary();
    story.world.net.parted_until = story.world.now + 20_000_000;
    story.world.cut(false);
    let block = story.block_in(4);
    assert_eq!(story.write(0, block, 8), FrontResult::Done);
    assert!(story.state(0).alone);
    story.fail_next(0, DiskPart::Metadata);
    let _ = story.command(0, Command::Demote);
    story.until("the disk is given up", |story| story.state(0).disk == DiskState::Diskless);
    let refused = |story: &Story| story.state(1).refusal.map(|refusal| refusal.1);
    story.until("they have met", |story| refused(story).is_some());
    assert_eq!(refused(&story), Some(Refusal::SourceOutdated));
    let old = Err(CommandError::NotUpToDate(DiskState::Consistent));
    assert_eq!(story.promote(1, false), old, "its data is older than what was completed");
    // The disk can be read after all.
    story.kill(0, false);
    story.start(0);
    story.until("the newer data is on both", Story::mirrored);
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, block, 8), FrontResult::Done);
    story.ends_well();
}

/// Who has met a Secondary without a disk does not have every write for that: the disk may come back, and have more.
#[test]
fn a_secondary_without_a_disk_vouches_for_nobody() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    assert_eq!(story.write(0, block, 32), FrontResult::Done);
    story.kill(1, true); // what was only in its cache is on node 0 alone
    story.kill(0, false);
    story.start(1);
    story.start(0);
    story.fail_next(0, DiskPart::Metadata);
    story.until("the disk is given up", |story| story.state(0).disk == DiskState::Diskless);
    story.until("they have met", Story::connected);
    // The disk can be read after all.
    story.kill(0, false);
    story.start(0);
    story.until("both are equal", Story::mirrored);
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, block, 32), FrontResult::Done);
    story.ends_well();
}
