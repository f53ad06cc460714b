//! The NBD server: judged by real clients, and by clients that lie.

#[path = "nbd/lies.rs"]
mod lies;
#[path = "nbd/raw.rs"]
mod raw;
#[path = "nbd/server.rs"]
mod server;
#[path = "nbd/tools.rs"]
mod tools;
#[path = "nbd/transmission.rs"]
mod transmission;
