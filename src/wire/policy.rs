//! What is to happen after a split brain, as operators ordered it beforehand: DRBD's policies, with DRBD's meaning.
//!
//! Both nodes must have the same orders, since each decides for itself ([`crate::replica::split_brain`]).

/// A type whose values have words in the configuration.
macro_rules! choices {
    ($(#[$doc:meta])* $type:ident { $($(#[$about:meta])* $value:ident $word:literal)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $type {
            $($(#[$about])* $value,)+
        }

        impl $type {
            /// All there are.
            pub const ALL: &[$type] = &[$($type::$value,)+];

            /// Its word in the configuration.
            pub fn word(self) -> &'static str {
                match self {
                    $($type::$value => $word,)+
                }
            }
        }
    };
}

choices! {
    /// Nobody is Primary when the nodes meet: whose changes are lost?
    After0pri {
        /// Nobody's: an operator decides.
        Disconnect "disconnect"
        /// Those of the node that became Primary later.
        DiscardYoungerPrimary "discard-younger-primary"
        /// Those of the node that was Primary before the two parted.
        DiscardOlderPrimary "discard-older-primary"
        /// Those of the node that has none; if both have some, nobody's.
        DiscardZeroChanges "discard-zero-changes"
        /// Those of the node that has fewer.
        DiscardLeastChanges "discard-least-changes"
        /// Those of the first node of the configuration. In the configuration its name stands there.
        DiscardFirstNode "discard-node-"
        /// Those of the second.
        DiscardSecondNode "discard-node-"
    }
}

choices! {
    /// One node is Primary.
    After1pri {
        /// An operator decides.
        Disconnect "disconnect"
        /// As without a Primary, if that discards the Secondary's changes; else an operator decides.
        Consensus "consensus"
        /// As without a Primary, even if its clients' data changes under them (`rr-conflict` allowing).
        ViolentlyAs0p "violently-as0p"
        /// The Secondary's changes are lost.
        DiscardSecondary "discard-secondary"
        /// As without a Primary; if that discards the Primary's changes, it must step down before.
        CallPriLostAfterSb "call-pri-lost-after-sb"
    }
}

choices! {
    /// Both are Primary.
    After2pri {
        /// An operator decides.
        Disconnect "disconnect"
        /// As without a Primary. Where only one may be Primary, the other must be demoted before.
        ViolentlyAs0p "violently-as0p"
        /// As without a Primary, and the one that loses must step down before.
        CallPriLostAfterSb "call-pri-lost-after-sb"
    }
}

choices! {
    /// The data of a Primary would be overwritten by newer data.
    RrConflict {
        /// The nodes stay apart until an operator decides.
        Disconnect "disconnect"
        /// The nodes try again later: it heals when the Primary has stepped down.
        RetryConnect "retry-connect"
        /// It is overwritten, under its clients.
        Violently "violently"
        /// The Primary must step down; then the nodes try again.
        CallPriLost "call-pri-lost"
    }
}

/// What both nodes must have been ordered alike, or each would decide for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policies {
    /// Both may be Primary at once.
    pub dual_primary: bool,
    /// Nobody is Primary.
    pub after_0pri: After0pri,
    /// One is.
    pub after_1pri: After1pri,
    /// Both are.
    pub after_2pri: After2pri,
    /// A Primary is behind.
    pub rr_conflict: RrConflict,
}

impl Default for Policies {
    /// Nothing is lost without an operator.
    fn default() -> Policies {
        Policies {
            dual_primary: false,
            after_0pri: After0pri::Disconnect,
            after_1pri: After1pri::Disconnect,
            after_2pri: After2pri::Disconnect,
            rr_conflict: RrConflict::RetryConnect,
        }
    }
}
