//! `rblk demo`: the promise kept before one's eyes, with real daemons, real disks and a real kill -9.
//!
//! ```text
//! create a b ─► attach ─► write ─► kill -9 b ─► a goes on ─► b returns ─► resync ─► detach ─► disks equal
//! ```
//!
//! Never: a process or a file left behind, unless `--keep` asks for the files.

mod check;
mod image;
mod lab;
mod nbd;

use super::{say, units};
use crate::ctl::status::Role;
use crate::error::{Error, Kind, Result};
use image::Image;
use lab::{Lab, NODES};
use std::time::{Duration, Instant};

/// Size of each node's disk.
const DISK_BYTES: u64 = 256 << 20;
/// Written before the crash.
const FIRST_BYTES: u64 = 32 << 20;
/// Single blocks written while one node is away.
const SCATTERED: u64 = 1000;
/// The longest wait for any state.
const PATIENCE: Duration = Duration::from_secs(60);

const AFTER_HELP: &str = "\
Example, as any user, without configuration:
  rblk demo
  rblk demo --keep      # to look at logs, disks and configuration afterwards";

/// Show it on this machine: two nodes, a crash, a resync, in a minute
///
/// Starts two daemons on loopback with file disks in a temporary directory,
/// writes through NBD, kills one daemon, goes on, lets it return, and compares
/// both disks byte by byte. Cleans up.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Demo {
    /// Leave the directory in place
    #[arg(long)]
    keep: bool,
}

/// Tells the story with the time since its beginning.
struct Story {
    start: Instant,
}

impl Story {
    fn tell(&self, text: &str) {
        say(&format!("[{:6.2} s] {text}", self.start.elapsed().as_secs_f64()));
    }
}

impl Demo {
    pub(super) fn run(self) -> Result<()> {
        let story = Story { start: Instant::now() };
        let mut lab = Lab::new(self.keep, DISK_BYTES)?;
        story.tell(&format!(
            "Two nodes, {} and {}, in {}",
            NODES[0],
            NODES[1],
            lab.dir().display()
        ));
        let result = play(&story, &mut lab);
        if result.is_err() {
            lab.show_logs();
        }
        lab.end();
        result?;
        story.tell("Done.");
        Ok(())
    }
}

fn play(story: &Story, lab: &mut Lab) -> Result<()> {
    let size = units::bytes(DISK_BYTES);
    lab.create()?;
    story.tell(&format!("Metadata on both disks ({size} each), declared equal: no initial sync"));
    lab.attach(0, true)?;
    lab.attach(1, false)?;
    lab.wait(0, "connected and Primary", PATIENCE, |status| {
        status.synced() && status.role == Role::Primary
    })?;
    story.tell("Both daemons run and are connected; a is Primary");

    let mut disk = lab.open_volume(PATIENCE)?;
    let mut image = Image::new(disk.bytes());
    let began = Instant::now();
    image.write_front(&mut disk, FIRST_BYTES)?;
    disk.flush()?;
    let rate = FIRST_BYTES as f64 / began.elapsed().as_secs_f64() / f64::from(1 << 20);
    let wrote = units::bytes(FIRST_BYTES);
    story.tell(&format!("{wrote} written and flushed on both nodes: {rate:.0} MiB/s"));

    lab.kill(1)?;
    story.tell("kill -9 b");
    let apart = image.scatter(&mut disk, SCATTERED)?;
    disk.flush()?;
    story.tell(&format!(
        "a went on: {SCATTERED} single blocks ({}) written and flushed; the longest write took {}",
        units::bytes(apart.changed_bytes),
        units::duration(apart.longest)
    ));

    lab.attach(1, false)?;
    let status = lab.wait(0, "in sync again", PATIENCE, |status| status.synced())?;
    let copied = status.rblk.resync.since_connect_bytes;
    story.tell(&format!(
        "b is back and up to date: {} copied of {}; {} had changed",
        units::bytes(copied),
        units::bytes(disk.bytes()),
        units::bytes(apart.changed_bytes)
    ));
    if copied < apart.changed_bytes || copied > disk.bytes() / 2 {
        return Err(Error::new(Kind::Refused, "The resync did not copy what had changed")
            .why(format!("{copied} bytes were copied, {} had changed", apart.changed_bytes)));
    }
    image.verify(&mut disk)?;
    story.tell("Every block reads as it was written");

    let bytes = disk.bytes();
    disk.disconnect()?;
    lab.detach(1)?;
    lab.detach(0)?;
    story.tell("Both nodes detached in good order");
    check::equal(&lab.disk(0), &lab.disk(1), bytes)?;
    check::holds(&lab.disk(0), &image)?;
    story.tell(&format!("Compared byte by byte: {} equal on both disks", units::bytes(bytes)));
    Ok(())
}
