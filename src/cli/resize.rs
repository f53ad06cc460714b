//! `rblk resize`: let a volume grow into larger disks.

use super::{Place, name_argument, say, units};
use crate::config::Name;
use crate::ctl::client::Client;
use crate::ctl::proto::Request;
use crate::error::{Error, Kind, Result};
use crate::limits::RESIZE_WAIT_MS;
use std::time::{Duration, Instant};

const AFTER_HELP: &str = "\
Example, on both nodes:
  lvextend -L +100G vg/swarm
then, first on the Secondary, and when that is done on the Primary:
  systemctl restart rblk@swarm
  rblk wait swarm synced
then on the Secondary:
  rblk resize swarm
and where it is mounted:
  resize2fs /dev/rblk/swarm

Exit codes: 0 the volume has grown, 1 anything else.";

/// Let a volume grow, while it is in use, into the room that both disks have
///
/// It becomes as large as the smaller disk allows. The order is for a Secondary:
/// it leaves the other node for a moment. What is added is copied from the Primary
/// then. Clients of /dev/rblk/NAME see the new size at once (Linux 6.16 and newer;
/// before that, and by NBD, when they open it anew). A volume never shrinks: make
/// a smaller one and copy.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Resize {
    /// Resource
    #[arg(value_parser = name_argument)]
    name: Name,
}

impl Resize {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        let name = &self.name;
        let mut client = Client::connect(&place.run_dir, name.as_str())?;
        let before = client.status()?.device().size;
        client.command(&Request::Resize)?;
        let until = Instant::now() + Duration::from_millis(RESIZE_WAIT_MS);
        loop {
            let status = client.status()?;
            let size = status.device().size;
            if size > before && status.connected() {
                let (before, now) = (units::bytes(before * 1024), units::bytes(size * 1024));
                say(&format!(
                    "{name} has grown from {before} to {now} on both nodes. What is added is being copied: `rblk wait \
                     {name} synced`."
                ));
                return Ok(());
            }
            if Instant::now() > until {
                let what =
                    format!("It is not known yet whether {name} has grown on the other node, too");
                return Err(Error::new(Kind::Refused, what)
                    .why("the nodes have not met again since this one has")
                    .remedy(format!(
                        "see `rblk explain {name}`: the other node follows as soon as they are connected, and clients \
                         see the new size then"
                    )));
            }
            std::thread::sleep(super::POLL);
        }
    }
}
