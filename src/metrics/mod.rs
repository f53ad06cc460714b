//! What Prometheus reads: `[metrics]` in the configuration, described in `docs/metrics.md`.
//!
//! Promises: nothing of it runs on the thread that serves the volume but the making of a snapshot, at most once in
//! [`crate::limits::METRICS_AGE_MS`] however many ask; a client costs one thread and a few KiB for a few seconds, and
//! too many of them are turned away. Never: a volume that is not served since its metrics cannot be.
//!
//! ```text
//! listener thread ── accept ──► one thread per client, at most METRICS_CLIENTS_MAX
//!                                  GET /metrics ──► page, if it is fresh ──► answer, end
//!                                                    └ else the daemon's Handler: a snapshot ──► text
//! ```

mod http;
mod server;
mod text;

pub use server::Server;
