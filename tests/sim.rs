//! Two nodes in virtual time: the production core, metadata and wire format under faults, with omniscient oracles.
//!
//! | variable | meaning |
//! |---|---|
//! | `RBLK_SIM_SEEDS=N` | run N seeds (default 200) |
//! | `RBLK_SIM_FIRST=N` | the first of them (default 1) |
//! | `RBLK_SIM_SEED=N` | replay one seed with its trace, see `sim/trace.rs` |
//!
//! A seed that fails prints the oracle, the event number and the end of its trace.

#[path = "sim/client.rs"]
mod client;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/fate.rs"]
mod fate;
#[path = "sim/geometry.rs"]
mod geometry;
#[path = "sim/metadisk.rs"]
mod metadisk;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/node.rs"]
mod node;
#[path = "sim/operator.rs"]
mod operator;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/plan.rs"]
mod plan;
#[path = "sim/register.rs"]
mod register;
#[path = "sim/rng.rs"]
mod rng;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/scenarios.rs"]
mod scenarios;
#[path = "sim/scenarios_disks.rs"]
mod scenarios_disks;
#[path = "sim/scenarios_images.rs"]
mod scenarios_images;
#[path = "sim/scenarios_strangers.rs"]
mod scenarios_strangers;
#[path = "sim/scenarios_timing.rs"]
mod scenarios_timing;
#[path = "sim/story.rs"]
mod story;
#[path = "sim/trace.rs"]
mod trace;
#[path = "sim/world.rs"]
mod world;

/// Every seed ends with two equal disks, and nothing that was acknowledged was lost on the way.
#[test]
fn seeds() {
    match run::number("RBLK_SIM_SEED") {
        Some(seed) => run::replay(seed),
        None => run::many(
            run::number("RBLK_SIM_FIRST").unwrap_or(1),
            run::number("RBLK_SIM_SEEDS").unwrap_or(200),
        ),
    }
}

/// A seed is one run: the same events at the same times.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 7, 23] {
        let first = run::one(seed, false, false);
        let second = run::one(seed, false, false);
        assert_eq!(first.hash, second.hash, "seed {seed}");
    }
}
