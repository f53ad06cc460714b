//! Control commands on a small ring of our own, each with a deadline.
//!
//! libublk adds a device and sets its parameters. For every other command it gets in the way: it waits
//! without limit, takes an interrupted wait for the command's end, hides the error number behind a
//! second attempt with the old encoding, reports to stderr, and keeps state in `/run/ublksrvd`, a
//! directory that it makes writable to all and whose files it writes as root. Its recovery depends on
//! those files; ours on nothing but the device's number.

use crate::error::Error;
use crate::features::{Unavailable, open_control};
use crate::sys;
use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue, types};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// How long a command may take that only looks something up.
pub(crate) const LOOKUP: Duration = Duration::from_secs(10);

/// A ring for control commands. One command at a time.
pub(crate) struct Commands {
    ring: IoUring<squeue::Entry128>,
    control: File,
    sent: u64,
    answer: Box<Answer>,
}

/// Where the kernel puts what it is asked for.
#[derive(Default)]
struct Answer {
    features: u64,
    info: sys::ublksrv_ctrl_dev_info,
    params: sys::ublk_params,
}

/// A command without its device: encoded number, the kernel's name for it, and one argument.
#[derive(Clone, Copy)]
pub(crate) struct Command {
    code: u32,
    name: &'static str,
    argument: u64,
}

impl Command {
    pub(crate) const STOP: Command = Command::new(sys::UBLK_U_CMD_STOP_DEV, "STOP_DEV");
    pub(crate) const TRY_STOP: Command = Command::new(sys::UBLK_U_CMD_TRY_STOP_DEV, "TRY_STOP_DEV");
    pub(crate) const DELETE: Command = Command::new(sys::UBLK_U_CMD_DEL_DEV_ASYNC, "DEL_DEV_ASYNC");
    pub(crate) const START_RECOVERY: Command =
        Command::new(sys::UBLK_U_CMD_START_USER_RECOVERY, "START_USER_RECOVERY");
    const FEATURES: Command = Command::new(sys::UBLK_U_CMD_GET_FEATURES, "GET_FEATURES");
    const INFO: Command = Command::new(sys::UBLK_U_CMD_GET_DEV_INFO, "GET_DEV_INFO");
    const PARAMS: Command = Command::new(sys::UBLK_U_CMD_GET_PARAMS, "GET_PARAMS");

    const fn new(code: u32, name: &'static str) -> Command {
        Command { code, name, argument: 0 }
    }

    /// Starts a new device, to be served by this process.
    pub(crate) fn start() -> Command {
        let argument = u64::from(std::process::id());
        Command { argument, ..Command::new(sys::UBLK_U_CMD_START_DEV, "START_DEV") }
    }

    /// Ends the recovery of a device, to be served by this process.
    pub(crate) fn end_recovery() -> Command {
        let command = Command::new(sys::UBLK_U_CMD_END_USER_RECOVERY, "END_USER_RECOVERY");
        Command { argument: u64::from(std::process::id()), ..command }
    }

    /// A device that is started has this many sectors from now on. The number comes from Linux 6.16 (`ublk_cmd.h`).
    pub(crate) fn update_size(sectors: u64) -> Command {
        let command = Command::new(sys::UBLK_U_CMD_UPDATE_SIZE, "UPDATE_SIZE");
        Command { argument: sectors, ..command }
    }
}

impl Commands {
    /// Opens the control device; an [`Unavailable`] says why that is not possible.
    pub(crate) fn open() -> Result<Commands, Error> {
        let control = open_control()?;
        let ring = IoUring::<squeue::Entry128>::builder()
            .setup_r_disabled()
            .build(4)
            .map_err(|error| Unavailable::NoIoUring(error.to_string()))?;
        // Commands for drivers and nothing else, of all that a ring can do. A kernel that takes no list does without.
        let _ = ring
            .submitter()
            .register_restrictions(&mut [Restriction::sqe_op(opcode::UringCmd80::CODE)]);
        ring.submitter()
            .register_enable_rings()
            .map_err(|error| Unavailable::NoIoUring(error.to_string()))?;
        Ok(Commands { ring, control, sent: 0, answer: Box::default() })
    }

    /// Asks what the driver can do.
    pub(crate) fn features(&mut self) -> Result<u64, Error> {
        let at = &raw mut self.answer.features as u64;
        self.run(u32::MAX, Command::FEATURES, Some((at, size_of::<u64>())), LOOKUP)?;
        Ok(self.answer.features)
    }

    /// Asks for the state of device `id`; ENODEV if there is none.
    pub(crate) fn info(&mut self, id: u32) -> Result<sys::ublksrv_ctrl_dev_info, Error> {
        let at = &raw mut self.answer.info as u64;
        let bytes = size_of::<sys::ublksrv_ctrl_dev_info>();
        self.run(id, Command::INFO, Some((at, bytes)), LOOKUP)?;
        Ok(self.answer.info)
    }

    /// Asks for the parameters of device `id`.
    pub(crate) fn params(&mut self, id: u32) -> Result<sys::ublk_params, Error> {
        let bytes = size_of::<sys::ublk_params>();
        self.answer.params = sys::ublk_params { len: bytes as u32, ..Default::default() };
        let at = &raw mut self.answer.params as u64;
        self.run(id, Command::PARAMS, Some((at, bytes)), LOOKUP)?;
        Ok(self.answer.params)
    }

    /// Gives device `id` a command and waits for its end, at most `limit`.
    pub(crate) fn send(&mut self, id: u32, command: Command, limit: Duration) -> Result<(), Error> {
        self.run(id, command, None, limit)
    }

    /// Runs a command; `into` is where it writes to: address within `answer` and length.
    fn run(
        &mut self,
        id: u32,
        command: Command,
        into: Option<(u64, usize)>,
        limit: Duration,
    ) -> Result<(), Error> {
        let name = command.name;
        self.sent += 1;
        let entry = opcode::UringCmd80::new(types::Fd(self.control.as_raw_fd()), command.code)
            .cmd(encode(id, command.argument, into))
            .build()
            .user_data(self.sent);
        // SAFETY: the command writes at most to `self.answer`, which lives until the command has ended:
        // `wait` keeps it out of reach if it gives up earlier. One command is sent at a time, so the
        // queue of four has room.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            return Err(Error::Timeout { command: name });
        }
        match self.wait(limit)? {
            None => {
                // The kernel may still write the answer: leave it that memory for good.
                Box::leak(std::mem::take(&mut self.answer));
                Err(Error::Timeout { command: name })
            }
            Some(result) if result < 0 => Err(Error::Refused { command: name, errno: -result }),
            Some(_) => Ok(()),
        }
    }

    /// The result of the command sent last; `None` if it has not ended within `limit`.
    fn wait(&mut self, limit: Duration) -> Result<Option<i32>, Error> {
        let deadline = Instant::now() + limit;
        loop {
            let sent = self.sent;
            // Ends of commands that were given up earlier are skipped.
            if let Some(end) = self.ring.completion().find(|end| end.user_data() == sent) {
                return Ok(Some(end.result()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout = types::Timespec::from(left);
            let arguments = types::SubmitArgs::new().timespec(&timeout);
            match self.ring.submitter().submit_with_args(1, &arguments) {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(source) => {
                    let what = "Waiting for the ublk driver failed".to_owned();
                    return Err(Error::Io { what, source });
                }
            }
        }
    }
}

/// True for an end of waiting that is no failure.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// `struct ublksrv_ctrl_cmd`, at the front of a command of 80 bytes.
fn encode(id: u32, argument: u64, into: Option<(u64, usize)>) -> [u8; 80] {
    let (address, bytes) = into.unwrap_or((0, 0));
    let mut command = [0; 80];
    command[0..4].copy_from_slice(&id.to_ne_bytes());
    command[4..6].copy_from_slice(&u16::MAX.to_ne_bytes()); // no queue
    command[6..8].copy_from_slice(&(bytes as u16).to_ne_bytes());
    command[8..16].copy_from_slice(&address.to_ne_bytes());
    command[16..24].copy_from_slice(&argument.to_ne_bytes());
    command
}
