//! A node that asks before a resync overwrites its data: what that costs, and what it never does.

use crate::story::Story;
use rblk::replica::event::{Command, FrontResult};
use rblk::replica::{Connection, StandAlone};
use rblk::wire::message::DiskState;

impl Story {
    /// Node 0 is Primary and went on alone; node 1 is back, and has not been asked yet. Both nodes ask.
    fn with_a_target_to_be() -> (Story, u64) {
        let mut story = Story::planned(|plan| plan.consent = true);
        assert_eq!(story.promote(0, false), Ok(()));
        let block = story.block_in(1);
        assert_eq!(story.write(0, block, 4), FrontResult::Done);
        story.kill(1, true);
        assert_eq!(story.write(0, block, 8), FrontResult::Done);
        story.start(1);
        (story, block)
    }

    pub(crate) fn asked(&self) -> [u32; 2] {
        [0, 1].map(|node| self.world.nodes[node].asked)
    }

    fn asks(&self) -> bool {
        self.state(1).asks_consent
    }
}

#[test]
fn a_target_is_asked_once_and_no_client_waits_for_the_answer() {
    let (mut story, block) = Story::with_a_target_to_be();
    story.until("it asks", Story::asks);
    assert_eq!(story.state(1).connection, Connection::Connecting);
    assert!(story.state(1).disk > DiskState::Inconsistent, "nothing is overwritten yet");
    while story.asks() {
        let before = story.world.now;
        assert_eq!(story.write(0, block + 2, 4), FrontResult::Done);
        let waited = story.world.now - before;
        assert!(waited < 100_000, "a client waited for {waited} us");
        story.rest(50);
    }
    story.heal();
    assert_eq!(story.asked(), [0, 1]);
    assert_eq!(story.copied(0), 8);
    story.ends_well();
}

#[test]
fn a_veto_keeps_the_data_and_stands_until_an_order() {
    let (mut story, _) = Story::with_a_target_to_be();
    story.world.nodes[1].vetoes = true;
    story.until("it stands alone", |story| story.state(1).connection == Connection::StandAlone);
    assert_eq!(story.state(1).stand_alone, Some(StandAlone::Vetoed));
    assert!(story.world.nodes[1].disk.meta.superblock.consistent);
    story.rest(30_000);
    assert_eq!(story.asked(), [0, 1], "it was asked again by itself");
    assert_eq!(story.command(1, Command::Connect { discard_my_data: false }), Ok(()));
    story.until("it is asked again", |story| story.asked() == [0, 2]);
    story.world.nodes[1].vetoes = false;
    story.ends_well();
}

#[test]
fn an_interrupted_resync_goes_on_without_asking() {
    let (mut story, _) = Story::with_a_target_to_be();
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
fn a_disk_that_holds_nothing_is_not_asked_about() {
    let mut story = Story::planned(|plan| {
        plan.fresh = true;
        plan.consent = true;
    });
    assert_eq!(story.promote(0, true), Ok(()));
    story.heal();
    assert_eq!(story.asked(), [0, 0]);
    story.ends_well();
}

#[test]
fn an_answer_covers_one_meeting() {
    let (mut story, block) = Story::with_a_target_to_be();
    story.heal();
    story.kill(1, true);
    assert_eq!(story.write(0, block + 4, 8), FrontResult::Done);
    story.start(1);
    story.heal();
    assert_eq!(story.asked(), [0, 2]);
    // And the same life: the nodes part and meet again.
    story.cut(3_000);
    story.until("the link is down", |story| !story.connected());
    assert_eq!(story.write(0, block, 1), FrontResult::Done);
    story.heal();
    assert_eq!(story.asked(), [0, 3]);
    story.ends_well();
}

#[test]
fn an_answer_is_void_once_the_node_was_primary() {
    let (mut story, _) = Story::with_a_target_to_be();
    story.until("it asks", Story::asks);
    story.world.net.parted_until = u64::MAX;
    story.until("it is answered", |story| !story.asks());
    story.leave(0);
    story.world.oracle.victim = Some(1);
    assert_eq!(story.promote(1, true), Ok(()));
    assert_eq!(story.command(1, Command::Demote), Ok(()));
    story.start(0);
    story.world.net.parted_until = 0;
    let alone = |story: &Story, node| story.state(node).connection == Connection::StandAlone;
    story.until("a split brain is found", |story| alone(story, 0) && alone(story, 1));
    for (node, discard_my_data) in [(1, true), (0, false)] {
        assert_eq!(story.command(node, Command::Connect { discard_my_data }), Ok(()));
    }
    story.heal();
    assert_eq!(story.asked(), [0, 2], "the data may have changed since the answer");
    story.ends_well();
}
