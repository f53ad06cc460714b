//! Runs seeds on all cores and reports; a seed that fails is shrunk.

use crate::case::{self, Case};
use crate::guard::guarded;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::shrink::{Failure, shrink};
use crate::trace::Trace;
use crate::world::{Sums, World};
use crate::worlds;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// What became of a run.
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) sums: Sums,
    pub(crate) failure: Option<Failure>,
    lines: Vec<String>,
}

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// The plan of a seed.
pub(crate) fn plan_of(seed: u64) -> Plan {
    Plan::random(&mut Rng::new(seed))
}

/// Runs one seed by a plan.
pub(crate) fn one(seed: u64, plan: &Plan, trace: Trace) -> Outcome {
    let mut world = World::new(seed, plan, trace);
    let failed = guarded(|| world.run()).err();
    let (step, now, asked) = (world.step, world.now, world.client.asked());
    Outcome {
        hash: world.trace.hash(),
        failure: failed.map(|text| Failure { text, step, now, asked }),
        lines: world.trace.lines.drain(..).collect(),
        sums: world.sums,
    }
}

fn silent() -> Trace {
    Trace::new(false, false)
}

/// Replays a run with its whole trace.
pub(crate) fn replay(seed: u64, plan: &Plan) {
    println!("{}", case::write(seed, plan));
    let outcome = one(seed, plan, Trace::new(true, true));
    println!("seed {seed}: hash {:016x}", outcome.hash);
    if let Some(failure) = outcome.failure {
        panic!("seed {seed}, event {}: {}", failure.step, failure.text);
    }
}

/// Replays a file with its whole trace.
pub(crate) fn replay_file(path: &str) {
    match read(Path::new(path)) {
        Case::Seed { seed, plan } => replay(seed, &plan),
        Case::World(name) => worlds::sweep::replay(&name),
    }
}

fn read(path: &Path) -> Case {
    let text = std::fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Case::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every kept case ends well.
pub(crate) fn corpus() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/corpus");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&room)
        .unwrap_or_else(|error| panic!("{}: {error}", room.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no case", room.display());
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text.starts_with("# "), "{} does not say which bug it showed", path.display());
        let failure = match read(&path) {
            Case::Seed { seed, plan } => one(seed, &plan, silent()).failure.map(|f| f.text),
            Case::World(name) => worlds::sweep::failure_of(&name),
        };
        if let Some(failure) = failure {
            panic!(
                "{}: {failure}\nreplay: RBLK_SIM_CASE={} cargo test --test sim seeds",
                path.display(),
                path.display()
            );
        }
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
                    let outcome = one(seed, &plan_of(seed), silent());
                    let mut total = total.lock().expect("no panic holds it");
                    total.0.add(&outcome.sums);
                    if let Some(failure) = outcome.failure {
                        total.1.push((seed, failure));
                        stop.store(!all, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (sums, mut failed) = total.into_inner().expect("all workers ended");
    summary(&sums, started.elapsed().as_secs_f64());
    failed.sort_by_key(|(seed, _)| *seed);
    if all {
        for (seed, failure) in &failed {
            println!("FAILED {seed}: {}", failure.text.replace('\n', " "));
        }
    }
    let covered = sums.coverage.report(sums.seeds);
    if let Some((seed, failure)) = failed.first() {
        panic!("{} of {} seeds failed\n{}", failed.len(), sums.seeds, report(*seed, failure));
    }
    assert!(covered, "oracle coverage: see above");
}

/// Shrinks a seed that failed, writes down what is left of it, and tells its end.
fn report(seed: u64, failure: &Failure) -> String {
    let plan = plan_of(seed);
    let again = one(seed, &plan, silent()).failure;
    if again.as_ref() != Some(failure) {
        return format!("seed {seed} failed and then not so: the run is not deterministic");
    }
    if number("RBLK_SIM_SHRINK") == Some(0) {
        return format!("seed {seed}, event {}: {}", failure.step, failure.text);
    }
    let shrunk = shrink(seed, &plan, failure, |seed, plan| one(seed, plan, silent()).failure);
    let last = one(shrunk.seed, &shrunk.plan, Trace::new(true, false));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("seed-{seed}.toml"));
    let text = case::write(shrunk.seed, &shrunk.plan);
    let kept = match std::fs::write(&path, format!("# Seed {seed}: {}.\n{text}", failure.kind())) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("(not written: {error})"),
    };
    format!(
        "seed {seed}, event {}: {}\nreplay: RBLK_SIM_SEED={seed} cargo test --test sim seeds\n\n\
         shrunk in {} runs from {} events and {} faults to {} and {}:\n{text}\n{}\n{}\n\
         replay: RBLK_SIM_CASE={kept} cargo test --test sim seeds",
        failure.step,
        failure.text,
        shrunk.runs,
        failure.step,
        plan.strikes.len(),
        shrunk.failure.step,
        shrunk.plan.strikes.len(),
        last.lines.join("\n"),
        shrunk.failure.text,
    )
}

fn summary(sums: &Sums, seconds: f64) {
    println!(
        "{} seeds, {} events, {:.1} virtual hours in {seconds:.0} s",
        sums.seeds,
        sums.events,
        sums.virtual_us as f64 / 3.6e9
    );
    println!("  longest wait of a client: {:.1} s", sums.longest_wait_us as f64 / 1e6);
    for (kind, count) in &sums.kinds {
        println!("  {kind}: {count}");
    }
}
