//! Which packets of the guest go where: the policy at work.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::address_class::{AddressClass, AddressTable};
use super::addresses::{DNS_PORT, is_gateway, is_name_server};
use super::names::Names;
use super::policy::{Policy, Reach};
use super::routes::Routes;

/// Where a packet of the guest goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// The name server of this network.
    NameServer,
    /// The host reaches it under this address.
    Host(SocketAddr),
    /// Only what continues the guest's connections may know it: nothing leaves the host.
    Absent,
    /// It is closed to the guest.
    Unreachable,
}

/// The only way out: every packet, every redirected port and every address that a name server gives
/// goes by it.
#[derive(Debug)]
pub(super) struct Egress {
    table: AddressTable,
    reach: Reach,
    services: Vec<SocketAddr>,
    pub(super) offline: bool,
    /// For [`Reach::Public`].
    routes: Option<Routes>,
    /// The names of a hermetic network; one that is not has none.
    pub(super) names: Option<Names>,
}

impl Egress {
    /// # Errors
    /// If the policy asks for the host's routes, and they cannot be had.
    pub(super) fn new(policy: Policy) -> io::Result<Egress> {
        let mut services = policy.services;
        services.retain(|service| service.ip().is_loopback() && service.port() != 0);
        let routes = match policy.reach {
            Reach::Host => None,
            Reach::Public => Some(Routes::open()?),
        };
        Ok(Egress {
            table: AddressTable::new(),
            reach: policy.reach,
            services,
            offline: policy.offline,
            routes,
            names: policy.allowed.map(Names::new),
        })
    }

    /// Decides on a packet for `to`.
    pub(super) fn destination(&self, to: SocketAddr) -> Destination {
        let ip = to.ip();
        if is_name_server(ip) {
            return if to.port() == DNS_PORT {
                Destination::NameServer
            } else {
                Destination::Unreachable
            };
        }
        if is_gateway(ip) {
            let mut services = self.services.iter();
            let service = services.find(|service| service.port() == to.port());
            return service.map_or(Destination::Unreachable, |service| {
                Destination::Host(*service)
            });
        }
        let named = |names: &Names| names.allows(to);
        if self.offline {
            let is_open = to.port() != 0 && self.names.as_ref().is_none_or(named);
            return if is_open {
                Destination::Absent
            } else {
                Destination::Unreachable
            };
        }
        if to.port() != 0 && self.may_reach(ip) && self.names.as_ref().is_none_or(named) {
            Destination::Host(to)
        } else {
            Destination::Unreachable
        }
    }

    /// Whether a name may be asked for: as the guest asked, and with the domain that it is looked up in.
    pub(super) fn may_ask(&self, names: [&str; 2]) -> bool {
        let own = self.names.as_ref();
        own.is_none_or(|own| own.has_rule_for(names))
    }

    /// Remembers addresses of a name, which a hermetic network reaches from then on.
    pub(super) fn learn(&mut self, names: [&str; 2], ips: &[IpAddr]) {
        if let Some(own) = &mut self.names {
            for ip in ips {
                own.learn(names, *ip);
            }
        }
    }

    /// Whether an echo request may go to `ip`.
    pub(super) fn may_ping(&self, ip: IpAddr) -> bool {
        let known = self.names.as_ref().is_none_or(|names| names.knows(ip));
        !self.offline && self.may_reach(ip) && known
    }

    /// Whether `ip` is one of the Internet.
    pub(super) fn is_public(&self, ip: IpAddr) -> bool {
        self.table.class(ip) == AddressClass::Public
    }

    /// Whether `ip` is among the addresses that the guest may reach, by whatever name.
    pub(super) fn may_reach(&self, ip: IpAddr) -> bool {
        let class = self.table.class(ip);
        match self.reach {
            Reach::Host => class < AddressClass::Closed,
            Reach::Public => {
                let leads_out = |routes: &Routes| routes.leads_out(ip);
                class == AddressClass::Public && self.routes.as_ref().is_some_and(leads_out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(to: &str, policy: &Policy) -> Destination {
        let egress = Egress::new(policy.clone()).unwrap();
        egress.destination(to.parse().unwrap())
    }

    fn policy(reach: Reach, allowed: Option<&[&str]>, services: &[&str]) -> Policy {
        let all = |rules: &[&str]| rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Policy {
            reach,
            allowed: allowed.map(all),
            services: services
                .iter()
                .map(|service| service.parse().unwrap())
                .collect(),
            offline: false,
        }
    }

    #[test]
    fn offline_nothing_but_named_services_is_on_a_host() {
        let mut offline = policy(Reach::Host, None, &["127.0.0.1:8000"]);
        offline.offline = true;
        for to in [
            "192.0.2.80:80",
            "1.1.1.1:443",
            "169.254.169.254:80",
            "[2001:db8::1]:80",
        ] {
            assert_eq!(decide(to, &offline), Destination::Absent, "{to}");
        }
        let service = Destination::Host("127.0.0.1:8000".parse().unwrap());
        assert_eq!(decide("10.0.2.2:8000", &offline), service);
        assert_eq!(decide("10.0.2.2:80", &offline), Destination::Unreachable);
        let egress = Egress::new(offline.clone()).unwrap();
        assert!(!egress.may_ping("1.1.1.1".parse().unwrap()));
        offline.allowed = Some(vec!["192.0.2.7:80".parse().unwrap()]);
        assert_eq!(decide("192.0.2.7:80", &offline), Destination::Absent);
        assert_eq!(decide("192.0.2.8:80", &offline), Destination::Unreachable);
    }

    /// Closed in every mode, and by every permission.
    const CLOSED: &[&str] = &[
        "127.0.0.1:80",
        "127.1.2.3:80",
        "0.0.0.0:80",
        "0.1.2.3:80",
        "169.254.169.254:80",
        "100.100.100.200:80",
        "168.63.129.16:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
        "10.0.2.2:80",
        "10.0.2.3:80",
        "10.0.2.99:80",
        "1.2.3.4:0",
        "[::]:80",
        "[::1]:80",
        "[::ffff:127.0.0.1]:80",
        "[::ffff:1.1.1.1]:80",
        "[::127.0.0.1]:80",
        "[64:ff9b::127.0.0.1]:80",
        "[64:ff9b::169.254.169.254]:80",
        "[2002:a9fe:a9fe::1]:80",
        "[fd00:ec2::254]:80",
        "[fe80::1]:80",
        "[fe80::2]:80",
        "[ff02::1]:80",
        "[fd6b:1f0e:93a2::2]:80",
        "[fd6b:1f0e:93a2::99]:80",
    ];

    #[test]
    fn nothing_leads_back_to_the_host() {
        let everything = ["0.0.0.0/0", "::/0"];
        for policy in [
            policy(Reach::Host, None, &[]),
            policy(Reach::Public, None, &[]),
            policy(Reach::Host, Some(&everything), &["127.0.0.1:81"]),
            policy(Reach::Host, None, &["192.168.0.1:80", "10.0.2.2:80"]),
        ] {
            for to in CLOSED {
                assert_eq!(
                    decide(to, &policy),
                    Destination::Unreachable,
                    "{to} {policy:?}"
                );
            }
        }
    }

    #[test]
    fn the_world_is_reached() {
        let user = policy(Reach::Host, None, &[]);
        for to in [
            "1.2.3.4:80",
            "10.0.3.2:1",
            "192.168.0.1:22",
            "[2001:db8::1]:80",
        ] {
            assert_eq!(decide(to, &user), Destination::Host(to.parse().unwrap()));
        }
        for to in ["10.0.2.3:53", "[fd6b:1f0e:93a2::3]:53"] {
            assert_eq!(decide(to, &user), Destination::NameServer);
        }
    }

    #[test]
    fn a_public_network_has_no_private_address() {
        let public = policy(Reach::Public, None, &[]);
        for to in [
            "10.0.3.2:1",
            "192.168.0.1:22",
            "172.20.0.1:80",
            "100.64.0.1:80",
            "[fd12::1]:80",
            "[64:ff9b::10.1.1.1]:80",
        ] {
            assert_eq!(decide(to, &public), Destination::Unreachable, "{to}");
        }
        assert_eq!(decide("10.0.2.3:53", &public), Destination::NameServer);
    }

    /// Fault 17.
    #[test]
    fn one_port_of_the_loopback_is_opened_and_no_other() {
        let proxy = policy(Reach::Host, None, &["127.0.0.1:3128", "[::1]:8080"]);
        for (to, expected) in [
            ("10.0.2.2:3128", Some("127.0.0.1:3128")),
            ("[fd6b:1f0e:93a2::2]:3128", Some("127.0.0.1:3128")),
            ("10.0.2.2:8080", Some("[::1]:8080")),
            ("10.0.2.2:22", None),
            ("10.0.2.2:3129", None),
            ("[fd6b:1f0e:93a2::2]:22", None),
            ("127.0.0.1:3128", None),
        ] {
            let expected = expected.map_or(Destination::Unreachable, |host| {
                Destination::Host(host.parse().unwrap())
            });
            assert_eq!(decide(to, &proxy), expected, "{to}");
        }
    }

    #[test]
    fn a_hermetic_network_has_what_is_allowed() {
        let hermetic = policy(
            Reach::Host,
            Some(&["192.0.2.7:443", "198.51.100.0/24", "[2001:db8::1]:80"]),
            &[],
        );
        for (to, reached) in [
            ("192.0.2.7:443", true),
            ("192.0.2.7:80", false),
            ("192.0.2.8:443", false),
            ("198.51.100.200:1", true),
            ("[2001:db8::1]:80", true),
            ("[2001:db8::2]:80", false),
            ("1.1.1.1:443", false),
        ] {
            let expected = if reached {
                Destination::Host(to.parse().unwrap())
            } else {
                Destination::Unreachable
            };
            assert_eq!(decide(to, &hermetic), expected, "{to}");
        }
        let egress = Egress::new(hermetic).unwrap();
        assert!(egress.may_ping("192.0.2.7".parse().unwrap()));
        assert!(!egress.may_ping("1.1.1.1".parse().unwrap()));
        // Both at once: what is allowed is public as well.
        let both = policy(Reach::Public, Some(&["10.1.2.3"]), &[]);
        assert_eq!(decide("10.1.2.3:80", &both), Destination::Unreachable);
    }
}
