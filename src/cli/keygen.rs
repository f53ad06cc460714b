//! `rblk keygen`: the key by which the other node knows this one.

use super::{Place, name_argument, print, print_json, say};
use crate::config::{Name, key_file_of};
use crate::error::Result;
use crate::io::tls::Secret;
use serde::Serialize;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Example, on each of the two nodes:
  rblk keygen swarm
and then, in the configuration of both, the line that it prints goes into the
[[node]] of the node that it was run on, and, once both are there:
  [net]
  security = \"tls\"

Example, a new key in place of an old one: docs/security.md";

/// Make this node's key, for `security = "tls"`
///
/// Writes the private half to a file that only its owner can read, and prints
/// the line for the configuration of both nodes. Reads no configuration.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Keygen {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// Where the private key goes, instead of /etc/rblk/NAME.key
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replace a key that is there: it is lost, and the peer must be told
    #[arg(long)]
    force: bool,
    /// Make none: print the line for the key that is there
    #[arg(long, conflicts_with = "force")]
    show: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Made {
    name: Name,
    key: String,
    key_file: PathBuf,
}

impl Keygen {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let file = self.file.unwrap_or_else(|| key_file_of(&self.name));
        let key = match self.show {
            true => Secret::load(&file)?.public,
            false => Secret::create(&file, self.force)?,
        };
        if self.json {
            let key = key.to_string();
            return print_json(&Made { name: self.name, key, key_file: file });
        }
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let node = place.node.as_deref().unwrap_or(&host);
        if !self.show {
            say(&format!("The private key is in {}.", file.display()));
        }
        say(&format!(
            "On both nodes, in the [[node]] of {node} in the configuration of {}:",
            self.name
        ));
        print(&format!("key = \"{key}\""))
    }
}
