//! The status as a contract: every key is documented, and every documented key exists.

use super::*;
use serde_json::Value;
use std::collections::BTreeSet;

/// Everything filled in. Without `..Default`, so that a new field has to come here too.
pub(crate) fn sample() -> Resource {
    Resource {
        name: "swarm".to_owned(),
        node_id: 0,
        role: Role::Primary,
        suspended: false,
        suspended_user: false,
        suspended_no_data: false,
        suspended_fencing: false,
        suspended_quorum: false,
        force_io_failures: false,
        write_ordering: "flush".to_owned(),
        devices: vec![device()],
        connections: vec![connection()],
        rblk: additions(),
    }
}

fn device() -> Device {
    Device {
        volume: 0,
        minor: 0,
        disk_state: DiskState::UpToDate,
        client: false,
        open: true,
        quorum: true,
        size: 1 << 20,
        read: 12,
        written: 34,
        al_writes: 5,
        bm_writes: 6,
        upper_pending: 7,
        lower_pending: 8,
    }
}

fn connection() -> Connection {
    let host = |text| Host::from(&crate::config::Address::parse(text).expect("valid"));
    Connection {
        peer_node_id: 1,
        name: "docker2".to_owned(),
        connection_state: ConnectionState::Connected,
        congested: false,
        peer_role: Role::Secondary,
        tls: true,
        ap_in_flight: 0,
        rs_in_flight: 1024,
        paths: vec![Path {
            this_host: host("192.168.1.1:7790"),
            remote_host: host("192.168.1.2:7790"),
            established: true,
        }],
        peer_devices: vec![PeerDevice {
            volume: 0,
            replication_state: ReplicationState::SyncSource,
            peer_disk_state: DiskState::Inconsistent,
            peer_client: false,
            resync_suspended: "no".to_owned(),
            received: 0,
            sent: 4096,
            out_of_sync: 512 << 10,
            pending: 1,
            unacked: 0,
            has_sync_details: true,
            has_online_verify_details: false,
            percent_in_sync: 50.0,
            sync: Some(Sync {
                percent_resync_done: 25.0,
                rs_total: 700_000,
                rs_dt_start_ms: 1000,
                rs_paused_ms: 0,
                rs_failed: 0,
                rate: 100.5,
                recent_rate: 128.0,
                estimated_seconds_to_finish: 4,
            }),
        }],
    }
}

fn additions() -> Rblk {
    Rblk {
        version: "0.1.0".to_owned(),
        pid: 42,
        memory_bytes: 50 << 20,
        front: "nbd".to_owned(),
        address: Some("nbd+unix:///?socket=/run/x".to_owned()),
        security: "tls".to_owned(),
        key: Some("ed25519:A".to_owned()),
        peer_key: Some("ed25519:B".to_owned()),
        transport: "smc".to_owned(),
        transport_in_use: Some("tcp".to_owned()),
        config: "0123456789ab".to_owned(),
        peer_config: Some("0123456789ab".to_owned()),
        generation: Generation {
            current: Some("A".repeat(32)),
            base: Some("B".repeat(32)),
            history: vec!["C".repeat(32)],
            made_unix_ms: Some(1_790_000_000_000),
        },
        peer: Some(Peer {
            role: Role::Secondary,
            disk_state: DiskState::Consistent,
            out_of_sync_bytes: 8192,
            generation: Generation {
                current: Some("D".repeat(32)),
                base: Some("B".repeat(32)),
                history: vec!["C".repeat(32)],
                made_unix_ms: Some(1_790_000_000_000),
            },
        }),
        why: Why {
            not_promotable: vec!["The peer is Primary.".to_owned()],
            not_connected: vec!["Nobody answers at 192.168.1.2:7790.".to_owned()],
            suspended: vec!["docker2 is lost.".to_owned()],
            full_resync: vec!["the target's disk is fresh".to_owned()],
        },
        written_apart_bytes: 4096,
        resync: ResyncBytes {
            done_bytes: 1,
            total_bytes: 2,
            since_connect_bytes: 3,
            skipped_zero_bytes: 4,
        },
        verify: Some(verify()),
        al: ActivityLog { active: 3, slots: 992 },
        peer_timeout_ms: 4000,
        peer_silence_ms: Some(2000),
        faults: Some("disk-delay".to_owned()),
        salvage: Some(Salvage {
            state: "saving".to_owned(),
            directory: "/var/lib/rblk/salvage".to_owned(),
            set: Some("20260921T141320Z-AAAAAAAA".to_owned()),
            done_bytes: 4096,
            total_bytes: 1 << 20,
            why: Some("there is no room".to_owned()),
        }),
        latency: vec![Latency {
            hop: "peer".to_owned(),
            count: 10,
            sum_us: 800,
            p50_us: 70,
            p99_us: 130,
            max_us: 131,
            buckets: vec![0, 0, 2, 7, 1],
        }],
    }
}

fn verify() -> Verify {
    Verify {
        state: "done".to_owned(),
        began_unix_ms: 1_790_000_000_000,
        duration_ms: 1500,
        total_bytes: 1 << 30,
        done_bytes: 1 << 30,
        differing_bytes: 4096,
        unreadable_bytes: 0,
        peer_unreadable_bytes: 0,
        repair_bytes: 8192,
        repaired_bytes: 4096,
        busy_bytes: 0,
        differences: vec![Difference { offset: 1 << 20, bytes: 4096 }],
        more_differences: 0,
    }
}

/// The paths of all keys, `[]` for each list on the way.
fn keys(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                out.insert(path.clone());
                keys(inner, &path, out);
            }
        }
        Value::Array(list) => {
            for inner in list {
                keys(inner, &format!("{path}[]"), out);
            }
        }
        _ => {}
    }
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let mut serialised = BTreeSet::new();
    keys(&serde_json::to_value(sample()).expect("serialises"), "", &mut serialised);
    let page = include_str!("../../../docs/status.md");
    // A row of a table of keys starts with "| `key` |".
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(key, _)| key.to_owned())
        .collect();
    let missing: Vec<_> = serialised.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&serialised).collect();
    assert!(missing.is_empty(), "not in docs/status.md: {missing:?}");
    assert!(stale.is_empty(), "only in docs/status.md: {stale:?}");
}

#[test]
fn a_status_parses_back_with_and_without_a_resync() {
    let mut status = sample();
    for sync in [status.connections[0].peer_devices[0].sync.clone(), None] {
        status.connections[0].peer_devices[0].sync = sync;
        let text = serde_json::to_string(&status).expect("serialises");
        assert_eq!(serde_json::from_str::<Resource>(&text).expect("valid"), status);
    }
    // An older or newer daemon may leave keys out or add some.
    let sparse: Resource = serde_json::from_str(r#"{"name":"x","new":1}"#).expect("valid");
    assert_eq!(sparse.name, "x");
}

#[test]
fn synced_means_both_disks_and_nothing_left() {
    let mut status = sample();
    assert!(!status.synced());
    status.connections[0].peer_devices[0] = PeerDevice {
        replication_state: ReplicationState::Established,
        peer_disk_state: DiskState::UpToDate,
        ..PeerDevice::default()
    };
    assert!(status.synced());
    status.connections[0].connection_state = ConnectionState::Connecting;
    assert!(!status.synced());
}
