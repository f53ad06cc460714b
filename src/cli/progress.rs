//! Long work: a bar on a terminal, now and then a plain line elsewhere. On stderr.

use super::say;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Between two plain lines about the same stage.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Work in progress. Dropping it takes the bar away.
pub(super) struct Progress {
    bar: ProgressBar,
    stage: String,
    told: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let bar = ProgressBar::new(0);
        Progress { bar, stage: String::new(), told: None }
    }

    /// Shows that `done` of `total` is done (`total` 0 if that is not known) in `stage`, a short text
    /// that stays the same while the same is going on; `detail` may change each time.
    pub(super) fn show(&mut self, stage: &str, detail: &str, done: u64, total: u64) {
        let changed = self.stage != stage;
        if self.bar.is_hidden() {
            let due = self.told.is_none_or(|told| told.elapsed() >= LINE_EVERY);
            if changed || due {
                let space = if detail.is_empty() { "" } else { ", " };
                say(&format!("{stage}{space}{detail}"));
                self.told = Some(Instant::now());
            }
        } else {
            if changed || self.bar.length().unwrap_or(0) == 0 {
                self.bar.set_style(style(total));
            }
            self.bar.set_prefix(stage.to_owned());
            self.bar.set_message(detail.to_owned());
            self.bar.set_length(total);
            self.bar.set_position(done.min(total));
            self.bar.tick();
        }
        if changed {
            stage.clone_into(&mut self.stage);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(total: u64) -> ProgressStyle {
    let template = match total {
        0 => "{spinner} {prefix} {elapsed} {msg}",
        _ => "{prefix} [{bar:30}] {percent:>3} % {msg}",
    };
    // The templates are constants, so the fallback is never seen.
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("#>-")
}
