//! Hands the bytes on between an rsocket and a local socket, until both have ended or one has failed.
//!
//! Each way has a buffer of its own, and a way that has no room does not hold up the other. Bytes are only ever dropped
//! when there is nobody left to give them to.

use super::{local_entry, poll_entry};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::io::{ErrorKind, Result};
use std::os::fd::{OwnedFd, RawFd};

/// What a bridge has at its far end.
pub(super) trait Far {
    /// What [`Far::wait`] takes.
    fn number(&self) -> RawFd;
    /// What has come, without waiting: 0 bytes if nothing more will.
    fn receive(&self, into: &mut [u8]) -> Result<usize>;
    /// Sends some of it, without waiting, and says how much.
    fn send(&self, bytes: &[u8]) -> Result<usize>;
    /// Tells the other end that nothing more is sent.
    fn end(&self);
    /// Waits until something is true of one of these.
    fn wait(&self, asked: &mut [libc::pollfd]) -> Result<()>;
}

/// Of each way.
const BUFFER_BYTES: usize = 256 << 10;

/// One way: what was received and not yet sent.
struct Way {
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
    /// The source has ended.
    ended: bool,
    /// And the destination knows.
    told: bool,
}

impl Way {
    fn new() -> Way {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Way { buffer, from: 0, to: 0, ended: false, told: false }
    }

    fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// What to wait for at the source, and at the destination.
    fn asks(&self) -> (i16, i16) {
        let source = if self.is_empty() && !self.ended { libc::POLLIN } else { 0 };
        (source, if self.is_empty() { 0 } else { libc::POLLOUT })
    }

    /// Moves what can be moved without waiting. True if that was anything.
    fn turn(
        &mut self,
        receive: impl Fn(&mut [u8]) -> Result<usize>,
        send: impl Fn(&[u8]) -> Result<usize>,
    ) -> Result<bool> {
        let mut moved = false;
        if self.is_empty() && !self.ended {
            match receive(&mut self.buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => (self.from, self.to) = (0, count),
                Err(error) if is_not_yet(&error) => {}
                Err(error) => return Err(error),
            }
            moved |= self.ended || !self.is_empty();
        }
        while !self.is_empty() {
            match send(&self.buffer[self.from..self.to]) {
                Ok(count) => self.from += count,
                Err(error) if is_not_yet(&error) => break,
                Err(error) => return Err(error),
            }
            moved = true;
        }
        Ok(moved)
    }

    /// All is sent, and the destination is to be told so; true once.
    fn ends(&mut self) -> bool {
        let ends = self.ended && self.is_empty() && !self.told;
        self.told |= ends;
        ends
    }
}

pub(super) fn is_not_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Both ways, until both have ended or an end has failed. Neither `far` nor `near` may block.
pub(super) fn run(far: &impl Far, near: &OwnedFd) {
    // Why it failed is told by what the link sees: its end closes.
    let _failed = copy(far, near);
}

fn copy(far: &impl Far, near: &OwnedFd) -> Result<()> {
    let (mut out, mut back) = (Way::new(), Way::new());
    let take = |into: &mut [u8]| Ok(rustix::net::recv(near, into, RecvFlags::empty())?.0);
    let give = |bytes: &[u8]| Ok(rustix::net::send(near, bytes, SendFlags::NOSIGNAL)?);
    while !(out.told && back.told) {
        let moved =
            out.turn(take, |bytes| far.send(bytes))? | back.turn(|into| far.receive(into), give)?;
        if out.ends() {
            far.end();
        }
        if back.ends() {
            rustix::net::shutdown(near, Shutdown::Write)?;
        }
        if moved || (out.told && back.told) {
            continue;
        }
        let ((near_in, far_out), (far_in, near_out)) = (out.asks(), back.asks());
        let mut asked =
            [poll_entry(far.number(), far_in | far_out), local_entry(near, near_in | near_out)];
        far.wait(&mut asked)?;
        // A link that has closed its end wants nothing any more.
        if asked[1].revents & (libc::POLLHUP | libc::POLLERR) != 0 && out.is_empty() && out.ended {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::pair;
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    /// A local socket, which takes a few bytes at a time.
    struct Stream(OwnedFd);

    impl Far for Stream {
        fn number(&self) -> RawFd {
            self.0.as_raw_fd()
        }

        fn receive(&self, into: &mut [u8]) -> Result<usize> {
            Ok(rustix::net::recv(&self.0, into, RecvFlags::empty())?.0)
        }

        fn send(&self, bytes: &[u8]) -> Result<usize> {
            let few = &bytes[..bytes.len().min(1000)];
            Ok(rustix::net::send(&self.0, few, SendFlags::NOSIGNAL)?)
        }

        fn end(&self) {
            let _gone = rustix::net::shutdown(&self.0, Shutdown::Write);
        }

        fn wait(&self, asked: &mut [libc::pollfd]) -> Result<()> {
            // SAFETY: the table has that many entries.
            unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, 1_000) };
            Ok(())
        }
    }

    /// A link's end, the peer's end, and the bridge between them.
    fn bridged() -> (UnixStream, UnixStream, JoinHandle<()>) {
        let (link, near) = pair().expect("sockets");
        let (peer, far) = pair().expect("sockets");
        let bridge = std::thread::spawn(move || run(&Stream(far), &near));
        (link.into(), peer.into(), bridge)
    }

    fn pattern(seed: u8) -> Vec<u8> {
        (0..5 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
    }

    #[test]
    fn both_ways_at_once_and_one_may_end_before_the_other() {
        let (mut link, mut peer, bridge) = bridged();
        let (mut sends, mut echoes) =
            (link.try_clone().expect("a clone"), peer.try_clone().expect("a clone"));
        let out = std::thread::spawn(move || {
            sends.write_all(&pattern(1)).expect("taken");
            sends.shutdown(std::net::Shutdown::Write).expect("ends");
        });
        let back = std::thread::spawn(move || echoes.write_all(&pattern(2)).expect("taken"));
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).expect("read");
        assert!(heard == pattern(1), "{} bytes", heard.len());
        let mut answer = vec![0; pattern(2).len()];
        link.read_exact(&mut answer).expect("read");
        assert!(answer == pattern(2));
        out.join().expect("ends");
        back.join().expect("ends");
        peer.write_all(b"last").expect("taken, though the other way has ended");
        drop(peer);
        let mut last = Vec::new();
        link.read_to_end(&mut last).expect("read");
        assert_eq!(last, b"last");
        bridge.join().expect("ends");
    }

    #[test]
    fn whoever_goes_takes_the_bridge_along() {
        for link_goes in [true, false] {
            let (mut link, mut peer, bridge) = bridged();
            // Neither reads, and all that lies between them is full.
            for end in [&link, &peer] {
                end.set_write_timeout(Some(std::time::Duration::from_millis(200))).expect("set");
            }
            let full = |end: &mut UnixStream| end.write_all(&pattern(3)).expect_err("nobody reads");
            full(&mut link);
            full(&mut peer);
            let mut other = if link_goes {
                drop(link);
                peer
            } else {
                drop(peer);
                link
            };
            bridge.join().expect("ends");
            other.read_to_end(&mut Vec::new()).ok();
            assert!(other.write_all(b"x").is_err(), "there is nobody");
        }
    }
}
