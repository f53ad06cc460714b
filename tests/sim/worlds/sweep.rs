//! Plays all worlds on all cores and reports those that end badly.

use crate::guard::guarded;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::worlds::fault::{Counts, Fault, KINDS, Kind};
use crate::worlds::scripts::{SCRIPTS, Script};
use crate::worlds::stage::Stage;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Worlds that a failure lists by name.
const LISTED_MAX: usize = 30;
/// Second faults that are tried after one first.
const SECONDS: u64 = 4;

/// What became of a world.
struct Outcome {
    /// Since the last fault struck, or since the script began.
    counts: Counts,
    fateless: bool,
    /// All faults had their moment.
    struck: bool,
    failure: Option<String>,
    lines: Vec<String>,
    events: u64,
}

/// Worlds that are played one after the other.
enum Job {
    /// The same moment, and faults that differ only in what is left to fate.
    Moment(Vec<Fault>),
    /// Another schedule, one fault in it, and a few that follow that one: drawn by lot.
    Lot(u64),
}

/// What came of some worlds.
#[derive(Default)]
struct Tally {
    worlds: usize,
    events: u64,
    failed: Vec<(String, String)>,
}

/// A world by its name: `SCRIPT#SCHEDULE/FAULT@N+FAULT@M`. The schedule is the seed of all latencies, 1 if not said.
#[derive(Clone)]
struct Name {
    script: &'static Script,
    schedule: u64,
    faults: Vec<Fault>,
}

fn play(name: &Name, trace: Trace) -> Outcome {
    let mut stage = Stage::new(name.script.shape, name.schedule, &name.faults, trace);
    let failure = guarded(|| {
        let _ = (name.script.play)(&mut stage);
        stage.end();
    });
    let world = stage.world();
    Outcome {
        counts: world.inject.counts,
        fateless: world.inject.fateless,
        struck: world.inject.struck == name.faults.len(),
        failure: failure.err(),
        lines: world.trace.lines.drain(..).collect(),
        events: world.step,
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.script.name)?;
        if self.schedule != 1 {
            write!(f, "#{}", self.schedule)?;
        }
        for (place, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if place == 0 { '/' } else { '+' })?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        let (script, faults) = match text.split_once('/') {
            Some((script, faults)) => (script, faults.split('+').map(str::parse).collect()),
            None => (text, Ok(Vec::new())),
        };
        let (script, schedule) = match script.split_once('#') {
            Some((script, number)) => {
                (script, number.parse().map_err(|_| "a schedule is a number"))
            }
            None => (script, Ok(1)),
        };
        let found = SCRIPTS.iter().find(|known| known.name == script);
        let script = found.ok_or_else(|| format!("no script is called {script:?}"))?;
        Ok(Name { script, schedule: schedule?, faults: faults? })
    }
}

fn named(text: &str) -> Name {
    text.parse().unwrap_or_else(|why| panic!("{text:?} names no world: {why}"))
}

fn silent() -> Trace {
    Trace::new(false, false)
}

/// Plays one world by its name, with its trace.
pub(crate) fn replay(text: &str) {
    let name = named(text);
    let outcome = play(&name, Trace::new(true, true));
    println!("{name}: {} events, since the last fault {:?}", outcome.events, outcome.counts);
    if let Some(failure) = outcome.failure {
        panic!("{name}: {failure}");
    }
    assert!(outcome.struck, "{name}: the script is over before that");
}

/// How a world ends badly, if it does.
pub(crate) fn failure_of(text: &str) -> Option<String> {
    play(&named(text), silent()).failure
}

/// All worlds of all scripts, or of one, and `lots` draws of others for each script. The first script with a world that
/// ends badly is the last.
pub(crate) fn all(only: Option<&str>, lots: u64) {
    let started = Instant::now();
    let mut total = Tally::default();
    for script in SCRIPTS.iter().filter(|script| only.is_none_or(|only| only == script.name)) {
        let begun = Instant::now();
        let mut found = Tally::default();
        let undisturbed = found.play(&Name { script, schedule: 1, faults: Vec::new() });
        if found.failed.is_empty() {
            sweep(script, &undisturbed.counts, lots, &mut found);
        }
        println!(
            "{:<21} {:>4} events {:>6} worlds {:>4} failed {:>6.1} s",
            script.name,
            undisturbed.counts.events,
            found.worlds,
            found.failed.len(),
            begun.elapsed().as_secs_f64(),
        );
        total.add(found);
        if !total.failed.is_empty() && std::env::var_os("RBLK_SIM_ALL").is_none() {
            break;
        }
    }
    println!(
        "{} worlds, {} events in {:.0} s",
        total.worlds,
        total.events,
        started.elapsed().as_secs_f64()
    );
    assert!(total.worlds > 0, "no script is called {only:?}");
    assert!(total.failed.is_empty(), "{}", report(&total.failed));
}

/// All worlds of a script.
fn sweep(script: &'static Script, counts: &Counts, lots: u64, total: &mut Tally) {
    let jobs: Vec<Job> =
        moments(counts).into_iter().map(Job::Moment).chain((0..lots).map(Job::Lot)).collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Tally::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let done = match job {
                        Job::Moment(alike) => play_moment(script, alike),
                        Job::Lot(lot) => play_lot(script, counts, *lot),
                    };
                    found.lock().expect("no panic holds it").add(done);
                }
            });
        }
    });
    total.add(found.into_inner().expect("all workers ended"));
    total.failed.sort();
}

/// Every single fault, by moment.
fn moments(counts: &Counts) -> Vec<Vec<Fault>> {
    let mut all: BTreeMap<_, Vec<Fault>> = BTreeMap::new();
    for (place, (_, kind)) in KINDS.iter().enumerate() {
        let alike = match kind {
            Kind::Power(who, _) => who.nodes().to_vec(),
            _ => vec![place + 2], // a moment of its own
        };
        for number in 1..=kind.many(counts) {
            let moment = all.entry((alike.clone(), number)).or_default();
            moment.push(Fault { kind: *kind, number });
        }
    }
    all.into_values().collect()
}

/// If fate had nothing to decide in the first world, the others are the same.
fn play_moment(script: &'static Script, alike: &[Fault]) -> Tally {
    let mut tally = Tally::default();
    for fault in alike {
        let outcome = tally.play(&Name { script, schedule: 1, faults: vec![*fault] });
        if outcome.fateless {
            break;
        }
    }
    tally
}

/// A second fault is counted from where the first has struck, so that comes first and alone.
fn play_lot(script: &'static Script, counts: &Counts, lot: u64) -> Tally {
    let mut tally = Tally::default();
    let mut rng = Rng::new(lot);
    let schedule = 2 + lot;
    let Some(first) = any_fault(&mut rng, counts) else { return tally };
    let alone = tally.play(&Name { script, schedule, faults: vec![first] });
    for _ in 0..SECONDS {
        if let Some(second) = any_fault(&mut rng, &alone.counts) {
            tally.play(&Name { script, schedule, faults: vec![first, second] });
        }
    }
    tally
}

/// Any fault of a script with `counts`.
fn any_fault(rng: &mut Rng, counts: &Counts) -> Option<Fault> {
    let kinds: Vec<Kind> =
        KINDS.iter().map(|(_, kind)| *kind).filter(|kind| kind.many(counts) > 0).collect();
    if kinds.is_empty() {
        return None;
    }
    let kind = rng.pick(&kinds);
    Some(Fault { kind, number: rng.between(1, kind.many(counts)) })
}

impl Tally {
    fn play(&mut self, name: &Name) -> Outcome {
        let mut outcome = play(name, silent());
        self.worlds += 1;
        self.events += outcome.events;
        if let Some(failure) = outcome.failure.take() {
            self.failed.push((name.to_string(), failure));
        }
        outcome
    }

    fn add(&mut self, mut other: Tally) {
        self.worlds += other.worlds;
        self.events += other.events;
        self.failed.append(&mut other.failed);
    }
}

fn report(failed: &[(String, String)]) -> String {
    let (first, failure) = &failed[0];
    let mut text = format!("{} worlds end badly:\n", failed.len());
    for (name, failure) in failed.iter().take(LISTED_MAX) {
        let line = failure.lines().last().unwrap_or_default();
        text += &format!("  {name}: {line}\n");
    }
    let lines = play(&named(first), Trace::new(true, false)).lines;
    text += &format!("the first of them, {first}: {failure}\n{}\n", lines.join("\n"));
    text += &format!("replay: RBLK_SIM_WORLD={first} cargo test --test sim worlds");
    text
}
