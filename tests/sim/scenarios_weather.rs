//! Stories of a network at its worst: connections that end as soon as they begin, and peers of another version.

use crate::metadisk::Spoil;
use crate::story::{PEER_TIMEOUT_MS, Story};
use rblk::replica::Connection;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::wire::message::{DiskState, Refusal};

/// Connections end within so many microseconds of their beginning, for a minute. The listener hears of it in so many
/// percent of the cases, else one connection replaces the other.
fn storm(story: &mut Story, gap: u64, heard: u64) {
    story.world.storm(gap, heard, 60_000_000);
    story.rest(50);
}

/// For a node that only sees one connection replace the other, the greeting never ends; its clients wait no longer for
/// it all the same.
#[test]
fn a_storm_of_connections_holds_no_client_for_ever() {
    for primary in [0, 1] {
        for heard in [0, 100] {
            let mut story = Story::of_two(false);
            assert_eq!(story.promote(primary, false), Ok(()));
            let block = story.block_in(2);
            story.world.net.slow = (u64::MAX, 5_000); // no greeting is over in time
            storm(&mut story, 2_000, heard);
            for ask in [Story::begin_flush, |story: &mut Story, node| {
                let block = story.block_in(3);
                story.begin_write(node, block, 2);
            }] {
                let before = story.world.now;
                ask(&mut story, primary);
                story.until("the request is answered", |story| story.world.client.is_idle());
                assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
                let waited = (story.world.now - before) / 1_000;
                assert!(waited < 2 * PEER_TIMEOUT_MS, "{waited} ms at node {primary}");
            }
            assert_eq!(story.write(primary, block, 2), FrontResult::Done);
            story.world.net.calm();
            story.ends_well();
        }
    }
}

/// Each greeting of a resync wants the union of both bitmaps on disk: while the disk is slow they do not queue up.
#[test]
fn a_storm_queues_no_metadata_on_a_slow_disk() {
    let mut story = Story::planned(|plan| plan.disk_timeout_ms = 60_000);
    assert_eq!(story.promote(0, false), Ok(()));
    let block = story.block_in(2);
    story.kill(1, false);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.start(1);
    storm(&mut story, 3_000, 100);
    story.world.stall(0, 20_000_000, 100);
    let elsewhere = story.block_in(5);
    story.begin_write(0, elsewhere, 1); // the activity log is the first to wait
    story.rest(15_000);
    assert!(story.world.nodes[0].disk.meta.pending() > 0, "and waits still");
    story.world.net.calm();
    story.ends_well();
}

/// Neither a later nor an earlier version is taken in, both nodes say so, and nothing changes.
#[test]
fn another_version_is_refused_and_nothing_changes() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    story.write(0, block, 2);
    story.flush(0);
    let before = [story.generation(0), story.generation(1)];
    for turn in 0..2 {
        story.world.skew(turn, 20_000_000);
        story.until("both have refused", |story| {
            [0, 1].iter().all(|node| story.state(*node).refusal.is_some())
        });
        story.rest(2_000);
        let by_peer = |node| story.state(node).refusal.map(|(by_peer, _)| by_peer);
        assert_eq!([by_peer(turn), by_peer(1 - turn)], [Some(true), Some(false)]);
        for node in [0, 1] {
            assert_eq!(story.state(node).refusal.map(|why| why.1), Some(Refusal::Protocol));
            assert_ne!(story.state(node).connection, Connection::Connected);
        }
        assert_eq!([story.generation(0), story.generation(1)], before);
        story.world.net.calm();
        story.heal();
    }
    story.ends_well();
}

/// A crash tears one copy of the superblock, and the next crash comes before it is whole again.
#[test]
fn two_crashes_do_not_take_both_superblocks() {
    for copy in [0, 1] {
        for turn in 0..10 {
            let mut story = Story::with_primary();
            for _ in 0..turn {
                story.world.rng.next();
            }
            story.kill(1, true);
            let meta = &mut story.world.nodes[1].disk.meta;
            let whole = meta.superblock;
            meta.spoil(meta.layout.superblock(copy), Spoil::Flipped);
            assert_eq!(meta.superblock, whole);
            story.start(1);
            let at_work = |story: &Story| story.world.nodes[1].disk.meta.writes_superblock();
            story.until("a superblock is written", at_work);
            story.kill(1, true);
            story.start(1);
            assert!(story.world.nodes[1].is_running(), "copy {copy}, turn {turn}");
            story.ends_well();
        }
    }
}

/// A disk that stalls is given up, and what it had then lands when nobody reckons with it any more.
#[test]
fn a_disk_that_comes_back_late_changes_nothing() {
    for node in [0, 1] {
        let mut story = Story::planned(|plan| plan.disk_timeout_ms = 1_000);
        assert_eq!(story.promote(0, false), Ok(()));
        let block = story.block_in(2);
        assert_eq!(story.write(0, block, 2), FrontResult::Done);
        story.world.stall(node, 8_000_000, 100);
        story.begin_write(0, block, 2);
        story.until("it is given up", |story| story.state(node).disk == DiskState::Diskless);
        story.until("the write is answered", |story| story.world.client.is_idle());
        assert_eq!(story.write(0, block, 2), FrontResult::Done);
        story.until("it is back", |story| story.world.nodes[node].disk.in_flight.is_empty());
        assert_eq!(story.read(0, block, 2), FrontResult::Done);
        if node == 0 {
            assert_eq!(story.command(0, Command::Demote), Ok(()));
            assert_eq!(story.promote(1, false), Ok(()));
        }
        story.kill(node, false);
        story.start(node);
        story.heal();
        assert_eq!(story.read(1 - node, block, 2), FrontResult::Done);
        story.ends_well();
    }
}

/// The wrong disk is touched by nobody.
#[test]
fn a_strangers_disk_is_not_started_on() {
    for whose in [crate::media::Stranger::Volume, crate::media::Stranger::Peer] {
        let mut story = Story::with_primary();
        let block = story.block_in(2);
        story.kill(1, false);
        assert_eq!(story.write(0, block, 2), FrontResult::Done);
        story.world.put_in_foreign(1, whose);
        story.start(1);
        assert!(!story.world.nodes[1].is_running() && story.world.nodes[1].media.refused);
        story.world.put_right(1);
        story.start(1);
        story.heal();
        assert_eq!(story.copied(0), 2);
        story.ends_well();
    }
}

/// A disk is replaced by a fresh one: all of it is copied, and then the marks of the two agree again.
#[test]
fn a_blank_disk_is_copied_whole_once() {
    let mut story = Story::with_primary();
    let blocks = story.state(0).sectors / 8;
    let block = story.block_in(2);
    story.write(0, block, 2);
    story.rest(3_000);
    story.kill(1, true);
    story.world.put_in_blank(1);
    story.start(1);
    story.heal();
    assert_eq!(story.copied(0), blocks);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.rest(3_000);
    story.kill(1, false);
    assert_eq!(story.write(0, block, 4), FrontResult::Done);
    story.start(1);
    story.heal();
    assert_eq!(story.copied(0), 4, "it is no stranger any more");
    story.ends_well();
}

/// A block that cannot be read costs its disk where the peer can help, and an error where it cannot.
#[test]
fn an_unreadable_block_is_read_from_the_peer() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    let dense = 2 * crate::geometry::WINDOW_BLOCKS as usize;
    story.write(0, block, 2);
    story.flush(0);
    story.world.nodes[0].disk.spoil(dense);
    assert_eq!(story.read(0, block + 1, 1), FrontResult::Done);
    assert_eq!(story.state(0).disk, DiskState::UpToDate);
    assert_eq!(story.read(0, block, 1), FrontResult::Done);
    assert_eq!(story.state(0).disk, DiskState::Diskless, "the peer's data counts now");
    story.leave(0);
    story.start(0);
    story.heal();
    story.world.nodes[0].disk.spoil(dense);
    story.kill(1, false);
    story.until("the peer is gone", |story| !story.connected_at(0));
    assert_eq!(story.promote(0, true), Ok(()));
    assert_eq!(story.read(0, block, 1), FrontResult::IoError);
    assert_eq!(story.write(0, block, 1), FrontResult::Done);
    assert_eq!(story.read(0, block, 1), FrontResult::Done, "it is written again");
    story.start(1);
    story.ends_well();
}

/// A node that has said what its data is keeps it until the peer has decided: that may be giving up its own for it.
#[test]
fn nothing_is_invalidated_while_the_nodes_meet() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    story.write(0, block, 2);
    story.kill(0, false);
    story.until("the peer is gone", |story| !story.connected_at(1));
    story.world.net.slow = (story.world.now + 5_000_000, 100_000);
    story.start(0);
    let greets = |story: &Story| story.state(1).connection == Connection::Greeting;
    story.until("they meet", greets);
    story.rest(150); // the Hello has come, and the answer to it is under way
    let refused = story.command(1, Command::Invalidate { peer: false });
    assert_eq!(refused, Err(CommandError::Busy));
    story.ends_well();
}

/// So many milliseconds of it pass, in pieces, while a client writes now and then.
fn works_for(story: &mut Story, ms: u64) {
    let block = story.block_in(2);
    for turn in 0..ms / 1_000 {
        if turn % 3 == 0 {
            assert_eq!(story.write(0, block, 2), FrontResult::Done);
        }
        story.rest(1_000);
    }
}

/// Nine of ten messages take half a second more, both ways, on a link that was quick for a minute: slow, and not lost.
#[test]
fn spikes_of_delay_do_not_end_the_connection() {
    for timeout_ms in [2_000, 4_000, 10_000] {
        let mut story = Story::planned(|plan| plan.peer_timeout_ms = timeout_ms);
        assert_eq!(story.promote(0, false), Ok(()));
        let conn = story.world.net.newest();
        for _ in 0..3 {
            works_for(&mut story, 60_000);
            (story.world.net.slow, story.world.net.spared) = ((u64::MAX, 500_000), 10);
            works_for(&mut story, 60_000);
            story.world.net.calm();
        }
        assert_eq!(story.world.net.newest(), conn, "the same connection all the time");
        story.ends_well();
    }
}

/// How long a client of node 0 waits for its write when the other node is not heard any more.
fn stall_ms(story: &mut Story) -> u64 {
    let before = story.world.now;
    let conn = story.world.net.newest();
    assert!(story.world.net.silence_both(conn));
    let block = story.block_in(3);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    (story.world.now - before) / 1_000
}

/// A link that has been quick is given up sooner than the configuration allows, and one that has been slow, or is new,
/// not before.
#[test]
fn a_quick_link_that_falls_silent_stalls_its_clients_for_half_the_time() {
    let quiet = |story: &mut Story| works_for(story, 60_000);
    let new = |story: &mut Story| works_for(story, 1_000);
    let slow = |story: &mut Story| {
        (story.world.net.slow, story.world.net.spared) = ((u64::MAX, 500_000), 10);
        works_for(story, 60_000);
        story.world.net.calm();
    };
    let stalls = [&quiet as &dyn Fn(&mut Story), &new, &slow].map(|before| {
        let mut story = Story::planned(|plan| plan.peer_timeout_ms = 4_000);
        assert_eq!(story.promote(0, false), Ok(()));
        before(&mut story);
        let stall = stall_ms(&mut story);
        story.ends_well();
        stall
    });
    assert!((1_500..2_300).contains(&stalls[0]), "{stalls:?}");
    assert!((3_000..4_300).contains(&stalls[1]), "{stalls:?}");
    assert!((3_000..4_300).contains(&stalls[2]), "{stalls:?}");
}

/// That the link is quick says nothing of the peer's disk: a request there has the whole timeout.
#[test]
fn a_slow_disk_at_the_end_of_a_quick_link_is_no_silence() {
    let mut story = Story::planned(|plan| plan.peer_timeout_ms = 4_000);
    assert_eq!(story.promote(0, false), Ok(()));
    works_for(&mut story, 60_000);
    let conn = story.world.net.newest();
    story.world.stall(1, 3_000_000, 100);
    let block = story.block_in(3);
    let before = story.world.now;
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    assert!(story.world.now - before > 2_500_000, "it waited for that disk");
    assert_eq!(story.world.net.newest(), conn);
    story.ends_well();
}
