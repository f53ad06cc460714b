//! Who has a ublk device open, found out by a process of its own.
//!
//! ```text
//!  daemon's loop ── Lookout ──► a thread ══ socket ══► a process that looks (`rblk lookout`)
//!        ▲                         │
//!        └── answer, and a wakeup ─┘
//! ```
//!
//! To look means to ask file systems, and one may be asked that waits for this very daemon (`rblk_ublk::openers` tells
//! how). So neither the loop nor any thread of the daemon looks: a thread that hangs in the kernel survives SIGKILL,
//! and keeps the device from the next daemon. The process knows nothing of the daemon's memory and files. It is started
//! before the daemon opens its disk, waits for questions, and ends with the daemon.
//!
//! Nobody waits for an answer without a limit, and no answer never means that nobody is there.

use crate::error::{Error, Kind, Result};
use crate::io::ring::Waker;
use crate::io::thread;
use crate::limits::{LOOK_ANSWER_BYTES_MAX, LOOK_GIVE_UP_MS, LOOK_USERS_MAX, LOOKS_HUNG_MAX};
use crate::replica::event::Tick;
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// The hidden verb that makes this program look.
const LOOKOUT_VERB: &str = "lookout";
/// This very program, even if its file was replaced meanwhile.
const MYSELF: &str = "/proc/self/exe";
/// A process that has not answered by then hangs, and is given up.
const GIVE_UP: Duration = Duration::from_millis(LOOK_GIVE_UP_MS);
/// Bytes of a question: two numbers and their names.
const QUESTION_BYTES_MAX: u64 = 256;
const STACK_BYTES: usize = 128 << 10;

/// Who has a device open, in words; or why that cannot be told.
type Users = std::result::Result<Vec<String>, String>;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Question {
    /// N of `/dev/ublkbN`.
    pub id: u32,
    /// Also find somebody whom the system does not tell. Who mounts the device at this very moment is told that it is
    /// busy: to be asked before it is taken away.
    pub thorough: bool,
}

/// A question and when it was asked.
#[derive(Clone, Copy)]
struct Look {
    question: Question,
    begun: Tick,
}

/// The loop's end.
pub struct Lookout {
    questions: SyncSender<Question>,
    answers: Receiver<Users>,
    under_way: Option<Look>,
    last: Option<(Look, Users)>,
}

impl Lookout {
    /// Starts the process. `waker` is called for each answer.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn start(waker: Waker) -> Result<Lookout> {
        let program = || {
            let mut program = Command::new(MYSELF);
            program.arg0("rblk").arg(LOOKOUT_VERB);
            program
        };
        Lookout::of(program, waker)
            .map_err(|error| Error::io("Cannot start the process that looks for users", error))
    }

    fn of(program: fn() -> Command, waker: Waker) -> io::Result<Lookout> {
        let (questions, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let mut asker =
            Asker { program, process: Some(Process::start(program)?), ended: Vec::new() };
        let serve = move || {
            while let Ok(question) = asked.recv() {
                if answer.send(asker.ask(question)).is_err() {
                    break;
                }
                waker.wake();
            }
        };
        // Not joined: it may wait for a process that hangs.
        thread::spawn("rblk-lookout", STACK_BYTES, serve)?;
        Ok(Lookout { questions, answers, under_way: None, last: None })
    }

    /// Begins a look, unless one is under way.
    pub fn look(&mut self, now: Tick, question: Question) {
        self.take_answer();
        if self.under_way.is_none() {
            self.under_way = Some(Look { question, begun: now });
            if self.questions.try_send(question).is_err() {
                self.answered(Err("the thread that asks has ended".to_owned()));
            }
        }
    }

    /// What is known by a look that began at `since` or later, and was as thorough.
    pub fn known(&mut self, question: Question, since: Tick) -> Option<&Users> {
        self.take_answer();
        let (look, users) = self.last.as_ref()?;
        let fits = look.question.id == question.id
            && look.begun >= since
            && (look.question.thorough || !question.thorough);
        fits.then_some(users)
    }

    /// Since when a look is under way.
    pub fn looks_since(&self) -> Option<Tick> {
        self.under_way.map(|look| look.begun)
    }

    fn take_answer(&mut self) {
        if let Ok(users) = self.answers.try_recv() {
            self.answered(users);
        }
    }

    fn answered(&mut self, users: Users) {
        self.last = self.under_way.take().map(|look| (look, users));
    }
}

/// What the thread has.
struct Asker {
    program: fn() -> Command,
    /// `None` after one that was given up.
    process: Option<Process>,
    /// Those that were given up, until the system has ended them.
    ended: Vec<Child>,
}

struct Process {
    child: Child,
    stream: BufReader<UnixStream>,
}

impl Asker {
    fn ask(&mut self, question: Question) -> Users {
        self.ended.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        // What hangs in a file system cannot be killed, and the next would hang there, too.
        if self.ended.len() >= LOOKS_HUNG_MAX {
            return Err(format!("{LOOKS_HUNG_MAX} processes that looked hang in a file system"));
        }
        let mut process = match self.process.take() {
            Some(process) => process,
            None => Process::start(self.program).map_err(|error| error.to_string())?,
        };
        match process.ask(question) {
            Ok(users) => {
                self.process = Some(process);
                Ok(users)
            }
            Err(error) => {
                tracing::error!(
                    "the process that looks for users of the device is given up: {error}"
                );
                let _ = process.child.kill();
                self.ended.push(process.child);
                Err(error.to_string())
            }
        }
    }
}

impl Process {
    fn start(program: fn() -> Command) -> io::Result<Process> {
        let (stream, other) = UnixStream::pair()?;
        stream.set_write_timeout(Some(GIVE_UP))?;
        stream.set_read_timeout(Some(GIVE_UP))?;
        let child = program()
            .stdin(Stdio::from(OwnedFd::from(other)))
            .stdout(Stdio::null())
            // A group of its own: Ctrl-C on the daemon's terminal is not for it.
            .process_group(0)
            .spawn()?;
        Ok(Process { child, stream: BufReader::new(stream) })
    }

    fn ask(&mut self, question: Question) -> io::Result<Vec<String>> {
        send(self.stream.get_mut(), &question)?;
        let mut line = Vec::new();
        self.stream.by_ref().take(LOOK_ANSWER_BYTES_MAX).read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Err(io::Error::other("it does not answer in a line"));
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

fn send(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Answers the daemon at the other end of standard input until that is gone.
///
/// # Errors
/// Nobody is there: it was not started by a daemon.
pub fn serve() -> Result<()> {
    let stranger = |error: io::Error| {
        Error::new(Kind::Usage, "Cannot look for users of a device")
            .source(error)
            .remedy("`rblk attach` starts this process itself")
    };
    // What the daemon's parent left open, and the mark of a daemon's threads, where they may make it.
    crate::io::close_on_exec().map_err(stranger)?;
    let _ = thread::mark_io_flusher(false);
    let stream = io::stdin().as_fd().try_clone_to_owned().map_err(stranger)?;
    let mut stream = UnixStream::from(stream);
    stream.peer_addr().map_err(stranger)?;
    // Who asks all processes of a service to end means the daemon, which has a question at its end.
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&asked)).map_err(stranger)?;
    }
    let mut questions = BufReader::new(stream.try_clone().map_err(stranger)?);
    loop {
        let mut line = Vec::new();
        // An end or an error is the daemon's end, and so is nonsense.
        let read = questions.by_ref().take(QUESTION_BYTES_MAX).read_until(b'\n', &mut line);
        let Ok(question) = read.and_then(|_| Ok(serde_json::from_slice(&line)?)) else {
            return Ok(());
        };
        if send(&mut stream, &shortened(look(question))).is_err() {
            return Ok(());
        }
    }
}

fn look(question: Question) -> Vec<String> {
    let known = rblk_ublk::openers(question.id);
    if known.is_empty() && question.thorough && rblk_ublk::is_held(question.id) {
        let who = "the kernel itself: a ZFS pool, or a mount that no process sees";
        return vec![who.to_owned()];
    }
    known
}

/// As many as fit a message to the operator.
fn shortened(mut users: Vec<String>) -> Vec<String> {
    let more = users.len().saturating_sub(LOOK_USERS_MAX);
    if more > 0 {
        users.truncate(LOOK_USERS_MAX);
        users.push(format!("{more} more"));
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ring::Ring;

    const QUICK: Question = Question { id: 7, thorough: false };
    const THOROUGH: Question = Question { id: 7, thorough: true };

    fn shell(script: &'static str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        command
    }

    fn echoes() -> Command {
        shell(r#"while read question; do echo '["a","b"]' >&0; done"#)
    }

    fn hangs() -> Command {
        shell("read question; read for_ever")
    }

    fn crashes() -> Command {
        shell("read question; kill -9 $$")
    }

    fn lookout(program: fn() -> Command) -> Lookout {
        let ring = Ring::new(8).expect("a ring");
        Lookout::of(program, ring.waker()).expect("it starts")
    }

    /// Until the look that is under way has ended.
    fn wait(lookout: &mut Lookout) {
        let users = lookout.answers.recv_timeout(Duration::from_secs(60)).expect("an answer");
        lookout.answered(users);
    }

    #[test]
    fn an_answer_counts_from_when_it_was_asked_for() {
        let mut lookout = lookout(echoes);
        assert_eq!(lookout.known(QUICK, Tick(0)), None);
        lookout.look(Tick(5), QUICK);
        lookout.look(Tick(6), THOROUGH);
        wait(&mut lookout);
        let users = Ok(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(lookout.known(QUICK, Tick(5)), Some(&users));
        assert_eq!(lookout.known(QUICK, Tick(6)), None, "it began before");
        assert_eq!(lookout.known(THOROUGH, Tick(5)), None, "it was not as thorough");
        assert_eq!(lookout.known(Question { id: 8, ..QUICK }, Tick(5)), None);
        lookout.look(Tick(7), THOROUGH);
        wait(&mut lookout);
        assert_eq!(lookout.known(QUICK, Tick(7)), Some(&users));
    }

    #[test]
    fn a_process_that_hangs_holds_nobody_up() {
        let mut lookout = lookout(hangs);
        for now in 0..100 {
            lookout.look(Tick(now), THOROUGH);
            assert_eq!(lookout.known(THOROUGH, Tick(0)), None, "nobody was waited for");
        }
        assert_eq!(lookout.looks_since(), Some(Tick(0)));
    }

    #[test]
    fn a_process_that_ends_is_no_answer_and_another_one_is_asked() {
        let mut lookout = lookout(crashes);
        for now in 0..3 {
            lookout.look(Tick(now), QUICK);
            wait(&mut lookout);
            let users = lookout.known(QUICK, Tick(now)).expect("an answer");
            assert!(users.is_err(), "nobody may be taken for absent: {users:?}");
        }
    }

    #[test]
    fn very_many_users_fit_an_answer() {
        let names = (0..10_000).map(|n| format!("process {n} ({})", "x".repeat(15)));
        let users = shortened(names.collect());
        assert_eq!(users.len(), LOOK_USERS_MAX + 1);
        assert_eq!(users[LOOK_USERS_MAX], format!("{} more", 10_000 - LOOK_USERS_MAX));
    }
}
