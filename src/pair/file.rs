//! A configuration changes all at once, and for good: beside the old one, on stable media, then in its place.

use crate::error::{Error, Result};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Rights of a configuration that was not there before.
const MODE: u32 = 0o644;

/// A new content that is on stable media, beside the place where it belongs. Unless it is put there it vanishes.
pub struct Written {
    beside: PathBuf,
    file: PathBuf,
    placed: bool,
}

impl Written {
    /// Writes `text`, which is to become `file`. A link stays one; rights and owner stay.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn beside(file: &Path, text: &[u8]) -> Result<Written> {
        let failed = |error| {
            Error::io(format!("Cannot write the configuration {}", file.display()), error)
                .remedy("look at the folder: it must be there, root's, and have room")
        };
        let target = match std::fs::canonicalize(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => file.to_owned(),
            found => found.map_err(failed)?,
        };
        let mut beside = target.clone().into_os_string();
        beside.push(format!(".{}.tmp", std::process::id()));
        let written = Written { beside: beside.into(), file: target, placed: false };
        written.write(text).map_err(failed)?;
        Ok(written)
    }

    fn write(&self, text: &[u8]) -> std::io::Result<()> {
        // What an attempt that broke off has left.
        let _absent = std::fs::remove_file(&self.beside);
        let mut out =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.beside)?;
        let mode = match std::fs::metadata(&self.file) {
            Ok(old) => {
                fchown(&out, Some(old.uid()), Some(old.gid()))?;
                old.mode() & 0o7777
            }
            Err(_) => MODE,
        };
        out.set_permissions(Permissions::from_mode(mode))?;
        out.write_all(text)?;
        out.sync_all()
    }

    /// Puts it in its place: it is there after a power cut, too.
    ///
    /// # Errors
    /// It cannot be done: whether the old or the new one is there must be looked at.
    pub fn place(mut self) -> Result<()> {
        let failed = |error| {
            Error::io(format!("Cannot write the configuration {}", self.file.display()), error)
                .remedy("look at the folder, and pair the nodes again")
        };
        std::fs::rename(&self.beside, &self.file).map_err(failed)?;
        sync_folder(&self.file).map_err(failed)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if !self.placed {
            let _gone = std::fs::remove_file(&self.beside);
        }
    }
}

/// Makes the folder of `file`, if it is missing, in one that is there.
///
/// # Errors
/// It cannot be made.
pub fn ensure_folder(file: &Path) -> Result<()> {
    let folder = folder_of(file);
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            let what = format!("Cannot make the folder {}", folder.display());
            Err(Error::io(what, error).remedy("run it as root, or name other files"))
        }
        Err(_) => Ok(()),
        Ok(()) => {
            let synced = sync_folder(folder);
            synced.map_err(|error| Error::io(format!("Cannot keep {}", folder.display()), error))
        }
    }
}

fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn sync_folder(file: &Path) -> std::io::Result<()> {
    File::open(folder_of(file))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_all_at_once_and_keeps_what_it_was() {
        let dir = tempfile::tempdir().expect("dir");
        let (file, link) = (dir.path().join("x.toml"), dir.path().join("link"));
        Written::beside(&file, b"one").expect("written").place().expect("placed");
        let mode = || std::fs::metadata(&file).expect("there").mode() & 0o7777;
        assert_eq!((std::fs::read(&file).expect("read"), mode()), (b"one".to_vec(), 0o644));
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("set");
        std::os::unix::fs::symlink("x.toml", &link).expect("linked");
        let two = Written::beside(&link, b"two").expect("written");
        assert_eq!(std::fs::read(&file).expect("read"), b"one");
        two.place().expect("placed");
        assert_eq!((std::fs::read(&file).expect("read"), mode()), (b"two".to_vec(), 0o640));
        assert!(std::fs::symlink_metadata(&link).expect("there").is_symlink());
        drop(Written::beside(&file, b"three").expect("written"));
        assert_eq!(std::fs::read(&file).expect("read"), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 2, "nothing is left");
    }

    #[test]
    fn a_folder_is_made_but_not_a_path() {
        let dir = tempfile::tempdir().expect("dir");
        let one = dir.path().join("one");
        ensure_folder(&one.join("x.toml")).expect("made");
        ensure_folder(&one.join("x.toml")).expect("there");
        assert!(one.is_dir());
        assert!(ensure_folder(&dir.path().join("a").join("b").join("x.toml")).is_err());
    }
}
