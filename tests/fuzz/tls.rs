//! Two ends of a TLS session, and somebody between them who passes on, changes, drops, repeats and makes up what he
//! likes: each end hears what the other said from the start on, or less, and never anything else.

use super::input::Input;
use rblk::io::tls::{Secret, Session, Setup};

/// A record may be this long; longer ones are no other code.
const PLAIN_MAX: usize = 2000;
/// What waits to be passed on, at most: a peer that does not answer is not talked to for ever.
const WIRE_MAX: usize = 64 << 10;

thread_local! {
    /// Made once: keys take longer than most inputs.
    static SETUPS: [Setup; 2] = setups();
}

fn setups() -> [Setup; 2] {
    let [one, two] = [(); 2].map(|()| Secret::for_once().expect("random bytes"));
    let setup = |own: &Secret, peer: &Secret| Setup::new(own, &[peer.public]).expect("valid");
    [setup(&one, &two), setup(&two, &one)]
}

struct End {
    session: Session,
    failed: bool,
    /// Sealed, and on its way to the other end.
    wire: Vec<u8>,
    said: Vec<u8>,
    heard: Vec<u8>,
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let sessions = SETUPS.with(|[one, two]| {
        let nowhere = std::net::IpAddr::from([127, 0, 0, 1]);
        [one.dial(nowhere).expect("begins"), two.accept().expect("begins")]
    });
    let new = |session| {
        let (wire, said, heard) = (Vec::new(), Vec::new(), Vec::new());
        End { session, failed: false, wire, said, heard }
    };
    let mut ends = sessions.map(new);
    // A good beginning is hard to find by chance.
    for _ in 0..4 * (input.byte() % 2) {
        (0..2).for_each(|from| pass(&mut ends, from, usize::MAX));
    }
    while !input.is_empty() {
        let what = input.byte();
        let from = usize::from(what & 1);
        let amount = usize::from(input.byte());
        let End { wire, .. } = &mut ends[from];
        let at = amount * wire.len() / 256;
        match what >> 1 & 7 {
            0 => pass(&mut ends, from, usize::MAX),
            1 => pass(&mut ends, from, amount),
            2 => say(&mut ends[from], amount * PLAIN_MAX / 255),
            3 if at < wire.len() => wire[at] ^= 1 << (amount % 8),
            4 => wire.truncate(at),
            5 => drop(wire.drain(..at)),
            6 if wire.len() < WIRE_MAX => wire.extend_from_within(..at),
            7 => wire.extend((0..amount % 32).map(|_| input.byte())),
            _ => {}
        }
    }
    let [one, two] = &ends;
    assert!(two.said.starts_with(&one.heard) && one.said.starts_with(&two.heard));
}

fn say(end: &mut End, bytes: usize) {
    if end.session.is_open() && bytes > 0 && end.wire.len() < WIRE_MAX {
        let begin = end.said.len();
        end.said.extend((begin..begin + bytes).map(|at| (at / 3) as u8));
        // An end that learns only now that it was lied to does not say it.
        if end.session.seal(&end.said[begin..], &mut end.wire).is_err() {
            end.failed = true;
        }
    }
}

/// Brings at most `most` bytes from one end to the other.
fn pass(ends: &mut [End; 2], from: usize, most: usize) {
    let [one, two] = ends;
    let (from, to) = if from == 0 { (one, two) } else { (two, one) };
    let End { session, failed, heard, .. } = to;
    if !from.failed {
        from.failed = from.session.shake().is_err();
    }
    from.session.take_control(&mut from.wire);
    let mut left = most.min(from.wire.len());
    while left > 0 && !*failed {
        let room = session.room();
        let part = left.min(room.len());
        room[..part].copy_from_slice(&from.wire[..part]);
        from.wire.drain(..part);
        session.received(part);
        left -= part;
        *failed = hear(session, heard).is_err();
    }
}

fn hear(session: &mut Session, heard: &mut Vec<u8>) -> Result<(), String> {
    if session.shake()? {
        while session.open(|plain| heard.extend_from_slice(plain))? {}
    }
    Ok(())
}
