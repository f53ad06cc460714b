//! What systemd is told: that the node is up, its state in a line, that it ends, and that its loop turns.
//!
//! A thread of its own sends, so that a manager that is busy never holds up the loop. It sends the watchdog's sign of
//! life only if the loop has turned since the last one. Without systemd there is no thread.

use crate::ctl::status::Resource;
use crate::io::thread;
use crate::sync::{Receiver, SyncSender, sync_channel};
use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// Messages that may wait. Beyond that they are lost: the state is told again when it changes.
const MESSAGES_MAX: usize = 32;
/// Signs of life in the time after which systemd takes the daemon for hung.
const BEATS: u32 = 4;
/// How often the thread looks where there is no watchdog: never, almost.
const NO_WATCHDOG: Duration = Duration::from_secs(3600);
const STACK_BYTES: usize = 128 << 10;

enum Tell {
    Ready,
    State(String),
    Stopping,
}

/// The line to systemd, if there is one.
pub(super) struct Systemd {
    messages: Option<SyncSender<Tell>>,
    turns: Arc<AtomicU64>,
    said: String,
}

impl Systemd {
    /// Starts the thread if systemd listens.
    pub(super) fn new() -> Systemd {
        let turns = Arc::new(AtomicU64::new(0));
        let messages = match std::env::var_os("NOTIFY_SOCKET") {
            Some(_) => spawn(Arc::clone(&turns)),
            None => None,
        };
        Systemd { messages, turns, said: String::new() }
    }

    /// The loop has turned once more.
    pub(super) fn turned(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// The node is up: it answers, and will serve as soon as it may.
    pub(super) fn ready(&self) {
        self.tell(Tell::Ready);
    }

    /// The process is about to end.
    pub(super) fn stopping(&self) {
        self.tell(Tell::Stopping);
    }

    /// The state now; told if it reads differently.
    pub(super) fn state(&mut self, status: &Resource) {
        if self.messages.is_none() {
            return;
        }
        let line = line(status);
        if line != self.said {
            self.said.clone_from(&line);
            self.tell(Tell::State(line));
        }
    }

    fn tell(&self, what: Tell) {
        if let Some(messages) = &self.messages {
            // Full: see MESSAGES_MAX.
            let _ = messages.try_send(what);
        }
    }
}

fn spawn(turns: Arc<AtomicU64>) -> Option<SyncSender<Tell>> {
    let (messages, receiver) = sync_channel(MESSAGES_MAX);
    match thread::spawn("rblk-systemd", STACK_BYTES, move || serve(&receiver, &turns)) {
        Ok(_) => Some(messages),
        Err(error) => {
            tracing::error!("no thread to talk to systemd: {error}");
            None
        }
    }
}

/// Sends what is to be told until the daemon ends.
fn serve(messages: &Receiver<Tell>, turns: &AtomicU64) {
    let pause = sd_notify::watchdog_enabled().map_or(NO_WATCHDOG, |limit| limit / BEATS);
    let (mut seen, mut beat_at) = (0, Instant::now() + pause);
    loop {
        match messages.recv_timeout(beat_at.saturating_duration_since(Instant::now())) {
            Ok(Tell::Ready) => send(&NotifyState::Ready),
            Ok(Tell::State(line)) => send(&NotifyState::Status(&line)),
            Ok(Tell::Stopping) => send(&NotifyState::Stopping),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                beat_at = Instant::now() + pause;
                let now = turns.load(Ordering::Relaxed);
                if now != seen {
                    seen = now;
                    send(&NotifyState::Watchdog);
                }
            }
        }
    }
}

fn send(what: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(what)) {
        tracing::debug!("systemd was not told: {error}");
    }
}

/// What `systemctl status` shows.
fn line(status: &Resource) -> String {
    let peer = status.connection();
    let mut line = format!("{}, disk {}; ", status.role, status.device().disk_state);
    line += &match peer.peer_devices.first() {
        Some(device) if status.connected() => {
            format!(
                "{} {}, disk {}, {}",
                peer.name, peer.peer_role, device.peer_disk_state, device.replication_state
            )
        }
        _ => format!("{} {}", peer.name, peer.connection_state),
    };
    let why = &status.rblk.why;
    let reasons = [&why.suspended, &why.not_connected, &why.not_promotable];
    for reason in reasons.into_iter().filter_map(|all| all.first()) {
        line += &format!(". {reason}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::status::{ConnectionState, sample};

    #[test]
    fn the_line_says_what_is_wrong() {
        let mut status = sample();
        let good = line(&status);
        assert!(good.starts_with("Primary, disk UpToDate; docker2 Secondary, disk "), "{good}");
        status.connections[0].connection_state = ConnectionState::Connecting;
        status.rblk.why.suspended = vec![];
        status.rblk.why.not_connected = vec!["nobody answers".to_owned()];
        status.rblk.why.not_promotable = vec!["it is behind".to_owned()];
        let bad = "Primary, disk UpToDate; docker2 Connecting. nobody answers. it is behind";
        assert_eq!(line(&status), bad);
    }
}
