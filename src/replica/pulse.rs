//! Signs of life of the peer, and for how long their absence is borne.
//!
//! ```text
//!                    pings every quarter of the limit
//!   heard ──┬───────┬───────┬───────┬──► silent for the limit: the peer is lost
//!           0                       │
//!             floor ◄── four times the slowest round trip of late ──► peer timeout
//! ```
//!
//! How quickly a peer answers when all is well tells how soon silence means something. The configured peer timeout is
//! the most that clients wait; a link that has answered quickly for a while needs less, and is given up earlier, but
//! not below a floor: half the timeout, and [`PEER_SILENCE_MS_MIN`], so that a scheduling gap is not taken for a death.
//! A slow answer widens the limit at once and is forgotten slowly, and every connection begins with the whole timeout:
//! a link that was lost for impatience is not lost again for the same reason.
//!
//! Only silence is judged so. A request at the peer's disk has the whole timeout: disks are slow for other reasons.

use crate::limits::PEER_SILENCE_MS_MIN;
use crate::replica::event::Tick;

/// The limit is so many times the slowest round trip: a ping may wait for a quarter of it, and then take this trip.
const TRIPS: u64 = 4;
/// Of the slowest round trip this part is forgotten each second: half of it in 22 s.
const FADES: u64 = 32;
/// After so many seconds nothing of it matters.
const FADED_S: u64 = 1_000;

/// Of one connection. Times in microseconds, as those of [`Tick`].
#[derive(Debug)]
pub(super) struct Pulse {
    timeout_us: u64,
    began: Tick,
    /// When something of the peer was heard last, later by the time in which this node did not run.
    heard: Tick,
    spoke: Tick,
    /// When the newest of what the peer has answered was sent: then at the latest it still had this connection.
    echoed: Tick,
    /// Pings sent and answered; answers keep the order.
    pings: u64,
    pongs: u64,
    pinged: Tick,
    /// A ping whose answer is waited for, and when it was sent.
    stamp: Option<(u64, Tick)>,
    /// The slowest round trip of late, and since when it fades. `None` until the connection is up.
    slowest: Option<(u64, Tick)>,
    /// Nobody is blamed for silence before this time: this node itself did not run.
    grace: Tick,
}

impl Pulse {
    /// Of a connection that begins now.
    pub(super) fn of(now: Tick, timeout_ms: u64) -> Pulse {
        Pulse {
            timeout_us: timeout_ms * 1000,
            began: now,
            heard: now,
            spoke: now,
            echoed: now, // a connection that comes up has answered its Hello
            pings: 0,
            pongs: 0,
            pinged: now,
            stamp: None,
            slowest: None,
            grace: Tick(0),
        }
    }

    /// The greeting is over: from here on answers are quick, or the link is slow.
    pub(super) fn link_is_up(&mut self, now: Tick) {
        self.slowest = Some((self.timeout_us / TRIPS, now));
    }

    /// The connection is gone; when the peer was heard last stays known.
    pub(super) fn end(&mut self) {
        self.slowest = None;
    }

    /// Silence for so long is the end, in microseconds.
    pub(super) fn limit_us(&self) -> u64 {
        let floor = (self.timeout_us / 2).max(PEER_SILENCE_MS_MIN * 1000).min(self.timeout_us);
        let wanted = self.slowest.map_or(self.timeout_us, |(slowest, _)| TRIPS * slowest);
        wanted.clamp(floor, self.timeout_us)
    }

    /// Silence so long that the peer is asked for a sign, in microseconds.
    pub(super) fn quarter_us(&self) -> u64 {
        self.limit_us() / 4
    }

    /// Something of the peer has arrived.
    pub(super) fn hear(&mut self, now: Tick) {
        self.heard = now;
    }

    /// Something was sent to it.
    pub(super) fn speak(&mut self, now: Tick) {
        self.spoke = now;
    }

    /// It has answered something that was sent at `sent`.
    pub(super) fn echo(&mut self, sent: Tick) {
        self.echoed = self.echoed.max(sent);
    }

    /// It is asked for a sign.
    pub(super) fn ping(&mut self, now: Tick) {
        self.pings += 1;
        self.pinged = now;
        self.stamp = self.stamp.or(Some((self.pings, now)));
    }

    /// It has answered the oldest ping.
    pub(super) fn ponged(&mut self, now: Tick) {
        self.pongs = self.pings.min(self.pongs + 1);
        if let Some((_, sent)) = self.stamp.take_if(|(number, _)| *number <= self.pongs) {
            self.echo(sent);
            self.fade(now);
            if let Some((slowest, _)) = &mut self.slowest {
                // No more than matters: what is slower is forgotten no later.
                *slowest = now.since(sent).min(self.timeout_us / TRIPS).max(*slowest);
            }
        }
    }

    /// Slow answers of long ago are forgotten.
    pub(super) fn fade(&mut self, now: Tick) {
        let Some((slowest, since)) = &mut self.slowest else { return };
        let seconds = now.since(*since) / 1_000_000;
        for _ in 0..seconds.min(FADED_S) {
            *slowest -= *slowest / FADES;
        }
        *since = Tick(since.0 + seconds * 1_000_000);
    }

    /// It is time to ask for a sign: nothing was heard or said for a while, or how long an answer takes is not known.
    pub(super) fn wants_ping(&self, now: Tick) -> bool {
        let quarter = self.quarter_us();
        [self.heard, self.spoke, self.pinged].iter().any(|last| now.since(*last) >= quarter)
    }

    /// When the connection began.
    pub(super) fn began(&self) -> Tick {
        self.began
    }

    pub(super) fn heard(&self) -> Tick {
        self.heard
    }

    pub(super) fn silent_us(&self, now: Tick) -> u64 {
        now.since(self.heard)
    }

    pub(super) fn is_silent(&self, now: Tick) -> bool {
        self.silent_us(now) >= self.limit_us()
    }

    pub(super) fn echoed_since(&self, now: Tick) -> u64 {
        now.since(self.echoed)
    }

    /// This node did not run for `gap`: what the peer said meanwhile has not been looked at. So little of a gap counts
    /// as silence, and not none: a node that stumbles all the time must notice a dead peer, too.
    pub(super) fn gap(&mut self, now: Tick, gap: u64) {
        let counts = gap.min(self.quarter_us());
        self.heard = now.min(Tick(self.heard.0 + gap - counts));
        if gap > self.timeout_us / 2 {
            self.grace = Tick(now.0 + self.timeout_us / 2);
        }
    }

    pub(super) fn in_grace(&self, now: Tick) -> bool {
        now < self.grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    /// Of a link whose answers take `trip` each, after so many seconds of a ping each.
    fn after(timeout_ms: u64, trip: u64, seconds: u64) -> Pulse {
        let mut pulse = Pulse::of(Tick(0), timeout_ms);
        pulse.link_is_up(Tick(0));
        for second in 0..seconds {
            pulse.ping(Tick(second * S));
            pulse.ponged(Tick(second * S + trip));
        }
        pulse
    }

    #[test]
    fn a_quick_link_is_given_up_earlier_but_not_below_the_floor() {
        let limits = |timeout_ms| {
            [0, 10, 20, 60, 600].map(|seconds| after(timeout_ms, 500, seconds).limit_us() / 1000)
        };
        assert_eq!(limits(4_000), [4_000, 3_005, 2_188, 2_000, 2_000]);
        assert_eq!(limits(10_000), [10_000, 7_514, 5_470, 5_000, 5_000]);
        assert_eq!(limits(2_000), [2_000; 5], "below the floor a timeout is what was asked for");
        assert_eq!(limits(500), [500; 5]);
    }

    #[test]
    fn the_limit_never_exceeds_the_timeout() {
        for timeout_ms in [500, 2_000, 4_000, 25_000] {
            for trip in [0, S / 10, S, 100 * S] {
                let limit = after(timeout_ms, trip, 100).limit_us();
                assert!(limit <= timeout_ms * 1000, "{limit}");
            }
        }
    }

    #[test]
    fn a_slow_answer_widens_it_at_once_and_is_forgotten_slowly() {
        let mut pulse = after(4_000, 500, 60);
        pulse.ping(Tick(100 * S));
        pulse.ponged(Tick(101 * S));
        assert_eq!(pulse.limit_us(), 4 * S);
        let at = [10, 30].map(|seconds| {
            pulse.fade(Tick((101 + seconds) * S));
            pulse.limit_us() / 1000
        });
        assert_eq!(at, [2_911, 2_000]);
    }

    #[test]
    fn a_very_slow_answer_is_forgotten_like_a_slow_one() {
        let mut pulse = after(4_000, 500, 60);
        pulse.ping(Tick(100 * S));
        pulse.ponged(Tick(200 * S));
        pulse.fade(Tick(230 * S));
        assert_eq!(pulse.limit_us(), 2 * S);
    }

    /// It runs for 10 ms between them: a peer that is silent is found, and one that is not has its say in between.
    #[test]
    fn a_node_that_stumbles_all_the_time_notices_a_dead_peer() {
        for gap in [400_000, 600_000, 1_100_000, 2_100_000, 60 * S] {
            let mut pulse = after(4_000, 500, 60);
            let mut now = Tick(60 * S);
            pulse.hear(now);
            let mut gaps = 0;
            while !pulse.is_silent(now) {
                now = Tick(now.0 + gap);
                pulse.gap(now, gap);
                gaps += 1;
                now = Tick(now.0 + 10_000);
                assert!(gaps <= 5, "{gap}");
            }
            assert!(gaps >= 4, "one gap proves nothing: {gap}");
        }
    }

    #[test]
    fn a_gap_makes_nobody_heard_in_the_future() {
        let mut pulse = after(4_000, 500, 60);
        pulse.hear(Tick(60 * S));
        pulse.gap(Tick(61 * S), 5 * S);
        assert_eq!(pulse.heard(), Tick(61 * S));
        assert!(pulse.in_grace(Tick(62 * S)) && !pulse.in_grace(Tick(63 * S)));
    }

    #[test]
    fn a_ping_in_time_leaves_room_for_the_trip_that_the_limit_is_made_of() {
        for timeout_ms in [4_000, 25_000] {
            for trip in [500, 100_000, S] {
                let pulse = after(timeout_ms, trip, 1_000);
                assert!(pulse.quarter_us() + trip < pulse.limit_us());
            }
        }
    }

    #[test]
    fn a_link_under_load_is_measured_too() {
        let mut pulse = after(4_000, 500, 60);
        let now = Tick(61 * S);
        pulse.hear(now);
        pulse.speak(now);
        assert!(pulse.wants_ping(now), "the last ping was sent two seconds ago");
        pulse.ping(now);
        assert!(!pulse.wants_ping(now));
    }
}
