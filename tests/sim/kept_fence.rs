//! Bugs of `on-peer-lost = "fence"` that seeds have shown, each as a story that shows it again without luck.

use crate::authority::WhenLost;
use crate::sequences::{A, B, BEHIND, HALF_COPIED};
use crate::story::Story;
use rblk::replica::Connection;
use rblk::replica::event::{Command, FenceId, FrontResult};
use rblk::replica::snapshot::Suspended;
use rblk::wire::message::DiskState;

/// What of a greeting goes wrong is tried after each of so many events; it takes fewer.
const GREETING: u64 = 200;

/// A's power goes before it has flushed, and B is Primary by that fence: what it then says is stable, is stable on its
/// disk alone. Its own power goes next. If nothing told the two apart, A would be the source.
#[test]
fn what_a_fence_made_primary_has_that_on_record_before_it_answers() {
    let mut story = Story::sequence(WhenLost::Fence);
    let block = story.block_in(2);
    assert_eq!(story.write(A, block, 4), FrontResult::Done);
    story.part();
    assert_eq!(story.promote(B, false), Ok(()));
    assert_eq!(story.fenced(), [1, 1]);
    assert_eq!(story.flush(B), FrontResult::Done);
    story.kill(B, true);
    story.start(A);
    story.start(B);
    story.reunite();
    story.ends_with(A, &[block], 4);
}

/// An operator disconnects the Primary, and its goodbye is lost: the peer has good data, and somebody may have this
/// node fenced and go on with that. An order to part is no word that the peer is out of it.
#[test]
fn an_order_to_part_is_no_authority() {
    let mut story = Story::sequence(WhenLost::Fence);
    story.world.operator.fences = Some(false);
    let block = story.block_in(2);
    story.write_for_good(A, block, 4);
    story.world.net.parted_until = u64::MAX;
    story.world.silence(B);
    assert_eq!(story.command(A, Command::Disconnect), Ok(()));
    story.begin_vain_write(A, block);
    story.until("it is held", |story| story.state(A).suspended == Suspended::NotAllowed);
    story.world.operator.fences = Some(true);
    story.until("B knows", |story| !story.connected_at(B));
    assert_eq!(story.promote(B, false), Ok(()));
    story.was_vain();
    story.write_at_once(B, block + 1, 2);
    story.reunite();
    story.ends_with(B, &[block], 4);
}

/// The nodes have lost each other with a write that A has marked, and so A is to be the source when they meet. So many
/// events later the link breaks again. `None` if they were connected by then.
fn parted_while_greeting(events: u64) -> Option<(Story, u64)> {
    let mut story = Story::sequence(WhenLost::Fence);
    let block = story.block_in(2);
    assert_eq!(story.write(A, block, 4), FrontResult::Done);
    story.cut(1_000);
    story.until("both know", |story| !story.connected_at(A) && !story.connected_at(B));
    let greets = |story: &Story| story.state(A).connection == Connection::Greeting;
    story.until("they greet", greets);
    for _ in 0..events {
        story.world.one();
        if story.connected_at(A) || story.connected_at(B) {
            return None;
        }
    }
    story.part();
    Some((story, block))
}

/// The link breaks while the two greet each other and A is to be the source. A is held until B is fenced, since B, that
/// has recorded nothing, may be made Primary by a fence of A.
#[test]
fn that_the_peer_is_behind_is_not_believed_before_it_says_so() {
    for events in 0..GREETING {
        let Some((mut story, block)) = parted_while_greeting(events) else {
            assert!(events > 8, "a greeting takes some events");
            return;
        };
        story.world.operator.fences = Some(false);
        story.begin_vain_write(A, block);
        story.rest(5_000);
        story.was_vain();
        assert_eq!(story.state(A).suspended, Suspended::NotAllowed, "after {events} events");
        story.world.operator.fences = Some(true);
        if story.state(B).disk == DiskState::Inconsistent {
            assert_eq!(story.promote(B, false), HALF_COPIED);
        } else {
            assert_eq!(story.promote(B, false), Ok(()));
            story.was_vain();
            story.write_at_once(B, block + 1, 2);
        }
        story.reunite();
        story.until("the write has its answer", |story| story.world.client.is_idle());
        story.ends_with(B, &[block], 4);
    }
    panic!("they never met");
}

/// The same, and A is started again: by then B may have gone on.
#[test]
fn that_the_peer_is_behind_is_not_believed_after_a_restart() {
    for events in 0..GREETING {
        let Some((mut story, block)) = parted_while_greeting(events) else { return };
        if story.state(B).disk == DiskState::Inconsistent {
            continue; // B is of no use: the story above
        }
        assert_eq!(story.promote(B, false), Ok(()));
        story.write_at_once(B, block + 1, 2);
        story.kill(B, true);
        story.start(A);
        story.rest(10_000);
        assert_eq!(story.promote(A, false), BEHIND, "after {events} events");
        story.start(B);
        story.reunite();
        story.ends_with(B, &[block], 4);
    }
    panic!("they never met");
}

/// B is to be Primary and has A fenced. Before the answer comes A is back, and B is about to be overwritten by it: the
/// answer comes too late.
#[test]
fn a_fence_does_not_make_a_target_primary() {
    let mut seen = [0, 0];
    for events in 0..GREETING {
        let mut story = Story::sequence(WhenLost::Fence);
        story.world.operator.fence_takes = Some(u64::from(u32::MAX));
        let block = story.block_in(2);
        assert_eq!(story.write(A, block, 4), FrontResult::Done);
        story.cut(1_000);
        story.until("both know", |story| !story.connected_at(A) && !story.connected_at(B));
        story.world.command(B, Command::Promote { force: false });
        let greets = |story: &Story| story.state(B).connection == Connection::Greeting;
        story.until("they greet", greets);
        for _ in 0..events {
            story.world.one();
        }
        if story.world.operator.last_reply.is_some() {
            assert!(seen[0] > 0 && seen[1] > 0, "both were seen: {seen:?}");
            return;
        }
        let whole = story.state(B).disk == DiskState::Consistent;
        seen[usize::from(whole)] += 1;
        let life = story.world.nodes[B].life;
        story.world.fence_turn(B, life, FenceId(1), false);
        story.until("it is answered", |story| story.world.operator.last_reply.is_some());
        let expected = if whole { Ok(()) } else { HALF_COPIED };
        assert_eq!(story.world.operator.last_reply, Some(expected), "after {events} events");
        story.start(A);
        story.ends_with(B, &[block], 4);
    }
    panic!("they never met");
}
