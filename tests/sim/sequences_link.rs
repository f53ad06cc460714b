//! Sequences in which the nodes live, and cannot hear each other: see `sequences.rs`.

use crate::authority::WhenLost;
use crate::sequences::{A, B, FENCE_MS, HALF_COPIED};
use crate::story::Story;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::replica::snapshot::Suspended;
use rblk::wire::message::{DiskState, Role};

const PROMOTE: Command = Command::Promote { force: false };

/// Sequence 3. The link is cut: A goes on, B never does. They meet as source and target.
#[test]
fn s03_the_link_is_cut_continue() {
    let mut story = Story::sequence(WhenLost::Continue);
    let block = story.block_in(2);
    story.write_for_good(A, block, 8);
    story.part();
    story.write_alone(A, block, 4);
    story.needs_an_operator(B);
    story.rest(60_000);
    story.needs_an_operator(B);
    story.write_at_once(A, block + 2, 4);
    story.reunite();
    story.heal();
    assert_eq!(story.copied(A), 6);
    story.ends_with(A, &[block], 8);
}

/// Sequence 3. The link is cut, and both ask for a fence: who asks first goes on, and the other completes nothing.
#[test]
fn s03_the_link_is_cut_fence() {
    for first in [A, B] {
        let mut story = Story::sequence(WhenLost::Fence);
        let block = story.block_in(2);
        story.write_for_good(A, block, 8);
        story.part();
        story.world.client.last_result = None;
        if first == B {
            story.world.command(B, PROMOTE);
            story.rest(FENCE_MS / 2);
        }
        story.begin_write(A, block, 1);
        story.rest(FENCE_MS / 4);
        assert_eq!(story.state(A).suspended, Suspended::Fencing);
        if first == A {
            story.world.command(B, PROMOTE);
        }
        story.until("one is fenced", |story| story.fenced() == [2, 1]);
        assert!(!story.world.nodes[1 - first].is_running());
        story.rest(100);
        assert_eq!(story.world.client.last_result.is_some(), first == A);
        assert_eq!(story.state(first).role, Role::Primary);
        story.write_at_once(first, block + 1, 3);
        story.rest(10_000);
        story.needs_an_operator(1 - first); // it runs again, and lives on
        story.reunite();
        story.ends_with(first, &[block], 8);
    }
}

/// Nobody hears anything from here on, and nobody is told.
fn isolated(policy: WhenLost) -> (Story, u64) {
    let mut story = Story::sequence(policy);
    let block = story.block_in(3);
    story.write_for_good(A, block, 8);
    story.world.net.parted_until = u64::MAX;
    story.world.silence(A);
    story.world.silence(B);
    (story, block)
}

/// Sequence 4. A is cut off from all: it goes on, and nobody can reach it; B does not. One lineage.
#[test]
fn s04_the_primary_is_isolated_continue() {
    let (mut story, block) = isolated(WhenLost::Continue);
    story.write_alone(A, block, 4);
    story.until("B knows", |story| !story.connected_at(B));
    story.needs_an_operator(B);
    story.reunite();
    story.heal();
    assert_eq!(story.copied(A), 4);
    story.ends_with(A, &[block], 8);
}

/// Sequence 4. A is cut off from all, and cannot have B fenced: it completes nothing. B has A fenced, and goes on.
#[test]
fn s04_the_primary_is_isolated_fence() {
    let (mut story, block) = isolated(WhenLost::Fence);
    story.world.operator.fences = Some(false);
    story.begin_vain_write(A, block);
    story.until("it is refused", |story| story.state(A).suspended == Suspended::NotAllowed);
    story.world.operator.fences = Some(true);
    story.until("B knows", |story| !story.connected_at(B));
    assert_eq!(story.promote(B, false), Ok(()));
    assert_eq!(story.fenced(), [2, 1]);
    story.was_vain();
    story.write_at_once(B, block + 2, 4);
    story.reunite();
    story.until("A is back", |story| story.connected_at(A));
    assert_eq!(story.promote(A, false), Err(CommandError::PeerIsPrimary));
    story.ends_with(B, &[block], 8);
}

/// Sequence 11. The link flaps every two seconds: a generation for each divergence in which something was completed,
/// however much it was, and never more copied than that.
#[test]
fn s11_the_link_flaps_continue() {
    let mut story = Story::sequence(WhenLost::Continue);
    let block = story.block_in(4);
    story.write_for_good(A, block, 16);
    for turn in 0..12 {
        let before = story.generation(A);
        story.cut(1_000);
        story.until("both know", |story| !story.connected_at(A) && !story.connected_at(B));
        let writes = turn % 3;
        for write in 0..writes {
            assert_eq!(story.write(A, block + turn + write, 1), FrontResult::Done);
        }
        let alone = story.generation(A);
        assert_eq!(alone != before, writes > 0, "made for a completion, and once");
        story.rest(2_000 - story.world.now / 1_000 % 2_000);
        story.heal();
        assert_eq!([story.generation(A), story.generation(B)], [alone; 2]);
        assert_eq!(story.copied(A), writes);
    }
    story.ends_with(A, &[block], 16);
}

/// Sequence 11. The link flaps every two seconds: within the ride-through nobody is fenced and nothing diverges.
#[test]
fn s11_the_link_flaps_fence() {
    let mut story = Story::planned(|plan| {
        plan.on_peer_lost = WhenLost::Fence;
        plan.ride_through_ms = 5_000;
    });
    story.world.operator.fences = Some(true);
    story.world.operator.fence_takes = Some(FENCE_MS * 1_000);
    story.world.operator.fence_waits = Some(true);
    assert_eq!(story.promote(A, false), Ok(()));
    let block = story.block_in(4);
    story.write_for_good(A, block, 16);
    let before = story.generation(A);
    for turn in 0..12 {
        story.cut(1_000);
        story.until("A knows", |story| !story.connected_at(A));
        assert_eq!(story.write(A, block + turn, 1), FrontResult::Done);
        assert!(story.connected_at(A), "it waited for B");
        story.heal();
    }
    assert_eq!([story.generation(A), story.generation(B)], [before; 2]);
    assert_eq!(story.fenced()[1], 0);
    story.part();
    let (parted, [asked, _]) = (story.world.now, story.fenced());
    story.write_alone(A, block, 1);
    let stall = story.world.now - parted;
    assert!(stall >= 5_000_000, "the delay first");
    assert!(stall < 6_000_000 + FENCE_MS * 1_000, "it is asked again when the delay is over");
    assert_eq!(story.fenced(), [asked + 2, 1]);
    story.reunite();
    story.ends_with(A, &[block], 16);
}

/// Sequence 12. The link is cut in a resync of B: A goes on at once, since B has it on record that it is behind. B is
/// of no use, and the resync goes on where it was.
fn s12(policy: WhenLost) {
    let (mut story, blocks) = Story::with_resync(policy);
    let before = story.fenced();
    story.part();
    let left = story.state(A).out_of_sync_bytes / 4096;
    story.write_at_once(A, blocks[0], 2);
    assert_eq!(story.promote(B, false), HALF_COPIED);
    assert_eq!(story.fenced(), before, "the answer is known");
    story.reunite();
    story.until("they have met", Story::connected);
    let again = story.state(A).resync_total_bytes / 4096;
    assert!(again <= left + 2, "{again} blocks to copy, and {left} before the cut");
    story.ends_with(B, &blocks, 8);
}

#[test]
fn s12_a_resync_is_cut_continue() {
    s12(WhenLost::Continue);
}

#[test]
fn s12_a_resync_is_cut_fence() {
    s12(WhenLost::Fence);
}

/// Sequence 15. What B says is lost, what A says arrives: B has the write, and A cannot know. A goes on alone, and B
/// does not count itself in sync.
fn s15(policy: WhenLost) {
    let mut story = Story::sequence(policy);
    let block = story.block_in(6);
    story.write_for_good(A, block, 4);
    story.world.net.parted_until = u64::MAX;
    story.world.silence(A);
    story.begin_write(A, block, 2);
    story.until("B writes", |story| !story.world.nodes[B].disk.in_flight.is_empty());
    assert!(!story.world.client.is_idle());
    story.until("A knows", |story| !story.connected_at(A));
    if story.fences() {
        assert!(!story.world.client.is_idle(), "it waits for the fence");
        story.until("B is fenced", |story| story.fenced() == [1, 1]);
    } else {
        story.until("B knows", |story| !story.connected_at(B));
        story.needs_an_operator(B);
    }
    story.until("the write is answered", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    assert!(story.world.nodes[A].recorded_alone());
    story.start(B);
    story.needs_an_operator(B);
    story.reunite();
    story.until("they have met", Story::connected);
    assert_eq!(story.state(B).disk, DiskState::Inconsistent);
    story.heal();
    assert_eq!(story.copied(A), 2, "though B has them");
    story.ends_with(A, &[block], 4);
}

#[test]
fn s15_one_direction_is_lost_continue() {
    s15(WhenLost::Continue);
}

#[test]
fn s15_one_direction_is_lost_fence() {
    s15(WhenLost::Fence);
}
