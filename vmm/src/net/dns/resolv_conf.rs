//! How the host's resolver is configured (resolv.conf(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use serde::{Deserialize, Serialize};

use crate::net::addresses::DNS_PORT;
use crate::net::policy;

/// Where it is.
pub(in crate::net) const FILE: &str = "/etc/resolv.conf";
/// Name servers that are used, as many as the C library uses (`MAXNS`).
const SERVERS: usize = 3;
/// Domains of the search list. The C library has had no limit since 2.26.
pub(super) const SEARCHES: usize = 16;
/// Dots that the option `ndots` may ask for (`RES_MAXNDOTS`).
const MOST_DOTS: u8 = 15;

/// How the host's resolver is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Name servers, in their order. Without any, this host is asked, as the C library does.
    pub servers: Vec<SocketAddr>,
    /// Domains in which names are looked up, in lower case.
    pub search: Vec<String>,
    /// Dots from which on a name is first looked up as it is.
    pub ndots: u8,
    /// The servers take turns.
    pub rotate: bool,
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            rotate: false,
        }
    }
}

impl Resolver {
    /// Reads the text of [`FILE`]. `interface` returns the number of an interface, which the address
    /// of a server on one link needs (`fe80::1%eth0`).
    pub(in crate::net) fn parse(text: &str, interface: impl Fn(&str) -> Option<u32>) -> Resolver {
        let mut resolver = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if resolver.servers.len() < SERVERS => {
                    let server = words.next().and_then(|word| server(word, &interface));
                    resolver.servers.extend(server);
                }
                // The last of these lines counts.
                Some("search") => resolver.search = domains(words),
                Some("domain") => resolver.search = domains(words.take(1)),
                Some("options") => words.for_each(|word| resolver.set(word)),
                _ => {}
            }
        }
        resolver
    }

    fn set(&mut self, option: &str) {
        match option.split_once(':') {
            Some(("ndots", number)) => {
                let number: Option<u8> = number.parse().ok();
                self.ndots = number.map_or(self.ndots, |number| number.min(MOST_DOTS));
            }
            None if option == "rotate" => self.rotate = true,
            // Time and attempts are the relay's own; EDNS, DNSSEC and TCP are the guest's choice.
            _ => {}
        }
    }
}

fn server(word: &str, interface: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((ip, scope)) = word.split_once('%') else {
        let ip: IpAddr = word.parse().ok()?;
        // Without an interface, one of a link cannot be reached.
        let on_a_link = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        // `0.0.0.0` and `::` are this host (ip(7), `INADDR_ANY` as a destination).
        let ip = match ip {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        return (!on_a_link).then_some(SocketAddr::new(ip, DNS_PORT));
    };
    let ip: Ipv6Addr = ip.parse().ok()?;
    let scope = scope.parse().ok().or_else(|| interface(scope))?;
    Some(SocketAddr::V6(SocketAddrV6::new(ip, DNS_PORT, 0, scope)))
}

fn domains<'t>(words: impl Iterator<Item = &'t str>) -> Vec<String> {
    // `.` is the root: names as they are.
    words.filter_map(policy::name).take(SEARCHES).collect()
}

/// Returns the number of a network interface of this host.
pub(in crate::net) fn interface(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Resolver {
        Resolver::parse(text, |name| (name == "eth0").then_some(7))
    }

    fn servers(text: &str) -> Vec<String> {
        let servers = parse(text).servers;
        servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn name_servers_of_a_file() {
        let text = "# nameserver 9.9.9.9\nsearch x\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\n\
                    nameserver 2001:db8::1\nnameserver\n nameserver 1.1.1.1\nnameserver 2.2.2.2";
        assert_eq!(
            servers(text),
            ["127.0.0.53:53", "[fe80::1%7]:53", "[2001:db8::1]:53"]
        );
        assert_eq!(servers(""), [""; 0]);
        assert_eq!(
            servers("nameserver fe80::1\nnameserver fe80::1%gone\nnameserver fe80::2%3\n"),
            ["[fe80::2%3]:53"]
        );
        assert_eq!(
            servers("nameserver 0.0.0.0\nnameserver ::"),
            ["127.0.0.1:53", "[::1]:53"]
        );
    }

    #[test]
    fn the_last_search_list_counts_and_options_have_bounds() {
        let text = "domain a.example\nsearch Corp.Example example. . bad/one\noptions ndots:3 rotate \
                    edns0 timeout:1\noptions ndots:x ndots:200";
        let resolver = parse(text);
        assert_eq!(resolver.search, ["corp.example", "example"]);
        assert_eq!((resolver.ndots, resolver.rotate), (15, true));
        assert_eq!(parse("search a b\ndomain c d").search, ["c"]);
        assert_eq!(parse("options").ndots, 1);
        assert_eq!(
            parse(&format!("search {}", "a ".repeat(200))).search.len(),
            SEARCHES
        );
    }
}
