//! The one error of rblk outside the pure core: what failed, why, and what to do about it.
//!
//! It promises to be readable by somebody who was woken up by it. It never repeats its source: a source
//! without a `why` becomes the `why`.
//!
//! ```
//! use rblk::error::{Error, Kind};
//! let error = Error::new(Kind::Refused, "Cannot promote swarm")
//!     .why("the peer docker2 is Primary")
//!     .remedy("run `rblk demote swarm` on docker2 first");
//! assert_eq!(
//!     error.to_string(),
//!     "Cannot promote swarm: the peer docker2 is Primary. \
//!      Do: run `rblk demote swarm` on docker2 first"
//! );
//! ```

use serde::{Deserialize, Serialize};
use std::fmt;

/// What sort of failure it is: few, stable, meant for programs. They decide the exit code and stand in
/// replies on the control socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The command line asks for something that makes no sense.
    Usage,
    /// The configuration is wrong.
    Config,
    /// It can be said, but this version does not do it.
    Unavailable,
    /// It would lose data, or the state of the resource forbids it.
    Refused,
    /// Somebody else holds it: a second daemon, a mounted disk, a full queue.
    Busy,
    /// The daemon of the resource does not run.
    NotRunning,
    /// It did not happen in the time given.
    Timeout,
    /// Metadata is missing, damaged or belongs to somebody else.
    Metadata,
    /// The other end of a connection does not keep to the protocol.
    Protocol,
    /// The operating system failed us: disk, network, permissions.
    Io,
}

impl Kind {
    /// The exit code of a command that ends with it.
    ///
    /// | code | meaning |
    /// |---|---|
    /// | 0 | done |
    /// | 1 | failed, see stderr |
    /// | 2 | wrong usage |
    /// | 4 | `doctor` and `drill`: no error, but warnings |
    /// | 5 | `wait`: not reached in time |
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage => 2,
            Kind::Timeout => 5,
            _ => 1,
        }
    }
}

/// An error with everything its reader needs. Built front to back: [`Error::new`], then `why`, `remedy`,
/// `source`.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    why: String,
    remedy: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What most functions outside the core return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// `what` failed: a sentence without its full stop, from the view of who asked ("Cannot attach swarm").
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error { kind, what: what.into(), why: String::new(), remedy: String::new(), source: None }
    }

    /// A failure of the operating system.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Error {
        Error::new(Kind::Io, what).source(source)
    }

    /// The fact that stands in the way, starting in lower case.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Error {
        self.why = why.into();
        self
    }

    /// What the reader can do, as an order starting in lower case ("run `rblk ...`").
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Error {
        self.remedy = remedy.into();
        self
    }

    /// The error below.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// What sort of failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What failed.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Why; the source's words if nobody said more; may be empty.
    pub fn reason(&self) -> String {
        match &self.source {
            Some(source) if self.why.is_empty() => source.to_string(),
            Some(source) => format!("{} ({source})", self.why),
            None => self.why.clone(),
        }
    }

    /// What to do; may be empty.
    pub fn advice(&self) -> &str {
        &self.remedy
    }

    /// The form for a terminal, one line per part and no line break at the end.
    ///
    /// ```text
    /// rblk: Cannot promote swarm
    ///   why: the peer docker2 is Primary
    ///   do:  run `rblk demote swarm` on docker2 first
    /// ```
    pub fn report(&self) -> String {
        let mut text = format!("rblk: {}", self.what);
        let why = self.reason();
        if !why.is_empty() {
            text.push_str("\n  why: ");
            text.push_str(&why);
        }
        if !self.remedy.is_empty() {
            text.push_str("\n  do:  ");
            text.push_str(&self.remedy);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let why = self.reason();
        if !why.is_empty() {
            write!(f, ": {why}")?;
        }
        if !self.remedy.is_empty() {
            write!(f, ". Do: {}", self.remedy)?;
        }
        Ok(())
    }
}

// No `source()`: the words of the source are part of the reason already, and a printer of chains would
// say them twice.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_said_once() {
        let below = std::io::Error::other("disk on fire");
        let error = Error::io("Cannot read /dev/x", below).remedy("call the fire brigade");
        assert_eq!(
            error.to_string(),
            "Cannot read /dev/x: disk on fire. Do: call the fire brigade"
        );
        assert_eq!(
            error.report(),
            "rblk: Cannot read /dev/x\n  why: disk on fire\n  do:  call the fire brigade"
        );
    }

    #[test]
    fn a_source_is_added_to_the_reason() {
        let error = Error::new(Kind::Io, "Cannot listen")
            .why("the port is taken")
            .source(std::io::Error::other("EADDRINUSE"));
        assert_eq!(error.to_string(), "Cannot listen: the port is taken (EADDRINUSE)");
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        assert_eq!(Kind::Usage.exit_code(), 2);
        assert_eq!(Kind::Timeout.exit_code(), 5);
        assert_eq!(Kind::Refused.exit_code(), 1);
    }
}
