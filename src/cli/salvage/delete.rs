//! `rblk salvage delete`: a set is no longer needed.

use super::{Place, Where, name_argument};
use crate::cli::{say, units};
use crate::config::Name;
use crate::error::{Error, Kind, Result};

const AFTER_HELP: &str = "\
Example:
  rblk salvage delete swarm 20261121T195233Z-6F3A9C01 --force";

/// Delete a set: what it holds exists nowhere else
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Delete {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// Set, as `list` names it; its beginning is enough
    set: String,
    /// Do it: without this, it is only said what would be lost
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Where,
}

impl Delete {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let store = self.place.store(place, &self.name)?;
        let found = store.find(&self.set)?;
        let what = || format!("Cannot delete {}", found.path.display());
        if !self.force {
            let holds = match &found.set {
                Ok(set) => format!(
                    "its {} were written on {} as generation {}, and exist nowhere else",
                    units::bytes(set.header.blocks * crate::limits::BLOCK_BYTES),
                    set.header.node,
                    set.header.generation
                ),
                Err(why) => format!("what can be read of it exists nowhere else, though {why}"),
            };
            return Err(Error::new(Kind::Refused, what())
                .why(holds)
                .remedy("--force deletes it; `rblk salvage export` keeps a copy before"));
        }
        store.delete(&found).map_err(|error| Error::io(what(), error))?;
        say(&format!("{} of {} is deleted.", found.id, self.name));
        Ok(())
    }
}
