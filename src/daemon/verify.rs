//! What the daemon says of a verify: in the status, and at its end in the log.

use super::events::unix_ms;
use super::run::Daemon;
use crate::ctl::status::{Difference, Verify};
use crate::limits::{BLOCK_BYTES, DIFFERENCES_TOLD};
use crate::replica::event::Tick;
use crate::replica::{Verified, VerifyStage};
use std::ops::Range;

impl Daemon {
    /// The verify that runs, or the last one; `None` if there was none.
    pub(super) fn verify_status(&self, now: Tick) -> Option<Verify> {
        let found = self.replica.verified();
        let state = match found.stage {
            VerifyStage::Never => return None,
            VerifyStage::Running => "running",
            VerifyStage::Stopped => "stopped",
            VerifyStage::Done => "done",
            VerifyStage::BrokenOff => "broken-off",
            VerifyStage::Repairing => "repairing",
        };
        let ended = if found.stage == VerifyStage::Running { now } else { found.ended };
        let runs = self.replica.differences();
        Some(Verify {
            state: state.to_owned(),
            began_unix_ms: unix_ms().saturating_sub(now.since(found.began) / 1000),
            duration_ms: ended.since(found.began) / 1000,
            total_bytes: found.total_bytes,
            done_bytes: found.done_bytes,
            differing_bytes: found.differing_bytes,
            unreadable_bytes: found.unreadable_bytes,
            peer_unreadable_bytes: found.peer_unreadable_bytes,
            busy_bytes: found.busy_bytes,
            repair_bytes: found.repair_bytes,
            repaired_bytes: found.repaired_bytes,
            differences: runs.iter().take(DIFFERENCES_TOLD).map(difference).collect(),
            more_differences: runs.len().saturating_sub(DIFFERENCES_TOLD) as u64,
        })
    }
}

fn difference(blocks: &Range<u64>) -> Difference {
    Difference {
        offset: blocks.start * BLOCK_BYTES,
        bytes: (blocks.end - blocks.start) * BLOCK_BYTES,
    }
}

/// The end of a verify, in a line of the log.
pub(super) fn log_end(found: &Verified) {
    let Verified { done_bytes, total_bytes, differing_bytes, busy_bytes, .. } = *found;
    let unreadable_bytes = found.unreadable_bytes + found.peer_unreadable_bytes;
    let short = match found.stage {
        VerifyStage::Stopped => "stopped",
        VerifyStage::BrokenOff => "broken off, since this node's disk was given up",
        _ => "done",
    };
    if differing_bytes + unreadable_bytes > 0 {
        tracing::error!(
            differing_bytes,
            unreadable_bytes,
            "verify {short}: {differing_bytes} bytes differ and {unreadable_bytes} bytes cannot be read; the status \
             has where, and `rblk verify --help` what to do"
        );
    } else if found.stage != VerifyStage::Done {
        tracing::warn!("verify {short}: {done_bytes} of {total_bytes} bytes were compared");
    } else if busy_bytes > 0 {
        tracing::warn!(
            busy_bytes,
            "verify done: {busy_bytes} bytes were left out, and the rest is the same on both disks"
        );
    } else {
        tracing::info!("verify done: both disks hold the same");
    }
}

/// What a verify has found is being copied.
pub(super) fn log_repair_begins(found: &Verified) {
    tracing::warn!("repair begins: {} bytes are copied to the peer", found.repair_bytes);
}

/// The end of that.
pub(super) fn log_repair_ends(found: &Verified) {
    let Verified { differing_bytes, peer_unreadable_bytes, repaired_bytes, .. } = *found;
    if differing_bytes + peer_unreadable_bytes == 0 {
        tracing::info!("repair done: {repaired_bytes} bytes were copied to the peer");
    } else {
        tracing::error!(
            differing_bytes,
            peer_unreadable_bytes,
            "repair ended: {repaired_bytes} bytes were copied to the peer; {differing_bytes} bytes differ still, and \
             {peer_unreadable_bytes} bytes that could not be read there were not written anew"
        );
    }
}
