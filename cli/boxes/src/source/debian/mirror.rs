//! The package mirror that the host itself uses.

use std::ffi::OsStr;
use std::process::Command;

use super::CreateError;

const NONE: &str = "this host's apt configuration names no mirror of Debian: say which one to use \
                    with --mirror URL";

/// The URL of the Debian mirror in the host's apt configuration.
pub(super) fn of_host(path: &OsStr) -> Result<String, CreateError> {
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
        .and_then(|output| choose(&String::from_utf8_lossy(&output.stdout)))
        .ok_or_else(|| CreateError::Host(NONE.to_owned()))
}

/// The first mirror of a plain release: no updates, no security, no third party.
fn choose(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let uri = fields.next()?;
        let release = fields.next()?;
        let origin = fields.next()?;
        let component = fields.next()?;
        // Lists that were not fetched yet have no origin: the placeholder stands as it is.
        let debian = origin == "Debian" || origin.contains("ORIGIN");
        let plain = !release.contains(['-', '/']);
        let http = ["http://", "https://", "file:/", "mirror+"]
            .iter()
            .any(|s| uri.starts_with(s));
        (debian && plain && http && component == "main" && !uri.contains("security"))
            .then(|| uri.trim_end_matches('/').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_release_wins() {
        let targets = "http://mirror.example/debian-security/ bookworm-security Debian main\n\
                       http://third.example/apt/ nodistro NodeSource main\n\
                       http://mirror.example/debian/ bookworm-updates Debian main\n\
                       http://mirror.example/debian/ bookworm Debian main\n";
        assert_eq!(
            choose(targets).as_deref(),
            Some("http://mirror.example/debian")
        );
        assert_eq!(
            choose("http://mirror.example/ubuntu/ noble Ubuntu main"),
            None
        );
        assert_eq!(choose(""), None);
        assert_eq!(choose("garbage"), None);
    }
}
