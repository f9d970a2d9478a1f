//! Hosts in the addresses of options and descriptions, as far as they are this one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::proxy::GATEWAY;

/// Schemes of addresses that are reached over the network, and their ports.
const SCHEMES: [(&str, u16); 4] = [("http", 80), ("https", 443), ("ftp", 21), ("docker", 443)];

/// Time for the host's own loopback to answer.
const PROBE: Duration = Duration::from_millis(300);

/// The host of an address, in a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    scheme: &'a str,
    host: &'a str,
    pub(super) port: u16,
    /// Where the host begins and ends in the text.
    pub(super) start: usize,
    pub(super) end: usize,
}

/// An address of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Local {
    /// As a machine knows it.
    Gateway,
    /// As the host knows it.
    Loopback(IpAddr),
}

impl Local {
    pub(super) fn ip(self) -> IpAddr {
        match self {
            Local::Gateway => Ipv4Addr::LOCALHOST.into(),
            Local::Loopback(ip) => ip,
        }
    }

    /// Where something listens; names of the host may mean either version of IP.
    pub(super) fn service(self, port: u16) -> Option<SocketAddr> {
        let listens =
            |ip: &IpAddr| TcpStream::connect_timeout(&SocketAddr::new(*ip, port), PROBE).is_ok();
        let ip = [self.ip(), Ipv6Addr::LOCALHOST.into()]
            .into_iter()
            .find(listens)?;
        Some(SocketAddr::new(ip, port))
    }
}

/// Whether an address in `text` is one of this host.
pub fn names_this_host(text: &str) -> bool {
    let mut rest = text;
    while let Some(authority) = Authority::find(rest) {
        if authority.local().is_some() {
            return true;
        }
        rest = rest.get(authority.end..).unwrap_or_default();
    }
    false
}

impl<'a> Authority<'a> {
    /// Returns the first in `text`.
    pub(super) fn find(text: &'a str) -> Option<Authority<'a>> {
        let mut from = 0;
        while let Some(at) = text.get(from..)?.find("://") {
            let at = from + at;
            from = at + 3;
            let before = &text[..at];
            let begin = before
                .rfind(|c: char| !c.is_ascii_alphanumeric())
                .map_or(0, |at| at + 1);
            let scheme = &before[begin..];
            let Some((_, default)) = SCHEMES.iter().find(|(known, _)| *known == scheme) else {
                continue;
            };
            let rest = &text[from..];
            let end = rest
                .find(['/', '?', '#', ',', ';', '}'])
                .unwrap_or(rest.len());
            let whole = &rest[..end];
            let skipped = whole.rfind('@').map_or(0, |at| at + 1);
            let host_and_port = &whole[skipped..];
            let host_end = match host_and_port.strip_prefix('[') {
                Some(inside) => inside.find(']')? + 2,
                None => host_and_port.find(':').unwrap_or(host_and_port.len()),
            };
            let (host, port) = host_and_port.split_at(host_end);
            let port = match port.strip_prefix(':') {
                None | Some("") => *default,
                Some(port) => match port.parse() {
                    Ok(port) => port,
                    // Not an address, which its reader reports.
                    Err(_) => continue,
                },
            };
            let start = from + skipped;
            return Some(Authority {
                scheme,
                host,
                port,
                start,
                end: start + host.len(),
            });
        }
        None
    }

    pub(super) fn shown(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.port)
    }

    /// Whether it is this host.
    pub(super) fn local(&self) -> Option<Local> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        if host == GATEWAY {
            return Some(Local::Gateway);
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if host == "localhost" || host == "localhost.localdomain" || host.ends_with(".localhost") {
            return Some(Local::Loopback(Ipv4Addr::LOCALHOST.into()));
        }
        let ip: IpAddr = host.parse().ok()?;
        ip.is_loopback().then_some(Local::Loopback(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address_is_found_in_a_text() {
        let of = |text| Authority::find(text).map(|found: Authority<'_>| (found.host, found.port));
        for (text, expected) in [
            ("http://a.example/x", Some(("a.example", 80))),
            (
                "x,{https://u:p@[::1]:8443/k;file:///y}",
                Some(("[::1]", 8443)),
            ),
            (
                "derived_from=docker://localhost:5000/c:1",
                Some(("localhost", 5000)),
            ),
            ("dir:///srv http://b", Some(("b", 80))),
            ("file://localhost/x", None),
            ("http://", Some(("", 80))),
            ("http://[::1", None),
            ("http://localhost:99999/x", None),
            ("http://localhost:/x", Some(("localhost", 80))),
            ("http://h:x/,http://b:81", Some(("b", 81))),
            ("plain", None),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        for (host, is_local) in [
            ("localhost", true),
            ("LOCALHOST.", true),
            ("a.localhost", true),
            ("127.1.2.3", true),
            ("[::1]", true),
            ("10.0.2.2", true),
            ("10.0.2.20", false),
            ("localhost.example", false),
        ] {
            let text = format!("http://{host}/");
            assert_eq!(
                Authority::find(&text).unwrap().local().is_some(),
                is_local,
                "{host}"
            );
        }
    }

    #[test]
    fn an_address_of_this_host_is_found_behind_another_one() {
        assert!(names_this_host(
            "A=http://x.example/,http://me@localhost:80/"
        ));
        assert!(names_this_host("docker://10.0.2.2"));
        for text in ["", "http://x.example/ https://[2001:db8::1]/", "localhost"] {
            assert!(!names_this_host(text), "{text}");
        }
    }
}
