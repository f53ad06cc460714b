//! Orders from other threads to the loop: control clients and signals.
//!
//! An order is put in first and the loop woken after that; the loop looks for orders each time before it sleeps.
//! `tests/loom` runs this file through all interleavings: no order is slept over, and whoever waits for an answer
//! gets it or learns that none will come.

use crate::ctl::proto::{Reply, Request};
use crate::ctl::server::Handler;
use crate::error::{Error, Kind};
use crate::io::ring::Waker;
use crate::limits::CONTROL_ORDERS_MAX;
use crate::sync::{Receiver, SyncSender, sync_channel};

/// Something for the loop to do.
pub(super) enum Order {
    /// A control client's request; its answer goes to `answer`.
    Control { request: Request, answer: SyncSender<Reply> },
    /// The process is asked to end.
    Stop,
}

/// The sending end.
#[derive(Clone)]
pub(super) struct Mailbox {
    orders: SyncSender<Order>,
    waker: Waker,
}

impl Mailbox {
    /// A mailbox whose sender wakes the loop.
    pub(super) fn new(waker: Waker) -> (Mailbox, Receiver<Order>) {
        let (orders, receiver) = sync_channel(CONTROL_ORDERS_MAX);
        (Mailbox { orders, waker }, receiver)
    }

    /// Hands an order to the loop. False if it is full or gone.
    pub(super) fn post(&self, order: Order) -> bool {
        let posted = self.orders.try_send(order).is_ok();
        self.waker.wake();
        posted
    }
}

impl Handler for Mailbox {
    fn call(&self, request: Request) -> Reply {
        let (answer, waiting) = sync_channel(1);
        let gone = || {
            Reply::from(
                Error::new(Kind::NotRunning, "The daemon did not answer")
                    .why("it is ending")
                    .remedy("look at the log of `rblk attach`"),
            )
        };
        if !self.post(Order::Control { request, answer }) {
            return gone();
        }
        // Ends when the loop answers, or drops the order as it ends.
        waiting.recv().unwrap_or_else(|_| gone())
    }
}
