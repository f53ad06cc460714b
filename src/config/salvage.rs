//! `[salvage]`: where the data that a resync would discard is kept. See `docs/salvage.md`.

use super::section::{Section, Source, shorten};
use crate::error::Result;
use crate::limits::{SALVAGE_BYTES_DEFAULT, SALVAGE_BYTES_MIN};
use serde::{Serialize, Serializer};
use std::path::PathBuf;

const KEYS: [&str; 3] = ["directory", "max", "enabled"];
/// Units of sizes, each 1,024 times the one before.
const UNITS: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];

/// A place for what is discarded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Salvage {
    /// Discarded data is saved.
    pub enabled: bool,
    /// Where; each resource has a folder of its own in it. Absolute.
    pub directory: PathBuf,
    /// What all sets of the resource may take, in bytes.
    #[serde(rename = "max", serialize_with = "size_text")]
    pub max_bytes: u64,
}

/// What `[salvage]` says.
pub(super) fn parse(source: Source<'_>, section: &Section<'_>) -> Result<Salvage> {
    section.only(&KEYS)?;
    let found = section.required("directory", "\"/var/lib/rblk/salvage\"")?;
    let directory = PathBuf::from(found.value);
    if !directory.is_absolute() || found.value.contains('\0') {
        let wrong = format!(
            "directory \"{}\": expected an absolute path such as \"/var/lib/rblk/salvage\"",
            shorten(found.value)
        );
        return Err(source.error(&found.span, wrong));
    }
    let mut salvage = Salvage { enabled: true, directory, max_bytes: SALVAGE_BYTES_DEFAULT };
    if let Some(found) = section.string("max", "\"10G\"")? {
        match size(found.value) {
            Some(bytes) if bytes >= SALVAGE_BYTES_MIN => salvage.max_bytes = bytes,
            _ => {
                let wrong = format!(
                    "max = \"{}\": expected a size of at least 1M, such as \"500M\", \"10G\" or \"1T\"",
                    shorten(found.value)
                );
                return Err(source.error(&found.span, wrong));
            }
        }
    }
    if let Some(found) = section.boolean("enabled")? {
        salvage.enabled = found.value;
    }
    Ok(salvage)
}

/// Bytes of a number with a unit.
fn size(text: &str) -> Option<u64> {
    let (unit, shift) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let number = text.strip_suffix(unit)?;
    let digits = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
    let number = number.parse::<u64>().ok().filter(|_| digits)?;
    number.checked_mul(1 << shift)
}

/// The largest unit of which it is a whole number.
fn size_text<S: Serializer>(bytes: &u64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let whole = UNITS.into_iter().find(|(_, shift)| bytes.is_multiple_of(1 << shift));
    // What was read is a whole number of the smallest unit.
    let (unit, shift) = whole.unwrap_or(("K", 10));
    serializer.collect_str(&format_args!("{}{unit}", bytes >> shift))
}
