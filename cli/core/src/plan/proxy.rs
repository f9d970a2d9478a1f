//! A proxy, as a variable names it.

use std::net::{IpAddr, Ipv4Addr};

use boxbuild_engine::Allowed;
use url::{Position, Url};

/// The host as the guest sees it: the gateway of its network.
pub(super) const GATEWAY: &str = "10.0.2.2";

/// The port of a proxy that names none and whose scheme has none either (curl(1), `--proxy`).
const DEFAULT_PORT: u16 = 1080;

/// A proxy as a variable names it.
#[derive(Debug)]
pub(super) struct Proxy {
    /// A name or an address.
    host: String,
    pub(super) port: u16,
    scheme: String,
    /// What is before the host: a name and a password.
    credentials: String,
    /// What is behind host and port.
    rest: String,
    /// The text names its port.
    has_port: bool,
}

impl Proxy {
    /// Reads the value of a variable: an address, with a scheme or without.
    pub(super) fn parse(text: &str) -> Option<Proxy> {
        // Without a scheme, it is a proxy for HTTP (curl(1), `--proxy`).
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            Url::parse(&format!("http://{text}"))
        };
        let url = url.ok()?;
        let host = url.host_str().filter(|host| !host.is_empty())?.to_owned();
        // A parser adds the empty path.
        let rest = match &url[Position::BeforePath..] {
            "/" if !text.ends_with('/') => "",
            rest => rest,
        };
        Some(Proxy {
            host,
            port: url.port_or_known_default().unwrap_or(DEFAULT_PORT),
            scheme: url.scheme().to_owned(),
            credentials: url[Position::BeforeUsername..Position::BeforeHost].to_owned(),
            rest: rest.to_owned(),
            // A parser drops the port that its scheme has.
            has_port: url.port().is_some() || names_port(text),
        })
    }

    /// The value for a guest: as programs of all kinds understand it.
    pub(super) fn for_guest(&self) -> String {
        let host = match self.loopback() {
            // The same port on both sides, whatever programs take for the default.
            Some(_) => format!("{GATEWAY}:{}", self.port),
            None if self.has_port => format!("{}:{}", self.host, self.port),
            None => self.host.clone(),
        };
        // apt knows only the form that has the proxy look up names.
        let scheme = match self.scheme.as_str() {
            "socks5" => "socks5h",
            scheme => scheme,
        };
        format!("{scheme}://{}{host}{}", self.credentials, self.rest)
    }

    /// What there is to know of it before it is used, as a sentence about a variable.
    pub(super) fn caveat(&self) -> Option<String> {
        match self.scheme.as_str() {
            "https" if self.loopback().is_some() => Some(format!(
                "leads to {GATEWAY} in the box: the proxy's certificate has to be good for that address, \
                 or kiwi's downloads fail"
            )),
            "http" | "https" | "socks5" | "socks5h" => None,
            scheme => Some(format!(
                "has a proxy with the scheme {scheme}://, which apt refuses and few programs know; http:// \
                 and socks5h:// work everywhere"
            )),
        }
    }

    /// Its address, if that is one of the loopback.
    pub(super) fn loopback(&self) -> Option<IpAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        if host.eq_ignore_ascii_case("localhost") {
            return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        let ip: IpAddr = host.parse().ok()?;
        let ip = ip.to_canonical();
        ip.is_loopback().then_some(ip)
    }

    /// Whether the user named it.
    pub(super) fn is_in(&self, rule: &Allowed) -> bool {
        let covered = |host: &str| rule.covers(host, self.port);
        let on_loopback = |ip: IpAddr| covered(&ip.to_string()) || covered("localhost");
        covered(&self.host) || self.loopback().is_some_and(on_loopback)
    }
}

/// Whether an address's text has a port behind its host.
fn names_port(text: &str) -> bool {
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn for_guest(text: &str) -> String {
        Proxy::parse(text).unwrap().for_guest()
    }

    /// C3: each form that a host may have.
    #[test]
    fn a_proxy_of_any_form_is_one_that_the_guests_programs_know() {
        for (host, guest) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("http://proxy.example:80/", "http://proxy.example:80/"),
            ("http://proxy.example", "http://proxy.example"),
            (
                "https://me:p%40ss@proxy.example",
                "https://me:p%40ss@proxy.example",
            ),
            ("https://proxy.example:443", "https://proxy.example:443"),
            ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
            ("http://[2001:db8::1]", "http://[2001:db8::1]"),
            // apt takes no other form of these two.
            ("proxy.example:3128", "http://proxy.example:3128"),
            (
                "me:pw@proxy.example:3128",
                "http://me:pw@proxy.example:3128",
            ),
            (
                "socks5://proxy.example:1080",
                "socks5h://proxy.example:1080",
            ),
            ("socks5h://127.0.0.1:1080", "socks5h://10.0.2.2:1080"),
            ("http://[::1]:3128", "http://10.0.2.2:3128"),
            ("http://[::ffff:127.0.0.1]:3128", "http://10.0.2.2:3128"),
            ("https://localhost", "https://10.0.2.2:443"),
        ] {
            assert_eq!(for_guest(host), guest, "{host}");
        }
        for text in ["", "http://", "not an address", "http://[::1"] {
            assert!(Proxy::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_does_not_work_everywhere_is_said() {
        let caveat = |text| Proxy::parse(text).unwrap().caveat();
        assert_eq!(caveat("http://localhost:1"), None);
        assert_eq!(caveat("https://proxy.example:1"), None);
        assert_eq!(caveat("socks5://localhost"), None);
        assert!(
            caveat("https://localhost:1")
                .unwrap()
                .contains("certificate")
        );
        let socks = caveat("socks4://me:s3cret@proxy.example").unwrap();
        assert!(socks.contains("socks4://") && !socks.contains("s3cret"));
    }
}
