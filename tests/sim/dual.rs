//! Two Primaries: writes that meet, links that are lost, and who goes on.

use crate::authority::WhenLost;
use crate::node::Fact;
use crate::operator::OF_A_STORY;
use crate::plan::Plan;
use crate::story::Story;
use rblk::limits::RIDE_THROUGH_MARGIN_MS;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::replica::snapshot::{StandAlone, Suspended};
use rblk::wire::message::{DiskState, Refusal, Role};

const RIDE_THROUGH_MS: u64 = 15_000;

/// Both nodes are Primary.
pub(crate) fn two_primaries(change: impl FnOnce(&mut Plan)) -> Story {
    let mut story = Story::planned(|plan| {
        plan.dual = true;
        plan.ride_through_ms = RIDE_THROUGH_MS;
        change(plan);
    });
    for node in [0, 1] {
        assert_eq!(story.promote(node, false), Ok(()));
    }
    story
}

fn prefer_first() -> Story {
    two_primaries(|plan| plan.on_peer_lost = WhenLost::Prefer(0))
}

impl Story {
    /// Four writes that overlap, two at each node.
    fn both_write(&mut self, block: u64) {
        self.begin_write(0, block, 2);
        self.begin_write(1, block + 1, 2);
        self.begin_write(1, block, 1);
        self.begin_write(0, block, 4);
    }

    fn all_answered(&mut self) -> FrontResult {
        self.until("all is answered", |story| story.world.client.is_idle());
        self.world.step += 1;
        self.world.client.last_result.expect("something was asked")
    }

    fn is_primary(&self, node: usize) -> bool {
        self.state(node).role == Role::Primary
    }

    /// The blocks are there for both, and the same; then the usual end.
    pub(crate) fn ends_well_for_both(mut self, block: u64) {
        self.heal();
        for node in [0, 1] {
            assert!(self.is_primary(node));
            assert_eq!(self.read(node, block, 4), FrontResult::Done);
            assert_eq!(self.flush(node), FrontResult::Done);
        }
        self.ends_well();
    }

    /// The network is gone; both have found out, and hold a write.
    fn part_both(&mut self, ms: u64, block: u64) {
        self.cut(ms);
        self.until("both know", |story| !story.connected_at(0) && !story.connected_at(1));
        self.begin_write(0, block, 1);
        self.begin_write(1, block + 1, 1);
        self.rest(100);
        for node in [0, 1] {
            assert_eq!(self.state(node).suspended, Suspended::RideThrough);
        }
    }

    /// Writes, while requests at the other node may wait.
    fn writes_alone(&mut self, node: usize, block: u64) {
        self.begin_write(node, block, 4);
        self.until("it is answered", |story| !story.world.client.waits_for(node));
        assert_eq!(self.world.client.last_result, Some(FrontResult::Done));
        self.world.step += 1;
    }

    /// Node 1 finds that node 0 went on: it lets go, takes in the data, and is Primary again.
    pub(crate) fn rejoins(&mut self) {
        self.until("it learns", |story| story.state(1).suspended == Suspended::Superseded);
        self.until("its clients are told", |story| !story.world.client.waits_for(1));
        assert_eq!(self.command(1, Command::Demote), Ok(()));
        self.heal();
        assert_eq!(self.promote(1, false), Ok(()));
    }
}

#[test]
fn writes_that_meet_end_equal_and_nobody_disconnects() {
    for (disk, net) in [(100, 100), (2_000, 50), (50, 3_000)] {
        let mut story = two_primaries(|plan| {
            (plan.disk_typical, plan.disk_worst) = (disk, 10 * disk);
            (plan.net_typical, plan.net_worst) = (net, 5 * net);
        });
        let (before, connected) = (story.generation(0), story.world.nodes[0].open);
        let block = story.block_in(1);
        for _ in 0..60 {
            story.both_write(block);
            story.begin_read(0, block, 4);
            story.begin_read(1, block, 4);
            story.rest(1);
            story.both_write(block + 2);
            assert_eq!(story.all_answered(), FrontResult::Done);
        }
        assert_eq!(story.world.nodes[0].open, connected);
        assert_eq!([story.generation(0), story.generation(1)], [before; 2]);
        story.ends_well_for_both(block);
    }
}

#[test]
fn a_cut_shorter_than_the_ride_through_leaves_no_trace() {
    for on_peer_lost in [WhenLost::Continue, WhenLost::Prefer(1), WhenLost::Fence] {
        let mut story = two_primaries(|plan| plan.on_peer_lost = on_peer_lost);
        story.world.operator.fence_waits = Some(true);
        let before = story.generation(0);
        let block = story.block_in(1);
        for ms in [200, 3_000, 10_000, 12_000] {
            story.both_write(block);
            story.cut(ms);
            story.both_write(block + 1);
            let began = story.world.now;
            assert_eq!(story.all_answered(), FrontResult::Done);
            let stall = (story.world.now - began) / 1_000;
            assert!(stall < ms + 2_000, "a cut of {ms} ms held clients for {stall} ms");
            story.heal();
            assert_eq!([story.generation(0), story.generation(1)], [before; 2]);
        }
        story.ends_well_for_both(block);
    }
}

#[test]
fn reads_wait_too_until_it_is_known_who_goes_on() {
    let mut story = prefer_first();
    let block = story.block_in(1);
    story.cut(40_000);
    story.until("both know", |story| !story.connected_at(0) && !story.connected_at(1));
    let cut = story.world.now;
    story.begin_read(0, block, 4);
    story.begin_read(1, block, 4);
    story.until("the preferred goes on", |story| !story.world.client.waits_for(0));
    assert!(story.world.now - cut >= (RIDE_THROUGH_MS - RIDE_THROUGH_MARGIN_MS) * 1_000);
    story.writes_alone(0, block);
    assert!(story.world.client.waits_for(1));
    story.rejoins();
    story.ends_well_for_both(block);
}

#[test]
fn of_two_that_parted_only_the_preferred_goes_on() {
    let mut story = prefer_first();
    let block = story.block_in(1);
    story.part_both(100_000, block);
    story.until("it goes on", |story| !story.world.client.waits_for(0));
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    story.rest(60_000);
    assert_eq!(story.state(1).suspended, Suspended::NotAllowed);
    story.writes_alone(0, block);
    story.rejoins();
    assert!(story.copied(0) < 64, "only what differs: {} blocks", story.copied(0));
    story.ends_well_for_both(block);
}

#[test]
fn a_paused_node_serves_nothing_old_when_it_wakes() {
    let mut story = prefer_first();
    let block = story.block_in(1);
    story.write(1, block, 4);
    story.world.nodes[1].paused = true;
    story.begin_read(1, block, 4);
    story.writes_alone(0, block);
    let life = story.world.nodes[1].life;
    story.world.after(0, crate::world::Event::Resume { node: 1, life });
    story.begin_read(1, block, 4); // the register checker looks at both
    story.rejoins();
    story.ends_well_for_both(block);
}

#[test]
fn whoever_is_fenced_comes_back_by_itself() {
    for ride_through_ms in [0, RIDE_THROUGH_MS] {
        let mut story = two_primaries(|plan| {
            plan.on_peer_lost = WhenLost::Fence;
            plan.ride_through_ms = ride_through_ms;
        });
        // Who knows that the peer is down says so at once, and nobody waits for its link.
        story.world.operator.fences = Some(true);
        story.world.operator.fence_takes = Some(10_000);
        story.world.operator.fence_waits = Some(true);
        let block = story.block_in(1);
        story.both_write(block);
        story.world.kill_node(1, true);
        let began = story.world.now;
        assert_eq!(story.write(0, block, 4), FrontResult::Done);
        assert!(story.world.now - began < 5_000_000, "{} us", story.world.now - began);
        story.start(1);
        story.heal();
        assert_eq!(story.promote(1, false), Ok(()));
        story.ends_well_for_both(block);
    }
}

#[test]
fn after_a_power_cut_the_other_goes_on_within_the_ride_through() {
    for dead in [0, 1] {
        let alive = 1 - dead;
        let mut story = two_primaries(|_| {});
        let block = story.block_in(1);
        story.both_write(block);
        story.all_answered();
        story.both_write(block);
        story.rest(0);
        story.kill(dead, true);
        story.begin_read(alive, block, 4);
        let began = story.world.now;
        assert_eq!(story.write(alive, block + 1, 4), FrontResult::Done);
        let stall = story.world.now - began;
        assert!(stall < (RIDE_THROUGH_MS + 500) * 1_000, "held for {stall} us");
        story.start(dead);
        story.heal();
        assert!(story.copied(alive) <= 2_048, "{} blocks", story.copied(alive));
        assert_eq!(story.promote(dead, false), Ok(()));
        story.ends_well_for_both(block);
    }
}

#[test]
fn a_restarted_daemon_is_primary_again_at_once() {
    let mut story = two_primaries(|_| {});
    let before = story.generation(0);
    let block = story.block_in(1);
    story.both_write(block);
    story.rest(0);
    story.kill(1, false);
    story.begin_write(0, block, 4);
    story.rest(300);
    story.start(1);
    story.until("it is there", |story| story.connected());
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.write(1, block, 2), FrontResult::Done);
    assert_eq!(story.generation(0), before, "nobody went on alone");
    story.ends_well_for_both(block);
}

#[test]
fn a_target_is_primary_beside_its_source_and_both_write() {
    let mut story = two_primaries(|plan| plan.net_typical = 2_000);
    let block = story.block_in(1);
    story.kill(1, true);
    for extent in 1..8 {
        let at = story.block_in(extent);
        story.write(0, at, 32);
    }
    story.start(1);
    story.until("it is there", |story| story.connected());
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.state(1).disk, DiskState::Inconsistent, "the resync runs still");
    for extent in 1..8 {
        let at = story.block_in(extent);
        story.both_write(at);
        story.begin_read(1, at + 8, 8);
        story.all_answered();
    }
    story.ends_well_for_both(block);
}

/// A cut that comes during the resync of what the last one left is no more than a wait, either.
#[test]
fn a_cut_during_the_resync_after_a_cut_leaves_no_trace() {
    for (first, second) in [(300, 300), (3_000, 10_000), (300, 12_000)] {
        let mut story = two_primaries(|plan| plan.net_typical = 2_000);
        let before = story.generation(0);
        let blocks: Vec<_> = (1..8).map(|extent| story.block_in(extent)).collect();
        for at in &blocks {
            story.begin_write(0, *at, 32);
            story.begin_write(1, *at + 64, 32);
        }
        story.rest(1);
        story.cut(first);
        story.until("both know", |story| !story.connected_at(0) && !story.connected_at(1));
        story.until("a resync begins", |story| {
            let disks = [story.state(0).disk, story.state(1).disk];
            story.connected() && disks.contains(&DiskState::Inconsistent)
        });
        let source = usize::from(story.state(0).disk == DiskState::Inconsistent);
        story.cut(second);
        story.until("both know", |story| !story.connected_at(0) && !story.connected_at(1));
        story.begin_write(1 - source, blocks[1], 4);
        story.writes_alone(source, blocks[0]);
        assert_eq!(story.all_answered(), FrontResult::Done);
        assert_eq!([story.generation(0), story.generation(1)], [before; 2]);
        story.ends_well_for_both(blocks[0]);
    }
}

#[test]
fn a_primary_without_its_disk_works_beside_the_other() {
    for broken in [0, 1] {
        let mut story = two_primaries(|_| {});
        let block = story.block_in(1);
        story.fail_next(broken, crate::fate::DiskPart::Data);
        story.both_write(block);
        story.world.disk_failed = true;
        assert_eq!(story.all_answered(), FrontResult::Done);
        assert_eq!(story.state(broken).disk, DiskState::Diskless);
        for _ in 0..10 {
            story.both_write(block);
            story.begin_read(broken, block, 4);
            assert_eq!(story.all_answered(), FrontResult::Done);
        }
        story.kill(broken, false);
        story.start(broken);
        story.heal();
        assert_eq!(story.promote(broken, false), Ok(()));
        story.ends_well_for_both(block);
    }
}

#[test]
fn who_goes_on_without_leave_parts_and_that_is_told() {
    let mut story = two_primaries(|_| {}); // both continue
    let block = story.block_in(1);
    story.world.oracle.split = true;
    story.part_both(60_000, block);
    story.all_answered();
    let alone = Some(StandAlone::Refused(Refusal::SplitBrain));
    story.until("both stand alone", |story| {
        [0, 1].into_iter().all(|node| story.state(node).stand_alone == alone)
    });
    assert!(story.is_primary(0) && story.is_primary(1), "both keep what they have");
    assert_ne!(story.generation(0), story.generation(1));
}

#[test]
fn two_primaries_cannot_be_taken_apart_by_an_order() {
    let mut story = two_primaries(|_| {});
    let block = story.block_in(1);
    assert_eq!(story.command(1, Command::Disconnect), Err(CommandError::PeerIsPrimary));
    assert_eq!(story.command(1, Command::Demote), Ok(()));
    assert_eq!(story.command(1, Command::Disconnect), Ok(()));
    assert_eq!(story.write(0, block, 1), FrontResult::Done);
    assert_eq!(story.command(1, Command::Connect { discard_my_data: false }), Ok(()));
    story.ends_well();
}

#[test]
fn both_may_ask_at_once() {
    let mut story = Story::planned(|plan| plan.dual = true);
    let block = story.block_in(1);
    for node in [0, 1] {
        let (id, command) = (OF_A_STORY, Command::Promote { force: false });
        story.world.tell(node, Fact::Command { id, command });
    }
    story.until("both are Primary", |story| story.is_primary(0) && story.is_primary(1));
    story.both_write(block);
    story.all_answered();
    story.ends_well_for_both(block);
}
