//! The public key by which a node is known to its peer: Ed25519, whole, as it stands in the configuration.
//!
//! ```
//! use rblk::key::PublicKey;
//! let text = "ed25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
//! assert_eq!(PublicKey::parse(text).expect("valid").to_string(), text);
//! ```

use base64ct::{Base64, Encoding};
use serde::{Serialize, Serializer};
use std::fmt;

/// What a key starts with, so that another algorithm can be told from it one day.
const PREFIX: &str = "ed25519:";
/// Bytes of the key itself.
const KEY_BYTES: usize = 32;
/// Characters of it.
const TEXT_BYTES: usize = 44;
/// What stands before the key in its standard form (RFC 8410): it has one length, and thus one form.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The public key of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// Checks `text`: `ed25519:` and 44 characters.
    ///
    /// # Errors
    /// What was expected, in words.
    pub fn parse(text: &str) -> Result<PublicKey, String> {
        let mut key = [0; KEY_BYTES];
        let coded = text.strip_prefix(PREFIX).filter(|coded| coded.len() == TEXT_BYTES);
        match coded.map(|coded| Base64::decode(coded, &mut key).map(<[u8]>::len)) {
            Some(Ok(KEY_BYTES)) => Ok(PublicKey(key)),
            _ => Err("expected a key as `rblk keygen` prints it: \"ed25519:\" and 44 characters"
                .to_owned()),
        }
    }

    /// These bytes: any could be a key.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> PublicKey {
        PublicKey(bytes)
    }

    /// The bytes of the key itself.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Out of its standard form, as it is shown on a connection (`SubjectPublicKeyInfo`); `None` if it is no key of
    /// ours.
    pub fn from_spki(spki: &[u8]) -> Option<PublicKey> {
        let key = spki.strip_prefix(&SPKI_PREFIX)?;
        key.try_into().ok().map(PublicKey)
    }

    /// Its standard form.
    pub fn spki(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.0].concat()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT_BYTES];
        let coded = Base64::encode(&self.0, &mut text).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{coded}")
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_standard_form_are_the_same_key() {
        let key = PublicKey([7; 32]);
        assert_eq!(PublicKey::parse(&key.to_string()), Ok(key));
        assert_eq!(PublicKey::from_spki(&key.spki()), Some(key));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = PublicKey([7; 32]).to_string();
        for bad in [
            "",
            "ed25519:",
            &good[8..],
            &good[..good.len() - 1],
            &format!("{good}="),
            &good.replace("Bw", "B*"),
            &good.replace("ed25519", "rsa"),
            // The last character has two bits that must be zero: one key, one text.
            &good.replace("Bwc=", "Bwd="),
        ] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
        let spki = PublicKey([7; 32]).spki();
        assert_eq!(PublicKey::from_spki(&spki[..43]), None);
        assert_eq!(PublicKey::from_spki(&[&spki[..], &[0]].concat()), None);
        assert_eq!(PublicKey::from_spki(&[]), None);
    }
}
