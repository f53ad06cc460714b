//! Sequences in which one node crashes, or does not run: see `sequences.rs`.

use crate::authority::WhenLost;
use crate::node::Source;
use crate::sequences::{A, B, BEHIND};
use crate::story::Story;
use rblk::limits::EXTENT_BLOCKS;
use rblk::replica::Replication;
use rblk::replica::event::{CommandError, FrontResult};
use rblk::wire::message::{DiskState, Role};

/// Sequence 1. B crashes: A makes a new generation (once B is fenced), and only then answers. B returns and cannot
/// know; it gets the blocks that it lacks, those included that it had accepted and not made stable, and no other.
fn s01(policy: WhenLost) {
    let mut story = Story::sequence(policy);
    let block = story.block_in(1);
    story.write_for_good(A, block, 8);
    assert_eq!(story.write(A, block + 8, 2), FrontResult::Done); // B loses these with its power
    story.kill(B, true);
    story.write_alone(A, block, 4);
    assert_eq!(story.fenced(), [u64::from(story.fences()), 0], "it was off already");
    story.world.net.parted_until = u64::MAX;
    story.start(B);
    story.rest(1_000);
    story.needs_an_operator(B);
    story.reunite();
    story.heal();
    assert_eq!(story.copied(A), 4 + 2);
    story.ends_with(B, &[block], 10);
}

#[test]
fn s01_the_secondary_crashes_continue() {
    s01(WhenLost::Continue);
}

#[test]
fn s01_the_secondary_crashes_fence() {
    s01(WhenLost::Fence);
}

/// A is back after a crash, and `B` was there all the time: A serves nothing before its log is compared.
fn returns_as_target(story: &mut Story) {
    story.start(A);
    story.needs_an_operator(A);
    story.until("they have met", Story::connected);
    assert_eq!(story.state(A).replication, Replication::SyncTarget);
    assert_eq!(story.state(A).disk, DiskState::Inconsistent);
    let total = story.state(A).resync_total_bytes / 4096;
    assert!(total <= 4 * EXTENT_BLOCKS, "{total} blocks: its log and B's marks, no more");
}

/// Sequence 2. A crashes: without a fence B cannot know whether A goes on, and waits for an operator. A returns as
/// target.
#[test]
fn s02_the_primary_crashes_continue() {
    let mut story = Story::sequence(WhenLost::Continue);
    let blocks = [story.block_in(1), story.block_in(6)];
    blocks.iter().for_each(|block| story.write_for_good(A, *block, 4));
    story.begin_write(A, blocks[0], 4);
    story.kill(A, true);
    story.until("the loss is noticed", |story| !story.connected_at(B));
    story.needs_an_operator(B);
    returns_as_target(&mut story);
    story.ends_with(A, &blocks, 4);
}

/// Sequence 2. A crashes: B has it fenced, and goes on with all that was acknowledged. A returns as target.
#[test]
fn s02_the_primary_crashes_fence() {
    let mut story = Story::sequence(WhenLost::Fence);
    let blocks = [story.block_in(1), story.block_in(6)];
    blocks.iter().for_each(|block| story.write_for_good(A, *block, 4));
    assert_eq!(story.write(A, blocks[1], 2), FrontResult::Done); // on no stable media
    story.begin_vain_write(A, blocks[0]);
    story.kill(A, true);
    story.was_vain();
    story.until("the loss is noticed", |story| !story.connected_at(B));
    assert_eq!(story.promote(B, false), Ok(()));
    assert_eq!(story.fenced(), [1, 0]);
    assert!(story.world.nodes[B].recorded_alone(), "before anything is answered");
    assert_eq!(story.read(B, blocks[1], 4), FrontResult::Done);
    story.write_at_once(B, blocks[1], 3);
    returns_as_target(&mut story);
    story.ends_with(B, &blocks, 4);
}

/// Sequence 2. The operator of B without a fence: by force, and then A is the target whatever it wrote last.
#[test]
fn s02_the_survivor_is_chosen_by_an_operator_continue() {
    let mut story = Story::sequence(WhenLost::Continue);
    let block = story.block_in(3);
    story.write(A, block, 4);
    story.kill(A, true);
    story.until("the loss is noticed", |story| !story.connected_at(B));
    story.needs_an_operator(B);
    assert_eq!(story.promote(B, true), Ok(()));
    assert_eq!(story.read(B, block, 4), FrontResult::Done);
    assert_eq!(story.write(B, block, 2), FrontResult::Done);
    returns_as_target(&mut story);
    story.ends_with(B, &[block], 4);
}

/// B has crashed, A has gone on alone, and crashed as well.
fn both_have_crashed(policy: WhenLost) -> (Story, u64) {
    let mut story = Story::sequence(policy);
    let block = story.block_in(5);
    story.write(A, block, 8);
    story.kill(B, false);
    story.write_alone(A, block, 8);
    story.kill(A, true);
    (story, block)
}

/// Sequence 7. B returns alone: it has missed A's last days, does not know it, and says so; no fence would help.
fn s07(policy: WhenLost) {
    let (mut story, block) = both_have_crashed(policy);
    story.start(B);
    story.rest(10_000);
    story.needs_an_operator(B);
    story.start(A);
    story.until("they have met", Story::connected);
    assert_eq!(story.state(B).replication, Replication::SyncTarget);
    story.ends_with(B, &[block], 8);
}

#[test]
fn s07_the_stale_node_returns_alone_continue() {
    s07(WhenLost::Continue);
}

#[test]
fn s07_the_stale_node_returns_alone_fence() {
    s07(WhenLost::Fence);
}

/// Sequence 8. A returns first: its record says that it has the newest data, so it serves at once. B is resynced.
fn s08(policy: WhenLost) {
    let (mut story, block) = both_have_crashed(policy);
    let before = story.fenced();
    story.start(A);
    assert_eq!(story.promote(A, false), Ok(()));
    assert_eq!(story.read(A, block, 8), FrontResult::Done);
    story.write_at_once(A, block + 4, 8);
    assert_eq!(story.fenced(), before, "that B is behind is on record");
    story.start(B);
    story.until("they have met", Story::connected);
    assert_eq!(story.state(B).replication, Replication::SyncTarget);
    assert!(story.state(A).resync_total_bytes / 4096 <= 4 * EXTENT_BLOCKS);
    story.ends_with(B, &[block], 12);
}

#[test]
fn s08_the_newest_node_returns_first_continue() {
    s08(WhenLost::Continue);
}

#[test]
fn s08_the_newest_node_returns_first_fence() {
    s08(WhenLost::Fence);
}

const FIVE_MINUTES_MS: u64 = 300_000;

/// A is stopped with a write that B has, too, and that nobody was told is done.
fn stopped(policy: WhenLost) -> (Story, u64) {
    let mut story = Story::sequence(policy);
    let block = story.block_in(4);
    story.write_for_good(A, block, 4);
    story.begin_vain_write(A, block);
    story.until("B writes", |story| !story.world.nodes[B].disk.in_flight.is_empty());
    story.world.nodes[A].paused = true;
    story.rest(FIVE_MINUTES_MS / 2);
    assert_eq!(story.state(B).disk, DiskState::Consistent, "it has noticed");
    story.was_vain();
    (story, block)
}

/// Sequence 16. A does not run for five minutes: B stays what it is, and A goes on as if it had been there.
#[test]
fn s16_the_primary_is_paused_continue() {
    let (mut story, block) = stopped(WhenLost::Continue);
    story.needs_an_operator(B);
    story.rest(FIVE_MINUTES_MS / 2);
    assert_eq!(story.promote(B, false), BEHIND, "however long it takes");
    story.world.wake(A, [Source::Clock, Source::Network, Source::Disk]);
    story.until("the write is answered", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    assert_eq!(story.state(A).role, Role::Primary);
    story.ends_with(A, &[block], 4);
}

/// Sequence 16. A does not run for five minutes: B has it fenced and goes on. A completes nothing, and returns as
/// target.
#[test]
fn s16_the_primary_is_paused_fence() {
    let (mut story, block) = stopped(WhenLost::Fence);
    assert_eq!(story.promote(B, false), Ok(()));
    assert_eq!(story.fenced(), [1, 1]);
    story.was_vain();
    story.write_at_once(B, block + 1, 2);
    story.until("A is back", |story| story.connected_at(A));
    assert_eq!(story.state(A).role, Role::Secondary);
    assert_eq!(story.promote(A, false), Err(CommandError::PeerIsPrimary));
    story.ends_with(B, &[block], 4);
}
