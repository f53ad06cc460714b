//! Where clients knock: a UNIX or TCP socket.
//!
//! Promises: a UNIX socket is reachable by this user alone (mode 0600) from the moment it exists; a socket
//! file that somebody listens on is never removed, nor is one that is not ours when we stop.

use crate::io::client::Door;
use crate::io::socket_peer::{SocketPeer, peer_of};
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Connections that the kernel keeps for us until we accept them: as many as we serve.
const BACKLOG: i32 = crate::limits::NBD_CLIENTS_MAX as i32;

/// Where to listen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A UNIX socket at an absolute path.
    Unix(PathBuf),
    /// A TCP address with its port.
    Tcp(SocketAddr),
}

/// Text that is no [`Address`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadAddress(String);

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        write!(f, "'{text}' is no NBD address: expected unix:/PATH or tcp:ADDRESS:PORT")
    }
}

impl std::error::Error for BadAddress {}

impl std::str::FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Address, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(path.into())),
            Some(("tcp", at)) => at.parse().map(Address::Tcp).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

/// A client that was let in.
pub struct Accepted {
    /// Its connection.
    pub fd: OwnedFd,
    /// Who it is, in words.
    pub peer: String,
}

/// A listening socket.
pub struct Listener {
    door: Door,
    address: Address,
    /// Device and inode of the socket file.
    file: Option<(u64, u64)>,
}

impl Listener {
    /// Starts to listen. A socket file that a dead server left behind is replaced.
    pub fn bind(address: &Address) -> io::Result<Listener> {
        let context = |e: io::Error| {
            let place = match address {
                Address::Unix(path) => path.display().to_string(),
                Address::Tcp(at) => at.to_string(),
            };
            io::Error::new(e.kind(), format!("Cannot serve NBD at {place}: {e}"))
        };
        match address {
            Address::Unix(path) => bind_unix(path),
            Address::Tcp(at) => bind_tcp(*at),
        }
        .map_err(context)
    }

    /// The socket itself.
    pub fn door(&mut self) -> &mut Door {
        &mut self.door
    }

    /// The next client that waits; `None` if none does.
    ///
    /// # Errors
    /// The process or the system has no descriptors or no memory left.
    pub fn accept(&self) -> io::Result<Option<Accepted>> {
        let Some(fd) = self.door.accept()? else {
            return Ok(None);
        };
        let peer = self.prepare(fd.as_fd());
        Ok(Some(Accepted { fd, peer }))
    }

    /// Takes the socket file away: nobody finds us any more.
    pub fn hide(&mut self) {
        if let Address::Unix(path) = &self.address
            && let Some(ours) = self.file.take()
            && let Ok(found) = std::fs::symlink_metadata(path)
            && ours == (found.dev(), found.ino())
        {
            let _ = std::fs::remove_file(path);
        }
    }

    /// The NBD URI of export `name`.
    pub fn uri(&self, name: &str) -> String {
        let name = percent(name);
        match &self.address {
            Address::Unix(path) => {
                format!("nbd+unix:///{name}?socket={}", percent(&path.to_string_lossy()))
            }
            Address::Tcp(at) => format!("nbd://{at}/{name}"),
        }
    }

    /// Sets the connection up and says who is at its other end. A client that is gone already will be
    /// noticed at the first receive.
    fn prepare(&self, fd: BorrowedFd<'_>) -> String {
        match &self.address {
            Address::Unix(_) => match peer_of(fd) {
                Ok(SocketPeer { process: Some(pid), user }) => {
                    format!("pid {} of uid {}", pid.as_raw_nonzero(), user.as_raw())
                }
                Ok(SocketPeer { user, .. }) => format!("a process of uid {}", user.as_raw()),
                Err(_) => "an unknown process".to_owned(),
            },
            Address::Tcp(_) => {
                let _ = sockopt::set_tcp_nodelay(fd, true);
                // A host that died without a word would hold its place for ever.
                let _ = sockopt::set_socket_keepalive(fd, true);
                let at = net::getpeername(fd).ok().flatten();
                match at.and_then(|at| SocketAddr::try_from(at).ok()) {
                    Some(at) => at.to_string(),
                    None => "an unknown address".to_owned(),
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.hide();
    }
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    let at = SocketAddrUnix::new(path)?;
    remove_stale(path, &at)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux gives the file the mode of the socket: there is no moment at which others may connect.
    fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    net::bind(&fd, &at)?;
    let found = std::fs::symlink_metadata(path)?;
    net::listen(&fd, BACKLOG)?;
    Ok(Listener {
        door: Door::new(fd),
        address: Address::Unix(path.to_owned()),
        file: Some((found.dev(), found.ino())),
    })
}

/// Removes a socket file that nobody listens on.
fn remove_stale(path: &Path, at: &SocketAddrUnix) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file is not a socket"));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match net::connect(&probe, at) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
    }
}

fn bind_tcp(at: SocketAddr) -> io::Result<Listener> {
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    // With port 0 the kernel has chosen one.
    let address = Address::Tcp(listener.local_addr()?);
    Ok(Listener { door: Door::new(listener.into()), address, file: None })
}

/// `text` with what has a meaning in a URI escaped.
fn percent(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn addresses_are_absolute_paths_or_numbers() {
        let unix = "unix:/run/x.nbd".parse();
        assert_eq!(unix, Ok(Address::Unix("/run/x.nbd".into())));
        let tcp = "tcp:[::1]:10809".parse();
        assert_eq!(tcp, Ok(Address::Tcp("[::1]:10809".parse().expect("valid"))));
        for bad in ["", "unix:", "unix:x", "tcp:localhost", "tcp:1.2.3.4", "udp:1.2.3.4:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_socket_file_is_private_and_goes_with_the_server() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("a b.nbd");
        let listener = Listener::bind(&Address::Unix(path.clone())).expect("bind");
        let mode = std::fs::metadata(&path).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(listener.uri("vol").ends_with("/a%20b.nbd"));
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("s");
        let address = Address::Unix(path.clone());
        drop(UnixListener::bind(&path).expect("bind"));
        assert!(path.exists(), "a dead server leaves its file");
        let ours = Listener::bind(&address).expect("replaces the stale file");
        let Err(error) = Listener::bind(&address) else {
            panic!("two servers at one path");
        };
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
        // Somebody else's file at our path stays when we go.
        std::fs::remove_file(&path).expect("remove");
        std::fs::write(&path, "precious").expect("write");
        drop(ours);
        assert!(path.exists());
        let Err(error) = Listener::bind(&address) else {
            panic!("a plain file was taken for a socket");
        };
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
