//! The NBD server over a volume in memory, in a thread of its own: the driver's half of the contract of
//! `Front`, without the core. It answers in random order, and fails or holds back what it is told to.
//!
//! Whatever a test does, at the end no buffer is missing and no request is unanswered: `Server::stop` checks
//! it.

use rblk::front::nbd::Nbd;
use rblk::front::nbd::listen::Address;
use rblk::front::{Front, FrontRequest, Geometry, Openers};
use rblk::io::Io;
use rblk::io::ring::Waker;
use rblk::limits::{FRONT_REQUESTS_MAX, IO_BYTES_MAX, ZERO_BYTES_MAX};
use rblk::replica::event::{Buf, FrontId, FrontOp, FrontResult};
use rblk::wire::message::ZeroKind;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// What kind of server a test wants.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) bytes: u64,
    pub(super) block_bytes: u32,
    pub(super) discard: bool,
    pub(super) tcp: bool,
    /// Buffers of the pool.
    pub(super) buffers: usize,
    /// Bytes that cannot be read.
    pub(super) bad: Range<u64>,
    /// The disk hangs at every read, and the data comes from elsewhere; in the end the disk has other bytes.
    pub(super) hangs: bool,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            bytes: 64 << 20,
            block_bytes: 512,
            discard: true,
            tcp: false,
            buffers: FRONT_REQUESTS_MAX,
            bad: 0..0,
            hangs: false,
        }
    }
}

/// What the driver was asked for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) fua_writes: usize,
    pub(super) fua_zeroes: usize,
    pub(super) discards: usize,
    pub(super) zeroes: usize,
    pub(super) zeroes_allocated: usize,
    pub(super) flushes: usize,
}

enum Order {
    Seen(Sender<Seen>),
    Hold(bool),
    Stop,
    Openers(Sender<Vec<String>>),
    InFlight(Sender<usize>),
}

pub(super) struct Server {
    pub(super) uri: String,
    /// The path or address to connect to.
    pub(super) place: String,
    orders: Sender<Order>,
    waker: Waker,
    thread: Option<JoinHandle<Vec<u8>>>,
    _dir: TempDir,
}

impl Server {
    pub(super) fn start(plan: &Plan) -> Server {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("nbd.sock").display().to_string();
        let address = if plan.tcp { "tcp:127.0.0.1:0".into() } else { format!("unix:{path}") };
        let address: Address = address.parse().expect("an address");
        let (orders, inbox) = channel();
        let (ready, started) = channel();
        let plan = plan.clone();
        let thread = std::thread::spawn(move || {
            let mut io = Io::new(256, plan.buffers, IO_BYTES_MAX).expect("io_uring");
            let geometry = Geometry {
                sectors: plan.bytes / 512,
                block_bytes: plan.block_bytes,
                discard: plan.discard,
            };
            let front = Nbd::start(&mut io, &address, "vol", &geometry).expect("a server");
            ready.send((front.address(), io.ring.waker())).expect("the test waits");
            Ram::new(&plan).run(io, front, &inbox)
        });
        let (uri, waker) = started.recv().expect("the server starts");
        let tcp = uri.strip_prefix("nbd://").and_then(|rest| rest.split('/').next());
        let place = tcp.map_or(path, str::to_owned);
        Server { uri, place, orders, waker, thread: Some(thread), _dir: dir }
    }

    /// From now on requests are (not) answered.
    pub(super) fn hold(&self, hold: bool) {
        self.order(Order::Hold(hold));
    }

    /// Begins to stop; [`Server::stop`] waits for the end.
    pub(super) fn begin_stop(&self) {
        self.order(Order::Stop);
    }

    pub(super) fn openers(&self) -> Vec<String> {
        let (answer, wait) = channel();
        self.order(Order::Openers(answer));
        wait.recv().expect("the server runs")
    }

    /// Requests that the driver has and has not answered.
    pub(super) fn in_flight(&self) -> usize {
        let (answer, wait) = channel();
        self.order(Order::InFlight(answer));
        wait.recv().expect("the server runs")
    }

    /// What the driver was asked for so far.
    pub(super) fn seen(&self) -> Seen {
        let (answer, wait) = channel();
        self.order(Order::Seen(answer));
        wait.recv().expect("the server runs")
    }

    /// Waits, in bounds, until `true_now`.
    pub(super) fn until(&self, what: &str, true_now: impl Fn(&Server) -> bool) {
        for _ in 0..2000 {
            if true_now(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("never: {what}");
    }

    /// Stops the server and returns the content of the volume.
    pub(super) fn stop(mut self) -> Vec<u8> {
        self.begin_stop();
        let thread = self.thread.take().expect("stopped once");
        thread.join().expect("the server is sound")
    }

    fn order(&self, order: Order) {
        // It may have stopped already.
        let _ = self.orders.send(order);
        self.waker.wake();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.begin_stop();
            if thread.join().is_err() && !std::thread::panicking() {
                panic!("the server has panicked");
            }
        }
    }
}

struct Ram {
    data: Vec<u8>,
    bad: Range<u64>,
    hangs: bool,
    /// Buffers that the disk may still fill.
    hung: VecDeque<Buf>,
    waiting: Vec<FrontRequest>,
    hold: bool,
    seen: Seen,
    random: u64,
}

impl Ram {
    fn new(plan: &Plan) -> Ram {
        Ram {
            data: vec![0; plan.bytes as usize],
            bad: plan.bad.clone(),
            hangs: plan.hangs,
            hung: VecDeque::new(),
            waiting: Vec::new(),
            hold: false,
            seen: Seen::default(),
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn run(mut self, mut io: Io, mut front: Nbd, orders: &Receiver<Order>) -> Vec<u8> {
        let buffers = io.pool.free();
        let mut out = VecDeque::new();
        while !(front.stopped() && self.waiting.is_empty()) {
            io.ring.wait(Some(Duration::from_secs(1))).expect("the ring works");
            while let Some(done) = io.ring.next() {
                front.on_completion(&mut io, done, &mut out);
                for request in out.drain(..) {
                    self.take(request);
                }
            }
            while let Ok(order) = orders.try_recv() {
                match order {
                    Order::Hold(hold) => self.hold = hold,
                    Order::Stop => front.stop(&mut io),
                    Order::Seen(answer) => answer.send(self.seen).expect("asked"),
                    Order::Openers(answer) => {
                        let Openers::Known(users) = front.openers() else {
                            panic!("an NBD server knows its clients");
                        };
                        answer.send(users).expect("asked");
                    }
                    Order::InFlight(answer) => answer.send(self.waiting.len()).expect("asked"),
                }
            }
            while !self.hold && !self.waiting.is_empty() {
                self.finish_one(&mut io, &mut front);
            }
        }
        while !self.hung.is_empty() {
            self.fill_late(&mut io);
        }
        assert_eq!(io.pool.free(), buffers, "buffers were lost");
        self.data
    }

    /// The data of a read goes elsewhere than where the disk may still put it.
    fn hang(&mut self, io: &mut Io, front: &mut Nbd, id: FrontId, buf: Buf) -> Buf {
        io.pool.hold(buf);
        io.pool.begin_fill(buf);
        self.hung.push_back(buf);
        while io.pool.free() == 0 {
            self.fill_late(io);
        }
        let fresh = io.pool.take().expect("one is free");
        front.move_read(io, id, fresh);
        io.pool.release(buf);
        fresh
    }

    /// The oldest read of the disk ends after all.
    fn fill_late(&mut self, io: &mut Io) {
        let buf = self.hung.pop_front().expect("only those that hang keep buffers for long");
        io.pool.end_fill(buf);
        io.pool.bytes_mut(buf, IO_BYTES_MAX).fill(0xee);
        io.pool.release(buf);
    }

    /// Takes a request as the core would, and checks what a front promises.
    fn take(&mut self, request: FrontRequest) {
        assert!((request.id.0 as usize) < FRONT_REQUESTS_MAX);
        match request.op {
            FrontOp::Write { fua: true, .. } => self.seen.fua_writes += 1,
            FrontOp::Zero { kind, fua, .. } => {
                self.seen.fua_zeroes += usize::from(fua);
                *match kind {
                    ZeroKind::Discard => &mut self.seen.discards,
                    ZeroKind::Zeroes => &mut self.seen.zeroes,
                    ZeroKind::ZeroesAllocated => &mut self.seen.zeroes_allocated,
                } += 1;
            }
            FrontOp::Flush => self.seen.flushes += 1,
            FrontOp::Read { .. } | FrontOp::Write { .. } => {}
        }
        assert!(self.waiting.iter().all(|other| other.id != request.id), "an id is used twice");
        let (span, most) = match request.op {
            FrontOp::Read { span, .. } | FrontOp::Write { span, .. } => (span, IO_BYTES_MAX as u64),
            FrontOp::Zero { span, .. } => (span, ZERO_BYTES_MAX),
            FrontOp::Flush => return self.waiting.push(request),
        };
        assert!(span.within(self.data.len() as u64 / 512), "outside of the volume");
        assert!(span.bytes() <= most, "larger than a piece");
        self.waiting.push(request);
    }

    fn finish_one(&mut self, io: &mut Io, front: &mut Nbd) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let index = (self.random % self.waiting.len() as u64) as usize;
        let FrontRequest { id, op } = self.waiting.swap_remove(index);
        let mut result = FrontResult::Done;
        let mut used = None;
        match op {
            FrontOp::Read { span, buf } => {
                let (start, len) = (span.offset() as usize, span.bytes() as usize);
                let buf = if self.hangs { self.hang(io, front, id, buf) } else { buf };
                used = Some(buf);
                if span.offset() < self.bad.end && self.bad.start < span.offset() + span.bytes() {
                    result = FrontResult::IoError;
                } else {
                    io.pool.bytes_mut(buf, len).copy_from_slice(&self.data[start..start + len]);
                }
            }
            FrontOp::Write { span, buf, .. } => {
                let (start, len) = (span.offset() as usize, span.bytes() as usize);
                used = Some(buf);
                self.data[start..start + len].copy_from_slice(io.pool.bytes(buf, len));
            }
            FrontOp::Zero { span, .. } => {
                let (start, len) = (span.offset() as usize, span.bytes() as usize);
                self.data[start..start + len].fill(0);
            }
            FrontOp::Flush => {}
        }
        front.complete(io, id, result);
        if let Some(buf) = used {
            io.pool.release(buf);
        }
    }
}
