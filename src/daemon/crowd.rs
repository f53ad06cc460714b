//! Too many connect and say nothing: counted, and told once a second at most, so that they do not fill the log, too.
//!
//! The first is told at once, and whoever followed a second later, also when nobody comes any more.

use crate::replica::event::Tick;
use std::net::SocketAddr;

/// Between two lines, in milliseconds.
const PAUSE_MS: u64 = 1_000;

/// Connections that were closed for others, and when that was last told.
#[derive(Default)]
pub(super) struct Crowd {
    /// How many since then, and where the last came from.
    untold: Option<(u64, SocketAddr)>,
    told: Option<Tick>,
}

impl Crowd {
    /// A connection from `from` was closed.
    pub(super) fn add(&mut self, from: SocketAddr) {
        let count = self.untold.map_or(0, |(count, _)| count);
        self.untold = Some((count + 1, from));
    }

    /// When to [`tell`](Crowd::tell); `None` while there is nothing to be told.
    pub(super) fn next_tick(&self) -> Option<Tick> {
        self.untold.map(|_| self.told.map_or(Tick(0), |told| told.plus_ms(PAUSE_MS)))
    }

    /// What is to be said now: how many were closed since it was last said, and where the last came from.
    pub(super) fn tell(&mut self, now: Tick) -> Option<(u64, SocketAddr)> {
        if self.next_tick().is_none_or(|at| now < at) {
            return None;
        }
        self.told = Some(now);
        self.untold.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_all_others_once_a_second() {
        let (first, last) =
            (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 2)));
        let mut crowd = Crowd::default();
        assert_eq!((crowd.next_tick(), crowd.tell(Tick(5))), (None, None));
        crowd.add(first);
        assert_eq!(crowd.tell(Tick(5)), Some((1, first)));
        let next = Tick(5).plus_ms(PAUSE_MS);
        for from in [first, first, last] {
            crowd.add(from);
            assert_eq!(crowd.tell(Tick(next.0 - 1)), None);
        }
        assert_eq!(crowd.next_tick(), Some(next));
        assert_eq!(crowd.tell(next), Some((3, last)));
        assert_eq!((crowd.next_tick(), crowd.tell(Tick(u64::MAX))), (None, None));
    }
}
