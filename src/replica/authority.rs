//! Who may go on when the two nodes have lost each other.
//!
//! ```text
//!   a completion needs the peer to be out of it
//!        │
//!        ▼            over          continue ───────────────────────► on record (`alone.rs`), then completed
//!   ride-through ───────────► what?  suspend ───► held until the peer is back, or an operator forces it
//!        │  │                        fence ──┐
//!        │  └─ under fence, at once ─► Asked ┴┬─ confirmed ──► on record, then completed
//!        │ peer back                          └─ refused ────► held; asked again when the ride-through is over, and
//!        ▼                                                     after a while
//!   as if nothing had happened: same generation, both disks get what was held
//! ```
//!
//! The clock starts when the first completion needs an answer, so an idle volume rides through any cut. Nothing of
//! this is asked while the answer is known: the peer is there and has no disk, it stepped back in good order, it is on
//! record as behind, or an operator chose this node. That an operator parted the two says nothing of the peer.
//!
//! Two Primaries that lose each other both freeze: writes wait for the answer as above, and reads as well, since the
//! other may be the one that goes on. It is sure of that only when this node must have noticed, so it waits for twice
//! the peer timeout at least. A node that learns that the other went on is *superseded*: nothing that it was asked
//! since can be answered any more, and its requests fail, so that its clients let go and it can take in the other's
//! data. If they lose each other during a resync, its source alone can go on, and needs nobody's leave; but its writes
//! wait for the link, too.
//!
//! Whoever fences is asked at once, and told how long the link has left: who knows that the peer is down says so, and
//! nobody waits in vain; who would have to take its power may refuse until the time is over.
//!
//! A confirmed fence lasts until the nodes are up together again. An answer to a question of an earlier separation is
//! recognised by its number and dropped.

use super::Replica;
use crate::limits::{FENCE_AGAIN_MS, RIDE_THROUGH_MARGIN_MS};
use crate::replica::event::{Action, FenceId, Tick};
use crate::replica::snapshot::Suspended;
use crate::wire::message::{DiskState, Role};

/// What a Primary that lost its peer may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnPeerLost {
    /// Go on alone, once that is on record.
    #[default]
    Continue,
    /// Hold what needs the peer until it is back.
    Suspend,
    /// Go on once somebody outside has made sure that the peer does not.
    Fence,
}

/// What is known of whether the peer is fenced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Fence {
    #[default]
    NotAsked,
    /// `early`: the link had time left to come back.
    Asked {
        early: bool,
    },
    Confirmed,
    Refused {
        at: Tick,
        early: bool,
    },
}

/// This separation of the two nodes.
#[derive(Debug, Default)]
pub(super) struct Separation {
    /// Since when a completion needs the answer.
    since: Option<Tick>,
    /// An operator said that this node goes on.
    forced: bool,
    fence: Fence,
    /// The peer went on without this node.
    superseded: bool,
    /// Both disks were equal when the nodes lost each other, and this node has run since.
    lost_in_sync: bool,
    /// The number of the last question.
    asked: u64,
}

impl Separation {
    /// The nodes are together: what was learnt is void, and so is an answer that comes late.
    pub(super) fn ends(&mut self) {
        *self = Separation { asked: self.asked, ..Separation::default() };
    }

    /// Clients of this node are gone.
    pub(super) fn stepped_down(&mut self) {
        self.superseded = false;
    }

    /// The peer went on without this node.
    pub(super) fn is_superseded(&self) -> bool {
        self.superseded
    }
}

impl Replica {
    /// The peer does not go on, or this node need not care. Asks, if somebody has to be asked.
    pub(super) fn may_go_alone(&mut self) -> bool {
        let known_behind = self.sb.peer_outdated && !self.has_lost_target_primary();
        if self.link.is_up() || known_behind || self.separation.forced {
            return true;
        }
        let since = self.separation.since.unwrap_or_else(|| self.stalls_since());
        self.separation.since = Some(since);
        let left = self.ride_through_left(since);
        if self.sb.peer_outdated {
            return left == 0;
        }
        match self.settings.on_peer_lost {
            OnPeerLost::Continue => left == 0 && !self.peer_may_read(),
            OnPeerLost::Suspend => false,
            OnPeerLost::Fence => self.is_fenced(left),
        }
    }

    /// How long the link has to come back, in microseconds.
    fn ride_through_left(&self, since: Tick) -> u64 {
        (self.ride_through_ms() * 1000).saturating_sub(self.now.since(since))
    }

    fn ride_through_ms(&self) -> u64 {
        let whole = self.settings.ride_through_ms;
        whole - RIDE_THROUGH_MARGIN_MS.min(whole / 15)
    }

    /// When the time for the link to come back is over, if somebody waits for that.
    pub(super) fn ride_through_ends(&self) -> Option<Tick> {
        self.separation.since.map(|since| since.plus_ms(self.ride_through_ms()))
    }

    /// Since when the first client that waits for this has got no answer; while the peer was heard it was the peer's
    /// turn to answer.
    fn stalls_since(&self) -> Tick {
        let requests = self.awaiting_alone().map(|request| request.arrived);
        let arrived = requests.chain(self.flusher.asked()).min();
        arrived.map_or(self.now, |arrived| arrived.max(self.link.pulse.heard()).min(self.now))
    }

    /// Two Primaries have lost each other, and who goes on is not decided.
    pub(super) fn is_frozen(&self) -> bool {
        self.settings.policies.dual_primary
            && self.role == Role::Primary
            && !self.link.is_up()
            && self.link.has_lost_primary()
            && !self.sb.peer_outdated
    }

    /// Another Primary, lost as a resync target of this node's, or that may have been: it cannot go on, so this node
    /// may. But not for a cut that the link rides through: that leaves no new generation.
    fn has_lost_target_primary(&self) -> bool {
        self.settings.policies.dual_primary
            && self.role == Role::Primary
            && self.link.has_lost_primary()
            && self.sb.peer_outdated
            && self.sb.sole_source
    }

    /// A client waits for the link to come back.
    pub(super) fn rides_through(&self) -> bool {
        self.separation.since.is_some()
    }

    /// Another Primary may not have noticed yet that it lost this node: what is completed here without it, it might
    /// read as it was before. It cannot if somebody has made sure that it is off; and an operator may know better.
    pub(super) fn peer_may_read(&self) -> bool {
        self.settings.policies.dual_primary
            && self.role == Role::Primary
            && !self.link.is_up()
            && self.peer_may_serve()
            && !self.link.peer_noticed()
            && !self.separation.forced
            && self.separation.fence != Fence::Confirmed
    }

    /// Clients have waited for long while one greeting after the other came to nothing: the peer's disk may hang.
    /// A greeting begins now, so that peer answers nobody; and this node may go on.
    pub(super) fn greets_in_vain(&self) -> bool {
        let limit = (self.settings.ride_through_ms + 3 * self.settings.peer_timeout_ms) * 1000;
        let late = self.separation.since.is_some_and(|since| self.now.since(since) >= limit);
        let goes_on = self.settings.on_peer_lost == OnPeerLost::Continue;
        late && goes_on && self.is_frozen() && self.disk == DiskState::UpToDate
    }

    /// Another Primary writes to both disks, too.
    pub(super) fn shares_volume(&self) -> bool {
        self.settings.policies.dual_primary
            && self.role == Role::Primary
            && self.link.is_up()
            && self.link.peer_role() == Role::Primary
            && self.link.peer_has_disk()
    }

    /// Clients of another Primary live on this disk: its own is being resynced, or has failed. What it was read, too,
    /// must outlive this node's power, so all that is completed here is stable first.
    pub(super) fn is_sole_beside_primary(&self) -> bool {
        self.settings.policies.dual_primary
            && self.role == Role::Primary
            && self.link.is_up()
            && self.link.peer_role() == Role::Primary
            && self.link.peer_disk() != DiskState::UpToDate
    }

    /// This node's disk, if it is UpToDate, has all that was ever completed at either node, as far as anybody can know
    /// at this moment.
    pub(super) fn knows_newest(&self) -> bool {
        if self.link.is_up() {
            !self.shares_volume() || self.has_lease()
        } else {
            !self.is_frozen()
        }
    }

    /// The peer went on without this node: what waits here for it waits in vain.
    pub(super) fn is_behind_as_primary(&mut self) {
        if self.separation.forced {
            return;
        }
        self.separation.superseded = true;
        self.requests_are_denied();
        self.flush_is_denied();
    }

    /// Asks again some time after a refusal: whoever refused may be able to help by then. Also when the link had time
    /// left then, and has none now.
    fn is_fenced(&mut self, left: u64) -> bool {
        match self.separation.fence {
            Fence::Confirmed => return true,
            Fence::Asked { .. } => return false,
            Fence::Refused { early: true, .. } if left == 0 => {}
            Fence::Refused { at, .. } if self.now.since(at) < FENCE_AGAIN_MS * 1000 => {
                return false;
            }
            Fence::Refused { .. } | Fence::NotAsked => {}
        }
        self.ask_fence(left);
        false
    }

    /// The link has `left` microseconds to come back.
    fn ask_fence(&mut self, left: u64) {
        self.separation.asked += 1;
        self.separation.fence = Fence::Asked { early: left > 0 };
        let id = FenceId(self.separation.asked);
        self.actions.push_back(Action::Fence { id, link_has_ms: left.div_ceil(1000) });
    }

    /// Somebody outside has answered.
    pub(super) fn on_fenced(&mut self, id: FenceId, confirmed: bool) {
        let current = id == FenceId(self.separation.asked);
        let Fence::Asked { early } = self.separation.fence else { return };
        if !current || self.link.is_up() {
            return;
        }
        self.separation.fence = match confirmed {
            true => Fence::Confirmed,
            false => Fence::Refused { at: self.now, early },
        };
        self.role_change_fenced(confirmed);
        self.alone_if_awaited();
    }

    /// The disks were equal, and the nodes have just lost each other.
    pub(super) fn lost_in_sync(&mut self) {
        self.separation.lost_in_sync = true;
    }

    /// True if a promotion may ask for the peer to be fenced. Not after a restart: the peer may have had this very node
    /// fenced, and gone on, so its data would be newer and fencing it in turn would lose that.
    pub(super) fn fence_would_help(&self) -> bool {
        self.settings.on_peer_lost == OnPeerLost::Fence
            && self.separation.lost_in_sync
            && !self.link.is_up()
            && self.disk == DiskState::Consistent
    }

    /// A promotion needs the peer to be fenced. What is confirmed or asked already counts.
    pub(super) fn fence_for_promotion(&mut self) -> bool {
        match self.separation.fence {
            Fence::Confirmed => return true,
            Fence::Asked { .. } => {}
            Fence::NotAsked | Fence::Refused { .. } => self.ask_fence(0),
        }
        false
    }

    /// An operator takes the responsibility for a Primary whose requests are held.
    pub(super) fn go_on_by_force(&mut self) {
        if self.suspension().is_some() || self.separation.superseded {
            self.separation.forced = true;
            self.separation.superseded = false;
            self.alone_if_awaited();
        }
    }

    /// Nobody will allow this node to go on, as far as it knows now.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self.suspension(), Some(Suspended::NotAllowed))
    }

    /// Why completions are held that need the peer to be out of it; `None` if none are.
    pub(super) fn suspension(&self) -> Option<Suspended> {
        let since = self.separation.since?;
        let held = self.awaits_alone() || self.flusher.awaits_alone();
        if !held || self.link.conn().is_some() || self.alone.is_recording() || self.is_alone() {
            return None;
        }
        match (self.settings.on_peer_lost, self.separation.fence) {
            (OnPeerLost::Fence, Fence::Asked { .. }) => Some(Suspended::Fencing),
            (OnPeerLost::Fence, Fence::Confirmed) => None,
            _ if self.ride_through_left(since) > 0 => Some(Suspended::RideThrough),
            (OnPeerLost::Continue, _) if self.peer_may_read() => Some(Suspended::RideThrough),
            (OnPeerLost::Continue, _) | (_, Fence::Confirmed) => None,
            _ if self.sb.peer_outdated => None, // it may: in a moment it will have heard so
            _ => Some(Suspended::NotAllowed),
        }
    }
}
