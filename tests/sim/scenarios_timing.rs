//! Stories in which something is slow: late writes, roles that change during a greeting, more reads than credits.

use crate::fate::DiskPart;
use crate::story::Story;
use rblk::limits::EXTENT_BLOCKS;
use rblk::replica::Connection;
use rblk::replica::event::{Command, FrontResult};
use rblk::wire::message::{DiskState, Role};

/// All disks take this long from now on, in microseconds.
fn slow_disks(story: &mut Story, typical: u64) {
    story.world.plan.disk_typical = typical;
}

/// What the lost Primary had sent may still be on its way to the disk: nobody reads before it has landed.
#[test]
fn a_value_does_not_flip_after_it_was_read() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    story.write(0, block, 2);
    slow_disks(&mut story, 1_500_000);
    story.begin_write(0, block, 2);
    story.until("the peer writes", |story| !story.world.nodes[1].disk.in_flight.is_empty());
    slow_disks(&mut story, 100);
    story.kill(0, false);
    story.until("the loss is noticed", |story| story.state(1).disk == DiskState::Consistent);
    assert_eq!(story.promote(1, true), Ok(()));
    assert_eq!(story.read(1, block, 2), FrontResult::Done);
    story.rest(4_000);
    assert_eq!(story.read(1, block, 2), FrontResult::Done);
    story.start(0);
    story.ends_well();
}

/// A node that is becoming Primary says so, however long its record takes.
#[test]
fn a_role_that_changes_during_the_greeting_is_the_one_that_is_told() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    story.kill(1, false);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    story.world.net.parted_until = u64::MAX;
    story.start(1);
    story.rest(2_000);
    slow_disks(&mut story, 1_500_000);
    story.world.command(0, Command::Promote { force: false });
    slow_disks(&mut story, 100);
    story.world.net.parted_until = 0;
    story.until("the command is answered", |story| story.world.operator.last_reply.is_some());
    story.until("the nodes have met", Story::connected);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.ends_well();
}

/// So does one that has its record, and waits for what the lost Primary had sent to land.
#[test]
fn a_role_that_waits_for_late_writes_is_the_one_that_is_told() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    story.write(0, block, 2);
    story.world.nodes[1].delay_next = Some(3_000_000);
    story.begin_write(0, block, 2);
    story.until("the peer writes", |story| !story.world.nodes[1].disk.in_flight.is_empty());
    story.kill(0, false);
    story.until("the loss is noticed", |story| story.state(1).disk == DiskState::Consistent);
    story.world.command(1, Command::Promote { force: true });
    story.start(0);
    story.until("the nodes greet", |story| story.state(1).connection == Connection::Greeting);
    assert_eq!(story.state(1).role, Role::Secondary, "it is not Primary yet");
    story.until("the command is answered", |story| story.world.operator.last_reply.is_some());
    story.until("the nodes have met", Story::connected);
    assert_eq!(story.state(0).peer_role, Some(Role::Primary));
    assert_eq!(story.write(1, block, 2), FrontResult::Done);
    story.ends_well();
}

/// A node that gives up its role during a greeting does not go on with it as what it was.
#[test]
fn a_role_that_is_given_up_during_the_greeting_is_not_told() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    story.kill(1, false);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.start(1);
    story.world.net.slow = (story.world.now + 10_000_000, 200_000);
    let exchanging = |story: &Story| story.state(1).disk == DiskState::Inconsistent;
    story.until("the target is on record", exchanging);
    assert!(!story.connected_at(0));
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    story.until("the nodes have met", Story::connected);
    assert_eq!(story.state(1).peer_role, Some(Role::Secondary));
    story.ends_well();
}

/// Nor does one that takes up its role.
#[test]
fn a_role_that_is_taken_up_during_the_greeting_is_told() {
    let mut story = Story::with_primary();
    let block = story.block_in(4);
    story.kill(1, false);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    story.start(1);
    story.world.net.slow = (story.world.now + 10_000_000, 200_000);
    let exchanging = |story: &Story| story.state(1).disk == DiskState::Inconsistent;
    story.until("the target is on record", exchanging);
    assert!(!story.connected_at(0));
    assert_eq!(story.promote(0, false), Ok(()));
    story.until("the nodes have met", Story::connected);
    assert_eq!(story.state(1).peer_role, Some(Role::Primary));
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.ends_well();
}

/// A Primary without its disk asks the peer for no more at once than that allows.
#[test]
fn reads_at_the_peer_wait_for_their_turn() {
    let mut story = Story::planned(|plan| plan.depth = 40);
    assert_eq!(story.promote(0, false), Ok(()));
    let block = story.block_in(4);
    story.write(0, block, 32);
    story.fail_next(0, DiskPart::Data);
    assert_eq!(story.write(0, block, 1), FrontResult::Done);
    assert_eq!(story.state(0).disk, DiskState::Diskless);
    let connections = story.world.sums.kinds.get("connections").copied();
    for number in 0..40 {
        story.begin_read(0, block + number, 1);
    }
    story.until("all are answered", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    assert_eq!(story.world.sums.kinds.get("connections").copied(), connections, "no quarrel");
}

/// A write that ends here during a greeting goes to both nodes once that is over.
#[test]
fn a_write_that_ends_during_the_greeting_is_answered() {
    for turn in 0..20 {
        let mut story = Story::with_primary();
        for _ in 0..turn {
            story.world.rng.next();
        }
        let block = story.block_in(4);
        story.write(0, block, 1);
        slow_disks(&mut story, 1_000_000);
        story.begin_write(0, block, 2);
        story.until("the disk is at work", |story| !story.world.nodes[0].disk.in_flight.is_empty());
        slow_disks(&mut story, 100);
        story.cut(1);
        story.world.net.slow = (story.world.now + 5_000_000, 150_000);
        story.until("the write is answered", |story| story.world.client.is_idle());
        assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
        story.ends_well();
    }
}

/// The answer of a disk that was given up comes in the end, and is taken for no other.
#[test]
fn a_late_answer_of_the_disk_ends_nothing_else() {
    let mut story = Story::planned(|plan| plan.disk_timeout_ms = 1_000);
    assert_eq!(story.promote(0, false), Ok(()));
    let block = story.block_in(4);
    story.write(0, block, 1);
    slow_disks(&mut story, 4_000_000);
    story.world.nodes[0].harmed = true; // it is about to be given up
    story.begin_write(0, block, 1);
    story.until("the disk is at work", |story| !story.world.nodes[0].disk.in_flight.is_empty());
    slow_disks(&mut story, 100);
    story.until("it is given up", |story| story.state(0).disk == DiskState::Diskless);
    story.until("the write is answered", |story| story.world.client.is_idle());
    let connections = story.world.sums.kinds.get("connections").copied();
    story.world.net.slow = (story.world.now + 20_000_000, 200_000);
    while !story.world.nodes[0].disk.in_flight.is_empty() {
        for number in 0..12 {
            story.begin_read(0, block + number, 1);
        }
        story.until("all are answered", |story| story.world.client.is_idle());
    }
    assert_eq!(story.world.sums.kinds.get("connections").copied(), connections, "no quarrel");
}

/// A Primary that is a resync target reads nothing once it is cut off from its source.
#[test]
fn a_target_cut_off_from_its_source_answers_no_read() {
    let mut story = Story::of_two(true);
    assert_eq!(story.promote(0, true), Ok(()));
    story.until("half is copied", |story| story.copied(0) > 6 * EXTENT_BLOCKS);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.state(1).disk, DiskState::Inconsistent);
    assert_eq!(story.read(1, 0, 1), FrontResult::Done);
    story.cut(5_000);
    story.until("both know", |story| !story.connected_at(0) && !story.connected_at(1));
    story.begin_read(1, 0, 1);
    story.rest(1_000);
    assert!(!story.world.client.is_idle(), "what was copied may be old by now");
    story.until("the read is answered", |story| story.world.client.is_idle());
    story.ends_well();
}

/// A read that such a target began before it was cut off is not answered with what it found afterwards.
#[test]
fn a_read_that_outlives_the_connection_to_the_source_is_not_answered() {
    let mut story = Story::of_two(true);
    assert_eq!(story.promote(0, true), Ok(()));
    story.until("half is copied", |story| story.copied(0) > 6 * EXTENT_BLOCKS);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.state(1).disk, DiskState::Inconsistent);
    story.world.nodes[1].delay_next = Some(1_000_000);
    story.begin_read(1, 0, 1);
    story.until("the disk reads", |story| !story.world.nodes[1].disk.in_flight.is_empty());
    story.cut(5_000);
    story.rest(2_000);
    assert!(!story.world.client.is_idle(), "what was copied may be old by now");
    story.until("the read is answered", |story| story.world.client.is_idle());
    story.ends_well();
}
