//! The listening sockets of a node that is dialled: one on each of its addresses.
//!
//! An address that cannot be had now (its interface is not up yet) is told once and tried again after each pause: the
//! others listen meanwhile. What is told is said again only when the reason changes.

use crate::io::Io;
use crate::io::net::Listener;
use crate::io::ring::{Completion, Owner};
use crate::limits::RECONNECT_MS;
use crate::replica::event::Tick;
use crate::transport::Transport;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// An address, and who listens there.
struct Place {
    address: SocketAddr,
    listener: Option<Listener>,
    again_at: Tick,
    /// Why nobody does.
    why: Option<String>,
}

/// Those of all addresses. Their tokens have [`Owner::Net`] and the index of the address as instance.
pub(super) struct Listeners {
    places: Vec<Place>,
    transport: Transport,
    timeout_ms: u64,
}

impl Listeners {
    /// For these addresses. Nobody listens yet.
    pub(super) fn new(
        addresses: impl Iterator<Item = SocketAddr>,
        transport: Transport,
        timeout_ms: u64,
    ) -> Listeners {
        let place = |address| Place { address, listener: None, again_at: Tick(0), why: None };
        Listeners { places: addresses.map(place).collect(), transport, timeout_ms }
    }

    /// Listens where nobody does and it is time to try.
    ///
    /// # Errors
    /// The reasons why somewhere nobody does, if one was tried.
    pub(super) fn open(&mut self, io: &mut Io, now: Tick) -> std::io::Result<()> {
        let mut failure = None;
        for (at, place) in self.places.iter_mut().enumerate() {
            if place.listener.is_some() || now < place.again_at {
                continue;
            }
            let ours = (Owner::Net, at as u16);
            match Listener::bind(self.transport, place.address, self.timeout_ms, ours) {
                Ok(mut listener) => {
                    listener.start(&mut io.ring);
                    place.listener = Some(listener);
                    if place.why.take().is_some() {
                        tracing::info!("listens on {}", place.address);
                    }
                }
                Err(error) => {
                    let why = error.to_string();
                    if place.why.as_ref() != Some(&why) {
                        tracing::warn!("{why}");
                    }
                    place.why = Some(why);
                    place.again_at = now.plus_ms(RECONNECT_MS);
                    failure = Some(error.kind());
                }
            }
        }
        let Some(kind) = failure else { return Ok(()) };
        let reasons: Vec<String> = self.reasons().collect();
        Err(std::io::Error::new(kind, reasons.join("; ")))
    }

    /// Why nobody does, for each address where that is so though it should not be.
    pub(super) fn reasons(&self) -> impl Iterator<Item = String> + '_ {
        self.places.iter().filter_map(|place| place.why.clone())
    }

    /// Somewhere somebody does.
    pub(super) fn any(&self) -> bool {
        self.places.iter().any(|place| place.listener.is_some())
    }

    /// When [`Listeners::open`] has something to do; `None` if somebody listens everywhere.
    pub(super) fn next_tick(&self) -> Option<Tick> {
        let missing = self.places.iter().filter(|place| place.listener.is_none());
        missing.map(|place| place.again_at).min()
    }

    /// Takes a completion; tells of a new connection: at which address, and from where.
    pub(super) fn on_completion(
        &mut self,
        io: &mut Io,
        done: Completion,
    ) -> Option<(usize, OwnedFd, SocketAddr)> {
        let at = usize::from(done.token.instance());
        let listener = self.places.get_mut(at)?.listener.as_mut()?;
        let (socket, from) = listener.on_completion(&mut io.ring, done)?;
        Some((at, socket, from))
    }

    /// Nobody is to listen any more. Take completions until [`Listeners::ended`].
    pub(super) fn close(&mut self, io: &mut Io) {
        for place in &mut self.places {
            place.why = None;
            if let Some(listener) = &mut place.listener {
                listener.close(&mut io.ring);
            }
        }
    }

    /// What has ended makes room for the next, which may be tried at once.
    pub(super) fn forget_ended(&mut self) {
        for place in &mut self.places {
            if place.listener.as_ref().is_some_and(Listener::ended) {
                place.listener = None;
                place.again_at = Tick(0);
            }
        }
    }

    /// True when nothing of them is left on the ring.
    pub(super) fn ended(&self) -> bool {
        self.places.iter().filter_map(|place| place.listener.as_ref()).all(Listener::ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io() -> Io {
        Io::new(8, 1, crate::limits::IO_BYTES_MAX).expect("io_uring")
    }

    /// A port that is free, most likely.
    fn free(host: &str) -> SocketAddr {
        let probe = std::net::TcpListener::bind((host, 0)).expect("a port");
        probe.local_addr().expect("bound")
    }

    #[test]
    fn an_address_that_comes_later_is_listened_on_later() {
        let mut io = io();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addresses = [taken.local_addr().expect("bound"), free("127.0.0.2")];
        let mut all = Listeners::new(addresses.into_iter(), Transport::Tcp, 4000);
        assert_eq!((all.any(), all.next_tick()), (false, Some(Tick(0))));
        let error = all.open(&mut io, Tick(0)).expect_err("one is taken").to_string();
        assert!(error.contains(&addresses[0].to_string()), "{error}");
        assert!(!error.contains(&addresses[1].to_string()), "{error}");
        let again = Tick(0).plus_ms(RECONNECT_MS);
        assert_eq!((all.any(), all.next_tick()), (true, Some(again)));
        drop(taken);
        all.open(&mut io, Tick(0)).expect("it is not time");
        assert_eq!(all.next_tick(), Some(again));
        all.open(&mut io, again).expect("free now");
        assert_eq!(all.next_tick(), None);
        let _one = std::net::TcpStream::connect(addresses[0]).expect("connects");
        let _two = std::net::TcpStream::connect(addresses[1]).expect("connects");
        let mut found = Vec::new();
        while found.len() < 2 {
            match io.ring.next() {
                Some(done) => found.extend(all.on_completion(&mut io, done).map(|one| one.0)),
                None => io.ring.wait(Some(std::time::Duration::from_secs(10))).expect("usable"),
            }
        }
        found.sort_unstable();
        assert_eq!(found, [0, 1], "each is known by its address");
        all.close(&mut io);
        assert!(!all.ended());
        while !all.ended() {
            match io.ring.next() {
                Some(done) => assert!(all.on_completion(&mut io, done).is_none()),
                None => io.ring.wait(Some(std::time::Duration::from_secs(10))).expect("usable"),
            }
        }
        all.forget_ended();
        assert_eq!((all.any(), all.next_tick()), (false, Some(Tick(0))));
    }
}
