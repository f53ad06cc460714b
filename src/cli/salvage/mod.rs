//! `rblk salvage`: what was saved before a resync discarded it. Needs no daemon.

mod delete;
mod export;
mod list;

use super::{Place, name_argument};
use crate::config::{CONFIG_DIR, Config, Name};
use crate::error::{Error, Kind, Result};
use crate::salvage::{Set, Store};
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Example:
  rblk salvage list swarm
  rblk salvage export swarm 20261121T195233Z-6F3A9C01 --output lost.img
  rblk salvage delete swarm 20261121T195233Z-6F3A9C01 --force

A set holds the blocks that a node wrote on its own way, as they were before a
resync overwrote them: docs/salvage.md.";

/// What was saved before a resync discarded it: list, read back, delete
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Salvage {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    List(list::List),
    Export(export::Export),
    Delete(delete::Delete),
}

/// Where sets are looked for.
#[derive(clap::Args)]
struct Where {
    /// Look in this directory instead of that of [salvage] in the configuration
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Salvage {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        match self.verb {
            Verb::List(verb) => verb.run(place),
            Verb::Export(verb) => verb.run(place),
            Verb::Delete(verb) => verb.run(place),
        }
    }
}

impl Where {
    /// The sets of a resource.
    fn store(&self, place: &Place, name: &Name) -> Result<Store> {
        if let Some(directory) = &self.directory {
            return Ok(Store::new(directory, name.as_str()));
        }
        let config = place.load(name)?;
        store_of(&config).ok_or_else(|| {
            Error::new(Kind::Config, format!("Nothing is saved of {name}"))
                .why("its configuration has no [salvage]")
                .remedy("add directory = \"/var/lib/rblk/salvage\" there, or name a place with --directory")
        })
    }

    /// Those of each resource: of the directory, or of the configurations.
    fn stores(&self, place: &Place) -> Result<Vec<Store>> {
        if let Some(directory) = &self.directory {
            let names = entries(directory)?.into_iter().filter(|path| path.is_dir());
            let names = names.filter_map(|path| named(path.file_name()?.to_str()?));
            return Ok(names.map(|name| Store::new(directory, name.as_str())).collect());
        }
        if let Some(file) = &place.config {
            return Ok(store_of(&Config::load_any(file)?).into_iter().collect());
        }
        let mut stores = Vec::new();
        for path in entries(Path::new(CONFIG_DIR))? {
            if path.extension().is_some_and(|extension| extension == "toml") {
                stores.extend(store_of(&Config::load_any(&path)?));
            }
        }
        Ok(stores)
    }
}

/// Also if saving is switched off: what was saved before is there still.
fn store_of(config: &Config) -> Option<Store> {
    let place = config.salvage.as_ref()?;
    Some(Store::new(&place.directory, config.name.as_str()))
}

fn named(text: &str) -> Option<Name> {
    Name::parse(text).ok()
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut paths =
        read().map_err(|error| Error::io(format!("Cannot read {}", directory.display()), error))?;
    paths.sort();
    Ok(paths)
}

/// The set that was named, whole, and what it is called.
fn whole(store: &Store, id: &str, what: &str) -> Result<(String, Set)> {
    let found = store.find(id)?;
    match found.set {
        Ok(set) => Ok((found.id, set)),
        Err(why) => Err(Error::new(Kind::Metadata, format!("{what} {}", found.path.display()))
            .why(why)
            .remedy("copy the folder of the set before anything else: part of it may be readable by hand")),
    }
}
