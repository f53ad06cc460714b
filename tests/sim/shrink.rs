//! Makes a failing run smaller: fewer faults, requests and blocks, as long as the same oracle fails.
//!
//! Every change is tried by running the changed plan, under the same seed and under its neighbour: a smaller plan is
//! another run, and what failed by a hair may need another hair. Bounded by runs and by time.

use crate::fate::Fault;
use crate::plan::Plan;
use rblk::limits::EXTENT_BLOCKS;
use std::time::{Duration, Instant};

const RUNS_MAX: u32 = 400;
const TIME_MAX: Duration = Duration::from_secs(60);

/// How a run failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// The panic.
    pub(crate) text: String,
    /// Events until then.
    pub(crate) step: u64,
    /// Virtual time, in microseconds.
    pub(crate) now: u64,
    /// Requests made until then.
    pub(crate) asked: u64,
}

impl Failure {
    /// What failed, without the figures: the oracle, or the panic's text.
    pub(crate) fn kind(&self) -> String {
        let said = self.text.split_once('\n').map_or(self.text.as_str(), |(_, said)| said);
        match said.strip_prefix("oracle ").and_then(|rest| rest.split_once(':')) {
            Some((oracle, _)) => oracle.to_string(),
            None => said.chars().filter(|c| !c.is_ascii_digit()).take(80).collect(),
        }
    }
}

/// The smallest failing run that was found.
#[derive(Clone)]
pub(crate) struct Shrunk {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) failure: Failure,
    pub(crate) runs: u32,
}

/// Shrinks a run that fails; `run` runs one.
pub(crate) fn shrink(
    seed: u64,
    plan: &Plan,
    failure: &Failure,
    run: impl Fn(u64, &Plan) -> Option<Failure>,
) -> Shrunk {
    let best = Shrunk { seed, plan: plan.clone(), failure: failure.clone(), runs: 0 };
    let mut search = Search { best, run, begun: Instant::now() };
    search.without_the_rest();
    loop {
        let before = search.best.cost();
        search.fewer_faults();
        search.simpler();
        search.simpler_faults();
        if search.best.cost() == before || search.is_over() {
            return search.best;
        }
    }
}

struct Search<R> {
    best: Shrunk,
    run: R,
    begun: Instant,
}

impl Shrunk {
    /// A short run with few faults and nothing unusual is easiest to read.
    fn cost(&self) -> u64 {
        let unusual = |plan: &Plan| {
            let (plan, usual) =
                (toml::Table::try_from(plan), toml::Table::try_from(Plan::default()));
            match (plan, usual) {
                (Ok(plan), Ok(usual)) => {
                    plan.iter().filter(|(name, value)| usual.get(*name) != Some(value)).count()
                }
                _ => 0,
            }
        };
        self.failure.step
            + 200 * self.plan.strikes.len() as u64
            + 20 * unusual(&self.plan) as u64
            + self.plan.ops / 4
            + self.plan.blocks / 100
    }
}

impl<R: Fn(u64, &Plan) -> Option<Failure>> Search<R> {
    fn is_over(&self) -> bool {
        self.best.runs >= RUNS_MAX || self.begun.elapsed() > TIME_MAX
    }

    /// Runs a plan, and keeps it if it fails the same way and is smaller.
    fn attempt(&mut self, plan: &Plan) -> bool {
        let seed = self.best.seed;
        *plan != self.best.plan && [seed, seed + 1].iter().any(|seed| self.attempt_as(*seed, plan))
    }

    fn attempt_as(&mut self, seed: u64, plan: &Plan) -> bool {
        if self.is_over() {
            return false;
        }
        self.best.runs += 1;
        let Some(failure) = (self.run)(seed, plan) else { return false };
        let found = Shrunk { seed, plan: plan.clone(), failure, runs: self.best.runs };
        let same = found.failure.kind() == self.best.failure.kind();
        if same && found.cost() < self.best.cost() {
            self.best = found;
            return true;
        }
        false
    }

    fn change(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.best.plan.clone();
        change(&mut plan);
        self.attempt(&plan)
    }

    /// What comes after the failure has no part in it.
    fn without_the_rest(&mut self) {
        let failure = self.best.failure.clone();
        self.change(|plan| {
            plan.until = plan.until.min(failure.now + 1);
            plan.strikes.retain(|strike| strike.at <= failure.now);
        });
        self.change(|plan| plan.ops = plan.ops.min(failure.asked + 1));
    }

    /// Drops halves, quarters, single faults.
    fn fewer_faults(&mut self) {
        let mut size = self.best.plan.strikes.len();
        while size > 0 {
            let mut from = 0;
            while from < self.best.plan.strikes.len() {
                let end = (from + size).min(self.best.plan.strikes.len());
                let dropped = self.change(|plan| {
                    plan.strikes.drain(from..end);
                });
                if !dropped {
                    from = end;
                }
            }
            size /= 2;
        }
        self.without_the_rest();
    }

    fn simpler(&mut self) {
        let usual = Plan::default();
        let changes: [&dyn Fn(&mut Plan); 27] = [
            &|plan| plan.ops /= 4,
            &|plan| plan.ops = plan.ops * 3 / 4,
            &|plan| plan.last_ops = 0,
            &|plan| plan.until = plan.until / 4 * 3,
            &|plan| plan.nonsense = false,
            &|plan| plan.verify = false,
            &|plan| plan.force = false,
            &|plan| plan.consent = false,
            &|plan| plan.salvage = false,
            &|plan| plan.zero = 0,
            &|plan| plan.fua = 0,
            &|plan| plan.read = 0,
            &|plan| plan.flush = 0,
            &|plan| plan.depth = 1,
            &|plan| plan.depth = plan.depth.div_ceil(2),
            &|plan| plan.windows = 1,
            &|plan| plan.more_blocks = 0,
            &|plan| plan.spare_blocks = 0,
            &|plan| plan.blocks = 300,
            &|plan| plan.blocks = 2 * EXTENT_BLOCKS,
            &|plan| plan.blocks = plan.blocks.min(usual.blocks),
            &|plan| plan.al_slots = usual.al_slots,
            &|plan| plan.fresh = false,
            &|plan| plan.peer_timeout_ms = usual.peer_timeout_ms,
            &|plan| plan.disk_timeout_ms = usual.disk_timeout_ms,
            &|plan| (plan.disk_typical, plan.disk_worst) = (usual.disk_typical, usual.disk_worst),
            &|plan| (plan.net_typical, plan.net_worst) = (usual.net_typical, usual.net_worst),
        ];
        for change in changes {
            while self.change(change) {}
        }
    }

    /// Faults that strike at their time rather than wait, and that are shorter.
    fn simpler_faults(&mut self) {
        for at in 0..self.best.plan.strikes.len() {
            self.change(|plan| plan.strikes[at].aim = None);
            self.change(|plan| match &mut plan.strikes[at].fault {
                Fault::Crash { length, .. }
                | Fault::Pause { length, .. }
                | Fault::SlowNet { length, .. }
                | Fault::Cut { apart: length, .. } => *length /= 4,
                _ => {}
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// A run that "fails" if one kind of fault is left and enough is asked for.
    fn fails(_: u64, plan: &Plan) -> Option<Failure> {
        let guilty = |fault: Fault| matches!(fault, Fault::Crash { power: true, .. });
        let strike = plan.strikes.iter().find(|strike| guilty(strike.fault))?;
        let (step, now) = (plan.ops * 10, strike.at);
        let text = "panicked at x.rs:1:1:\noracle planted: 17".to_string();
        (plan.ops >= 100).then_some(Failure { text, step, now, asked: plan.ops })
    }

    #[test]
    fn what_has_no_part_in_a_failure_is_dropped() {
        let plans = (1..).map(|seed| Plan::random(&mut Rng::new(seed)));
        let failing = plans.filter(|plan| plan.strikes.len() > 10 && fails(1, plan).is_some());
        for plan in failing.take(5) {
            let failure = fails(1, &plan).expect("it was chosen for that");
            assert_eq!(failure.kind(), "planted");
            let shrunk = shrink(1, &plan, &failure, fails);
            assert_eq!(shrunk.plan.strikes.len(), 1, "{:?}", shrunk.plan.strikes);
            assert!((100..134).contains(&shrunk.plan.ops), "{}", shrunk.plan.ops);
            assert!(!shrunk.plan.nonsense && shrunk.plan.blocks == 300 && shrunk.plan.fua == 0);
            assert!(shrunk.runs <= RUNS_MAX);
        }
    }

    #[test]
    fn another_oracle_is_another_failure() {
        let kind =
            |text: &str| Failure { text: text.to_string(), step: 0, now: 0, asked: 0 }.kind();
        assert_eq!(kind("panicked at a.rs:1:2:\noracle vouched: 3 of 4"), "vouched");
        let told = "panicked at src/replica/alone.rs:1:2:\nonly the newest data goes on alone";
        assert_eq!(kind(told), "only the newest data goes on alone");
        assert_eq!(kind("panicked at a.rs:1:2:\nslot 17"), kind("panicked at a.rs:9:2:\nslot 4"));
    }
}
