//! Small worlds, exhaustively: short scripts in which each single thing goes wrong once.
//!
//! Every script is played once to count its events, disk operations, metadata writes and messages; then once for each
//! of them and each kind of fault (`fault.rs`): what fails, or crashes, is the Nth. All oracles are on, and whatever
//! struck, the world must end well (`ending.rs`): no client waits, both disks are equal and stable, nothing is marked,
//! nothing that was acknowledged is lost, and the mirror works.
//!
//! Then some of the many others, by lot: other latencies, and a second fault, which is counted from where the first has
//! struck and may strike while the world recovers.
//!
//! | variable | meaning |
//! |---|---|
//! | `RBLK_SIM_WORLD=SCRIPT#SCHEDULE/FAULT@N+FAULT@M` | play one world with its trace, as a failure prints it |
//! | `RBLK_SIM_WORLD=SCRIPT` | play the script undisturbed, with its trace |
//! | `RBLK_SIM_SCRIPT=SCRIPT` | the worlds of one script |
//! | `RBLK_SIM_LOTS=N` | N lots of five worlds for each script (default 100) |
//! | `RBLK_SIM_ALL=1` | go on with the next script after one with a world that ends badly |

mod ending;
pub(crate) mod fault;
pub(crate) mod inject;
mod scripts;
mod stage;
pub(crate) mod sweep;
