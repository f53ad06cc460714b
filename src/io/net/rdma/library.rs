//! The sockets of librdmacm, found when they are wanted: rblk is built and runs without it.
//!
//! They behave as sockets do (rsocket(7)), but what they are called by is no file descriptor of a socket: the ring
//! cannot wait for one, and only these functions take it.

use super::bridge::Far;
use libloading::Library;
use rustix::net::SocketAddrAny;
use std::ffi::{c_int, c_void};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::OnceLock;

/// The version of its interface that all distributions have.
const FILE: &str = "librdmacm.so.1";

/// What an rsocket takes and gives without being asked for, in bytes: a full set of large writes.
static BUFFER_BYTES: c_int = 4 << 20;

type Address = *const libc::sockaddr;

/// The functions. The library is never unloaded: its own threads use it.
struct Functions {
    rsocket: unsafe extern "C" fn(c_int, c_int, c_int) -> c_int,
    rbind: unsafe extern "C" fn(c_int, Address, libc::socklen_t) -> c_int,
    rlisten: unsafe extern "C" fn(c_int, c_int) -> c_int,
    raccept: unsafe extern "C" fn(c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> c_int,
    rconnect: unsafe extern "C" fn(c_int, Address, libc::socklen_t) -> c_int,
    rshutdown: unsafe extern "C" fn(c_int, c_int) -> c_int,
    rclose: unsafe extern "C" fn(c_int) -> c_int,
    rrecv: unsafe extern "C" fn(c_int, *mut c_void, usize, c_int) -> isize,
    rsend: unsafe extern "C" fn(c_int, *const c_void, usize, c_int) -> isize,
    rpoll: unsafe extern "C" fn(*mut libc::pollfd, libc::nfds_t, c_int) -> c_int,
    rsetsockopt: unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, libc::socklen_t) -> c_int,
    rfcntl: unsafe extern "C" fn(c_int, c_int, ...) -> c_int,
}

fn functions() -> Result<&'static Functions> {
    static FOUND: OnceLock<std::result::Result<Functions, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| load().map_err(|error| error.to_string()));
    found.as_ref().map_err(|error| Error::new(ErrorKind::NotFound, error.clone()))
}

fn load() -> std::result::Result<Functions, libloading::Error> {
    // SAFETY: what the library does when it is loaded is what every program that is linked to it lets it do; the
    // types are those of rdma/rsocket.h; the functions are used as long as the process lives, as is the library.
    unsafe {
        let library: &'static Library = Box::leak(Box::new(Library::new(FILE)?));
        Ok(Functions {
            rsocket: *library.get(b"rsocket")?,
            rbind: *library.get(b"rbind")?,
            rlisten: *library.get(b"rlisten")?,
            raccept: *library.get(b"raccept")?,
            rconnect: *library.get(b"rconnect")?,
            rshutdown: *library.get(b"rshutdown")?,
            rclose: *library.get(b"rclose")?,
            rrecv: *library.get(b"rrecv")?,
            rsend: *library.get(b"rsend")?,
            rpoll: *library.get(b"rpoll")?,
            rsetsockopt: *library.get(b"rsetsockopt")?,
            rfcntl: *library.get(b"rfcntl")?,
        })
    }
}

/// One such socket. Closed when dropped, which may take seconds: never on the reactor's thread.
pub(super) struct RdmaSocket {
    number: c_int,
    of: &'static Functions,
}

impl RdmaSocket {
    /// A new one for addresses like `address`.
    ///
    /// # Errors
    /// The library is not there, or there is no RDMA device, in words for the operator.
    pub(super) fn new(address: SocketAddr) -> Result<RdmaSocket> {
        let of = functions().map_err(|error| {
            let advice = "install it (Debian: `apt install librdmacm1t64 ibverbs-providers`)";
            Error::new(ErrorKind::NotFound, format!("RDMA needs {FILE}: {error}; {advice}"))
        })?;
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: the call takes numbers only.
        let number = unsafe { (of.rsocket)(family, libc::SOCK_STREAM, 0) };
        let number = checked(number as isize).map_err(|error| {
            let advice =
                "`rdma link` lists them; soft RoCE: `rdma link add rxe0 type rxe netdev eth0`";
            Error::new(
                error.kind(),
                format!("There is no RDMA device to be used: {error}; {advice}"),
            )
        })?;
        let socket = RdmaSocket { number: number as c_int, of };
        for option in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
            let value = (&raw const BUFFER_BYTES).cast();
            // SAFETY: the value is a number of that size, read during the call.
            let set =
                unsafe { (of.rsetsockopt)(socket.number, libc::SOL_SOCKET, option, value, 4) };
            checked(set as isize)?;
        }
        Ok(socket)
    }

    /// Listens on `address`, with so many connections waiting.
    pub(super) fn listen(&self, address: SocketAddr, backlog: i32) -> Result<()> {
        let one: c_int = 1;
        // SAFETY: the value is read during the call and has the size that is told.
        unsafe {
            let value = (&raw const one).cast();
            checked((self.of.rsetsockopt)(
                self.number,
                libc::SOL_SOCKET,
                libc::SO_REUSEADDR,
                value,
                4,
            ) as isize)?;
        }
        self.bind(address)?;
        // SAFETY: the call takes numbers only.
        let listens = unsafe { (self.of.rlisten)(self.number, backlog) };
        checked(listens as isize).map(drop)
    }

    /// It is at `address`, which must be one of an RDMA device of this host.
    pub(super) fn bind(&self, address: SocketAddr) -> Result<()> {
        let address = SocketAddrAny::from(address);
        // SAFETY: the address is read during the call and has the length that is told.
        let bound =
            unsafe { (self.of.rbind)(self.number, address.as_ptr().cast(), address.addr_len()) };
        checked(bound as isize).map(drop)
    }

    /// Waits until it is connected to `address`, or cannot be.
    pub(super) fn connect(&self, address: SocketAddr) -> Result<()> {
        let address = SocketAddrAny::from(address);
        // SAFETY: the address is read during the call.
        let done =
            unsafe { (self.of.rconnect)(self.number, address.as_ptr().cast(), address.addr_len()) };
        checked(done as isize).map(drop)
    }

    /// Somebody who has connected, and from where; [`ErrorKind::WouldBlock`] if nobody has.
    pub(super) fn accept(&self) -> Result<(RdmaSocket, SocketAddr)> {
        let mut room = std::mem::MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        // SAFETY: there is room for every kind of address, and the length says how much.
        let number =
            unsafe { (self.of.raccept)(self.number, room.as_mut_ptr().cast(), &raw mut length) };
        let number = checked(number as isize)? as c_int;
        let socket = RdmaSocket { number, of: self.of };
        // SAFETY: the call has filled in an address of that length, which is not longer than the room.
        let from = unsafe { SocketAddrAny::read(room.as_ptr().cast(), length.min(128)) };
        Ok((socket, from.try_into()?))
    }

    /// From now on it says [`ErrorKind::WouldBlock`] instead of waiting.
    pub(super) fn do_not_block(&self) -> Result<()> {
        // SAFETY: the call takes numbers only.
        let done = unsafe { (self.of.rfcntl)(self.number, libc::F_SETFL, libc::O_NONBLOCK) };
        checked(done as isize).map(drop)
    }
}

impl Far for RdmaSocket {
    fn number(&self) -> RawFd {
        self.number
    }

    fn receive(&self, into: &mut [u8]) -> Result<usize> {
        let start = into.as_mut_ptr().cast();
        // SAFETY: the memory is writable and of that length.
        checked(unsafe { (self.of.rrecv)(self.number, start, into.len(), 0) })
    }

    fn send(&self, bytes: &[u8]) -> Result<usize> {
        let start = bytes.as_ptr().cast();
        // SAFETY: the memory is readable and of that length.
        checked(unsafe { (self.of.rsend)(self.number, start, bytes.len(), 0) })
    }

    fn end(&self) {
        // SAFETY: the call takes numbers only. Whoever is gone already need not be told.
        unsafe { (self.of.rshutdown)(self.number, libc::SHUT_WR) };
    }

    fn wait(&self, asked: &mut [libc::pollfd]) -> Result<()> {
        // Without a limit: after an rpoll whose time has passed all others of the process may turn round for ever (it
        // counts who waits, and forgets to count that one off; librdmacm 56).
        const NO_LIMIT: c_int = -1;
        let count = asked.len() as libc::nfds_t;
        // SAFETY: the table has that many entries.
        let found = unsafe { (self.of.rpoll)(asked.as_mut_ptr(), count, NO_LIMIT) };
        match checked(found as isize) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            other => other.map(drop),
        }
    }
}

impl Drop for RdmaSocket {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody uses it after this.
        unsafe { (self.of.rclose)(self.number) };
    }
}

fn checked(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_| Error::last_os_error())
}
