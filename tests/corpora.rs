//! Replays the inputs that fuzzing has kept, on the same functions that the fuzzer runs: `fuzz/corpus/TARGET/*`.
//!
//! | variable | meaning |
//! |---|---|
//! | `RBLK_CORPUS=DIR` | replay `DIR/TARGET/*` instead |

#[path = "fuzz/mod.rs"]
mod fuzz;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The committed corpus is a sample, not an archive.
const BYTES_MAX: u64 = 1 << 20;
const FILES_MAX: usize = 600;
/// The fuzzer's limit is a second; unoptimised and beside others it may take longer.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);

fn corpus() -> PathBuf {
    match std::env::var_os("RBLK_CORPUS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"),
    }
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = corpus().join(target);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn replay(target: &str) {
    let (_, run) = fuzz::TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    let inputs = inputs(target);
    assert!(!inputs.is_empty(), "no input for {target}");
    for path in inputs {
        let bytes = std::fs::read(&path).expect("an input");
        let begun = Instant::now();
        let fine = catch_unwind(AssertUnwindSafe(|| run(&bytes))).is_ok();
        assert!(fine, "{target} fails on {}", path.display());
        let took = begun.elapsed();
        assert!(took < INPUT_TIME_MAX, "{target} takes {took:?} for {}", path.display());
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

targets!(frames stream blocks recovery bitmaps config control nbd core);

#[test]
fn every_target_is_replayed() {
    let names: Vec<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, NAMES);
    for name in names {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/targets/{name}.rs"));
        assert!(target.exists(), "{} is not there", target.display());
    }
}

#[test]
fn the_corpus_is_small() {
    let files: Vec<PathBuf> = fuzz::TARGETS.iter().flat_map(|(name, _)| inputs(name)).collect();
    let bytes: u64 = files.iter().map(|path| path.metadata().expect("a file").len()).sum();
    if std::env::var_os("RBLK_CORPUS").is_none() {
        assert!(files.len() <= FILES_MAX, "{} files", files.len());
        assert!(bytes <= BYTES_MAX, "{bytes} bytes");
    }
}
