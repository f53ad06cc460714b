//! One process per resource: glue between the core and the world.
//!
//! - [`run`] is the way in: open, start, loop, leave. The loop itself is in `run.rs`.
//! - `open.rs` reads the metadata, `peers.rs` has the connections, `act.rs` carries out what the core wishes.
//! - `handlers.rs` is what runs at an event: the operator's commands.
//! - `salvage.rs` saves what a resync would discard.
//! - `kept.rs` notes, for as long as the power stays, that the disk has everything.
//! - `security.rs` has what locks the link.
//! - `log.rs` is where all of them write what happens.
//! - `orders.rs` is what operators ask for, `mailbox.rs` how it reaches the loop, `status.rs` what they see, `users.rs`
//!   who has the device open, and `systemd.rs` what systemd hears.

mod act;
mod crowd;
mod device;
mod events;
mod handlers;
mod hops;
mod inherit;
mod kept;
mod listeners;
mod log;
mod mailbox;
mod open;
pub(crate) use open::{forget_former, former};
mod orders;
mod paths;
mod peers;
mod process;
mod refusal;
mod run;
mod salvage;
mod security;
mod status;
mod systemd;
mod users;
mod verify;

use crate::config::Config;
use crate::error::Result;
use crate::meta::superblock::NodeId;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How clients reach the volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FrontChoice {
    /// A block device of the kernel.
    Ublk,
    /// An NBD server on a UNIX socket at this absolute path.
    NbdUnix(PathBuf),
    /// An NBD server on TCP.
    NbdTcp(SocketAddr),
}

/// What `rblk attach` was asked for, checked.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// The resource.
    pub config: Config,
    /// Which of its nodes this is.
    pub node: NodeId,
    /// Where the control socket goes; absolute.
    pub run_dir: PathBuf,
    /// How clients reach the volume.
    pub front: FrontChoice,
    /// Become Primary as soon as that is safe: `--primary`, or `promote-at-start` in the configuration.
    pub primary: bool,
    /// Faults to inject for a test, as given; hidden from users.
    pub faults: Option<String>,
}

/// Runs the resource until it is detached.
///
/// # Errors
/// Whatever keeps it from running on.
pub fn run(options: AttachOptions) -> Result<()> {
    log::start(options.config.name.as_str());
    let ended = run::Daemon::start(options).and_then(run::Daemon::run);
    log::flush();
    ended
}
