//! Whether this machine has ublk, what its driver can do, and if not, what to do about it.

use crate::command::Commands;
use crate::error::Error;
use crate::sys;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::{fmt, io};

/// What the driver can do: the kernel's `UBLK_F_` bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features(pub u64);

impl Features {
    /// A device outlives its server, and requests in flight are sent again to the next one (Linux 6.1).
    pub fn reissue(self) -> bool {
        let both = sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_USER_RECOVERY_REISSUE;
        self.0 & u64::from(both) == u64::from(both)
    }

    /// A device can grow while it is used (Linux 6.16).
    pub fn update_size(self) -> bool {
        self.0 & u64::from(sys::UBLK_F_UPDATE_SIZE) != 0
    }

    /// A device can be stopped unless somebody has it open (Linux 7.0).
    pub fn stop_unless_open(self) -> bool {
        self.0 & u64::from(sys::UBLK_F_SAFE_STOP_DEV) != 0
    }
}

/// Why there is no ublk here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unavailable {
    /// The module is there, but not loaded.
    NotLoaded,
    /// The kernel was built without the driver.
    NotBuilt {
        /// Of the kernel.
        release: String,
    },
    /// The driver is loaded, but its control device is not in this `/dev`.
    NoControlDevice,
    /// We may not open the control device.
    NoPermission,
    /// The driver lacks what a safe restart needs.
    TooOld {
        /// Of the kernel.
        release: String,
    },
    /// `io_uring` is forbidden or missing: the reason.
    NoIoUring(String),
    /// Opening the control device failed otherwise: the reason.
    Other(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::NotLoaded => f.write_str(
                "The kernel module ublk_drv is not loaded: run `modprobe ublk_drv`, and name it in \
                 /etc/modules-load.d to have it after a reboot",
            ),
            Unavailable::NotBuilt { release } => write!(
                f,
                "Kernel {release} has no ublk driver: install one with CONFIG_BLK_DEV_UBLK, Linux \
                 6.9 or newer (Debian 13, or its backports)",
            ),
            Unavailable::NoControlDevice => write!(
                f,
                "The ublk driver is loaded, but {} is missing: give this container the device",
                sys::CONTROL_PATH,
            ),
            Unavailable::NoPermission => write!(
                f,
                "Opening {} is not permitted: run as root, or with CAP_SYS_ADMIN and access to it",
                sys::CONTROL_PATH,
            ),
            Unavailable::TooOld { release } => write!(
                f,
                "The ublk driver of kernel {release} cannot hand a device to a restarted server: \
                 use Linux 6.9 or newer",
            ),
            Unavailable::NoIoUring(why) => write!(
                f,
                "io_uring is not usable ({why}): set sysctl kernel.io_uring_disabled to 0, and let a \
                 container's seccomp profile allow it",
            ),
            Unavailable::Other(why) => write!(f, "Opening {} failed: {why}", sys::CONTROL_PATH),
        }
    }
}

impl std::error::Error for Unavailable {}

/// Asks the driver what it can do.
pub fn available() -> Result<Features, Unavailable> {
    let features = Commands::open().and_then(|mut commands| commands.features());
    match features {
        Ok(bits) if Features(bits).reissue() => Ok(Features(bits)),
        // Drivers that do not know the question (before Linux 6.5) are too old as well.
        Ok(_) | Err(Error::Refused { .. }) => Err(Unavailable::TooOld { release: release() }),
        Err(Error::Unavailable(why)) => Err(why),
        Err(other) => Err(Unavailable::Other(other.to_string())),
    }
}

/// Opens the control device, or finds out why that is not possible.
pub(crate) fn open_control() -> Result<File, Unavailable> {
    let opened = File::options().read(true).write(true).open(sys::CONTROL_PATH);
    opened.map_err(|error| explain(&error))
}

/// Why opening the control device failed.
fn explain(error: &io::Error) -> Unavailable {
    match error.kind() {
        ErrorKind::PermissionDenied => Unavailable::NoPermission,
        // A node without its driver gives ENXIO or ENODEV.
        ErrorKind::NotFound => explain_missing(),
        _ if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV)) => explain_missing(),
        _ => Unavailable::Other(error.to_string()),
    }
}

/// Why there is no control device.
fn explain_missing() -> Unavailable {
    let release = release();
    let modules = format!("/lib/modules/{release}");
    if Path::new("/sys/module/ublk_drv").exists() {
        Unavailable::NoControlDevice
    } else if lists_driver(&format!("{modules}/modules.dep")) {
        Unavailable::NotLoaded
    } else {
        Unavailable::NotBuilt { release }
    }
}

/// True if a list of modules names the driver.
fn lists_driver(path: &str) -> bool {
    let list = fs::read_to_string(path).unwrap_or_default();
    list.lines()
        .any(|line| line.split(':').next().is_some_and(|name| name.contains("/ublk_drv.ko")))
}

/// The release of the running kernel.
fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if release.trim().is_empty() { "unknown".to_owned() } else { release.trim().to_owned() }
}
