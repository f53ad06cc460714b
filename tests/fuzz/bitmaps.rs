//! The exchange of bitmaps: whatever pages a peer sends, nothing is marked until this node yields or is up, and then
//! the union is, within the volume.

use super::core;
use super::input::Input;
use super::messages;
use super::node::{BLOCKS, Node};
use rblk::limits::{BLOCK_BYTES, PAGE_BIT_BYTES, PAGE_BLOCKS};
use rblk::replica::Connection;
use rblk::wire::message::{DiskState, Message};

/// The first bytes choose the nodes, then each step is a message of the peer or an end of a metadata write.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut node = core::start(&mut input);
    node.disk_works();
    node.connect();
    for _ in 0..2 {
        let message = match node.said.first() {
            Some(Message::Hello(_)) => Message::Hello(messages::hello(&node)),
            Some(Message::State(_)) => Message::State(messages::state(&mut input, &node)),
            _ => return,
        };
        node.said.remove(0);
        node.receive(message, &[], false);
        if node.conn.is_none() {
            return;
        }
    }
    let mut model = Model::of(&node);
    for _ in 0..200 {
        if input.is_empty() || node.conn.is_none() {
            break;
        }
        one(&mut node, &mut model, &mut input);
        model.check(&node);
    }
    finish(&mut node, &mut model);
    node.settle();
}

/// What is left of the exchange, as it should be.
fn finish(node: &mut Node, model: &mut Model) {
    node.disk_works();
    while node.conn.is_some() && model.acked < pages_sent(node) {
        model.acked += 1;
        node.receive(Message::BitmapAck, &[], false);
    }
    if !model.ended && node.conn.is_some() {
        node.receive(Message::BitmapEnd, &[], false);
    }
    for _ in 0..2 {
        node.disk_works();
        model.check(node);
        if !std::mem::replace(&mut model.ready, true) && node.conn.is_some() {
            node.receive(Message::Ready, &[], false);
        }
    }
    model.check(node);
}

fn pages_sent(node: &Node) -> usize {
    let is_page =
        |said: &&Message| matches!(said, Message::BitmapPage { .. } | Message::BitmapFull { .. });
    node.said.iter().filter(is_page).count()
}

/// Bits by page, as a second opinion.
struct Model {
    own: Vec<[u8; PAGE_BIT_BYTES]>,
    union: Vec<[u8; PAGE_BIT_BYTES]>,
    blocks: u64,
    /// The peer has said that it has no more, and that it is ready.
    ended: bool,
    ready: bool,
    /// Pages that the peer has acknowledged.
    acked: usize,
}

impl Model {
    fn of(node: &Node) -> Model {
        let own = bits_of(node);
        let union = own.clone();
        Model {
            own,
            union,
            blocks: node.snapshot().sectors / 8,
            ended: false,
            ready: false,
            acked: 0,
        }
    }

    fn add(&mut self, page: u32, bits: &[u8; PAGE_BIT_BYTES]) {
        let Some(mine) = self.union.get_mut(page as usize) else { return };
        for (at, (mine, theirs)) in mine.iter_mut().zip(bits).enumerate() {
            for bit in 0..8 {
                let block = u64::from(page) * PAGE_BLOCKS + at as u64 * 8 + bit;
                *mine |= if block < self.blocks { theirs & 1 << bit } else { 0 };
            }
        }
    }

    fn check(&self, node: &Node) {
        let state = node.snapshot();
        if state.superblock.current.is_none() || state.sectors / 8 != self.blocks {
            return;
        }
        let found = bits_of(node);
        let bits = |pages: &[[u8; PAGE_BIT_BYTES]]| -> u64 {
            pages.iter().flatten().map(|byte| u64::from(byte.count_ones())).sum()
        };
        let marked = bits(&found);
        assert_eq!(state.out_of_sync_bytes, marked * BLOCK_BYTES);
        let joined = found == self.union || marked == self.blocks;
        match state.connection {
            Connection::Greeting if state.disk == DiskState::Inconsistent => {
                assert!(joined || found == self.own, "neither the own bits nor the union");
            }
            Connection::Greeting => {
                assert!(found == self.own, "marked by an exchange that may break off");
            }
            Connection::Connected => assert!(joined, "not the union"),
            Connection::Connecting | Connection::StandAlone => {}
        }
    }
}

fn bits_of(node: &Node) -> Vec<[u8; PAGE_BIT_BYTES]> {
    let mut pages = vec![[0; PAGE_BIT_BYTES]; BLOCKS.div_ceil(PAGE_BLOCKS) as usize];
    for (page, bits) in pages.iter_mut().enumerate() {
        node.replica.encode_bits(page as u32, bits);
    }
    pages
}

fn one(node: &mut Node, model: &mut Model, input: &mut Input<'_>) {
    let step = input.byte();
    let page = u32::from(step >> 4) % 4;
    let before = node.conn;
    let mut bits = [0; PAGE_BIT_BYTES];
    let message = match step & 15 {
        0..=4 => {
            for _ in 0..1 + input.byte() % 4 {
                let at = input.below(PAGE_BIT_BYTES);
                bits[at] |= input.byte();
            }
            Message::BitmapPage { page }
        }
        5 => {
            bits = [0xFF; PAGE_BIT_BYTES];
            Message::BitmapPage { page }
        }
        6 | 7 => {
            bits = [0xFF; PAGE_BIT_BYTES];
            Message::BitmapFull { page }
        }
        8 => Message::BitmapPage { page: input.word() },
        9..=11 => Message::BitmapAck,
        12 => Message::BitmapEnd,
        13 => Message::Ready,
        14 => return node.disk_works(),
        _ => {
            if node.meta_in_flight() > 0 {
                node.meta_done(0, true);
            }
            return;
        }
    };
    node.receive(message, &bits, false);
    if node.conn == before && node.conn.is_some() && !model.ended {
        match message {
            Message::BitmapPage { page } | Message::BitmapFull { page } => model.add(page, &bits),
            Message::BitmapEnd => model.ended = true,
            _ => {}
        }
    }
    if node.conn == before {
        model.ready |= message == Message::Ready;
        model.acked += usize::from(message == Message::BitmapAck);
    }
}
