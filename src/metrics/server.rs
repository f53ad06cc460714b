//! The socket and its threads.

use super::http::{Asked, asked, head};
use super::text;
use crate::ctl::proto::{Reply, Request};
use crate::ctl::server::Handler;
use crate::error::{Error, Result};
use crate::io::thread::{accept_until, spawn};
use crate::limits::{
    METRICS_AGE_MS, METRICS_CLIENT_S, METRICS_CLIENTS_MAX, METRICS_REQUEST_BYTES_MAX,
    METRICS_RETRY_S,
};
use parking_lot::Mutex;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Stack of each thread: the daemon's memory is locked.
const STACK_BYTES: usize = 256 << 10;

/// The listening thread is woken by a connection, which takes no time where it listens.
const WAKE_LIMIT: Duration = Duration::from_secs(1);

/// A running server. Dropping it ends its threads.
pub struct Server {
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    listen: SocketAddr,
    handler: Box<dyn Handler>,
    stopping: AtomicBool,
    /// Where it listens, once it does: the port may have been left to the system.
    bound: Mutex<Option<SocketAddr>>,
    clients: Mutex<Vec<(TcpStream, JoinHandle<()>)>>,
    page: Mutex<Option<Page>>,
}

/// The metrics as they were at a time.
struct Page {
    made: Instant,
    text: Arc<str>,
}

impl Server {
    /// Serves on `listen` what `handler` says of the state. If the address cannot be had, that is logged, and tried
    /// again now and then: a volume does not wait for its metrics.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(listen: SocketAddr, handler: Box<dyn Handler>) -> Result<Server> {
        let shared = Arc::new(Shared {
            listen,
            handler,
            stopping: AtomicBool::new(false),
            bound: Mutex::new(None),
            clients: Mutex::new(Vec::new()),
            page: Mutex::new(None),
        });
        let first = bind(&shared);
        let of_thread = Arc::clone(&shared);
        let thread = spawn("rblk-metrics", STACK_BYTES, move || {
            if let Some(listener) = first.or_else(|| insist(&of_thread)) {
                let admit = |(stream, _)| admit(&of_thread, stream);
                accept_until(&of_thread.stopping, || listener.accept(), admit);
            }
        });
        let thread = thread.map_err(|error| Error::io("Cannot start the metrics thread", error))?;
        Ok(Server { shared, listener: Some(thread) })
    }

    /// Where it listens; `None` while the address cannot be had.
    pub fn address(&self) -> Option<SocketAddr> {
        *self.shared.bound.lock()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let Some(thread) = self.listener.take() else { return };
        // Out of its pause, or out of accept. If nobody can be reached there, it is not waited for. It looks whether it
        // is to end after it has said where it listens, and we look for that after having said that it is to end: one
        // of the two sees the other.
        thread.thread().unpark();
        let reached = |to| TcpStream::connect_timeout(&to, WAKE_LIMIT).is_ok();
        let woken = self.address().is_none_or(reached);
        if woken {
            let _ = thread.join();
        }
        for (stream, thread) in std::mem::take(&mut *self.shared.clients.lock()) {
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
    }
}

/// The listening socket; logs why there is none.
fn bind(shared: &Shared) -> Option<TcpListener> {
    match TcpListener::bind(shared.listen) {
        Ok(listener) => {
            *shared.bound.lock() = listener.local_addr().ok();
            Some(listener)
        }
        Err(error) => {
            tracing::warn!(
                "metrics are not served yet: cannot listen on {} ({error}); each resource needs a port of its own in \
                 [metrics]",
                shared.listen
            );
            None
        }
    }
}

/// Tries until the address can be had, or the server ends.
fn insist(shared: &Shared) -> Option<TcpListener> {
    while !shared.stopping.load(Ordering::SeqCst) {
        std::thread::park_timeout(Duration::from_secs(METRICS_RETRY_S));
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        // Said once: after that, in silence.
        if let Ok(listener) = TcpListener::bind(shared.listen) {
            *shared.bound.lock() = listener.local_addr().ok();
            tracing::info!("metrics are served on {}", shared.listen);
            return Some(listener);
        }
    }
    None
}

/// Gives a client its thread, or hangs up.
fn admit(shared: &Arc<Shared>, stream: TcpStream) {
    let mut clients = shared.clients.lock();
    clients.retain(|(_, thread)| !thread.is_finished());
    if clients.len() >= METRICS_CLIENTS_MAX {
        return;
    }
    let Ok(copy) = stream.try_clone() else { return };
    let of_thread = Arc::clone(shared);
    if let Ok(thread) = spawn("rblk-metrics-cl", STACK_BYTES, move || {
        // A client that leaves, or takes too long, is nobody's trouble.
        let _ = serve(&of_thread, &stream);
        let _ = stream.shutdown(Shutdown::Both);
    }) {
        clients.push((copy, thread));
    }
}

/// Answers one request, within its time.
fn serve(shared: &Shared, mut stream: &TcpStream) -> std::io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(METRICS_CLIENT_S);
    let mut received = Vec::new();
    let asked = loop {
        if let Some(asked) = asked(&received) {
            break asked;
        }
        stream.set_read_timeout(Some(left(deadline)?))?;
        let mut piece = [0; 1024];
        let room = piece.len().min(METRICS_REQUEST_BYTES_MAX - received.len());
        match stream.read(&mut piece[..room])? {
            0 => return Ok(()),
            bytes => received.extend_from_slice(&piece[..bytes]),
        }
    };
    let (head, body) = match asked {
        Asked::Refused(status) => {
            let body = format!("{status}. The metrics are at /metrics.\n");
            (head(status, "text/plain; charset=utf-8", body.len()), Arc::from(body))
        }
        Asked::Metrics { body } => match page(shared) {
            Some(page) => {
                let head = head("200 OK", text::CONTENT_TYPE, page.len());
                (head, if body { page } else { Arc::from("") })
            }
            None => (head("503 Service Unavailable", "text/plain", 0), Arc::from("")),
        },
    };
    write_all(stream, head.as_bytes(), deadline)?;
    write_all(stream, body.as_bytes(), deadline)
}

/// `write_all` that ends at the deadline, however slowly the client takes what it gets.
fn write_all(mut stream: &TcpStream, mut bytes: &[u8], deadline: Instant) -> std::io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn left(deadline: Instant) -> std::io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The metrics, not older than they may be; `None` if the daemon does not say.
fn page(shared: &Shared) -> Option<Arc<str>> {
    // Held while the daemon is asked: others who ask at the same time wait for the same answer.
    let mut page = shared.page.lock();
    let fresh = |page: &&Page| page.made.elapsed() < Duration::from_millis(METRICS_AGE_MS);
    if let Some(page) = page.as_ref().filter(fresh) {
        return Some(Arc::clone(&page.text));
    }
    let Reply::Status { status } = shared.handler.call(Request::Status) else { return None };
    let text = Arc::from(text::exposition(*status).ok()?);
    *page = Some(Page { made: Instant::now(), text: Arc::clone(&text) });
    Some(text)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
