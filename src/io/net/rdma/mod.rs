//! RDMA for a ring that knows sockets of the kernel only: each connection has a bridge, a thread that hands the bytes
//! on between an rsocket and one end of a pair of local sockets. The other end is what a link gets, and takes for any
//! connection.
//!
//! ```text
//!   link ── ring ── local socket ═══ local socket ── bridge ── rsocket ─── the peer's
//!                        pair, in the kernel         one thread
//! ```
//!
//! That is a copy and a switch of threads more than TCP has: what RDMA saves must be worth them. Nothing else of rblk
//! knows of it, and a link ends as any does: an end of the pair that closes is an end of the rsocket, and the other way
//! round.

mod bridge;
mod library;

use super::super::counter::Counter;
use super::super::thread;
use crate::limits::{LISTEN_BACKLOG, RDMA_BRIDGES_MAX};
use crate::sync::{Receiver, SyncSender, sync_channel};
use library::RdmaSocket;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Of the threads that only wait or copy.
const STACK_BYTES: usize = 256 << 10;
/// A pair of local sockets holds as much, in bytes.
const PAIR_BYTES: usize = 1 << 20;
/// The first byte of a pair: it is connected, and what follows comes from the peer.
const CONNECTED: u8 = 0;
/// How often it is looked whether somebody has connected.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Longest reason for a connection that was not made, in bytes.
const REASON_BYTES: usize = 512;

/// Bridges that there are, in this process: also those that take long to end.
static BRIDGES: AtomicUsize = AtomicUsize::new(0);

/// A place among the bridges.
struct Place;

impl Place {
    /// `None` if all are taken.
    fn take() -> Option<Place> {
        let free = |taken: usize| (taken < RDMA_BRIDGES_MAX).then_some(taken + 1);
        BRIDGES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok().map(|_| Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        BRIDGES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a host lacks for RDMA, if anything.
///
/// # Errors
/// That, in words for the operator.
pub(super) fn check(address: SocketAddr) -> Result<()> {
    RdmaSocket::new(address).map(drop)
}

/// Begins to connect to `address`, from the address `from` if there is one, and returns the end of the pair for a link.
/// It is readable once [`outcome`] knows.
///
/// # Errors
/// The system has no thread, socket or bridge left.
pub(super) fn connect(from: Option<SocketAddr>, address: SocketAddr) -> Result<OwnedFd> {
    let place = Place::take().ok_or_else(too_many)?;
    let (ours, theirs) = pair()?;
    thread::spawn("rblk-rdma", STACK_BYTES, move || {
        let _place = place;
        match dial(from, address) {
            Ok(socket) => {
                let told = rustix::io::write(&theirs, &[CONNECTED]);
                if told.is_ok() {
                    bridge::run(&socket, &theirs);
                }
            }
            Err(error) => {
                let reason = error.to_string();
                let reason = &reason.as_bytes()[..reason.len().min(REASON_BYTES)];
                // Whoever gave up is not told why.
                let _gone = rustix::io::write(&theirs, reason);
            }
        }
    })?;
    Ok(ours)
}

fn dial(from: Option<SocketAddr>, address: SocketAddr) -> Result<RdmaSocket> {
    let socket = RdmaSocket::new(address)?;
    if let Some(from) = from {
        socket.bind(from).map_err(|error| super::from_where(from, &error))?;
    }
    socket.connect(address)?;
    socket.do_not_block()?;
    Ok(socket)
}

/// Whether [`connect`] has connected; to be asked once, when its socket is readable.
///
/// # Errors
/// Why it has not.
pub(super) fn outcome(socket: &OwnedFd) -> Result<()> {
    let mut reason = [0; REASON_BYTES];
    let (length, _) = rustix::net::recv(socket, &mut reason[..1], RecvFlags::DONTWAIT)?;
    if length == 1 && reason[0] == CONNECTED {
        return Ok(());
    }
    let (more, _) =
        rustix::net::recv(socket, &mut reason[1..], RecvFlags::DONTWAIT).unwrap_or((0, 0));
    let reason = String::from_utf8_lossy(&reason[..(length + more).min(REASON_BYTES)]);
    Err(Error::new(ErrorKind::ConnectionRefused, reason.into_owned()))
}

/// Those who connect.
pub(super) struct Listening {
    address: SocketAddr,
    /// Counts up when somebody is there.
    arrived: Counter,
    waiting: Receiver<(OwnedFd, SocketAddr)>,
    /// Makes the listening thread end.
    end: Arc<AtomicBool>,
}

impl Listening {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The host has no RDMA, or the address is not its own or in use.
    pub(super) fn bind(address: SocketAddr) -> Result<Listening> {
        let socket = RdmaSocket::new(address)?;
        socket.listen(address, LISTEN_BACKLOG)?;
        socket.do_not_block()?;
        let arrived = Counter::to_poll()?;
        let (sender, waiting) = sync_channel(RDMA_BRIDGES_MAX);
        let end = Arc::new(AtomicBool::new(false));
        let (counter, ends) = (arrived.clone(), Arc::clone(&end));
        thread::spawn("rblk-rdma", STACK_BYTES, move || {
            while !ends.load(Ordering::Acquire) {
                match socket.accept() {
                    Ok((accepted, from)) => {
                        // Whoever cannot be had is closed, and sees that.
                        let _closed = admit(accepted, from, &sender, &counter);
                    }
                    // Not by rpoll: it may notice a connection only when it wakes up by itself, seconds later, since
                    // another thread of the library reads what it waits for (librdmacm 56).
                    Err(error) if bridge::is_not_yet(&error) => std::thread::sleep(LOOK_AGAIN),
                    Err(_) => return,
                }
            }
        })?;
        Ok(Listening { address, arrived, waiting, end })
    }

    /// Where.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Readable when [`Listening::next`] may have somebody.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.arrived.raw_fd()
    }

    /// Forgets that it was readable. To be called before [`Listening::next`] is.
    pub(super) fn looked(&self) {
        self.arrived.take();
    }

    /// The next one: the end of the pair for a link, and from where he is.
    pub(super) fn next(&self) -> Option<(OwnedFd, SocketAddr)> {
        self.waiting.try_recv().ok()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
    }
}

fn admit(
    socket: RdmaSocket,
    from: SocketAddr,
    waiting: &SyncSender<(OwnedFd, SocketAddr)>,
    arrived: &Counter,
) -> Result<()> {
    let place = Place::take().ok_or_else(too_many)?;
    socket.do_not_block()?;
    let (ours, theirs) = pair()?;
    waiting.try_send((ours, from)).map_err(|_| too_many())?;
    arrived.add();
    thread::spawn("rblk-rdma", STACK_BYTES, move || {
        let _place = place;
        bridge::run(&socket, &theirs);
    })?;
    Ok(())
}

fn too_many() -> Error {
    let text = format!(
        "there are {RDMA_BRIDGES_MAX} RDMA connections already, or some that take long to end"
    );
    Error::new(ErrorKind::ResourceBusy, text)
}

/// Two local sockets, connected to each other. The first is for the ring, and blocks: io_uring would take a
/// non-blocking one as a wish to fail instead of to wait.
fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let (ours, theirs) = rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&theirs, true)?;
    for end in [&ours, &theirs] {
        sockopt::set_socket_send_buffer_size(end.as_fd(), PAIR_BYTES)?;
    }
    Ok((ours, theirs))
}

fn poll_entry(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Of a local socket.
fn local_entry(socket: &OwnedFd, events: i16) -> libc::pollfd {
    poll_entry(socket.as_raw_fd(), events)
}
