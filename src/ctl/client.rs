//! The asking side of the control socket.

use super::line::Lines;
use super::proto::{Event, Reply, Request, decode, encode};
use super::status::Resource;
use crate::error::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a daemon may take to answer a question about its state.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a daemon may take to change its role or to leave: writes in flight end first, and each of
/// them may wait for a slow disk.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// A command that takes longer than this is worth a word to whoever waits.
const SLOW: Duration = Duration::from_secs(3);
/// How long a daemon may take to end after it said that it has left.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to the daemon of one resource.
pub struct Client {
    name: String,
    lines: Lines,
    /// Hears that the daemon takes its time.
    on_slow: fn(&str),
}

impl Client {
    /// Connects to the daemon of resource `name`.
    ///
    /// # Errors
    /// `NotRunning` if there is none, `Io` if it may not be asked.
    pub fn connect(run_dir: &Path, name: &str) -> Result<Client> {
        let path = super::socket_path(run_dir, name);
        match UnixStream::connect(&path) {
            Ok(stream) => {
                let lines = Lines::new(stream);
                Ok(Client { name: name.to_owned(), lines, on_slow: |_| {} })
            }
            Err(error) => Err(connect_error(name, &path, error)),
        }
    }

    /// Has `tell` called with a sentence when the daemon takes its time over a command.
    #[must_use]
    pub fn on_slow(mut self, tell: fn(&str)) -> Client {
        self.on_slow = tell;
        self
    }

    /// The state of the resource.
    ///
    /// # Errors
    /// `Timeout`, `Protocol`, or what the daemon says.
    pub fn status(&mut self) -> Result<Resource> {
        self.status_within(STATUS_TIMEOUT)
    }

    /// The state of the resource, if the daemon tells it within `limit` and the usual time.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub fn status_within(&mut self, limit: Duration) -> Result<Resource> {
        match self.exchange(&Request::Status, limit.min(STATUS_TIMEOUT))? {
            Reply::Status { status } => Ok(*status),
            _ => Err(self.broken("it answered a status request with something else")),
        }
    }

    /// What has happened since the number `after`, or what is now. With the number to ask with next, and how many
    /// events were missed.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub fn events(&mut self, after: Option<u64>) -> Result<(Vec<Event>, u64, u64)> {
        match self.exchange(&Request::Events { after }, STATUS_TIMEOUT)? {
            Reply::Events { events, next, missed } => Ok((events, next, missed)),
            _ => Err(self.broken("it answered a request for events with something else")),
        }
    }

    /// Has the daemon do something, and waits until it is done.
    ///
    /// # Errors
    /// `Timeout`, `Protocol`, or what the daemon says.
    pub fn command(&mut self, request: &Request) -> Result<()> {
        match self.exchange(request, COMMAND_TIMEOUT)? {
            Reply::Ok => Ok(()),
            _ => Err(self.broken("it answered a command with something else")),
        }
    }

    /// Has the daemon leave in good order, and waits until its process has ended: then its disk is free. With `force`
    /// users of the device get errors; else they are a reason to refuse.
    ///
    /// # Errors
    /// `Io` if it does not end in time, or what the daemon says.
    pub fn detach(&mut self, force: bool) -> Result<()> {
        self.end(&Request::Detach { force })
    }

    /// Has the daemon leave its device to the next one, and waits until its process has ended.
    ///
    /// # Errors
    /// As [`Client::detach`].
    pub fn hand_over(&mut self) -> Result<()> {
        self.end(&Request::HandOver)
    }

    fn end(&mut self, request: &Request) -> Result<()> {
        // Opened first, so that it cannot come to name a later process with the same id.
        let process = self.lines.peer_process();
        self.command(request)?;
        let Some(process) = process else {
            return Ok(());
        };
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        let limit = Timespec { tv_sec: END_TIMEOUT.as_secs() as i64, tv_nsec: 0 };
        loop {
            match rustix::event::poll(&mut fds, Some(&limit)) {
                Ok(0) => {
                    let what = format!("The daemon of {} has left but does not end", self.name);
                    return Err(Error::new(Kind::Io, what).remedy(self.look()));
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }

    fn exchange(&mut self, request: &Request, limit: Duration) -> Result<Reply> {
        let line = encode(request)?;
        // A daemon that turns us away answers and closes before it reads: its answer counts, not our
        // broken pipe.
        let sent = self.lines.write(&line, limit);
        let mut answer = self.lines.read(limit.min(SLOW));
        if limit > SLOW && answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut) {
            let (name, left) = (&self.name, (limit - SLOW).as_secs());
            (self.on_slow)(&format!(
                "{name}: no answer yet: the daemon ends writes in flight first, or hangs; waiting up to {left} s more."
            ));
            answer = self.lines.read(limit - SLOW);
        }
        let answer = match (answer, sent) {
            (Ok(Some(line)), _) => line,
            (Ok(None), _) => return Err(self.broken("it closed the connection")),
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(self.failed(error)),
        };
        match decode(&answer)? {
            Reply::Error { kind, what, why, remedy } => {
                Err(Error::new(kind, what).why(why).remedy(remedy))
            }
            reply => Ok(reply),
        }
    }

    fn broken(&self, why: &str) -> Error {
        let what = format!("The daemon of {} does not answer as it should", self.name);
        Error::new(Kind::Protocol, what).why(why).remedy(self.look())
    }

    fn failed(&self, error: std::io::Error) -> Error {
        let what = format!("No answer from the daemon of {}", self.name);
        if error.kind() == ErrorKind::TimedOut {
            // Not `Kind::Timeout`: that is for a wait the user asked for.
            let why = "it took too long; the command may still be carried out";
            return Error::new(Kind::Io, what).why(why).remedy(self.look());
        }
        Error::io(what, error).remedy(self.look())
    }

    fn look(&self) -> String {
        let name = &self.name;
        format!("look at the log of `rblk attach {name}`, which is hung or very busy")
    }
}

fn connect_error(name: &str, path: &Path, error: std::io::Error) -> Error {
    let what = format!("Cannot ask the daemon of {name}");
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::new(Kind::NotRunning, what)
            .why(format!("it does not run on this node: nobody listens on {path}"))
            .remedy(format!(
                "run `systemctl start rblk@{name}`; without systemd `rblk attach {name}`, which ends with its terminal"
            )),
        ErrorKind::PermissionDenied => Error::new(Kind::Io, what)
            .why(format!("{path} is for root alone"))
            .remedy("run the command as root"),
        _ => Error::io(what, error).remedy(format!("look at {path}")),
    }
}
