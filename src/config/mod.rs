//! The configuration of a resource: one TOML file, the same on both nodes, as values that can only be
//! valid.
//!
//! Promises: every default stands in [`Config::default_for`] and nowhere else; [`Config::to_toml`]
//! prints all effective values and parses again to the same. Never: an unknown key that is silently
//! ignored, or a file read without bound.
//!
//! ```toml
//! [resource]
//! name = "swarm"
//!
//! [[node]]
//! name = "docker1"
//! address = "192.168.1.1:7790"
//! disk = "/dev/docker/swarm"
//!
//! [[node]]
//! name = "docker2"
//! address = "192.168.1.2:7790"
//! disk = "/dev/docker/swarm"
//! ```

mod handlers;
mod metrics;
mod net;
mod parse;
mod salvage;
mod section;
mod split_brain;
mod value;

pub use handlers::{HandlerKind, Handlers};
pub use metrics::Metrics;
pub use net::{Net, Security, key_file_of};
pub use salvage::Salvage;
pub use value::{Address, Name};

use crate::error::{Error, Kind, Result};
use crate::key::PublicKey;
use crate::limits::{CONFIG_BYTES_MAX, DISK_TIMEOUT_MS_DEFAULT, PEER_TIMEOUT_MS_DEFAULT};
use crate::meta::superblock::{GenerationId, NodeId, VolumeId};
use crate::wire::policy::Policies;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where the files of the resources are.
pub const CONFIG_DIR: &str = "/etc/rblk";
/// Where the control sockets are.
pub const RUN_DIR: &str = "/run/rblk";

/// What a Primary does when it loses its peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnPeerLost {
    /// Record durably that it is alone, then go on.
    Continue,
    /// Hold what clients write until the peer is back.
    Suspend,
    /// One node, named by `prefer`, goes on; the other holds what clients write.
    Prefer,
    /// Hold what clients write until the handler fence-peer has made sure that the peer does not go on.
    Fence,
}

/// One of the two nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Node {
    /// Its host name.
    pub name: Name,
    /// Where its daemon listens for the peer, and from where it dials it: its end of the first path.
    pub address: Address,
    /// The same of the second path. Both nodes have one, or neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_address: Option<Address>,
    /// Its backing disk: a block device or a regular file. Absolute.
    pub disk: PathBuf,
    /// The key by which the peer knows it; needed with [`Security::Tls`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PublicKey>,
    /// Another that it may show, while it is being exchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_key: Option<PublicKey>,
}

impl Node {
    /// Its end of each path, the first path first: one or two.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        std::iter::once(&self.address).chain(&self.second_address)
    }

    /// All keys that it may show.
    pub fn keys(&self) -> impl Iterator<Item = PublicKey> {
        self.key.into_iter().chain(self.old_key)
    }
}

/// A valid configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Name of the resource.
    pub name: Name,
    /// Become Primary as soon as that is safe.
    pub promote_at_start: bool,
    /// What a Primary does when it loses its peer.
    pub on_peer_lost: OnPeerLost,
    /// The node that goes on, with [`OnPeerLost::Prefer`].
    pub prefer: Option<Name>,
    /// It waits this long for the peer to come back before it does, in seconds. With `dual-primary` the default is
    /// [`crate::limits::DUAL_RIDE_THROUGH_S_DEFAULT`].
    pub ride_through_s: u64,
    /// Silence of the peer that ends the connection, in milliseconds.
    pub peer_timeout_ms: u64,
    /// Silence of the local disk that fails it, in milliseconds.
    pub disk_timeout_ms: u64,
    /// Whether both may be Primary, and whose changes are lost after a split brain.
    pub policies: Policies,
    /// Commands that run at an event.
    pub handlers: Handlers,
    /// Where discarded data is kept; `None` if no place is named.
    pub salvage: Option<Salvage>,
    /// Where Prometheus finds the daemon; `None` if nowhere.
    pub metrics: Option<Metrics>,
    /// The link between the nodes.
    pub net: Net,
    /// Both nodes, in the order of the file: the index is the [`NodeId`].
    pub nodes: [Node; 2],
}

/// Of a whole configuration, see [`Config::digest`]. People see 12 of its 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest(pub u64);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:012x}", self.0 >> 16)
    }
}

impl Config {
    /// The configuration that a file with nothing but the name and the nodes stands for.
    pub fn default_for(name: Name, nodes: [Node; 2]) -> Config {
        Config {
            net: Net::default_for(&name),
            name,
            promote_at_start: false,
            on_peer_lost: OnPeerLost::Continue,
            prefer: None,
            ride_through_s: 0,
            peer_timeout_ms: PEER_TIMEOUT_MS_DEFAULT,
            disk_timeout_ms: DISK_TIMEOUT_MS_DEFAULT,
            policies: Policies::default(),
            handlers: Handlers::none(),
            salvage: None,
            metrics: None,
            nodes,
        }
    }

    /// Reads and checks the configuration of resource `name`: `file` if given, else `/etc/rblk/NAME.toml`.
    ///
    /// # Errors
    /// `Io` if the file cannot be read, `Config` with file and line if it is wrong or is about another
    /// resource.
    pub fn load(name: &Name, file: Option<&Path>) -> Result<Config> {
        let default = file_of(name);
        let file = file.unwrap_or(&default);
        Config::parse(&read(file)?, file, Some(name))
    }

    /// Reads and checks `file`, whatever resource it is about.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_any(file: &Path) -> Result<Config> {
        Config::parse(&read(file)?, file, None)
    }

    /// Checks the content of `file`. With `expected`, the resource must have this name.
    ///
    /// # Errors
    /// `Config`, with file, line and what was expected.
    pub fn parse(bytes: &[u8], file: &Path, expected: Option<&Name>) -> Result<Config> {
        parse::parse(bytes, file, expected)
    }

    /// Which node this is: `node` if given, else the one with this host's name (or its part before the
    /// first dot).
    ///
    /// # Errors
    /// `Config` if there is none.
    pub fn local(&self, node: Option<&str>) -> Result<NodeId> {
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let wanted = node.unwrap_or(&host);
        let short = wanted.split('.').next().unwrap_or(wanted);
        let by = |name: &str| self.nodes.iter().position(|entry| entry.name.as_str() == name);
        let found = by(wanted).or_else(|| if node.is_none() { by(short) } else { None });
        let [first, second] = &self.nodes;
        match found {
            Some(0) => Ok(NodeId(0)),
            Some(_) => Ok(NodeId(1)),
            None => {
                let what = format!("{wanted} is not a node of {}", self.name);
                let error = Error::new(Kind::Config, what)
                    .why(format!("the configuration names {} and {}", first.name, second.name));
                Err(error.remedy(format!(
                    "name a [[node]] like this host's name, or add --node {} or --node {}",
                    first.name, second.name
                )))
            }
        }
    }

    /// Where discarded data is to be saved; `None` if it is not.
    pub fn saves_to(&self) -> Option<&Salvage> {
        self.salvage.as_ref().filter(|salvage| salvage.enabled)
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[usize::from(id.0 != 0)]
    }

    /// The other node.
    pub fn peer_of(&self, id: NodeId) -> &Node {
        &self.nodes[usize::from(id.0 == 0)]
    }

    /// The identity of the volume: both nodes derive the same from the same file, without having met.
    /// Nodes in another order are another volume, since the order gives them their ids.
    pub fn volume_id(&self) -> VolumeId {
        let [first, second] = &self.nodes;
        VolumeId::of(self.name.as_str(), &[first.name.as_str(), second.name.as_str()])
    }

    /// The generation of disks that were declared equal when they were created: the same on both nodes.
    pub fn in_sync_generation(&self) -> GenerationId {
        let space = uuid::Uuid::from_u128(self.volume_id().0);
        GenerationId(uuid::Uuid::new_v5(&space, b"created in sync").as_u128())
    }

    /// All effective values as a file that parses to the same configuration.
    ///
    /// # Errors
    /// `Config` if a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(&self.effective()).map_err(|error| {
            Error::new(Kind::Config, "Cannot print the configuration").source(error)
        })
    }

    /// What differs if an effective value does: both nodes should have the same. Never 0.
    ///
    /// # Errors
    /// As [`Config::to_toml`].
    pub fn digest(&self) -> Result<Digest> {
        let space = uuid::Uuid::from_u128(self.volume_id().0);
        let hashed = uuid::Uuid::new_v5(&space, self.to_toml()?.as_bytes());
        Ok(Digest(hashed.as_u64_pair().0.max(1)))
    }

    /// All effective values, for a serialiser.
    pub fn effective(&self) -> impl Serialize + '_ {
        parse::Effective::from(self)
    }
}

/// Where the configuration of resource `name` is unless the command line says otherwise.
pub fn file_of(name: &Name) -> PathBuf {
    Path::new(CONFIG_DIR).join(format!("{name}.toml"))
}

/// Reads a configuration's `file`, at most [`CONFIG_BYTES_MAX`] bytes of it.
///
/// # Errors
/// `Io` if that fails, `Config` if it is larger.
pub fn read(file: &Path) -> Result<Vec<u8>> {
    let what = || format!("Cannot read the configuration {}", file.display());
    let remedy = format!(
        "write {}: `rblk config --help` shows an example; or name another file with --config",
        file.display()
    );
    let open = || -> std::io::Result<Vec<u8>> {
        let meta = std::fs::metadata(file)?;
        // A FIFO would block for ever, a disk is never a configuration.
        if !meta.is_file() {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        let reader = std::fs::File::open(file)?;
        reader.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = open().map_err(|error| Error::io(what(), error).remedy(remedy))?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        let why = format!("it is larger than {CONFIG_BYTES_MAX} bytes");
        return Err(Error::new(Kind::Config, what())
            .why(why)
            .remedy("name the configuration file, not a disk"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
