//! How many jobs a resync has in flight beside clients: as many as do not hurt them.
//!
//! ```text
//!   no client ────────────────────────────────► all jobs
//!      │ ▲ none for LINGER_MS
//!      ▼ │
//!   listen: no job starts, clients are alone ──► run: some jobs ──┐
//!      ▲                                          │ requests slower than alone by more than half, or more than
//!      │                                          │ one in a hundred slower than BOUND? half as many jobs, at
//!      │                                          │ least one; then that one with longer pauses. Hardly slower,
//!      │                                          │ and none of many? shorter pauses, one more job
//!      └──────────────── after RUN_MS ────────────┘
//!
//!   BOUND: 3/2 of what 99 of 100 requests were faster than while nothing was copied
//! ```
//!
//! A client that waits for each answer is absent between two requests: it counts as there for a while. What a request
//! takes without a resync depends on the hour, so that is measured again and again; with one job left the resync goes
//! on whatever clients measure: that is its guaranteed share. Pauses are for disks without heads, where a quarter of
//! what one job can do is much, and where a job that is slow once in a while is all that clients suffer from. The mean
//! says what clients lose in throughput, the hundredth request what they wait at worst; a disk with a deep queue hides
//! one of the two from the other.

use crate::limits::RESYNC_JOBS_MAX;
use crate::replica::event::Tick;

/// A client counts as there for this long after its last request, in milliseconds.
const LINGER_MS: u64 = 200;
/// Clients are listened to for at most this long, in milliseconds, if anything was heard of them in that time.
const LISTEN_MS: u64 = 30;
/// And for so long if not, and nothing is known of them: their requests take long.
const LISTEN_LONG_MS: u64 = 300;
/// And for so many requests.
const LISTEN_SAMPLES: u64 = 32;
/// The first ones still meet what the disks have in their queues: so many, and those of so many milliseconds.
const SETTLE_SAMPLES: u64 = 8;
const SETTLE_MS: u64 = 10;
/// Then the resync runs for this long, in milliseconds: listening costs it at most a fiftieth.
const RUN_MS: u64 = 1_500;
/// Requests between two looks at their mean latency.
const SAMPLES: u64 = 32;
/// Or so many, when the resync has run for its time.
const SAMPLES_LEAST: u64 = 4;
/// Jobs when clients come: more, as soon as it is known that they do not hurt.
const BEGIN_JOBS: usize = 2;
/// Slow requests and others weigh so that one slow one in a hundred keeps the balance.
const SLOW_WEIGHT: i32 = 99;
/// Above this balance jobs are halved: two slow ones with few between them.
const SLOW_MANY: i32 = 150;
/// At this balance there may be one job more: so many requests without a slow one.
const SLOW_FEW: i32 = -64;
/// At this balance a pause may be shorter.
const SLOW_NONE: i32 = -128;
/// A request in a hundred takes at most so many times the mean. What was learnt of larger requests, or of more at a
/// time, says little about those of now.
const TAIL_MEANS: u64 = 3;
/// A disk that answers its clients faster than this, in microseconds, has no heads to move.
const SEEKLESS_US: u64 = 1_000;
/// The longest pause after a job, in times of what the job took.
const PAUSE_MAX: u64 = 3;
/// And in microseconds: a job that hung is no measure.
const PAUSE_MAX_US: u64 = 100_000;

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

/// What 99 of 100 requests are faster than: found by stochastic approximation (Robbins and Monro, "A Stochastic
/// Approximation Method", 1951), in steps that are a part of the value: up by 1/16 with a slower one, down by a
/// ninety-ninth of that with a faster one.
#[derive(Clone, Copy, Default, Debug)]
struct Tail {
    /// Microseconds, times 2^16; 0: nothing is known.
    scaled: u64,
}

impl Tail {
    fn add(&mut self, us: u64) {
        let scaled = us.min(u64::from(u32::MAX)) << 16;
        self.scaled = match self.scaled {
            0 => 2 * scaled,
            tail if scaled > tail => tail + tail / 16,
            tail => tail - tail / (16 * 99),
        };
    }

    fn keep_below(&mut self, us: u64) {
        self.scaled = self.scaled.min(us << 16);
    }

    fn us(self) -> Option<u64> {
        (self.scaled > 0).then_some(self.scaled >> 16)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No clients are there.
    Free,
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
    /// Of requests without a resync beside them, those before it began included.
    tail: Tail,
    heard: Mean,
    /// Requests that were heard of in this phase while nothing was copied.
    settled: u64,
    /// The balance of slow requests and others.
    slow: i32,
    jobs: usize,
    /// The pause after a job, in times of what the job took. Only one job runs at a time then.
    pause: u64,
    /// The job that runs alone began.
    began: Tick,
    /// The pause ends.
    rests_until: Tick,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace {
            last_request: None,
            phase: Phase::Free,
            since: Tick(0),
            alone_us: None,
            tail: Tail::default(),
            heard: Mean::default(),
            settled: 0,
            slow: 0,
            jobs: RESYNC_JOBS_MAX,
            pause: 0,
            began: Tick(0),
            rests_until: Tick(0),
        }
    }

    /// A resync begins: the mean that was measured before does not count.
    pub(super) fn begins(&mut self, now: Tick) {
        *self = Pace { last_request: self.last_request, tail: self.tail, ..Pace::new() };
        self.since = now;
    }

    /// A client's request has come.
    pub(super) fn request_comes(&mut self, now: Tick) {
        self.last_request = Some(now);
    }

    /// A client's request that came at `arrived` is answered, and nothing is copied.
    pub(super) fn request_ends_alone(&mut self, arrived: Tick, now: Tick) {
        self.tail.add(now.since(arrived));
    }

    /// A client's request that came at `arrived` is answered; `jobs` of the resync are in flight.
    pub(super) fn request_ends(&mut self, arrived: Tick, now: Tick, jobs: usize) {
        let us = now.since(arrived);
        match self.phase {
            // Of one that came before, a part was spent beside jobs.
            Phase::Listen if arrived >= self.since && jobs == 0 => {
                self.settled += 1;
                let settled_by = self.since.plus_ms(SETTLE_MS);
                if self.settled > SETTLE_SAMPLES || arrived >= settled_by {
                    self.heard.add(us);
                    self.tail.add(us);
                }
                if self.heard.count >= LISTEN_SAMPLES {
                    self.turn(Phase::Run, now);
                }
            }
            Phase::Run if arrived >= self.since => {
                self.heard.add(us);
                self.weigh(us);
                if self.heard.count >= SAMPLES {
                    self.adjust();
                }
            }
            _ => {}
        }
    }

    /// A job begins.
    pub(super) fn job_begins(&mut self, now: Tick) {
        self.began = now;
    }

    /// A job ends.
    pub(super) fn job_ends(&mut self, now: Tick) {
        let pause = (self.pause * now.since(self.began)).min(PAUSE_MAX_US);
        self.rests_until = Tick(now.0 + pause);
    }

    /// How many jobs may be in flight now; `pending`: a client waits for an answer.
    pub(super) fn window(&mut self, now: Tick, pending: bool) -> usize {
        if !self.has_clients(now, pending) {
            self.phase = Phase::Free;
            return RESYNC_JOBS_MAX;
        }
        match self.phase {
            Phase::Free => {
                self.jobs = BEGIN_JOBS;
                self.pause = 0;
                self.turn(Phase::Listen, now);
            }
            Phase::Listen if now >= self.listens_until() => self.turn(Phase::Run, now),
            Phase::Run if now >= self.since.plus_ms(RUN_MS) => {
                if self.heard.count >= SAMPLES_LEAST {
                    self.adjust();
                }
                self.turn(Phase::Listen, now);
            }
            _ => {}
        }
        match self.phase {
            Phase::Run if self.pause == 0 || now >= self.rests_until => self.jobs,
            _ => 0,
        }
    }

    /// While no job may start: when to look again.
    pub(super) fn waits_until(&self, now: Tick) -> Option<Tick> {
        let until = match self.phase {
            Phase::Listen => self.listens_until(),
            Phase::Run if self.pause > 0 => self.rests_until,
            _ => return None,
        };
        (until > now).then_some(until)
    }

    fn listens_until(&self) -> Tick {
        let unknown = self.alone_us.is_none() && self.heard.count == 0;
        self.since.plus_ms(if unknown { LISTEN_LONG_MS } else { LISTEN_MS })
    }

    /// True if clients are there, or were a moment ago.
    pub(super) fn has_clients(&self, now: Tick, pending: bool) -> bool {
        pending || self.last_request.is_some_and(|at| now < at.plus_ms(LINGER_MS))
    }

    fn turn(&mut self, phase: Phase, now: Tick) {
        let heard = std::mem::take(&mut self.heard).us();
        if self.phase == Phase::Listen {
            self.alone_us = heard.or(self.alone_us);
            if let Some(alone) = self.alone_us {
                self.tail.keep_below(TAIL_MEANS * alone);
            }
        }
        self.settled = 0;
        self.phase = phase;
        self.since = now;
    }

    /// One request counts as slow, or not.
    fn weigh(&mut self, us: u64) {
        let Some(tail) = self.tail.us() else { return };
        let slow = us > tail + tail / 2;
        self.slow = (self.slow + if slow { SLOW_WEIGHT } else { -1 }).max(SLOW_NONE);
        if self.slow > SLOW_MANY {
            self.slow = 0;
            self.fewer();
        }
    }

    fn more(&mut self) {
        if self.pause == 0 && self.slow <= SLOW_FEW {
            self.jobs = (self.jobs + 1).min(RESYNC_JOBS_MAX);
        } else if self.pause > 0 && self.slow <= SLOW_NONE {
            self.pause -= 1;
            self.slow = 0;
        }
    }

    fn fewer(&mut self) {
        let seekless = self.alone_us.is_some_and(|us| us < SEEKLESS_US);
        match self.jobs {
            1 if seekless => self.pause = (self.pause + 1).min(PAUSE_MAX),
            jobs => self.jobs = (jobs / 2).max(1),
        }
    }

    fn adjust(&mut self) {
        let heard = std::mem::take(&mut self.heard).us();
        let (Some(beside), Some(alone)) = (heard, self.alone_us) else { return };
        if beside > alone + alone / 2 {
            self.fewer();
        } else if beside <= alone + alone / 4 {
            self.more();
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
    fn what_one_job_costs_clients_of_a_quick_disk_is_made_less_by_pauses() {
        let paused = |alone: u64| {
            let mut pace = Pace::new();
            run(&mut pace, 30_000, |jobs| if jobs > 0 { 3 * alone } else { alone });
            (pace.jobs, pace.pause)
        };
        assert_eq!(paused(100), (1, PAUSE_MAX));
        assert_eq!(paused(SEEKLESS_US), (1, 0), "a disk with heads gains nothing by them");
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
    fn slow_requests_make_pauses_and_none_ends_them() {
        let mut pace = Pace::new();
        let mut now = Tick(1_000_000);
        pace.begins(now);
        // Every fifteenth request meets a job that takes long, if one runs: with pauses it is every forty-fifth.
        let mut number = 0;
        let mut step = |pace: &mut Pace, slow: u64| {
            let arrived = now;
            pace.request_comes(now);
            let jobs = pace.window(now, true);
            if jobs > 0 {
                pace.job_begins(now);
            }
            number += 1;
            let us = if jobs > 0 && number % 15 == 0 { slow } else { 100 };
            now = Tick(now.0 + us);
            pace.request_ends(arrived, now, 0);
            if jobs > 0 {
                pace.job_ends(now);
            }
            (pace.jobs, pace.pause)
        };
        let hurt: Vec<_> = (0..20_000).map(|_| step(&mut pace, 1_000)).skip(10_000).collect();
        assert!(hurt.iter().all(|(jobs, pause)| *jobs <= 2 && *pause <= PAUSE_MAX));
        assert!(hurt.iter().filter(|(_, pause)| *pause == PAUSE_MAX).count() > hurt.len() / 4);
        let well = (0..20_000).map(|_| step(&mut pace, 100)).last();
        assert_eq!(well, Some((RESYNC_JOBS_MAX, 0)), "clients that are not hurt slow nothing");
    }

    #[test]
    fn the_tail_is_what_one_in_a_hundred_is_above_and_forgets() {
        let mut tail = Tail::default();
        let add = |tail: &mut Tail, times: u64, fast: u64, slow: u64| {
            for number in 0..times {
                tail.add(if number % 50 == 49 { slow } else { fast });
            }
        };
        add(&mut tail, 20_000, 200, 900);
        assert!((500..1_100).contains(&tail.us().expect("known")), "{tail:?}");
        add(&mut tail, 20_000, 100, 101);
        assert!((90..130).contains(&tail.us().expect("known")), "{tail:?}");
        tail.keep_below(50);
        assert_eq!(tail.us(), Some(50));
        tail.add(u64::MAX);
        assert!(tail.us().expect("known") < 60, "one request is no news");
    }

    #[test]
    fn slow_clients_are_measured_too() {
        for us in [2_000, 4_000, 8_000, 20_000, 100_000] {
            let windows = run(&mut Pace::new(), 60_000, |_| us);
            assert!(windows.contains(&RESYNC_JOBS_MAX), "{us}: {:?}", windows.iter().max());
            let windows = run(&mut Pace::new(), 60_000, |jobs| us * (1 + jobs as u64));
            let last = &windows[windows.len() / 2..];
            assert!(last.iter().all(|jobs| *jobs <= 2) && last.contains(&1), "{us}: {last:?}");
        }
    }

    #[test]
    fn slow_clients_do_not_hold_it_up() {
        let mut pace = Pace::new();
        let windows = run(&mut pace, 10_000, |_| 50_000);
        let held = windows.iter().filter(|jobs| **jobs == 0).count();
        assert!(held * 10 <= windows.len(), "{held} of {}", windows.len());
    }
}
