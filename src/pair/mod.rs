//! Two bare nodes get to know each other: `rblk pair` on one makes a token, `rblk join` on the other brings it back.
//!
//! ```text
//!   pair (host)                                        join (guest)
//!     token ─────────── by the administrator ──────────► token
//!     │                                                    │
//!     │◄──── TLS 1.3: the host's key is the token's ──────►│
//!     │◄── Proof: MAC(secret, this session, both keys) ────┤
//!     ├─── Offer: the same of the host, configuration ────►│  checks it, writes it beside the old one
//!     │◄── Ready ──────────────────────────────────────────┤
//!     │ its own configuration changes                      │
//!     ├─── Written ───────────────────────────────────────►│  its own configuration changes
//!     │◄── Done ───────────────────────────────────────────┤
//! ```
//!
//! Promises: who does not know the token's secret gets nothing but a refusal, whatever he relays or repeats; a crash
//! between any two lines leaves each node with the file it had or with one that lets nobody but the other in, and doing
//! it again heals it; strangers cost a bounded number of connections, bytes and seconds, and do not keep the guest out.
//! Never: a secret in a log, in an error or in a file; a guess that is compared byte by byte.

mod door;
mod edit;
mod file;
mod home;
mod join;
mod line;
mod message;
mod proof;
mod token;

pub use door::{Door, Joined};
pub use edit::keep_key_in;
pub use file::{Written, ensure_folder};
pub use home::Home;
pub use join::{Offered, join};
pub use message::Trouble;
pub use proof::Secret;
pub use token::Token;

#[cfg(test)]
mod tests;
