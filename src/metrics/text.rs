//! From the status to the text that Prometheus reads. Names are drbd-reactor's with `rblk` for `drbd`, so that its
//! dashboards and rules need little change; `docs/metrics.md` lists them, and a test keeps the two equal.

use crate::ctl::status::{
    Connection, ConnectionState, Device, DiskState, Latency, PeerDevice, ReplicationState,
    Resource, Role, Verify,
};
use crate::limits::HOP_BOUNDS_US;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt::{Display, Result};

pub(super) use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// What a sample is about.
type Labels = Vec<(&'static str, String)>;

const KIB: u64 = 1024;

/// All metrics of a resource.
///
/// # Errors
/// There is none, since text takes everything; the encoder's interface has one.
pub(super) fn exposition(resource: Resource) -> std::result::Result<String, std::fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(resource)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Snapshot(Resource);

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
        let mut out = Writer(encoder);
        let status = &self.0;
        let of_resource: Labels = vec![("name", status.name.clone())];
        out.resource(status, &of_resource)?;
        out.device(status, &status.device(), &with(&of_resource, [("volume", "0".to_owned())]))?;
        out.latency(&status.rblk.latency, &of_resource)?;
        out.verify(status.rblk.verify.as_ref(), &of_resource)?;
        let peer = status.connection();
        let of_peer =
            [("peer_node_id", peer.peer_node_id.to_string()), ("conn_name", peer.name.clone())];
        let of_connection = with(&of_resource, of_peer);
        out.connection(&peer, &of_connection)?;
        if let Some(device) = peer.peer_devices.first() {
            out.peer_device(device, &with(&of_connection, [("volume", "0".to_owned())]))?;
        }
        Ok(())
    }
}

fn with<const N: usize>(labels: &Labels, more: [(&'static str, String); N]) -> Labels {
    labels.iter().cloned().chain(more).collect()
}

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn resource(&mut self, status: &Resource, labels: &Labels) -> Result {
        let rblk = &status.rblk;
        let version = with(labels, [("version", rblk.version.clone())]);
        self.gauge("rblk_build_info", "Version of the daemon; always 1", &version, 1.0)?;
        self.gauge(
            "process_resident_memory_bytes",
            "Resident memory of the daemon",
            &Labels::new(),
            rblk.memory_bytes as f64,
        )?;
        self.states(
            "rblk_resource_role",
            "Role of this node",
            "role",
            labels,
            Role::ALL,
            status.role,
        )?;
        let suspended = "Whether requests of clients are held";
        self.flag("rblk_resource_suspended", suspended, labels, status.suspended)?;
        let may = status.role == Role::Primary || rblk.why.not_promotable.is_empty();
        self.flag("rblk_resource_maypromote", "Whether this node may be Primary", labels, may)?;
        let apart = "Distinct blocks that clients wrote while the peer last did not take part";
        let bytes = rblk.written_apart_bytes as f64;
        self.gauge("rblk_resource_writtenapart_bytes", apart, labels, bytes)
    }

    fn device(&mut self, status: &Resource, device: &Device, labels: &Labels) -> Result {
        let disk = "State of this node's disk";
        self.states("rblk_device_state", disk, "state", labels, DiskState::ALL, device.disk_state)?;
        let al = &status.rblk.al;
        for (name, help, value) in [
            ("rblk_device_size_bytes", "Size of the volume", device.size.saturating_mul(KIB)),
            ("rblk_device_upperpending", "Requests of clients in flight", device.upper_pending),
            (
                "rblk_device_lowerpending",
                "Requests to this node's disk in flight",
                device.lower_pending,
            ),
            ("rblk_device_alextents", "Extents in the activity log", al.active),
            ("rblk_device_alslots", "Extents that the activity log has room for", al.slots),
        ] {
            self.gauge(name, help, labels, value as f64)?;
        }
        for (name, help, value) in [
            (
                "rblk_device_read_bytes",
                "Read from this node's disk",
                device.read.saturating_mul(KIB),
            ),
            (
                "rblk_device_written_bytes",
                "Written to this node's disk",
                device.written.saturating_mul(KIB),
            ),
            ("rblk_device_alwrites", "Transactions written to the activity log", device.al_writes),
            ("rblk_device_bmwrites", "Pages written of the bitmap", device.bm_writes),
        ] {
            self.counter(name, help, labels, value)?;
        }
        Ok(())
    }

    fn connection(&mut self, peer: &Connection, labels: &Labels) -> Result {
        let (all, now) = (ConnectionState::ALL, peer.connection_state);
        self.states("rblk_connection_state", "State of the connection", "state", labels, all, now)?;
        let role = "Role of the peer";
        self.states("rblk_connection_peer_role", role, "role", labels, Role::ALL, peer.peer_role)?;
        let congested = "Whether writes wait for the peer to take them";
        self.flag("rblk_connection_congested", congested, labels, peer.congested)?;
        for (name, help, kib) in [
            (
                "rblk_connection_apinflight_bytes",
                "Application data sent and not yet answered",
                peer.ap_in_flight,
            ),
            (
                "rblk_connection_rsinflight_bytes",
                "Resync data sent and not yet answered",
                peer.rs_in_flight,
            ),
        ] {
            self.gauge(name, help, labels, kib.saturating_mul(KIB) as f64)?;
        }
        Ok(())
    }

    fn peer_device(&mut self, device: &PeerDevice, labels: &Labels) -> Result {
        let (all, now) = (DiskState::ALL, device.peer_disk_state);
        self.states(
            "rblk_peerdevice_state",
            "State of the peer's disk",
            "state",
            labels,
            all,
            now,
        )?;
        let (all, now) = (ReplicationState::ALL, device.replication_state);
        let doing = "What the two disks are doing";
        self.states("rblk_peerdevice_replication_state", doing, "state", labels, all, now)?;
        for (name, help, value) in [
            (
                "rblk_peerdevice_outofsync_bytes",
                "What differs, or may differ, between the disks",
                device.out_of_sync.saturating_mul(KIB),
            ),
            (
                "rblk_peerdevice_pending",
                "Requests sent to the peer and not yet answered",
                device.pending,
            ),
            ("rblk_peerdevice_unacked", "Requests of the peer not yet answered", device.unacked),
        ] {
            self.gauge(name, help, labels, value as f64)?;
        }
        let sent = device.sent.saturating_mul(KIB);
        self.counter("rblk_peerdevice_sent_bytes", "Data sent to the peer", labels, sent)?;
        let received = device.received.saturating_mul(KIB);
        let help = "Data received from the peer";
        self.counter("rblk_peerdevice_received_bytes", help, labels, received)?;
        let Some(sync) = &device.sync else { return Ok(()) };
        for (name, help, value) in [
            (
                "rblk_peerdevice_resync_bytes",
                "What the running resync has to copy",
                sync.rs_total.saturating_mul(KIB) as f64,
            ),
            (
                "rblk_peerdevice_resync_done_ratio",
                "How much of it is copied, 0 to 1",
                sync.percent_resync_done / 100.0,
            ),
            (
                "rblk_peerdevice_resync_left_seconds",
                "Time that the running resync will take at its present rate",
                sync.estimated_seconds_to_finish as f64,
            ),
        ] {
            self.gauge(name, help, labels, value)?;
        }
        Ok(())
    }

    /// Of the verify that runs, or the last one since the daemon's start.
    fn verify(&mut self, found: Option<&Verify>, labels: &Labels) -> Result {
        let Some(found) = found else { return Ok(()) };
        let running = found.state == "running";
        self.flag("rblk_verify_running", "Whether a verify runs", labels, running)?;
        let ended = found.began_unix_ms.saturating_add(found.duration_ms) as f64 / 1000.0;
        let unreadable = found.unreadable_bytes + found.peer_unreadable_bytes;
        for (name, help, value) in [
            (
                "rblk_verify_done_ratio",
                "How much of the volume the last verify has compared, 0 to 1",
                found.done_bytes as f64 / found.total_bytes.max(1) as f64,
            ),
            (
                "rblk_verify_differing_bytes",
                "What the last verify has found to differ between the disks",
                found.differing_bytes as f64,
            ),
            (
                "rblk_verify_unreadable_bytes",
                "What the last verify could not read on this node's disk or the peer's",
                unreadable as f64,
            ),
            (
                "rblk_verify_last_timestamp_seconds",
                "When the last verify ended, or how far time has gone while it runs, since 1970",
                ended,
            ),
        ] {
            self.gauge(name, help, labels, value)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, labels: &Labels, value: f64) -> Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_family(labels)?.encode_gauge(&value)
    }

    fn flag(&mut self, name: &str, help: &str, labels: &Labels, value: bool) -> Result {
        self.gauge(name, help, labels, f64::from(u8::from(value)))
    }

    /// The encoder adds `_total` to `name`.
    fn counter(&mut self, name: &str, help: &str, labels: &Labels, value: u64) -> Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_family(labels)?.encode_counter::<Labels, u64, f64>(&value, None)
    }

    /// A histogram for each hop of requests, in seconds.
    fn latency(&mut self, hops: &[Latency], labels: &Labels) -> Result {
        let help = "Time that requests took, by the part of their way";
        let name = "rblk_latency_seconds";
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for hop in hops {
            let bounds = HOP_BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(hop.buckets.iter().copied()).collect();
            let labels = with(labels, [("hop", hop.hop.clone())]);
            let sum = hop.sum_us as f64 / 1e6;
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_histogram::<Labels>(sum, hop.count, &buckets, None)?;
        }
        Ok(())
    }

    /// One sample for each of `all`: 1 for `now`, 0 for the others.
    fn states<T: Copy + PartialEq + Display>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        labels: &Labels,
        all: &[T],
        now: T,
    ) -> Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for state in all {
            let labels = with(labels, [(label, state.to_string())]);
            metric.encode_family(&labels)?.encode_gauge(&f64::from(u8::from(*state == now)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn sample() -> String {
        exposition(crate::ctl::status::sample()).expect("text")
    }

    #[test]
    fn a_resource_reads_as_documented() {
        let text = sample();
        let peer = r#"name="swarm",peer_node_id="1",conn_name="docker2",volume="0""#;
        for line in [
            "# TYPE rblk_device_written_bytes_total counter",
            r#"rblk_device_written_bytes_total{name="swarm",volume="0"} 34816"#,
            r#"rblk_resource_role{name="swarm",role="Primary"} 1"#,
            r#"rblk_resource_role{name="swarm",role="Secondary"} 0"#,
            r#"rblk_latency_seconds_bucket{name="swarm",hop="peer",le="0.0001"} 9"#,
            r#"rblk_latency_seconds_count{name="swarm",hop="peer"} 10"#,
            &format!("rblk_peerdevice_outofsync_bytes{{{peer}}} 536870912"),
            &format!("rblk_peerdevice_resync_done_ratio{{{peer}}} 0.25"),
        ] {
            let found = text.lines().any(|found| found.strip_suffix(".0").unwrap_or(found) == line);
            assert!(found, "{line}\nin\n{text}");
        }
    }

    #[test]
    fn every_metric_is_documented_and_every_documented_metric_exists() {
        let text = sample();
        let told: BTreeSet<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let page = include_str!("../../docs/metrics.md");
        let documented: BTreeSet<_> = page
            .lines()
            .filter_map(|line| Some(line.strip_prefix("| `")?.split_once("` |")?.0))
            .collect();
        assert_eq!(told, documented);
    }

    #[test]
    fn a_hostile_name_stays_in_its_quotes() {
        let mut status = crate::ctl::status::sample();
        status.connections[0].name = "a\"} 1\nevil{x=\"\\".to_owned();
        let text = exposition(status).expect("text");
        assert!(text.contains(r#"conn_name="a\"} 1\nevil{x=\"\\""#), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
    }
}
