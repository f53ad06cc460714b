//! What control clients are answered that the loop does not have to find out.

use super::mailbox::Mailbox;
use crate::ctl::proto::{Reply, Request};
use crate::ctl::server::Handler;
use crate::front::ublk;

/// The mailbox, with what takes long added to its answers on the asking client's thread.
struct Console(Mailbox);

/// The handler of the control socket.
pub(super) fn of(mailbox: &Mailbox) -> Box<dyn Handler> {
    Box::new(Console(mailbox.clone()))
}

impl Handler for Console {
    fn call(&self, request: Request) -> Reply {
        let mut reply = self.0.call(request);
        if let Reply::Status { status } = &mut reply
            && status.rblk.front == "ublk"
            && status.rblk.address.is_some()
            && let Some(device) = status.devices.first_mut()
        {
            // It looks at every process of the system.
            device.open = !ublk::openers(device.minor).is_empty();
        }
        reply
    }
}
