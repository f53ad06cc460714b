//! The loop that makes the core real.
//!
//! ```text
//!   ┌─► wait on the ring ─► completions ─► disk, peers, front ─► one fact each ─► core ─► act
//!   │                                                                                     │
//!   └──────────── flush what is to be sent ◄── orders, timeouts ◄─────────────────────────┘
//! ```
//!
//! One thread does all of it. What comes in from other threads comes through the mailbox.

use super::act::{META, ReadBuffers};
use super::events::Events;
use super::handlers::Story;
use super::hops::Hops;
use super::inherit::{self, Inheritance};
use super::kept::Note;
use super::mailbox::{Mailbox, Order};
use super::orders::Orders;
use super::peers::{PeerEvent, Peers};
use super::salvage::Salvage;
use super::status::{self, Surroundings};
use super::systemd::Systemd;
use super::users::Asker;
use super::{AttachOptions, device, log, open, process};
use crate::ctl::server::Server;
use crate::ctl::status::Resource;
use crate::error::{Error, Kind, Result};
use crate::front::ublk::Lookout;
use crate::front::{Front, FrontRequest};
use crate::handlers::Handlers;
use crate::io::Io;
use crate::io::clock::Clock;
use crate::io::disk::Disk;
use crate::io::faults::Faults;
use crate::io::ring::{Completion, Owner};
use crate::limits::{BUFFERS_MAX, FRONT_REQUESTS_MAX, IO_BYTES_MAX, RING_ENTRIES};
use crate::meta::layout::Layout;
use crate::metrics;
use crate::replica::Replica;
use crate::replica::event::{Buf, DiskResult, FrontOp, Input, OpId, Tick};
use crate::replica::snapshot::{Connection, Replication};
use crate::sync::{Receiver, sync_channel};
use crate::wire::message::{DiskState, Role};
use std::collections::VecDeque;
use std::time::Duration;

/// The loop wakes at least this often, in milliseconds: a lost wakeup costs no more.
const LOOK_MS: u64 = 500;
/// After the core has left, its last words must be out within this time, in milliseconds.
const LEAVE_MS: u64 = 3_000;

/// What the log said last of connection, replication, disk, and the peer's role and disk.
pub(super) type LoggedState = (Connection, Replication, DiskState, Option<Role>, Option<DiskState>);

/// A resource being served.
pub(super) struct Daemon {
    pub(super) options: AttachOptions,
    pub(super) io: Io,
    pub(super) clock: Clock,
    pub(super) replica: Replica,
    pub(super) note: Note,
    pub(super) layout: Layout,
    pub(super) disk: Disk,
    pub(super) peers: Peers,
    pub(super) front: Option<Box<dyn Front>>,
    /// The buffer of each request of the front that is with the core.
    pub(super) front_buffers: Vec<Option<Buf>>,
    pub(super) front_pending: u64,
    pub(super) reads: ReadBuffers,
    pub(super) hops: Hops,
    pub(super) orders: Orders,
    pub(super) inheritance: Inheritance,
    pub(super) mail: Receiver<Order>,
    pub(super) logged: Option<LoggedState>,
    pub(super) handlers: Handlers,
    pub(super) story: Story,
    pub(super) salvage: Salvage,
    pub(super) events: Events,
    pub(super) systemd: Systemd,
    /// `None` if there is no device of the kernel.
    pub(super) lookout: Option<Lookout>,
    pub(super) askers: Vec<Asker>,
    requests: VecDeque<FrontRequest>,
    server: Option<Server>,
    metrics: Option<metrics::Server>,
    signals: signal_hook::iterator::Handle,
}

impl Daemon {
    /// Opens everything. On return the node serves its control socket; the loop has not begun.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub(super) fn start(options: AttachOptions) -> Result<Daemon> {
        let name = options.config.name.as_str().to_owned();
        let what = || format!("Cannot attach {name}");
        let faults = Faults::parse(options.faults.as_deref().unwrap_or_default())
            .map_err(|why| Error::new(Kind::Usage, what()).why(why))?;
        // The run directory first: a second daemon of this resource is told so at once, by name.
        let mut io = Io::new(RING_ENTRIES, BUFFERS_MAX, IO_BYTES_MAX)
            .map_err(|error| Error::io(what(), error))?;
        // Declared before the mailbox, so dropped after it if the start fails: clients must see that nobody answers.
        let server;
        let (mailbox, mail) = Mailbox::new(io.ring.waker());
        server = Server::start(&options.run_dir, &name, Box::new(mailbox.clone()))?;
        // Before memory is locked and a disk is open: of those it must have nothing.
        let handlers = Handlers::start(&options.config.handlers, io.ring.waker())?;
        let lookout = device::lookout(&options, io.ring.waker())?;
        device::check(&options)?;
        let mut note = Note::new(&options);
        let mut opened = open::open(&options.config, options.node, &mut note)?;
        let inheritance = inherit::look(&options, &opened.replica.snapshot().superblock)?;
        for warning in opened.warnings.into_iter().chain(process::protect()) {
            tracing::warn!("{warning}");
        }
        if let Some(spec) = &options.faults {
            tracing::warn!("faults are injected for a test: {spec}");
        }
        let mut disk =
            Disk::new(opened.backing, &mut io).map_err(|error| Error::io(what(), error))?;
        disk.faults = faults.clone();
        let salvage = Salvage::new(&options.config, io.ring.waker());
        let peers = Peers::start(&mut io, &options.config, options.node, Faults::default())?;
        let signals = process::watch_signals(mailbox.clone())?;
        let mut clock = Clock::new();
        opened.replica.start(clock.now());
        // Last: who asks for them waits for the loop, which nothing may keep from beginning.
        let metrics = options.config.metrics;
        let metrics = metrics.map(|to| metrics::Server::start(to.listen, Box::new(mailbox)));
        let metrics = metrics.transpose()?;
        Ok(Daemon {
            orders: Orders::new(options.primary || inheritance.waits()),
            inheritance,
            options,
            io,
            hops: Hops::new(clock.now()),
            clock,
            replica: opened.replica,
            note,
            layout: opened.layout,
            disk,
            peers,
            front: None,
            front_buffers: vec![None; FRONT_REQUESTS_MAX],
            front_pending: 0,
            reads: ReadBuffers::default(),
            mail,
            logged: None,
            handlers,
            story: Story::default(),
            salvage,
            events: Events::default(),
            systemd: Systemd::new(),
            lookout,
            askers: Vec::new(),
            requests: VecDeque::with_capacity(FRONT_REQUESTS_MAX),
            server: Some(server),
            metrics,
            signals,
        })
    }

    /// The loop, until the node has left. With a device left to the next daemon the process ends here: waiting for the
    /// ring would only keep its clients waiting.
    ///
    /// # Errors
    /// The ring cannot be used any more.
    pub(super) fn run(mut self) -> Result<()> {
        let what = || "The daemon cannot go on".to_owned();
        self.act();
        self.remember_events();
        self.systemd.ready();
        let mut leave_by: Option<Tick> = None;
        loop {
            self.turn();
            if self.orders.left && leave_by.is_none() {
                self.systemd.stopping();
                self.peers.stop(&mut self.io);
                leave_by = Some(self.clock.now().plus_ms(LEAVE_MS));
            }
            if let Some(by) = leave_by
                && (self.peers.stopped() || self.clock.now() >= by)
            {
                break;
            }
            let pause = self.pause();
            self.io.ring.wait(Some(pause)).map_err(|error| Error::io(what(), error))?;
        }
        self.signals.close();
        // Control threads wait for answers that will not come: they must see the end before the server waits for them.
        let (_, closed) = sync_channel(0);
        drop(std::mem::replace(&mut self.mail, closed));
        self.orders.abandon();
        self.answer_watchers(true);
        self.askers.clear();
        self.server = None;
        self.metrics = None;
        if self.orders.left_device {
            log::flush();
            std::process::exit(0);
        }
        tracing::info!("detached");
        Ok(())
    }

    /// Everything that can be done now.
    fn turn(&mut self) {
        self.systemd.turned();
        while let Some(done) = self.io.ring.next() {
            self.on_completion(done);
        }
        while let Some((user, hole)) = self.disk.probed() {
            self.on_disk_done(user, true, hole);
        }
        self.take_orders();
        self.take_answers();
        self.take_salvage();
        let now = self.clock.now();
        if self.replica.next_timeout().is_some_and(|at| at <= now) {
            self.feed(Input::Timeout);
        }
        self.peers.want(&mut self.io, now, self.replica.wants_peer());
        self.peers.tick(&mut self.io, now);
        self.poll_peers();
        self.retry_reads();
        self.want_primary();
        self.follow_role();
        self.peers.flush(&mut self.io);
    }

    /// How long there is nothing to do unless something completes.
    fn pause(&mut self) -> Duration {
        let now = self.clock.now();
        let look = now.plus_ms(LOOK_MS);
        let times = [self.replica.next_timeout(), self.peers.next_tick(), self.next_order_tick()];
        let next = times.into_iter().flatten().min().map_or(look, |at| at.min(look));
        Duration::from_micros(next.since(now))
    }

    fn on_completion(&mut self, done: Completion) {
        match done.token.owner() {
            Owner::Disk => {
                if let Some(ended) = self.disk.on_completion(&mut self.io, done) {
                    self.on_disk_done(ended.user, ended.result.is_ok(), ended.zero);
                    if let Err(error) = ended.result {
                        tracing::error!("{error}");
                    }
                }
            }
            Owner::Peer | Owner::Net => {
                let now = self.clock.now();
                self.peers.on_completion(&mut self.io, now, done);
                self.poll_peers();
            }
            Owner::Nbd | Owner::Ublk => {
                if let Some(front) = &mut self.front {
                    front.on_completion(&mut self.io, done, &mut self.requests);
                }
                self.feed_requests();
                self.take_news();
            }
            Owner::Ring | Owner::Control | Owner::Timer | Owner::Probe => {}
        }
    }

    fn on_disk_done(&mut self, user: u64, ok: bool, zero: bool) {
        let op = OpId(user & !META);
        if user & META != 0 {
            self.feed(Input::MetaDone { op, ok });
        } else if !self.digest(op, ok) {
            let result = match (ok, zero) {
                (false, _) => DiskResult::Failed,
                (true, true) => DiskResult::DoneZero,
                (true, false) => DiskResult::Done,
            };
            self.feed(Input::DiskDone { op, result });
        }
    }

    fn poll_peers(&mut self) {
        let now = self.clock.now();
        while let Some(event) = self.peers.poll(&mut self.io, now) {
            match event {
                PeerEvent::Connected(conn) => self.feed(Input::Connected { conn }),
                PeerEvent::Received { conn, message, buf, payload } => {
                    self.feed(Input::Received { conn, message, buf, payload: &payload });
                }
                PeerEvent::Disconnected { conn, why } => {
                    tracing::warn!("the connection to the peer ended: {why}");
                    self.peers.dial_error = Some(format!("the connection ended: {why}"));
                    self.feed(Input::Disconnected { conn });
                }
            }
        }
    }

    /// Hands clients' requests to the core, which owns their buffers' first reference until completion.
    fn feed_requests(&mut self) {
        while let Some(FrontRequest { id, op }) = self.requests.pop_front() {
            let slot = &mut self.front_buffers[id.0 as usize];
            assert!(slot.is_none(), "a front does not use an id twice");
            *slot = match op {
                FrontOp::Read { buf, .. } | FrontOp::Write { buf, .. } => Some(buf),
                FrontOp::Zero { .. } | FrontOp::Flush => None,
            };
            self.front_pending += 1;
            self.feed(Input::Request { id, op });
        }
    }

    /// One fact for the core, and all that follows from it.
    pub(super) fn feed(&mut self, input: Input<'_>) {
        let now = self.clock.now();
        self.hops.heard(now, &input);
        self.replica.handle(now, input);
        self.act();
    }

    /// The status with what is known of whether the device is open: see `users.rs`.
    pub(super) fn status_if(&mut self, open: bool) -> Resource {
        let now = self.clock.now();
        let around = Surroundings {
            options: &self.options,
            now,
            front_address: self.front.as_ref().map(|front| front.address()),
            minor: self.front.as_ref().and_then(|front| front.minor()).unwrap_or(0),
            open,
            upper_pending: self.front_pending,
            dial_error: self.peers.why_none(),
            key: self.peers.key().map(|key| key.to_string()),
            peer_key: self.peers.peer_key().map(|key| key.to_string()),
            transport_in_use: self.peers.transport_in_use(),
            path_in_use: self.peers.path_in_use(),
            device_error: self.orders.device_error.clone(),
            wants_primary: self.orders.wants_primary,
            salvage: self.salvage.status(self.options.config.saves_to()),
            latency: self.hops.latencies(),
            verify: self.verify_status(now),
        };
        status::resource(&self.replica.snapshot(), &around)
    }
}
