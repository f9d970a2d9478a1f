//! The cache of packages of one machine.

use std::error::Error;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use boxbuild_engine::{Allowed, Handover};
use boxbuild_host::secret;
use boxbuild_package_cache::{CacheConfig, CacheError, PackageCache, Program};
use url::Url;

use crate::plan::Plan;
use crate::user_cache;

/// Bytes of packages that are kept.
const LIMIT: u64 = 10 << 30;
/// Ports whose connections may be HTTP.
const PORTS: usize = 32;
const HTTP: u16 = 80;
/// This host, as a machine knows it.
const GATEWAY: &str = "10.0.2.2";

/// Starts the cache, if the plan has one. Returns it, and what the machine's network hands over to it.
///
/// Must be called on a thread that outlives the machine.
///
/// # Errors
/// If its folder cannot be used, or the host refuses a process.
pub(super) fn cache(plan: &Plan) -> Result<Option<(PackageCache, Handover)>, CacheError> {
    let Some(folder) = user_cache::folder().filter(|_| plan.package_cache) else {
        return Ok(None);
    };
    let allow = plan.allow.clone();
    let offline = plan.offline;
    let (cache, channel) = PackageCache::start(CacheConfig {
        program: Program::this(),
        folder: folder.join(user_cache::PACKAGES),
        limit: LIMIT,
        lookup: Box::new(move |name, ip| {
            if offline {
                // Of what is kept under it: no name server is asked.
                ip.is_unspecified() && is_covered(&allow, name)
            } else {
                has_address(&allow, name, ip)
            }
        }),
        offline,
        proxies: proxies(plan),
    })?;
    let ports = ports(plan);
    Ok(Some((cache, Handover { channel, ports })))
}

/// Why there is none, for people.
pub(super) fn unusable(error: &CacheError) -> String {
    let cause = error
        .source()
        .map_or_else(String::new, |cause| format!(": {cause}"));
    format!("packages do not come from the cache: {error}{cause}")
}

/// Whether this host finds the address under the name. A guest says the name: one that it must not ask for
/// is not asked for here.
fn has_address(allow: &[Allowed], name: &str, ip: IpAddr) -> bool {
    if !is_covered(allow, name) {
        return false;
    }
    let found = (name, HTTP).to_socket_addrs();
    found.is_ok_and(|mut found| found.any(|found| found.ip().to_canonical() == ip))
}

/// Whether the guest may ask for a name.
fn is_covered(allow: &[Allowed], name: &str) -> bool {
    let covers = |rule: &Allowed| rule.covers(name, rule.port.unwrap_or(HTTP));
    allow.is_empty() || allow.iter().any(covers)
}

/// Absent files whose addresses a note has.
const NAMED: usize = 8;

/// What the user should know of files that an offline build did not find in the cache.
pub(super) fn absent(addresses: &[String]) -> Option<String> {
    let (first, rest) = addresses.split_first()?;
    let named = rest.iter().take(NAMED - 1);
    let mut text = format!("not in the cache of packages: {}", secret::redact(first));
    for address in named {
        text += &format!("\n  {}", secret::redact(address));
    }
    let more = rest.len().saturating_sub(NAMED - 1);
    if more > 0 {
        text += &format!("\n  and {more} more");
    }
    text += "\n--offline fetches nothing: build once without it, on a host with a network, and packages and lists \
             are kept; what is fetched over https is not";
    Some(text)
}

/// The user's proxies, as this host reaches them.
fn proxies(plan: &Plan) -> Vec<String> {
    let is_for_http =
        |name: &str| ["http_proxy", "all_proxy"].contains(&&*name.to_ascii_lowercase());
    let variables = plan
        .environment
        .iter()
        .filter(|(name, _)| is_for_http(name));
    let proxy = |value: &str| {
        let url = Url::parse(value).ok()?;
        let port = url.port_or_known_default()?;
        let here = ["localhost", "127.0.0.1", "[::1]", GATEWAY].contains(&url.host_str()?);
        let mut services = plan.host_proxies.iter();
        let service = services.find(|service| here && service.port() == port);
        Some(service.map_or_else(
            || format!("{}:{port}", url.host_str().unwrap_or_default()),
            SocketAddr::to_string,
        ))
    };
    let mut found: Vec<String> = variables
        .filter_map(|(_, value)| proxy(value.to_str()?))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The ports of HTTP, as the guest knows them: the usual one, and those of repositories and proxies.
fn ports(plan: &Plan) -> Vec<u16> {
    let variables = plan
        .environment
        .iter()
        .filter_map(|(_, value)| value.to_str());
    let addresses = plan
        .repositories
        .iter()
        .map(String::as_str)
        .chain(variables);
    let named = addresses.filter_map(|address| {
        let address = Url::parse(address).ok()?;
        address
            .port_or_known_default()
            .filter(|_| address.scheme() == "http")
    });
    let services = plan.host_proxies.iter().map(SocketAddr::port);
    let mut ports = vec![HTTP];
    for port in named.chain(services) {
        if !ports.contains(&port) && ports.len() < PORTS {
            ports.push(port);
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    #[test]
    fn ports_of_repositories_and_proxies_are_those_of_http() {
        let mut plan = plan(|_| ()).unwrap();
        plan.repositories = [
            "http://10.0.2.2:8000/debian",
            "https://mirror.example:8443/x",
            "dir:///repo",
        ]
        .map(String::from)
        .into();
        plan.environment = vec![(
            String::from("http_proxy"),
            "http://proxy.example:3128".into(),
        )];
        plan.host_proxies = vec!["127.0.0.1:8000".parse().unwrap()];
        assert_eq!(ports(&plan), [80, 8000, 3128]);
        assert_eq!(proxies(&plan), ["proxy.example:3128"]);
        plan.environment.push((
            String::from("ALL_PROXY"),
            "http://me:pw@10.0.2.2:8000".into(),
        ));
        plan.environment
            .push((String::from("https_proxy"), "http://tls.example:1".into()));
        assert_eq!(proxies(&plan), ["127.0.0.1:8000", "proxy.example:3128"]);
    }

    /// A guest could tell the world something by names that are looked up here.
    #[test]
    fn names_that_the_guest_must_not_ask_for_are_not_looked_up() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(has_address(&[], "localhost", loopback));
        let rule = |rule: &str| vec![rule.parse::<Allowed>().unwrap()];
        assert!(!has_address(
            &rule("packages.example"),
            "localhost",
            loopback
        ));
        assert!(has_address(&rule("localhost:80"), "localhost", loopback));
        assert!(!has_address(&[], "localhost", "192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn what_is_absent_is_named_within_bounds() {
        assert_eq!(absent(&[]), None);
        let addresses: Vec<String> = (0..20)
            .map(|number| format!("http://m/{number}.deb"))
            .collect();
        let text = absent(&addresses).unwrap();
        assert!(
            text.starts_with("not in the cache of packages: http://m/0.deb\n  http://m/1.deb\n")
        );
        assert!(text.contains("m/7.deb\n  and 12 more\n--offline"), "{text}");
        assert!(!absent(&addresses[..1]).unwrap().contains("more\n"));
    }

    /// A guest says the name.
    #[test]
    fn offline_names_are_compared_with_what_is_allowed_only() {
        assert!(is_covered(&[], "packages.example"));
        let rules = ["packages.example:80".parse::<Allowed>().unwrap()];
        assert!(is_covered(&rules, "packages.example") && !is_covered(&rules, "evil.example"));
    }

    #[test]
    fn a_box_without_a_network_has_no_cache() {
        let with = |change: &dyn Fn(&mut crate::request::BuildRequest)| {
            plan(|request| change(request)).unwrap().package_cache
        };
        assert!(with(&|_| ()));
        assert!(!with(&|request| request.package_cache = false));
        assert!(!with(
            &|request| request.network = boxbuild_engine::Network::None
        ));
    }
}
