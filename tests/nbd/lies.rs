//! Clients that lie, stall or vanish. Each harms only itself: an honest one is served throughout.

use super::raw::{Raw, named, option, request};
use super::server::{Plan, Server};
use rblk::limits::{FRONT_REQUESTS_MAX, NBD_CLIENTS_MAX};
use std::time::{Duration, Instant};

/// A client that is served as if nobody else were there.
fn assert_served(honest: &mut Raw) {
    assert_eq!(honest.ask(&request(0, 0, 4096, 4096), 4096).0, 0);
}

/// Says `lie` after the greeting and expects to be cut off.
fn cut_off_for(server: &Server, lie: &[u8]) {
    let mut liar = Raw::greeted(server);
    liar.say(lie);
    liar.until_closed();
}

#[test]
fn lies_in_the_handshake() {
    let server = Server::start(&Plan::default());
    let mut honest = Raw::begin(&server);
    let flags = 3u32.to_be_bytes();
    cut_off_for(&server, &[0xff; 4]);
    cut_off_for(&server, &[&flags[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
    let four_gib = [&flags[..], b"IHAVEOPT", &[0, 0, 0, 7], &[0xff; 4]].concat();
    cut_off_for(&server, &four_gib);
    cut_off_for(&server, &[&flags[..], &option(1, b"no such export")].concat());
    assert_served(&mut honest);
}

#[test]
fn malformed_options_are_answered() {
    let server = Server::start(&Plan::default());
    let mut raw = Raw::greeted(&server);
    raw.say(&3u32.to_be_bytes());
    let unsup = 0x8000_0001u32;
    let invalid = 0x8000_0003u32;
    let unknown = 0x8000_0006u32;
    for (sent, kind) in [
        (option(5, b""), unsup),
        (option(8, b""), unsup),
        (option(10, b"\0\0\0\0\0\0\0\x01\0\0\0\x0fbase:allocation"), unsup),
        (option(0xffff_ffff, &[7; 8000]), unsup),
        (option(7, b""), invalid),
        (option(7, b"\xff\xff\xff\xff\0\0"), invalid),
        (option(6, b"\0\0\0\0\xff\xff"), invalid),
        (option(7, b"\0\0\0\x01x\0\0"), unknown),
        (option(3, b"x"), invalid),
    ] {
        raw.say(&sent);
        let reply = raw.read(20);
        assert_eq!(reply[..8], 0x3e889045565a9u64.to_be_bytes());
        assert_eq!(reply[8..12], sent[8..12]);
        assert_eq!(reply[12..16], kind.to_be_bytes());
        assert_eq!(reply[16..], [0; 4]);
    }
    raw.say(&option(2, b""));
    assert_eq!(raw.until_closed()[12..16], 1u32.to_be_bytes(), "ABORT is acknowledged");
}

#[test]
fn options_without_end_are_cut_off() {
    let server = Server::start(&Plan::default());
    let mut liar = Raw::greeted(&server);
    liar.say(&3u32.to_be_bytes());
    for _ in 0..1000 {
        if liar.try_say(&option(99, &[0; 1000])).is_err() {
            break;
        }
    }
    let answers = liar.until_closed().len() / 20;
    assert!(answers < 70, "{answers} options were answered");
}

#[test]
fn a_handshake_has_a_deadline() {
    let server = Server::start(&Plan::default());
    let mut honest = Raw::begin(&server);
    let mut silent = Raw::connect(&server);
    let mut slow = Raw::greeted(&server);
    slow.say(&3u32.to_be_bytes());
    let start = Instant::now();
    // A byte every second, for ever.
    let long = option(99, &[0; 100]);
    for byte in long.iter().cycle() {
        if slow.try_say(&[*byte]).is_err() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_secs(1));
    }
    silent.until_closed();
    assert_served(&mut honest);
    assert_eq!(server.openers().len(), 1);
}

#[test]
fn a_client_too_many_is_turned_away() {
    let server = Server::start(&Plan::default());
    let mut clients: Vec<Raw> = (0..NBD_CLIENTS_MAX).map(|_| Raw::begin(&server)).collect();
    assert_eq!(server.openers().len(), NBD_CLIENTS_MAX);
    assert_eq!(Raw::connect(&server).until_closed(), b"");
    clients.iter_mut().for_each(assert_served);
    drop(clients.pop());
    server.until("a place is free", |server| server.openers().len() < NBD_CLIENTS_MAX);
    assert_served(&mut Raw::begin(&server));
}

#[test]
fn lies_in_requests() {
    let server = Server::start(&Plan::default());
    let mut honest = Raw::begin(&server);
    let mut liar = Raw::begin(&server);
    liar.say(&[0x42; 28]);
    assert_eq!(liar.until_closed(), b"");
    let mut liar = Raw::begin(&server);
    liar.say(&request(1, 0, 0, (32 << 20) + 512));
    assert_eq!(liar.until_closed(), b"");
    // Truncated in the header, then in the payload.
    let mut liar = Raw::begin(&server);
    liar.say(&request(0, 0, 0, 512)[..20]);
    drop(liar);
    let mut liar = Raw::begin(&server);
    liar.say(&request(1, 0, 0, 1 << 20));
    liar.say(&[0x55; 300_000]);
    drop(liar);
    server.until("liars are gone", |server| server.openers().len() == 1);
    assert_served(&mut honest);
}

#[test]
fn garbage_of_any_kind_is_survived() {
    let server = Server::start(&Plan::default());
    let mut honest = Raw::begin(&server);
    let mut state = 88172645463325252u64;
    for round in 0..200 {
        let mut raw = if round % 2 == 0 { Raw::greeted(&server) } else { Raw::begin(&server) };
        for _ in 0..20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let kind = (state >> 8) as u16 % 8;
            let mut bytes = if round % 2 == 0 {
                option(u32::from(kind), &state.to_be_bytes()[..(state % 9) as usize])
            } else {
                request(kind, (state % 5) as u16, state % (70 << 20), (state >> 20) as u32 % 9999)
            };
            let bytes_max = bytes.len();
            if state.is_multiple_of(7) {
                bytes[(state >> 32) as usize % bytes_max] ^= 0x10;
            }
            if raw.try_say(&bytes).is_err() {
                break;
            }
        }
    }
    assert_served(&mut honest);
    server.until("all of it is over", |server| server.openers().len() == 1);
}

#[test]
fn a_client_that_vanishes_leaves_nothing_behind() {
    let server = Server::start(&Plan::default());
    server.hold(true);
    let mut raw = Raw::begin(&server);
    raw.say(&[request(1, 0, 0, 4096), vec![7; 4096]].concat());
    raw.say(&request(0, 0, 0, 1 << 20));
    raw.say(&request(3, 0, 0, 0));
    raw.say(&request(1, 0, 8192, 4096));
    raw.say(&[8; 100]);
    server.until("all are with the core", |server| server.in_flight() == 10);
    drop(raw);
    server.until("it is gone", |server| server.openers().is_empty());
    server.hold(false);
    let mut honest = Raw::begin(&server);
    assert_eq!(honest.ask(&request(0, 0, 0, 4096), 4096).1, [7; 4096]);
    let data = server.stop();
    assert!(data[8192..12288].iter().all(|&byte| byte == 0), "half a write was carried out");
}

#[test]
fn who_does_not_read_its_replies_slows_only_itself() {
    let server = Server::start(&Plan::default());
    let mut hogs = Vec::new();
    for _ in 0..NBD_CLIENTS_MAX - 1 {
        let mut hog = Raw::begin(&server);
        // More than all pieces, and more bytes than a socket holds.
        let reads: Vec<u8> = (0..FRONT_REQUESTS_MAX as u64)
            .flat_map(|cookie| named(cookie, 0, 0, 0, 1 << 20))
            .collect();
        hog.say(&reads);
        hogs.push(hog);
    }
    let mut honest = Raw::begin(&server);
    for _ in 0..100 {
        assert_served(&mut honest);
        assert_eq!(honest.ask(&request(0, 0, 0, 8 << 20), 8 << 20).0, 0);
    }
    // And a hog that reads after all gets everything.
    let mut hog = hogs.pop().expect("one of them");
    for _ in 0..FRONT_REQUESTS_MAX {
        assert_eq!(hog.reply().error, 0);
        hog.read(1 << 20);
    }
}

#[test]
fn half_a_write_from_everyone_stops_nobody() {
    let server = Server::start(&Plan { buffers: 40, ..Plan::default() });
    let mut stalled = Vec::new();
    for _ in 0..NBD_CLIENTS_MAX - 1 {
        let mut raw = Raw::begin(&server);
        raw.say(&request(1, 0, 0, 32 << 20));
        raw.say(&[1; 200_000]);
        stalled.push(raw);
    }
    let mut honest = Raw::begin(&server);
    for _ in 0..10 {
        assert_served(&mut honest);
    }
}

#[test]
fn everything_may_arrive_byte_by_byte() {
    let server = Server::start(&Plan::default());
    let mut raw = Raw::connect(&server);
    assert_eq!(raw.read(18).len(), 18);
    for byte in [&3u32.to_be_bytes()[..], &option(7, b"\0\0\0\x03vol\0\0")].concat() {
        raw.say(&[byte]);
    }
    // EXPORT, BLOCK_SIZE, ACK.
    assert_eq!(raw.read(32 + 34 + 20).len(), 86);
    for byte in [request(1, 0, 0, 512), vec![9; 512]].concat() {
        raw.say(&[byte]);
    }
    assert_eq!(raw.reply().error, 0);
    for byte in request(0, 0, 0, 512) {
        raw.say(&[byte]);
    }
    assert_eq!(raw.reply().error, 0);
    assert_eq!(raw.read(512), [9; 512]);
}
