//! `rblk disconnect`: part from the other node.

use super::{Place, name_argument, say};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::proto::Request;
use crate::error::Result;

const AFTER_HELP: &str = "\
Example, before work on the network between the nodes:
  rblk disconnect swarm
and when that is done:
  rblk connect swarm";

/// Part from the other node and stand alone until `connect`
///
/// A Primary goes on alone; what it writes meanwhile is copied when the nodes
/// are connected again. A Secondary steps back, so that the other node can go
/// on without it. It lasts until `connect`, or until the daemon is started anew.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Disconnect {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
}

impl Disconnect {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        Client::connect(&place.run_dir, self.name.as_str())?.command(&Request::Disconnect)?;
        say(&format!("{} stands alone on this node.", self.name));
        Ok(())
    }
}
