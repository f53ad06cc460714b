//! The exchange of bitmaps: what either node marks is copied.
//!
//! Both nodes send the pages that have a bit set, a few ahead of the answers. What they receive waits beside the
//! bitmap: should the greeting break off, neither may look as if it had changes of its own, or the next verdict or a
//! policy would decide otherwise. A full resync sends no pages: both nodes know to set every bit.
//!
//! ```text
//!   target: on record as inconsistent ──durable──► union in its bitmap ──durable──► Ready
//!   source: up ──► union in its bitmap ──durable──► the first block is copied
//! ```
//!
//! Until then each node's own bits are where they were, and a broken greeting is begun anew. From then on either bitmap
//! alone is enough to go on after an interruption. Where everything is copied, all bits come before the record: nothing
//! else would tell the next greeting.

use super::Replica;
use super::dirty::Dirty;
use crate::limits::{BITMAP_PAGES_AHEAD_MAX, BLOCK_SECTORS, PAGE_BIT_BYTES};
use crate::meta::superblock::Superblock;
use crate::replica::event::{MetaSeq, Payload};
use crate::replica::generation::Verdict;
use crate::wire::message::{DiskState, Message, State};
use std::collections::BTreeMap;

/// How far it has come.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    next_page: u32,
    unanswered: u32,
    sent_end: bool,
    got_end: bool,
    /// Everything is to be copied.
    full: bool,
    /// What the peer marks: at most as much as the bitmap itself.
    received: BTreeMap<u32, Received>,
    /// That has been added to the bitmap.
    joined: bool,
}

/// The bits of a page at the peer.
#[derive(Debug)]
enum Received {
    All,
    Some(Box<[u8; PAGE_BIT_BYTES]>),
}

impl Exchange {
    /// The bitmap has the union.
    pub(super) fn is_joined(&self) -> bool {
        self.joined
    }
}

impl Replica {
    pub(super) fn start_exchange(&mut self, found: Verdict) {
        self.link.exchange = Exchange::default();
        if let Verdict::Source { full: Some(_) } | Verdict::Target { full: Some(_) } = found {
            self.link.exchange.full = true;
            self.link.exchange.next_page = self.dirty.pages();
        }
        self.link.phase = super::link::Phase::Exchange;
    }

    /// Sends the next pages, and goes on when both directions are done.
    pub(super) fn pump_exchange(&mut self) {
        let pages = self.pages_of_both();
        while self.link.exchange.unanswered < BITMAP_PAGES_AHEAD_MAX {
            let page = self.link.exchange.next_page;
            if page >= pages {
                break;
            }
            self.link.exchange.next_page += 1;
            if self.dirty.page_is_empty(page) {
                continue;
            }
            self.link.exchange.unanswered += 1;
            if self.dirty.page_is_full(page) {
                self.send(Message::BitmapFull { page });
            } else {
                let message = Message::BitmapPage { page };
                self.send_with(message, Payload::Bits { page }, MetaSeq(0));
            }
        }
        let exchange = &mut self.link.exchange;
        let all_sent = exchange.next_page >= pages && exchange.unanswered == 0;
        if all_sent && !exchange.sent_end {
            exchange.sent_end = true;
            self.send(Message::BitmapEnd);
        }
        let exchange = &self.link.exchange;
        if exchange.sent_end && exchange.got_end {
            self.prepare();
        }
    }

    /// Pages of the size that the two agree on: one that is larger by now cuts off what is beyond.
    fn pages_of_both(&self) -> u32 {
        let agreed = self.link.peer_hello().map(|hello| self.agree_on_size(hello));
        match agreed {
            Some(Ok(sectors)) => {
                self.dirty.pages().min(Dirty::page_of((sectors / BLOCK_SECTORS).max(1) - 1) + 1)
            }
            _ => self.dirty.pages(),
        }
    }

    pub(super) fn on_bitmap(&mut self, message: Message, payload: &[u8]) {
        let exchange = &mut self.link.exchange;
        match message {
            Message::BitmapAck if exchange.unanswered > 0 => exchange.unanswered -= 1,
            Message::BitmapEnd if !exchange.got_end => exchange.got_end = true,
            Message::BitmapPage { page } if page < self.dirty.pages() && !exchange.got_end => {
                let Ok(bits) = <&[u8; PAGE_BIT_BYTES]>::try_from(payload) else {
                    self.broken("a bitmap page of the wrong length");
                    return;
                };
                match exchange.received.get_mut(&page) {
                    Some(Received::All) => {}
                    Some(Received::Some(known)) => {
                        known.iter_mut().zip(bits).for_each(|(known, new)| *known |= new);
                    }
                    None => drop(exchange.received.insert(page, Received::Some(Box::new(*bits)))),
                }
                self.send(Message::BitmapAck);
            }
            Message::BitmapFull { page } if page < self.dirty.pages() && !exchange.got_end => {
                exchange.received.insert(page, Received::All);
                self.send(Message::BitmapAck);
            }
            _ => self.broken("a bitmap message out of turn"),
        }
    }

    /// Adds what the exchange has brought to the bitmap. Returns the step after which that is durable.
    pub(super) fn join_bitmaps(&mut self) -> MetaSeq {
        let exchange = std::mem::take(&mut self.link.exchange);
        self.link.exchange.joined = true;
        if exchange.full {
            self.dirty.set_all();
        }
        for (page, bits) in exchange.received {
            match bits {
                Received::All => self.dirty.fill_page(page),
                Received::Some(bits) => self.dirty.or_page(page, &bits),
            }
        }
        self.meta.pages_step()
    }

    /// This node gives up its data. Returns the step after which that is durable.
    pub(super) fn yield_to(&mut self, source: &State) -> MetaSeq {
        if self.link.exchange.full {
            self.join_bitmaps();
        }
        self.become_target(source);
        self.write_superblock()
    }

    /// This node's data is about to be overwritten: it takes the source's generation, marked inconsistent.
    fn become_target(&mut self, source: &State) {
        if self.sb.consistent {
            self.given_up = Some(self.sb);
        }
        if let Some(old) = self.sb.current.filter(|old| Some(*old) != source.current) {
            self.sb.history.push(old);
        }
        self.sb.current = source.current;
        self.sb.base = None;
        self.sb.consistent = false;
        self.sb.outdated = false;
        self.sb.peer_outdated = false;
        self.sb.sole_source = false;
        self.sb.crashed = false;
        // From here on this disk is no older than the source knows it; and the source is what it is, by the verdict.
        self.sb.mark = self.sb.mark.max(source.peer_mark);
        self.sb.peer_mark = source.mark;
        self.disk = DiskState::Inconsistent;
    }

    /// This node has yielded to a source that never came to overwrite anything: its disk is what it was before.
    pub(super) fn take_back(&mut self) {
        if let Some(before) = self.given_up.take() {
            let Superblock { sequence, agreed_sectors, .. } = self.sb;
            self.sb = Superblock { sequence, agreed_sectors, ..before };
        }
    }

    /// Both nodes use this many sectors from now on.
    pub(super) fn set_size(&mut self, sectors: u64) {
        assert!(sectors <= self.sb.usable_sectors, "the agreed size fits both disks");
        self.sb.agreed_sectors = sectors;
        self.sectors = sectors;
        self.dirty.truncate(sectors);
    }
}
