//! `[handlers]`: commands that run at an event, under DRBD's names.

use super::section::{Section, Source};
use crate::error::Result;
use crate::limits::{HANDLER_COMMAND_BYTES_MAX, HANDLER_TIMEOUT_S_DEFAULT, HANDLER_TIMEOUT_S_MAX};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// What a command runs at. When exactly is in `docs/handlers.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandlerKind {
    /// The peer is lost, and this node must know that it does not go on.
    FencePeer,
    /// The peer has all data again.
    UnfencePeer,
    /// Both went different ways, and nothing decides whose data counts.
    SplitBrain,
    /// This Primary's data lost against the peer's, and it cannot step back.
    PriLostAfterSb,
    /// A resync is about to overwrite this node's data; anything but exit 0 forbids it.
    BeforeResyncTarget,
    /// A resync of this node has ended.
    AfterResyncTarget,
    /// This node's disk is given up.
    LocalIoError,
    /// A comparison has found differences.
    OutOfSync,
}

impl HandlerKind {
    /// All, in the order of the documentation.
    pub const ALL: [HandlerKind; 8] = [
        HandlerKind::FencePeer,
        HandlerKind::UnfencePeer,
        HandlerKind::SplitBrain,
        HandlerKind::PriLostAfterSb,
        HandlerKind::BeforeResyncTarget,
        HandlerKind::AfterResyncTarget,
        HandlerKind::LocalIoError,
        HandlerKind::OutOfSync,
    ];

    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            HandlerKind::FencePeer => "fence-peer",
            HandlerKind::UnfencePeer => "unfence-peer",
            HandlerKind::SplitBrain => "split-brain",
            HandlerKind::PriLostAfterSb => "pri-lost-after-sb",
            HandlerKind::BeforeResyncTarget => "before-resync-target",
            HandlerKind::AfterResyncTarget => "after-resync-target",
            HandlerKind::LocalIoError => "local-io-error",
            HandlerKind::OutOfSync => "out-of-sync",
        }
    }

    /// Its place in [`HandlerKind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// The commands that are configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handlers {
    commands: [Option<String>; HandlerKind::ALL.len()],
    /// A command that takes longer is ended.
    pub timeout_s: u64,
}

impl Handlers {
    /// None, with the usual deadline.
    pub(super) fn none() -> Handlers {
        Handlers { commands: Default::default(), timeout_s: HANDLER_TIMEOUT_S_DEFAULT }
    }

    /// The command of `kind`.
    pub fn command(&self, kind: HandlerKind) -> Option<&str> {
        self.commands[kind.index()].as_deref()
    }

    /// True if there is any.
    pub fn any(&self) -> bool {
        self.commands.iter().any(Option::is_some)
    }
}

impl Serialize for Handlers {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timeout-s", &self.timeout_s)?;
        for kind in HandlerKind::ALL {
            if let Some(command) = self.command(kind) {
                map.serialize_entry(kind.name(), command)?;
            }
        }
        map.end()
    }
}

/// What `[handlers]` says.
pub(super) fn parse(source: Source<'_>, section: &Section<'_>) -> Result<Handlers> {
    let names = HandlerKind::ALL.map(HandlerKind::name);
    let known: Vec<&str> = names.into_iter().chain(["timeout-s"]).collect();
    section.only(&known)?;
    let mut handlers = Handlers::none();
    if let Some(seconds) = section.integer("timeout-s", 1..HANDLER_TIMEOUT_S_MAX + 1)? {
        handlers.timeout_s = seconds;
    }
    for kind in HandlerKind::ALL {
        let Some(found) = section.string(kind.name(), "\"/usr/local/sbin/on-event.sh\"")? else {
            continue;
        };
        let command = found.value;
        let fits = command.len() <= HANDLER_COMMAND_BYTES_MAX;
        if command.trim().is_empty() || command.contains('\0') || !fits {
            let wrong = format!(
                "`{}`: expected a command line of 1 to {HANDLER_COMMAND_BYTES_MAX} bytes for /bin/sh",
                kind.name()
            );
            return Err(source.error(&found.span, wrong));
        }
        handlers.commands[kind.index()] = Some(command.to_owned());
    }
    Ok(handlers)
}
