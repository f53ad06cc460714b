//! The endpoint as its clients meet it, the bad ones too.

use super::*;
use crate::ctl::status::Resource;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;

struct Fake(Arc<AtomicUsize>);

impl Handler for Fake {
    fn call(&self, request: Request) -> Reply {
        assert_eq!(request, Request::Status);
        self.0.fetch_add(1, Ordering::SeqCst);
        Reply::Status { status: Box::new(Resource { name: "swarm".into(), ..Resource::default() }) }
    }
}

fn server() -> (Server, SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let fake = Box::new(Fake(Arc::clone(&asked)));
    let server = Server::start((Ipv4Addr::LOCALHOST, 0).into(), fake).expect("starts");
    let address = server.address().expect("listens");
    (server, address, asked)
}

fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.write_all(request).expect("sent");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn metrics_are_told_and_the_daemon_is_asked_seldom() {
    let (_server, address, asked) = server();
    let begun = Instant::now();
    for _ in 0..20 {
        let answer = exchange(address, SCRAPE);
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("version=0.0.4"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(body.contains("rblk_resource_suspended{name=\"swarm\"} 0"), "{body}");
    }
    let at_most = 1 + begun.elapsed().as_millis() as usize / METRICS_AGE_MS as usize;
    assert!((1..=at_most).contains(&asked.load(Ordering::SeqCst)));
}

#[test]
fn nonsense_is_answered_and_asks_nobody() {
    let (_server, address, asked) = server();
    let answer = exchange(address, b"HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    let before = asked.load(Ordering::SeqCst);
    assert!(exchange(address, b"GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(exchange(address, b"PUT /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(exchange(address, b"\xff\x00\r\n\r\n").starts_with("HTTP/1.1 400"));
    let endless = [b"GET /".as_slice(), &[b'a'; METRICS_REQUEST_BYTES_MAX]].concat();
    let answer = exchange(address, &endless);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(asked.load(Ordering::SeqCst), before);
}

#[test]
fn clients_that_never_read_or_never_ask_are_few_and_hold_nothing_up() {
    let (server, address, _) = server();
    let mut mute: Vec<TcpStream> =
        (0..METRICS_CLIENTS_MAX).map(|_| TcpStream::connect(address).expect("connects")).collect();
    // All places are taken by the time that one more has been turned away.
    let mut one_more = TcpStream::connect(address).expect("connects");
    let _ = one_more.write_all(SCRAPE);
    let mut answer = String::new();
    let _ = one_more.read_to_string(&mut answer);
    assert_eq!(answer, "");
    // One that asks, and does not read what comes.
    mute[0].write_all(SCRAPE).expect("sent");
    drop(mute.pop());
    let give_up = Instant::now() + Duration::from_secs(60);
    while !exchange(address, SCRAPE).starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < give_up, "no place was freed");
    }
    // The others have most of their time left: the end does not wait for them.
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(METRICS_CLIENT_S), "{:?}", begun.elapsed());
}

#[test]
fn an_address_that_is_taken_is_had_later() {
    let (first, address, _) = server();
    let fake = Box::new(Fake(Arc::default()));
    let second = Server::start(address, fake).expect("starts all the same");
    assert_eq!(second.address(), None);
    drop(first);
    second.listener.as_ref().expect("runs").thread().unpark();
    let give_up = Instant::now() + Duration::from_secs(60);
    while second.address().is_none() {
        assert!(Instant::now() < give_up, "never bound");
        std::thread::yield_now();
    }
    assert!(exchange(address, SCRAPE).starts_with("HTTP/1.1 200"));
}

#[test]
fn an_address_that_is_free_just_as_the_server_ends_holds_nothing_up() {
    let (first, address, _) = server();
    let second = Server::start(address, Box::new(Fake(Arc::default()))).expect("starts");
    assert_eq!(second.address(), None);
    drop(first);
    // On a thread of its own: were the end waited for in vain, this test would fail and not hang.
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(second);
        let _ = done.send(());
    });
    waiting.recv_timeout(Duration::from_secs(60)).expect("it ends");
}
