//! The device that an earlier daemon left, with clients that wait: whether they may go on.
//!
//! They may with the very data that they know, and no other: a file system that is mounted there goes on with what it
//! remembers, and would write that over what others have written since.
//!
//! - Nobody but this node has written: its daemon died as Primary, or handed over. The superblock on disk says Primary
//!   then, and what the disk holds is what the clients know.
//! - The peer went on alone and was copied here, or another disk was put in: the disk's generation is another.
//! - The peer was Primary beside this Secondary: its role says so. Not with two Primaries, whose clients agree with
//!   each other on who writes.
//!
//! - A daemon with another front (NBD) finds it: clients of that may write, and this device's would not know.
//!
//! What the clients know is kept in the record of the device, so it outlives daemons that start and end meanwhile. Once
//! it is void it stays void.
//!
//! ```text
//!   Waits ──a device is made of it──► Recovering ──clients can use it──► None
//!     │  ▲                                │
//!     │  └──────────── failed ────────────┘
//!     └──the data is another, or becomes so──► Removing ──► None
//! ```

use super::run::Daemon;
use super::{AttachOptions, FrontChoice, device};
use crate::error::{Error, Result};
use crate::front::ublk::Left;
use crate::io::ring::Waker;
use crate::io::thread;
use crate::meta::superblock::{GenerationId, Superblock};
use crate::wire::message::Role;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

const STACK_BYTES: usize = 256 << 10;

/// What became of the device that an earlier daemon left.
#[derive(Default)]
pub(super) enum Inheritance {
    /// There was none, or it is served again.
    #[default]
    None,
    /// It waits, and may be served if the data is what its clients know.
    Waits(Left),
    /// It is being taken over; if that fails, it waits on.
    Recovering(Left),
    /// It is being taken away: its clients must not go on, or it has none.
    Removing(Removal),
}

/// A device is being taken away by a thread of its own: the driver takes its time, and the loop has none.
pub(super) struct Removal {
    /// Hangs up when the thread has ended, however it does.
    ended: Receiver<()>,
}

impl Removal {
    /// Runs `remove` on a thread; `waker` tells the loop that it is over.
    ///
    /// # Errors
    /// There is no thread for it.
    fn start(waker: Waker, remove: impl FnOnce() + Send + 'static) -> std::io::Result<Removal> {
        let (alive, ended) = channel();
        let body = move || {
            remove();
            drop(alive); // before the loop looks
            waker.wake();
        };
        thread::spawn("rblk-remove", STACK_BYTES, body)?;
        Ok(Removal { ended })
    }

    fn is_over(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }
}

/// What names a disk's data in the record of a device.
pub(super) fn name_of(generation: Option<GenerationId>) -> Option<String> {
    generation.map(|generation| generation.to_string())
}

/// True if the clients of a device know the data of this disk: its generation, or the one that this node itself has
/// left since. A disk that was overwritten by a source has neither.
pub(super) fn is_known(left: &Left, superblock: &Superblock) -> bool {
    is_one_of(left, [superblock.current, superblock.base])
}

fn is_one_of(left: &Left, own: [Option<GenerationId>; 2]) -> bool {
    left.data.is_some() && own.into_iter().any(|generation| name_of(generation) == left.data)
}

/// Looks at the start for a device that waits; `superblock` is as it was found on disk.
///
/// # Errors
/// It has a server, or the kernel does not say; its record cannot be written.
pub(super) fn look(options: &AttachOptions, superblock: &Superblock) -> Result<Inheritance> {
    let Some(mut left) = device::record(options).orphan()? else { return Ok(Inheritance::None) };
    let id = left.id;
    if options.front != FrontChoice::Ublk {
        left.data = None;
    } else if superblock.primary && left.data.is_some() {
        left.data = name_of(superblock.current);
    }
    device::record(options).put(&left).map_err(|error| {
        Error::io(format!("Cannot record what the clients of /dev/ublkb{id} know"), error)
    })?;
    if left.data.is_some() {
        tracing::warn!(
            "/dev/ublkb{id} waits since the last daemon: it is served again as soon as that is safe"
        );
    }
    Ok(Inheritance::Waits(left))
}

impl Inheritance {
    /// Clients wait for this node to be Primary again.
    pub(super) fn waits(&self) -> bool {
        matches!(self, Inheritance::Waits(left) if left.data.is_some())
    }

    /// A device has been opened: if it is the one that waited, it is not safe yet.
    pub(super) fn is_opened(&mut self) {
        *self = match std::mem::take(self) {
            Inheritance::Waits(left) => Inheritance::Recovering(left),
            other => other,
        };
    }

    /// The device could not be opened: if it is the one that waited, it waits on.
    pub(super) fn is_not_opened(&mut self) {
        *self = match std::mem::take(self) {
            Inheritance::Recovering(left) => Inheritance::Waits(left),
            other => other,
        };
    }
}

impl Daemon {
    /// Gives the device up that an earlier daemon left, once the data is no longer what its clients know. Before
    /// anything of the peer is written here: the peer's role is looked at when it is told.
    pub(super) fn follow_inheritance(&mut self) {
        let Inheritance::Waits(left) = &self.inheritance else { return };
        let now = self.replica.snapshot();
        let same = is_known(left, &now.superblock);
        let dual = self.options.config.policies.dual_primary;
        let overtaken =
            !dual && now.role == Role::Secondary && now.peer_role == Some(Role::Primary);
        if same && !overtaken {
            return;
        }
        tracing::error!(
            "the data has changed since the last daemon left /dev/ublkb{}, or others may change it now: its clients \
             must not go on with what they remember. The device is taken away and their requests fail; unmount what \
             is mounted there",
            left.id
        );
        let record = device::record(&self.options);
        if let Err(error) = record.put(&Left { data: None, ..left.clone() }) {
            tracing::error!("the record of the device cannot be written: {error}");
        }
        self.orders.wants_primary = self.options.primary;
        self.remove_left_device();
    }

    /// Begins to take away the device that an earlier daemon left, if there is one and nobody has it open:
    /// [`Daemon::device_is_in_the_way`] until that is done.
    pub(super) fn remove_left_device(&mut self) {
        let record = device::record(&self.options);
        if self.device_is_in_the_way() {
            return;
        }
        if !record.is_kept() {
            self.inheritance = Inheritance::None;
            return;
        }
        let removal = Removal::start(self.io.ring.waker(), move || record.remove_orphan());
        self.inheritance = match removal {
            Ok(removal) => Inheritance::Removing(removal),
            Err(error) => {
                tracing::error!("the device cannot be taken away now: {error}");
                Inheritance::None
            }
        };
    }

    /// True while a device is being taken away: no other is made before, and no demote or detach ends before.
    pub(super) fn device_is_in_the_way(&mut self) -> bool {
        if let Inheritance::Removing(removal) = &self.inheritance
            && removal.is_over()
        {
            self.inheritance = Inheritance::None;
        }
        matches!(self.inheritance, Inheritance::Removing(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_removal_but_those_who_look_whether_it_is_over() {
        let mut io = crate::io::Io::new(8, 1, 4096).expect("io_uring");
        for dies in [false, true] {
            let (go_on, driver) = channel::<()>();
            let remove = move || {
                let _ = driver.recv();
                assert!(!dies, "the driver cannot be asked");
            };
            // Returns while the driver has not.
            let removal = Removal::start(io.ring.waker(), remove).expect("a thread");
            assert!(!removal.is_over());
            drop(go_on);
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while !removal.is_over() {
                assert!(std::time::Instant::now() < end, "it is over however the thread ends");
                let pause = std::time::Duration::from_millis(if dies { 1 } else { 5_000 });
                io.ring.wait(Some(pause)).expect("usable");
            }
        }
    }

    #[test]
    fn a_device_that_cannot_be_taken_over_waits_on_and_is_looked_at_again() {
        let left = Left { id: 3, data: Some("01".to_owned()), block_bytes: 512 };
        let mut inheritance = Inheritance::Waits(left.clone());
        inheritance.is_opened();
        assert!(!inheritance.waits() && matches!(inheritance, Inheritance::Recovering(_)));
        inheritance.is_not_opened();
        assert!(inheritance.waits());
        let mut void = Inheritance::Waits(Left { data: None, ..left });
        assert!(!void.waits(), "nobody becomes Primary for clients that must not go on");
        void.is_not_opened();
        assert!(matches!(void, Inheritance::Waits(_)), "and it is still to be taken away");
        let mut none = Inheritance::None;
        none.is_opened();
        assert!(matches!(none, Inheritance::None), "a new device");
    }

    #[test]
    fn clients_go_on_with_the_data_that_they_know() {
        let [old, new, other] = [1, 2, 3].map(|id| Some(GenerationId(id)));
        let left = |data| Left { id: 0, data: name_of(data), block_bytes: 512 };
        assert!(is_one_of(&left(old), [old, None]), "nothing has happened");
        assert!(is_one_of(&left(old), [new, old]), "this node was forced to go on");
        assert!(!is_one_of(&left(old), [new, None]), "the peer's data was copied here");
        assert!(!is_one_of(&left(old), [new, other]), "and this node was forced after that");
        assert!(!is_one_of(&left(old), [None, None]), "the data is void");
        assert!(!is_one_of(&left(None), [None, None]), "its clients must not go on");
    }
}
