//! Messages over a session over a socket: for both ends.

use super::message::Message;
use super::proof::{Claim, Role};
use super::token::Token;
use crate::io::tls::Meeting;
use crate::key::PublicKey;
use std::io::{ErrorKind, Read, Write};
use zeroize::Zeroizing;

/// One end of a conversation.
pub(super) struct Line {
    meeting: Meeting,
    heard: Vec<u8>,
    /// Anything at all has arrived.
    begun: bool,
    over: bool,
}

/// What a look at the wire came to.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// A message.
    Said(Message),
    /// Nothing that is whole, yet.
    Wait,
    /// The other end has closed, or the wire is broken.
    Closed,
}

impl Line {
    pub(super) fn new(meeting: Meeting) -> Line {
        Line { meeting, heard: Vec::new(), begun: false, over: false }
    }

    /// The next message, if `wire` has it. Returns as soon as `wire` would block, or its time limit is over.
    ///
    /// # Errors
    /// The other end is not to be talked to; what tells it so is written if `wire` takes it.
    pub(super) fn look(&mut self, wire: &mut dyn Read) -> Result<Look, String> {
        loop {
            if let Some(message) = Message::take(&mut self.heard)? {
                return Ok(Look::Said(message));
            }
            if self.over {
                return Ok(Look::Closed);
            }
            match self.meeting.read_from(wire, &mut self.heard) {
                Ok(more) => {
                    self.begun = true;
                    self.over = !more?;
                    // The wire is written to before it is waited for once more: a handshake needs both.
                    if self.meeting.wants_write() && self.heard.is_empty() {
                        return Ok(Look::Wait);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(Look::Wait);
                }
                Err(_) => self.over = true,
            }
        }
    }

    /// Writes what is to be written, as far as `wire` takes it.
    ///
    /// # Errors
    /// The wire is broken.
    pub(super) fn flush(&mut self, wire: &mut dyn Write) -> std::io::Result<()> {
        while self.meeting.wants_write() {
            match self.meeting.write_to(wire) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => done?,
            }
        }
        Ok(())
    }

    pub(super) fn wants_write(&self) -> bool {
        self.meeting.wants_write()
    }

    pub(super) fn say(&mut self, message: &Message) {
        let bytes = Zeroizing::new(message.encode());
        self.meeting.say(&bytes);
    }

    pub(super) fn say_goodbye(&mut self) {
        self.meeting.say_goodbye();
    }

    /// The key that the other end has, once that is known.
    pub(super) fn peer(&self) -> Option<PublicKey> {
        self.meeting.peer()
    }

    /// How much is known of the other end: the more, the later it is put out.
    pub(super) fn standing(&self) -> u8 {
        u8::from(self.begun) + u8::from(self.peer().is_some())
    }

    /// What `role` claims in this session of `token`.
    ///
    /// # Errors
    /// There is no session yet.
    pub(super) fn claimed<T>(
        &self,
        role: Role,
        token: &Token,
        guest: &PublicKey,
        then: impl FnOnce(&Claim<'_>) -> T,
    ) -> Result<T, String> {
        let binding = self.meeting.binding()?;
        let (expires, name) = (token.expires, token.name.as_str());
        Ok(then(&Claim { role, binding: &binding, host: &token.host, guest, expires, name }))
    }
}
