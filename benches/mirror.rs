//! How many mirrored writes one thread can do: both nodes' cores with the codec between them, and with the reactor.
//!
//! ```text
//!   Request ─► core A ─► Write ─► encode, checksum ─► decode, checksum ─► core B ─► disk ─► WriteAck ─► core A ─► done
//!                 └────► disk
//! ```
//!
//! Both nodes run on one thread here, so a node that has one to itself has more room than this. Disks are null: `core`
//! ends an operation at once, `core and ring` when `io_uring` has completed one that does nothing for each disk
//! operation and for each batch of frames. Then, without the ring, what the core itself pays for where the writes are.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use io_uring::opcode::Nop;
use rblk::io::ring::{Owner, Ring, Token};
use rblk::limits::{BLOCK_BYTES, META_BLOCK_BYTES};
use rblk::meta::block;
use rblk::meta::layout::Layout;
use rblk::meta::records::AlTransaction;
use rblk::meta::superblock::{GenerationId, NodeId, Superblock, VolumeId};
use rblk::replica::authority::OnPeerLost;
use rblk::replica::event::{
    Action, Buf, Command, CommandId, ConnId, DiskResult, FrontId, FrontOp, FrontResult, Input,
    OpId, Payload, Tick,
};
use rblk::replica::{Connection, Replica, Settings, Start};
use rblk::span::Span;
use rblk::wire::frame::{self, FRAME_BYTES_MAX, HEADER_BYTES, Header};
use rblk::wire::message::Role;
use rblk::wire::policy::Policies;
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

const DISK_BYTES: u64 = 64 << 30;
/// Writes in flight.
const DEPTH: u32 = 32;
/// The activity log holds all of the extents of so much, and half of those of so much.
const HOT_BYTES: u64 = 256 << 20;
const COLD_BYTES: u64 = 2 * rblk::limits::AL_SLOTS as u64 * rblk::limits::EXTENT_BYTES;
/// A turn waits this long at most: only if nothing is under way.
const TURN: Duration = Duration::from_millis(1);
const CONN: ConnId = ConnId(1);

/// A message on its way, and whether a payload of a block follows.
struct Frame {
    bytes: [u8; FRAME_BYTES_MAX],
    length: usize,
    payload: bool,
}

struct Node {
    replica: Replica,
    /// What it sends.
    out: VecDeque<Frame>,
    /// Operations that are not in the ring: those of metadata end as such.
    ended: Vec<(OpId, bool)>,
    /// Operations that are in the ring, by the index of their token.
    in_ring: [Option<OpId>; 2 * DEPTH as usize],
    completed: u32,
}

impl Node {
    fn new(id: u8) -> Node {
        let layout = Layout::of_disk(DISK_BYTES).expect("a usual size");
        let owner = block::Owner { volume: VolumeId::of("bench", &["a", "b"]), node: NodeId(id) };
        let superblock = Superblock {
            agreed_sectors: layout.data_sectors(),
            ..Superblock::fresh(owner, &layout, Some(GenerationId(1 << 96 | 1)))
        };
        let settings = Settings {
            peer_timeout_ms: 60_000,
            disk_timeout_ms: 60_000,
            al_slots: rblk::limits::AL_SLOTS,
            policies: Policies::default(),
            ask_consent: false,
            salvage: false,
            on_peer_lost: OnPeerLost::Continue,
            ride_through_ms: 0,
            config: 0,
        };
        let mut replica = Replica::new(&Start {
            layout,
            superblock,
            stale_copy: 0,
            peer: NodeId(1 - id),
            activity: AlTransaction { sequence: 0, extents: Vec::new() },
            block_bytes: 512,
            discard: false,
            holes: false,
            kept: None,
            entropy: u128::from(id) + 7,
            unix_ms: 1_700_000_000_000,
            settings,
        });
        replica.start(Tick(0));
        Node {
            replica,
            out: VecDeque::new(),
            ended: Vec::new(),
            in_ring: [None; 2 * DEPTH as usize],
            completed: 0,
        }
    }
}

/// Two nodes, and the thread that serves both.
struct Pair {
    nodes: [Node; 2],
    now: u64,
    ring: Option<Ring>,
    next: u64,
    block: Box<[u8; META_BLOCK_BYTES]>,
    payload: [u8; BLOCK_BYTES as usize],
}

impl Pair {
    /// Connected, in sync, and node 0 Primary.
    fn new(ring: Option<Ring>) -> Pair {
        let mut pair = Pair {
            nodes: [Node::new(0), Node::new(1)],
            now: 1,
            ring,
            next: 0,
            block: Box::new([0; META_BLOCK_BYTES]),
            payload: [0x5a; BLOCK_BYTES as usize],
        };
        for node in 0..2 {
            pair.drain(node);
            pair.feed(node, Input::Connected { conn: CONN });
        }
        pair.settle();
        let promote = Command::Promote { force: false };
        pair.feed(0, Input::Command { id: CommandId(0), command: promote });
        pair.settle();
        let state = pair.nodes[0].replica.snapshot();
        assert_eq!((state.role, state.connection), (Role::Primary, Connection::Connected));
        pair
    }

    fn feed(&mut self, node: usize, input: Input<'_>) {
        self.now += 1;
        self.nodes[node].replica.handle(Tick(self.now), input);
        self.drain(node);
    }

    fn drain(&mut self, node: usize) {
        let Node { replica, out, ended, in_ring, completed } = &mut self.nodes[node];
        while let Some(action) = replica.poll_action() {
            match action {
                Action::Disk { op, .. } => match &mut self.ring {
                    Some(ring) => {
                        let index = in_ring.iter().position(Option::is_none).expect("bounded");
                        in_ring[index] = Some(op);
                        let token = Token::of(Owner::Probe, node as u16, 0, index as u32);
                        // SAFETY: an operation that does nothing names no memory.
                        unsafe { ring.push(Nop::new().build(), token) };
                    }
                    None => ended.push((op, false)),
                },
                Action::Meta { op, block } => {
                    replica.encode_meta(block, &mut self.block);
                    ended.push((op, true));
                }
                Action::Send { message, payload, .. } => {
                    let payload = matches!(payload, Payload::Buf(_));
                    let crc = if payload { crc32c::crc32c(black_box(&self.payload)) } else { 0 };
                    let mut bytes = [0; FRAME_BYTES_MAX];
                    let length = frame::encode(&message, crc, &mut bytes);
                    out.push_back(Frame { bytes, length, payload });
                }
                Action::Complete { result, .. } => {
                    assert_eq!(result, FrontResult::Done);
                    *completed += 1;
                }
                Action::Close { .. } => panic!("the nodes part"),
                _ => {}
            }
        }
    }

    /// What one node has sent arrives at the other: true if that was anything.
    fn deliver(&mut self, to: usize) -> bool {
        let mut any = false;
        while let Some(frame) = self.nodes[1 - to].out.pop_front() {
            any = true;
            let header: &[u8; HEADER_BYTES] = frame.bytes.first_chunk().expect("a header");
            let header = Header::parse(header).expect("sealed");
            let message = header.message(&frame.bytes[HEADER_BYTES..frame.length]).expect("sound");
            if frame.payload {
                header.check_payload(black_box(&self.payload)).expect("unchanged");
            }
            let buf = frame.payload.then_some(Buf(0));
            self.feed(to, Input::Received { conn: CONN, message, buf, payload: &[] });
        }
        any
    }

    /// One turn of both reactors: true if anything happened.
    fn turn(&mut self) -> bool {
        let mut any = false;
        if let Some(ring) = &mut self.ring {
            for node in 0..2 {
                if !self.nodes[node].out.is_empty() {
                    let token = Token::of(Owner::Probe, node as u16, 1, 0);
                    // SAFETY: an operation that does nothing names no memory.
                    unsafe { ring.push(Nop::new().build(), token) };
                }
            }
            ring.wait(Some(TURN)).expect("usable");
        }
        while let Some(done) = self.ring.as_mut().and_then(Ring::next) {
            if done.token.kind() == 0 {
                any = true;
                let node = usize::from(done.token.instance());
                let op = self.nodes[node].in_ring[done.token.index() as usize].take();
                let op = op.expect("was begun");
                self.feed(node, Input::DiskDone { op, result: DiskResult::Done });
            }
        }
        for node in 0..2 {
            for (op, meta) in std::mem::take(&mut self.nodes[node].ended) {
                any = true;
                let result = DiskResult::Done;
                match meta {
                    true => self.feed(node, Input::MetaDone { op, ok: true }),
                    false => self.feed(node, Input::DiskDone { op, result }),
                }
            }
            any |= self.deliver(node);
        }
        any
    }

    fn settle(&mut self) {
        while self.turn() {}
    }

    /// The connection ends: node 0 goes on alone.
    fn part(&mut self) {
        for node in 0..2 {
            self.feed(node, Input::Disconnected { conn: CONN });
            self.nodes[node].out.clear();
        }
        self.settle();
    }

    /// `DEPTH` writes of a block each, all over the first `bytes` of the volume, answered when all who should have them
    /// do.
    fn write(&mut self, bytes: u64) {
        self.nodes[0].completed = 0;
        for id in 0..DEPTH {
            self.next = self.next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1 << 20 | 1);
            let block = (self.next >> 33) % (bytes / BLOCK_BYTES);
            let span = Span::of_blocks(block..block + 1).expect("valid");
            let op = FrontOp::Write { span, buf: Buf(id), fua: false };
            self.feed(0, Input::Request { id: FrontId(id), op });
        }
        while self.nodes[0].completed < DEPTH {
            assert!(self.turn(), "writes end");
        }
    }
}

fn mirror(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mirrored writes of 4 KiB");
    group.throughput(Throughput::Elements(DEPTH.into()));
    for (name, ring) in [("core", None), ("core and ring", Some(Ring::new(512).expect("io_uring")))]
    {
        let mut pair = Pair::new(ring);
        group.bench_function(name, |bencher| bencher.iter(|| pair.write(HOT_BYTES)));
    }
    group.finish();
}

fn places(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("the core by where writes are");
    group.throughput(Throughput::Elements(DEPTH.into()));
    let cases = [
        ("in the activity log", HOT_BYTES, false),
        ("half of them not in it", COLD_BYTES, false),
        ("all in one place, one after the other", BLOCK_BYTES, false),
        ("alone, marked in the bitmap", HOT_BYTES, true),
    ];
    for (name, bytes, alone) in cases {
        let mut pair = Pair::new(None);
        if alone {
            pair.part();
        }
        group.bench_function(name, |bencher| bencher.iter(|| pair.write(bytes)));
    }
    group.finish();
}

criterion_group!(benches, mirror, places);
criterion_main!(benches);
