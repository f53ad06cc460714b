//! Split brain: whose changes are lost, by the policies that both nodes have.
//!
//! A pure function of what both said of themselves, so each node decides for itself and both decide the same. Where
//! DRBD asks who holds a flag that the connection's set-up gave by chance, the second node loses.
//!
//! ```text
//!  after-0pri                 loses
//! ----------------------------+------------------------------------------------------------------------
//!  discard-younger-primary    | who was not Primary when it went its own way; both or neither: as below
//!  discard-older-primary      | who was; both or neither: as below
//!       ... as below          | who has no changes; both: the second node; neither: who has fewer
//!  discard-zero-changes       | who has no changes; both: the second node; neither: nobody
//!  discard-least-changes      | who has fewer; equal: the second node
//!  discard-node-NAME          | that node
//! ```
//!
//! With a Primary, `discard-secondary` asks nothing more; the others ask `after-0pri` and differ in what they make of
//! it if a Primary would lose: `consensus` leaves it to an operator, `call-pri-lost-after-sb` has it step down first.

use crate::wire::policy::{After0pri, After1pri, After2pri, Policies};

/// What is known of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Party {
    /// It is Primary now.
    pub primary: bool,
    /// It was Primary when it went its own way.
    pub parted_primary: bool,
    /// Blocks that it has changed since.
    pub changes: u64,
}

/// The decision. Nodes by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Nobody loses: an operator decides.
    Nobody,
    /// This node's changes are lost.
    Discard(usize),
    /// This node is Primary and loses: it must step down before.
    StepDown(usize),
}

/// Decides for nodes 0 and 1.
pub fn decide(policies: &Policies, nodes: [Party; 2]) -> Decision {
    let loser = without_primary(policies.after_0pri, nodes);
    let discard = |loser: Option<usize>| loser.map_or(Decision::Nobody, Decision::Discard);
    let step_down = |loser: Option<usize>| match loser {
        Some(loser) if nodes[loser].primary => Decision::StepDown(loser),
        _ => discard(loser),
    };
    match (nodes[0].primary, nodes[1].primary) {
        (false, false) => discard(loser),
        (true, true) => match policies.after_2pri {
            After2pri::Disconnect => Decision::Nobody,
            After2pri::ViolentlyAs0p => discard(loser),
            After2pri::CallPriLostAfterSb => step_down(loser),
        },
        (first, _) => {
            let secondary = usize::from(first);
            match policies.after_1pri {
                After1pri::Disconnect => Decision::Nobody,
                After1pri::Consensus => discard(loser.filter(|loser| *loser == secondary)),
                After1pri::ViolentlyAs0p => discard(loser),
                After1pri::DiscardSecondary => Decision::Discard(secondary),
                After1pri::CallPriLostAfterSb => step_down(loser),
            }
        }
    }
}

fn without_primary(policy: After0pri, nodes: [Party; 2]) -> Option<usize> {
    let [first, second] = nodes;
    let none = match (first.changes == 0, second.changes == 0) {
        (true, false) => Some(0),
        (_, true) => Some(1),
        (false, false) => None,
    };
    let fewer = usize::from(first.changes >= second.changes);
    let older = match (first.parted_primary, second.parted_primary) {
        (true, false) => Some(0),
        (false, true) => Some(1),
        _ => None,
    };
    match policy {
        After0pri::Disconnect => None,
        After0pri::DiscardYoungerPrimary => older.map(|older| 1 - older).or(none).or(Some(fewer)),
        After0pri::DiscardOlderPrimary => older.or(none).or(Some(fewer)),
        After0pri::DiscardZeroChanges => none,
        After0pri::DiscardLeastChanges => Some(fewer),
        After0pri::DiscardFirstNode => Some(0),
        After0pri::DiscardSecondNode => Some(1),
    }
}
