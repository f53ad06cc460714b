//! Lines over a stream, bounded in bytes and in time: a peer that sends slowly, or without end, costs
//! one buffer and one deadline.

use crate::io::socket_peer::peer_of;
use crate::limits::CONTROL_LINE_BYTES_MAX;
use rustix::process::PidfdFlags;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes asked for with one read.
const CHUNK_BYTES: usize = 4096;

/// A line is longer than it may be: where the next one would start is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

/// Lines out of bytes that arrive in pieces of any size. Knows no stream.
#[derive(Debug, Default)]
pub struct LineBuffer {
    /// Received and not yet returned; never more than one line's maximum and one piece.
    pending: Vec<u8>,
}

impl LineBuffer {
    /// The next line without its line break; `None` if it is not complete.
    ///
    /// # Errors
    /// It never will be: too much has come without a line break.
    pub fn take_line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let end = self.pending.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(self.pending.len()) > CONTROL_LINE_BYTES_MAX {
            return Err(TooLong);
        }
        if let Some(end) = end {
            let rest = self.pending.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.pending, rest);
            line.pop();
            return Ok(Some(line));
        }
        Ok(None)
    }

    /// More has come. To be called when [`LineBuffer::take_line`] has returned `None`.
    pub fn add(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
    }

    /// True if no part of a line is here.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

/// One end of a control connection.
pub(super) struct Lines {
    stream: UnixStream,
    received: LineBuffer,
}

impl Lines {
    pub(super) fn new(stream: UnixStream) -> Lines {
        Lines { stream, received: LineBuffer::default() }
    }

    /// The next line without its line break; `None` at the end of the stream.
    ///
    /// # Errors
    /// `TimedOut` if it is not complete within `limit`; `InvalidData` if it is too long or was cut off.
    pub(super) fn read(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + limit;
        loop {
            match self.received.take_line() {
                Ok(Some(line)) => return Ok(Some(line)),
                Ok(None) => {}
                Err(TooLong) => {
                    let text = format!("a line is longer than {CONTROL_LINE_BYTES_MAX} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; CHUNK_BYTES];
            match self.stream.read(&mut chunk) {
                Ok(0) if self.received.is_empty() => return Ok(None),
                Ok(0) => {
                    let text = "the connection ended within a line";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                Ok(bytes) => self.received.add(&chunk[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The process at the other end; `None` if it cannot be told, or is this one.
    pub(super) fn peer_process(&self) -> Option<OwnedFd> {
        let pid = peer_of(&self.stream).ok()?.process?;
        if pid == rustix::process::getpid() {
            return None;
        }
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
    }

    /// Sends a line, its line break included.
    ///
    /// # Errors
    /// `TimedOut` if the other end takes nothing for `limit`.
    pub(super) fn write(&mut self, line: &[u8], limit: Duration) -> io::Result<()> {
        self.stream.set_write_timeout(Some(limit))?;
        self.stream.write_all(line).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::from(io::ErrorKind::TimedOut),
            _ => error,
        })
    }
}

impl Drop for Lines {
    /// Ends the connection even if somebody holds a copy of the stream.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn lines_come_out_as_they_went_in() {
        let (mut a, b) = UnixStream::pair().expect("socketpair");
        a.write_all(b"one\n\ntwo\nthr").expect("write");
        drop(a);
        let mut lines = Lines::new(b);
        assert_eq!(lines.read(SOON).expect("line"), Some(b"one".to_vec()));
        assert_eq!(lines.read(SOON).expect("line"), Some(Vec::new()));
        assert_eq!(lines.read(SOON).expect("line"), Some(b"two".to_vec()));
        let error = lines.read(SOON).expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_line_without_end_is_cut_off() {
        let (mut a, b) = UnixStream::pair().expect("socketpair");
        let writer = std::thread::spawn(move || while a.write_all(&[b'x'; 4096]).is_ok() {});
        let error = Lines::new(b).read(SOON).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        writer.join().expect("no panic");
    }

    #[test]
    fn a_silent_peer_costs_its_deadline() {
        let (_a, b) = UnixStream::pair().expect("socketpair");
        let error = Lines::new(b).read(Duration::from_millis(10)).expect_err("silent");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
