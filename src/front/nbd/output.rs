//! From the core's answers to a client's socket: one gathered send at a time.

use super::client::Phase;
use super::proto::{REPLY_BYTES, encode_reply};
use super::table::Outgoing;
use super::{Nbd, SEND, release, token};
use crate::front::FrontRequest;
use crate::io::Io;
use crate::io::client::Sent;
use crate::io::ring::Completion;
use std::collections::VecDeque;

impl Nbd {
    /// Sends all that is due to a client and fits one send, unless one is in flight.
    pub(super) fn send(&mut self, io: &mut Io, place: usize) {
        let Some(client) = self.clients[place].as_deref_mut() else {
            return;
        };
        if client.is_closed() || client.conn.is_sending() {
            return;
        }
        let mut broken = false;
        while client.conn.has_room(REPLY_BYTES) {
            match self.table.next_outgoing(place, &mut |buf| io.pool.release(buf)) {
                Outgoing::Nothing => break,
                Outgoing::Header { cookie, error } => {
                    client.conn.put(&encode_reply(cookie, error));
                }
                Outgoing::Data { id, buf, bytes } => {
                    client.conn.put_buf(io, buf, bytes);
                    client.outgoing.push(id);
                }
                Outgoing::Broken => {
                    broken = true;
                    break;
                }
            }
        }
        if broken {
            self.close(io, place, "a large read has failed half-way");
        } else if client.conn.has_output() {
            client.conn.send(&mut io.ring, token(SEND, place as u32));
        }
    }

    pub(super) fn on_sent(
        &mut self,
        io: &mut Io,
        place: usize,
        done: Completion,
        out: &mut VecDeque<FrontRequest>,
    ) {
        let Some(client) = self.clients[place].as_deref_mut() else {
            unreachable!("a client stays until its send has ended");
        };
        let sent = client.conn.sent(done);
        if sent == Sent::Part && !client.is_closed() {
            return client.conn.send(&mut io.ring, token(SEND, place as u32));
        }
        let serving = matches!(client.phase, Phase::Serving | Phase::Leaving);
        for id in client.outgoing.drain(..) {
            // A read that has begun keeps a piece until all of it is issued: see `table`.
            match self.table.buf(id).filter(|_| self.table.can_reissue(id)) {
                Some(buf) if sent == Sent::All && serving => {
                    io.pool.hold(buf);
                    out.push_back(self.table.reissue(id));
                }
                _ => release(&mut self.table, io, id),
            }
        }
        if sent == Sent::Failed {
            return self.close(io, place, "it does not take its replies");
        }
        self.pump(io, place, false, out);
    }
}
