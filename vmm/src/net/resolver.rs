//! The host's name servers.

use std::net::IpAddr;

/// Where they are listed (resolv.conf(5)).
const FILE: &str = "/etc/resolv.conf";
/// Name servers that are used, as many as the C library uses (resolv.conf(5), `MAXNS`).
const MOST: usize = 3;

/// Returns the host's name servers, in the order in which they are listed.
pub(super) fn servers() -> Vec<IpAddr> {
    parse(&std::fs::read_to_string(FILE).unwrap_or_default())
}

/// Servers in the order in which they are listed. Those on one link (`fe80::1%eth0`) are left out.
fn parse(text: &str) -> Vec<IpAddr> {
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
}
