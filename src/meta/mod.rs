//! Metadata: what a node must remember across a power cut, as plain values and as 4 KiB blocks. PURE.
//!
//! ```text
//! first byte of the disk                                                       last byte of the disk
//! | data area ............ | superblock 0 | bitmap pages | activity-log ring | superblock 1 |
//! ```
//!
//! - [`layout`] computes this picture from the size of the disk alone.
//! - [`superblock`] is who we are, what our data is, and what we know of the peer.
//! - [`former`] finds metadata that lies where the end of the disk was before it grew, and [`moving`] brings it to
//!   the end.
//! - [`records`] is the activity-log transaction and the bitmap page.
//! - [`block`] is the header that all of them share: magic, version, volume, node, own address, sequence,
//!   crc32c.
//!
//! Torn, foreign, older or unreadable metadata means "I know nothing", never "I am clean".

pub mod block;
pub mod former;
pub mod layout;
pub mod moving;
pub mod records;
pub mod recovery;
pub mod superblock;

#[cfg(test)]
mod tests;
