//! Names of a hermetic network: those that the guest may ask for, and the addresses that they had.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::limits;
use super::policy::Allowed;

/// Names that the guest may ask for, and what came of it.
#[derive(Debug)]
pub(super) struct Names {
    allowed: Vec<Allowed>,
    /// Addresses that names had, with the rule that allowed the name; the oldest first.
    known: VecDeque<(IpAddr, usize)>,
}

impl Names {
    pub(super) fn new(allowed: Vec<Allowed>) -> Names {
        Names {
            allowed,
            known: VecDeque::new(),
        }
    }

    /// Whether the guest may go there.
    pub(super) fn allows(&self, to: SocketAddr) -> bool {
        let by_name = |(ip, rule): &(IpAddr, usize)| {
            let rule = self.allowed.get(*rule);
            *ip == to.ip() && rule.is_some_and(|rule| rule.is_for_port(to.port()))
        };
        self.allowed.iter().any(|rule| rule.is_for_address(to)) || self.known.iter().any(by_name)
    }

    /// Whether the guest may send anything at all there.
    pub(super) fn knows(&self, ip: IpAddr) -> bool {
        let own = |rule: &Allowed| rule.is_for_address(SocketAddr::new(ip, rule.port.unwrap_or(1)));
        self.allowed.iter().any(own) || self.known.iter().any(|(known, _)| *known == ip)
    }

    /// Whether a name is allowed: as it was asked for, or with the domain that it was found in.
    pub(super) fn has_rule_for(&self, names: [&str; 2]) -> bool {
        self.rules_for(names).next().is_some()
    }

    fn rules_for<'n>(&'n self, names: [&'n str; 2]) -> impl Iterator<Item = usize> + 'n {
        let rules = self.allowed.iter().enumerate();
        rules
            .filter(move |(_, rule)| names.iter().any(|name| rule.is_for_name(name)))
            .map(|(number, _)| number)
    }

    /// Remembers an address of a name.
    pub(super) fn learn(&mut self, names: [&str; 2], ip: IpAddr) {
        let rules: Vec<usize> = self.rules_for(names).collect();
        for rule in rules {
            // The newest are kept for longest.
            self.known.retain(|known| *known != (ip, rule));
            if self.known.len() >= limits::KNOWN_ADDRESSES {
                self.known.pop_front();
            }
            self.known.push_back((ip, rule));
        }
    }

    /// Returns how many addresses are known.
    #[cfg(test)]
    pub(super) fn load(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(rules: &[&str]) -> Names {
        Names::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    #[test]
    fn other_names_have_no_rule() {
        let names = names(&[
            "packages.example",
            "*.example.org:443",
            "192.0.2.1",
            "mirror",
        ]);
        for name in [
            "example.com",
            "example",
            "secret.packages.example",
            "example.org",
            "192.0.2.1",
            "",
        ] {
            assert!(!names.has_rule_for([name, name]), "{name}");
        }
        for [asked, found] in [
            ["packages.example", "packages.example"],
            ["a.example.org", "a.example.org"],
            // Found in a domain of the host's search list.
            ["mirror", "mirror.corp.example"],
            ["packages", "packages.example"],
        ] {
            assert!(names.has_rule_for([asked, found]), "{asked}");
        }
    }

    #[test]
    fn addresses_are_known_with_the_ports_of_their_rules() {
        let mut names = names(&["a.example:80", "a.example:443", "b.example"]);
        let ip = IpAddr::from([198, 51, 100, 7]);
        let to = |port| SocketAddr::new(ip, port);
        assert!(!names.allows(to(80)) && !names.knows(ip));
        names.learn(["a.example", "a.example"], ip);
        assert!(names.allows(to(80)) && names.allows(to(443)) && !names.allows(to(22)));
        assert!(names.knows(ip) && !names.knows(IpAddr::from([10, 0, 0, 1])));
        names.learn(["c.example", "c.example"], IpAddr::from([10, 0, 0, 1]));
        assert!(!names.knows(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(names.load(), 2);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut names = names(&["*.example"]);
        for number in 0..2000_u32 {
            let ip = IpAddr::V6(std::net::Ipv6Addr::from_bits(u128::from(number)));
            names.learn(["n.example", "n.example"], ip);
        }
        assert_eq!(names.load(), limits::KNOWN_ADDRESSES);
    }
}
