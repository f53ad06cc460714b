//! The answering side of the control socket: threads that turn lines into calls of the daemon's
//! [`Handler`].
//!
//! ```text
//! listener thread ── accept ──► one thread per client, at most CONTROL_CLIENTS_MAX
//!                                  line ──► Request ──► handler.call() ──► Reply ──► line
//! ```
//!
//! Promises: never two servers for one resource in a run directory; a client can neither hold memory
//! without bound nor block another one. The socket is its owner's alone; who opens it to others lets them
//! look, and no more (`caller`). Never: the socket of a living daemon removed.

use super::caller::Caller;
use super::line::Lines;
use super::proto::{Reply, Request, decode, encode};
use crate::error::{Error, Kind, Result};
use crate::io::thread::{accept_until, spawn};
use crate::limits::{CONTROL_CLIENTS_MAX, CONTROL_LINE_BYTES_MAX, CONTROL_STRANGERS_MAX};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::File;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A client that says nothing for this long is let go.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes no answer for this long is let go.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A daemon that was just killed may take this long to be gone.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Stack of each thread: a status of 64 KiB needs little, and the daemon's memory is locked.
const STACK_BYTES: usize = 256 << 10;

/// Carries out requests. Called from several threads at once; a call may block until its command is
/// done, but must end when the daemon ends.
pub trait Handler: Send + Sync + 'static {
    /// Carries out one request.
    fn call(&self, request: Request) -> Reply;
}

/// A running control server. Dropping it lets calls in progress finish and answers them, then removes
/// the socket.
pub struct Server {
    path: PathBuf,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
    /// Held while we live: says that the socket is ours. The kernel gives it back however we die.
    _lock: File,
}

struct Shared {
    /// Of the resource.
    name: String,
    handler: Box<dyn Handler>,
    stopping: AtomicBool,
    clients: Mutex<Vec<ClientThread>>,
}

struct ClientThread {
    caller: Caller,
    stream: UnixStream,
    thread: JoinHandle<()>,
}

impl Server {
    /// Serves resource `name` in `run_dir`, which is made if it is not there.
    ///
    /// # Errors
    /// `Busy` if a daemon serves this resource already, `Io` if the socket cannot be made.
    pub fn start(run_dir: &Path, name: &str, handler: Box<dyn Handler>) -> Result<Server> {
        std::fs::create_dir_all(run_dir)
            .map_err(|error| Error::io(format!("Cannot make {}", run_dir.display()), error))?;
        let path = super::socket_path(run_dir, name);
        let lock = lock(run_dir, name)?;
        remove_stale(&path, name)?;
        let listener = listen(&path).map_err(|error| {
            Error::io(format!("Cannot listen on {}", path.display()), error).remedy(
                "choose a directory you may write to, of less than 80 bytes, with --run-dir",
            )
        })?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            handler,
            stopping: AtomicBool::new(false),
            clients: Mutex::new(Vec::new()),
        });
        let of_thread = Arc::clone(&shared);
        let listener = spawn("rblk-ctl", STACK_BYTES, move || {
            let admit = |(stream, _)| admit(&of_thread, stream);
            accept_until(&of_thread.stopping, || listener.accept(), admit);
        })
        .map_err(|error| Error::io("Cannot start the control thread", error))?;
        Ok(Server { path, shared, listener: Some(listener), _lock: lock })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the listener out of accept. If that fails, nobody can reach it either, and we must not
        // wait for it.
        let woken = UnixStream::connect(&self.path).is_ok();
        let _ = std::fs::remove_file(&self.path);
        if let Some(thread) = self.listener.take().filter(|_| woken) {
            let _ = thread.join();
        }
        let clients = std::mem::take(&mut *self.shared.clients.lock());
        for client in &clients {
            // The answer under way still goes out; the next read sees the end.
            let _ = client.stream.shutdown(Shutdown::Read);
        }
        for client in clients {
            let _ = client.thread.join();
        }
    }
}

/// True if a daemon of resource `name` runs.
pub fn runs(run_dir: &Path, name: &str) -> bool {
    let Ok(file) = File::open(lock_path(run_dir, name)) else { return false };
    // Shared, and let go of at once: a daemon that starts now tries again.
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

fn lock_path(run_dir: &Path, name: &str) -> PathBuf {
    run_dir.join(format!("{name}.lock"))
}

/// Takes the lock that says "the daemon of this resource". It also decides between two that start at once.
fn lock(run_dir: &Path, name: &str) -> Result<File> {
    let path = lock_path(run_dir, name);
    let what = || format!("Cannot lock {}", path.display());
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| Error::io(what(), error))?;
    let give_up = std::time::Instant::now() + LOCK_WAIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if std::time::Instant::now() >= give_up => {
                return Err(already_runs(name));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_WAIT / 20),
            Err(error) => return Err(Error::io(what(), error.into())),
        }
    }
}

fn already_runs(name: &str) -> Error {
    Error::new(Kind::Busy, format!("Cannot start a daemon for {name}"))
        .why("one is running on this node already")
        .remedy(format!("look at `rblk status {name}`; `rblk detach {name}` ends it"))
}

/// Removes the socket that a killed daemon left, and nothing else.
fn remove_stale(path: &Path, name: &str) -> Result<()> {
    let what = || format!("Cannot use {} as control socket", path.display());
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(what(), error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(Error::new(Kind::Refused, what())
                .why("there is something that is not a socket")
                .remedy("look at it, and move it away if it is not needed"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(already_runs(name)),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| Error::io(what(), error))
        }
        Err(error) => Err(Error::io(what(), error)),
    }
}

/// A listening socket with mode 0600 from its first connection on: nobody can connect before `listen`.
fn listen(path: &Path) -> std::io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &address)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let backlog = i32::try_from(CONTROL_CLIENTS_MAX).unwrap_or(i32::MAX);
    rustix::net::listen(&socket, backlog)?;
    Ok(UnixListener::from(socket))
}

/// Gives a client its thread, or turns it away.
fn admit(shared: &Arc<Shared>, stream: UnixStream) {
    let mut clients = shared.clients.lock();
    clients.retain(|client| !client.thread.is_finished());
    let caller = Caller::of(&stream);
    let full = full(caller, clients.iter().map(|client| client.caller));
    let (Ok(copy), None) = (stream.try_clone(), &full) else {
        drop(clients);
        let error = Error::new(Kind::Busy, "The daemon does not take this command")
            .why(full.unwrap_or_else(|| "it has no descriptor left".to_owned()))
            .remedy("end some of them, or try again");
        let mut lines = Lines::new(stream);
        // A short limit: this is the listener's thread. The line fits every socket buffer.
        let _ = send(&mut lines, &error.into(), Duration::from_millis(100));
        return;
    };
    let of_thread = Arc::clone(shared);
    let spawned = spawn("rblk-ctl-client", STACK_BYTES, move || serve(&of_thread, stream, caller));
    if let Ok(thread) = spawned {
        clients.push(ClientThread { caller, stream: copy, thread });
    }
}

/// Why there is no place for `caller` beside those who are connected.
fn full(caller: Caller, connected: impl Iterator<Item = Caller>) -> Option<String> {
    let (trusted, strangers): (Vec<_>, Vec<_>) = connected.partition(|other| other.is_trusted());
    if trusted.len() + strangers.len() >= CONTROL_CLIENTS_MAX {
        return Some(format!("{CONTROL_CLIENTS_MAX} clients are connected already"));
    }
    let many = !caller.is_trusted() && strangers.len() >= CONTROL_STRANGERS_MAX;
    many.then(|| {
        format!("{CONTROL_STRANGERS_MAX} clients of users who may only look are connected already")
    })
}

/// Answers one client until it leaves, breaks the protocol or falls silent.
fn serve(shared: &Shared, stream: UnixStream, caller: Caller) {
    let mut lines = Lines::new(stream);
    loop {
        let reply = match lines.read(IDLE_TIMEOUT) {
            Ok(Some(line)) => match decode::<Request>(&line) {
                Ok(request) => match caller.may(&request, &shared.name) {
                    Ok(()) => shared.handler.call(request),
                    Err(refused) => refused.into(),
                },
                Err(error) => Reply::from(error),
            },
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                // Where the next line would start is unknown: answer and end.
                let error = Error::new(Kind::Protocol, "Cannot read a control message");
                let reply = error.why("the line is too long or was cut off").into();
                let _ = send(&mut lines, &reply, WRITE_TIMEOUT);
                return;
            }
            Ok(None) | Err(_) => return,
        };
        if send(&mut lines, &reply, WRITE_TIMEOUT).is_err() {
            return;
        }
    }
}

fn send(lines: &mut Lines, reply: &Reply, limit: Duration) -> std::io::Result<()> {
    let line = match encode(reply) {
        Ok(line) if line.len() <= CONTROL_LINE_BYTES_MAX => line,
        _ => {
            let error = Error::new(Kind::Protocol, "The daemon's answer does not fit a line");
            encode(&Reply::from(error)).map_err(std::io::Error::other)?
        }
    };
    lines.write(&line, limit)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
