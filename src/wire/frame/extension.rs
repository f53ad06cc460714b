//! Extensions: what does not fit a header. Little-endian; what is not used is zero.
//!
//! ```text
//! Hello            56   volume 16, usable_sectors 8, agreed_sectors 8, block_bytes 4, payload_bytes_max 4,
//!                       data_credits 2, read_credits 2, zero_credits 2, node 1, discard 1 (0 or 1), config 8
//!                       (of a sender that speaks no version after 2: 48, without config)
//! State           328   flags 1 (see `flag`), disk 1, role 1, policies 4 (after 0, 1, 2 Primaries, conflict),
//!                       more flags 1, dirty_blocks 8, mark 8, peer_mark 8, current 16, base 16, history 264
//! ResyncEnd       280   current 16, history 264
//! DiskFailedAck    16   current 16
//! ```

use super::codes::{Code, Kind};
use super::fields::Fields;
use super::{EXTENSION_BYTES_MAX, FrameError};
use crate::bytes::{get, put};
use crate::meta::superblock::{GenerationId, History, NodeId, VolumeId};
use crate::wire::message::{Hello, Message, State};
use crate::wire::policy::Policies;
use crate::wire::{PROTOCOL_3, PROTOCOL_MAX};

const GENERATION_BYTES: usize = 16;
const RESYNC_END_BYTES: usize = GENERATION_BYTES + History::BYTES;

mod hello_at {
    pub(super) const VOLUME: usize = 0;
    pub(super) const USABLE_SECTORS: usize = 16;
    pub(super) const AGREED_SECTORS: usize = 24;
    pub(super) const BLOCK_BYTES: usize = 32;
    pub(super) const PAYLOAD_BYTES_MAX: usize = 36;
    pub(super) const DATA_CREDITS: usize = 40;
    pub(super) const READ_CREDITS: usize = 42;
    pub(super) const ZERO_CREDITS: usize = 44;
    pub(super) const NODE: usize = 46;
    pub(super) const DISCARD: usize = 47;
    pub(super) const CONFIG: usize = 48;
    pub(super) const END: usize = 56;
}

mod state_at {
    pub(super) const FLAGS: usize = 0;
    pub(super) const DISK: usize = 1;
    pub(super) const ROLE: usize = 2;
    pub(super) const POLICIES: usize = 3;
    pub(super) const MORE_FLAGS: usize = 7;
    pub(super) const DIRTY_BLOCKS: usize = 8;
    pub(super) const MARK: usize = 16;
    pub(super) const PEER_MARK: usize = 24;
    pub(super) const CURRENT: usize = 32;
    pub(super) const BASE: usize = 48;
    pub(super) const HISTORY: usize = 64;
    pub(super) const END: usize = HISTORY + super::History::BYTES;
}

/// Flags of State.
mod flag {
    pub(super) const CURRENT: u8 = 1 << 0;
    pub(super) const BASE: u8 = 1 << 1;
    pub(super) const CRASHED: u8 = 1 << 2;
    pub(super) const SURVIVOR: u8 = 1 << 3;
    pub(super) const PEER_OUTDATED: u8 = 1 << 4;
    pub(super) const DISCARD_MY_DATA: u8 = 1 << 5;
    pub(super) const PARTED_PRIMARY: u8 = 1 << 6;
    pub(super) const DUAL_PRIMARY: u8 = 1 << 7;
}

/// More flags of State.
mod more_flag {
    pub(super) const KEPT: u8 = 1 << 0;
}

const _: () = {
    assert!(hello_at::DISCARD + 1 == hello_at::CONFIG && hello_at::CONFIG + 8 == hello_at::END);
    assert!(state_at::END == 328 && state_at::END <= EXTENSION_BYTES_MAX);
    assert!(RESYNC_END_BYTES == 280);
};

/// Bytes that a sender with this newest version of the protocol has for Hello, as far as this version knows.
fn hello_bytes(protocol_max: u16) -> usize {
    if protocol_max >= PROTOCOL_3 { hello_at::END } else { hello_at::CONFIG }
}

/// True if a message with these fields may have an extension of `bytes` bytes.
pub(super) fn length_fits(fields: &Fields, bytes: usize) -> bool {
    match fields.kind {
        // A later version may have appended to it.
        Kind::Hello if fields.protocol_max > PROTOCOL_MAX => {
            (hello_at::END..=EXTENSION_BYTES_MAX).contains(&bytes)
        }
        Kind::Hello => bytes == hello_bytes(fields.protocol_max),
        Kind::State => bytes == state_at::END,
        Kind::ResyncEnd => bytes == RESYNC_END_BYTES,
        Kind::DiskFailedAck => bytes == GENERATION_BYTES,
        _ => bytes == 0,
    }
}

/// Puts the extension of `message` into `out` and returns its length, 0 if it has none.
pub(super) fn encode(message: &Message, out: &mut [u8]) -> usize {
    match message {
        Message::Hello(hello) => encode_hello(hello, &mut out[..hello_bytes(hello.protocol_max)]),
        Message::State(state) => encode_state(state, &mut out[..state_at::END]),
        Message::ResyncEnd { current, history } => {
            put(out, 0, &current.0.to_le_bytes());
            history.encode(&mut out[GENERATION_BYTES..RESYNC_END_BYTES]);
            RESYNC_END_BYTES
        }
        Message::DiskFailedAck { current } => {
            put(out, 0, &current.0.to_le_bytes());
            GENERATION_BYTES
        }
        _ => 0,
    }
}

/// The message with these fields and this extension, whose length and checksum are right.
pub(super) fn decode(fields: &Fields, extension: &[u8]) -> Result<Message, FrameError> {
    assert!(length_fits(fields, extension.len()));
    let current = || GenerationId(u128::from_le_bytes(get(extension, 0)));
    let (message, known_bytes) = match fields.kind {
        Kind::Hello => {
            let known_bytes = hello_bytes(fields.protocol_max);
            (Message::Hello(decode_hello(fields, &extension[..known_bytes])), known_bytes)
        }
        Kind::State => (Message::State(decode_state(extension)?), state_at::END),
        Kind::ResyncEnd => {
            let history = &extension[GENERATION_BYTES..];
            let history = History::decode(history).map_err(FrameError::Value)?;
            (Message::ResyncEnd { current: current(), history }, RESYNC_END_BYTES)
        }
        Kind::DiskFailedAck => (Message::DiskFailedAck { current: current() }, GENERATION_BYTES),
        _ => unreachable!("{:?} has no extension", fields.kind),
    };
    // There is one way to write an extension: this finds unknown flags and whatever stands where zero must.
    let mut again = [0; EXTENSION_BYTES_MAX];
    assert!(encode(&message, &mut again) == known_bytes);
    if again[..known_bytes] != extension[..known_bytes] {
        return Err(FrameError::Unused);
    }
    Ok(message)
}

fn encode_hello(hello: &Hello, out: &mut [u8]) -> usize {
    use hello_at as at;
    put(out, at::VOLUME, &hello.volume.0.to_le_bytes());
    put(out, at::USABLE_SECTORS, &hello.usable_sectors.to_le_bytes());
    put(out, at::AGREED_SECTORS, &hello.agreed_sectors.to_le_bytes());
    put(out, at::BLOCK_BYTES, &hello.block_bytes.to_le_bytes());
    put(out, at::PAYLOAD_BYTES_MAX, &hello.payload_bytes_max.to_le_bytes());
    put(out, at::DATA_CREDITS, &hello.data_credits.to_le_bytes());
    put(out, at::READ_CREDITS, &hello.read_credits.to_le_bytes());
    put(out, at::ZERO_CREDITS, &hello.zero_credits.to_le_bytes());
    out[at::NODE] = hello.node.0;
    out[at::DISCARD] = hello.discard.into();
    if out.len() > at::CONFIG {
        put(out, at::CONFIG, &hello.config.to_le_bytes());
    }
    out.len()
}

fn decode_hello(fields: &Fields, extension: &[u8]) -> Hello {
    use hello_at as at;
    Hello {
        protocol_min: fields.protocol_min,
        protocol_max: fields.protocol_max,
        volume: VolumeId(u128::from_le_bytes(get(extension, at::VOLUME))),
        node: NodeId(extension[at::NODE]),
        usable_sectors: u64::from_le_bytes(get(extension, at::USABLE_SECTORS)),
        agreed_sectors: u64::from_le_bytes(get(extension, at::AGREED_SECTORS)),
        block_bytes: u32::from_le_bytes(get(extension, at::BLOCK_BYTES)),
        payload_bytes_max: u32::from_le_bytes(get(extension, at::PAYLOAD_BYTES_MAX)),
        data_credits: u16::from_le_bytes(get(extension, at::DATA_CREDITS)),
        read_credits: u16::from_le_bytes(get(extension, at::READ_CREDITS)),
        zero_credits: u16::from_le_bytes(get(extension, at::ZERO_CREDITS)),
        discard: extension[at::DISCARD] != 0,
        config: match extension.len() {
            at::CONFIG => 0,
            _ => u64::from_le_bytes(get(extension, at::CONFIG)),
        },
    }
}

fn encode_state(state: &State, out: &mut [u8]) -> usize {
    use state_at as at;
    let flags = [
        (state.current.is_some(), flag::CURRENT),
        (state.base.is_some(), flag::BASE),
        (state.crashed, flag::CRASHED),
        (state.survivor, flag::SURVIVOR),
        (state.peer_outdated, flag::PEER_OUTDATED),
        (state.discard_my_data, flag::DISCARD_MY_DATA),
        (state.parted_primary, flag::PARTED_PRIMARY),
        (state.policies.dual_primary, flag::DUAL_PRIMARY),
    ];
    out.fill(0);
    out[at::FLAGS] = flags.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum();
    out[at::MORE_FLAGS] = if state.kept { more_flag::KEPT } else { 0 };
    out[at::DISK] = state.disk.code();
    out[at::ROLE] = state.role.code();
    put(out, at::POLICIES, &codes_of(&state.policies));
    put(out, at::DIRTY_BLOCKS, &state.dirty_blocks.to_le_bytes());
    put(out, at::MARK, &state.mark.to_le_bytes());
    put(out, at::PEER_MARK, &state.peer_mark.to_le_bytes());
    put(out, at::CURRENT, &state.current.map_or(0, |id| id.0).to_le_bytes());
    put(out, at::BASE, &state.base.map_or(0, |id| id.0).to_le_bytes());
    state.history.encode(&mut out[at::HISTORY..]);
    out.len()
}

fn decode_state(extension: &[u8]) -> Result<State, FrameError> {
    use state_at as at;
    let flags = extension[at::FLAGS];
    let set = |bit: u8| flags & bit != 0;
    let generation = |at| GenerationId(u128::from_le_bytes(get(extension, at)));
    Ok(State {
        current: set(flag::CURRENT).then(|| generation(at::CURRENT)),
        base: set(flag::BASE).then(|| generation(at::BASE)),
        history: History::decode(&extension[at::HISTORY..]).map_err(FrameError::Value)?,
        disk: Code::from_code(extension[at::DISK])
            .ok_or(FrameError::Value("no disk state has its code"))?,
        role: Code::from_code(extension[at::ROLE])
            .ok_or(FrameError::Value("no role has its code"))?,
        dirty_blocks: u64::from_le_bytes(get(extension, at::DIRTY_BLOCKS)),
        crashed: set(flag::CRASHED),
        survivor: set(flag::SURVIVOR),
        kept: extension[at::MORE_FLAGS] & more_flag::KEPT != 0,
        peer_outdated: set(flag::PEER_OUTDATED),
        discard_my_data: set(flag::DISCARD_MY_DATA),
        parted_primary: set(flag::PARTED_PRIMARY),
        policies: policies_of(get(extension, at::POLICIES), set(flag::DUAL_PRIMARY))
            .ok_or(FrameError::Value("no policy has its code"))?,
        mark: u64::from_le_bytes(get(extension, at::MARK)),
        peer_mark: u64::from_le_bytes(get(extension, at::PEER_MARK)),
    })
}

fn codes_of(policies: &Policies) -> [u8; 4] {
    [
        policies.after_0pri.code(),
        policies.after_1pri.code(),
        policies.after_2pri.code(),
        policies.rr_conflict.code(),
    ]
}

fn policies_of(codes: [u8; 4], dual_primary: bool) -> Option<Policies> {
    Some(Policies {
        dual_primary,
        after_0pri: Code::from_code(codes[0])?,
        after_1pri: Code::from_code(codes[1])?,
        after_2pri: Code::from_code(codes[2])?,
        rr_conflict: Code::from_code(codes[3])?,
    })
}
