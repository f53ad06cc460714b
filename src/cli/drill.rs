//! `rblk drill`: would a failover work, were it needed now? Looks at what it needs, and does none of it.
//!
//! The two ways are rehearsed apart: the planned one, in good order, and the one after the other node died.

use super::doctor::{Findings, host};
use super::{Place, name_argument, status, units};
use crate::config::{Config, HandlerKind, Name, OnPeerLost};
use crate::ctl::status::{Resource, Role};
use crate::error::Result;
use crate::limits::EXTENT_BYTES;
use crate::meta::superblock::NodeId;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

const AFTER_HELP: &str = "\
Example, weekly, on both nodes, told by mail if something would stand in the way:
  rblk drill swarm > /tmp/drill 2>&1; [ $? -ne 1 ] || mail -s drill root < /tmp/drill

Nothing is changed, and no role is moved. Exit codes as those of `rblk doctor`:
0 it would work, 4 there are warnings, 1 something stands in the way.";

/// Rehearse a failover: check that it would work, without doing it
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Drill {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Drill {
    pub(super) fn run(self, place: &Place) -> Result<ExitCode> {
        let config = place.load(&self.name)?;
        let node = config.local(place.node.as_deref())?;
        let now = status::ask(place, &self.name)?;
        let mut findings = Findings::default();
        host(&mut findings);
        findings.about(&self.name);
        data(&mut findings, &now, &config, node);
        planned(&mut findings, &now, &config, node);
        crash(&mut findings, &now, &config, node);
        use_of_it(&mut findings, &now);
        findings.show(self.json)
    }
}

/// Both nodes have all data, or there is nothing to fail over to.
fn data(findings: &mut Findings, now: &Resource, config: &Config, node: NodeId) {
    let name = &now.name;
    let explain = format!("run `rblk explain {name}`");
    let peer = &config.peer_of(node).name;
    if now.synced() {
        findings.ok("data", format!("both disks have all of it, and {peer} is connected"));
    } else if !now.connected() {
        findings.error(
            "data",
            format!("{peer} is not connected: it misses what is written"),
            explain,
        );
    } else {
        let device = now.connection().peer_devices.first().cloned().unwrap_or_default();
        let behind = units::bytes(device.out_of_sync.saturating_mul(1024));
        let finding = format!(
            "here {}, on {peer} {}, {behind} out of sync",
            now.device().disk_state,
            device.peer_disk_state
        );
        findings.error("data", finding, format!("wait for it: `rblk wait {name} synced`"));
    }
    if now.suspended {
        let why = now.rblk.why.suspended.join("; ");
        findings.error(
            "clients",
            format!("they wait: {why}"),
            format!("run `rblk explain {name}`"),
        );
    }
}

/// A switch in good order: demote there, promote here, or the other way round.
fn planned(findings: &mut Findings, now: &Resource, config: &Config, node: NodeId) {
    const SUBJECT: &str = "planned switch";
    let name = &now.name;
    let peer = config.peer_of(node);
    match (now.role, now.connection().peer_role) {
        (Role::Primary, Role::Primary) => {
            findings.ok(SUBJECT, "both nodes are Primary: nothing to move");
        }
        (Role::Primary, _) if !now.synced() => {}
        (Role::Primary, _) => {
            let held = if now.device().open {
                "; who has the device open must let go of it first"
            } else {
                ""
            };
            findings.ok(
                SUBJECT,
                format!("{} can become Primary once this node is demoted{held}", peer.name),
            );
        }
        _ if now.up_to_date() => {
            findings.ok(SUBJECT, "this node can become Primary once the other is not");
        }
        _ => {
            let why = now.rblk.why.not_promotable.join("; ");
            findings.error(
                SUBJECT,
                format!("this node cannot become Primary: {why}"),
                format!("run `rblk explain {name}`"),
            );
        }
    }
}

/// The other node is gone without a word.
fn crash(findings: &mut Findings, now: &Resource, config: &Config, node: NodeId) {
    let peer = &config.peer_of(node).name;
    let name = &config.name;
    let silence = units::duration(Duration::from_millis(
        config.peer_timeout_ms + config.ride_through_s * 1000,
    ));
    let alone = match config.on_peer_lost {
        OnPeerLost::Continue => Ok("goes on alone"),
        OnPeerLost::Prefer if config.prefer.as_ref() == Some(&config.node(node).name) => {
            Ok("goes on alone")
        }
        OnPeerLost::Prefer => Err(format!("holds what clients write: on-peer-lost prefers {peer}")),
        OnPeerLost::Suspend => {
            Err("holds what clients write: on-peer-lost is \"suspend\"".to_owned())
        }
        OnPeerLost::Fence => {
            Ok("goes on alone once the handler fence-peer has confirmed that it may")
        }
    };
    const PRIMARY: &str = "peer dies";
    match alone {
        Ok(what) => findings
            .ok(PRIMARY, format!("while this node is Primary, it {what}, after {silence} at most")),
        Err(what) => findings.warning(
            PRIMARY,
            format!("while this node is Primary, it {what}"),
            format!(
                "bring {peer} back; if it is certain that it is dead: `rblk promote {name} --force`"
            ),
        ),
    }
    const SECONDARY: &str = "primary dies";
    if config.on_peer_lost == OnPeerLost::Fence {
        findings.ok(
            SECONDARY,
            "this node can be promoted once the handler fence-peer has confirmed the other's end",
        );
    } else {
        findings.warning(
            SECONDARY,
            "this node does not take over by itself: it cannot know whether the other went on alone",
            format!(
                "then decide: `rblk promote {name} --force` where it is certain that {peer} is dead; or let a handler \
                 make sure of it (on-peer-lost = \"fence\")"
            ),
        );
    }
    for kind in HandlerKind::ALL {
        let Some(command) = config.handlers.command(kind) else { continue };
        let program = command.split_whitespace().next().unwrap_or_default();
        if program.starts_with('/')
            && rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_err()
        {
            let finding = format!("{}: {program} is not there, or cannot be run", kind.name());
            findings.error("handler", finding, "install it on this node, or correct [handlers]");
        }
    }
    let log = now.rblk.al.active.saturating_mul(EXTENT_BYTES);
    if now.role == Role::Primary {
        let finding =
            format!("were this daemon killed now, at most {} would be compared", units::bytes(log));
        findings.ok("resync", finding);
    }
}

/// What is to use the volume on this node.
fn use_of_it(findings: &mut Findings, now: &Resource) {
    let name = &now.name;
    if now.rblk.front == "nbd" {
        return findings
            .ok("device", "served by NBD: whoever uses it must know both nodes' addresses");
    }
    let link = format!("/dev/rblk/{name}");
    if now.role == Role::Primary && !Path::new(&link).exists() {
        findings.warning(
            "device",
            format!("{link} is not there"),
            "install udev's rule: scripts/install, or the package",
        );
    }
    if !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    let enabled = |unit: &str| {
        let answer = Command::new("systemctl").args(["is-enabled", "--quiet", unit]).status();
        answer.is_ok_and(|status| status.success())
    };
    if !enabled(&format!("rblk@{name}.service")) {
        findings.warning(
            "boot",
            format!("rblk@{name} is not enabled: after a reboot this node is not there"),
            format!("run `systemctl enable rblk.target rblk@{name}`"),
        );
    }
    let fstab = std::fs::read_to_string("/etc/fstab").unwrap_or_default();
    let units = std::fs::read_dir("/etc/systemd/system").into_iter().flatten().flatten();
    let mut files =
        units.filter(|unit| unit.path().extension().is_some_and(|kind| kind == "mount"));
    let named =
        |text: &str| text.split(|c: char| c.is_whitespace() || c == '=').any(|word| word == link);
    let mounted = named(&fstab)
        || files.any(|unit| std::fs::read_to_string(unit.path()).is_ok_and(|text| named(&text)));
    if mounted {
        findings.ok("mount", format!("{link} has a mount unit or a line in /etc/fstab here"));
    } else {
        findings.warning(
            "mount",
            format!("nothing here mounts {link}: after a failover somebody has to do it"),
            "write a mount unit, see docs/dipole.md; if a cluster manager or Docker mounts it, all is well",
        );
    }
}
