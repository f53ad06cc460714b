//! Primaries that may not go on without a word from outside, and whoever fences; and their stories.
//!
//! Oracle: a node that must wait for its peer goes on alone only after an operator's order, or after the peer itself
//! said that it does not take part.

use crate::node::Fact;
use crate::plan::Plan;
use crate::story::Story;
use crate::world::{Event, World};
use rblk::meta::superblock::GenerationId;
use rblk::replica::authority::OnPeerLost;
use rblk::replica::event::{Command, CommandError, FenceId, FrontResult};
use rblk::replica::snapshot::Suspended;
use rblk::wire::message::{DiskState, Message, Role};
use serde::{Deserialize, Serialize};

/// What the configuration of both nodes says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum WhenLost {
    #[default]
    Continue,
    Suspend,
    /// Only this node goes on.
    Prefer(usize),
    Fence,
}

impl WhenLost {
    /// What it means for a node.
    pub(crate) fn of(self, node: usize) -> OnPeerLost {
        match self {
            WhenLost::Continue => OnPeerLost::Continue,
            WhenLost::Prefer(preferred) if preferred == node => OnPeerLost::Continue,
            WhenLost::Suspend | WhenLost::Prefer(_) => OnPeerLost::Suspend,
            WhenLost::Fence => OnPeerLost::Fence,
        }
    }
}

impl World {
    /// A node asks for its peer to be fenced: the answer takes a while.
    pub(crate) fn fence_asked(&mut self, node: usize, id: FenceId, link_has_ms: u64) {
        self.sums.count("fences");
        self.operator.fencing += 1;
        let life = self.nodes[node].life;
        let delay = self.operator.fence_takes.unwrap_or_else(|| self.rng.between(1_000, 2_000_000));
        let waits =
            link_has_ms > 0 && self.operator.fence_waits.unwrap_or_else(|| self.rng.chance(50));
        self.after(delay, Event::Fence { node, life, id, waits });
    }

    /// Whoever fences has the other node off: it was, or its power is taken, unless it waits for the link. Or it cannot
    /// reach it.
    pub(crate) fn fence_turn(&mut self, node: usize, life: u32, id: FenceId, waits: bool) {
        self.operator.fencing -= 1;
        if self.nodes[node].life != life || !self.nodes[node].is_running() {
            return;
        }
        let other = 1 - node;
        let able = !waits && self.operator.fences.unwrap_or_else(|| self.rng.chance(50));
        if able && self.nodes[other].is_running() {
            self.sums.count("nodes fenced");
            self.kill_node(other, true);
            let delay = self.rng.between(1_000, 5_000_000);
            self.after(delay, Event::Start { node: other });
        }
        let confirmed = able || !self.nodes[other].is_running();
        self.nodes[node].excused |= confirmed;
        self.note(Some(node), || format!("the peer is fenced: {confirmed}"));
        self.tell(node, Fact::Fenced { id, confirmed });
    }

    /// What a node is about to hear may be a reason to go on alone.
    pub(crate) fn oracle_excuse(&mut self, node: usize, fact: &Fact) {
        let target = &mut self.nodes[node];
        match fact {
            Fact::Received { message, .. } => {
                target.excused |= match message {
                    Message::DiskFailed | Message::Bye { .. } => true,
                    Message::State(state) => state.disk <= DiskState::Failed,
                    _ => false,
                };
            }
            Fact::Command { command, .. } => {
                target.excused |= matches!(
                    command,
                    Command::Promote { force: true } | Command::Invalidate { .. }
                );
            }
            _ => {}
        }
    }

    /// Its generation and whether its peer is behind, of a node that may not go on without a word.
    pub(crate) fn record_of_waiter(&self, node: usize) -> Option<(Option<GenerationId>, bool)> {
        if self.plan.on_peer_lost.of(node) == OnPeerLost::Continue {
            return None;
        }
        let sb = self.nodes[node].replica.as_ref()?.superblock();
        Some((sb.current, sb.peer_outdated))
    }

    /// A node that may not has not decided to go on alone.
    pub(crate) fn oracle_authority(
        &self,
        node: usize,
        before: Option<(Option<GenerationId>, bool)>,
    ) {
        let (Some((current, false)), Some((now, true))) = (before, self.record_of_waiter(node))
        else {
            return;
        };
        let unasked = current != now && !self.nodes[node].excused;
        assert!(!unasked, "oracle authority: {node} goes on alone unasked");
    }
}

/// Two nodes that do so, one Primary.
fn when_lost(on_peer_lost: WhenLost, change: impl FnOnce(&mut Plan)) -> Story {
    let mut story = Story::planned(|plan| {
        plan.on_peer_lost = on_peer_lost;
        change(plan);
    });
    assert_eq!(story.promote(0, false), Ok(()));
    story
}

fn is_held(story: &Story, why: Suspended) -> bool {
    story.state(0).suspended == why && !story.world.client.is_idle()
}

#[test]
fn a_suspended_volume_waits_and_leaves_no_trace() {
    let mut story = when_lost(WhenLost::Suspend, |_| {});
    let before = story.generation(0);
    let block = story.block_in(1);
    story.cut(60_000);
    story.begin_write(0, block, 1);
    story.rest(30_000);
    assert!(is_held(&story, Suspended::NotAllowed), "{:?}", story.state(0).suspended);
    story.until("the write is answered", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    assert_eq!(story.generation(0), before, "no divergence, no new generation");
    story.ends_well();
}

#[test]
fn an_operator_lets_a_suspended_volume_go_on() {
    let mut story = when_lost(WhenLost::Suspend, |_| {});
    let before = story.generation(0);
    let block = story.block_in(1);
    story.kill(1, false);
    story.begin_write(0, block, 1);
    story.rest(10_000);
    assert!(is_held(&story, Suspended::NotAllowed));
    assert_eq!(story.command(0, Command::Promote { force: true }), Ok(()));
    story.until("the write is answered", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    assert_ne!(story.generation(0), before, "on record before it was answered");
    assert_eq!(story.flush(0), FrontResult::Done);
    story.start(1);
    story.ends_well();
}

#[test]
fn a_suspended_volume_can_be_given_up() {
    let mut story = when_lost(WhenLost::Suspend, |_| {});
    let block = story.block_in(1);
    story.kill(1, false);
    story.begin_write(0, block, 1);
    story.rest(10_000);
    assert_eq!(story.command(0, Command::Demote), Ok(()));
    assert_eq!(story.world.client.last_result, Some(FrontResult::IoError));
    story.start(1);
    story.ends_well();
}

#[test]
fn a_cut_shorter_than_the_ride_through_leaves_no_trace() {
    let mut story = when_lost(WhenLost::Continue, |plan| plan.ride_through_ms = 15_000);
    let before = story.generation(0);
    let block = story.block_in(1);
    story.cut(10_000);
    story.begin_write(0, block, 1);
    story.rest(5_000);
    assert!(is_held(&story, Suspended::RideThrough));
    story.until("the write is answered", |story| story.world.client.is_idle());
    assert_eq!(story.generation(0), before);
    story.ends_well();
}

#[test]
fn a_cut_longer_than_the_ride_through_ends_it() {
    let mut story = when_lost(WhenLost::Continue, |plan| plan.ride_through_ms = 15_000);
    let before = story.generation(0);
    let block = story.block_in(1);
    story.cut(40_000);
    let began = story.world.now;
    assert_eq!(story.write(0, block, 1), FrontResult::Done);
    let held = story.world.now - began;
    assert!((14_000_000..15_000_000).contains(&held), "held for {held} us");
    assert_ne!(story.generation(0), before);
    story.ends_well();
}

/// It is counted from when the client began to wait, also where all it waits for is a flush that the peer does not
/// answer: not from when the peer's silence was noticed.
#[test]
fn the_ride_through_counts_from_the_flush_that_waits() {
    let mut story = when_lost(WhenLost::Continue, |plan| plan.ride_through_ms = 15_000);
    let block = story.block_in(1);
    assert_eq!(story.write(0, block, 1), FrontResult::Done);
    story.kill(1, true);
    story.world.silence(0);
    let began = story.world.now;
    story.begin_flush(0);
    story.rest(1_000);
    story.begin_flush(0); // this one waits for less long
    story.until("they are answered", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    let held = story.world.now - began;
    assert!((13_900_000..15_000_000).contains(&held), "held for {held} us");
    story.start(1);
    story.ends_well();
}

#[test]
fn only_the_preferred_node_goes_on() {
    for preferred in [0, 1] {
        let mut story = when_lost(WhenLost::Prefer(preferred), |_| {});
        let block = story.block_in(1);
        story.cut(30_000);
        story.begin_write(0, block, 1);
        story.rest(10_000);
        assert_eq!(story.world.client.is_idle(), preferred == 0);
        story.ends_well();
    }
}

/// Fences, or cannot.
fn fenced(able: bool) -> Story {
    let mut story = when_lost(WhenLost::Fence, |_| {});
    story.world.operator.fences = Some(able);
    story.world.operator.fence_takes = Some(3_000_000);
    story
}

#[test]
fn a_write_waits_for_the_fence() {
    let mut story = fenced(true);
    let block = story.block_in(1);
    story.cut(60_000);
    story.begin_write(0, block, 1);
    story.rest(1_000);
    assert!(is_held(&story, Suspended::Fencing));
    assert!(story.world.nodes[1].is_running());
    story.until("the write is answered", |story| story.world.client.is_idle());
    assert_eq!(story.world.client.last_result, Some(FrontResult::Done));
    assert_eq!(story.world.sums.kinds.get("nodes fenced"), Some(&1));
    story.ends_well();
}

#[test]
fn who_cannot_fence_is_asked_again() {
    let mut story = fenced(false);
    let block = story.block_in(1);
    story.cut(50_000);
    story.begin_write(0, block, 1);
    story.rest(10_000);
    assert!(is_held(&story, Suspended::NotAllowed));
    story.world.operator.fences = Some(true);
    story.until("the write is answered", |story| story.world.client.is_idle());
    assert_eq!(story.world.sums.kinds.get("fences"), Some(&2));
    story.ends_well();
}

#[test]
fn a_fence_that_comes_after_the_peer_is_ignored() {
    let mut story = fenced(false);
    story.world.operator.fence_takes = Some(20_000_000);
    let before = story.generation(0);
    let block = story.block_in(1);
    story.cut(5_000);
    story.begin_write(0, block, 1);
    story.until("the write is answered", |story| story.world.client.is_idle());
    story.world.nodes[0].excused = false;
    story.rest(18_000);
    assert_eq!(story.generation(0), before);
    story.cut(5_000);
    story.begin_write(0, block, 1);
    story.rest(4_000); // the first answer comes now; only the second counts
    assert!(!story.world.client.is_idle());
    story.ends_well();
}

#[test]
fn a_secondary_takes_over_once_the_primary_is_fenced() {
    for able in [true, false] {
        let mut story = fenced(able);
        let block = story.block_in(1);
        assert_eq!(story.write(0, block, 1), FrontResult::Done);
        story.world.net.parted_until = story.world.now + 60_000_000;
        story.world.cut(false);
        story.rest(100);
        let answer = story.command(1, Command::Promote { force: false });
        if able {
            assert_eq!(answer, Ok(()));
            assert_eq!(story.state(1).role, Role::Primary);
            assert_eq!(story.world.sums.kinds.get("nodes fenced"), Some(&1));
            assert_eq!(story.write(1, block, 1), FrontResult::Done);
            assert_eq!(story.read(1, block, 1), FrontResult::Done);
        } else {
            assert_eq!(answer, Err(CommandError::NotFenced));
            assert_eq!(story.state(1).role, Role::Secondary);
        }
        story.ends_well();
    }
}
