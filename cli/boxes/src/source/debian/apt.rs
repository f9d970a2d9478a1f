//! The host's own configuration of apt.

use std::ffi::OsStr;
use std::process::Command;

use crate::source::error::SourceError;

const NO_MIRROR: &str = "this host's apt configuration names no mirror of Debian: say which one to use \
                    with --mirror URL";

/// Returns the address of the Debian mirror in the host's apt configuration. `path` is the search
/// path for programs.
pub(super) fn mirror(path: &OsStr) -> Result<String, SourceError> {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(ORIGIN) $(COMPONENT)",
        ])
        .arg("Created-By: Packages")
        .env("PATH", path)
        .output();
    output
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| release_mirror(&String::from_utf8_lossy(&output.stdout)))
        .ok_or_else(|| SourceError::Host(NO_MIRROR.to_owned()))
}

/// Returns the first mirror of a release itself: not of updates, security fixes or third parties.
fn release_mirror(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let uri = fields.next()?;
        let release = fields.next()?;
        let origin = fields.next()?;
        let component = fields.next()?;
        // Lists that were not fetched yet have no origin: the placeholder is not replaced.
        let debian = origin == "Debian" || origin.contains("ORIGIN");
        let plain = !release.contains(['-', '/']);
        let http = ["http://", "https://", "file:/", "mirror+"]
            .iter()
            .any(|s| uri.starts_with(s));
        (debian && plain && http && component == "main" && !uri.contains("security"))
            .then(|| uri.trim_end_matches('/').to_owned())
    })
}

/// Returns proxies and certificates of the host's apt, as lines of apt.conf(5). `path` is the search
/// path for programs.
pub(super) fn transport_options(path: &OsStr) -> Vec<String> {
    let output = Command::new("apt-config")
        .args(["dump", "Acquire::http", "Acquire::https"])
        .env("PATH", path)
        .output();
    let Ok(output) = output else {
        return Vec::new();
    };
    transport_lines(&String::from_utf8_lossy(&output.stdout))
}

/// Selects the lines of `apt-config dump` about proxies and certificates.
fn transport_lines(dump: &str) -> Vec<String> {
    const KEYS: [&str; 6] = [
        "::Proxy",
        "::CAInfo",
        "::CAPath",
        "::SslCert",
        "::SslKey",
        "::Verify-Peer",
    ];
    dump.lines()
        .filter_map(|line| line.trim().strip_suffix("\";")?.split_once(" \""))
        .filter(|(key, value)| !value.is_empty() && KEYS.iter().any(|known| key.contains(known)))
        .map(|(key, value)| format!("{key} \"{value}\""))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_of_the_release_itself_is_chosen() {
        let targets = "http://mirror.example/debian-security/ bookworm-security Debian main\n\
                       http://third.example/apt/ nodistro NodeSource main\n\
                       http://mirror.example/debian/ bookworm-updates Debian main\n\
                       http://mirror.example/debian/ bookworm Debian main\n";
        assert_eq!(
            release_mirror(targets).as_deref(),
            Some("http://mirror.example/debian")
        );
        assert_eq!(
            release_mirror("http://mirror.example/ubuntu/ noble Ubuntu main"),
            None
        );
        assert_eq!(release_mirror(""), None);
        assert_eq!(release_mirror("garbage"), None);
    }

    #[test]
    fn only_the_transport_of_the_hosts_apt_is_taken_over() {
        let dump = "Acquire \"\";\nAcquire::http \"\";\n\
                    Acquire::http::Proxy \"http://proxy.example:3142\";\n\
                    Acquire::http::Proxy::mirror.example \"DIRECT\";\n\
                    Acquire::https::CAInfo \"/etc/ca.pem\";\nAcquire::http::Timeout \"9\";\n";
        assert_eq!(
            transport_lines(dump),
            [
                "Acquire::http::Proxy \"http://proxy.example:3142\"",
                "Acquire::http::Proxy::mirror.example \"DIRECT\"",
                "Acquire::https::CAInfo \"/etc/ca.pem\"",
            ]
        );
    }
}
