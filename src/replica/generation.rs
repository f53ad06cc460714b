//! Two nodes meet: who has the newest data, and how does the other get it?
//!
//! [`verdict`] is a pure function of both nodes' [`State`]s and symmetric: each node computes it with itself as `me`
//! and both reach mirrored answers. First match wins; `me` stands for either side:
//!
//! ```text
//!  #  | when                                                      | verdict
//! ----+-----------------------------------------------------------+----------------------------------------
//!  0  | the policies of the two differ                            | refuse: policies
//!  1  | both Primary, it is no split brain (21), and they may not | refuse: two Primaries
//!     | be or may not know of each other's writes                 |
//!  2  | both discard their data                                   | refuse: nobody is left
//!  3  | a side has no disk: Primary's data must be the peer's,    | one disk, else refuse
//!     | with what a power cut may have taken from it; and a       |
//!     | Secondary must not have gone on alone before              |
//!  4  | both fresh                                                | nothing to compare
//!  5  | one fresh, or declared invalid                            | the other is source, full
//!  6  | a side was rolled back, and one discards its data         | who discards is target, full
//!  7  | both were rolled back                                     | refuse: rolled back
//!  8  | one was, and its generation is the other's present or     | it is target, full
//!     | past, and the other is not Inconsistent                   |
//!  9  | one was, and went its own way, or the other has no data   | refuse: rolled back
//! 10  | same generation, both Inconsistent                        | refuse: no source
//! 11  | same generation, one Inconsistent (interrupted resync)    | it is target, bitmap
//! 12  | same generation, no bits                                  | equal
//! 13  | same generation, bits, one Outdated                       | it is target, bitmap
//! 14  | same generation, bits, one Primary now                    | Primary is source, bitmap
//! 15  | same generation, bits, the power of one may have gone     | the other is source, bitmap
//!     | or one crashed as Primary                                 | survivor is source, bitmap; if the other
//!     |                                                           | restarted too, the crashed one is
//! 16  | same generation, bits, one still tracks the other         | the tracker is source, bitmap
//! 17  | same generation, bits on one side only                    | that side is source, bitmap
//! 18  | same generation, bits, nothing tells them apart           | lower node number is source, bitmap
//! 19  | the peer's base is my generation: it went on without me   | peer is source, bitmap
//! 20  | my generation is in the peer's history                    | peer is source, full
//!  21  | histories meet, neither contains the other's end          | by policy (`split_brain`) if both track
//!     |                                                           | the same base, else refuse: split brain
//! 22  | nothing in common                                         | refuse: unrelated
//! 23  | 21 or 22, but one side discards its data                  | it is target: bitmap if both track the
//!     |                                                           | same base, else full
//! ```
//!
//! Whatever the rule, a source must be consistent and not outdated, in rule 5 also sure of that: one that lost sight
//! of a peer whose disk is now new cannot know whether that had gone on. And a Primary with good data is a target only
//! where an operator has ordered that (`rr-conflict`). Rule 23 goes before the policies: it is the later order.
//!
//! Where both may be Primary, two that lost each other and neither went on alone have the same generation, and bits for
//! what was under way. If neither daemon was started anew since, both disks have every write that was completed, so
//! either may be the source, and whoever is the target loses nothing under its clients. One that is behind by ancestry
//! must step down, whatever `rr-conflict` says: its clients would see their volume change.
//!
//! Daemons die without their hosts, and what was completed is in the caches of their disks then, flushed or not. A host
//! that loses its power loses that too. So where neither daemon lived on, a disk whose host did ([`State::kept`]) goes
//! before all that crashes tell.
//!
//! A side was rolled back if its watermark is below the one that the other was told of (`watermark.rs`): then neither
//! equal generations nor bitmaps are believed, whichever of the two was Primary. Rule 12 and not "equal generations"
//! alone: equal ids with bits set still resync those bits. Rule 23 may use the bitmaps if the bases are equal: each
//! lists what differs from the one state that both once had, so where neither has a bit, both still have that. Where
//! ancestry decides, nothing is discarded that it would keep.

use crate::meta::superblock::{GenerationId, NodeId};
use crate::replica::split_brain::{Decision, Party, decide};
use crate::wire::message::{DiskState, Refusal, Role, State};
use crate::wire::policy::{Policies, RrConflict};

/// What to do with the two disks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Both disks are equal.
    Equal,
    /// Neither disk holds data.
    Fresh,
    /// One side has no disk; the other's is the data.
    OneDisk,
    /// This node's data goes to the peer: blocks of both bitmaps, or all.
    Source {
        /// Copy everything, and why.
        full: Option<Full>,
    },
    /// The peer's data comes to this node.
    Target {
        /// Copy everything, and why.
        full: Option<Full>,
    },
    /// They must not go on.
    Refuse(Refusal),
    /// A Primary's data loses by a policy: it must step down before they can go on.
    StepDown {
        /// It is this node.
        me: bool,
        /// Its changes are void, too: it went its own way.
        void: bool,
    },
}

/// Why everything is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// The target never held data of this volume, or was declared invalid.
    Fresh,
    /// The target was away for longer than the source's bitmap reaches back.
    Past,
    /// The target was restored from an older image: its watermark is behind what the source had seen.
    RolledBack,
    /// The target's data was discarded, and nothing tells what both still have in common.
    Discarded,
}

/// True if waiting does not help: only an operator can say whose data counts.
pub fn needs_operator(reason: Refusal, policies: &Policies) -> bool {
    match reason {
        Refusal::SplitBrain | Refusal::Unrelated | Refusal::BothDiscard | Refusal::RolledBack => {
            true
        }
        Refusal::PrimaryWouldBeTarget => policies.rr_conflict == RrConflict::Disconnect,
        _ => false,
    }
}

/// One side of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Which node.
    pub node: NodeId,
    /// What it said of itself.
    pub state: &'a State,
}

/// The verdict as `me` sees it.
pub fn verdict(me: Side<'_>, peer: Side<'_>) -> Verdict {
    assert!(me.node != peer.node, "a node is not its own peer");
    let (mine, theirs) = (me.state, peer.state);
    if mine.policies != theirs.policies {
        return Verdict::Refuse(Refusal::Policies);
    }
    let found = match compare(me, peer) {
        Verdict::Refuse(Refusal::SplitBrain) => by_policy(me, peer),
        _ if both_primary(mine, theirs) && !may_both(mine, theirs) => {
            Verdict::Refuse(Refusal::TwoPrimaries)
        }
        found => found,
    };
    match found {
        Verdict::Source { .. } => direction_allowed(mine, theirs, found),
        Verdict::Target { .. } => direction_allowed(theirs, mine, found),
        other => other,
    }
}

/// True if `me`, once a verdict makes it a target, loses what it holds by an order or a policy: by ancestry alone it
/// would not be one. A node that is behind, fresh, declared invalid or restored from an older image loses nothing that
/// the other does not know to be old.
pub fn is_discarded(me: Side<'_>, peer: Side<'_>) -> bool {
    let unasked = |side: Side<'_>| State { discard_my_data: false, ..*side.state };
    let (mine, theirs) = (unasked(me), unasked(peer));
    let found = compare(Side { state: &mine, ..me }, Side { state: &theirs, ..peer });
    !matches!(found, Verdict::Target { .. })
}

fn both_primary(mine: &State, theirs: &State) -> bool {
    mine.role == Role::Primary && theirs.role == Role::Primary
}

/// Two Primaries of one generation must both have every write that was ever completed.
fn may_both(mine: &State, theirs: &State) -> bool {
    let one_disk = mine.disk <= DiskState::Failed || theirs.disk <= DiskState::Failed;
    let one_line = mine.current == theirs.current;
    // While the one was being resynced, nothing was completed that the other does not have on stable media.
    let one_good = mine.disk == DiskState::Inconsistent || theirs.disk == DiskState::Inconsistent;
    let both_have_all = mine.survivor && theirs.survivor;
    mine.policies.dual_primary && (one_disk || !one_line || one_good || both_have_all)
}

/// Rules 2 to 23, as far as data alone decides.
fn compare(me: Side<'_>, peer: Side<'_>) -> Verdict {
    let (mine, theirs) = (me.state, peer.state);
    if mine.discard_my_data && theirs.discard_my_data {
        return Verdict::Refuse(Refusal::BothDiscard);
    }
    if mine.disk <= DiskState::Failed || theirs.disk <= DiskState::Failed {
        return one_disk(mine, theirs);
    }
    match (mine.current, theirs.current) {
        (None, None) => Verdict::Fresh,
        (Some(_), None) => Verdict::Source { full: Some(Full::Fresh) },
        (None, Some(_)) => Verdict::Target { full: Some(Full::Fresh) },
        _ if is_back(mine, theirs) || is_back(theirs, mine) => rolled_back(mine, theirs),
        (Some(a), Some(b)) if a == b => same_generation(me, peer),
        (Some(a), Some(b)) => match by_ancestry(mine, a, theirs, b) {
            Verdict::Refuse(reason) => discarded(mine, theirs).unwrap_or(Verdict::Refuse(reason)),
            found => found,
        },
    }
}

/// A split brain: what was ordered for it. Only where both bitmaps tell what was changed since the same moment.
fn by_policy(me: Side<'_>, peer: Side<'_>) -> Verdict {
    let (mine, theirs) = (me.state, peer.state);
    if mine.base.is_none() || mine.base != theirs.base {
        return Verdict::Refuse(Refusal::SplitBrain);
    }
    let party = |state: &State| Party {
        primary: state.role == Role::Primary,
        parted_primary: state.parted_primary,
        changes: state.dirty_blocks,
    };
    let i_am = usize::from(peer.node < me.node);
    let mut nodes = [party(mine), party(theirs)];
    nodes.rotate_left(i_am);
    match decide(&mine.policies, nodes) {
        Decision::Nobody => Verdict::Refuse(Refusal::SplitBrain),
        Decision::StepDown(loser) => Verdict::StepDown { me: loser == i_am, void: true },
        // As long as both are Primary, they cannot be connected, whoever loses.
        Decision::Discard(_) if both_primary(mine, theirs) => {
            Verdict::Refuse(Refusal::TwoPrimaries)
        }
        Decision::Discard(loser) if loser == i_am => Verdict::Target { full: None },
        Decision::Discard(_) => Verdict::Source { full: None },
    }
}

/// Rule 3: a Primary without a disk works on the peer's data, so that must be the very data it knows.
fn one_disk(mine: &State, theirs: &State) -> Verdict {
    let has_disk = |state: &State| state.disk > DiskState::Failed;
    if !has_disk(mine) && !has_disk(theirs) {
        return Verdict::Refuse(Refusal::NoSource);
    }
    let (with, without) = if has_disk(mine) { (mine, theirs) } else { (theirs, mine) };
    if is_back(with, without) {
        return Verdict::Refuse(Refusal::RolledBack);
    }
    if without.role == Role::Secondary {
        return if has_parted(without, with) {
            Verdict::Refuse(Refusal::SourceOutdated)
        } else {
            Verdict::OneDisk
        };
    }
    if without.current != with.current || with.disk < DiskState::Consistent {
        return Verdict::Refuse(Refusal::NoSource);
    }
    // The bits of a Primary without a disk: what the peer accepted and was not known to have on stable media. One whose
    // daemon lived on, or whose power did, has it still.
    let may_lack = without.dirty_blocks > 0 && !with.survivor && !with.kept;
    if may_lack { Verdict::Refuse(Refusal::DataLost) } else { Verdict::OneDisk }
}

/// `without` went on alone before it lost its disk, and `with` has nothing of what was completed then. Should that disk
/// come back, its data is the newer; until then nobody may take the other's for it unasked.
fn has_parted(without: &State, with: &State) -> bool {
    let known = without.current.is_some_and(|id| {
        with.current == Some(id) || with.base == Some(id) || with.history.contains(id)
    });
    without.peer_outdated && without.base.is_some() && !known
}

/// `who` shows a watermark below what `by` was told to be durable there: its disk was restored from an older image.
fn is_back(who: &State, by: &State) -> bool {
    who.mark < by.peer_mark
}

/// Rules 6 to 9. The bitmaps say nothing of a disk that was put back: all is copied.
fn rolled_back(mine: &State, theirs: &State) -> Verdict {
    if mine.discard_my_data {
        return Verdict::Target { full: Some(Full::RolledBack) };
    }
    if theirs.discard_my_data {
        return Verdict::Source { full: Some(Full::RolledBack) };
    }
    let i_am_back = is_back(mine, theirs);
    let (old, other) = if i_am_back { (mine, theirs) } else { (theirs, mine) };
    let known = old.current.is_some_and(|id| {
        other.current == Some(id) || other.base == Some(id) || other.history.contains(id)
    });
    if is_back(other, old) || !known || other.disk == DiskState::Inconsistent {
        Verdict::Refuse(Refusal::RolledBack)
    } else if i_am_back {
        Verdict::Target { full: Some(Full::RolledBack) }
    } else {
        Verdict::Source { full: Some(Full::RolledBack) }
    }
}

/// Rule 23; `None` if nobody discards. Both do not: rule 2.
fn discarded(mine: &State, theirs: &State) -> Option<Verdict> {
    let one_base = mine.base.is_some() && mine.base == theirs.base;
    let full = if one_base { None } else { Some(Full::Discarded) };
    if mine.discard_my_data {
        Some(Verdict::Target { full })
    } else {
        theirs.discard_my_data.then_some(Verdict::Source { full })
    }
}

/// Rules 10 to 18.
fn same_generation(me: Side<'_>, peer: Side<'_>) -> Verdict {
    let (mine, theirs) = (me.state, peer.state);
    let source = Verdict::Source { full: None };
    let target = Verdict::Target { full: None };
    let pick = |first: bool, second: bool| match (first, second) {
        (true, false) => Some(source),
        (false, true) => Some(target),
        _ => None,
    };
    let inconsistent = |state: &State| state.disk == DiskState::Inconsistent;
    if inconsistent(mine) && inconsistent(theirs) {
        return Verdict::Refuse(Refusal::NoSource);
    }
    if let Some(found) = pick(inconsistent(theirs), inconsistent(mine)) {
        return found;
    }
    if mine.dirty_blocks == 0 && theirs.dirty_blocks == 0 {
        return Verdict::Equal;
    }
    let outdated = |state: &State| state.disk == DiskState::Outdated;
    let primary = |state: &State| state.role == Role::Primary;
    pick(outdated(theirs), outdated(mine))
        .or(pick(primary(mine), primary(theirs)))
        .or(pick(mine.kept, theirs.kept))
        .or(match (mine.crashed, theirs.crashed) {
            (true, false) => Some(if theirs.survivor { target } else { source }),
            (false, true) => Some(if mine.survivor { source } else { target }),
            _ => None,
        })
        .or(pick(mine.base.is_some(), theirs.base.is_some()))
        .or(pick(mine.dirty_blocks > 0, theirs.dirty_blocks > 0))
        .unwrap_or(if me.node < peer.node { source } else { target })
}

/// Rules 19 to 22.
fn by_ancestry(mine: &State, a: GenerationId, theirs: &State, b: GenerationId) -> Verdict {
    let i_am_base = theirs.base == Some(a);
    let peer_is_base = mine.base == Some(b);
    let i_am_past = theirs.history.contains(a);
    let peer_is_past = mine.history.contains(b);
    if (i_am_base || i_am_past) && (peer_is_base || peer_is_past) {
        return Verdict::Refuse(Refusal::SplitBrain);
    }
    match (i_am_base, peer_is_base, i_am_past, peer_is_past) {
        (true, ..) => Verdict::Target { full: None },
        (_, true, ..) => Verdict::Source { full: None },
        (_, _, true, _) => Verdict::Target { full: Some(Full::Past) },
        (_, _, _, true) => Verdict::Source { full: Some(Full::Past) },
        _ if share_an_ancestor(mine, theirs) => Verdict::Refuse(Refusal::SplitBrain),
        _ => Verdict::Refuse(Refusal::Unrelated),
    }
}

fn share_an_ancestor(mine: &State, theirs: &State) -> bool {
    let knows = |id| theirs.base == Some(id) || theirs.history.contains(id);
    mine.base.is_some_and(knows) || mine.history.iter().any(knows)
}

/// A direction is refused here, before anything is touched, if its source is no good or its target is serving good
/// data to clients, unless that was ordered.
fn direction_allowed(source: &State, target: &State, found: Verdict) -> Verdict {
    match source.disk {
        DiskState::Diskless | DiskState::Failed | DiskState::Inconsistent => {
            return Verdict::Refuse(Refusal::NoSource);
        }
        DiskState::Outdated => return Verdict::Refuse(Refusal::SourceOutdated),
        // The other has no memory: it may have gone on and made this disk old, before it was replaced.
        DiskState::Consistent if target.current.is_none() => {
            return Verdict::Refuse(Refusal::SourceUnsure);
        }
        DiskState::Consistent | DiskState::UpToDate => {}
    }
    let serves_good_data = target.role == Role::Primary && target.disk >= DiskState::Outdated;
    if !serves_good_data {
        return found;
    }
    let step_down = Verdict::StepDown { me: matches!(found, Verdict::Target { .. }), void: false };
    if target.policies.dual_primary {
        let together = both_primary(source, target) && source.current == target.current;
        return if together { found } else { step_down };
    }
    match target.policies.rr_conflict {
        RrConflict::Violently => found,
        RrConflict::CallPriLost => step_down,
        RrConflict::Disconnect | RrConflict::RetryConnect => {
            Verdict::Refuse(Refusal::PrimaryWouldBeTarget)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::superblock::History;
    use crate::wire::policy::{After0pri, After1pri, After2pri};
    use proptest::prelude::*;

    fn any_state() -> impl Strategy<Value = State> {
        let id = || proptest::option::of((0u128..5).prop_map(GenerationId));
        let disk = prop_oneof![
            Just(DiskState::Diskless),
            Just(DiskState::Inconsistent),
            Just(DiskState::Outdated),
            Just(DiskState::Consistent),
            Just(DiskState::UpToDate)
        ];
        let flags = any::<(bool, bool, bool, bool, bool, bool)>();
        let marks = (2u64..4, 0u64..4);
        let past = proptest::collection::vec(0u128..5, 0..3);
        let others = (any_policies(), any::<bool>());
        (id(), id(), past, disk, 0u64..3, flags, marks, others).prop_map(
            |(
                current,
                base,
                past,
                disk,
                dirty_blocks,
                (primary, crashed, survivor, kept, po, discard),
                (mark, peer_mark),
                (policies, parted_primary),
            )| {
                let mut history = History::default();
                past.into_iter().for_each(|id| history.push(GenerationId(id)));
                State {
                    current,
                    base: current.and(base),
                    history,
                    disk,
                    role: if primary { Role::Primary } else { Role::Secondary },
                    dirty_blocks,
                    crashed,
                    survivor,
                    kept,
                    peer_outdated: po,
                    discard_my_data: discard,
                    parted_primary,
                    policies,
                    mark,
                    peer_mark,
                }
            },
        )
    }

    fn any_policies() -> impl Strategy<Value = Policies> {
        use proptest::sample::select;
        let choices = (
            select(After0pri::ALL),
            select(After1pri::ALL),
            select(After2pri::ALL),
            select(RrConflict::ALL),
            any::<bool>(),
        );
        choices.prop_map(|(after_0pri, after_1pri, after_2pri, rr_conflict, dual_primary)| {
            Policies { dual_primary, after_0pri, after_1pri, after_2pri, rr_conflict }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        /// Both nodes reach mirrored verdicts, whatever they say of themselves.
        #[test]
        fn both_sides_agree(a in any_state(), b in any_state(), same in 0u8..20) {
            let b = if same > 0 { State { policies: a.policies, ..b } } else { b };
            let (one, two) = (Side { node: NodeId(0), state: &a }, Side { node: NodeId(1), state: &b });
            let mirrored = match verdict(two, one) {
                Verdict::Source { full } => Verdict::Target { full },
                Verdict::Target { full } => Verdict::Source { full },
                Verdict::StepDown { me, void } => Verdict::StepDown { me: !me, void },
                same => same,
            };
            prop_assert_eq!(verdict(one, two), mirrored);
        }

        /// Never "equal" while a bit is set, and never a target that serves good data.
        #[test]
        fn bits_are_never_dropped(a in any_state(), b in any_state()) {
            let b = State { policies: a.policies, ..b };
            let violently = a.policies.rr_conflict == RrConflict::Violently;
            let (one, two) = (Side { node: NodeId(0), state: &a }, Side { node: NodeId(1), state: &b });
            match verdict(one, two) {
                Verdict::Equal => {
                    prop_assert_eq!(a.dirty_blocks + b.dirty_blocks, 0);
                    prop_assert!(a.mark >= b.peer_mark && b.mark >= a.peer_mark);
                }
                Verdict::Source { full: None } => {
                    prop_assert!(a.mark >= b.peer_mark && b.mark >= a.peer_mark);
                }
                Verdict::Target { .. } => {
                    let spared = a.role == Role::Secondary || a.disk == DiskState::Inconsistent;
                    let together = a.policies.dual_primary
                        && b.role == Role::Primary
                        && a.current == b.current
                        && a.survivor
                        && b.survivor;
                    prop_assert!(spared || together || (violently && !a.policies.dual_primary));
                    let one = a.role == Role::Secondary || b.role == Role::Secondary;
                    prop_assert!(one || a.policies.dual_primary);
                    prop_assert!(b.disk >= DiskState::Consistent);
                }
                Verdict::OneDisk if a.disk <= DiskState::Failed && a.role == Role::Primary => {
                    prop_assert!(a.dirty_blocks == 0 || b.survivor || b.kept);
                    prop_assert_eq!(a.current, b.current);
                }
                _ => {}
            }
        }
    }

    /// What a Secondary says of itself: its generations, 0 for none.
    fn said(current: u128, base: u128, past: &[u128], disk: DiskState) -> State {
        let mut history = History::default();
        past.iter().for_each(|id| history.push(GenerationId(*id)));
        State {
            current: (current > 0).then_some(GenerationId(current)),
            base: (base > 0).then_some(GenerationId(base)),
            history,
            disk,
            role: Role::Secondary,
            dirty_blocks: 1,
            crashed: false,
            survivor: false,
            kept: false,
            peer_outdated: false,
            discard_my_data: false,
            parted_primary: false,
            policies: Policies::default(),
            mark: 5,
            peer_mark: 5,
        }
    }

    fn discards(state: State) -> State {
        State { discard_my_data: true, ..state }
    }

    /// Its disk was put back: the other was told of 5.
    fn back(state: State) -> State {
        State { mark: 3, ..state }
    }

    fn of(mine: &State, theirs: &State) -> Verdict {
        let (me, peer) = (NodeId(1), NodeId(0));
        verdict(Side { node: me, state: mine }, Side { node: peer, state: theirs })
    }

    #[test]
    fn a_conflict_is_decided_by_who_discards() {
        use DiskState::{Consistent, Inconsistent, UpToDate};
        let (a, b) = (said(2, 1, &[1], UpToDate), said(3, 1, &[1], UpToDate));
        assert_eq!(of(&a, &b), Verdict::Refuse(Refusal::SplitBrain));
        assert_eq!(of(&discards(a), &discards(b)), Verdict::Refuse(Refusal::BothDiscard));
        assert_eq!(of(&discards(a), &b), Verdict::Target { full: None });
        let all = Verdict::Target { full: Some(Full::Discarded) };
        assert_eq!(of(&discards(a), &said(3, 4, &[1], UpToDate)), all, "another base");
        assert_eq!(of(&discards(a), &said(3, 0, &[1], UpToDate)), all, "no base");
        assert_eq!(of(&discards(said(2, 0, &[1], UpToDate)), &said(3, 0, &[1], UpToDate)), all);
        assert_eq!(of(&discards(a), &said(9, 8, &[8], UpToDate)), all, "unrelated");
        let nothing_there = said(3, 1, &[1], Inconsistent);
        assert_eq!(of(&discards(a), &nothing_there), Verdict::Refuse(Refusal::NoSource));
        // Where ancestry decides, it does.
        let behind = said(1, 0, &[], Consistent);
        assert_eq!(of(&discards(a), &behind), Verdict::Source { full: None });
        let invalid = said(0, 0, &[], Inconsistent);
        assert_eq!(of(&invalid, &a), Verdict::Target { full: Some(Full::Fresh) });
    }

    #[test]
    fn a_disk_that_was_put_back_is_copied_whole_or_refused() {
        use DiskState::{Consistent, Inconsistent, Outdated, UpToDate};
        let all = Verdict::Target { full: Some(Full::RolledBack) };
        let old = back(said(1, 0, &[], Consistent));
        assert_eq!(of(&old, &said(1, 0, &[], Consistent)), all, "same generation");
        assert_eq!(of(&old, &said(2, 1, &[], UpToDate)), all, "no bitmap is believed");
        assert_eq!(of(&old, &said(4, 0, &[2, 1], UpToDate)), all);
        let half_copied = back(said(2, 0, &[1], Inconsistent));
        assert_eq!(of(&half_copied, &said(2, 0, &[1], UpToDate)), all);
        let crashed = State { crashed: true, ..old };
        assert_eq!(of(&crashed, &said(1, 0, &[], Consistent)), all, "whoever was Primary");
        let refused = Verdict::Refuse(Refusal::RolledBack);
        let own_way = back(said(2, 1, &[1], UpToDate));
        assert_eq!(of(&own_way, &said(1, 0, &[], Consistent)), refused);
        assert_eq!(of(&old, &said(1, 0, &[], Inconsistent)), refused);
        assert_eq!(of(&old, &back(said(1, 0, &[], Consistent))), refused, "both");
        assert_eq!(of(&old, &said(1, 0, &[], DiskState::Diskless)), refused);
        let outdated = Verdict::Refuse(Refusal::SourceOutdated);
        assert_eq!(of(&old, &said(1, 0, &[], Outdated)), outdated);
        assert_eq!(of(&discards(own_way), &said(1, 0, &[], Consistent)), all);
        assert_eq!(of(&discards(said(1, 0, &[], Consistent)), &old), all, "it is the operator's");
    }
}
