//! `rblk invalidate`: declare data void.

use super::{Place, name_argument, say};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::proto::Request;
use crate::error::Result;

const AFTER_HELP: &str = "\
Example, when this node's disk is not to be trusted any more:
  rblk invalidate swarm
  rblk wait swarm synced";

/// Declare this node's data out of sync: all of it is copied from the other
///
/// Refused while this node is Primary, while a resync runs, and if this node has
/// the newest data. Without a connection it is remembered, and the copy begins
/// when the nodes meet.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Invalidate {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// The other node's data instead: all of it is copied from this node, whose
    /// disk must have the newest data
    #[arg(long)]
    peer: bool,
}

impl Invalidate {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let mut client = Client::connect(&place.run_dir, self.name.as_str())?;
        client.command(&Request::Invalidate { peer: self.peer })?;
        let whose = if self.peer { "The other node's" } else { "This node's" };
        say(&format!("{whose} data of {} is out of sync; all of it will be copied.", self.name));
        Ok(())
    }
}
