//! `rblk import`: from DRBD's configuration to rblk's.

use super::{Place, name_argument, print, say};
use crate::config::{Config, Name};
use crate::error::{Error, Kind, Result};
use crate::import::{self, Files, Imported, Problem};
use crate::limits::IMPORT_FILES_MAX;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Names in a folder that are looked at: a folder with more is not one of configurations.
const NAMES_MAX: usize = 16 * IMPORT_FILES_MAX;

const AFTER_HELP: &str = "\
Example, the configuration with its `common` section:
  rblk import /etc/drbd.conf --resource swarm > swarm.toml

Example, one file alone:
  rblk import /etc/drbd.d/swarm.res > swarm.toml

Exit codes: 0 translated, with notes or without; 1 refused.";

/// Translate a DRBD configuration to rblk's, on stdout
///
/// Reads DRBD 8.3, 8.4 and 9. What has no equivalent is listed on stderr; what
/// rblk cannot do is refused. Touches no disk.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Import {
    /// DRBD's configuration; included files are read, too
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// This resource, if there are several
    #[arg(long, value_name = "NAME", value_parser = name_argument)]
    resource: Option<Name>,
}

impl Import {
    pub(super) fn run(self, _place: &Place) -> Result<()> {
        let wanted = self.resource.as_ref().map(Name::as_str);
        let imported = import::import(&self.file, wanted, &mut Disk)
            .map_err(|problems| refused(&self.file, &problems))?;
        for note in &imported.notes {
            say(&note.to_string());
        }
        check(&imported);
        print(&imported.toml)
    }
}

/// Says so if this version does not take what it has written: a newer one will.
fn check(imported: &Imported) {
    let file = PathBuf::from(format!("{}.toml", imported.name));
    if let Err(error) = Config::parse(imported.toml.as_bytes(), &file, None) {
        say(&format!("{}: warning: {}", file.display(), error.reason()));
    }
}

fn refused(file: &Path, problems: &[Problem]) -> Error {
    let what = format!("Cannot import {}", file.display());
    let remedy = |problem: &Problem| match problem.remedy.as_str() {
        "" => "correct the file".to_owned(),
        remedy => remedy.to_owned(),
    };
    match problems {
        [problem] => {
            Error::new(Kind::Config, what).why(problem.to_string()).remedy(remedy(problem))
        }
        all => {
            for problem in all {
                say(&format!("{problem}\n  do:  {}", remedy(problem)));
            }
            let why = format!("{} things stand in the way, listed above", all.len());
            Error::new(Kind::Config, what).why(why)
        }
    }
}

/// The files of this machine.
struct Disk;

impl Files for Disk {
    fn names(&mut self, folder: &Path) -> std::result::Result<Vec<String>, String> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| error.to_string())?;
            if names.len() == NAMES_MAX {
                return Err(format!(
                    "more than {NAMES_MAX} files: expected a folder of configurations"
                ));
            }
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    fn read(&mut self, file: &Path, bytes_max: u64) -> std::result::Result<Vec<u8>, String> {
        let read = || -> std::io::Result<Vec<u8>> {
            // A FIFO would block for ever, a disk is never a configuration.
            if !std::fs::metadata(file)?.is_file() {
                return Err(std::io::Error::other("it is not a regular file"));
            }
            let mut bytes = Vec::new();
            std::fs::File::open(file)?.take(bytes_max).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| error.to_string())
    }
}
