//! A resource on this host: its configuration, its disk, its way to the peer, its daemon.

use super::{Findings, network};
use crate::cli::{Place, status, units};
use crate::config::{Config, Name, Security};
use crate::ctl::status::{ConnectionState, Resource};
use crate::daemon::former;
use crate::error::Kind;
use crate::io::disk::{Backing, OpenMode};
use crate::meta::block::Owner;
use crate::meta::layout::Layout;
use crate::meta::recovery;
use crate::meta::superblock::NodeId;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

pub(super) fn check(findings: &mut Findings, place: &Place, name: &Name) {
    let Some((config, node)) = configuration(findings, place, name) else { return };
    disk(findings, &config, node);
    network::own_address(findings, &config, node);
    network::mtu(findings, &config, node);
    let running = status::ask(place, name);
    let connected = running.as_ref().is_ok_and(Resource::connected);
    if !connected {
        network::peer(findings, &config, node);
    } else if let Ok(status) = &running {
        network::paths(findings, &config, node, status);
    }
    match running {
        Ok(status) => {
            daemon(findings, &status);
            same_configuration(findings, &config, &status);
        }
        Err(error) if error.kind() == Kind::NotRunning => findings.error(
            "daemon",
            "does not run",
            format!("run `systemctl start rblk@{name}`, or `rblk attach {name}`"),
        ),
        Err(error) => findings.failed("daemon", &error),
    }
}

fn configuration(findings: &mut Findings, place: &Place, name: &Name) -> Option<(Config, NodeId)> {
    const SUBJECT: &str = "configuration";
    let config = match place.load(name) {
        Ok(config) => config,
        Err(error) => {
            findings.failed(SUBJECT, &error);
            return None;
        }
    };
    let node = match config.local(place.node.as_deref()) {
        Ok(node) => node,
        Err(error) => {
            findings.failed(SUBJECT, &error);
            return None;
        }
    };
    let peer = config.peer_of(node);
    let digest = match config.digest() {
        Ok(digest) => digest,
        Err(error) => {
            findings.failed(SUBJECT, &error);
            return None;
        }
    };
    let me = &config.node(node).name;
    findings.ok(
        SUBJECT,
        format!("right; this is {me}. Digest {digest}: it must be the same on {}", peer.name),
    );
    security(findings, &config);
    Some((config, node))
}

fn security(findings: &mut Findings, config: &Config) {
    const SUBJECT: &str = "security";
    match (config.net.security, config.lacks_key()) {
        (Security::None, _) => {
            findings.ok(SUBJECT, "none: nobody else may reach the nodes' network");
        }
        (Security::Tls, None) => findings.ok(SUBJECT, "TLS, with a key of each node"),
        (Security::Tls, Some(node)) => findings.error(
            SUBJECT,
            format!("TLS, and the configuration has no key of {}", node.name),
            format!("run `rblk pair {}` on one node, and `rblk join` on the other", config.name),
        ),
    }
}

fn disk(findings: &mut Findings, config: &Config, node: NodeId) {
    const SUBJECT: &str = "disk";
    let path = &config.node(node).disk;
    let backing = match Backing::open(path, OpenMode::Inspect) {
        Ok(backing) => backing,
        Err(error) => {
            let finding = format!("{}: {}", path.display(), error.why());
            return findings.error(SUBJECT, finding, error.remedy());
        }
    };
    let size = units::bytes(backing.bytes());
    let finding = format!("{}, {size}, blocks of {} bytes", path.display(), backing.block_bytes());
    match backing.warning() {
        None => findings.ok(SUBJECT, finding),
        Some(warning) => {
            let remedy = "use a block device, or a file on a file system that takes O_DIRECT";
            findings.warning(SUBJECT, format!("{finding}: {warning}"), remedy);
        }
    }
    let direct =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::CLOEXEC;
    if rustix::fs::open(path, direct, rustix::fs::Mode::empty()).is_err() {
        findings.warning(
            "direct I/O",
            "the file system below does not take O_DIRECT: data is in memory twice, and slower",
            "use a block device, or a file on ext4, XFS or btrfs",
        );
    }
    cache(findings, path);
    metadata(findings, config, node, &backing);
}

/// What the kernel says of the disk's write cache: rblk flushes either kind as clients ask.
fn cache(findings: &mut Findings, path: &Path) {
    const SUBJECT: &str = "disk cache";
    let Ok(about) = std::fs::metadata(path) else { return };
    let (number, what) = if about.file_type().is_block_device() {
        (about.rdev(), "the disk")
    } else {
        (about.dev(), "the disk below the file")
    };
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let device = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    // A partition has the queue of its disk.
    let queue = ["queue", "../queue"].map(|queue| device.join(queue));
    let read = |file: &str| {
        let found = queue.iter().find_map(|queue| std::fs::read_to_string(queue.join(file)).ok());
        found.unwrap_or_default().trim().to_owned()
    };
    match read("write_cache").as_str() {
        "write back" => {
            let fua = if read("fua") == "1" { "with" } else { "without" };
            findings.ok(SUBJECT, format!("{what} has a volatile write cache, {fua} FUA: it is flushed"));
        }
        "write through" => findings.ok(
            SUBJECT,
            format!("{what} says that it has no volatile write cache; if it is behind a controller, it must be true"),
        ),
        _ => findings.warning(
            SUBJECT,
            format!("the system does not say whether {what} has a volatile write cache"),
            "make sure that a flush reaches stable media there",
        ),
    }
}

fn metadata(findings: &mut Findings, config: &Config, node: NodeId, backing: &Backing) {
    const SUBJECT: &str = "metadata";
    let name = &config.name;
    let layout = match Layout::of_disk(backing.bytes()) {
        Ok(layout) => layout,
        Err(error) => {
            return findings.error(SUBJECT, error.to_string(), "use a disk of another size");
        }
    };
    let owner = Owner { volume: config.volume_id(), node };
    let read = |at| {
        let mut block = Box::new([0; crate::limits::META_BLOCK_BYTES]);
        backing.read_at(at, &mut block[..]).ok().map(|()| block)
    };
    match recovery::superblock(&layout, owner, read) {
        Ok(_) => findings.ok(SUBJECT, "of this volume and node"),
        Err(_) if former(backing, Some(owner)).newest.is_some() => findings.warning(
            SUBJECT,
            "where the end of the disk was before it grew",
            format!("run `systemctl restart rblk@{name}`, then `rblk resize {name}`"),
        ),
        Err(error) => findings.error(
            SUBJECT,
            format!("none of this volume: {error}"),
            format!("`rblk create {name}` makes a new disk part of it; `rblk dump-meta {name}` shows what is there"),
        ),
    }
}

/// The file, the daemon and the peer's daemon may have three different configurations.
fn same_configuration(findings: &mut Findings, config: &Config, status: &Resource) {
    const SUBJECT: &str = "same configuration";
    let name = &status.name;
    let (mine, peer) = (&status.rblk.config, status.connection().name);
    let file = config.digest().map(|digest| digest.to_string()).unwrap_or_default();
    if !mine.is_empty() && *mine != file {
        findings.warning(
            "configuration in use",
            format!("the daemon runs with another ({mine}) than the file has now ({file})"),
            format!("run `systemctl restart rblk@{name}`: clients wait a moment"),
        );
    }
    match &status.rblk.peer_config {
        Some(theirs) if theirs == mine => findings.ok(SUBJECT, format!("{mine}, on both nodes")),
        Some(theirs) => findings.warning(
            SUBJECT,
            format!("this daemon runs with {mine}, and {peer}'s with {theirs}"),
            format!(
                "compare what `rblk config {name}` prints on both nodes, make the files the same, and restart the \
                 daemon that has the wrong one; two versions of rblk may also differ in their defaults"
            ),
        ),
        None if status.connected() => findings.ok(
            SUBJECT,
            format!("{mine} here; {peer}'s version of rblk does not say: compare it there"),
        ),
        None => {}
    }
}

fn daemon(findings: &mut Findings, status: &Resource) {
    let name = &status.name;
    let version = &status.rblk.version;
    if version == env!("CARGO_PKG_VERSION") {
        findings.ok("daemon", format!("runs, version {version}, process {}", status.rblk.pid));
    } else {
        findings.warning(
            "daemon",
            format!("runs version {version}; {} is installed", env!("CARGO_PKG_VERSION")),
            format!("run `systemctl restart rblk@{name}`: clients wait a moment"),
        );
    }
    let explain = format!("run `rblk explain {name}`");
    let why = &status.rblk.why;
    let peer = status.connection();
    match peer.connection_state {
        ConnectionState::Connected => findings.ok("connection", format!("to {}", peer.name)),
        state => {
            let why = why.not_connected.first().map_or("", String::as_str);
            findings.error("connection", format!("{state}: {why}"), &explain);
        }
    }
    if status.up_to_date() {
        findings.ok("own data", "UpToDate");
    } else {
        findings.error("own data", status.device().disk_state.to_string(), &explain);
    }
    let device = peer.peer_devices.first().cloned().unwrap_or_default();
    if status.synced() {
        findings.ok("peer's data", "UpToDate, nothing differs");
    } else {
        let behind = units::bytes(device.out_of_sync.saturating_mul(1024));
        let finding = format!("{}, {behind} out of sync", device.peer_disk_state);
        let remedy = match status.connected() {
            true => format!("wait for the resync (`rblk wait {name} synced`), or {explain}"),
            false => explain.clone(),
        };
        findings.warning("peer's data", finding, remedy);
    }
    for why in &why.suspended {
        findings.error("clients wait", why, &explain);
    }
}
