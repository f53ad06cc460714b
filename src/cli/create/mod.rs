//! `rblk create`: fresh metadata.

mod write;

use super::progress::Progress;
use super::{Place, name_argument, order, say, units};
use crate::config::{Config, Name};
use crate::daemon::{forget_former, former};
use crate::error::{Error, Kind, Result};
use crate::io::disk::{Backing, OpenMode, file_system_bytes, signature};
use crate::limits::SECTOR_BYTES;
use crate::meta::block::Owner;
use crate::meta::layout::{Layout, SUPERBLOCK_COPIES};
use crate::meta::superblock::{NodeId, Superblock};
use std::time::Duration;

/// How long a daemon that has just ended may still hold the disk.
const OPEN_WAIT: Duration = Duration::from_millis(500);

const AFTER_HELP: &str = "\
Example, two empty disks: on both nodes
  rblk create swarm
  rblk attach swarm
and on one of them, whose disk is then copied to the other:
  rblk promote swarm --force

Example, two disks known to be equal, such as two new thin volumes:
  rblk create swarm --in-sync";

/// Write fresh metadata on this node's disk
///
/// The metadata is at the end of the disk; the data before it is left alone.
/// Refused over existing metadata, file systems, LVM and RAID.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Create {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// Even over existing metadata or a known file system, LVM or RAID: the
    /// last blocks of the disk are overwritten, and old metadata is lost. Not
    /// over the end of an ext2/3/4 or XFS file system
    #[arg(long)]
    force: bool,
    /// Declare the disks of both nodes equal: no initial sync. If they differ,
    /// reads will depend on the node, and nothing will notice
    #[arg(long)]
    in_sync: bool,
}

impl Create {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let config = place.load(&self.name)?;
        let node = config.local(place.node.as_deref())?;
        let disk = &config.node(node).disk;
        let what = || format!("Cannot create metadata for {} on {}", self.name, disk.display());
        let mode = OpenMode::Serve { wait: OPEN_WAIT };
        let backing = Backing::open(disk, mode).map_err(|error| {
            Error::new(Kind::Io, what()).why(error.why()).remedy(error.remedy())
        })?;
        let layout = Layout::of_disk(backing.bytes()).map_err(|error| {
            Error::new(Kind::Refused, what())
                .why(order(&error.to_string()))
                .remedy("use a disk of another size")
        })?;
        // The first, since --force is no way past it.
        let reaches = file_system_bytes(&backing).map_err(|error| Error::io(what(), error))?;
        let room = layout.data_sectors() * SECTOR_BYTES;
        if let Some(bytes) = reaches.filter(|bytes| *bytes > room) {
            return Err(Error::new(Kind::Refused, what()).why(cut_off(bytes, room)).remedy(format!(
                "make the disk larger first (of LVM: `lvextend`; from DRBD: docs/from-drbd.md, step 3); if nothing on \
                 it is needed: `wipefs -a {}`",
                disk.display()
            )));
        }
        match holds(&backing, &layout).map_err(|error| Error::io(what(), error))? {
            Some(found) if !self.force => {
                return Err(Error::new(Kind::Refused, what())
                    .why(format!("there is {found} on it"))
                    .remedy("check `disk` in the configuration; --force overwrites it"));
            }
            _ => {}
        }
        let owner = Owner { volume: config.volume_id(), node };
        if self.force {
            forget_former(&backing, owner).map_err(|error| Error::io(what(), error))?;
        }
        let current = self.in_sync.then(|| config.in_sync_generation());
        let superblock = Superblock::fresh(owner, &layout, current);
        let mut progress = Progress::new();
        let total = u64::from(layout.pages());
        let stage = format!("writing metadata on {}", disk.display());
        write::metadata(&backing, &layout, &superblock, |pages| {
            progress.show(&stage, "", pages, total);
        })
        .map_err(|error| Error::io(what(), error).remedy("look at `dmesg`, then try again"))?;
        drop(progress);
        say(&next_steps(&config, node, &layout, self.in_sync));
        Ok(())
    }
}

/// The metadata would lie on the end of a file system, which nothing would notice before it is used.
fn cut_off(bytes: u64, room: u64) -> String {
    format!(
        "the file system on it has {bytes} bytes, and the volume would have {room}: the end of it would be overwritten"
    )
}

/// What is on the disk that must not be overwritten unasked, to follow "there is".
fn holds(backing: &Backing, layout: &Layout) -> std::io::Result<Option<String>> {
    for copy in 0..SUPERBLOCK_COPIES {
        let block = write::read_block(backing, layout.superblock(copy));
        // An unreadable block is no reason to stop: writing it may well heal it.
        let Ok(block) = block else { continue };
        match Superblock::inspect(layout, copy, &block) {
            Ok(found) => {
                return Ok(Some(format!(
                    "rblk metadata of volume {}, node {}",
                    found.volume, found.node.0
                )));
            }
            Err(reason) if !reason.is_damage() => {
                return Ok(Some(format!("rblk metadata, though not as it should be: {reason},")));
            }
            Err(_) => {}
        }
    }
    if let Some(former) = former(backing, None).newest {
        return Ok(Some(format!(
            "rblk metadata of volume {}, node {}, of a time when the disk had {} bytes,",
            former.superblock.volume, former.superblock.node.0, former.bytes
        )));
    }
    Ok(signature(backing)?.map(str::to_owned))
}

fn next_steps(config: &Config, node: NodeId, layout: &Layout, in_sync: bool) -> String {
    let (name, peer) = (&config.name, &config.peer_of(node).name);
    let size = units::bytes(layout.data_sectors() * SECTOR_BYTES);
    let written =
        format!("Metadata for {name} is written; the volume has room for {size} of data.\nNext:\n");
    if in_sync {
        return format!(
            "{written}  \
               on {peer}, if not yet done: rblk create {name} --in-sync\n  \
               on both nodes, to run it: rblk attach {name}\n  \
               on the node where the volume shall be used: rblk promote {name}"
        );
    }
    format!(
        "{written}  \
           if {peer} has the data of {name}, as when a disk is replaced: run it (rblk attach {name}), and all is \
           copied from there\n  \
           if not: rblk create {name} on {peer}, rblk attach {name} on both, and on the node whose disk is to be \
           copied to the other: rblk promote {name} --force"
    )
}
