//! Asking before this node's data is overwritten: what is discarded is to be saved first, and an operator's command may
//! want to do more, or say no.
//!
//! ```text
//!  verdict "target" ─► drop the connection ─► AskConsent ─► ... ─► Consent: yes ─► meet again, without asking
//!                                                                   └── no, unsaved ──► stand alone
//! ```
//!
//! Off unless [`Settings::ask_consent`](super::Settings) or [`Settings::salvage`](super::Settings) says so; the latter
//! asks about data that went its own way, and only about that. The answer may take a while, and a source that waits in
//! the middle of a greeting holds its clients' requests back: so the nodes part before the question, and the source
//! goes on alone. Until the answer comes this node neither dials nor listens, and nothing of it changes.
//!
//! The answer covers the data as it was when the question was asked: it is void once the nodes have met, or this node
//! became Primary, also while the question was out. Data that is inconsistent already is not asked about: an
//! interrupted resync just goes on. A Primary's data changes while it is being saved: where that is to be discarded, by
//! whatever policy, it steps down first.

use super::Replica;
use crate::replica::event::{Action, Consent as Answer, Discarded, Notice};
use crate::replica::generation::{Side, Verdict, is_discarded};
use crate::replica::snapshot::StandAlone;
use crate::wire::message::{Refusal, Role};

/// Whether this node's data may be overwritten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Consent {
    asking: bool,
    /// The data has changed since the question.
    overtaken: bool,
    given: bool,
    /// What was to be saved by the question that is out, or was with the answer that counts.
    saved: Option<Discarded>,
}

impl Consent {
    /// The question is out.
    pub(super) fn is_asked(&self) -> bool {
        self.asking
    }

    /// The data is not what it was when the question was asked.
    pub(super) fn void(&mut self) {
        self.given = false;
        self.overtaken = self.asking;
    }

    /// True if all that is discarded was saved.
    fn covers(&self, discarded: Discarded) -> bool {
        let saved = self.saved.filter(|saved| self.given && saved.own == discarded.own);
        saved.is_some_and(|saved| saved.everything || saved == discarded)
    }
}

impl Replica {
    /// As the target of this peer, what this node discards and has to be saved.
    pub(super) fn discarded_by(
        &self,
        me: Side<'_>,
        peer: Side<'_>,
        everything: bool,
    ) -> Option<Discarded> {
        let (own, source) = (me.state.current?, peer.state.current?);
        let base = me.state.base.filter(|base| !everything && peer.state.base == Some(*base));
        let wanted = self.settings.salvage && self.sb.consistent && is_discarded(me, peer);
        wanted.then_some(Discarded { own, source, base, everything })
    }

    /// The verdict is that this node's data is overwritten.
    pub(super) fn may_be_target(&mut self, found: Verdict, discarded: Option<Discarded>) {
        if discarded.is_some() && self.role == Role::Primary {
            self.must_step_down(true);
            self.refuse(Refusal::PrimaryMustStepDown);
        } else if self.needs_consent(found)
            || discarded.is_some_and(|lost| !self.consent.covers(lost))
        {
            self.ask_consent(discarded);
        } else {
            self.start_exchange(found);
        }
    }

    /// True if this verdict would overwrite data that nobody was asked about.
    fn needs_consent(&self, found: Verdict) -> bool {
        let target = matches!(found, Verdict::Target { .. });
        // A Primary beside a Primary gets what it has already, except for what is under way.
        let serves = self.role == Role::Primary && self.settings.policies.dual_primary;
        let ask = self.settings.ask_consent && target && self.sb.consistent && !serves;
        ask && !self.consent.given
    }

    fn ask_consent(&mut self, discarded: Option<Discarded>) {
        self.consent = Consent { asking: true, overtaken: false, given: false, saved: discarded };
        self.actions.push_back(Action::AskConsent { discarded });
        self.drop_link("this node's data is to be overwritten: consent is asked for");
    }

    /// The driver has the answer. One that nobody waits for is no harm.
    pub(super) fn on_consent(&mut self, answer: Answer) {
        if !std::mem::take(&mut self.consent.asking) {
            return;
        }
        let overtaken = std::mem::take(&mut self.consent.overtaken);
        match answer {
            Answer::Yes => {}
            Answer::No => self.stand_alone(StandAlone::Vetoed),
            // What was saved is void by now: the next meeting asks again.
            Answer::Unsaved if overtaken => {}
            Answer::Unsaved => self.stand_alone(StandAlone::Unsaved),
        }
        let yes = answer == Answer::Yes && !overtaken;
        self.consent.given = yes;
        self.notify(Notice::State);
    }
}
