//! What threads share, under names that the model checker's twins can take the place of: see `tests/loom`.

pub(crate) use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
