//! The network: one connection at a time, dialled by node 0; messages in order per direction, or not at all.
//!
//! A message becomes a frame by the production codec and is parsed again at the other end. What may happen to a
//! connection: both directions end at any message, each side hears of it later or never (half-open); one direction
//! falls silent; everything takes seconds. Messages of a connection that was closed here may still arrive.

use crate::fate::Moment;
use crate::node::Fact;
use crate::rng::Rng;
use crate::storm::Weather;
use crate::world::{Event, World};
use crate::worlds::inject::Passage;
use rblk::limits::PAGE_BIT_BYTES;
use rblk::wire::frame::{FRAME_BYTES_MAX, HEADER_BYTES, Header, encode};
use rblk::wire::message::Message;
use std::collections::BTreeMap;

/// The payload of a message: a number per sector instead of 512 bytes.
pub(crate) enum Content {
    None,
    Sectors(Vec<u32>),
    Bits(Box<[u8; PAGE_BIT_BYTES]>),
    Digests(Vec<u8>),
}

impl Content {
    fn crc(&self) -> u32 {
        match self {
            Content::None => 0,
            Content::Sectors(sectors) => sectors
                .iter()
                .fold(1, |crc, value| crc32c::crc32c_append(crc, &value.to_le_bytes())),
            Content::Bits(bits) => crc32c::crc32c(&bits[..]),
            Content::Digests(bytes) => crc32c::crc32c(bytes),
        }
    }
}

/// A message on the wire.
pub(crate) struct Frame {
    bytes: Vec<u8>,
    content: Content,
}

impl Frame {
    fn encode(message: &Message, content: Content) -> Frame {
        let mut bytes = [0; FRAME_BYTES_MAX];
        let sectors = match &content {
            Content::None => 0,
            Content::Sectors(sectors) => sectors.len() as u64 * 512,
            Content::Bits(bits) => bits.len() as u64,
            Content::Digests(bytes) => bytes.len() as u64,
        };
        assert!(sectors == message.payload_bytes(), "oracle wire: payload of another length");
        let length = encode(message, content.crc(), &mut bytes);
        Frame { bytes: bytes[..length].to_vec(), content }
    }

    fn decode(self) -> (Message, Content) {
        let header = self.bytes.first_chunk::<HEADER_BYTES>().expect("a whole header");
        let header = Header::parse(header).expect("oracle wire: a header parses");
        assert!(header.extension_bytes() == self.bytes.len() - HEADER_BYTES);
        let message = header.message(&self.bytes[HEADER_BYTES..]);
        let message = message.expect("oracle wire: a message parses");
        assert!(header.payload_crc() == self.content.crc(), "oracle wire: checksum");
        (message, self.content)
    }

    /// A message for the trace, short.
    pub(crate) fn name(message: &Message) -> String {
        let text = match message {
            Message::Hello(_) => "Hello".to_string(),
            Message::State(state) => format!(
                "State {:?} base {:?} {:?} {:?} {} c{} s{} k{}",
                state.current,
                state.base,
                state.disk,
                state.role,
                state.dirty_blocks,
                u8::from(state.crashed),
                u8::from(state.survivor),
                u8::from(state.kept),
            ),
            other => format!("{other:?}"),
        };
        text.replace("outcome: ", "").replace(['{', '}'], "")
    }
}

/// A connection.
struct Conn {
    /// Nothing more arrives at this node.
    silent: [bool; 2],
    /// When the last message arrives at this node.
    last: [u64; 2],
    /// A message to this node was cut in the middle.
    torn: [bool; 2],
    life: [u32; 2],
}

/// The state of the network. Times in microseconds.
#[derive(Default)]
pub(crate) struct Net {
    newest: u64,
    conns: BTreeMap<u64, Conn>,
    dialling: bool,
    /// No connection before this time.
    pub(crate) parted_until: u64,
    /// Every message takes this long in addition, until then.
    pub(crate) slow: (u64, u64),
    /// But for so many of a hundred.
    pub(crate) spared: u64,
    pub(crate) weather: Weather,
}

impl Net {
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Nothing more arrives on a connection. False if that was so.
    pub(crate) fn silence_both(&mut self, conn: u64) -> bool {
        let Some(found) = self.conns.get_mut(&conn) else { return false };
        std::mem::replace(&mut found.silent, [true; 2]) != [true; 2]
    }
}

impl World {
    /// Node 0 tries to connect in a moment, if it should.
    pub(crate) fn dial_soon(&mut self) {
        if !self.net.dialling {
            self.net.dialling = true;
            let longest = if self.net.storms(self.now) { 3_000 } else { 600_000 };
            let pause = self.rng.between(1_000, longest);
            self.after(pause, Event::Dial);
        }
    }

    pub(crate) fn dial(&mut self) {
        self.net.dialling = false;
        let [one, two] = &self.nodes;
        if !one.wants_peer() || one.open.is_some() {
            return;
        }
        let reachable = self.now >= self.net.parted_until && two.wants_peer();
        if one.paused || !reachable {
            self.dial_soon();
            return;
        }
        self.net.newest += 1;
        let conn = self.net.newest;
        let lives = [one.life, two.life];
        let at = [0, 1].map(|_| self.now + self.rng.latency(100, 20_000));
        self.net
            .conns
            .insert(conn, Conn { silent: [false; 2], last: at, torn: [false; 2], life: lives });
        self.net.conns.retain(|number, _| number + 4 > conn);
        for node in [0, 1] {
            self.at(at[node], Event::Connected { node, conn });
        }
        // Whoever dials holds the connection from now on.
        self.nodes[0].open = Some(conn);
        self.sums.count("connections");
        self.weather(conn);
    }

    pub(crate) fn connected(&mut self, node: usize, conn: u64) {
        let life = self.nodes[node].life;
        let Some(found) = self.net.conns.get(&conn) else { return };
        if found.life[node] != life {
            return;
        }
        if found.silent[node] {
            // Cut before it was whole: the dialler learns at once that it failed.
            if node == 0 && self.nodes[0].open == Some(conn) {
                self.nodes[0].open = None;
                self.dial_soon();
            }
            return;
        }
        if node == 0 && self.nodes[0].open != Some(conn) {
            return;
        }
        self.tell(node, Fact::Connected { conn });
    }

    /// The core sends.
    pub(crate) fn send(&mut self, node: usize, conn: u64, message: Message, content: Content) {
        if self.nodes[node].open != Some(conn) {
            return; // closed a moment ago
        }
        let message = self.as_other_version(node, conn, message);
        let frame = Box::new(Frame::encode(&message, content));
        let peer = 1 - node;
        let mut delay = self.rng.latency(self.plan.net_typical, self.plan.net_worst);
        let spared = self.net.spared > 0 && self.rng.chance(self.net.spared);
        if self.now < self.net.slow.0 && !spared {
            delay += self.net.slow.1;
        }
        let Some(found) = self.net.conns.get_mut(&conn) else { return };
        found.last[peer] = (self.now + delay).max(found.last[peer]);
        let at = found.last[peer];
        self.at(at, Event::Deliver { node: peer, conn, frame });
        self.moment(node, Moment::Message, at - self.now);
    }

    pub(crate) fn deliver(&mut self, node: usize, conn: u64, frame: Frame) {
        let life = self.nodes[node].life;
        let Some(found) = self.net.conns.get_mut(&conn) else { return };
        if found.life[node] != life {
            return;
        }
        if found.silent[node] {
            if !std::mem::replace(&mut found.torn[node], true) && self.nodes[node].is_running() {
                let (message, content) = frame.decode();
                self.half_arrives(node, &message, &content);
            }
            return;
        }
        let passage = self.inject_message(node);
        if matches!(passage, Passage::Lost) {
            return;
        }
        let (message, content) = frame.decode();
        self.tell(node, Fact::Received { conn, message, content });
        if let Passage::Last(number) = passage {
            self.cut_now(number);
        }
    }

    pub(crate) fn disconnected(&mut self, node: usize, conn: u64) {
        let known =
            self.net.conns.get(&conn).is_some_and(|c| c.life[node] == self.nodes[node].life);
        if known {
            self.tell(node, Fact::Disconnected { conn });
        } else {
            self.hears_end(node, conn);
        }
    }

    /// A driver learns that a connection is up. One that is paused learns it later, after what came before.
    pub(crate) fn hears_begin(&mut self, node: usize, conn: u64) {
        self.nodes[node].expect_nothing();
        self.nodes[node].open = Some(conn);
    }

    /// A driver learns that a connection has ended.
    pub(crate) fn hears_end(&mut self, node: usize, conn: u64) {
        if self.nodes[node].open == Some(conn) {
            self.nodes[node].open = None;
            self.nodes[node].expect_nothing();
        }
        if node == 0 {
            self.dial_soon();
        }
    }

    /// A core closes its end.
    pub(crate) fn close(&mut self, node: usize, conn: u64, drain: bool) {
        if self.nodes[node].open == Some(conn) {
            self.nodes[node].open = None;
            self.nodes[node].expect_nothing();
        }
        let (peer, late, lost) = (1 - node, self.rng.chance(30), self.rng.chance(50));
        if self.rng.chance(50) {
            let delay = self.rng.latency(50, 5_000);
            self.after(delay, Event::Disconnected { node, conn });
        }
        let parted = self.now < self.net.parted_until;
        let delay = self.rng.latency(self.plan.net_typical, self.plan.net_worst);
        if let Some(found) = self.net.conns.get_mut(&conn) {
            found.silent[node] |= !late;
            found.silent[peer] |= lost && !drain;
            let unheard = found.silent[peer] && self.rng.chance(20);
            let heard = !parted && !unheard;
            let at = found.last[peer].max(self.now) + delay;
            if heard {
                self.at(at, Event::Disconnected { node: peer, conn });
            }
        }
        if node == 0 {
            self.dial_soon();
        }
    }

    /// Ends the newest connection both ways. With `half_open`, a side may never hear of it.
    pub(crate) fn cut(&mut self, half_open: bool) {
        let conn = self.net.newest;
        let Some(found) = self.net.conns.get_mut(&conn) else { return };
        found.silent = [true; 2];
        for node in [0, 1] {
            if !(half_open && self.rng.chance(60)) {
                let delay = self.rng.latency(300, 300_000);
                self.after(delay, Event::Disconnected { node, conn });
            }
        }
    }

    /// Nothing more arrives at `node` on the newest connection, and nobody is told.
    pub(crate) fn silence(&mut self, node: usize) {
        let conn = self.net.newest;
        if let Some(found) = self.net.conns.get_mut(&conn) {
            found.silent[node] = true;
        }
    }

    /// A node dies: with its daemon alone, the kernel tells the peer.
    pub(crate) fn net_lost(&mut self, node: usize, power: bool) {
        let Some(conn) = self.nodes[node].open else { return };
        let peer = 1 - node;
        let delay = self.rng.latency(self.plan.net_typical, self.plan.net_worst);
        let told = !power || self.rng.chance(20);
        let lost = self.rng.chance(50);
        if let Some(found) = self.net.conns.get_mut(&conn) {
            found.silent[node] = true;
            found.silent[peer] |= power || lost;
            let at = found.last[peer].max(self.now) + delay;
            if told {
                self.at(at, Event::Disconnected { node: peer, conn });
            }
        }
    }
}

/// Nothing here may depend on chance outside the seed.
pub(crate) fn pause_length(rng: &mut Rng) -> u64 {
    rng.pick(&[20_000, 300_000, 1_500_000, 6_000_000]) + rng.below(50_000)
}
