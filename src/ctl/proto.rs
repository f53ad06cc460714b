//! Requests and replies on the control socket, and their one-line form.
//!
//! # Versions, newest first
//!
//! | version | what changed |
//! |---|---|
//! | 1 | the first |
//!
//! A key may be added to a reply without a new version: readers ignore keys they do not know.

use super::status::Resource;
use crate::error::{Error, Kind};
use serde::{Deserialize, Serialize};

/// The version this build speaks.
pub const VERSION: u32 = 1;

/// What the daemon is asked to do. `rblk wait` asks for the status until it likes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Answered with [`Reply::Status`].
    Status,
    /// Answered with [`Reply::Events`].
    Events {
        /// What happened since this number; what is now, if absent.
        #[serde(default)]
        after: Option<u64>,
    },
    /// Become Primary. `force` accepts that newer data may exist at the peer.
    Promote {
        /// Go on without knowing.
        #[serde(default)]
        force: bool,
    },
    /// Become Secondary.
    Demote,
    /// Leave in good order and end the daemon. Answered before it ends. `force` takes the device away whoever has it
    /// open.
    Detach {
        /// Its users get errors.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    /// End the daemon and leave the device, with its clients waiting, to the next one. Without a device that can be
    /// left it is as `Detach`.
    HandOver,
    /// Part from the peer, and stand alone.
    Disconnect,
    /// Look for the peer again.
    Connect {
        /// If the two went different ways, this node's way is void.
        #[serde(default)]
        discard_my_data: bool,
        /// And what that discards is not saved, this once, where it otherwise would be.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_salvage: bool,
    },
    /// Declare this node's data void, or the peer's.
    Invalidate {
        /// The peer's.
        #[serde(default)]
        peer: bool,
    },
    /// Compare both disks. Answered when that has begun; the status tells how it goes.
    Verify,
    /// End the verify that runs.
    StopVerify,
    /// Copy what the last verify has found to differ from this node to the peer.
    Repair,
    /// Let the volume grow into the room that both disks have.
    Resize,
}

impl Request {
    /// True if it changes nothing: whoever may open the socket may ask it. All others are for root and the daemon's own
    /// user.
    pub fn only_looks(&self) -> bool {
        // Without `_`: who adds a request says here whose it is.
        match self {
            Request::Status | Request::Events { .. } => true,
            Request::Promote { .. }
            | Request::Demote
            | Request::Detach { .. }
            | Request::HandOver
            | Request::Disconnect
            | Request::Connect { .. }
            | Request::Invalidate { .. }
            | Request::Verify
            | Request::StopVerify
            | Request::Repair
            | Request::Resize => false,
        }
    }
}

/// What the daemon answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Done.
    Ok,
    /// The state now.
    Status {
        /// Of the daemon's resource.
        status: Box<Resource>,
    },
    /// What has happened.
    Events {
        /// In order, at most [`crate::limits::EVENTS_AT_ONCE`].
        events: Vec<Event>,
        /// The number to ask with next.
        next: u64,
        /// Older ones that are not kept any more.
        missed: u64,
    },
    /// Not done, and nothing has changed.
    Error {
        /// What sort of failure.
        kind: Kind,
        /// What failed.
        what: String,
        /// Why.
        why: String,
        /// What to do.
        remedy: String,
    },
}

/// A change of state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What, in the line form of `drbdsetup events2`.
    pub line: String,
}

impl From<Error> for Reply {
    fn from(error: Error) -> Reply {
        Reply::Error {
            kind: error.kind(),
            what: error.what().to_owned(),
            why: error.reason(),
            remedy: error.advice().to_owned(),
        }
    }
}

/// A message with its version, as it stands on the line.
#[derive(Serialize)]
struct Versioned<'a, T> {
    v: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

/// The line for a message, with its line break.
///
/// # Errors
/// `Protocol` if it cannot be written as JSON.
pub fn encode<T: Serialize>(body: &T) -> Result<Vec<u8>, Error> {
    let mut line = serde_json::to_vec(&Versioned { v: VERSION, body }).map_err(|error| {
        Error::new(Kind::Protocol, "Cannot write a control message").source(error)
    })?;
    line.push(b'\n');
    Ok(line)
}

/// The message of a line.
///
/// # Errors
/// `Protocol` if the line is not a message of this version.
pub fn decode<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Error> {
    let broken = |error: serde_json::Error| {
        Error::new(Kind::Protocol, "Cannot read a control message")
            .why(format!("expected a line such as {{\"v\":{VERSION},\"request\":\"status\"}}"))
            .source(error)
    };
    let version: VersionOnly = serde_json::from_slice(line).map_err(broken)?;
    if version.v != VERSION {
        let why = format!("it has version {}, this rblk speaks {VERSION}", version.v);
        return Err(Error::new(Kind::Protocol, "Cannot read a control message")
            .why(why)
            .remedy("use the `rblk` command of the version that the daemon runs"));
    }
    serde_json::from_slice(line).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_form_on_the_line_is_stable() {
        let line = encode(&Request::Promote { force: true }).expect("serialises");
        assert_eq!(line, b"{\"v\":1,\"request\":\"promote\",\"force\":true}\n");
        let line = encode(&Request::Connect { discard_my_data: true, no_salvage: false })
            .expect("serialises");
        assert_eq!(line, b"{\"v\":1,\"request\":\"connect\",\"discard_my_data\":true}\n");
        let line = encode(&Request::Connect { discard_my_data: true, no_salvage: true });
        assert!(line.expect("serialises").ends_with(b",\"no_salvage\":true}\n"));
        let bare = decode::<Request>(br#"{"v":1,"request":"invalidate"}"#).expect("valid");
        assert_eq!(bare, Request::Invalidate { peer: false });
        let line = encode(&Reply::Ok).expect("serialises");
        assert_eq!(line, b"{\"v\":1,\"reply\":\"ok\"}\n");
        let bare = decode::<Request>(br#"{"v":1,"request":"promote","later":0}"#).expect("valid");
        assert_eq!(bare, Request::Promote { force: false });
        let line = encode(&Request::Detach { force: false }).expect("serialises");
        assert_eq!(
            line, b"{\"v\":1,\"request\":\"detach\"}\n",
            "as daemons before this version know it"
        );
        let forced = encode(&Request::Detach { force: true }).expect("serialises");
        assert_ne!(forced, line);
    }

    #[test]
    fn a_status_survives_the_line() {
        let status = Box::new(crate::ctl::status::sample());
        let line = encode(&Reply::Status { status: status.clone() }).expect("serialises");
        assert!(!line[..line.len() - 1].contains(&b'\n'));
        assert_eq!(decode::<Reply>(&line).expect("valid"), Reply::Status { status });
    }

    #[test]
    fn another_version_is_named() {
        let error = decode::<Request>(br#"{"v":2,"request":"status"}"#).expect_err("newer");
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<Request>(&line);
            let _ = decode::<Reply>(&line);
        }

        #[test]
        fn almost_json_never_panics(
            text in "\\{\"v\":[01],\"(request|reply)\":[\\[\\]{}\",:a-z0-9]{0,60}",
        ) {
            let _ = decode::<Request>(text.as_bytes());
            let _ = decode::<Reply>(text.as_bytes());
        }

        #[test]
        fn deep_nesting_is_refused(depth in 200..5000usize) {
            let text = format!("{{\"v\":1,\"x\":{}", "[".repeat(depth));
            prop_assert!(decode::<Request>(text.as_bytes()).is_err());
        }
    }
}
