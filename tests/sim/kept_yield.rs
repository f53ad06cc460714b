//! Bugs of the moment in which one node gives up its data for the other's, each as a story that shows it again.

use crate::story::Story;
use rblk::meta::superblock::History;
use rblk::replica::Connection;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::wire::message::{DiskState, Refusal};

/// Node 0 crashed as Primary and is to get the data of node 1, that survived it: the two greet each other.
fn about_to_yield() -> (Story, u64) {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.kill(0, false);
    story.until("node 1 has lost it", |story| !story.connected_at(1));
    story.start(0);
    (story, block)
}

fn expects_a_target(story: &Story) -> bool {
    story.world.nodes[1].disk.meta.superblock.sole_source
}

fn has_yielded(story: &Story) -> bool {
    !story.world.nodes[0].disk.meta.superblock.consistent
}

/// The link breaks when the source is ready and the target has not yielded yet. An operator forces the target, which
/// goes on: the other is no longer the newest, and is not promoted as if it were.
#[test]
fn a_source_that_nobody_has_yielded_to_is_not_promoted_unasked() {
    let (mut story, block) = about_to_yield();
    story.until("the source is ready", expects_a_target);
    assert!(!has_yielded(&story), "a target waits for its source");
    story.cut(600_000);
    story.kill(1, false);
    story.start(1);
    assert_eq!(story.promote(0, true), Ok(()));
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    let unknown = CommandError::NotUpToDate(DiskState::Consistent);
    assert_eq!(story.promote(1, false), Err(unknown));
    story.rest(600_000);
    assert_eq!(story.read(0, block, 2), FrontResult::Done);
    story.ends_well();
}

/// The link breaks when the target has yielded and the source has not heard of it: the source's is the only good data
/// that is left, and an operator cannot declare it invalid by mistake, not even after a restart.
#[test]
fn a_source_that_somebody_may_have_yielded_to_is_not_declared_invalid() {
    let (mut story, block) = about_to_yield();
    story.until("the target has yielded", has_yielded);
    assert!(!story.connected_at(1));
    story.cut(10_000);
    story.rest(1_000);
    let invalidate = Command::Invalidate { peer: false };
    assert_eq!(story.command(1, invalidate), Err(CommandError::NewestData));
    story.kill(1, false);
    story.start(1);
    assert_eq!(story.command(1, invalidate), Err(CommandError::NewestData));
    story.heal();
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, block, 2), FrontResult::Done);
    assert_eq!(story.command(0, invalidate), Ok(()), "both are whole again");
    story.ends_well();
}

/// The source dies when the target has yielded to it and before it has overwritten anything. The target is forced, and
/// its disk is what it was: the source is found to be behind, and not a stranger.
#[test]
fn whoever_has_yielded_in_vain_keeps_its_past() {
    let (mut story, block) = about_to_yield();
    let before = story.generation(0);
    story.until("the target has yielded", has_yielded);
    assert!(!story.connected_at(0), "nothing was overwritten");
    story.kill(1, true);
    assert_eq!(story.promote(0, true), Ok(()));
    assert_eq!(story.world.nodes[0].disk.meta.superblock.base, before);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.start(1);
    story.heal();
    assert_eq!(story.read(0, block, 2), FrontResult::Done);
    story.ends_well();
}

/// The same, but the source had begun: then no earlier generation describes what is on the disk, and only an operator
/// knows whose data counts.
#[test]
fn whoever_was_overwritten_in_part_has_no_past() {
    let (mut story, _) = about_to_yield();
    story.until("the target is connected", |story| story.connected_at(0));
    story.kill(1, true);
    story.until("it has lost its source", |story| !story.connected_at(0));
    assert_eq!(story.state(0).disk, DiskState::Inconsistent);
    assert_eq!(story.promote(0, true), Ok(()));
    let sb = &story.world.nodes[0].disk.meta.superblock;
    assert_eq!((sb.base, sb.history), (None, History::default()));
    story.start(1);
    story.until("they are strangers", |story| {
        story.state(0).refusal.is_some_and(|(_, why)| why == Refusal::Unrelated)
    });
}

/// What an operator has declared invalid since stays so, whoever forces it.
#[test]
fn what_is_invalid_has_no_past_to_take_back() {
    let (mut story, _) = about_to_yield();
    story.until("the target has yielded", has_yielded);
    story.kill(1, true);
    let conn = story.world.net.newest();
    story.world.disconnected(0, conn);
    assert_eq!(story.state(0).connection, Connection::Connecting, "before it said so");
    assert_eq!(story.command(0, Command::Invalidate { peer: false }), Ok(()));
    assert_eq!(story.promote(0, true), Ok(()));
    let sb = &story.world.nodes[0].disk.meta.superblock;
    assert_eq!((sb.base, sb.history), (None, History::default()));
}
