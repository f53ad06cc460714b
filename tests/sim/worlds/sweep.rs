//! Plays all worlds on all cores and reports those that end badly.

use crate::guard::guarded;
use crate::trace::Trace;
use crate::worlds::fault::{Counts, Fault, KINDS, Kind};
use crate::worlds::scripts::{SCRIPTS, Script};
use crate::worlds::stage::Stage;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Worlds that a failure lists by name.
const LISTED_MAX: usize = 30;

/// What became of a world.
struct Outcome {
    counts: Counts,
    fateless: bool,
    /// The fault had its moment.
    struck: bool,
    failure: Option<String>,
    lines: Vec<String>,
    events: u64,
}

fn play(script: &Script, fault: Option<Fault>, trace: Trace) -> Outcome {
    let mut stage = Stage::new(script.shape, fault, trace);
    let failure = guarded(|| {
        let _ = (script.play)(&mut stage);
        stage.end();
    });
    let world = stage.world();
    Outcome {
        counts: world.inject.counts,
        fateless: world.inject.fateless,
        struck: world.inject.struck,
        failure: failure.err(),
        lines: world.trace.lines.drain(..).collect(),
        events: world.step,
    }
}

fn name(script: &Script, fault: Option<Fault>) -> String {
    fault.map_or(script.name.to_string(), |fault| format!("{}/{fault}", script.name))
}

/// Plays one world by its name, with its trace.
pub(crate) fn replay(text: &str) {
    let (script, fault) =
        parse(text).unwrap_or_else(|why| panic!("{text:?} names no world: {why}"));
    let outcome = play(script, fault, Trace::new(true, true));
    println!("{text}: {} events, {:?}", outcome.events, outcome.counts);
    assert!(fault.is_none() || outcome.struck, "{text}: the script is over before that");
    if let Some(failure) = outcome.failure {
        panic!("{text}: {failure}");
    }
}

fn parse(text: &str) -> Result<(&'static Script, Option<Fault>), String> {
    let (script, fault) = match text.split_once('/') {
        Some((script, fault)) => (script, Some(fault.parse()?)),
        None => (text, None),
    };
    let found = SCRIPTS.iter().find(|known| known.name == script);
    Ok((found.ok_or_else(|| format!("no script is called {script:?}"))?, fault))
}

/// All worlds of all scripts, or of one.
pub(crate) fn all(only: Option<&str>) {
    let started = Instant::now();
    let mut failed = Vec::new();
    let mut total = 0;
    for script in SCRIPTS.iter().filter(|script| only.is_none_or(|only| only == script.name)) {
        let begun = Instant::now();
        let undisturbed = play(script, None, Trace::new(false, false));
        if let Some(failure) = undisturbed.failure {
            failed.push((name(script, None), failure));
            continue;
        }
        let (worlds, mut bad) = sweep(script, &undisturbed.counts);
        total += worlds;
        println!(
            "{:<22} {worlds:>6} worlds {:>4} failed {:>6.1} s  {:?}",
            script.name,
            bad.len(),
            begun.elapsed().as_secs_f64(),
            undisturbed.counts
        );
        failed.append(&mut bad);
    }
    println!("{total} worlds in {:.0} s", started.elapsed().as_secs_f64());
    assert!(total > 0 || !failed.is_empty(), "no script is called {only:?}");
    if !failed.is_empty() {
        panic!("{}", report(&failed));
    }
}

/// All worlds of a script: how many, and those that failed.
fn sweep(script: &Script, counts: &Counts) -> (usize, Vec<(String, String)>) {
    let faults = faults(counts);
    let next = AtomicUsize::new(0);
    let found = Mutex::new((0, Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(alike) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (worlds, mut bad) = play_alike(script, alike);
                    let mut found = found.lock().expect("no panic holds it");
                    found.0 += worlds;
                    found.1.append(&mut bad);
                }
            });
        }
    });
    let (worlds, mut bad) = found.into_inner().expect("all workers ended");
    bad.sort();
    (worlds, bad)
}

/// Faults by moment; those of one list differ only in what is left to fate.
fn faults(counts: &Counts) -> Vec<Vec<Fault>> {
    let mut lists: Vec<Vec<Fault>> = Vec::new();
    let mut moments = BTreeSet::new();
    for (_, kind) in KINDS {
        let who = match kind {
            Kind::Power(who, _) => Some(format!("{who:?}")),
            _ => None,
        };
        for number in 1..=kind.many(counts) {
            let fault = Fault { kind: *kind, number };
            match &who {
                Some(who) if !moments.insert((who.clone(), number)) => {
                    let same = lists.iter_mut().find(|list| {
                        list[0].number == number && is_same_moment(list[0].kind, *kind)
                    });
                    same.expect("the moment is known").push(fault);
                }
                _ => lists.push(vec![fault]),
            }
        }
    }
    lists
}

fn is_same_moment(one: Kind, two: Kind) -> bool {
    matches!((one, two), (Kind::Power(a, _), Kind::Power(b, _)) if a == b)
}

/// If fate had nothing to decide in the first world, the others are the same.
fn play_alike(script: &Script, alike: &[Fault]) -> (usize, Vec<(String, String)>) {
    let mut bad = Vec::new();
    let mut worlds = 0;
    for fault in alike {
        let outcome = play(script, Some(*fault), Trace::new(false, false));
        worlds += 1;
        if let Some(failure) = outcome.failure {
            bad.push((name(script, Some(*fault)), failure));
        }
        if outcome.fateless {
            break;
        }
    }
    (worlds, bad)
}

fn report(failed: &[(String, String)]) -> String {
    let (first, failure) = &failed[0];
    let mut text = format!("{} worlds end badly:\n", failed.len());
    for (name, failure) in failed.iter().take(LISTED_MAX) {
        let line = failure.lines().last().unwrap_or_default();
        text += &format!("  {name}: {line}\n");
    }
    let lines = match parse(first) {
        Ok((script, fault)) => play(script, fault, Trace::new(true, false)).lines,
        Err(_) => Vec::new(),
    };
    text += &format!("the first of them, {first}: {failure}\n{}\n", lines.join("\n"));
    text += &format!("replay: RBLK_SIM_WORLD={first} cargo test --test sim worlds");
    text
}
