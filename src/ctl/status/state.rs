//! DRBD's words for states.

use super::message;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Declares an enum whose variants are written exactly as they are named.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$variant,)+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $($name::$variant => f.write_str(stringify!($variant)),)+ }
            }
        }
    };
}

words! {
    /// A role of a node.
    Role {
        /// Not connected, so not known.
        #[default]
        Unknown,
        /// Serves the device and writes.
        Primary,
        /// Receives the writes of the Primary.
        Secondary,
    }
}

words! {
    /// The state of a disk.
    DiskState {
        /// The peer's, while not connected.
        #[default]
        DUnknown,
        /// There is none: it failed and was given up.
        Diskless,
        /// It failed; its last requests are still being waited for.
        Failed,
        /// Not one point in time: fresh, or the target of a resync.
        Inconsistent,
        /// One point in time, and known to be old.
        Outdated,
        /// One point in time; whether the newest is not known until the peer is asked.
        Consistent,
        /// The newest data there is.
        UpToDate,
    }
}

words! {
    /// The state of the connection.
    ConnectionState {
        /// Does not try to connect.
        #[default]
        StandAlone,
        /// Tries to.
        Connecting,
        /// Both nodes agreed on what their disks are to each other.
        Connected,
    }
}

words! {
    /// What the two disks are doing.
    ReplicationState {
        /// Not connected.
        #[default]
        Off,
        /// Every write goes to both.
        Established,
        /// The bitmaps are being exchanged; this node will be the source.
        WFBitMapS,
        /// The bitmaps are being exchanged; this node will be the target.
        WFBitMapT,
        /// This node copies to the peer.
        SyncSource,
        /// The peer copies to this node.
        SyncTarget,
        /// Both disks are compared, by this node.
        VerifyS,
        /// Both disks are compared, by the peer.
        VerifyT,
    }
}

impl ReplicationState {
    /// Every write goes to both, and nothing is copied.
    pub fn is_established(self) -> bool {
        matches!(
            self,
            ReplicationState::Established | ReplicationState::VerifyS | ReplicationState::VerifyT
        )
    }
}

impl From<message::Role> for Role {
    fn from(role: message::Role) -> Role {
        match role {
            message::Role::Primary => Role::Primary,
            message::Role::Secondary => Role::Secondary,
        }
    }
}

impl From<message::DiskState> for DiskState {
    fn from(state: message::DiskState) -> DiskState {
        match state {
            message::DiskState::Diskless => DiskState::Diskless,
            message::DiskState::Failed => DiskState::Failed,
            message::DiskState::Inconsistent => DiskState::Inconsistent,
            message::DiskState::Outdated => DiskState::Outdated,
            message::DiskState::Consistent => DiskState::Consistent,
            message::DiskState::UpToDate => DiskState::UpToDate,
        }
    }
}
