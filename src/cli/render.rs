//! The status as text, in DRBD's form: two spaces per level, and only what is worth knowing.
//!
//! ```text
//! swarm role:Primary
//!   disk:UpToDate open:yes size:1.0 GiB at:/dev/ublkb0
//!   docker2 role:Secondary
//!     replication:SyncSource peer-disk:Inconsistent out-of-sync:512.0 MiB
//!     [#######>----------------------]  25.0 %  128.0 MiB/s  4 s left
//! ```

use super::{units, verify};
use crate::ctl::status::{Connection, ConnectionState, PeerDevice, Resource, Salvage, Sync};
use std::fmt::Write;

/// The text for one resource, without a line break at the end.
pub(super) fn resource(resource: &Resource) -> String {
    let mut out = format!("{} role:{}", resource.name, resource.role);
    if resource.suspended {
        let _ = write!(out, " suspended:{}", resource.suspended_word());
    }
    if let Some(faults) = &resource.rblk.faults {
        let _ = write!(out, " faults:{faults}");
    }
    for device in &resource.devices {
        let open = if device.open { "yes" } else { "no" };
        let size = units::bytes(device.size.saturating_mul(1024));
        let _ = write!(out, "\n  disk:{} open:{open} size:{size}", device.disk_state);
    }
    if let Some(address) = &resource.rblk.address {
        let _ = write!(out, " at:{address}");
    }
    for peer in &resource.connections {
        connection(&mut out, peer);
    }
    if resource.rblk.security == "none" {
        let _ = write!(out, "\n    security:none");
    }
    if let Some(key) = &resource.rblk.key {
        let _ = write!(out, "\n    security:{} key:{key}", resource.rblk.security);
        if let Some(key) = &resource.rblk.peer_key {
            let _ = write!(out, "\n    peer-key:{key}");
        }
    }
    transport(&mut out, resource);
    if resource.differs_in_config() {
        let name = &resource.name;
        let _ = write!(
            out,
            "\n  configuration: the peer runs with another one; see `rblk doctor {name}`"
        );
    }
    if let Some(verify) = verify::line(resource) {
        let _ = write!(out, "\n  {verify}");
    }
    for why in &resource.rblk.why.not_connected {
        let _ = write!(out, "\n  not connected: {why}");
    }
    if let Some(salvage) = &resource.rblk.salvage {
        saving(&mut out, salvage);
    }
    for why in &resource.rblk.why.suspended {
        let _ = write!(out, "\n  writes wait: {why}");
    }
    for why in &resource.rblk.why.full_resync {
        let _ = write!(out, "\n  copies everything: {why}");
    }
    for why in &resource.rblk.why.not_promotable {
        let _ = write!(out, "\n  cannot become Primary: {why}");
    }
    out
}

/// What carries the link, if it is not plainly TCP.
fn transport(out: &mut String, resource: &Resource) {
    let wanted = resource.rblk.transport.as_str();
    match resource.rblk.transport_in_use.as_deref() {
        _ if ["", "tcp"].contains(&wanted) => {}
        Some("tcp") => {
            let _ = write!(out, "\n    transport:{wanted} in-use:tcp, to which it fell back");
        }
        Some(used) => {
            let _ = write!(out, "\n    transport:{wanted} in-use:{used}");
        }
        None => {
            let _ = write!(out, "\n    transport:{wanted}");
        }
    }
}

/// What is saved before it is overwritten. What was not is a reason not to be connected, and told there.
fn saving(out: &mut String, salvage: &Salvage) {
    match salvage.state.as_str() {
        "saving" => {
            let percent = salvage.done_bytes as f64 * 100.0 / salvage.total_bytes.max(1) as f64;
            let bar = units::bar(percent, units::BAR_COLUMNS);
            let (done, total) =
                (units::bytes(salvage.done_bytes), units::bytes(salvage.total_bytes));
            let _ = write!(out, "\n    {bar} {done} of {total} saved");
        }
        "unusable" => {
            let why = salvage.why.as_deref().unwrap_or_default();
            let _ = write!(out, "\n  cannot save what a resync discards: {why}");
        }
        _ => {}
    }
}

fn connection(out: &mut String, peer: &Connection) {
    let connected = peer.connection_state == ConnectionState::Connected;
    if connected {
        let _ = write!(out, "\n  {} role:{}", peer.name, peer.peer_role);
    } else {
        let _ = write!(out, "\n  {} connection:{}", peer.name, peer.connection_state);
    }
    paths(out, peer);
    for device in &peer.peer_devices {
        let behind = units::bytes(device.out_of_sync.saturating_mul(1024));
        if connected {
            let _ = write!(
                out,
                "\n    replication:{} peer-disk:{} out-of-sync:{behind}",
                device.replication_state, device.peer_disk_state
            );
            sync(out, device);
        } else {
            let _ = write!(out, "\n    out-of-sync:{behind}");
        }
    }
}

/// All, if there is a choice.
fn paths(out: &mut String, peer: &Connection) {
    for (at, path) in peer.paths.iter().enumerate().filter(|_| peer.paths.len() > 1) {
        let established = if path.established { "yes" } else { "no" };
        let _ = write!(out, "\n    path:{} {path} established:{established}", at + 1);
    }
}

fn sync(out: &mut String, device: &PeerDevice) {
    let Some(sync) = &device.sync else { return };
    if device.resync_suspended != "no" && !device.resync_suspended.is_empty() {
        let _ = write!(out, " resync-suspended:{}", device.resync_suspended);
    }
    let bar = units::bar(sync.percent_resync_done, units::BAR_COLUMNS);
    let _ = write!(out, "\n    {bar} {}", sync_line(sync));
}

/// How far a resync is, in a few words.
pub(super) fn sync_line(sync: &Sync) -> String {
    let left = if sync.recent_rate > 0.0 {
        units::seconds(sync.estimated_seconds_to_finish)
    } else {
        "unknown time".to_owned()
    };
    format!("{:5.1} %  {:.1} MiB/s  {left} left", sync.percent_resync_done, sync.recent_rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::status::{ReplicationState, sample};

    #[test]
    fn a_resync_reads_as_documented() {
        let mut status = sample();
        status.rblk.why.not_connected.clear();
        status.rblk.why.suspended.clear();
        status.rblk.why.not_promotable.clear();
        status.rblk.why.full_resync.clear();
        status.rblk.faults = None;
        status.rblk.salvage = None;
        status.rblk.verify = None;
        let locked = resource(&status);
        let fell_back = "\n    transport:smc in-use:tcp, to which it fell back";
        let locked = locked.strip_suffix(fell_back).expect(&locked);
        status.rblk.transport = "tcp".to_owned();
        assert!(locked.ends_with("security:tls key:ed25519:A\n    peer-key:ed25519:B"), "{locked}");
        status.rblk.key = None;
        let text = resource(&status);
        assert_eq!(
            text,
            "swarm role:Primary\n  \
               disk:UpToDate open:yes size:1.0 GiB at:nbd+unix:///?socket=/run/x\n  \
               docker2 role:Secondary\n    \
                 replication:SyncSource peer-disk:Inconsistent out-of-sync:512.0 MiB\n    \
                 [#######>----------------------]  25.0 %  128.0 MiB/s  4 s left"
        );
    }

    #[test]
    fn two_paths_are_told_and_one_is_not() {
        let mut status = sample();
        assert!(!resource(&status).contains("path:"));
        let mut second = status.connections[0].paths[0].clone();
        second.remote_host.address = "fd00::2".to_owned();
        second.established = false;
        status.connections[0].paths.push(second);
        let text = resource(&status);
        let told = "docker2 role:Secondary\n    \
                    path:1 192.168.1.1:7790 to 192.168.1.2:7790 established:yes\n    \
                    path:2 192.168.1.1:7790 to [fd00::2]:7790 established:no\n    \
                    replication:";
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn a_lost_peer_is_explained() {
        let mut status = sample();
        status.connections[0].connection_state = ConnectionState::Connecting;
        status.connections[0].peer_devices[0] = PeerDevice {
            out_of_sync: 4,
            replication_state: ReplicationState::Off,
            ..PeerDevice::default()
        };
        status.suspended = true;
        status.suspended_no_data = true;
        let text = resource(&status);
        for part in [
            "suspended:no-data",
            "docker2 connection:Connecting\n    out-of-sync:4.0 KiB",
            "not connected: Nobody answers",
            "cannot become Primary: The peer is Primary.",
            "faults:disk-delay",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
