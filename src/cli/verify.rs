//! `rblk verify`: do both disks hold the same?

use super::progress::Progress;
use super::{POLL, Place, name_argument, print, print_json, say, units};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::proto::Request;
use crate::ctl::status::{Resource, Verify as Found};
use crate::error::{Error, Kind, Result};
use crate::limits::UNIX_MS_MAX;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// So many differences are printed; the status has more.
const TOLD: usize = 16;

const AFTER_HELP: &str = "\
Example, on the Primary:
  rblk verify swarm
and if blocks differ and this node has the right ones:
  rblk verify swarm --repair

Every month: systemctl enable --now rblk-verify@swarm.timer

Exit codes: 0 both disks hold the same, 1 anything else.";

/// Compare both nodes' disks, while they are in use
///
/// Each block is read on both nodes; digests go over the wire, not data. Clients go
/// first, as beside a resync. If the connection breaks the comparison goes on when
/// both disks are up to date again, and whoever ends this command with Ctrl-C ends
/// the waiting only. Blocks that differ are listed and stay as they are: which of
/// the two is right, rblk cannot know.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Verify {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// Copy what differs from this node, which must be Primary, to the other
    #[arg(long)]
    repair: bool,
    /// With --repair: what the last verify on this node has found, without another
    #[arg(long, requires = "repair")]
    found: bool,
    /// Do not wait for the end
    #[arg(long, conflicts_with = "repair")]
    no_wait: bool,
    /// End the verify or the repair that runs
    #[arg(long, conflicts_with_all = ["repair", "no_wait", "json"])]
    stop: bool,
    /// Print the result as JSON: `rblk.verify` of the status
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let mut client = Client::connect(&place.run_dir, self.name.as_str())?;
        if self.stop {
            client.command(&Request::StopVerify)?;
            say(&format!("No verify runs on {} now.", self.name));
            return Ok(());
        }
        if self.found {
            return self.repair(&mut client);
        }
        client.command(&Request::Verify)?;
        if self.no_wait {
            say(&format!(
                "Verify of {} has begun. `rblk status {} --watch` shows how it goes.",
                self.name, self.name
            ));
            return Ok(());
        }
        let found = self.wait(&mut client, "running")?;
        if self.json {
            print_json(&found)?;
        } else {
            print(&report(&self.name, &found))?;
        }
        if found.is_clean() {
            return Ok(());
        }
        if self.repair && !found.differences.is_empty() && found.state == "done" {
            return self.repair(&mut client);
        }
        Err(self.failed(&found))
    }

    /// Has what differs copied, and waits for that.
    fn repair(&self, client: &mut Client) -> Result<()> {
        client.command(&Request::Repair)?;
        let found = self.wait(client, "repairing")?;
        let (name, copied) = (&self.name, units::bytes(found.repaired_bytes));
        if found.state != "done" {
            return Err(Error::new(
                Kind::Refused,
                format!("It is not known whether {name} is repaired"),
            )
            .why("somebody has begun another verify meanwhile")
            .remedy(format!("wait for what `rblk status {name}` says of that")));
        }
        let left = found.differing_bytes + found.peer_unreadable_bytes;
        if left == 0 {
            say(&format!("{name}: {copied} copied to the other node, and stable there."));
            return if found.is_clean() { Ok(()) } else { Err(self.failed(&found)) };
        }
        let left = units::bytes(left);
        Err(Error::new(Kind::Refused, format!("{name} is not repaired as a whole"))
            .why(format!("{copied} were copied, and {left} were not: see `rblk status {name}`"))
            .remedy(format!(
                "once both disks are up to date and this node is the only Primary, run `rblk verify {name} --repair` \
                 again"
            )))
    }

    /// Waits until the verify is in another state than this, with a bar.
    fn wait(&self, client: &mut Client, state: &str) -> Result<Found> {
        let mut progress = Progress::new();
        loop {
            let status = client.status()?;
            let Some(found) = status.rblk.verify.clone() else {
                return Err(Error::new(Kind::Refused, format!("Cannot verify {}", self.name))
                    .why("the daemon was started anew meanwhile, and has forgotten it")
                    .remedy("start it again"));
            };
            if found.state != state {
                return Ok(found);
            }
            let (what, done, total) = stage(&found);
            let stage = format!("{what} of {}", self.name);
            progress.show(&stage, &detail(&status, &found), done, total);
            std::thread::sleep(POLL);
        }
    }

    fn failed(&self, found: &Found) -> Error {
        let name = &self.name;
        if found.state == "broken-off" {
            return Error::new(Kind::Io, format!("{name} is not verified"))
                .why("this node's disk was given up meanwhile")
                .remedy(format!(
                    "`rblk status {name}` and the log say why; verify again with a disk that works"
                ));
        }
        if found.state == "stopped" {
            return Error::new(Kind::Refused, format!("{name} is not verified"))
                .why("the verify was stopped")
                .remedy(format!("run `rblk verify {name}` again"));
        }
        let here = found.unreadable_bytes > 0;
        if found.differences.is_empty() && here {
            return Error::new(Kind::Io, format!("{name} is not as it should be"))
                .why("this node's disk cannot read some blocks")
                .remedy("look at the kernel log, and replace the disk");
        }
        if found.differences.is_empty() {
            return Error::new(Kind::Refused, format!("{name} is not verified as a whole"))
                .why("clients of the other node wrote to some blocks all the time")
                .remedy(format!("run `rblk verify {name}` there, or again when it is quieter"));
        }
        Error::new(Kind::Refused, format!("The disks of {name} are not equal"))
            .why("see the blocks above: one of the disks, or what lies between, has lost or changed data")
            .remedy(format!(
                "find out which node's data is right and check the other's disk; the former must be Primary, and there \
                 run `rblk verify {name} --repair`; where it has just been verified, `--repair --found` spares the time"
            ))
    }
}

/// The verify of a resource in one line, for its status; `None` if there was none.
pub(super) fn line(status: &Resource) -> Option<String> {
    let found = status.rblk.verify.as_ref()?;
    if ["running", "repairing"].contains(&found.state.as_str()) {
        let (what, done, total) = stage(found);
        let percent = done as f64 * 100.0 / total.max(1) as f64;
        let bar = units::bar(percent, units::BAR_COLUMNS);
        return Some(format!("{what} {bar} {percent:5.1} %  {}", detail(status, found)));
    }
    let ended = found.began_unix_ms.saturating_add(found.duration_ms).min(UNIX_MS_MAX) / 1000;
    let ended = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(ended));
    let early = match found.state.as_str() {
        "stopped" => Some("it was stopped".to_owned()),
        "broken-off" => Some("it was broken off, since this node's disk was given up".to_owned()),
        _ => None,
    };
    let clean = found.is_clean().then(|| "both disks hold the same".to_owned());
    let failings = failings(found).map(|(bytes, what)| format!("{bytes} {what}"));
    let words: Vec<String> = early.into_iter().chain(clean).chain(failings).collect();
    Some(format!("verified at {ended}: {}", words.join(", ")))
}

/// What was found wanting, with how much.
fn failings(found: &Found) -> impl Iterator<Item = (String, &'static str)> {
    let all = [
        (found.differing_bytes, "differ"),
        (found.unreadable_bytes, "cannot be read on this node's disk"),
        (found.peer_unreadable_bytes, "cannot be read on the other node's disk"),
        (found.busy_bytes, "left out: clients of the other node wrote there all the time"),
    ];
    let wanting = all.into_iter().filter(|(bytes, _)| *bytes > 0);
    wanting.map(|(bytes, what)| (units::bytes(bytes), what))
}

/// What is going on, how much of it is done, and of how much.
fn stage(found: &Found) -> (&'static str, u64, u64) {
    match found.state.as_str() {
        "repairing" => ("repair", found.repaired_bytes, found.repair_bytes),
        _ => ("verify", found.done_bytes, found.total_bytes),
    }
}

/// How far it is, in a few words.
fn detail(status: &Resource, found: &Found) -> String {
    if !status.synced() {
        return "waits for both disks".to_owned();
    }
    if found.state == "repairing" {
        let left = found.repair_bytes.saturating_sub(found.repaired_bytes);
        return format!("{} to copy to the other node", units::bytes(left));
    }
    let seconds = found.duration_ms as f64 / 1000.0;
    let rate = if seconds > 0.0 { found.done_bytes as f64 / seconds } else { 0.0 };
    let mut text = format!("{:.1} MiB/s", rate / f64::from(1 << 20));
    if rate > 0.0 {
        let left = found.total_bytes.saturating_sub(found.done_bytes) as f64 / rate;
        let _ = write!(text, ", {} left", units::seconds(left.ceil() as u64));
    }
    if found.differing_bytes > 0 {
        let _ = write!(text, ", {} differ", units::bytes(found.differing_bytes));
    }
    text
}

/// What was found, in lines.
fn report(name: &Name, found: &Found) -> String {
    let time = match found.duration_ms {
        ms if ms < 60_000 => units::duration(Duration::from_millis(ms)),
        ms => units::seconds(ms / 1000),
    };
    let done = units::bytes(found.done_bytes);
    let mut out = format!("{name}: {done} compared in {time}");
    for (bytes, what) in failings(found) {
        let _ = write!(out, "\n  {bytes} {what}");
    }
    for run in found.differences.iter().take(TOLD) {
        let _ = write!(out, "\n    at byte {}: {}", run.offset, units::bytes(run.bytes));
    }
    let more = found.differences.len().saturating_sub(TOLD) as u64 + found.more_differences;
    if more > 0 {
        let _ = write!(out, "\n    and {more} more places");
    }
    if found.is_clean() {
        out.push_str(": both disks hold the same");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::status::Difference;

    fn name() -> Name {
        Name::parse("swarm").expect("valid")
    }

    #[test]
    fn a_clean_volume_is_one_line() {
        let found = Found {
            state: "done".to_owned(),
            duration_ms: 2000,
            total_bytes: 1 << 30,
            done_bytes: 1 << 30,
            ..Found::default()
        };
        assert_eq!(
            report(&name(), &found),
            "swarm: 1.0 GiB compared in 2.00 s: both disks hold the same"
        );
    }

    #[test]
    fn what_differs_is_listed() {
        let found = Found {
            state: "done".to_owned(),
            differing_bytes: 8192,
            differences: (0..20).map(|at| Difference { offset: at << 20, bytes: 4096 }).collect(),
            more_differences: 3,
            ..Found::default()
        };
        let text = report(&name(), &found);
        assert!(!found.is_clean());
        for part in ["8.0 KiB differ", "at byte 1048576: 4.0 KiB", "and 7 more places"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
