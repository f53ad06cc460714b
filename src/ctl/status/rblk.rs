//! What DRBD's status has no key for.

use serde::{Deserialize, Serialize};

/// The additions to [`super::Resource`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Rblk {
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Memory of the daemon, resident, in bytes.
    pub memory_bytes: u64,
    /// `ublk` or `nbd`.
    pub front: String,
    /// Where clients find the volume while this node is Primary: a device path or an NBD URI.
    pub address: Option<String>,
    /// How the link to the peer is protected: `none` or `tls`.
    pub security: String,
    /// The key by which the peer knows this node; absent without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key that the peer has shown; absent without TLS, and while there is no connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_key: Option<String>,
    /// What is to carry the link: `tcp`, `smc` or `rdma`.
    pub transport: String,
    /// What carries it: `tcp`, `smc-r`, `smc-d` or `rdma`; absent while there is no connection, or if the kernel does
    /// not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport_in_use: Option<String>,
    /// A digest of the configuration that the daemon runs with.
    pub config: String,
    /// The same of the connected peer, which should be equal; absent while there is no connection, and if the peer's
    /// version of rblk does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_config: Option<String>,
    /// The identity of the data.
    pub generation: Generation,
    /// What the peer said of itself when the nodes last met; absent if they have not since the daemon's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// What stands in the way, in sentences.
    pub why: Why,
    /// Distinct blocks written by clients while the disks were last apart, in bytes.
    pub written_apart_bytes: u64,
    /// The running resync, or the last one.
    pub resync: ResyncBytes,
    /// The verify that runs, or the last one since the daemon's start; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// The activity log.
    pub al: ActivityLog,
    /// Silence of the peer that ends the connection, in milliseconds.
    pub peer_timeout_ms: u64,
    /// Silence that ends it at present: less if the peer answers quickly; absent while there is no connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_silence_ms: Option<u64>,
    /// Faults that are being injected for a test; absent if none are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faults: Option<String>,
    /// Where discarded data is saved, and what became of it last; absent if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salvage: Option<Salvage>,
    /// Where the time of requests went since the daemon's start, by hop.
    pub latency: Vec<Latency>,
}

/// The times of one hop: a part of a request's way.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Latency {
    /// Its name.
    pub hop: String,
    /// How often it was passed.
    pub count: u64,
    /// All times together, in microseconds.
    pub sum_us: u64,
    /// Half of them took at most this long, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 took at most this long, in microseconds.
    pub p99_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
    /// How many took longer than the bound before and at most this one, for each of [`crate::limits::HOP_BOUNDS_US`];
    /// then how many took longer than all.
    pub buckets: Vec<u64>,
}

/// The saving of data that a resync would discard.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Salvage {
    /// `idle`, `saving`, `saved`, `failed`, or `unusable` if nothing can be saved there.
    pub state: String,
    /// Where, as configured.
    pub directory: String,
    /// The set that was saved last by this daemon; absent if none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// Saved, in bytes.
    pub done_bytes: u64,
    /// To be saved, in bytes.
    pub total_bytes: u64,
    /// Why it failed, or would; absent if it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The peer, as it was when the nodes last met.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Peer {
    /// Its role.
    pub role: super::Role,
    /// Its disk.
    pub disk_state: super::DiskState,
    /// Out of sync by its bitmap, in bytes.
    pub out_of_sync_bytes: u64,
    /// The identity of its data.
    pub generation: Generation,
}

/// The identity of the data on a disk; each id 32 hexadecimal digits.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Generation {
    /// The generation of the data; null on a fresh disk.
    pub current: Option<String>,
    /// The generation that the bitmap is relative to; null while nothing is tracked.
    pub base: Option<String>,
    /// Earlier ones, newest first.
    pub history: Vec<String>,
    /// When the current one was made, by the clock of the node that made it, in milliseconds since 1970; absent if
    /// its id does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_unix_ms: Option<u64>,
}

/// Sentences for the operator; empty lists if nothing stands in the way.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Why {
    /// Why this node cannot become Primary.
    pub not_promotable: Vec<String>,
    /// Why the peer is not connected.
    pub not_connected: Vec<String>,
    /// Why requests of clients are held.
    pub suspended: Vec<String>,
    /// Why the resync that runs copies everything.
    pub full_resync: Vec<String>,
}

/// What a resync moves.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ResyncBytes {
    /// Copied by the running resync, or the last one, in bytes; zeroes that were skipped included.
    pub done_bytes: u64,
    /// What had to be copied when it began, in bytes.
    pub total_bytes: u64,
    /// Copied by all resyncs since the peer connected, in bytes.
    pub since_connect_bytes: u64,
    /// Of those, found to be zeroes and not sent, in bytes.
    pub skipped_zero_bytes: u64,
}

/// A comparison of both disks.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Verify {
    /// `running`, `done`, `stopped` by an operator, `broken-off` since this node's disk was given up, or `repairing`:
    /// done, and what was found is being copied to the peer. What runs waits while the disks are not both UpToDate.
    pub state: String,
    /// When it began, by the clock of this node, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// How long it took, or has taken so far, in milliseconds.
    pub duration_ms: u64,
    /// What there is to compare, in bytes.
    pub total_bytes: u64,
    /// Compared, or given up, in bytes.
    pub done_bytes: u64,
    /// Different on the two disks, in bytes.
    pub differing_bytes: u64,
    /// Not readable on this node's disk, in bytes.
    pub unreadable_bytes: u64,
    /// Not readable on the peer's disk, in bytes.
    pub peer_unreadable_bytes: u64,
    /// Left out since clients of the peer wrote there at each attempt, in bytes.
    pub busy_bytes: u64,
    /// What the last repair was to copy to the peer, in bytes.
    pub repair_bytes: u64,
    /// Of that, copied, and on stable media there.
    pub repaired_bytes: u64,
    /// Where the disks differ, or the peer's cannot be read, and that was not repaired: the first runs of blocks, at
    /// most [`crate::limits::DIFFERENCES_TOLD`].
    pub differences: Vec<Difference>,
    /// Further runs that are not listed.
    pub more_differences: u64,
}

/// A run of blocks that differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Difference {
    /// Its first byte on the volume.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Verify {
    /// True if all was compared and nothing is different.
    pub fn is_clean(&self) -> bool {
        let bad = [
            self.differing_bytes,
            self.unreadable_bytes,
            self.peer_unreadable_bytes,
            self.busy_bytes,
        ];
        self.state == "done" && bad == [0; 4]
    }
}

/// The activity log: extents that are written to.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ActivityLog {
    /// Extents in it now.
    pub active: u64,
    /// Extents that it has room for.
    pub slots: u64,
}
