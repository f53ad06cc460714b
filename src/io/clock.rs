//! The time that the core sees.
//!
//! It is `CLOCK_BOOTTIME`, which goes on while the host is suspended: a node that slept for an hour must
//! see that its peer has long drawn its conclusions from the silence, and not take up requests where it
//! left off.

use crate::replica::event::Tick;
use rustix::time::{ClockId, clock_gettime};

/// A clock that never goes back: where the host's does (a virtual machine that was moved, time stamp counters that
/// disagree), it stands until the host's has caught up.
#[derive(Debug)]
pub struct Clock {
    last: Tick,
    /// The operator has been told that the host's clock goes back.
    told: bool,
}

impl Clock {
    /// A clock that shows the microseconds since boot.
    pub fn new() -> Clock {
        Clock { last: read(), told: false }
    }

    /// The time now.
    pub fn now(&mut self) -> Tick {
        self.advance(read())
    }

    /// The time of day at tick 0, in milliseconds since 1970; 0 if the clock of this host stands before that.
    pub fn unix_ms_at_tick_0() -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = since.map_or(0, |since| since.as_millis() as u64);
        now.saturating_sub(read().0 / 1000)
    }

    fn advance(&mut self, now: Tick) -> Tick {
        if now < self.last && !self.told {
            self.told = true;
            tracing::warn!(
                "the clock of this host went back by {} µs: deadlines may be late by as much; this is said once",
                self.last.since(now)
            );
        }
        self.last = self.last.max(now);
        self.last
    }
}

/// Whether the time of day is kept right by somebody (NTP, PTP); `None` if the system does not say.
pub fn synchronised() -> Option<bool> {
    // SAFETY: a structure of integers, for which all zeroes is a value; `modes` 0 only asks.
    let mut about: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `about` is ours, and of the type that the call fills in.
    let state = unsafe { libc::adjtimex(&mut about) };
    (state >= 0).then_some(state != libc::TIME_ERROR && about.status & libc::STA_UNSYNC == 0)
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

fn read() -> Tick {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_nsec / 1000).unwrap_or(0);
    Tick(seconds * 1_000_000 + micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_in_microseconds() {
        let mut clock = Clock::new();
        let start = clock.now();
        std::thread::sleep(std::time::Duration::from_millis(5));
        let passed = clock.now().since(start);
        assert!((5_000..60_000_000).contains(&passed), "{passed} µs");
    }

    #[test]
    fn a_clock_that_goes_back_stands_until_it_has_caught_up() {
        let mut clock = Clock { last: Tick(1_000), told: false };
        for (host, seen) in [(999, 1_000), (0, 1_000), (1_000, 1_000), (1_001, 1_001)] {
            assert_eq!(clock.advance(Tick(host)), Tick(seen));
        }
        assert!(clock.told);
    }
}
