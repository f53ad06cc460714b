//! What becomes of disks, told as stories.

use crate::node::Source;
use crate::story::Story;
use rblk::replica::event::FrontResult;
use rblk::wire::message::DiskState;

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
