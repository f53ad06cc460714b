//! The note that a disk has all that was ever completed: it outlives the daemon, and not the power of the host.
//!
//! A daemon that is killed leaves what it has written in the cache of the disk, where the next one finds it; a power
//! cut takes that. When two nodes meet whose daemons were both started anew, this tells whose disk may lack something
//! ([`State::kept`](crate::wire::message::State::kept)). What is noted is the core's to say ([`Replica::kept`]).
//!
//! ```text
//!   /run/rblk/NAME.kept     the boot of the kernel, the volume, the node, the life on its disk
//! ```
//!
//! Beside it, `NAME.size`: how large the disk was, for the day when it has grown. It is looked at there first.
//!
//! `/run` is memory. Elsewhere the file would outlive the power: so it names the boot, and counts in no other. A note
//! that is lost, or cannot be written, costs only what it would have told.

use super::AttachOptions;
use crate::meta::block::Owner;
use crate::replica::Replica;
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Another one in each boot of the kernel: Documentation/admin-guide/sysctl/kernel.rst.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where the note is, and what it says.
pub(super) struct Note {
    path: PathBuf,
    /// What stands before the life; nothing where no boot can be told from another.
    head: Option<String>,
    said: Option<u64>,
    warned: bool,
}

impl Note {
    /// The note of this resource; it is not read yet.
    pub(super) fn new(options: &AttachOptions) -> Note {
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        let owner = Owner { volume: options.config.volume_id(), node: options.node };
        Note::of_boot(&options.run_dir, options.config.name.as_str(), owner, boot.trim())
    }

    fn of_boot(run_dir: &Path, name: &str, owner: Owner, boot: &str) -> Note {
        let path = run_dir.join(format!("{name}.kept"));
        let head = format!("{boot} {:032x} {} ", owner.volume.0, owner.node.0);
        Note { path, head: Some(head).filter(|_| !boot.is_empty()), said: None, warned: false }
    }

    /// The life of which it is noted. To be asked once the disk is this daemon's alone: an earlier one may withdraw it
    /// to the last.
    pub(super) fn read(&mut self) -> Option<u64> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let life = self.head.as_ref().and_then(|head| text.strip_prefix(head));
        self.said = life.and_then(|life| life.trim_end().parse().ok());
        self.said
    }

    /// The size of the disk that was noted last, in bytes: nothing depends on it but the time of a search.
    pub(super) fn disk_bytes(&self) -> Option<u64> {
        std::fs::read_to_string(self.path.with_extension("size")).ok()?.trim_end().parse().ok()
    }

    /// Notes the size of the disk, in bytes.
    pub(super) fn note_disk_bytes(&self, bytes: u64) {
        // Without it the next search takes longer.
        let _ = std::fs::write(self.path.with_extension("size"), format!("{bytes}\n"));
    }

    /// Notes what the core says, if that has changed.
    pub(super) fn follow(&mut self, replica: &Replica) {
        let kept = replica.kept();
        if kept == self.said {
            return;
        }
        match self.put(kept) {
            Ok(()) => self.said = kept,
            // Again at the next event: a note that is not true any more must not stay.
            Err(error) if !std::mem::replace(&mut self.warned, true) => {
                tracing::warn!("{} cannot be written: {error}", self.path.display());
            }
            Err(_) => {}
        }
    }

    /// Whole or not at all: a reader of half a note would find another life.
    fn put(&self, kept: Option<u64>) -> Result<()> {
        let (Some(life), Some(head)) = (kept, &self.head) else {
            return match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        };
        let fresh = self.path.with_extension("kept.new");
        std::fs::write(&fresh, format!("{head}{life}\n"))?;
        std::fs::rename(&fresh, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::superblock::{NodeId, VolumeId};

    #[test]
    fn a_note_counts_for_its_disk_and_its_boot_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = Owner { volume: VolumeId(7), node: NodeId(1) };
        let open = |owner, boot| Note::of_boot(folder.path(), "x", owner, boot).read();
        let mut note = Note::of_boot(folder.path(), "x", owner, "now");
        assert_eq!(note.read(), None);
        note.put(Some(3)).expect("a folder that can be written");
        assert_eq!(open(owner, "now"), Some(3));
        assert_eq!(open(owner, "then"), None);
        assert_eq!(open(Owner { node: NodeId(0), ..owner }, "now"), None);
        assert_eq!(open(Owner { volume: VolumeId(8), ..owner }, "now"), None);
        note.put(None).expect("it is there");
        assert_eq!(open(owner, "now"), None);
    }

    /// Without `/proc` nothing tells one boot from another.
    #[test]
    fn a_boot_without_a_name_counts_for_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = Owner { volume: VolumeId(7), node: NodeId(1) };
        Note::of_boot(folder.path(), "x", owner, "").put(Some(3)).expect("a folder");
        assert_eq!(Note::of_boot(folder.path(), "x", owner, "").read(), None);
    }
}
