//! Messages of a peer, from what is plausible to what is not. All of them pass the codec: what does not, never
//! reaches a node.

use super::input::Input;
use super::node::{Node, id_of, owner};
use rblk::limits::{
    IO_BYTES_MAX, PEER_DATA_CREDITS, PEER_READ_CREDITS, PEER_ZERO_CREDITS, SECTOR_BYTES,
    ZERO_BYTES_MAX,
};
use rblk::meta::superblock::{GenerationId, NodeId};
use rblk::span::Span;
use rblk::wire::PROTOCOL_MAX;
use rblk::wire::message::{DiskState, Hello, Message, Outcome, Refusal, Role, State, ZeroKind};
use rblk::wire::policy::Policies;

const DISKS: [DiskState; 6] = [
    DiskState::UpToDate,
    DiskState::Consistent,
    DiskState::Outdated,
    DiskState::Inconsistent,
    DiskState::Failed,
    DiskState::Diskless,
];
const KINDS: [ZeroKind; 3] = [ZeroKind::Discard, ZeroKind::Zeroes, ZeroKind::ZeroesAllocated];

/// What a correct peer with a disk of the same size says first.
pub(crate) fn hello(node: &Node) -> Hello {
    let agreed = node.snapshot().superblock.agreed_sectors;
    Hello {
        protocol_min: 1,
        protocol_max: PROTOCOL_MAX,
        volume: owner(node.id).volume,
        node: NodeId(1 - node.id.0),
        usable_sectors: node.layout.data_sectors(),
        agreed_sectors: agreed,
        block_bytes: 512,
        payload_bytes_max: IO_BYTES_MAX as u32,
        data_credits: PEER_DATA_CREDITS as u16,
        read_credits: PEER_READ_CREDITS as u16,
        zero_credits: PEER_ZERO_CREDITS as u16,
        discard: true,
        config: 0,
    }
}

/// Generations that this node knows.
pub(crate) fn known(node: &Node) -> Vec<GenerationId> {
    let superblock = node.snapshot().superblock;
    superblock.current.into_iter().chain(superblock.base).chain(superblock.history.iter()).collect()
}

/// A state that leads to a verdict of every sort; with luck to the one that is wanted.
pub(crate) fn state(input: &mut Input<'_>, node: &Node) -> State {
    let known = known(node);
    let mine = node.snapshot().superblock;
    let good = State {
        current: mine.current,
        base: None,
        history: mine.history,
        disk: DiskState::UpToDate,
        role: Role::Secondary,
        dirty_blocks: 0,
        crashed: false,
        survivor: false,
        kept: false,
        peer_outdated: false,
        discard_my_data: false,
        parted_primary: false,
        policies: Policies::default(),
        mark: mine.peer_mark,
        peer_mark: mine.mark,
    };
    match input.byte() % 8 {
        0 => good,
        1 => State { role: Role::Primary, ..good },
        2 => State { disk: DiskState::Inconsistent, dirty_blocks: 9, ..good },
        3 => State { current: mine.base, disk: DiskState::Consistent, ..good },
        4 => State {
            current: Some(GenerationId(77)),
            base: mine.current,
            peer_outdated: true,
            dirty_blocks: 5,
            ..good
        },
        5 => State { disk: DiskState::Diskless, role: Role::Primary, ..good },
        6 => State {
            current: None,
            disk: DiskState::Inconsistent,
            history: input.history(&[]),
            ..good
        },
        _ => {
            let flags = input.byte();
            State {
                current: input.generation(&known),
                base: input.generation(&known),
                history: input.history(&known),
                disk: input.pick(&DISKS),
                role: if flags & 1 == 0 { Role::Secondary } else { Role::Primary },
                dirty_blocks: input.odd_number(),
                crashed: flags & 2 != 0,
                survivor: flags & 4 != 0,
                kept: flags & 128 != 0,
                peer_outdated: flags & 8 != 0,
                discard_my_data: flags & 16 != 0,
                parted_primary: flags & 32 != 0,
                policies: Policies::default(),
                mark: u64::from(flags >> 6),
                peer_mark: u64::from(flags >> 5 & 1),
            }
        }
    }
}

/// A span of at most `most` bytes: within the volume, at its end, or anywhere.
pub(crate) fn span(input: &mut Input<'_>, sectors: u64, most: u64) -> Span {
    let most = (most / SECTOR_BYTES) as u32;
    let length = match input.byte() % 4 {
        0 => 8,
        1 => 1 + u32::from(input.byte()),
        2 => 8 * (1 + u32::from(input.byte())),
        _ => 1 + input.word() % most,
    };
    let length = length.min(most);
    let start = match input.byte() % 6 {
        0 => 8 * u64::from(input.byte()),
        1 => u64::from(input.short()),
        2 => u64::from(input.short()) * 64,
        3 => (u64::from(input.short()) * 512) % sectors.max(1),
        4 => sectors.saturating_sub(u64::from(input.byte())),
        _ => input.odd_number(),
    };
    Span::new(start, length).unwrap_or_else(|| Span::new(0, 1).expect("a span"))
}

fn id(input: &mut Input<'_>, node: &Node) -> u64 {
    let asked = &node.asked;
    match input.byte() % 4 {
        0 => input.odd_number(),
        1 if !asked.is_empty() => id_of(&asked[input.below(asked.len())]).unwrap_or(0),
        _ => asked.first().and_then(id_of).unwrap_or(1),
    }
}

fn outcome(input: &mut Input<'_>) -> Outcome {
    if input.byte().is_multiple_of(4) { Outcome::Failed } else { Outcome::Done }
}

/// Any message.
pub(crate) fn any(input: &mut Input<'_>, node: &Node) -> Message {
    let sectors = node.snapshot().sectors;
    let (data, zero) = (IO_BYTES_MAX as u64, ZERO_BYTES_MAX);
    let known = known(node);
    match input.byte() % 31 {
        0 => Message::Hello(odd_hello(input, node)),
        1 => Message::State(state(input, node)),
        2 => Message::Refuse(refusal(input)),
        3 => Message::BitmapPage { page: page(input) },
        4 => Message::BitmapFull { page: page(input) },
        5 => Message::BitmapAck,
        6 => Message::BitmapEnd,
        7 => Message::Ready,
        8 | 9 => Message::Write {
            id: input.odd_number(),
            span: span(input, sectors, data),
            fua: input.flag(),
        },
        10 => Message::WriteZero {
            id: input.odd_number(),
            span: span(input, sectors, zero),
            kind: input.pick(&KINDS),
            fua: input.flag(),
        },
        11 => Message::WriteAck { id: id(input, node), outcome: outcome(input) },
        12 => Message::Flush { id: input.odd_number(), mark: input.flag() },
        13 => Message::FlushAck { id: id(input, node), outcome: outcome(input) },
        14 => Message::Read { id: input.odd_number(), span: span(input, sectors, data) },
        15 => Message::ReadReply {
            id: id(input, node),
            span: span(input, sectors, data),
            outcome: outcome(input),
        },
        16 | 17 => {
            Message::ResyncData { id: input.odd_number(), span: whole(span(input, sectors, data)) }
        }
        18 => {
            Message::ResyncZero { id: input.odd_number(), span: whole(span(input, sectors, zero)) }
        }
        19 => {
            let outcome = if input.byte() % 4 == 1 { Outcome::Skipped } else { outcome(input) };
            Message::ResyncAck { id: id(input, node), outcome }
        }
        20 => Message::ResyncEnd {
            current: input.generation(&known).unwrap_or(GenerationId(5)),
            history: input.history(&known),
        },
        21 => Message::ResyncEndAck,
        22 => Message::PromoteAsk,
        23 => Message::PromoteAnswer { granted: input.flag() },
        24 => Message::RoleIs { role: if input.flag() { Role::Primary } else { Role::Secondary } },
        25 => Message::DiskFailed,
        26 => {
            Message::DiskFailedAck { current: input.generation(&known).unwrap_or(GenerationId(6)) }
        }
        27 => Message::Bye { outdated: input.flag() },
        28 => Message::Ping,
        29 => Message::Mark { mark: u64::from(input.byte()), more: input.flag() },
        _ => digest(input, node),
    }
}

fn digest(input: &mut Input<'_>, node: &Node) -> Message {
    let sectors = node.snapshot().sectors;
    let data = IO_BYTES_MAX as u64;
    match input.byte() % 4 {
        0 | 1 => Message::DigestAsk {
            id: input.odd_number(),
            span: compared(span(input, sectors, data)),
        },
        2 => Message::DigestReply {
            id: id(input, node),
            span: compared(span(input, sectors, data)),
            outcome: outcome(input),
        },
        _ => Message::Pong,
    }
}

/// The codec lets no other pass where digests are asked for.
fn compared(span: Span) -> Span {
    blocks(span).unwrap_or_else(|| Span::new(0, 8).expect("a span"))
}

/// The whole blocks of a span, one at least.
fn blocks(span: Span) -> Option<Span> {
    let sectors = (span.sectors() / 8).max(1) * 8;
    Span::new(span.start() / 8 * 8, sectors)
}

/// Mostly on the boundaries of blocks, where resync data lies.
fn whole(span: Span) -> Span {
    if span.sectors().is_multiple_of(2) {
        return blocks(span).unwrap_or(span);
    }
    span
}

fn page(input: &mut Input<'_>) -> u32 {
    match input.byte() {
        255 => u32::MAX,
        254 => input.word(),
        number => u32::from(number) % 4,
    }
}

fn refusal(input: &mut Input<'_>) -> Refusal {
    input.pick(&[
        Refusal::Protocol,
        Refusal::Volume,
        Refusal::Node,
        Refusal::Size,
        Refusal::Limits,
        Refusal::SplitBrain,
        Refusal::Unrelated,
        Refusal::PrimaryWouldBeTarget,
        Refusal::TwoPrimaries,
        Refusal::SourceOutdated,
        Refusal::SourceUnsure,
        Refusal::NoSource,
    ])
}

/// A good one with one field that is not.
fn odd_hello(input: &mut Input<'_>, node: &Node) -> Hello {
    let mut hello = hello(node);
    match input.byte() % 12 {
        0 => hello.protocol_min = input.short(),
        1 => hello.volume = input.volume(),
        2 => hello.node = NodeId(input.byte()),
        3 => hello.usable_sectors = input.odd_number(),
        4 => hello.agreed_sectors = input.odd_number(),
        5 => hello.block_bytes = if input.flag() { 4096 } else { input.word() },
        6 => hello.payload_bytes_max = input.word(),
        7 => hello.data_credits = input.short(),
        8 => hello.read_credits = input.short(),
        9 => hello.zero_credits = input.short(),
        10 => {
            hello.usable_sectors = 8 * (1 + u64::from(input.short()));
            hello.agreed_sectors = 0;
        }
        _ => hello.config = u64::from(input.word()),
    }
    // The codec lets no empty range of versions pass.
    hello.protocol_max = hello.protocol_max.max(hello.protocol_min);
    hello
}
