//! Why an order cannot be carried out, in words for the one who gave it.

use super::run::Daemon;
use crate::ctl::proto::Request;
use crate::error::{Error, Kind};
use crate::limits::SECTOR_BYTES;
use crate::replica::event::CommandError;
use crate::wire::message::DiskState;

impl Daemon {
    /// What has failed, as the head of an error.
    pub(super) fn failed(&self, request: &Request) -> String {
        let name = &self.options.config.name;
        match request {
            Request::Promote { .. } => format!("Cannot promote {name}"),
            Request::Demote => format!("Cannot demote {name}"),
            Request::Detach { .. } => format!("Cannot detach {name}"),
            Request::HandOver => format!("Cannot hand {name} over"),
            Request::Events { .. } => format!("Cannot watch {name}"),
            Request::Status => format!("Cannot show {name}"),
            Request::Disconnect => format!("Cannot disconnect {name}"),
            Request::Connect { .. } => format!("Cannot connect {name}"),
            Request::Invalidate { .. } => format!("Cannot invalidate {name}"),
            Request::Verify | Request::StopVerify => format!("Cannot verify {name}"),
            Request::Repair => format!("Cannot repair what differs on {name}"),
            Request::Resize => format!("Cannot resize {name}"),
        }
    }

    /// The core's refusal, with its reason and what to do.
    pub(super) fn explain(&self, request: &Request, error: CommandError) -> Error {
        let name = &self.options.config.name;
        let peer = &self.options.config.peer_of(self.options.node).name;
        let (kind, why, remedy) = match error {
            CommandError::NotUpToDate(_) if self.replica.snapshot().peer_disk.is_some() => (
                Kind::Refused,
                format!("neither this disk nor that of {peer} holds the volume's data yet"),
                format!(
                    "on the node whose data shall be kept run `rblk promote {name} --force`: \
                     the other disk is overwritten"
                ),
            ),
            CommandError::NotUpToDate(DiskState::Inconsistent) => self.explain_no_whole_copy(),
            CommandError::NotUpToDate(disk) => (
                Kind::Refused,
                format!(
                    "the disk is {disk:?}, and {peer} is not there to say whether its data is newer"
                ),
                format!(
                    "bring {peer} back, or run `rblk promote {name} --force`: writes that only {peer} has are then lost"
                ),
            ),
            CommandError::PeerIsPrimary if *request != Request::Repair => (
                Kind::Refused,
                format!("{peer} is Primary"),
                format!("run `rblk demote {name}` on {peer} first"),
            ),
            CommandError::PeerMayServe => (
                Kind::Refused,
                format!(
                    "{peer} may have worked as Primary on this node's data until a moment ago, and not have noticed \
                     that it lost this node"
                ),
                format!(
                    "try again in {} s",
                    (2 * self.options.config.peer_timeout_ms).div_ceil(1000)
                ),
            ),
            CommandError::NoDisk => self.explain_no_disk(),
            CommandError::Busy => (
                Kind::Busy,
                "another command is being carried out".to_owned(),
                "wait for it to end".to_owned(),
            ),
            CommandError::PeerLost => (
                Kind::Refused,
                format!("the connection to {peer} broke while it was asked"),
                "try again".to_owned(),
            ),
            CommandError::DiskFailed => (
                Kind::Io,
                "this node's disk failed meanwhile".to_owned(),
                format!("look at `rblk status {name}` and the log"),
            ),
            CommandError::Detaching => (
                Kind::Refused,
                "this node is being detached".to_owned(),
                format!("attach {name} again first"),
            ),
            error if *request == Request::Resize => self.explain_resize(error),
            other => self.explain_verify(other).unwrap_or_else(|| self.explain_order(other)),
        };
        Error::new(kind, self.failed(request)).why(why).remedy(remedy)
    }

    /// A disk that has failed is not lost yet: only another one is to be made anew.
    fn explain_no_disk(&self) -> (Kind, String, String) {
        let name = &self.options.config.name;
        let remedy = format!(
            "if the disk works again: `systemctl restart rblk@{name}` takes it in as it is. Only if another disk was \
             put in: `rblk create {name}`, which makes it one without data, and then the restart"
        );
        (Kind::Refused, "this node's disk has failed".to_owned(), remedy)
    }

    /// Half a copy, or none: nobody can want that as the volume's data but to have something to search in.
    fn explain_no_whole_copy(&self) -> (Kind, String, String) {
        let name = &self.options.config.name;
        let peer = &self.options.config.peer_of(self.options.node).name;
        let s = self.replica.snapshot();
        let (why, loss) = match s.superblock.current {
            None => (
                "this disk holds no data of the volume".to_owned(),
                "starts with an empty volume".to_owned(),
            ),
            Some(_) => (
                format!(
                    "this disk is no whole copy: {} MiB of it are old, or were never copied",
                    s.out_of_sync_bytes.div_ceil(1 << 20)
                ),
                "makes old and new blocks, mixed, the volume's data".to_owned(),
            ),
        };
        let remedy = format!(
            "bring {peer} back, which has the data. If {peer} and its disk are gone for good: `rblk promote {name} \
             --force` {loss}, and whatever {peer} has gives way to that"
        );
        (Kind::Refused, why, remedy)
    }

    /// True if it must not be done even by force: this disk has no data, and the peer has, as it said when they met.
    pub(super) fn would_force_nothing_over_data(&self) -> bool {
        let s = self.replica.snapshot();
        s.superblock.current.is_none() && s.met.is_some_and(|met| met.current.is_some())
    }

    /// Why not, and what to do.
    pub(super) fn explain_nothing_over_data(&self, request: &Request) -> Error {
        let name = &self.options.config.name;
        let peer = &self.options.config.peer_of(self.options.node).name;
        Error::new(Kind::Refused, self.failed(request))
            .why(format!("this node's disk holds no data, and {peer} has some: all of that would give way to nothing"))
            .remedy(format!(
                "run it on {peer}, and all is copied from there. To start with an empty volume: `rblk create {name} \
                 --force` on {peer} first"
            ))
    }

    /// What stands in the way of a larger volume: mostly a disk without room, or one that has grown under a daemon
    /// which does not know it yet.
    fn explain_resize(&self, error: CommandError) -> (Kind, String, String) {
        let name = &self.options.config.name;
        let here = &self.options.config.node(self.options.node).name;
        let peer = &self.options.config.peer_of(self.options.node).name;
        let node = match error {
            CommandError::NoRoom => here,
            CommandError::PeerHasNoRoom => peer,
            CommandError::IsPrimary => {
                return (
                    Kind::Refused,
                    "this node is Primary, and who has the order leaves the other node for a moment".to_owned(),
                    format!(
                        "run `rblk resize {name}` on {peer}; if that is Primary, too, `rblk demote {name}` on one of \
                         them first"
                    ),
                );
            }
            other => {
                return self.explain_verify(other).unwrap_or_else(|| self.explain_order(other));
            }
        };
        let size = self.replica.snapshot().sectors * SECTOR_BYTES;
        (
            Kind::Refused,
            format!(
                "the volume has {size} bytes, and as far as its daemon knows the disk of {node} has no room for more"
            ),
            format!(
                "make that disk larger (of LVM: `lvextend`), then run `systemctl restart rblk@{name}` on {node}: its \
                 metadata moves to the new end, and clients wait a moment"
            ),
        )
    }

    /// What stands in the way of a verify, and of the repair after it; `None` if it is something else.
    fn explain_verify(&self, error: CommandError) -> Option<(Kind, String, String)> {
        let name = &self.options.config.name;
        let peer = &self.options.config.peer_of(self.options.node).name;
        let (kind, why, remedy) = match error {
            CommandError::PeerAway => (
                Kind::Refused,
                format!("{peer} is not connected, and both disks are needed"),
                format!("bring {peer} back, then try again"),
            ),
            CommandError::PeerTooOld => (
                Kind::Refused,
                format!("the rblk on {peer} is older and cannot do it"),
                format!("upgrade rblk on {peer}, then try again"),
            ),
            CommandError::PeerIsPrimary => (
                Kind::Refused,
                format!("{peer} is Primary, and a repair copies from the Primary"),
                format!(
                    "if the data of {peer} is right, verify and repair there; else `rblk demote {name}` there"
                ),
            ),
            CommandError::NotPrimary => (
                Kind::Refused,
                "neither node is Primary: whose data is to be kept is said by making one so".to_owned(),
                format!("on the node whose data is right run `rblk promote {name}`, then verify and repair there"),
            ),
            CommandError::Verifying => (
                Kind::Busy,
                "a verify runs on this node".to_owned(),
                format!(
                    "watch it with `rblk status {name} --watch`, or end it with `rblk verify {name} --stop`"
                ),
            ),
            CommandError::NothingToRepair => (
                Kind::Refused,
                "no verify on this node, since its daemon started, has found a difference that was not repaired"
                    .to_owned(),
                format!("run `rblk verify {name}`"),
            ),
            _ => return None,
        };
        Some((kind, why, remedy))
    }

    /// What stands in the way of disconnect, connect and invalidate.
    fn explain_order(&self, error: CommandError) -> (Kind, String, String) {
        let name = &self.options.config.name;
        let peer = &self.options.config.peer_of(self.options.node).name;
        let (why, remedy) = match error {
            CommandError::IsPrimary => (
                "this node is Primary, and its clients work on the data that would go".to_owned(),
                format!("run `rblk demote {name}` first"),
            ),
            CommandError::NeedsPeer => (
                format!(
                    "clients of this node work on the data of {peer}, having no good disk here"
                ),
                format!("run `rblk demote {name}` first"),
            ),
            CommandError::PeerNeedsUs => (
                format!("clients of {peer} work on this node's data, having no good disk there"),
                format!("run `rblk demote {name}` on {peer} first"),
            ),
            CommandError::Connected => (
                "the nodes are connected, so whose data counts is decided".to_owned(),
                format!("to copy all from {peer} again run `rblk invalidate {name}`"),
            ),
            CommandError::NotConnected => (
                format!("{peer} is not connected, and this node does not know it to be behind"),
                format!("run `rblk invalidate {name}` on {peer}, or bring it back first"),
            ),
            CommandError::Resyncing => (
                "a resync is running".to_owned(),
                format!(
                    "wait for it with `rblk wait {name} synced`, or run `rblk disconnect {name}` first"
                ),
            ),
            CommandError::NotFenced => (
                format!(
                    "nobody confirmed that {peer} is fenced, so it may be Primary and hold newer data"
                ),
                format!(
                    "see the log for what the fence-peer handler said; bring {peer} back, or make sure that it is \
                     down and run `rblk promote {name} --force`"
                ),
            ),
            CommandError::PeerReturned => {
                (format!("{peer} came back while it was being fenced"), "try again".to_owned())
            }
            CommandError::PeerNotUpToDate => (
                format!("{peer} has no disk with the newest data"),
                format!("look at `rblk status {name}` there"),
            ),
            _ => (
                format!("this disk has the newest data: {peer} is recorded as behind"),
                format!(
                    "bring {peer} back, and it will be resynced. If both nodes were Primary without each other and \
                     these changes are to be lost: `rblk connect {name} --discard-my-data`"
                ),
            ),
        };
        (Kind::Refused, why, remedy)
    }
}
