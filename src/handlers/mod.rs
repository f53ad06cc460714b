//! Commands that run at an event: DRBD's handlers.
//!
//! ```text
//!  daemon's loop ── Handlers ──► keeper (a thread) ══ socket ══► runner (a process) ──► /bin/sh -c COMMAND
//!        ▲                          │    ▲                          │
//!        └── Answer, and a wakeup ──┘    └──────── Report ──────────┘
//! ```
//!
//! - The runner is this program, started before the daemon locks its memory and opens its disks. What happens there
//!   costs the daemon nothing: no copy of it is ever made, and a handler inherits nothing of it.
//! - Every handler has a deadline, its output a bound, and its end an answer: one that does not exist, hangs or
//!   crashes, and also the end of the runner itself, which is then started anew.
//! - One of a kind at a time. What happens again meanwhile is remembered once, with the newest facts.
//! - The runner ends with the daemon, however that ends, and its handlers end with it.

mod fence;
mod keeper;
mod message;
mod output;
mod queue;
mod runner;

pub use fence::Fence;
pub use message::Ended;
pub use runner::serve;

use crate::config::{self, HandlerKind};
use crate::error::Result;
use crate::io::ring::Waker;
use keeper::Keeper;
use message::Job;
use queue::Queue;
use std::collections::VecDeque;
use std::time::Duration;

/// The hidden verb that makes this program a runner.
pub const RUNNER_VERB: &str = "handler-runner";

/// Names and values of a handler's environment.
pub type Environment = Vec<(String, String)>;

/// A handler has ended, or could not run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Which.
    pub kind: HandlerKind,
    /// What it was asked for with.
    pub token: u64,
    /// How.
    pub ended: Ended,
}

/// The handlers of a resource.
pub struct Handlers {
    config: config::Handlers,
    queue: Queue,
    /// `None` if no handler is configured: then there is no process either.
    keeper: Option<Keeper>,
    /// Those that nobody was there to run.
    refused: VecDeque<HandlerKind>,
}

impl Handlers {
    /// Starts the runner if there is anything to run. `waker` is called for each answer.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn start(config: &config::Handlers, waker: Waker) -> Result<Handlers> {
        let keeper = if config.any() { Some(Keeper::start(waker)?) } else { None };
        Ok(Handlers {
            config: config.clone(),
            queue: Queue::default(),
            keeper,
            refused: VecDeque::new(),
        })
    }

    /// Runs the handler of `kind`, now or after the one that runs; its answer comes with `token`. What was remembered
    /// is replaced, and never answered. False if none is configured: then there is no
    /// answer.
    pub fn run(&mut self, kind: HandlerKind, token: u64, environment: Environment) -> bool {
        if self.config.command(kind).is_none() {
            return false;
        }
        if let Some(environment) = self.queue.ask(kind, token, environment) {
            self.begin(kind, environment);
        }
        true
    }

    /// The next answer. What was remembered meanwhile runs then.
    pub fn poll(&mut self) -> Option<Answer> {
        let (kind, ended) = match self.refused.pop_front() {
            Some(kind) => (kind, Ended::Unknown("nobody is there to run it".to_owned())),
            None => self.keeper.as_ref()?.poll()?,
        };
        let (token, next) = self.queue.ended(kind)?;
        if let Some(environment) = next {
            self.begin(kind, environment);
        }
        Some(Answer { kind, token, ended })
    }

    fn begin(&mut self, kind: HandlerKind, environment: Environment) {
        let (Some(command), Some(keeper)) = (self.config.command(kind), &self.keeper) else {
            unreachable!("a handler that is not configured is not asked for");
        };
        let job = Job {
            kind: kind.index(),
            command: command.to_owned(),
            timeout: Duration::from_secs(self.config.timeout_s),
            environment,
        };
        if !keeper.run(job) {
            self.refused.push_back(kind);
        }
    }
}
