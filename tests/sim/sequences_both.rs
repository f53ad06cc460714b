//! Sequences in which the power of both goes, or the source of a resync dies: see `sequences.rs`.

use crate::authority::WhenLost;
use crate::sequences::{A, B, BEHIND, HALF_COPIED};
use crate::story::Story;
use rblk::limits::EXTENT_BLOCKS;
use rblk::replica::Replication;
use rblk::replica::event::FrontResult;
use rblk::wire::message::{DiskState, Role};

/// Both have lost their power, with a write in flight.
fn dark(policy: WhenLost) -> (Story, u64) {
    let mut story = Story::sequence(policy);
    let block = story.block_in(5);
    story.write_for_good(A, block, 8);
    story.begin_write(A, block + 4, 8);
    story.kill(A, true);
    story.kill(B, true);
    (story, block)
}

/// Sequence 9. Power is lost on both, and both return: nobody serves before it is decided, then the log of A, which
/// was Primary, says what is copied from it to B. Either may be Primary after that.
fn s09(policy: WhenLost) {
    for next in [A, B] {
        let (mut story, block) = dark(policy);
        story.world.net.parted_until = u64::MAX;
        for node in [A, B] {
            story.start(node);
            story.needs_an_operator(node);
        }
        story.reunite();
        story.until("they have met", Story::connected);
        assert_eq!(story.state(A).replication, Replication::SyncSource);
        assert!(story.state(A).resync_total_bytes / 4096 <= 4 * EXTENT_BLOCKS, "by the log");
        assert_eq!(story.fenced(), [0, 0]);
        story.ends_with(next, &[block], 12);
    }
}

#[test]
fn s09_both_lose_power_and_return_continue() {
    s09(WhenLost::Continue);
}

#[test]
fn s09_both_lose_power_and_return_fence() {
    s09(WhenLost::Fence);
}

/// Sequence 10. Power is lost on both, and B returns alone: for all it knows A went on before that (7), so an operator
/// decides, with a fence as well. A is the target when it is back.
fn s10(policy: WhenLost) {
    let (mut story, block) = dark(policy);
    story.start(B);
    story.rest(10_000);
    story.needs_an_operator(B);
    assert_eq!(story.promote(B, true), Ok(()));
    assert_eq!(story.read(B, block, 12), FrontResult::Done);
    story.write_for_good(B, block + 2, 4);
    story.start(A);
    story.until("they have met", Story::connected);
    assert_eq!(story.state(A).replication, Replication::SyncTarget);
    assert_eq!(story.state(A).role, Role::Secondary);
    story.ends_with(B, &[block], 12);
}

#[test]
fn s10_both_lose_power_and_one_returns_continue() {
    s10(WhenLost::Continue);
}

#[test]
fn s10_both_lose_power_and_one_returns_fence() {
    s10(WhenLost::Fence);
}

/// Sequence 13. A crashes while B is a target: there is no service until A returns. B is of no use, a restart does not
/// change that, and no fence is asked for.
fn s13(policy: WhenLost) {
    let (mut story, blocks) = Story::with_resync(policy);
    let before = story.fenced();
    story.kill(A, true);
    story.until("the loss is noticed", |story| !story.connected_at(B));
    assert_eq!(story.promote(B, false), HALF_COPIED);
    story.kill(B, true);
    story.start(B);
    assert_eq!(story.promote(B, false), HALF_COPIED);
    story.start(A);
    assert_eq!(story.promote(A, false), Ok(()), "its record says that B is behind");
    assert_eq!(story.fenced(), before);
    story.write_at_once(A, blocks[1], 2);
    story.ends_with(B, &blocks, 8);
}

#[test]
fn s13_the_source_crashes_continue() {
    s13(WhenLost::Continue);
}

#[test]
fn s13_the_source_crashes_fence() {
    s13(WhenLost::Fence);
}

/// Sequence 14. A crashes in the last moments of a resync, or soon after: until B has it on record that it has all, it
/// is of no use; from then on it has all that A ever answered, since A needed its acknowledgements all along. Then an
/// operator, or a fence, makes it Primary.
fn s14(policy: WhenLost) {
    let mut seen = [0, 0];
    for events in 0..60 {
        let mut story = Story::sequence(policy);
        let block = story.block_in(2);
        story.write_for_good(A, block, 8);
        story.kill(B, false);
        story.write_alone(A, block, 4);
        story.start(B);
        let copied = |story: &Story| {
            story.state(A).replication == Replication::SyncSource
                && story.state(A).out_of_sync_bytes == 0
        };
        story.until("all is copied", copied);
        story.begin_write(A, block + 2, 4);
        for _ in 0..events {
            story.world.one();
        }
        story.kill(A, true);
        story.until("the loss is noticed", |story| !story.connected_at(B));
        let whole = story.state(B).disk == DiskState::Consistent;
        seen[usize::from(whole)] += 1;
        if !whole {
            assert_eq!(story.promote(B, false), HALF_COPIED, "after {events} events");
            story.start(A);
            story.ends_with(B, &[block], 8);
            continue;
        }
        if story.fences() {
            assert_eq!(story.promote(B, false), Ok(()));
        } else {
            assert_eq!(story.promote(B, false), BEHIND);
            assert_eq!(story.promote(B, true), Ok(()));
        }
        assert_eq!(story.read(B, block, 8), FrontResult::Done, "after {events} events");
        story.start(A);
        story.ends_with(B, &[block], 8);
    }
    assert!(seen[0] > 5 && seen[1] > 5, "both were seen: {seen:?}");
}

#[test]
fn s14_the_source_crashes_at_the_end_continue() {
    s14(WhenLost::Continue);
}

#[test]
fn s14_the_source_crashes_at_the_end_fence() {
    s14(WhenLost::Fence);
}

/// Sequence 28. The source of a resync crashes and restarts: B stays Inconsistent and keeps its bits, and what is left
/// is copied with what A's log names; what was copied is not copied again.
fn s28(policy: WhenLost) {
    let (mut story, blocks) = Story::with_resync(policy);
    story.write_at_once(A, blocks[3], 1);
    let left = [A, B].map(|node| story.state(node).out_of_sync_bytes / 4096);
    story.kill(A, false);
    story.until("the loss is noticed", |story| !story.connected_at(B));
    assert_eq!(story.state(B).disk, DiskState::Inconsistent);
    story.start(A);
    story.until("they have met", Story::connected);
    assert_eq!(story.state(B).replication, Replication::SyncTarget);
    assert_eq!(story.state(A).full_resync, None);
    let again = story.state(A).resync_total_bytes / 4096;
    let slots = story.world.plan.al_slots as u64;
    assert!(again >= left[0].min(left[1]), "{again} blocks, and {left:?} were left");
    assert!(again <= left[0].max(left[1]) + slots * EXTENT_BLOCKS, "{again} of {left:?}");
    assert_eq!(story.promote(A, false), Ok(()));
    story.ends_with(B, &blocks, 8);
}

#[test]
fn s28_the_source_restarts_continue() {
    s28(WhenLost::Continue);
}

#[test]
fn s28_the_source_restarts_fence() {
    s28(WhenLost::Fence);
}
