//! Bells: whatever was announced before a ring is found by the owner who is told of it.

use crate::io::bell::Bell;
use crate::io::counter::helper;
use crate::io::ring::{Ring, Token};
use crate::sync::{Receiver, sync_channel};
use std::sync::atomic::{AtomicBool, Ordering};

const BELL: Token = Token(1);

fn look(news: &Receiver<u32>, seen: &mut usize) {
    while news.try_recv().is_ok() {
        *seen += 1;
    }
}

#[test]
fn loom_no_ring_is_lost() {
    crate::model(|| assert!(all_are_seen(true), "the owner sleeps over an announcement"));
}

/// The proof that the model can fail: an owner who looks before he takes the ring misses one.
#[test]
fn loom_looking_before_the_ring_is_taken_misses_one() {
    static MISSED: AtomicBool = AtomicBool::new(false);
    crate::model(|| {
        if !all_are_seen(false) {
            MISSED.store(true, Ordering::Relaxed);
        }
    });
    assert!(MISSED.load(Ordering::Relaxed), "the wrong order was not found out");
}

/// Two helpers announce, one of them twice, as the helper of a ublk device does. False if the owner misses one.
fn all_are_seen(ring_first: bool) -> bool {
    let mut ring = Ring::new();
    let mut bell = Bell::new(&mut ring, BELL).expect("a bell");
    let (announce, news) = sync_channel(4);
    let helpers = [1, 2].map(|times| {
        let (announce, ringer) = (announce.clone(), bell.ringer());
        helper(move || {
            for number in 0..times {
                announce.send(number).expect("the owner lives");
                ringer.ring();
            }
        })
    });
    let mut seen = 0;
    let mut awake = true;
    while seen < 3 && awake {
        match ring.next() {
            Some(done) if ring_first => {
                bell.on_completion(&mut ring, done, true);
                look(&news, &mut seen);
            }
            Some(done) => {
                look(&news, &mut seen);
                bell.on_completion(&mut ring, done, true);
            }
            None => awake = ring.wait(),
        }
    }
    for helper in helpers {
        helper.join().expect("the helper ends");
    }
    assert!(bell.is_armed());
    bell.cancel(&mut ring);
    let done = ring.next().expect("a cancelled bell completes");
    bell.on_completion(&mut ring, done, true);
    assert!(!bell.is_armed());
    awake
}
