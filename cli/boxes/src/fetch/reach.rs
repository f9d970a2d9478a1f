//! Which hosts a redirect may lead to.
//!
//! A public server, or an attacker in its place, chooses where its redirects lead. They must not lead
//! into the user's network: to this host, its neighbours, or a cloud's metadata service. A server in
//! that network which the user has named may redirect to others there.

use std::collections::HashSet;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::oneshot;

/// What is known of the hosts of a fetch.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Hosts that the user has named: those of addresses, and proxies.
    named: Mutex<HashSet<String>>,
    /// Whether the user has named a host that is internal.
    inside: AtomicBool,
}

impl Reach {
    /// With the proxies that the environment names (`https_proxy`, for example).
    pub(super) fn of_environment() -> Reach {
        let reach = Reach::default();
        for (name, value) in std::env::vars_os() {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
                continue;
            };
            if !name.to_ascii_lowercase().ends_with("_proxy") {
                continue;
            }
            let with_scheme = format!("http://{value}");
            let url = Url::parse(value).ok().filter(Url::has_host);
            if let Some(url) = url.or_else(|| Url::parse(&with_scheme).ok()) {
                reach.add(&url);
            }
        }
        reach
    }

    fn add(&self, url: &Url) {
        if let Some(host) = url.host_str() {
            let mut named = self.0.named.lock().unwrap_or_else(PoisonError::into_inner);
            named.insert(host.to_ascii_lowercase());
        }
    }

    /// To be called with the address that a request begins at.
    pub(super) fn start_at(&self, url: &Url) {
        self.add(url);
        if is_internal_by_name(url) {
            self.0.inside.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a redirect to `url` is followed, as far as its text tells. What its name stands for is
    /// looked at when it is resolved.
    pub(super) fn may_follow(&self, url: &Url) -> Result<(), String> {
        if is_internal_by_name(url) && !self.is_inside() {
            return Err(format!(
                "it is redirected to {}, which is inside of your network: a public server does not \
                 choose that",
                url.host_str().unwrap_or_default()
            ));
        }
        Ok(())
    }

    fn is_inside(&self) -> bool {
        self.0.inside.load(Ordering::Relaxed)
    }

    /// Returns the addresses of a host that may be connected to.
    fn resolved(&self, host: &str) -> Result<Addrs, Box<dyn Error + Send + Sync>> {
        let found = (host, 0).to_socket_addrs()?;
        let chosen = self.choose(host, found.collect())?;
        Ok(Box::new(chosen.into_iter()))
    }

    /// Chooses among the addresses of a host.
    fn choose(&self, host: &str, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
        let named = self.0.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.contains(&host.to_ascii_lowercase()) {
            if addresses.iter().any(|address| is_internal(address.ip())) {
                self.0.inside.store(true, Ordering::Relaxed);
            }
            return Ok(addresses);
        }
        if self.is_inside() {
            return Ok(addresses);
        }
        let public: Vec<SocketAddr> = addresses
            .into_iter()
            .filter(|address| !is_internal(address.ip()))
            .collect();
        if public.is_empty() {
            return Err(format!(
                "it is redirected to {host}, whose address is inside of your network: a public \
                 server does not choose that"
            ));
        }
        Ok(public)
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.clone();
        let host = name.as_str().to_owned();
        let (answer, found) = oneshot::channel();
        // The C library's function waits, and other transfers go on meanwhile. A thread of the client's
        // runtime would be waited for when the client is dropped.
        let started = std::thread::Builder::new().spawn(move || {
            // The receiver is gone if the transfer has ended.
            let _ = answer.send(reach.resolved(&host));
        });
        Box::pin(async move {
            started?;
            found.await?
        })
    }
}

/// Whether the text of an address says that it is internal.
fn is_internal_by_name(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches([']', '.']);
    match host.parse() {
        Ok(address) => is_internal(address),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Whether an address is not one of the public Internet (IANA IPv4 and IPv6 Special-Purpose Address
/// Registries). Addresses that carry one of IPv4 count as that.
fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_internal_v4(address),
        IpAddr::V6(address) => is_internal_v6(address),
    }
}

fn is_internal_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        // Shared address space of providers, which Alibaba's metadata service has as well.
        || (a == 100 && (64..128).contains(&b))
        // IETF protocol assignments; Azure's wire server; benchmarking; reserved.
        || (a == 192 && b == 0 && c == 0)
        || address == Ipv4Addr::new(168, 63, 129, 16)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240
}

fn is_internal_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let [[p, q], [r, s]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_internal_v4(Ipv4Addr::new(p, q, r, s))
    };
    match [a, b, c, d, e, f] {
        // Unspecified, loopback, IPv4-compatible and -mapped; translated (RFC 8215, 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff] => v4(g, h) || a == g && h <= 1,
        [0, 0, 0, 0, 0xffff, 0] => v4(g, h),
        [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        [0x64, 0xff9b, 1, ..] => true,
        // 6to4.
        [0x2002, high, low, ..] => v4(high, low),
        // Global unicast is 2000::/3, with the exception of Teredo, documentation and others.
        _ => {
            a & 0xe000 != 0x2000
                || (a == 0x2001 && b < 0x200)
                || (a == 0x2001 && b == 0xdb8)
                || (a == 0x3fff && b < 0x1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        let parse = |text: &&str| SocketAddr::new(text.parse().unwrap(), 0);
        texts.iter().map(parse).collect()
    }

    #[test]
    fn addresses_of_the_internet_and_others() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:0:1::1",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
        ] {
            assert!(is_internal(text.parse().unwrap()), "{text}");
        }
        for text in [
            "195.135.223.226",
            "100.128.0.1",
            "2001:67c:2178:8::18",
            "2a07:de40:b27e:1204::11",
            "::ffff:195.135.223.226",
            "2002:c387:dfe2::",
        ] {
            assert!(!is_internal(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_public_server_does_not_lead_inside() {
        let reach = Reach::default();
        reach.start_at(&url("https://download.example/"));
        for bad in [
            "http://127.0.0.1:8080/",
            "http://localhost./",
            "http://a.localhost/",
            "http://[::1]/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://169.254.169.254/latest/",
        ] {
            assert!(reach.may_follow(&url(bad)).is_err(), "{bad}");
        }
        reach.may_follow(&url("https://mirror.example/")).unwrap();
        // Names that stand for internal addresses, and those that stand for both.
        let inside = addresses(&["10.0.0.1"]);
        assert!(reach.choose("mirror.example", inside.clone()).is_err());
        let both = addresses(&["127.0.0.1", "195.135.223.226"]);
        let chosen = reach.choose("mirror.example", both).unwrap();
        assert_eq!(chosen, addresses(&["195.135.223.226"]));
        // What the user names is reached, whatever it is, and leads inside from then on.
        assert_eq!(
            reach.choose("download.example", inside.clone()).unwrap(),
            inside
        );
        assert_eq!(
            reach.choose("mirror.example", inside.clone()).unwrap(),
            inside
        );
        reach.may_follow(&url("http://10.0.0.2/")).unwrap();
    }
}
