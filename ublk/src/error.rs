//! What can go wrong with a device, for people.

use crate::features::Unavailable;
use std::{fmt, io};

/// Why a device could not be made, served or taken away.
#[derive(Debug)]
pub enum Error {
    /// This machine has no ublk, or not for us.
    Unavailable(Unavailable),
    /// The driver refused a command.
    Refused {
        /// The command, as the kernel names it.
        command: &'static str,
        /// Why, as an error number.
        errno: i32,
    },
    /// The driver did not answer a command in time. It may still carry it out.
    Timeout {
        /// The command, as the kernel names it.
        command: &'static str,
    },
    /// Somebody has the device open.
    InUse,
    /// What was asked for is not possible: what, and what would be.
    Invalid(String),
    /// This kernel's driver cannot.
    TooOld {
        /// The first Linux that can.
        needs: &'static str,
        /// What.
        what: &'static str,
    },
    /// The device's files could not be opened or mapped.
    Io {
        /// What was tried.
        what: String,
        /// How it failed.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unavailable(why) => why.fmt(f),
            Error::Refused { command, errno } => {
                let error = io::Error::from_raw_os_error(*errno);
                write!(f, "The ublk driver refused {command}: {error}")
            }
            Error::Timeout { command } => {
                write!(f, "The ublk driver did not finish {command} in time")
            }
            Error::TooOld { needs, what } => {
                write!(f, "The ublk driver of this kernel cannot {what}: Linux {needs} can")
            }
            Error::InUse => write!(f, "The device is in use"),
            Error::Invalid(why) => f.write_str(why),
            Error::Io { what, .. } => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<Unavailable> for Error {
    fn from(why: Unavailable) -> Error {
        Error::Unavailable(why)
    }
}
