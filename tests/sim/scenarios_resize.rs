//! The volume grows: both disks have room, an order, and all that can come between.

use crate::authority::WhenLost;
use crate::dual::two_primaries;
use crate::node::Fact;
use crate::operator::OF_A_STORY;
use crate::plan::Plan;
use crate::story::Story;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::wire::message::DiskState;

const DISCONNECT: Command = Command::Disconnect;
const CONNECT: Command = Command::Connect { discard_my_data: false };
const BLOCKS: u64 = 300;
const SPARE: u64 = 70;

fn roomy(plan: &mut Plan) {
    plan.blocks = BLOCKS;
    plan.spare_blocks = SPARE;
}

/// Two connected nodes with room, node 0 Primary.
fn with_room() -> Story {
    let mut story = Story::planned(roomy);
    assert_eq!(story.promote(0, false), Ok(()));
    story
}

impl Story {
    /// Blocks of the volume as the node has it.
    fn blocks(&self, node: usize) -> u64 {
        self.state(node).sectors / 8
    }

    /// On record at both.
    fn agreed(&self) -> [u64; 2] {
        [0, 1].map(|node| self.world.nodes[node].disk.meta.superblock.agreed_sectors / 8)
    }

    fn grows(&mut self, node: usize) {
        assert_eq!(self.command(node, Command::Resize), Ok(()));
        self.until("both have met", |story| {
            story.connected() && story.agreed() == [BLOCKS + SPARE; 2]
        });
    }
}

#[test]
fn the_volume_grows_beside_the_primarys_clients() {
    let mut story = with_room();
    let block = story.block_in(0);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    assert_eq!(story.flush(0), FrontResult::Done);
    story.begin_write(0, block + 4, 1);
    story.grows(1);
    story.heal();
    assert_eq!([story.blocks(0), story.blocks(1)], [BLOCKS + SPARE; 2]);
    let copied = story.copied(0);
    assert!(
        (SPARE..=SPARE + 3).contains(&copied),
        "what is added comes from the Primary: {copied}"
    );
    assert_eq!(story.read(0, block, 2), FrontResult::Done);
    assert_eq!(story.command(1, Command::Resize), Err(CommandError::NoRoom));
    story.ends_well();
}

#[test]
fn a_primary_that_fences_does_not_fence_for_it() {
    let mut story = Story::planned(|plan| {
        roomy(plan);
        plan.on_peer_lost = WhenLost::Fence;
    });
    story.world.operator.fences = Some(true);
    assert_eq!(story.promote(0, false), Ok(()));
    let block = story.block_in(0);
    assert_eq!(story.command(1, Command::Resize), Ok(()));
    story.until("the peer has left", |story| !story.connected_at(0));
    let before = story.world.now;
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    assert!(story.world.now - before < 100_000, "its leave was on record already");
    assert_eq!(story.world.operator.fencing, 0);
    story.heal();
    assert_eq!(story.agreed(), [BLOCKS + SPARE; 2]);
    story.ends_well();
}

#[test]
fn nothing_is_marked_clean_that_is_not_on_both_disks() {
    let mut story = with_room();
    assert_eq!(story.command(1, Command::Resize), Ok(()));
    story.cut(5_000);
    assert_eq!(story.state(1).out_of_sync_bytes, SPARE * 4096);
    for node in [0, 1] {
        story.kill(node, true);
    }
    story.start(1);
    story.rest(1_000);
    assert_eq!(story.state(1).out_of_sync_bytes, SPARE * 4096, "on stable media");
    assert_eq!(story.state(1).disk, DiskState::Outdated, "the other may have gone on");
    story.start(0);
    story.until("both are as large", |story| story.agreed() == [BLOCKS + SPARE; 2]);
    for node in [0, 1] {
        story.kill(node, true);
        story.start(node);
    }
    story.heal();
    assert_eq!(story.copied(0).max(story.copied(1)), SPARE);
    story.ends_well();
}

#[test]
fn the_other_node_grows_when_they_meet_again() {
    let mut story = with_room();
    let block = story.block_in(0);
    assert_eq!(story.command(1, Command::Resize), Ok(()));
    story.kill(1, true);
    story.rest(3_000);
    assert_eq!(story.blocks(0), BLOCKS, "it never heard of it");
    assert_eq!(story.write(0, block, 3), FrontResult::Done);
    story.start(1);
    story.until("both are as large", |story| story.agreed() == [BLOCKS + SPARE; 2]);
    story.heal();
    assert_eq!(story.copied(0), SPARE + 3, "the Primary is the source");
    assert_eq!(story.read(0, block, 3), FrontResult::Done);
    story.ends_well();
}

#[test]
fn nobody_grows_for_a_peer_that_went_its_own_way() {
    let mut story = with_room();
    let block = story.block_in(1);
    assert_eq!(story.command(1, Command::Resize), Ok(()));
    story.world.net.parted_until = story.world.now + 3_000_000;
    assert_eq!(story.write(0, block, 3), FrontResult::Done);
    story.world.oracle.victim = Some(1);
    assert_eq!(story.promote(1, true), Ok(()));
    story.until("both stand alone", |story| story.alone(0) && story.alone(1));
    assert_eq!(story.agreed(), [BLOCKS, BLOCKS + SPARE]);
    assert_eq!(story.blocks(0), BLOCKS);
}

#[test]
fn an_order_that_cannot_be_carried_out_changes_nothing() {
    let mut story = Story::planned(|plan| plan.blocks = BLOCKS);
    assert_eq!(story.command(0, Command::Resize), Err(CommandError::NoRoom));
    let mut story = Story::planned(|plan| (plan.blocks, plan.more_blocks) = (BLOCKS, SPARE));
    assert_eq!(story.command(1, Command::Resize), Err(CommandError::PeerHasNoRoom));
    assert_eq!(story.command(0, Command::Resize), Err(CommandError::NoRoom));
    let mut story = two_primaries(roomy);
    for node in [0, 1] {
        assert_eq!(story.command(node, Command::Resize), Err(CommandError::IsPrimary));
    }
    let mut story = with_room();
    assert_eq!(story.command(0, Command::Resize), Err(CommandError::IsPrimary));
    assert_eq!(story.command(1, DISCONNECT), Ok(()));
    story.until("the peer knows", |story| !story.connected_at(0));
    assert_eq!(story.command(0, Command::Resize), Err(CommandError::PeerAway));
    assert_eq!(story.command(1, Command::Resize), Err(CommandError::PeerAway));
    assert_eq!(story.agreed(), [BLOCKS; 2]);
    assert_eq!(story.command(1, CONNECT), Ok(()));
    story.heal();
    story.grows(1);
    story.ends_well();
}

#[test]
fn without_a_good_disk_on_both_nodes_nothing_grows() {
    let mut story = with_room();
    let block = story.block_in(0);
    story.fail_next(0, crate::fate::DiskPart::Data);
    assert_eq!(story.write(0, block, 1), FrontResult::Done, "on the peer's disk");
    assert_eq!(story.command(1, Command::Resize), Err(CommandError::PeerNotUpToDate));
    let mut story = with_room();
    story.fail_next(1, crate::fate::DiskPart::Data);
    assert_eq!(story.write(0, block, 1), FrontResult::Done, "on one disk");
    assert_eq!(story.command(1, Command::Resize), Err(CommandError::NoDisk));
}

#[test]
fn both_leave_at_the_same_time_and_meet_again() {
    // Each records that it stepped back, and says so, before it hears that of the other.
    let mut story = Story::planned(|plan| {
        roomy(plan);
        (plan.net_typical, plan.net_worst) = (200_000, 300_000);
    });
    story.world.command(1, Command::Resize);
    story.world.tell(0, Fact::Command { id: OF_A_STORY, command: DISCONNECT });
    story.until("both have stepped back", |story| {
        story.state(0).superblock.outdated && story.state(1).superblock.outdated
    });
    story.until("the one is alone", |story| story.alone(0));
    story.until("the other has grown", |story| !story.connected_at(1) && !story.world.is_asked());
    assert_eq!(story.command(0, CONNECT), Ok(()));
    story.heal();
    assert_eq!(story.agreed(), [BLOCKS + SPARE; 2]);
    story.ends_well();
}
