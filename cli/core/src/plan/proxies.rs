//! The host's proxy settings, as a guest can use them.

use std::ffi::OsString;

use boxbuild_engine::Network;

use crate::boot::RunsAs;

/// The host as the guest sees it: the gateway of its network.
const GATEWAY: &str = "10.0.2.2";

/// The host's proxy settings, as the guest can use them: a proxy that listens on the host's
/// loopback is reached through the gateway of a machine's network. A container has the host's.
pub(super) fn proxies(
    environment: impl Iterator<Item = (OsString, OsString)>,
    network: Network,
    runs_as: RunsAs,
) -> Vec<(String, OsString)> {
    const NAMES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];
    if network == Network::None {
        return Vec::new();
    }
    environment
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, value)| {
            NAMES.contains(&name.to_ascii_lowercase().as_str()) && !value.is_empty()
        })
        .map(|(name, value)| {
            let value = match value.to_str() {
                Some(text) if !runs_as.is_container() && !name.eq_ignore_ascii_case("no_proxy") => {
                    through_gateway(text).into()
                }
                _ => value,
            };
            (name, value)
        })
        .collect()
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

/// Whether one of the proxies is reached through the gateway.
pub(super) fn wants_loopback(environment: &[(String, OsString)]) -> bool {
    environment.iter().any(|(name, value)| {
        !name.eq_ignore_ascii_case("no_proxy") && value.to_string_lossy().contains(GATEWAY)
    })
}

fn through_gateway(proxy: &str) -> String {
    let start = proxy.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = proxy.split_at(start);
    let start = rest.rfind('@').map_or(0, |at| at + 1);
    let (credentials, host) = rest.split_at(start);
    for loopback in ["localhost", "127.0.0.1", "[::1]"] {
        if let Some(port) = host.strip_prefix(loopback)
            && (port.is_empty() || port.starts_with([':', '/']))
        {
            return format!("{scheme}{credentials}{GATEWAY}{port}");
        }
    }
    proxy.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Boot;
    use boxbuild_engine::podman::Mode;

    #[test]
    fn a_proxy_on_the_loopback_is_reached_through_the_gateway() {
        for (host, guest) in [
            ("http://127.0.0.1:3128", "http://10.0.2.2:3128"),
            (
                "http://me:pw@localhost:3128/",
                "http://me:pw@10.0.2.2:3128/",
            ),
            ("localhost:1", "10.0.2.2:1"),
            ("http://[::1]:3128", "http://10.0.2.2:3128"),
            ("http://localhost.example:1", "http://localhost.example:1"),
            ("http://proxy.example:3128", "http://proxy.example:3128"),
        ] {
            assert_eq!(through_gateway(host), guest);
        }
        let environment = || {
            [
                ("HTTP_PROXY", "http://127.0.0.1:1"),
                ("no_proxy", "127.0.0.1"),
                ("HOME", "/x"),
            ]
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .into_iter()
        };
        assert_eq!(
            proxies(environment(), Network::User, RunsAs::Machine(Boot::Fast)),
            [
                ("HTTP_PROXY".to_owned(), "http://10.0.2.2:1".into()),
                ("no_proxy".to_owned(), "127.0.0.1".into())
            ]
        );
        assert_eq!(
            proxies(environment(), Network::None, RunsAs::Machine(Boot::Fast)),
            []
        );
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
        // A container has the host's own network.
        assert_eq!(
            proxies(
                environment(),
                Network::User,
                RunsAs::Container(Mode::Rootless)
            )[0]
            .1,
            "http://127.0.0.1:1"
        );
    }
}
