//! `rblk demote`: become Secondary.

use super::{Place, insist, name_argument, say};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::proto::Request;
use crate::error::{Kind, Result};

const AFTER_HELP: &str = "\
Example, to move the volume to the other node:
  umount /srv
  rblk demote swarm
and on the other node:
  rblk promote swarm";

/// Make this node Secondary: the volume can be used on the other node
///
/// It is refused while somebody has the device open.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Demote {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// While somebody has the device open, wait, and say who
    #[arg(long)]
    wait: bool,
}

impl Demote {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        insist(if self.wait { &[Kind::Busy] } else { &[] }, || {
            let mut client = Client::connect(&place.run_dir, self.name.as_str())?.on_slow(say);
            client.command(&Request::Demote)
        })?;
        say(&format!("{} is Secondary on this node.", self.name));
        Ok(())
    }
}
