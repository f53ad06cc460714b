//! `rblk config`: all effective values.

use super::{Place, name_argument, print, print_json, say};
use crate::config::Name;
use crate::error::Result;

const AFTER_HELP: &str = "\
Example of /etc/rblk/swarm.toml, the same file on both nodes:
  [resource]
  name = \"swarm\"
  promote-at-start = false   # become Primary as soon as that is safe
  on-peer-lost = \"continue\"  # a Primary goes on without its peer; or suspend, prefer, fence
  # prefer = \"docker1\"       # with prefer: only this node goes on
  # ride-through-s = 0         # seconds to wait for the peer before that
  peer-timeout-ms = 4000     # silence that makes the peer lost, 500 to 25000
  disk-timeout-ms = 30000    # silence that fails the disk, 1000 to 600000

  [resource.split-brain]                 # whose changes are lost; \"disconnect\": an operator says it
  after-0pri = \"discard-zero-changes\"   # nobody is Primary
  after-1pri = \"discard-secondary\"      # one is
  after-2pri = \"disconnect\"             # both are
  rr-conflict = \"retry-connect\"         # a Primary is behind: wait until it has stepped down

  [net]                      # the link between the nodes: docs/security.md
  security = \"tls\"           # needs a key of each node: rblk pair; or \"none\"
  key-file = \"/etc/rblk/swarm.key\"
  transport = \"tcp\"          # or \"rdma\", \"smc\": docs/transports.md

  [handlers]                 # commands at an event: docs/handlers.md
  split-brain = \"/usr/local/sbin/mail-admin.sh\"
  timeout-s = 60             # a command that takes longer is ended, 1 to 3600

  [salvage]                  # what is discarded is kept: docs/salvage.md
  directory = \"/var/lib/rblk/salvage\"
  max = \"10G\"                # for all that is kept of this resource
  enabled = true

  [metrics]                  # for Prometheus: docs/metrics.md
  listen = \"127.0.0.1:7791\" # for each resource a port of its own

  [[node]]
  name = \"docker1\"           # the host name
  address = \"192.168.1.1:7790\"
  # second-address = \"10.1.0.1:7790\" # a second path, with one in both nodes: docs/paths.md
  disk = \"/dev/vg/swarm\"     # block device or file

  [[node]]
  name = \"docker2\"
  address = \"192.168.1.2:7790\"
  disk = \"/dev/vg/swarm\"

Example, to check it and see every value:
  rblk config swarm";

/// Check the configuration and print all effective values, defaults included
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ShowConfig {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// As JSON instead of TOML
    #[arg(long)]
    json: bool,
}

impl ShowConfig {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let config = place.load(&self.name)?;
        if let Err(error) = config.local(place.node.as_deref()) {
            // The file is right all the same: it may be looked at on a third host.
            say(&format!("Note: {error}"));
        }
        if let Some(node) = config.lacks_key() {
            say(&format!(
                "Note: {} has no key yet, which TLS needs: `rblk pair {}` and `rblk join` see to it.",
                node.name, self.name
            ));
        }
        if let Some(metrics) = config.metrics.filter(|metrics| metrics.public()) {
            let listen = metrics.listen;
            say(&format!(
                "Note: everyone who reaches {listen} can read the metrics of {}.",
                self.name
            ));
        }
        if self.json { print_json(&config.effective()) } else { print(&config.to_toml()?) }
    }
}
