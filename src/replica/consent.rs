//! Asking before this node's data is overwritten: an operator's command may want to save it first, or say no.
//!
//! ```text
//!  verdict "target" ─► drop the connection ─► AskConsent ─► ... ─► Consent: yes ─► meet again, without asking
//!                                                                   └───── no ──► stand alone
//! ```
//!
//! Off unless [`Settings::ask_consent`](super::Settings) says so. The answer may take a minute, and a source that waits
//! in the middle of a greeting holds its clients' requests back: so the nodes part before the question, and the source
//! goes on alone. Until the answer comes this node neither dials nor listens, and nothing of it changes.
//!
//! The answer covers the data as it was when the question was asked: it is void once the nodes have met, or this node
//! became Primary. Data that is inconsistent already is not asked about: an interrupted resync just goes on.

use super::Replica;
use crate::replica::event::{Action, Notice};
use crate::replica::generation::Verdict;
use crate::replica::snapshot::StandAlone;

/// Whether this node's data may be overwritten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Consent {
    asking: bool,
    given: bool,
}

impl Consent {
    /// The question is out.
    pub(super) fn is_asked(&self) -> bool {
        self.asking
    }

    /// The data is not what it was when the question was asked.
    pub(super) fn void(&mut self) {
        self.given = false;
    }
}

impl Replica {
    /// True if this verdict would overwrite data that nobody was asked about.
    pub(super) fn needs_consent(&self, found: Verdict) -> bool {
        let target = matches!(found, Verdict::Target { .. });
        self.settings.ask_consent && target && self.sb.consistent && !self.consent.given
    }

    pub(super) fn ask_consent(&mut self) {
        self.consent.asking = true;
        self.actions.push_back(Action::AskConsent);
        self.drop_link("this node's data is to be overwritten: consent is asked for");
    }

    /// The driver has the answer. One that nobody waits for is no harm.
    pub(super) fn on_consent(&mut self, yes: bool) {
        if !std::mem::take(&mut self.consent.asking) {
            return;
        }
        if !yes {
            self.stand_alone(StandAlone::Vetoed);
        }
        self.consent.given = yes;
        self.notify(Notice::State);
    }
}
