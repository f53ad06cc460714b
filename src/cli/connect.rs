//! `rblk connect`: look for the other node again.

use super::{Place, name_argument, say};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::proto::Request;
use crate::error::Result;

const AFTER_HELP: &str = "\
Example, after a split brain, on the node whose changes are to be lost:
  rblk demote swarm                     # if it is Primary
  rblk connect swarm --discard-my-data
and on the other:
  rblk connect swarm";

/// Connect to the other node again
///
/// After `disconnect`, or when the nodes stand alone because they do not agree
/// on whose data counts. Returns at once; `rblk wait NAME connected` waits.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Connect {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// If both nodes have data of their own, lose this node's: what was written
    /// here since they parted is overwritten from the other. It decides the next
    /// connection only. Refused on a Primary
    #[arg(long)]
    discard_my_data: bool,
    /// And do not save it first, this once, where [salvage] is configured: what
    /// could not be saved is lost
    #[arg(long, requires = "discard_my_data")]
    no_salvage: bool,
}

impl Connect {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let request =
            Request::Connect { discard_my_data: self.discard_my_data, no_salvage: self.no_salvage };
        Client::connect(&place.run_dir, self.name.as_str())?.command(&request)?;
        say(&format!("{} looks for the other node.", self.name));
        Ok(())
    }
}
