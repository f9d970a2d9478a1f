//! The host's own configuration of apt.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::release::Family;

/// Returns the mirror that the host's apt uses for a distribution. `path` is the search path for
/// programs.
pub(super) fn mirror_of_host(family: &Family, path: &OsStr) -> Option<String> {
    find(family, path, None)
}

/// As [`mirror_of_host`], with another configuration of apt.
fn find(family: &Family, path: &OsStr, config: Option<&Path>) -> Option<String> {
    let fetched = targets(path, config, Lists::Fetched);
    release_mirror(family, &fetched)
        .or_else(|| likely_mirror(family, &targets(path, config, Lists::Configured)))
}

/// Which package lists apt is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// Those that were fetched: whose distribution they are is known.
    Fetched,
    /// All that are configured.
    Configured,
}

/// Returns what apt fetches: address, release, origin and component, a line each; nothing if there is
/// no apt. This way, apt itself reads its one-line and deb822 files.
fn targets(path: &OsStr, config: Option<&Path>, lists: Lists) -> String {
    let mut command = Command::new("apt-get");
    command
        .args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(ORIGIN) $(COMPONENT)",
        ])
        .arg("Created-By: Packages")
        .env("PATH", path);
    if lists == Lists::Configured {
        command.arg("--no-release-info");
    }
    if let Some(config) = config {
        command.env("APT_CONFIG", config);
    }
    let output = command.output();
    output
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

/// A line of [`targets`].
#[derive(Debug, Clone, Copy)]
struct Target<'a> {
    uri: &'a str,
    release: &'a str,
    origin: &'a str,
}

/// Returns the targets that have a release itself: not updates, security fixes or media.
fn main_targets(targets: &str) -> impl Iterator<Item = Target<'_>> {
    targets.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (uri, release) = (fields.next()?, fields.next()?);
        let (origin, component) = (fields.next()?, fields.next()?);
        let usable = ["http://", "https://", "file:/", "mirror"]
            .iter()
            .any(|start| uri.starts_with(start));
        let plain = !release.contains(['-', '/']) && !uri.contains("security");
        (usable && plain && component == "main").then_some(Target {
            uri: uri.trim_end_matches('/'),
            release,
            origin,
        })
    })
}

/// Returns the first mirror of a distribution among lists that were fetched.
fn release_mirror(family: &Family, targets: &str) -> Option<String> {
    main_targets(targets)
        .filter(|target| target.origin == family.title)
        .find_map(|target| resolve(target.uri))
}

/// Returns the first that is a mirror of a distribution by its names: others have packages for its
/// releases, too.
fn likely_mirror(family: &Family, targets: &str) -> Option<String> {
    let has_updates = |target: &Target<'_>| {
        let line = format!("{}/ {}-updates ", target.uri, target.release);
        targets.lines().any(|other| other.starts_with(&line))
    };
    let named = |target: &Target<'_>| {
        let folder = target.uri.rsplit('/').next().unwrap_or_default();
        folder == family.name
            || (target.uri.starts_with("mirror") && folder.starts_with(family.name))
    };
    main_targets(targets)
        .filter(|target| family.releases.contains(&target.release))
        .filter(|target| {
            !family
                .derivatives
                .iter()
                .any(|name| target.uri.contains(name))
        })
        .filter(|target| named(target) || has_updates(target))
        .find_map(|target| resolve(target.uri))
}

/// Returns the address of a mirror; of a list of mirrors in a file (apt-transport-mirror(1)), the
/// first of them, as the list is not in the box.
fn resolve(uri: &str) -> Option<String> {
    let Some(file) = uri.strip_prefix("mirror+file:") else {
        return Some(uri.to_owned());
    };
    let file = format!("/{}", file.trim_start_matches('/'));
    let list = fs::read_to_string(file).ok()?;
    let first = list
        .lines()
        .map(|line| line.split_whitespace().next().unwrap_or_default())
        .find(|word| word.starts_with("http://") || word.starts_with("https://"))?;
    Some(first.trim_end_matches('/').to_owned())
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
    use super::super::release::{DEBIAN, UBUNTU};
    use super::*;

    #[test]
    fn the_mirror_of_the_release_itself_is_chosen() {
        let targets = "http://mirror.example/debian-security/ bookworm-security Debian main\n\
                       http://third.example/apt/ nodistro NodeSource main\n\
                       http://mirror.example/debian/ bookworm-updates Debian main\n\
                       http://mirror.example/debian/ bookworm Debian main\n";
        assert_eq!(
            release_mirror(&DEBIAN, targets).as_deref(),
            Some("http://mirror.example/debian")
        );
        assert_eq!(
            release_mirror(&DEBIAN, "http://mirror.example/ubuntu/ noble Ubuntu main"),
            None
        );
        assert_eq!(
            release_mirror(&UBUNTU, "http://mirror.example/ubuntu/ noble Ubuntu main").as_deref(),
            Some("http://mirror.example/ubuntu")
        );
        assert_eq!(release_mirror(&DEBIAN, ""), None);
        assert_eq!(release_mirror(&DEBIAN, "garbage"), None);
    }

    /// Asks the real apt about a host whose `sources.list` and `sources.list.d/test.sources` are these;
    /// `None` if there is no apt.
    fn mirror_of(family: &Family, one_line: &str, deb822: &str) -> Option<Option<String>> {
        let path = std::env::var_os("PATH")?;
        if Command::new("apt-get").arg("--version").output().is_err() {
            // The lines for libtest-mimic's summary are counted by their first word.
            eprintln!("skipped: mirror_of: apt-get is not installed");
            return None;
        }
        let dir = tempfile::tempdir().ok()?;
        let top = dir.path();
        fs::create_dir_all(top.join("lists/partial")).ok()?;
        fs::create_dir(top.join("parts")).ok()?;
        fs::write(top.join("list"), one_line).ok()?;
        fs::write(top.join("parts/test.sources"), deb822).ok()?;
        let config = format!(
            "Dir::Etc::sourcelist \"{0}/list\";\nDir::Etc::sourceparts \"{0}/parts\";\n\
             Dir::State::Lists \"{0}/lists\";\n",
            top.display()
        );
        fs::write(top.join("config"), config).ok()?;
        Some(find(family, &path, Some(&top.join("config"))))
    }

    /// Case E7: a host whose apt has no mirror of Debian got an error, and one whose lists had not been
    /// fetched yet (a fresh container), too.
    #[test]
    fn debians_mirror_is_found_in_every_form_of_apt_configuration() {
        let ubuntu = "deb cdrom:[Ubuntu 24.04]/ noble main\n\
            deb [arch=amd64 signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg] \
            http://archive.ubuntu.example/ubuntu noble main universe\n\
            deb http://security.ubuntu.example/ubuntu noble-security main\n";
        let ubuntu822 = "Types: deb\nURIs: http://archive.ubuntu.example/ubuntu/\n\
            Suites: noble noble-updates\nComponents: main universe\n";
        let third = "deb https://packages.example/debian/12/prod bookworm main\n\
            deb http://archive.raspbian.example/raspbian bookworm main\n";
        let debian = "deb cdrom:[Debian GNU/Linux 12]/ bookworm main\n\
            deb http://security.debian.example/debian-security bookworm-security main\n\
            deb [ arch=amd64 signed-by=/usr/share/keyrings/x.gpg ] http://one.example/debian/ bookworm main\n";
        let debian822 = "Types: deb deb-src\nURIs: http://two.example/mirrored\n\
            Suites: trixie trixie-updates\nComponents: main contrib\nArchitectures: amd64\n\
            Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        for (one_line, deb822, expected) in [
            ("", "", None),
            (ubuntu, "", None),
            ("", ubuntu822, None),
            (third, ubuntu822, None),
            (debian, "", Some("http://one.example/debian")),
            (third, debian822, Some("http://two.example/mirrored")),
            ("broken", "", None),
        ] {
            let Some(mirror) = mirror_of(&DEBIAN, one_line, deb822) else {
                return;
            };
            assert_eq!(mirror.as_deref(), expected, "{one_line}{deb822}");
        }
        let theirs = Some("http://archive.ubuntu.example/ubuntu");
        for (one_line, deb822, expected) in [
            (ubuntu, "", theirs),
            (debian, ubuntu822, theirs),
            (debian, debian822, None),
            (third, "", None),
        ] {
            let Some(mirror) = mirror_of(&UBUNTU, one_line, deb822) else {
                return;
            };
            assert_eq!(mirror.as_deref(), expected, "{one_line}{deb822}");
        }
    }

    #[test]
    fn the_first_mirror_of_a_list_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("debian.list");
        let list = "# ours\nhttps://near.example/debian/\tpriority:1\nhttp://far.example/debian\n";
        fs::write(&file, list).unwrap();
        for slashes in ["", "//"] {
            let line = format!("deb mirror+file:{slashes}{} trixie main\n", file.display());
            let Some(mirror) = mirror_of(&DEBIAN, &line, "") else {
                return;
            };
            assert_eq!(mirror.as_deref(), Some("https://near.example/debian"));
        }
        assert_eq!(resolve("mirror+file:/no/such/list"), None);
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
