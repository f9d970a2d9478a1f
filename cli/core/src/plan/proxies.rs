//! The host's proxy settings, as a guest can use them.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use boxbuild_engine::{Allowed, Network};
use url::{Position, Url};

use crate::boot::RunsAs;

/// The host as the guest sees it: the gateway of its network.
pub(super) const GATEWAY: &str = "10.0.2.2";

/// Variables that name a proxy, and the one that names what needs none.
const PROXIES: [&str; 3] = ["http_proxy", "https_proxy", "ftp_proxy"];
const NO_PROXY: &str = "no_proxy";

/// The port of a proxy that names none and whose scheme has none either (curl(1), `--proxy`).
const DEFAULT_PORT: u16 = 1080;

/// The host's proxy settings, as a guest can use them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Proxies {
    /// Variables for the guest.
    pub(super) environment: Vec<(String, OsString)>,
    /// Proxies on the host's loopback, which a machine reaches through the gateway of its network.
    pub(super) services: Vec<SocketAddr>,
    /// What the user should know of variables that are left out.
    pub(super) notes: Vec<String>,
}

impl Proxies {
    /// Takes them from `environment`. A container has the host's loopback, or podman's NAT.
    pub(super) fn of(
        environment: impl Iterator<Item = (OsString, OsString)>,
        network: Network,
        allow: &[Allowed],
        runs_as: RunsAs,
    ) -> Proxies {
        let mut proxies = Proxies::default();
        if network == Network::None {
            return proxies;
        }
        for (name, value) in environment {
            let Ok(name) = name.into_string() else {
                continue;
            };
            let plain = name.to_ascii_lowercase();
            if value.is_empty() || (plain != NO_PROXY && !PROXIES.contains(&plain.as_str())) {
                continue;
            }
            let as_it_is = runs_as.is_container() || plain == NO_PROXY;
            match value.to_str().filter(|_| !as_it_is).map(Proxy::parse) {
                None => proxies.environment.push((name, value)),
                Some(proxy) => proxies.add(name, value, proxy, network, allow),
            }
        }
        proxies
    }

    /// Adds a variable for a machine, unless its network keeps the proxy out. A proxy reaches more than
    /// such a network: it is used where the user names it.
    fn add(
        &mut self,
        name: String,
        value: OsString,
        proxy: Option<Proxy>,
        network: Network,
        allow: &[Allowed],
    ) {
        let named = |proxy: &Proxy| allow.iter().any(|rule| proxy.is_in(rule));
        if !allow.is_empty() && !proxy.as_ref().is_some_and(named) {
            self.notes.push(format!(
                "{name} of this host is not used in the box: a proxy reaches what --allow closes; name \
                 the proxy with --allow HOST:PORT to use it"
            ));
            return;
        }
        let on_loopback = proxy.and_then(|proxy| Some((proxy.loopback()?, proxy)));
        let Some((ip, proxy)) = on_loopback else {
            self.environment.push((name, value));
            return;
        };
        let service = SocketAddr::new(ip, proxy.port);
        let mut others = self.services.iter();
        if network == Network::Public {
            self.notes.push(format!(
                "{name} of this host is not used in the box: the proxy is on this host, which --network \
                 public keeps out of reach; use --network user to reach it"
            ));
        } else if others.any(|other| other.port() == service.port() && *other != service) {
            self.notes.push(format!(
                "{name} of this host is not used in the box: another proxy on this host has port {}, and \
                 the box reaches both under the same address",
                service.port()
            ));
        } else {
            if !self.services.contains(&service) {
                self.services.push(service);
            }
            self.environment.push((name, proxy.through_gateway.into()));
        }
    }
}

/// Adds services on the host's loopback that a machine reaches at the gateway, and no proxy.
pub(super) fn add_services(
    services: &mut Vec<SocketAddr>,
    environment: &mut Vec<(String, OsString)>,
    others: &[SocketAddr],
) {
    if others.is_empty() {
        return;
    }
    for other in others {
        if !services.iter().any(|known| known.port() == other.port()) {
            services.push(*other);
        }
    }
    if environment.is_empty() {
        return;
    }
    for name in [NO_PROXY.to_owned(), NO_PROXY.to_ascii_uppercase()] {
        match environment.iter_mut().find(|(known, _)| *known == name) {
            Some((_, value)) => {
                value.push(",");
                value.push(GATEWAY);
            }
            None => environment.push((name, GATEWAY.into())),
        }
    }
}

/// Leaves only values that reach a box over its kernel command line, where its guest side
/// evaluates them in a shell; spaces in a list of hosts mean nothing and go. Says which
/// variables were left out.
pub(super) fn only_plain(environment: &mut Vec<(String, OsString)>) -> Vec<String> {
    let mut notes = Vec::new();
    environment.retain_mut(|(name, value)| {
        let text = value.to_string_lossy().replace(' ', "");
        let plain = text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ":/.@%,+-".contains(c));
        if plain {
            *value = text.into();
        } else {
            notes.push(format!(
                "{name} of this host has characters that cannot reach a box booted by its own \
                 init: export it in boxroot/etc/boxprofile of the description instead"
            ));
        }
        plain
    });
    notes
}

/// A proxy as a variable names it.
#[derive(Debug)]
struct Proxy {
    /// A name or an address.
    host: String,
    port: u16,
    /// The value for a guest that reaches this host at its gateway.
    through_gateway: String,
}

impl Proxy {
    /// Reads the value of a variable: an address, with a scheme or without.
    fn parse(text: &str) -> Option<Proxy> {
        let has_scheme = text.contains("://");
        let url = if has_scheme {
            Url::parse(text)
        } else {
            Url::parse(&format!("http://{text}"))
        };
        let url = url.ok()?;
        let host = url.host_str().filter(|host| !host.is_empty())?.to_owned();
        let port = url.port_or_known_default().unwrap_or(DEFAULT_PORT);
        let scheme = if has_scheme {
            format!("{}://", url.scheme())
        } else {
            String::new()
        };
        let credentials = &url[Position::BeforeUsername..Position::BeforeHost];
        // A parser adds the empty path.
        let rest = match &url[Position::BeforePath..] {
            "/" if !text.ends_with('/') => "",
            rest => rest,
        };
        let through_gateway = format!("{scheme}{credentials}{GATEWAY}:{port}{rest}");
        Some(Proxy {
            host,
            port,
            through_gateway,
        })
    }

    /// Its address, if that is one of the loopback.
    fn loopback(&self) -> Option<IpAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        if host.eq_ignore_ascii_case("localhost") {
            return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        let ip: IpAddr = host.parse().ok()?;
        ip.is_loopback().then_some(ip)
    }

    /// Whether the user named it.
    fn is_in(&self, rule: &Allowed) -> bool {
        let covered = |host: &str| rule.covers(host, self.port);
        let on_loopback = |ip: IpAddr| covered(&ip.to_string()) || covered("localhost");
        covered(&self.host) || self.loopback().is_some_and(on_loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Boot;
    use boxbuild_engine::podman::Mode;

    fn machine(variables: &[(&str, &str)], network: Network, allow: &[&str]) -> Proxies {
        proxies(variables, network, allow, RunsAs::Machine(Boot::Fast))
    }

    fn proxies(
        variables: &[(&str, &str)],
        network: Network,
        allow: &[&str],
        runs_as: RunsAs,
    ) -> Proxies {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let allow: Vec<Allowed> = allow.iter().map(|rule| rule.parse().unwrap()).collect();
        Proxies::of(variables, network, &allow, runs_as)
    }

    #[test]
    fn a_proxy_on_the_loopback_is_reached_through_the_gateway() {
        for (host, guest, service) in [
            (
                "http://127.0.0.1:3128",
                "http://10.0.2.2:3128",
                "127.0.0.1:3128",
            ),
            (
                "http://me:pw@localhost:3128/",
                "http://me:pw@10.0.2.2:3128/",
                "127.0.0.1:3128",
            ),
            ("localhost:1", "10.0.2.2:1", "127.0.0.1:1"),
            ("me:pw@LOCALHOST:1", "me:pw@10.0.2.2:1", "127.0.0.1:1"),
            ("http://[::1]:3128", "http://10.0.2.2:3128", "[::1]:3128"),
            (
                "http://127.0.0.9:3128",
                "http://10.0.2.2:3128",
                "127.0.0.9:3128",
            ),
            // The same port on both sides, whatever programs take for the default.
            ("http://localhost", "http://10.0.2.2:80", "127.0.0.1:80"),
            ("http://localhost:80", "http://10.0.2.2:80", "127.0.0.1:80"),
            (
                "socks5://localhost",
                "socks5://10.0.2.2:1080",
                "127.0.0.1:1080",
            ),
        ] {
            let proxies = machine(&[("http_proxy", host)], Network::User, &[]);
            assert_eq!(
                proxies.environment,
                [("http_proxy".to_owned(), guest.into())]
            );
            assert_eq!(proxies.services, [service.parse().unwrap()], "{host}");
        }
        // As the host has it, for any program of the guest's.
        let variables = [
            ("HTTP_PROXY", "http://127.0.0.1:1"),
            ("no_proxy", "127.0.0.1"),
            ("HOME", "/x"),
        ];
        assert_eq!(
            machine(&variables, Network::User, &[]).environment,
            [
                ("HTTP_PROXY".to_owned(), "http://10.0.2.2:1".into()),
                ("no_proxy".to_owned(), "127.0.0.1".into())
            ]
        );
        assert_eq!(machine(&variables, Network::None, &[]), Proxies::default());
        // A container has the host's own network.
        let container = proxies(
            &variables,
            Network::User,
            &[],
            RunsAs::Container(Mode::Rootless),
        );
        assert_eq!(container.environment[0].1, "http://127.0.0.1:1");
        assert!(container.services.is_empty());
    }

    /// Fault 17: a proxy that has the gateway's address somewhere in its name opened the loopback.
    #[test]
    fn a_proxy_elsewhere_opens_nothing() {
        for host in [
            "http://10.0.2.20:3128",
            "http://10.0.2.2:3128",
            "http://proxy.example:3128/?10.0.2.2",
            "http://10.0.2.2@proxy.example:3128",
            "http://localhost.example:1",
            "http://localhost@proxy.example:1",
            "http://proxy.example:3128",
            "http://proxy.example/@localhost:1",
            "http://127.0.0.1.example:1",
            "not an address",
            "http://[::1",
        ] {
            let proxies = machine(&[("https_proxy", host)], Network::User, &[]);
            assert_eq!(proxies.services, [], "{host}");
            assert_eq!(
                proxies.environment,
                [("https_proxy".to_owned(), host.into())]
            );
        }
    }

    #[test]
    fn two_proxies_have_a_port_each() {
        let variables = [
            ("http_proxy", "http://127.0.0.1:3128"),
            ("https_proxy", "http://localhost:3128"),
            ("ftp_proxy", "http://[::1]:3128"),
            ("HTTPS_PROXY", "http://[::1]:3129"),
        ];
        let proxies = machine(&variables, Network::User, &[]);
        assert_eq!(
            proxies.services,
            [
                "127.0.0.1:3128".parse().unwrap(),
                "[::1]:3129".parse().unwrap()
            ]
        );
        assert_eq!(proxies.environment.len(), 3);
        assert!(proxies.notes.len() == 1 && proxies.notes[0].starts_with("ftp_proxy "));
    }

    /// A proxy is a way around what a network closes.
    #[test]
    fn a_network_with_limits_has_the_proxies_that_are_named() {
        let variables = [
            ("http_proxy", "http://me:s3cret@127.0.0.1:3128"),
            ("https_proxy", "http://proxy.example:3128"),
        ];
        let closed = machine(&variables, Network::User, &["packages.example"]);
        assert!(closed.environment.is_empty() && closed.services.is_empty());
        assert_eq!(closed.notes.len(), 2);
        assert!(!closed.notes.concat().contains("s3cret"));
        for rule in ["localhost:3128", "127.0.0.1", "127.0.0.0/8:3128"] {
            let named = machine(&variables, Network::User, &[rule]);
            assert_eq!(named.services.len(), 1, "{rule}");
        }
        let named = machine(&variables, Network::User, &["proxy.example:3128"]);
        assert_eq!((named.environment.len(), named.services.len()), (1, 0));
        let public = machine(&variables, Network::Public, &[]);
        assert_eq!((public.environment.len(), public.services.len()), (1, 0));
        assert_eq!(public.notes.len(), 1);
    }

    #[test]
    fn odd_values_do_not_reach_a_command_line() {
        let mut odd = vec![
            ("http_proxy".to_owned(), "http://p:1/$(id)".into()),
            ("no_proxy".to_owned(), "localhost, 10.0.0.0/8".into()),
        ];
        let notes = only_plain(&mut odd);
        assert!(notes.len() == 1 && notes[0].starts_with("http_proxy "));
        assert_eq!(
            odd,
            [("no_proxy".to_owned(), "localhost,10.0.0.0/8".into())]
        );
    }
}
