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
    running: Option<u64>,
    next: Option<(u64, Environment)>,
}

impl Queue {
    /// Gives the environment back if the handler is to run now. Else it is remembered, in place of what was.
    pub(super) fn ask(
        &mut self,
        kind: HandlerKind,
        token: u64,
        environment: Environment,
    ) -> Option<Environment> {
        let slot = &mut self.slots[kind.index()];
        if slot.running.is_some() {
            slot.next = Some((token, environment));
            return None;
        }
        slot.running = Some(token);
        Some(environment)
    }

    /// The running one has ended: its token, and the environment of the next, which runs from now on. `None` if none
    /// was running.
    pub(super) fn ended(&mut self, kind: HandlerKind) -> Option<(u64, Option<Environment>)> {
        let slot = &mut self.slots[kind.index()];
        let token = slot.running.take()?;
        let next = slot.next.take().map(|(token, environment)| {
            slot.running = Some(token);
            environment
        });
        Some((token, next))
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
        assert_eq!(queue.ask(FencePeer, 1, facts("a")), Some(facts("a")));
        assert_eq!(queue.ask(SplitBrain, 2, facts("b")), Some(facts("b")));
        for (token, value) in [(3, "c"), (4, "d")] {
            assert_eq!(queue.ask(FencePeer, token, facts(value)), None);
        }
        assert_eq!(queue.ended(FencePeer), Some((1, Some(facts("d")))));
        assert_eq!(queue.ended(FencePeer), Some((4, None)));
        assert_eq!(queue.ended(FencePeer), None);
        assert_eq!(queue.ended(SplitBrain), Some((2, None)));
        assert_eq!(queue.ask(FencePeer, 5, facts("e")), Some(facts("e")));
    }
}
