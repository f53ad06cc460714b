//! Two nodes in virtual time: the production core, metadata and wire format under faults, with omniscient oracles.
//!
//! | variable | meaning |
//! |---|---|
//! | `RBLK_SIM_SEEDS=N` | run N seeds (default 200) |
//! | `RBLK_SIM_FIRST=N` | the first of them (default 1) |
//! | `RBLK_SIM_SEED=N` | replay one seed with its trace, see `sim/trace.rs` |
//! | `RBLK_SIM_CASE=FILE` | replay one case with its trace, see `sim/case.rs` |
//! | `RBLK_SIM_SHRINK=0` | a failing seed is not shrunk |
//! | `RBLK_SIM_ALL=1` | go on after a failure, and list all |
//!
//! A seed that fails is shrunk, and prints the oracle, the smaller case and the end of its trace. The small worlds
//! have variables of their own, see `sim/worlds/mod.rs`; `docs/testing.md` is the guide.

#[path = "sim/authority.rs"]
mod authority;
#[path = "sim/bounds.rs"]
mod bounds;
#[path = "sim/case.rs"]
mod case;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/consent.rs"]
mod consent;
#[path = "sim/coverage.rs"]
mod coverage;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/dual.rs"]
mod dual;
#[path = "sim/fact.rs"]
mod fact;
#[path = "sim/fate.rs"]
mod fate;
#[path = "sim/geometry.rs"]
mod geometry;
#[path = "sim/guard.rs"]
mod guard;
#[path = "sim/kept.rs"]
mod kept;
#[path = "sim/kept_dual.rs"]
mod kept_dual;
#[path = "sim/kept_exchange.rs"]
mod kept_exchange;
#[path = "sim/kept_fence.rs"]
mod kept_fence;
#[path = "sim/kept_yield.rs"]
mod kept_yield;
#[path = "sim/media.rs"]
mod media;
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
#[path = "sim/orders.rs"]
mod orders;
#[path = "sim/plan.rs"]
mod plan;
#[path = "sim/policies.rs"]
mod policies;
#[path = "sim/register.rs"]
mod register;
#[path = "sim/rng.rs"]
mod rng;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/scenarios.rs"]
mod scenarios;
#[path = "sim/scenarios_authority.rs"]
mod scenarios_authority;
#[path = "sim/scenarios_consent.rs"]
mod scenarios_consent;
#[path = "sim/scenarios_disks.rs"]
mod scenarios_disks;
#[path = "sim/scenarios_hangs.rs"]
mod scenarios_hangs;
#[path = "sim/scenarios_images.rs"]
mod scenarios_images;
#[path = "sim/scenarios_resize.rs"]
mod scenarios_resize;
#[path = "sim/scenarios_salvage.rs"]
mod scenarios_salvage;
#[path = "sim/scenarios_strangers.rs"]
mod scenarios_strangers;
#[path = "sim/scenarios_timing.rs"]
mod scenarios_timing;
#[path = "sim/scenarios_verify.rs"]
mod scenarios_verify;
#[path = "sim/scenarios_weather.rs"]
mod scenarios_weather;
#[path = "sim/sequences.rs"]
mod sequences;
#[path = "sim/sequences_both.rs"]
mod sequences_both;
#[path = "sim/sequences_disk.rs"]
mod sequences_disk;
#[path = "sim/sequences_link.rs"]
mod sequences_link;
#[path = "sim/sequences_node.rs"]
mod sequences_node;
#[path = "sim/sequences_operator.rs"]
mod sequences_operator;
#[path = "sim/shrink.rs"]
mod shrink;
#[path = "sim/storm.rs"]
mod storm;
#[path = "sim/story.rs"]
mod story;
#[path = "sim/trace.rs"]
mod trace;
#[path = "sim/world.rs"]
mod world;
#[path = "sim/worlds/mod.rs"]
mod worlds;

use trace::Trace;

/// Every seed ends with two equal disks, and nothing that was acknowledged was lost on the way.
#[test]
fn seeds() {
    if let Ok(path) = std::env::var("RBLK_SIM_CASE") {
        run::replay_file(&path);
    } else if let Some(seed) = run::number("RBLK_SIM_SEED") {
        run::replay(seed, &run::plan_of(seed));
    } else {
        let first = run::number("RBLK_SIM_FIRST").unwrap_or(1);
        run::many(first, run::number("RBLK_SIM_SEEDS").unwrap_or(200));
    }
}

/// A seed is one run: the same events at the same times.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 7, 23] {
        let hash = || run::one(seed, &run::plan_of(seed), Trace::new(false, false)).hash;
        assert_eq!(hash(), hash(), "seed {seed}");
    }
}

/// What was found once is found for ever.
#[test]
fn corpus() {
    run::corpus();
}

/// Whatever single thing goes wrong in a short script, it ends well.
#[test]
fn worlds() {
    match std::env::var("RBLK_SIM_WORLD") {
        Ok(name) => worlds::sweep::replay(&name),
        Err(_) => worlds::sweep::all(
            std::env::var("RBLK_SIM_SCRIPT").ok().as_deref(),
            run::number("RBLK_SIM_LOTS").unwrap_or(100),
        ),
    }
}
