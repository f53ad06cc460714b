//! Who is at the other end of a UNIX socket, in the kernel's words.
//!
//! Not by `rustix`: of a process that this one cannot see, in another PID namespace, the kernel says that its id is 0,
//! which `rustix` takes for a value that cannot be.

use rustix::fs::Uid;
use rustix::process::Pid;
use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd};

/// The process that connected, or listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketPeer {
    /// `None` if this process cannot see it.
    pub process: Option<Pid>,
    /// Its user when it connected, or began to listen.
    pub user: Uid,
}

/// Who is at the other end of `stream`.
///
/// # Errors
/// It is no connected UNIX socket.
pub fn peer_of(stream: impl AsFd) -> Result<SocketPeer> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    let place: *mut libc::ucred = &raw mut found;
    // SAFETY: both pointers are valid for the call, and the kernel writes at most `bytes` bytes, all of integers.
    let result = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            place.cast(),
            &raw mut bytes,
        )
    };
    if result != 0 {
        return Err(Error::last_os_error());
    }
    // What a socket without another end is answered with.
    if found.uid == u32::MAX {
        return Err(Error::other("the kernel does not say who is at the other end"));
    }
    Ok(SocketPeer { process: Pid::from_raw(found.pid), user: Uid::from_raw(found.uid) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn the_other_end_is_told_by_the_kernel() {
        let dir = tempfile::tempdir().expect("dir");
        let listener = UnixListener::bind(dir.path().join("a")).expect("bind");
        let asking = UnixStream::connect(dir.path().join("a")).expect("connects");
        let (answering, _) = listener.accept().expect("accepted");
        let here = SocketPeer {
            process: Some(rustix::process::getpid()),
            user: rustix::process::geteuid(),
        };
        assert_eq!(peer_of(&asking).expect("known"), here);
        assert_eq!(peer_of(&answering).expect("known"), here);
    }

    #[test]
    fn what_has_no_other_end_is_an_error() {
        peer_of(std::fs::File::open("/dev/null").expect("there")).expect_err("a file");
        let dir = tempfile::tempdir().expect("dir");
        let bound = std::os::unix::net::UnixDatagram::bind(dir.path().join("a")).expect("bind");
        peer_of(bound).expect_err("nobody is there");
    }
}
