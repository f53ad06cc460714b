//! The process that runs handlers. It is small, knows nothing of disks, and waits for jobs until the daemon is gone.

use super::message::{self, Ended, Job, Received, Report};
use super::output::Output;
use crate::error::{Error, Kind, Result};
use crate::limits::HANDLER_GRACE_MS;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How often it looks whether a handler has ended that no longer has anything to print with.
const LOOK: Duration = Duration::from_millis(50);
const GRACE: Duration = Duration::from_millis(HANDLER_GRACE_MS);
/// After the end of a handler so many pieces of what it printed last are read: more than a pipe holds.
const LAST_PIECES: usize = 32;

/// Serves the daemon at the other end of standard input until that is gone.
///
/// # Errors
/// Nobody is there: it was not started by a daemon.
pub fn serve() -> Result<()> {
    let stranger = |error: io::Error| {
        Error::new(Kind::Usage, "Cannot run handlers")
            .source(error)
            .remedy("`rblk attach` starts this process itself")
    };
    // What the daemon's parent left open is not for handlers either.
    crate::io::close_on_exec().map_err(stranger)?;
    // Nor is the mark of a daemon's threads, where they may make it: what handlers write is theirs to wait for.
    let _ = crate::io::thread::mark_io_flusher(false);
    let stream = io::stdin().as_fd().try_clone_to_owned().map_err(stranger)?;
    let stream = UnixStream::from(stream);
    stream.peer_addr().map_err(stranger)?;
    // A service manager asks all processes of a service to end. This one ends after the daemon: caught, not ignored,
    // since handlers would inherit that.
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&asked)).map_err(stranger)?;
    }
    Runner { stream, received: Received::default(), running: Vec::new(), gone: false }.serve();
    Ok(())
}

struct Runner {
    stream: UnixStream,
    received: Received,
    running: Vec<Running>,
    /// The daemon is.
    gone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Free,
    AskedToEnd,
    Killed,
    /// Reported already; only its end is waited for.
    Stuck,
    /// Waited for, and reported.
    Over,
}

/// A handler at work.
struct Running {
    kind: usize,
    child: Child,
    /// `None` at the end of what it prints.
    pipe: Option<PipeReader>,
    output: Output,
    begun: Instant,
    stage: Stage,
    /// When the stage ends.
    until: Instant,
}

impl Runner {
    fn serve(mut self) {
        while !(self.gone && self.running.iter().all(|running| running.stage == Stage::Stuck)) {
            if self.wait() {
                self.take_jobs();
            }
            let mut at = 0;
            while at < self.running.len() {
                let running = &mut self.running[at];
                running.read_some();
                if let Some(report) = running.look(Instant::now()) {
                    self.report(&report);
                }
                if self.running[at].stage == Stage::Over {
                    self.running.swap_remove(at);
                } else {
                    at += 1;
                }
            }
        }
    }

    /// Until something happens. True if it is the daemon.
    fn wait(&self) -> bool {
        let mut fds = Vec::with_capacity(1 + self.running.len());
        if !self.gone {
            fds.push(PollFd::new(&self.stream, PollFlags::IN));
        }
        for pipe in self.running.iter().filter_map(|running| running.pipe.as_ref()) {
            fds.push(PollFd::new(pipe, PollFlags::IN));
        }
        let look = Timespec::try_from(LOOK).ok().filter(|_| !self.running.is_empty());
        // An error is a signal; the loop looks at everything anyway.
        let _ = poll(&mut fds, look.as_ref());
        !self.gone && fds.first().is_some_and(|fd| !fd.revents().is_empty())
    }

    fn take_jobs(&mut self) {
        let mut more = self.received.read(&mut self.stream).unwrap_or(false);
        while more {
            match self.received.take::<Job>() {
                Ok(Some(job)) => self.begin(&job),
                Ok(None) => break,
                Err(_) => more = false,
            }
        }
        if !more {
            self.daemon_is_gone();
        }
    }

    /// Nobody waits for a handler any more.
    fn daemon_is_gone(&mut self) {
        self.gone = true;
        for running in &mut self.running {
            if running.stage == Stage::Free {
                running.until = Instant::now();
            }
        }
    }

    fn begin(&mut self, job: &Job) {
        match Running::begin(job) {
            Ok(running) => self.running.push(running),
            Err(error) => self.report(&Report {
                kind: job.kind,
                ended: Ended::Unknown(format!("/bin/sh cannot be started: {error}")),
                took: Duration::ZERO,
                output: Vec::new(),
                more_bytes: 0,
            }),
        }
    }

    fn report(&mut self, report: &Report) {
        if !self.gone && message::write(&mut self.stream, report).is_err() {
            self.daemon_is_gone();
        }
    }
}

impl Running {
    fn begin(job: &Job) -> io::Result<Running> {
        let (pipe, end) = io::pipe()?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let child = Command::new("/bin/sh")
            .arg("-c")
            .arg(&job.command)
            .env_clear()
            .envs(job.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(end.try_clone()?)
            .stderr(end)
            .process_group(0)
            .spawn()?;
        let begun = Instant::now();
        Ok(Running {
            kind: job.kind,
            child,
            pipe: Some(pipe),
            output: Output::default(),
            begun,
            stage: Stage::Free,
            until: begun + job.timeout,
        })
    }

    /// Reads a piece of what it prints. False if there is none now.
    fn read_some(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        let mut piece = [0; 4096];
        match pipe.read(&mut piece) {
            Ok(0) => self.pipe = None,
            Ok(bytes) => self.output.add(&piece[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.pipe = None,
        }
        self.pipe.is_some()
    }

    /// Ends it if its time is over, and says once how it ended.
    fn look(&mut self, now: Instant) -> Option<Report> {
        let status = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = waitid(WaitId::Pid(Pid::from_child(&self.child)), status);
        if !matches!(ended, Ok(None)) {
            return self.ended();
        }
        if now < self.until {
            return None;
        }
        match self.stage {
            Stage::Free => self.end(Signal::TERM, Stage::AskedToEnd, now),
            Stage::AskedToEnd => self.end(Signal::KILL, Stage::Killed, now),
            Stage::Killed => {
                self.stage = Stage::Stuck;
                return Some(self.report(Ended::Stuck));
            }
            Stage::Stuck | Stage::Over => {}
        }
        None
    }

    /// It, and what it started, unless that has left its process group.
    fn end(&mut self, signal: Signal, stage: Stage, now: Instant) {
        // Until it is waited for, its number is nobody else's.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
        self.stage = stage;
        self.until = now + GRACE;
    }

    fn ended(&mut self) -> Option<Report> {
        if matches!(self.stage, Stage::AskedToEnd | Stage::Killed) {
            // What it started may have refused to end.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let status = self.child.wait();
        let mut pieces = LAST_PIECES;
        while pieces > 0 && self.read_some() {
            pieces -= 1;
        }
        // What it left behind may keep the pipe; it prints to nobody.
        self.pipe = None;
        let ended = match (std::mem::replace(&mut self.stage, Stage::Over), status) {
            (Stage::Stuck | Stage::Over, _) => return None,
            (Stage::AskedToEnd | Stage::Killed, _) => Ended::TimedOut,
            (Stage::Free, Ok(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => Ended::Exit(code),
                (None, signal) => Ended::Signal(signal.unwrap_or(0)),
            },
            (Stage::Free, Err(error)) => {
                Ended::Unknown(format!("it cannot be waited for: {error}"))
            }
        };
        Some(self.report(ended))
    }

    fn report(&self, ended: Ended) -> Report {
        Report {
            kind: self.kind,
            ended,
            took: self.begun.elapsed(),
            output: self.output.lines(),
            more_bytes: self.output.more(),
        }
    }
}
