//! Who has the device open: asked for each status, and before the device is taken away.
//!
//! The loop never waits for it: an NBD server knows its clients, and who has a device of the kernel open another
//! process finds out, in its own time. What is not known in time counts as somebody.

use super::device;
use super::orders::send;
use super::run::Daemon;
use crate::ctl::proto::Reply;
use crate::front::Openers;
use crate::front::ublk::Question;
use crate::limits::{LOOK_KEEP_MS, LOOK_STATUS_MS};
use crate::replica::event::Tick;
use crate::sync::SyncSender;

/// One who waits for the status. There are at most as many as clients of the control socket.
pub(super) struct Asker {
    asked: Tick,
    answer: SyncSender<Reply>,
}

impl Daemon {
    /// Who has the device open, also one that waits since the last daemon, by a look that began at `since` or later.
    /// `None` until that is found out. Surely somebody if there is somebody.
    pub(super) fn users(&mut self, since: Tick) -> Option<Vec<String>> {
        if self.device_is_in_the_way() {
            return Some(Vec::new()); // it is being taken away, since nobody has it open
        }
        let id = match &self.front {
            Some(front) => match front.openers() {
                Openers::Known(users) => return Some(users),
                Openers::OfDevice(id) => Some(id),
            },
            None => match device::record(&self.options).orphan() {
                Ok(left) => left.map(|left| left.id),
                Err(error) => return Some(vec![error.to_string()]),
            },
        };
        let Some(id) = id else { return Some(Vec::new()) };
        let Some(lookout) = &mut self.lookout else { return Some(vec![unknown("nobody looks")]) };
        let question = Question { id, thorough: true };
        if let Some(users) = lookout.known(question, since) {
            return Some(users.clone().unwrap_or_else(|why| vec![unknown(&why)]));
        }
        lookout.look(self.clock.now(), question);
        None
    }

    /// Answers with the status, now or as soon as it is known whether the device is open.
    pub(super) fn on_status(&mut self, answer: SyncSender<Reply>) {
        let asked = self.clock.now();
        self.askers.push(Asker { asked, answer });
        self.answer_askers();
    }

    /// Answers those who wait for the status, if it is known whether the device is open, or is not in time.
    pub(super) fn answer_askers(&mut self) {
        if self.askers.is_empty() {
            return;
        }
        let now = self.clock.now();
        for asker in std::mem::take(&mut self.askers) {
            match self.is_open(now, asker.asked) {
                Some(open) => {
                    let status = Box::new(self.status_if(open));
                    send(Some(asker.answer), Reply::Status { status });
                }
                None => self.askers.push(asker),
            }
        }
    }

    /// When the next of them has waited long enough.
    pub(super) fn next_asker_tick(&self) -> Option<Tick> {
        self.askers.iter().map(|asker| asker.asked.plus_ms(LOOK_STATUS_MS)).min()
    }

    fn is_open(&mut self, now: Tick, asked: Tick) -> Option<bool> {
        let Some(front) = &self.front else { return Some(false) };
        let id = match front.openers() {
            Openers::Known(users) => return Some(!users.is_empty()),
            Openers::OfDevice(id) => id,
        };
        let Some(lookout) = &mut self.lookout else { return Some(true) };
        let question = Question { id, thorough: false };
        let since = Tick(asked.0.saturating_sub(LOOK_KEEP_MS * 1000));
        if let Some(users) = lookout.known(question, since) {
            return Some(users.as_ref().map_or(true, |users| !users.is_empty()));
        }
        lookout.look(now, question);
        let hangs = |begun: Tick| now >= begun.plus_ms(LOOK_STATUS_MS);
        lookout.looks_since().is_none_or(hangs).then_some(true)
    }
}

/// It cannot be told who, so somebody.
pub(super) fn unknown(why: &str) -> String {
    format!("somebody who cannot be told ({why})")
}
