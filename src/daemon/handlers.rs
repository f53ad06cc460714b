//! From what the core tells to the commands that an operator wants to run then, and back.

use super::run::Daemon;
use super::status::{Sides, has_data, refusal_text};
use crate::config::{Address, HandlerKind};
use crate::ctl::status::{ConnectionState, Host};
use crate::handlers::{Answer, Ended, Environment, Fence};
use crate::replica::event::{Consent, FenceId, Input, Notice};
use crate::replica::snapshot::Connection;
use crate::wire::message::{DiskState, Refusal};

/// Where handlers find their programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a resync copies to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Peer,
    Here,
}

/// What was told before, and matters for what is told next.
#[derive(Default)]
pub(super) struct Story {
    /// The resync whose end was not told yet.
    resync: Option<Side>,
    /// The split brain that was told, until the nodes are connected again.
    told: Option<Refusal>,
    /// The peer was fenced, and has not got all data again since.
    fenced: bool,
}

impl Daemon {
    /// A refusal in words, for this node.
    pub(super) fn refusal_text(&self, reason: Refusal) -> String {
        let config = &self.options.config;
        let peer = config.peer_of(self.options.node).name.as_str();
        let has_data = has_data(&self.replica.snapshot());
        refusal_text(reason, &Sides { name: config.name.as_str(), peer, has_data })
    }

    /// Runs what is configured for a notice.
    pub(super) fn run_handlers(&mut self, notice: &Notice) {
        match *notice {
            // Two Primaries meet again and again: once is enough.
            Notice::Refused { reason, .. }
                if matches!(reason, Refusal::SplitBrain | Refusal::TwoPrimaries)
                    && self.story.told.replace(reason) != Some(reason) =>
            {
                self.run_handler(HandlerKind::SplitBrain, &self.refusal_text(reason));
            }
            // Told at each meeting until its device is let go: once is enough, too.
            Notice::MustStepDown => {
                let told = Refusal::PrimaryMustStepDown;
                if self.story.told.replace(told) != Some(told) {
                    self.run_handler(HandlerKind::PriLostAfterSb, &self.refusal_text(told));
                }
            }
            Notice::State if self.replica.connection() == Connection::Connected => {
                self.story.told = None;
                self.all_may_be_well();
            }
            Notice::DiskFailed(why) if self.replica.disk() <= DiskState::Failed => {
                self.run_handler(HandlerKind::LocalIoError, why);
            }
            Notice::ResyncStarted { source, .. } => {
                self.story.resync = Some(if source { Side::Peer } else { Side::Here });
            }
            Notice::ResyncDone => self.resync_is_done(),
            _ => {}
        }
    }

    fn resync_is_done(&mut self) {
        match self.story.resync.take() {
            Some(Side::Here) => {
                self.run_handler(HandlerKind::AfterResyncTarget, "the resync is done");
            }
            // Also if this daemon has fenced nobody: the one before it may have.
            Some(Side::Peer) => self.lift_fence("the resync of the peer is done"),
            None => {}
        }
    }

    /// The end of a resync may be told by the next connection, and a peer that was fenced may have missed nothing.
    fn all_may_be_well(&mut self) {
        if self.story.resync.is_none() && !self.story.fenced {
            return;
        }
        let snapshot = self.replica.snapshot();
        let whole = snapshot.replication.is_established()
            && snapshot.disk == DiskState::UpToDate
            && snapshot.peer_disk == Some(DiskState::UpToDate);
        if whole {
            self.resync_is_done();
            if self.story.fenced {
                self.lift_fence("the peer is back and has all data");
            }
        }
    }

    fn lift_fence(&mut self, why: &str) {
        self.story.fenced = false;
        self.run_handler(HandlerKind::UnfencePeer, why);
    }

    /// Nothing is lost any more but what the operator's command may want to look at; without one, the core may go on.
    pub(super) fn ask_handler(&mut self) {
        let why = "a resync is about to overwrite this node's data";
        if !self.run_with(HandlerKind::BeforeResyncTarget, 0, why) {
            self.answer_consent(Consent::Yes);
        }
    }

    /// The core waits for the peer to be out of it; the link has some time left to come back.
    pub(super) fn fence_peer(&mut self, id: FenceId, link_has_ms: u64) {
        let kind = HandlerKind::FencePeer;
        let mut environment = self.environment(kind, "the peer is lost, and must not go on");
        environment.push(("RBLK_LINK_HAS_S".to_owned(), link_has_ms.div_ceil(1000).to_string()));
        let runs = self.handlers.run(kind, id.0, environment);
        assert!(runs, "on-peer-lost = \"fence\" needs a handler");
    }

    fn fence_has_ended(&mut self, id: FenceId, ended: &Ended) {
        let fence = Fence::of(ended);
        let dual = self.options.config.policies.dual_primary;
        let beside_primary = dual && self.replica.has_lost_primary();
        let newest = self.replica.disk() == DiskState::UpToDate;
        let confirmed = fence.confirms(newest, beside_primary);
        self.story.fenced |= confirmed;
        let said = fence.text();
        if confirmed {
            tracing::warn!("the peer is fenced: {said}");
        } else {
            tracing::error!("the peer is not known to be fenced: {said} ({ended})");
        }
        self.feed(Input::Fenced { id, confirmed });
    }

    /// Tells the core what it waits for.
    pub(super) fn take_answers(&mut self) {
        while let Some(Answer { kind, token, ended }) = self.handlers.poll() {
            if kind == HandlerKind::FencePeer {
                self.fence_has_ended(FenceId(token), &ended);
            }
            if kind == HandlerKind::BeforeResyncTarget {
                let yes = ended.exit_code() == Some(0);
                if !yes {
                    tracing::error!(
                        "this node stands alone: before-resync-target did not allow the resync ({ended})"
                    );
                }
                let answer = if yes { Consent::Yes } else { Consent::No };
                self.feed(Input::Consent { answer });
            }
        }
    }

    /// One whose end nobody waits for.
    fn run_handler(&mut self, kind: HandlerKind, reason: &str) {
        self.run_with(kind, 0, reason);
    }

    fn run_with(&mut self, kind: HandlerKind, token: u64, reason: &str) -> bool {
        let environment = self.environment(kind, reason);
        self.handlers.run(kind, token, environment)
    }

    /// What a handler may rely on: docs/handlers.md.
    fn environment(&self, kind: HandlerKind, reason: &str) -> Environment {
        let config = &self.options.config;
        let (me, peer) = (config.node(self.options.node), config.peer_of(self.options.node));
        let minor = self.front.as_ref().and_then(|front| front.minor()).unwrap_or(0);
        let connection = match self.replica.connection() {
            Connection::Connected => ConnectionState::Connected,
            Connection::StandAlone => ConnectionState::StandAlone,
            Connection::Connecting | Connection::Greeting => ConnectionState::Connecting,
        };
        let own = Host::from(&me.address);
        let other = Host::from(&peer.address);
        let hosts: Vec<&str> = peer.addresses().map(Address::host).collect();
        let [first, second] = &config.nodes;
        let facts = [
            ("PATH", PATH.to_owned()),
            ("HOME", "/".to_owned()),
            ("DRBD_RESOURCE", config.name.to_string()),
            ("DRBD_VOLUME", "0".to_owned()),
            ("DRBD_MINOR", minor.to_string()),
            ("DRBD_BACKING_DEV", me.disk.display().to_string()),
            ("DRBD_CSTATE", connection.to_string()),
            ("DRBD_NODE_ID", self.options.node.0.to_string()),
            ("DRBD_NODE_ID_0", first.name.to_string()),
            ("DRBD_NODE_ID_1", second.name.to_string()),
            ("DRBD_MY_ADDRESS", own.address),
            ("DRBD_MY_AF", own.family),
            ("DRBD_PEER", peer.name.to_string()),
            ("DRBD_PEERS", peer.name.to_string()),
            ("DRBD_PEER_NODE_ID", (1 - self.options.node.0).to_string()),
            ("DRBD_PEER_ADDRESS", other.address),
            ("DRBD_PEER_AF", other.family),
            ("RBLK_EVENT", kind.name().to_owned()),
            ("RBLK_RESOURCE", config.name.to_string()),
            ("RBLK_NODE", me.name.to_string()),
            ("RBLK_PEER", peer.name.to_string()),
            ("RBLK_PEER_ADDRESSES", hosts.join(" ")),
            ("RBLK_REASON", reason.to_owned()),
        ];
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
