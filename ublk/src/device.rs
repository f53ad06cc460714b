//! Making a device, taking one over, and its control half.

use crate::command::{Command, Commands};
use crate::error::Error;
use crate::features::{Features, available};
use crate::list::DeviceState;
use crate::options::Options;
use crate::queue::Queue;
use crate::request::Bounds;
use crate::signals::SignalsBlocked;
use crate::sys;
use libublk::{UblkError, UblkFlags, ctrl::UblkCtrlBuilder};
use std::fs::File;
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

/// The kernel lets go of a dead server's queue only when its ring has been torn down, which takes as
/// long as its slowest request to the disk below: half a minute is what disks retry for.
const TAKEOVER: Duration = Duration::from_secs(40);
/// udev may rename or chown the node before we can open it.
const NODE: Duration = Duration::from_secs(5);
/// Between two attempts at something that another process or the kernel must do first.
const PAUSE: Duration = Duration::from_millis(10);

/// A device that is not started yet: a control half and an I/O half, for two threads.
pub struct Device {
    /// Starts, stops and deletes it.
    pub control: Control,
    /// Serves it.
    pub queue: Queue,
}

impl Device {
    /// Makes a new device; the kernel chooses its number. It is not there for clients before
    /// [`Control::start`]. Blocks for milliseconds, or up to 5 s if the device node is late.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without ublk, [`Error::Invalid`] for impossible options, else what the
    /// driver or the system said. Nothing is left behind.
    pub fn create(options: &Options) -> Result<Device, Error> {
        let params = options.params()?;
        let features = available()?;
        let commands = Commands::open()?;
        let flags = sys::UBLK_F_USER_RECOVERY
            | sys::UBLK_F_USER_RECOVERY_REISSUE
            | sys::UBLK_F_CMD_IOCTL_ENCODE;
        let _quiet = SignalsBlocked::new();
        // Dropped before `disown`, this deletes the device again.
        let added = UblkCtrlBuilder::default()
            .name("rblk")
            .nr_queues(1)
            .depth(options.depth)
            .io_buf_bytes(options.buffer_bytes)
            .ctrl_flags(u64::from(flags))
            .dev_flags(UblkFlags::UBLK_DEV_F_ADD_DEV | UblkFlags::UBLK_DEV_F_DEL_DEV_ASYNC)
            .build()
            .map_err(|error| from_libublk("ADD_DEV", error))?;
        let info = added.dev_info();
        check_granted(&info, options)?;
        added.set_params(&params).map_err(|error| from_libublk("SET_PARAMS", error))?;
        let queue = open_queue(info.dev_id, options)?;
        added.disown();
        let control = Control { id: info.dev_id, features, commands, recovering: false };
        Ok(Device { control, queue })
    }

    /// Takes over device `id`, whose server has died or left. Clients that wait go on once it is
    /// started, and what the last server had not answered comes again. It may be smaller than in `options`, and
    /// is until [`Control::grow`]. Waits up to 40 s for the kernel to let go of a dead server.
    ///
    /// # Errors
    /// As [`Device::create`]; [`Error::Invalid`] if the device is being served, or does not look as in
    /// `options`.
    pub fn recover(id: u32, options: &Options) -> Result<Device, Error> {
        let wanted = options.params()?;
        let features = available()?;
        let mut commands = Commands::open()?;
        let info = commands.info(id)?;
        check_granted(&info, options)?;
        check_same(id, &commands.params(id)?, &wanted)?;
        start_recovery(&mut commands, id)?;
        let queue = open_queue(id, options)?;
        Ok(Device { control: Control { id, features, commands, recovering: true }, queue })
    }
}

/// The control half of a device. Dropping it leaves the device as it is.
pub struct Control {
    id: u32,
    features: Features,
    commands: Commands,
    recovering: bool,
}

impl Control {
    /// The control half of device `id` as it is, to stop and delete one that nobody will serve again.
    /// Not for [`Control::start`].
    ///
    /// # Errors
    /// As [`Device::recover`] for a device that is not there.
    pub fn open(id: u32) -> Result<Control, Error> {
        let features = available()?;
        let mut commands = Commands::open()?;
        commands.info(id)?;
        Ok(Control { id, features, commands, recovering: false })
    }

    /// The device's number: N of `/dev/ublkbN`. Record it: it is what [`Device::recover`] needs.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The device as clients open it.
    pub fn path(&self) -> String {
        format!("/dev/ublkb{}", self.id)
    }

    /// What the driver can do.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Makes the device appear, or go on after a recovery. Returns when all tags are armed and the
    /// device exists; the kernel may read from it before.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `limit`: most likely the tags are not armed or the server does not
    /// serve.
    pub fn start(&mut self, limit: Duration) -> Result<(), Error> {
        let command = if self.recovering { Command::end_recovery() } else { Command::start() };
        self.commands.send(self.id, command, limit)?;
        self.recovering = false;
        Ok(())
    }

    /// Lets a started device have so many sectors: clients see it at once. False if it had them already.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has more. [`Error::TooOld`] before Linux 6.16.
    pub fn grow(&mut self, sectors: u64, limit: Duration) -> Result<bool, Error> {
        let has = self.commands.params(self.id)?.basic.dev_sectors;
        if has == sectors {
            return Ok(false);
        }
        if has > sectors {
            let id = self.id;
            return Err(Error::Invalid(format!(
                "Device {id} has {has} sectors, and would shrink to {sectors}"
            )));
        }
        if !self.features.update_size() {
            return Err(Error::TooOld { needs: "6.16", what: "change the size of a device" });
        }
        self.commands.send(self.id, Command::update_size(sectors), limit)?;
        Ok(true)
    }

    /// Takes the device away, whoever has it open. Returns when all requests in flight are answered by
    /// the server, which must go on serving meanwhile.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `limit`; the driver goes on with it all the same.
    pub fn stop(&mut self, limit: Duration) -> Result<(), Error> {
        self.commands.send(self.id, Command::STOP, limit)
    }

    /// As [`Control::stop`], but not if somebody has the device open. Kernels before 7.0 cannot do the
    /// two in one step: there it is for the caller to ask [`crate::openers`] first, and this just stops.
    ///
    /// # Errors
    /// [`Error::InUse`] if somebody has.
    pub fn stop_unless_open(&mut self, limit: Duration) -> Result<(), Error> {
        if !self.features.stop_unless_open() {
            return self.stop(limit);
        }
        match self.commands.send(self.id, Command::TRY_STOP, limit) {
            Err(Error::Refused { errno: libc::EBUSY, .. }) => Err(Error::InUse),
            other => other,
        }
    }

    /// Gives the device's number back. It is really free when the last opener and the [`Queue`] are
    /// gone, for which this does not wait. Stops the device first if need be, as [`Control::stop`] does.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `limit`.
    pub fn delete(&mut self, limit: Duration) -> Result<(), Error> {
        self.commands.send(self.id, Command::DELETE, limit)
    }
}

/// Refuses a device whose driver dropped a flag that we rely on, or that was made otherwise.
fn check_granted(info: &sys::ublksrv_ctrl_dev_info, options: &Options) -> Result<(), Error> {
    let id = info.dev_id;
    if !Features(info.flags).reissue() {
        return Err(Error::Invalid(format!("Device {id} cannot be handed to a next server")));
    }
    let has = (info.nr_hw_queues, info.queue_depth, info.max_io_buf_bytes);
    let wanted = (1, options.depth, options.buffer_bytes);
    if has != wanted {
        return Err(Error::Invalid(format!(
            "Device {id} has (queues, depth, buffer bytes) {has:?} instead of {wanted:?}: stop it and \
             make it anew"
        )));
    }
    Ok(())
}

/// Refuses a device that is not the one we would have made, or a smaller one: its clients know its size and blocks.
fn check_same(id: u32, has: &sys::ublk_params, wanted: &sys::ublk_params) -> Result<(), Error> {
    let key = |params: &sys::ublk_params| {
        let basic = params.basic;
        (basic.logical_bs_shift, basic.max_sectors, basic.attrs)
    };
    let sectors = |params: &sys::ublk_params| params.basic.dev_sectors;
    if key(has) == key(wanted) && sectors(has) <= sectors(wanted) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "Device {id} has {} sectors and (block shift, sectors of a request, attributes) {:?} instead of {} and {:?}: \
         stop it and make it anew",
        sectors(has),
        key(has),
        sectors(wanted),
        key(wanted),
    )))
}

/// Tells the driver that we are the next server, as soon as it has let go of the last.
fn start_recovery(commands: &mut Commands, id: u32) -> Result<(), Error> {
    let deadline = Instant::now() + TAKEOVER;
    loop {
        match commands.send(id, Command::START_RECOVERY, TAKEOVER) {
            Err(Error::Refused { errno: libc::EBUSY, .. }) if Instant::now() < deadline => {
                // Busy is a live server as well as one that is being torn down.
                let info = commands.info(id)?;
                let owner = u32::try_from(info.ublksrv_pid).unwrap_or(0);
                if DeviceState::from_kernel(info.state) == DeviceState::Live && is_alive(owner) {
                    return Err(Error::Invalid(format!(
                        "Device {id} is served by process {owner}"
                    )));
                }
                thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

/// True if a process runs, zombies aside: they hold no device.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold anything.
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// Opens the character device of a device and maps its descriptors.
fn open_queue(id: u32, options: &Options) -> Result<Queue, Error> {
    let path = format!("/dev/ublkc{id}");
    let deadline = Instant::now() + NODE;
    let device = loop {
        match File::options().read(true).write(true).open(&path) {
            Ok(device) => break device,
            Err(error) if is_early(&error) && Instant::now() < deadline => thread::sleep(PAUSE),
            Err(source) => {
                return Err(Error::Io { what: format!("Opening {path} failed"), source });
            }
        }
    };
    let buffer_sectors = options.buffer_bytes / sys::SECTOR_BYTES;
    Queue::new(device, options.depth, Bounds { sectors: options.sectors, buffer_sectors })
}

/// True if a device node may yet come or become free.
fn is_early(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ResourceBusy
    )
}

/// libublk's error in our words.
fn from_libublk(command: &'static str, error: UblkError) -> Error {
    match error {
        UblkError::UringIOError(result) | UblkError::OtherError(result) => {
            Error::Refused { command, errno: result.saturating_neg() }
        }
        UblkError::IOError(source) => Error::Io { what: format!("{command} failed"), source },
        other => Error::Invalid(format!("{command} failed: {other}")),
    }
}
