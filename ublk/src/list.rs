//! The ublk devices of this machine, whoever made them.

use crate::command::Commands;
use crate::error::Error;
use crate::sys;
use std::fs;

/// Where a device is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceState {
    /// Not started, or stopped and not deleted.
    Dead,
    /// Served.
    Live,
    /// Without a server: clients wait for one that recovers it.
    Quiesced,
    /// Without a server: clients get errors.
    FailIo,
    /// A state that this version does not know.
    Unknown(u16),
}

impl DeviceState {
    pub(crate) fn from_kernel(state: u16) -> DeviceState {
        match u32::from(state) {
            sys::UBLK_S_DEV_DEAD => DeviceState::Dead,
            sys::UBLK_S_DEV_LIVE => DeviceState::Live,
            sys::UBLK_S_DEV_QUIESCED => DeviceState::Quiesced,
            sys::UBLK_S_DEV_FAIL_IO => DeviceState::FailIo,
            _ => DeviceState::Unknown(state),
        }
    }
}

/// A device as the driver describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// N of `/dev/ublkbN`.
    pub id: u32,
    /// Where it is in its life.
    pub state: DeviceState,
    /// The process that serves it or did so last.
    pub server_pid: i32,
    /// Its size, in sectors of 512 bytes.
    pub sectors: u64,
}

/// Asks for device `id`; `None` if there is none.
///
/// # Errors
/// [`Error::Unavailable`] without ublk, else what the driver said.
pub fn device_info(id: u32) -> Result<Option<DeviceInfo>, Error> {
    describe(&mut Commands::open()?, id)
}

/// All devices, by number.
///
/// # Errors
/// As [`device_info`].
pub fn devices() -> Result<Vec<DeviceInfo>, Error> {
    let mut commands = Commands::open()?;
    let entries = fs::read_dir("/sys/class/ublk-char").map_err(|source| Error::Io {
        what: "Listing /sys/class/ublk-char failed".to_owned(),
        source,
    })?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ids: Vec<u32> =
        names.filter_map(|name| name.strip_prefix("ublkc")?.parse().ok()).collect();
    ids.sort_unstable();
    let mut found = Vec::new();
    for id in ids {
        found.extend(describe(&mut commands, id)?);
    }
    Ok(found)
}

fn describe(commands: &mut Commands, id: u32) -> Result<Option<DeviceInfo>, Error> {
    let info = match commands.info(id) {
        Ok(info) => info,
        Err(Error::Refused { errno: libc::ENODEV, .. }) => return Ok(None),
        Err(other) => return Err(other),
    };
    // A device without parameters yet has no size.
    let sectors = commands.params(id).map_or(0, |params| params.basic.dev_sectors);
    Ok(Some(DeviceInfo {
        id,
        state: DeviceState::from_kernel(info.state),
        server_pid: info.ublksrv_pid,
        sectors,
    }))
}
