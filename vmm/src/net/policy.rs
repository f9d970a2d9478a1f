//! What a guest may reach: a plain value.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What the guest may reach. Addresses that are closed always ([`docs/network.md`]) are closed here, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The addresses that it may reach.
    pub reach: Reach,
    /// Nothing but these, if given.
    pub allowed: Option<Vec<Allowed>>,
    /// Services on the host's loopback that the guest reaches at the gateway, each under its port there.
    /// An address that is not of the loopback leads nowhere.
    pub services: Vec<SocketAddr>,
    /// Nothing leaves the host: beside those services, the guest reaches what continues its connections
    /// ([`Handover`](super::Handover)), under every name and address.
    #[serde(default)]
    pub offline: bool,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// What the host reaches.
    #[default]
    Host,
    /// The Internet: no private address, no address of the host.
    Public,
}

/// A destination that a guest may reach where all others are closed: `HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Allowed {
    /// Where to.
    pub host: Host,
    /// The port, if not every one.
    pub port: Option<u16>,
}

/// The host of an allowed destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name, in lower case.
    Name(String),
    /// All names below one: `*.example.org`.
    Below(String),
    /// Addresses.
    Network(IpNet),
}

/// A word is no allowed destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a destination: write a name, '*.' and a name, an address or a network, with a port \
     or without, e.g. packages.example:443, 192.0.2.7, 198.51.100.0/24 or [2001:db8::1]:80"
)]
pub struct NotADestination(String);

impl Allowed {
    /// Whether `name`, in lower case and without a dot at its end, is that of the host.
    pub(super) fn is_for_name(&self, name: &str) -> bool {
        match &self.host {
            Host::Name(host) => host == name,
            Host::Below(zone) => name
                .strip_suffix(zone.as_str())
                .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
            Host::Network(_) => false,
        }
    }

    /// Whether it is for this address by itself.
    pub(super) fn is_for_address(&self, to: SocketAddr) -> bool {
        let addressed = matches!(&self.host, Host::Network(net) if net.contains(&to.ip()));
        addressed && self.is_for_port(to.port())
    }

    /// Whether it is for this port.
    pub(super) fn is_for_port(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    /// Whether a program that connects to `host` (a name or an address) and `port` is let through.
    pub fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match host.parse() {
            Ok(ip) => self.is_for_address(SocketAddr::new(ip, port)),
            Err(_) => self.is_for_name(&host.to_ascii_lowercase()) && self.is_for_port(port),
        }
    }
}

impl FromStr for Allowed {
    type Err = NotADestination;

    fn from_str(text: &str) -> Result<Allowed, NotADestination> {
        parse(text).ok_or_else(|| NotADestination(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Allowed> {
    // An address of IPv6 has colons of its own: without brackets it has no port.
    if let Some(network) = network(text) {
        return Some(Allowed {
            host: Host::Network(network),
            port: None,
        });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, Some(port.parse().ok().filter(|port| *port != 0)?))
        }
        _ => (text, None),
    };
    let host = if let Some(inner) = host.strip_prefix('[') {
        let ip: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        Host::Network(IpNet::from(IpAddr::V6(ip)))
    } else if let Some(network) = network(host).filter(|net| matches!(net, IpNet::V4(_))) {
        Host::Network(network)
    } else if let Some(zone) = host.strip_prefix("*.") {
        Host::Below(name(zone)?)
    } else {
        Host::Name(name(host)?)
    };
    Some(Allowed { host, port })
}

fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>()
        .ok()
        .map(|net| net.trunc())
        .or_else(address)
}

/// A name as the DNS has it (RFC 1123, section 2.1; underscores are in use), in lower case.
pub(super) fn name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // What ends in a number would be a mistyped address.
    let number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    let good = name.len() <= 253 && name.split('.').all(label);
    (good && !name.rsplit('.').next().is_some_and(number)).then_some(name)
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Below(zone) => write!(f, "*.{zone}")?,
            Host::Network(net) if net.prefix_len() < net.max_prefix_len() => write!(f, "{net}")?,
            Host::Network(IpNet::V6(net)) if self.port.is_some() => write!(f, "[{}]", net.addr())?,
            Host::Network(net) => write!(f, "{}", net.addr())?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl TryFrom<String> for Allowed {
    type Error = NotADestination;

    fn try_from(text: String) -> Result<Allowed, NotADestination> {
        text.parse()
    }
}

impl From<Allowed> for String {
    fn from(allowed: Allowed) -> String {
        allowed.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_parsed_and_written_back() {
        for text in [
            "packages.example",
            "packages.example:443",
            "*.example.org:80",
            "192.0.2.7",
            "192.0.2.7:8080",
            "198.51.100.0/24",
            "198.51.100.0/24:443",
            "2001:db8::1",
            "[2001:db8::1]:80",
            "2001:db8::/32",
            "_srv.example.org",
        ] {
            let parsed: Allowed = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!(
            "Packages.EXAMPLE.:80"
                .parse::<Allowed>()
                .unwrap()
                .to_string(),
            "packages.example:80"
        );
        assert_eq!(
            "[::1]".parse::<Allowed>().unwrap().to_string(),
            "::1",
            "brackets without a port"
        );
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a b",
            "http://a",
            "a/b",
            "*",
            "*.",
            "a.*.b",
            "1.2.3",
            "1.2.3.4.5",
            "300.1.1.1",
            "[1.2.3.4]:80",
            "[::1",
            "user@a",
            "-a",
        ] {
            assert!(text.parse::<Allowed>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_that_name_and_no_other() {
        let covers = |rule: &str, host: &str, port| {
            let rule: Allowed = rule.parse().unwrap();
            rule.covers(host, port)
        };
        assert!(covers("a.example", "A.Example", 1));
        assert!(!covers("a.example", "b.a.example", 1));
        assert!(!covers("a.example", "a.example.evil", 1));
        assert!(!covers("a.example:80", "a.example", 443));
        assert!(covers("*.a.example", "b.a.example", 1));
        assert!(!covers("*.a.example", "a.example", 1));
        assert!(!covers("*.a.example", "evila.example", 1));
        assert!(!covers("*.a.example", ".a.example", 1));
        assert!(covers("10.0.0.0/8:3128", "10.1.2.3", 3128));
        assert!(covers("[2001:db8::1]:80", "[2001:db8::1]", 80));
    }
}
