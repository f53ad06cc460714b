//! Who is at the other end of a control connection, and what he may ask.
//!
//! Promises: nothing is changed for anybody but root and the user whom the daemon runs as, whoever may open the
//! socket; one whom the kernel does not name is a stranger. It is asked once, of the kernel: a name on the line would
//! be worth nothing.

use super::proto::Request;
use crate::error::{Error, Kind};
use crate::io::socket_peer::peer_of;
use std::os::unix::net::UnixStream;

/// The user who connected, as the kernel saw him then (`SO_PEERCRED`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Caller {
    /// `None` if the kernel does not say.
    uid: Option<u32>,
    trusted: bool,
}

impl Caller {
    /// Who is at the other end of `stream`.
    pub(super) fn of(stream: &UnixStream) -> Caller {
        let uid = peer_of(stream).ok().map(|peer| peer.user.as_raw());
        Caller::new(uid, rustix::process::geteuid().as_raw())
    }

    /// User `uid`, asking a daemon of user `own`.
    pub(super) fn new(uid: Option<u32>, own: u32) -> Caller {
        Caller { uid, trusted: uid.is_some_and(|uid| uid == 0 || uid == own) }
    }

    /// True for root and the daemon's own user.
    pub(super) fn is_trusted(self) -> bool {
        self.trusted
    }

    /// Whether he may ask the daemon of resource `name` for this.
    ///
    /// # Errors
    /// `Io`, as for a socket that may not be opened.
    pub(super) fn may(self, request: &Request, name: &str) -> Result<(), Error> {
        if self.trusted || request.only_looks() {
            return Ok(());
        }
        let who =
            self.uid.map_or("a user who is not known".to_owned(), |uid| format!("user {uid}"));
        let what = format!("The daemon of {name} does not carry out this command");
        Err(Error::new(Kind::Io, what)
            .why(format!("{who} may look at {name}, and change nothing"))
            .remedy("run the command as root, or as the user whom the daemon runs as"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKS: [Request; 3] =
        [Request::Status, Request::Events { after: None }, Request::Events { after: Some(1) }];
    const CHANGES: [Request; 17] = [
        Request::Promote { force: false },
        Request::Promote { force: true },
        Request::Demote,
        Request::Detach { force: false },
        Request::Detach { force: true },
        Request::HandOver,
        Request::Disconnect,
        Request::Connect { discard_my_data: false, no_salvage: false },
        Request::Connect { discard_my_data: true, no_salvage: false },
        Request::Connect { discard_my_data: false, no_salvage: true },
        Request::Connect { discard_my_data: true, no_salvage: true },
        Request::Invalidate { peer: false },
        Request::Invalidate { peer: true },
        Request::Verify,
        Request::StopVerify,
        Request::Repair,
        Request::Resize,
    ];

    #[test]
    fn root_and_the_own_user_may_all_and_others_look() {
        let callers = [
            (Some(0), 0, true),
            (Some(0), 1000, true),
            (Some(1000), 1000, true),
            (Some(1000), 0, false),
            (Some(1001), 1000, false),
            (Some(u32::MAX), 0, false),
            (None, 0, false),
            (None, 1000, false),
        ];
        for (uid, own, all) in callers {
            let caller = Caller::new(uid, own);
            assert_eq!(caller.is_trusted(), all, "{uid:?} at {own}");
            for request in &LOOKS {
                assert!(caller.may(request, "swarm").is_ok(), "{uid:?} at {own}: {request:?}");
            }
            for request in &CHANGES {
                assert_eq!(
                    caller.may(request, "swarm").is_ok(),
                    all,
                    "{uid:?} at {own}: {request:?}"
                );
            }
        }
    }

    #[test]
    fn a_refusal_names_who_asked_and_who_may() {
        let refused = |uid| {
            Caller::new(uid, 0).may(&Request::Demote, "swarm").expect_err("refused").to_string()
        };
        assert!(
            refused(Some(1000))
                .contains("user 1000 may look at swarm, and change nothing. Do: run")
        );
        assert!(refused(Some(1000)).contains("as root"));
        assert!(refused(None).contains("not known"));
    }

    #[test]
    fn the_kernel_says_who_is_at_the_other_end() {
        let (here, _there) = UnixStream::pair().expect("socketpair");
        let caller = Caller::of(&here);
        assert_eq!(caller.uid, Some(rustix::process::geteuid().as_raw()));
        assert!(caller.is_trusted());
    }
}
