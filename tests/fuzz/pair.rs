//! Pairing: a token that somebody has typed or made up, and a configuration that a key's place is put into. What is
//! read as a token is written as the same; what was a right configuration still is one, with that place.

use base64ct::{Base64UrlUnpadded, Encoding};
use rblk::config::Config;
use rblk::pair::{Token, keep_key_in};
use std::path::Path;

pub(crate) fn run(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind {
        b'c' => configuration(rest),
        b't' => token(&String::from_utf8_lossy(rest)),
        _ => token(&sealed(rest)),
    }
}

/// With the checksum that it needs to be looked at.
fn sealed(bytes: &[u8]) -> String {
    let bytes = [bytes, &crc32c::crc32c(bytes).to_be_bytes()].concat();
    let mut room = vec![0; 2 * bytes.len() + 4];
    format!("rblk1-{}", Base64UrlUnpadded::encode(&bytes, &mut room).expect("there is room"))
}

fn token(text: &str) {
    let token = match Token::parse(text) {
        Ok(token) => token,
        Err(why) => return assert!(!why.is_empty()),
    };
    let written = token.to_text().expect("what was read can be written");
    let again = Token::parse(&written).expect("what was written can be read");
    assert_eq!((&again.name, &again.address), (&token.name, &token.address));
    assert_eq!((again.host, again.expires), (token.host, token.expires));
    assert_eq!(again.key_file, token.key_file);
    assert_eq!(again.to_text().expect("once more"), written);
}

fn configuration(bytes: &[u8]) {
    let (file, key) = (Path::new("swarm.toml"), Path::new("/keys/\"one\"\n"));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let edited = keep_key_in(text, key);
    let Ok(mut config) = Config::parse(bytes, file, None) else { return };
    let edited = edited.expect("a configuration can be edited");
    config.net.key_file = key.to_owned();
    assert_eq!(Config::parse(edited.as_bytes(), file, None).expect(&edited), config);
    assert_eq!(keep_key_in(&edited, key).expect("once more"), edited);
}
