//! A link to the peer: frames over one connected socket.
//!
//! It promises to hand out only messages that the codec and the checksum of their payload have passed, in
//! the order sent, and to end with exactly one [`LinkEvent::Closed`] after which nothing of it is left on
//! the ring. Whatever a peer sends, nothing worse than that can happen.
//!
//! ```text
//!          send                                     poll
//!            │                                        ▲
//!   ┌────────▼────────┐                     ┌─────────┴────────┐
//!   │ next batch      │                     │ bytes received   │  headers and payloads
//!   ├─────────────────┤ flush               ├──────────────────┤
//!   │ batch in flight │                     │ payload begun    │  large payloads straight into their buffer
//!   └────────┬────────┘                     └─────────▲────────┘
//!            │ one gathered SENDMSG at a time         │ one RECVMSG at a time
//!            ▼                                        │
//!   ═════════╧════════════════════ socket ════════════╧═════════
//!
//!   Shaking (TLS only) ──the other end is the peer──► Open
//!      └──── refused, with the reason why ────► Draining
//!   Open ──close(drain)──► Draining ──all sent, peer's end seen, or LINGER_MS──► Ending ──► Closed
//!    └──────── peer closed, error, bad frame, close(now) ────────────────────────►┘
//! ```
//!
//! With TLS nothing of a frame is sent or believed before [`LinkEvent::Secured`].
//!
//! In each turn the driver gives it its completions, calls [`Link::poll`] until it returns `None`, and
//! [`Link::flush`] before it waits.

pub mod assembly;
mod inbox;
mod outbox;
mod sealed;

use super::Io;
use super::faults::Faults;
use super::ring::{Completion, Owner, Token};
use super::tls::{NO_TLS, Session};
use crate::key::PublicKey;
use crate::limits::LINGER_MS;
use crate::replica::event::Buf;
use crate::wire::message::Message;
use assembly::Next;
use inbox::Inbox;
use outbox::Outbox;
use rustix::net::{SendFlags, Shutdown};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Kinds of tokens.
const RECEIVE: u8 = 1;
const SEND: u8 = 2;
const LINGER: u8 = 3;

/// What follows a message on the stream.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    None,
    /// The first bytes of a payload buffer, as many as the message says. The link holds it until they are
    /// sent.
    Buf(Buf),
    /// These bytes.
    Bytes(Box<[u8]>),
}

/// Something happened on the link.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moved on the stack, never stored: no allocation")]
pub enum LinkEvent {
    /// The other end is the peer, and what is said from here on is for it alone. Comes once, first, and with TLS only.
    Secured {
        /// The key that it has shown.
        key: Option<PublicKey>,
    },
    /// A message arrived.
    Received {
        /// What.
        message: Message,
        /// The payload of a `Write` or `ResyncData`, with one reference that is now the receiver's.
        buf: Option<Buf>,
        /// The payload of a `BitmapPage`, else empty.
        payload: Box<[u8]>,
    },
    /// The link has ended. It may be dropped.
    Closed {
        /// Why, for the operator.
        why: String,
    },
}

#[derive(Debug)]
enum State {
    Open,
    /// Sends the rest; what comes in is dropped. `shut`: the peer has been told that nothing more comes.
    Draining {
        shut: bool,
    },
    /// Waits for operations to end.
    Ending {
        why: String,
    },
    Closed,
}

/// A connected socket that speaks the peer protocol.
pub struct Link {
    /// Leaked if an operation that names it may still be submitted.
    socket: ManuallyDrop<OwnedFd>,
    instance: u16,
    inbox: Inbox,
    outbox: Outbox,
    state: State,
    lingering: bool,
    tls: Option<Box<Session>>,
    /// Nothing is to be told of TLS any more.
    secured: bool,
    /// Why the other end was refused: it is still being told so.
    refusal: Option<String>,
    /// The network or the other end has ended it, without a word why.
    lost: bool,
    /// The network has, since nothing came back any more.
    unanswered: bool,
    /// Faults on purpose.
    pub faults: Faults,
}

impl Link {
    /// Speaks over `socket`. `instance` names it in its tokens, and is not used by another link before this
    /// one is closed.
    pub fn new(socket: OwnedFd, instance: u16) -> Link {
        Link::with(socket, instance, None)
    }

    /// The same, within a TLS session that has not begun.
    pub fn secure(socket: OwnedFd, instance: u16, session: Session) -> Link {
        Link::with(socket, instance, Some(Box::new(session)))
    }

    fn with(socket: OwnedFd, instance: u16, tls: Option<Box<Session>>) -> Link {
        Link {
            socket: ManuallyDrop::new(socket),
            instance,
            inbox: Inbox::new(),
            outbox: Outbox::default(),
            state: State::Open,
            lingering: false,
            secured: tls.is_none(),
            tls,
            refusal: None,
            lost: false,
            unanswered: false,
            faults: Faults::default(),
        }
    }

    /// Queues a message. It goes out with the next [`Link::flush`], in the order of the calls. On a link
    /// that is closing it goes nowhere.
    ///
    /// # Panics
    /// If `body` is not what `message` announces: a bug of ours.
    pub fn send(&mut self, io: &mut Io, message: &Message, body: Body) {
        if !matches!(self.state, State::Open) {
            return;
        }
        if let Err(why) = self.outbox.push(&mut io.pool, message, body) {
            self.end(io, why);
        }
    }

    /// The payload of the `ReadReply` to `id` goes into `buf`, which is held until then.
    pub fn expect_reply(&mut self, io: &mut Io, id: u64, buf: Buf) {
        if matches!(self.state, State::Open) {
            self.inbox.expect(&mut io.pool, id, buf);
        }
    }

    /// Starts to send what was queued, if nothing is being sent.
    pub fn flush(&mut self, io: &mut Io) {
        let target = (self.socket.as_raw_fd(), self.token(SEND));
        let tls = self.tls.as_deref_mut();
        if matches!(self.state, State::Open | State::Draining { .. })
            && let Err(why) = self.outbox.flush(io, target, &mut self.faults, tls)
        {
            self.end(io, why);
        }
        let drained = self.outbox.is_empty(self.tls.as_deref());
        if matches!(self.state, State::Draining { shut: false }) && drained {
            if let Some(tls) = self.tls.as_deref_mut().filter(|tls| tls.is_open()) {
                self.outbox.say_goodbye(io, target, &mut self.faults, tls);
                if self.outbox.in_flight() {
                    return;
                }
            }
            // An error means that the connection is gone, which receiving will tell.
            let _gone = rustix::net::shutdown(&*self.socket, Shutdown::Write);
            self.state = State::Draining { shut: true };
        }
    }

    /// Takes a completion whose token has [`Owner::Peer`] and our instance.
    pub fn on_completion(&mut self, io: &mut Io, done: Completion) {
        let target = (self.socket.as_raw_fd(), done.token);
        let open = matches!(self.state, State::Open | State::Draining { .. });
        let draining = matches!(self.state, State::Draining { .. });
        let tls = self.tls.as_deref_mut();
        let result = match done.token.kind() {
            // Our own doing: see `close`. What follows is received to be dropped.
            RECEIVE if draining && done.result == -libc::ECANCELED => {
                self.inbox.on_cancelled();
                Ok(())
            }
            RECEIVE => self.inbox.on_result(done.result, tls),
            SEND if open => self.outbox.on_result(io, done.result, target, &mut self.faults, tls),
            SEND => {
                self.outbox.on_cancelled(&mut io.pool);
                Ok(())
            }
            kind => {
                assert_eq!(kind, LINGER, "unknown operation of a link");
                self.lingering = false;
                Err("Closed by this node; the peer did not close its end in time".to_owned())
            }
        };
        if let Err(why) = result {
            self.lost |= open && self.refusal.is_none();
            self.unanswered |= open && is_unanswered(done.result);
            self.end(io, why);
        }
    }

    /// The next thing that has happened; `None` if there is nothing now. While no payload buffer is free,
    /// nothing more is received: poll again when one is.
    pub fn poll(&mut self, io: &mut Io) -> Option<LinkEvent> {
        if matches!(self.state, State::Open) && !self.secured && !self.inbox.in_flight() {
            match self.shake() {
                Ok(None) => self.receive(io),
                Ok(secured) => return secured,
                Err(why) => self.refuse(io, why),
            }
        }
        if matches!(self.state, State::Open | State::Draining { .. }) && !self.inbox.in_flight() {
            if matches!(self.state, State::Draining { .. }) {
                self.inbox.discard(&mut io.pool);
                self.tls.as_deref_mut().into_iter().for_each(Session::discard);
            }
            match self.inbox.next(&mut io.pool, self.tls.as_deref_mut()) {
                Ok(Next::Frame(event)) => return Some(event),
                Ok(Next::NoBuffer) => {}
                Ok(Next::NeedBytes) => self.receive(io),
                Err(why) if why == assembly::SPEAKS_TLS => {
                    self.say_no_tls();
                    self.refuse(io, why);
                    return self.poll(io);
                }
                Err(why) => self.end(io, why),
            }
        }
        let idle = !self.inbox.in_flight() && !self.outbox.in_flight() && !self.lingering;
        let State::Ending { why } = &mut self.state else {
            return None;
        };
        if !idle {
            return None;
        }
        let why = std::mem::take(why);
        self.inbox.discard(&mut io.pool);
        self.outbox.discard(&mut io.pool);
        self.state = State::Closed;
        Some(LinkEvent::Closed { why })
    }

    /// Goes on with the handshake.
    fn shake(&mut self) -> Result<Option<LinkEvent>, String> {
        let Some(tls) = self.tls.as_deref_mut() else { return Ok(None) };
        if !tls.shake()? {
            return Ok(None);
        }
        self.secured = true;
        Ok(Some(LinkEvent::Secured { key: tls.peer() }))
    }

    fn receive(&mut self, io: &mut Io) {
        let target = (self.socket.as_raw_fd(), self.token(RECEIVE));
        self.inbox.receive(io, target, &mut self.faults, self.tls.as_deref_mut());
    }

    /// The other end is not talked to: it is told so, and then the link closes for this reason. What it has sent is
    /// read to be dropped: unread, it would reset the connection, and the reason would be lost.
    fn refuse(&mut self, io: &mut Io, why: String) {
        self.refusal = Some(why);
        self.close(io, true);
    }

    /// To one who speaks TLS where it is not spoken. Best effort: on a fresh connection there is room for it.
    fn say_no_tls(&mut self) {
        if !self.outbox.in_flight() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _lost = rustix::net::send(&*self.socket, &NO_TLS, flags);
        }
    }

    /// Closes the link: after what was queued is sent and taken, if `drain`, else at once. No more messages
    /// are handed out; [`LinkEvent::Closed`] follows.
    pub fn close(&mut self, io: &mut Io, drain: bool) {
        if !drain {
            return self.end(io, "Closed by this node".to_owned());
        }
        if matches!(self.state, State::Open) {
            self.state = State::Draining { shut: false };
            // What is being received may be meant for a buffer; nothing of it is wanted any more.
            self.cancel(io, RECEIVE, self.inbox.in_flight());
            io.ring.timeout(Duration::from_millis(LINGER_MS), self.token(LINGER));
            self.lingering = true;
        }
    }

    /// The connection itself, to be looked at.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// It was ended by the network, or by the other end without a word why: that may pass by itself.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// It was ended by the network since the other end could not be reached any more: another way to it may work.
    pub fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// True after [`LinkEvent::Closed`].
    pub fn closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn end(&mut self, io: &mut Io, why: String) {
        if matches!(self.state, State::Ending { .. } | State::Closed) {
            return;
        }
        self.state = State::Ending { why: self.refusal.take().unwrap_or(why) };
        // An error means that the connection is gone already.
        let _gone = rustix::net::shutdown(&*self.socket, Shutdown::Both);
        self.cancel(io, RECEIVE, self.inbox.in_flight());
        self.cancel(io, SEND, self.outbox.in_flight());
        self.cancel(io, LINGER, self.lingering);
    }

    fn cancel(&self, io: &mut Io, kind: u8, in_flight: bool) {
        if in_flight {
            io.ring.cancel(self.token(kind));
        }
    }

    fn token(&self, kind: u8) -> Token {
        Token::of(Owner::Peer, self.instance, kind, 0)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.inbox.in_flight() || self.outbox.in_flight() {
            self.inbox.leak();
            self.outbox.leak();
            self.tls.as_deref_mut().into_iter().for_each(Session::leak);
            return;
        }
        // SAFETY: dropped once, here; no operation names the descriptor any more.
        unsafe { ManuallyDrop::drop(&mut self.socket) };
    }
}

/// What the kernel says when sent bytes stay unconfirmed, or find no way.
fn is_unanswered(result: i32) -> bool {
    let silence =
        [libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ENETDOWN, libc::EHOSTDOWN];
    silence.contains(&-result)
}

/// `EAGAIN` and `EINTR` are tried again, but not for ever; everything else below zero is the end.
fn retry(result: i32, retries: &mut u8) -> Result<(), String> {
    let again = matches!(-result, libc::EAGAIN | libc::EINTR);
    if again && *retries < crate::limits::SOCKET_RETRIES_MAX {
        *retries += 1;
        return Ok(());
    }
    Err(format!("The connection broke: {}", std::io::Error::from_raw_os_error(-result)))
}

#[cfg(test)]
mod tests;
