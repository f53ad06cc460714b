//! `rblk dump-meta`: what is on a disk, whole or damaged. Never writes.

mod read;
mod report;

use super::progress::Progress;
use super::{Place, print, print_json};
use crate::config::Name;
use crate::error::{Error, Kind, Result};
use crate::io::disk::{Backing, OpenMode};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Example:
  rblk dump-meta swarm
  rblk dump-meta /dev/vg/swarm --json | jq .bitmap

Of a disk that a daemon is using it shows what was written last; parts of it
may be newer than others.";

/// Show the metadata on a disk, damaged or not
///
/// Exit code 0 if all of it is sound, 1 if something is damaged or missing; what
/// is readable is shown in both cases.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct DumpMeta {
    /// Resource, or a path of a disk or file (with a slash in it)
    #[arg(value_name = "NAME|DISK")]
    target: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl DumpMeta {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let what = format!("Cannot read the metadata of {}", self.target);
        let (disk, owner) = self.disk(place)?;
        let backing = Backing::open(&disk, OpenMode::Inspect).map_err(|error| {
            Error::new(Kind::Io, what.clone()).why(error.why()).remedy(error.remedy())
        })?;
        let mut progress = Progress::new();
        let report = read::report(&backing, owner, |done, total| {
            progress.show("reading the bitmap", "", done, total);
        });
        drop(progress);
        if self.json {
            print_json(&report)?;
        } else {
            print(&report.text())?;
        }
        let damage = report.damage();
        if damage.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::Metadata, format!("The metadata on {} is not sound", disk.display()))
            .why(damage.join("; "))
            .remedy(
                "if this disk is to start anew from the other node's: `rblk create NAME --force`",
            ))
    }

    /// The disk, and whose it should be if the configuration says so.
    fn disk(&self, place: &Place) -> Result<(PathBuf, Option<crate::meta::block::Owner>)> {
        if self.target.contains('/') {
            return Ok((PathBuf::from(&self.target), None));
        }
        let name = Name::parse(&self.target).map_err(|why| {
            Error::new(Kind::Usage, format!("{:?} is neither a resource nor a path", self.target))
                .why(why)
                .remedy("write a path with a slash, such as ./disk.img")
        })?;
        let config = place.load(&name)?;
        let node = config.local(place.node.as_deref())?;
        let owner = crate::meta::block::Owner { volume: config.volume_id(), node };
        Ok((config.node(node).disk.clone(), Some(owner)))
    }
}
