//! `rblk wait`: until a state is reached, for scripts.

use super::progress::Progress;
use super::{POLL, Place, name_argument, render, say, units};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::status::{ConnectionState, Resource};
use crate::error::{Error, Kind, Result};
use std::time::{Duration, Instant};

const AFTER_HELP: &str = "\
Example, in a script that shuts the other node down:
  rblk wait swarm synced --timeout 600 || exit 1

Exit codes: 0 reached, 5 not reached in time, 1 anything else.";

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Until {
    /// The nodes are connected
    Connected,
    /// This node's disk has the newest data
    Uptodate,
    /// Connected, both disks have the newest data, nothing is left to copy
    Synced,
}

/// Wait until a state is reached
///
/// A daemon that does not run yet is waited for.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Wait {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// State
    #[arg(value_enum)]
    until: Until,
    /// Give up after S seconds; without it, wait for ever
    #[arg(long, value_name = "S", value_parser = timeout_argument)]
    timeout: Option<Duration>,
}

impl Wait {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut progress = Progress::new();
        let mut client = None;
        loop {
            let seen = self.look(place, &mut client, deadline)?;
            if seen.as_ref().is_some_and(|status| self.reached(status)) {
                drop(progress);
                say(&format!("{} is {}.", self.name, self.word()));
                return Ok(());
            }
            let stage = show(&mut progress, &self.name, seen.as_ref());
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                drop(progress);
                return Err(self.too_late(&stage));
            }
            std::thread::sleep(left.unwrap_or(POLL).min(POLL));
        }
    }

    /// The status; `None` while there is no daemon.
    fn look(
        &self,
        place: &Place,
        client: &mut Option<Client>,
        deadline: Option<Instant>,
    ) -> Result<Option<Resource>> {
        if client.is_none() {
            match Client::connect(&place.run_dir, self.name.as_str()) {
                Ok(new) => *client = Some(new),
                Err(error) if error.kind() == Kind::NotRunning => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        // Never longer than the user waits, but long enough for an answer if there is one.
        let left =
            deadline.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        match client.as_mut().map(|client| client.status_within(left.max(POLL))) {
            Some(Ok(status)) => Ok(Some(status)),
            // It may have ended between two questions: the next look finds out.
            Some(Err(error)) if error.kind() == Kind::Io => {
                *client = None;
                Ok(None)
            }
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }

    fn reached(&self, status: &Resource) -> bool {
        match self.until {
            Until::Connected => status.connected(),
            Until::Uptodate => status.up_to_date(),
            Until::Synced => status.synced(),
        }
    }

    fn word(&self) -> &'static str {
        match self.until {
            Until::Connected => "connected",
            Until::Uptodate => "up to date",
            Until::Synced => "in sync",
        }
    }

    fn too_late(&self, stage: &str) -> Error {
        let timeout = units::duration(self.timeout.unwrap_or_default());
        Error::new(Kind::Timeout, format!("{} is not {}", self.name, self.word()))
            .why(format!("after {timeout}: {stage}"))
            .remedy(format!("look at `rblk status {}`", self.name))
    }
}

/// Shows where the resource stands and returns it in words.
fn show(progress: &mut Progress, name: &Name, seen: Option<&Resource>) -> String {
    let Some(status) = seen else {
        let stage = format!("the daemon of {name} does not run");
        progress.show(&stage, "", 0, 0);
        return stage;
    };
    let peer = status.connection();
    let device = peer.peer_devices.first().cloned().unwrap_or_default();
    let stage = match peer.connection_state {
        ConnectionState::Connected => format!(
            "{name} disk:{} peer-disk:{} replication:{}",
            status.device().disk_state,
            device.peer_disk_state,
            device.replication_state
        ),
        state => format!("{name} disk:{} connection:{state}", status.device().disk_state),
    };
    match &device.sync {
        None => progress.show(&stage, "", 0, 0),
        Some(sync) => {
            let done = sync.rs_total.saturating_sub(device.out_of_sync);
            progress.show(&stage, render::sync_line(sync).trim_start(), done, sync.rs_total);
        }
    }
    stage
}

fn timeout_argument(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|s| (0.0..=1e9).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected seconds, 0 to 1000000000".to_owned())
}
