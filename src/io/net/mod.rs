//! Connections between nodes: made and accepted on the ring.
//!
//! | transport | what a link gets |
//! |---|---|
//! | TCP | the socket |
//! | SMC | a socket of another protocol, used in the same way (`smc.rs`) |
//! | RDMA | one end of a pair of local sockets; a thread bridges the other (`rdma/`) |
//!
//! Both ends of TCP are set up alike: no delay for small frames, and a bound on how long sent bytes may stay
//! unconfirmed. Buffer sizes are left to the kernel, which fits them to the path. No operation blocks the
//! thread.

mod rdma;
mod smc;

use super::ring::{Completion, Owner, Ring, Token};
use crate::limits::{ACCEPT_PAUSE_MS, LISTEN_BACKLOG};
use crate::transport::Transport;
use io_uring::{opcode, squeue, types};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType, ipproto, sockopt};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Kinds of tokens, for all owners.
const ACCEPT: u8 = 0xa0;
const ACCEPT_PAUSE: u8 = 0xa1;
const CONNECT: u8 = 0xa2;
const CONNECT_TIMER: u8 = 0xa3;

/// True if `token` is one of a [`Listener`].
pub fn is_accept(token: Token) -> bool {
    matches!(token.kind(), ACCEPT | ACCEPT_PAUSE)
}

/// Whether this host has what `transport` needs for addresses like `address`.
///
/// # Errors
/// What it lacks, in words for the operator.
pub fn check(transport: Transport, address: SocketAddr) -> Result<()> {
    match transport {
        Transport::Rdma => rdma::check(address),
        socket_of_kernel => socket(socket_of_kernel, address).map(drop),
    }
}

/// What carries a connection that was made by `transport`: `tcp`, `smc-r`, `smc-d` or `rdma`. `None` if the kernel does
/// not say.
pub fn in_use(transport: Transport, socket: impl AsFd) -> Option<&'static str> {
    match transport {
        Transport::Tcp | Transport::Rdma => Some(transport.name()),
        Transport::Smc => smc::in_use(socket),
    }
}

/// For TCP or SMC.
fn socket(transport: Transport, address: SocketAddr) -> Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC;
    // Blocking: io_uring would take a non-blocking one as a wish to fail instead of to wait.
    let (protocol, explain): (_, fn(Error) -> Error) = match transport {
        Transport::Smc => (smc::protocol(), smc::explain),
        _ => (ipproto::TCP, |error| error),
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(protocol));
    socket.map_err(|error| explain(error.into()))
}

fn tune(socket: &OwnedFd, user_timeout_ms: u64) -> Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    // While little is sent, what is lost is sent again each 0.2 s or so for a while, and not after ever longer pauses:
    // a network that was gone for a moment has healed before the peer counts as silent. Without it all works the same.
    let on: libc::c_int = 1;
    // SAFETY: the value lives for the call, which reads as many bytes as it is told.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_THIN_LINEAR_TIMEOUTS,
            std::ptr::from_ref(&on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    let ms = u32::try_from(user_timeout_ms).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(socket, ms)?)
}

fn peer_name(socket: impl AsFd) -> Result<SocketAddr> {
    Ok(rustix::net::getpeername(socket)?.ok_or(Errno::NOTCONN)?.try_into()?)
}

fn own_name(socket: impl AsFd) -> Result<SocketAddr> {
    Ok(rustix::net::getsockname(socket)?.try_into()?)
}

/// Where connections come from.
enum Source {
    Socket(OwnedFd),
    Rdma(rdma::Listening),
}

/// A listening socket with one accept on the ring at all times.
pub struct Listener {
    source: Source,
    owner: Owner,
    instance: u16,
    user_timeout_ms: u64,
    /// An operation is on the ring.
    armed: bool,
    closing: bool,
}

impl Listener {
    /// Listens on `address`. Its tokens have `owner` and `instance`. Accepted connections are given up when
    /// sent bytes stay unconfirmed for `user_timeout_ms`.
    ///
    /// # Errors
    /// The address is not ours, or in use, or the host lacks what `transport` needs.
    pub fn bind(
        transport: Transport,
        address: SocketAddr,
        user_timeout_ms: u64,
        (owner, instance): (Owner, u16),
    ) -> Result<Listener> {
        let listen = || -> Result<Source> {
            if transport == Transport::Rdma {
                return rdma::Listening::bind(address).map(Source::Rdma);
            }
            let socket = socket(transport, address)?;
            // A restarted daemon must not wait for the old connections' TIME_WAIT.
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &address)?;
            rustix::net::listen(&socket, LISTEN_BACKLOG)?;
            Ok(Source::Socket(socket))
        };
        let source = listen().map_err(|error| {
            Error::new(error.kind(), format!("Cannot listen on {address}: {error}"))
        })?;
        Ok(Listener { source, owner, instance, user_timeout_ms, armed: false, closing: false })
    }

    /// Where it listens: with the port that the kernel chose, if 0 was asked for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn address(&self) -> Result<SocketAddr> {
        match &self.source {
            Source::Socket(socket) => own_name(socket),
            Source::Rdma(listening) => Ok(listening.address()),
        }
    }

    /// Starts accepting.
    pub fn start(&mut self, ring: &mut Ring) {
        assert!(!self.armed && !self.closing, "started twice");
        self.arm(ring);
    }

    /// Takes a completion of ours ([`is_accept`]); tells of a new connection.
    pub fn on_completion(
        &mut self,
        ring: &mut Ring,
        done: Completion,
    ) -> Option<(OwnedFd, SocketAddr)> {
        self.armed = false;
        let accepted = (done.token.kind() == ACCEPT).then(|| done.bytes());
        let found = match (&self.source, &accepted) {
            (Source::Socket(_), Some(Ok(fd))) => {
                // SAFETY: a successful accept returns a new descriptor that nobody else has.
                let socket = unsafe { OwnedFd::from_raw_fd(*fd as i32) };
                // Whoever is gone already, is no loss.
                tuned(socket, self.user_timeout_ms).ok()
            }
            (Source::Rdma(listening), Some(Ok(_))) => {
                let found = listening.next();
                if found.is_none() {
                    listening.looked();
                }
                found.or_else(|| listening.next())
            }
            _ => None,
        };
        if self.closing {
            return None;
        }
        match accepted {
            Some(Err(_)) => {
                let pause = Duration::from_millis(ACCEPT_PAUSE_MS);
                ring.timeout(pause, self.token(ACCEPT_PAUSE));
                self.armed = true;
            }
            _ => self.arm(ring),
        }
        found
    }

    /// Stops accepting. Take completions until [`Listener::ended`].
    pub fn close(&mut self, ring: &mut Ring) {
        if !self.closing && self.armed {
            ring.cancel(self.token(ACCEPT));
            ring.cancel(self.token(ACCEPT_PAUSE));
        }
        self.closing = true;
    }

    /// True when nothing of it is left on the ring.
    pub fn ended(&self) -> bool {
        self.closing && !self.armed
    }

    fn arm(&mut self, ring: &mut Ring) {
        let entry = match &self.source {
            Source::Socket(socket) => {
                let fd = types::Fd(socket.as_raw_fd());
                let accept = opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut());
                accept.flags(libc::SOCK_CLOEXEC).build()
            }
            Source::Rdma(listening) => readable(listening.raw_fd()),
        };
        // SAFETY: no memory is named; the socket lives as long as `self`, which is kept until it has ended.
        unsafe { ring.push(entry, self.token(ACCEPT)) };
        self.armed = true;
    }

    fn token(&self, kind: u8) -> Token {
        Token::of(self.owner, self.instance, kind, 0)
    }
}

/// An accepted socket, set up, and who is at its other end.
fn tuned(socket: OwnedFd, user_timeout_ms: u64) -> Result<(OwnedFd, SocketAddr)> {
    tune(&socket, user_timeout_ms)?;
    let from = peer_name(&socket)?;
    Ok((socket, from))
}

/// Ends when there is something to be read.
fn readable(fd: RawFd) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).build()
}

/// What is to be connected to what.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// By what.
    pub transport: Transport,
    /// This node's address, with port 0 for any; `None` if the kernel may choose.
    pub from: Option<SocketAddr>,
    /// Who listens.
    pub to: SocketAddr,
}

/// A connection being made.
pub struct Connector {
    transport: Transport,
    socket: Option<OwnedFd>,
    /// Read by the kernel when the operation is submitted.
    to: Option<Box<SocketAddrAny>>,
    address: SocketAddr,
    owner: Owner,
    instance: u16,
    connecting: bool,
    timing: bool,
    timed_out: bool,
    result: Option<Result<usize>>,
}

impl Connector {
    /// Begins to connect, for at most `timeout`. Its tokens have `owner` and `instance`.
    ///
    /// # Errors
    /// There is no socket to be had, or this host does not have the address that it is to connect from.
    pub fn start(
        ring: &mut Ring,
        Way { transport, from, to: address }: Way,
        timeout: Duration,
        user_timeout_ms: u64,
        (owner, instance): (Owner, u16),
    ) -> Result<Connector> {
        let to = Box::new(SocketAddrAny::from(address));
        let (socket, entry) = if transport == Transport::Rdma {
            let socket = rdma::connect(from, address)?;
            let entry = readable(socket.as_raw_fd());
            (socket, entry)
        } else {
            let socket = socket(transport, address)?;
            tune(&socket, user_timeout_ms)?;
            if let Some(from) = from {
                rustix::net::bind(&socket, &from)
                    .map_err(|error| from_where(from, &error.into()))?;
            }
            let fd = types::Fd(socket.as_raw_fd());
            let entry = opcode::Connect::new(fd, to.as_ptr().cast(), to.addr_len()).build();
            (socket, entry)
        };
        let connector = Connector {
            transport,
            socket: Some(socket),
            to: Some(to),
            address,
            owner,
            instance,
            connecting: true,
            timing: true,
            timed_out: false,
            result: None,
        };
        // SAFETY: address and socket live in `connector`, which keeps or leaks them until the operation has
        // ended.
        unsafe { ring.push(entry, connector.token(CONNECT)) };
        ring.timeout(timeout, connector.token(CONNECT_TIMER));
        Ok(connector)
    }

    /// Takes a completion of ours. The result comes when nothing is left on the ring: the connected socket,
    /// or why there is none.
    pub fn on_completion(&mut self, ring: &mut Ring, done: Completion) -> Option<Result<OwnedFd>> {
        if done.token.kind() == CONNECT {
            self.connecting = false;
            self.result = Some(done.bytes());
            if self.timing {
                ring.cancel(self.token(CONNECT_TIMER));
            }
        } else {
            self.timing = false;
            if self.connecting {
                self.timed_out = true;
                ring.cancel(self.token(CONNECT));
            }
        }
        if self.connecting || self.timing {
            return None;
        }
        let socket = self.socket.take()?;
        let connected = |_| match self.transport {
            Transport::Rdma => rdma::outcome(&socket),
            _ => stranger(&socket),
        };
        let result = self.result.take()?.and_then(connected).map_err(|error| {
            let error = if self.timed_out { ErrorKind::TimedOut.into() } else { error };
            Error::new(error.kind(), format!("Cannot connect to {}: {error}", self.address))
        });
        Some(result.map(|()| socket))
    }

    /// Gives up. The result still comes.
    pub fn cancel(&mut self, ring: &mut Ring) {
        if self.connecting {
            ring.cancel(self.token(CONNECT));
        }
    }

    fn token(&self, kind: u8) -> Token {
        Token::of(self.owner, self.instance, kind, 0)
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        if self.connecting {
            // The kernel may not have read them yet.
            std::mem::forget(self.to.take());
            std::mem::forget(self.socket.take());
        }
    }
}

/// Why a connection cannot be made from an address.
fn from_where(from: SocketAddr, error: &Error) -> Error {
    Error::new(error.kind(), format!("Cannot connect from {}: {error}", from.ip()))
}

/// An error if the socket is connected to itself, which TCP allows when nobody listens on a local port.
fn stranger(socket: &OwnedFd) -> Result<()> {
    if own_name(socket)? == peer_name(socket)? {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: (Owner, u16) = (Owner::Net, 1);

    fn any_port(host: &str) -> SocketAddr {
        format!("{host}:0").parse().expect("an address")
    }

    fn listener(host: &str) -> Listener {
        Listener::bind(Transport::Tcp, any_port(host), 4000, (Owner::Net, 0)).expect("binds")
    }

    fn connect(ring: &mut Ring, to: SocketAddr) -> Connector {
        Connector::start(ring, way(None, to), Duration::from_secs(10), 4000, OURS).expect("starts")
    }

    fn way(from: Option<SocketAddr>, to: SocketAddr) -> Way {
        Way { transport: Transport::Tcp, from, to }
    }

    fn next(ring: &mut Ring) -> Completion {
        loop {
            if let Some(done) = ring.next() {
                return done;
            }
            ring.wait(Some(Duration::from_secs(10))).expect("usable");
        }
    }

    fn result(ring: &mut Ring, connector: &mut Connector) -> Result<OwnedFd> {
        loop {
            let done = next(ring);
            if let Some(result) = connector.on_completion(ring, done) {
                return result;
            }
        }
    }

    #[test]
    fn both_ends_are_tuned_and_know_each_other() {
        for host in ["127.0.0.1", "[::1]"] {
            let mut ring = Ring::new(8).expect("io_uring");
            let mut listener = listener(host);
            listener.start(&mut ring);
            for _ in 0..3 {
                let mut connector = connect(&mut ring, listener.address().expect("bound"));
                let (mut here, mut there) = (None, None);
                while here.is_none() || there.is_none() {
                    let done = next(&mut ring);
                    if is_accept(done.token) {
                        here = listener.on_completion(&mut ring, done);
                    } else if let Some(result) = connector.on_completion(&mut ring, done) {
                        there = Some(result.expect("connects"));
                    }
                }
                let ((here, from), there) = (here.expect("accepted"), there.expect("connected"));
                assert_eq!(from, own_name(&there).expect("bound"));
                for end in [&here, &there] {
                    assert!(sockopt::tcp_nodelay(end).expect("TCP"));
                    assert_eq!(sockopt::tcp_user_timeout(end).expect("TCP"), 4000);
                }
            }
            listener.close(&mut ring);
            while !listener.ended() {
                let done = next(&mut ring);
                assert!(listener.on_completion(&mut ring, done).is_none());
            }
            // The cancellations end by themselves; the waker stays.
            while ring.in_flight() > 1 {
                ring.wait(Some(Duration::from_secs(10))).expect("usable");
                assert_eq!(ring.next(), None);
            }
        }
    }

    #[test]
    fn a_port_in_use_is_told_by_address() {
        let first = listener("127.0.0.1");
        let address = first.address().expect("bound");
        let error = Listener::bind(Transport::Tcp, address, 4000, (Owner::Net, 0))
            .err()
            .expect("in use")
            .to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_refused_connection_says_where() {
        let mut ring = Ring::new(8).expect("io_uring");
        let address = listener("127.0.0.1").address().expect("bound");
        let mut connector = connect(&mut ring, address);
        let error = result(&mut ring, &mut connector).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_connection_comes_from_the_address_that_is_named_or_is_not_made() {
        let mut ring = Ring::new(8).expect("io_uring");
        let address = listener("127.0.0.1").address().expect("bound");
        let _open = std::net::TcpListener::bind(address).expect("free again");
        let time = Duration::from_secs(10);
        let from = Some(any_port("127.0.0.2"));
        let mut connector =
            Connector::start(&mut ring, way(from, address), time, 4000, OURS).expect("starts");
        let socket = result(&mut ring, &mut connector).expect("connects");
        assert_eq!(own_name(&socket).expect("bound").ip(), any_port("127.0.0.2").ip());
        let from = Some(any_port("203.0.113.1"));
        let begun = Connector::start(&mut ring, way(from, address), time, 4000, OURS);
        let error = begun.err().expect("no address of this host").to_string();
        assert!(error.contains("Cannot connect from 203.0.113.1"), "{error}");
    }

    /// A listener whose backlog is full answers no further SYN.
    #[test]
    fn a_connection_to_a_silent_host_ends_with_its_time() {
        let mut ring = Ring::new(8).expect("io_uring");
        let full = socket(Transport::Tcp, any_port("127.0.0.1")).expect("socket");
        rustix::net::bind(&full, &any_port("127.0.0.1")).expect("binds");
        rustix::net::listen(&full, 0).expect("listens");
        let address = own_name(&full).expect("bound");
        let _waiting = std::net::TcpStream::connect(address).expect("the backlog takes one");
        let time = Duration::from_millis(50);
        let mut connector =
            Connector::start(&mut ring, way(None, address), time, 4000, OURS).expect("starts");
        let error = result(&mut ring, &mut connector).expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let mut connector = connect(&mut ring, address);
        ring.wait(Some(Duration::from_millis(1))).expect("usable");
        connector.cancel(&mut ring);
        assert!(result(&mut ring, &mut connector).is_err(), "cancelled long before its time");
    }
}
