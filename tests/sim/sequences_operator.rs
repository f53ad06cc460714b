//! Sequences that begin with an operator's error, or a clock's: see `sequences.rs`.

use crate::authority::WhenLost;
use crate::node::Source;
use crate::sequences::{A, B};
use crate::story::Story;
use rblk::replica::StandAlone;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::replica::snapshot::Suspended;
use rblk::wire::message::{DiskState, Refusal, Role};

const CONNECT: Command = Command::Connect { discard_my_data: false };
const DISCARD: Command = Command::Connect { discard_my_data: true };

/// Sequence 23. B is made Primary by force while A goes on: they find it when they meet, both stand alone and keep
/// their data. Nobody decides for the operator.
#[test]
fn s23_both_go_their_own_way_continue() {
    let mut story = Story::sequence(WhenLost::Continue);
    let (here, there) = (story.block_in(2), story.block_in(6));
    story.flush(A);
    story.split(here, there);
    let before = [story.generation(A), story.generation(B)];
    assert_ne!(before[0], before[1]);
    for node in [A, B] {
        let why = Some(StandAlone::Refused(Refusal::SplitBrain));
        assert_eq!(story.state(node).stand_alone, why);
    }
    story.rest(30_000);
    assert_eq!([story.generation(A), story.generation(B)], before, "both keep their data");
    // Without a decision the two meet and part again; on a Primary there is none to take.
    assert_eq!(story.command(A, CONNECT), Ok(()));
    assert_eq!(story.command(B, CONNECT), Ok(()));
    story.until("they have met", |story| story.alone(A) && story.alone(B));
    assert_eq!(story.command(A, DISCARD), Err(CommandError::IsPrimary));
    assert_eq!(story.command(B, DISCARD), Ok(()));
    assert_eq!(story.command(A, CONNECT), Ok(()));
    story.heal();
    assert_eq!(story.copied(A), 2 + 1, "the blocks of both, no more");
    assert_eq!(story.command(B, DISCARD), Err(CommandError::Connected));
    story.ends_with(A, &[here], 2);
}

/// Sequence 23. With a fence: A is held since nobody can fence B, and has completed nothing when B is made Primary by
/// force. So there is one lineage, B's; but A's clients are at work on good data, so it is not overwritten before they
/// let go.
#[test]
fn s23_the_secondary_is_forced_fence() {
    let mut story = Story::sequence(WhenLost::Fence);
    story.world.operator.fences = Some(false);
    let block = story.block_in(2);
    story.write_for_good(A, block, 4);
    story.part();
    story.begin_vain_write(A, block + 8);
    story.until("A is held", |story| story.state(A).suspended == Suspended::NotAllowed);
    story.world.oracle.split = true; // an operator's folly
    assert_eq!(story.promote(B, false), Err(CommandError::NotFenced));
    assert_eq!(story.promote(B, true), Ok(()));
    story.was_vain();
    let before = [story.generation(A), story.generation(B)];
    story.reunite();
    story.until("they have met", |story| story.state(A).refusal.is_some());
    assert_eq!(story.state(A).refusal.map(|refusal| refusal.1), Some(Refusal::TwoPrimaries));
    assert_eq!(story.command(B, Command::Demote), Ok(()));
    let refused = |story: &Story| {
        let reason = story.state(A).refusal.map(|refusal| refusal.1);
        reason == Some(Refusal::PrimaryWouldBeTarget)
    };
    story.until("they have met", refused);
    story.rest(30_000);
    assert_eq!([story.generation(A), story.generation(B)], before, "nobody is overwritten");
    story.was_vain();
    assert_eq!(story.command(A, Command::Demote), Ok(()));
    assert_eq!(story.world.client.last_result, Some(FrontResult::IoError));
    story.heal();
    assert_eq!([story.generation(A), story.generation(B)], [before[1]; 2]);
    story.ends_with(B, &[block], 4);
}

/// Sequence 27. A second Primary is refused as long as the two can ask each other; where that is got around by force,
/// they are not connected, and both say why.
fn s27(policy: WhenLost) {
    let mut story = Story::sequence(policy);
    let block = story.block_in(2);
    story.write_for_good(A, block, 4);
    for force in [false, true] {
        assert_eq!(story.promote(B, force), Err(CommandError::PeerIsPrimary));
    }
    story.part();
    story.world.oracle.split = true; // an operator's folly
    assert_eq!(story.promote(B, true), Ok(()));
    let before = [story.generation(A), story.generation(B)];
    story.reunite();
    let refusal = |story: &Story, node: usize| story.state(node).refusal.map(|refusal| refusal.1);
    let two = Some(Refusal::TwoPrimaries);
    story.until("they say why", |story| refusal(story, A) == two && refusal(story, B) == two);
    story.rest(30_000);
    assert!(!story.connected_at(A) && !story.connected_at(B));
    assert_eq!([story.generation(A), story.generation(B)], before);
    assert_eq!([A, B].map(|node| story.state(node).role), [Role::Primary; 2]);
    assert_eq!(story.command(A, Command::Demote), Ok(()), "it has completed nothing since");
    story.ends_with(B, &[block], 4);
}

#[test]
fn s27_a_second_primary_continue() {
    s27(WhenLost::Continue);
}

#[test]
fn s27_a_second_primary_fence() {
    s27(WhenLost::Fence);
}

/// Sequence 30. The time of day jumps back and forth, and all clocks stand still for an hour: nothing follows from
/// that. The generation of the node whose clock is behind is as good as any.
fn s30(policy: WhenLost) {
    const YEAR_MS: u64 = 365 * 86_400_000;
    let mut story = Story::sequence(policy);
    let block = story.block_in(7);
    story.write_for_good(A, block, 4);
    let before = story.generation(A);
    for node in [A, B] {
        story.world.nodes[node].paused = true;
    }
    story.rest(3_600_000);
    for node in [A, B] {
        story.world.wake(node, [Source::Clock, Source::Network, Source::Disk]);
    }
    assert_eq!(story.write(A, block, 1), FrontResult::Done);
    story.heal();
    assert_eq!([story.generation(A), story.generation(B)], [before; 2]);
    assert_eq!(story.fenced(), [0, 0]);
    for (turn, back) in [YEAR_MS, 0, 40 * YEAR_MS].into_iter().enumerate() {
        let (primary, other) = (turn % 2, 1 - turn % 2);
        story.world.nodes[primary].unix_ms = 1_700_000_000_000 - back;
        for node in [primary, other] {
            story.leave(node);
        }
        for node in [other, primary] {
            story.start(node);
        }
        story.heal();
        assert_eq!(story.promote(primary, false), Ok(()));
        story.kill(other, true);
        story.write_alone(primary, block, 2 + turn as u64);
        story.start(other);
        story.until("they have met", Story::connected);
        assert_eq!(story.state(other).disk, DiskState::Inconsistent, "whatever its clock says");
        story.heal();
    }
    story.ends_with(B, &[block], 5);
}

#[test]
fn s30_clocks_jump_continue() {
    s30(WhenLost::Continue);
}

#[test]
fn s30_clocks_jump_fence() {
    s30(WhenLost::Fence);
}
