//! `[net]` and the keys of the nodes: whether the link is locked, and with what. See `docs/security.md`.

use super::section::{Found, Section, Source, shorten};
use super::{CONFIG_DIR, Config, Name, Node};
use crate::error::Result;
use crate::key::PublicKey;
use crate::transport::Transport;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// How the link between the nodes is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Security {
    /// Not at all: whoever can reach the nodes' network can read and change what they say.
    None,
    /// TLS 1.3, each node known to the other by its key.
    Tls,
}

/// The link between the nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Net {
    /// How it is protected.
    pub security: Security,
    /// Where this node's private key is. Absolute.
    pub key_file: PathBuf,
    /// What carries it.
    pub transport: Transport,
}

impl Net {
    /// What holds without `[net]`: whoever wants no protection must say so.
    pub(super) fn default_for(name: &Name) -> Net {
        Net {
            security: Security::Tls,
            key_file: key_file_of(name),
            transport: Transport::default(),
        }
    }
}

impl Config {
    /// The node without a key that the link needs: until it has one, no daemon starts.
    pub fn lacks_key(&self) -> Option<&Node> {
        let lacks = |node: &&Node| node.key.is_none();
        self.nodes.iter().find(lacks).filter(|_| self.net.security == Security::Tls)
    }
}

/// Where the private key of resource `name` is unless the configuration says otherwise.
pub fn key_file_of(name: &Name) -> PathBuf {
    Path::new(CONFIG_DIR).join(format!("{name}.key"))
}

/// Reads `[net]`, if there is one, into `config`. The nodes may have no keys yet: see [`Config::lacks_key`].
pub(super) fn read(source: Source<'_>, root: &Section<'_>, config: &mut Config) -> Result<()> {
    let Some(section) = root.table("net", "[net]")? else { return Ok(()) };
    config.net = parse(source, &section, &config.name)?;
    Ok(())
}

fn parse(source: Source<'_>, section: &Section<'_>, name: &Name) -> Result<Net> {
    section.only(&["security", "key-file", "transport"])?;
    let mut net = Net::default_for(name);
    if let Some(found) = section.string("security", "\"tls\"")? {
        net.security = match found.value {
            "none" => Security::None,
            "tls" => Security::Tls,
            other => {
                let wrong =
                    format!("security = \"{}\": expected \"none\" or \"tls\"", shorten(other));
                return Err(source.error(&found.span, wrong));
            }
        };
    }
    if let Some(found) = section.string("key-file", "\"/etc/rblk/swarm.key\"")? {
        net.key_file = PathBuf::from(found.value);
        if !net.key_file.is_absolute() || found.value.contains('\0') {
            let wrong = format!(
                "key-file = \"{}\": expected an absolute path such as \"/etc/rblk/swarm.key\"",
                shorten(found.value)
            );
            return Err(source.error(&found.span, wrong));
        }
    }
    if let Some(found) = section.string("transport", "\"tcp\"")? {
        let known = Transport::ALL.into_iter().find(|transport| transport.name() == found.value);
        net.transport = known.ok_or_else(|| {
            let (wrong, names) = (shorten(found.value), Transport::ALL.map(Transport::name));
            let expected = names.map(|name| format!("\"{name}\"")).join(", ");
            source
                .error(&found.span, format!("transport = \"{wrong}\": expected one of {expected}"))
        })?;
    }
    Ok(net)
}

/// The keys in a `[[node]]`: the one that it shows, and another that it may show while it is exchanged. None is that of
/// the `other` node.
pub(super) fn keys(
    source: Source<'_>,
    section: &Section<'_>,
    other: Option<&Node>,
) -> Result<(Option<PublicKey>, Option<PublicKey>)> {
    let key = key(source, section, "key")?;
    let old = self::key(source, section, "old-key")?;
    let twice = |found: &Found<PublicKey>| {
        let theirs = other.is_some_and(|other| other.keys().any(|key| key == found.value));
        theirs.then(|| {
            source.error(&found.span, "both nodes have this key: expected two different ones")
        })
    };
    match (&key, &old) {
        (None, Some(old)) => {
            return Err(
                source.error(&old.span, "`old-key` without `key`: expected both, or `key` alone")
            );
        }
        (Some(key), Some(old)) if key.value == old.value => {
            return Err(
                source.error(&old.span, "`old-key` is the same as `key`: expected another one")
            );
        }
        _ => {}
    }
    match key.iter().chain(&old).find_map(twice) {
        Some(error) => Err(error),
        None => Ok((key.map(|found| found.value), old.map(|found| found.value))),
    }
}

fn key(source: Source<'_>, section: &Section<'_>, name: &str) -> Result<Option<Found<PublicKey>>> {
    let Some(found) = section.string(name, "\"ed25519:...\"")? else { return Ok(None) };
    match PublicKey::parse(found.value) {
        Ok(value) => Ok(Some(Found { value, span: found.span })),
        Err(expected) => {
            let wrong = format!("{name} = \"{}\": {expected}", shorten(found.value));
            Err(source.error(&found.span, wrong))
        }
    }
}
