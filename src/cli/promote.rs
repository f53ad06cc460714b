//! `rblk promote`: become Primary.

use super::{Place, insist, name_argument, say};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::proto::Request;
use crate::error::{Kind, Result};

const AFTER_HELP: &str = "\
Example, on the node that shall use the volume:
  rblk promote swarm
  mount /dev/rblk/swarm /srv

As a unit of systemd does, which waits for the daemon and the other node:
  rblk promote swarm --wait

If the other node is lost for good and this node's data may be older:
  rblk promote swarm --force";

/// Make this node Primary: the volume can be used here
///
/// It succeeds only if this node has the newest data and the other node agrees
/// or is known to be behind.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Promote {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// Even if the other node may have newer data. Writes that only the other
    /// node has are then lost when the two meet again
    #[arg(long)]
    force: bool,
    /// If it is not safe now, wait until it is, and say what for
    #[arg(long, conflicts_with = "force")]
    wait: bool,
}

impl Promote {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        // A daemon that starts, restarts or asks the other node is worth another try.
        let again = [Kind::Refused, Kind::Busy, Kind::NotRunning, Kind::Protocol];
        insist(if self.wait { &again } else { &[] }, || {
            let mut client = Client::connect(&place.run_dir, self.name.as_str())?.on_slow(say);
            client.command(&Request::Promote { force: self.force })
        })?;
        say(&format!("{} is Primary on this node.", self.name));
        Ok(())
    }
}
