//! An NBD server: the front for hosts without ublk, for virtual machines, containers and tests.
//!
//! It speaks fixed newstyle with simple replies to at most `NBD_CLIENTS_MAX` clients, all on the caller's
//! ring: no thread, nothing blocks, nothing is allocated per request.
//!
//! ```text
//!   socket ═► input: handshake, requests, payload ──► table ──► FrontRequest ──► core
//!   socket ◄═ output: headers and data, gathered  ◄── table ◄── complete     ◄── core
//! ```
//!
//! - [`proto`] is the codec, [`handshake`] the way in, [`command`] what a request may ask, [`table`] who has
//!   what in flight: all pure. [`listen`] is the socket; `client`, `input` and `output` move bytes.
//! - Requests above `IO_BYTES_MAX` are cut into pieces. The data of a large READ is sent while its rest is
//!   still being read. If that fails half-way the connection is closed: a simple reply cannot take back its
//!   header, and the client must not take what it got for the data.
//! - Requests in flight have no order; a FLUSH covers what was completed before it came, on any connection,
//!   so that clients may use several (`CAN_MULTI_CONN`).
//! - When pieces or buffers run out, clients are not read from until some are free, in turn; each has a few
//!   of its own. A client that does not read its replies, or sends half a write, thus slows only itself.
//! - A client that vanishes: what it asked for is finished, nobody is told.
//! - Whoever reaches the socket may read and write the volume: a UNIX socket is its user's alone, a TCP
//!   address is for networks that are trusted.

pub mod command;
pub mod handshake;
pub mod listen;
pub mod proto;
pub mod table;

mod client;
mod input;
mod output;

use self::client::{Client, Phase};
use self::listen::{Accepted, Address, Listener};
use self::proto::{Errno, Export};
use self::table::Table;
use crate::front::{Front, FrontRequest, Geometry, Openers};
use crate::io::Io;
use crate::io::client::Conn;
use crate::io::ring::{Completion, Owner, Token};
use crate::limits::{NBD_CLIENTS_MAX, NBD_HANDSHAKE_S, NBD_RETRY_MS, NBD_STOP_S, SECTOR_BYTES};
use crate::replica::event::{Buf, FrontId, FrontResult};
use std::collections::VecDeque;
use std::time::Duration;

// Kinds of operations on the ring. The index is the client's place; 0 where it is nobody's.
/// A client knocks.
const KNOCK: u8 = 0;
/// A receive of a client.
const RECEIVE: u8 = 1;
/// A send to a client.
const SEND: u8 = 2;
/// The time for a client's handshake is over.
const HANDSHAKE_OVER: u8 = 3;
/// The time for a client to take its last replies is over.
const STOP_OVER: u8 = 4;
/// Clients that wait for a piece are to be looked at.
const WAKE: u8 = 5;
/// The pool was empty a while ago.
const STARVED: u8 = 6;
/// The system could not let a client in a while ago.
const REST: u8 = 7;

/// The server.
pub struct Nbd {
    export: Export,
    uri: String,
    listener: Option<Listener>,
    clients: [Option<Box<Client>>; NBD_CLIENTS_MAX],
    table: Table,
    /// The place of the client that is next to get a piece.
    turn: usize,
    waking: bool,
    starved: bool,
    resting: bool,
    stopping: bool,
}

impl Nbd {
    /// Starts to serve the volume as export `name` at `address`.
    ///
    /// # Errors
    /// The address cannot be bound; the message names it.
    pub fn start(
        io: &mut Io,
        address: &Address,
        name: &str,
        geometry: &Geometry,
    ) -> std::io::Result<Nbd> {
        assert!(name.len() <= crate::limits::NAME_BYTES_MAX);
        let mut listener = Listener::bind(address)?;
        listener.door().watch(&mut io.ring, token(KNOCK, 0));
        Ok(Nbd {
            export: command::export(name, geometry),
            uri: listener.uri(name),
            listener: Some(listener),
            clients: [const { None }; NBD_CLIENTS_MAX],
            table: Table::new(),
            turn: 0,
            waking: false,
            starved: false,
            resting: false,
            stopping: false,
        })
    }

    fn on_knock(&mut self, io: &mut Io) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        if self.stopping {
            self.listener = None;
            return;
        }
        for _ in 0..NBD_CLIENTS_MAX {
            match listener.accept() {
                Ok(Some(accepted)) => admit(&mut self.clients, io, accepted),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!("Cannot let an NBD client in: {error}");
                    let pause = Duration::from_millis(NBD_RETRY_MS.into());
                    io.ring.timeout(pause, token(REST, 0));
                    self.resting = true;
                    return;
                }
            }
        }
        listener.door().watch(&mut io.ring, token(KNOCK, 0));
    }

    fn on_rest_over(&mut self, io: &mut Io) {
        self.resting = false;
        self.on_knock(io);
    }

    /// Shuts a client out. Whatever is in flight for it ends by itself.
    fn close(&mut self, io: &mut Io, place: usize, why: &str) {
        let Some(client) = self.clients[place].as_deref_mut() else {
            return;
        };
        if client.is_closed() {
            return;
        }
        tracing::debug!("NBD client {}: {why}", client.peer);
        client.phase = Phase::Closed;
        client.waiting = false;
        client.refused = None;
        client.conn.shut();
        for (pending, kind) in
            [(client.handshake_timer, HANDSHAKE_OVER), (client.stop_timer, STOP_OVER)]
        {
            if pending {
                io.ring.cancel(token(kind, place as u32));
            }
        }
        // The kernel may still write to these until its completion.
        if !client.conn.is_receiving() {
            drop_payload(&mut self.table, io, client);
        }
        if !client.conn.is_sending() {
            for id in client.outgoing.drain(..) {
                release(&mut self.table, io, id);
            }
        }
        self.table.abandon(place, &mut |buf| io.pool.release(buf));
    }

    /// Sends what is due to a client and lets it go if it is through.
    fn settle(&mut self, io: &mut Io, place: usize) {
        self.send(io, place);
        let Some(client) = self.clients[place].as_deref() else {
            return;
        };
        let idle = self.table.is_idle(place);
        let over = match client.phase {
            Phase::Handshake(_) | Phase::Closed => false,
            Phase::Serving => self.stopping,
            Phase::Leaving => true,
        };
        if over && idle && !client.conn.is_sending() {
            self.close(io, place, "done");
        }
        let Some(client) = self.clients[place].as_deref() else {
            return;
        };
        if client.is_closed() && client.is_off_the_ring() && self.table.is_idle(place) {
            self.clients[place] = None;
        }
    }

    /// Gives free pieces to the clients that wait for them, one each in turn.
    fn resume(&mut self, io: &mut Io, out: &mut VecDeque<FrontRequest>) {
        while !self.starved {
            let places = (0..NBD_CLIENTS_MAX).map(|step| (self.turn + step) % NBD_CLIENTS_MAX);
            let next = places.into_iter().find(|&place| {
                let waits = self.clients[place].as_deref().is_some_and(|client| client.waiting);
                waits && self.table.may_take(place, true)
            });
            let Some(place) = next else {
                return;
            };
            self.turn = place + 1;
            if let Some(client) = self.clients[place].as_deref_mut() {
                client.waiting = false;
            }
            self.pump(io, place, true, out);
            self.settle(io, place);
        }
    }

    /// True if some client waits for a piece.
    fn anyone_waits(&self) -> bool {
        self.clients.iter().flatten().any(|client| client.waiting)
    }

    fn on_timer(&mut self, io: &mut Io, kind: u8, place: usize, result: i32) {
        let Some(client) = self.clients[place].as_deref_mut() else {
            return;
        };
        if kind == HANDSHAKE_OVER {
            client.handshake_timer = false;
        } else {
            client.stop_timer = false;
        }
        if result == -libc::ETIME {
            self.close(io, place, "out of time");
        }
    }
}

impl Front for Nbd {
    fn on_completion(&mut self, io: &mut Io, done: Completion, out: &mut VecDeque<FrontRequest>) {
        assert_eq!(done.token.owner(), Owner::Nbd);
        let place = done.token.index() as usize;
        match done.token.kind() {
            KNOCK => {
                if let Some(listener) = &mut self.listener {
                    listener.door().watched();
                }
                self.on_knock(io);
            }
            RECEIVE => self.on_received(io, place, done, out),
            SEND => self.on_sent(io, place, done, out),
            kind @ (HANDSHAKE_OVER | STOP_OVER) => self.on_timer(io, kind, place, done.result),
            WAKE => self.waking = false,
            STARVED => self.starved = false,
            REST => self.on_rest_over(io),
            kind => unreachable!("unknown operation {kind} of the NBD server"),
        }
        self.settle(io, place);
        self.resume(io, out);
    }

    fn move_read(&mut self, io: &mut Io, id: FrontId, to: Buf) {
        io.pool.hold(to);
        let old = self.table.change_buf(id, to);
        io.pool.release(old);
    }

    fn complete(&mut self, io: &mut Io, id: FrontId, result: FrontResult) {
        let error = match result {
            FrontResult::Done => Errno::Ok,
            FrontResult::IoError => Errno::Io,
            FrontResult::Invalid => Errno::Invalid,
        };
        let (place, free) = self.table.complete(id, error);
        if free {
            release(&mut self.table, io, id);
        }
        self.settle(io, place);
        // New requests cannot be given to the caller here.
        if !self.waking && self.anyone_waits() {
            self.waking = true;
            io.ring.inject(token(WAKE, 0), 0);
        }
    }

    fn openers(&self) -> Openers {
        let clients = self.clients.iter().filter_map(Option::as_deref);
        let inside = clients.filter(|client| matches!(client.phase, Phase::Serving));
        Openers::Known(inside.map(|client| format!("NBD client {}", client.peer)).collect())
    }

    fn address(&self) -> String {
        self.uri.clone()
    }

    /// NBD has no word for it: a client sees it when it connects anew.
    fn grow(&mut self, sectors: u64) {
        assert!(self.export.bytes <= sectors * SECTOR_BYTES, "a volume never shrinks");
        self.export.bytes = sectors * SECTOR_BYTES;
    }

    fn stop(&mut self, io: &mut Io) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        if let Some(listener) = &mut self.listener {
            listener.hide();
            if listener.door().is_watching() {
                io.ring.cancel(token(KNOCK, 0));
            } else {
                self.listener = None;
            }
        }
        if self.resting {
            io.ring.cancel(token(REST, 0));
        }
        for place in 0..NBD_CLIENTS_MAX {
            let Some(client) = self.clients[place].as_deref_mut() else {
                continue;
            };
            match client.phase {
                Phase::Handshake(_) => self.close(io, place, "the server stops"),
                Phase::Serving | Phase::Leaving => {
                    let time = Duration::from_secs(NBD_STOP_S);
                    io.ring.timeout(time, token(STOP_OVER, place as u32));
                    client.stop_timer = true;
                }
                Phase::Closed => {}
            }
            self.settle(io, place);
        }
    }

    fn stopped(&self) -> bool {
        let timers = self.waking || self.starved || self.resting;
        let clients = self.clients.iter().any(Option::is_some);
        self.stopping && self.listener.is_none() && !clients && !timers
    }
}

/// Gives a client a place and greets it. Without a place it is turned away: its connection ends at once.
fn admit(clients: &mut [Option<Box<Client>>], io: &mut Io, accepted: Accepted) {
    let Some(place) = clients.iter().position(Option::is_none) else {
        tracing::warn!("NBD client {} is turned away: no place left", accepted.peer);
        return;
    };
    let mut client = Box::new(Client::new(Conn::new(accepted.fd), accepted.peer));
    let index = place as u32;
    client.conn.send(&mut io.ring, token(SEND, index));
    client.conn.receive(&mut io.ring, token(RECEIVE, index));
    io.ring.timeout(Duration::from_secs(NBD_HANDSHAKE_S), token(HANDSHAKE_OVER, index));
    client.handshake_timer = true;
    clients[place] = Some(client);
}

fn token(kind: u8, index: u32) -> Token {
    Token::new(Owner::Nbd, kind, index)
}

fn release(table: &mut Table, io: &mut Io, id: FrontId) {
    if let Some(buf) = table.release(id) {
        io.pool.release(buf);
    }
}

/// Gives up a write whose payload will never be complete.
fn drop_payload(table: &mut Table, io: &mut Io, client: &mut Client) {
    if let Some(payload) = client.payload.take() {
        release(table, io, payload.id);
    }
}
