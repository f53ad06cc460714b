//! What changes, remembered for those who watch (`rblk events`).
//!
//! The daemon keeps the last [`EVENTS_MAX`] changes under consecutive numbers; a watcher asks for what came after the
//! last number it saw, and waits a moment if that is nothing. So nothing is missed between two looks, nobody who
//! watches can hold the daemon up, and one who looks too seldom is told how much he missed.

use super::orders::send;
use super::run::Daemon;
use crate::ctl::proto::{Event, Reply};
use crate::ctl::status::Resource;
use crate::limits::{EVENTS_AT_ONCE, EVENTS_MAX};
use crate::replica::event::Tick;
use crate::sync::SyncSender;
use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

/// Objects of a resource that have a state: the resource, its device, its connection, the peer's device.
const OBJECTS: usize = 4;

/// A watcher is answered after this long even if nothing has happened, in milliseconds: then it knows that the daemon
/// lives.
const WATCH_MS: u64 = 1_000;

/// One who waits for the next change. There are at most as many as clients of the control socket.
struct Watcher {
    after: u64,
    until: Tick,
    answer: SyncSender<Reply>,
}

/// The last changes.
#[derive(Default)]
pub(super) struct Events {
    kept: VecDeque<Event>,
    /// The number of the next one.
    next: u64,
    last: Option<[String; OBJECTS]>,
    watchers: Vec<Watcher>,
}

impl Events {
    /// Compares with the last look, and remembers what is new.
    fn look(&mut self, now: [String; OBJECTS]) {
        if let Some(last) = &self.last {
            for (line, _) in now.iter().zip(last).filter(|(now, last)| now != last) {
                if self.kept.len() == EVENTS_MAX {
                    self.kept.pop_front();
                }
                self.kept.push_back(Event { unix_ms: unix_ms(), line: format!("change {line}") });
                self.next += 1;
            }
        }
        self.last = Some(now);
    }

    fn since(&self, after: u64) -> Reply {
        let oldest = self.next - self.kept.len() as u64;
        let from = after.clamp(oldest, self.next);
        let events: Vec<Event> =
            self.kept.iter().skip((from - oldest) as usize).take(EVENTS_AT_ONCE).cloned().collect();
        let next = from + events.len() as u64;
        Reply::Events { events, next, missed: from.saturating_sub(after) }
    }

    /// What is now, in the words of a change.
    fn now(&self) -> Reply {
        let exists = |line: &str| Event { unix_ms: unix_ms(), line: format!("exists {line}") };
        let mut events: Vec<Event> = self.last.iter().flatten().map(|line| exists(line)).collect();
        events.push(exists("-"));
        Reply::Events { events, next: self.next, missed: 0 }
    }
}

impl Daemon {
    /// A state that can be watched may have changed.
    pub(super) fn remember_events(&mut self) {
        let status = self.status_if(false);
        self.systemd.state(&status);
        self.events.look(lines(&status));
    }

    /// A client asks for what is, or for what happened.
    pub(super) fn on_watcher(&mut self, after: Option<u64>, answer: SyncSender<Reply>) {
        self.remember_events();
        match after {
            None => send(Some(answer), self.events.now()),
            Some(after) => {
                let until = self.clock.now().plus_ms(WATCH_MS);
                self.events.watchers.push(Watcher { after, until, answer });
            }
        }
    }

    /// Answers those who have something to hear, or have waited long enough; all of them when the daemon ends.
    pub(super) fn answer_watchers(&mut self, ends: bool) {
        if self.events.watchers.is_empty() {
            return;
        }
        let now = self.clock.now();
        for watcher in std::mem::take(&mut self.events.watchers) {
            if ends || watcher.after != self.events.next || now >= watcher.until {
                send(Some(watcher.answer), self.events.since(watcher.after));
            } else {
                self.events.watchers.push(watcher);
            }
        }
    }
}

/// The time of day.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// The state of each object, without what only counts.
fn lines(status: &Resource) -> [String; OBJECTS] {
    let name = &status.name;
    let (device, peer) = (status.device(), status.connection());
    let of_peer = format!("name:{name} peer-node-id:{} conn-name:{}", peer.peer_node_id, peer.name);
    let (replication, disk, resync) = match peer.peer_devices.first() {
        Some(at) => (at.replication_state, at.peer_disk_state, at.resync_suspended.as_str()),
        None => Default::default(),
    };
    // DRBD has no word for it: a key of our own, at the end.
    let salvage = match &status.rblk.salvage {
        Some(salvage) if salvage.state != "idle" => format!(" salvage:{}", salvage.state),
        _ => String::new(),
    };
    [
        format!("resource name:{name} role:{} suspended:{}", status.role, status.suspended_word()),
        format!(
            "device name:{name} volume:{} minor:{} disk:{}",
            device.volume, device.minor, device.disk_state
        ),
        format!(
            "connection {of_peer} connection:{} role:{}{salvage}",
            peer.connection_state, peer.peer_role
        ),
        format!(
            "peer-device {of_peer} volume:{} replication:{replication} peer-disk:{disk} resync-suspended:{resync}",
            device.volume
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four(word: &str) -> [String; OBJECTS] {
        [word, "b", "c", "d"].map(str::to_owned)
    }

    fn parts(reply: Reply) -> (Vec<String>, u64, u64) {
        let Reply::Events { events, next, missed } = reply else { panic!("{reply:?}") };
        (events.into_iter().map(|event| event.line).collect(), next, missed)
    }

    #[test]
    fn only_what_changed_is_told_and_only_once() {
        let mut events = Events::default();
        events.look(four("a"));
        let (now, next, _) = parts(events.now());
        assert_eq!(now, ["exists a", "exists b", "exists c", "exists d", "exists -"]);
        events.look(four("a"));
        assert_eq!(parts(events.since(next)), (vec![], next, 0));
        events.look(four("e"));
        assert_eq!(parts(events.since(next)), (vec!["change e".to_owned()], next + 1, 0));
        assert_eq!(parts(events.since(next + 1)), (vec![], next + 1, 0));
        assert_eq!(parts(events.since(u64::MAX)), (vec![], next + 1, 0), "from an earlier daemon");
    }

    #[test]
    fn who_looks_too_seldom_is_told_how_much_is_gone() {
        let mut events = Events::default();
        for round in 0..=EVENTS_MAX + 10 {
            events.look(four(&round.to_string()));
        }
        let (mut after, mut told, mut gone) = (0, 0, 0);
        loop {
            let (lines, next, missed) = parts(events.since(after));
            assert!(lines.len() <= EVENTS_AT_ONCE);
            gone += missed;
            told += lines.len();
            if lines.is_empty() {
                break;
            }
            after = next;
        }
        assert_eq!((told, gone), (EVENTS_MAX, 10));
    }
}
