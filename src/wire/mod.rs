//! The language that two nodes speak over one byte stream. PURE.
//!
//! - [`message`] lists what can be said; only valid messages can be represented.
//! - [`policy`] lists what operators can order for the case of a split brain.
//! - [`digest`] is what two nodes compare instead of a block.
//! - [`frame`] turns a message into a header of 64 bytes and back. The payload follows the header on the
//!   stream and is handled by the caller, who also computes its checksum: a message never owns bytes.
//!
//! # Versions of the protocol, newest first
//!
//! | version | what changed |
//! |---|---|
//! | 3 | Hello has `config` |
//! | 2 | sent only to a peer that speaks it: verify's DigestAsk and DigestReply, and `kept` in State |
//! | 1 | the first |
//!
//! A change to [`message`] or [`frame`] that an older node cannot read takes a new number here.

pub mod digest;
pub mod frame;
pub mod message;
pub mod policy;

/// The newest version this build speaks.
pub const PROTOCOL_MAX: u16 = 3;
/// The oldest version this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// The version from which on a node can be asked for digests, and knows what `kept` means.
pub const PROTOCOL_2: u16 = 2;
/// The version from which on a node says which configuration it has.
pub const PROTOCOL_3: u16 = 3;
