//! Commands of all clients and the pieces they are cut into. PURE: no buffer is touched, no socket known.
//!
//! A *command* is one request of the NBD protocol; a *piece* is one [`FrontRequest`] of it, at most
//! `IO_BYTES_MAX` of payload. The number of a piece is its [`FrontId`]. Everything is allocated at the start.
//!
//! ```text
//!   piece:    free ──fill──► Filling ──filled──► AtCore ──complete──► Done ──► free       (Write)
//!             free ──────────issue─────────────► AtCore ──complete──► Done ──► Sending    (Read)
//!                                                  ▲                             │ sent
//!                                                  └──────reissue────────────────┴─► free
//!
//!   reply of
//!   command:  Pending ──► Queued ──► Begun (a read whose header is out) ──► Answered
//! ```
//!
//! Promises
//! - A client holds at least `NBD_REQUESTS_RESERVED` pieces whenever it wants them, whatever others do.
//! - A read that has begun to be sent keeps a piece until all of it is issued (`reissue`). Otherwise the
//!   replies that wait behind it could hold all pieces, and it would wait for them.
//! - A command lives until it is answered and holds no piece; an answered command issues nothing.

use super::command::Work;
use super::proto::Errno;
use crate::front::FrontRequest;
use crate::limits::{FRONT_REQUESTS_MAX, IO_BYTES_MAX, ZERO_BYTES_MAX};
use crate::limits::{NBD_CLIENTS_MAX, NBD_REQUESTS_RESERVED};
use crate::replica::event::{Buf, FrontId, FrontOp};
use crate::span::Span;

/// Pieces that clients may take beyond those reserved to them.
const SHARED_MAX: usize = FRONT_REQUESTS_MAX - NBD_REQUESTS_RESERVED * NBD_CLIENTS_MAX;
/// Every command holds a piece, but for the one that each client is still issuing.
const COMMANDS_MAX: usize = FRONT_REQUESTS_MAX + NBD_CLIENTS_MAX;

/// Names a command while it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandNo(u16);

/// How far the reply to a command is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reply {
    /// Not yet due.
    Pending,
    /// Due.
    Queued,
    /// The header of a read is out; data follows.
    Begun,
    /// Nothing more is to be sent.
    Answered,
}

#[derive(Clone, Copy, Debug)]
struct Command {
    live: bool,
    client: usize,
    cookie: u64,
    work: Work,
    error: Errno,
    reply: Reply,
    /// The first byte not yet in a piece, and how many there are.
    offset: u64,
    left: u64,
    /// Pieces held, in any state.
    pieces: usize,
    /// Pieces that wait until the command is answered: see `link`.
    first: Option<FrontId>,
    last: Option<FrontId>,
    /// The next command whose reply is due.
    next: Option<CommandNo>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    Filling,
    AtCore,
    Done,
    Sending,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    state: State,
    command: CommandNo,
    shared: bool,
    /// A buffer of which we hold a reference.
    buf: Option<Buf>,
    offset: u64,
    bytes: usize,
    next: Option<FrontId>,
}

/// What one client has.
#[derive(Clone, Copy, Default)]
struct Share {
    commands: usize,
    reserved: usize,
    /// The command that is not yet all in pieces. No other begins before.
    issuing: Option<CommandNo>,
    first_ready: Option<CommandNo>,
    last_ready: Option<CommandNo>,
}

/// What is to be sent next to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outgoing {
    /// Nothing for now.
    Nothing,
    /// The header of a reply.
    Header {
        /// The client's name for the command.
        cookie: u64,
        /// What came of it.
        error: Errno,
    },
    /// Data of the read whose header was last. The piece is the caller's until [`Table::reissue`] or
    /// [`Table::release`].
    Data {
        /// The piece.
        id: FrontId,
        /// Where its bytes are.
        buf: Buf,
        /// How many there are.
        bytes: usize,
    },
    /// A read failed after its header said that all is well: only closing the connection tells the client.
    Broken,
}

/// All commands and pieces.
pub struct Table {
    pieces: Box<[Piece]>,
    free_pieces: Vec<FrontId>,
    commands: Box<[Command]>,
    free_commands: Vec<CommandNo>,
    clients: [Share; NBD_CLIENTS_MAX],
    shared: usize,
}

impl Table {
    /// An empty table.
    pub fn new() -> Table {
        let piece = Piece {
            state: State::Free,
            command: CommandNo(0),
            shared: false,
            buf: None,
            offset: 0,
            bytes: 0,
            next: None,
        };
        let command = Command {
            live: false,
            client: 0,
            cookie: 0,
            work: Work::Nothing,
            error: Errno::Ok,
            reply: Reply::Pending,
            offset: 0,
            left: 0,
            pieces: 0,
            first: None,
            last: None,
            next: None,
        };
        Table {
            pieces: vec![piece; FRONT_REQUESTS_MAX].into_boxed_slice(),
            free_pieces: (0..FRONT_REQUESTS_MAX as u32).rev().map(FrontId).collect(),
            commands: vec![command; COMMANDS_MAX].into_boxed_slice(),
            free_commands: (0..COMMANDS_MAX as u16).rev().map(CommandNo).collect(),
            clients: [Share::default(); NBD_CLIENTS_MAX],
            shared: 0,
        }
    }

    /// True if `client` may have another piece; beyond its reserve only if `shared`.
    pub fn may_take(&self, client: usize, shared: bool) -> bool {
        let within_reserve = self.clients[client].reserved < NBD_REQUESTS_RESERVED;
        within_reserve || (shared && self.shared < SHARED_MAX)
    }

    /// True if the next piece of `client` is one of those reserved to it.
    pub fn has_reserve(&self, client: usize) -> bool {
        self.clients[client].reserved < NBD_REQUESTS_RESERVED
    }

    /// True if `client` has no command.
    pub fn is_idle(&self, client: usize) -> bool {
        self.clients[client].commands == 0
    }

    /// The command of `client` that is not yet all in pieces.
    pub fn issuing(&self, client: usize) -> Option<CommandNo> {
        self.clients[client].issuing
    }

    /// What a command does.
    pub fn work(&self, command: CommandNo) -> Work {
        self.command(command).work
    }

    /// Begins a command of `length` bytes at `offset`. It has no piece yet: that follows at once.
    pub fn begin(
        &mut self,
        client: usize,
        cookie: u64,
        work: Work,
        offset: u64,
        length: u32,
    ) -> CommandNo {
        assert!(self.clients[client].issuing.is_none(), "one command is issued at a time");
        let no = self.free_commands.pop().expect("every command holds a piece or is being issued");
        let left = match work {
            Work::Nothing | Work::Flush => 0,
            Work::Read | Work::Write { .. } | Work::Zero { .. } => u64::from(length),
        };
        let command = &mut self.commands[usize::from(no.0)];
        assert!(!command.live);
        *command = Command {
            live: true,
            client,
            cookie,
            work,
            error: Errno::Ok,
            reply: Reply::Pending,
            offset,
            left,
            pieces: 0,
            first: None,
            last: None,
            next: None,
        };
        self.clients[client].commands += 1;
        self.clients[client].issuing = (left > 0).then_some(no);
        no
    }

    /// Takes a piece that only keeps the place of a command with nothing to do, whose reply is `error`.
    /// [`Table::answer`] makes the reply due.
    pub fn refuse(&mut self, command: CommandNo, error: Errno) {
        self.command_mut(command).error = error;
        let id = self.take(command, None, 0);
        self.piece_mut(id).state = State::Done;
        self.link(command, id);
    }

    /// Makes the reply due that [`Table::refuse`] prepared.
    pub fn answer(&mut self, command: CommandNo) {
        self.enqueue(command);
    }

    /// Takes a piece and hands it to the core: all commands but Write. A read has its buffer in `buf`, of
    /// which the caller has taken one reference for us and one for the core.
    pub fn issue(&mut self, command: CommandNo, buf: Option<Buf>) -> FrontRequest {
        let bytes = self.next_bytes(command);
        let id = self.take(command, buf, bytes);
        if self.work(command) == Work::Read {
            self.link(command, id);
        }
        self.hand_over(id)
    }

    /// Takes a piece of a Write whose payload is now to be received into `buf`. Returns it and its bytes.
    pub fn fill(&mut self, command: CommandNo, buf: Buf) -> (FrontId, usize) {
        let bytes = self.next_bytes(command);
        (self.take(command, Some(buf), bytes), bytes)
    }

    /// Hands a piece whose payload is complete to the core, together with our reference to its buffer.
    pub fn filled(&mut self, id: FrontId) -> FrontRequest {
        let request = self.hand_over(id);
        self.piece_mut(id).buf = None;
        request
    }

    /// The data of a read that is with the core will be in `to`, of which the caller has taken a reference for us.
    /// Returns the buffer whose reference is now the caller's to release.
    pub fn change_buf(&mut self, id: FrontId, to: Buf) -> Buf {
        let piece = self.piece_mut(id);
        assert_eq!(piece.state, State::AtCore, "its data may be on its way to the client");
        piece.buf.replace(to).expect("a read has a buffer")
    }

    /// Takes the core's answer. Returns the client, and true if the piece is to be released.
    pub fn complete(&mut self, id: FrontId, error: Errno) -> (usize, bool) {
        let piece = self.piece_mut(id);
        assert_eq!(piece.state, State::AtCore, "only what the core has can be completed");
        piece.state = State::Done;
        let no = piece.command;
        let command = self.command_mut(no);
        if command.error == Errno::Ok {
            command.error = error;
        }
        let (client, failed) = (command.client, error != Errno::Ok);
        let release = match (command.reply, command.work) {
            (Reply::Answered, _) => true,
            (_, Work::Read) => {
                let due = command.first == Some(id) || failed;
                if due && command.reply == Reply::Pending {
                    self.enqueue(no);
                }
                if failed {
                    self.truncate(no);
                }
                false
            }
            _ if command.pieces > 1 || command.left > 0 => true,
            // The last piece keeps the place of the command until it is answered.
            _ => {
                self.link(no, id);
                self.enqueue(no);
                false
            }
        };
        (client, release)
    }

    /// The next thing to send to `client`. `release` gets the buffers no longer needed.
    pub fn next_outgoing(&mut self, client: usize, release: &mut dyn FnMut(Buf)) -> Outgoing {
        let Some(no) = self.clients[client].first_ready else {
            return Outgoing::Nothing;
        };
        let command = *self.command(no);
        let data_follows = command.work == Work::Read && command.error == Errno::Ok;
        if command.reply == Reply::Queued {
            if data_follows {
                self.command_mut(no).reply = Reply::Begun;
            } else {
                self.dequeue(no);
                self.release_done(no, release);
            }
            return Outgoing::Header { cookie: command.cookie, error: command.error };
        }
        assert_eq!(command.reply, Reply::Begun);
        if !data_follows {
            return Outgoing::Broken;
        }
        let Some(id) = command.first else {
            return Outgoing::Nothing;
        };
        let piece = self.piece_mut(id);
        let (State::Done, Some(buf)) = (piece.state, piece.buf) else {
            return Outgoing::Nothing;
        };
        piece.state = State::Sending;
        let (bytes, next) = (piece.bytes, piece.next.take());
        let command = self.command_mut(no);
        command.first = next;
        if next.is_none() {
            command.last = None;
            if command.left == 0 {
                self.dequeue(no);
            }
        }
        Outgoing::Data { id, buf, bytes }
    }

    /// True if [`Table::reissue`] has a use for this sent piece.
    pub fn can_reissue(&self, id: FrontId) -> bool {
        self.command(self.piece(id).command).left > 0
    }

    /// Uses a sent piece and its buffer for what is left of its read. The caller has taken another reference
    /// to the buffer for the core.
    pub fn reissue(&mut self, id: FrontId) -> FrontRequest {
        let piece = *self.piece(id);
        assert_eq!(piece.state, State::Sending);
        let bytes = self.next_bytes(piece.command);
        self.assign(piece.command, id, bytes);
        self.link(piece.command, id);
        self.hand_over(id)
    }

    /// The buffer of a piece of which we hold a reference.
    pub fn buf(&self, id: FrontId) -> Option<Buf> {
        self.piece(id).buf
    }

    /// Frees a piece. Returns the buffer whose reference is now the caller's to release.
    pub fn release(&mut self, id: FrontId) -> Option<Buf> {
        let piece = self.piece_mut(id);
        assert!(piece.state != State::Free && piece.state != State::AtCore);
        piece.state = State::Free;
        let (no, shared, buf) = (piece.command, piece.shared, piece.buf.take());
        self.free_pieces.push(id);
        let client = self.command(no).client;
        if shared {
            self.shared -= 1;
        } else {
            self.clients[client].reserved -= 1;
        }
        let command = self.command_mut(no);
        command.pieces -= 1;
        self.end_if_over(no);
        buf
    }

    /// Gives up all commands of a client that is gone: nothing more is issued or sent. Pieces that are with
    /// the core, being filled or being sent stay until that ends.
    pub fn abandon(&mut self, client: usize, release: &mut dyn FnMut(Buf)) {
        self.clients[client].first_ready = None;
        self.clients[client].last_ready = None;
        for index in 0..self.commands.len() {
            let no = CommandNo(index as u16);
            let command = &mut self.commands[index];
            if command.live && command.client == client {
                command.reply = Reply::Answered;
                self.truncate(no);
                if self.command(no).pieces == 0 {
                    self.end_if_over(no);
                } else {
                    self.release_done(no, release);
                }
            }
        }
    }

    fn next_bytes(&self, command: CommandNo) -> usize {
        let command = self.command(command);
        let most = match command.work {
            Work::Nothing | Work::Flush => 0,
            Work::Read | Work::Write { .. } => IO_BYTES_MAX as u64,
            Work::Zero { .. } => ZERO_BYTES_MAX,
        };
        command.left.min(most) as usize
    }

    fn take(&mut self, command: CommandNo, buf: Option<Buf>, bytes: usize) -> FrontId {
        let client = self.command(command).client;
        assert!(self.may_take(client, true), "asked before");
        let shared = !self.has_reserve(client);
        if shared {
            self.shared += 1;
        } else {
            self.clients[client].reserved += 1;
        }
        let id = self.free_pieces.pop().expect("the shares add up to the number of pieces");
        let piece = self.piece_mut(id);
        assert_eq!(piece.state, State::Free);
        (piece.command, piece.shared, piece.buf) = (command, shared, buf);
        self.command_mut(command).pieces += 1;
        self.assign(command, id, bytes);
        id
    }

    /// Cuts the next `bytes` off the command for this piece.
    fn assign(&mut self, no: CommandNo, id: FrontId, bytes: usize) {
        let command = self.command_mut(no);
        let offset = command.offset;
        command.offset += bytes as u64;
        command.left -= bytes as u64;
        let (client, all) = (command.client, command.left == 0);
        if all && self.clients[client].issuing == Some(no) {
            self.clients[client].issuing = None;
        }
        let piece = self.piece_mut(id);
        (piece.offset, piece.bytes, piece.next) = (offset, bytes, None);
        piece.state = State::Filling;
    }

    /// Appends to the pieces that wait until their command is answered: all those of a read, in order, and
    /// the last of other commands.
    fn link(&mut self, no: CommandNo, id: FrontId) {
        let last = self.command_mut(no).last.replace(id);
        match last {
            Some(last) => self.piece_mut(last).next = Some(id),
            None => self.command_mut(no).first = Some(id),
        }
    }

    fn hand_over(&mut self, id: FrontId) -> FrontRequest {
        let piece = self.piece_mut(id);
        assert_eq!(piece.state, State::Filling);
        piece.state = State::AtCore;
        let piece = *piece;
        let span = || Span::from_bytes(piece.offset, piece.bytes as u64).expect("checked on entry");
        let buf = || piece.buf.expect("reads and writes have a buffer");
        let op = match self.command(piece.command).work {
            Work::Nothing => unreachable!("nothing is not handed to the core"),
            Work::Read => FrontOp::Read { span: span(), buf: buf() },
            Work::Write { fua } => FrontOp::Write { span: span(), buf: buf(), fua },
            Work::Zero { kind, fua } => FrontOp::Zero { span: span(), kind, fua },
            Work::Flush => FrontOp::Flush,
        };
        FrontRequest { id, op }
    }

    fn enqueue(&mut self, no: CommandNo) {
        let command = self.command_mut(no);
        assert_eq!(command.reply, Reply::Pending);
        (command.reply, command.next) = (Reply::Queued, None);
        let client = command.client;
        match self.clients[client].last_ready.replace(no) {
            Some(last) => self.command_mut(last).next = Some(no),
            None => self.clients[client].first_ready = Some(no),
        }
    }

    /// Takes the first command off its client's queue: all of its reply is out.
    fn dequeue(&mut self, no: CommandNo) {
        let command = self.command_mut(no);
        command.reply = Reply::Answered;
        let (client, next) = (command.client, command.next.take());
        let share = &mut self.clients[client];
        assert_eq!(share.first_ready, Some(no));
        share.first_ready = next;
        if next.is_none() {
            share.last_ready = None;
        }
    }

    /// Issues no more of a command.
    fn truncate(&mut self, no: CommandNo) {
        let command = self.command_mut(no);
        command.left = 0;
        let client = command.client;
        if self.clients[client].issuing == Some(no) {
            self.clients[client].issuing = None;
        }
    }

    /// Frees what an answered command holds and nobody else uses.
    fn release_done(&mut self, no: CommandNo, release: &mut dyn FnMut(Buf)) {
        let command = self.command_mut(no);
        command.last = None;
        let mut next = command.first.take();
        // The command ends with its last piece: it is not looked at again.
        while let Some(id) = next {
            let piece = self.piece_mut(id);
            next = piece.next.take();
            if piece.state == State::Done
                && let Some(buf) = self.release(id)
            {
                release(buf);
            }
        }
    }

    fn end_if_over(&mut self, no: CommandNo) {
        let command = self.command_mut(no);
        if command.pieces == 0 && command.reply == Reply::Answered {
            assert_eq!(command.left, 0);
            command.live = false;
            let client = command.client;
            self.clients[client].commands -= 1;
            self.free_commands.push(no);
        }
    }

    fn piece(&self, id: FrontId) -> &Piece {
        &self.pieces[id.0 as usize]
    }

    fn piece_mut(&mut self, id: FrontId) -> &mut Piece {
        &mut self.pieces[id.0 as usize]
    }

    fn command(&self, no: CommandNo) -> &Command {
        let command = &self.commands[usize::from(no.0)];
        assert!(command.live);
        command
    }

    fn command_mut(&mut self, no: CommandNo) -> &mut Command {
        let command = &mut self.commands[usize::from(no.0)];
        assert!(command.live);
        command
    }
}

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
