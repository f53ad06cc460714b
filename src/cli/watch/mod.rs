//! `rblk status --watch`: the state as it changes, until somebody has seen enough.
//!
//! ```text
//!   one thread per resource (source.rs) ── news ──► board (what is known) ──► view (lines) ──► screen
//!                                                                   keys ──────────────────────┘
//! ```
//!
//! Promises: a daemon that ends is waited for; what daemons and files say moves no cursor; the terminal is as before
//! however the view ends. Where there is no terminal, the same lines come one look after the other.

mod board;
mod screen;
mod source;
mod view;

use super::Place;
use super::status::names;
use crate::config::Name;
use crate::error::{Error, Result};
use board::Board;
use screen::{Key, Screen};
use source::News;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Between two looks at what has come.
const TICK: Duration = Duration::from_millis(200);
/// Between two looks for resources that have begun to run.
const LOOK: Duration = Duration::from_secs(1);
/// Between two prints where there is no terminal.
const PRINT: Duration = Duration::from_secs(2);
/// Lines that page up and down move.
const PAGE: usize = 10;

/// Who watches what.
struct Watch {
    run_dir: PathBuf,
    watched: BTreeSet<String>,
    news: Receiver<(String, News)>,
    tell: Sender<(String, News)>,
    board: Board,
}

/// Shows `name`, or all that run here, until told to stop.
pub(super) fn run(place: &Place, name: Option<&Name>) -> Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in
        [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP]
    {
        signal_hook::flag::register(signal, Arc::clone(&ended))
            .map_err(|error| Error::io("Cannot watch for signals", error))?;
    }
    let (tell, news) = channel();
    let run_dir = place.run_dir.clone();
    let board = Board::default();
    let mut watch = Watch { run_dir, watched: BTreeSet::new(), news, tell, board };
    if let Some(name) = name {
        watch.follow(name)?;
    }
    let mut screen = Screen::open()?;
    let (mut top, mut looked, mut shown) = (0_usize, None::<Instant>, None::<Instant>);
    if !screen.is_terminal() {
        // The first page comes with the first answer.
        shown = Some(Instant::now());
    }
    while !ended.load(Ordering::SeqCst) {
        if name.is_none() && looked.is_none_or(|at| at.elapsed() >= LOOK) {
            names(place)?.iter().try_for_each(|name| watch.follow(name))?;
            looked = Some(Instant::now());
        }
        let every = if screen.is_terminal() { TICK } else { PRINT };
        if watch.take_news() || shown.is_none_or(|at| at.elapsed() >= every) {
            let lines = watch.board.lines(screen.width());
            let Some(at) = screen.show(&lines, top)? else { break };
            top = at;
            shown = Some(Instant::now());
        }
        match screen.key(TICK)? {
            Key::Quit => break,
            Key::Up => top = top.saturating_sub(1),
            Key::Down => top += 1,
            Key::PageUp => top = top.saturating_sub(PAGE),
            Key::PageDown => top += PAGE,
            Key::Redraw => screen.forget(),
            Key::None => continue,
        }
        shown = None;
    }
    Ok(())
}

impl Watch {
    /// Has a thread of its own watch `name`, if none does.
    fn follow(&mut self, name: &Name) -> Result<()> {
        if self.watched.insert(name.to_string()) {
            self.board.expect(name.as_str());
            source::follow(&self.run_dir, name.as_str(), self.tell.clone())?;
        }
        Ok(())
    }

    /// True if something is new, which is to be shown at once.
    fn take_news(&mut self) -> bool {
        let mut changed = false;
        while let Ok((name, news)) = self.news.try_recv() {
            changed |= self.board.take(&name, news, Instant::now());
        }
        changed
    }
}
