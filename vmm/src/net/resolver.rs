//! The host's name servers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::addresses::DNS_PORT;

/// Where they are listed (resolv.conf(5)).
pub(super) const FILE: &str = "/etc/resolv.conf";
/// Name servers that are used, as many as the C library uses (resolv.conf(5), `MAXNS`).
const MOST: usize = 3;

/// The one of `servers` for the next question, after `failures` that were not answered: they take turns
/// then.
pub(super) fn server(servers: &[IpAddr], failures: usize) -> SocketAddr {
    let ip = servers.get(failures % servers.len().max(1)).copied();
    // Without any, the C library asks this host (resolv.conf(5)).
    SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), DNS_PORT)
}

/// Servers in the order in which they are listed. Those on one link (`fe80::1%eth0`) are left out.
pub(super) fn parse(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next())?
        })
        .filter_map(|word| word.parse().ok())
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_a_file() {
        let text = "# nameserver 9.9.9.9\nsearch x\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\n\
                    nameserver 2001:db8::1\nnameserver\n nameserver 1.1.1.1\nnameserver 2.2.2.2";
        let expected: [IpAddr; 3] = [
            "127.0.0.53".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
            "1.1.1.1".parse().unwrap(),
        ];
        assert_eq!(parse(text), expected);
        assert_eq!(parse(""), [] as [IpAddr; 0]);
    }

    #[test]
    fn name_servers_take_turns() {
        let servers = parse("nameserver 192.0.2.1\nnameserver 192.0.2.2");
        let asked = |failures| server(&servers, failures).to_string();
        assert_eq!(
            [asked(0), asked(1), asked(2)],
            ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.1:53"]
        );
        assert_eq!(server(&[], 5).to_string(), "127.0.0.1:53");
    }
}
