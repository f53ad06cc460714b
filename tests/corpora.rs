//! Replays the inputs that fuzzing has kept, on the same functions that the fuzzer runs: `fuzz/corpus/TARGET/*`.
//!
//! | variable | meaning |
//! |---|---|
//! | `RBLK_CORPUS=DIR` | replay `DIR/TARGET/*` instead |
//! | `RBLK_FUZZ_RUNS=N` | inputs made of these at random, for each target (default 100) |
//! | `RBLK_FUZZ_SEED=N` | decides which (default 1) |
//!
//! An input that fails is left as `fuzz/artifacts/TARGET-mixture`.

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

targets!(frames stream blocks recovery bitmaps config import control nbd tls pair core);

fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}"))
}

/// A stand-in for the fuzzer where that cannot be had: blind, but quick to find what is near.
#[test]
fn mixtures() {
    let runs = number("RBLK_FUZZ_RUNS", 100);
    let mut chance = Chance(number("RBLK_FUZZ_SEED", 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for (name, run) in fuzz::TARGETS {
        let kept: Vec<Vec<u8>> =
            inputs(name).iter().map(|path| std::fs::read(path).expect("an input")).collect();
        for _ in 0..runs {
            let input = chance.mix(&kept);
            if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/artifacts");
                std::fs::create_dir_all(&folder).expect("a folder");
                let path = folder.join(format!("{name}-mixture"));
                std::fs::write(&path, &input).expect("written");
                panic!("{name} fails on {}", path.display());
            }
        }
    }
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound.max(1)
    }

    /// Two inputs, one after the other, and some bytes changed, taken out or put in.
    fn mix(&mut self, kept: &[Vec<u8>]) -> Vec<u8> {
        let mut input = kept[self.below(kept.len())].clone();
        let other = &kept[self.below(kept.len())];
        if self.below(2) == 0 {
            let (cut, from) = (self.below(input.len()), self.below(other.len()));
            input.truncate(cut);
            input.extend_from_slice(&other[from..]);
        }
        for _ in 0..self.below(8) {
            let (at, byte) = (self.below(input.len()), self.below(256) as u8);
            match self.below(4) {
                0 if at < input.len() => drop(input.remove(at)),
                1 => input.insert(at, byte),
                _ if at < input.len() => input[at] = byte,
                _ => {}
            }
        }
        input
    }
}

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
