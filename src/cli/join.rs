//! `rblk join`: takes an invitation of the other node.

use super::pair::next_steps;
use super::{Place, print_json, say};
use crate::config::{self, Config, Name, key_file_of};
use crate::error::{Error, Kind, Result};
use crate::io::tls::Secret;
use crate::limits::PAIR_TOKEN_BYTES_MAX;
use crate::pair::{Offered, Token, Trouble, Written, ensure_folder, join, keep_key_in};
use serde::Serialize;
use std::io::{ErrorKind, IsTerminal, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const AFTER_HELP: &str = "\
Example, with a token that `rblk pair swarm` has printed on the other node:
  rblk join
and paste it. In a script, without showing it to others by `ps`:
  ssh server1 rblk pair swarm | rblk join";

/// Join the node that has run `rblk pair`, with `security = "tls"`
///
/// Makes this node's key if it has none, proves to the other node that it
/// knows the token, and takes over the configuration, which then names both
/// keys. Nothing of the data is touched, and no daemon restarted.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Join {
    /// What `rblk pair` has printed; without it, or with -, it is read from
    /// standard input, where no other user of this host sees it
    token: Option<String>,
    /// Where the private key is or goes, instead of where the configuration
    /// says
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Replace another configuration that is there: it is lost
    #[arg(long)]
    force: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Joined<'a> {
    name: &'a Name,
    node: &'a Name,
    peer: &'a Name,
    key: String,
    peer_key: String,
    key_file: PathBuf,
    config: PathBuf,
}

/// The configuration that this node has so far.
struct Mine {
    file: PathBuf,
    text: Option<Vec<u8>>,
    /// If it is one of this resource, and right.
    config: Option<Config>,
}

impl Join {
    pub(super) fn run(mut self, place: &Place) -> Result<()> {
        let token = self.token()?;
        let mine = Mine::read(place, &token.name)?;
        let usual = || token.key_file.clone().unwrap_or_else(|| key_file_of(&token.name));
        let configured = || mine.config.as_ref().map(|config| config.net.key_file.clone());
        let key_file = self.key_file.take().or_else(configured).unwrap_or_else(usual);
        ensure_folder(&mine.file)?;
        ensure_folder(&key_file)?;
        let (secret, made) = Secret::load_or_create(&key_file)?;
        if made {
            say(&format!("This node has a key now, in {}.", key_file.display()));
        }
        say(&format!("Joining {} at {}.", token.name, token.address));
        let offered = join(&token, &secret, |offered| {
            who(place, offered).map_err(|error| (Trouble::Unfit, error))?;
            self.prepare(&mine, offered, &key_file)
        })?;
        let node = &offered.config.node(offered.node).name;
        let peer = &offered.config.peer_of(offered.node).name;
        if self.json {
            let (key, peer_key) = (secret.public.to_string(), token.host.to_string());
            let (name, config) = (&token.name, mine.file);
            return print_json(&Joined { name, node, peer, key, peer_key, key_file, config });
        }
        say(&format!(
            "This node is {node} of {}, and knows {peer} by its key; the configuration is in {}.\n{}",
            token.name,
            mine.file.display(),
            next_steps(&token.name)
        ));
        if place.node.is_none() && offered.config.local(None).is_err() {
            say(&format!(
                "This host has another name than {node}: give it that one, or add --node {node} to each command."
            ));
        }
        Ok(())
    }

    /// The token, from where it is.
    fn token(&mut self) -> Result<Token> {
        let given = self.token.take().map(Zeroizing::new).filter(|text| text.as_str() != "-");
        let text = match given {
            Some(text) => text,
            None => read_token().map_err(|error| {
                Error::io("Cannot read the token from standard input", error)
                    .remedy("paste what `rblk pair` has printed")
            })?,
        };
        Token::parse(&text).map_err(|why| {
            Error::new(Kind::Usage, "That is no token")
                .why(why)
                .remedy("copy the whole line that `rblk pair` has printed on the other node")
        })
    }

    /// Writes what is offered beside what is there, unless that is the same.
    fn prepare(
        &self,
        mine: &Mine,
        offered: &Offered,
        key_file: &Path,
    ) -> std::result::Result<Option<Written>, (Trouble, Error)> {
        let text = self.text(mine, offered, key_file)?;
        if mine.text.as_deref() == Some(text.as_bytes()) {
            return Ok(None);
        }
        let written = Written::beside(&mine.file, text.as_bytes());
        written.map(Some).map_err(|error| (Trouble::Io, error))
    }

    /// What this node's configuration is to be.
    fn text(
        &self,
        mine: &Mine,
        offered: &Offered,
        key_file: &Path,
    ) -> std::result::Result<String, (Trouble, Error)> {
        let unfit = |error| (Trouble::Unfit, error);
        let kept = match (&mine.text, &mine.config) {
            (Some(text), Some(config)) if same_but_for_keys(config, &offered.config) => {
                // The comments on this node are this node's.
                Some(offered.applied_to(&String::from_utf8_lossy(text)).map_err(unfit)?)
            }
            (None, _) => None,
            _ if self.force => None,
            _ => return Err((Trouble::Exists, mine.differs())),
        };
        let named = match &kept {
            Some(_) => mine.config.as_ref().map_or(Path::new(""), |mine| &mine.net.key_file),
            None => &offered.config.net.key_file,
        };
        let same = named == key_file;
        let text = kept.unwrap_or_else(|| offered.text.clone());
        if same { Ok(text) } else { keep_key_in(&text, key_file).map_err(unfit) }
    }
}

impl Mine {
    fn read(place: &Place, name: &Name) -> Result<Mine> {
        let file = place.config.clone().unwrap_or_else(|| config::file_of(name));
        let text = match std::fs::symlink_metadata(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            _ => Some(config::read(&file)?),
        };
        let config = text.as_ref().and_then(|text| Config::parse(text, &file, Some(name)).ok());
        Ok(Mine { file, text, config })
    }

    fn differs(&self) -> Error {
        Error::new(Kind::Refused, "Cannot take over the configuration of the other node")
            .why(format!("there is another one in {}", self.file.display()))
            .remedy("compare the two; then run this once more, with --force to replace the one here: it is lost")
    }
}

/// Whether only keys, TLS and their places differ, and no key is another than the one that is known already.
fn same_but_for_keys(mine: &Config, offered: &Config) -> bool {
    let mut as_offered = mine.clone();
    as_offered.net = offered.net.clone();
    let mut known = true;
    for (node, new) in as_offered.nodes.iter_mut().zip(&offered.nodes) {
        known &= node.key.is_none() || node.key == new.key;
        (node.key, node.old_key) = (new.key, new.old_key);
    }
    known && as_offered == *offered
}

/// Refuses if this host is known to be the other node.
fn who(place: &Place, offered: &Offered) -> Result<()> {
    let named = place.node.as_deref();
    let found = match offered.config.local(named) {
        Ok(found) => found,
        Err(error) if named.is_some() => return Err(error),
        // A host with any other name may still become the node.
        Err(_) => return Ok(()),
    };
    if found == offered.node {
        return Ok(());
    }
    let (own, other) = (offered.config.node(offered.node), offered.config.node(found));
    let what = format!("Cannot join {} as {}", offered.config.name, other.name);
    Err(Error::new(Kind::Refused, what)
        .why("that is the node that has made the token")
        .remedy(format!("run it on {}, or add --node {}", own.name, own.name)))
}

/// From standard input: one line of it.
fn read_token() -> std::io::Result<Zeroizing<String>> {
    let input = std::io::stdin();
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * PAIR_TOKEN_BYTES_MAX + 1));
    if input.is_terminal() {
        say("Token:");
    }
    let mut bounded = input.lock().take(2 * PAIR_TOKEN_BYTES_MAX as u64 + 1);
    // `rblk pair | rblk join`: the first one does not end before the second.
    std::io::BufRead::read_until(&mut bounded, b'\n', &mut bytes)?;
    let text = std::str::from_utf8(&bytes).map_err(std::io::Error::other)?;
    Ok(Zeroizing::new(text.to_owned()))
}
