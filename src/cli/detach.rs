//! `rblk detach`: leave in good order and end the daemon.

use super::{Place, name_argument, say};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::error::Result;

const AFTER_HELP: &str = "\
Example, before this host is rebooted:
  umount /srv
  rblk detach swarm";

/// End the resource on this node in good order
///
/// Writes in flight are finished, the other node is told, the metadata is marked
/// clean. Returns when the daemon has ended and the disk is free.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Detach {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
}

impl Detach {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        Client::connect(&place.run_dir, self.name.as_str())?.on_slow(say).detach()?;
        say(&format!("{} is detached on this node.", self.name));
        Ok(())
    }
}
