//! What `rblk dump-meta` found, as JSON and as text.

use crate::cli::units;
use crate::limits::{AL_RING_BLOCKS, SECTOR_BYTES};
use crate::meta::layout::Layout;
use crate::meta::superblock::Superblock;
use serde::Serialize;
use std::fmt::Write;

/// Everything that was found. Addresses and sizes in bytes.
#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Report {
    pub(super) disk: String,
    pub(super) bytes: u64,
    /// Why there is nothing to look at.
    pub(super) error: Option<String>,
    pub(super) layout: Option<Region>,
    /// Both copies, each judged by itself.
    pub(super) superblocks: Vec<Copy>,
    /// The one that a daemon would take.
    pub(super) superblock: Option<SuperblockView>,
    pub(super) superblock_error: Option<String>,
    pub(super) activity_log: Option<ActivityLog>,
    pub(super) bitmap: Option<Bitmap>,
}

/// Where everything lies.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Region {
    data_bytes: u64,
    superblock_0: u64,
    bitmap: u64,
    activity_log: u64,
    superblock_1: u64,
}

/// A copy of the superblock: its content, or what is wrong with it.
#[derive(Serialize)]
pub(super) struct Copy {
    pub(super) copy: u8,
    pub(super) address: u64,
    pub(super) found: Option<SuperblockView>,
    pub(super) error: Option<String>,
}

/// The superblock with its ids as text.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct SuperblockView {
    sequence: u64,
    volume: String,
    node: u8,
    usable_sectors: u64,
    agreed_sectors: u64,
    current: Option<String>,
    base: Option<String>,
    history: Vec<String>,
    consistent: bool,
    outdated: bool,
    peer_outdated: bool,
    sole_source: bool,
    primary: bool,
    crashed: bool,
    instance: u64,
    mark: u64,
    peer_mark: u64,
}

/// The activity log.
#[derive(Default, Serialize)]
pub(super) struct ActivityLog {
    pub(super) slots: u64,
    /// Of the newest transaction.
    pub(super) sequence: Option<u64>,
    /// That it lists as active.
    pub(super) extents: Vec<u32>,
    /// Why it is not known: then every block counts as out of sync after a crash.
    pub(super) error: Option<String>,
    pub(super) bad: Vec<Bad>,
}

/// The dirty bitmap.
#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Bitmap {
    pub(super) pages: u32,
    pub(super) dirty_pages: u32,
    pub(super) bad_pages: u32,
    /// By the pages that are sound.
    pub(super) out_of_sync_bytes: u64,
    /// The first of them.
    pub(super) bad: Vec<Bad>,
}

/// A block that is not believed.
#[derive(Serialize)]
pub(super) struct Bad {
    pub(super) number: u32,
    pub(super) error: String,
}

impl Region {
    pub(super) fn of(layout: &Layout) -> Region {
        Region {
            data_bytes: layout.data_sectors() * SECTOR_BYTES,
            superblock_0: layout.superblock(0),
            bitmap: layout.bitmap_page(0),
            activity_log: layout.al_slot(0),
            superblock_1: layout.superblock(1),
        }
    }
}

impl SuperblockView {
    pub(super) fn of(found: &Superblock) -> SuperblockView {
        SuperblockView {
            sequence: found.sequence,
            volume: found.volume.to_string(),
            node: found.node.0,
            usable_sectors: found.usable_sectors,
            agreed_sectors: found.agreed_sectors,
            current: found.current.map(|id| id.to_string()),
            base: found.base.map(|id| id.to_string()),
            history: found.history.iter().map(|id| id.to_string()).collect(),
            consistent: found.consistent,
            outdated: found.outdated,
            peer_outdated: found.peer_outdated,
            sole_source: found.sole_source,
            primary: found.primary,
            crashed: found.crashed,
            instance: found.instance,
            mark: found.mark,
            peer_mark: found.peer_mark,
        }
    }

    fn text(&self, out: &mut String) {
        let none = || "none".to_owned();
        let size = |sectors: u64| units::bytes(sectors.saturating_mul(SECTOR_BYTES));
        let agreed = match self.agreed_sectors {
            0 => none(),
            sectors => size(sectors),
        };
        let flags = [
            (self.consistent, "consistent"),
            (self.outdated, "outdated"),
            (self.peer_outdated, "peer-outdated"),
            (self.sole_source, "sole-source"),
            (self.primary, "primary"),
            (self.crashed, "crashed"),
        ];
        let set: Vec<&str> = flags.iter().filter(|flag| flag.0).map(|flag| flag.1).collect();
        let flags = if set.is_empty() { none() } else { set.join(" ") };
        let lines = [
            ("volume", self.volume.clone()),
            ("node", self.node.to_string()),
            ("usable", size(self.usable_sectors)),
            ("agreed", agreed),
            ("current", self.current.clone().unwrap_or_else(none)),
            ("base", self.base.clone().unwrap_or_else(none)),
            ("flags", flags),
            ("attached", format!("{} times", self.instance)),
            ("mark", format!("{}, of the peer {}", self.mark, self.peer_mark)),
        ];
        for (name, value) in lines {
            let _ = writeln!(out, "  {name:<9} {value}");
        }
        for (index, id) in self.history.iter().enumerate() {
            let name = if index == 0 { "history" } else { "" };
            let _ = writeln!(out, "  {name:<9} {id}");
        }
    }
}

impl Report {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = format!("{}: {}\n", self.disk, units::bytes(self.bytes));
        if let Some(layout) = &self.layout {
            let _ = writeln!(
                out,
                "  data {}, superblock 0 at {}, bitmap at {}, activity log at {}, \
                 superblock 1 at {}",
                units::bytes(layout.data_bytes),
                layout.superblock_0,
                layout.bitmap,
                layout.activity_log,
                layout.superblock_1
            );
        }
        for copy in &self.superblocks {
            let state = match (&copy.found, &copy.error) {
                (Some(found), _) => format!("sound, number {}", found.sequence),
                (None, error) => error.clone().unwrap_or_default(),
            };
            let _ = writeln!(out, "superblock copy {}: {state}", copy.copy);
        }
        match (&self.superblock, &self.superblock_error) {
            (Some(found), _) => {
                let _ = writeln!(out, "superblock: number {}", found.sequence);
                found.text(&mut out);
            }
            (None, Some(error)) => {
                let _ = writeln!(out, "superblock: {error}");
                for found in self.superblocks.iter().filter_map(|copy| copy.found.as_ref()) {
                    let _ = writeln!(out, "of a sound copy:");
                    found.text(&mut out);
                }
            }
            (None, None) => {}
        }
        if let Some(log) = &self.activity_log {
            log.text(&mut out);
        }
        if let Some(bitmap) = &self.bitmap {
            bitmap.text(&mut out);
        }
        if let Some(error) = &self.error {
            let _ = writeln!(out, "{error}");
        }
        out
    }

    /// What is wrong, in a few words each; empty if all is sound.
    pub(super) fn damage(&self) -> Vec<String> {
        let mut damage = Vec::new();
        damage.extend(self.error.clone());
        for copy in self.superblocks.iter().filter(|copy| copy.error.is_some()) {
            damage.push(format!("superblock copy {}", copy.copy));
        }
        if self.superblock_error.is_some() {
            damage.push("no usable superblock".to_owned());
        }
        if self.activity_log.as_ref().is_some_and(|log| log.error.is_some()) {
            damage.push("activity log".to_owned());
        }
        let bad = self.bitmap.as_ref().map_or(0, |bitmap| bitmap.bad_pages);
        if bad > 0 {
            damage.push(format!("{bad} pages of the bitmap"));
        }
        damage
    }
}

impl ActivityLog {
    fn text(&self, out: &mut String) {
        match (&self.sequence, &self.error) {
            (Some(sequence), _) => {
                let _ = writeln!(
                    out,
                    "activity log: transaction {sequence}, {} of {AL_RING_BLOCKS} slots sound, \
                     {} extents active",
                    self.slots - self.bad.len() as u64,
                    self.extents.len()
                );
                if !self.extents.is_empty() {
                    let _ = writeln!(out, "  extents   {}", runs(&self.extents));
                }
            }
            (None, error) => {
                let _ = writeln!(out, "activity log: {}", error.as_deref().unwrap_or(""));
            }
        }
        for bad in &self.bad {
            let _ = writeln!(out, "  slot {}: {}", bad.number, bad.error);
        }
    }
}

impl Bitmap {
    fn text(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "bitmap: {} pages, {} with bits, {} not sound, out-of-sync {}",
            self.pages,
            self.dirty_pages,
            self.bad_pages,
            units::bytes(self.out_of_sync_bytes)
        );
        for bad in &self.bad {
            let _ = writeln!(out, "  page {}: {}", bad.number, bad.error);
        }
        if (self.bad.len() as u64) < u64::from(self.bad_pages) {
            let _ =
                writeln!(out, "  and {} more", u64::from(self.bad_pages) - self.bad.len() as u64);
        }
    }
}

/// Sorted numbers with runs drawn together: `0-3 7 9-10`.
fn runs(numbers: &[u32]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let parts = sorted.chunk_by(|a, b| a.checked_add(1) == Some(*b)).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run.iter().map(u32::to_string).collect(),
    });
    parts.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_drawn_together() {
        assert_eq!(runs(&[9, 0, 2, 1, 10, 7]), "0-2 7 9-10");
        assert_eq!(runs(&[]), "");
    }
}
