//! What the two say inside of their session: a byte that tells what it is, the length in 4 bytes, the rest.
//!
//! Promises: a length is looked at before anything is kept for it; whatever arrives, reading ends with a message, with
//! the wish for more, or with an error.

use super::proof::PROOF_BYTES;
use crate::limits::CONFIG_BYTES_MAX;

const HEAD_BYTES: usize = 5;
/// Bytes of a [`Message::Proof`].
const CLAIM_BYTES: usize = 8 + PROOF_BYTES;

/// Why the host refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Refusal {
    /// The proof is wrong.
    Wrong = 1,
    /// The token is not valid any more.
    Expired = 2,
    /// Somebody else has joined with it.
    Used = 3,
    /// Both nodes have the same key.
    SameKey = 4,
    /// The host's configuration cannot be used or written.
    Host = 5,
    /// It is from an earlier `rblk pair`.
    Older = 6,
}

/// Why the guest leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Trouble {
    /// It has another configuration already.
    Exists = 1,
    /// What is offered cannot be used there.
    Unfit = 2,
    /// It cannot write its files.
    Io = 3,
}

/// A message; who says it is in [the drawing](super).
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Message {
    Proof { expires: u64, proof: [u8; PROOF_BYTES] },
    Offer { proof: [u8; PROOF_BYTES], config: Vec<u8> },
    Ready,
    Written,
    Done,
    Refused(Refusal),
    Sorry(Trouble),
}

impl Message {
    /// As bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Message::Proof { expires, proof } => (1, [&expires.to_be_bytes()[..], proof].concat()),
            Message::Offer { proof, config } => (2, [&proof[..], config].concat()),
            Message::Ready => (3, Vec::new()),
            Message::Written => (4, Vec::new()),
            Message::Done => (5, Vec::new()),
            Message::Refused(why) => (6, vec![*why as u8]),
            Message::Sorry(why) => (7, vec![*why as u8]),
        };
        let length = u32::try_from(body.len()).expect("a configuration is bounded");
        [&[kind][..], &length.to_be_bytes(), &body].concat()
    }

    /// Takes the first message out of `heard`, if it is whole.
    pub(super) fn take(heard: &mut Vec<u8>) -> Result<Option<Message>, String> {
        let Some((head, rest)) = heard.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [kind, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let fits = match kind {
            1 => length == CLAIM_BYTES,
            2 => (PROOF_BYTES..=PROOF_BYTES + CONFIG_BYTES_MAX as usize).contains(&length),
            3..=5 => length == 0,
            6 | 7 => length == 1,
            _ => false,
        };
        if !fits {
            return Err("it says what is not understood here".to_owned());
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = Message::decode(kind, body);
        heard.drain(..HEAD_BYTES + length);
        message.map(Some).ok_or_else(|| "it gives a reason that is not known here".to_owned())
    }

    fn decode(kind: u8, body: &[u8]) -> Option<Message> {
        match kind {
            1 => {
                let (expires, proof) = body.split_first_chunk()?;
                let expires = u64::from_be_bytes(*expires);
                Some(Message::Proof { expires, proof: proof.try_into().ok()? })
            }
            2 => {
                let (proof, config) = body.split_first_chunk()?;
                Some(Message::Offer { proof: *proof, config: config.to_vec() })
            }
            3 => Some(Message::Ready),
            4 => Some(Message::Written),
            5 => Some(Message::Done),
            6 => {
                use Refusal::{Expired, Host, Older, SameKey, Used, Wrong};
                let all = [Wrong, Expired, Used, SameKey, Host, Older];
                all.into_iter().find(|why| body == [*why as u8]).map(Message::Refused)
            }
            _ => {
                let all = [Trouble::Exists, Trouble::Unfit, Trouble::Io];
                all.into_iter().find(|why| body == [*why as u8]).map(Message::Sorry)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Vec<Message> {
        vec![
            Message::Proof { expires: 7, proof: [1; 32] },
            Message::Offer { proof: [2; 32], config: b"[resource]".to_vec() },
            Message::Ready,
            Message::Written,
            Message::Done,
            Message::Refused(Refusal::Older),
            Message::Sorry(Trouble::Io),
        ]
    }

    #[test]
    fn each_is_read_back_however_it_is_cut() {
        let bytes: Vec<u8> = all().iter().flat_map(Message::encode).collect();
        let (mut heard, mut read) = (Vec::new(), Vec::new());
        for byte in bytes {
            heard.push(byte);
            read.extend(Message::take(&mut heard).expect("good"));
        }
        assert_eq!((read, heard), (all(), Vec::new()));
    }

    #[test]
    fn a_length_is_refused_before_it_is_waited_for() {
        for bad in [
            [2, 0xff, 0xff, 0xff, 0xff],
            [2, 0, 0, 0, 31],
            [1, 0, 0, 0, 41],
            [3, 0, 0, 0, 1],
            [6, 0, 0, 0, 2],
            [8, 0, 0, 0, 0],
            *b"rblk\0",
        ] {
            assert!(Message::take(&mut bad.to_vec()).is_err(), "{bad:?}");
        }
        assert!(Message::take(&mut vec![6, 0, 0, 0, 1, 99]).is_err());
        assert!(Message::take(&mut vec![7, 0, 0, 0, 1, 0]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _read = Message::take(&mut bytes);
        }
    }
}
