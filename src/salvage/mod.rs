//! What a resync discards, kept: the blocks that a node wrote on its own way, in files, before they are overwritten.
//!
//! ```text
//!  DIRECTORY/RESOURCE/SET/index    a line of JSON ([`Header`]), a record for each extent, a checksum of all that
//!                        /data     the blocks, back to back, in the order of the records; zeroes are holes
//! ```
//!
//! - A set is whole or not there: it is written under a name that starts with a dot, synced, then renamed.
//! - Whatever is in a file, it is read within bounded memory and never believed unchecked: each extent has a checksum,
//!   the index has one, and extents ascend within the volume.
//! - Nothing is ever deleted silently but an older set of the same generation, once the new one is whole.
//!
//! `marks.rs` has which blocks, `index.rs` the format, `store.rs` the folder of a resource, `save.rs` and `export.rs`
//! the way in and out.

mod export;
mod index;
mod marks;
mod save;
mod store;
#[cfg(test)]
mod tests;

pub use export::{export, new_output};
pub use index::{Extent, FORMAT, Header};
pub use marks::Marks;
pub use save::{Order, Progress, Saved, save};
pub use store::{Listed, Set, Store};
