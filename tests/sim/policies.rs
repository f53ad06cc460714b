//! What happens after a split brain by the policies that both nodes have: the simulator's half of it.
//!
//! The node that was made Primary beside a Primary (the victim) has registers of its own from then on: a fork. Its
//! clients' writes are known there, and those of the other node in the registers proper. Whoever becomes the target,
//! the oracle decides by what the two have said of themselves whether the policies order that; then the registers of
//! the loser are dropped, and with them exactly what its clients were told is done.

use crate::register::Register;
use crate::rng::Rng;
use crate::story::Story;
use crate::world::World;
use rblk::meta::superblock::GenerationId;
use rblk::replica::Connection;
use rblk::replica::event::{Command, FrontOp, FrontResult};
use rblk::replica::split_brain::{Decision, Party, decide};
use rblk::wire::message::{Refusal, Role, State};
use rblk::wire::policy::{After0pri, After1pri, After2pri, Policies, RrConflict};

/// Nothing is lost without an operator.
pub(crate) const DEFAULT: [usize; 4] = [0, 0, 0, 1];
/// What a node said in so many meetings is remembered: the other may have heard any of it.
const SAID: usize = 3;

/// The policies with these numbers.
pub(crate) fn of(numbers: [usize; 4]) -> Policies {
    Policies {
        dual_primary: false,
        after_0pri: After0pri::ALL[numbers[0]],
        after_1pri: After1pri::ALL[numbers[1]],
        after_2pri: After2pri::ALL[numbers[2]],
        rr_conflict: RrConflict::ALL[numbers[3]],
    }
}

/// Some, often the usual ones.
pub(crate) fn random(rng: &mut Rng) -> [usize; 4] {
    if rng.chance(40) {
        return DEFAULT;
    }
    let mut number = |all: usize| rng.below(all as u64) as usize;
    [
        number(After0pri::ALL.len()),
        number(After1pri::ALL.len()),
        number(After2pri::ALL.len()),
        number(RrConflict::ALL.len()),
    ]
}

/// The two ways of a split brain.
#[derive(Default)]
pub(crate) struct Ways {
    /// The registers of the victim's clients.
    fork: Option<Register>,
    /// What each node said of itself last, newest first.
    said: [Vec<State>; 2],
    /// The event at which the other way was chosen: a read from before may see either.
    pub(crate) chosen_at: u64,
}

impl World {
    /// The victim goes its own way: what its disk holds is what its clients find.
    pub(crate) fn begin_fork(&mut self, node: usize) {
        let disk = &self.nodes[node].disk;
        let mut fork = Register::of(&self.geometry, disk, self.step);
        // What the other node's clients wrote may still be on its way to this disk: it may land, or not.
        for (span, data) in disk.writes_in_flight() {
            let value = data.and_then(|data| data.first().copied()).unwrap_or(0);
            fork.invoke(span, value, value, self.step);
        }
        self.oracle.ways.fork = Some(fork);
    }

    /// There is one way again.
    pub(crate) fn end_fork(&mut self) {
        if self.oracle.victim.is_none() {
            self.oracle.ways.fork = None;
        }
    }

    /// The registers that know what the victim's clients wrote: its own, or those proper if its way was chosen.
    pub(crate) fn scribbled(&mut self) -> [Option<&mut Register>; 2] {
        [self.oracle.ways.fork.as_mut(), Some(&mut self.register)]
    }

    pub(crate) fn fork_loses_caches(&mut self) {
        if let Some(fork) = &mut self.oracle.ways.fork {
            fork.caches_lost();
        }
    }

    pub(crate) fn remember_said(&mut self, node: usize, state: &State) {
        let said = &mut self.oracle.ways.said[node];
        said.insert(0, *state);
        said.truncate(SAID);
    }

    /// `node` becomes the target of generation `new`. If that is the victim's, and the policies order it, the victim's
    /// way is the volume from here on.
    pub(crate) fn way_may_be_chosen(&mut self, node: usize, new: GenerationId) {
        let winner = 1 - node;
        let sb = self.nodes[winner].disk.meta.superblock;
        if self.oracle.victim != Some(winner) || sb.current != Some(new) || !self.ordered(node) {
            return;
        }
        let Some(fork) = self.oracle.ways.fork.take() else { return };
        self.sums.count("ways chosen by policy");
        self.note(Some(node), || "! its data is void by policy".to_string());
        self.register = fork;
        self.oracle.choose_way(node, sb.base, new);
        self.oracle.ways.chosen_at = self.step;
        // What its clients have asked for and not been told may be done yet.
        for (write, op) in self.client.writes_at(node) {
            if let FrontOp::Write { span, .. } = op {
                self.register.invoke(span, write, write, self.step);
            } else if let FrontOp::Zero { span, .. } = op {
                self.register.invoke(span, write, 0, self.step);
            }
        }
    }

    /// By what the two have said, `loser` loses: or it said so itself, when it had stepped down.
    fn ordered(&self, loser: usize) -> bool {
        let [zero, one] = &self.oracle.ways.said;
        let pairs = zero.iter().flat_map(|first| one.iter().map(move |second| [first, second]));
        let party = |state: &State| Party {
            primary: state.role == Role::Primary,
            parted_primary: state.parted_primary,
            changes: state.dirty_blocks,
        };
        let orders = self.plan.policies();
        pairs.into_iter().any(|pair| {
            let stepped_down = pair[loser].discard_my_data;
            let decision = decide(&orders, pair.map(party));
            stepped_down || decision == Decision::Discard(loser)
        })
    }
}

/// Both nodes were Primary without each other, and wrote: node 0 two blocks at `here`, node 1 one at `there`.
pub(crate) fn split(policies: [usize; 4]) -> (Story, u64, u64) {
    split_story(Story::planned(|plan| plan.policies = policies))
}

/// The same in a story that has just begun.
pub(crate) fn split_story(mut story: Story) -> (Story, u64, u64) {
    assert_eq!(story.promote(0, false), Ok(()));
    let (here, there) = (story.block_in(2), story.block_in(6));
    assert_eq!(story.write(0, here, 2), FrontResult::Done);
    assert_eq!(story.flush(0), FrontResult::Done);
    story.go_different_ways(here, there);
    (story, here, there)
}

const DEMOTE: Command = Command::Demote;

/// The way of one node is the volume from here on. Said without the function that decides, which the oracle asks, too.
pub(crate) fn wins(story: &Story, way: Option<GenerationId>) {
    assert_eq!([story.generation(0), story.generation(1)], [way; 2]);
}

#[test]
fn fewer_changes_lose_without_a_word_of_an_operator() {
    let (mut story, here, there) = split([4, 0, 0, 1]);
    let way = story.generation(0);
    assert_eq!(story.command(0, DEMOTE), Ok(()));
    assert_eq!(story.command(1, DEMOTE), Ok(()));
    story.heal();
    assert_eq!(story.copied(0), 3, "the blocks of both");
    wins(&story, way);
    assert_eq!(story.promote(1, false), Ok(()));
    assert_eq!(story.read(1, here, 2), FrontResult::Done);
    assert_eq!(story.read(1, there, 1), FrontResult::Done);
    story.ends_well();
}

#[test]
fn what_the_loser_was_told_is_done_is_lost_and_nothing_else() {
    let (mut story, here, there) = split([2, 0, 0, 1]); // node 0 was Primary when they parted: the older
    let way = story.generation(1);
    assert_eq!(story.command(0, DEMOTE), Ok(()));
    assert_eq!(story.command(1, DEMOTE), Ok(()));
    story.heal();
    assert_eq!(story.copied(1), 3, "the blocks of both");
    wins(&story, way);
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.read(0, here, 2), FrontResult::Done, "as it was before they parted");
    assert_eq!(story.read(0, there, 1), FrontResult::Done, "what node 1 wrote");
    story.ends_well();
}

#[test]
fn the_secondary_loses_to_the_primary() {
    for primary in [0, 1] {
        let (mut story, here, there) = split([0, 3, 0, 1]);
        let way = story.generation(primary);
        assert_eq!(story.command(1 - primary, DEMOTE), Ok(()));
        story.heal();
        assert_eq!(story.copied(primary), 3);
        wins(&story, way);
        assert_eq!(story.read(primary, here, 2), FrontResult::Done);
        assert_eq!(story.read(primary, there, 1), FrontResult::Done);
        story.ends_well();
    }
}

/// The link is back while one is still stepping down, on a slow disk. It is met as what it becomes: of one Primary a
/// policy takes the data, of two nobody knows whose to take, and both would stand alone until an operator comes.
#[test]
fn who_is_stepping_down_is_met_as_a_secondary() {
    let (mut story, here, there) = split([0, 3, 0, 1]);
    let way = story.generation(1);
    story.cut(600_000);
    story.until("the link is down", |story| !story.connected());
    story.world.nodes[0].media.slower = 1_500_000;
    story.world.command(0, DEMOTE);
    story.world.nodes[0].media.slower = 0;
    story.world.net.parted_until = 0;
    let greets = |story: &Story, node| story.state(node).connection == Connection::Greeting;
    story.until("they greet", |story| greets(story, 0) && greets(story, 1));
    assert_eq!(story.state(0).role, Role::Primary, "it still flushes");
    story.until("it has stepped down", |story| story.state(0).role == Role::Secondary);
    story.rest(1_000);
    assert_eq!(story.state(0).stand_alone, None);
    story.heal();
    assert_eq!(story.copied(1), 3);
    wins(&story, way);
    assert_eq!(story.read(1, here, 2), FrontResult::Done);
    assert_eq!(story.read(1, there, 1), FrontResult::Done);
    story.ends_well();
}

#[test]
fn a_primary_that_loses_steps_down_first() {
    let (mut story, here, _) = split([5, 4, 2, 1]);
    let way = story.generation(1);
    story.until("it is told", |story| story.world.operator.must_step_down == Some(0));
    assert_eq!(story.state(0).role, Role::Primary, "its clients decide when");
    assert_eq!(story.command(0, DEMOTE), Ok(()));
    assert!(story.state(0).discard_my_data, "and its data is void from then on");
    story.heal();
    assert_eq!(story.copied(1), 3);
    wins(&story, way);
    assert_eq!(story.read(1, here, 2), FrontResult::Done);
    story.ends_well();
}

#[test]
fn a_later_order_goes_before_what_a_policy_said() {
    let (mut story, here, _) = split([5, 4, 2, 1]);
    story.until("it is told", |story| story.world.operator.must_step_down == Some(0));
    assert_eq!(story.command(0, Command::Invalidate { peer: true }), Ok(()));
    let way = story.generation(0);
    assert_eq!(story.command(0, DEMOTE), Ok(()));
    assert!(!story.state(0).discard_my_data, "it is the data, by order");
    let alone = |story: &Story, node| story.state(node).connection == Connection::StandAlone;
    story.until("both stand alone", |story| alone(story, 0) && alone(story, 1));
    assert_eq!(story.command(1, DEMOTE), Ok(()));
    assert_eq!(story.command(1, Command::Connect { discard_my_data: true }), Ok(()));
    assert_eq!(story.command(0, Command::Connect { discard_my_data: false }), Ok(()));
    story.heal();
    wins(&story, way);
    assert_eq!(story.promote(0, false), Ok(()));
    assert_eq!(story.read(0, here, 2), FrontResult::Done);
    story.ends_well();
}

#[test]
fn two_primaries_are_not_connected_by_force() {
    let (mut story, ..) = split([5, 1, 1, 2]);
    story.rest(20_000);
    assert_eq!(story.state(0).refusal.map(|refusal| refusal.1), Some(Refusal::TwoPrimaries));
    assert_eq!(story.command(1, DEMOTE), Ok(()));
    story.until("they stand alone: both do not agree", |story| {
        story.state(0).connection == Connection::StandAlone
    });
}

#[test]
fn a_primary_is_overwritten_where_that_was_ordered() {
    let (mut story, here, there) = split([5, 2, 0, 2]);
    let way = story.generation(1);
    story.begin_read(0, here, 2);
    assert_eq!(story.command(1, DEMOTE), Ok(()));
    story.until("they meet", Story::connected);
    assert_eq!(story.state(0).role, Role::Primary);
    assert_eq!(story.write(0, here + 8, 1), FrontResult::Done, "beside the resync");
    assert_eq!(story.read(0, here, 2), FrontResult::Done);
    story.heal();
    wins(&story, way);
    assert_eq!(story.read(0, there, 1), FrontResult::Done);
    story.ends_well();
}

#[test]
fn by_default_nobody_loses() {
    let (mut story, ..) = split(DEFAULT);
    let before = [story.generation(0), story.generation(1)];
    assert_eq!(story.command(1, DEMOTE), Ok(()));
    let alone = |story: &Story, node| story.state(node).connection == Connection::StandAlone;
    story.until("both stand alone", |story| alone(story, 0) && alone(story, 1));
    story.rest(20_000);
    assert_eq!([story.generation(0), story.generation(1)], before);
}
