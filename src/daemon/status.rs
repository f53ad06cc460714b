//! From a snapshot of the core to what `rblk status` shows.

use super::AttachOptions;
use crate::config::{Digest, Security};
use crate::ctl::status::{
    ActivityLog, Connection, ConnectionState, Device, DiskState, Generation, Host, Latency, Path,
    Peer, PeerDevice, Rblk, ReplicationState, Resource, ResyncBytes, Role, Salvage, Sync, Verify,
    Why,
};
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES};
use crate::meta::superblock::{GenerationId, History};
use crate::replica::Snapshot;
use crate::replica::event::Tick;
use crate::replica::generation::Full;
use crate::replica::snapshot::{
    Connection as Link, GreetingWaits, Replication, StandAlone, Suspended,
};
use crate::wire::message::{self, Refusal};

/// What the daemon knows besides the core.
pub(super) struct Surroundings<'a> {
    pub(super) options: &'a AttachOptions,
    pub(super) now: Tick,
    pub(super) front_address: Option<String>,
    pub(super) minor: u32,
    pub(super) open: bool,
    pub(super) upper_pending: u64,
    /// Why the last attempt to connect failed, or the last connection ended.
    pub(super) dial_error: Option<String>,
    /// This node's key, with TLS.
    pub(super) key: Option<String>,
    /// The key that the connected peer has shown, with TLS.
    pub(super) peer_key: Option<String>,
    pub(super) transport_in_use: Option<&'static str>,
    /// The path of the connection: its index.
    pub(super) path_in_use: Option<usize>,
    /// Why there was no device when this node was Primary.
    pub(super) device_error: Option<String>,
    /// The node is to become Primary by itself.
    pub(super) wants_primary: bool,
    /// What is saved of discarded data; `None` if nothing is to be.
    pub(super) salvage: Option<Salvage>,
    /// Where the time of requests went.
    pub(super) latency: Vec<Latency>,
    /// The verify that runs, or the last one.
    pub(super) verify: Option<Verify>,
}

/// The status as it stands.
pub(super) fn resource(s: &Snapshot, around: &Surroundings<'_>) -> Resource {
    let config = &around.options.config;
    Resource {
        name: config.name.to_string(),
        node_id: around.options.node.0,
        role: s.role.into(),
        suspended: s.suspended != Suspended::No,
        suspended_no_data: s.suspended == Suspended::NoData,
        suspended_fencing: matches!(
            s.suspended,
            Suspended::RideThrough
                | Suspended::Fencing
                | Suspended::NotAllowed
                | Suspended::Superseded
        ),
        write_ordering: "flush".to_owned(),
        devices: vec![device(s, around)],
        connections: vec![connection(s, around)],
        rblk: additions(s, around),
        ..Resource::default()
    }
}

fn device(s: &Snapshot, around: &Surroundings<'_>) -> Device {
    Device {
        minor: around.minor,
        disk_state: s.disk.into(),
        open: around.open,
        quorum: true,
        size: s.sectors * SECTOR_BYTES / 1024,
        read: s.counters.read_bytes / 1024,
        written: s.counters.written_bytes / 1024,
        al_writes: s.counters.al_writes,
        bm_writes: s.counters.bitmap_writes,
        upper_pending: around.upper_pending,
        lower_pending: s.local_pending,
        ..Device::default()
    }
}

fn connection(s: &Snapshot, around: &Surroundings<'_>) -> Connection {
    let config = &around.options.config;
    let peer = config.peer_of(around.options.node);
    let state = match s.connection {
        Link::Connected => ConnectionState::Connected,
        Link::StandAlone => ConnectionState::StandAlone,
        Link::Connecting | Link::Greeting => ConnectionState::Connecting,
    };
    Connection {
        peer_node_id: 1 - around.options.node.0,
        name: peer.name.to_string(),
        connection_state: state,
        congested: s.peer_pending as usize >= crate::limits::PEER_DATA_CREDITS,
        tls: around.peer_key.is_some(),
        peer_role: s.peer_role.map_or(Role::Unknown, Role::from),
        paths: paths(s, around),
        peer_devices: vec![peer_device(s, around.now)],
        ..Connection::default()
    }
}

/// All paths; the connection is on one of them.
fn paths(s: &Snapshot, around: &Surroundings<'_>) -> Vec<Path> {
    let Surroundings { options, path_in_use, .. } = around;
    let (me, peer) = (options.config.node(options.node), options.config.peer_of(options.node));
    let established = matches!(s.connection, Link::Greeting | Link::Connected);
    let path = |(at, (mine, theirs))| Path {
        this_host: Host::from(mine),
        remote_host: Host::from(theirs),
        established: established && *path_in_use == Some(at),
    };
    me.addresses().zip(peer.addresses()).enumerate().map(path).collect()
}

fn peer_device(s: &Snapshot, now: Tick) -> PeerDevice {
    let size = s.sectors * SECTOR_BYTES;
    let in_sync = size.saturating_sub(s.out_of_sync_bytes);
    let syncing = matches!(s.replication, Replication::SyncSource | Replication::SyncTarget);
    PeerDevice {
        replication_state: match s.replication {
            Replication::Off => ReplicationState::Off,
            Replication::Established => ReplicationState::Established,
            Replication::SyncSource => ReplicationState::SyncSource,
            Replication::SyncTarget => ReplicationState::SyncTarget,
            Replication::VerifyS => ReplicationState::VerifyS,
            Replication::VerifyT => ReplicationState::VerifyT,
        },
        peer_disk_state: s.peer_disk.map_or(DiskState::DUnknown, DiskState::from),
        resync_suspended: "no".to_owned(),
        received: s.counters.received_bytes / 1024,
        sent: s.counters.sent_bytes / 1024,
        out_of_sync: s.out_of_sync_bytes / 1024,
        pending: s.peer_pending,
        has_sync_details: syncing,
        percent_in_sync: percent(in_sync, size),
        sync: syncing.then(|| sync(s, now)),
        ..PeerDevice::default()
    }
}

fn sync(s: &Snapshot, now: Tick) -> Sync {
    let left = s.out_of_sync_bytes;
    let done = s.resync_total_bytes.saturating_sub(left);
    let seconds = now.since(s.resync_began) as f64 / 1e6;
    let rate = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
    let seconds_left = if rate > 0.0 { (left as f64 / rate).ceil() as u64 } else { 0 };
    let mib = rate / f64::from(1 << 20);
    Sync {
        percent_resync_done: percent(done, s.resync_total_bytes),
        rs_total: s.resync_total_bytes / 1024,
        rs_dt_start_ms: now.since(s.resync_began) / 1000,
        rate: mib,
        recent_rate: mib,
        estimated_seconds_to_finish: seconds_left,
        ..Sync::default()
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn additions(s: &Snapshot, around: &Surroundings<'_>) -> Rblk {
    Rblk {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        memory_bytes: resident_bytes(),
        front: match around.options.front {
            super::FrontChoice::Ublk => "ublk",
            _ => "nbd",
        }
        .to_owned(),
        address: around.front_address.clone(),
        security: match around.options.config.net.security {
            Security::None => "none",
            Security::Tls => "tls",
        }
        .to_owned(),
        key: around.key.clone(),
        peer_key: around.peer_key.clone(),
        transport: around.options.config.net.transport.name().to_owned(),
        transport_in_use: around.transport_in_use.map(str::to_owned),
        config: Digest(s.config).to_string(),
        peer_config: s.peer_config.map(|config| Digest(config).to_string()),
        generation: generation(s.superblock.current, s.superblock.base, &s.superblock.history),
        peer: s.met.map(|met| Peer {
            role: met.role.into(),
            disk_state: met.disk.into(),
            out_of_sync_bytes: met.dirty_blocks * BLOCK_BYTES,
            generation: generation(met.current, met.base, &met.history),
        }),
        why: Why {
            not_promotable: not_promotable(s, around),
            not_connected: not_connected(s, around),
            suspended: suspended(s, around).into_iter().collect(),
            full_resync: s.full_resync.map(|full| full_text(full).to_owned()).into_iter().collect(),
        },
        written_apart_bytes: s.counters.apart_bytes,
        resync: ResyncBytes {
            done_bytes: s.counters.resynced_bytes,
            total_bytes: s.resync_total_bytes,
            since_connect_bytes: s.counters.resynced_bytes,
            skipped_zero_bytes: s.counters.resynced_zero_bytes,
        },
        verify: around.verify.clone(),
        al: ActivityLog { active: s.al_active as u64, slots: s.al_slots as u64 },
        peer_timeout_ms: around.options.config.peer_timeout_ms,
        peer_silence_ms: s.peer_silence_ms,
        faults: around.options.faults.clone(),
        salvage: around.salvage.clone(),
        latency: around.latency.clone(),
    }
}

fn generation(
    current: Option<GenerationId>,
    base: Option<GenerationId>,
    history: &History,
) -> Generation {
    Generation {
        current: current.map(|id| id.to_string()),
        base: base.map(|id| id.to_string()),
        history: history.iter().map(|id| id.to_string()).collect(),
        made_unix_ms: current.and_then(GenerationId::made_at),
    }
}

/// Resident memory of this process, from `/proc/self/statm`; 0 if that cannot be read.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

fn not_promotable(s: &Snapshot, around: &Surroundings<'_>) -> Vec<String> {
    let mut why = Vec::new();
    if s.role == message::Role::Primary {
        return why;
    }
    why.extend(around.device_error.clone());
    if around.wants_primary {
        why.push("it becomes Primary by itself as soon as that is safe (--primary)".to_owned());
    }
    if s.peer_role == Some(message::Role::Primary) {
        why.push("the peer is Primary".to_owned());
    }
    match s.disk {
        message::DiskState::UpToDate => {}
        message::DiskState::Consistent => why.push(format!(
            "the disk is Consistent: it may be older than the peer's, which has not been heard; {}",
            forced(around)
        )),
        message::DiskState::Outdated => why.push(format!(
            "the disk is Outdated: this node left first, so the peer's data may be newer; {}",
            forced(around)
        )),
        message::DiskState::Inconsistent if s.peer_disk == Some(message::DiskState::UpToDate) => {}
        message::DiskState::Inconsistent => {
            why.push("the disk is Inconsistent: it is fresh, or its resync has not ended".into());
        }
        message::DiskState::Diskless | message::DiskState::Failed => {
            why.push("the disk has failed".into());
        }
    }
    why
}

/// What is left to somebody who knows more than this node.
fn forced(around: &Surroundings<'_>) -> String {
    let config = &around.options.config;
    let (name, peer) = (&config.name, &config.peer_of(around.options.node).name);
    format!("if {peer} is lost for good, `rblk promote {name} --force` loses what only {peer} has")
}

/// Why clients' requests are held, and what ends that.
fn suspended(s: &Snapshot, around: &Surroundings<'_>) -> Option<String> {
    let config = &around.options.config;
    let name = &config.name;
    let peer = &config.peer_of(around.options.node).name;
    match s.suspended {
        Suspended::No | Suspended::Greeting => None,
        Suspended::NoData => {
            Some(format!("the newest data is on {peer}, which is away: bring it back"))
        }
        Suspended::RideThrough => Some(format!(
            "{peer} was lost; it has {} s to come back (ride-through-s)",
            config.ride_through_s
        )),
        Suspended::Fencing => Some(format!("{peer} was lost and is being fenced")),
        Suspended::Superseded => Some(format!(
            "requests fail: {peer} went on without this node, whose data is old; unmount, then `rblk demote {}`: it \
             takes in the data of {peer} and can be promoted again",
            config.name
        )),
        Suspended::NotAllowed => Some(format!(
            "{peer} is lost, and on-peer-lost does not let this node go on without it: bring {peer} back; or, if it \
             is certain that {peer} is not Primary and will not be, run `rblk promote {name} --force`"
        )),
    }
}

fn not_connected(s: &Snapshot, around: &Surroundings<'_>) -> Vec<String> {
    if s.connection == Link::Connected {
        return Vec::new();
    }
    let mut why = Vec::new();
    let name = around.options.config.name.as_str();
    let peer = around.options.config.peer_of(around.options.node);
    let alone = match s.stand_alone {
        Some(StandAlone::Ordered) => Some(format!(
            "it was disconnected by an operator; `rblk connect {name}` connects it again"
        )),
        Some(StandAlone::Vetoed) => Some(format!(
            "the handler before-resync-target did not allow that {}'s data is copied over this node's: see the log; \
             `rblk connect {name}` asks it again",
            peer.name
        )),
        Some(StandAlone::Unsaved) => Some(unsaved(around)),
        _ if s.asks_consent && salvage_is(around, "saving") => {
            Some("what this node wrote on its own way is saved before it is overwritten".to_owned())
        }
        _ if s.asks_consent => Some(format!(
            "the handler before-resync-target is asked whether {}'s data may be copied over this node's",
            peer.name
        )),
        _ => None,
    };
    if alone.is_some() {
        why.extend(alone);
        return why;
    }
    if let Some((by_peer, reason)) = s.refusal {
        let who = if by_peer { "the peer refused" } else { "this node refused" };
        let sides = Sides { name, peer: peer.name.as_str(), has_data: has_data(s) };
        why.push(format!("{who}: {}", refusal_text(reason, &sides)));
    }
    if s.stand_alone.is_some() {
        return why;
    }
    if s.peer_left {
        why.push(format!(
            "{} has left or was disconnected; there, `rblk attach {name}` or `rblk connect {name}` brings it back",
            peer.name
        ));
    }
    if s.discard_my_data {
        why.push(format!(
            "if {} has data of its own, this node's will be lost (--discard-my-data)",
            peer.name
        ));
    }
    why.extend(match s.greeting_waits {
        Some(waits) => Some(greeting(waits, around)),
        None => around.dial_error.clone(),
    });
    if why.is_empty() {
        let at: Vec<String> = peer.addresses().map(ToString::to_string).collect();
        why.push(format!("{} at {} has not been reached yet", peer.name, at.join(" and ")));
    }
    why
}

/// What a connection waits for that is there and not up.
fn greeting(waits: GreetingWaits, around: &Surroundings<'_>) -> String {
    let name = around.options.config.name.as_str();
    let peer = around.options.config.peer_of(around.options.node);
    match waits {
        GreetingWaits::OurDisk => format!(
            "this node's disk has not ended what it was given before the connection to {} was lost: until it has, the \
             nodes do not connect; if that lasts, the disk hangs: see the kernel's log",
            peer.name
        ),
        GreetingWaits::Rest { until } => format!(
            "{}'s disk was too slow several times in a row, and each time this node's clients waited: it is left alone \
             for {} s more; `rblk connect {name}` connects at once",
            peer.name,
            until.since(around.now).div_ceil(1_000_000)
        ),
        GreetingWaits::Peer => format!(
            "{} was reached and has not said what its data is; if that lasts, its disk hangs or is very slow, or this \
             node's was: there, `rblk explain {name}` says more",
            peer.name
        ),
    }
}

fn salvage_is(around: &Surroundings<'_>, state: &str) -> bool {
    around.salvage.as_ref().is_some_and(|salvage| salvage.state == state)
}

/// What would be discarded could not be saved.
fn unsaved(around: &Surroundings<'_>) -> String {
    let name = around.options.config.name.as_str();
    let why =
        around.salvage.as_ref().and_then(|salvage| salvage.why.as_deref()).unwrap_or_default();
    format!(
        "what this node wrote on its own way could not be saved, so it was not overwritten: {why}. Make room \
         (`rblk salvage list {name}`), or raise `max` in [salvage] and restart the daemon; then, if this node's \
         changes are to give way, `rblk connect {name} --discard-my-data`, with --no-salvage if they need not be kept"
    )
}

/// Why everything is copied, in words.
pub(super) fn full_text(full: Full) -> &'static str {
    match full {
        Full::Fresh => "the target's disk is fresh, or was declared invalid",
        Full::Past => "the target was away for longer than the source's bitmap reaches back",
        Full::RolledBack => {
            "the target's disk holds older data than it had told of: it was restored from an older image, or has lost \
             writes that it had called stable"
        }
        Full::Discarded => {
            "the target's data was discarded, and had no known state in common with the source's"
        }
    }
}

/// Of whom a refusal speaks.
pub(super) struct Sides<'a> {
    /// The resource.
    pub(super) name: &'a str,
    /// The other node.
    pub(super) peer: &'a str,
    /// This node has data of the volume, if only one has.
    pub(super) has_data: bool,
}

impl Sides<'_> {
    /// Where there is data: what is to be typed there.
    fn force(&self) -> String {
        format!("on {}: `rblk promote {} --force`", self.with_data(), self.name)
    }

    /// Which node that is.
    fn with_data(&self) -> &str {
        if self.has_data { "this node" } else { self.peer }
    }
}

/// This node's disk holds, or held, a state of the volume that is whole.
pub(super) fn has_data(s: &Snapshot) -> bool {
    s.superblock.current.is_some() && s.superblock.consistent && s.disk > message::DiskState::Failed
}

/// A refusal in words, with what to do about it. A command for the other node stands after its name and a colon.
pub(super) fn refusal_text(reason: Refusal, sides: &Sides<'_>) -> String {
    let name = sides.name;
    match reason {
        Refusal::Protocol => "no common protocol version; install versions of rblk that overlap on both nodes".into(),
        Refusal::Volume => "the nodes serve different volumes; resource name and node names, in their order, must be \
                            the same in both configurations"
            .into(),
        Refusal::Node => "it is not the node of the configuration; check --node and the host names".into(),
        Refusal::Size => {
            "the disks do not fit: one is smaller than the size in use (give that node a disk at least as large), or \
             the rblk there is too old to follow a volume that has grown (upgrade it)"
                .into()
        }
        Refusal::Limits => {
            "block sizes or limits do not fit: the other disk has larger logical blocks than clients here use, or the \
             versions differ; demote this node, then the nodes connect"
                .into()
        }
        Refusal::SplitBrain => format!(
            "split brain: both nodes were Primary without each other, and their data differs; neither is touched. {}",
            decide(name)
        ),
        Refusal::Unrelated => format!("the disks have no generation in common; neither is touched. {}", decide(name)),
        Refusal::RolledBack => format!(
            "a disk holds older data than it had told of: it was restored from an older image, or has lost writes that \
             it had called stable; and it has changed since, or the other disk has no good data. {}",
            decide(name)
        ),
        Refusal::BothDiscard => {
            format!("`--discard-my-data` was given on both nodes, so neither data would be left. {}", decide(name))
        }
        Refusal::PrimaryWouldBeTarget => {
            "the peer's data is newer, but this side is Primary; demote the Primary first".into()
        }
        Refusal::Policies => format!(
            "the nodes have different policies in [resource.split-brain]; make both configurations the same (`rblk \
             config {name}` prints them) and restart the daemon of the node that was changed"
        ),
        Refusal::PrimaryMustStepDown => format!(
            "by the policy for this case the Primary's data loses; its device must be let go, then the nodes connect: \
             unmount it and run `rblk demote {name}` there"
        ),
        Refusal::TwoPrimaries => {
            "both nodes are Primary; demote the one whose changes you can lose (if both wrote, split brain is reported \
             next)"
                .into()
        }
        Refusal::SourceOutdated => format!(
            "{}, which alone has data, is Outdated: the newest may be elsewhere. To accept its age, {}",
            sides.with_data(),
            sides.force()
        ),
        Refusal::SourceUnsure => format!(
            "one side's disk is new, or its data was declared invalid, and the other cannot tell whether it has the \
             newest: the two had lost each other, and the side without data may have gone on. If it did not, or if \
             what it had is LOST in any case, {}",
            sides.force()
        ),
        Refusal::DataLost => format!(
            "the Primary's disk failed, and the peer restarted before all that clients were told is done was on stable \
             media there: it may lack some of it. Detach the Primary and attach it with its disk, if that can still be \
             read; else {}: what it lacks is then LOST",
            sides.force()
        ),
        Refusal::NoSource => format!(
            "neither side has consistent data to copy from; `rblk promote {name} --force` on one side declares its \
             data good"
        ),
    }
}

/// How an operator says whose data counts.
fn decide(name: &str) -> String {
    format!(
        "On the node whose changes are to be LOST: `rblk demote {name}` if it is Primary, then `rblk connect {name} \
         --discard-my-data`; on the other: `rblk connect {name}`"
    )
}
