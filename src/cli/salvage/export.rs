//! `rblk salvage export`: a set as an image of the volume.

use super::{Place, Where, name_argument, whole};
use crate::cli::progress::Progress;
use crate::cli::{say, units};
use crate::config::Name;
use crate::error::{Error, Result};
use crate::limits::BLOCK_BYTES;
use crate::salvage::{export, new_output};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Example:
  rblk salvage export swarm 20261121T195233Z-6F3A9C01 --output lost.img
  rblk salvage list swarm --extents     # which bytes of it are from the set";

/// Read a set back: a sparse image of the volume's size, its blocks in place
///
/// Each block is compared with its checksum. What is not in the set is a hole in
/// the image, and reads as zeroes.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Export {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// Set, as `list` names it; its beginning is enough
    set: String,
    /// The image
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite FILE if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Where,
}

impl Export {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let store = self.place.store(place, &self.name)?;
        let (id, set) = whole(&store, &self.set, "Cannot export")?;
        let out = new_output(&self.output, self.force)?;
        let mut progress = Progress::new();
        let exported = export(&set, &out, |done, total| {
            let detail = format!("{} of {}", units::bytes(done), units::bytes(total));
            progress.show("exporting", &detail, done, total);
        });
        drop(progress);
        if let Err(error) = exported {
            // Half an image looks like a whole one.
            return Err(match std::fs::remove_file(&self.output) {
                Ok(()) => error,
                Err(left) => Error::new(error.kind(), error.what())
                    .why(format!(
                        "{}; and {} is left ({left})",
                        error.reason(),
                        self.output.display()
                    ))
                    .remedy(error.advice()),
            });
        }
        say(&format!(
            "{} of {id} are in {}, which has the volume's size of {}.",
            units::bytes(set.header.blocks * BLOCK_BYTES),
            self.output.display(),
            units::bytes(set.header.volume_bytes)
        ));
        Ok(())
    }
}
