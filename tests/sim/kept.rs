//! Bugs that the simulator has shown, each as a story that shows it again.

use crate::fate::DiskPart;
use crate::story::Story;
use rblk::replica::Replication;
use rblk::replica::event::{Command, FrontResult};
use rblk::wire::message::{DiskState, Refusal};

/// The peer loses its cache, and the Primary its disk before it notices: a write that both had accepted is on the
/// Primary's disk alone, and no flush may be answered by the peer's.
#[test]
fn a_primary_without_its_disk_takes_no_peer_that_may_have_forgotten() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.kill(1, true);
    story.fail_next(0, DiskPart::Data);
    story.begin_write(0, block + 4, 2);
    story.until("the disk is given up", |story| story.state(0).disk == DiskState::Diskless);
    story.start(1);
    story.until("the peer is refused", |story| story.state(0).refusal.is_some());
    assert_eq!(story.state(0).refusal.map(|refusal| refusal.1), Some(Refusal::DataLost));
    story.kill(0, false);
    story.start(0);
    story.heal();
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, block, 2), FrontResult::Done);
    story.ends_well();
}

/// Both disks fail, the second before it is on record as the data: what waits for that record is answered.
#[test]
fn nobody_waits_for_a_record_on_a_disk_that_failed() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.fail_next(0, DiskPart::Data);
    story.fail_next(1, DiskPart::Flush);
    let before = story.world.now;
    assert_eq!(story.write_fua(0, block, 2), FrontResult::IoError);
    assert!(story.world.now - before < 100_000, "answered by what is known, not by a timeout");
    assert_eq!(story.flush(0), FrontResult::IoError);
    assert_eq!(story.state(1).disk, DiskState::Diskless);
}

/// A write fails on the source's disk when the target has all but the word that it has all.
#[test]
fn what_fails_while_a_resync_ends_is_copied_after_it() {
    let mut story = Story::with_primary();
    let block = story.block_in(2);
    story.kill(1, false);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    story.start(1);
    let source = |story: &Story| story.state(0).replication == Replication::SyncSource;
    let copied = |story: &Story| source(story) && story.state(0).out_of_sync_bytes == 0;
    story.until("all is copied", copied);
    assert_eq!(story.state(1).disk, DiskState::Inconsistent);
    story.fail_next(0, DiskPart::Data);
    assert_eq!(story.write(0, block, 1), FrontResult::IoError);
    story.heal();
    assert_eq!(story.write(0, block, 1), FrontResult::Done);
    story.ends_well();
}

/// The source's disk fails in a flush that a Primary on the target asked for: no disk with the data is left that could
/// answer it, and no record will ever say that the target's is.
#[test]
fn a_flush_does_not_wait_for_a_record_that_a_resync_target_cannot_make() {
    let mut story = Story::of_two(true);
    assert_eq!(story.promote(0, true), Ok(()));
    story.until("it is copied", |story| story.copied(0) > 0);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.promote(1, false), Ok(()));
    let block = story.block_in(2);
    assert_eq!(story.write(1, block, 2), FrontResult::Done);
    assert_eq!(story.state(1).disk, DiskState::Inconsistent);
    story.fail_next(0, DiskPart::Flush);
    assert_eq!(story.flush(1), FrontResult::IoError);
    assert_eq!(story.state(0).disk, DiskState::Diskless);
    assert_eq!(story.read(1, block, 2), FrontResult::IoError);
    story.kill(0, false);
    story.start(0);
    story.heal();
    assert_eq!(story.flush(1), FrontResult::Done);
    assert_eq!(story.read(1, block, 2), FrontResult::Done);
    story.ends_well();
}

/// The same flush, of which only the target's half is answered when the link breaks: it waits for the source.
#[test]
fn a_flush_that_only_a_resync_target_has_done_is_done_again() {
    let mut story = Story::of_two(true);
    assert_eq!(story.promote(0, true), Ok(()));
    story.until("it is copied", |story| story.copied(0) > 0);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.promote(1, false), Ok(()));
    let block = story.block_in(2);
    assert_eq!(story.write(1, block, 2), FrontResult::Done);
    story.begin_flush(1);
    story.cut(1_000);
    story.until("the link is down", |story| !story.connected());
    story.rest(500);
    assert!(!story.world.client.is_idle(), "nobody can answer it now");
    story.until("the flush is answered", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    story.heal();
    story.ends_well();
}

/// The power goes while the second copy of the superblock is written, and again at the next start: the copy that is
/// still whole is not the first to be written.
#[test]
fn power_cuts_in_a_row_do_not_take_both_copies_of_the_superblock() {
    let mut story = Story::with_primary();
    story.kill(1, true);
    for turn in 0..100 {
        story.start(1);
        let sequence = |story: &Story| story.world.nodes[1].disk.meta.superblock.sequence;
        let writes = |story: &Story| story.world.nodes[1].disk.meta.writes_superblock();
        let before = sequence(&story);
        story.until("a copy is being written", writes);
        if turn % 2 == 0 {
            story.until("the other is being written", |story| sequence(story) > before);
        }
        story.kill(1, true);
    }
    story.start(1);
    story.ends_well();
}

/// The connection is lost while a target records that it has all: it is no less complete for that, and says so.
#[test]
fn a_target_that_has_all_on_record_is_not_inconsistent() {
    for primary in [0, 1] {
        let mut story = Story::with_primary();
        let block = story.block_in(2);
        story.kill(1, false);
        assert_eq!(story.write(0, block, 2), FrontResult::Done);
        if primary == 1 {
            assert_eq!(story.command(0, Command::Demote), Ok(()));
        }
        story.start(1);
        let target = |story: &Story| story.state(1).replication == Replication::SyncTarget;
        story.until("it is resynced", target);
        if primary == 1 {
            assert_eq!(story.promote(1, false), Ok(()));
        }
        let recorded = |story: &Story| story.world.nodes[1].disk.meta.superblock.consistent;
        story.until("the first copy says so", recorded);
        assert_eq!(story.state(1).disk, DiskState::Inconsistent);
        story.cut(1_000);
        story.rest(500);
        assert!(!story.connected());
        if primary == 1 {
            assert_eq!(story.state(1).disk, DiskState::UpToDate);
            assert_eq!(story.write(1, block, 1), FrontResult::Done);
            assert!(!story.connected(), "by this disk alone");
        } else {
            assert_eq!(story.state(1).disk, DiskState::Consistent);
        }
        story.heal();
        assert_eq!(story.read(primary, block, 2), FrontResult::Done);
        story.ends_well();
    }
}

/// The peer loses its cache, then the Primary its disk. They meet, nobody is Primary, and the disk comes back: the peer
/// has met its node by then, and still lacks what it had lost before.
#[test]
fn a_meeting_without_a_disk_makes_nobody_a_survivor() {
    let mut story = Story::of_two(false);
    assert_eq!(story.promote(1, false), Ok(()));
    let block = story.block_in(2);
    assert_eq!(story.write(1, block, 2), FrontResult::Done);
    story.cut(1_000_000);
    story.kill(0, true);
    story.fail_next(1, DiskPart::Flush);
    story.begin_flush(1);
    story.until("the disk is given up", |story| story.state(1).disk == DiskState::Diskless);
    assert_eq!(story.command(1, Command::Demote), Ok(()));
    story.start(0);
    story.world.net.parted_until = 0;
    story.until("they have met", Story::connected);
    story.kill(1, false);
    story.start(1);
    story.heal();
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.read(0, block, 2), FrontResult::Done);
    story.ends_well();
}

/// A node without a disk is to step down, or to leave, and the peer that it lives on is lost in silence. That ends the
/// last read; it may be the last thing that ever happens to this node, and the command is answered with it.
#[test]
fn what_waits_for_the_last_request_ends_with_it() {
    for command in [Command::Demote, Command::Detach] {
        let mut story = Story::with_primary();
        let block = story.block_in(2);
        story.fail_next(0, DiskPart::Data);
        assert_eq!(story.write(0, block, 2), FrontResult::Done);
        assert_eq!(story.state(0).disk, DiskState::Diskless);
        story.part_unheard();
        story.begin_read(0, block, 2);
        story.world.command(0, command);
        assert!(story.world.is_asked(), "{command:?} waits for the read");
        story.until("the read is answered", |story| story.world.client.is_idle());
        assert_eq!(story.world.client.last_result, Some(FrontResult::IoError));
        assert_eq!(story.world.operator.last_reply, Some(Ok(())), "{command:?}");
    }
}
