//! The control socket end to end, with a handler that only counts.

use super::*;
use crate::ctl::client::Client;
use crate::ctl::status::Resource;
use std::io::{Read, Write};
use std::sync::atomic::AtomicUsize;

/// Promotion fails, everything else works.
struct Fake(Arc<AtomicUsize>);

impl Handler for Fake {
    fn call(&self, request: Request) -> Reply {
        self.0.fetch_add(1, Ordering::SeqCst);
        match request {
            Request::Status => {
                let status = Resource { name: "swarm".to_owned(), ..Resource::default() };
                Reply::Status { status: Box::new(status) }
            }
            Request::Promote { force: false } => Error::new(Kind::Refused, "Cannot promote swarm")
                .why("the peer is Primary")
                .remedy("demote it first")
                .into(),
            _ => Reply::Ok,
        }
    }
}

fn server(dir: &Path) -> (Server, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let fake = Box::new(Fake(Arc::clone(&calls)));
    (Server::start(dir, "swarm", fake).expect("starts"), calls)
}

fn start_error(dir: &Path) -> Error {
    let fake = Box::new(Fake(Arc::default()));
    match Server::start(dir, "swarm", fake) {
        Ok(_) => panic!("must not start"),
        Err(error) => error,
    }
}

#[test]
fn requests_reach_the_handler_and_errors_come_back_whole() {
    let dir = tempfile::tempdir().expect("dir");
    let (server, calls) = server(dir.path());
    let mut client = Client::connect(dir.path(), "swarm").expect("connects");
    assert_eq!(client.status().expect("status").name, "swarm");
    client.command(&Request::Promote { force: true }).expect("done");
    let error = client.command(&Request::Promote { force: false }).expect_err("refused");
    assert_eq!(error.kind(), Kind::Refused);
    assert_eq!(error.to_string(), "Cannot promote swarm: the peer is Primary. Do: demote it first");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    let mode = std::fs::metadata(server.path()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(server);
    assert!(!socket(dir.path()).exists());
    let error = Client::connect(dir.path(), "swarm").err().expect("gone");
    assert_eq!(error.kind(), Kind::NotRunning);
}

fn socket(dir: &Path) -> PathBuf {
    crate::ctl::socket_path(dir, "swarm")
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().expect("dir");
    let (_server, _) = server(dir.path());
    let error = start_error(dir.path());
    assert_eq!(error.kind(), Kind::Busy);
    let mut client = Client::connect(dir.path(), "swarm").expect("connects");
    client.status().expect("the first still answers");
}

#[test]
fn the_socket_of_a_dead_daemon_is_replaced_but_nothing_else() {
    let dir = tempfile::tempdir().expect("dir");
    drop(UnixListener::bind(socket(dir.path())).expect("bind"));
    let (server, _) = server(dir.path());
    drop(server);
    // Somebody else answers there: not ours to remove.
    let other = UnixListener::bind(socket(dir.path())).expect("bind");
    assert_eq!(start_error(dir.path()).kind(), Kind::Busy);
    drop(other);
    std::fs::remove_file(socket(dir.path())).expect("removed");
    std::fs::write(socket(dir.path()), "precious").expect("written");
    assert_eq!(start_error(dir.path()).kind(), Kind::Refused);
    assert_eq!(std::fs::read(socket(dir.path())).expect("there"), b"precious");
}

#[test]
fn too_many_clients_are_turned_away_with_a_reason() {
    let dir = tempfile::tempdir().expect("dir");
    let (_server, _) = server(dir.path());
    let mut clients = Vec::new();
    for _ in 0..CONTROL_CLIENTS_MAX {
        let mut client = Client::connect(dir.path(), "swarm").expect("connects");
        client.status().expect("served");
        clients.push(client);
    }
    let mut late = Client::connect(dir.path(), "swarm").expect("connects");
    assert_eq!(late.status().expect_err("full").kind(), Kind::Busy);
    // A place that falls free is used again, once its thread has seen the end.
    drop(clients.pop());
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let mut next = Client::connect(dir.path(), "swarm").expect("connects");
        if next.status().is_ok() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the place was never freed");
    }
}

#[test]
fn those_who_may_only_look_leave_places_for_root() {
    let (root, stranger) = (Caller::new(Some(0), 0), Caller::new(Some(1000), 0));
    let full_for = |caller, strangers, trusted| {
        let all = std::iter::repeat_n(stranger, strangers);
        full(caller, all.chain(std::iter::repeat_n(root, trusted))).is_some()
    };
    let (most, half) = (CONTROL_CLIENTS_MAX, CONTROL_STRANGERS_MAX);
    assert!(!full_for(stranger, half - 1, most - half));
    assert!(full_for(stranger, half, 0) && !full_for(root, half, 0));
    assert!(!full_for(root, half, most - half - 1) && full_for(root, half, most - half));
    assert!(!full_for(stranger, 0, most - 1) && full_for(stranger, 0, most));
}

#[test]
fn a_stranger_s_orders_do_not_reach_the_handler() {
    let calls = Arc::new(AtomicUsize::new(0));
    let shared = Shared {
        name: "swarm".to_owned(),
        handler: Box::new(Fake(Arc::clone(&calls))),
        stopping: AtomicBool::new(false),
        clients: Mutex::new(Vec::new()),
    };
    let (here, there) = UnixStream::pair().expect("socketpair");
    let server = std::thread::spawn(move || serve(&shared, there, Caller::new(Some(1000), 0)));
    let mut lines = Lines::new(here);
    let mut ask = |request: &Request| -> Reply {
        lines.write(&encode(request).expect("line"), WRITE_TIMEOUT).expect("sent");
        let line = lines.read(Duration::from_secs(10)).expect("in time").expect("line");
        decode(&line).expect("valid")
    };
    assert!(matches!(ask(&Request::Status), Reply::Status { .. }));
    assert!(matches!(ask(&Request::Demote), Reply::Error { kind: Kind::Io, .. }));
    assert!(matches!(ask(&Request::Status), Reply::Status { .. }), "it may go on looking");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    drop(lines);
    server.join().expect("no panic");
}

#[test]
fn garbage_gets_an_answer_and_harms_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let (server, calls) = server(dir.path());
    let mut raw = UnixStream::connect(server.path()).expect("connects");
    raw.write_all(b"\xff\x00{{{\n{\"v\":1,\"request\":\"demote\"}\n").expect("sent");
    let mut lines = Lines::new(raw.try_clone().expect("clone"));
    let mut reply = || -> Reply {
        let line = lines.read(Duration::from_secs(10)).expect("in time").expect("line");
        decode(&line).expect("valid")
    };
    assert!(matches!(reply(), Reply::Error { kind: Kind::Protocol, .. }));
    assert_eq!(reply(), Reply::Ok);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let mut endless = UnixStream::connect(server.path()).expect("connects");
    while endless.write_all(&[b'{'; 4096]).is_ok() {}
    let mut answer = String::new();
    // The daemon closed with our bytes unread, so the answer may be followed by a reset.
    let _ = endless.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.contains("too long"), "{answer}");
}

#[test]
fn a_path_that_is_too_long_is_explained() {
    let dir = tempfile::tempdir().expect("dir");
    let error = start_error(&dir.path().join("x".repeat(120)));
    assert!(error.to_string().contains("--run-dir"), "{error}");
}
