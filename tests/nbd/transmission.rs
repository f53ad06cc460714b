//! Requests and replies, byte by byte, and the end of the server.

use super::raw::{COOKIE, Raw, Reply, named, request};
use super::server::{Plan, Seen, Server};
use rblk::limits::{FRONT_REQUESTS_MAX, NBD_CLIENTS_MAX, NBD_REQUESTS_RESERVED};

const EIO: u32 = 5;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const ESHUTDOWN: u32 = 108;

fn write(raw: &mut Raw, flags: u16, offset: u64, payload: &[u8]) -> u32 {
    let header = request(1, flags, offset, payload.len() as u32);
    raw.ask(&[&header[..], payload].concat(), 0).0
}

#[test]
fn a_refused_request_leaves_the_stream_in_step() {
    let server = Server::start(&Plan { block_bytes: 4096, discard: false, ..Plan::default() });
    let mut raw = Raw::begin(&server);
    let end = 64 << 20;
    assert_eq!(write(&mut raw, 0, end, &[1; 4096]), ENOSPC);
    assert_eq!(write(&mut raw, 0, end - 4096, &vec![1; 1 << 20]), ENOSPC);
    assert_eq!(write(&mut raw, 0, 512, &[1; 4096]), EINVAL);
    assert_eq!(write(&mut raw, 0, 0, &[1; 7]), EINVAL);
    assert_eq!(write(&mut raw, 0x8000, 0, &[1; 4096]), EINVAL);
    assert_eq!(write(&mut raw, 0, 0, &[]), 0);
    assert_eq!(raw.ask(&request(0, 0, end, 4096), 4096).0, EINVAL);
    assert_eq!(raw.ask(&request(0, 0, 0, u32::MAX), 0).0, EINVAL);
    assert_eq!(raw.ask(&request(0, 0, 0, 0), 0).0, 0);
    assert_eq!(raw.ask(&request(4, 0, 0, 4096), 0).0, EINVAL);
    assert_eq!(raw.ask(&request(6, 0, end, 4096), 0).0, ENOSPC);
    assert_eq!(raw.ask(&request(7, 0, 0, 4096), 0).0, EINVAL);
    assert_eq!(raw.ask(&request(99, 0, 0, 4096), 0).0, EINVAL);
    assert_eq!(raw.ask(&request(3, 1, 0, 0), 0).0, 0);
    assert_eq!(write(&mut raw, 1, 4096, &[3; 4096]), 0);
    assert_eq!(raw.ask(&request(0, 0, 4096, 4096), 4096).1, [3; 4096]);
}

#[test]
fn requests_of_all_sizes_survive_the_cut_into_pieces() {
    for buffers in [2, 128] {
        let server = Server::start(&Plan { buffers, ..Plan::default() });
        let mut raw = Raw::begin(&server);
        let mut offset = 512;
        for sectors in [1u64, 8, 31, 32, 33, 255, 256, 257, 2048, 65535, 65536] {
            let bytes = (sectors * 512) as usize;
            let payload: Vec<u8> = (0..bytes).map(|i| (i / 512 + i) as u8).collect();
            assert_eq!(write(&mut raw, 0, offset, &payload), 0);
            let (error, data) = raw.ask(&request(0, 0, offset, bytes as u32), bytes);
            assert!(error == 0 && data == payload, "{sectors} sectors");
            offset = (offset + sectors * 512) % (31 << 20);
            offset -= offset % 512;
        }
        // The longest of those without payload: the whole volume, in pieces of its own.
        assert_eq!(raw.ask(&request(6, 2, 0, 64 << 20), 0).0, 0);
        assert!(server.stop().iter().all(|&byte| byte == 0));
    }
}

#[test]
fn clients_get_the_data_and_not_what_a_disk_that_hung_reads_late() {
    let plan = Plan { hangs: true, buffers: 2 * FRONT_REQUESTS_MAX, ..Plan::default() };
    let server = Server::start(&plan);
    let mut raw = Raw::begin(&server);
    // More than there are pieces: those that were sent go on with the rest.
    let payload: Vec<u8> = (0..32usize << 20).map(|i| (i / 4096) as u8).collect();
    assert_eq!(write(&mut raw, 0, 0, &payload), 0);
    for _ in 0..2 {
        let (error, data) = raw.ask(&request(0, 0, 0, 32 << 20), 32 << 20);
        assert!(error == 0 && data == payload);
    }
}

#[test]
fn flags_reach_the_core() {
    let server = Server::start(&Plan::default());
    let mut raw = Raw::begin(&server);
    // Two pieces each.
    let payload = vec![1; 256 << 10];
    assert_eq!(write(&mut raw, 1, 0, &payload), 0);
    assert_eq!(write(&mut raw, 0, 0, &payload), 0);
    for (kind, flags) in [(6, 0), (6, 1), (6, 2), (4, 0), (4, 1)] {
        assert_eq!(raw.ask(&request(kind, flags, 0, 64 << 20), 0).0, 0);
    }
    assert_eq!(raw.ask(&request(3, 0, 0, 0), 0).0, 0);
    let expected = Seen {
        fua_writes: 2,
        fua_zeroes: 4,
        discards: 4,
        zeroes: 4,
        zeroes_allocated: 2,
        flushes: 1,
    };
    assert_eq!(server.seen(), expected);
}

#[test]
fn a_large_write_goes_on_when_all_its_pieces_were_held() {
    let server = Server::start(&Plan::default());
    server.hold(true);
    let mut raw = Raw::begin(&server);
    let writer = std::thread::spawn(move || {
        assert_eq!(write(&mut raw, 0, 0, &vec![7; 32 << 20]), 0);
    });
    let alone = FRONT_REQUESTS_MAX - NBD_REQUESTS_RESERVED * (NBD_CLIENTS_MAX - 1);
    server.until("it has all it may have", |server| server.in_flight() == alone);
    server.hold(false);
    writer.join().expect("it is answered");
    assert!(server.stop()[..32 << 20].iter().all(|&byte| byte == 7));
}

#[test]
fn clients_that_wait_all_get_their_turn() {
    let server = Server::start(&Plan::default());
    server.hold(true);
    let writers: Vec<_> = (0..6u8)
        .map(|number| {
            let mut raw = Raw::begin(&server);
            std::thread::spawn(move || {
                let offset = u64::from(number) << 23;
                assert_eq!(write(&mut raw, 0, offset, &vec![number; 8 << 20]), 0);
            })
        })
        .collect();
    let six = FRONT_REQUESTS_MAX - NBD_REQUESTS_RESERVED * (NBD_CLIENTS_MAX - 6);
    server.until("they have all they may have", |server| server.in_flight() == six);
    server.hold(false);
    writers.into_iter().for_each(|writer| writer.join().expect("it is answered"));
    let data = server.stop();
    for number in 0..6u8 {
        let start = usize::from(number) << 23;
        assert!(data[start..start + (8 << 20)].iter().all(|&byte| byte == number));
    }
}

#[test]
fn a_read_error_is_told_and_a_late_one_closes() {
    let server = Server::start(&Plan { bad: (1 << 20)..(1 << 20) + 512, ..Plan::default() });
    let mut raw = Raw::begin(&server);
    assert_eq!(raw.ask(&request(0, 0, 1 << 20, 4096), 4096).0, EIO);
    // Before the bad piece is met, its header is out and much has been sent.
    let mut late = Raw::begin(&server);
    late.say(&request(0, 0, 1 << 20, 32 << 20));
    assert_eq!(late.reply(), Reply { error: EIO, cookie: COOKIE });
    let server = Server::start(&Plan { bad: (30 << 20)..(30 << 20) + 512, ..Plan::default() });
    let mut late = Raw::begin(&server);
    late.say(&request(0, 0, 0, 32 << 20));
    let bytes = late.until_closed().len();
    assert!((16..30 << 20).contains(&(bytes - 16)), "{bytes} bytes of a failed read");
}

#[test]
fn disc_lets_everything_be_answered_first() {
    let server = Server::start(&Plan::default());
    server.hold(true);
    let mut raw = Raw::begin(&server);
    raw.say(&[named(1, 1, 0, 0, 4096), vec![5; 4096]].concat());
    raw.say(&[named(2, 3, 0, 0, 0), request(2, 0, 0, 0)].concat());
    server.until("both are with the core", |server| server.in_flight() == 2);
    server.hold(false);
    let mut cookies = [raw.reply().cookie, raw.reply().cookie];
    cookies.sort_unstable();
    assert_eq!(cookies, [1, 2]);
    assert_eq!(raw.until_closed(), b"");
}

#[test]
fn stopping_finishes_what_is_in_flight_and_refuses_the_rest() {
    let server = Server::start(&Plan::default());
    let mut idle = Raw::begin(&server);
    let mut asking = Raw::greeted(&server);
    let mut busy = Raw::begin(&server);
    server.hold(true);
    busy.say(&[named(1, 1, 0, 0, 4096), vec![6; 4096]].concat());
    server.until("it is with the core", |server| server.in_flight() == 1);
    server.begin_stop();
    assert_eq!(idle.until_closed(), b"");
    assert_eq!(asking.until_closed(), b"");
    busy.say(&[named(2, 1, 0, 4096, 4096), vec![6; 4096]].concat());
    assert_eq!(busy.reply(), Reply { error: ESHUTDOWN, cookie: 2 });
    assert!(!std::path::Path::new(&server.place).exists(), "the socket is gone");
    server.hold(false);
    assert_eq!(busy.reply(), Reply { error: 0, cookie: 1 });
    assert_eq!(busy.until_closed(), b"");
    let data = server.stop();
    assert_eq!((data[0], data[4096]), (6, 0));
}

#[test]
fn stopping_does_not_wait_for_ever_for_a_client() {
    let server = Server::start(&Plan::default());
    let mut half = Raw::begin(&server);
    half.say(&request(1, 0, 0, 1 << 20));
    let mut deaf = Raw::begin(&server);
    deaf.say(&request(0, 0, 0, 32 << 20));
    assert_eq!(server.openers().len(), 2);
    server.stop();
}

#[test]
fn openers_are_those_inside() {
    let server = Server::start(&Plan::default());
    let _knocking = Raw::greeted(&server);
    assert!(server.openers().is_empty());
    let inside = Raw::begin(&server);
    let expected = format!("NBD client pid {} of uid ", std::process::id());
    assert!(server.openers()[0].starts_with(&expected), "{:?}", server.openers());
    drop(inside);
    server.until("it is gone", |server| server.openers().is_empty());
    let server = Server::start(&Plan { tcp: true, ..Plan::default() });
    let _inside = Raw::begin(&server);
    assert!(server.openers()[0].starts_with("NBD client 127.0.0.1:"));
}
