//! The exchange of bitmaps: what either node marks is copied.
//!
//! ```text
//!   target                                                               source
//!   its bits, BitmapEnd ───────────────────────────────────────────────► adds them, makes the union durable
//!   its data is given up: from here on Inconsistent ◄── Ready, then its bits, BitmapEnd
//!   adds them, makes that and the union durable, Ready ────────────────► up
//! ```
//!
//! Pages that have a bit set are sent, a few ahead of the answers. Either bitmap alone is enough to go on after an
//! interruption. A full resync sends no pages: both nodes know to set every bit.
//!
//! The verdict is computed from how much each has marked, and an exchange may break off at any message. So the target
//! adds bits of the source only to data that it has given up, also durably: before that its bits say what it has
//! changed itself, and the next verdict is the same. What the source adds makes it no less of a source.

use super::Replica;
use crate::limits::{BITMAP_PAGES_AHEAD_MAX, PAGE_BIT_BYTES};
use crate::replica::event::{MetaSeq, Payload};
use crate::replica::generation::Verdict;
use crate::replica::link::Phase;
use crate::wire::message::{DiskState, Message, State};

/// How far it has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exchange {
    next_page: u32,
    unanswered: u32,
    pub(super) sent_end: bool,
    pub(super) got_end: bool,
}

impl Replica {
    pub(super) fn start_exchange(&mut self, found: Verdict) {
        self.link.exchange = Exchange::default();
        if let Verdict::Source { full: Some(_) } | Verdict::Target { full: Some(_) } = found {
            self.dirty.set_all();
            self.link.exchange.next_page = self.dirty.pages();
        }
        self.link.phase = Phase::Exchange;
    }

    /// Goes on when the target's bits are all sent, or all here.
    pub(super) fn pump_exchange(&mut self) {
        if self.link.yields() {
            // No page of the bitmap is written any more before the record that this node has yielded.
            if self.meta.len() == 0 {
                self.send_bits();
            }
            if self.link.exchange.sent_end {
                self.prepare(MetaSeq(0));
            }
        } else if self.link.exchange.got_end {
            let union = self.meta.pages_step();
            self.prepare(union);
        }
    }

    /// Sends the next pages, and the end after the last answer.
    pub(super) fn send_bits(&mut self) {
        while self.link.exchange.unanswered < BITMAP_PAGES_AHEAD_MAX {
            let page = self.link.exchange.next_page;
            if page >= self.dirty.pages() {
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
        let all_sent = exchange.next_page >= self.dirty.pages() && exchange.unanswered == 0;
        if all_sent && !exchange.sent_end {
            exchange.sent_end = true;
            self.send(Message::BitmapEnd);
        }
    }

    pub(super) fn on_bitmap(&mut self, message: Message, payload: &[u8]) {
        let listens = !self.link.exchange.got_end
            && match self.link.phase {
                Phase::Exchange => !self.link.yields(),
                Phase::Yield(_) => true,
                _ => false,
            };
        let exchange = &mut self.link.exchange;
        match message {
            Message::BitmapAck if exchange.unanswered > 0 => exchange.unanswered -= 1,
            Message::BitmapEnd if listens => {
                exchange.got_end = true;
                if let Phase::Yield(after) = self.link.phase {
                    self.link.phase = Phase::Yield(after.max(self.meta.pages_step()));
                }
            }
            Message::BitmapPage { page } if page < self.dirty.pages() && listens => {
                let Ok(bits) = <&[u8; PAGE_BIT_BYTES]>::try_from(payload) else {
                    self.broken("a bitmap page of the wrong length");
                    return;
                };
                self.dirty.or_page(page, bits);
                self.send(Message::BitmapAck);
            }
            Message::BitmapFull { page } if page < self.dirty.pages() && listens => {
                self.dirty.fill_page(page);
                self.send(Message::BitmapAck);
            }
            _ => self.broken("a bitmap message out of turn"),
        }
    }

    /// This node's data is about to be overwritten: it takes the source's generation, marked inconsistent. The union of
    /// both bitmaps is durable at the source.
    pub(super) fn become_target(&mut self, source: &State) {
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

    /// Both nodes use this many sectors from now on.
    pub(super) fn set_size(&mut self, sectors: u64) {
        assert!(sectors <= self.sb.usable_sectors, "the agreed size fits both disks");
        self.sb.agreed_sectors = sectors;
        self.sectors = sectors;
        self.dirty.truncate(sectors);
    }
}
