//! The link's lock: TLS 1.3 between two nodes that know each other's key, by rustls. No socket is known here.
//!
//! Promises: no byte of the other end is handed out before it has proved to hold the private half of a key configured
//! for it, and none that was changed, left out, repeated or put elsewhere on the way; whatever arrives, a session holds
//! no more than its buffers. Never: an older version, a resumed session, data before the handshake has ended, a
//! certificate, a name or a date that has to be right.
//!
//! ```text
//!   configuration: keys of the peer ─┐
//!   file: private key ───────────────┴─► Setup ──dial, accept──► Session
//!                                                                 │  ▲
//!                             room, received: from the wire ──────┘  │
//!                             open: what the peer said ◄─────────────┤
//!                             seal, take_control: for the wire ◄─────┘
//! ```

mod meeting;
mod pinned;
mod secret;
mod session;

pub use meeting::{Meeting, Visited};
pub use secret::Secret;
pub use session::Session;

use crate::key::PublicKey;
use pinned::{Pinned, Verifier};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use std::net::IpAddr;
use std::sync::Arc;

/// What is spoken inside. Another protocol on the same port, or another version of how it is wrapped, does not meet.
const PROTOCOL: &[u8] = b"rblk/1";

/// What the sessions of a node have in common.
pub struct Setup {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Setup {
    /// This node has `secret`; its peer shows one of `peer`.
    ///
    /// # Errors
    /// The library does not take the key or its own parts, in words.
    pub fn new(secret: &Secret, peer: &[PublicKey]) -> Result<Setup, String> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let pinned = Arc::new(Verifier { belief: Pinned(peer.to_vec()), algorithms });
        let client = client_config(provider.clone(), pinned.clone(), secret, PROTOCOL)?;
        let server = server_config(provider, pinned, secret, PROTOCOL)?;
        Ok(Setup { client: Arc::new(client), server: Arc::new(server) })
    }

    /// A session of the node that dials; it speaks first.
    ///
    /// # Errors
    /// The library cannot begin, in words.
    pub fn dial(&self, to: IpAddr) -> Result<Session, String> {
        let name = ServerName::IpAddress(to.into());
        let connection = rustls::client::UnbufferedClientConnection::new(self.client.clone(), name);
        Ok(Session::client(connection.map_err(|error| error.to_string())?))
    }

    /// A session of the node that is dialled.
    ///
    /// # Errors
    /// The library cannot begin, in words.
    pub fn accept(&self) -> Result<Session, String> {
        let connection = rustls::server::UnbufferedServerConnection::new(self.server.clone());
        Ok(Session::server(connection.map_err(|error| error.to_string())?))
    }
}

/// What the library calculates with.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        // The first also holds against those who record today and calculate later.
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

/// The key that is shown.
fn shown(secret: &Secret) -> Arc<CertifiedKey> {
    let shown = vec![CertificateDer::from(secret.public.spki())];
    Arc::new(CertifiedKey::new(shown, secret.signing.clone()))
}

fn client_config(
    provider: Arc<CryptoProvider>,
    believes: Arc<dyn ServerCertVerifier>,
    secret: &Secret,
    protocol: &[u8],
) -> Result<ClientConfig, String> {
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(believes)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(shown(secret))));
    client.alpn_protocols = vec![protocol.to_vec()];
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    Ok(client)
}

fn server_config(
    provider: Arc<CryptoProvider>,
    believes: Arc<dyn ClientCertVerifier>,
    secret: &Secret,
    protocol: &[u8],
) -> Result<ServerConfig, String> {
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(believes)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(shown(secret))));
    server.alpn_protocols = vec![protocol.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;
    Ok(server)
}

/// True if these bytes of a stream begin a record of TLS: a handshake or an alert. A frame begins otherwise.
pub fn begins_tls(stream: &[u8]) -> bool {
    matches!(stream, [0x15 | 0x16, 3, ..])
}

/// What tells a TLS client that there is no TLS here: a fatal alert, `handshake_failure`.
pub const NO_TLS: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 40];

#[cfg(test)]
pub(crate) use session::testing;
