//! What locks the link, unless the configuration says "none": this node's private key, and the keys that its peer may
//! show.

use crate::config::{self, Config};
use crate::error::{Error, Kind, Result};
use crate::io::tls::{Secret, Session, Setup};
use crate::key::PublicKey;
use crate::meta::superblock::NodeId;
use std::net::IpAddr;

/// The lock of the link; without TLS there is none.
pub(super) struct Security {
    tls: Option<(Setup, PublicKey)>,
}

impl Security {
    /// Reads the private key, if there is to be TLS.
    ///
    /// # Errors
    /// It cannot be used, or is not the one that the configuration knows this node by.
    pub(super) fn load(config: &Config, node: NodeId) -> Result<Security> {
        if config.net.security == config::Security::None {
            return Ok(Security { tls: None });
        }
        if let Some(node) = config.lacks_key() {
            return Err(no_key(config, node));
        }
        let file = &config.net.key_file;
        let secret = Secret::load(file)?;
        let me = config.node(node);
        if !me.keys().any(|key| key == secret.public) {
            let why = format!(
                "the private key in {} belongs to {}, and {} is known by another in the configuration",
                file.display(),
                secret.public,
                me.name
            );
            let remedy = format!(
                "write `key = \"{}\"` into the [[node]] of {} on both nodes, or put the right file in its place",
                secret.public, me.name
            );
            return Err(Error::new(Kind::Config, format!("Cannot attach {}", config.name))
                .why(why)
                .remedy(remedy));
        }
        let peer: Vec<PublicKey> = config.peer_of(node).keys().collect();
        let setup = Setup::new(&secret, &peer).map_err(|why| {
            Error::new(Kind::Io, format!("Cannot attach {}", config.name))
                .why(format!("TLS cannot be set up: {why}"))
        })?;
        Ok(Security { tls: Some((setup, secret.public)) })
    }

    /// True with TLS.
    pub(super) fn is_on(&self) -> bool {
        self.tls.is_some()
    }

    /// This node's own key.
    pub(super) fn key(&self) -> Option<PublicKey> {
        self.tls.as_ref().map(|(_, key)| *key)
    }

    /// A session for a connection that was dialled, or accepted; `None` without TLS.
    ///
    /// # Errors
    /// The library cannot begin one, in words.
    pub(super) fn session(
        &self,
        dialled: bool,
        to: IpAddr,
    ) -> std::result::Result<Option<Session>, String> {
        let Some((setup, _)) = &self.tls else { return Ok(None) };
        let session = if dialled { setup.dial(to) } else { setup.accept() };
        session.map(Some).map_err(|why| format!("Cannot begin a TLS session: {why}"))
    }
}

fn no_key(config: &Config, node: &config::Node) -> Error {
    let name = &config.name;
    Error::new(Kind::Config, format!("Cannot attach {name}"))
        .why(format!(
            "the link between the nodes is protected by TLS (`security` is \"tls\" unless [net] says otherwise), and \
             the configuration has no key of {}",
            node.name
        ))
        .remedy(format!(
            "run `rblk pair {name}` on one node and `rblk join` on the other: both get keys. On a network that nobody \
             else can reach, `security = \"none\"` in [net] on both nodes does without"
        ))
}
