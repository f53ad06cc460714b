//! Stories in which something is slow: late writes, roles that change during a greeting, more reads than credits.

use crate::fate::DiskPart;
use crate::story::Story;
use rblk::replica::event::{Command, FrontResult};
use rblk::wire::message::DiskState;

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
