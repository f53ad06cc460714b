//! Watermarks: how a disk that was restored from an older image is recognised.
//!
//! ```text
//!   initiator                                       follower
//!   Flush { mark } ────────────────────────────────► flush ─► record mark + 1
//!   record it, and own mark + 1 ◄───────── Mark { more }
//!   Mark ──────────────────────────────────────────► record it
//! ```
//!
//! Each disk has a number that only grows, and only while both nodes are connected: so a node cannot catch up with its
//! own past by being restarted, promoted or written to alone, as it could with a count of superblocks. Each node keeps,
//! durably, the highest number that the other has said to be durable. Whoever shows a lower one when they meet has been
//! put back to an earlier time, or had a disk that lied about a flush: [`generation`](super::generation) says what
//! follows. A crash can give no false alarm, since nothing is told before it is durable.
//!
//! A number is raised after a flush of both disks, at most once in [`MARK_MS`], and so at the latest about that long
//! after the last write. That is also the limit: an image is recognised if a mark was raised after it was taken. The
//! answer to a client never waits for it.

use super::Replica;
use crate::limits::MARK_MS;
use crate::meta::superblock::MARK_MAX;
use crate::replica::event::{MetaSeq, Payload, Tick};
use crate::wire::message::Message;

/// The mark that is being raised.
#[derive(Debug, Default)]
pub(super) struct Watermark {
    /// When it was asked for last.
    asked: Tick,
    /// Both disks have taken data since.
    unmarked: bool,
    /// The peer has raised its own, and our flush has not ended yet.
    owed: bool,
    /// Ours is to be raised; true: and then the peer's.
    wanted: Option<bool>,
    /// The peer's is to be recorded.
    unsaved: bool,
    /// Ours is told once this step is durable.
    telling: Option<(MetaSeq, bool)>,
}

impl Watermark {
    /// Both disks have taken data.
    pub(super) fn data_was_written(&mut self) {
        self.unmarked = true;
    }

    /// The connection or a disk is gone: nobody waits for it any more.
    pub(super) fn forget(&mut self) {
        *self = Watermark { asked: self.asked, unmarked: self.unmarked, ..Watermark::default() };
    }

    /// The flush of both disks has ended.
    pub(super) fn flush_ended(&mut self) {
        if std::mem::take(&mut self.owed) {
            self.wanted = Some(false);
        }
    }

    /// The peer's flush has ended here.
    pub(super) fn flush_for_peer_ended(&mut self) {
        self.wanted = Some(true);
    }
}

impl Replica {
    /// There is something to raise the marks for, and time for it.
    pub(super) fn mark_is_due(&self) -> bool {
        let both = self.has_disk() && self.link.is_up() && self.link.peer_has_disk();
        both && self.watermark.unmarked && self.now >= self.watermark.asked.plus_ms(MARK_MS)
    }

    /// A flush of both disks begins: true if it shall raise the marks.
    pub(super) fn ask_for_mark(&mut self) -> bool {
        let due = self.mark_is_due();
        if due {
            self.watermark.asked = self.now;
            self.watermark.unmarked = false;
        }
        due
    }

    /// One write of a superblock at a time, whatever the peer says how often.
    pub(super) fn pump_watermark(&mut self) {
        let quiet = self.meta.is_durable(self.sb_durable_with);
        if !self.link.is_up() || !self.has_disk() || !quiet {
            return;
        }
        if let Some((after, more)) = self.watermark.telling.take() {
            self.send_with(Message::Mark { mark: self.sb.mark, more }, Payload::None, after);
        }
        if let Some(more) = self.watermark.wanted.take()
            && self.sb.mark < MARK_MAX
        {
            self.sb.mark += 1;
            self.watermark.unsaved = false;
            self.watermark.telling = Some((self.write_superblock(), more));
        } else if std::mem::take(&mut self.watermark.unsaved) {
            self.write_superblock();
        }
    }

    /// The peer's mark was raised.
    pub(super) fn on_mark(&mut self, mark: u64, more: bool) {
        if mark < self.sb.peer_mark {
            self.broken("a watermark that goes back");
            return;
        }
        self.sb.peer_mark = mark;
        self.watermark.unsaved = true;
        if more && self.flusher.runs() {
            self.watermark.owed = true;
        } else if more {
            self.watermark.wanted = Some(false);
        }
    }
}
