//! What a resync discards is saved first: whose data that is, whose it is not, and what a failure keeps.

use crate::policies;
use crate::story::Story;
use rblk::limits::BLOCK_SECTORS;
use rblk::replica::event::{Command, FrontResult};
use rblk::replica::snapshot::StandAlone;
use rblk::wire::message::{DiskState, Role};

const DEMOTE: Command = Command::Demote;
const CONNECT: Command = Command::Connect { discard_my_data: false };
const DISCARD: Command = Command::Connect { discard_my_data: true };

/// Both nodes save what they discard.
fn saving(policies: [usize; 4]) -> Story {
    Story::planned(|plan| {
        plan.salvage = true;
        plan.policies = policies;
    })
}

/// Both were Primary without each other: node 0 wrote two blocks at `here`, node 1 one at `there`. Both still are.
fn split(policies: [usize; 4]) -> (Story, u64, u64) {
    policies::split_story(saving(policies))
}

impl Story {
    /// The blocks that node 1 is about to save, as its core marks them.
    fn marked(&self, node: usize) -> Vec<u64> {
        let core = self.world.nodes[node].replica.as_ref().expect("it runs");
        let marks = core.marks();
        let set = |block: &u64| marks[(*block / 64) as usize] >> (block % 64) & 1 == 1;
        (0..marks.len() as u64 * 64).filter(set).collect()
    }

    /// Node 1 is Secondary, alone, and told to give its way up; both look for each other again.
    fn give_up_node_1(&mut self) {
        assert_eq!(self.command(1, DEMOTE), Ok(()));
        self.until("both stand alone", |story| story.alone(0) && story.alone(1));
        assert_eq!(self.command(1, DISCARD), Ok(()));
        assert_eq!(self.command(0, CONNECT), Ok(()));
    }
}

#[test]
fn what_an_operator_discards_is_saved_first() {
    let (mut story, _, there) = split([0, 0, 0, 1]);
    let lost = story.generation(1);
    story.give_up_node_1();
    story.until("it is asked", |story| story.asked() == [0, 1]);
    assert_eq!(story.marked(1), [there], "its own change, and nothing of the other's");
    assert_eq!(story.generation(1), lost);
    story.heal();
    let saved = story.world.nodes[1].saved.as_ref().map(|saved| saved.0).expect("it was saved");
    assert_eq!(Some(saved.own), lost);
    assert_eq!(Some(saved.source), story.generation(0));
    assert!(saved.base.is_some() && !saved.everything);
    story.ends_well();
}

#[test]
fn what_a_policy_discards_is_saved_first() {
    let (mut story, ..) = split([4, 0, 0, 1]); // discard-least-changes: node 1
    let lost = story.generation(1);
    assert_eq!(story.command(0, DEMOTE), Ok(()));
    assert_eq!(story.command(1, DEMOTE), Ok(()));
    story.heal();
    let saved = story.world.nodes[1].saved.as_ref().map(|saved| saved.0.own);
    assert_eq!(saved, lost);
    assert_eq!(story.asked(), [0, 1]);
    story.ends_well();
}

#[test]
fn a_primary_whose_data_is_discarded_steps_down_before_it_is_saved() {
    let (mut story, here, there) = split([5, 2, 0, 2]); // violently, and node 0 loses
    assert_eq!(story.command(1, DEMOTE), Ok(()));
    story.until("it is told", |story| story.world.operator.must_step_down == Some(0));
    assert_eq!(story.write(0, here + 2, 1), FrontResult::Done, "its clients decide when");
    assert_eq!(story.asked(), [0, 0]);
    assert_eq!(story.command(0, DEMOTE), Ok(()));
    story.until("it is asked", |story| story.asked() == [1, 0]);
    assert_eq!(story.marked(0), [here, here + 1, here + 2], "all that it wrote");
    story.heal();
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, there, 1), FrontResult::Done);
    story.ends_well();
}

#[test]
fn what_cannot_be_saved_is_not_overwritten() {
    let (mut story, _, there) = split([0, 0, 0, 1]);
    let lost = story.generation(1);
    let disk = story.world.nodes[1].disk.current.clone();
    story.world.nodes[1].unsavable = true;
    story.give_up_node_1();
    story.until("it stands alone", |story| story.alone(1));
    assert_eq!(story.state(1).stand_alone, Some(StandAlone::Unsaved));
    story.rest(30_000);
    assert_eq!(story.asked(), [0, 1], "it was asked again by itself");
    assert_eq!(story.generation(1), lost);
    assert_eq!(story.world.nodes[1].disk.current, disk);
    assert!(story.world.nodes[1].disk.meta.superblock.consistent);
    assert_eq!(story.marked(1), [there]);
    assert!(!story.state(1).discard_my_data, "and the order is used up");
    story.world.nodes[1].unsavable = false;
    assert_eq!(story.command(1, DISCARD), Ok(()));
    story.heal();
    assert_eq!(story.asked(), [0, 2]);
    story.ends_well();
}

#[test]
fn a_crash_between_saving_and_the_resync_saves_again() {
    for power in [false, true] {
        let (mut story, ..) = split([3, 3, 0, 1]); // the Secondary loses
        assert_eq!(story.command(1, DEMOTE), Ok(()));
        story.until("it was saved", |story| story.world.nodes[1].saved.is_some());
        let lost = story.generation(1);
        story.kill(1, power);
        story.start(1);
        assert_eq!(story.generation(1), lost, "nothing is overwritten yet");
        story.heal();
        assert_eq!(story.asked(), [0, 2], "what this daemon has not saved it asks about");
        story.ends_well();
    }
}

#[test]
fn an_interrupted_resync_is_not_saved_again() {
    let (mut story, ..) = split([3, 3, 0, 1]);
    assert_eq!(story.command(1, DEMOTE), Ok(()));
    story.until("the data is overwritten", |story| {
        !story.world.nodes[1].disk.meta.superblock.consistent
    });
    story.kill(1, true);
    story.start(1);
    story.heal();
    assert_eq!(story.asked(), [0, 1]);
    story.ends_well();
}

#[test]
fn what_was_saved_while_it_changed_is_saved_again() {
    let (mut story, here, there) = split([0, 0, 0, 1]);
    story.give_up_node_1();
    story.until("it is asked", |story| story.state(1).asks_consent);
    story.world.net.parted_until = u64::MAX;
    assert_eq!(story.promote(1, true), Ok(()));
    story.world.scribble(1, there + 1);
    story.until("it is written", |story| story.world.scribbles_pending() == 0);
    assert_eq!(story.command(1, DEMOTE), Ok(()));
    story.until("it is answered", |story| !story.state(1).asks_consent);
    story.world.net.parted_until = 0;
    story.until("both stand alone", |story| story.alone(0) && story.alone(1));
    assert_eq!(story.command(1, DISCARD), Ok(()));
    assert_eq!(story.command(0, CONNECT), Ok(()));
    story.heal();
    assert_eq!(story.asked(), [0, 2]);
    assert_eq!(story.read(0, here, 2), FrontResult::Done);
    story.ends_well();
}

#[test]
fn nodes_without_a_state_in_common_save_everything() {
    let (mut story, ..) = split([0, 0, 0, 1]);
    // Node 0 begins a way of its own that has another base.
    assert_eq!(story.command(1, DEMOTE), Ok(()));
    story.until("both stand alone", |story| story.alone(0) && story.alone(1));
    assert_eq!(story.command(0, Command::Invalidate { peer: true }), Ok(()));
    assert_eq!(story.command(1, DISCARD), Ok(()));
    assert_eq!(story.command(0, CONNECT), Ok(()));
    story.heal();
    let saved = story.world.nodes[1].saved.as_ref().map(|saved| saved.0).expect("it was saved");
    assert!(saved.everything && saved.base.is_none());
    story.ends_well();
}

#[test]
fn data_that_is_merely_old_is_not_saved() {
    let mut story = saving([0, 0, 0, 1]);
    assert_eq!(story.promote(0, false), Ok(()));
    let block = story.block_in(1);
    assert_eq!(story.write(0, block, 4), FrontResult::Done);
    // Behind.
    story.kill(1, true);
    assert_eq!(story.write(0, block, 8), FrontResult::Done);
    story.start(1);
    story.heal();
    // A Primary that crashed.
    story.kill(0, true);
    story.start(0);
    story.heal();
    // Declared invalid.
    assert_eq!(story.command(1, Command::Invalidate { peer: false }), Ok(()));
    story.until("it is overwritten", |story| story.state(1).disk == DiskState::Inconsistent);
    story.heal();
    // Restored from an image.
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.write(0, block, 1), FrontResult::Done);
    story.rest(3_000);
    let image = story.image(1);
    assert_eq!(story.write(0, block, 2), FrontResult::Done);
    assert_eq!(story.flush(0), FrontResult::Done);
    story.rest(3_000);
    story.put_back(1, image);
    story.start(1);
    story.heal();
    assert_eq!(story.asked(), [0, 0]);
    assert_eq!(story.state(0).role, Role::Primary);
    assert!(story.state(0).sectors >= BLOCK_SECTORS);
    story.ends_well();
}

#[test]
fn a_fresh_disk_is_not_saved() {
    let mut story = Story::planned(|plan| {
        plan.fresh = true;
        plan.salvage = true;
    });
    assert_eq!(story.promote(0, true), Ok(()));
    story.heal();
    assert_eq!(story.asked(), [0, 0]);
    story.ends_well();
}
