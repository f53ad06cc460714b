//! What shows that somebody knows a token: a MAC over the very session in which it is said, the keys and the roles.
//!
//! The session's binding comes from TLS itself: somebody between the nodes has two sessions, and a proof from the one
//! is worth nothing in the other; nor is one that was recorded. The role is in it, so that none can be sent back.

use crate::key::PublicKey;
use crate::limits::PAIR_SECRET_BYTES;
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// Bytes of a proof.
pub(super) const PROOF_BYTES: usize = 32;

/// What only those who have seen the token know. It is wiped from memory, and shown by nothing.
pub struct Secret(Zeroizing<[u8; PAIR_SECRET_BYTES]>);

impl Secret {
    /// This one. The caller's copy is the caller's to wipe.
    pub fn new(bytes: [u8; PAIR_SECRET_BYTES]) -> Secret {
        Secret(Zeroizing::new(bytes))
    }

    /// A fresh one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn fresh() -> std::io::Result<Secret> {
        let mut bytes = Zeroizing::new([0; PAIR_SECRET_BYTES]);
        getrandom::fill(&mut bytes[..]).map_err(std::io::Error::other)?;
        Ok(Secret(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; PAIR_SECRET_BYTES] {
        &self.0
    }
}

/// Who proves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// `rblk pair`.
    Host,
    /// `rblk join`.
    Guest,
}

/// What a proof is about, besides the secret.
pub(super) struct Claim<'a> {
    pub(super) role: Role,
    pub(super) binding: &'a [u8; 32],
    pub(super) host: &'a PublicKey,
    pub(super) guest: &'a PublicKey,
    /// As in the token.
    pub(super) expires: u64,
    /// The resource.
    pub(super) name: &'a str,
}

impl Claim<'_> {
    /// What shows that its author knows `secret`.
    pub(super) fn prove(&self, secret: &Secret) -> [u8; PROOF_BYTES] {
        let mut proof = [0; PROOF_BYTES];
        let text = self.text();
        proof.copy_from_slice(hmac::sign(&key(secret), &text).as_ref());
        proof
    }

    /// Whether `proof` does; it takes the same time wherever it is wrong.
    pub(super) fn is_proved_by(&self, secret: &Secret, proof: &[u8]) -> bool {
        hmac::verify(&key(secret), &self.text(), proof).is_ok()
    }

    /// Every part has one length, but the last.
    fn text(&self) -> Zeroizing<Vec<u8>> {
        let role: &[u8; 18] = match self.role {
            Role::Host => b"rblk pair 1: host ",
            Role::Guest => b"rblk pair 1: guest",
        };
        let expires = self.expires.to_be_bytes();
        let (host, guest) = (self.host.bytes(), self.guest.bytes());
        let parts = [role, &self.binding[..], host, guest, &expires, self.name.as_bytes()];
        Zeroizing::new(parts.concat())
    }
}

/// The library wipes its copy.
fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_worth_nothing_elsewhere() {
        let secret = Secret::new([1; 16]);
        let [host, guest] = [2, 3].map(|byte| PublicKey::from_bytes([byte; 32]));
        let binding = [4; 32];
        let claim = || Claim {
            role: Role::Guest,
            binding: &binding,
            host: &host,
            guest: &guest,
            expires: 5,
            name: "swarm",
        };
        let good = claim().prove(&secret);
        assert!(claim().is_proved_by(&secret, &good));
        let others = [
            Claim { role: Role::Host, ..claim() },
            Claim { binding: &[5; 32], ..claim() },
            Claim { host: &guest, ..claim() },
            Claim { guest: &host, ..claim() },
            Claim { expires: 6, ..claim() },
            Claim { name: "swarn", ..claim() },
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(!other.is_proved_by(&secret, &good), "{at}");
        }
        assert!(!claim().is_proved_by(&Secret::new([2; 16]), &good));
        for bad in [&good[..31], &[], &[good, good].concat(), &[0; 32]] {
            assert!(!claim().is_proved_by(&secret, bad));
        }
    }

    #[test]
    fn secrets_are_fresh() {
        let [one, two] = [0, 1].map(|_| Secret::fresh().expect("chance"));
        assert!(one.bytes() != two.bytes() && one.bytes() != &[0; 16]);
    }
}
