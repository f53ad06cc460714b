//! The numbers that types and values have on the wire. None is 0, and none is ever given to another value.

use crate::wire::message::{DiskState, Outcome, Refusal, Role, ZeroKind};
use crate::wire::policy::{After0pri, After1pri, After2pri, RrConflict};

/// A value with a number.
pub(super) trait Code: Sized {
    /// Its number.
    fn code(self) -> u8;
    /// The value with this number.
    fn from_code(code: u8) -> Option<Self>;
}

/// Types of messages; see [`crate::wire::message::Message`] for what they say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Hello,
    State,
    Refuse,
    BitmapPage,
    BitmapFull,
    BitmapAck,
    BitmapEnd,
    Ready,
    Write,
    WriteZero,
    WriteAck,
    Flush,
    FlushAck,
    Read,
    ReadReply,
    ResyncData,
    ResyncZero,
    ResyncAck,
    ResyncEnd,
    ResyncEndAck,
    PromoteAsk,
    PromoteAnswer,
    RoleIs,
    DiskFailed,
    DiskFailedAck,
    Bye,
    Ping,
    Pong,
    Mark,
    DigestAsk,
    DigestReply,
}

/// Both directions from one table; the compiler finds what is missing or there twice.
macro_rules! codes {
    ($($type:ident { $($code:literal $value:ident)+ })+) => { $(
        impl Code for $type {
            fn code(self) -> u8 {
                match self {
                    $($type::$value => $code,)+
                }
            }

            fn from_code(code: u8) -> Option<$type> {
                match code {
                    $($code => Some($type::$value),)+
                    _ => None,
                }
            }
        }
    )+ };
}

codes! {
    Kind {
        1 Hello
        2 State
        3 Refuse
        4 BitmapPage
        5 BitmapFull
        6 BitmapAck
        7 BitmapEnd
        8 Ready
        9 Write
        10 WriteZero
        11 WriteAck
        12 Flush
        13 FlushAck
        14 Read
        15 ReadReply
        16 ResyncData
        17 ResyncZero
        18 ResyncAck
        19 ResyncEnd
        20 ResyncEndAck
        21 PromoteAsk
        22 PromoteAnswer
        23 RoleIs
        24 DiskFailed
        25 DiskFailedAck
        26 Bye
        27 Ping
        28 Pong
        29 Mark
        30 DigestAsk
        31 DigestReply
    }
    Role {
        1 Primary
        2 Secondary
    }
    DiskState {
        1 Diskless
        2 Failed
        3 Inconsistent
        4 Outdated
        5 Consistent
        6 UpToDate
    }
    Outcome {
        1 Done
        2 Failed
        3 Skipped
    }
    ZeroKind {
        1 Discard
        2 Zeroes
        3 ZeroesAllocated
    }
    Refusal {
        1 Protocol
        2 Volume
        3 Node
        4 Size
        5 Limits
        6 SplitBrain
        7 Unrelated
        8 PrimaryWouldBeTarget
        9 TwoPrimaries
        10 SourceOutdated
        11 NoSource
        12 BothDiscard
        13 DataLost
        14 RolledBack
        15 Policies
        16 PrimaryMustStepDown
        17 SourceUnsure
    }
    After0pri {
        1 Disconnect
        2 DiscardYoungerPrimary
        3 DiscardOlderPrimary
        4 DiscardZeroChanges
        5 DiscardLeastChanges
        6 DiscardFirstNode
        7 DiscardSecondNode
    }
    After1pri {
        1 Disconnect
        2 Consensus
        3 ViolentlyAs0p
        4 DiscardSecondary
        5 CallPriLostAfterSb
    }
    After2pri {
        1 Disconnect
        2 ViolentlyAs0p
        3 CallPriLostAfterSb
    }
    RrConflict {
        1 Disconnect
        2 RetryConnect
        3 Violently
        4 CallPriLost
    }
}
