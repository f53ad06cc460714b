//! Bugs of an exchange of bitmaps that breaks off: what it has added must not change whose data counts.

use crate::story::Story;
use rblk::replica::event::{Command, FrontResult};
use rblk::wire::policy::After0pri;

fn expects_a_target(node: usize) -> impl Fn(&Story) -> bool {
    move |story| story.world.nodes[node].disk.meta.superblock.sole_source
}

/// A write that both have accepted is on the first Primary's disk alone, since the peer's cache is lost. The bitmaps
/// are exchanged, and then the link breaks: the peer has the bits now too, but still not the data.
#[test]
fn bits_of_a_broken_exchange_make_nobody_a_source() {
    let mut story = Story::of_two(false);
    assert_eq!(story.promote(1, false), Ok(()));
    let block = story.block_in(2);
    assert_eq!(story.write(1, block, 8), FrontResult::Done);
    story.cut(600_000);
    story.kill(0, true);
    assert_eq!(story.command(1, Command::Demote), Ok(()));
    story.start(0);
    story.world.net.parted_until = 0;
    story.until("node 1 is to be the source", expects_a_target(1));
    story.cut(10_000);
    story.heal();
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, block, 8), FrontResult::Done);
    story.ends_well();
}

/// The policy says who loses, by the changes that each has made. An exchange that breaks off changes no answer.
#[test]
fn a_broken_exchange_changes_no_policys_answer() {
    const LEAST_CHANGES: usize = 4;
    assert_eq!(After0pri::ALL[LEAST_CHANGES], After0pri::DiscardLeastChanges);
    let mut story = Story::planned(|plan| plan.policies[0] = LEAST_CHANGES);
    assert_eq!(story.promote(0, false), Ok(()));
    let (here, there) = (story.block_in(2), story.block_in(6));
    assert_eq!(story.write(0, here, 2), FrontResult::Done);
    assert_eq!(story.flush(0), FrontResult::Done);
    story.cut(10_000);
    story.until("the link is down", |story| !story.connected());
    assert_eq!(story.write(0, here, 2), FrontResult::Done);
    story.world.oracle.victim = Some(1);
    assert_eq!(story.promote(1, true), Ok(()));
    for block in 0..3 {
        story.world.scribble(1, there + block);
        story.until("it is written", |story| story.world.scribbles_pending() == 0);
    }
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.command(1, Command::Demote), Ok(()));
    let more = story.generation(1);
    story.until("node 1 is to be the source", expects_a_target(1));
    assert_ne!(story.generation(0), more, "node 0 has not yielded");
    story.cut(1_000);
    story.until("node 0 has yielded", |story| story.generation(0) == more);
    story.heal();
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, here, 2), FrontResult::Done);
    assert_eq!(story.read(1, there, 3), FrontResult::Done);
    story.ends_well();
}
