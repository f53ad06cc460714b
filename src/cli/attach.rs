//! `rblk attach`: arguments of the daemon.

use super::{Place, name_argument};
use crate::config::Name;
use crate::daemon::{self, AttachOptions, FrontChoice};
use crate::error::{Error, Kind, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What the kernel offers where it has ublk.
const UBLK_CONTROL: &str = "/dev/ublk-control";

const AFTER_HELP: &str = "\
Example, in the foreground, as a service manager runs it:
  rblk attach swarm --primary

Example without ublk in the kernel, for nbd-client, QEMU or nbdcopy:
  rblk attach swarm --front nbd=unix:/run/rblk/swarm.nbd --primary";

/// Run the resource in the foreground until it is detached
///
/// Opens the disk, replays the activity log, connects to the other node and,
/// while Primary, serves the volume. Normally systemd starts it.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Attach {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// How clients reach the volume: `ublk`, `nbd=unix:PATH` or `nbd=tcp:IP:PORT`
    /// [default: ublk]
    #[arg(long, value_name = "FRONT", value_parser = front_argument)]
    front: Option<FrontChoice>,
    /// Become Primary as soon as that is safe
    #[arg(long)]
    primary: bool,
    /// Faults to inject, for tests
    #[arg(long, value_name = "SPEC", hide = true)]
    faults: Option<String>,
}

impl Attach {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let config = place.load(&self.name)?;
        let node = config.local(place.node.as_deref())?;
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map_err(|error| Error::io(format!("Cannot use {}", path.display()), error))
        };
        let front = match self.front {
            Some(FrontChoice::NbdUnix(path)) => FrontChoice::NbdUnix(absolute(&path)?),
            Some(front) => front,
            None => default_front(&self.name)?,
        };
        let primary = self.primary || config.promote_at_start;
        let run_dir = absolute(&place.run_dir)?;
        let faults = self.faults;
        daemon::run(AttachOptions { config, node, run_dir, front, primary, faults })
    }
}

fn default_front(name: &Name) -> Result<FrontChoice> {
    if Path::new(UBLK_CONTROL).exists() {
        return Ok(FrontChoice::Ublk);
    }
    Err(Error::new(Kind::Unavailable, format!("Cannot attach {name} as a ublk device"))
        .why(format!("the kernel offers none: there is no {UBLK_CONTROL}"))
        .remedy("run `modprobe ublk_drv`, or add --front nbd=unix:PATH"))
}

fn front_argument(text: &str) -> std::result::Result<FrontChoice, String> {
    if text == "ublk" {
        return Ok(FrontChoice::Ublk);
    }
    if let Some(path) = text.strip_prefix("nbd=unix:").filter(|path| !path.is_empty()) {
        return Ok(FrontChoice::NbdUnix(PathBuf::from(path)));
    }
    let address = text.strip_prefix("nbd=tcp:").and_then(|rest| rest.parse::<SocketAddr>().ok());
    address.map(FrontChoice::NbdTcp).ok_or_else(|| {
        "expected ublk, nbd=unix:PATH or nbd=tcp:IP:PORT such as nbd=tcp:127.0.0.1:10809".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fronts_are_told_from_nonsense() {
        assert_eq!(front_argument("ublk"), Ok(FrontChoice::Ublk));
        let unix = FrontChoice::NbdUnix(PathBuf::from("/run/x"));
        assert_eq!(front_argument("nbd=unix:/run/x"), Ok(unix));
        assert!(matches!(front_argument("nbd=tcp:[::1]:10809"), Ok(FrontChoice::NbdTcp(_))));
        for bad in ["", "nbd", "nbd=unix:", "nbd=tcp:10809", "nbd=tcp:host:1", "iscsi"] {
            assert!(front_argument(bad).is_err(), "{bad}");
        }
    }
}
