//! At most one handler of each kind runs; one more is remembered.

use super::Environment;
use crate::config::HandlerKind;

/// What was asked for, by kind.
#[derive(Debug, Default)]
pub(super) struct Queue {
    slots: [Slot; HandlerKind::ALL.len()],
}

#[derive(Debug, Default)]
struct Slot {
    runs: bool,
    next: Option<Environment>,
}

impl Queue {
    /// Gives the environment back if the handler is to run now. Else it is remembered, in place of what was.
    pub(super) fn ask(
        &mut self,
        kind: HandlerKind,
        environment: Environment,
    ) -> Option<Environment> {
        let slot = &mut self.slots[kind.index()];
        if slot.runs {
            slot.next = Some(environment);
            return None;
        }
        slot.runs = true;
        Some(environment)
    }

    /// The running one has ended: the environment of the next, which runs from now on.
    pub(super) fn ended(&mut self, kind: HandlerKind) -> Option<Environment> {
        let slot = &mut self.slots[kind.index()];
        let next = slot.next.take();
        slot.runs = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(value: &str) -> Environment {
        vec![("X".to_owned(), value.to_owned())]
    }

    #[test]
    fn one_of_a_kind_runs_and_one_is_remembered() {
        use HandlerKind::{FencePeer, SplitBrain};
        let mut queue = Queue::default();
        assert_eq!(queue.ask(FencePeer, facts("a")), Some(facts("a")));
        assert_eq!(queue.ask(SplitBrain, facts("b")), Some(facts("b")));
        for value in ["c", "d"] {
            assert_eq!(queue.ask(FencePeer, facts(value)), None);
        }
        assert_eq!(queue.ended(FencePeer), Some(facts("d")));
        assert_eq!(queue.ended(FencePeer), None);
        assert_eq!(queue.ended(SplitBrain), None);
        assert_eq!(queue.ask(FencePeer, facts("e")), Some(facts("e")));
    }
}
