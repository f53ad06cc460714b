//! `rblk detach`: leave in good order and end the daemon.

use super::{Place, insist, name_argument, say};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::error::{Kind, Result};
use crate::front::ublk::Record;

const AFTER_HELP: &str = "\
Example, before this host is rebooted:
  umount /srv
  rblk detach swarm

Example, before a new version of the program starts, with the volume in use:
  rblk detach swarm --hand-over

Example, with a file system that cannot be unmounted:
  sync
  rblk detach swarm --force";

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
    /// Take the device away though somebody has it open: what he has not synced
    /// may be lost, and all he asks for fails. Also a device that was left to a
    /// daemon that does not come
    #[arg(long, conflicts_with_all = ["wait", "hand_over"])]
    force: bool,
}

impl Detach {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        insist(if self.wait { &[Kind::Busy] } else { &[] }, || {
            let name = self.name.as_str();
            let mut client = match Client::connect(&place.run_dir, name) {
                Ok(client) => client.on_slow(say),
                Err(error) if self.force && error.kind() == Kind::NotRunning => {
                    let gone = Record::new(&place.run_dir, name).take_away()?;
                    return if gone { Ok(()) } else { Err(error) };
                }
                Err(error) => return Err(error),
            };
            if self.hand_over { client.hand_over() } else { client.detach(self.force) }
        })?;
        let done = if self.hand_over { "handed over" } else { "detached" };
        say(&format!("{} is {done} on this node.", self.name));
        Ok(())
    }
}
