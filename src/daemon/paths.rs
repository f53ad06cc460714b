//! Which way to the peer is tried, and when. A path is a pair of addresses, one of each node; there is one, or two.
//!
//! ```text
//!   first attempt ─────────────► 1 ──failed──► 2 ──failed──► pause ──► 1 ...
//!   connection ended in good
//!   order, or was reset ───────► 1             never two at once, and at most one round in a pause
//!   connection on 1 fell silent ► 2 ──failed──► pause ──► 1 ──failed──► 2 ...
//!   connection on 2 fell silent ► 1 ...
//!   three on 1 broke soon ──────► 2 ...
//! ```
//!
//! A connection that works is never given up for the other path: that would cost its clients a stall.
//!
//! Pure: it decides, and has no socket.

use crate::limits::{PATH_ATTEMPT_MS_MIN, PATH_BREAKS_MAX, RECONNECT_MS};
use std::net::{IpAddr, SocketAddr};

/// A connection that breaks earlier may have met what breaks the next one, too.
const LASTING_MS_MIN: u64 = 10_000;

/// A pair of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Path {
    /// This node's.
    pub(super) mine: SocketAddr,
    /// The peer's.
    pub(super) peer: SocketAddr,
}

/// What follows from a failed attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Failed {
    /// The last attempt on this path did not fail for the same reason.
    pub(super) is_new: bool,
    /// Until the next attempt, in milliseconds.
    pub(super) pause_ms: u64,
}

/// How a connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The peer said goodbye.
    InOrder,
    /// The peer was silent, or never said anything.
    Silent,
    /// In another way, so many milliseconds after it was made.
    Broken { lasted_ms: u64 },
}

/// All paths, and the one whose turn it is. A path is called by its index.
pub(super) struct Paths {
    all: Vec<Path>,
    next: usize,
    /// Why the last attempt on each came to nothing.
    why: Vec<Option<String>>,
    timeout_ms: u64,
    /// Connections in a row that broke soon, all on this path, and how many.
    broke: (usize, u32),
}

impl Paths {
    /// Of these, the first being preferred, with a peer that is lost after `timeout_ms` of silence.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn new(all: Vec<Path>, timeout_ms: u64) -> Paths {
        assert!(!all.is_empty(), "there is a path");
        let why = vec![None; all.len()];
        Paths { all, next: 0, why, timeout_ms, broke: (0, 0) }
    }

    /// The one to be tried.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// Both ends of path `at`.
    pub(super) fn get(&self, at: usize) -> Path {
        self.all[at]
    }

    /// This node's end of each.
    pub(super) fn mine(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.all.iter().map(|path| path.mine)
    }

    /// Another path is there to be tried.
    pub(super) fn has_choice(&self) -> bool {
        self.all.len() > 1
    }

    /// What a connection on `at` has to come from: without it the kernel may lead both paths through one interface.
    /// `None` if it may come from anywhere: there is one path, or its ends are of different families.
    pub(super) fn source(&self, at: usize) -> Option<SocketAddr> {
        let Path { mine, peer } = self.all[at];
        let bound = self.has_choice() && mine.is_ipv4() == peer.is_ipv4();
        bound.then(|| SocketAddr::new(mine.ip(), 0))
    }

    /// An attempt to connect is given up after this long, in milliseconds; `alone` is the time if there is no other
    /// path to be tried.
    pub(super) fn patience_ms(&self, alone: u64) -> u64 {
        if self.has_choice() { (self.timeout_ms / 4).max(PATH_ATTEMPT_MS_MIN) } else { alone }
    }

    /// `ip` is the peer's, on whichever path.
    pub(super) fn is_peer(&self, ip: IpAddr) -> bool {
        self.all.iter().any(|path| path.peer.ip().to_canonical() == ip.to_canonical())
    }

    /// For a line of the log: which path, if there is a choice.
    pub(super) fn said(&self, at: usize) -> String {
        let Path { mine, peer } = self.all[at];
        match self.has_choice() {
            true => format!(" on path {} ({mine} to {peer})", at + 1),
            false => String::new(),
        }
    }

    /// An attempt on `at` came to nothing. The other path has its turn: after the last one there is a pause.
    pub(super) fn failed(&mut self, at: usize, why: &str) -> Failed {
        let is_new = self.why[at].as_deref() != Some(why);
        self.why[at] = Some(why.to_owned());
        self.next = self.after(at);
        Failed { is_new, pause_ms: if self.next == 0 { RECONNECT_MS } else { 0 } }
    }

    /// Why the last attempts failed, on each path.
    pub(super) fn reasons(&self) -> Option<String> {
        let known: Vec<&str> = self.why.iter().flatten().map(String::as_str).collect();
        (!known.is_empty()).then(|| known.join("; "))
    }

    /// There is a connection.
    pub(super) fn connected(&mut self) {
        self.why.fill(None);
    }

    /// A connection on `at` has ended. If the peer was silent there, the other path is tried first; and if one after
    /// the other has broken there: a cable may corrupt what is large, somebody may cut what he cannot read.
    pub(super) fn ended(&mut self, at: usize, end: End) {
        let soon = match end {
            End::Broken { lasted_ms } => lasted_ms < self.lasting_ms(),
            End::InOrder | End::Silent => false,
        };
        self.broke = match self.broke {
            _ if !soon => (at, 0),
            (path, times) if path == at => (at, times + 1),
            _ => (at, 1),
        };
        let leaves = end == End::Silent || self.broke.1 >= PATH_BREAKS_MAX;
        if leaves {
            self.broke = (at, 0);
        }
        self.next = if leaves { self.after(at) } else { 0 };
    }

    /// What lasts so long, in milliseconds, works: each node would have noticed silence by then.
    fn lasting_ms(&self) -> u64 {
        (3 * self.timeout_ms).max(LASTING_MS_MIN)
    }

    /// As at the start.
    pub(super) fn begin_anew(&mut self) {
        self.next = 0;
        self.broke = (0, 0);
        self.connected();
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) % self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: u8) -> Path {
        let at = |host: u8| SocketAddr::from(([10, number, 0, host], 7790));
        Path { mine: at(1), peer: at(2) }
    }

    fn one() -> Paths {
        Paths::new(vec![path(0)], 4000)
    }

    fn two(timeout_ms: u64) -> Paths {
        Paths::new(vec![path(0), path(1)], timeout_ms)
    }

    #[test]
    fn attempts_alternate_and_a_round_ends_with_a_pause() {
        let mut paths = two(4000);
        let mut tried = Vec::new();
        for _ in 0..6 {
            let at = paths.next();
            tried.push((at, paths.failed(at, "nobody answers").pause_ms));
        }
        let round = [(0, 0), (1, RECONNECT_MS)];
        assert_eq!(tried, [round, round, round].concat());
        let mut paths = one();
        for _ in 0..3 {
            assert_eq!(paths.next(), 0);
            assert_eq!(paths.failed(0, "nobody answers").pause_ms, RECONNECT_MS);
        }
    }

    #[test]
    fn silence_leads_to_the_other_path_and_an_end_in_good_order_to_the_first() {
        let mut paths = two(4000);
        let (silent, order, late) = (End::Silent, End::InOrder, End::Broken { lasted_ms: 12_000 });
        for (at, end, next) in [
            (0, silent, 1),
            (1, silent, 0),
            (0, order, 0),
            (1, late, 0),
            (0, late, 0),
            (0, silent, 1),
        ] {
            paths.ended(at, end);
            assert_eq!(paths.next(), next, "{at} {end:?}");
        }
        // The other one is down as well: back to the first, and so on.
        assert_eq!(paths.failed(1, "down").pause_ms, RECONNECT_MS);
        assert_eq!(paths.next(), 0);
        paths.ended(0, End::Silent);
        paths.begin_anew();
        assert_eq!((paths.next(), paths.reasons()), (0, None));
        let mut paths = one();
        paths.ended(0, End::Silent);
        assert_eq!(paths.next(), 0);
    }

    #[test]
    fn a_path_that_lets_a_greeting_through_and_no_more_is_left() {
        let soon = End::Broken { lasted_ms: 11_999 };
        let mut paths = two(4000);
        let mut tried = Vec::new();
        for _ in 0..8 {
            let at = paths.next();
            tried.push(at);
            paths.ended(at, if at == 0 { soon } else { End::Broken { lasted_ms: 60_000 } });
        }
        assert_eq!(tried, [0, 0, 0, 1, 0, 0, 0, 1]);
        // A peer that is started again now and then is met on the first path.
        let mut paths = two(4000);
        for end in [soon, soon, End::InOrder, soon, soon, End::Broken { lasted_ms: 12_000 }, soon] {
            paths.ended(0, end);
            assert_eq!(paths.next(), 0, "{end:?}");
        }
        let mut paths = one();
        for _ in 0..5 {
            paths.ended(0, soon);
            assert_eq!(paths.next(), 0);
        }
    }

    #[test]
    fn an_attempt_leaves_time_for_the_other_path() {
        assert_eq!(one().patience_ms(4000), 4000);
        assert_eq!(one().patience_ms(5000), 5000);
        assert_eq!(two(4000).patience_ms(4000), 1300);
        assert_eq!(two(25_000).patience_ms(5000), 6250);
        assert_eq!(two(500).patience_ms(500), 1300);
    }

    #[test]
    fn a_connection_comes_from_the_address_of_its_path() {
        let paths = two(4000);
        let sources = [0, 1].map(|at| paths.source(at).map(|from| from.to_string()));
        assert_eq!(sources, [Some("10.0.0.1:0".to_owned()), Some("10.1.0.1:0".to_owned())]);
        assert_eq!(one().source(0), None, "one path is as it always was");
        let mixed = Path { peer: "[fd00::2]:7790".parse().expect("an address"), ..path(0) };
        assert_eq!(Paths::new(vec![mixed, path(1)], 4000).source(0), None);
    }

    #[test]
    fn the_peer_is_known_by_either_address() {
        let paths = two(4000);
        let known = |paths: &Paths, ip: [u8; 4]| paths.is_peer(IpAddr::from(ip));
        assert!(known(&paths, [10, 0, 0, 2]) && known(&paths, [10, 1, 0, 2]));
        assert!(!known(&paths, [10, 0, 0, 1]) && !known(&paths, [10, 2, 0, 2]));
        assert!(!known(&one(), [10, 1, 0, 2]));
    }

    #[test]
    fn a_reason_is_new_once_on_each_path() {
        let mut paths = two(4000);
        let mut is_new = |at, why| paths.failed(at, why).is_new;
        assert!(is_new(0, "timed out") && is_new(1, "refused"));
        assert!(!is_new(0, "timed out") && !is_new(1, "refused"));
        assert!(is_new(1, "timed out"));
        assert_eq!(paths.reasons().as_deref(), Some("timed out; timed out"));
        paths.connected();
        assert_eq!(paths.reasons(), None);
        assert_eq!(one().said(0), "");
        assert_eq!(paths.said(1), " on path 2 (10.1.0.1:7790 to 10.1.0.2:7790)");
    }
}
