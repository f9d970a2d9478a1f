//! Names of the host's `/etc/hosts` (hosts(5)): a container engine's `--add-host`, for example.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::net::policy;

/// Where they are listed.
pub(in crate::net) const FILE: &str = "/etc/hosts";
/// Memory for what is taken of the file, in bytes as [`HostName::cost`] counts them; the rest is left
/// out. It fits a message to the machine's process.
pub(super) const MOST: usize = 48 << 10;

/// A name of the file and one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostName {
    /// In lower case.
    pub name: String,
    /// Not one of the loopback.
    pub ip: IpAddr,
}

impl HostName {
    /// Bytes that it takes in a message between processes, at most.
    pub(super) fn cost(&self) -> usize {
        // The longest text of an address (RFC 4291, section 2.2), and names of fields.
        self.name.len() + 45 + 20
    }
}

/// Reads the file's text. What leads to the loopback is left out: the guest has one of its own.
pub(in crate::net) fn parse(text: &str) -> Vec<HostName> {
    let mut room = MOST;
    let entries = text.lines().flat_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        let ip = ip.filter(|ip| !ip.to_canonical().is_loopback());
        ip.into_iter()
            .flat_map(move |ip| words.clone().map(move |name| (ip, name)))
    });
    entries
        .filter_map(|(ip, name)| {
            let name = policy::name(name)?;
            Some(HostName { name, ip })
        })
        .take_while(|entry| {
            let left = room.checked_sub(entry.cost());
            room = left.unwrap_or_default();
            left.is_some()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_file_have_their_addresses() {
        let text = "127.0.0.1 localhost\n127.0.1.1\tme.example me\n::1 ip6-localhost\n\
                    # 10.0.0.1 commented\n10.1.2.3 Mirror mirror.Example. # 10.0.0.9 no\n\
                    2001:db8::7 mirror\nfe80::1%eth0 scoped\n0.0.0.0 ads.example\n10.0.0.4\n\
                    10.0.0.5 bad/name ok\nnonsense\n::ffff:127.0.0.1 mapped";
        let found: Vec<String> = parse(text)
            .iter()
            .map(|entry| format!("{} {}", entry.name, entry.ip))
            .collect();
        assert_eq!(
            found,
            [
                "mirror 10.1.2.3",
                "mirror.example 10.1.2.3",
                "mirror 2001:db8::7",
                "ads.example 0.0.0.0",
                "ok 10.0.0.5",
            ]
        );
    }

    #[test]
    fn a_list_of_a_hundred_thousand_names_is_cut_off() {
        let lines = (0..100_000).map(|number| format!("0.0.0.0 n{number}.ads.example\n"));
        let text = format!("10.1.2.3 first\n{}", lines.collect::<String>());
        let names = parse(&text);
        assert_eq!(names[0].name, "first");
        assert!(names.len() > 100);
        assert!(names.iter().map(HostName::cost).sum::<usize>() <= MOST);
    }
}
