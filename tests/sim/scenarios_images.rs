//! Stories of disks that are not what they were: restored from an image, replaced, rotten, torn; and of lineages.

use crate::fate::DiskPart;
use crate::metadisk::Spoil;
use crate::node::Node;
use crate::plan::Plan;
use crate::story::Story;
use rblk::limits::EXTENT_BLOCKS;
use rblk::replica::event::{Command, FrontResult};
use rblk::wire::message::{DiskState, Refusal};

/// Puts a blank disk of `blocks` blocks into a node.
pub(crate) fn replace_disk(story: &mut Story, node: usize, blocks: u64) {
    let plan = Plan { blocks, fresh: true, ..story.world.plan.clone() };
    story.world.nodes[node].disk = Node::new(node, &plan, &story.world.geometry).disk;
    story.world.oracle.split = true; // the nodes cannot know what the operator did
}

#[test]
fn a_disk_restored_from_an_old_image_is_copied_whole() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    story.write(0, block, 4);
    story.leave(1);
    let image = story.world.nodes[1].disk.clone();
    for turn in 0..2 {
        assert_eq!(story.write(0, block + 8 * turn, 4), FrontResult::Done);
        story.start(1);
        story.heal();
        story.leave(1);
    }
    assert_eq!(story.write(0, block + 16, 4), FrontResult::Done);
    story.world.oracle.split = true; // the nodes cannot know what the operator did
    story.world.nodes[1].disk = image;
    story.start(1);
    story.heal();
    assert_eq!(story.copied(0), 12 * EXTENT_BLOCKS);
    story.ends_well();
}

/// What is to be copied is on record before the first block is: the power of both goes, and nothing is forgotten.
#[test]
fn a_full_copy_outlives_the_power_of_both() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    story.leave(1);
    let image = story.world.nodes[1].disk.clone();
    for turn in 0..2 {
        assert_eq!(story.write(0, block + 8 * turn, 4), FrontResult::Done);
        story.start(1);
        story.heal();
        story.leave(1);
    }
    assert_eq!(story.command(0, Command::Demote), Ok(())); // its log says nothing of what was written
    story.world.oracle.split = true; // the nodes cannot know what the operator did
    story.world.nodes[1].disk = image;
    story.start(1);
    story.until("the nodes have met", Story::connected);
    assert_eq!(story.state(1).disk, DiskState::Inconsistent);
    for node in [0, 1] {
        story.kill(node, true);
    }
    for node in [0, 1] {
        story.start(node);
    }
    story.ends_well();
}

#[test]
fn a_blank_disk_never_gets_data_that_is_known_to_be_old() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    story.leave(0);
    story.until("the goodbye has come", |story| !story.connected_at(1));
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.write(1, block, 4), FrontResult::Done);
    story.kill(1, true);
    replace_disk(&mut story, 1, 12 * EXTENT_BLOCKS);
    let before = story.generation(0);
    story.start(0);
    story.start(1);
    story.until("the nodes have met", |story| story.state(0).refusal.is_some());
    assert_eq!(story.state(0).refusal.map(|refusal| refusal.1), Some(Refusal::SourceOutdated));
    assert_eq!([story.generation(0), story.generation(1)], [before, None]);
}

#[test]
fn a_disk_that_is_too_small_is_refused() {
    let mut story = Story::with_primary();
    story.kill(1, true);
    replace_disk(&mut story, 1, 11 * EXTENT_BLOCKS);
    story.start(1);
    story.until("the nodes have met", |story| story.state(0).refusal.is_some());
    assert_eq!(story.state(0).refusal.map(|refusal| refusal.1), Some(Refusal::Size));
}

#[test]
fn a_primary_is_not_overwritten_under_its_clients() {
    let mut story = Story::with_primary();
    let block = story.block_in(5);
    story.cut(5_000);
    story.until("both know", |story| !story.connected_at(0) && !story.connected_at(1));
    story.world.oracle.split = true; // an operator's folly
    assert_eq!(story.promote(1, true), Ok(()));
    assert_eq!(story.write(1, block, 1), FrontResult::Done);
    assert_eq!(story.command(1, Command::Demote), Ok(()));
    let before = [story.generation(0), story.generation(1)];
    story.until("the nodes have met", |story| story.state(0).refusal.is_some());
    let refusal = story.state(0).refusal.map(|refusal| refusal.1);
    assert_eq!(refusal, Some(Refusal::PrimaryWouldBeTarget));
    assert_eq!([story.generation(0), story.generation(1)], before, "both keep their data");
}

#[test]
fn a_rotten_page_of_the_bitmap_is_copied_whole() {
    let mut story = Story::with_primary();
    let block = story.block_in(5);
    story.write(0, block, 8);
    story.flush(0);
    story.kill(1, false);
    let meta = &mut story.world.nodes[1].disk.meta;
    meta.spoil(meta.layout.bitmap_page(0), Spoil::Flipped);
    story.start(1);
    story.until("the nodes have met", Story::connected);
    assert_eq!(story.state(0).resync_total_bytes / 4096, 12 * EXTENT_BLOCKS);
    story.ends_well();
}

/// Whatever of a superblock is on its way when the power goes, the one before it is there.
#[test]
fn a_power_cut_takes_no_superblock() {
    for turn in 0..30 {
        let mut story = Story::with_primary();
        for _ in 0..turn {
            story.world.rng.next();
        }
        let block = story.block_in(5);
        story.kill(1, false);
        assert_eq!(story.write(0, block, 8), FrontResult::Done);
        let alone = story.generation(0);
        story.start(1);
        let at_work = |story: &Story| story.world.nodes[0].disk.meta.writes_superblock();
        story.until("the record is changed", at_work);
        story.kill(0, true);
        assert_eq!(story.generation(0), alone);
        story.start(0);
        story.ends_well();
    }
}

/// The source's own disk refuses a write to a block that was copied a moment ago: the block differs again, and the
/// flush that makes the copy stable says nothing about it.
#[test]
fn a_block_that_differs_again_is_copied_again() {
    for turn in 0..20 {
        let mut story = Story::with_primary();
        for _ in 0..turn {
            story.world.rng.next();
        }
        let block = story.block_in(5);
        story.kill(1, false);
        assert_eq!(story.write(0, block, 32), FrontResult::Done);
        story.start(1);
        story.until("a copy has arrived", |story| story.connected() && story.copied(0) > 0);
        story.fail_next(0, DiskPart::Data);
        story.begin_write(0, block, 2);
        story.until("the write is answered", |story| story.world.client.is_idle());
        story.ends_well();
    }
}
