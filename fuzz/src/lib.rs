//! The bodies of the targets, which live with the tests: see `tests/fuzz/mod.rs`.

#[path = "../../tests/fuzz/mod.rs"]
mod bodies;

/// Runs one input of a target.
pub fn run(target: &str, bytes: &[u8]) {
    let (_, run) = bodies::TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    run(bytes);
}
