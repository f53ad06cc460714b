//! Sequences of failures, by number: what two nodes without a witness must make of each.
//!
//! Each begins with A (node 0) Primary and B (node 1) Secondary, connected, both UpToDate. `_continue` and `_fence` say
//! what `on-peer-lost` is on both. All oracles are on: nothing that was acknowledged is lost, whoever goes on.
//!
//! | # | sequence | tests: `sequences_*` if no other file is named |
//! |---|---|---|
//! | 1 | B crashes | `s01_the_secondary_crashes_{continue,fence}` |
//! | 2 | A crashes | `s02_the_primary_crashes_{continue,fence}`, `s02_the_survivor_is_chosen_by_an_operator_continue` |
//! | 3 | the link is cut | `s03_the_link_is_cut_{continue,fence}` |
//! | 4 | A is cut off from all | `s04_the_primary_is_isolated_{continue,fence}` |
//! | 5, 6 | a witness dies, and then B | none: there is no witness yet |
//! | 7 | B crashes, A goes on and crashes, B returns alone | `s07_the_stale_node_returns_alone_{continue,fence}` |
//! | 8 | as 7, A returns first | `s08_the_newest_node_returns_first_{continue,fence}` |
//! | 9 | power lost on both, both return | `s09_both_lose_power_and_return_{continue,fence}` |
//! | 10 | power lost on both, B returns alone | `s10_both_lose_power_and_one_returns_{continue,fence}` |
//! | 11 | the link flaps | `s11_the_link_flaps_{continue,fence}`; `scenarios`: `an_idle_flap_...` |
//! | 12 | the link is cut in a resync | `s12_a_resync_is_cut_{continue,fence}` |
//! | 13 | A crashes while B is a target | `s13_the_source_crashes_{continue,fence}` |
//! | 14 | A crashes as a resync ends | `s14_the_source_crashes_at_the_end_{continue,fence}` |
//! | 15 | only B cannot be heard | `s15_one_direction_is_lost_{continue,fence}` |
//! | 16 | A does not run for five minutes | `s16_the_primary_is_paused_{continue,fence}` |
//! | 17 | nor B | `scenarios`: `a_silent_peer_stalls_a_write_no_longer_than_its_timeout` |
//! | 18 | the witness is paused or rolled back | none: there is no witness yet |
//! | 19 | A's disk dies | `scenarios`: `a_primary_without_its_disk_works_on_the_peers`; `kept`, `scenarios_disks` |
//! | 20 | A has gone on alone, and its disk dies | `s20_the_only_good_disk_dies_{continue,fence}` |
//! | 21 | B's disk fails a write or a flush | `s21_the_secondarys_disk_fails_{continue,fence}` |
//! | 22 | two Primaries are cut off from each other | none: two Primaries are not available yet |
//! | 23 | B is forced while A lives | `s23_both_go_their_own_way_continue`, `s23_the_secondary_is_forced_fence` |
//! | 24 | the witness is replaced by a blank one | none: there is no witness yet |
//! | 25 | A has gone on alone, and gets a blank disk | `s25_the_newest_disk_is_replaced_…` (1); B is or is not aware |
//! | 26 | B is restored from an image | `s26_the_secondary_is_restored_{continue,fence}` |
//! | 27 | both claim to be Primary | `s27_a_second_primary_{continue,fence}` |
//! | 28 | the source of a resync restarts | `s28_the_source_restarts_{continue,fence}` |
//! | 29 | the source's generation changes in a resync | `s29_the_generation_changes_{continue,fence}` |
//! | 30 | clocks jump | `s30_clocks_jump_{continue,fence}` |
//!
//! (1) If B left in good order, so that it knows. If it crashed, it cannot: a blank disk looks like one that never held
//! data, and B's becomes the data (`docs/testing.md`, outside the model).
//!
//! Where a fence could help a node that has just restarted (10), it is not asked for: the peer may have had this very
//! node fenced, and gone on (7), and the two cannot be told apart.

use crate::authority::WhenLost;
use crate::story::Story;
use rblk::replica::event::{Command, CommandError, FrontResult};
use rblk::replica::snapshot::Suspended;
use rblk::wire::message::{DiskState, Role};

/// Primary at the beginning of each sequence.
pub(crate) const A: usize = 0;
/// And its peer.
pub(crate) const B: usize = 1;
/// Whoever fences takes so long, in milliseconds.
pub(crate) const FENCE_MS: u64 = 1_000;
/// What is answered without waiting for a peer, a fence or a timeout takes less, in microseconds.
const AT_ONCE_US: u64 = 100_000;

pub(crate) const BEHIND: Result<(), CommandError> =
    Err(CommandError::NotUpToDate(DiskState::Consistent));
pub(crate) const HALF_COPIED: Result<(), CommandError> =
    Err(CommandError::NotUpToDate(DiskState::Inconsistent));

impl Story {
    /// How each sequence begins. Whoever fences is able to.
    pub(crate) fn sequence(policy: WhenLost) -> Story {
        let mut story = Story::planned(|plan| plan.on_peer_lost = policy);
        story.world.operator.fences = Some(true);
        story.world.operator.fence_takes = Some(FENCE_MS * 1_000);
        assert_eq!(story.promote(A, false), Ok(()));
        story
    }

    pub(crate) fn fences(&self) -> bool {
        self.world.plan.on_peer_lost == WhenLost::Fence
    }

    /// How often it was asked for a fence, and how many nodes lost their power by one.
    pub(crate) fn fenced(&self) -> [u64; 2] {
        ["fences", "nodes fenced"].map(|kind| self.world.sums.kinds.get(kind).copied().unwrap_or(0))
    }

    /// Writes blocks, durably on both disks.
    pub(crate) fn write_for_good(&mut self, node: usize, block: u64, blocks: u64) {
        assert_eq!(self.write(node, block, blocks), FrontResult::Done);
        assert_eq!(self.flush(node), FrontResult::Done);
    }

    /// No connection until [`Story::reunite`], and both know.
    pub(crate) fn part(&mut self) {
        self.cut(u64::from(u32::MAX));
        self.until("both know", |story| !story.connected_at(A) && !story.connected_at(B));
    }

    pub(crate) fn reunite(&mut self) {
        self.world.net.parted_until = 0;
    }

    /// A write that is not answered before its node has the authority to go on, and has that on record.
    pub(crate) fn write_alone(&mut self, node: usize, block: u64, blocks: u64) {
        let before = self.generation(node);
        self.world.client.last_result = None;
        self.begin_write(node, block, blocks);
        if self.fences() {
            let asks = |story: &Story| story.state(node).suspended == Suspended::Fencing;
            self.until("a fence is asked for", asks);
        }
        while self.generation(node) == before {
            assert!(!self.world.client.is_idle(), "answered before the record");
            self.world.one();
        }
        self.until("the write is answered", |story| story.world.client.is_idle());
        assert_eq!(self.world.client.last_result, Some(FrontResult::Done));
        assert!(self.world.nodes[node].recorded_alone());
    }

    /// A write that need not wait for anybody: the record that its node goes on is there.
    pub(crate) fn write_at_once(&mut self, node: usize, block: u64, blocks: u64) {
        let before = (self.world.now, self.generation(node));
        assert_eq!(self.write(node, block, blocks), FrontResult::Done);
        assert!(self.world.now - before.0 < AT_ONCE_US, "it waited");
        assert_eq!(self.generation(node), before.1, "one generation for one divergence");
    }

    /// Begins a write that will have no answer: the node is stopped before it has the right to give one.
    pub(crate) fn begin_vain_write(&mut self, node: usize, block: u64) {
        self.world.client.last_result = None;
        self.begin_write(node, block, 1);
    }

    pub(crate) fn was_vain(&self) {
        assert_eq!(self.world.client.last_result, None, "nobody may be told that it is done");
    }

    /// B crashes, A goes on alone and B is back: its resync has just begun. What A wrote, and B lacks.
    pub(crate) fn with_resync(policy: WhenLost) -> (Story, [u64; 6]) {
        let mut story = Story::sequence(policy);
        let blocks = [0, 2, 4, 6, 8, 10].map(|extent| story.block_in(extent));
        for block in blocks {
            story.write_for_good(A, block, 8);
        }
        story.kill(B, false);
        story.write_alone(A, blocks[0], 4);
        for block in blocks {
            story.write_at_once(A, block, 8);
        }
        story.start(B);
        let begun = |story: &Story| {
            story.connected() && story.copied(A) > 0 && story.state(A).out_of_sync_bytes > 0
        };
        story.until("a part is copied", begun);
        assert_eq!(story.state(B).disk, DiskState::Inconsistent);
        (story, blocks)
    }

    /// The operator's way out where a fence could not help, or there is none.
    pub(crate) fn needs_an_operator(&mut self, node: usize) {
        let before = self.fenced();
        assert_eq!(self.promote(node, false), BEHIND);
        assert_eq!(self.state(node).role, Role::Secondary);
        assert_eq!(self.fenced(), before, "no fence is asked for");
    }

    /// The end, without a word of an operator: what was written can be read at `node`, which is made Primary if it is
    /// not, and both disks are equal.
    pub(crate) fn ends_with(mut self, node: usize, blocks: &[u64], each: u64) {
        self.heal();
        for other in [A, B] {
            if other != node && self.state(other).role == Role::Primary {
                assert_eq!(self.command(other, Command::Demote), Ok(()));
            }
        }
        assert_eq!(self.promote(node, false), Ok(()), "both are UpToDate");
        for block in blocks {
            assert_eq!(self.read(node, *block, each), FrontResult::Done);
        }
        self.ends_well();
    }
}
