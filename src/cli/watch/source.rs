//! The daemon of one resource, asked by a thread of its own: a daemon that hangs holds up nobody else.

use crate::ctl::client::Client;
use crate::ctl::proto::Event;
use crate::ctl::status::Resource;
use crate::error::{Error, Kind, Result};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Before a daemon that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// A daemon that takes longer over its status is said to hang.
const PATIENCE: Duration = Duration::from_secs(3);

/// What there is to tell of a resource.
pub(super) enum News {
    /// Its state, and what has happened since the last time; `missed` changes are not among them.
    State { status: Box<Resource>, events: Vec<Event>, missed: u64 },
    /// Why there is none.
    Silence(String),
}

/// Starts the thread. It ends when nobody listens any more.
pub(super) fn follow(run_dir: &Path, name: &str, tell: Sender<(String, News)>) -> Result<()> {
    let (run_dir, name) = (run_dir.to_owned(), name.to_owned());
    let thread = std::thread::Builder::new().name("rblk-watch".to_owned());
    let body = move || while report(&run_dir, &name, &tell) {};
    let started = thread.spawn(body);
    started.map(drop).map_err(|error| Error::io("Cannot start a thread", error))
}

/// Tells of one daemon for as long as it answers; false if nobody listens any more.
fn report(run_dir: &Path, name: &str, tell: &Sender<(String, News)>) -> bool {
    let told = |news| tell.send((name.to_owned(), news)).is_ok();
    let silence = match talk(run_dir, name, &told) {
        Ok(()) => return false,
        Err(error) if error.kind() == Kind::NotRunning => "does not run on this node".to_owned(),
        Err(error) => error.to_string(),
    };
    let heard = told(News::Silence(silence));
    std::thread::sleep(AGAIN);
    heard
}

/// Returns when nobody listens any more.
fn talk(run_dir: &Path, name: &str, told: &impl Fn(News) -> bool) -> Result<()> {
    let mut client = Client::connect(run_dir, name)?;
    // What has happened before is told as well: from the first number on.
    let mut next = 0;
    loop {
        let status = Box::new(client.status_within(PATIENCE)?);
        // Waits in the daemon for a change, for a second at most.
        let (events, after, missed) = client.events(Some(next))?;
        next = after;
        if !told(News::State { status, events, missed }) {
            return Ok(());
        }
    }
}
