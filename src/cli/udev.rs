//! `rblk udev`: which resource a ublk device belongs to, for the rule that names it.

use super::{Place, print};
use crate::ctl::server;
use crate::error::Result;
use crate::front::ublk::Record;

/// Print RBLK_NAME=NAME if a daemon of this node serves the device
#[derive(clap::Args)]
pub(super) struct Udev {
    /// N of /dev/ublkbN
    number: u32,
}

impl Udev {
    pub(super) fn run(self, place: &Place) -> Result<()> {
        // Without a daemon the number may have become somebody else's.
        let names = Record::names_of(&place.run_dir, self.number);
        match names.iter().find(|name| server::runs(&place.run_dir, name)) {
            Some(name) => print(&format!("RBLK_NAME={name}")),
            None => Ok(()), // somebody else's device
        }
    }
}
