//! Values of the configuration that cannot be wrong once they exist: names and addresses.

use crate::limits::NAME_BYTES_MAX;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// The name of a resource or of a node. It becomes a file name and a device link: letters, digits, `.`,
/// `_`, `-`, the first a letter or a digit, at most [`NAME_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Checks `text`.
    ///
    /// # Errors
    /// What was expected, in words.
    pub fn parse(text: &str) -> Result<Name, String> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let starts_well = text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if text.len() <= NAME_BYTES_MAX && starts_well && text.bytes().all(plain) {
            return Ok(Name(text.to_owned()));
        }
        Err(format!(
            "expected a name of 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' or '-', \
             starting with a letter or a digit"
        ))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a node's daemon listens: `host:port` or `[v6]:port`. The host is an IP address or a name to be
/// resolved.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Checks `text`; resolves nothing.
    ///
    /// # Errors
    /// What was expected, in words.
    pub fn parse(text: &str) -> Result<Address, String> {
        let expected = || {
            Err("expected host:port or [v6-address]:port, port 1 to 65535, \
                 such as \"192.168.1.1:7790\""
                .to_owned())
        };
        let Some((host, port)) = text.rsplit_once(':') else {
            return expected();
        };
        let digits = !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
        let port = port.parse::<u16>().unwrap_or(0);
        if !digits || port == 0 {
            return expected();
        }
        if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return match inner.parse::<Ipv6Addr>() {
                Ok(ip) if !ip.is_unspecified() => Ok(Address { host: ip.to_string(), port }),
                _ => expected(),
            };
        }
        // Digits and dots alone are meant as an IPv4 address: a resolver would read "1.2.3" as 1.2.0.3.
        if host.bytes().all(|c| c.is_ascii_digit() || c == b'.') {
            return match host.parse::<Ipv4Addr>() {
                Ok(ip) if !ip.is_unspecified() => Ok(Address { host: ip.to_string(), port }),
                _ => expected(),
            };
        }
        if is_host_name(host) {
            let host = host.to_ascii_lowercase();
            return Ok(Address { host, port });
        }
        expected()
    }

    /// The IP address or the name to be resolved, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Asks the resolver for all addresses; returns at once if the host is an IP address, else it may
    /// block for seconds.
    ///
    /// # Errors
    /// Those of the resolver, and `NotFound` if it knows no address.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if found.is_empty() {
            let text = format!("{} has no address", self.host);
            return Err(std::io::Error::new(std::io::ErrorKind::NotFound, text));
        }
        Ok(found)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// True for labels of letters, digits, `-` and `_` joined by dots, at most 253 bytes in all.
fn is_host_name(host: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_nonsense() {
        for good in ["10.0.0.1:7790", "[fd00::1]:1", "docker1:65535", "a.example.org:7790"] {
            assert_eq!(Address::parse(good).expect(good).to_string(), good);
        }
        for bad in [
            "",
            ":",
            "10.0.0.1",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "10.0.0.1:+1",
            "10.0.0:7790",
            "0.0.0.0:7790",
            "[::]:7790",
            "fd00::1:7790",
            "[fd00::1:7790",
            "a b:1",
            "a..b:1",
            "é:1",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn equal_addresses_compare_equal_however_they_are_written() {
        let a = Address::parse("[FD00:0::1]:7790").expect("valid");
        assert_eq!(a, Address::parse("[fd00::1]:7790").expect("valid"));
        let b = Address::parse("Docker1:7790").expect("valid");
        assert_eq!(b, Address::parse("docker1:7790").expect("valid"));
    }

    #[test]
    fn names_are_safe_as_file_names() {
        assert!(Name::parse("swarm-1.a_b").is_ok());
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", ".", "..", "-x", "a/b", "a b", "ä", "a\0", long.as_str()] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Name::parse(&long[1..]).is_ok());
    }
}
