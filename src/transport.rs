//! What carries the bytes between the nodes. Each of them is a stream; TLS and all that is said are the same on each.

use serde::{Deserialize, Serialize};

/// What carries the bytes between the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP, on any network.
    #[default]
    Tcp,
    /// SMC: sockets that go over RDMA where both hosts can, and fall back to TCP by themselves where not. Linux 6.11
    /// and newer, if built with it.
    Smc,
    /// RDMA by the sockets of librdmacm; soft RoCE included.
    Rdma,
}

impl Transport {
    /// All, in the order in which they are documented.
    pub const ALL: [Transport; 3] = [Transport::Tcp, Transport::Smc, Transport::Rdma];

    /// Its name in configuration and status.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Smc => "smc",
            Transport::Rdma => "rdma",
        }
    }
}
