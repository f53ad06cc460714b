//! How long the authority to go on alone lasts: for one loss of the peer, and no longer.

use crate::authority::WhenLost;
use crate::node::Fact;
use crate::sequences::{A, B};
use crate::story::Story;
use rblk::replica::event::{Command, CommandError, FenceId, FrontResult};
use rblk::replica::snapshot::Suspended;
use rblk::wire::message::DiskState;

/// The nodes were parted and have met again; now they are parted for the second time, and a write of A is held.
fn parted_again(mut story: Story, held: Suspended) -> (Story, u64) {
    let block = story.block_in(3);
    story.reunite();
    story.until("the write has its answer", |story| story.world.client.is_idle());
    story.heal();
    story.part();
    story.begin_vain_write(A, block);
    story.until("it is held", |story| story.state(A).suspended == held);
    story.rest(5_000);
    story.was_vain();
    (story, block)
}

#[test]
fn a_fence_counts_for_one_loss() {
    let mut story = Story::sequence(WhenLost::Fence);
    let block = story.block_in(2);
    story.part();
    story.write_alone(A, block, 2);
    story.world.operator.fences = Some(false);
    let (mut story, block) = parted_again(story, Suspended::NotAllowed);
    assert_eq!(story.fenced(), [2, 1], "it was asked for again");
    story.reunite();
    story.until("the write has its answer", |story| story.world.client.is_idle());
    story.ends_with(B, &[block], 1);
}

#[test]
fn an_order_to_go_on_counts_for_one_loss() {
    let mut story = Story::sequence(WhenLost::Suspend);
    let block = story.block_in(2);
    story.part();
    story.begin_vain_write(A, block);
    story.until("it is held", |story| story.state(A).suspended == Suspended::NotAllowed);
    assert_eq!(story.command(A, Command::Promote { force: true }), Ok(()));
    story.until("the write has its answer", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    let (mut story, block) = parted_again(story, Suspended::NotAllowed);
    story.reunite();
    story.until("the write has its answer", |story| story.world.client.is_idle());
    story.ends_with(B, &[block], 1);
}

/// The first answer says that the peer is off, and was true when it was; it arrives when the peer has long been back,
/// and is lost again.
#[test]
fn an_answer_to_an_earlier_question_is_none() {
    let mut story = Story::sequence(WhenLost::Fence);
    story.world.operator.fence_takes = Some(u64::from(u32::MAX));
    let block = story.block_in(2);
    story.part();
    story.begin_write(A, block, 2);
    story.until("it is held", |story| story.state(A).suspended == Suspended::Fencing);
    let (mut story, block) = parted_again(story, Suspended::Fencing);
    story.world.tell(A, Fact::Fenced { id: FenceId(1), confirmed: true });
    story.rest(1_000);
    story.was_vain();
    assert_eq!(story.state(A).suspended, Suspended::Fencing, "the second question is open");
    let life = story.world.nodes[A].life;
    story.world.fence_turn(A, life, FenceId(2), false);
    story.until("the write has its answer", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    story.start(B);
    story.reunite();
    story.ends_with(B, &[block], 1);
}

/// Who gives the role up without the peer may have meant to hand it over by force: it takes it again by force only,
/// unless it has gone on alone, which is on record.
#[test]
fn a_role_that_was_given_up_without_the_peer_is_not_taken_again_silently() {
    for wrote in [false, true] {
        let mut story = Story::sequence(WhenLost::Continue);
        let block = story.block_in(2);
        story.write_for_good(A, block, 4);
        story.kill(B, true);
        story.until("the loss is noticed", |story| !story.connected_at(A));
        if wrote {
            story.write_alone(A, block, 1);
        }
        assert_eq!(story.command(A, Command::Demote), Ok(()));
        let refused = Err(CommandError::NotUpToDate(DiskState::UpToDate));
        assert_eq!(story.promote(A, false), if wrote { Ok(()) } else { refused });
        assert_eq!(story.promote(A, true), Ok(()));
        story.start(B);
        story.ends_with(A, &[block], 4);
    }
}
