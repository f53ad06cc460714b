//! Two nodes meet: who has the newest data, and how does the other get it?
//!
//! [`verdict`] is a pure function of both nodes' [`State`]s and symmetric: each node computes it with itself as `me`
//! and both reach mirrored answers. First match wins; `me` stands for either side:
//!
//! ```text
//!  #  | when                                                      | verdict
//! ----+-----------------------------------------------------------+----------------------------------------
//!  1  | both Primary                                              | refuse: two Primaries
//!  2  | a side has no disk: Primary's data must be the peer's,    | one disk, else refuse
//!     | with what a power cut may have taken from it              |
//!  3  | both fresh                                                | nothing to compare
//!  4  | one fresh                                                 | the other is source, full
//!  5  | same generation, both Inconsistent                        | refuse: no source
//!  6  | same generation, one Inconsistent (interrupted resync)    | it is target, bitmap
//!  7  | same generation, no bits                                  | equal
//!  8  | same generation, bits, one Outdated                       | it is target, bitmap
//!  9  | same generation, bits, one Primary now                    | Primary is source, bitmap
//! 10  | same generation, bits, one crashed as Primary             | survivor is source, bitmap; if the other
//!     |                                                           | restarted too, the crashed one is
//! 11  | same generation, bits, one still tracks the other         | the tracker is source, bitmap
//! 12  | same generation, bits on one side only                    | that side is source, bitmap
//! 13  | same generation, bits, nothing tells them apart           | lower node number is source, bitmap
//! 14  | the peer's base is my generation: it went on without me   | peer is source, bitmap
//! 15  | my generation is in the peer's history                    | peer is source, full
//! 16  | histories meet, neither contains the other's end          | refuse: split brain
//! 17  | nothing in common                                         | refuse: unrelated
//! ```
//!
//! Whatever the rule, a source must be consistent and not outdated, and a Primary with good data is never a
//! target. Rule 7 and not "equal generations" alone: equal ids with bits set still resync those bits.

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
        /// Copy everything.
        full: bool,
    },
    /// The peer's data comes to this node.
    Target {
        /// Copy everything.
        full: bool,
    },
    /// They must not go on.
    Refuse(Refusal),
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
    if mine.disk <= DiskState::Failed || theirs.disk <= DiskState::Failed {
        return one_disk(mine, theirs);
    }
    let found = match (mine.current, theirs.current) {
        (None, None) => Verdict::Fresh,
        (Some(_), None) => Verdict::Source { full: true },
        (None, Some(_)) => Verdict::Target { full: true },
        (Some(a), Some(b)) if a == b => same_generation(me, peer),
        (Some(a), Some(b)) => by_ancestry(mine, a, theirs, b),
    };
    match found {
        Verdict::Source { .. } => direction_allowed(mine, theirs, found),
        Verdict::Target { .. } => direction_allowed(theirs, mine, found),
        other => other,
    }
}

/// Rule 2: a Primary without a disk works on the peer's data, so that must be the very data it knows.
fn one_disk(mine: &State, theirs: &State) -> Verdict {
    let has_disk = |state: &State| state.disk > DiskState::Failed;
    if !has_disk(mine) && !has_disk(theirs) {
        return Verdict::Refuse(Refusal::NoSource);
    }
    let (with, without) = if has_disk(mine) { (mine, theirs) } else { (theirs, mine) };
    if without.role == Role::Secondary {
        return Verdict::OneDisk;
    }
    if without.current != with.current || with.disk < DiskState::Consistent {
        return Verdict::Refuse(Refusal::NoSource);
    }
    // The bits of a Primary without a disk: what the peer accepted and was not known to have on stable media. One whose
    // daemon lived on has it still.
    let may_lack = without.dirty_blocks > 0 && !with.survivor;
    if may_lack { Verdict::Refuse(Refusal::DataLost) } else { Verdict::OneDisk }
}

/// Rules 5 to 13.
fn same_generation(me: Side<'_>, peer: Side<'_>) -> Verdict {
    let (mine, theirs) = (me.state, peer.state);
    let source = Verdict::Source { full: false };
    let target = Verdict::Target { full: false };
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

/// Rules 14 to 17.
fn by_ancestry(mine: &State, a: GenerationId, theirs: &State, b: GenerationId) -> Verdict {
    let i_am_base = theirs.base == Some(a);
    let peer_is_base = mine.base == Some(b);
    let i_am_past = theirs.history.contains(a);
    let peer_is_past = mine.history.contains(b);
    if (i_am_base || i_am_past) && (peer_is_base || peer_is_past) {
        return Verdict::Refuse(Refusal::SplitBrain);
    }
    match (i_am_base, peer_is_base, i_am_past, peer_is_past) {
        (true, ..) => Verdict::Target { full: false },
        (_, true, ..) => Verdict::Source { full: false },
        (_, _, true, _) => Verdict::Target { full: true },
        (_, _, _, true) => Verdict::Source { full: true },
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
        let flags = any::<(bool, bool, bool, bool)>();
        (id(), id(), proptest::collection::vec(0u128..5, 0..3), disk, 0u64..3, flags).prop_map(
            |(current, base, past, disk, dirty_blocks, (primary, crashed, survivor, po))| {
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
                Verdict::OneDisk if a.disk <= DiskState::Failed && a.role == Role::Primary => {
                    prop_assert!(a.dirty_blocks == 0 || b.survivor);
                    prop_assert_eq!(a.current, b.current);
                }
                _ => {}
            }
        }
    }
}
