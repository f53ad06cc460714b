//! `rblk salvage list`: which sets there are.

use super::{Place, Where, name_argument};
use crate::cli::{print, print_json, units};
use crate::config::Name;
use crate::error::{Error, Kind, Result};
use crate::limits::BLOCK_BYTES;
use crate::salvage::{Header, Listed, Set, Store};
use serde::Serialize;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

const AFTER_HELP: &str = "\
Example:
  rblk salvage list swarm
  rblk salvage list --json | jq -r '.[].set'
  rblk salvage list swarm --extents";

/// List what was saved
///
/// Exit code 1 if a set is damaged: it is listed all the same, with the reason.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct List {
    /// Resource; all that have a place for sets if absent
    #[arg(value_parser = name_argument)]
    name: Option<Name>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// And which bytes of the volume each set has
    #[arg(long)]
    extents: bool,
    #[command(flatten)]
    place: Where,
}

/// A set, or what has the place of one.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    resource: String,
    set: String,
    path: String,
    /// What its files take, holes counted.
    file_bytes: u64,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
    #[serde(flatten)]
    facts: Option<Facts>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Facts {
    saved: String,
    node: String,
    generation: String,
    source: String,
    base: Option<String>,
    volume: String,
    volume_bytes: u64,
    bytes: u64,
    blocks: u64,
    /// First byte and length of each, neighbours joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    extents: Option<Vec<[u64; 2]>>,
}

impl List {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let stores = match &self.name {
            Some(name) => vec![self.place.store(place, name)?],
            None => self.place.stores(place)?,
        };
        let mut entries = Vec::new();
        for store in &stores {
            for listed in store.list()? {
                entries.push(self.entry(store, &listed));
            }
        }
        if self.json {
            print_json(&entries)?;
        } else if entries.is_empty() {
            let name = self.name.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
            print(&format!("Nothing is saved{name}."))?;
        } else {
            let texts: Vec<String> = entries.iter().map(text).collect();
            print(&texts.join("\n"))?;
        }
        match entries.iter().find(|entry| entry.damage.is_some()) {
            None => Ok(()),
            Some(bad) => Err(Error::new(Kind::Metadata, "Not every set is sound")
                .why(format!("{}: {}", bad.path, bad.damage.as_deref().unwrap_or_default()))
                .remedy("what cannot be read back can be deleted with `rblk salvage delete`")),
        }
    }

    fn entry(&self, store: &Store, listed: &Listed) -> Entry {
        let facts = listed.set.as_ref().map_err(Clone::clone).and_then(|set| self.facts(set));
        Entry {
            resource: store.resource().to_owned(),
            set: listed.id.clone(),
            path: listed.path.display().to_string(),
            file_bytes: listed.bytes,
            damage: facts.as_ref().err().cloned(),
            facts: facts.ok(),
        }
    }

    fn facts(&self, set: &Set) -> std::result::Result<Facts, String> {
        let Header { node, generation, source, base, volume, .. } = set.header.clone();
        let time = UNIX_EPOCH.checked_add(Duration::from_millis(set.header.saved_unix_ms));
        let saved = time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
        Ok(Facts {
            saved: saved.unwrap_or_default(),
            node,
            generation,
            source,
            base,
            volume,
            volume_bytes: set.header.volume_bytes,
            bytes: set.header.blocks * BLOCK_BYTES,
            blocks: set.header.blocks,
            extents: if self.extents { Some(extents(set)?) } else { None },
        })
    }
}

fn extents(set: &Set) -> std::result::Result<Vec<[u64; 2]>, String> {
    let mut found: Vec<[u64; 2]> = Vec::new();
    set.each_extent(|extent| {
        let first = extent.first * BLOCK_BYTES;
        match found.last_mut() {
            Some([start, bytes]) if *start + *bytes == first => *bytes += extent.bytes(),
            _ => found.push([first, extent.bytes()]),
        }
        Ok(())
    })?;
    Ok(found)
}

fn text(entry: &Entry) -> String {
    let mut out = format!("{} {}", entry.resource, entry.set);
    let Some(facts) = &entry.facts else {
        let why = entry.damage.as_deref().unwrap_or_default();
        let _ = write!(out, "\n  damaged: {why}\n  in {}", entry.path);
        return out;
    };
    let _ = write!(
        out,
        "\n  {} in {} blocks, saved {} on {}\n  lost generation {}\n  gave way to    {}\n  parted after   {}\n  in {}",
        units::bytes(facts.bytes),
        facts.blocks,
        facts.saved,
        facts.node,
        facts.generation,
        facts.source,
        facts.base.as_deref().unwrap_or("nothing known: everything was saved"),
        entry.path
    );
    for [first, bytes] in facts.extents.iter().flatten() {
        let _ = write!(out, "\n    bytes {first} to {} ({})", first + bytes, units::bytes(*bytes));
    }
    out
}
