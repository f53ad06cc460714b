//! What `rblk status --json` says: DRBD 9's keys and nesting, and our own additions under the one key
//! `rblk`.
//!
//! ```text
//! [ resource { devices [ {} ], connections [ { paths [ {} ], peer_devices [ {} ] } ], rblk { .. } } ]
//! ```
//!
//! Each key with its unit stands in `docs/status.md`; a test keeps the two equal. Every struct has a
//! `Default`, so the daemon fills in what it knows. Sizes are in KiB where DRBD's are, and in bytes
//! where the name says so.

use crate::wire::message;
use serde::{Deserialize, Serialize};

mod rblk;
mod state;

pub use rblk::{
    ActivityLog, Difference, Generation, Latency, Peer, Rblk, ResyncBytes, Salvage, Verify, Why,
};
pub use state::{ConnectionState, DiskState, ReplicationState, Role};

/// A resource as this node sees it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// This node: 0 or 1.
    pub node_id: u8,
    /// This node's role.
    pub role: Role,
    /// Writes are held back.
    pub suspended: bool,
    /// Always false: an operator cannot suspend.
    pub suspended_user: bool,
    /// Held back since no disk with data is reachable.
    pub suspended_no_data: bool,
    /// Held back until it is certain that the peer does not go on.
    pub suspended_fencing: bool,
    /// Always false: there is no quorum with two nodes.
    pub suspended_quorum: bool,
    /// Always false.
    pub force_io_failures: bool,
    /// How the order of writes reaches stable media: always `flush`.
    pub write_ordering: String,
    /// The volume; exactly one.
    pub devices: Vec<Device>,
    /// The peer; exactly one.
    pub connections: Vec<Connection>,
    /// What DRBD has no key for.
    pub rblk: Rblk,
}

/// The volume on this node.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Device {
    /// Its number, always 0.
    pub volume: u32,
    /// Number of the ublk device; 0 if there is none.
    pub minor: u32,
    /// This node's disk.
    pub disk_state: DiskState,
    /// Always false: no node is without a disk by intent.
    pub client: bool,
    /// A client has the device open.
    pub open: bool,
    /// Always true: there is no quorum with two nodes.
    pub quorum: bool,
    /// Size of the volume in KiB.
    pub size: u64,
    /// Read from this node's disk for clients and the peer, in KiB.
    pub read: u64,
    /// Written to this node's disk, in KiB.
    pub written: u64,
    /// Transactions written to the activity log.
    pub al_writes: u64,
    /// Pages written of the bitmap.
    pub bm_writes: u64,
    /// Client requests in flight.
    pub upper_pending: u64,
    /// Requests to this node's disk in flight.
    pub lower_pending: u64,
}

/// The connection to the peer.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Connection {
    /// The peer: 0 or 1.
    pub peer_node_id: u8,
    /// The peer's name.
    pub name: String,
    /// The state of the connection.
    pub connection_state: ConnectionState,
    /// Writes wait for the peer to take them.
    pub congested: bool,
    /// The peer's role.
    pub peer_role: Role,
    /// The peer is connected within a TLS session.
    pub tls: bool,
    /// Application data sent and not yet answered, in KiB.
    pub ap_in_flight: u64,
    /// Resync data sent and not yet answered, in KiB.
    pub rs_in_flight: u64,
    /// The ways to the peer, one or two; the connection is on one of them.
    pub paths: Vec<Path>,
    /// The peer's volume; exactly one.
    #[serde(rename = "peer_devices")]
    pub peer_devices: Vec<PeerDevice>,
}

/// A way to the peer.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Path {
    /// This end.
    pub this_host: Host,
    /// The peer's end.
    pub remote_host: Host,
    /// The connection is on this path.
    pub established: bool,
}

/// An end of a path.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// As configured: an IP address or a name.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// `ipv4` or `ipv6`; empty before a name was resolved.
    pub family: String,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.this_host, self.remote_host)
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address.contains(':') {
            true => write!(f, "[{}]:{}", self.address, self.port),
            false => write!(f, "{}:{}", self.address, self.port),
        }
    }
}

impl From<&crate::config::Address> for Host {
    fn from(address: &crate::config::Address) -> Host {
        let family = match address.host().parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => "ipv4",
            Ok(std::net::IpAddr::V6(_)) => "ipv6",
            Err(_) => "",
        };
        Host { address: address.host().to_owned(), port: address.port(), family: family.to_owned() }
    }
}

/// The volume at the peer, and what flows between the two.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct PeerDevice {
    /// Its number, always 0.
    pub volume: u32,
    /// What the two disks are doing.
    pub replication_state: ReplicationState,
    /// The peer's disk.
    pub peer_disk_state: DiskState,
    /// Always false.
    pub peer_client: bool,
    /// `no`, or why the resync waits.
    pub resync_suspended: String,
    /// Data received from the peer, in KiB.
    pub received: u64,
    /// Data sent to the peer, in KiB.
    pub sent: u64,
    /// What differs, or may differ, between the disks, in KiB.
    pub out_of_sync: u64,
    /// Requests sent to the peer and not yet answered.
    pub pending: u64,
    /// Requests received from the peer and not yet answered.
    pub unacked: u64,
    /// The keys of a running resync are present.
    pub has_sync_details: bool,
    /// Always false.
    pub has_online_verify_details: bool,
    /// How much of the volume is in sync, in percent.
    pub percent_in_sync: f64,
    /// Present while a resync runs.
    #[serde(flatten)]
    pub sync: Option<Sync>,
}

/// A running resync, in DRBD's words. Set [`PeerDevice::has_sync_details`] along with it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sync {
    /// How much of what had to be copied is copied, in percent.
    pub percent_resync_done: f64,
    /// What had to be copied when it began, in KiB.
    pub rs_total: u64,
    /// Time since it began, in milliseconds.
    pub rs_dt_start_ms: u64,
    /// Time that it spent waiting, in milliseconds.
    pub rs_paused_ms: u64,
    /// Blocks that could not be copied, in KiB.
    pub rs_failed: u64,
    /// Rate since it began, in MiB/s.
    #[serde(rename = "db/dt [MiB/s]")]
    pub rate: f64,
    /// Rate of the last seconds, in MiB/s.
    #[serde(rename = "db0/dt0 [MiB/s]")]
    pub recent_rate: f64,
    /// Time left at the recent rate, in seconds.
    pub estimated_seconds_to_finish: u64,
}

impl Resource {
    /// The one device; a default if the daemon has not filled it in.
    pub fn device(&self) -> Device {
        self.devices.first().cloned().unwrap_or_default()
    }

    /// The connected peer runs with another configuration than this node.
    pub fn differs_in_config(&self) -> bool {
        self.rblk.peer_config.as_ref().is_some_and(|theirs| *theirs != self.rblk.config)
    }

    /// The one connection; a default if the daemon has not filled it in.
    pub fn connection(&self) -> Connection {
        self.connections.first().cloned().unwrap_or_default()
    }

    /// Why requests are held, in DRBD's words; `no` if they are not.
    pub fn suspended_word(&self) -> String {
        let reasons = [
            (self.suspended_user, "user"),
            (self.suspended_no_data, "no-data"),
            (self.suspended_fencing, "fencing"),
            (self.suspended_quorum, "quorum"),
        ];
        let given: Vec<&str> =
            reasons.iter().filter(|entry| entry.0).map(|entry| entry.1).collect();
        match (self.suspended, given.is_empty()) {
            (false, _) => "no".to_owned(),
            (true, true) => "yes".to_owned(),
            (true, false) => given.join(","),
        }
    }

    /// True if the peer is connected.
    pub fn connected(&self) -> bool {
        self.connection().connection_state == ConnectionState::Connected
    }

    /// True if this node's disk has the newest data.
    pub fn up_to_date(&self) -> bool {
        self.device().disk_state == DiskState::UpToDate
    }

    /// True if both disks have the newest data and nothing is left to copy.
    pub fn synced(&self) -> bool {
        let peer = self.connection().peer_devices.first().cloned().unwrap_or_default();
        self.connected()
            && self.up_to_date()
            && peer.peer_disk_state == DiskState::UpToDate
            && peer.replication_state.is_established()
            && peer.out_of_sync == 0
    }
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
#[cfg(test)]
pub(crate) use tests::sample;
