//! The control socket: how the administrator and programs talk to the daemon of a resource.
//!
//! ```text
//! rblk promote swarm ──► client ──► /run/rblk/swarm.sock ──► server ──► Handler (the daemon's mailbox)
//!                    {"v":1,"request":"promote","force":false}
//!                    {"v":1,"reply":"ok"}
//! ```
//!
//! One JSON object per line each way, at most [`crate::limits::CONTROL_LINE_BYTES_MAX`] bytes. A client
//! may send several requests, one after the other.

mod caller;
pub mod client;
pub mod line;
pub mod proto;
pub mod server;
pub mod status;

use std::path::{Path, PathBuf};

/// The control socket of resource `name` in `run_dir`.
pub fn socket_path(run_dir: &Path, name: &str) -> PathBuf {
    run_dir.join(format!("{name}.sock"))
}
