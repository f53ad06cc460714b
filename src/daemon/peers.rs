//! Connections to the peer: one node dials, the other listens, and a stranger who knocks disturbs nobody.
//!
//! ```text
//!   node 0 dials ──► connected ─────────────────────────────► current link ──► core
//!   node 1 accepts ─► candidate ──Hello of our peer──────────►      │
//!                        └─ anything else, or silence: closed       └─ closed: dial again after a pause
//! ```
//!
//! An accepted connection becomes the current one, and displaces an older one, only when it has said `Hello` for our
//! volume. Until then it costs a receive buffer and a few seconds, and there are at most [`CANDIDATES_MAX`]: a newer
//! one takes the place of the oldest, so that those who say nothing do not keep out the peer, which speaks at once. One
//! from the peer's address gives its place to another from there only.
//!
//! With TLS a connection is nobody's until its handshake has ended with the peer's key: neither does the core hear of
//! one that this node has dialled, nor is an accepted one listened to. A handshake counts as silence.
//!
//! With two paths each node has an address on each: it listens on both, or dials them in turn (`paths.rs`), one at a
//! time. There is no second connection beside one that works.
//!
//! A node that stands alone neither dials nor listens: whoever dials it is refused by the kernel.

use super::crowd::Crowd;
use super::listeners::Listeners;
use super::paths::{End, Path, Paths};
use super::security::Security;
use crate::config::{Address, Config};
use crate::error::{Error, Result};
use crate::io::Io;
use crate::io::faults::Faults;
use crate::io::net::{self, Connector, Way, is_accept};
use crate::io::peer::assembly::SPEAKS_TLS;
use crate::io::peer::{Body, Link, LinkEvent};
use crate::io::ring::{Completion, Owner};
use crate::key::PublicKey;
use crate::limits::{RDMA_ATTEMPT_MS_MIN, RECONNECT_MS, REFUSED_RECONNECT_MS, TLS_RECONNECT_MS};
use crate::meta::superblock::{NodeId, VolumeId};
use crate::replica::event::{Buf, ConnId, Tick};
use crate::transport::Transport;
use crate::wire::message::Message;
use std::net::SocketAddr;
use std::time::Duration;

/// Accepted connections that have not said who they are.
const CANDIDATES_MAX: usize = 4;
/// Connections of any standing, those that are closing included.
const SLOTS_MAX: usize = 4 * CANDIDATES_MAX;
/// A candidate says `Hello` within this time, in milliseconds.
const HELLO_MS: u64 = 5_000;
/// Of the tokens of the dialling socket: listening ones have the index of their path, and there are two at most.
const DIALLER: u16 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Accepted, and silent so far.
    Candidate,
    /// Dialled with TLS; the handshake has not ended.
    Dialled,
    /// The core knows it.
    Current(ConnId),
    /// Given up; its operations are ending.
    Closing,
}

struct Slot {
    instance: u16,
    link: Link,
    standing: Standing,
    from: SocketAddr,
    /// The path that it was made on.
    path: usize,
    /// The core has been told of it.
    announced: bool,
    /// A message came.
    heard: bool,
    /// When it was made, accepted or dialled.
    since: Tick,
    /// The core gives it up since the peer was silent.
    silent: bool,
    /// The peer has said goodbye on it.
    bye: bool,
    /// The key that the other end has shown, with TLS.
    key: Option<PublicKey>,
}

impl Slot {
    /// How it has ended, for the choice of a path.
    fn end(&self, now: Tick) -> End {
        match (self.silent, self.bye) {
            (true, _) => End::Silent,
            (false, true) => End::InOrder,
            (false, false) => End::Broken { lasted_ms: now.since(self.since) / 1000 },
        }
    }
}

/// Something for the core.
pub(super) enum PeerEvent {
    /// There is a new stream.
    Connected(ConnId),
    /// A message on it.
    Received { conn: ConnId, message: Message, buf: Option<Buf>, payload: Box<[u8]> },
    /// It ended.
    Disconnected { conn: ConnId, why: String },
}

/// All connections of this node.
pub(super) struct Peers {
    volume: VolumeId,
    peer: NodeId,
    transport: Transport,
    paths: Paths,
    listeners: Listeners,
    /// What is being dialled, and on which path.
    dialler: Option<(usize, Connector)>,
    dials: bool,
    /// This node looks for its peer.
    wanted: bool,
    /// Not to be dialled before this time.
    dial_at: Tick,
    timeout_ms: u64,
    slots: Vec<Slot>,
    next_conn: u64,
    next_instance: u16,
    faults: Faults,
    security: Security,
    /// The last connection came to nothing for a reason that will not pass by itself.
    rests: bool,
    crowd: Crowd,
    /// A `Hello` that made its sender the current link, on its way to the core.
    greeting: Option<(ConnId, Message)>,
    /// Why the last attempt failed, or the last connection ended.
    pub(super) dial_error: Option<String>,
    stopping: bool,
}

impl Peers {
    /// Starts to listen, or to dial.
    ///
    /// # Errors
    /// An address does not resolve, or none of this node's is its own.
    pub(super) fn start(
        io: &mut Io,
        config: &Config,
        node: NodeId,
        faults: Faults,
    ) -> Result<Peers> {
        let security = Security::load(config, node)?;
        let dials = node == NodeId(0);
        let peer = NodeId(1 - node.0);
        let ends = resolve(config, node)?.into_iter().zip(resolve(config, peer)?);
        let all = ends.map(|(mine, peer)| Path { mine, peer }).collect();
        let paths = Paths::new(all, config.peer_timeout_ms);
        let transport = config.net.transport;
        for mine in paths.mine() {
            net::check(transport, mine).map_err(|error| {
                Error::io(format!("Cannot attach {}", config.name), error).remedy(format!(
                    "give this host what transport \"{}\" needs, or choose another in [net], on both nodes",
                    transport.name()
                ))
            })?;
        }
        let mut listeners = Listeners::new(paths.mine(), transport, config.peer_timeout_ms);
        // What cannot be had beside one that can is told, and tried again.
        if !dials
            && let Err(error) = listeners.open(io, Tick(0))
            && !listeners.any()
        {
            return Err(Error::io(format!("Cannot attach {}", config.name), error).remedy(
                "check the address of this node in the configuration and that no other program uses the port",
            ));
        }
        Ok(Peers {
            volume: config.volume_id(),
            peer,
            transport,
            paths,
            listeners,
            dialler: None,
            dials,
            wanted: true,
            dial_at: Tick(0),
            timeout_ms: config.peer_timeout_ms,
            slots: Vec::with_capacity(SLOTS_MAX),
            next_conn: 1,
            next_instance: DIALLER + 1,
            faults,
            security,
            rests: false,
            crowd: Crowd::default(),
            greeting: None,
            dial_error: None,
            stopping: false,
        })
    }

    /// Dials if it is time, and turns away those who do not speak.
    pub(super) fn tick(&mut self, io: &mut Io, now: Tick) {
        if let Some((count, from)) = self.crowd.tell(now) {
            tracing::warn!(
                "closed {count} connections that said nothing, the last from {from}: too many at a time"
            );
        }
        for at in 0..self.slots.len() {
            if self.silent_until(&self.slots[at]).is_none_or(|until| now < until) {
                continue;
            }
            let slot = &mut self.slots[at];
            slot.link.close(io, false);
            let standing = std::mem::replace(&mut slot.standing, Standing::Closing);
            if let Standing::Candidate = standing {
                tracing::warn!("closed a connection from {}: it did not say Hello", slot.from);
            } else {
                let why = format!("{} has not ended its TLS handshake in time", slot.from);
                self.handshake_failed(at, &why);
                // The other path may not be so slow, and does not wait.
                self.rests = !self.paths.has_choice();
            }
        }
        if std::mem::take(&mut self.rests) {
            self.dial_at = self.dial_at.max(now.plus_ms(TLS_RECONNECT_MS));
        }
        if self.may_begin().is_some_and(|at| now >= at) {
            self.begin(io, now);
        }
    }

    /// How long one may say nothing that is nobody yet.
    fn silent_until(&self, slot: &Slot) -> Option<Tick> {
        match slot.standing {
            Standing::Candidate => Some(slot.since.plus_ms(HELLO_MS)),
            Standing::Dialled => Some(slot.since.plus_ms(self.paths.patience_ms(HELLO_MS))),
            Standing::Current(_) | Standing::Closing => None,
        }
    }

    /// When to dial, or to listen; `None` if that is under way, or should not be.
    fn may_begin(&self) -> Option<Tick> {
        if !self.wanted || self.stopping {
            None
        } else if self.dials {
            (self.dialler.is_none() && self.slots.is_empty()).then_some(self.dial_at)
        } else {
            self.listeners.next_tick()
        }
    }

    fn begin(&mut self, io: &mut Io, now: Tick) {
        if !self.dials {
            if self.listeners.open(io, now).is_ok() {
                self.dial_error = None;
            }
            return;
        }
        let at = self.paths.next();
        let (from, to) = (self.paths.source(at), self.paths.get(at).peer);
        let way = Way { transport: self.transport, from, to };
        let patience_ms = match self.transport {
            Transport::Rdma => self.paths.patience_ms(self.timeout_ms).max(RDMA_ATTEMPT_MS_MIN),
            Transport::Tcp | Transport::Smc => self.paths.patience_ms(self.timeout_ms),
        };
        let patience = Duration::from_millis(patience_ms);
        let ours = (Owner::Net, DIALLER);
        match Connector::start(&mut io.ring, way, patience, self.timeout_ms, ours) {
            Ok(dialler) => self.dialler = Some((at, dialler)),
            Err(error) => self.dial_failed(now, at, &error.to_string()),
        }
    }

    /// Looks for the peer from now on, or does not. The current link is for the core to close.
    pub(super) fn want(&mut self, io: &mut Io, now: Tick, wanted: bool) {
        if wanted == self.wanted {
            if !self.stopping {
                self.listeners.forget_ended();
            }
            return;
        }
        self.wanted = wanted;
        self.paths.begin_anew();
        self.dial_at = now;
        self.dial_error = None;
        if !wanted {
            self.begin_nothing(io);
        }
    }

    /// What is under way to a new link ends.
    fn begin_nothing(&mut self, io: &mut Io) {
        self.listeners.close(io);
        if let Some((_, dialler)) = &mut self.dialler {
            dialler.cancel(&mut io.ring);
        }
        for slot in &mut self.slots {
            if matches!(slot.standing, Standing::Candidate | Standing::Dialled) {
                slot.link.close(io, false);
                slot.standing = Standing::Closing;
            }
        }
    }

    /// When [`Peers::tick`] has something to do; `None` while it does not.
    pub(super) fn next_tick(&self) -> Option<Tick> {
        let silent = self.slots.iter().filter_map(|slot| self.silent_until(slot));
        silent.chain(self.may_begin()).chain(self.crowd.next_tick()).min()
    }

    /// The nodes do not agree: trying again at once would only fill the log.
    pub(super) fn back_off(&mut self, now: Tick) {
        self.dial_at = self.dial_at.max(now.plus_ms(REFUSED_RECONNECT_MS));
    }

    /// Takes a completion of [`Owner::Net`] or [`Owner::Peer`].
    pub(super) fn on_completion(&mut self, io: &mut Io, now: Tick, done: Completion) {
        let token = done.token;
        if token.owner() == Owner::Peer {
            let found = self.slots.iter_mut().find(|slot| slot.instance == token.instance());
            if let Some(slot) = found {
                slot.link.on_completion(io, done);
            }
        } else if is_accept(token) {
            self.on_accept(io, now, done);
        } else if let Some((at, dialler)) = &mut self.dialler
            && let Some(result) = dialler.on_completion(&mut io.ring, done)
        {
            let at = *at;
            self.dialler = None;
            match result {
                Ok(_) if self.stopping || !self.wanted => {}
                Ok(socket) => {
                    self.dial_at = now.plus_ms(RECONNECT_MS);
                    let standing = if self.security.is_on() {
                        // The last reason stands until there is a session.
                        Standing::Dialled
                    } else {
                        self.dial_error = None;
                        self.paths.connected();
                        Standing::Current(self.new_conn())
                    };
                    self.add(socket, now, (at, self.paths.get(at).peer), standing);
                }
                Err(error) => self.dial_failed(now, at, &error.to_string()),
            }
        }
    }

    fn on_accept(&mut self, io: &mut Io, now: Tick, done: Completion) {
        let Some((at, socket, from)) = self.listeners.on_completion(io, done) else { return };
        if self.stopping || !self.has_room(io, from) {
            return; // dropped, and thereby closed
        }
        self.add(socket, now, (at, from), Standing::Candidate);
    }

    /// There is room for a connection from `from`, or was made. Who comes from an address of the peer is not kept out,
    /// or pushed out before it has had its say, by any number of others: anybody can connect, and few can from there.
    fn has_room(&mut self, io: &mut Io, from: SocketAddr) -> bool {
        let known = self.paths.is_peer(from.ip());
        let most = if known { SLOTS_MAX } else { SLOTS_MAX - CANDIDATES_MAX };
        if self.slots.len() >= most {
            self.crowd.add(from);
            return false;
        }
        let candidate = |slot: &Slot| matches!(slot.standing, Standing::Candidate);
        let count = self.slots.iter().filter(|slot| candidate(slot)).count();
        if count < CANDIDATES_MAX {
            return true;
        }
        let stranger = |slot: &Slot| candidate(slot) && !self.paths.is_peer(slot.from.ip());
        let oldest = self.slots.iter().position(stranger);
        let oldest = match known {
            true => oldest.or_else(|| self.slots.iter().position(candidate)),
            false => oldest,
        };
        let gone = oldest.map_or(from, |at| self.slots[at].from);
        self.crowd.add(gone);
        let Some(at) = oldest else { return false };
        self.slots[at].link.close(io, false);
        self.slots[at].standing = Standing::Closing;
        true
    }

    fn add(
        &mut self,
        socket: std::os::fd::OwnedFd,
        now: Tick,
        (path, from): (usize, SocketAddr),
        standing: Standing,
    ) {
        let taken = |instance| self.slots.iter().any(|slot| slot.instance == instance);
        while taken(self.next_instance) || self.next_instance <= DIALLER {
            self.next_instance = self.next_instance.wrapping_add(1);
        }
        let instance = self.next_instance;
        self.next_instance = self.next_instance.wrapping_add(1);
        let dialled = matches!(standing, Standing::Dialled);
        let mut link = match self.security.session(dialled, from.ip()) {
            Ok(None) => Link::new(socket, instance),
            Ok(Some(session)) => Link::secure(socket, instance, session),
            Err(why) => {
                tracing::error!("{why}");
                self.dial_error = Some(why);
                self.rests = true;
                return;
            }
        };
        link.faults = self.faults.clone();
        if let Standing::Current(_) = standing {
            tracing::info!("connected to {from}{}", self.paths.said(path));
        }
        self.slots.push(Slot {
            instance,
            link,
            standing,
            from,
            path,
            announced: false,
            heard: false,
            since: now,
            silent: false,
            bye: false,
            key: None,
        });
    }

    fn new_conn(&mut self) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        conn
    }

    fn dial_failed(&mut self, now: Tick, at: usize, why: &str) {
        let failed = self.paths.failed(at, why);
        if failed.is_new {
            tracing::info!("{why}");
        }
        self.dial_error = self.paths.reasons();
        self.dial_at = now.plus_ms(failed.pause_ms);
    }

    /// What was dialled with TLS has not become a link.
    fn handshake_failed(&mut self, at: usize, why: &str) {
        if self.paths.failed(self.slots[at].path, why).is_new {
            tracing::warn!("{why}");
        }
        self.dial_error = self.paths.reasons();
    }

    /// The next event; `None` if there is none now.
    pub(super) fn poll(&mut self, io: &mut Io, now: Tick) -> Option<PeerEvent> {
        if let Some((conn, message)) = self.greeting.take() {
            return Some(PeerEvent::Received { conn, message, buf: None, payload: Box::default() });
        }
        for at in 0..self.slots.len() {
            let standing = self.slots[at].standing;
            if let Standing::Current(conn) = standing
                && !self.slots[at].announced
            {
                self.slots[at].announced = true;
                return Some(PeerEvent::Connected(conn));
            }
            while let Some(event) = self.slots[at].link.poll(io) {
                if let Some(event) = self.on_link_event(io, now, at, event) {
                    return Some(event);
                }
                if at >= self.slots.len() || self.slots[at].link.closed() {
                    break;
                }
            }
        }
        self.slots.retain(|slot| !(slot.link.closed() && slot.standing == Standing::Closing));
        None
    }

    fn on_link_event(
        &mut self,
        io: &mut Io,
        now: Tick,
        at: usize,
        event: LinkEvent,
    ) -> Option<PeerEvent> {
        let slot = &mut self.slots[at];
        match (slot.standing, event) {
            (Standing::Current(conn), LinkEvent::Received { message, buf, payload }) => {
                slot.heard = true;
                slot.bye |= matches!(message, Message::Bye { .. });
                Some(PeerEvent::Received { conn, message, buf, payload })
            }
            (Standing::Current(conn), LinkEvent::Closed { why }) => {
                slot.standing = Standing::Closing;
                let said_why = self.security.is_on() && !slot.link.is_lost();
                self.rests = !slot.heard && (said_why || why == SPEAKS_TLS);
                // Where nothing was ever heard the path is no better than a silent one.
                slot.silent |= slot.link.is_unanswered() || !slot.heard;
                self.paths.ended(slot.path, slot.end(now));
                Some(PeerEvent::Disconnected { conn, why })
            }
            (Standing::Candidate, LinkEvent::Received { message, buf, .. }) => {
                release(io, buf);
                self.on_candidate(io, at, message)
            }
            (Standing::Candidate, LinkEvent::Closed { why }) => {
                tracing::warn!("closed a connection from {}: {why}", slot.from);
                slot.standing = Standing::Closing;
                self.turned_away(at, &why);
                None
            }
            (Standing::Dialled, LinkEvent::Secured { key }) => {
                slot.key = key;
                self.dial_error = None;
                self.paths.connected();
                let conn = self.new_conn();
                self.slots[at].standing = Standing::Current(conn);
                self.slots[at].announced = true;
                let slot = &self.slots[at];
                tracing::info!("connected to {} with TLS{}", slot.from, self.paths.said(slot.path));
                Some(PeerEvent::Connected(conn))
            }
            (Standing::Dialled, LinkEvent::Closed { why }) => {
                let why = format!("{}: {why}", slot.from);
                slot.standing = Standing::Closing;
                self.rests = !slot.link.is_lost();
                self.handshake_failed(at, &why);
                None
            }
            (_, LinkEvent::Secured { key }) => {
                slot.key = key;
                None
            }
            (Standing::Closing | Standing::Dialled, LinkEvent::Received { buf, .. }) => {
                release(io, buf);
                None
            }
            (Standing::Closing, LinkEvent::Closed { .. }) => None,
        }
    }

    /// Whoever came from an address of the peer and was refused is most likely the peer: the operator should know why.
    fn turned_away(&mut self, at: usize, why: &str) {
        let from = self.slots[at].from;
        let connected = self.slots.iter().any(|slot| matches!(slot.standing, Standing::Current(_)));
        let about_tls = self.security.is_on() || why == SPEAKS_TLS;
        if about_tls && !connected && self.paths.is_peer(from.ip()) {
            self.dial_error = Some(format!("a connection from {from} was refused: {why}"));
        }
    }

    /// The key that the connected peer has shown; `None` without TLS.
    pub(super) fn peer_key(&self) -> Option<PublicKey> {
        let current = |slot: &&Slot| matches!(slot.standing, Standing::Current(_));
        self.slots.iter().find(current).and_then(|slot| slot.key)
    }

    /// What carries the current connection; `None` if there is none, or the kernel does not say.
    pub(super) fn transport_in_use(&self) -> Option<&'static str> {
        let current = |slot: &&Slot| matches!(slot.standing, Standing::Current(_));
        let slot = self.slots.iter().find(current)?;
        net::in_use(self.transport, slot.link.socket())
    }

    /// What is known of why there is no connection.
    pub(super) fn why_none(&self) -> Option<String> {
        let known: Vec<String> =
            self.dial_error.iter().cloned().chain(self.listeners.reasons()).collect();
        (!known.is_empty()).then(|| known.join("; "))
    }

    /// The path of the current connection; `None` if there is none.
    pub(super) fn path_in_use(&self) -> Option<usize> {
        let current = |slot: &&Slot| matches!(slot.standing, Standing::Current(_));
        self.slots.iter().find(current).map(|slot| slot.path)
    }

    /// The peer was silent for too long, or late: what is left of the current connection is for the core to close. Only
    /// silence says something of the path.
    pub(super) fn peer_timed_out(&mut self, why: &str, silent: bool) {
        self.dial_error = Some(why.to_owned());
        for slot in &mut self.slots {
            slot.silent |= silent && matches!(slot.standing, Standing::Current(_));
        }
    }

    /// This node's own key; `None` without TLS.
    pub(super) fn key(&self) -> Option<PublicKey> {
        self.security.key()
    }

    /// A candidate has spoken: our peer becomes the current link. So does a stranger while there is none, for the core
    /// to refuse it with a reason.
    fn on_candidate(&mut self, io: &mut Io, at: usize, message: Message) -> Option<PeerEvent> {
        let current = |slot: &Slot| matches!(slot.standing, Standing::Current(_));
        let alone = !self.slots.iter().any(current);
        let ours = match message {
            Message::Hello(hello) => hello.volume == self.volume && hello.node == self.peer,
            _ => false,
        };
        let greets = matches!(message, Message::Hello(_));
        if ours || (greets && alone) {
            let conn = self.new_conn();
            self.slots[at].standing = Standing::Current(conn);
            self.slots[at].announced = true;
            self.slots[at].heard = true;
            if self.security.is_on() {
                self.dial_error = None;
            }
            let slot = &self.slots[at];
            tracing::info!("connected from {}{}", slot.from, self.paths.said(slot.path));
            self.greeting = Some((conn, message));
            return Some(PeerEvent::Connected(conn));
        }
        tracing::warn!("closed a connection from {}: it is not our peer", self.slots[at].from);
        self.slots[at].link.close(io, false);
        self.slots[at].standing = Standing::Closing;
        None
    }

    /// Queues a message. It goes nowhere if the connection is gone.
    pub(super) fn send(&mut self, io: &mut Io, conn: ConnId, message: &Message, body: Body) {
        if let Some(slot) = self.find(conn) {
            slot.link.send(io, message, body);
        }
    }

    /// What is sent on this connection may still be answered.
    pub(super) fn is_current(&self, conn: ConnId) -> bool {
        self.slots.iter().any(|slot| slot.standing == Standing::Current(conn))
    }

    /// The answer to read `id` goes into `buf`.
    pub(super) fn expect_reply(&mut self, io: &mut Io, conn: ConnId, id: u64, buf: Buf) {
        if let Some(slot) = self.find(conn) {
            slot.link.expect_reply(io, id, buf);
        }
    }

    /// Closes a connection. Nothing more is heard of it.
    pub(super) fn close(&mut self, io: &mut Io, now: Tick, conn: ConnId, drain: bool) {
        self.dial_at = self.dial_at.max(now.plus_ms(RECONNECT_MS));
        let mut ended = None;
        if let Some(slot) = self.find(conn) {
            slot.link.close(io, drain);
            slot.standing = Standing::Closing;
            ended = Some((slot.path, slot.end(now)));
        }
        if let Some((path, end)) = ended {
            self.paths.ended(path, end);
        }
    }

    /// Sends what is queued.
    pub(super) fn flush(&mut self, io: &mut Io) {
        for slot in &mut self.slots {
            slot.link.flush(io);
        }
    }

    /// Stops listening and dialling; links that are closing go on until they have closed.
    pub(super) fn stop(&mut self, io: &mut Io) {
        self.stopping = true;
        self.begin_nothing(io);
        for slot in &mut self.slots {
            if slot.standing != Standing::Closing {
                slot.link.close(io, true);
                slot.standing = Standing::Closing;
            }
        }
    }

    /// True when nothing of it is left on the ring.
    pub(super) fn stopped(&self) -> bool {
        let idle = self.listeners.ended() && self.dialler.is_none() && self.slots.is_empty();
        self.stopping && idle
    }

    fn find(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.standing == Standing::Current(conn))
    }
}

fn release(io: &mut Io, buf: Option<Buf>) {
    if let Some(buf) = buf {
        io.pool.release(buf);
    }
}

/// A node's end of each path. A name stands for the first of its addresses.
fn resolve(config: &Config, node: NodeId) -> Result<Vec<SocketAddr>> {
    let node = config.node(node);
    let end = |address: &Address| {
        let what = || format!("Cannot use the address {address} of node {}", node.name);
        let remedy = "write an IP address, or a name in /etc/hosts";
        let found = address.resolve().map_err(|error| Error::io(what(), error).remedy(remedy))?;
        found.first().copied().ok_or_else(|| {
            let error = Error::new(crate::error::Kind::Config, what());
            error.why("the name has no address").remedy(remedy)
        })
    };
    node.addresses().map(end).collect()
}
