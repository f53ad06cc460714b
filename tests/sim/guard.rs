//! Runs end with a panic when an oracle is broken: kept for the report instead of being printed.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// The panic of the run on this thread; `None` outside of runs.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let kept = PANIC.with_borrow_mut(|slot| {
                slot.as_mut().map(|text| *text = info.to_string()).is_some()
            });
            if !kept {
                usual(info);
            }
        }));
    });
}

/// Runs something; the text of its panic if it has one.
pub(crate) fn guarded(run: impl FnOnce()) -> Result<(), String> {
    keep_panics();
    PANIC.set(Some(String::new()));
    let ended = catch_unwind(AssertUnwindSafe(run));
    let text = PANIC.take().unwrap_or_default();
    ended.map_err(|_| text)
}
