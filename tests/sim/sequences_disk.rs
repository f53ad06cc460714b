//! Sequences of disks: see `sequences.rs`.

use crate::authority::WhenLost;
use crate::fate::DiskPart;
use crate::scenarios_images::replace_disk;
use crate::sequences::{A, B};
use crate::story::Story;
use rblk::replica::Connection;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::replica::generation::Full;
use rblk::wire::message::{DiskState, Refusal};

/// Sequence 20. A has gone on alone, and its disk dies: there is no good data. Clients get errors, never what B has,
/// and B does not become Primary. One write that fails is no reason to give up the last good disk; a flush that fails
/// is. The disk can be read after all: then nothing was lost.
fn s20(policy: WhenLost) {
    let mut story = Story::sequence(policy);
    let block = story.block_in(4);
    story.write_for_good(A, block, 8);
    story.kill(B, true);
    story.write_alone(A, block, 4);
    story.fail_next(A, DiskPart::Data);
    assert_eq!(story.write(A, block + 8, 1), FrontResult::IoError);
    assert_eq!(story.state(A).disk, DiskState::UpToDate);
    story.fail_next(A, DiskPart::Flush);
    assert_eq!(story.flush(A), FrontResult::IoError);
    assert_eq!(story.state(A).disk, DiskState::Diskless);
    story.start(B);
    story.needs_an_operator(B);
    story.until("they have met", |story| story.state(A).refusal.is_some());
    assert_eq!(story.state(A).refusal.map(|refusal| refusal.1), Some(Refusal::NoSource));
    for block in [block, block + 4] {
        assert_eq!(story.read(A, block, 4), FrontResult::IoError);
    }
    assert_eq!(story.write(A, block, 1), FrontResult::IoError);
    assert_eq!(story.flush(A), FrontResult::IoError);
    story.needs_an_operator(B);
    story.kill(A, false);
    story.start(A);
    story.ends_with(B, &[block], 8);
}

#[test]
fn s20_the_only_good_disk_dies_continue() {
    s20(WhenLost::Continue);
}

#[test]
fn s20_the_only_good_disk_dies_fence() {
    s20(WhenLost::Fence);
}

/// Sequence 21. B's disk fails a write, or a flush: B says so, and A goes on as soon as that is on record. Nobody is
/// fenced: B is there, and takes no part. What B may lack stays marked.
fn s21(policy: WhenLost) {
    for part in [DiskPart::Data, DiskPart::Flush] {
        let mut story = Story::sequence(policy);
        let block = story.block_in(4);
        if part == DiskPart::Data {
            story.begin_write(A, block, 4);
            let writes = |story: &Story| !story.world.nodes[B].disk.in_flight.is_empty();
            story.until("B writes", writes);
            story.fail_next(B, part);
            story.until("the write is answered", |story| story.world.client.is_idle());
        } else {
            assert_eq!(story.write(A, block, 4), FrontResult::Done);
            story.fail_next(B, part);
            story.flush(A);
        }
        assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
        assert!(story.world.nodes[A].recorded_alone());
        assert_eq!(story.state(B).disk, DiskState::Diskless);
        assert_eq!(story.state(A).out_of_sync_bytes / 4096, 4);
        assert_eq!(story.promote(B, false), Err(CommandError::NoDisk));
        story.leave(B);
        story.write_at_once(A, block + 8, 4);
        assert_eq!(story.fenced(), [0, 0]);
        story.start(B);
        story.heal();
        assert!(story.copied(A) >= 8);
        story.ends_with(B, &[block], 12);
    }
}

#[test]
fn s21_the_secondarys_disk_fails_continue() {
    s21(WhenLost::Continue);
}

#[test]
fn s21_the_secondarys_disk_fails_fence() {
    s21(WhenLost::Fence);
}

/// Sequence 25. A has gone on alone, and gets a blank disk: that is never a source. B knows that it is behind, so
/// nothing is copied and nobody is Primary until an operator accepts the loss.
fn s25(policy: WhenLost) {
    let mut story = Story::sequence(policy);
    let block = story.block_in(2);
    story.write_for_good(A, block, 4);
    story.leave(B);
    assert_eq!(story.write(A, block, 4), FrontResult::Done);
    story.kill(A, true);
    let blocks = story.world.plan.blocks;
    replace_disk(&mut story, A, blocks);
    let before = story.generation(B);
    story.start(A);
    story.start(B);
    story.until("they have met", |story| story.state(B).refusal.is_some());
    assert_eq!(story.state(B).refusal.map(|refusal| refusal.1), Some(Refusal::SourceOutdated));
    story.rest(20_000);
    assert_eq!([story.generation(A), story.generation(B)], [None, before]);
    for (node, disk) in [(A, DiskState::Inconsistent), (B, DiskState::Outdated)] {
        assert_eq!(story.promote(node, false), Err(CommandError::NotUpToDate(disk)));
    }
    assert_eq!(story.fenced(), [0, 0]);
    assert_eq!(story.promote(B, true), Ok(())); // what A's clients were told is done is lost, by this order
    story.until("they have met", Story::connected);
    assert_eq!(story.state(B).full_resync, Some(Full::Fresh));
    story.until("both disks are UpToDate", Story::mirrored);
}

#[test]
fn s25_the_newest_disk_is_replaced_continue() {
    s25(WhenLost::Continue);
}

#[test]
fn s25_the_newest_disk_is_replaced_fence() {
    s25(WhenLost::Fence);
}

/// Sequence 26. B is restored from an image that was made while it was connected: by its generation nothing is to be
/// done, by its watermark all is copied, and both say why.
fn s26(policy: WhenLost) {
    let mut story = Story::sequence(policy);
    let blocks = story.state(A).sectors / 8;
    let block = story.block_in(4);
    story.write(A, block, 4);
    story.rest(3_000);
    let image = story.image(B);
    story.write_for_good(A, block + 2, 4);
    story.rest(3_000);
    let before = story.generation(B);
    story.put_back(B, image);
    assert_eq!(story.generation(B), before, "by its generation it is the same");
    for _ in 0..4 {
        story.kill(B, false); // restarts make it look no newer
        story.start(B);
        story.rest(100);
    }
    story.until("they have met", Story::connected);
    assert_eq!([A, B].map(|node| story.state(node).full_resync), [Some(Full::RolledBack); 2]);
    story.heal();
    assert_eq!(story.copied(A), blocks);
    story.ends_with(B, &[block], 6);
}

#[test]
fn s26_the_secondary_is_restored_continue() {
    s26(WhenLost::Continue);
}

#[test]
fn s26_the_secondary_is_restored_fence() {
    s26(WhenLost::Fence);
}

/// Sequence 29. The generation of the source changes before the target has all of an earlier one (the operator has
/// declared the peer's data invalid): the target has taken the earlier one, with the record that it is not whole, so
/// nobody sees a split brain. It is whole under the last one only.
fn s29(policy: WhenLost) {
    let (mut story, blocks) = Story::with_resync(policy);
    let first = story.generation(A);
    assert_eq!(story.generation(B), first);
    story.part();
    assert_eq!(story.command(A, Command::Invalidate { peer: true }), Ok(()));
    story.write_at_once(A, blocks[2], 3);
    let last = story.generation(A);
    assert_ne!(first, last);
    story.reunite();
    story.until("they have met", Story::connected);
    while !story.mirrored() {
        let record = &story.world.nodes[B].disk.meta.superblock;
        let whole = record.consistent && story.world.nodes[A].has_disk();
        assert!(!whole || record.current == last, "whole under a generation that is past");
        if whole {
            break;
        }
        assert_ne!(story.state(B).disk, DiskState::UpToDate);
        assert_eq!(story.state(B).connection, Connection::Connected, "no refusal");
        story.world.one();
    }
    story.ends_with(B, &blocks, 8);
}

#[test]
fn s29_the_generation_changes_continue() {
    s29(WhenLost::Continue);
}

#[test]
fn s29_the_generation_changes_fence() {
    s29(WhenLost::Fence);
}

/// 25 again, but B crashed and cannot know that it is behind: neither can it know that it is not, and the node that
/// knew is gone. Nobody is Primary until an operator accepts the loss.
fn s25_unaware(policy: WhenLost) {
    let mut story = Story::sequence(policy);
    let block = story.block_in(2);
    story.write_for_good(A, block, 4);
    story.kill(B, true);
    story.write_alone(A, block, 4);
    story.kill(A, true);
    let blocks = story.world.plan.blocks;
    replace_disk(&mut story, A, blocks);
    story.start(A);
    story.start(B);
    story.rest(20_000);
    assert_eq!(story.state(B).disk, DiskState::Consistent);
    assert_eq!(story.state(B).refusal.map(|refusal| refusal.1), Some(Refusal::SourceUnsure));
    assert_eq!(story.promote(B, false), Err(CommandError::NotUpToDate(DiskState::Consistent)));
    assert_eq!(story.promote(B, true), Ok(()));
    story.until("both disks are UpToDate", Story::mirrored);
}

#[test]
fn s25_the_newest_disk_is_replaced_and_nobody_knows_continue() {
    s25_unaware(WhenLost::Continue);
}

#[test]
fn s25_the_newest_disk_is_replaced_and_nobody_knows_fence() {
    s25_unaware(WhenLost::Fence);
}
