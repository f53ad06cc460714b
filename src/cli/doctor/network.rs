//! The way to the peer.

use super::Findings;
use crate::cli::units;
use crate::config::{Address, Config};
use crate::meta::superblock::NodeId;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// A peer that does not answer within this time is taken to be away.
const ANSWER: Duration = Duration::from_secs(3);
/// Less than this does not fit the smallest packet that every network takes.
const MTU_MIN: u32 = 1280;

/// This node's own address.
pub(super) fn own_address(findings: &mut Findings, config: &Config, node: NodeId) {
    const SUBJECT: &str = "own address";
    let own = &config.node(node).address;
    let addresses = match resolve(own) {
        Ok(addresses) => addresses,
        Err(why) => return findings.error(SUBJECT, format!("{own}: {why}"), "correct the address"),
    };
    // Any port will do: whether the address is one of this host's is what matters.
    let bound = addresses.iter().any(|at| TcpListener::bind(SocketAddr::new(at.ip(), 0)).is_ok());
    if bound {
        findings.ok(SUBJECT, own.to_string());
    } else {
        let remedy =
            "correct `address`, or give this host that address; `ip addr` shows what it has";
        findings.error(SUBJECT, format!("{own} is no address of this host"), remedy);
    }
}

/// The peer's: only to be asked while it is not connected, since it would take us for a stranger.
pub(super) fn peer(findings: &mut Findings, config: &Config, node: NodeId) {
    const SUBJECT: &str = "peer";
    let peer = config.peer_of(node);
    let name = &config.name;
    let addresses = match resolve(&peer.address) {
        Ok(addresses) => addresses,
        Err(why) => {
            let remedy = "correct the address, or the name service";
            return findings.error(SUBJECT, format!("{}: {why}", peer.address), remedy);
        }
    };
    let begun = Instant::now();
    let tried = addresses.iter().map(|at| TcpStream::connect_timeout(at, ANSWER));
    match tried.reduce(|first, next| first.or(next)) {
        Some(Ok(stream)) => {
            let took = units::duration(begun.elapsed());
            findings.ok(SUBJECT, format!("{} takes connections, in {took}", peer.address));
            drop(stream);
        }
        Some(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => findings.error(
            SUBJECT,
            format!("{} is there, and nobody listens", peer.address),
            format!(
                "start the daemon there: `systemctl start rblk@{name}` or `rblk attach {name}`"
            ),
        ),
        Some(Err(error)) => findings.error(
            SUBJECT,
            format!("{} does not answer: {error}", peer.address),
            "look at cable, switch and firewall (TCP, both ways), and whether the other host runs",
        ),
        None => findings.error(SUBJECT, format!("{} has no address", peer.address), ""),
    }
}

/// The largest packet on the way to the peer, as the system knows it.
pub(super) fn mtu(findings: &mut Findings, config: &Config, node: NodeId) {
    const SUBJECT: &str = "packet size";
    let own = resolve(&config.node(node).address).unwrap_or_default();
    let peer = resolve(&config.peer_of(node).address).unwrap_or_default();
    let Some(peer) = peer.first() else { return };
    let own = own.iter().find(|own| own.is_ipv4() == peer.is_ipv4());
    let any: IpAddr = if peer.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let from = SocketAddr::new(own.map_or(any, SocketAddr::ip), 0);
    // Nothing is sent: it is only asked which way it would go.
    let asked = std::net::UdpSocket::bind(from).and_then(|socket| {
        socket.connect(peer)?;
        let mtu = if peer.is_ipv4() {
            rustix::net::sockopt::ip_mtu(&socket)?
        } else {
            rustix::net::sockopt::ipv6_mtu(&socket)?
        };
        Ok(mtu)
    });
    match asked {
        Ok(mtu) if mtu >= MTU_MIN => {
            findings.ok(SUBJECT, format!("{mtu} bytes on the way to the peer"));
        }
        Ok(mtu) => findings.warning(
            SUBJECT,
            format!("{mtu} bytes on the way to the peer"),
            "set the interface to 1500 or more on both nodes and all that is between them",
        ),
        Err(error) => findings.error(
            SUBJECT,
            format!("there is no way to {peer}: {error}"),
            "look at `ip route`; give this host a route to the peer",
        ),
    }
}

fn resolve(address: &Address) -> Result<Vec<SocketAddr>, String> {
    let found = (address.host(), address.port()).to_socket_addrs();
    found.map(Iterator::collect).map_err(|error| error.to_string())
}
