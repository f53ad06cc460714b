//! The ring against the real kernel.

use super::*;
use std::os::fd::{AsFd, AsRawFd};

const SOON: Option<Duration> = Some(Duration::from_secs(10));

fn probe(index: u32) -> Token {
    Token::new(Owner::Probe, 1, index)
}

fn drain(ring: &mut Ring, count: usize) -> Vec<Completion> {
    let mut all = Vec::new();
    while all.len() < count {
        let before = all.len();
        ring.wait(SOON).expect("usable");
        all.extend(std::iter::from_fn(|| ring.next()));
        assert!(all.len() > before || ring.in_flight() > 0, "nothing is coming");
    }
    all
}

#[test]
fn more_operations_than_both_queues_hold_all_complete_once() {
    let mut ring = Ring::new(4).expect("io_uring");
    for index in 0..1000 {
        // SAFETY: a NOP names no memory.
        unsafe { ring.push(opcode::Nop::new().build(), probe(index)) };
    }
    let mut seen: Vec<u32> = drain(&mut ring, 1000).iter().map(|done| done.token.index()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    assert_eq!(ring.in_flight(), 1, "only the waker's read is left");
}

#[test]
fn a_waker_ends_the_wait_from_another_thread() {
    let mut ring = Ring::new(4).expect("io_uring");
    let waker = ring.waker();
    for _ in 0..3 {
        let waker = waker.clone();
        let thread = std::thread::spawn(move || waker.wake());
        while !ring.take_woken() {
            ring.wait(SOON).expect("usable");
            assert_eq!(ring.next(), None, "wakeups are not for others");
        }
        thread.join().expect("no panic");
    }
    ring.wait(Some(Duration::from_millis(1))).expect("usable");
    assert!(ring.next().is_none() && !ring.take_woken());
}

#[test]
fn a_timer_ends_late_enough_and_a_cancelled_one_at_once() {
    let mut ring = Ring::new(4).expect("io_uring");
    let start = Instant::now();
    ring.timeout(Duration::from_millis(20), probe(1));
    ring.timeout(Duration::from_secs(3600), probe(2));
    let done = drain(&mut ring, 1);
    assert_eq!((done[0].token, done[0].result), (probe(1), -libc::ETIME));
    assert!(start.elapsed() >= Duration::from_millis(20));
    ring.cancel(probe(2));
    let done = drain(&mut ring, 1);
    assert_eq!((done[0].token, done[0].result), (probe(2), -libc::ECANCELED));
    // The slot of the cancelled timer is free again only when the kernel has let go of it.
    ring.timeout(Duration::from_millis(1), probe(3));
    assert_eq!(drain(&mut ring, 1)[0].token, probe(3));
    while ring.in_flight() > 1 {
        ring.wait(SOON).expect("usable");
        assert_eq!(ring.next(), None);
    }
}

#[test]
fn faults_fail_delay_and_hang_an_operation() {
    let mut ring = Ring::new(4).expect("io_uring");
    let push = |ring: &mut Ring, index, verdict| {
        // SAFETY: a NOP names no memory.
        unsafe { ring.push_faulty(opcode::Nop::new().build(), probe(index), verdict) };
    };
    push(&mut ring, 1, Verdict::Hang);
    push(&mut ring, 2, Verdict::Delay(Duration::from_millis(20)));
    push(&mut ring, 3, Verdict::Fail(libc::EIO));
    push(&mut ring, 4, Verdict::Pass);
    let order: Vec<_> = drain(&mut ring, 3).iter().map(|d| (d.token.index(), d.result)).collect();
    assert_eq!(order, [(3, -libc::EIO), (4, 0), (2, 0)]);
    ring.cancel(probe(1));
    assert_eq!(drain(&mut ring, 1)[0].result, -libc::ECANCELED);
}

#[test]
fn a_cancelled_operation_completes_exactly_once() {
    let mut ring = Ring::new(4).expect("io_uring");
    let never = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("eventfd");
    let mut count = Box::new(0u64);
    let place: *mut u64 = &raw mut *count;
    let read = opcode::Read::new(types::Fd(never.as_raw_fd()), place.cast(), 8).build();
    // SAFETY: `count` and `never` live to the end of the test, the completion is awaited.
    unsafe { ring.push(read, probe(1)) };
    ring.wait(Some(Duration::from_millis(1))).expect("usable");
    ring.cancel(probe(1));
    ring.cancel(probe(99));
    let done = drain(&mut ring, 1);
    assert_eq!((done[0].token, done[0].result), (probe(1), -libc::ECANCELED));
    while ring.in_flight() > 1 {
        ring.wait(SOON).expect("usable");
        assert_eq!(ring.next(), None);
    }
}

#[test]
fn the_end_waits_for_operations_in_flight() {
    let never = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("eventfd");
    let mut count = Box::new(0u64);
    let mut ring = Ring::new(4).expect("io_uring");
    let place: *mut u64 = &raw mut *count;
    for index in 0..20 {
        let read = opcode::Read::new(types::Fd(never.as_raw_fd()), place.cast(), 8).build();
        // SAFETY: `count` and `never` outlive the ring, which waits.
        unsafe { ring.push(read, probe(index)) };
    }
    assert!(ring.quiesce(Duration::from_secs(10)));
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn registered_files_are_found_and_their_slots_reused() {
    let mut ring = Ring::new(4).expect("io_uring");
    let event = rustix::event::eventfd(7, rustix::event::EventfdFlags::CLOEXEC).expect("eventfd");
    let fixed = ring.add_file(event.as_fd()).expect("room");
    let mut count = Box::new(0u64);
    let place: *mut u64 = &raw mut *count;
    // SAFETY: `count` lives to the end of the test, the completion is awaited.
    unsafe { ring.push(opcode::Read::new(fixed, place.cast(), 8).build(), probe(1)) };
    assert_eq!(drain(&mut ring, 1)[0].result, 8);
    assert_eq!(*count, 7);
    ring.remove_file(fixed).expect("there");
    assert_eq!(ring.add_file(event.as_fd()).expect("room").0, fixed.0);
}

#[test]
fn refusals_say_what_to_do() {
    for (errno, word) in
        [(libc::EINVAL, "6.1"), (libc::EPERM, "seccomp"), (libc::ENOMEM, "LimitMEMLOCK")]
    {
        let text = refused(&Error::from_raw_os_error(errno)).to_string();
        assert!(text.contains(word), "{text}");
    }
}
