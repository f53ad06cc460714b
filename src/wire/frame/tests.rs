//! Properties of the frame codec.

use super::*;
use crate::limits::{BLOCK_BYTES, PAGE_BIT_BYTES, SECTOR_BYTES, ZERO_BYTES_MAX};
use crate::meta::superblock::{GenerationId, History, MARK_MAX, NodeId, VolumeId};
use crate::span::Span;
use crate::wire::message::{DiskState, Hello, Outcome, Refusal, Role, State, ZeroKind};
use crate::wire::policy::{After0pri, After1pri, After2pri, Policies, RrConflict};
use crate::wire::{PROTOCOL_3, PROTOCOL_MAX};
use proptest::prelude::*;
use proptest::sample::select;

fn spans(bytes_max: u64) -> impl Strategy<Value = Span> {
    let start_max = i64::MAX as u64 / SECTOR_BYTES - bytes_max / SECTOR_BYTES;
    let start = prop_oneof![0..1u64 << 30, 0..=start_max, Just(start_max)];
    (start, 1..=(bytes_max / SECTOR_BYTES) as u32)
        .prop_map(|(start, sectors)| Span::new(start, sectors).expect("in range"))
}

fn generations() -> impl Strategy<Value = GenerationId> {
    prop_oneof![Just(0), any::<u128>()].prop_map(GenerationId)
}

fn histories() -> impl Strategy<Value = History> {
    prop::collection::vec(generations(), 0..20).prop_map(|ids| {
        let mut history = History::default();
        ids.into_iter().for_each(|id| history.push(id));
        history
    })
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    select(vec![Outcome::Done, Outcome::Failed])
}

fn roles() -> impl Strategy<Value = Role> {
    select(vec![Role::Primary, Role::Secondary])
}

prop_compose! {
    fn hellos()(
        versions: (u16, u16), volume: u128, node: u8, sectors: (u64, u64), bytes: (u32, u32),
        credits: [u16; 3], discard: bool, config: u64,
    ) -> Hello {
        Hello {
            protocol_min: versions.0.min(versions.1),
            protocol_max: versions.0.max(versions.1),
            volume: VolumeId(volume),
            node: NodeId(node),
            usable_sectors: sectors.0,
            agreed_sectors: sectors.1,
            block_bytes: bytes.0,
            payload_bytes_max: bytes.1,
            data_credits: credits[0],
            read_credits: credits[1],
            zero_credits: credits[2],
            discard,
            config: if versions.0.max(versions.1) >= PROTOCOL_3 { config } else { 0 },
        }
    }
}

prop_compose! {
    fn policies()(
        after_0pri in select(After0pri::ALL),
        after_1pri in select(After1pri::ALL),
        after_2pri in select(After2pri::ALL),
        rr_conflict in select(RrConflict::ALL),
        dual_primary: bool,
    ) -> Policies {
        Policies { dual_primary, after_0pri, after_1pri, after_2pri, rr_conflict }
    }
}

prop_compose! {
    fn states()(
        current in prop::option::of(generations()),
        base in prop::option::of(generations()),
        history in histories(),
        disk in select(vec![
            DiskState::Diskless, DiskState::Failed, DiskState::Inconsistent, DiskState::Outdated,
            DiskState::Consistent, DiskState::UpToDate,
        ]),
        role in roles(),
        dirty_blocks: u64,
        flags: [bool; 6],
        policies in policies(),
        marks in prop::array::uniform2(0..=MARK_MAX),
    ) -> State {
        State {
            current, base, history, disk, role, dirty_blocks,
            crashed: flags[0], survivor: flags[1], kept: flags[5], peer_outdated: flags[2], discard_my_data: flags[3],
            parted_primary: flags[4], policies,
            mark: marks[0], peer_mark: marks[1],
        }
    }
}

fn refusals() -> impl Strategy<Value = Refusal> {
    select(vec![
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
        Refusal::BothDiscard,
        Refusal::RolledBack,
        Refusal::DataLost,
        Refusal::Policies,
        Refusal::PrimaryMustStepDown,
    ])
}

fn messages() -> impl Strategy<Value = Message> {
    let zero_kinds = select(vec![ZeroKind::Discard, ZeroKind::Zeroes, ZeroKind::ZeroesAllocated]);
    let data = || (any::<u64>(), spans(IO_BYTES_MAX as u64));
    let whole = || {
        let blocks = (0..1_u64 << 40, 1..=(IO_BYTES_MAX as u64 / BLOCK_BYTES) as u32);
        let span = |(block, count): (u64, u32)| Span::new(8 * block, 8 * count).expect("valid");
        (any::<u64>(), blocks.prop_map(span))
    };
    let zero = || (any::<u64>(), spans(ZERO_BYTES_MAX));
    let bare = vec![
        Message::BitmapAck,
        Message::BitmapEnd,
        Message::Ready,
        Message::ResyncEndAck,
        Message::PromoteAsk,
        Message::DiskFailed,
        Message::Ping,
        Message::Pong,
    ];
    let connection = prop_oneof![
        hellos().prop_map(Message::Hello),
        states().prop_map(Message::State),
        refusals().prop_map(Message::Refuse),
        any::<u32>().prop_map(|page| Message::BitmapPage { page }),
        any::<u32>().prop_map(|page| Message::BitmapFull { page }),
        any::<bool>().prop_map(|granted| Message::PromoteAnswer { granted }),
        roles().prop_map(|role| Message::RoleIs { role }),
        generations().prop_map(|current| Message::DiskFailedAck { current }),
        any::<bool>().prop_map(|outdated| Message::Bye { outdated }),
        select(bare),
    ];
    let requests = prop_oneof![
        (data(), any::<bool>()).prop_map(|((id, span), fua)| Message::Write { id, span, fua }),
        (zero(), zero_kinds, any::<bool>())
            .prop_map(|((id, span), kind, fua)| { Message::WriteZero { id, span, kind, fua } }),
        any::<(u64, bool)>().prop_map(|(id, mark)| Message::Flush { id, mark }),
        (0..=MARK_MAX, any::<bool>()).prop_map(|(mark, more)| Message::Mark { mark, more }),
        data().prop_map(|(id, span)| Message::Read { id, span }),
        whole().prop_map(|(id, span)| Message::DigestAsk { id, span }),
        data().prop_map(|(id, span)| Message::ResyncData { id, span }),
        zero().prop_map(|(id, span)| Message::ResyncZero { id, span }),
        (generations(), histories())
            .prop_map(|(current, history)| Message::ResyncEnd { current, history }),
    ];
    let answers = prop_oneof![
        (any::<u64>(), outcomes()).prop_map(|(id, outcome)| Message::WriteAck { id, outcome }),
        (any::<u64>(), outcomes()).prop_map(|(id, outcome)| Message::FlushAck { id, outcome }),
        (data(), outcomes()).prop_map(|((id, span), outcome)| Message::ReadReply {
            id,
            span,
            outcome
        }),
        (whole(), prop_oneof![outcomes(), Just(Outcome::Skipped)])
            .prop_map(|((id, span), outcome)| Message::DigestReply { id, span, outcome }),
        (any::<u64>(), prop_oneof![outcomes(), Just(Outcome::Skipped)])
            .prop_map(|(id, outcome)| Message::ResyncAck { id, outcome }),
    ];
    prop_oneof![connection, requests, answers]
}

/// Reads a whole frame as a receiver does.
fn decode(frame: &[u8]) -> Result<(Header, Message), FrameError> {
    let (header, extension) = frame.split_first_chunk().expect("a header");
    let header = Header::parse(header)?;
    let message = header.message(extension)?;
    assert_eq!(message.payload_bytes(), header.payload_bytes() as u64);
    Ok((header, message))
}

/// A frame of this message, and its length.
fn frame(message: &Message, payload_crc: u32) -> ([u8; FRAME_BYTES_MAX], usize) {
    let mut out = [0xaa; FRAME_BYTES_MAX];
    let length = encode(message, payload_crc, &mut out);
    (out, length)
}

/// Makes both checksums right again.
fn reseal(frame: &mut [u8]) {
    let (header, extension) = frame.split_at_mut(HEADER_BYTES);
    let crc = crc32c::crc32c(extension);
    put(header, at::EXTENSION_CRC, &crc.to_le_bytes());
    let crc = crc32c::crc32c(&header[..at::CRC]);
    put(header, at::CRC, &crc.to_le_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_message_comes_back(message in messages(), crc: u32) {
        let crc = if message.payload_bytes() == 0 { 0 } else { crc };
        let (frame, length) = frame(&message, crc);
        let (header, found) = decode(&frame[..length])?;
        prop_assert_eq!(found, message);
        prop_assert_eq!(header.payload_crc(), crc);
        prop_assert_eq!(HEADER_BYTES + header.extension_bytes(), length);
        prop_assert_eq!(header.protocol().is_some(), matches!(message, Message::Hello(_)));
    }

    #[test]
    fn any_damage_shows(message in messages(), at: prop::sample::Index, xor in 1..=u8::MAX) {
        let (mut frame, length) = frame(&message, 0);
        let frame = &mut frame[..length];
        frame[at.index(length)] ^= xor;
        prop_assert!(decode(frame).is_err());
    }

    /// A right checksum proves nothing: whatever decodes is the one way to write its message.
    #[test]
    fn there_is_one_way_to_write_a_message(
        message in messages(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut frame, length) = frame(&message, 0);
        for (at, byte) in damage {
            frame[at.index(length)] = byte;
        }
        let bytes = &mut frame[..length];
        reseal(bytes);
        if let Ok((header, found)) = decode(bytes) {
            let mut again = [0; FRAME_BYTES_MAX];
            let length = encode(&found, header.payload_crc(), &mut again);
            prop_assert_eq!(&again[..length], bytes);
        }
    }

    #[test]
    fn no_bytes_panic(
        mut bytes in prop::collection::vec(any::<u8>(), HEADER_BYTES..FRAME_BYTES_MAX),
        kind in 0..40u8,
        sealed: bool,
    ) {
        if sealed {
            put(&mut bytes, at::MAGIC, &MAGIC);
            bytes[at::KIND] = kind;
            reseal(&mut bytes);
        }
        prop_assert!(decode(&bytes).is_err());
    }
}

fn hello(protocol_min: u16, protocol_max: u16) -> Message {
    Message::Hello(Hello {
        protocol_min,
        protocol_max,
        volume: VolumeId(1),
        node: NodeId(0),
        usable_sectors: 8,
        agreed_sectors: 0,
        block_bytes: 512,
        payload_bytes_max: 4096,
        data_credits: 1,
        read_credits: 1,
        zero_credits: 1,
        discard: true,
        config: 0,
    })
}

/// A frame of Hello to which a sender of version `protocol_max` has appended 24 bytes.
fn longer_hello(protocol_max: u16) -> Vec<u8> {
    let (frame, length) = frame(&hello(PROTOCOL_MAX, protocol_max), 0);
    let mut frame = frame[..length].to_vec();
    frame.extend_from_slice(&[0x5a; 24]);
    put(&mut frame, at::EXTENSION_BYTES, &((length - HEADER_BYTES + 24) as u32).to_le_bytes());
    reseal(&mut frame);
    frame
}

#[test]
fn a_later_version_may_append_to_hello() {
    let found = decode(&longer_hello(PROTOCOL_MAX + 1)).map(|(_, message)| message);
    assert_eq!(found, Ok(hello(PROTOCOL_MAX, PROTOCOL_MAX + 1)));
    let found = decode(&longer_hello(PROTOCOL_MAX));
    assert!(matches!(found, Err(FrameError::ExtensionLength { .. })));
}

#[test]
fn the_protocol_range_stands_where_every_version_finds_it() {
    let (frame, _) = frame(&hello(3, 0x0a0b), 0);
    assert_eq!(frame[..5], *b"rblk\x01");
    assert_eq!(frame[48..52], [3, 0, 0x0b, 0x0a]);
}

#[test]
fn a_payload_is_checked_against_its_header() {
    let payload = [7; PAGE_BIT_BYTES];
    let (frame, length) = frame(&Message::BitmapPage { page: 1 }, crc32c::crc32c(&payload));
    let (header, _) = decode(&frame[..length]).expect("sound");
    assert_eq!(header.check_payload(&payload), Ok(()));
    assert_eq!(header.check_payload(&[8; PAGE_BIT_BYTES]), Err(FrameError::PayloadChecksum));
    let short = header.check_payload(&payload[1..]);
    assert_eq!(short, Err(FrameError::PayloadLength { found: PAGE_BIT_BYTES as u32 - 1 }));
}

#[test]
#[should_panic(expected = "only a request of resync or verify can be skipped")]
fn an_invalid_message_is_not_sent() {
    frame(&Message::WriteAck { id: 1, outcome: Outcome::Skipped }, 0);
}
