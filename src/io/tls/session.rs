//! One connection's session: bytes from the wire in, what the peer said out, and the other way round.
//!
//! ```text
//!   Shaking ──handshake ended, key and protocol are right──► Open ──► Over (failed, or given up)
//!      └──────── anything else ────────────────────────────────────────►┘
//! ```
//!
//! Memory: what has arrived and is not opened, at most [`RECEIVE_BYTES`], of which [`TLS_HANDSHAKE_BYTES_MAX`] in all
//! before the handshake has ended; the same once more, opened, while there is no buffer to put it in; and what the
//! library wants to say of itself, at most [`TLS_CONTROL_BYTES_MAX`].

use super::pinned::WrongKey;
use super::{NO_TLS, PROTOCOL, begins_tls};
use crate::key::PublicKey;
use crate::limits::{
    RECEIVE_BYTES, TLS_CONTROL_BYTES_MAX, TLS_HANDSHAKE_BYTES_MAX, TLS_RECORD_BYTES,
};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{AlertDescription, CertificateError, Error};
use std::collections::VecDeque;

/// A frame's first bytes: the other end does not speak TLS.
const FRAME: &[u8] = b"rblk";
/// What sealing adds to a record: its head and its seal; and once in a very long while a notice of new keys.
const RECORD_EXTRA_BYTES: usize = 512;
/// What has arrived once a session is open and the library has not taken in: a record that is not whole, and another.
const UNTAKEN_BYTES_MAX: usize = 2 * (TLS_RECORD_BYTES + RECORD_EXTRA_BYTES);
/// What is fetched of the library's last words after it has failed.
const LAST_WORDS_MAX: usize = 4;

/// Gets what is opened.
type Sink<'a> = dyn FnMut(&[u8]) + 'a;

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Shaking,
    Open,
    Over,
}

/// What a turn of the library came to.
enum Turn {
    /// It has more to do.
    Again,
    /// What the peer said was handed out.
    Opened,
    /// All that has arrived is taken in.
    Idle,
    /// The peer says nothing more.
    Closed,
}

/// A TLS session.
pub struct Session {
    side: Side,
    stage: Stage,
    /// From the wire; `start..end` is not taken in yet.
    incoming: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes that arrived before the handshake had ended.
    shaken: usize,
    /// Opened, and not handed out yet.
    opened: VecDeque<Vec<u8>>,
    /// Sealed by the library itself: its handshake, its alerts.
    control: Vec<u8>,
    peer: Option<PublicKey>,
    /// The peer has said that nothing more comes.
    closed: bool,
    /// Once nothing that arrives is wanted any more: where it goes.
    waste: Option<Box<[u8]>>,
}

impl Session {
    pub(super) fn client(connection: UnbufferedClientConnection) -> Session {
        Session::new(Side::Client(connection))
    }

    pub(super) fn server(connection: UnbufferedServerConnection) -> Session {
        Session::new(Side::Server(connection))
    }

    fn new(side: Side) -> Session {
        Session {
            side,
            stage: Stage::Shaking,
            incoming: vec![0; RECEIVE_BYTES].into(),
            start: 0,
            end: 0,
            shaken: 0,
            opened: VecDeque::new(),
            control: Vec::new(),
            peer: None,
            closed: false,
            waste: None,
        }
    }

    /// The other end is the peer, and what it says can be had.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// The key that the peer has shown, once the session is open.
    pub fn peer(&self) -> Option<PublicKey> {
        self.peer
    }

    /// Where the next bytes from the wire belong; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        if let Some(waste) = &mut self.waste {
            return waste;
        }
        self.incoming.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let most = match self.stage {
            Stage::Shaking => self.end + (TLS_HANDSHAKE_BYTES_MAX - self.shaken),
            Stage::Open | Stage::Over => self.incoming.len(),
        };
        let room = &mut self.incoming[self.end..most];
        assert!(
            !room.is_empty(),
            "a record is smaller than the buffer, a handshake within its limit"
        );
        room
    }

    /// So many bytes were put where [`Session::room`] said.
    pub fn received(&mut self, bytes: usize) {
        if self.waste.is_some() {
            return;
        }
        self.end += bytes;
        assert!(self.end <= self.incoming.len(), "more was received than there was room for");
        if self.stage == Stage::Shaking {
            self.shaken += bytes;
        }
    }

    /// Goes on with the handshake as far as what has arrived allows. True once the session is open.
    ///
    /// # Errors
    /// The other end is not to be talked to. [`Session::take_control`] has what tells it so.
    pub fn shake(&mut self) -> Result<bool, String> {
        while self.stage == Stage::Shaking {
            // Usually none; a peer that speaks at once may be heard here already.
            let turn = self.turn(None)?;
            self.look()?;
            match turn {
                Turn::Again | Turn::Opened => {}
                Turn::Idle if self.stage == Stage::Shaking => {
                    if self.shaken >= TLS_HANDSHAKE_BYTES_MAX {
                        return Err(self.over("its handshake has no end".to_owned()));
                    }
                    return Ok(false);
                }
                Turn::Idle => {}
                Turn::Closed => return Err(self.over("it has closed the session".to_owned())),
            }
        }
        Ok(self.stage == Stage::Open)
    }

    /// Hands the next bytes that the peer said to `sink`, in one piece of at most a record. False if there are none.
    ///
    /// # Errors
    /// The stream was tampered with, or the peer has closed it. Nothing more comes of it then.
    pub fn open(&mut self, mut sink: impl FnMut(&[u8])) -> Result<bool, String> {
        if self.stage != Stage::Open {
            return Ok(false);
        }
        if let Some(bytes) = self.opened.pop_front() {
            sink(&bytes);
            return Ok(true);
        }
        while !self.closed {
            match self.turn(Some(&mut sink))? {
                Turn::Again => {}
                Turn::Opened => return Ok(true),
                // The library leaves a message of its own here until it is whole, and one in pieces of a byte would
                // fill any buffer. What it is told once a session stands has a few bytes.
                Turn::Idle if self.end - self.start > UNTAKEN_BYTES_MAX => {
                    return Err(
                        self.over("The peer began a TLS message that has no end".to_owned())
                    );
                }
                Turn::Idle => return Ok(false),
                Turn::Closed => self.closed = true,
            }
        }
        Err(self.over("The peer closed the connection".to_owned()))
    }

    /// Seals `plain`, at most a record of it, and appends it to `out`, after what the library has to say of itself.
    ///
    /// # Errors
    /// The session is not open, or the library refuses.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if self.stage != Stage::Open {
            return Err("There is no open TLS session to send on".to_owned());
        }
        assert!(!plain.is_empty() && plain.len() <= TLS_RECORD_BYTES, "that is no record");
        self.settle()?;
        self.take_control(out);
        self.write(plain, out)
    }

    /// Appends what tells the peer that nothing more comes, if there is a session to say it in.
    pub fn say_goodbye(&mut self, out: &mut Vec<u8>) {
        if self.stage == Stage::Open && self.settle().is_ok() {
            self.take_control(out);
            // Whoever misses it sees the end of the stream.
            let _unsaid = self.write(&[], out);
        }
        self.stage = Stage::Over;
    }

    /// Appends what the library has to say of itself.
    pub fn take_control(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.control);
    }

    /// The library has something to say.
    pub fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// What arrives from now on is not wanted any more. What has arrived stays: the library may be within a message,
    /// and we may still have something to say.
    pub fn discard(&mut self) {
        self.opened.clear();
        self.waste.get_or_insert_with(|| vec![0; TLS_RECORD_BYTES].into());
        if self.stage == Stage::Shaking {
            self.stage = Stage::Over;
        }
    }

    /// Leaves the memory that the kernel may write to for good.
    pub(in crate::io) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.incoming));
        std::mem::forget(self.waste.take());
    }

    /// Takes in all that has arrived: only then does the library let us write.
    fn settle(&mut self) -> Result<(), String> {
        loop {
            match self.turn(None)? {
                Turn::Again | Turn::Opened => {}
                Turn::Idle => return Ok(()),
                // The library says so whenever it is asked.
                Turn::Closed if self.closed => return Ok(()),
                Turn::Closed => self.closed = true,
            }
        }
    }

    /// One turn of the library over what has arrived. Without a `sink` what is opened is kept: that is bounded, since
    /// it was in `incoming` before.
    fn turn(&mut self, sink: Option<&mut Sink<'_>>) -> Result<Turn, String> {
        if self.stage == Stage::Shaking && self.incoming[self.start..self.end].starts_with(FRAME) {
            self.control.extend_from_slice(&NO_TLS);
            return Err(self.over(
                "it speaks without TLS: `security` in [net] must be the same on both nodes, or somebody between \
                 them has answered"
                    .to_owned(),
            ));
        }
        let begins_tls = begins_tls(&self.incoming[self.start..self.end]);
        let (discard, turn) = self.step(sink);
        self.start += discard;
        match turn {
            Ok(turn) => Ok(turn),
            Err(Failure::Much) => {
                Err(self.over("it makes this node say more than it takes".to_owned()))
            }
            Err(Failure::Library(error)) => {
                self.last_words();
                let shaking = self.stage == Stage::Shaking;
                Err(self.over(explain(&error, shaking, begins_tls)))
            }
        }
    }

    fn step(&mut self, sink: Option<&mut Sink<'_>>) -> (usize, Result<Turn, Failure>) {
        let incoming = &mut self.incoming[self.start..self.end];
        let opened = &mut self.opened;
        let mut keep = |bytes: &[u8]| opened.push_back(bytes.to_vec());
        let sink: &mut Sink<'_> = match sink {
            Some(sink) => sink,
            None => &mut keep,
        };
        match &mut self.side {
            Side::Client(side) => {
                handle(side.process_tls_records(incoming), &mut self.control, sink)
            }
            Side::Server(side) => {
                handle(side.process_tls_records(incoming), &mut self.control, sink)
            }
        }
    }

    /// After a failure: the alert that tells the other end why.
    fn last_words(&mut self) {
        // Only what is ready: to look at what has arrived once more, the library must not be asked.
        for _ in 0..LAST_WORDS_MAX {
            if !self.state().wants_write() {
                break;
            }
            let (discard, _) = self.step(None);
            self.start += discard;
        }
        self.opened.clear();
    }

    fn state(&self) -> &rustls::CommonState {
        match &self.side {
            Side::Client(side) => side,
            Side::Server(side) => side,
        }
    }

    /// Whether the handshake has ended, and well.
    fn look(&mut self) -> Result<(), String> {
        let state = self.state();
        if self.stage != Stage::Shaking || state.is_handshaking() {
            return Ok(());
        }
        let shown = state.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
        let peer = shown.and_then(|shown| PublicKey::from_spki(shown));
        if state.alpn_protocol() != Some(PROTOCOL) || peer.is_none() {
            return Err(self.over("it does not speak rblk's protocol in TLS".to_owned()));
        }
        self.peer = peer;
        self.stage = Stage::Open;
        Ok(())
    }

    /// Appends one sealed record, or with nothing to seal the notice of the end.
    fn write(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let begin = out.len();
        out.resize(begin + plain.len() + RECORD_EXTRA_BYTES, 0);
        let incoming = &mut self.incoming[self.start..self.end];
        let room = &mut out[begin..];
        let (discard, written) = match &mut self.side {
            Side::Client(side) => write_to(side.process_tls_records(incoming), plain, room),
            Side::Server(side) => write_to(side.process_tls_records(incoming), plain, room),
        };
        self.start += discard;
        out.truncate(begin + *written.as_ref().unwrap_or(&0));
        written.map(drop).map_err(|why| self.over(why))
    }

    /// The session is over, for this reason.
    fn over(&mut self, why: String) -> String {
        let shaking = self.stage == Stage::Shaking;
        self.stage = Stage::Over;
        if shaking { format!("No TLS session with the other end: {why}") } else { why }
    }
}

enum Failure {
    Library(Error),
    /// More to say than is held.
    Much,
}

/// What the library wants: returns the bytes that are taken in, and what that came to.
fn handle<D>(
    status: UnbufferedStatus<'_, '_, D>,
    control: &mut Vec<u8>,
    sink: &mut Sink<'_>,
) -> (usize, Result<Turn, Failure>) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (discard, Err(Failure::Library(error))),
    };
    let turn = match state {
        ConnectionState::EncodeTlsData(mut data) => {
            let begin = control.len();
            control.resize(TLS_CONTROL_BYTES_MAX, 0);
            let encoded = data.encode(&mut control[begin..]);
            control.truncate(begin + *encoded.as_ref().unwrap_or(&0));
            match encoded {
                Ok(_) => Ok(Turn::Again),
                Err(EncodeError::InsufficientSize(_) | EncodeError::AlreadyEncoded) => {
                    Err(Failure::Much)
                }
            }
        }
        ConnectionState::TransmitTlsData(data) => {
            // It stands in `control`, and nothing overtakes it.
            data.done();
            Ok(Turn::Again)
        }
        ConnectionState::ReadTraffic(mut data) => loop {
            match data.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    sink(record.payload);
                }
                Some(Err(error)) => break Err(Failure::Library(error)),
                None => break Ok(Turn::Opened),
            }
        },
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => Ok(Turn::Idle),
        ConnectionState::PeerClosed | ConnectionState::Closed => Ok(Turn::Closed),
        // Early data, which is not offered, and what a later version of the library may think of.
        _ => Err(Failure::Library(Error::General(
            "it is in a state that is not expected".to_owned(),
        ))),
    };
    (discard, turn)
}

/// Seals into `room`; returns the bytes that are taken in, and how many are written.
fn write_to<D>(
    status: UnbufferedStatus<'_, '_, D>,
    plain: &[u8],
    room: &mut [u8],
) -> (usize, Result<usize, String>) {
    let written = match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            let written = match plain {
                [] => traffic.queue_close_notify(room),
                plain => traffic.encrypt(plain, room),
            };
            written.map_err(|error| match error {
                EncryptError::EncryptExhausted => {
                    "The keys of the TLS session are used up".to_owned()
                }
                EncryptError::InsufficientSize(_) => "A sealed record has no room".to_owned(),
            })
        }
        Ok(_) => Err("The peer closed the connection".to_owned()),
        Err(error) => Err(explain(&error, false, true)),
    };
    (status.discard, written)
}

/// The library's error in words of ours.
fn explain(error: &Error, shaking: bool, begins_tls: bool) -> String {
    let refused = "it does not accept this node's key: the key that `rblk status` shows here must stand as `key` of \
                   this node in the configuration there";
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref() {
            Some(wrong @ WrongKey(_)) => {
                format!("{wrong}: compare `key` of its [[node]] here with the key that `rblk status` shows there")
            }
            None => error.to_string(),
        },
        Error::AlertReceived(AlertDescription::CertificateUnknown) => match shaking {
            true => refused.to_owned(),
            false => format!("The peer refused the connection: {refused}"),
        },
        Error::AlertReceived(AlertDescription::HandshakeFailure) if shaking => {
            "it does not speak TLS, or not this kind: `security` in [net] must be the same on both nodes, or somebody \
             between them has answered"
                .to_owned()
        }
        _ if shaking && !begins_tls => format!("what it sends is not TLS ({error})"),
        _ if shaking => error.to_string(),
        Error::DecryptError => {
            "What arrived was changed on its way, or comes from somebody else (TLS: cannot decrypt)".to_owned()
        }
        _ => format!("The TLS session broke: {error}"),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
pub(crate) mod testing;
