//! The token: one line of text that carries all that the other node needs to come back.
//!
//! `rblk1-` and base64url of: expiry (8 bytes, seconds since 1970), the host's key (32), the secret (16), then
//! resource, address and key file, each after its length (2 bytes), and a checksum of all that (crc32c, 4): it tells a
//! token that was not copied whole from one that is not accepted. Numbers are big-endian.

use super::proof::Secret;
use crate::config::{Address, Name};
use crate::key::PublicKey;
use crate::limits::{PAIR_SECRET_BYTES, PAIR_TOKEN_BYTES_MAX};
use base64ct::{Base64UrlUnpadded, Encoding};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// What a token starts with, so that another form can be told from it one day.
const PREFIX: &str = "rblk1-";
/// Bytes of the end.
const CHECKSUM_BYTES: usize = 4;

/// An invitation to join.
pub struct Token {
    /// Resource that is joined.
    pub name: Name,
    /// Where the host listens.
    pub address: Address,
    /// Its key.
    pub host: PublicKey,
    /// What the guest must know.
    pub secret: Secret,
    /// Until when it is valid, in seconds since 1970, by the host's clock.
    pub expires: u64,
    /// Where the host's configuration says that a node keeps its key, if not at the usual place.
    pub key_file: Option<PathBuf>,
}

impl Token {
    /// As text. Whoever has it can join.
    ///
    /// # Errors
    /// A name or a path is too long for a token, in words.
    pub fn to_text(&self) -> Result<Zeroizing<String>, String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(PAIR_TOKEN_BYTES_MAX));
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        bytes.extend_from_slice(self.host.bytes());
        bytes.extend_from_slice(self.secret.bytes());
        let address = self.address.to_string();
        let file = self.key_file.as_ref().map_or(&[][..], |file| file.as_os_str().as_bytes());
        for part in [self.name.as_str().as_bytes(), address.as_bytes(), file] {
            let length = u16::try_from(part.len()).map_err(|_| "a part of it is too long")?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        let mut coded = Zeroizing::new([0; PAIR_TOKEN_BYTES_MAX]);
        let room = &mut coded[..PAIR_TOKEN_BYTES_MAX - PREFIX.len()];
        let coded = Base64UrlUnpadded::encode(&bytes, room)
            .map_err(|_| "the host name or the name of the key's file is too long".to_owned())?;
        Ok(Zeroizing::new([PREFIX, coded].concat()))
    }

    /// Reads what [`Token::to_text`] wrote; white space from copying is left out.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not repeat it.
    pub fn parse(text: &str) -> Result<Token, String> {
        if text.len() > 2 * PAIR_TOKEN_BYTES_MAX {
            return Err("it is too long for a token".to_owned());
        }
        let text: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).collect());
        let Some(coded) = text.strip_prefix(PREFIX) else {
            let other = text.starts_with("rblk") && text.contains('-');
            return Err(match other {
                true => "it was made by another version of rblk".to_owned(),
                false => format!("it does not begin with {PREFIX}"),
            });
        };
        let mut room = Zeroizing::new([0; PAIR_TOKEN_BYTES_MAX]);
        let torn = || "it is not whole, or was mistyped".to_owned();
        let bytes = Base64UrlUnpadded::decode(coded, &mut room[..]).map_err(|_| torn())?;
        let end = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or_else(torn)?;
        let (bytes, checksum) = bytes.split_at(end);
        if crc32c::crc32c(bytes).to_be_bytes() != checksum {
            return Err(torn());
        }
        // From here on only somebody who means it gets it wrong.
        Token::read(bytes).ok_or_else(|| "it says what no `rblk pair` says".to_owned())
    }

    fn read(mut bytes: &[u8]) -> Option<Token> {
        let rest = &mut bytes;
        let expires = u64::from_be_bytes(*take::<8>(rest)?);
        let host = PublicKey::from_bytes(*take(rest)?);
        let secret = Secret::new(*take::<PAIR_SECRET_BYTES>(rest)?);
        let name = Name::parse(part(rest)?).ok()?;
        let address = Address::parse(part(rest)?).ok()?;
        let file = part(rest)?;
        let key_file = (!file.is_empty()).then(|| PathBuf::from(file));
        let sound = key_file.as_ref().is_none_or(|path| path.is_absolute() && !file.contains('\0'));
        (rest.is_empty() && sound).then_some(Token {
            name,
            address,
            host,
            secret,
            expires,
            key_file,
        })
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(taken)
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = u16::from_be_bytes(*take(rest)?);
    let (part, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    std::str::from_utf8(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> Token {
        Token {
            name: Name::parse("swarm").expect("good"),
            address: Address::parse("[fd00::1]:7790").expect("good"),
            host: PublicKey::from_bytes([7; 32]),
            secret: Secret::new([9; 16]),
            expires: 1_800_000_000,
            key_file: Some("/etc/keys/swarm.key".into()),
        }
    }

    fn sealed(bytes: &[u8]) -> String {
        let bytes = [bytes, &crc32c::crc32c(bytes).to_be_bytes()].concat();
        let mut room = [0; 2048];
        format!("rblk1-{}", Base64UrlUnpadded::encode(&bytes, &mut room).expect("fits"))
    }

    #[test]
    fn what_is_written_is_read() {
        let token = token();
        let text = token.to_text().expect("short");
        let (first, second) = text.split_at(40);
        for text in [text.to_string(), format!(" {first}\n  {second}\r\n")] {
            let read = Token::parse(&text).expect("good");
            assert_eq!((read.name, read.address), (token.name.clone(), token.address.clone()));
            assert_eq!((read.host, read.expires), (token.host, token.expires));
            assert_eq!(read.secret.bytes(), token.secret.bytes());
            assert_eq!(read.key_file, token.key_file);
        }
    }

    #[test]
    fn the_longest_names_fit_or_are_refused() {
        let label = "a".repeat(60);
        let host = format!("{label}.{label}.{label}.{label}.example:65535");
        let mut token = token();
        token.name = Name::parse(&"n".repeat(64)).expect("good");
        token.address = Address::parse(&host).expect("good");
        token.key_file = Some(format!("/{}", "k".repeat(250)).into());
        let text = token.to_text().expect("fits");
        assert!(Token::parse(&text).is_ok());
        token.key_file = Some(format!("/{}", "k".repeat(2000)).into());
        assert!(token.to_text().is_err());
        token.key_file = Some(format!("/{}", "k".repeat(70_000)).into());
        assert!(token.to_text().is_err());
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        let good = token().to_text().expect("short");
        let body = [&[0; 56][..], &[0, 5], b"swarm", &[0, 8], b"host:123", &[0, 0]].concat();
        assert!(Token::parse(&sealed(&body)).is_ok());
        let swapped = |from: &[u8], to: &[u8]| {
            let at = body.windows(from.len()).position(|part| part == from).expect("there");
            let mut body = body.clone();
            body.splice(at..at + from.len(), to.iter().copied());
            sealed(&body)
        };
        for bad in [
            "",
            "rblk1-",
            "rblk1-AAAA",
            "rblk2-AAAA",
            &good[6..],
            &good[..good.len() - 1],
            &good.replace("AAAA", "AABA"),
            &good.replace("rblk1-", "rblk1-*"),
            &format!("{}{}", *good, &good[6..]),
            &"rblk1-".repeat(10_000),
            &sealed(&body[..40]),
            &sealed(&[&body[..], &[0]].concat()),
            &swapped(b"swarm", b"../sh"),
            &swapped(b"host:123", b"host:000"),
            &swapped(b"swarm", &[0xff; 5]),
            &swapped(&[0, 8], &[0xff, 0xff]),
        ] {
            let error = Token::parse(bad).err().expect("refused");
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
        let relative = [&body[..body.len() - 2], &[0, 3], b"a/b"].concat();
        assert!(Token::parse(&sealed(&relative)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(rblk1-)?[A-Za-z0-9_-]{0,300}") {
            let _read = Token::parse(&text);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _read = Token::parse(&sealed(&bytes));
        }
    }
}
