//! How full everything is that has a limit: for the simulator, which looks at it after every step.

use super::Replica;

/// Frames of each kind that are out and not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Credits {
    /// With payload.
    pub data: usize,
    /// Reads.
    pub read: usize,
    /// Writes without payload.
    pub zero: usize,
    /// Flushes.
    pub flush: usize,
}

/// What a node holds at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Requests: of clients, of the peer, of the resync.
    pub requests: usize,
    /// Of these, waiting for their turn.
    pub waiting: usize,
    /// Operations and messages without an answer.
    pub operations: usize,
    /// Flushes of clients.
    pub flushes: usize,
    /// Steps of metadata that are not durable.
    pub steps: usize,
    /// Metadata writes with the disk.
    pub meta_writes: usize,
    /// Jobs of a resync or a repair.
    pub resync_jobs: usize,
    /// Jobs of a verify.
    pub verify_jobs: usize,
    /// Copied spans that are not stable.
    pub resync_spans: usize,
    /// Extents in the activity log.
    pub al_active: usize,
    /// Our frames at the peer.
    pub sent: Credits,
    /// The peer's frames here.
    pub taken: Credits,
}

impl Replica {
    /// What this node holds now.
    pub fn census(&self) -> Census {
        let (sent, taken) = self.link.credits();
        Census {
            requests: self.requests.len(),
            waiting: self.requests.waiting(),
            operations: self.ops.len(),
            flushes: self.flusher.clients(),
            steps: self.meta.len(),
            meta_writes: self.meta.in_flight as usize,
            resync_jobs: self.resync.jobs() + self.repair.jobs(),
            verify_jobs: self.verify.jobs(),
            resync_spans: self.resync.spans(),
            al_active: self.activity.active(),
            sent,
            taken,
        }
    }

    /// Extents of the activity log that requests hold.
    pub fn pinned(&self) -> usize {
        self.activity.pinned()
    }
}
