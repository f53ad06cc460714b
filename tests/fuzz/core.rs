//! The core under a peer that says anything, in any order, while its disk is slow, fails and loses power.
//!
//! Nothing a peer says may panic the core, make it hold more than its limits, or leave a client without an answer
//! for ever; what certainly makes no sense ends the connection with a reason.

use super::input::Input;
use super::messages::{self, span};
use super::node::{Node, answer_to, layout, owner};
use rblk::limits::{IO_BYTES_MAX, PAGE_BIT_BYTES, ZERO_BYTES_MAX};
use rblk::meta::superblock::{GenerationId, History, NodeId, Superblock};
use rblk::replica::Connection;
use rblk::replica::event::{Command, DiskResult, FrontOp};
use rblk::wire::message::{Message, Outcome, ZeroKind};

/// Facts of one input: enough to find what many facts in a row do, and no more than a second's work.
const FACTS_MAX: usize = 600;
const RESTARTS_MAX: usize = 3;

/// The first bytes choose a node, then each step is a byte and what it needs.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut node = start(&mut input);
    let mut restarts = 0;
    for _ in 0..FACTS_MAX {
        if input.is_empty() {
            break;
        }
        let step = input.byte();
        if node.gone || (step == 255 && restarts < RESTARTS_MAX) {
            let lands = input.byte();
            let mut turn = 0;
            node.restart(|| {
                turn += 1;
                lands >> (turn % 8) & 1 == 1
            });
            restarts += usize::from(!node.gone);
            if node.gone {
                break;
            }
            continue;
        }
        one(&mut node, step, &mut input);
    }
    if !node.gone {
        node.settle();
    }
}

/// A node of every sort: fresh, in sync, alone, an interrupted target, a crashed Primary, one that stepped back.
pub(crate) fn start(input: &mut Input<'_>) -> Node {
    let flags = input.byte();
    let id = NodeId(flags & 1);
    let (here, past) = (GenerationId(0xA0), GenerationId(0xB0));
    let mut history = History::default();
    history.push(GenerationId(0xC0));
    let in_sync = Superblock {
        agreed_sectors: layout().data_sectors(),
        history,
        ..Superblock::fresh(owner(id), &layout(), Some(here))
    };
    let superblock = match flags >> 1 & 7 {
        0 | 1 => in_sync,
        2 => Superblock {
            agreed_sectors: 0,
            current: None,
            history: History::default(),
            consistent: false,
            ..in_sync
        },
        3 => Superblock { base: Some(past), peer_outdated: true, ..in_sync },
        4 => Superblock { consistent: false, ..in_sync },
        5 => Superblock { primary: true, ..in_sync },
        6 => Superblock { outdated: true, ..in_sync },
        _ => Superblock { agreed_sectors: layout().data_sectors() / 64 * 8, ..in_sync },
    };
    // Few bits, at places that are in every page.
    let mut bits = [0; PAGE_BIT_BYTES];
    if flags & 0x10 != 0 && superblock.current.is_some() {
        bits[..4].copy_from_slice(&input.word().to_le_bytes());
    }
    let mut node = Node::new(&superblock, &bits, flags & 0x20 == 0);
    if flags & 0x40 != 0 {
        node.disk_works();
    }
    if flags & 0x80 != 0 {
        node.command(Command::Promote { force: true });
        node.disk_works();
    }
    node
}

fn one(node: &mut Node, step: u8, input: &mut Input<'_>) {
    match step {
        0..=9 => node.connect(),
        10..=13 => node.disconnect(),
        14 => node.disconnect_old(input.byte().into()),
        15..=24 => node.timeout(),
        25..=29 => node.wait(u64::from(input.short()) % 12_000),
        30..=59 => node.disk_works(),
        60..=79 => disk_done(node, input),
        80..=94 => meta_done(node, input),
        95..=124 => request(node, input),
        125..=134 => command(node, input),
        135..=169 => proper(node, input),
        170..=179 => greet(node, input),
        180..=184 => {
            let message = messages::any(input, node);
            repeat(node, input, message);
        }
        185..=187 => {
            let message = messages::any(input, node);
            node.receive(message, &[0xFF; PAGE_BIT_BYTES], true);
        }
        _ => receive(node, input),
    }
}

fn receive(node: &mut Node, input: &mut Input<'_>) {
    if node.conn.is_none() {
        return;
    }
    let message = messages::any(input, node);
    deliver(node, input, message);
}

fn deliver(node: &mut Node, input: &mut Input<'_>, message: Message) {
    let mut bits = [0; PAGE_BIT_BYTES];
    if matches!(message, Message::BitmapPage { .. }) {
        let at = input.below(PAGE_BIT_BYTES);
        bits[at] = input.byte();
        bits[PAGE_BIT_BYTES - 1] = input.byte();
    }
    node.receive(message, &bits, false);
}

/// The same again and again, until the connection ends or the patience of this file does.
fn repeat(node: &mut Node, input: &mut Input<'_>, message: Message) {
    for _ in 0..input.below(1200) {
        if node.conn.is_none() {
            return;
        }
        node.receive(message, &[0x11; PAGE_BIT_BYTES], false);
    }
}

/// What a correct peer would answer to the oldest message.
fn proper(node: &mut Node, input: &mut Input<'_>) {
    if node.said.is_empty() || node.conn.is_none() {
        return;
    }
    let said = node.said.remove(0);
    let answer = match said {
        Message::Hello(_) => Some(Message::Hello(messages::hello(node))),
        Message::State(_) => Some(Message::State(messages::state(input, node))),
        Message::DiskFailed => Some(Message::DiskFailedAck { current: GenerationId(0xD0) }),
        other => answer_to(&other, Outcome::Done),
    };
    if let Some(answer) = answer {
        node.receive(answer, &[0; PAGE_BIT_BYTES], false);
    }
}

/// The whole greeting with a correct peer.
fn greet(node: &mut Node, input: &mut Input<'_>) {
    node.connect();
    for _ in 0..40 {
        if node.conn.is_none() || node.snapshot().connection == Connection::Connected {
            return;
        }
        node.disk_works();
        if node.said.is_empty() {
            node.timeout();
        }
        proper(node, input);
    }
}

fn disk_done(node: &mut Node, input: &mut Input<'_>) {
    if node.disk.is_empty() {
        return;
    }
    let at = input.below(node.disk.len());
    let result = match input.byte() % 16 {
        0 => DiskResult::Failed,
        1..=3 => DiskResult::DoneZero,
        _ => DiskResult::Done,
    };
    node.disk_done(at, result);
}

fn meta_done(node: &mut Node, input: &mut Input<'_>) {
    if node.meta_in_flight() > 0 {
        let at = input.below(node.meta_in_flight());
        let ok = input.byte() % 32 != 31;
        node.meta_done(at, ok);
    }
}

fn request(node: &mut Node, input: &mut Input<'_>) {
    let sectors = node.snapshot().sectors;
    let kind = input.byte();
    let most = if kind % 8 == 5 { ZERO_BYTES_MAX } else { IO_BYTES_MAX as u64 };
    let span = span(input, sectors, most);
    // A front refuses what lies outside the volume.
    if !span.within(sectors) {
        return;
    }
    let fua = kind & 0x40 != 0;
    node.request(|buf| match (kind % 8, buf) {
        (0..=2, Some(buf)) => FrontOp::Write { span, buf, fua },
        (3 | 4, Some(buf)) => FrontOp::Read { span, buf },
        (5, _) => FrontOp::Zero { span, kind: ZeroKind::Discard, fua },
        _ => FrontOp::Flush,
    });
}

fn command(node: &mut Node, input: &mut Input<'_>) {
    let byte = input.byte();
    node.command(match byte % 8 {
        0 if byte >= 0x80 => Command::Verify,
        1 if byte >= 0xC0 => Command::Repair,
        2 if byte >= 0xC0 => Command::StopVerify,
        3 if byte >= 0xC0 => Command::Resize,
        0..=2 => Command::Promote { force: false },
        3 | 4 => Command::Promote { force: true },
        5 | 6 => Command::Demote,
        _ => Command::Detach,
    });
}
