//! What is known of each resource: its last state, how fast its counters move, what has happened.

use super::source::News;
use super::view::{self, Line};
use crate::ctl::proto::Event;
use crate::ctl::status::{Latency, Resource};
use crate::limits::HOP_BOUNDS_US;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Rates are means over this time.
const WINDOW: Duration = Duration::from_secs(5);
/// Changes that are kept of each resource.
const EVENTS_KEPT: usize = 8;
/// Looks that are kept for rates: they come about once a second, and with each change.
const LOOKS_KEPT: usize = 64;

/// All resources, by name.
#[derive(Default)]
pub(super) struct Board {
    entries: BTreeMap<String, Entry>,
}

/// One resource.
#[derive(Default)]
pub(super) struct Entry {
    /// The last state; `None` while there is no daemon.
    pub(super) status: Option<Box<Resource>>,
    /// Why there is none.
    pub(super) silence: String,
    /// The last changes, oldest first.
    pub(super) events: VecDeque<Event>,
    looks: VecDeque<Look>,
}

/// The counters at a time.
struct Look {
    at: Instant,
    pid: u32,
    counters: Counters,
    latency: Vec<Latency>,
}

/// KiB since the start of the daemon, or bytes a second.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(super) struct Counters {
    pub(super) read: u64,
    pub(super) written: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Board {
    /// A resource of which nothing is known yet.
    pub(super) fn expect(&mut self, name: &str) {
        let entry = self.entries.entry(name.to_owned()).or_default();
        "has not answered yet".clone_into(&mut entry.silence);
    }

    /// True if a state has changed, not only counters.
    pub(super) fn take(&mut self, name: &str, news: News, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        match news {
            News::Silence(why) => {
                let changed = entry.status.is_some() || entry.silence != why;
                entry.status = None;
                entry.looks.clear();
                entry.silence = why;
                changed
            }
            News::State { status, events, missed } => {
                let changed = entry.status.is_none() || !events.is_empty() || missed > 0;
                entry.look(&status, now);
                // Who answers again may tell again what was told before.
                let told = entry.events.back().filter(|_| entry.status.is_none());
                let told = told.map(|event| event.unix_ms);
                let new = |event: &Event| told.is_none_or(|told| event.unix_ms > told);
                entry.events.extend(events.into_iter().filter(new));
                entry.status = Some(status);
                while entry.events.len() > EVENTS_KEPT {
                    entry.events.pop_front();
                }
                changed
            }
        }
    }

    /// Everything, in lines of at most `width` columns.
    pub(super) fn lines(&self, width: usize) -> Vec<Line> {
        if self.entries.is_empty() {
            return view::nothing(width);
        }
        let entries = self.entries.iter();
        entries.flat_map(|(name, entry)| view::resource(name, entry, width)).collect()
    }
}

impl Entry {
    fn look(&mut self, status: &Resource, at: Instant) {
        let (device, peer) = (status.device(), status.connection());
        let peer = peer.peer_devices.first();
        let counters = Counters {
            read: device.read,
            written: device.written,
            received: peer.map_or(0, |peer| peer.received),
            sent: peer.map_or(0, |peer| peer.sent),
        };
        let pid = status.rblk.pid;
        // Another daemon counts from the beginning.
        if self.looks.back().is_some_and(|last| last.pid != pid) {
            self.looks.clear();
        }
        let latency = status.rblk.latency.clone();
        self.looks.push_back(Look { at, pid, counters, latency });
        while self.looks.len() > LOOKS_KEPT
            || self.looks.get(1).is_some_and(|second| at - second.at >= WINDOW)
        {
            self.looks.pop_front();
        }
    }

    /// Bytes a second, over the last seconds; `None` if there were not two looks yet.
    pub(super) fn rates(&self) -> Option<Counters> {
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        let seconds = (last.at - first.at).as_secs_f64();
        let rate = |of: fn(&Counters) -> u64| {
            let kib = of(&last.counters).saturating_sub(of(&first.counters));
            (kib as f64 * 1024.0 / seconds) as u64
        };
        (seconds > 0.0).then(|| Counters {
            read: rate(|at| at.read),
            written: rate(|at| at.written),
            received: rate(|at| at.received),
            sent: rate(|at| at.sent),
        })
    }

    /// How long half of the requests, and 99 of 100, took at each hop that any have passed in the last seconds.
    pub(super) fn times(&self) -> Vec<Passed<'_>> {
        let (Some(first), Some(last)) = (self.looks.front(), self.looks.back()) else {
            return Vec::new();
        };
        let passed = |now: &'_ Latency| {
            let before = first.latency.iter().find(|hop| hop.hop == now.hop);
            let before = before.map_or(&[][..], |hop| &hop.buckets);
            let before = before.iter().copied().chain(std::iter::repeat(0));
            let counts = now.buckets.iter().zip(before).map(|(now, then)| now.saturating_sub(then));
            let counts: Vec<u64> = counts.collect();
            percentile(&counts, 0.5).zip(percentile(&counts, 0.99))
        };
        let hops = last.latency.iter();
        hops.filter_map(|hop| {
            passed(hop).map(|(p50_us, p99_us)| Passed { hop: &hop.hop, p50_us, p99_us })
        })
        .collect()
    }
}

/// Times of a hop in the last seconds, in microseconds.
pub(super) struct Passed<'a> {
    pub(super) hop: &'a str,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

/// The time that `share` of all stayed below, taking those of a bucket as spread evenly over it; `None` if there are
/// none.
fn percentile(counts: &[u64], share: f64) -> Option<u64> {
    let all: u64 = counts.iter().sum();
    let mut left = all as f64 * share;
    let mut low = 0;
    for (at, count) in counts.iter().enumerate() {
        let high = HOP_BOUNDS_US.get(at).copied().unwrap_or(low);
        if *count > 0 && left <= *count as f64 {
            return Some(low + ((high - low) as f64 * left / *count as f64) as u64);
        }
        left -= *count as f64;
        low = high;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::status::sample;

    #[test]
    fn times_are_of_the_last_seconds() {
        let status = |counts: &[u64]| {
            let mut status = sample();
            status.rblk.latency[0].buckets = counts.to_vec();
            News::State { status: Box::new(status), events: vec![], missed: 0 }
        };
        let mut board = Board::default();
        board.expect("a");
        let begun = Instant::now();
        board.take("a", status(&[900]), begun);
        assert!(board.entries["a"].times().is_empty(), "nothing since");
        board.take("a", status(&[900, 0, 0, 100]), begun + Duration::from_secs(1));
        let times = board.entries["a"].times();
        assert_eq!((times[0].hop, times[0].p50_us, times[0].p99_us), ("peer", 75, 99));
    }

    #[test]
    fn what_took_longer_than_all_bounds_is_told_as_the_last() {
        let mut counts = vec![0; HOP_BOUNDS_US.len() + 1];
        *counts.last_mut().expect("one") = 3;
        assert_eq!(percentile(&counts, 0.5), HOP_BOUNDS_US.last().copied());
        assert_eq!(percentile(&[], 0.5), None);
    }

    fn state(written: u64, pid: u32) -> News {
        let mut status = sample();
        status.devices[0].written = written;
        status.rblk.pid = pid;
        News::State { status: Box::new(status), events: vec![], missed: 0 }
    }

    #[test]
    fn rates_are_of_the_last_seconds_and_of_one_daemon() {
        let mut board = Board::default();
        let begun = Instant::now();
        board.expect("a");
        let mut take =
            |second: u64, news| board.take("a", news, begun + Duration::from_secs(second));
        assert!(take(0, state(0, 1)));
        for second in 1..=10 {
            assert!(!take(second, state(if second < 5 { 0 } else { (second - 5) * 100 }, 1)));
        }
        let rates = board.entries["a"].rates().expect("two looks");
        assert_eq!((rates.written, rates.read), (100 * 1024, 0));
        board.take("a", state(5, 2), begun + Duration::from_secs(11));
        assert_eq!(board.entries["a"].rates(), None, "a new daemon");
    }

    #[test]
    fn a_daemon_that_is_gone_is_told_once() {
        let mut board = Board::default();
        board.expect("a");
        let now = Instant::now();
        assert!(board.take("a", state(0, 1), now));
        assert!(board.take("a", News::Silence("gone".to_owned()), now));
        assert!(!board.take("a", News::Silence("gone".to_owned()), now));
        assert!(board.take("a", state(0, 2), now));
        assert!(!board.take("stranger", state(0, 2), now));
    }
}
