//! What daemon and runner say to each other: one JSON object in a line, each way. Both are the same program.

use super::Environment;
use crate::limits::HANDLER_LINE_BYTES_MAX;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A command to run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// The index of its kind; none of it runs at the time.
    pub(super) kind: usize,
    /// For `/bin/sh -c`.
    pub(super) command: String,
    /// It is ended after this time.
    pub(super) timeout: Duration,
    /// All of it.
    pub(super) environment: Environment,
}

/// A command has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// The index of its kind.
    pub(super) kind: usize,
    pub(super) ended: Ended,
    pub(super) took: Duration,
    /// What it printed first, in lines that are safe to show.
    pub(super) output: Vec<String>,
    /// Bytes that it printed beyond that.
    pub(super) more_bytes: u64,
}

/// How a handler ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ended {
    /// By itself, with this exit code.
    Exit(i32),
    /// By this signal, which did not come from here.
    Signal(i32),
    /// It took too long and was ended.
    TimedOut,
    /// It took too long, and not even SIGKILL ended it.
    Stuck,
    /// It did not run, or nobody knows how it ended.
    Unknown(String),
}

impl Ended {
    /// The exit code of one that ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Ended::Exit(code) => Some(*code),
            _ => None,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exit(126) => f.write_str("exit code 126: the command cannot be executed"),
            Ended::Exit(127) => f.write_str("exit code 127: there is no such command"),
            Ended::Exit(code) => write!(f, "exit code {code}"),
            Ended::Signal(signal) => write!(f, "ended by signal {signal}"),
            Ended::TimedOut => f.write_str("it took too long and was ended"),
            Ended::Stuck => f.write_str("it took too long, and not even SIGKILL ends it"),
            Ended::Unknown(why) => f.write_str(why),
        }
    }
}

/// Sends `message` whole.
pub(super) fn write(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > HANDLER_LINE_BYTES_MAX {
        return Err(io::Error::other("the message is too long"));
    }
    stream.write_all(&line)
}

/// Messages out of bytes as they come.
#[derive(Default)]
pub(super) struct Received {
    pending: Vec<u8>,
}

impl Received {
    /// Reads once. False at the end of the stream.
    pub(super) fn read(&mut self, stream: &mut UnixStream) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(bytes) => {
                self.pending.extend_from_slice(&chunk[..bytes]);
                Ok(bytes > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next whole message.
    ///
    /// # Errors
    /// It is none, or too long.
    pub(super) fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let end = self.pending.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(self.pending.len()) > HANDLER_LINE_BYTES_MAX {
            return Err(io::Error::other("a message is too long"));
        }
        let Some(end) = end else { return Ok(None) };
        let message = serde_json::from_slice(&self.pending[..end])?;
        self.pending.drain(..=end);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let (mut one, mut two) = UnixStream::pair().expect("a pair");
        let job = Job {
            kind: 3,
            command: "echo 'a\nb\t\u{1}' \\".repeat(200),
            timeout: Duration::from_millis(1_500),
            environment: vec![("A".to_owned(), "b\nc".to_owned())],
        };
        let sent = job.clone();
        let sender = std::thread::spawn(move || {
            write(&mut one, &sent).expect("sent");
            write(&mut one, &sent).expect("sent");
            one.write_all(b"{]\n").expect("sent");
        });
        let mut received = Received::default();
        let mut next = || loop {
            match received.take::<Job>() {
                Ok(None) => assert!(received.read(&mut two).expect("readable")),
                found => return found,
            }
        };
        assert_eq!(next().expect("a message"), Some(job.clone()));
        assert_eq!(next().expect("a message"), Some(job));
        next().expect_err("nonsense");
        sender.join().expect("no panic");
    }

    #[test]
    fn the_longest_job_and_report_fit() {
        let (mut one, _two) = UnixStream::pair().expect("a pair");
        one.set_nonblocking(true).expect("a socket");
        let worst = "\u{1}".repeat(crate::limits::HANDLER_COMMAND_BYTES_MAX);
        let environment = vec![("DRBD_BACKING_DEV".to_owned(), worst.clone())];
        let timeout = Duration::from_secs(1);
        let job = Job { kind: 0, command: worst.clone(), timeout, environment };
        write(&mut one, &job).expect("it fits");
        let output: Vec<String> = worst.chars().map(|c| c.escape_debug().to_string()).collect();
        let ended = Ended::Exit(0);
        let report = Report { kind: 0, ended, took: timeout, output, more_bytes: u64::MAX };
        write(&mut one, &report).expect("it fits");
    }
}
