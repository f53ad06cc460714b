//! Links over real sockets: against each other, and against peers that lie.

use super::*;
use crate::limits::{IO_BYTES_MAX, PAGE_BIT_BYTES, SEND_FRAMES_MAX};
use crate::meta::superblock::{GenerationId, History};
use crate::span::Span;
use crate::wire::frame::{FRAME_BYTES_MAX, encode};
use crate::wire::message::{Outcome, Role, ZeroKind};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

#[path = "tls_tests.rs"]
mod within_tls;

const CLEAN: &str = "";

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn random_span(seed: &mut u64) -> Span {
    let most = (IO_BYTES_MAX / 512) as u64;
    // Mostly small, as in life.
    let sectors = if random(seed).is_multiple_of(8) { most } else { 16 };
    let sectors = 1 + random(seed) % sectors;
    Span::new(random(seed) >> 20, sectors as u32).expect("valid")
}

/// Some message of every shape: with and without payload, extension and answer.
fn random_message(seed: &mut u64, id: u64) -> Message {
    let span = random_span(seed);
    match random(seed) % 10 {
        0..=2 => Message::Write { id, span, fua: true },
        3 => Message::ResyncData { id, span },
        4 => Message::WriteZero { id, span, kind: ZeroKind::Discard, fua: false },
        5 => Message::WriteAck { id, outcome: Outcome::Done },
        6 => Message::BitmapPage { page: id as u32 },
        7 => {
            let mut history = History::default();
            (0..random(seed) % 17).for_each(|n| history.push(GenerationId((n + 1).into())));
            Message::ResyncEnd { current: GenerationId(id.into()), history }
        }
        8 => Message::RoleIs { role: Role::Primary },
        _ => Message::Ping,
    }
}

fn random_payload(seed: &mut u64, message: &Message) -> Vec<u8> {
    let base = random(seed);
    (0..message.payload_bytes()).map(|n| (base.wrapping_mul(n + 1) >> 13) as u8).collect()
}

/// The bytes of one frame.
fn frame(message: &Message, payload: &[u8]) -> Vec<u8> {
    let mut head = [0; FRAME_BYTES_MAX];
    let crc = if payload.is_empty() { 0 } else { crc32c::crc32c(payload) };
    let bytes = encode(message, crc, &mut head);
    [&head[..bytes], payload].concat()
}

type Pair = (OwnedFd, OwnedFd);

fn unix_pair() -> Pair {
    let (a, b) = UnixStream::pair().expect("socket pair");
    (a.into(), b.into())
}

fn tcp_pair() -> Pair {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let here = std::net::TcpStream::connect(listener.local_addr().expect("bound"));
    let (there, _) = listener.accept().expect("accepts");
    (here.expect("connects").into(), there.into())
}

/// A link of ours, and the other end of its socket as a plain stream.
struct Rig {
    io: Io,
    link: Link,
    peer: UnixStream,
}

impl Rig {
    fn new(faults: &str) -> Rig {
        let (ours, theirs) = unix_pair();
        let mut link = Link::new(ours, 0);
        link.faults = Faults::parse(faults).expect("valid");
        Rig { io: Io::new(16, 4, IO_BYTES_MAX).expect("io_uring"), link, peer: theirs.into() }
    }

    fn poll(&mut self) -> Option<LinkEvent> {
        self.link.poll(&mut self.io)
    }

    fn turn(&mut self) {
        self.link.flush(&mut self.io);
        self.io.ring.wait(Some(Duration::from_secs(20))).expect("usable");
        while let Some(done) = self.io.ring.next() {
            self.link.on_completion(&mut self.io, done);
        }
    }

    fn event(&mut self) -> LinkEvent {
        loop {
            if let Some(event) = self.poll() {
                return event;
            }
            self.turn();
        }
    }

    /// Why the link closes; everything it held is free then.
    fn why(&mut self) -> String {
        match self.event() {
            LinkEvent::Closed { why } => {
                assert!(self.link.closed() && self.poll().is_none());
                assert_eq!(self.io.pool.free(), self.io.pool.count(), "{why}");
                why
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Two links to each other, on one ring.
struct Two {
    io: Io,
    links: [Link; 2],
    seed: u64,
    sent: [Vec<(Message, Vec<u8>)>; 2],
    received: [usize; 2],
    /// Buffers whose content was checked, to be released later.
    kept: Vec<Buf>,
}

impl Two {
    fn new((a, b): Pair, buffers: usize, faults: &str, seed: u64) -> Two {
        let links = [Link::new(a, 0), Link::new(b, 1)].map(|mut link| {
            link.faults = Faults::parse(faults).expect("valid");
            link
        });
        Two {
            io: Io::new(16, buffers, IO_BYTES_MAX).expect("io_uring"),
            links,
            seed,
            sent: [Vec::new(), Vec::new()],
            received: [0, 0],
            kept: Vec::new(),
        }
    }

    fn send(&mut self, side: usize) {
        let id = self.sent[side].len() as u64;
        let message = random_message(&mut self.seed, id);
        let payload = random_payload(&mut self.seed, &message);
        let (io, link) = (&mut self.io, &mut self.links[side]);
        match message {
            Message::Write { .. } | Message::ResyncData { .. } => {
                // Receiving needs some too.
                if io.pool.free() < io.pool.count() / 2 {
                    return;
                }
                let buf = io.pool.take().expect("free");
                io.pool.bytes_mut(buf, payload.len()).copy_from_slice(&payload);
                link.send(io, &message, Body::Buf(buf));
                io.pool.release(buf);
            }
            Message::BitmapPage { .. } => {
                link.send(io, &message, Body::Bytes(payload.clone().into()));
            }
            _ => link.send(io, &message, Body::None),
        }
        self.sent[side].push((message, payload));
    }

    fn receive(&mut self, side: usize) {
        while let Some(event) = self.links[side].poll(&mut self.io) {
            let LinkEvent::Received { message, buf, payload } = event else {
                panic!("{event:?} after {}", self.received[side]);
            };
            let (expected, bytes) = &self.sent[1 - side][self.received[side]];
            assert_eq!(message, *expected);
            match buf {
                Some(buf) => {
                    assert!(self.io.pool.bytes(buf, bytes.len()) == &bytes[..], "{message:?}");
                    self.kept.push(buf);
                }
                None => assert!(*payload == bytes[..], "{message:?}"),
            }
            self.received[side] += 1;
        }
    }

    fn exchange(&mut self, count: usize) {
        while self.received.iter().any(|received| *received < count) {
            for side in 0..2 {
                for _ in 0..random(&mut self.seed) % 12 {
                    if self.sent[side].len() < count {
                        self.send(side);
                    }
                }
                self.receive(side);
                self.links[side].flush(&mut self.io);
            }
            // Late, so that the pool runs dry at times.
            // What is in flight needs a look at the ring: without something to release, that comes first.
            let dry = self.io.pool.free() == 0 && !self.kept.is_empty();
            if random(&mut self.seed).is_multiple_of(3) || dry {
                self.kept.drain(..).for_each(|buf| self.io.pool.release(buf));
                continue;
            }
            self.io.ring.wait(Some(Duration::from_millis(5))).expect("usable");
            while let Some(done) = self.io.ring.next() {
                self.links[usize::from(done.token.instance())].on_completion(&mut self.io, done);
            }
        }
        self.kept.drain(..).for_each(|buf| self.io.pool.release(buf));
    }

    fn close(mut self) {
        self.links[0].close(&mut self.io, true);
        let mut closed = 0;
        while closed < 2 {
            for link in &mut self.links {
                link.flush(&mut self.io);
                if let Some(event) = link.poll(&mut self.io) {
                    assert!(matches!(event, LinkEvent::Closed { .. }), "{event:?}");
                    closed += 1;
                }
            }
            self.io.ring.wait(Some(Duration::from_millis(5))).expect("usable");
            while let Some(done) = self.io.ring.next() {
                self.links[usize::from(done.token.instance())].on_completion(&mut self.io, done);
            }
        }
        assert_eq!(self.io.pool.free(), self.io.pool.count());
    }
}

#[test]
fn thousands_of_messages_arrive_whole_and_in_order() {
    for (pair, seed) in [(unix_pair(), 1), (tcp_pair(), 2)] {
        let mut two = Two::new(pair, 32, CLEAN, seed);
        two.exchange(4000);
        two.close();
    }
}

#[test]
fn every_place_in_a_frame_may_be_cut() {
    for (pair, seed) in [(unix_pair(), 3), (tcp_pair(), 4)] {
        let mut two = Two::new(pair, 16, "short-read=1,short-write=2", seed);
        two.exchange(500);
        two.close();
    }
}

#[test]
fn shortage_and_signals_do_not_break_a_link() {
    let mut two = Two::new(tcp_pair(), 16, "eagain=3,eintr=4,short-read=2,short-write=3", 5);
    two.exchange(1000);
    two.close();
    for (fault, word) in
        [("eagain=1", "unavailable"), ("eintr=1", "Interrupted"), ("cancel=1", "canceled")]
    {
        let why = Rig::new(fault).why();
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn a_pool_that_runs_dry_stops_the_stream_and_no_more() {
    let mut two = Two::new(tcp_pair(), 4, CLEAN, 6);
    two.exchange(1000);
    two.close();
}

#[test]
fn a_reply_fills_the_buffer_that_waits_for_it() {
    let mut rig = Rig::new("short-read=3");
    let span = Span::new(8, 256).expect("valid");
    let content: Vec<u8> = (0..span.bytes()).map(|n| (n / 3) as u8).collect();
    let bufs: Vec<Buf> = (0..2).map(|_| rig.io.pool.take().expect("free")).collect();
    for (id, &buf) in bufs.iter().enumerate() {
        rig.link.expect_reply(&mut rig.io, id as u64, buf);
    }
    let reply = |id, outcome| Message::ReadReply { id, span, outcome };
    rig.peer.write_all(&frame(&reply(1, Outcome::Done), &content)).expect("sends");
    rig.peer.write_all(&frame(&reply(0, Outcome::Failed), &[])).expect("sends");
    for id in [1, 0] {
        let LinkEvent::Received { message: Message::ReadReply { id: got, .. }, buf: None, .. } =
            rig.event()
        else {
            panic!("expected the reply to read {id}");
        };
        assert_eq!(got, id);
    }
    assert!(rig.io.pool.bytes(bufs[1], content.len()) == &content[..]);
    bufs.into_iter().for_each(|buf| rig.io.pool.release(buf));
    assert_eq!(rig.io.pool.free(), 4, "the link holds neither any more");
    rig.peer.write_all(&frame(&reply(1, Outcome::Done), &content)).expect("sends");
    assert!(rig.why().contains("a read that we did not send"));
}

#[test]
fn a_flipped_bit_anywhere_ends_the_link_and_nothing_else() {
    let span = Span::new(0, 1).expect("valid");
    let write = Message::Write { id: 1, span, fua: false };
    let page = Message::BitmapPage { page: 3 };
    let history = History::default();
    let end = Message::ResyncEnd { current: GenerationId(5), history };
    for message in [write, page, end] {
        let payload = vec![0x33; message.payload_bytes() as usize];
        let good = frame(&message, &payload);
        for place in (0..good.len()).step_by(if good.len() > 1000 { 37 } else { 3 }) {
            let mut rig = Rig::new(CLEAN);
            let mut bad = good.clone();
            bad[place] ^= 1 << (place % 8);
            rig.peer.write_all(&bad).expect("sends");
            rig.peer.shutdown(std::net::Shutdown::Write).expect("ends");
            let why = rig.why();
            assert!(why.contains("cannot be believed"), "byte {place} of {message:?}: {why}");
        }
    }
}

#[test]
fn garbage_ends_the_link() {
    let mut seed = 7;
    for round in 0..50 {
        let mut rig = Rig::new(CLEAN);
        let bytes: Vec<u8> = (0..64 + round * 97).map(|_| random(&mut seed) as u8).collect();
        rig.peer.write_all(&bytes).expect("sends");
        assert!(rig.why().contains("cannot be believed"));
    }
}

#[test]
fn a_stream_that_ends_anywhere_is_told_apart_from_a_clean_end() {
    let span = Span::new(0, 2).expect("valid");
    let message = Message::Write { id: 1, span, fua: false };
    let whole = frame(&message, &[9; 1024]);
    for cut in (0..whole.len()).step_by(13) {
        let mut rig = Rig::new(CLEAN);
        rig.peer.write_all(&whole[..cut]).expect("sends");
        rig.peer.shutdown(std::net::Shutdown::Write).expect("ends");
        let why = rig.why();
        assert_eq!(why.contains("in the middle of a message"), cut > 0, "at {cut}: {why}");
    }
}

#[test]
fn a_payload_larger_than_our_buffers_ends_the_link() {
    let mut rig = Rig::new(CLEAN);
    rig.io.pool = crate::io::buffer::Pool::new(2, 4096).expect("memory");
    let span = Span::new(0, 16).expect("valid");
    let message = Message::Write { id: 1, span, fua: false };
    rig.peer.write_all(&frame(&message, &[1; 8192])).expect("sends");
    assert!(rig.why().contains("larger than a buffer"));
}

/// Closing a socket with bytes unread resets the connection, and what was sent last would be lost.
#[test]
fn draining_delivers_the_last_words_to_a_peer_that_is_talking() {
    let (ours, theirs) = tcp_pair();
    let mut rig = Rig::new("short-write=1");
    rig.link = Link::new(ours, 0);
    let mut peer = std::net::TcpStream::from(theirs);
    let span = Span::new(0, 256).expect("valid");
    let write = frame(&Message::Write { id: 1, span, fua: false }, &[1; 128 << 10]);
    for _ in 0..4 {
        peer.write_all(&write).expect("sends");
    }
    let refuse = Message::Bye { outdated: true };
    for _ in 0..50 {
        rig.link.send(&mut rig.io, &refuse, Body::None);
    }
    rig.link.close(&mut rig.io, true);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        // Still talking, while the last words are on their way.
        peer.write_all(&write).expect("sends");
        peer.read_to_end(&mut all).expect("no reset");
        all
    });
    assert!(rig.why().contains("The peer closed"));
    let all = reader.join().expect("no panic");
    assert_eq!(all, frame(&refuse, &[]).repeat(50));
}

#[test]
fn draining_does_not_wait_for_ever() {
    let mut rig = Rig::new(CLEAN);
    rig.link.send(&mut rig.io, &Message::Ping, Body::None);
    rig.link.close(&mut rig.io, true);
    assert!(rig.why().contains("did not close its end in time"));
}

#[test]
fn closing_takes_back_what_was_being_sent_and_received() {
    for faults in [CLEAN, "hang-after=0", "short-write=1"] {
        let mut rig = Rig::new(faults);
        let span = Span::new(0, 256).expect("valid");
        let message = Message::Write { id: 1, span, fua: false };
        // Begun, and far from its end.
        rig.peer.write_all(&frame(&message, &[1; 128 << 10])[..1000]).expect("sends");
        assert!(rig.poll().is_none());
        for _ in 0..10 {
            let buf = rig.io.pool.take().expect("free");
            rig.link.send(&mut rig.io, &message, Body::Buf(buf));
            rig.io.pool.release(buf);
            rig.link.flush(&mut rig.io);
            rig.io.ring.wait(Some(Duration::from_millis(1))).expect("usable");
            while let Some(done) = rig.io.ring.next() {
                rig.link.on_completion(&mut rig.io, done);
            }
            assert!(rig.poll().is_none());
            if rig.io.pool.free() < 2 {
                break;
            }
        }
        assert!(rig.io.pool.free() < rig.io.pool.count(), "the peer does not read");
        rig.link.close(&mut rig.io, false);
        assert_eq!(rig.why(), "Closed by this node");
    }
}

#[test]
fn a_peer_that_does_not_read_is_given_up_before_memory_is() {
    let mut rig = Rig::new("hang-after=0");
    let page = vec![0; PAGE_BIT_BYTES];
    for number in 0..=SEND_FRAMES_MAX {
        let message = Message::BitmapPage { page: number as u32 };
        rig.link.send(&mut rig.io, &message, Body::Bytes(page.clone().into()));
    }
    assert!(rig.why().contains("does not take what it asked for"));
}

#[test]
fn one_system_call_carries_what_was_queued_meanwhile() {
    let mut rig = Rig::new(CLEAN);
    for _ in 0..1500 {
        rig.link.send(&mut rig.io, &Message::Ping, Body::None);
    }
    rig.link.flush(&mut rig.io);
    let before = rig.io.ring.in_flight();
    rig.link.flush(&mut rig.io);
    assert_eq!(rig.io.ring.in_flight(), before, "one send at a time");
    let mut peer = rig.peer.try_clone().expect("clones");
    let mut all = vec![0; frame(&Message::Ping, &[]).len() * 1500];
    let reader = std::thread::spawn(move || peer.read_exact(&mut all).map(|()| all));
    while rig.link.outbox.in_flight() {
        assert!(rig.poll().is_none());
        rig.turn();
    }
    let all = reader.join().expect("no panic").expect("all of it");
    assert_eq!(all, frame(&Message::Ping, &[]).repeat(1500));
}

#[test]
fn a_network_that_is_silent_is_told_from_an_end_that_speaks() {
    for silence in [libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH] {
        assert!(is_unanswered(-silence), "{silence}");
    }
    for spoken in [libc::ECONNRESET, libc::EPIPE, libc::ECANCELED, 0] {
        assert!(!is_unanswered(-spoken), "{spoken}");
    }
}
