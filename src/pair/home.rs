//! The host's configuration: what of it is offered, and how it changes.

use super::edit::paired;
use super::file::Written;
use crate::config::{self, Config, Name};
use crate::error::{Error, Kind, Result};
use crate::key::PublicKey;
use crate::meta::superblock::NodeId;
use std::path::PathBuf;

/// Where the host's configuration is, and who it is in it.
pub struct Home {
    /// The configuration.
    pub file: PathBuf,
    /// The resource.
    pub name: Name,
    /// The node that it is.
    pub node: NodeId,
    /// Its key.
    pub key: PublicKey,
}

/// A configuration that names the guest.
pub(super) struct Offer {
    pub(super) guest: PublicKey,
    pub(super) text: String,
    /// What the file had.
    before: Vec<u8>,
    /// By which key the guest was known until now.
    pub(super) replaces: Option<PublicKey>,
}

impl Home {
    fn config(&self, bytes: &[u8]) -> Result<Config> {
        Config::parse(bytes, &self.file, Some(&self.name))
    }

    /// The guest's name.
    pub(super) fn guest(&self) -> Result<Name> {
        let config = self.config(&config::read(&self.file)?)?;
        Ok(config.peer_of(self.node).name.clone())
    }

    /// The configuration as it is to be on both nodes, with this `guest`. Changes nothing.
    ///
    /// # Errors
    /// The file is not there, or not right.
    pub(super) fn offer(&self, guest: PublicKey) -> Result<Offer> {
        let before = config::read(&self.file)?;
        let config = self.config(&before)?;
        let text = std::str::from_utf8(&before).unwrap_or_default();
        let (own, other) = (config.node(self.node), config.peer_of(self.node));
        let text = paired(text, [(&own.name, &self.key), (&other.name, &guest)])?;
        // What this node could not start with is given to nobody.
        Config::parse(text.as_bytes(), &self.file, Some(&self.name))?;
        Ok(Offer { guest, text, before, replaces: other.key.filter(|key| *key != guest) })
    }

    /// Makes `offer` this node's configuration.
    ///
    /// # Errors
    /// The file has changed since, or cannot be written.
    pub(super) fn keep(&self, offer: &Offer) -> Result<()> {
        let now = config::read(&self.file)?;
        if now == offer.text.as_bytes() {
            return Ok(());
        }
        if now != offer.before {
            let what = format!("Cannot change the configuration {}", self.file.display());
            return Err(Error::new(Kind::Busy, what)
                .why("somebody else has changed it just now")
                .remedy("run `rblk join` on the other node once more"));
        }
        Written::beside(&self.file, offer.text.as_bytes())?.place()
    }
}
