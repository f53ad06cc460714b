//! The folder of a resource: its sets, how much room they take, and what a crash has left.

use super::index::{Extent, Header, Reader};
use crate::error::{Error, Kind, Result};
use crate::limits::{BLOCK_BYTES, SALVAGE_SETS_MAX};
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Of a set.
pub(super) const INDEX: &str = "index";
/// Of a set.
pub(super) const DATA: &str = "data";
/// For the owner alone: what is in a set was readable by nobody else either.
const FOLDER_MODE: u32 = 0o700;

/// The sets of one resource.
#[derive(Clone, Debug)]
pub struct Store {
    resource: String,
    folder: PathBuf,
}

/// Something in the folder that has the place of a set.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub id: String,
    /// Where it is.
    pub path: PathBuf,
    /// What its files take, in bytes, holes counted.
    pub bytes: u64,
    /// The set, or why it is none that can be used.
    pub set: std::result::Result<Set, String>,
}

/// A set whose index is whole.
#[derive(Clone, Debug)]
pub struct Set {
    /// What it is.
    pub header: Header,
    pub(super) path: PathBuf,
}

impl Store {
    /// That of `resource` in `directory`. Nothing is looked at yet.
    pub fn new(directory: &Path, resource: &str) -> Store {
        Store { resource: resource.to_owned(), folder: directory.join(resource) }
    }

    /// The resource.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Where its sets are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder, if it is not there, and sees that sets can be made in it.
    ///
    /// # Errors
    /// It cannot be made, or not be written to.
    pub fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.folder)?;
        rustix::fs::access(
            &self.folder,
            rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
        )?;
        Ok(())
    }

    /// All sets, by name. A folder that is not there has none.
    ///
    /// # Errors
    /// The folder cannot be read, or has more than anybody made.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let what = || format!("Cannot list what is saved in {}", self.folder.display());
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(Error::io(what(), error).remedy("run as the user of the daemon"));
            }
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::io(what(), error))?;
            let Ok(id) = entry.file_name().into_string() else { continue };
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // What would move a cursor when it is listed is not ours.
            if id.starts_with('.') || !is_folder || id.contains(char::is_control) {
                continue;
            }
            if found.len() == SALVAGE_SETS_MAX {
                return Err(Error::new(Kind::Refused, what())
                    .why(format!("there are more than {SALVAGE_SETS_MAX} sets"))
                    .remedy("move some of them elsewhere"));
            }
            let path = entry.path();
            let bytes = bytes_of(&path.join(INDEX)) + bytes_of(&path.join(DATA));
            found.push(Listed { id, bytes, set: Set::open(&path), path });
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// The set with this name, or the only one that begins with it.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn find(&self, id: &str) -> Result<Listed> {
        let what = || format!("Cannot find the set {} of {}", shorten(id), self.resource);
        let remedy = format!("run `rblk salvage list {}`", self.resource);
        let mut all = self.list()?;
        if let Some(at) = all.iter().position(|listed| listed.id == id) {
            return Ok(all.swap_remove(at));
        }
        all.retain(|listed| !id.is_empty() && listed.id.starts_with(id));
        match (all.pop(), all.is_empty()) {
            (Some(found), true) => Ok(found),
            (Some(_), false) => Err(Error::new(Kind::Usage, what())
                .why("more than one begins like this")
                .remedy(remedy)),
            (None, _) => Err(Error::new(Kind::Usage, what())
                .why(format!("there is none in {}", self.folder.display()))
                .remedy(remedy)),
        }
    }

    /// Deletes a set. If this is interrupted, the rest goes with the next one that is made.
    ///
    /// # Errors
    /// The file system's.
    pub fn delete(&self, listed: &Listed) -> io::Result<()> {
        let gone = self.folder.join(format!(".{}.deleted", listed.id));
        fs::rename(&listed.path, &gone)?;
        fs::remove_dir_all(&gone)?;
        sync_folder(&self.folder)
    }

    /// A place for a set that is not whole yet, for `node` alone; empty.
    pub(super) fn begin(&self, node: &str) -> io::Result<PathBuf> {
        self.prepare()?;
        let partial = self.partial(node);
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // What another node is writing here now is its own.
            if path == partial || name.starts_with('.') && name.ends_with(".deleted") {
                fs::remove_dir_all(&path)?;
            }
        }
        DirBuilder::new().mode(FOLDER_MODE).create(&partial)?;
        Ok(partial)
    }

    /// Gives a set that is whole its name, `id` or one like it, and takes away older ones of the same generation.
    pub(super) fn finish(&self, node: &str, id: &str, header: &Header) -> io::Result<String> {
        let partial = self.partial(node);
        sync_folder(&partial)?;
        let mut name = id.to_owned();
        let mut number = 1;
        while self.folder.join(&name).symlink_metadata().is_ok() {
            number += 1;
            name = format!("{id}-{number}");
        }
        fs::rename(&partial, self.folder.join(&name))?;
        sync_folder(&self.folder)?;
        self.sync_ancestors()?;
        for listed in self.list().map_err(io::Error::other)? {
            let replaced = listed.set.as_ref().is_ok_and(|set| set.header.replaces(header));
            if replaced && listed.id != name {
                self.delete(&listed)?;
            }
        }
        Ok(name)
    }

    /// The folder itself may be new, and what it was made in: a set that a power cut can take away is not saved.
    fn sync_ancestors(&self) -> io::Result<()> {
        for above in self.folder.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            match sync_folder(above) {
                // Not made by us, or of a kind that keeps nothing.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
                    ) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// What became of a set that cannot be finished is not kept.
    pub(super) fn abandon(&self, node: &str) {
        // What cannot be removed now is, when the next one begins.
        let _ = fs::remove_dir_all(self.partial(node));
    }

    fn partial(&self, node: &str) -> PathBuf {
        self.folder.join(format!(".{node}.partial"))
    }
}

impl Header {
    /// True if both are of the same data: the newer one takes the place of the older.
    pub(super) fn replaces(&self, other: &Header) -> bool {
        (&self.volume, &self.node, &self.generation)
            == (&other.volume, &other.node, &other.generation)
    }
}

impl Set {
    /// Reads all of the index; why it cannot be used, in half a sentence, if it cannot.
    pub(super) fn open(path: &Path) -> std::result::Result<Set, String> {
        let mut reader = open_index(path)?;
        while reader.extent()?.is_some() {}
        let set = Set { header: reader.header, path: path.to_owned() };
        let found = bytes_of(&path.join(DATA));
        let expected = set.header.blocks * BLOCK_BYTES;
        if found != expected {
            return Err(format!("its data has {found} bytes instead of {expected}"));
        }
        Ok(set)
    }

    /// Its extents, ascending, each as the index has it.
    ///
    /// # Errors
    /// Why the index cannot be read any more, in half a sentence.
    pub fn each_extent(
        &self,
        mut each: impl FnMut(Extent) -> std::result::Result<(), String>,
    ) -> std::result::Result<(), String> {
        let mut reader = open_index(&self.path)?;
        if reader.header != self.header {
            return Err("it was replaced meanwhile".to_owned());
        }
        while let Some(extent) = reader.extent()? {
            each(extent)?;
        }
        Ok(())
    }
}

fn open_index(path: &Path) -> std::result::Result<Reader<BufReader<File>>, String> {
    let file = open_regular(&path.join(INDEX))
        .map_err(|error| format!("its index cannot be opened ({error})"))?;
    let bytes = file.metadata().map_err(|error| error.to_string())?.len();
    Reader::new(BufReader::new(file), bytes)
}

/// A FIFO would block for ever, and a link may lead anywhere.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)
}

fn bytes_of(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |meta| meta.len())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn shorten(id: &str) -> String {
    id.chars().take(64).flat_map(char::escape_debug).collect()
}
