//! Whose key is believed: the peer's own, as configured, and no other. There is no authority, no name and no date.

use crate::key::PublicKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved,
    SignatureScheme,
};
use std::fmt;
use std::sync::Arc;

/// Which keys are believed.
pub(super) trait Belief: fmt::Debug + Send + Sync {
    /// True if `shown`, and `more` certificates behind it, is enough.
    fn holds(&self, shown: Option<PublicKey>, more: usize) -> bool;
}

/// The keys that the peer may show.
#[derive(Debug)]
pub(super) struct Pinned(pub(super) Vec<PublicKey>);

impl Belief for Pinned {
    fn holds(&self, shown: Option<PublicKey>, more: usize) -> bool {
        more == 0 && shown.is_some_and(|key| self.0.contains(&key))
    }
}

/// For a first meeting: any key of our kind is taken, and its owner is nobody until he has proved more than that he has
/// it. Never for the link itself.
#[derive(Debug)]
pub(super) struct Anybody;

impl Belief for Anybody {
    fn holds(&self, shown: Option<PublicKey>, _more: usize) -> bool {
        shown.is_some()
    }
}

/// Asks the other end for a key that is believed.
#[derive(Debug)]
pub(super) struct Verifier<B> {
    pub(super) belief: B,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// The other end has shown a key that is not the peer's.
#[derive(Debug)]
pub(super) struct WrongKey(pub(super) Option<PublicKey>);

impl fmt::Display for WrongKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => write!(f, "it shows the key {key}, which is not configured as its own"),
            None => write!(f, "it shows a key that is not Ed25519"),
        }
    }
}

impl std::error::Error for WrongKey {}

impl<B: Belief> Verifier<B> {
    fn check(&self, shown: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let key = PublicKey::from_spki(shown);
        if self.belief.holds(key, more.len()) {
            return Ok(());
        }
        let wrong = OtherError(Arc::new(WrongKey(key)));
        Err(Error::InvalidCertificate(CertificateError::Other(wrong)))
    }

    /// The other end has the private key, too: it has signed what was said so far.
    fn check_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signed, &self.algorithms)
    }
}

/// TLS 1.2 is not built in: this cannot be reached, and would refuse.
fn never_older() -> Error {
    PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into()
}

impl ServerCertVerifier for Verifier<Pinned> {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(shown, more).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(never_older())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl<B: Belief> ClientCertVerifier for Verifier<B> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(shown, more).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(never_older())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
