//! What a verify sees, and what it never takes for a difference; told as stories.

use crate::authority::WhenLost;
use crate::fact::Fact;
use crate::fate::DiskPart;
use crate::operator::OF_A_STORY;
use crate::plan::Plan;
use crate::story::Story;
use rblk::limits::BLOCK_BYTES;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::replica::{Connection, Replication, Verified, VerifyStage};
use rblk::span::Span;
use rblk::wire::message::DiskState;

impl Story {
    fn verified(&self, node: usize) -> Verified {
        self.state(node).verified
    }

    fn verify(&mut self, node: usize) -> Verified {
        assert_eq!(self.command(node, Command::Verify), Ok(()));
        self.verify_ends(node)
    }

    fn verify_ends(&mut self, node: usize) -> Verified {
        self.until("the verify is done", |story| story.verified(node).stage == VerifyStage::Done);
        let found = self.verified(node);
        assert_eq!(found.done_bytes, found.total_bytes);
        found
    }

    fn repair(&mut self, node: usize) -> Verified {
        assert_eq!(self.command(node, Command::Repair), Ok(()));
        self.repair_ends(node)
    }

    fn repair_ends(&mut self, node: usize) -> Verified {
        let over = |story: &Story| story.verified(node).stage != VerifyStage::Repairing;
        self.until("the repair is over", over);
        self.verified(node)
    }

    /// The Primary, node 0, knows that the other has another block there. No client has written near it: after a crash
    /// the survivor's half of what was being written counts, rotten or not.
    fn with_rot(change: impl FnOnce(&mut Plan)) -> (Story, u64) {
        let mut story = Story::planned(change);
        assert_eq!(story.promote(0, false), Ok(()));
        let block = story.block_in(3);
        story.rot(1, block);
        assert_eq!(story.verify(0).differing_bytes, BLOCK_BYTES);
        (story, block)
    }

    /// What a node's disk has there.
    fn holds(&self, node: usize, block: u64) -> Vec<u32> {
        let span = Span::of_blocks(block..block + 1).expect("a block");
        let pieces: Vec<_> = self.world.geometry.pieces(span).collect();
        let disk = &self.world.nodes[node].disk;
        pieces.into_iter().flat_map(|piece| piece.dense).map(|at| disk.current[at]).collect()
    }

    /// A block of a disk changes by itself.
    fn rot(&mut self, node: usize, block: u64) {
        self.world.oracle.planted = true;
        self.world.oracle.split = true; // nobody knows that the two differ there
        let span = Span::new(block * 8 + 3, 1).expect("a sector");
        self.world.nodes[node].disk.rot(span);
    }

    fn differences(&self, node: usize) -> Vec<std::ops::Range<u64>> {
        let node = self.world.nodes[node].replica.as_ref().expect("the node runs");
        node.differences().to_vec()
    }
}

#[test]
fn two_equal_disks_are_found_to_be_equal() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    assert_eq!(story.write(0, block, 32), FrontResult::Done);
    for node in [0, 1] {
        let found = story.verify(node);
        assert_eq!(found.total_bytes, story.state(node).sectors * 512);
        assert_eq!((found.differing_bytes, found.unreadable_bytes, found.busy_bytes), (0, 0, 0));
    }
    story.ends_well();
}

/// One block of one disk is another: it is found from either side, and repaired from the node that has the right one.
#[test]
fn a_block_that_changed_by_itself_is_found_and_repaired() {
    for (rotten, looks) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut story = Story::of_two(false);
        let block = story.block_in(3) + 5;
        story.rot(rotten, block);
        let found = story.verify(looks);
        assert_eq!(found.differing_bytes, BLOCK_BYTES);
        assert_eq!(story.differences(looks), vec![block..block + 1]);
        assert_eq!(story.state(looks).out_of_sync_bytes, 0, "it is told, and nothing is decided");
        let undecided = story.command(looks, Command::Repair);
        assert_eq!(undecided, Err(CommandError::NotPrimary), "nobody has said which is right");
        let good = 1 - rotten;
        assert_eq!(story.promote(good, false), Ok(()));
        assert_eq!(story.verify(good).differing_bytes, BLOCK_BYTES);
        let generation = story.generation(good);
        assert_eq!(story.repair(good).repaired_bytes, BLOCK_BYTES, "one block and no more");
        assert_eq!(story.generation(good), generation, "nobody went on alone for it");
        assert_eq!(story.differences(good), []);
        assert_eq!(story.verify(looks).differing_bytes, 0);
        assert_eq!(story.command(good, Command::Repair), Err(CommandError::NothingToRepair));
        story.ends_well();
    }
}

/// Who is Primary is never overwritten by a repair; from there to the other it goes, beside the clients.
#[test]
fn a_repair_copies_from_the_primary_and_not_over_it() {
    let mut story = Story::with_primary();
    let block = story.block_in(3);
    story.rot(1, block);
    assert_eq!(story.verify(1).differing_bytes, BLOCK_BYTES);
    assert_eq!(story.command(1, Command::Repair), Err(CommandError::PeerIsPrimary));
    assert_eq!(story.verify(0).differing_bytes, BLOCK_BYTES);
    assert_eq!(story.command(0, Command::Repair), Ok(()));
    let other = story.block_in(5);
    assert_eq!(story.write(0, other, 3), FrontResult::Done);
    assert_eq!(story.write(0, block, 3), FrontResult::Done);
    assert_eq!(story.repair_ends(0).differing_bytes, 0);
    assert_eq!(story.verify(0).differing_bytes, 0);
    story.ends_well();
}

/// Writes that are under way on one disk and not yet on the other are no difference, whoever looks.
#[test]
fn writes_under_way_are_no_difference() {
    for dual in [false, true] {
        for looks in [0, 1] {
            let mut story = Story::planned(|plan| {
                plan.dual = dual;
                plan.disk_worst = 20_000;
            });
            assert_eq!(story.promote(0, false), Ok(()));
            if dual {
                assert_eq!(story.promote(1, false), Ok(()));
            }
            assert_eq!(story.command(looks, Command::Verify), Ok(()));
            let windows: Vec<u64> = (0..8).map(|window| story.block_in(window)).collect();
            for round in 0..200 {
                let writer = if dual { round % 2 } else { 0 };
                story.begin_write(writer, windows[round % 8], 1 + round as u64 % 7);
                story.rest(3);
            }
            story.until("the writes are answered", |story| story.world.client.is_idle());
            assert_eq!(story.verify_ends(looks).differing_bytes, 0);
            story.ends_well();
        }
    }
}

/// Two that look at once neither wait for each other in a circle nor skip each other for ever.
#[test]
fn both_may_verify_at_once() {
    let mut story = Story::with_primary();
    for node in [0, 1] {
        assert_eq!(story.command(node, Command::Verify), Ok(()));
    }
    assert_eq!(story.state(0).replication, Replication::VerifyS);
    for node in [0, 1] {
        assert_eq!(story.verify_ends(node).differing_bytes, 0);
        assert_eq!(story.verified(node).busy_bytes, 0);
    }
    story.ends_well();
}

/// What breaks in between is gone on with where it was, after the resync.
#[test]
fn a_verify_outlives_its_connection() {
    let mut story = Story::with_primary();
    assert_eq!(story.command(1, Command::Verify), Ok(()));
    for round in 0..5 {
        story.rest(7);
        story.cut(300);
        let block = story.block_in(round);
        assert_eq!(story.write(0, block, 9), FrontResult::Done);
        story.until("they are together again", Story::mirrored);
    }
    assert_eq!(story.verify_ends(1).differing_bytes, 0);
    story.ends_well();
}

/// The peer's data is declared void while it is being read: what it holds then is no difference.
#[test]
fn what_is_void_is_not_compared() {
    for delay in (100..4_000).step_by(50) {
        let mut story = Story::with_primary();
        let block = story.block_in(3);
        assert_eq!(story.write(0, block, 8), FrontResult::Done);
        let span = Span::of_blocks(block..block + 1).expect("a block");
        let reads = |story: &Story| {
            let mut spans = story.world.nodes[1].disk.in_flight.values().filter_map(|op| op.span);
            spans.any(|read| read.overlaps(span))
        };
        assert_eq!(story.command(0, Command::Verify), Ok(()));
        let limit = story.world.now + 60_000_000;
        while !reads(&story) {
            assert!(story.world.now < limit, "the block is never read");
            story.world.nodes[1].delay_next = Some(delay); // each read takes so long
            story.world.one();
        }
        assert_eq!(story.command(1, Command::Invalidate { peer: false }), Ok(()));
        assert_eq!(story.verify_ends(0).differing_bytes, 0);
        story.ends_well();
    }
}

/// The peer's daemon starts anew, and a verify here goes on; one of its own it has forgotten.
#[test]
fn a_verify_outlives_the_peers_daemon() {
    let mut story = Story::with_primary();
    for node in [0, 1] {
        assert_eq!(story.command(node, Command::Verify), Ok(()));
    }
    story.rest(5);
    story.kill(1, false);
    story.until("the loss is noticed", |story| story.state(0).connection == Connection::Connecting);
    story.start(1);
    assert_eq!(story.verify_ends(0).differing_bytes, 0);
    assert_eq!(story.verified(1).stage, VerifyStage::Never);
    story.ends_well();
}

/// A block that this node's disk cannot read is told as such; neither disk is given up for it.
#[test]
fn what_cannot_be_read_is_told() {
    for looks in [0, 1] {
        let mut story = Story::of_two(false);
        story.fail_next(1, DiskPart::Data);
        let found = story.verify(looks);
        let unreadable = found.unreadable_bytes + found.peer_unreadable_bytes;
        assert_eq!((unreadable > 0, found.peer_unreadable_bytes > 0), (true, looks == 0));
        assert_eq!(found.differing_bytes, 0);
        assert_eq!(
            story.differences(looks).is_empty(),
            looks == 1,
            "only the peer's can be mended"
        );
        assert!(story.mirrored());
        story.ends_well();
    }
}

/// What the peer could not read is not known to differ, and does not come to be by a repair that did not get there:
/// this node's disk cannot read it either, or is given up meanwhile. (Seeds 704121 and 798620.)
#[test]
fn what_the_peer_could_not_read_and_was_not_repaired_does_not_differ() {
    for given_up in [false, true] {
        let mut story = Story::with_primary();
        story.fail_next(1, DiskPart::Data);
        let found = story.verify(0);
        assert!(found.peer_unreadable_bytes > 0, "{found:?}");
        let listed = story.differences(0);
        if given_up {
            story.world.nodes[0].delay_next = Some(500_000); // its read is under way
            assert_eq!(story.command(0, Command::Repair), Ok(()));
            story.fail_next(0, DiskPart::Flush);
            story.begin_flush(0);
        } else {
            story.fail_next(0, DiskPart::Data);
            assert_eq!(story.command(0, Command::Repair), Ok(()));
        }
        let left = story.repair_ends(0);
        assert_eq!(left.differing_bytes, 0, "nobody has seen a difference");
        assert_eq!(left.peer_unreadable_bytes, found.peer_unreadable_bytes);
        assert_eq!(story.differences(0), listed, "the next repair tries it again");
        if !given_up {
            let done = story.repair(0);
            assert_eq!(done.repaired_bytes, found.peer_unreadable_bytes);
            assert_eq!((done.differing_bytes, done.peer_unreadable_bytes), (0, 0));
            assert_eq!(story.differences(0), []);
            story.ends_well();
        }
    }
}

/// The Primary's power goes at any moment of a repair, and the other's daemon lives on: what differs is repaired by
/// then or not, and the wrong half is never copied over the right one.
#[test]
fn a_repair_that_is_cut_short_copies_nothing_the_other_way() {
    let (mut repaired, mut left) = (0, 0);
    for events in 0..30 {
        let (mut story, block) = Story::with_rot(|_| {});
        let right = story.holds(0, block);
        assert_eq!(story.command(0, Command::Repair), Ok(()));
        (0..events).for_each(|_| story.world.one());
        story.kill(0, true);
        story.start(0);
        story.heal();
        assert_eq!(story.holds(0, block), right, "after {events} events");
        assert_eq!(story.promote(0, false), Ok(()));
        if story.verify(0).differing_bytes > 0 {
            left += 1;
            assert_eq!(story.repair(0).differing_bytes, 0);
        } else {
            repaired += 1;
        }
        assert_eq!(story.holds(1, block), right);
        story.ends_well();
    }
    assert!(repaired > 0 && left > 0, "{repaired} {left}");
}

/// The link goes with the order, and the Primary is rebooted in good order before the two meet again.
#[test]
fn a_repair_that_met_nobody_is_forgotten() {
    let (mut story, block) = Story::with_rot(|_| {});
    let right = story.holds(0, block);
    assert_eq!(story.command(0, Command::Repair), Ok(()));
    story.cut(5_000);
    story.until("the loss is noticed", |story| story.state(0).connection != Connection::Connected);
    assert_eq!(story.verified(0).stage, VerifyStage::Repairing, "it goes on when they meet");
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.verified(0).stage, VerifyStage::Done);
    assert_eq!(story.differences(0), vec![block..block + 1]);
    story.kill(0, true);
    story.start(0);
    story.heal();
    assert_eq!(story.holds(0, block), right);
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.verify(0).differing_bytes, BLOCK_BYTES);
    assert_eq!(story.repair(0).differing_bytes, 0);
    assert_eq!(story.holds(1, block), right);
    story.ends_well();
}

/// A repair goes on after its connection broke, and after the peer's power went with what it had not flushed.
#[test]
fn a_repair_outlives_its_connection_and_the_peers_cache() {
    for (events, power) in (0..60).flat_map(|events| [(events, false), (events, true)]) {
        let (mut story, block) = Story::with_rot(|_| {});
        // So many that some are copied long before all are, which is when they are flushed.
        let rotten: Vec<u64> = (0..10).map(|other| block + 2 * other).collect();
        rotten[1..].iter().for_each(|block| story.rot(1, *block));
        assert_eq!(story.verify(0).differing_bytes, 10 * BLOCK_BYTES);
        assert_eq!(story.command(0, Command::Repair), Ok(()));
        (0..events).for_each(|_| story.world.one());
        if power {
            story.kill(1, true);
            story.start(1);
        } else {
            story.cut(300);
        }
        assert_eq!(story.repair_ends(0).differing_bytes, 0);
        story.kill(1, true); // what it says is stable, is
        story.start(1);
        story.heal();
        for block in rotten {
            assert_eq!(story.holds(0, block), story.holds(1, block), "{events} {power}");
        }
        story.ends_well();
    }
}

/// Clients that write all the time are held up by no reconnect, and nobody is fenced for a repair.
#[test]
fn a_repair_has_nobody_fenced() {
    let (mut story, block) = Story::with_rot(|plan| plan.on_peer_lost = WhenLost::Fence);
    let generation = story.generation(0);
    assert_eq!(story.command(0, Command::Repair), Ok(()));
    for round in 0..40 {
        assert_eq!(story.write(0, block + round % 3, 1), FrontResult::Done);
        assert!(story.connected());
    }
    assert_eq!(story.repair_ends(0).differing_bytes, 0);
    assert_eq!((story.fenced(), story.generation(0)), ([0, 0], generation));
    story.ends_well();
}

/// The Secondary leaves, or its data is declared void, while it is being repaired: it says so, as at any other time,
/// and is not fenced for that.
#[test]
fn who_leaves_while_it_is_repaired_says_goodbye() {
    let orders = [Command::Detach, Command::Disconnect, Command::Invalidate { peer: false }];
    for (order, moment) in orders.into_iter().flat_map(|order| (0..12).map(move |at| (order, at))) {
        let (mut story, block) = Story::with_rot(|plan| {
            plan.on_peer_lost = WhenLost::Fence;
            plan.disk_typical = 2_000;
        });
        for other in 0..60 {
            story.rot(1, block + 4 * other + 2);
        }
        assert!(story.verify(0).differing_bytes > 8 * BLOCK_BYTES);
        assert_eq!(story.command(0, Command::Repair), Ok(()));
        story.rest(moment);
        story.world.tell(1, Fact::Command { id: OF_A_STORY, command: order });
        story.rest(500);
        story.begin_write(0, block, 1);
        story.until("it is answered", |story| story.world.client.is_idle());
        assert_eq!(story.fenced(), [0, 0], "{order:?} {moment}");
        let again = match order {
            Command::Detach => None,
            _ => Some(Command::Connect { discard_my_data: false }),
        };
        match again {
            None => {
                story.kill(1, false);
                story.start(1);
            }
            Some(connect) if !story.connected() => {
                story.world.tell(1, Fact::Command { id: OF_A_STORY, command: connect });
            }
            Some(_) => {}
        }
        story.heal();
        assert_eq!(story.repair_ends(0).differing_bytes, 0);
        assert_eq!(story.verify(0).differing_bytes, 0);
        story.ends_well();
    }
}

/// A disk of the peer takes longer to read or to write some blocks than the nodes wait for each other: they part over
/// that three times, or once, and not for ever.
#[test]
fn what_a_disk_does_too_slowly_is_given_up() {
    let (mut story, block) = Story::with_rot(|plan| plan.disk_timeout_ms = 60_000);
    story.world.nodes[1].slow =
        Some((Span::of_blocks(block..block + 1).expect("a block"), 3_000_000));
    for repairs in [false, true] {
        let command = if repairs { Command::Repair } else { Command::Verify };
        assert_eq!(story.command(0, command), Ok(()));
        let stage = if repairs { VerifyStage::Repairing } else { VerifyStage::Running };
        let mut breaks = 0;
        while story.verified(0).stage == stage {
            let connected = story.connected_at(0);
            story.world.one();
            breaks += u32::from(connected && !story.connected_at(0));
            assert!(breaks < 4, "the nodes part again and again");
        }
        assert_eq!(breaks, if repairs { 1 } else { 3 });
        let found = story.verified(0);
        assert!(found.differing_bytes + found.peer_unreadable_bytes > 0, "{found:?}");
    }
    story.heal();
}

/// The peer looks at the same blocks for itself: neither waits for the other for ever.
#[test]
fn a_repair_beside_the_peers_verify() {
    let (mut story, block) = Story::with_rot(|_| {});
    for _ in 0..20 {
        assert_eq!(story.command(1, Command::Verify), Ok(()));
        assert_eq!(story.repair(0).differing_bytes, 0);
        story.verify_ends(1);
        story.rot(1, block);
        assert_eq!(story.verify(0).differing_bytes, BLOCK_BYTES);
    }
    assert_eq!(story.repair(0).differing_bytes, 0);
    story.ends_well();
}

/// The same while both disks are slow with the block, so that each node has locked it before the other asks: neither
/// waits for the other, and the connection lasts.
#[test]
fn a_repair_and_the_peers_verify_do_not_wait_for_each_other() {
    let (mut story, block) = Story::with_rot(|_| {});
    let slow = Span::of_blocks(block..block + 1).expect("a block");
    for node in [0, 1] {
        story.world.nodes[node].slow = Some((slow, 500_000));
    }
    let holds = |story: &Story| {
        let mut spans = story.world.nodes[1].disk.in_flight.values().filter_map(|op| op.span);
        spans.any(|span| span.overlaps(slow))
    };
    assert_eq!(story.command(0, Command::Repair), Ok(()));
    story.rest(1);
    assert_eq!(story.command(1, Command::Verify), Ok(()));
    story.until("the peer reads it for itself", holds);
    while story.verified(0).stage == VerifyStage::Repairing {
        story.world.one();
        assert!(story.connected());
    }
    assert_eq!(story.verified(0).differing_bytes, 0);
    story.verify_ends(1);
    story.ends_well();
}

/// A client writes the block while this node reads it for the peer: its write comes after, on both.
#[test]
fn a_write_waits_for_the_repair_of_its_block() {
    let (mut story, block) = Story::with_rot(|_| {});
    let slow = Span::of_blocks(block..block + 1).expect("a block");
    story.world.nodes[0].slow = Some((slow, 200_000));
    assert_eq!(story.command(0, Command::Repair), Ok(()));
    story.rest(1);
    assert_eq!(story.write(0, block, 1), FrontResult::Done);
    assert_eq!(story.repair_ends(0).differing_bytes, 0);
    assert_eq!(story.holds(0, block), story.holds(1, block));
    story.ends_well();
}

/// With its disk a verify ends, and so does a repair; what was found stays listed.
#[test]
fn without_a_disk_nothing_is_compared_or_repaired() {
    for repairs in [false, true] {
        let (mut story, block) = Story::with_rot(|_| {});
        let command = if repairs { Command::Repair } else { Command::Verify };
        story.world.nodes[1].delay_next = Some(500_000); // it is under way
        assert_eq!(story.command(0, command), Ok(()));
        story.fail_next(0, DiskPart::Flush);
        story.begin_flush(0);
        story.until("the disk is given up", |story| story.state(0).disk == DiskState::Diskless);
        story.repair_ends(0);
        let stage = if repairs { VerifyStage::Done } else { VerifyStage::BrokenOff };
        assert_eq!(story.verified(0).stage, stage);
        if repairs {
            assert_eq!(story.differences(0), vec![block..block + 1]);
        }
    }
}

/// An order ends it; a disk that cannot write what is repaired is given up, as it would be for a client's write.
#[test]
fn a_repair_ends_when_told_and_with_the_peers_disk() {
    let (mut story, block) = Story::with_rot(|_| {});
    assert_eq!(story.command(0, Command::Repair), Ok(()));
    assert_eq!(story.command(0, Command::Verify), Err(CommandError::Verifying));
    assert_eq!(story.command(0, Command::StopVerify), Ok(()));
    assert!(story.repair_ends(0).differing_bytes > 0);
    assert_eq!(story.differences(0), vec![block..block + 1]);
    story.fail_next(1, DiskPart::Data);
    assert_eq!(story.command(0, Command::Repair), Ok(()));
    story.until("the disk is given up", |story| story.state(1).disk == DiskState::Diskless);
    story.kill(1, false);
    story.world.mend_disks();
    story.start(1);
    assert_eq!(story.repair_ends(0).differing_bytes, 0);
    story.heal();
    story.ends_well();
}

#[test]
fn it_is_refused_where_it_makes_no_sense_and_ends_when_told() {
    let mut story = Story::with_primary();
    assert_eq!(story.command(0, Command::StopVerify), Ok(()));
    assert_eq!(story.command(0, Command::Verify), Ok(()));
    assert_eq!(story.command(0, Command::Verify), Err(CommandError::Verifying));
    assert_eq!(story.command(0, Command::Repair), Err(CommandError::Verifying));
    assert_eq!(story.command(0, Command::StopVerify), Ok(()));
    assert_eq!(story.verified(0).stage, VerifyStage::Stopped);
    story.rest(1_000);
    assert_eq!(story.verified(0).stage, VerifyStage::Stopped);
    story.kill(1, false);
    story.until("the loss is noticed", |story| story.state(0).connection == Connection::Connecting);
    assert_eq!(story.command(0, Command::Verify), Err(CommandError::PeerAway));
    story.start(1);
    story.until("they are together again", Story::mirrored);
    assert_eq!(story.verify(0).differing_bytes, 0);
    story.ends_well();
}
