//! A device that outlived its daemon: where its number is kept, and what becomes of it.
//!
//! The number is in a file of the run directory from before clients can see the device until it is taken away. A daemon
//! that finds one there, without a server, takes it over: its clients have been waiting.

use crate::error::{Error, Kind, Result};
use rblk_ublk::{Control, DeviceState, device_info};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of the file's name, after that of the resource.
const SUFFIX: &str = ".ublk";
/// Longest wait for the driver to take away a device that nobody uses.
const REMOVE_LIMIT: Duration = Duration::from_secs(2);

/// The file that keeps the number of a resource's device.
#[derive(Clone, Debug)]
pub struct Record {
    path: PathBuf,
}

impl Record {
    /// Of resource `name`, in `run_dir`.
    pub fn new(run_dir: &Path, name: &str) -> Record {
        Record { path: run_dir.join(format!("{name}{SUFFIX}")) }
    }

    /// The resources whose device has, or had, this number.
    pub fn names_of(run_dir: &Path, id: u32) -> Vec<String> {
        let entries = std::fs::read_dir(run_dir).into_iter().flatten();
        let named = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
            let kept = std::fs::read_to_string(&path).ok()?;
            (kept.trim().parse() == Ok(id)).then(|| name.to_owned())
        });
        named.collect()
    }

    /// Keeps the number.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, id: u32) -> std::io::Result<()> {
        let fresh = self.path.with_extension("ublk.new");
        std::fs::write(&fresh, format!("{id}\n"))?;
        std::fs::rename(&fresh, &self.path)
    }

    /// The device is taken away.
    pub fn forget(&self) {
        // A record that stays names a device that is gone, and is recognised as such.
        drop(std::fs::remove_file(&self.path));
    }

    /// The device that waits for a server.
    ///
    /// # Errors
    /// It has one, or the kernel does not say.
    pub fn orphan(&self) -> Result<Option<u32>> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let Ok(id) = text.trim().parse() else { return Ok(None) };
        let what = || format!("Cannot take over /dev/ublkb{id}");
        let info = device_info(id).map_err(|error| Error::new(Kind::Io, what()).source(error))?;
        match info.map(|info| info.state) {
            None => {
                self.forget();
                Ok(None)
            }
            Some(DeviceState::Quiesced) => Ok(Some(id)),
            // Its daemon died before clients could see it, or after they had lost it.
            Some(DeviceState::Dead) => {
                Control::open(id)
                    .and_then(|mut control| control.delete(REMOVE_LIMIT))
                    .map_err(|error| Error::new(Kind::Io, what()).source(error))?;
                self.forget();
                Ok(None)
            }
            Some(state) => Err(Error::new(Kind::Busy, what())
                .why(format!("it is {state:?}"))
                .remedy("end the process that serves it, then attach again")),
        }
    }

    /// There is one, of a device that may be gone.
    pub fn is_kept(&self) -> bool {
        self.path.exists()
    }

    /// Takes away a waiting device that nobody has open. Bounded by [`REMOVE_LIMIT`].
    pub fn remove_orphan(&self) {
        let Ok(Some(id)) = self.orphan() else { return };
        let removed = Control::open(id).and_then(|mut control| {
            control.stop(REMOVE_LIMIT)?;
            control.delete(REMOVE_LIMIT)
        });
        match removed {
            Ok(()) => {
                tracing::info!("took away /dev/ublkb{id}, which waited since the last daemon");
                self.forget();
            }
            Err(error) => tracing::error!("/dev/ublkb{id} cannot be taken away: {error}"),
        }
    }
}
