//! Two nodes meet: who has the newest data, and how does the other get it?
//!
//! [`verdict`] is a pure function of both nodes' [`State`]s and symmetric: each node computes it with itself as `me`
//! and both reach mirrored answers. First match wins; `me` stands for either side:
//!
//! ```text
//!  #  | when                                                      | verdict
//! ----+-----------------------------------------------------------+----------------------------------------
//!  1  | both Primary                                              | refuse: two Primaries
//!  2  | both discard their data                                   | refuse: nobody is left
//!  3  | a side has no disk: Primary's data must be the peer's     | equal, else refuse
//!  4  | both fresh                                                | nothing to compare
//!  5  | one fresh, or declared invalid                            | the other is source, full
//!  6  | same generation, both Inconsistent                        | refuse: no source
//!  7  | same generation, one Inconsistent (interrupted resync)    | it is target, bitmap
//!  8  | same generation, no bits                                  | equal
//!  9  | same generation, bits, one Outdated                       | it is target, bitmap
//! 10  | same generation, bits, one Primary now                    | Primary is source, bitmap
//! 11  | same generation, bits, one crashed as Primary             | survivor is source, bitmap; if the other
//!     |                                                           | restarted too, the crashed one is
//! 12  | same generation, bits, one still tracks the other         | the tracker is source, bitmap
//! 13  | same generation, bits on one side only                    | that side is source, bitmap
//! 14  | same generation, bits, nothing tells them apart           | lower node number is source, bitmap
//! 15  | the peer's base is my generation: it went on without me   | peer is source, bitmap
//! 16  | my generation is in the peer's history                    | peer is source, full
//! 17  | histories meet, neither contains the other's end          | refuse: split brain
//! 18  | nothing in common                                         | refuse: unrelated
//! 19  | 17 or 18, but one side discards its data                  | it is target: bitmap if both track the
//!     |                                                           | same base, else full
//! ```
//!
//! Whatever the rule, a source must be consistent and not outdated, and a Primary with good data is never a
//! target. Rule 8 and not "equal generations" alone: equal ids with bits set still resync those bits. Rule 19 may use
//! the bitmaps if the bases are equal: each lists what differs from the one state that both once had, so where
//! neither has a bit, both still have that. Where ancestry decides, nothing is discarded that it would keep.

use crate::meta::superblock::{GenerationId, NodeId};
use crate::wire::message::{DiskState, Refusal, Role, State};

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
}

/// Why everything is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// The target never held data of this volume, or was declared invalid.
    Fresh,
    /// The target was away for longer than the source's bitmap reaches back.
    Past,
    /// The target's data was discarded, and nothing tells what both still have in common.
    Discarded,
}

/// True if waiting does not help: only an operator can say whose data counts.
pub fn needs_operator(reason: Refusal) -> bool {
    matches!(reason, Refusal::SplitBrain | Refusal::Unrelated | Refusal::BothDiscard)
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
    if mine.role == Role::Primary && theirs.role == Role::Primary {
        return Verdict::Refuse(Refusal::TwoPrimaries);
    }
    if mine.discard_my_data && theirs.discard_my_data {
        return Verdict::Refuse(Refusal::BothDiscard);
    }
    if mine.disk <= DiskState::Failed || theirs.disk <= DiskState::Failed {
        return one_disk(mine, theirs);
    }
    let found = match (mine.current, theirs.current) {
        (None, None) => Verdict::Fresh,
        (Some(_), None) => Verdict::Source { full: Some(Full::Fresh) },
        (None, Some(_)) => Verdict::Target { full: Some(Full::Fresh) },
        (Some(a), Some(b)) if a == b => same_generation(me, peer),
        (Some(a), Some(b)) => match by_ancestry(mine, a, theirs, b) {
            Verdict::Refuse(reason) => discarded(mine, theirs).unwrap_or(Verdict::Refuse(reason)),
            found => found,
        },
    };
    match found {
        Verdict::Source { .. } => direction_allowed(mine, theirs, found),
        Verdict::Target { .. } => direction_allowed(theirs, mine, found),
        other => other,
    }
}

/// Rule 3: a Primary without a disk works on the peer's data, so that must be the very data it knows.
fn one_disk(mine: &State, theirs: &State) -> Verdict {
    let has_disk = |state: &State| state.disk > DiskState::Failed;
    if !has_disk(mine) && !has_disk(theirs) {
        return Verdict::Refuse(Refusal::NoSource);
    }
    let (with, without) = if has_disk(mine) { (mine, theirs) } else { (theirs, mine) };
    let primary_lost_its_data = without.role == Role::Primary
        && (without.current != with.current || with.disk < DiskState::Consistent);
    if primary_lost_its_data { Verdict::Refuse(Refusal::NoSource) } else { Verdict::OneDisk }
}

/// Rule 19; `None` if nobody discards. Both do not: rule 2.
fn discarded(mine: &State, theirs: &State) -> Option<Verdict> {
    let one_base = mine.base.is_some() && mine.base == theirs.base;
    let full = if one_base { None } else { Some(Full::Discarded) };
    if mine.discard_my_data {
        Some(Verdict::Target { full })
    } else {
        theirs.discard_my_data.then_some(Verdict::Source { full })
    }
}

/// Rules 6 to 14.
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
        .or(match (mine.crashed, theirs.crashed) {
            (true, false) => Some(if theirs.survivor { target } else { source }),
            (false, true) => Some(if mine.survivor { source } else { target }),
            _ => None,
        })
        .or(pick(mine.base.is_some(), theirs.base.is_some()))
        .or(pick(mine.dirty_blocks > 0, theirs.dirty_blocks > 0))
        .unwrap_or(if me.node < peer.node { source } else { target })
}

/// Rules 15 to 18.
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
/// data to clients.
fn direction_allowed(source: &State, target: &State, found: Verdict) -> Verdict {
    match source.disk {
        DiskState::Diskless | DiskState::Failed | DiskState::Inconsistent => {
            return Verdict::Refuse(Refusal::NoSource);
        }
        DiskState::Outdated => return Verdict::Refuse(Refusal::SourceOutdated),
        DiskState::Consistent | DiskState::UpToDate => {}
    }
    let serves_good_data = target.role == Role::Primary && target.disk >= DiskState::Outdated;
    if serves_good_data {
        return Verdict::Refuse(Refusal::PrimaryWouldBeTarget);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::superblock::History;
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
        let flags = any::<(bool, bool, bool, bool, bool)>();
        (id(), id(), proptest::collection::vec(0u128..5, 0..3), disk, 0u64..3, flags).prop_map(
            |(
                current,
                base,
                past,
                disk,
                dirty_blocks,
                (primary, crashed, survivor, po, discard),
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
                    peer_outdated: po,
                    discard_my_data: discard,
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        /// Both nodes reach mirrored verdicts, whatever they say of themselves.
        #[test]
        fn both_sides_agree(a in any_state(), b in any_state()) {
            let (one, two) = (Side { node: NodeId(0), state: &a }, Side { node: NodeId(1), state: &b });
            let mirrored = match verdict(two, one) {
                Verdict::Source { full } => Verdict::Target { full },
                Verdict::Target { full } => Verdict::Source { full },
                same => same,
            };
            prop_assert_eq!(verdict(one, two), mirrored);
        }

        /// Never "equal" while a bit is set, and never a target that serves good data.
        #[test]
        fn bits_are_never_dropped(a in any_state(), b in any_state()) {
            let (one, two) = (Side { node: NodeId(0), state: &a }, Side { node: NodeId(1), state: &b });
            match verdict(one, two) {
                Verdict::Equal => prop_assert_eq!(a.dirty_blocks + b.dirty_blocks, 0),
                Verdict::Target { .. } => {
                    prop_assert!(a.role == Role::Secondary || a.disk == DiskState::Inconsistent);
                    prop_assert!(b.disk >= DiskState::Consistent);
                }
                _ => {}
            }
        }
    }
}
