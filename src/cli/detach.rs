//! `rblk detach`: leave in good order and end the daemon.

use super::{Place, insist, name_argument, say};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::error::{Kind, Result};

const AFTER_HELP: &str = "\
Example, before this host is rebooted:
  umount /srv
  rblk detach swarm

Example, before a new version of the program starts, with the volume in use:
  rblk detach swarm --hand-over";

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
    /// While somebody has the device open, wait, and say who
    #[arg(long)]
    wait: bool,
    /// Leave the device and its clients, who wait, to the next daemon
    #[arg(long, conflicts_with = "wait")]
    hand_over: bool,
}

impl Detach {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        insist(if self.wait { &[Kind::Busy] } else { &[] }, || {
            let mut client = Client::connect(&place.run_dir, self.name.as_str())?.on_slow(say);
            if self.hand_over { client.hand_over() } else { client.detach() }
        })?;
        let done = if self.hand_over { "handed over" } else { "detached" };
        say(&format!("{} is {done} on this node.", self.name));
        Ok(())
    }
}
