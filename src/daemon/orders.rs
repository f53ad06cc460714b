//! What operators ask for, and when it can be done.
//!
//! Becoming Secondary and leaving take three steps: nobody has the device open, the device is gone, the core agrees.

use super::inherit::Inheritance;
use super::mailbox::Order;
use super::run::Daemon;
use super::users::unknown;
use super::{FrontChoice, device};
use crate::ctl::proto::{Reply, Request};
use crate::error::{Error, Kind};
use crate::front::News;
use crate::limits::LOOK_LIMIT_MS;
use crate::replica::event::{Command, CommandError, CommandId, Input, Tick};
use crate::replica::snapshot::{Connection, Suspended};
use crate::sync::SyncSender;
use crate::wire::message::{DiskState, Role};

/// Pause between two attempts to become Primary by ourselves, in milliseconds.
const PROMOTE_RETRY_MS: u64 = 500;
/// A device that was closed a moment ago may still look open, because its user's goodbye is on the way: this long,
/// in milliseconds, it is given before the order is refused.
const LET_GO_MS: u64 = 1_000;
/// Pause between two looks at who has the device open, in milliseconds.
const LET_GO_LOOK_MS: u64 = 50;

/// What ends the node if nobody needs to be asked any more.
const LEAVE: Request = Request::Detach { force: false };

/// A command that the core is carrying out.
pub(super) struct Pending {
    id: CommandId,
    request: Request,
    /// `None` for our own.
    answer: Option<SyncSender<Reply>>,
}

/// A command that waits for the device to be gone.
pub(super) struct Waiting {
    request: Request,
    answer: Option<SyncSender<Reply>>,
}

/// A command that waits for the device's users to let go.
struct Held {
    request: Request,
    answer: Option<SyncSender<Reply>>,
    /// The process is asked to end: it does, whether they let go or not.
    stops: bool,
    until: Tick,
    look_at: Tick,
}

/// Commands under way.
#[derive(Default)]
pub(super) struct Orders {
    next_id: u64,
    pending: Vec<Pending>,
    held: Option<Held>,
    waiting: Option<Waiting>,
    /// Become Primary as soon as that is safe.
    pub(super) wants_primary: bool,
    /// Why there was no device when this node was Primary.
    pub(super) device_error: Option<String>,
    retry_at: Tick,
    /// The core has left; the process ends.
    pub(super) left: bool,
    /// The device stays for the next daemon, and its operations on the ring end only with the process.
    pub(super) left_device: bool,
}

impl Orders {
    pub(super) fn new(wants_primary: bool) -> Orders {
        Orders { wants_primary, ..Orders::default() }
    }

    /// Without a device a Primary is of no use, and trying again by itself would not help.
    fn no_device(&mut self, why: &str) {
        self.wants_primary = false;
        self.device_error = Some(format!("there was no device when it was Primary: {why}"));
    }

    /// Nobody is answered any more.
    pub(super) fn abandon(&mut self) {
        self.pending.clear();
        self.held = None;
        self.waiting = None;
    }

    /// The node is still Primary, but not for long: it must not make a device again.
    fn gives_up_role(&self) -> bool {
        let gives_up =
            |pending: &Pending| matches!(pending.request, Request::Demote | Request::Detach { .. });
        self.left
            || self.held.is_some()
            || self.waiting.is_some()
            || self.pending.iter().any(gives_up)
    }
}

impl Daemon {
    pub(super) fn take_orders(&mut self) {
        while let Ok(order) = self.mail.try_recv() {
            match order {
                Order::Control { request, answer } => self.on_control(request, answer),
                Order::Stop => self.on_stop(),
            }
        }
        self.users_may_be_gone();
        self.device_may_be_gone();
        self.answer_watchers(false);
        self.answer_askers();
    }

    fn on_control(&mut self, request: Request, answer: SyncSender<Reply>) {
        match request {
            Request::Status => self.on_status(answer),
            Request::Events { after } => {
                self.on_watcher(after, answer);
            }
            Request::Promote { force: true } if self.would_force_nothing_over_data() => {
                let refused = self.explain_nothing_over_data(&request);
                send(Some(answer), Reply::from(refused));
            }
            Request::Promote { force } => {
                self.command(request, Command::Promote { force }, Some(answer));
            }
            Request::Detach { force: true } => self.take_device_from_users(request, answer),
            Request::Demote | Request::Detach { .. } => {
                self.take_device_away(request, Some(answer));
            }
            Request::HandOver => self.hand_over(answer),
            Request::Disconnect => self.command(request, Command::Disconnect, Some(answer)),
            Request::Connect { discard_my_data, .. } => {
                self.command(request, Command::Connect { discard_my_data }, Some(answer));
            }
            Request::Verify => self.command(request, Command::Verify, Some(answer)),
            Request::StopVerify => self.command(request, Command::StopVerify, Some(answer)),
            Request::Repair => self.command(request, Command::Repair, Some(answer)),
            Request::Resize => self.command(request, Command::Resize, Some(answer)),
            Request::Invalidate { peer } => {
                self.command(request, Command::Invalidate { peer }, Some(answer));
            }
        }
    }

    /// The process is asked to end. A device that can wait for the next daemon, and has clients, does; else this is
    /// a `detach` that clients do not hold up.
    fn on_stop(&mut self) {
        if self.orders.left {
            return;
        }
        self.orders.wants_primary = false;
        if let Some(held) = self.orders.held.take() {
            if held.stops {
                self.orders.held = Some(held); // asked twice
                return;
            }
            let error = Error::new(Kind::Busy, self.failed(&held.request))
                .why("the daemon is asked to stop");
            send(held.answer, Reply::from(error));
        }
        if let Some(waiting) = &mut self.orders.waiting {
            waiting.request = LEAVE; // once the device is gone, not the role alone but the node
            return;
        }
        if self.front.is_none() {
            return self.stop_with(&[]);
        }
        let now = self.clock.now();
        self.orders.held =
            Some(Held { request: LEAVE, answer: None, stops: true, until: now, look_at: now });
    }

    /// Ends as the process was asked to.
    fn stop_with(&mut self, users: &[String]) {
        if !users.is_empty()
            && let Some(front) = &mut self.front
            && front.leave_to_successor()
        {
            let users = users.join(", ");
            tracing::warn!(
                "asked to stop while the device is in use by {users}: it waits for the next daemon"
            );
            self.leave_device();
            return;
        }
        tracing::info!("asked to stop");
        self.stop_device(LEAVE, None);
    }

    /// The next daemon is about to start: it is to find the device, and with it the role, as they are.
    fn hand_over(&mut self, answer: SyncSender<Reply>) {
        if self.orders.gives_up_role() {
            let error = Error::new(Kind::Busy, self.failed(&Request::HandOver))
                .why("a demote or detach is under way")
                .remedy("wait for it to end");
            send(Some(answer), Reply::from(error));
        } else if self.front.as_mut().is_some_and(|front| front.leave_to_successor()) {
            tracing::info!("handed over: the device waits for the next daemon");
            self.leave_device();
            send(Some(answer), Reply::Ok);
        } else {
            self.orders.wants_primary = false;
            self.stop_device(LEAVE, Some(answer));
        }
    }

    fn leave_device(&mut self) {
        self.orders.left = true;
        self.orders.left_device = true;
    }

    /// What the device says of itself.
    pub(super) fn take_news(&mut self) {
        while let Some(news) = self.front.as_mut().and_then(|front| front.take_news()) {
            match news {
                News::Ready => {
                    self.inheritance = Inheritance::None;
                    self.orders.device_error = None;
                    let address = self.front.as_ref().map(|front| front.address());
                    tracing::info!("clients find the volume at {}", address.unwrap_or_default());
                }
                News::InUse => tracing::warn!("the device is in use and was not taken away"),
                News::Slow(why) => tracing::warn!("taking the device away takes long: {why}"),
                News::Grown => tracing::info!("clients see the volume's new size"),
                News::NotGrown(why) => tracing::warn!(
                    "the volume has grown, and its device keeps its size until it is made anew (demote, promote): {why}"
                ),
                News::Fault(why) => tracing::error!("{why}"),
                News::Gone => {
                    self.inheritance = Inheritance::None;
                    device::record(&self.options).forget();
                }
                News::Failed(why) => {
                    self.inheritance.is_not_opened();
                    tracing::error!("there is no device: {why}");
                    self.orders.no_device(&why);
                    if self.orders.waiting.is_none() {
                        self.orders.waiting =
                            Some(Waiting { request: Request::Demote, answer: None });
                    }
                }
            }
        }
    }

    /// Without a look at who has it open: they were told, or there is no time for them.
    fn take_device_from_users(&mut self, request: Request, answer: SyncSender<Reply>) {
        if self.orders.held.is_some() || self.orders.waiting.is_some() {
            return self.refuse_second(&request, Some(answer));
        }
        tracing::warn!("asked to take the device away, whoever has it open: their requests fail");
        self.orders.wants_primary = false;
        if self.front.is_none() {
            self.remove_left_device();
        }
        self.stop_device(request, Some(answer));
    }

    fn refuse_second(&self, request: &Request, answer: Option<SyncSender<Reply>>) {
        let error = Error::new(Kind::Busy, self.failed(request))
            .why("another demote or detach is under way")
            .remedy("wait for it to end");
        send(answer, Reply::from(error));
    }

    fn take_device_away(&mut self, request: Request, answer: Option<SyncSender<Reply>>) {
        if self.orders.held.is_some() || self.orders.waiting.is_some() {
            return self.refuse_second(&request, answer);
        }
        let now = self.clock.now();
        self.orders.held = Some(Held {
            request,
            answer,
            stops: false,
            until: now.plus_ms(LET_GO_MS),
            look_at: now,
        });
    }

    /// By a policy this Primary's data loses: it gives up the role if nobody has its device open.
    pub(super) fn step_down(&mut self) {
        match self.replica.snapshot().suspended {
            Suspended::Superseded => tracing::error!(
                "the peer went on without this Primary, whose data is old now: requests fail, and it steps down"
            ),
            _ => tracing::error!(
                "by the policy for this case the data of this Primary loses: it steps down"
            ),
        }
        if self.orders.held.is_none() && self.orders.waiting.is_none() {
            self.take_device_away(Request::Demote, None);
        }
    }

    /// Takes the device away once nobody has it open, or refuses to.
    fn users_may_be_gone(&mut self) {
        let now = self.clock.now();
        let Some(held) = self.orders.held.take_if(|held| held.look_at <= now) else { return };
        let users = match self.users(held.look_at) {
            Some(users) => users,
            None if now < held.look_at.plus_ms(LOOK_LIMIT_MS) => {
                self.orders.held = Some(held);
                return;
            }
            None => vec![unknown("looking takes long; a file system hangs")],
        };
        if held.stops {
            self.stop_with(&users);
        } else if users.is_empty() {
            // Where both are to be Primary, one that stepped down by itself comes back when it has the data.
            let by_itself = held.answer.is_none();
            self.orders.wants_primary =
                by_itself && self.options.primary && self.options.config.policies.dual_primary;
            if self.front.is_none() {
                self.remove_left_device();
            }
            self.stop_device(held.request, held.answer);
        } else if now < held.until {
            self.orders.held = Some(Held { look_at: now.plus_ms(LET_GO_LOOK_MS), ..held });
        } else {
            let error = Error::new(Kind::Busy, self.failed(&held.request))
                .why(format!("the device is in use by {}", users.join(", ")))
                .remedy("unmount it and stop its users, then try again");
            send(held.answer, Reply::from(error));
        }
    }

    fn stop_device(&mut self, request: Request, answer: Option<SyncSender<Reply>>) {
        if let Some(front) = &mut self.front {
            front.stop(&mut self.io);
            self.feed(Input::DeviceStops);
        }
        self.orders.waiting = Some(Waiting { request, answer });
    }

    fn device_may_be_gone(&mut self) {
        if self.orders.waiting.is_none()
            || self.front.as_ref().is_some_and(|front| !front.stopped())
            || self.device_is_in_the_way()
        {
            return;
        }
        let Some(Waiting { request, answer }) = self.orders.waiting.take() else { return };
        self.front = None;
        let command = match request {
            Request::Detach { .. } => Command::Detach,
            _ => Command::Demote,
        };
        self.command(request, command, answer);
    }

    /// With `--primary`: tries whenever it looks possible.
    pub(super) fn want_primary(&mut self) {
        let now = self.clock.now();
        self.follow_inheritance();
        if !self.orders.wants_primary || now < self.orders.retry_at {
            return;
        }
        let snapshot = self.replica.snapshot();
        let good =
            snapshot.disk == DiskState::UpToDate || snapshot.peer_disk == Some(DiskState::UpToDate);
        let alone = snapshot.superblock.peer_outdated && snapshot.peer_role.is_none();
        let beside = self.options.config.policies.dual_primary && snapshot.peer_role.is_some();
        let free = snapshot.peer_role == Some(Role::Secondary) || alone || beside;
        if snapshot.role == Role::Primary {
            self.orders.wants_primary = self.orders.gives_up_role();
        } else if good && free {
            self.orders.retry_at = now.plus_ms(PROMOTE_RETRY_MS);
            self.command(
                Request::Promote { force: false },
                Command::Promote { force: false },
                None,
            );
        }
    }

    /// When the loop must look again without being woken: after a failed attempt to become Primary (what the first
    /// one waits for wakes it), and while a device's users are given time to let go.
    pub(super) fn next_order_tick(&mut self) -> Option<Tick> {
        let retry = self.orders.wants_primary && self.orders.retry_at > self.clock.now();
        let retry = retry.then_some(self.orders.retry_at);
        let look = self.orders.held.as_ref().map(|held| match held.look_at {
            at if at > self.clock.now() => at,
            looks_since => looks_since.plus_ms(LOOK_LIMIT_MS), // its answer wakes us
        });
        retry.into_iter().chain(look).chain(self.next_asker_tick()).min()
    }

    fn command(&mut self, request: Request, command: Command, answer: Option<SyncSender<Reply>>) {
        self.orders.next_id += 1;
        let id = CommandId(self.orders.next_id);
        self.orders.pending.push(Pending { id, request, answer });
        self.feed(Input::Command { id, command });
    }

    /// The core has answered.
    pub(super) fn on_reply(&mut self, id: CommandId, result: Result<(), CommandError>) {
        let Some(at) = self.orders.pending.iter().position(|pending| pending.id == id) else {
            return;
        };
        let Pending { request, answer, .. } = self.orders.pending.swap_remove(at);
        let leaves = matches!(request, Request::Detach { .. } | Request::Demote);
        if leaves && result == Err(CommandError::Busy) && self.orders.waiting.is_none() {
            // A promotion is under way. Who is asked to stop must not forget it: again when that has ended.
            self.orders.waiting = Some(Waiting { request, answer });
            return;
        }
        if let (Request::Connect { no_salvage, .. }, Ok(())) = (&request, result) {
            self.salvage.skip = *no_salvage;
        }
        if matches!(request, Request::Detach { .. }) && result.is_ok() {
            self.orders.left = true;
        }
        let reply = match result {
            Ok(()) => Reply::Ok,
            Err(error) => Reply::from(self.explain(&request, error)),
        };
        send(answer, reply);
    }

    /// The volume may have grown: clients see it once both nodes have that on record, which they have when they met.
    pub(super) fn follow_size(&mut self) {
        let snapshot = self.replica.snapshot();
        let has_it = snapshot.peer_disk.is_some_and(|disk| disk > DiskState::Failed);
        if let (Some(front), Connection::Connected, true) =
            (&mut self.front, snapshot.connection, has_it)
        {
            front.grow(snapshot.sectors);
        }
    }

    /// The device exists exactly while this node is Primary.
    pub(super) fn follow_role(&mut self) {
        let primary = self.replica.role() == Role::Primary;
        if !primary || self.front.is_some() || self.orders.gives_up_role() {
            return;
        }
        self.follow_inheritance();
        if self.device_is_in_the_way() {
            return;
        }
        match device::open(&mut self.io, &self.options, &self.replica.snapshot()) {
            Ok(front) => {
                self.inheritance.is_opened();
                if self.options.front != FrontChoice::Ublk {
                    self.orders.device_error = None;
                    tracing::info!("clients find the volume at {}", front.address());
                }
                self.front = Some(front);
                self.take_news();
            }
            Err(error) => {
                tracing::error!("{error}");
                self.orders.no_device(&error.to_string());
                self.orders.waiting = Some(Waiting { request: Request::Demote, answer: None });
            }
        }
    }
}

pub(super) fn send(answer: Option<SyncSender<Reply>>, reply: Reply) {
    if let Some(answer) = answer {
        // A client that has gone does not want it.
        drop(answer.send(reply));
    } else if let Reply::Error { what, why, .. } = reply {
        tracing::info!("{what}: {why}");
    }
}
