//! Host and guest over real sockets: what strangers, thieves and accidents come to.

use super::Written;
use super::door::{Door, Joined};
use super::home::Home;
use super::join::{Lost, Offered, Visit, connect, join};
use super::line::{Line, Look};
use super::message::{Message, Refusal, Trouble};
use super::proof::{Role, Secret};
use super::token::Token;
use crate::config::{self, Address, Config, Name, Security};
use crate::error::{Kind, Result};
use crate::io::tls::{self, Visited};
use crate::limits::{PAIR_GUEST_BYTES_MAX, PAIR_GUESTS_MAX, PAIR_WRONG_MAX};
use crate::meta::superblock::NodeId;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PLAIN: &str = "[resource]\nname = \"swarm\"\n[[node]]\nname = \"one\"\naddress = \"a:1\"\ndisk = \"/d\"\n\
    [[node]]\nname = \"two\"\naddress = \"b:1\"\ndisk = \"/d\"\n# end\n";

/// A host with a configuration, and a folder for guests.
struct World {
    dir: tempfile::TempDir,
    secret: tls::Secret,
    home: Home,
    token: Token,
    listener: TcpListener,
    said: Mutex<Vec<String>>,
}

fn key() -> tls::Secret {
    tls::Secret::for_once().expect("a key")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("host.toml");
        std::fs::write(&file, PLAIN).expect("written");
        let name = Name::parse("swarm").expect("good");
        let secret = key();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let token = Token {
            name: name.clone(),
            address: Address::parse(&address).expect("good"),
            host: secret.public,
            secret: Secret::fresh().expect("chance"),
            expires: now() + 60,
            key_file: None,
        };
        let home = Home { file, name, node: NodeId(0), key: secret.public };
        World { dir, secret, home, token, listener, said: Mutex::default() }
    }

    /// The host, for `time`, while `guests` do something.
    fn host<T>(&self, time: Duration, guests: impl FnOnce() -> T) -> (Result<Joined>, T) {
        std::thread::scope(|scope| {
            let host = scope.spawn(|| {
                let listener = self.listener.try_clone().expect("cloned");
                let mut say = |text: &str| self.said.lock().expect("whole").push(text.to_owned());
                let (secret, token, home) = (&self.secret, &self.token, &self.home);
                Door::open(listener, secret, token, home, time, &mut say).expect("open").wait()
            });
            let done = guests();
            (host.join().expect("no panic"), done)
        })
    }

    fn said(&self) -> String {
        self.said.lock().expect("whole").join("\n")
    }

    fn guest_file(&self) -> PathBuf {
        self.dir.path().join("guest.toml")
    }

    /// The guest does all that it should.
    fn join(&self, secret: &tls::Secret) -> Result<Offered> {
        join(&self.token, secret, |offered| {
            let written = Written::beside(&self.guest_file(), offered.text.as_bytes());
            written.map(Some).map_err(|error| (Trouble::Io, error))
        })
    }

    fn with_secret(&self, secret: [u8; 16], expires: u64) -> Token {
        let (name, address) = (self.token.name.clone(), self.token.address.clone());
        let secret = Secret::new(secret);
        Token { name, address, host: self.token.host, secret, expires, key_file: None }
    }

    fn config(&self) -> String {
        String::from_utf8(config::read(&self.home.file).expect("read")).expect("text")
    }

    fn visit(&self, secret: &tls::Secret) -> Visit {
        connect(&self.token, secret).expect("connected")
    }
}

/// The session stands.
fn shake(visit: &mut Visit) {
    let until = Instant::now() + Duration::from_secs(5);
    while visit.line.peer().is_none() {
        assert_eq!(visit.turn(until).expect("a session"), None);
    }
}

/// What it proves in this session.
fn proof(visit: &Visit, token: &Token, secret: &tls::Secret) -> Message {
    let guest = &secret.public;
    let proof = visit.line.claimed(Role::Guest, token, guest, |claim| claim.prove(&token.secret));
    Message::Proof { expires: token.expires, proof: proof.expect("a session") }
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn both_know_each_other_afterwards_and_again() {
    let world = World::new();
    let guest = key();
    for _ in 0..2 {
        let (joined, offered) = world.host(LONG, || world.join(&guest));
        let joined = joined.expect("joined");
        assert_eq!((joined.node.as_str(), joined.key), ("two", guest.public));
        assert_eq!(offered.expect("joined").node, NodeId(1));
        let texts = [&world.home.file, &world.guest_file()]
            .map(|file| String::from_utf8(config::read(file).expect("read")).expect("text"));
        assert_eq!(texts[0], texts[1]);
        let config = Config::load_any(&world.home.file).expect("good");
        assert_eq!(config.net.security, Security::Tls);
        let keys = config.nodes.each_ref().map(|node| node.key.expect("a key"));
        assert_eq!(keys, [world.secret.public, guest.public]);
    }
    assert_eq!(std::fs::read_dir(world.dir.path()).expect("listed").count(), 2);
    // Another guest takes the place of the first, and that is said.
    let other = key();
    world.host(LONG, || world.join(&other)).0.expect("joined");
    assert!(world.said().contains(&guest.public.to_string()), "{}", world.said());
}

#[test]
fn a_wrong_token_gets_nothing_and_ten_end_it() {
    let world = World::new();
    let guest = key();
    let (host, ()) = world.host(LONG, || {
        for attempt in 0..PAIR_WRONG_MAX {
            let expires = world.token.expires - u64::from(attempt % 2);
            let wrong = world.with_secret([1; 16], expires);
            let error = join(&wrong, &guest, |_| unreachable!("nothing is offered"));
            let error = error.err().expect("refused").to_string();
            let words = ["does not know this token", "from an earlier"];
            assert!(error.contains(words[attempt as usize % 2]), "{error}");
        }
    });
    let error = host.expect_err("ended").to_string();
    assert!(error.contains("wrong proofs"), "{error}");
    assert_eq!(world.config(), PLAIN);
    assert!(world.said().contains("wrong proof 10"), "{}", world.said());
}

#[test]
fn a_token_that_has_expired_is_refused_with_the_reason_on_both() {
    let mut world = World::new();
    world.token.expires = now() + 2;
    let guest = key();
    let (host, said) = world.host(LONG, || {
        let mut visit = world.visit(&guest);
        shake(&mut visit);
        std::thread::sleep(Duration::from_millis(2100));
        visit.line.say(&proof(&visit, &world.token, &guest));
        visit.next(5).expect("an answer")
    });
    assert_eq!(said, Message::Refused(Refusal::Expired));
    assert_eq!(host.expect_err("expired").kind(), Kind::Timeout);
    assert!(world.said().contains("has expired"), "{}", world.said());
    assert_eq!(world.config(), PLAIN);
}

#[test]
fn a_proof_that_was_seen_elsewhere_is_worth_nothing() {
    let world = World::new();
    let guest = key();
    let (host, ()) = world.host(LONG, || {
        // The same guest, another session.
        let mut first = world.visit(&guest);
        shake(&mut first);
        let recorded = proof(&first, &world.token, &guest);
        drop(first);
        let mut second = world.visit(&guest);
        shake(&mut second);
        second.line.say(&recorded);
        assert_eq!(second.next(5).expect("an answer"), Message::Refused(Refusal::Wrong));
        // The token is as good as before.
        world.join(&guest).expect("joined");
    });
    assert_eq!(host.expect("joined").key, guest.public);
}

/// Accepts one guest with the key of `secret`, and returns what it says first.
fn pretend(
    listener: &TcpListener,
    secret: &tls::Secret,
) -> std::result::Result<(TcpStream, Line, Message), String> {
    let (stream, _) = listener.accept().expect("accepted");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
    let visited = Visited::new(secret).expect("good");
    let mut line = Line::new(visited.meet(PAIR_GUEST_BYTES_MAX).expect("good"));
    loop {
        let look = line.look(&mut &stream);
        line.flush(&mut &stream).expect("written");
        match look? {
            Look::Said(message) => return Ok((stream, line, message)),
            look => assert_eq!(look, Look::Wait),
        }
    }
}

#[test]
fn who_stands_between_the_nodes_gets_nothing() {
    let world = World::new();
    let (guest, thief) = (key(), key());
    let between = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut there = world.with_secret(*world.token.secret.bytes(), world.token.expires);
    there.address =
        Address::parse(&between.local_addr().expect("bound").to_string()).expect("good");
    let visitor = || join(&there, &guest, |_| unreachable!("nothing is offered"));
    // With a key of his own he is not talked to.
    let error = std::thread::scope(|scope| {
        let visit = scope.spawn(visitor);
        assert!(pretend(&between, &thief).is_err());
        visit.join().expect("no panic").err().expect("refused").to_string()
    });
    assert!(
        error.contains("not the one in the token") && error.contains(&thief.public.to_string()),
        "{error}"
    );
    // With the host's stolen key he gets a proof, which opens no other session.
    let (host, ()) = world.host(LONG, || {
        std::thread::scope(|scope| {
            let visit = scope.spawn(visitor);
            let (stream, mut line, heard) = pretend(&between, &world.secret).expect("a session");
            assert!(matches!(heard, Message::Proof { .. }));
            let mut relayed = world.visit(&thief);
            shake(&mut relayed);
            relayed.line.say(&heard);
            assert_eq!(relayed.next(5).expect("an answer"), Message::Refused(Refusal::Wrong));
            // Nor does he know what a host knows: his configuration is not taken.
            line.say(&Message::Offer { proof: [7; 32], config: PLAIN.into() });
            line.flush(&mut &stream).expect("written");
            let error = visit.join().expect("no panic").err().expect("refused").to_string();
            assert!(error.contains("does not know the token"), "{error}");
        });
        world.join(&guest).expect("the true one");
    });
    assert_eq!(host.expect("joined").key, guest.public);
}

#[test]
fn strangers_do_not_keep_the_guest_out() {
    let world = World::new();
    let guest = key();
    let address = world.listener.local_addr().expect("bound");
    let (host, took) = world.host(LONG, || {
        let mut strangers = Vec::new();
        for count in 0..5 * PAIR_GUESTS_MAX {
            let stranger = TcpStream::connect(address).expect("connected");
            // Some say nothing, some something, some have a session.
            if count % 3 == 1 {
                std::io::Write::write_all(&mut &stranger, &[0x16, 3, 1, 2, 0, 1]).expect("written");
            }
            strangers.push(stranger);
        }
        let visits: Vec<Visit> = (0..PAIR_GUESTS_MAX)
            .map(|_| {
                let mut visit = world.visit(&key());
                shake(&mut visit);
                visit
            })
            .collect();
        let begun = Instant::now();
        world.join(&guest).expect("joined");
        drop((strangers, visits));
        begun.elapsed()
    });
    assert_eq!(host.expect("joined").key, guest.public);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn strangers_are_let_go_by_bytes_and_seconds() {
    let world = World::new();
    let address = world.listener.local_addr().expect("bound");
    let time = Duration::from_secs(9);
    world
        .host(time, || {
            let begun = Instant::now();
            let silent = TcpStream::connect(address).expect("connected");
            silent.set_read_timeout(Some(Duration::from_secs(8))).expect("set");
            let greedy = TcpStream::connect(address).expect("connected");
            // A message of 64 KiB, of which less is looked at: it ends before it is whole, and long before its time.
            let mut sent = 0;
            while sent <= PAIR_GUEST_BYTES_MAX {
                let begin: &[u8] = if sent == 0 { &[1, 0, 0xff, 0xff] } else { &[0; 4] };
                let record = [&[0x16, 3, 3, 0x10, 0], begin, &[0; 4092]].concat();
                if std::io::Write::write_all(&mut &greedy, &record).is_err() {
                    break;
                }
                sent += record.len();
            }
            greedy.set_read_timeout(Some(Duration::from_secs(8))).expect("set");
            let ended = std::io::Read::read_to_end(&mut &greedy, &mut Vec::new());
            let waited = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
            assert!(!ended.is_err_and(|error| waited(&error)));
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
            assert_eq!(std::io::Read::read(&mut &silent, &mut [0; 10]).expect("closed"), 0);
            let took = begun.elapsed();
            assert!(took > Duration::from_secs(4) && took < Duration::from_secs(7), "{took:?}");
        })
        .0
        .expect_err("nobody");
}

#[test]
fn one_guest_joins_with_a_token() {
    let world = World::new();
    let [guest, other] = [key(), key()];
    let (host, ()) = world.host(LONG, || {
        // Both know it, ...
        let [mut first, mut second] = [&guest, &other].map(|secret| {
            let mut visit = world.visit(secret);
            shake(&mut visit);
            visit.line.say(&proof(&visit, &world.token, secret));
            assert!(matches!(visit.next(5).expect("an answer"), Message::Offer { .. }));
            visit
        });
        // ... one is kept, ...
        first.line.say(&Message::Ready);
        assert_eq!(first.next(5).expect("an answer"), Message::Written);
        second.line.say(&Message::Ready);
        assert_eq!(second.next(5).expect("an answer"), Message::Refused(Refusal::Used));
        // ... also if it is lost then: it alone may come again.
        drop(first);
        let error = world.join(&other).err().expect("refused").to_string();
        assert!(error.contains("another node has joined"), "{error}");
        world.join(&guest).expect("joined");
    });
    assert_eq!(host.expect("joined").key, guest.public);
    assert!(world.config().contains(&guest.public.to_string()));
    assert!(!world.config().contains(&other.public.to_string()));
    assert!(world.said().contains("once more"), "{}", world.said());
}

#[test]
fn a_copied_key_is_no_second_node() {
    let world = World::new();
    let (host, error) = world.host(Duration::from_secs(2), || world.join(&world.secret));
    let error = error.err().expect("refused").to_string();
    assert!(error.contains("same private key") && error.contains("keygen"), "{error}");
    host.expect_err("nobody");
    assert_eq!(world.config(), PLAIN);
}

#[test]
fn a_guest_that_cannot_leaves_the_host_as_it_was() {
    let world = World::new();
    let guest = key();
    let (host, ()) = world.host(LONG, || {
        let error = join(&world.token, &guest, |_| {
            Err((Trouble::Exists, crate::error::Error::new(Kind::Refused, "it has another")))
        });
        assert!(error.err().expect("refused").to_string().contains("it has another"));
        assert_eq!(world.config(), PLAIN);
        world.join(&guest).expect("the token is still good");
    });
    host.expect("joined");
    assert!(world.said().contains("another configuration"), "{}", world.said());
}

#[test]
fn a_file_that_somebody_changes_meanwhile_is_not_overwritten() {
    let world = World::new();
    let guest = key();
    let theirs = PLAIN.replace("# end", "# theirs");
    let (host, ()) = world.host(LONG, || {
        let error = join(&world.token, &guest, |offered| {
            std::fs::write(&world.home.file, &theirs).expect("written");
            let written = Written::beside(&world.guest_file(), offered.text.as_bytes());
            Ok(Some(written.expect("written")))
        });
        assert!(!world.guest_file().exists(), "the guest goes ahead of the host");
        let error = error.err().expect("refused").to_string();
        assert!(error.contains("write its own configuration"), "{error}");
        assert_eq!(world.config(), theirs);
        world.join(&guest).expect("joined");
    });
    host.expect("joined");
    assert!(world.config().contains("# theirs") && world.config().contains("tls"));
}

#[test]
fn another_protocol_at_the_port_is_told_from_pairing() {
    let world = World::new();
    let guest = key();
    let setup = tls::Setup::new(&world.secret, &[guest.public]).expect("good");
    let error = std::thread::scope(|scope| {
        let visit = scope.spawn(|| {
            let mut visit = world.visit(&guest);
            visit.prove(&world.token, &guest)
        });
        let (stream, _) = world.listener.accept().expect("accepted");
        let mut daemon = setup.accept().expect("good");
        let failed = loop {
            let bytes = std::io::Read::read(&mut &stream, daemon.room()).expect("read");
            daemon.received(bytes);
            if let Err(why) = daemon.shake() {
                break why;
            }
        };
        let mut last = Vec::new();
        daemon.take_control(&mut last);
        std::io::Write::write_all(&mut &stream, &last).expect("written");
        assert!(!failed.is_empty());
        visit.join().expect("no panic").expect_err("refused")
    });
    let Lost::Bad(why) = error else { panic!("{error:?}") };
    assert!(why.contains("perhaps the daemon"), "{why}");
}
