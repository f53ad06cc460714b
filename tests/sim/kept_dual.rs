//! Bugs of two Primaries that the simulator has shown, each as a story that shows it again.

use crate::authority::WhenLost;
use crate::dual::two_primaries;
use crate::fate::DiskPart;
use crate::node::Source;
use crate::story::{PEER_TIMEOUT_MS, Story};
use rblk::replica::event::{CommandError, FrontResult};
use rblk::replica::snapshot::Connection;
use rblk::wire::message::{DiskState, Refusal, Role};
use std::collections::BTreeSet;

impl Story {
    fn all_is_answered(&mut self) {
        self.until("all is answered", |story| story.world.client.is_idle());
        self.world.step += 1;
        assert_eq!(self.world.client.last_result, Some(FrontResult::Done));
    }

    /// The daemon is started anew, on a disk that works again, and its node is what it was.
    fn returns_as_primary(&mut self, node: usize) {
        self.kill(node, false);
        self.world.mend_disks();
        self.start(node);
        self.heal();
        assert_eq!(self.promote(node, false), Ok(()));
    }
}

/// A write of the follower's is overtaken by one of the orderer's, on a disk that hangs from there on. What overtook it
/// ends when the disk is given up, and it is not begun anew there.
#[test]
fn an_overtaken_write_is_not_begun_on_a_disk_that_was_given_up() {
    let mut story = two_primaries(|plan| {
        (plan.disk_typical, plan.disk_worst) = (50, 500);
        (plan.net_typical, plan.net_worst) = (5_000, 6_000);
        plan.disk_timeout_ms = 1_000;
    });
    let block = story.block_in(1);
    for node in [0, 1] {
        assert_eq!(story.write(node, block, 4), FrontResult::Done);
    }
    story.begin_read(1, block + 8, 1); // what comes in later takes its place, before the write's
    story.begin_write(1, block, 2);
    story.begin_write(0, block, 2);
    story.rest(3);
    assert!(story.world.client.waits_for(1) && story.world.client.waits_for(0), "they cross");
    story.world.nodes[1].hang_next = true;
    story.until("the disk is given up", |story| story.state(1).disk == DiskState::Diskless);
    story.world.disk_failed = true;
    story.all_is_answered();
    story.returns_as_primary(1);
    assert_eq!(story.read(1, block, 4), FrontResult::Done);
    story.ends_well();
}

/// The peer comes back on a disk that hangs, which it does not give up, and gets no further than its first word: what
/// was asked meanwhile, or just before, does not wait for it.
#[test]
fn nothing_waits_for_a_peer_that_hangs_in_its_greeting() {
    let asks: [fn(&mut Story, u64); 3] = [
        |story, block| story.begin_read(0, block, 4),
        |story, block| story.begin_write(0, block, 4),
        |story, _| story.begin_flush(0),
    ];
    for (ask, before) in asks.into_iter().flat_map(|ask| [(ask, false), (ask, true)]) {
        let mut story = two_primaries(|plan| {
            (plan.ride_through_ms, plan.disk_timeout_ms) = (0, 1_000_000);
        });
        let block = story.block_in(1);
        assert_eq!(story.write(1, block, 4), FrontResult::Done);
        let began = story.world.now;
        if before {
            ask(&mut story, block);
        }
        story.kill(1, false);
        story.world.stall(1, 1_000_000_000, 100);
        story.start(1);
        story.until("it greets", |story| story.state(0).connection == Connection::Greeting);
        if !before {
            ask(&mut story, block);
        }
        story.all_is_answered();
        let waited = (story.world.now - began) / 1_000;
        assert!(waited < 4 * PEER_TIMEOUT_MS, "{waited} ms");
        story.returns_as_primary(1);
        story.ends_well();
    }
}

/// The other Primary's disk hangs in a write of ours. It dials again and again, and each greeting waits for that
/// write: it does not keep this node from going on.
#[test]
fn a_primary_whose_disk_hangs_does_not_hold_the_other_for_ever() {
    let mut story = two_primaries(|plan| plan.ride_through_ms = 1_000);
    let block = story.block_in(1);
    assert_eq!(story.write(0, block, 4), FrontResult::Done);
    story.world.nodes[1].hang_next = true;
    let began = story.world.now;
    assert_eq!(story.write(0, block, 4), FrontResult::Done);
    let waited = (story.world.now - began) / 1_000;
    assert!(waited < 1_000 + 6 * PEER_TIMEOUT_MS, "{waited} ms");
    assert_eq!(story.state(1).role, Role::Primary);
    story.returns_as_primary(1);
    assert_eq!(story.read(1, block, 4), FrontResult::Done);
    story.ends_well();
}

/// The other Primary cannot flush what its own clients wrote, and has not yet said that its disk has failed: a flush
/// here is answered when it is on record that this disk alone has all of it, although nothing of our own differs.
#[test]
fn a_flush_that_the_other_primary_failed_waits_for_the_record() {
    for asked in [0, 1] {
        let mut story = two_primaries(|_| {});
        let before = story.generation(asked);
        let block = story.block_in(1);
        assert_eq!(story.write(1 - asked, block, 4), FrontResult::Done);
        story.fail_next(1 - asked, DiskPart::Flush);
        assert_eq!(story.flush(asked), FrontResult::Done);
        assert_ne!(story.generation(asked), before, "it is on record");
        story.until("the disk is given up", |story| {
            story.state(1 - asked).disk == DiskState::Diskless
        });
        story.returns_as_primary(1 - asked);
        assert_eq!(story.read(1 - asked, block, 4), FrontResult::Done);
        story.ends_well();
    }
}

/// A Primary that crashed beside one that it is the resync source of cannot know whether that one has noticed, and
/// still reads what it has copied.
#[test]
fn a_source_that_crashed_gives_the_other_primary_time_to_notice() {
    let mut story = two_primaries(|plan| plan.net_typical = 2_000);
    story.kill(1, true);
    for extent in 0..8 {
        let at = story.block_in(extent);
        story.write(0, at, 32);
    }
    story.start(1);
    story.until("it is there", |story| story.connected());
    assert_eq!(story.promote(1, false), Ok(()));
    let block = story.block_in(0);
    story.until("the first blocks are copied", |story| story.copied(0) > 64);
    assert_eq!(story.state(1).disk, DiskState::Inconsistent, "the resync runs still");
    story.part_unheard();
    story.kill(0, true);
    story.start(0);
    assert_eq!(story.read(1, block, 1), FrontResult::Done, "it has not noticed yet");
    assert_eq!(story.promote(0, false), Err(CommandError::PeerMayServe));
    story.rest(2 * PEER_TIMEOUT_MS);
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.write(0, block, 1), FrontResult::Done);
    story.begin_read(1, block, 1);
    story.world.net.parted_until = 0;
    story.all_is_answered();
    story.ends_well();
}

/// Both daemons die, and then the host of one loses its power before they have met again: the other's disk has what was
/// completed, whatever its number, and its clients wait for just that.
#[test]
fn of_two_dead_daemons_the_one_whose_host_lives_has_more() {
    for powerless in [0, 1] {
        let mut story = two_primaries(|_| {});
        let block = story.block_in(1);
        assert_eq!(story.write(1 - powerless, block, 8), FrontResult::Done);
        (0..2).for_each(|node| story.kill(node, false));
        story.kill(powerless, true);
        (0..2).for_each(|node| story.start(node));
        story.heal();
        (0..2).for_each(|node| assert_eq!(story.promote(node, false), Ok(())));
        assert_eq!(story.read(1 - powerless, block, 8), FrontResult::Done);
        story.ends_well_for_both(block);
    }
}

/// What tells them apart outlives more than one life of a daemon, as long as they do not meet.
#[test]
fn a_host_that_lives_is_known_after_many_lives() {
    let mut story = two_primaries(|_| {});
    let block = story.block_in(1);
    assert_eq!(story.write(1, block, 8), FrontResult::Done);
    (0..2).for_each(|node| story.kill(node, false));
    story.kill(0, true);
    for _ in 0..3 {
        story.start(1);
        story.rest(50);
        story.kill(1, false);
    }
    (0..2).for_each(|node| story.start(node));
    story.heal();
    (0..2).for_each(|node| assert_eq!(story.promote(node, false), Ok(())));
    story.ends_well_for_both(block);
}

/// The note of another life on this disk tells nothing: the disk may have been restored since. One life may have ended
/// before its number was on the disk.
#[test]
fn what_was_kept_counts_for_the_life_before_alone() {
    let mut story = two_primaries(|_| {});
    for (back, ahead, counts) in [(1, 0, false), (0, 0, true), (0, 1, true), (0, 2, false)] {
        story.heal();
        story.kill(1, false);
        let last = story.world.nodes[1].disk.meta.superblock.instance;
        story.world.nodes[1].kept = Some(last + ahead - back);
        story.start(1);
        let core = story.world.nodes[1].replica.as_ref().expect("it runs");
        assert_eq!(core.kept().is_some(), counts, "{back} {ahead}");
    }
}

/// The Primary's disk fails, and then the peer's flush, which drops what was in the cache: that disk has not all,
/// though its host kept its power and its daemon met the Primary.
#[test]
fn a_disk_that_failed_has_not_kept_what_was_in_its_cache() {
    let mut story = Story::with_primary();
    let block = story.block_in(1);
    assert_eq!(story.write(0, block, 8), FrontResult::Done);
    story.fail_next(1, DiskPart::Flush);
    story.fail_next(0, DiskPart::Data);
    story.begin_write(0, block + 8, 1);
    story.until("no disk is left", |story| story.state(1).disk == DiskState::Diskless);
    story.kill(1, false);
    story.world.mend_disks();
    story.start(1);
    let core = story.world.nodes[1].replica.as_ref().expect("it runs");
    assert_eq!(core.kept(), None);
    story.rest(2_000);
    assert!(!story.connected(), "clients of the Primary would see what was there before");
}

/// The link is dead, and nobody was told. A Primary that did not run while the other went on takes itself for connected
/// when it wakes: its clients are not told what was there before.
#[test]
fn a_primary_that_wakes_on_a_dead_link_answers_no_read() {
    let mut story = two_primaries(|plan| plan.on_peer_lost = WhenLost::Prefer(0));
    let block = story.block_in(1);
    assert_eq!(story.write(1, block, 4), FrontResult::Done);
    story.part_unheard();
    story.world.nodes[1].paused = true;
    assert_eq!(story.write(0, block, 4), FrontResult::Done, "node 0 goes on");
    story.world.wake(1, [Source::Disk, Source::Network, Source::Clock]);
    story.begin_read(1, block, 4);
    story.rest(PEER_TIMEOUT_MS / 4);
    assert!(story.connected_at(1), "for all it knows");
    assert!(story.world.client.waits_for(1));
    story.world.net.parted_until = 0;
    story.rejoins();
    story.ends_well_for_both(block);
}

/// Clients of a resync target live on its source's disk. What they have read there, flushed by nobody, is still there
/// when the source has lost its power and is back; also if it was written before there was a client.
#[test]
fn what_a_primary_has_read_outlives_the_power_of_its_source() {
    for promoted_first in [false, true] {
        let mut story = two_primaries(|plan| plan.net_typical = 2_000);
        story.kill(1, true);
        for extent in 0..8 {
            let at = story.block_in(extent);
            story.write(0, at, 32);
        }
        assert_eq!(story.flush(0), FrontResult::Done);
        story.start(1);
        story.until("it is there", |story| story.connected());
        let block = story.block_in(1);
        story.write(0, block, 1); // both are flushed by themselves after this one, and then not for a while
        let write = |story: &mut Story| assert_eq!(story.write(0, block, 32), FrontResult::Done);
        if !promoted_first {
            write(&mut story);
        }
        assert_eq!(story.promote(1, false), Ok(()));
        if promoted_first {
            write(&mut story);
        }
        assert_eq!(story.read(1, block, 32), FrontResult::Done);
        assert_eq!(story.state(1).disk, DiskState::Inconsistent, "the resync runs still");
        story.kill(0, true);
        story.start(0);
        assert_eq!(story.read(1, block, 32), FrontResult::Done, "the register checker compares");
        story.heal();
        assert_eq!(story.promote(0, false), Ok(()));
        story.ends_well_for_both(block);
    }
}

/// Each greeting breaks off at its last word: the other Primary has heard that this node is ready, and may answer reads
/// until it notices that nothing follows. It has noticed when it greets again, so this node goes on at such a moment.
#[test]
fn greetings_that_break_off_at_the_last_word_do_not_hold_a_primary_for_ever() {
    let mut story = two_primaries(|plan| {
        plan.on_peer_lost = WhenLost::Prefer(0);
        plan.ride_through_ms = 0;
    });
    let block = story.block_in(1);
    assert_eq!(story.write(1, block, 4), FrontResult::Done);
    assert_eq!(story.flush(1), FrontResult::Done, "no bitmaps are to be exchanged");
    story.cut(0);
    story.until("it is noticed", |story| !story.connected_at(0));
    story.begin_read(0, block, 4);
    let (began, mut in_vain) = (story.world.now, BTreeSet::new());
    while !story.world.client.is_idle() {
        let state = story.state(0);
        if state.connection == Connection::Greeting && state.greeting_waits.is_none() {
            story.world.silence(0); // all is said but Ready
            in_vain.insert(story.world.net.newest());
        }
        story.world.one();
        let waited = (story.world.now - began) / 1_000;
        assert!(waited < 5 * PEER_TIMEOUT_MS, "it waits after {in_vain:?}: {waited} ms");
    }
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    assert!(in_vain.len() > 1, "{in_vain:?}");
    story.rejoins();
    story.ends_well_for_both(block);
}

/// A Primary's disk fails, and the other Primary loses its power before it has flushed what its own clients wrote last.
/// What the first one's clients have read of that is not to be found anywhere but on its disk, so they never get what
/// is left instead.
#[test]
fn what_was_read_of_the_other_primary_is_not_replaced_by_what_its_power_left() {
    let cases = [(false, DiskPart::Data), (false, DiskPart::Flush), (true, DiskPart::Flush)];
    for (lost_first, part) in cases {
        let mut story = two_primaries(|_| {});
        let block = story.block_in(1);
        assert_eq!(story.write(0, block, 32), FrontResult::Done);
        assert_eq!(story.read(1, block, 32), FrontResult::Done);
        if lost_first {
            story.kill(0, true);
            story.until("it is lost", |story| !story.connected_at(1));
        }
        story.fail_next(1, part);
        match part {
            DiskPart::Flush => story.begin_flush(1),
            _ => story.begin_write(1, block + 40, 1),
        }
        story.until("the disk is given up", |story| story.state(1).disk == DiskState::Diskless);
        story.world.disk_failed = true;
        if !lost_first {
            story.kill(0, true);
        }
        story.start(0);
        story.until("it is answered", |story| story.world.client.is_idle());
        story.world.step += 1;
        assert_eq!(story.read(1, block, 32), FrontResult::IoError, "never what was there before");
        assert_eq!(story.state(1).refusal.map(|refusal| refusal.1), Some(Refusal::DataLost));
        // The disk can be read after all.
        story.kill(1, false);
        story.start(1);
        story.heal();
        (0..2).for_each(|node| assert_eq!(story.promote(node, false), Ok(())));
        assert_eq!(story.read(1, block, 32), FrontResult::Done);
        story.ends_well_for_both(block);
    }
}
