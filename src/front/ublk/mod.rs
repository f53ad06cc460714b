//! A ublk block device, `/dev/ublkbN`.
//!
//! The kernel splits what clients ask to fit our buffers, and copies data in and out. Each tag of the
//! queue is one [`FrontId`]. What takes the driver time is done by a helper thread (control.rs).
//!
//! ```text
//!   Making ──► Starting ──► Ready ──► Stopping ──► Gone
//!     │           │           │
//!     └─► Failed ◄┘           └────► Left          the device waits for the next daemon
//! ```
//!
//! It never answers a request that the core has not completed, and never lets go of a buffer that the
//! kernel may still write to.

mod control;
mod lookout;
mod orphan;

pub use control::Keep;
pub use lookout::{Lookout, Question, serve as serve_lookout};
pub use orphan::{Left, Record};

use super::{Front, FrontRequest, Geometry, News, Openers};
use crate::io::Io;
use crate::io::bell::{Bell, Ringer};
use crate::io::ring::{Completion, Owner, Token};
use crate::io::thread;
use crate::io::ublk::{Answer, UblkQueue};
use crate::limits::{BLOCK_BYTES, FRONT_REQUESTS_MAX, IO_BYTES_MAX, UBLK_RETRY_MS, ZERO_BYTES_MAX};
use crate::replica::event::{Buf, FrontId, FrontOp, FrontResult};
use crate::span::Span;
use crate::wire::message::ZeroKind;
use control::{Order, Report, Wanted};
use rblk_ublk::{Event, Op, Options, Queue, Request};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Kinds of [`Owner::Ublk`].
const QUEUE: u8 = 0;
const BELL: u8 = 1;
const RETRY: u8 = 2;

/// Of the helper thread.
const STACK_BYTES: usize = 512 << 10;

const _: () = {
    assert!(FRONT_REQUESTS_MAX <= u16::MAX as usize);
    assert!(ZERO_BYTES_MAX <= u32::MAX as u64 && IO_BYTES_MAX <= i32::MAX as usize);
};

/// Where the device is in its life; see the picture above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Making,
    Starting,
    Ready,
    Stopping,
    Gone,
    Failed,
    Left,
}

/// Whether this kernel can, and if not, why, in a sentence.
///
/// # Errors
/// See the sentence.
pub fn availability() -> Result<(), rblk_ublk::Unavailable> {
    rblk_ublk::available().map(|_| ())
}

/// A ublk device as a front.
pub struct UblkFront {
    stage: Stage,
    /// It was another daemon's before.
    taken_over: bool,
    id: Option<u32>,
    /// Of the volume. Clients may see less.
    sectors: u64,
    queue: Option<UblkQueue>,
    /// By tag: how the request is answered if it is done.
    answers: [Answer; FRONT_REQUESTS_MAX],
    /// Answers that wait for a free buffer.
    starved: VecDeque<(u16, Answer)>,
    /// A timer for them is on the ring.
    retrying: bool,
    bell: Bell,
    /// `None` after the last order.
    orders: Option<Sender<Order>>,
    reports: Receiver<Report>,
    news: VecDeque<News>,
}

impl UblkFront {
    /// Makes a new device; [`News`] tell when it is ready. `record` runs on the helper thread once its
    /// number is known and before clients can see it, so that a crash cannot leave a device that nobody
    /// knows.
    ///
    /// # Errors
    /// No thread or file descriptor is to be had. All else comes as [`News::Failed`].
    pub fn create(io: &mut Io, geometry: Geometry, record: Keep) -> std::io::Result<UblkFront> {
        UblkFront::begin(io, Wanted { id: None, options: options(geometry), record })
    }

    /// Takes over device `id`, which a daemon before us left by dying or by
    /// [`Front::leave_to_successor`]: its clients go on, and what was not answered is asked again.
    ///
    /// # Errors
    /// As [`UblkFront::create`]. A device that looks different or is being served fails.
    pub fn recover(io: &mut Io, id: u32, geometry: Geometry) -> std::io::Result<UblkFront> {
        let record = Box::new(|_| Ok(()));
        UblkFront::begin(io, Wanted { id: Some(id), options: options(geometry), record })
    }

    fn begin(io: &mut Io, wanted: Wanted) -> std::io::Result<UblkFront> {
        let mut bell = Bell::new(&mut io.ring, Token::new(Owner::Ublk, BELL, 0))?;
        let ringer = bell.ringer();
        let (orders, their_orders) = channel();
        let (their_reports, reports) = channel();
        // Not joined: when it is in the driver's hands, only the driver ends it.
        let taken_over = wanted.id.is_some();
        // One that is taken over has its users already.
        let id = wanted.id;
        let sectors = wanted.options.sectors;
        let spawned = thread::spawn("ublk-control", STACK_BYTES, move || {
            let tell = |report| announce(&their_reports, &ringer, report);
            control::oversee(wanted, &their_orders, &tell);
        });
        if let Err(error) = spawned {
            bell.cancel(&mut io.ring);
            return Err(error);
        }
        Ok(UblkFront {
            stage: Stage::Making,
            taken_over,
            id,
            sectors,
            queue: None,
            answers: [Answer { result: 0, data: false }; FRONT_REQUESTS_MAX],
            starved: VecDeque::with_capacity(FRONT_REQUESTS_MAX),
            retrying: false,
            bell,
            orders: Some(orders),
            reports,
            news: VecDeque::new(),
        })
    }

    /// As [`Front::stop`], unless somebody has the device open: [`News::InUse`] or [`News::Gone`] tell.
    /// Kernels before 7.0 do not look: ask [`Lookout`] first.
    pub fn stop_unless_open(&mut self) {
        self.order(Order::StopUnlessOpen);
    }

    fn order(&mut self, order: Order) {
        if let Some(orders) = &self.orders {
            // A helper that has ended said so in a report, which is on its way.
            let _ = orders.send(order);
        }
    }

    fn on_report(&mut self, io: &mut Io, report: Report) {
        match report {
            Report::Made { id, queue } => {
                self.id = Some(id);
                // Otherwise the order to stop is with the helper already.
                if self.stage == Stage::Making {
                    self.start(io, *queue);
                }
            }
            Report::Started => {
                if self.stage == Stage::Starting {
                    self.stage = Stage::Ready;
                    self.news.push_back(News::Ready);
                    // The volume may have grown since the device was made.
                    self.order(Order::Grow(self.sectors));
                }
            }
            Report::Grown => self.news.push_back(News::Grown),
            Report::NotGrown(why) => self.news.push_back(News::NotGrown(why)),
            Report::InUse => self.news.push_back(News::InUse),
            Report::Slow(why) => self.news.push_back(News::Slow(why)),
            Report::Gone => {
                self.stage = Stage::Gone;
                self.news.push_back(News::Gone);
            }
            Report::Failed { why, left } => {
                self.stage = if left { Stage::Left } else { Stage::Failed };
                self.news.push_back(News::Failed(why));
            }
        }
    }

    fn start(&mut self, io: &mut Io, mut queue: Queue) {
        queue.set_sectors(self.sectors);
        self.queue = UblkQueue::new(io, queue, token_of_tag);
        if self.queue.is_some() {
            self.stage = Stage::Starting;
            self.order(Order::Start);
        } else {
            self.stage = Stage::Failed;
            let why = "No buffers are free for the device's queue".to_owned();
            self.news.push_back(News::Failed(why));
            // The helper takes this as the end, and the device back.
            self.orders = None;
        }
    }

    /// A request of the kernel; refused if it is none of ours.
    fn admit(&mut self, io: &mut Io, request: Request, out: &mut VecDeque<FrontRequest>) {
        let tag = request.tag;
        let Some(op) = self.decode(request) else {
            self.answer(io, tag, Answer { result: -libc::EINVAL, data: false }, 0);
            return;
        };
        let (result, data) = match op {
            FrontOp::Read { span, buf } | FrontOp::Write { span, buf, .. } => {
                // The request's reference, which the caller releases after `complete`.
                io.pool.hold(buf);
                (span.bytes() as i32, matches!(op, FrontOp::Read { .. }))
            }
            FrontOp::Zero { .. } | FrontOp::Flush => (0, false),
        };
        self.answers[usize::from(tag)] = Answer { result, data };
        out.push_back(FrontRequest { id: FrontId(u32::from(tag)), op });
    }

    fn decode(&self, request: Request) -> Option<FrontOp> {
        let span = Span::new(request.start_sector, request.sectors);
        let buf = self.queue.as_ref()?.buffer(request.tag);
        let fua = request.fua;
        Some(match request.op {
            Op::Flush => FrontOp::Flush,
            Op::Read => FrontOp::Read { span: span?, buf },
            Op::Write => FrontOp::Write { span: span?, buf, fua },
            Op::Discard => FrontOp::Zero { span: span?, kind: ZeroKind::Discard, fua },
            Op::WriteZeroes if request.no_unmap => {
                FrontOp::Zero { span: span?, kind: ZeroKind::ZeroesAllocated, fua }
            }
            Op::WriteZeroes => FrontOp::Zero { span: span?, kind: ZeroKind::Zeroes, fua },
        })
    }

    /// Answers a request now, or when a buffer is free.
    fn answer(&mut self, io: &mut Io, tag: u16, answer: Answer, held: u32) {
        let Some(queue) = &mut self.queue else { return };
        if !queue.commit(io, tag, answer, held) {
            self.starved.push_back((tag, answer));
            self.retry_later(io);
        }
    }

    fn retry_later(&mut self, io: &mut Io) {
        if !self.retrying && !self.starved.is_empty() {
            self.retrying = true;
            let after = Duration::from_millis(UBLK_RETRY_MS);
            io.ring.timeout(after, Token::new(Owner::Ublk, RETRY, 0));
        }
    }

    /// Tries the answers that wait for a buffer, each once.
    fn retry(&mut self, io: &mut Io) {
        self.retrying = false;
        for _ in 0..self.starved.len() {
            let Some((tag, answer)) = self.starved.pop_front() else {
                break;
            };
            self.answer(io, tag, answer, 0);
        }
    }

    fn on_bell(&mut self, io: &mut Io, done: Completion) {
        self.bell.on_completion(&mut io.ring, done, true);
        while let Ok(report) = self.reports.try_recv() {
            self.on_report(io, report);
        }
        if matches!(self.stage, Stage::Gone | Stage::Failed) {
            self.orders = None;
            self.bell.cancel(&mut io.ring);
        }
    }
}

impl Front for UblkFront {
    fn on_completion(&mut self, io: &mut Io, done: Completion, out: &mut VecDeque<FrontRequest>) {
        match done.token.kind() {
            BELL => self.on_bell(io, done),
            RETRY => self.retry(io),
            kind => {
                assert_eq!(kind, QUEUE, "unknown operation of the ublk front");
                let tag = done.token.index() as u16;
                let Some(queue) = &mut self.queue else { return };
                match queue.on_completion(io, tag, done) {
                    Event::Request(_) if self.stage == Stage::Left => {}
                    Event::Request(request) => self.admit(io, request, out),
                    Event::Refuse { tag, errno } => {
                        self.answer(io, tag, Answer { result: -errno, data: false }, 0);
                    }
                    Event::Aborted { errno: libc::ENODEV, .. } => {}
                    Event::Aborted { tag, errno } => {
                        let error = std::io::Error::from_raw_os_error(errno);
                        let why = format!("The ublk driver refused tag {tag}: {error}");
                        self.news.push_back(News::Fault(why));
                    }
                }
            }
        }
    }

    fn move_read(&mut self, io: &mut Io, id: FrontId, to: Buf) {
        let Some(queue) = &mut self.queue else { return };
        io.pool.hold(to);
        queue.change_buffer(io, id.0 as u16, to);
    }

    fn complete(&mut self, io: &mut Io, id: FrontId, result: FrontResult) {
        let tag = id.0 as u16;
        let done = self.answers[id.0 as usize];
        // Requests with data have a count of bytes, and a reference that the caller is about to release.
        let held = u32::from(done.result > 0);
        let answer = match result {
            FrontResult::Done => done,
            FrontResult::IoError => Answer { result: -libc::EIO, data: false },
            FrontResult::Invalid => Answer { result: -libc::EINVAL, data: false },
        };
        self.answer(io, tag, answer, held);
    }

    fn openers(&self) -> Openers {
        self.id.map_or(Openers::Known(Vec::new()), Openers::OfDevice)
    }

    fn address(&self) -> String {
        match self.id {
            Some(id) => format!("/dev/ublkb{id}"),
            None => "a ublk device that is being made".to_owned(),
        }
    }

    fn grow(&mut self, sectors: u64) {
        assert!(self.sectors <= sectors, "a volume never shrinks");
        if self.sectors == sectors {
            return;
        }
        self.sectors = sectors;
        if let Some(queue) = &mut self.queue {
            queue.set_sectors(sectors);
        }
        // One that is not ready is told once it is.
        if self.stage == Stage::Ready {
            self.order(Order::Grow(sectors));
        }
    }

    /// What the kernel has in its cache or queues of a device that is taken away comes as requests
    /// still, and is served: it may be the last write of somebody who believed it done.
    fn stop(&mut self, _: &mut Io) {
        if matches!(self.stage, Stage::Making | Stage::Starting | Stage::Ready) {
            self.order(Order::Stop);
            self.stage = Stage::Stopping;
        }
    }

    fn stopped(&self) -> bool {
        let armed = self.queue.as_ref().map_or(0, UblkQueue::armed);
        match self.stage {
            Stage::Gone | Stage::Failed => armed == 0 && !self.bell.is_armed() && !self.retrying,
            Stage::Left => true,
            _ => false,
        }
    }

    fn take_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    fn minor(&self) -> Option<u32> {
        self.id
    }

    /// Requests in flight come again at the next daemon, and those that come here now are left to it. The queue's
    /// entries stay on the ring until the process ends: only then the device can be taken over.
    fn leave_to_successor(&mut self) -> bool {
        let has_clients = self.stage == Stage::Ready || self.taken_over;
        if !has_clients || matches!(self.stage, Stage::Stopping | Stage::Gone | Stage::Failed) {
            return false;
        }
        self.orders = None;
        self.stage = Stage::Left;
        true
    }
}

/// Names a tag's entry on the ring.
fn token_of_tag(tag: u16) -> Token {
    Token::new(Owner::Ublk, QUEUE, u32::from(tag))
}

/// Tells the reactor, unless it is gone.
fn announce(reports: &Sender<Report>, ringer: &Ringer, report: Report) {
    if reports.send(report).is_ok() {
        ringer.ring();
    }
}

/// What the device looks like.
fn options(geometry: Geometry) -> Options {
    let physical_block_bytes = geometry.block_bytes.max(BLOCK_BYTES as u32);
    Options {
        sectors: geometry.sectors,
        logical_block_bytes: geometry.block_bytes,
        physical_block_bytes,
        optimal_io_bytes: physical_block_bytes,
        depth: FRONT_REQUESTS_MAX as u16,
        buffer_bytes: IO_BYTES_MAX as u32,
        discard_bytes_max: if geometry.discard { ZERO_BYTES_MAX as u32 } else { 0 },
        zero_bytes_max: ZERO_BYTES_MAX as u32,
        read_only: false,
        rotational: false,
    }
}
