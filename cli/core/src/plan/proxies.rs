//! The host's proxy settings, as a guest can use them.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};

use boxbuild_engine::{Allowed, Network};
use ipnet::IpNet;

use super::proxy::{GATEWAY, Proxy};
use super::repositories::Connection;
use crate::boot::RunsAs;

/// Variables that name a proxy, the one that names it for all that has none, and the one that names what
/// needs none.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", ALL_PROXY];
const ALL_PROXY: &str = "all_proxy";
const NO_PROXY: &str = "no_proxy";
/// Those that take the place of [`ALL_PROXY`] for programs that do not know it, apt among them.
const INSTEAD_OF_ALL: [&str; 2] = ["http_proxy", "https_proxy"];

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
    /// Takes them from `environment`. A container has the host's loopback, as far as anything names a service
    /// there, or podman's NAT. `words` are arguments of the build, which may name repositories.
    pub(super) fn of(
        environment: impl Iterator<Item = (OsString, OsString)>,
        connection: Connection<'_>,
        words: &[OsString],
    ) -> Proxies {
        let Connection {
            runs_as, network, ..
        } = connection;
        let mut proxies = Proxies::default();
        // A proxy is a way out.
        if network == Network::None || connection.offline {
            return proxies;
        }
        let own: Vec<(String, OsString)> = environment
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, value)| {
                let plain = name.to_ascii_lowercase();
                !value.is_empty() && (plain == NO_PROXY || PROXIES.contains(&plain.as_str()))
            })
            .collect();
        let added = missing(&own);
        for (name, value) in own {
            proxies.take(name, value, connection, words);
        }
        // What the host has not set needs no note of its own.
        let notes = proxies.notes.len();
        for (name, value) in added {
            proxies.take(name, value, connection, words);
        }
        proxies.notes.truncate(notes);
        let names = |wanted: &str| proxies.environment.iter().any(|(name, _)| name == wanted);
        if !runs_as.is_container() && !proxies.environment.is_empty() && !names(NO_PROXY) {
            let value = OsString::from(GATEWAY);
            proxies.environment.push((NO_PROXY.to_owned(), value));
        }
        proxies
    }

    fn take(
        &mut self,
        name: String,
        value: OsString,
        connection: Connection<'_>,
        words: &[OsString],
    ) {
        let runs_as = connection.runs_as;
        let text = value.to_str().map(str::trim);
        if name.eq_ignore_ascii_case(NO_PROXY) {
            let list = text.map(|text| without_proxy(text, runs_as, words));
            let value = list.map_or_else(|| value.clone(), OsString::from);
            self.environment.push((name, value));
        } else if runs_as.is_container() {
            let proxy = text.and_then(Proxy::parse);
            let service = proxy.and_then(|proxy| Some((proxy.loopback()?, proxy.port)));
            let service = service.filter(|_| connection.is_private);
            self.open(service.map(SocketAddr::from));
            self.environment.push((name, value));
        } else {
            let proxy = text.and_then(Proxy::parse);
            self.add(name, value, proxy, connection.network, connection.allow);
        }
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
            self.note(format!(
                "{name} of this host is not used in the box: a proxy reaches what --allow closes; name \
                 the proxy with --allow HOST:PORT to use it"
            ));
            return;
        }
        let Some(proxy) = proxy else {
            self.environment.push((name, value));
            return;
        };
        if let Some(ip) = proxy.loopback() {
            let service = SocketAddr::new(ip, proxy.port);
            let mut others = self.services.iter();
            if network == Network::Public {
                return self.note(format!(
                    "{name} of this host is not used in the box: the proxy is on this host, which \
                     --network public keeps out of reach; use --network user to reach it"
                ));
            }
            if others.any(|other| other.port() == service.port() && *other != service) {
                return self.note(format!(
                    "{name} of this host is not used in the box: another proxy on this host has port {}, \
                     and the box reaches both under the same address",
                    service.port()
                ));
            }
            self.open(Some(service));
        }
        if let Some(caveat) = proxy.caveat() {
            self.note(format!("{name} of this host {caveat}"));
        }
        self.environment.push((name, proxy.for_guest().into()));
    }

    /// Opens a service, unless another one has its port already.
    fn open(&mut self, service: Option<SocketAddr>) {
        let taken = |service: &SocketAddr| {
            let mut others = self.services.iter();
            others.any(|other| other.port() == service.port())
        };
        self.services
            .extend(service.filter(|service| !taken(service)));
    }

    fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

/// Returns what programs look for that know fewer forms than others do: apt and Python's `urllib` read
/// names in lower case, and few know the one for all.
fn missing(own: &[(String, OsString)]) -> Vec<(String, OsString)> {
    let value = |wanted: &str| {
        let found = own.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone())
    };
    let either = |plain: &str| value(plain).or_else(|| value(&plain.to_ascii_uppercase()));
    let wanted = PROXIES.into_iter().chain([NO_PROXY]);
    wanted
        .filter(|plain| value(plain).is_none())
        .filter_map(|plain| {
            let for_all = INSTEAD_OF_ALL.contains(&plain).then(|| either(ALL_PROXY));
            let value = either(plain).or(for_all.flatten())?;
            Some((plain.to_owned(), value))
        })
        .collect()
}

/// The list of what needs no proxy, for the guest: without spaces, which some programs take for a part of
/// a name, and with the addresses of `words` that lie in its networks, which only some understand. A
/// machine's gateway leads to this host, where no proxy leads.
fn without_proxy(list: &str, runs_as: RunsAs, words: &[OsString]) -> String {
    let separators = |c: char| c == ',' || c.is_ascii_whitespace();
    let mut entries: Vec<String> = Vec::new();
    for entry in list.split(separators).filter(|entry| !entry.is_empty()) {
        entries.push(entry.to_owned());
    }
    let networks: Vec<IpNet> = entries
        .iter()
        .filter_map(|entry| entry.parse().ok())
        .collect();
    let inside = words
        .iter()
        .filter_map(|word| address_of(word.to_str()?))
        .filter(|ip| networks.iter().any(|network| network.contains(ip)))
        .map(|ip| ip.to_string());
    let gateway = (!runs_as.is_container()).then(|| GATEWAY.to_owned());
    for entry in inside.chain(gateway).collect::<Vec<_>>() {
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    entries.join(",")
}

/// The address that a word names as a server's, such as `http://10.1.2.3/repository,apt,local`.
fn address_of(word: &str) -> Option<IpAddr> {
    let (_, rest) = word.split_once("://")?;
    let authority = rest.split(['/', ',', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    match host.strip_prefix('[') {
        Some(host) => host.split(']').next()?.parse().ok(),
        None => host.split(':').next()?.parse().ok(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Boot;
    use boxbuild_engine::podman::Mode;

    fn machine(variables: &[(&str, &str)], network: Network, allow: &[&str]) -> Proxies {
        proxies(variables, network, allow, RunsAs::Machine(Boot::Fast))
    }

    /// The value of a variable of the guest's, or nothing.
    fn value(proxies: &Proxies, name: &str) -> String {
        let mut found = proxies.environment.iter();
        let found = found.find(|(own, _)| own == name);
        found.map_or_else(String::new, |(_, value)| {
            value.to_string_lossy().into_owned()
        })
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
        let connection = Connection {
            runs_as,
            network,
            allow: &allow,
            ..Connection::of_machine()
        };
        Proxies::of(variables, connection, &[])
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
            ("localhost:1", "http://10.0.2.2:1", "127.0.0.1:1"),
            (
                "me:pw@LOCALHOST:1",
                "http://me:pw@10.0.2.2:1",
                "127.0.0.1:1",
            ),
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
                "socks5h://10.0.2.2:1080",
                "127.0.0.1:1080",
            ),
        ] {
            let proxies = machine(&[("http_proxy", host)], Network::User, &[]);
            assert_eq!(value(&proxies, "http_proxy"), guest);
            assert_eq!(proxies.services, [service.parse().unwrap()], "{host}");
        }
        // For any program of the guest's, whatever name the host has it under.
        let variables = [
            ("HTTP_PROXY", "http://127.0.0.1:1"),
            ("no_proxy", "127.0.0.1"),
            ("HOME", "/x"),
        ];
        let guest = machine(&variables, Network::User, &[]);
        assert_eq!(value(&guest, "HTTP_PROXY"), "http://10.0.2.2:1");
        assert_eq!(value(&guest, "http_proxy"), "http://10.0.2.2:1");
        assert_eq!(value(&guest, "no_proxy"), "127.0.0.1,10.0.2.2");
        assert_eq!(guest.environment.len(), 3);
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
            assert_eq!(value(&proxies, "https_proxy"), host);
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
        assert_eq!(value(&proxies, "ftp_proxy"), "");
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
        assert_eq!(value(&named, "https_proxy"), "http://proxy.example:3128");
        assert_eq!(
            (value(&named, "http_proxy"), named.services.len()),
            (String::new(), 0)
        );
        let public = machine(&variables, Network::Public, &[]);
        assert_eq!(
            (value(&public, "http_proxy"), public.services.len()),
            (String::new(), 0)
        );
        assert_eq!(public.notes.len(), 1);
    }

    /// C3: on a host that has it all in one variable, or in upper case.
    #[test]
    fn every_program_of_the_guest_finds_its_variable() {
        let guest = machine(&[("ALL_PROXY", "socks5://[::1]:1080")], Network::User, &[]);
        for name in ["ALL_PROXY", "all_proxy", "http_proxy", "https_proxy"] {
            assert_eq!(value(&guest, name), "socks5h://10.0.2.2:1080", "{name}");
        }
        assert_eq!(value(&guest, "no_proxy"), "10.0.2.2");
        assert_eq!(guest.services, ["[::1]:1080".parse().unwrap()]);
        // Each has its own before the one for all.
        let variables = [
            ("all_proxy", "http://all.example:1"),
            ("HTTPS_PROXY", "http://tls.example:2"),
        ];
        let guest = machine(&variables, Network::User, &[]);
        assert_eq!(value(&guest, "http_proxy"), "http://all.example:1");
        assert_eq!(value(&guest, "https_proxy"), "http://tls.example:2");
        // One note for what the host has, and none for what was made of it.
        let odd = machine(&[("ALL_PROXY", "socks4://a.example")], Network::User, &[]);
        assert!(odd.notes.len() == 1 && odd.notes[0].starts_with("ALL_PROXY "));
        let closed = machine(&variables, Network::User, &["b.example"]);
        assert_eq!(closed.notes.len(), 2);
    }

    /// C3: apt compares text, and a repository has an address in such a network.
    #[test]
    fn addresses_in_a_network_without_a_proxy_are_named_one_by_one() {
        let variables = [
            ("http_proxy", "http://proxy.example:3128"),
            ("NO_PROXY", "localhost, 10.0.0.0/8 .corp.example,fd00::/8"),
        ];
        let words = [
            "--set-repo",
            "http://me:pw@10.1.2.3:8080/debian,apt,local",
            "--add-repo",
            "http://[fd00::7]/x",
            "https://192.0.2.1/x",
            "--add-repo=http://10.1.2.4",
        ]
        .map(OsString::from);
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let machine = Connection::of_machine();
        let guest = Proxies::of(variables.into_iter(), machine, &words);
        let list = "localhost,10.0.0.0/8,.corp.example,fd00::/8,10.1.2.3,fd00::7,10.1.2.4,10.0.2.2";
        assert_eq!(value(&guest, "no_proxy"), list);
        assert_eq!(value(&guest, "NO_PROXY"), list);
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
