//! How many jobs a resync has in flight beside clients: as many as do not hurt them.
//!
//! ```text
//!   no client ──────────────────────────────► all jobs
//!      │ ▲ none for LINGER_MS
//!      ▼ │
//!   listen: no job starts, clients are alone ──► run: some jobs ──┐
//!      ▲                                          │ every SAMPLES requests: slower than alone by more than
//!      │                                          │ half? half as many, at least one. Hardly slower? one more
//!      └──────────────── after RUN_MS ────────────┘
//! ```
//!
//! A client that waits for each answer is absent between two requests: it counts as there for a while. What a request
//! takes without a resync depends on the hour, so that is measured again and again; with one job left the resync goes
//! on whatever clients measure: that is its guaranteed share. It begins with all jobs: most resyncs are short, and
//! until one has ended there is one good disk.

use crate::limits::RESYNC_JOBS_MAX;
use crate::replica::event::Tick;

/// A client counts as there for this long after its last request, in milliseconds.
const LINGER_MS: u64 = 200;
/// Clients are listened to for at most this long, in milliseconds.
const LISTEN_MS: u64 = 20;
/// And for so many requests.
const LISTEN_SAMPLES: u64 = 32;
/// Then the resync runs for this long, in milliseconds: listening costs it at most a fiftieth.
const RUN_MS: u64 = 1_000;
/// Requests between two looks at their latency.
const SAMPLES: u64 = 32;

/// The time that requests take.
#[derive(Clone, Copy, Default, Debug)]
struct Mean {
    sum: u64,
    count: u64,
}

impl Mean {
    fn add(&mut self, us: u64) {
        self.sum += us;
        self.count += 1;
    }

    fn us(self) -> Option<u64> {
        self.sum.checked_div(self.count)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Listen,
    Run,
}

/// The pace of a resync.
#[derive(Debug)]
pub(super) struct Pace {
    last_request: Option<Tick>,
    phase: Phase,
    since: Tick,
    /// Microseconds of a request without a resync beside it, when that was last measured.
    alone_us: Option<u64>,
    heard: Mean,
    jobs: usize,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace {
            last_request: None,
            phase: Phase::Run,
            since: Tick(0),
            alone_us: None,
            heard: Mean::default(),
            jobs: RESYNC_JOBS_MAX,
        }
    }

    /// A resync begins: nothing that was measured before counts.
    pub(super) fn begins(&mut self, now: Tick) {
        *self = Pace { last_request: self.last_request, ..Pace::new() };
        self.turn(Phase::Listen, now);
    }

    /// A client's request has come.
    pub(super) fn request_comes(&mut self, now: Tick) {
        self.last_request = Some(now);
    }

    /// A client's request that came at `arrived` is answered; `jobs` of the resync are in flight.
    pub(super) fn request_ends(&mut self, arrived: Tick, now: Tick, jobs: usize) {
        let us = now.since(arrived);
        match self.phase {
            // Of one that came before, a part was spent beside jobs.
            Phase::Listen if arrived >= self.since && jobs == 0 => {
                self.heard.add(us);
                if self.heard.count >= LISTEN_SAMPLES {
                    self.turn(Phase::Run, now);
                }
            }
            Phase::Run => {
                self.heard.add(us);
                if self.heard.count >= SAMPLES {
                    self.adjust();
                }
            }
            Phase::Listen => {}
        }
    }

    /// How many jobs may be in flight now; `pending`: a client waits for an answer.
    pub(super) fn window(&mut self, now: Tick, pending: bool) -> usize {
        if !self.has_clients(now, pending) {
            return RESYNC_JOBS_MAX;
        }
        match self.phase {
            Phase::Listen if now >= self.since.plus_ms(LISTEN_MS) => self.turn(Phase::Run, now),
            Phase::Run if now >= self.since.plus_ms(RUN_MS) => self.turn(Phase::Listen, now),
            _ => {}
        }
        match self.phase {
            Phase::Listen => 0,
            Phase::Run => self.jobs,
        }
    }

    /// While no job may start: when to look again.
    pub(super) fn listens_until(&self, now: Tick) -> Option<Tick> {
        let until = self.since.plus_ms(LISTEN_MS);
        (self.phase == Phase::Listen && until > now).then_some(until)
    }

    /// True if clients are there, or were a moment ago.
    pub(super) fn has_clients(&self, now: Tick, pending: bool) -> bool {
        pending || self.last_request.is_some_and(|at| now < at.plus_ms(LINGER_MS))
    }

    fn turn(&mut self, phase: Phase, now: Tick) {
        let heard = std::mem::take(&mut self.heard).us();
        if self.phase == Phase::Listen {
            self.alone_us = heard.or(self.alone_us);
        }
        self.phase = phase;
        self.since = now;
    }

    fn adjust(&mut self) {
        let heard = std::mem::take(&mut self.heard).us();
        let (Some(beside), Some(alone)) = (heard, self.alone_us) else { return };
        if beside > alone + alone / 2 {
            self.jobs = (self.jobs / 2).max(1);
        } else if beside <= alone + alone / 4 {
            self.jobs = (self.jobs + 1).min(RESYNC_JOBS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that writes one request after the other; `us(jobs)` is what a request takes beside so many jobs.
    fn run(pace: &mut Pace, ms: u64, us: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut now = Tick(1_000_000);
        let end = now.plus_ms(ms);
        let mut windows = Vec::new();
        pace.begins(now);
        while now < end {
            let arrived = now;
            pace.request_comes(now);
            let jobs = pace.window(now, true);
            windows.push(jobs);
            now = Tick(now.0 + us(jobs));
            pace.request_ends(arrived, now, jobs);
        }
        windows
    }

    #[test]
    fn without_clients_everything_runs() {
        let mut pace = Pace::new();
        pace.begins(Tick(0));
        assert_eq!(pace.window(Tick(5), false), RESYNC_JOBS_MAX);
        pace.request_comes(Tick(10));
        assert_eq!(pace.window(Tick(10), true), 0, "a client is listened to first");
        let later = Tick(10).plus_ms(LINGER_MS);
        assert_eq!(pace.window(later, false), RESYNC_JOBS_MAX);
    }

    #[test]
    fn a_client_that_is_hurt_is_left_with_one_job_beside_it() {
        let windows = run(&mut Pace::new(), 3_000, |jobs| 100 + 200 * jobs as u64);
        let last = &windows[windows.len() - 1000..];
        assert!(last.iter().all(|jobs| *jobs <= 2), "{last:?}");
        assert!(last.contains(&1), "the resync goes on");
    }

    #[test]
    fn a_client_that_is_not_hurt_does_not_slow_the_resync() {
        let windows = run(&mut Pace::new(), 5_000, |_| 150);
        assert!(windows.contains(&RESYNC_JOBS_MAX));
        let listening = windows.iter().filter(|jobs| **jobs == 0).count();
        assert!(
            listening * 20 < windows.len(),
            "listening costs little: {listening} of {}",
            windows.len()
        );
    }

    #[test]
    fn slow_clients_do_not_hold_it_up() {
        let mut pace = Pace::new();
        let windows = run(&mut pace, 10_000, |_| 50_000);
        let held = windows.iter().filter(|jobs| **jobs == 0).count();
        assert!(held * 10 <= windows.len(), "{held} of {}", windows.len());
    }
}
