//! What is discarded is saved before a resync overwrites it: on a thread of its own, while the nodes are parted.
//!
//! ```text
//!  AskConsent ─► thread: disk ─► set ─► whole ─► before-resync-target, if there is one ─► its answer
//!                                 └─ not saved ─► Consent: unsaved, and this node stands alone
//! ```

use super::events::unix_ms;
use super::run::Daemon;
use crate::config;
use crate::ctl::status;
use crate::error::{Error, Kind, Result};
use crate::io::ring::Waker;
use crate::io::thread;
use crate::limits::{BLOCK_BYTES, SALVAGE_STOP_MS, SECTOR_BYTES};
use crate::replica::event::{Consent, Discarded, Input, Notice};
use crate::replica::snapshot::Connection;
use crate::salvage::{FORMAT, Header, Marks, Order, Progress, Saved, Store, save};
use crate::sync::{Receiver, sync_channel};
use crate::wire::message::Role;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::TryRecvError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const STACK_BYTES: usize = 256 << 10;

/// What became of saving last.
enum Outcome {
    /// Nothing was to be saved yet; why it could not be, if that is known.
    None { unusable: Option<String> },
    /// A set is whole.
    Saved(Saved),
    /// Nothing was saved.
    Failed(String),
}

/// A thread that saves.
struct Running {
    /// For the end: it is waited for.
    thread: JoinHandle<()>,
    answer: Receiver<Result<Saved>>,
    progress: Arc<Progress>,
    total: u64,
}

/// What this daemon saves, has saved, and could not save.
pub(super) struct Salvage {
    waker: Waker,
    running: Option<Running>,
    outcome: Outcome,
    /// At the next meeting nothing is saved: an operator said so.
    pub(super) skip: bool,
    /// The core's question is answered with this, once it listens.
    answer: Option<Consent>,
}

impl Salvage {
    /// Looks whether sets can be made where the configuration says.
    pub(super) fn new(config: &config::Config, waker: Waker) -> Salvage {
        let unusable = config.saves_to().and_then(|place| {
            let store = Store::new(&place.directory, config.name.as_str());
            let error = store.prepare().err()?;
            Some(format!("no set can be made in {} ({error})", store.folder().display()))
        });
        if let Some(why) = &unusable {
            tracing::warn!("{why}: a resync that would discard data of this node will be refused");
        }
        let outcome = Outcome::None { unusable };
        Salvage { waker, running: None, outcome, skip: false, answer: None }
    }

    /// For the status; `None` if no place is configured.
    pub(super) fn status(&self, place: Option<&config::Salvage>) -> Option<status::Salvage> {
        let place = place?;
        let mut status = status::Salvage {
            state: "idle".to_owned(),
            directory: place.directory.display().to_string(),
            ..status::Salvage::default()
        };
        if let Some(running) = &self.running {
            status.state = "saving".to_owned();
            status.done_bytes = running.progress.done.load(Ordering::Relaxed);
            status.total_bytes = running.total;
            return Some(status);
        }
        match &self.outcome {
            Outcome::None { unusable: None } => {}
            Outcome::None { unusable: Some(why) } => {
                status.state = "unusable".to_owned();
                status.why = Some(why.clone());
            }
            Outcome::Failed(why) => {
                status.state = "failed".to_owned();
                status.why = Some(why.clone());
            }
            Outcome::Saved(saved) => {
                status.state = "saved".to_owned();
                status.set = Some(saved.id.clone());
                (status.done_bytes, status.total_bytes) = (saved.bytes, saved.bytes);
            }
        }
        Some(status)
    }

    /// The data changes: what is being read is not one state of it.
    fn cancel(&self) {
        if let Some(running) = &self.running {
            running.progress.cancel.store(true, Ordering::Relaxed);
        }
    }

    fn hear(&mut self, notice: &Notice, connection: Connection) {
        match notice {
            // That nothing is saved was said of the data as it was then; --discard-my-data is void by now, too.
            Notice::Role(Role::Primary) => {
                self.cancel();
                self.skip = false;
            }
            Notice::State => match connection {
                Connection::Connected => {
                    self.skip = false;
                    if matches!(self.outcome, Outcome::Failed(_)) {
                        self.outcome = Outcome::None { unusable: None };
                    }
                }
                // The word is used up, as that of --discard-my-data is.
                Connection::StandAlone => self.skip = false,
                Connection::Connecting | Connection::Greeting => {}
            },
            _ => {}
        }
    }

    /// Of `total` bytes, as the core counts them: to walk the marks is for the thread.
    fn start(&mut self, order: Order, total: u64) -> Result<()> {
        let progress = Arc::new(Progress::default());
        let (shared, waker) = (Arc::clone(&progress), self.waker.clone());
        let (sender, answer) = sync_channel(1);
        let work = move || {
            // Rings last, and also if it panics: then the sender is gone without an answer.
            let _bell = Bell(waker);
            let sender = sender;
            // Nobody waits for it any more once the daemon ends.
            drop(sender.send(save(&order, &shared)));
        };
        let thread = thread::spawn("rblk-salvage", STACK_BYTES, work)
            .map_err(|error| Error::io("Cannot start the thread that saves", error))?;
        self.running = Some(Running { thread, answer, progress, total });
        Ok(())
    }

    /// How it ended, once it has.
    fn ended(&mut self) -> Option<Result<Saved>> {
        let ended = match self.running.as_ref()?.answer.try_recv() {
            Ok(ended) => ended,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => {
                Err(Error::new(Kind::Io, "Saving has crashed").why("it crashed: see the log"))
            }
        };
        self.running = None;
        Some(ended)
    }
}

impl Drop for Salvage {
    /// A set that is not whole is nothing: it is cleaned up now, or by the next daemon.
    fn drop(&mut self) {
        self.cancel();
        let end = Instant::now() + Duration::from_millis(SALVAGE_STOP_MS);
        while let Some(running) = &self.running
            && !running.thread.is_finished()
            && Instant::now() < end
        {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Wakes the loop when the thread ends.
struct Bell(Waker);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Daemon {
    /// The core waits for an answer.
    pub(super) fn ask_consent(&mut self, discarded: Option<Discarded>) {
        match discarded {
            Some(_) if self.salvage.skip => {
                tracing::warn!("what this node wrote on its own way is not saved: --no-salvage");
                self.ask_handler();
            }
            Some(discarded) => {
                if let Err(error) = self.begin_salvage(discarded) {
                    self.not_saved(&error);
                }
            }
            None => self.ask_handler(),
        }
    }

    fn begin_salvage(&mut self, discarded: Discarded) -> Result<()> {
        let config = &self.options.config;
        let place = config.saves_to().expect("the core wants to save only if a place is named");
        let me = config.node(self.options.node);
        let snapshot = self.replica.snapshot();
        let volume_bytes = snapshot.sectors * SECTOR_BYTES;
        let blocks = volume_bytes / BLOCK_BYTES;
        let (marks, total) = match discarded.everything {
            true => (Marks::all(blocks), volume_bytes),
            false => (Marks::of(self.replica.marks(), blocks), snapshot.out_of_sync_bytes),
        };
        let store = Store::new(&place.directory, config.name.as_str());
        tracing::warn!(
            "what this node wrote on its own way, as generation {}, is saved in {} before it is overwritten",
            discarded.own,
            store.folder().display()
        );
        let header = Header {
            format: FORMAT,
            resource: config.name.to_string(),
            volume: config.volume_id().to_string(),
            node: me.name.to_string(),
            generation: discarded.own.to_string(),
            source: discarded.source.to_string(),
            base: discarded.base.map(|base| base.to_string()),
            saved_unix_ms: unix_ms(),
            volume_bytes,
            blocks: 0,
            extents: 0,
        };
        let handle = self.disk.backing().handle();
        let disk = handle.map_err(|error| Error::io("Cannot read this node's disk", error))?;
        let max_bytes = place.max_bytes;
        self.salvage.start(Order { store, max_bytes, disk, marks, header }, total)
    }

    /// Looks whether saving has ended, and answers the core.
    pub(super) fn take_salvage(&mut self) {
        match self.salvage.ended() {
            None => {}
            Some(Ok(_)) if self.replica.role() == Role::Primary => self.saved_in_vain(),
            Some(Ok(saved)) => {
                tracing::warn!(
                    "saved {} KiB as {}: `rblk salvage list {}` shows it",
                    saved.bytes / 1024,
                    saved.id,
                    self.options.config.name
                );
                self.salvage.outcome = Outcome::Saved(saved);
                self.ask_handler();
            }
            Some(Err(error)) => self.not_saved(&error),
        }
        if let Some(answer) = self.salvage.answer.take() {
            self.feed(Input::Consent { answer });
        }
    }

    /// Its data is not overwritten after all.
    fn saved_in_vain(&mut self) {
        tracing::warn!("this node has become Primary: what was saved so far is void");
        self.salvage.outcome = Outcome::None { unusable: None };
        self.answer_consent(Consent::Unsaved);
    }

    fn not_saved(&mut self, error: &Error) {
        if self.replica.role() == Role::Primary {
            return self.saved_in_vain();
        }
        tracing::error!("this node stands alone, and nothing is overwritten: {error}");
        self.salvage.outcome = Outcome::Failed(error.reason());
        self.answer_consent(Consent::Unsaved);
    }

    /// The answer, with the next turn of the loop: the core may still be in the middle of asking.
    pub(super) fn answer_consent(&mut self, answer: Consent) {
        self.salvage.answer = Some(answer);
        self.salvage.waker.wake();
    }

    /// What saving has to know of a notice.
    pub(super) fn tell_salvage(&mut self, notice: &Notice) {
        self.salvage.hear(notice, self.replica.connection());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ring::Ring;

    /// An operator has said that nothing is saved; then this happens: is it so still?
    fn skips_after(notice: &Notice, connection: Connection) -> bool {
        let ring = Ring::new(8).expect("a ring");
        let mut salvage = Salvage {
            waker: ring.waker(),
            running: None,
            outcome: Outcome::None { unusable: None },
            skip: true,
            answer: None,
        };
        salvage.hear(notice, connection);
        salvage.skip
    }

    #[test]
    fn that_nothing_is_saved_was_said_of_the_data_as_it_was() {
        assert!(skips_after(&Notice::State, Connection::Connecting));
        assert!(skips_after(&Notice::State, Connection::Greeting));
        assert!(!skips_after(&Notice::State, Connection::Connected));
        assert!(!skips_after(&Notice::State, Connection::StandAlone));
        let primary = Notice::Role(Role::Primary);
        assert!(!skips_after(&primary, Connection::Connecting), "what is written now is new");
    }
}
