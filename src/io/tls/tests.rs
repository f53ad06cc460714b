//! Two sessions without a socket, and what may stand between them.

use super::*;
use crate::io::tls::{Secret, Setup};

/// A key of its own.
pub(crate) fn secret() -> Secret {
    Secret::for_once().expect("random bytes")
}

/// Both ends, each with the other's key.
pub(crate) fn setups() -> [Setup; 2] {
    let (one, two) = (secret(), secret());
    [
        Setup::new(&one, &[two.public]).expect("valid"),
        Setup::new(&two, &[one.public]).expect("valid"),
    ]
}

/// One that dials, and one that is dialled.
pub(crate) fn ends([one, two]: &[Setup; 2]) -> [Session; 2] {
    let nowhere = std::net::IpAddr::from([127, 0, 0, 1]);
    [one.dial(nowhere).expect("begins"), two.accept().expect("begins")]
}

/// Brings `bytes` to `to`, at most `piece` at a time, and hands what it opens to `got`.
fn bring(
    to: &mut Session,
    mut bytes: &[u8],
    piece: usize,
    got: &mut Vec<u8>,
) -> Result<(), String> {
    while !bytes.is_empty() {
        let room = to.room();
        let part = piece.min(room.len()).min(bytes.len());
        room[..part].copy_from_slice(&bytes[..part]);
        to.received(part);
        bytes = &bytes[part..];
        if to.shake()? {
            while to.open(|plain| got.extend_from_slice(plain))? {}
        }
    }
    Ok(())
}

fn said(by: &mut Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    by.take_control(&mut bytes);
    bytes
}

/// The handshake to its end; how it ended on either side.
fn shake(pair: &mut [Session; 2], piece: usize) -> [Result<bool, String>; 2] {
    let mut ended = pair.each_mut().map(Session::shake);
    let mut nothing = Vec::new();
    for turn in 0..8 {
        let (from, to) = (turn % 2, 1 - turn % 2);
        let words = said(&mut pair[from]);
        // Who has failed listens no more.
        if ended[to].is_ok() && !words.is_empty() {
            let heard = bring(&mut pair[to], &words, piece, &mut nothing);
            ended[to] = heard.map(|()| pair[to].is_open());
        }
    }
    assert!(nothing.is_empty());
    ended
}

fn open_pair() -> [Session; 2] {
    let mut pair = ends(&setups());
    assert_eq!(shake(&mut pair, usize::MAX), [Ok(true), Ok(true)]);
    pair
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 7) as u8).collect()
}

/// `plain` in records of `record` bytes each.
fn records(by: &mut Session, plain: &[u8], record: usize) -> Vec<Vec<u8>> {
    let seal = |part: &[u8]| {
        let mut out = Vec::new();
        by.seal(part, &mut out).expect("open");
        out
    };
    plain.chunks(record).map(seal).collect()
}

#[test]
fn two_that_know_each_other_talk_however_it_is_cut() {
    for piece in [1, 7, 100, 5000, usize::MAX] {
        let mut pair = ends(&setups());
        assert_eq!(shake(&mut pair, piece), [Ok(true), Ok(true)], "pieces of {piece}");
        let plain = pattern(40_000);
        for (from, to) in [(0, 1), (1, 0)] {
            let sealed = records(&mut pair[from], &plain, 16 << 10).concat();
            assert!(!sealed.windows(16).any(|part| part == &plain[..16]));
            let mut got = Vec::new();
            bring(&mut pair[to], &sealed, piece, &mut got).expect("right");
            assert!(got == plain, "pieces of {piece}");
        }
    }
}

#[test]
fn the_key_that_was_shown_is_known() {
    let (one, two) = (secret(), secret());
    let more = secret().public;
    let mut pair = ends(&[
        Setup::new(&one, &[more, two.public]).expect("valid"),
        Setup::new(&two, &[one.public, more]).expect("valid"),
    ]);
    assert_eq!(shake(&mut pair, usize::MAX), [Ok(true), Ok(true)], "any of the keys will do");
    assert_eq!(pair[0].peer(), Some(two.public));
    assert_eq!(pair[1].peer(), Some(one.public));
}

#[test]
fn a_wrong_key_is_refused_by_either_side_and_told_to_the_other() {
    let (one, two, other) = (secret(), secret(), secret());
    let setup = |own: &Secret, peer: &Secret| Setup::new(own, &[peer.public]).expect("valid");
    let mut pair = ends(&[setup(&one, &other), setup(&two, &one)]);
    let [dialler, listener] = shake(&mut pair, usize::MAX).map(|end| end.expect_err("wrong key"));
    assert!(dialler.contains(&two.public.to_string()), "{dialler}");
    assert!(listener.contains("does not accept this node's key"), "{listener}");
    assert!(pair.iter().all(|end| !end.is_open() && end.peer().is_none()));

    let mut pair = ends(&[setup(&one, &two), setup(&two, &other)]);
    let [dialler, listener] = shake(&mut pair, usize::MAX);
    // The client has done its part before the server looks at its key.
    let dialler = dialler.expect_err("told");
    assert!(dialler.contains("does not accept this node's key"), "{dialler}");
    let listener = listener.expect_err("wrong key");
    assert!(listener.contains(&one.public.to_string()), "{listener}");
    assert!(!pair[1].is_open() && pair[1].peer().is_none());
    assert!(pair[1].open(|_| panic!("nothing is handed out")).is_ok());
}

#[test]
fn a_changed_byte_ends_the_session_and_is_never_data() {
    let plain = pattern(600);
    for at in 0..3 * 222 {
        let [mut one, mut two] = open_pair_quick();
        let mut sealed = records(&mut one, &plain, 200).concat();
        assert_eq!(sealed.len(), 3 * 222);
        sealed[at] ^= 1 << (at % 8);
        let mut got = Vec::new();
        let ended = bring(&mut two, &sealed, usize::MAX, &mut got);
        match at % 222 {
            // Type and version of a sealed record mean nothing any more: the true type is inside.
            0..3 => assert!(ended.is_err() || got == plain, "byte {at}"),
            // A length that has grown waits for more than there is.
            3 | 4 => assert!(got.len() <= at / 222 * 200, "byte {at}"),
            _ => assert!(ended.is_err() && got.len() <= at / 222 * 200, "byte {at}"),
        }
        assert!(plain.starts_with(&got), "byte {at}");
        if ended.is_err() {
            assert!(!two.is_open() && two.open(|_| panic!("over")) == Ok(false));
        }
    }
}

/// The same as [`open_pair`], without making keys each time.
fn open_pair_quick() -> [Session; 2] {
    thread_local! { static SETUPS: [Setup; 2] = setups(); }
    let mut pair = SETUPS.with(ends);
    assert_eq!(shake(&mut pair, usize::MAX), [Ok(true), Ok(true)]);
    pair
}

#[test]
fn records_that_are_lost_repeated_or_exchanged_end_the_session() {
    let plain = pattern(1000);
    for order in [&[0, 2, 3, 4][..], &[0, 0, 1], &[1, 0], &[0, 1, 3, 2, 4], &[4]] {
        let [mut one, mut two] = open_pair_quick();
        let sealed = records(&mut one, &plain, 200);
        let stream: Vec<u8> = order.iter().flat_map(|&at: &usize| sealed[at].clone()).collect();
        let mut got = Vec::new();
        let why = bring(&mut two, &stream, usize::MAX, &mut got).expect_err("out of order");
        assert!(why.contains("cannot decrypt"), "{why}");
        assert!(plain.starts_with(&got), "{order:?}");
    }
}

#[test]
fn what_was_recorded_is_worth_nothing_in_another_session() {
    let [mut one, mut two] = open_pair_quick();
    let sealed = records(&mut one, &pattern(100), 100).concat();
    bring(&mut two, &sealed, usize::MAX, &mut Vec::new()).expect("right");
    let [_, mut other] = open_pair_quick();
    let mut got = Vec::new();
    assert!(bring(&mut other, &sealed, usize::MAX, &mut got).is_err() && got.is_empty());
}

#[test]
fn who_speaks_without_tls_is_told_so_and_gets_nothing_else() {
    for mut end in ends(&setups()) {
        let _hello = end.shake();
        let _hello = said(&mut end);
        let why = bring(&mut end, b"rblk and more of a frame", 9, &mut Vec::new());
        assert!(why.expect_err("plain").contains("without TLS"));
        assert_eq!(said(&mut end), NO_TLS);
        assert!(end.seal(b"secret", &mut Vec::new()).is_err());
    }
}

#[test]
fn who_hears_that_there_is_no_tls_says_where_to_look() {
    let [mut one, _] = ends(&setups());
    assert_eq!(one.shake(), Ok(false));
    let why = bring(&mut one, &NO_TLS, 1, &mut Vec::new()).expect_err("no TLS");
    assert!(why.contains("`security` in [net]"), "{why}");
}

#[test]
fn another_protocol_in_tls_is_refused() {
    let setups = setups();
    let mut client = (*setups[0].client).clone();
    for protocols in [vec![b"rblk/2".to_vec()], vec![]] {
        client.alpn_protocols = protocols;
        let name = rustls::pki_types::ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        let client = UnbufferedClientConnection::new(client.clone().into(), name).expect("begins");
        let mut pair = [Session::client(client), setups[1].accept().expect("begins")];
        let [_, listener] = shake(&mut pair, usize::MAX);
        assert!(listener.is_err() && !pair[1].is_open());
    }
}

#[test]
fn a_handshake_without_end_is_bounded() {
    // One message of many records, each whole; and one record that never ends.
    let mut pieces = vec![0x16, 3, 1, 0, 104, 1, 0, 0xf0, 0];
    pieces.extend([0; 100]);
    let next = [&[0x16, 3, 1, 0, 100][..], &[0; 100]].concat();
    pieces.extend(next.repeat(200));
    let long = [&[0x16, 3, 1, 0x40, 0][..], &[0; 20_000]].concat();
    for stream in [pieces, long] {
        let [_, mut listener] = ends(&setups());
        let mut brought = 0;
        let ended = stream.iter().try_for_each(|byte| {
            brought += 1;
            bring(&mut listener, &[*byte], 1, &mut Vec::new())
        });
        assert!(ended.is_err());
        assert!(brought <= TLS_HANDSHAKE_BYTES_MAX, "{brought}");
        assert!(said(&mut listener).len() <= TLS_CONTROL_BYTES_MAX);
    }
}

#[test]
fn arbitrary_bytes_before_and_after_the_handshake_never_panic() {
    let mut seed = 1_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 24) as u8
    };
    for round in 0..200 {
        let mut bytes: Vec<u8> = (0..300).map(|_| random()).collect();
        bytes[..5].copy_from_slice(&[[0x16, 0x17, 0x15, 0x14][round % 4], 3, 3, 0, random()]);
        let mut ends = ends(&setups());
        let open = round % 2 == 0;
        if open {
            assert_eq!(shake(&mut ends, usize::MAX), [Ok(true), Ok(true)]);
        }
        for mut end in ends {
            let mut got = Vec::new();
            let _ended = bring(&mut end, &bytes, 64, &mut got);
            assert!(got.is_empty());
        }
    }
}

#[test]
fn keys_change_under_way() {
    let mut pair = open_pair();
    for round in 0..3 {
        let Side::Client(client) = &mut pair[0].side else { panic!("it dialled") };
        match client.process_tls_records(&mut []).state {
            Ok(ConnectionState::WriteTraffic(traffic)) => {
                traffic.refresh_traffic_keys().expect("TLS 1.3");
            }
            other => panic!("{other:?}"),
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let plain = pattern(1000 + round);
            let sealed = records(&mut pair[from], &plain, 400).concat();
            let mut got = Vec::new();
            bring(&mut pair[to], &sealed, 50, &mut got).expect("right");
            assert!(got == plain);
        }
    }
}

#[test]
fn what_is_opened_on_the_way_to_writing_is_kept_in_order() {
    let [mut one, mut two] = open_pair();
    let plain = pattern(5000);
    let sealed = records(&mut one, &plain, 300).concat();
    let room = two.room();
    room[..sealed.len()].copy_from_slice(&sealed);
    two.received(sealed.len());
    let mut got = Vec::new();
    assert_eq!(two.open(|plain| got.extend_from_slice(plain)), Ok(true));
    let back = records(&mut two, &plain, 1000).concat();
    while two.open(|plain| got.extend_from_slice(plain)).expect("right") {}
    assert!(got == plain);
    let mut got = Vec::new();
    bring(&mut one, &back, usize::MAX, &mut got).expect("right");
    assert!(got == plain);
}

#[test]
fn a_goodbye_is_an_end_and_not_an_attack() {
    let [mut one, mut two] = open_pair();
    let mut words = records(&mut one, &pattern(10), 10).concat();
    one.say_goodbye(&mut words);
    assert!(!one.is_open());
    let mut got = Vec::new();
    let why = bring(&mut two, &words, usize::MAX, &mut got).expect_err("closed");
    assert_eq!(why, "The peer closed the connection");
    assert!(got == pattern(10));
}

#[test]
fn half_a_record_does_not_keep_us_from_talking() {
    for given_up in [false, true] {
        let [_, mut two] = open_pair();
        let room = two.room();
        room[..3].copy_from_slice(&[0x17, 3, 3]);
        two.received(3);
        assert_eq!(two.open(|_| panic!("nothing yet")), Ok(false));
        if given_up {
            two.discard();
            two.room()[..4].copy_from_slice(b"junk");
            two.received(4);
        }
        let mut out = Vec::new();
        two.seal(b"x", &mut out).expect("still open");
        assert!(!out.is_empty());
    }
}

/// Seals one handshake message of an open session, piece by piece: what a peer that is broken, or no rblk, could do.
fn pieces(one: Session, message: impl Iterator<Item = u8>) -> Vec<Vec<u8>> {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
    use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
    use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion};
    let Side::Client(client) = one.side else { panic!("dials") };
    let (secrets, _) = client.dangerous_into_kernel_connection().expect("allowed");
    let (first, secrets) = secrets.tx;
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("another suite") };
    let suite = TLS13_AES_256_GCM_SHA384.tls13().expect("of TLS 1.3");
    let mut sealer = suite.aead_alg.encrypter(key, iv);
    let seal = |(sequence, byte): (u64, u8)| {
        let payload = OutboundChunks::Single(std::slice::from_ref(&byte));
        let (typ, version) = (ContentType::Handshake, ProtocolVersion::TLSv1_2);
        let plain = OutboundPlainMessage { typ, version, payload };
        sealer.encrypt(plain, sequence).expect("seals").encode()
    };
    (first..).zip(message).map(seal).collect()
}

#[test]
fn a_message_of_the_library_without_end_ends_the_session() {
    let (one, two) = (secret(), secret());
    let mut dials = Setup::new(&one, &[two.public]).expect("valid");
    let mut config = (*dials.client).clone();
    config.enable_secret_extraction = true;
    dials.client = config.into();
    let mut pair = ends(&[dials, Setup::new(&two, &[one.public]).expect("valid")]);
    assert_eq!(shake(&mut pair, usize::MAX), [Ok(true), Ok(true)]);
    let [one, mut two] = pair;
    // A key update that says it has 60 KiB.
    let message = [24, 0, 0xf0, 0].into_iter().chain(std::iter::repeat_n(0, 50_000));
    let mut taken = 0;
    let why = pieces(one, message).iter().find_map(|record| {
        taken += record.len();
        bring(&mut two, record, usize::MAX, &mut Vec::new()).err()
    });
    assert!(why.expect("it is refused").contains("no end"), "after {taken} bytes");
    assert!(taken < 3 * TLS_RECORD_BYTES, "{taken} bytes were kept");
}
