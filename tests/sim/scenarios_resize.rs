//! The volume grows: both disks have room, an order, and all that can come between.

use crate::dual::two_primaries;
use crate::plan::Plan;
use crate::story::Story;
use rblk::replica::event::{Command, CommandError, FrontResult};

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
            story.connected() && story.agreed()[0] == story.agreed()[1]
        });
    }
}

#[test]
fn the_volume_grows_beside_its_clients_on_either_nodes_order() {
    for node in [0, 1] {
        let mut story = with_room();
        let block = story.block_in(0);
        assert_eq!(story.write(0, block, 2), FrontResult::Done);
        assert_eq!(story.flush(0), FrontResult::Done);
        let before = story.generation(0);
        story.begin_write(0, block + 4, 1);
        story.grows(node);
        story.heal();
        assert_eq!(story.agreed(), [BLOCKS + SPARE; 2]);
        assert_eq!([story.blocks(0), story.blocks(1)], [BLOCKS + SPARE; 2]);
        assert!(
            (SPARE..=SPARE + 3).contains(&story.copied(0)),
            "what is added comes from the Primary"
        );
        assert_eq!(story.read(0, block, 2), FrontResult::Done);
        assert_eq!(story.command(node, Command::Resize), Err(CommandError::NoRoom));
        // One that lost its peer while it had writes under way went on alone.
        assert!(story.generation(0) == before || story.generation(0) == story.generation(1));
        story.ends_well();
    }
}

#[test]
fn nothing_is_marked_clean_that_is_not_on_both_disks() {
    let mut story = with_room();
    assert_eq!(story.command(0, Command::Resize), Ok(()));
    story.cut(5_000);
    assert_eq!(story.state(0).out_of_sync_bytes, SPARE * 4096);
    for node in [0, 1] {
        story.kill(node, true);
    }
    story.start(0);
    story.rest(1_000);
    assert_eq!(story.state(0).out_of_sync_bytes, SPARE * 4096, "on stable media");
    story.start(1);
    story.until("both are as large", |story| story.agreed() == [BLOCKS + SPARE; 2]);
    story.heal();
    assert_eq!(story.copied(0).max(story.copied(1)), SPARE);
    story.ends_well();
}

#[test]
fn a_node_that_took_over_grows_when_the_other_is_back() {
    let mut story = with_room();
    let block = story.block_in(0);
    story.cut(100);
    story.until("the link is back", Story::mirrored);
    assert_eq!(story.command(0, Command::Resize), Ok(()));
    story.kill(0, true);
    story.rest(3_000);
    assert_eq!(story.blocks(1), BLOCKS, "it never heard of it");
    assert_eq!(story.promote(1, true), Ok(()));
    assert_eq!(story.write(1, block, 3), FrontResult::Done);
    story.start(0);
    story.until("both are as large", |story| story.agreed() == [BLOCKS + SPARE; 2]);
    story.heal();
    assert_eq!(story.copied(1), SPARE + 3, "the Primary is the source");
    assert_eq!(story.read(1, block, 3), FrontResult::Done);
    story.ends_well();
}

#[test]
fn two_primaries_stay_primaries_of_one_generation() {
    let mut story = two_primaries(roomy);
    let before = [story.generation(0), story.generation(1)];
    story.grows(1);
    story.heal();
    assert_eq!(story.agreed(), [BLOCKS + SPARE; 2]);
    assert_eq!([story.generation(0), story.generation(1)], before);
    assert_eq!(story.copied(0).max(story.copied(1)), SPARE);
    story.ends_well();
}

#[test]
fn a_node_without_a_disk_does_not_grow() {
    let mut story = with_room();
    let block = story.block_in(0);
    story.fail_next(0, crate::fate::DiskPart::Data);
    assert_eq!(story.write(0, block, 1), FrontResult::Done, "on the peer's disk");
    assert_eq!(story.command(0, Command::Resize), Err(CommandError::NoDisk));
    assert_eq!(story.command(1, Command::Resize), Err(CommandError::PeerNotUpToDate));
}

#[test]
fn an_order_that_cannot_be_carried_out_changes_nothing() {
    let mut story = Story::planned(|plan| plan.blocks = BLOCKS);
    assert_eq!(story.command(0, Command::Resize), Err(CommandError::NoRoom));
    let mut story = Story::planned(|plan| (plan.blocks, plan.more_blocks) = (BLOCKS, SPARE));
    assert_eq!(story.command(1, Command::Resize), Err(CommandError::PeerHasNoRoom));
    assert_eq!(story.command(0, Command::Resize), Err(CommandError::NoRoom));
    let mut story = with_room();
    assert_eq!(story.command(1, DISCONNECT), Ok(()));
    story.until("the peer knows", |story| !story.connected_at(0));
    assert_eq!(story.command(0, Command::Resize), Err(CommandError::PeerAway));
    assert_eq!(story.command(1, Command::Resize), Err(CommandError::PeerAway));
    assert_eq!(story.agreed(), [BLOCKS; 2]);
    assert_eq!(story.command(1, CONNECT), Ok(()));
    story.heal();
    story.grows(0);
    story.ends_well();
}
