//! Links within TLS: the same messages, by the same rules, and strangers who get nothing.

use super::*;
use crate::io::tls::Setup;
use crate::io::tls::testing::{ends, secret, setups};

impl Two {
    /// Both within TLS, shaken hands.
    fn secure(pair: Pair, buffers: usize, faults: &str, seed: u64) -> Two {
        let mut two = Two::unshaken(pair, buffers, faults, seed, &setups());
        two.shake();
        two
    }

    fn unshaken(pair: Pair, buffers: usize, faults: &str, seed: u64, setups: &[Setup; 2]) -> Two {
        let mut two = Two::new(unix_pair(), buffers, faults, seed);
        let [dials, accepts] = ends(setups);
        two.links = [Link::secure(pair.0, 0, dials), Link::secure(pair.1, 1, accepts)];
        for link in &mut two.links {
            link.faults = Faults::parse(faults).expect("valid");
        }
        two
    }

    /// Until either side has said something; what that was.
    fn turn(&mut self) -> [Option<LinkEvent>; 2] {
        let Two { io, links, .. } = self;
        loop {
            let said = links.each_mut().map(|link| link.poll(io));
            if said.iter().any(Option::is_some) {
                return said;
            }
            links.iter_mut().for_each(|link| link.flush(io));
            io.ring.wait(Some(Duration::from_secs(20))).expect("usable");
            while let Some(done) = io.ring.next() {
                links[usize::from(done.token.instance())].on_completion(io, done);
            }
        }
    }

    fn shake(&mut self) {
        let mut secured = [false; 2];
        while secured != [true; 2] {
            for (side, event) in self.turn().into_iter().enumerate() {
                match event {
                    None => {}
                    Some(LinkEvent::Secured { key }) => {
                        assert!(key.is_some() && !secured[side], "once, with a key");
                        secured[side] = true;
                    }
                    Some(other) => panic!("{other:?}"),
                }
            }
        }
    }

    /// Why each side closes.
    fn whys(&mut self) -> [String; 2] {
        let mut whys = [const { String::new() }; 2];
        while whys.iter().any(String::is_empty) {
            for (side, event) in self.turn().into_iter().enumerate() {
                match event {
                    Some(LinkEvent::Closed { why }) => whys[side] = why,
                    Some(LinkEvent::Received { .. }) => panic!("side {side} believed something"),
                    Some(LinkEvent::Secured { .. }) | None => {}
                }
            }
        }
        whys
    }
}

#[test]
fn thousands_of_messages_arrive_whole_and_in_order_within_tls() {
    for (pair, seed) in [(unix_pair(), 11), (tcp_pair(), 12)] {
        let mut two = Two::secure(pair, 32, CLEAN, seed);
        two.exchange(4000);
        two.close();
    }
}

#[test]
fn every_place_in_a_record_may_be_cut() {
    let mut two = Two::secure(tcp_pair(), 16, "short-read=1,short-write=2,eagain=7", 13);
    two.exchange(300);
    two.close();
    let mut two = Two::secure(tcp_pair(), 4, CLEAN, 14);
    two.exchange(1000);
    two.close();
}

#[test]
fn nothing_is_sent_before_the_other_end_is_known() {
    let (ours, theirs) = unix_pair();
    let [dials, _] = ends(&setups());
    let mut io = Io::new(16, 4, IO_BYTES_MAX).expect("io_uring");
    let mut link = Link::secure(ours, 0, dials);
    link.send(&mut io, &Message::Ping, Body::None);
    let mut peer = UnixStream::from(theirs);
    let mut got = vec![0; 4096];
    let mut bytes = 0;
    peer.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
    for _ in 0..3 {
        assert!(link.poll(&mut io).is_none());
        link.flush(&mut io);
        io.ring.wait(Some(Duration::from_millis(10))).expect("usable");
        while let Some(done) = io.ring.next() {
            link.on_completion(&mut io, done);
        }
        bytes += peer.read(&mut got[bytes..]).unwrap_or(0);
    }
    let hello = &got[..bytes];
    assert_eq!(hello.len(), 5 + usize::from(hello[3]) * 256 + usize::from(hello[4]), "one record");
    assert_eq!(hello[0], 0x16, "a handshake");
}

#[test]
fn a_wrong_key_lets_nobody_in_and_both_say_why() {
    let (one, two, other) = (secret(), secret(), secret());
    let setup =
        |own, peer: &crate::io::tls::Secret| Setup::new(own, &[peer.public]).expect("valid");
    for setups in
        [[setup(&one, &two), setup(&two, &other)], [setup(&one, &other), setup(&two, &one)]]
    {
        let mut pair = Two::unshaken(tcp_pair(), 4, CLEAN, 15, &setups);
        for link in &mut pair.links {
            link.send(&mut pair.io, &Message::Ping, Body::None);
        }
        let whys = pair.whys();
        assert!(
            whys.iter().any(|why| why.contains("which is not configured as its own")),
            "{whys:?}"
        );
        assert!(whys.iter().any(|why| why.contains("does not accept this node's key")), "{whys:?}");
    }
}

#[test]
fn with_and_without_tls_do_not_meet_and_both_say_why() {
    for dialler_has_tls in [false, true] {
        let [dials, accepts] = ends(&setups());
        let (a, b) = tcp_pair();
        let mut pair = Two::new(unix_pair(), 4, CLEAN, 16);
        pair.links = match dialler_has_tls {
            true => [Link::secure(a, 0, dials), Link::new(b, 1)],
            false => [Link::new(a, 0), Link::secure(b, 1, accepts)],
        };
        pair.links[0].send(&mut pair.io, &Message::Ping, Body::None);
        for why in pair.whys() {
            assert!(why.contains("`security` in [net] must be the same on both nodes"), "{why}");
        }
    }
}

#[test]
fn a_link_that_is_given_up_in_the_handshake_ends() {
    for draining in [false, true] {
        let mut rig = Rig::new(CLEAN);
        let (ours, theirs) = unix_pair();
        let [_, accepts] = ends(&setups());
        rig.link = Link::secure(ours, 0, accepts);
        rig.peer = theirs.into();
        assert!(rig.poll().is_none());
        rig.link.close(&mut rig.io, draining);
        rig.why();
    }
}

#[test]
fn the_last_words_arrive_and_then_the_end() {
    let mut two = Two::secure(tcp_pair(), 8, "short-write=3", 17);
    let bye = Message::Bye { outdated: true };
    for _ in 0..50 {
        two.links[0].send(&mut two.io, &bye, Body::None);
    }
    two.links[0].close(&mut two.io, true);
    let (mut heard, mut closed) = (0, 0);
    while closed < 2 {
        for event in two.turn().into_iter().flatten() {
            match event {
                LinkEvent::Received { message, .. } => {
                    assert_eq!(message, bye);
                    heard += 1;
                }
                LinkEvent::Closed { why } => {
                    assert!(why.contains("The peer closed the connection"), "{why}");
                    closed += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(heard, 50);
}
