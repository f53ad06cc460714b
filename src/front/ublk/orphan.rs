//! A device that outlived its daemon: where its number is kept, and what becomes of it.
//!
//! The number is in a file of the run directory from before clients can see the device until it is taken away, and
//! beside it what the clients know of the data. A daemon that finds one there, without a server, takes it over: its
//! clients have been waiting. But not if the data has changed behind their backs: a file system that is mounted there
//! would go on with what it remembers, over what others have written since.
//!
//! ```text
//!   0                                        the number
//!   data 0198F0A2...                         whatever names the data; "void" if the clients must not go on
//!   block-bytes 512                          as the device has it: the disk alone does not tell what the peer's wanted
//! ```

use crate::error::{Error, Kind, Result};
use crate::limits::UBLK_STOP_MS;
use rblk_ublk::{Control, DeviceState, device_info};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Of the file's name, after that of the resource.
const SUFFIX: &str = ".ublk";
/// Longest wait for the driver to take away a device that no client has seen.
const REMOVE_LIMIT: Duration = Duration::from_secs(2);
/// The same if somebody uses it, whose requests are to fail first.
const TAKE_LIMIT: Duration = Duration::from_millis(UBLK_STOP_MS);
/// How often that is waited for.
const TAKE_TRIES: u32 = 4;
/// Time for the driver to learn that the server of a device has ended, and the pause between two looks.
const SERVER_ENDS: Duration = Duration::from_secs(5);
const SERVER_LOOK: Duration = Duration::from_millis(100);
/// Written for data that nobody may go on with.
const VOID: &str = "void";

/// A device as its daemon leaves it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    /// N of `/dev/ublkbN`.
    pub id: u32,
    /// Names the data that its clients know; `None` if they must not go on with any.
    pub data: Option<String>,
    /// Its logical block in bytes.
    pub block_bytes: u32,
}

impl Left {
    fn parse(text: &str) -> Option<Left> {
        let mut lines = text.lines();
        let mut left = Left { id: lines.next()?.trim().parse().ok()?, data: None, block_bytes: 0 };
        for line in lines {
            match line.split_once(' ') {
                Some(("data", data)) if data != VOID => left.data = Some(data.to_owned()),
                Some(("block-bytes", bytes)) => left.block_bytes = bytes.parse().unwrap_or(0),
                _ => {}
            }
        }
        Some(left)
    }

    fn text(&self) -> String {
        let data = self.data.as_deref().unwrap_or(VOID);
        format!("{}\ndata {data}\nblock-bytes {}\n", self.id, self.block_bytes)
    }
}

/// The file that keeps a resource's device.
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
            let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.to_owned();
            let left = Left::parse(&std::fs::read_to_string(&path).ok()?)?;
            (left.id == id).then_some(name)
        });
        named.collect()
    }

    /// Records of other resources with this number.
    fn others(&self, id: u32) -> Vec<String> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mine = self.path.file_name().and_then(|name| name.to_str());
        let mine = mine.and_then(|name| name.strip_suffix(SUFFIX));
        let mut names = Record::names_of(folder, id);
        names.retain(|name| Some(name.as_str()) != mine);
        names
    }

    /// Keeps a new device. Records of others that name its number are of devices that are gone.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn keep(&self, left: &Left) -> std::io::Result<()> {
        for name in self.others(left.id) {
            std::fs::remove_file(self.path.with_file_name(name + SUFFIX))?;
        }
        self.put(left)
    }

    /// Writes anew what is known of a device.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&self, left: &Left) -> std::io::Result<()> {
        let fresh = self.path.with_extension("ublk.new");
        std::fs::write(&fresh, left.text())?;
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
    pub fn orphan(&self) -> Result<Option<Left>> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let Some(left) = Left::parse(&text) else { return Ok(None) };
        let id = left.id;
        let what = || format!("Cannot take over /dev/ublkb{id}");
        let info = device_info(id).map_err(|error| Error::new(Kind::Io, what()).source(error))?;
        match info.map(|info| info.state) {
            None => {
                self.forget();
                Ok(None)
            }
            Some(DeviceState::Quiesced) => match self.others(id).first() {
                None => Ok(Some(left)),
                Some(other) => Err(Error::new(Kind::Refused, what())
                    .why(format!("{} says that it is resource {other}'s", self.path.display()))
                    .remedy("remove the file of the resource whose device it is not")),
            },
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

    /// Takes away a waiting device, whoever has it open: what they have in their caches fails first. That may take
    /// [`TAKE_TRIES`] times [`TAKE_LIMIT`]; each is told in the log.
    pub fn remove_orphan(&self) {
        let Ok(Some(Left { id, .. })) = self.orphan() else { return };
        for _ in 0..TAKE_TRIES {
            match remove(id, TAKE_LIMIT) {
                Ok(()) => {
                    tracing::info!("took away /dev/ublkb{id}, which waited since the last daemon");
                    return self.forget();
                }
                Err(error) => {
                    tracing::error!("/dev/ublkb{id} cannot be taken away: {error}");
                    if !matches!(error, rblk_ublk::Error::Timeout { .. }) {
                        return;
                    }
                }
            }
        }
    }

    /// Takes away a waiting device, whoever has it open: what they ask for fails, and what waits does. False if there
    /// is none.
    ///
    /// # Errors
    /// It has a server, or the driver does not do it.
    pub fn take_away(&self) -> Result<bool> {
        let give_up = Instant::now() + SERVER_ENDS;
        let left = loop {
            match self.orphan() {
                // The driver learns a moment after its end that a server is gone.
                Err(error) if error.kind() == Kind::Busy && Instant::now() < give_up => {
                    std::thread::sleep(SERVER_LOOK);
                }
                left => break left?,
            }
        };
        let Some(Left { id, .. }) = left else { return Ok(false) };
        remove(id, TAKE_LIMIT).map_err(|error| {
            Error::new(Kind::Io, format!("Cannot take /dev/ublkb{id} away")).source(error)
        })?;
        self.forget();
        Ok(true)
    }
}

fn remove(id: u32, limit: Duration) -> std::result::Result<(), rblk_ublk::Error> {
    let mut control = Control::open(id)?;
    control.stop(limit)?;
    control.delete(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(id: u32, data: Option<&str>) -> Left {
        Left { id, data: data.map(str::to_owned), block_bytes: 4096 }
    }

    #[test]
    fn what_is_left_is_read_as_it_was_written() {
        for expected in [left(0, Some("01AB")), left(17, None)] {
            assert_eq!(Left::parse(&expected.text()), Some(expected));
        }
        let number_alone = Left { id: 3, data: None, block_bytes: 0 };
        assert_eq!(Left::parse("3\n"), Some(number_alone), "of a daemon that knew no better");
        for nonsense in ["", "x\n", "-1\n", "data 1\n0\n"] {
            assert_eq!(Left::parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn without_a_record_there_is_nothing_to_take_away() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!Record::new(folder.path(), "x").take_away().expect("nothing to do"));
    }

    #[test]
    fn a_number_is_of_one_resource() {
        let folder = tempfile::tempdir().expect("a folder");
        let [x, y] = ["x", "y"].map(|name| Record::new(folder.path(), name));
        x.keep(&left(0, Some("X"))).expect("written");
        y.keep(&left(0, Some("Y"))).expect("written");
        assert_eq!(Record::names_of(folder.path(), 0), ["y"], "the device of x is gone");
        x.put(&left(0, Some("X"))).expect("written");
        assert_eq!(x.others(0), ["y"]);
        assert_eq!(y.others(0), ["x"]);
    }
}
