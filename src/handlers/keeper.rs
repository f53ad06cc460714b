//! The daemon's side of the runner: a thread that hands jobs over, logs what became of them, and starts the runner anew
//! when it ends.
//!
//! The runner is started by `posix_spawn`: the new process shares the daemon's memory until it is a program of its own,
//! so nothing is copied, and only the thread that asks waits.

use super::RUNNER_VERB;
use super::message::{self, Ended, Job, Received, Report};
use crate::config::HandlerKind;
use crate::error::{Error, Result};
use crate::io::ring::Waker;
use crate::io::thread::spawn;
use crate::limits::{HANDLER_GRACE_MS, HANDLER_RESTART_MS};
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// This very program, even if its file was replaced meanwhile.
const MYSELF: &str = "/proc/self/exe";
/// A runner that takes no job for so long hangs.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// A runner that has not reported so long after the handler must have been killed hangs.
const REPORT_LIMIT: Duration = Duration::from_secs(10);
/// Messages that may wait for the keeper: for each kind a job and a report, ends of runners, and the order to stop.
const MESSAGES_MAX: usize = 4 * HandlerKind::ALL.len();
const STACK_BYTES: usize = 256 << 10;

/// What the thread hears.
enum Heard {
    Run(Job),
    /// From the runner of this life.
    Report(u64, Report),
    /// It is gone.
    Gone(u64),
    Stop,
}

/// The loop's end.
pub(super) struct Keeper {
    orders: SyncSender<Heard>,
    answers: Receiver<(HandlerKind, Ended)>,
}

impl Keeper {
    pub(super) fn start(waker: Waker) -> Result<Keeper> {
        let failed = |error| Error::io("Cannot start the process that runs handlers", error);
        let (orders, heard) = sync_channel(MESSAGES_MAX);
        let (answer, answers) = sync_channel(HandlerKind::ALL.len());
        let mut thread = Thread {
            heard,
            ears: orders.clone(),
            answer,
            waker,
            life: 0,
            runner: None,
            restart_at: Instant::now(),
            jobs: Vec::new(),
        };
        thread.start_runner().map_err(failed)?;
        spawn("rblk-handlers", STACK_BYTES, move || thread.serve()).map_err(failed)?;
        Ok(Keeper { orders, answers })
    }

    /// None of its kind runs. False if nobody is there to run it.
    pub(super) fn run(&self, job: Job) -> bool {
        self.orders.try_send(Heard::Run(job)).is_ok()
    }

    pub(super) fn poll(&self) -> Option<(HandlerKind, Ended)> {
        self.answers.try_recv().ok()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.try_send(Heard::Stop));
    }
}

struct Runner {
    stream: UnixStream,
    child: Child,
}

/// A job that was not reported yet.
struct Open {
    job: Job,
    /// When the runner must have reported it; `None` if it has not got it yet.
    due: Option<Instant>,
}

struct Thread {
    heard: Receiver<Heard>,
    /// For the threads that listen to runners.
    ears: SyncSender<Heard>,
    answer: SyncSender<(HandlerKind, Ended)>,
    waker: Waker,
    life: u64,
    runner: Option<Runner>,
    /// Not before this time, if there is none.
    restart_at: Instant,
    jobs: Vec<Open>,
}

impl Thread {
    fn serve(mut self) {
        loop {
            match self.heard.recv_timeout(self.pause()) {
                Ok(Heard::Run(job)) => {
                    self.jobs.push(Open { job, due: None });
                    self.send_jobs();
                }
                Ok(Heard::Report(life, report)) if life == self.life => self.reported(&report),
                Ok(Heard::Gone(life)) if life == self.life => self.runner_is_gone(),
                Ok(Heard::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            }
            self.look();
        }
        if let Some(runner) = &self.runner {
            // It sees the end, and ends its handlers.
            let _ = runner.stream.shutdown(Shutdown::Both);
        }
    }

    fn pause(&self) -> Duration {
        let restart = self.runner.is_none().then_some(self.restart_at);
        let due = self.jobs.iter().filter_map(|open| open.due).chain(restart).min();
        due.map_or(Duration::from_secs(60), |at| at.saturating_duration_since(Instant::now()))
    }

    fn look(&mut self) {
        let now = Instant::now();
        if self.runner.is_none() && now >= self.restart_at {
            match self.start_runner() {
                Ok(()) => self.send_jobs(),
                Err(error) => {
                    tracing::error!("the process that runs handlers cannot be started: {error}");
                    self.give_up("the process that runs handlers cannot be started", |_| true);
                }
            }
        }
        if self.jobs.iter().any(|open| open.due.is_some_and(|due| due <= now)) {
            self.end_runner("it does not report the end of a handler");
        }
    }

    fn start_runner(&mut self) -> io::Result<()> {
        self.restart_at = Instant::now() + Duration::from_millis(HANDLER_RESTART_MS);
        let (stream, other) = UnixStream::pair()?;
        stream.set_write_timeout(Some(WRITE_LIMIT))?;
        let child = Command::new(MYSELF)
            .arg0("rblk")
            .arg(RUNNER_VERB)
            .stdin(Stdio::from(OwnedFd::from(other)))
            .stdout(Stdio::null())
            // A group of its own: Ctrl-C on the daemon's terminal is not for it.
            .process_group(0)
            .spawn()?;
        self.life += 1;
        let listen =
            Listener { stream: stream.try_clone()?, life: self.life, ears: self.ears.clone() };
        spawn("rblk-handler-in", STACK_BYTES, move || listen.serve())?;
        self.runner = Some(Runner { stream, child });
        Ok(())
    }

    fn send_jobs(&mut self) {
        let Some(runner) = &mut self.runner else { return };
        for open in self.jobs.iter_mut().filter(|open| open.due.is_none()) {
            let grace = 2 * Duration::from_millis(HANDLER_GRACE_MS) + REPORT_LIMIT;
            open.due = Some(Instant::now() + open.job.timeout + grace);
            if let Err(error) = message::write(&mut runner.stream, &open.job) {
                self.end_runner(&format!("it takes no job: {error}"));
                return;
            }
            let name = HandlerKind::ALL[open.job.kind].name();
            tracing::info!("handler {name} runs: {}", shown(&open.job.command));
        }
    }

    /// It does not do its work. Its end is heard of as any other.
    fn end_runner(&mut self, why: &str) {
        if let Some(runner) = &mut self.runner {
            tracing::error!("the process that runs handlers is killed: {why}");
            let _ = runner.child.kill();
            let _ = runner.stream.shutdown(Shutdown::Both);
        }
        for open in &mut self.jobs {
            open.due = open.due.map(|_| Instant::now() + REPORT_LIMIT); // said once
        }
    }

    fn runner_is_gone(&mut self) {
        if let Some(mut runner) = self.runner.take() {
            let _ = runner.child.kill(); // it may only have closed its end
            let how =
                runner.child.wait().map_or_else(|error| error.to_string(), |how| how.to_string());
            tracing::error!(
                "the process that runs handlers has ended ({how}): it is started again"
            );
        }
        // What was handed over is lost with it; the rest waits for the next one.
        self.give_up("the process that runs handlers has ended", |open| open.due.is_some());
    }

    fn give_up(&mut self, why: &str, which: fn(&Open) -> bool) {
        let (lost, kept) = std::mem::take(&mut self.jobs).into_iter().partition(which);
        self.jobs = kept;
        let lost: Vec<Open> = lost;
        for open in lost {
            let ended = Ended::Unknown(why.to_owned());
            log(open.job.kind, &ended, Duration::ZERO);
            self.answer(open.job.kind, ended);
        }
    }

    fn reported(&mut self, report: &Report) {
        let Some(at) = self.jobs.iter().position(|open| open.job.kind == report.kind) else {
            return;
        };
        self.jobs.swap_remove(at);
        let name = HandlerKind::ALL[report.kind].name();
        for line in &report.output {
            tracing::info!("handler {name}: {line}");
        }
        if report.more_bytes > 0 {
            tracing::info!("handler {name}: (printed {} bytes more)", report.more_bytes);
        }
        log(report.kind, &report.ended, report.took);
        self.answer(report.kind, report.ended.clone());
    }

    fn answer(&self, kind: usize, ended: Ended) {
        // There is room: one job of each kind at a time.
        drop(self.answer.try_send((HandlerKind::ALL[kind], ended)));
        self.waker.wake();
    }
}

/// Listens to one runner.
struct Listener {
    stream: UnixStream,
    life: u64,
    ears: SyncSender<Heard>,
}

impl Listener {
    fn serve(mut self) {
        let mut received = Received::default();
        while received.read(&mut self.stream).unwrap_or(false) {
            loop {
                match received.take::<Report>() {
                    Ok(Some(report)) if report.kind < HandlerKind::ALL.len() => {
                        if self.ears.send(Heard::Report(self.life, report)).is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Ok(Some(_)) | Err(_) => {
                        drop(self.ears.send(Heard::Gone(self.life)));
                        return;
                    }
                }
            }
        }
        drop(self.ears.send(Heard::Gone(self.life)));
    }
}

fn log(kind: usize, ended: &Ended, took: Duration) {
    let name = HandlerKind::ALL[kind].name();
    let seconds = took.as_secs_f64();
    match ended {
        Ended::Exit(0) => tracing::info!("handler {name} is done after {seconds:.1} s"),
        _ => tracing::error!("handler {name} after {seconds:.1} s: {ended}"),
    }
}

/// A command line on one line.
fn shown(command: &str) -> String {
    let text: String = command.chars().take(200).flat_map(char::escape_debug).collect();
    if command.chars().count() > 200 { text + "…" } else { text }
}
