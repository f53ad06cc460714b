//! Orders to the loop: none is slept over, none is lost, and the end of the loop leaves nobody waiting.

use crate::ctl::proto::{Reply, Request};
use crate::ctl::server::Handler;
use crate::io::counter::helper;
use crate::io::ring::Ring;
use crate::mailbox::{Mailbox, Order};
use crate::sync::{Receiver, sync_channel};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the loop has done.
#[derive(Default)]
struct Done {
    stops: usize,
    answered: usize,
}

/// As `Daemon::take_orders`.
fn take_orders(mail: &Receiver<Order>, done: &mut Done) {
    while let Ok(order) = mail.try_recv() {
        match order {
            Order::Control { answer, .. } => {
                done.answered += usize::from(answer.send(Reply::Done).is_ok());
            }
            Order::Stop => done.stops += 1,
        }
    }
}

/// As `Daemon::turn`: completions, and wakeups with them, before orders.
fn turn(ring: &mut Ring, mail: &Receiver<Order>, done: &mut Done) {
    while ring.next().is_some() {}
    take_orders(mail, done);
}

#[test]
fn loom_no_order_is_slept_over() {
    crate::model(|| {
        let mut ring = Ring::new();
        let (mailbox, mail) = Mailbox::new(ring.waker());
        let client = {
            let mailbox = mailbox.clone();
            helper(move || assert_eq!(mailbox.call(Request), Reply::Done))
        };
        let signal = helper(move || assert!(mailbox.post(Order::Stop)));
        let mut done = Done::default();
        loop {
            turn(&mut ring, &mail, &mut done);
            if done.stops + done.answered == 2 {
                break;
            }
            assert!(ring.wait(), "the loop sleeps over an order");
        }
        client.join().expect("the client ends");
        signal.join().expect("the signal thread ends");
    });
}

/// The proof that the model can fail: who wakes the loop first and puts the order in after that is not heard.
#[test]
fn loom_a_wakeup_before_its_order_is_lost() {
    static SLEPT: AtomicBool = AtomicBool::new(false);
    crate::model(|| {
        let mut ring = Ring::new();
        let waker = ring.waker();
        let (orders, mail) = sync_channel(1);
        let signals = helper(move || {
            waker.wake();
            orders.try_send(Order::Stop).is_ok()
        });
        let mut done = Done::default();
        loop {
            turn(&mut ring, &mail, &mut done);
            if done.stops == 1 {
                break;
            }
            if !ring.wait() {
                SLEPT.store(true, Ordering::Relaxed);
                break;
            }
        }
        signals.join().expect("the signal thread ends");
    });
    assert!(SLEPT.load(Ordering::Relaxed), "the wrong order was not found out");
}

/// The mailbox has room for every client and one more: however many signals come, one of them gets through.
#[test]
fn loom_a_full_mailbox_holds_a_request_to_stop() {
    crate::model(|| {
        let mut ring = Ring::new();
        let (mailbox, mail) = Mailbox::new(ring.waker());
        let client = {
            let mailbox = mailbox.clone();
            helper(move || mailbox.call(Request))
        };
        let signals = helper(move || {
            mailbox.post(Order::Stop);
            mailbox.post(Order::Stop);
        });
        let mut done = Done::default();
        loop {
            turn(&mut ring, &mail, &mut done);
            if done.stops > 0 {
                break;
            }
            assert!(ring.wait(), "all requests to stop are lost");
        }
        drop(mail);
        client.join().expect("the client ends");
        signals.join().expect("the signal thread ends");
    });
}

/// As the end of `Daemon::run`: orders that wait are dropped with the mailbox, and the server waits for its clients
/// only after that. Everybody learns what became of his order, and an answer that was given arrives.
#[test]
fn loom_the_end_leaves_nobody_waiting() {
    crate::model(|| {
        let mut ring = Ring::new();
        let (mailbox, mail) = Mailbox::new(ring.waker());
        let clients =
            [mailbox.clone(), mailbox.clone()].map(|mailbox| helper(move || mailbox.call(Request)));
        mailbox.post(Order::Stop); // full or not
        let mut done = Done::default();
        turn(&mut ring, &mail, &mut done);
        drop(mail);
        let replies = clients.map(|client| client.join().expect("the client ends"));
        let answered = replies.iter().filter(|reply| **reply == Reply::Done).count();
        assert_eq!(answered, done.answered, "an answer is lost");
    });
}
