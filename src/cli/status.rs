//! `rblk status`: the state now.

use super::{Place, name_argument, print, print_json, render, say, watch};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::status::Resource;
use crate::error::{Error, Kind, Result};
use std::io::ErrorKind;

const AFTER_HELP: &str = "\
Example:
  rblk status
  rblk status --watch
  rblk status swarm --json | jq '.[0].connections[0].peer_devices[0]'

The keys of --json are DRBD 9's; docs/status.md lists them.";

/// Show role, disks, connection and resync
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Status {
    /// Resource; all that run on this node if absent
    #[arg(value_parser = name_argument)]
    name: Option<Name>,
    /// As JSON, with DRBD 9's keys
    #[arg(long)]
    json: bool,
    /// Stay, and show changes as they come; q quits
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

impl Status {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        if self.watch {
            return watch::run(place, self.name.as_ref());
        }
        if let Some(name) = self.name {
            let status = ask(place, &name)?;
            if self.json {
                return print_json(&[&status]);
            }
            return print(&render::resource(&status));
        }
        let mut running = Vec::new();
        let mut texts = Vec::new();
        let mut failed = None;
        for name in names(place)? {
            match ask(place, &name) {
                Ok(status) => {
                    texts.push(render::resource(&status));
                    running.push(status);
                }
                Err(error) if error.kind() == Kind::NotRunning => {
                    texts.push(format!("{name} does not run: its daemon was killed"));
                }
                Err(error) => {
                    say(&error.report());
                    failed = Some(name);
                }
            }
        }
        if self.json {
            print_json(&running)?;
        } else if texts.is_empty() && failed.is_none() {
            print("No resource runs on this node.")?;
        } else {
            print(&texts.join("\n\n"))?;
        }
        match failed {
            None => Ok(()),
            Some(name) => Err(Error::new(Kind::Io, format!("The status of {name} is missing"))
                .why("its daemon could not be asked, see above")),
        }
    }
}

pub(super) fn ask(place: &Place, name: &Name) -> Result<Resource> {
    Client::connect(&place.run_dir, name.as_str())?.status()
}

/// The resources that have a control socket, sorted.
pub(super) fn names(place: &Place) -> Result<Vec<Name>> {
    let dir = &place.run_dir;
    let what = || format!("Cannot look for resources in {}", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(what(), error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| Error::io(what(), error))?.file_name();
        let stem = file.to_str().and_then(|file| file.strip_suffix(".sock"));
        names.extend(stem.and_then(|stem| Name::parse(stem).ok()));
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    Ok(names)
}
