//! The way to the peer.

use super::Findings;
use crate::cli::units;
use crate::config::{Address, Config};
use crate::ctl::status::Resource;
use crate::meta::superblock::NodeId;
use crate::transport::Transport;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::time::{Duration, Instant};

/// A peer that does not answer within this time is taken to be away.
const ANSWER: Duration = Duration::from_secs(3);
/// Less than this does not fit the smallest packet that every network takes.
const MTU_MIN: u32 = 1280;

/// This node's own address on each path.
pub(super) fn own_address(findings: &mut Findings, config: &Config, node: NodeId) {
    for own in config.node(node).addresses() {
        one_of_ours(findings, own);
    }
}

fn one_of_ours(findings: &mut Findings, own: &Address) {
    const SUBJECT: &str = "own address";
    let addresses = match resolve(own) {
        Ok(addresses) => addresses,
        Err(why) => return findings.error(SUBJECT, format!("{own}: {why}"), "correct the address"),
    };
    // Any port will do: whether the address is one of this host's is what matters.
    let bound = addresses.iter().any(|at| TcpListener::bind(SocketAddr::new(at.ip(), 0)).is_ok());
    if bound {
        findings.ok(SUBJECT, own.to_string());
    } else {
        let remedy = "correct it in the configuration, or give this host that address; `ip addr` shows what it has";
        findings.error(SUBJECT, format!("{own} is no address of this host"), remedy);
    }
}

/// The peer's, on each path: only to be asked while it is not connected, since it would take us for a stranger.
pub(super) fn peer(findings: &mut Findings, config: &Config, node: NodeId) {
    for at in 0..config.node(node).addresses().count() {
        peer_at(findings, config, node, at);
    }
}

fn peer_at(findings: &mut Findings, config: &Config, node: NodeId, at: usize) {
    const SUBJECT: &str = "peer";
    let name = &config.name;
    let Some(address) = config.peer_of(node).addresses().nth(at) else { return };
    match knock(config, node, at) {
        Ok(took) => findings.ok(SUBJECT, format!("{address} takes connections, in {took}")),
        Err(Closed::Unknown(why)) => {
            let remedy = "correct the address, or the name service";
            findings.error(SUBJECT, format!("{address}: {why}"), remedy);
        }
        // By TCP nobody listens for RDMA, nor for a node that is dialled: that the host answers is all there is to see.
        Err(Closed::Refused) if !is_dialled_by_tcp(config, node) => {
            let dials = &config.node(NodeId(0)).name;
            let said = match node {
                NodeId(0) => "whether its daemon listens for RDMA was not tried".to_owned(),
                _ => format!("{dials} dials this node: `rblk doctor {name}` there says whether it is let in"),
            };
            findings.ok(SUBJECT, format!("{address} is there; {said}"));
        }
        Err(Closed::Silent(error)) if node != NodeId(0) => findings.warning(
            SUBJECT,
            format!("{address} does not answer: {error}"),
            "nothing has to get through to that port, the other node dials this one; if that host is not behind a \
             firewall, look at cable and switch, and whether it runs",
        ),
        Err(Closed::Refused) => findings.error(
            SUBJECT,
            format!("{address} is there, and nobody listens"),
            format!(
                "`rblk status {name}` there says whether it stands alone, and then does not listen; if its daemon does \
                 not run: `systemctl start rblk@{name}`"
            ),
        ),
        Err(Closed::Silent(error)) => findings.error(
            SUBJECT,
            format!("{address} does not answer: {error}"),
            "look at cable, switch and firewall (TCP, both ways), and whether the other host runs",
        ),
    }
}

/// The peer of `node` has a socket that this one connects to, and TCP can try it.
fn is_dialled_by_tcp(config: &Config, node: NodeId) -> bool {
    node == NodeId(0) && config.net.transport != Transport::Rdma
}

/// Both paths while the nodes are connected: the one without the connection is only needed once it is too late to look
/// after it. The peer, which the dialling node alone can ask, logs a stranger.
pub(super) fn paths(findings: &mut Findings, config: &Config, node: NodeId, status: &Resource) {
    const SUBJECT: &str = "path";
    let all = status.connection().paths;
    let known = all.len() == config.node(node).addresses().count();
    if all.len() < 2 || !known {
        return;
    }
    let name = &config.name;
    let dials = &config.node(NodeId(0)).name;
    let asks = is_dialled_by_tcp(config, node);
    for (at, path) in all.iter().enumerate() {
        let said = format!("{} ({path})", at + 1);
        match (path.established, asks.then(|| knock(config, node, at))) {
            (true, _) if at == 0 => findings.ok(SUBJECT, format!("{said} has the connection")),
            (true, _) => findings.warning(
                SUBJECT,
                format!("{said} has the connection, since the first did not work when it was made"),
                format!(
                    "`rblk doctor {name}` on {dials} looks whether the first works again; if so, there `rblk \
                     disconnect {name}` and `rblk connect {name}` go back to it: what is written between is copied"
                ),
            ),
            (false, None) => {}
            (false, Some(Ok(took))) => {
                findings.ok(SUBJECT, format!("{said} is ready: it takes connections, in {took}"));
            }
            (false, Some(Err(closed))) => findings.warning(
                SUBJECT,
                format!("{said} does not work: {closed}"),
                "look at cable, switch and firewall (TCP, both ways): if the other path fails as well, the nodes lose \
                 each other",
            ),
        }
    }
}

/// Why nobody can be reached.
enum Closed {
    Unknown(String),
    Refused,
    Silent(Error),
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Closed::Unknown(why) => f.write_str(why),
            Closed::Refused => f.write_str("nobody listens there"),
            Closed::Silent(error) => write!(f, "{error}"),
        }
    }
}

/// Connects to the peer on path `at`, as the daemon would; how long that took.
fn knock(config: &Config, node: NodeId, at: usize) -> Result<String, Closed> {
    let ends = [config.node(node), config.peer_of(node)].map(|node| node.addresses().nth(at));
    let [Some(own), Some(peer)] = ends else {
        return Err(Closed::Unknown("it is not configured".to_owned()));
    };
    let peers = resolve(peer).map_err(Closed::Unknown)?;
    // With one path the kernel chooses where a connection comes from.
    let own = match config.node(node).second_address {
        Some(_) => resolve(own).map_err(Closed::Unknown)?,
        None => Vec::new(),
    };
    let begun = Instant::now();
    let tried = peers.iter().map(|to| {
        let from = own.iter().find(|own| own.is_ipv4() == to.is_ipv4()).map(SocketAddr::ip);
        connect(from, *to)
    });
    match tried.reduce(|first, next| first.or(next)) {
        Some(Ok(())) => Ok(units::duration(begun.elapsed())),
        Some(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Err(Closed::Refused),
        Some(Err(error)) => Err(Closed::Silent(error)),
        None => Err(Closed::Unknown("it has no address".to_owned())),
    }
}

/// Connects, and hangs up.
fn connect(from: Option<IpAddr>, to: SocketAddr) -> Result<(), Error> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    let Some(from) = from else {
        return std::net::TcpStream::connect_timeout(&to, ANSWER).map(drop);
    };
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(ANSWER))?;
    rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
    match rustix::net::connect(&socket, &to) {
        // As it says when the time is over.
        Err(rustix::io::Errno::INPROGRESS) => Err(ErrorKind::TimedOut.into()),
        done => Ok(done?),
    }
}

/// The largest packet on the way to the peer on each path, as the system knows it.
pub(super) fn mtu(findings: &mut Findings, config: &Config, node: NodeId) {
    let (me, peer) = (config.node(node), config.peer_of(node));
    for (own, peer) in me.addresses().zip(peer.addresses()) {
        mtu_between(findings, own, peer);
    }
}

fn mtu_between(findings: &mut Findings, own: &Address, peer: &Address) {
    const SUBJECT: &str = "packet size";
    let own = resolve(own).unwrap_or_default();
    let peer = resolve(peer).unwrap_or_default();
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
