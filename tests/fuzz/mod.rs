//! What the fuzzer runs: one function per target, from bytes to a verdict by panic. The same functions replay the
//! committed corpora in `tests/corpora.rs`.
//!
//! | target | what it takes apart |
//! |---|---|
//! | `frames` | one frame of the peer protocol, with right or with repaired checksums |
//! | `stream` | a stream of frames, cut into pieces of any size |
//! | `blocks` | one metadata block |
//! | `recovery` | a disk: both superblocks, log and bitmap, up to a node that starts from them |
//! | `bitmaps` | the exchange of bitmaps with a peer that sends any pages |
//! | `config` | a configuration file |
//! | `import` | a configuration file of DRBD |
//! | `control` | lines on the control socket, and arbitrary pieces of them |
//! | `nbd` | a client of the NBD server: handshake, requests, payload |
//! | `tls` | a TLS session with somebody in between |
//! | `pair` | a token of `rblk pair`, and the edit of a configuration |
//! | `core` | a node whose peer says anything, on a disk that is slow, fails and forgets |

pub(crate) mod bitmaps;
pub(crate) mod blocks;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod core;
pub(crate) mod frames;
pub(crate) mod import;
pub(crate) mod input;
pub(crate) mod messages;
pub(crate) mod nbd;
pub(crate) mod node;
pub(crate) mod pair;
pub(crate) mod recovery;
pub(crate) mod stream;
pub(crate) mod tls;

/// Panics if a promise is broken.
pub(crate) type Target = fn(&[u8]);

/// Targets by name.
pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("frames", frames::run),
    ("stream", stream::run),
    ("blocks", blocks::run),
    ("recovery", recovery::run),
    ("bitmaps", bitmaps::run),
    ("config", config::run),
    ("import", import::run),
    ("control", control::run),
    ("nbd", nbd::run),
    ("tls", tls::run),
    ("pair", pair::run),
    ("core", core::run),
];
