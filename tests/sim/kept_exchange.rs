//! Bugs of an exchange of bitmaps that breaks off: what it has added must not change whose data counts, and what it has
//! led to must be on record.

use crate::dual::two_primaries;
use crate::policies;
use crate::story::Story;
use rblk::limits::META_STEPS_MAX;
use rblk::meta::superblock::GenerationId;
use rblk::replica::Replication;
use rblk::replica::event::{Command, FrontResult};
use rblk::wire::message::DiskState;

fn expects_a_target(node: usize) -> impl Fn(&Story) -> bool {
    move |story| story.world.nodes[node].disk.meta.superblock.sole_source
}

/// Of two that have parted node 1 makes more changes, from block `there` on, and both step down. Returns its way.
fn changes_more(story: &mut Story, there: u64) -> Option<GenerationId> {
    for block in 1..5 {
        story.world.scribble(1, there + block);
        story.until("it is written", |story| story.world.scribbles_pending() == 0);
    }
    let way = story.generation(1);
    for node in [0, 1] {
        assert_eq!(story.command(node, Command::Demote), Ok(()));
    }
    way
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
    let (mut story, _, there) = policies::split([4, 0, 0, 1]);
    let way = changes_more(&mut story, there);
    story.until("node 1 has more changes, and is to be the source", expects_a_target(1));
    story.cut(10_000);
    story.heal();
    policies::wins(&story, way);
    story.ends_well();
}

/// The source is Primary and was alone. What a client writes after its bitmap was sent waits until the two are up: the
/// target would not know that it lacks it, and a Primary there would read what was before.
#[test]
fn nothing_is_marked_after_the_bitmap_was_sent() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    story.kill(1, false);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.start(1);
    story.until("node 0 is to be the source", expects_a_target(0));
    assert!(!story.connected_at(0));
    let marked = story.state(0).out_of_sync_bytes;
    story.begin_write(0, block + 8, 2);
    story.until("they are connected", |story| {
        assert!(story.connected_at(0) || story.state(0).out_of_sync_bytes == marked);
        story.connected()
    });
    story.until("the write is answered", |story| story.world.client.is_idle());
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, block + 8, 2), FrontResult::Done);
    story.ends_well();
}

/// A node that had parted in good order comes back, nothing was written meanwhile, and the greeting breaks off when it
/// has found both disks equal. Until the Primary has ceased to count on that the other is behind, and goes on without
/// asking anybody, the other is behind on record; then it is not, neither on record nor in memory.
#[test]
fn data_is_old_as_long_as_the_other_counts_on_it() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.rest(5_000);
    assert_eq!(story.command(1, Command::Disconnect), Ok(()));
    assert_eq!(story.state(1).disk, DiskState::Outdated);
    story.rest(1_000);
    let record = |story: &Story, node: usize| story.world.nodes[node].disk.meta.superblock;
    assert!(record(&story, 0).peer_outdated);
    let connect = Command::Connect { discard_my_data: false };
    assert_eq!(story.command(1, connect), Ok(()));
    while record(&story, 1).outdated {
        story.world.one();
    }
    assert!(!record(&story, 0).peer_outdated, "said first by whoever counts on it");
    assert!(!story.connected_at(1));
    let conn = story.world.net.newest();
    story.world.disconnected(1, conn);
    assert_eq!(story.state(1).disk, DiskState::Consistent, "as it is on record");
    story.heal();
    story.ends_well();
}

/// The target alone has marked what it wrote just before it lost its power. The source dies while the union is on its
/// way to its disk, and marks less when it is back: what the target has in its cache since then, it has marked still.
#[test]
fn nothing_is_copied_that_only_the_target_has_on_record() {
    let mut story = two_primaries(|plan| plan.disk_timeout_ms = 600_000);
    let (early, late) = (story.block_in(2), story.block_in(5));
    assert_eq!(story.write(1, early, 8), FrontResult::Done);
    assert_eq!(story.write(0, late, 8), FrontResult::Done);
    story.cut(1);
    story.kill(0, true);
    story.start(0);
    story.until("node 1 is to be the source", |story| {
        expects_a_target(1)(story) && story.world.nodes[1].disk.meta.superblocks_agree()
    });
    assert!(!story.connected_at(1));
    story.world.nodes[1].slow_meta = Some(60_000_000);
    story.until("both are connected", Story::connected);
    assert_eq!(story.state(1).replication, Replication::SyncSource);
    let limit = story.world.now + 1_000_000;
    while story.state(0).out_of_sync_bytes > 0 && story.world.now < limit {
        story.world.one();
    }
    let recorded = story.world.nodes[1].disk.meta.record().covers(late);
    assert!(!recorded, "its disk takes longer");
    story.kill(1, false);
    story.world.nodes[1].slow_meta = None;
    story.start(1);
    story.heal();
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.read(0, early, 8), FrontResult::Done);
    assert_eq!(story.read(0, late, 8), FrontResult::Done);
    story.ends_well();
}

/// The policy says who loses, by the changes that each has made. The loser dies when it has the winner's bits on its
/// disk: they do not count for its own, since by then it is on record that it loses.
#[test]
fn bits_of_the_source_are_no_changes_of_a_target_that_dies() {
    for turn in 0..8 {
        let (mut story, _, there) = policies::split([4, 0, 0, 1]);
        for _ in 0..turn {
            story.world.rng.next();
        }
        let way = changes_more(&mut story, there);
        story.until("the loser has the bits of both", |story| {
            story.world.nodes[0].disk.meta.record().covers(there + 4)
        });
        story.kill(0, false);
        story.start(0);
        story.heal();
        policies::wins(&story, way);
        story.ends_well();
    }
}

/// The link comes and goes while the source's disk takes its time over the union: each greeting wants it durable, and
/// what is queued for the disk does not grow with them.
#[test]
fn a_link_that_flaps_beside_a_slow_disk_queues_the_union_once() {
    let (mut story, ..) = policies::split_story(Story::planned(|plan| {
        plan.policies = [4, 0, 0, 1];
        plan.disk_timeout_ms = 600_000;
    }));
    for node in [0, 1] {
        assert_eq!(story.command(node, Command::Demote), Ok(()));
    }
    story.until("node 0 is to be the source", |story| {
        expects_a_target(0)(story) && story.world.nodes[0].disk.meta.superblocks_agree()
    });
    story.world.nodes[0].slow_meta = Some(100_000_000);
    for _ in 0..META_STEPS_MAX + 8 {
        story.until("both are connected", Story::connected);
        assert_eq!(story.copied(0), 0, "the union is not durable");
        story.cut(1);
        story.until("both know", |story| !story.connected_at(0) && !story.connected_at(1));
    }
    story.world.nodes[0].slow_meta = None;
    story.rest(100_000);
    story.ends_well();
}
