//! A network at its worst: connections that end as soon as they begin, peers of another version, replies cut in half.
//!
//! In a storm the dialler comes back within milliseconds, and the other side often does not know that the last
//! connection has ended: for it, one connection replaces another without a gap.

use crate::net::{Content, Net};
use crate::world::{Event, World};
use rblk::wire::message::{Hello, Message, Outcome};
use rblk::wire::{PROTOCOL_3, PROTOCOL_MAX, PROTOCOL_MIN};

/// The weather. Times in microseconds.
#[derive(Default)]
pub(crate) struct Weather {
    /// Until then connections end, so long after their beginning at the latest, and the listener hears of it in so
    /// many percent of the cases.
    storm: (u64, u64, u64),
    /// Until then each node speaks another version of the protocol.
    skew: [u64; 2],
    /// Connections on which it did.
    skewed: Vec<u64>,
}

impl Net {
    /// No fault of the network outlasts this.
    pub(crate) fn calm(&mut self) {
        self.parted_until = 0;
        (self.slow, self.spared) = ((0, 0), 0);
        self.weather.storm = (0, 0, 0);
        self.weather.skew = [0; 2];
    }

    pub(crate) fn storms(&self, now: u64) -> bool {
        now < self.weather.storm.0
    }

    /// Two versions met on this connection.
    pub(crate) fn is_skewed(&self, conn: Option<u64>) -> bool {
        conn.is_some_and(|conn| self.weather.skewed.contains(&conn))
    }
}

impl World {
    pub(crate) fn storm(&mut self, gap: u64, heard: u64, length: u64) {
        self.sums.count("storms");
        self.note(None, || format!("! a storm for {length} us"));
        self.net.weather.storm = (self.now + length, gap, heard);
        let conn = self.net.newest();
        self.gust(conn);
    }

    /// A connection has begun.
    pub(crate) fn weather(&mut self, conn: u64) {
        if self.net.storms(self.now) {
            let lasts = self.rng.below(self.net.weather.storm.1);
            self.after(lasts, Event::Gust { conn });
        }
    }

    /// A connection ends: the dialler sees it at once, the other side often not at all.
    pub(crate) fn gust(&mut self, conn: u64) {
        if !self.net.silence_both(conn) {
            return;
        }
        self.sums.count("connections cut in storms");
        let delay = self.rng.latency(100, 2_000);
        self.after(delay, Event::Disconnected { node: 0, conn });
        if self.rng.chance(self.net.weather.storm.2) {
            let delay = self.rng.latency(100, 20_000);
            self.after(delay, Event::Disconnected { node: 1, conn });
        }
    }

    /// A node was started in another version for a while.
    pub(crate) fn skew(&mut self, node: usize, length: u64) {
        self.sums.count("other versions");
        self.note(Some(node), || format!("! speaks another version for {length} us"));
        self.net.weather.skew[node] = self.now + length;
        self.cut(false);
    }

    /// What it says of itself then.
    pub(crate) fn as_other_version(&mut self, node: usize, conn: u64, message: Message) -> Message {
        let Message::Hello(hello) = message else { return message };
        if self.now >= self.net.weather.skew[node] {
            return message;
        }
        self.net.weather.skewed.push(conn);
        let version = if conn.is_multiple_of(2) { PROTOCOL_MAX + 1 } else { PROTOCOL_MIN - 1 };
        let config = if version < PROTOCOL_3 { 0 } else { hello.config };
        Message::Hello(Hello { protocol_min: version, protocol_max: version, config, ..hello })
    }

    /// The connection ended in the middle of a reply: half of it is in the buffer.
    pub(crate) fn half_arrives(&mut self, node: usize, message: &Message, content: &Content) {
        let (Message::ReadReply { id, outcome: Outcome::Done, .. }, Content::Sectors(data)) =
            (message, content)
        else {
            return;
        };
        if self.nodes[node].take_half(*id, data) {
            self.sums.count("replies cut in half");
        }
    }
}
