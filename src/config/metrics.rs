//! `[metrics]`: where Prometheus finds the daemon. See `docs/metrics.md`.

use super::section::{Section, Source, shorten};
use crate::error::Result;
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};

/// An address for scrapes. Each resource has a daemon, and with it an address, of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Metrics {
    /// Where the daemon listens.
    pub listen: SocketAddr,
}

impl Metrics {
    /// True if others than this host can read them.
    pub fn public(&self) -> bool {
        !self.listen.ip().is_loopback()
    }
}

/// What `[metrics]` says.
pub(super) fn parse(source: Source<'_>, section: &Section<'_>) -> Result<Metrics> {
    section.only(&["listen"])?;
    let found = section.required("listen", "\"127.0.0.1:7791\"")?;
    match address(found.value) {
        Some(listen) => Ok(Metrics { listen }),
        None => {
            let wrong = format!(
                "listen = \"{}\": expected an IP address and a port such as \"127.0.0.1:7791\" or \"[::]:7791\"; a \
                 port alone, \"7791\", is for this host only",
                shorten(found.value)
            );
            Err(source.error(&found.span, wrong))
        }
    }
}

/// Without a host it is the loopback address: nobody else is let in by accident.
fn address(text: &str) -> Option<SocketAddr> {
    let alone = text.strip_prefix(':').unwrap_or(text);
    let address = match alone.bytes().all(|byte| byte.is_ascii_digit()) {
        true => SocketAddr::from((Ipv4Addr::LOCALHOST, alone.parse().ok()?)),
        false => text.parse().ok()?,
    };
    (address.port() != 0).then_some(address)
}
