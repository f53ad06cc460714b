//! Questions before a resync: an operator's command that takes its time, and the saving of what is discarded.
//!
//! What is saved here is the node's whole disk as it is when the answer is given: the oracle below says that it was
//! saved before it is overwritten, and has not changed since.

use crate::node::Fact;
use crate::world::{Event, World};
use rblk::meta::superblock::GenerationId;
use rblk::replica::event::{Consent, Discarded};
use rblk::wire::message::Role;

/// The longest that an answer takes.
const CONSENT_US: u64 = 3_000_000;

impl World {
    pub(crate) fn consent_asked(&mut self, node: usize, discarded: Option<Discarded>) {
        let target = &mut self.nodes[node];
        let (command, salvage) = (target.settings.ask_consent, target.settings.salvage);
        assert!(command || salvage, "oracle consent: nobody wants to be asked");
        assert!(command || discarded.is_some(), "oracle consent: there is nothing to save");
        assert!(salvage || discarded.is_none(), "oracle consent: nobody saves anything");
        let sb = &target.disk.meta.superblock;
        assert!(sb.consistent, "oracle consent: asked when the data is no more");
        if let Some(discarded) = discarded {
            assert!(sb.current == Some(discarded.own), "oracle consent: another generation");
            assert!(target.role() == Some(Role::Secondary), "oracle consent: clients write on");
            self.sums.count("data to be saved before a resync");
        }
        let target = &mut self.nodes[node];
        target.asked += 1;
        let life = target.life;
        let delay = self.rng.between(1, CONSENT_US);
        self.after(delay, Event::Consent { node, life, discarded });
        self.sums.count("questions before a resync");
    }

    pub(crate) fn consent(&mut self, node: usize, life: u32, discarded: Option<Discarded>) {
        if self.nodes[node].life != life {
            return;
        }
        let bad_day = !self.healing && !self.operator.idle && self.rng.chance(25);
        let target = &mut self.nodes[node];
        let unsaved = discarded.is_some() && (target.unsavable || bad_day && self.rng.chance(50));
        let answer = match discarded {
            _ if unsaved => Consent::Unsaved,
            _ if target.vetoes || bad_day => Consent::No,
            None => Consent::Yes,
            Some(discarded) => {
                target.saved = Some((discarded, target.disk.current.clone()));
                Consent::Yes
            }
        };
        self.tell(node, Fact::Consent { answer });
    }

    /// The data of `node`, of generation `old`, is about to be overwritten.
    pub(crate) fn oracle_salvage(&mut self, node: usize, old: GenerationId) {
        let target = &self.nodes[node];
        let source = &self.nodes[1 - node].disk.meta.superblock;
        let known =
            source.current == Some(old) || source.base == Some(old) || source.history.contains(old);
        if known || !target.settings.salvage {
            return;
        }
        let saved = target.saved.as_ref().filter(|(discarded, _)| discarded.own == old);
        let Some((_, sectors)) = saved else {
            panic!("oracle salvage: {old:?} of node {node} is overwritten, and was not saved");
        };
        assert!(
            *sectors == target.disk.current,
            "oracle salvage: {old:?} of node {node} has changed since"
        );
        self.sums.count("data saved before a resync");
    }
}
