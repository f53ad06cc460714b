//! From a client's bytes to requests for the core.
//!
//! [`Nbd::pump`] goes on with a client for as long as it has bytes and the table has pieces, and then either
//! receives more or marks it as waiting. Never both: a client that waits is not read from.

use super::client::{Client, Payload, Phase, Refused};
use super::command::{self, Checked, Work};
use super::handshake::Verdict;
use super::proto::{self, Errno, Request};
use super::table::CommandNo;
use super::{HANDSHAKE_OVER, Nbd, RECEIVE, STARVED, drop_payload, token};
use crate::front::FrontRequest;
use crate::io::Io;
use crate::io::client::{INBOX_BYTES, Received};
use crate::io::ring::Completion;
use crate::limits::NBD_RETRY_MS;
use std::collections::VecDeque;
use std::time::Duration;

const _: () = assert!(super::handshake::OPTION_DATA_MAX + proto::OPTION_BYTES <= INBOX_BYTES);

/// What comes next for a client.
enum Step {
    /// Go on.
    Again,
    /// More bytes are needed.
    Receive,
    /// A piece or a buffer is needed.
    Wait,
    /// Something else goes on first, and comes back here.
    Pause,
    /// It cannot be served any longer.
    Close(&'static str),
}

impl Nbd {
    pub(super) fn on_received(
        &mut self,
        io: &mut Io,
        place: usize,
        done: Completion,
        out: &mut VecDeque<FrontRequest>,
    ) {
        let Some(client) = self.clients[place].as_deref_mut() else {
            unreachable!("a client stays until its receive has ended");
        };
        let received = client.conn.received(done);
        if client.is_closed() {
            drop_payload(&mut self.table, io, client);
            return;
        }
        match received {
            Received::Inbox | Received::Again => {}
            Received::Buffer(bytes) => {
                if let Some(payload) = &mut client.payload {
                    payload.got += bytes;
                    assert!(payload.got <= payload.bytes);
                }
            }
            Received::End => return self.close(io, place, "the connection has ended"),
        }
        self.pump(io, place, false, out);
    }

    /// Goes on with a client's input. One that was `resumed` gets a shared piece in any case: it is its turn.
    pub(super) fn pump(
        &mut self,
        io: &mut Io,
        place: usize,
        resumed: bool,
        out: &mut VecDeque<FrontRequest>,
    ) {
        let mut turn = resumed;
        loop {
            let Some(client) = self.clients[place].as_deref_mut() else {
                return;
            };
            if client.conn.is_receiving() {
                return;
            }
            let step = match client.phase {
                Phase::Handshake(_) => self.negotiate(io, place),
                Phase::Serving => self.serve(io, place, &mut turn, out),
                Phase::Leaving | Phase::Closed => Step::Pause,
            };
            let Some(client) = self.clients[place].as_deref_mut() else {
                return;
            };
            match step {
                Step::Again => {}
                Step::Receive => {
                    return client.conn.receive(&mut io.ring, token(RECEIVE, place as u32));
                }
                Step::Wait => {
                    client.waiting = true;
                    return;
                }
                Step::Pause => return,
                Step::Close(why) => return self.close(io, place, why),
            }
        }
    }

    fn negotiate(&mut self, io: &mut Io, place: usize) -> Step {
        let Some(Client { conn, phase, outbox, .. }) = self.clients[place].as_deref_mut() else {
            return Step::Pause;
        };
        let Phase::Handshake(handshake) = phase else {
            return Step::Pause;
        };
        // One answer at a time: the next step follows when this one is out.
        if conn.has_output() {
            return Step::Pause;
        }
        let verdict = handshake.step(conn.unread(), &self.export, outbox);
        if !outbox.bytes().is_empty() {
            conn.put(outbox.bytes());
            outbox.clear();
        }
        match verdict {
            Verdict::NeedMore => Step::Receive,
            Verdict::Next(bytes) => {
                conn.consume(bytes);
                Step::Again
            }
            Verdict::Begin(bytes) => {
                conn.consume(bytes);
                *phase = Phase::Serving;
                io.ring.cancel(token(HANDSHAKE_OVER, place as u32));
                Step::Again
            }
            Verdict::Close => {
                *phase = Phase::Leaving;
                Step::Pause
            }
        }
    }

    fn serve(
        &mut self,
        io: &mut Io,
        place: usize,
        turn: &mut bool,
        out: &mut VecDeque<FrontRequest>,
    ) -> Step {
        let Some(client) = self.clients[place].as_deref_mut() else {
            return Step::Pause;
        };
        if client.payload.is_some() {
            self.fill(io, place, out)
        } else if let Some(command) = self.table.issuing(place) {
            if self.take_turn(place, turn) { self.cut(io, place, command, out) } else { Step::Wait }
        } else if client.refused.is_some() {
            self.skip(place)
        } else {
            match proto::decode_request(client.conn.unread()) {
                Ok(None) => Step::Receive,
                Ok(Some(request)) => self.begin(io, place, &request, turn, out),
                Err(proto::BadMagic) => Step::Close("it does not send requests"),
            }
        }
    }

    /// True if the client may take a piece now. Beyond its reserve it lets those go first who wait already,
    /// unless it is its turn.
    fn take_turn(&self, place: usize, turn: &mut bool) -> bool {
        if self.table.has_reserve(place) {
            return true;
        }
        let shared = std::mem::take(turn) || !self.anyone_waits();
        self.table.may_take(place, shared)
    }

    fn begin(
        &mut self,
        io: &mut Io,
        place: usize,
        request: &Request,
        turn: &mut bool,
        out: &mut VecDeque<FrontRequest>,
    ) -> Step {
        let checked = command::check(request, &self.export, self.stopping);
        let may = match checked {
            Checked::Do(_) | Checked::Refuse(_) => self.take_turn(place, turn),
            Checked::Goodbye | Checked::Close => true,
        };
        let Some(client) = self.clients[place].as_deref_mut() else {
            return Step::Pause;
        };
        if !may {
            return Step::Wait;
        }
        client.conn.consume(proto::REQUEST_BYTES);
        let (work, error) = match checked {
            Checked::Goodbye => {
                client.phase = Phase::Leaving;
                return Step::Pause;
            }
            Checked::Close => return Step::Close("it sends a write that is far too long"),
            Checked::Do(work) => (work, Errno::Ok),
            Checked::Refuse(error) => (Work::Nothing, error),
        };
        let Request { cookie, offset, length, .. } = *request;
        let command = self.table.begin(place, cookie, work, offset, length);
        if work != Work::Nothing {
            return self.cut(io, place, command, out);
        }
        self.table.refuse(command, error);
        if request.kind == proto::command::WRITE {
            let left = length as usize;
            client.refused = Some(Refused { command, left });
        } else {
            self.table.answer(command);
        }
        Step::Again
    }

    /// Takes the next piece of a command, which may have one.
    fn cut(
        &mut self,
        io: &mut Io,
        place: usize,
        command: CommandNo,
        out: &mut VecDeque<FrontRequest>,
    ) -> Step {
        let work = self.table.work(command);
        let buf = match work {
            Work::Nothing | Work::Zero { .. } | Work::Flush => None,
            Work::Read | Work::Write { .. } => match io.pool.take() {
                Some(buf) => Some(buf),
                None => return self.starve(io),
            },
        };
        match (work, buf) {
            (Work::Write { .. }, Some(buf)) => {
                let (id, bytes) = self.table.fill(command, buf);
                if let Some(client) = self.clients[place].as_deref_mut() {
                    client.payload = Some(Payload { id, buf, bytes, got: 0 });
                }
            }
            (_, buf) => {
                // One reference is ours, for sending; one goes to the core.
                if let Some(buf) = buf {
                    io.pool.hold(buf);
                }
                out.push_back(self.table.issue(command, buf));
            }
        }
        Step::Again
    }

    /// Tries again later: whoever has the buffers does not tell us when it releases one.
    fn starve(&mut self, io: &mut Io) -> Step {
        if !self.starved {
            self.starved = true;
            io.ring.timeout(Duration::from_millis(NBD_RETRY_MS.into()), token(STARVED, 0));
        }
        Step::Wait
    }

    /// Moves payload into its buffer: what came with the header by copy, the rest straight from the socket.
    fn fill(&mut self, io: &mut Io, place: usize, out: &mut VecDeque<FrontRequest>) -> Step {
        let Some(Client { conn, payload: slot, .. }) = self.clients[place].as_deref_mut() else {
            return Step::Pause;
        };
        let Some(payload) = slot else {
            return Step::Again;
        };
        let bytes = conn.unread().len().min(payload.bytes - payload.got);
        let end = payload.got + bytes;
        let target = io.pool.bytes_mut(payload.buf, end);
        target[payload.got..].copy_from_slice(&conn.unread()[..bytes]);
        conn.consume(bytes);
        payload.got = end;
        if end == payload.bytes {
            out.push_back(self.table.filled(payload.id));
            *slot = None;
            Step::Again
        } else {
            let (buf, left) = (payload.buf, payload.bytes - end);
            conn.receive_into(io, token(RECEIVE, place as u32), buf, end, left);
            Step::Pause
        }
    }

    /// Drops payload of a refused write, and answers it when none is left.
    fn skip(&mut self, place: usize) -> Step {
        let Some(Client { conn, refused: slot, .. }) = self.clients[place].as_deref_mut() else {
            return Step::Pause;
        };
        let Some(refused) = slot else {
            return Step::Again;
        };
        let bytes = conn.unread().len().min(refused.left);
        conn.consume(bytes);
        refused.left -= bytes;
        if refused.left > 0 {
            return Step::Receive;
        }
        let command = refused.command;
        *slot = None;
        self.table.answer(command);
        Step::Again
    }
}
