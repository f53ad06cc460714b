//! What a node hears: facts on their way from disk, network, clock and people to a core.

use crate::net::{Content, Frame};
use rblk::limits::BLOCK_SECTORS;
use rblk::replica::event::{
    Command, CommandId, Consent, DiskResult, FenceId, FrontId, FrontOp, OpId,
};
use rblk::wire::digest::Digests;
use rblk::wire::message::Message;

/// A fact on its way to a core.
pub(crate) enum Fact {
    Request { id: FrontId, op: FrontOp },
    DiskDone { op: OpId, result: DiskResult },
    Digests { op: OpId, digests: Box<Digests> },
    MetaDone { op: OpId, ok: bool },
    Connected { conn: u64 },
    Disconnected { conn: u64 },
    Received { conn: u64, message: Message, content: Content },
    Command { id: CommandId, command: Command },
    Consent { answer: Consent },
    Fenced { id: FenceId, confirmed: bool },
    DeviceStops,
    Timeout,
}

/// Who tells a daemon what happened; each keeps its own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The disk, with data and metadata.
    Disk,
    /// The connection to the peer.
    Network,
    /// The clock.
    Clock,
    /// Clients and operators.
    Client,
}

impl Fact {
    pub(crate) fn source(&self) -> Source {
        match self {
            Fact::DiskDone { .. } | Fact::Digests { .. } | Fact::MetaDone { .. } => Source::Disk,
            Fact::Connected { .. } | Fact::Disconnected { .. } | Fact::Received { .. } => {
                Source::Network
            }
            Fact::Timeout => Source::Clock,
            Fact::Request { .. }
            | Fact::Command { .. }
            | Fact::DeviceStops
            | Fact::Consent { .. }
            | Fact::Fenced { .. } => Source::Client,
        }
    }
}

impl Fact {
    /// For the trace.
    pub(crate) fn describe(&self) -> String {
        match self {
            Fact::Request { id, op } => format!("Request {} {op:?}", id.0),
            Fact::DiskDone { op, result } => format!("DiskDone {} {result:?}", op.0),
            Fact::Digests { op, .. } => format!("Digests {}", op.0),
            Fact::MetaDone { op, ok } => format!("MetaDone {} {ok}", op.0),
            Fact::Connected { conn } => format!("Connected {conn}"),
            Fact::Disconnected { conn } => format!("Disconnected {conn}"),
            Fact::Received { conn, message, .. } => {
                format!("Received {conn} {}", Frame::name(message))
            }
            Fact::Command { id, command } => format!("Command {} {command:?}", id.0),
            Fact::Consent { answer } => format!("Consent {answer:?}"),
            Fact::Fenced { id, confirmed } => format!("Fenced {} {confirmed}", id.0),
            Fact::DeviceStops => "DeviceStops".to_string(),
            Fact::Timeout => "Timeout".to_string(),
        }
    }
}

/// The digests of sectors that are known by a number each.
pub(crate) fn digests_of(sectors: &[u32]) -> Digests {
    let blocks = sectors.chunks(BLOCK_SECTORS as usize);
    // FNV-1a with 128 bits: equal for equal blocks, and that is all that is asked of it here.
    let digest = |block: &[u32]| {
        block.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, value| {
            (hash ^ u128::from(*value)).wrapping_mul(0x0100_0000_0000_0000_0000_013b)
        })
    };
    Digests::gathered(blocks.map(digest))
}
