//! `rblk events`: changes of state as they happen, for programs that react to them.

use super::{Place, name_argument, say};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::proto::Event;
use crate::error::{Error, Kind, Result};
use crate::limits::UNIX_MS_MAX;
use std::io::{ErrorKind, Write};
use std::time::Duration;

const AFTER_HELP: &str = "\
Example, to be told when the peer is lost or back:
  rblk events swarm | grep --line-buffered '^change connection'

One line per object and change, in the form of `drbdsetup events2`:
  exists resource name:swarm role:Primary suspended:no
  ...
  exists -
  change connection name:swarm peer-node-id:1 conn-name:docker2 connection:Connecting role:Unknown";

/// Show changes of state as they happen
///
/// First what is now, ended by `exists -`, then each change. Ends with the
/// daemon.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Events {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
    /// Only what is now
    #[arg(long)]
    now: bool,
    /// The time before each line
    #[arg(long)]
    timestamps: bool,
}

impl Events {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let mut client = Client::connect(&place.run_dir, self.name.as_str())?;
        let (events, mut next, _) = client.events(None)?;
        let mut watched = self.show(&events)? && !self.now;
        while watched {
            let (events, after, missed) = match client.events(Some(next)) {
                Ok(answer) => answer,
                Err(error) if error.kind() == Kind::NotRunning || self.has_ended(place) => {
                    write(&format!("destroy resource name:{}", self.name))?;
                    break;
                }
                Err(error) => return Err(error),
            };
            if missed > 0 {
                say(&format!("{missed} changes happened too fast to be shown."));
            }
            watched = self.show(&events)?;
            next = after;
        }
        Ok(())
    }

    /// A daemon that ends takes its socket away before it hangs up.
    fn has_ended(&self, place: &Place) -> bool {
        let again = Client::connect(&place.run_dir, self.name.as_str());
        again.is_err_and(|error| error.kind() == Kind::NotRunning)
    }

    /// False if nobody reads any more.
    fn show(&self, events: &[Event]) -> Result<bool> {
        for event in events {
            let time =
                std::time::UNIX_EPOCH + Duration::from_millis(event.unix_ms.min(UNIX_MS_MAX));
            let line = match self.timestamps {
                true => format!("{} {}", humantime::format_rfc3339_millis(time), event.line),
                false => event.line.clone(),
            };
            if !write(&line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A line on standard output; false if nobody reads any more.
fn write(line: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::io("Cannot write to standard output", error)),
    }
}
