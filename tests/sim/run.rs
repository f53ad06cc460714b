//! Runs seeds on all cores and reports.

use crate::guard::guarded;
use crate::trace::Trace;
use crate::world::{Sums, World};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// What became of a seed.
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) sums: Sums,
    /// What went wrong, at which event.
    pub(crate) failure: Option<(String, u64)>,
    lines: Vec<String>,
}

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Runs one seed.
pub(crate) fn one(seed: u64, trace: bool, print: bool) -> Outcome {
    let mut world = World::new(seed, Trace::new(trace, print));
    let failure = guarded(|| world.run()).err();
    Outcome {
        hash: world.trace.hash(),
        failure: failure.map(|text| (text, world.step)),
        lines: world.trace.lines.drain(..).collect(),
        sums: world.sums,
    }
}

fn report(seed: u64) -> String {
    let again = one(seed, true, false);
    let Some((text, step)) = again.failure else {
        return format!("seed {seed} failed once and not again: the run is not deterministic");
    };
    format!(
        "seed {seed}, event {step}: {text}\n{}\nreplay: RBLK_SIM_SEED={seed} cargo test --test sim seeds",
        again.lines.join("\n")
    )
}

/// Replays a seed with its whole trace.
pub(crate) fn replay(seed: u64) {
    let outcome = one(seed, true, true);
    println!("seed {seed}: hash {:016x}", outcome.hash);
    if let Some((text, step)) = outcome.failure {
        panic!("seed {seed}, event {step}: {text}");
    }
}

/// Runs `count` seeds from `first` on, on all cores, and fails with the report of the lowest that failed.
pub(crate) fn many(first: u64, count: u64) {
    let started = Instant::now();
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let all = std::env::var_os("RBLK_SIM_ALL").is_some();
    let total = Mutex::new((Sums::default(), Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let outcome = one(seed, false, false);
                    let mut total = total.lock().expect("no panic holds it");
                    total.0.add(&outcome.sums);
                    if let Some((text, _)) = outcome.failure {
                        total.1.push((seed, text));
                        stop.store(!all, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (sums, mut failed) = total.into_inner().expect("all workers ended");
    summary(&sums, started.elapsed().as_secs_f64());
    failed.sort();
    if all {
        for (seed, text) in &failed {
            println!("FAILED {seed}: {}", text.replace('\n', " "));
        }
    }
    if let Some((seed, _)) = failed.first() {
        panic!("{} of {} seeds failed\n{}", failed.len(), sums.seeds, report(*seed));
    }
}

fn summary(sums: &Sums, seconds: f64) {
    println!(
        "{} seeds, {} events, {:.1} virtual hours in {seconds:.0} s",
        sums.seeds,
        sums.events,
        sums.virtual_us as f64 / 3.6e9
    );
    for (kind, count) in &sums.kinds {
        println!("  {kind}: {count}");
    }
}
