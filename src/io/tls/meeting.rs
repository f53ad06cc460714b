//! The first meeting of two nodes, of which one knows the other's key and the other nothing yet: TLS 1.3 as on the link
//! between them, under a protocol name of its own, so that neither is ever taken for the other.
//!
//! Promises: the visitor talks to who has the private half of the key that he looks for, or to nobody; both have the
//! same [`Meeting::binding`], which no other session has. Never: that the visitor is believed to be anyone because this
//! session stands. Who he is must be proved inside, bound to the session.

use super::pinned::{Anybody, Pinned, Verifier, WrongKey};
use super::{Secret, client_config, provider, server_config};
use crate::key::PublicKey;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, Connection, Error, ServerConfig};
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What is spoken inside.
const PROTOCOL: &[u8] = b"rblk-pair/1";
/// What the binding is derived under (RFC 5705).
const LABEL: &[u8] = b"EXPORTER-rblk-pair-1";

/// The node that is visited.
pub struct Visited(Arc<ServerConfig>);

impl Visited {
    /// It shows the key of `secret`.
    ///
    /// # Errors
    /// The library does not take the key or its own parts, in words.
    pub fn new(secret: &Secret) -> Result<Visited, String> {
        let provider = provider();
        let anybody = Arc::new(Verifier {
            belief: Anybody,
            algorithms: provider.signature_verification_algorithms,
        });
        Ok(Visited(Arc::new(server_config(provider, anybody, secret, PROTOCOL)?)))
    }

    /// A session with somebody who has come, of whom `bytes` are taken at most.
    ///
    /// # Errors
    /// The library cannot begin, in words.
    pub fn meet(&self, bytes: usize) -> Result<Meeting, String> {
        let connection = rustls::ServerConnection::new(self.0.clone());
        Ok(Meeting::new(connection.map_err(|error| error.to_string())?.into(), bytes))
    }
}

/// A session of a first meeting.
pub struct Meeting {
    tls: Connection,
    /// Bytes that may still arrive.
    left: usize,
}

impl Meeting {
    /// Visits the node with the key `host`, of which `bytes` are taken at most; shows the key of `secret`.
    ///
    /// # Errors
    /// The library cannot begin, in words.
    pub fn visit(
        secret: &Secret,
        host: PublicKey,
        to: IpAddr,
        bytes: usize,
    ) -> Result<Meeting, String> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let pinned = Arc::new(Verifier { belief: Pinned(vec![host]), algorithms });
        let client = client_config(provider, pinned, secret, PROTOCOL)?;
        let name = ServerName::IpAddress(to.into());
        let connection = rustls::ClientConnection::new(Arc::new(client), name);
        Ok(Meeting::new(connection.map_err(|error| error.to_string())?.into(), bytes))
    }

    fn new(mut tls: Connection, bytes: usize) -> Meeting {
        // What is said is bounded by who says it: a message at a time.
        tls.set_buffer_limit(None);
        Meeting { tls, left: bytes }
    }

    /// Takes in what `wire` has, and appends what the other end said to `heard`. False once it has nothing more to say.
    /// `WouldBlock` and time limits of `wire` are passed on as they are.
    ///
    /// # Errors
    /// The outer one: of the wire. The inner one: the other end is not to be talked to; [`Meeting::write_to`] has what
    /// tells it so.
    pub fn read_from(
        &mut self,
        wire: &mut dyn Read,
        heard: &mut Vec<u8>,
    ) -> std::io::Result<Result<bool, String>> {
        if self.left == 0 {
            return Ok(Err("it says more than it should".to_owned()));
        }
        let limit = self.left as u64;
        let read = self.tls.read_tls(&mut wire.take(limit))?;
        self.left -= read;
        if let Err(error) = self.tls.process_new_packets() {
            return Ok(Err(explain(&error)));
        }
        if !self.tls.is_handshaking() && self.tls.alpn_protocol() != Some(PROTOCOL) {
            return Ok(Err("it is not about pairing".to_owned()));
        }
        let before = heard.len();
        match self.tls.reader().read_to_end(heard) {
            Ok(_) => Ok(Ok(false)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Ok(Ok(read > 0 || heard.len() > before))
            }
            Err(_) => Ok(Ok(false)),
        }
    }

    /// There is something for [`Meeting::write_to`].
    pub fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Writes what is sealed, as much as `wire` takes at once.
    ///
    /// # Errors
    /// Those of `wire`.
    pub fn write_to(&mut self, wire: &mut dyn Write) -> std::io::Result<()> {
        self.tls.write_tls(wire).map(drop)
    }

    /// Seals `plain`. Before [`Meeting::peer`] is known it is kept until then.
    pub fn say(&mut self, plain: &[u8]) {
        // It is held in memory, without a limit of its own: that cannot fail.
        let _held = self.tls.writer().write_all(plain);
    }

    /// Seals the notice that nothing more comes.
    pub fn say_goodbye(&mut self) {
        self.tls.send_close_notify();
    }

    /// The key that the other end has shown, and has the private half of; once the handshake has ended.
    pub fn peer(&self) -> Option<PublicKey> {
        if self.tls.is_handshaking() {
            return None;
        }
        let shown = self.tls.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
        shown.and_then(|shown| PublicKey::from_spki(shown))
    }

    /// What both ends of this session know, and nobody else, nor both ends of any other.
    ///
    /// # Errors
    /// The handshake has not ended.
    pub fn binding(&self) -> Result<Zeroizing<[u8; 32]>, String> {
        let mut binding = Zeroizing::new([0; 32]);
        let derived = self.tls.export_keying_material(&mut binding[..], LABEL, None);
        derived.map(|_| ()).map_err(|error| error.to_string())?;
        Ok(binding)
    }
}

/// The library's error in words of ours.
fn explain(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref() {
            Some(WrongKey(Some(key))) => format!(
                "it shows the key {key}, which is not the one in the token: somebody else has answered"
            ),
            Some(wrong @ WrongKey(None)) => wrong.to_string(),
            None => error.to_string(),
        },
        Error::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::NoApplicationProtocol,
        ) => "it is not `rblk pair` that listens there, but perhaps the daemon".to_owned(),
        _ => error.to_string(),
    }
}
