//! Becoming Primary, becoming Secondary, leaving.
//!
//! ```text
//!  promote:  Idle ─► Asking (the peer) ─► Rising (record "primary") ─► Idle, Primary
//!                ├── peer known outdated, or forced ──►┤
//!                └─► Fencing (the peer, by a handler) ─►┘
//!  demote:   Idle ─► Draining ─► Flushing ─► Sinking (empty log, record) ─► Idle, Secondary
//!  detach:           the same, then ─► Leaving (record "outdated", say Bye) ─► Gone
//!  disconnect:       a Secondary, without draining ─► Leaving ─► Idle; other orders (`orders.rs`) leave alike
//! ```
//!
//! A node becomes Primary when its data is UpToDate and the peer agrees, or the peer is recorded as outdated, or the
//! operator takes the responsibility with `force`. "Primary" is durable before the device exists: found at start,
//! it means a crash, and the activity log is compared.

use super::Replica;
use super::durable::Step;
use crate::meta::superblock::{History, Superblock};
use crate::replica::event::{Action, CommandError, CommandId, MetaSeq, Notice};
use crate::wire::message::{DiskState, Message, Role};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Asking,
    Fencing,
    Rising(MetaSeq),
    Draining,
    Flushing,
    Sinking(MetaSeq),
    LeavingFlush,
    Leaving(MetaSeq),
    Gone,
}

/// Why a node takes leave of its peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Leave {
    /// It does not: only its role changes.
    #[default]
    No,
    /// Its own data was declared invalid: they meet again at once.
    Invalid,
    /// The peer's data was.
    PeerInvalid,
    /// The volume grows: they meet again at once.
    Resized,
    /// An operator wants them apart.
    Disconnect,
    /// The daemon ends.
    Detach,
}

/// The change of role that is under way.
#[derive(Debug, Default)]
pub(super) struct RoleChange {
    stage: Stage,
    command: Option<CommandId>,
    leave: Leave,
    /// The device is being taken away, and a command to give up the role will follow.
    device_stops: bool,
}

impl RoleChange {
    fn draining(command: CommandId, leave: Leave) -> RoleChange {
        let command = Some(command);
        RoleChange { stage: Stage::Draining, command, leave, device_stops: false }
    }

    /// The state said to a peer now would soon be wrong.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.stage, Stage::Idle | Stage::Fencing | Stage::Draining | Stage::Gone)
    }

    /// The peer agreed, or had no say: the record "primary" is being written.
    pub(super) fn is_rising(&self) -> bool {
        matches!(self.stage, Stage::Rising(_))
    }

    /// The node waits for its clients' last requests.
    pub(super) fn is_draining(&self) -> bool {
        self.stage == Stage::Draining || self.device_stops
    }

    pub(super) fn device_stops(&mut self) {
        self.device_stops = true;
    }

    /// The node has said goodbye, or is about to. Before that, while its clients' last requests are finished, it still
    /// takes a connection: they may need the peer.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::LeavingFlush | Stage::Leaving(_) | Stage::Gone)
    }
}

/// What a superblock allows to believe before the peer was heard.
pub(super) fn disk_at_start(sb: &Superblock) -> DiskState {
    if !sb.consistent {
        DiskState::Inconsistent
    } else if sb.outdated {
        DiskState::Outdated
    } else if sb.peer_outdated {
        DiskState::UpToDate
    } else {
        DiskState::Consistent
    }
}

impl Replica {
    pub(super) fn promote(&mut self, id: CommandId, force: bool) {
        if self.role == Role::Primary && self.role_change.stage == Stage::Idle {
            if force {
                self.go_on_by_force();
            }
            self.reply(id, Ok(()));
            return;
        }
        if let Some(error) = self.cannot_change_role() {
            self.reply(id, Err(error));
            return;
        }
        if !self.has_disk() {
            self.reply(id, Err(CommandError::NoDisk));
            return;
        }
        let peer_serves = self.disk == DiskState::Inconsistent && self.link.peer_can_read();
        let good = self.disk == DiskState::UpToDate || peer_serves;
        // With good data the peer is asked: what is known of its role here may be a moment old.
        if !good && self.link.is_up() && self.link.peer_role() == Role::Primary {
            self.reply(id, Err(CommandError::PeerIsPrimary));
            return;
        }
        self.role_change.command = Some(id);
        if good && self.link.is_up() {
            self.role_change.stage = Stage::Asking;
            self.send(Message::PromoteAsk);
        } else if good && self.sb.peer_outdated && !force && self.peer_may_serve() {
            self.role_change.command = None;
            self.reply(id, Err(CommandError::PeerMayServe));
        } else if good && self.sb.peer_outdated {
            self.drop_link("this node becomes Primary"); // if one is being greeted: it starts anew
            self.rise();
        } else if force {
            self.drop_link("this node is made Primary by force");
            self.take_responsibility();
            self.rise();
        } else if self.fence_would_help() {
            self.role_change.stage = Stage::Fencing;
            if self.fence_for_promotion() {
                self.role_change_fenced(true);
            }
        } else {
            self.role_change.command = None;
            self.reply(id, Err(CommandError::NotUpToDate(self.disk)));
        }
    }

    /// The peer was to be fenced so that this node can become Primary.
    pub(super) fn role_change_fenced(&mut self, confirmed: bool) {
        if self.role_change.stage != Stage::Fencing {
            return;
        }
        if !confirmed {
            self.role_change_ends(Err(CommandError::NotFenced));
            return;
        }
        if self.disk != DiskState::Consistent {
            self.role_change_ends(Err(CommandError::NotUpToDate(self.disk)));
            return; // the peer was there meanwhile, and this disk was about to be overwritten
        }
        self.drop_link("this node becomes Primary");
        // What the lost Primary had not flushed may be on this disk alone, and it crashed no less than this node may:
        // the record of who went on must be there before anything is answered.
        self.take_responsibility();
        self.rise();
    }

    /// What the two say to each other decides, not whoever fences.
    pub(super) fn role_change_found_peer(&mut self) {
        if self.role_change.stage == Stage::Fencing {
            self.role_change_ends(Err(CommandError::PeerReturned));
        }
    }

    /// The peer worked as Primary on our data, having none of its own, when it was lost: until it must have noticed, it
    /// may still answer reads. A node that has just started cannot know whether it did.
    pub(super) fn peer_may_serve(&self) -> bool {
        self.link.may_serve_elsewhere(self.now, self.settings.peer_timeout_ms)
    }

    pub(super) fn cannot_change_role(&self) -> Option<CommandError> {
        if self.role_change.leave == Leave::Detach {
            Some(CommandError::Detaching)
        } else if self.role_change.stage != Stage::Idle {
            Some(CommandError::Busy)
        } else {
            None
        }
    }

    /// Until the goodbye is said, there is no new meeting.
    pub(super) fn cannot_meet(&self) -> Option<CommandError> {
        match self.role_change.leave {
            Leave::No => None,
            Leave::Detach => Some(CommandError::Detaching),
            Leave::Invalid | Leave::PeerInvalid | Leave::Resized | Leave::Disconnect => {
                Some(CommandError::Busy)
            }
        }
    }

    /// The operator declares this disk to be the data. Its generation says that it went its own way from here, so a
    /// peer that did the same is recognised.
    fn take_responsibility(&mut self) {
        self.take_back();
        if !self.sb.consistent {
            // Not one point in time, so no earlier generation describes it: nobody is its ancestor.
            self.sb.history = History::default();
            self.sb.current = None;
            self.dirty.set_all();
        }
        self.new_generation();
        self.sb.consistent = true;
        self.sb.outdated = false;
        self.sb.peer_outdated = true;
        self.sb.crashed = false;
        self.sb.agreed_sectors = self.sectors;
        self.disk = DiskState::UpToDate;
        self.meta.push(Step::Pages { stale: false });
        if let Some(current) = self.sb.current {
            self.notify(Notice::Alone(current));
        }
    }

    fn rise(&mut self) {
        self.sb.primary = true;
        self.sb.agreed_sectors = self.sectors;
        self.orders.keep_my_data();
        self.role_change.stage = Stage::Rising(self.write_superblock());
    }

    /// Another node may be Primary, or become it, without this one.
    pub(super) fn follows(&self) -> bool {
        self.role == Role::Secondary && !self.role_change.is_rising()
    }

    pub(super) fn on_promote_ask(&mut self) {
        let mine_first = self.role_change.stage == Stage::Asking && self.sb.node < self.peer_node;
        let rising = self.role_change.is_rising();
        let alone = self.role == Role::Secondary && !rising && !mine_first;
        let granted = alone || self.settings.policies.dual_primary;
        if granted {
            self.link.set_peer_role(Role::Primary);
            self.notify(Notice::State);
        }
        if granted && self.is_sole_beside_primary() {
            self.link.owes_answer = true;
            self.link.flushing = self.flush_as_sole();
        } else {
            self.send(Message::PromoteAnswer { granted });
        }
    }

    /// The flush that the answer waits for will not end well.
    pub(super) fn refuse_promotion(&mut self) {
        if std::mem::take(&mut self.link.owes_answer) {
            self.send(Message::PromoteAnswer { granted: false });
        }
    }

    /// What clients of this node were told is done is stable: the peer's may come to rely on it.
    pub(super) fn answer_promotion(&mut self) {
        if std::mem::take(&mut self.link.owes_answer) && self.link.is_up() {
            self.send(Message::PromoteAnswer { granted: true });
        }
    }

    pub(super) fn on_promote_answer(&mut self, granted: bool) {
        if self.role_change.stage != Stage::Asking {
            self.broken("an answer to no question");
        } else if granted {
            self.rise();
        } else {
            self.role_change_ends(Err(CommandError::PeerIsPrimary));
        }
    }

    pub(super) fn demote(&mut self, id: CommandId) {
        if let Some(error) = self.cannot_change_role() {
            self.reply(id, Err(error));
            return;
        }
        if self.role == Role::Secondary {
            self.reply(id, Ok(()));
            return;
        }
        self.role_change = RoleChange::draining(id, Leave::No);
        self.refuse_if_denied();
    }

    pub(super) fn detach(&mut self, id: CommandId) {
        if let Some(error) = self.cannot_change_role() {
            self.reply(id, Err(error));
            return;
        }
        self.role_change = RoleChange::draining(id, Leave::Detach);
    }

    /// Moves the change of role on as far as it goes. True if it has moved.
    pub(super) fn pump_role(&mut self) -> bool {
        let began = self.role_change.stage;
        loop {
            let before = self.role_change.stage;
            match before {
                Stage::Rising(after) if self.meta.is_durable(after) && !self.has_orphans() => {
                    self.risen();
                }
                Stage::Draining if !self.serves_clients() && !self.flusher.serves_clients() => {
                    self.drained();
                }
                // The disk failed meanwhile: there is nothing left to flush, and nothing to record.
                Stage::Flushing if !self.has_disk() => self.sunk(),
                Stage::Flushing if self.flusher.is_idle() && self.activity.unstable() == 0 => {
                    self.sink();
                }
                Stage::Sinking(after) if self.meta.is_durable(after) || !self.has_disk() => {
                    self.sunk();
                }
                Stage::LeavingFlush if self.flusher.is_idle() || !self.has_disk() => {
                    self.record_leaving();
                }
                Stage::Leaving(after) if self.meta.is_durable(after) || !self.has_disk() => {
                    self.say_goodbye();
                }
                _ => {}
            }
            if before == self.role_change.stage {
                return before != began;
            }
        }
    }

    fn risen(&mut self) {
        self.role = Role::Primary;
        self.consent.void();
        if self.link.is_up() {
            self.send(Message::RoleIs { role: Role::Primary });
        }
        self.notify(Notice::Role(Role::Primary));
        self.role_change_ends(Ok(()));
    }

    fn drained(&mut self) {
        if self.role == Role::Secondary {
            self.begin_leaving();
        } else if self.has_disk() {
            self.want_flush();
            self.role_change.stage = Stage::Flushing;
        } else {
            self.sunk();
        }
    }

    /// Nothing is in flight and all is stable: an empty log says so. A Primary without a disk may write through this
    /// one meanwhile.
    fn sink(&mut self) {
        self.activity.clear();
        let served = self.settings.policies.dual_primary && !self.link.peer_has_disk();
        assert!(
            self.activity.active() == 0 || served,
            "a node that steps down has nothing in flight"
        );
        self.meta.push(Step::Pages { stale: true });
        self.meta.push(Step::Log);
        self.sb.primary = false;
        self.role_change.stage = Stage::Sinking(self.write_superblock());
    }

    fn sunk(&mut self) {
        if self.is_frozen() && self.disk == DiskState::UpToDate {
            self.disk = DiskState::Consistent; // the other Primary may have gone on
        }
        self.role = Role::Secondary;
        self.separation.stepped_down();
        self.orders.stepped_down();
        if self.link.is_greeting() {
            self.drop_link("this node became Secondary during the greeting");
        }
        if self.link.is_up() {
            self.send(Message::RoleIs { role: Role::Secondary });
        }
        self.notify(Notice::Role(Role::Secondary));
        if self.role_change.leave == Leave::Detach {
            self.begin_leaving();
        } else {
            self.role_change_ends(Ok(()));
        }
    }

    /// What the peer wrote through us becomes stable, then this node leaves.
    fn begin_leaving(&mut self) {
        if self.has_disk() {
            self.want_flush();
        }
        self.role_change.stage = Stage::LeavingFlush;
    }

    /// With a peer that has all our data, this node steps back: the peer may go on alone.
    fn record_leaving(&mut self) {
        if self.role_change.leave == Leave::Resized {
            match self.room() {
                Ok(sectors) => self.widen(sectors),
                // The peer was lost meanwhile, or a disk.
                Err(error) => {
                    self.role_change_ends(Err(error));
                    return;
                }
            }
        }
        let steps_back = self.disk == DiskState::UpToDate && self.link.peer_can_read();
        self.meta.push(Step::Pages { stale: true });
        self.sb.outdated |= steps_back;
        if steps_back {
            self.disk = DiskState::Outdated;
        }
        self.role_change.stage = Stage::Leaving(self.write_superblock());
    }

    fn say_goodbye(&mut self) {
        let leave = self.role_change.leave;
        if matches!(leave, Leave::Invalid | Leave::PeerInvalid | Leave::Resized) && !self.has_disk()
        {
            self.role_change_ends(Err(CommandError::DiskFailed));
            return;
        }
        if let Some(conn) = self.link.conn() {
            if self.link.is_up() {
                let outdated = self.sb.outdated || leave == Leave::Invalid;
                self.send(Message::Bye { outdated: outdated && self.has_disk() });
            }
            self.close(conn, true);
            self.link_lost();
        }
        let command = self.role_change.command.take();
        match leave {
            Leave::Detach => self.role_change.stage = Stage::Gone,
            _ => self.role_change = RoleChange::default(),
        }
        if let Some(id) = command {
            self.reply(id, Ok(()));
        }
    }

    /// A Secondary parts as one that leaves, and stays.
    pub(super) fn leave(&mut self, id: CommandId, leave: Leave) {
        self.role_change = RoleChange::draining(id, leave);
        self.begin_leaving();
    }

    /// The goodbye waits for a record that was begun.
    pub(super) fn leave_after(&mut self, id: CommandId, leave: Leave, after: MetaSeq) {
        self.role_change = RoleChange::draining(id, leave);
        self.role_change.stage = Stage::Leaving(after);
    }

    /// The peer parts in good order: it steps back, or it is Primary and goes on without us.
    pub(super) fn on_bye(&mut self, outdated: bool) {
        let good = self.link.is_up() && self.disk == DiskState::UpToDate;
        let goes_on = !outdated
            && self.role == Role::Secondary
            && self.link.peer_role() == Role::Primary
            && self.link.peer_can_read();
        self.link.set_peer_left();
        if good && outdated {
            self.sb.peer_outdated = true;
            self.write_superblock();
        }
        self.drop_link("the peer said goodbye");
        if good && goes_on {
            self.disk = DiskState::Outdated;
            self.sb.outdated = true;
            self.write_superblock();
        }
    }

    pub(super) fn role_change_lost_peer(&mut self) {
        if self.role_change.stage == Stage::Asking {
            self.role_change_ends(Err(CommandError::PeerLost));
        }
    }

    pub(super) fn role_change_lost_disk(&mut self) {
        if matches!(self.role_change.stage, Stage::Asking | Stage::Fencing | Stage::Rising(_)) {
            if self.link.is_up() {
                self.send(Message::RoleIs { role: Role::Secondary });
            }
            self.role_change_ends(Err(CommandError::DiskFailed));
        }
    }

    fn role_change_ends(&mut self, result: Result<(), CommandError>) {
        let command = self.role_change.command.take();
        self.role_change = RoleChange::default();
        if let Some(id) = command {
            self.reply(id, result);
        }
    }

    pub(super) fn reply(&mut self, id: CommandId, result: Result<(), CommandError>) {
        self.actions.push_back(Action::Reply { id, result });
    }
}
