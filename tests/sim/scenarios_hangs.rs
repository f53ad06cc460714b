//! A Secondary's disk hangs or is slow, and its daemon lives: what the Primary's clients see of it.

use crate::plan::Plan;
use crate::story::{PEER_TIMEOUT_MS, Story};
use rblk::replica::GreetingWaits;
use rblk::replica::event::{Command, FrontResult};
use rblk::replica::snapshot::Connection;
use rblk::wire::message::DiskState;

/// Node 0 is Primary.
fn primary(change: impl FnOnce(&mut Plan)) -> Story {
    let mut story = Story::planned(change);
    assert_eq!(story.promote(0, false), Ok(()));
    story
}

impl Story {
    /// Writes at node 0 every 100 ms for so long; the waits, in milliseconds, that were longer than a quarter of the
    /// peer timeout.
    fn stalls_within(&mut self, ms: u64) -> Vec<u64> {
        let (block, end) = (self.block_in(1), self.world.now + ms * 1_000);
        let mut stalls = Vec::new();
        while self.world.now < end {
            let began = self.world.now;
            assert_eq!(self.write(0, block, 2), FrontResult::Done);
            let waited = (self.world.now - began) / 1_000;
            if waited > PEER_TIMEOUT_MS / 4 {
                stalls.push(waited);
            }
            self.rest(100);
        }
        stalls
    }

    /// The daemon is started anew, on a disk that works again.
    fn returns(mut self, node: usize) {
        self.kill(node, false);
        self.world.mend_disks();
        self.start(node);
        self.ends_well();
    }
}

/// The peer answers pings and greets again and again, but what it has with its disk never ends: that costs one stall.
#[test]
fn a_peer_whose_disk_hangs_stalls_the_primary_once() {
    let mut story = primary(|plan| plan.disk_timeout_ms = 1_000_000);
    story.world.nodes[1].hang_next = true;
    let stalls = story.stalls_within(60_000);
    assert_eq!(stalls.len(), 1, "{stalls:?}");
    assert!(stalls[0] < PEER_TIMEOUT_MS * 3 / 2, "{stalls:?}");
    assert_eq!(story.state(0).connection, Connection::Greeting);
    assert_eq!(story.state(0).greeting_waits, Some(GreetingWaits::Peer));
    assert_eq!(story.state(1).greeting_waits, Some(GreetingWaits::OurDisk));
    assert_eq!(story.state(1).disk, DiskState::Consistent, "it may still end");
    story.returns(1);
}

/// The same where only a flush hangs, and nobody waited for that one.
#[test]
fn a_peer_whose_flush_hangs_stalls_the_primary_once() {
    let mut story = primary(|plan| plan.disk_timeout_ms = 1_000_000);
    let block = story.block_in(1);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.world.nodes[1].hang_next = true;
    story.until("the link is lost", |story| !story.connected_at(0));
    let stalls = story.stalls_within(60_000);
    assert!(stalls.len() <= 1, "{stalls:?}");
    story.returns(1);
}

/// A Secondary gives up a disk that hangs as soon as it knows that the Primary's is good, though the two do not get
/// through their greeting: then they are connected, and everybody is told.
#[test]
fn a_secondary_gives_up_a_disk_that_its_greeting_waits_for() {
    let mut story = primary(|plan| plan.disk_timeout_ms = 10_000);
    story.world.nodes[1].hang_next = true;
    let stalls = story.stalls_within(20_000);
    assert_eq!(stalls.len(), 1, "{stalls:?}");
    assert_eq!(story.state(1).disk, DiskState::Diskless);
    assert_eq!(story.state(0).connection, Connection::Connected);
    assert_eq!(story.state(0).peer_disk, Some(DiskState::Diskless));
    story.returns(1);
}

/// But never while nobody else is known to have good data.
#[test]
fn a_secondary_does_not_give_up_its_disk_while_the_peer_is_away() {
    let mut story = primary(|plan| plan.disk_timeout_ms = 5_000);
    let block = story.block_in(1);
    story.world.nodes[1].delay_next = Some(30_000_000);
    story.world.nodes[1].harmed = true;
    story.begin_write(0, block, 2);
    story.until("its disk has it", |story| !story.world.nodes[1].disk.in_flight.is_empty());
    story.kill(0, true);
    story.rest(20_000);
    assert_eq!(story.state(1).disk, DiskState::Consistent);
    story.rest(20_000);
    story.start(0);
    story.ends_well();
}

/// Every operation of a peer's disk takes longer than the peer timeout, and its daemon answers: each time that it is
/// taken in again costs the clients a wait, and these times become rare.
#[test]
fn a_peer_whose_disk_is_slow_stalls_the_primary_ever_less_often() {
    for ride_through_ms in [0, 15_000] {
        let mut story = primary(|plan| {
            plan.disk_timeout_ms = 1_000_000;
            plan.ride_through_ms = ride_through_ms;
        });
        story.world.nodes[1].media.slower = PEER_TIMEOUT_MS * 1_500;
        let stalls = story.stalls_within(600_000);
        assert!((1..=8).contains(&stalls.len()), "stalls of {stalls:?} ms");
        let longest = stalls.iter().max().expect("one");
        assert!(*longest < ride_through_ms + 3 * PEER_TIMEOUT_MS, "{stalls:?}");
        assert!(matches!(story.state(0).greeting_waits, Some(GreetingWaits::Rest { .. })));
        story.world.nodes[1].media.slower = 0;
        // Who does not want to wait says so.
        assert_eq!(story.command(0, Command::Connect { discard_my_data: false }), Ok(()));
        story.rest(3_000);
        assert!(story.mirrored());
        story.ends_well();
    }
}

/// A Primary that lets its peer rest, and whose own disk is slow for once, does not blame the peer for that.
#[test]
fn a_slow_flush_of_ones_own_disk_does_not_prolong_the_rest() {
    let mut story = primary(|plan| plan.disk_timeout_ms = 1_000_000);
    story.world.nodes[1].media.slower = PEER_TIMEOUT_MS * 1_500;
    let block = story.block_in(1);
    let rests = |story: &Story| story.state(0).greeting_waits;
    while !matches!(rests(&story), Some(GreetingWaits::Rest { .. })) {
        assert_eq!(story.write(0, block, 2), FrontResult::Done);
        story.rest(100);
    }
    let before = rests(&story);
    story.world.nodes[0].media.slower = PEER_TIMEOUT_MS * 1_500;
    story.begin_flush(0);
    story.rest(10);
    story.begin_flush(0);
    story.until("both are answered", |story| story.world.client.is_idle());
    assert_eq!(rests(&story), before);
    for node in [0, 1] {
        story.world.nodes[node].media.slower = 0;
    }
    story.ends_well();
}
