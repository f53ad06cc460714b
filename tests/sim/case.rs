//! A run as a file: what a failing seed is shrunk to, and what is kept in `corpus/`.
//!
//! ```toml
//! # Which bug it showed.
//! seed = 7                # for what the plan leaves to chance
//!
//! [plan]                  # what is not said is as in Plan::default()
//! ops = 40
//! strikes = [
//!   { at = 250000, fault = { Crash = { node = 1, power = true, length = 20000 } } },
//! ]
//! ```
//!
//! Or a small world by its name: `world = "secondary-lost/data-0@1"`.
//!
//! A case pins the sizes, the speeds, the mix of requests and every fault with its time. Latencies and the clients'
//! requests come from the seed: after a change of how the simulator draws them, an old case is another run under the
//! same faults. So each bug also has a story (`kept.rs`).

use crate::plan::Plan;
use serde::Deserialize;

/// A case.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Case {
    Seed { seed: u64, plan: Plan },
    World(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    seed: Option<u64>,
    plan: Option<Plan>,
    world: Option<String>,
}

impl Case {
    pub(crate) fn parse(text: &str) -> Result<Case, String> {
        let raw: Raw = toml::from_str(text).map_err(|error| error.to_string())?;
        match (raw.seed, raw.plan, raw.world) {
            (Some(seed), Some(plan), None) => Ok(Case::Seed { seed, plan }),
            (None, None, Some(world)) => Ok(Case::World(world)),
            _ => Err("a case has a seed and a plan, or the name of a world".to_string()),
        }
    }
}

/// The file of a run. Only what is not usual is written.
pub(crate) fn write(seed: u64, plan: &Plan) -> String {
    let fields = |plan: &Plan| toml::Table::try_from(plan).expect("a plan is plain data");
    let usual = fields(&Plan::default());
    let mut text = format!("seed = {seed}\n\n[plan]\n");
    for (name, value) in fields(plan) {
        if name != "strikes" && usual.get(&name) != Some(&value) {
            text += &format!("{name} = {value}\n");
        }
    }
    text += "strikes = [\n";
    for strike in &plan.strikes {
        let line = toml::Value::try_from(strike).expect("a fault is plain data");
        text += &format!("  {line},\n");
    }
    text + "]\n"
}

/// A random plan survives being written and read.
#[test]
fn a_case_reads_as_it_was_written() {
    for seed in 1..50 {
        let plan = Plan::random(&mut crate::rng::Rng::new(seed));
        let text = write(seed, &plan);
        assert_eq!(Case::parse(&text), Ok(Case::Seed { seed, plan }), "{text}");
    }
}
