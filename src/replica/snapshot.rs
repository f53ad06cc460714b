//! What may be seen of a node from outside: for status, metrics and tests.

use super::{Counters, Replica, Verified};
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES};
use crate::meta::superblock::Superblock;
use crate::replica::event::Tick;
use crate::replica::generation::{Full, Verdict};
use crate::wire::message::{DiskState, Refusal, Role, State};

/// The state of the connection, in the field's terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connection {
    /// There is none, and nobody tries: see [`Snapshot::stand_alone`].
    StandAlone,
    /// There is none; the driver keeps trying.
    Connecting,
    /// The nodes are exchanging who they are.
    Greeting,
    /// Requests flow.
    Connected,
}

/// Why a node stands alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StandAlone {
    /// An operator ordered it.
    Ordered,
    /// The nodes do not agree on whose data counts, and only an operator can say.
    Refused(Refusal),
    /// The answer to [`Action::AskConsent`](super::event::Action) was no.
    Vetoed,
    /// What a resync would have discarded could not be saved.
    Unsaved,
}

/// What the replication is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replication {
    /// Nothing: not connected.
    Off,
    /// Writes go to both nodes.
    Established,
    /// And marked blocks are copied to the peer.
    SyncSource,
    /// And marked blocks are copied from the peer.
    SyncTarget,
    /// And both disks are compared, by this node.
    VerifyS,
    /// And both disks are compared, by the peer.
    VerifyT,
}

impl Replication {
    /// Writes go to both nodes, and nothing is copied.
    pub fn is_established(self) -> bool {
        matches!(self, Replication::Established | Replication::VerifyS | Replication::VerifyT)
    }
}

/// Whose disk a greeting waits for, as far as this node can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GreetingWaits {
    /// Ours: it still has operations of an earlier connection.
    OurDisk,
    /// The peer's: it was too slow so often that it is left alone until then.
    Rest {
        /// This node's time.
        until: Tick,
    },
    /// The peer's, most likely: it was reached, and has not said what its data is.
    Peer,
}

/// Why requests of clients wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suspended {
    /// They do not.
    No,
    /// The peer is being greeted.
    Greeting,
    /// The newest data is at the peer, which is away.
    NoData,
    /// The peer was lost a moment ago, and may be back soon.
    RideThrough,
    /// The peer is being fenced.
    Fencing,
    /// The peer is lost, and this node may not go on without it.
    NotAllowed,
    /// The peer went on without this node: requests fail.
    Superseded,
}

/// A node at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The superblock.
    pub superblock: Superblock,
    /// Our role.
    pub role: Role,
    /// Our disk.
    pub disk: DiskState,
    /// Sectors of the volume.
    pub sectors: u64,
    /// Logical block in bytes that clients see: the larger of both nodes, as far as known.
    pub block_bytes: u32,
    /// Both disks, as far as known, discard.
    pub discard: bool,
    /// The connection.
    pub connection: Connection,
    /// Silence of the peer that ends the connection at present, in milliseconds, if there is one.
    pub peer_silence_ms: Option<u64>,
    /// What the greeting waits for, if one is under way.
    pub greeting_waits: Option<GreetingWaits>,
    /// The replication.
    pub replication: Replication,
    /// The peer's role, if connected.
    pub peer_role: Option<Role>,
    /// The peer's disk, if connected.
    pub peer_disk: Option<DiskState>,
    /// Blocks out of sync, in bytes.
    pub out_of_sync_bytes: u64,
    /// Blocks to copy when the resync began, in bytes.
    pub resync_total_bytes: u64,
    /// Why the resync that runs copies everything; `None` if it does not, or none runs.
    pub full_resync: Option<Full>,
    /// When the resync began.
    pub resync_began: Tick,
    /// Slots of the activity log in use.
    pub al_active: usize,
    /// Slots of the activity log.
    pub al_slots: usize,
    /// Requests of clients at the local disk.
    pub local_pending: u64,
    /// Requests of clients at the peer.
    pub peer_pending: u64,
    /// The verify that runs, or the last one.
    pub verified: Verified,
    /// Resync jobs in flight.
    pub resync_pending: u64,
    /// Why requests wait.
    pub suspended: Suspended,
    /// This node goes on alone, and that is recorded.
    pub alone: bool,
    /// The last refusal: by the peer or not, and why.
    pub refusal: Option<(bool, Refusal)>,
    /// What the peer said of itself when the nodes last met in this life of the daemon.
    pub met: Option<State>,
    /// The digest of this node's configuration; 0 if none is known.
    pub config: u64,
    /// The digest of the peer's configuration, if connected to one that says it.
    pub peer_config: Option<u64>,
    /// Why this node does not look for its peer; `None` if it does.
    pub stand_alone: Option<StandAlone>,
    /// Should the two have gone different ways when they meet next, this node's way is void.
    pub discard_my_data: bool,
    /// It is being asked whether a resync may overwrite this node's data; meanwhile it does not look for its peer.
    pub asks_consent: bool,
    /// The last connection ended with the peer's goodbye.
    pub peer_left: bool,
    /// Sums.
    pub counters: Counters,
}

impl Replica {
    /// The node as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let up = self.link.is_up();
        let (local_pending, peer_pending) = self.pending();
        let hello = self.link.peer_hello().copied();
        Snapshot {
            superblock: self.sb,
            role: self.role,
            disk: self.disk,
            sectors: self.sectors,
            block_bytes: hello.map_or(self.block_bytes, |h| h.block_bytes.max(self.block_bytes)),
            discard: self.discard && hello.is_none_or(|h| h.discard),
            connection: self.connection(),
            peer_silence_ms: self.link.conn().map(|_| self.link.pulse.limit_us() / 1000),
            greeting_waits: self.greeting_waits(),
            replication: self.replication(),
            peer_role: up.then(|| self.link.peer_role()),
            peer_disk: up.then(|| self.link.peer_disk()),
            out_of_sync_bytes: match self.sb.current {
                Some(_) => self.dirty.count() * BLOCK_BYTES,
                None => self.sectors * SECTOR_BYTES, // never written: nothing is known to be equal
            },
            resync_total_bytes: self.resync.total_blocks * BLOCK_BYTES,
            full_resync: self.full_resync(),
            resync_began: self.resync.began,
            al_active: self.activity.active(),
            al_slots: self.settings.al_slots,
            local_pending,
            peer_pending,
            verified: *self.verified(),
            resync_pending: self.resync.jobs() as u64,
            suspended: self.suspended(),
            alone: self.is_alone(),
            refusal: self.link.last_refusal(),
            met: self.link.met().copied(),
            config: self.settings.config,
            peer_config: hello.filter(|hello| up && hello.config != 0).map(|hello| hello.config),
            stand_alone: self.orders.stand_alone(),
            discard_my_data: self.orders.discard_my_data(),
            asks_consent: self.consent.is_asked(),
            peer_left: self.link.peer_left(),
            counters: self.counters,
        }
    }

    /// What this node knows of its data, durable or about to be: cheaper than a whole snapshot.
    pub fn superblock(&self) -> &Superblock {
        &self.sb
    }

    /// The state of the local disk: cheaper than a whole snapshot.
    pub fn disk(&self) -> DiskState {
        self.disk
    }

    /// How far the nodes have got in meeting: cheaper than a whole snapshot.
    pub fn connection(&self) -> Connection {
        match self.link.conn() {
            None if self.orders.stand_alone().is_some() => Connection::StandAlone,
            None => Connection::Connecting,
            Some(_) if self.link.is_up() => Connection::Connected,
            Some(_) => Connection::Greeting,
        }
    }

    fn greeting_waits(&self) -> Option<GreetingWaits> {
        if !self.link.is_greeting() {
            None
        } else if !self.link.has_said() && self.has_orphans() {
            Some(GreetingWaits::OurDisk)
        } else if let Some(until) = self.rests_until() {
            Some(GreetingWaits::Rest { until })
        } else {
            (!self.link.peer_has_said()).then_some(GreetingWaits::Peer)
        }
    }

    /// What the replication is doing.
    pub fn replication(&self) -> Replication {
        if !self.link.is_up() {
            Replication::Off
        } else if !self.resync.is_active() {
            match self.verifies() {
                (true, _) => Replication::VerifyS,
                (_, true) => Replication::VerifyT,
                _ => Replication::Established,
            }
        } else if self.resync.is_source() {
            Replication::SyncSource
        } else {
            Replication::SyncTarget
        }
    }

    /// Why the resync that runs copies everything.
    pub(super) fn full_resync(&self) -> Option<Full> {
        match self.link.verdict {
            Some(Verdict::Source { full } | Verdict::Target { full })
                if self.resync.is_active() =>
            {
                full
            }
            _ => None,
        }
    }

    fn suspended(&self) -> Suspended {
        if self.role == Role::Secondary || self.link.is_up() {
            Suspended::No
        } else if self.separation.is_superseded() {
            Suspended::Superseded
        } else if self.disk != DiskState::UpToDate {
            Suspended::NoData
        } else if let Some(why) = self.suspension() {
            why
        } else if self.may_write_alone() {
            Suspended::No
        } else {
            Suspended::Greeting
        }
    }

    /// True if `block` is covered by this node's record: marked, or in its activity log. For the simulator's
    /// tracked-difference oracle.
    pub fn tracks(&self, block: u64) -> bool {
        self.dirty.any(block..block + 1) || self.activity.covers(block)
    }

    /// True if this node's disk never held data of the volume: then no mark is needed to have all of it copied.
    pub fn is_fresh(&self) -> bool {
        self.sb.current.is_none()
    }

    /// The blocks that may differ from the peer's, 64 to a word, the lowest bit first: what is saved of data that is
    /// discarded. Words beyond the volume are 0.
    pub fn marks(&self) -> &[u64] {
        self.dirty.words()
    }

    /// Grows whenever a block may have ceased to be covered: what [`Replica::tracks`] said holds until then.
    pub fn forgets(&self) -> u64 {
        self.dirty.forgets() + self.activity.forgets()
    }
}
