//! One client: where it stands, and what it is in the middle of.
//!
//! ```text
//!   Handshake ──GO, EXPORT_NAME──► Serving ──DISC──► Leaving ──all answered──► Closed ──► (removed)
//!       │                             │                 │                        ▲
//!       ├────ABORT──► Leaving         │                 │                        │
//!       └── lie, deadline, end ───────┴─────────────────┴────────────────────────┘
//! ```
//!
//! A closed client keeps its place until nothing of it is left on the ring or with the core.

use super::handshake::Handshake;
use super::proto::Outbox;
use super::table::CommandNo;
use crate::io::client::Conn;
use crate::limits::FRONT_REQUESTS_MAX;
use crate::replica::event::{Buf, FrontId};

/// How far a client is.
pub(super) enum Phase {
    /// It chooses an export.
    Handshake(Handshake),
    /// It sends requests.
    Serving,
    /// It sends no more; what is due to it is still sent.
    Leaving,
    /// Its connection is shut.
    Closed,
}

/// A write whose payload is being received.
pub(super) struct Payload {
    pub(super) id: FrontId,
    pub(super) buf: Buf,
    pub(super) bytes: usize,
    pub(super) got: usize,
}

/// A refused write whose payload must be skipped before the error can be sent.
pub(super) struct Refused {
    pub(super) command: CommandNo,
    pub(super) left: usize,
}

/// A client.
pub(super) struct Client {
    pub(super) conn: Conn,
    /// Who it is, in words.
    pub(super) peer: String,
    pub(super) phase: Phase,
    pub(super) outbox: Outbox,
    pub(super) payload: Option<Payload>,
    pub(super) refused: Option<Refused>,
    /// Pieces in the send that is prepared or in flight.
    pub(super) outgoing: Vec<FrontId>,
    /// It has bytes to go on with, but no piece or buffer is free. It is not read from meanwhile.
    pub(super) waiting: bool,
    /// Timers on the ring: the deadline of the handshake, and that of the server's end.
    pub(super) handshake_timer: bool,
    pub(super) stop_timer: bool,
}

impl Client {
    /// A client that has just been let in; the greeting is ready to be sent.
    pub(super) fn new(conn: Conn, peer: String) -> Client {
        let mut client = Client {
            conn,
            peer,
            phase: Phase::Leaving,
            outbox: Outbox::new(),
            payload: None,
            refused: None,
            outgoing: Vec::with_capacity(FRONT_REQUESTS_MAX),
            waiting: false,
            handshake_timer: false,
            stop_timer: false,
        };
        client.phase = Phase::Handshake(Handshake::new(&mut client.outbox));
        client.conn.put(client.outbox.bytes());
        client.outbox.clear();
        client
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// True if nothing of it is on the ring.
    pub(super) fn is_off_the_ring(&self) -> bool {
        let conn = self.conn.is_receiving() || self.conn.is_sending();
        !conn && !self.handshake_timer && !self.stop_timer
    }
}
