//! `boxbuild box create`: boxes of a distribution's own packages.

use boxbuild_host::nearest::{TYPO, nearest};

use super::box_source::BoxSource;
use super::debian;
use super::distribution::{CreateOptions, Distribution};
use super::error::SourceError;

/// All distributions, in the order in which they are listed to users.
const DISTRIBUTIONS: &[Distribution] = &[debian::DISTRIBUTION, debian::UBUNTU_DISTRIBUTION];

/// Returns the source of the box that `options` describe.
///
/// # Errors
/// Fails with [`SourceError::Usage`] if boxes cannot be made from `options.from`.
pub fn source(options: &CreateOptions) -> Result<Box<dyn BoxSource>, SourceError> {
    let known = options.from.split_once(':').and_then(|(name, release)| {
        DISTRIBUTIONS.iter().find(|distribution| {
            distribution.name == name && distribution.releases.contains(&release)
        })
    });
    match known {
        Some(distribution) => (distribution.source)(options),
        None => {
            let mut known = releases();
            let last = known.pop().unwrap_or_default();
            Err(SourceError::Usage(format!(
                "--from {}: boxes can be made from {} and {last}",
                options.from,
                known.join(", ")
            )))
        }
    }
}

/// Returns the release that a box of this name would most likely be made from, as for `--from`; of a
/// distribution, the newest.
pub fn release_for(name: &str) -> Option<String> {
    DISTRIBUTIONS.iter().find_map(|distribution| {
        let named = |release: &&&str| name.contains(**release);
        let meant = || {
            let plain = !name.contains(|c: char| c.is_ascii_digit());
            let alike = nearest(name, [distribution.name], TYPO).is_some();
            plain && (alike || name.starts_with(distribution.name))
        };
        let mut releases = distribution.releases.iter();
        let release = releases.find(named).or_else(|| {
            let newest = distribution.releases.last();
            newest.filter(|_| meant())
        })?;
        Some(format!("{}:{release}", distribution.name))
    })
}

/// Returns every release of every distribution, as for `--from`.
pub fn releases() -> Vec<String> {
    DISTRIBUTIONS
        .iter()
        .flat_map(|distribution| {
            let releases = distribution.releases.iter();
            releases.map(|release| format!("{}:{release}", distribution.name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use boxbuild_host::arch::Arch;

    use super::*;

    fn from(from: &str) -> Result<Box<dyn BoxSource>, SourceError> {
        source(&CreateOptions {
            name: String::from("test"),
            from: from.to_owned(),
            arch: Arch::host(),
            mirror: None,
            disk_size: 1 << 30,
            kiwi_version: None,
            with: Vec::new(),
            keyring: None,
        })
    }

    /// Case E7.
    #[test]
    fn a_name_tells_what_a_box_is_made_from() {
        for (name, release) in [
            ("debian", Some("debian:trixie")),
            ("debain", Some("debian:trixie")),
            ("debian-small", Some("debian:trixie")),
            ("trixie", Some("debian:trixie")),
            ("my-bookworm", Some("debian:bookworm")),
            ("debian-12", None),
            ("ubuntu", Some("ubuntu:noble")),
            ("leap", None),
            ("x", None),
        ] {
            assert_eq!(release_for(name).as_deref(), release, "{name}");
        }
    }

    #[test]
    fn only_known_releases_are_accepted() {
        for known in releases() {
            let target = from(&known).unwrap().target();
            assert_eq!((target.name.as_str(), target.origin), ("test", known));
        }
        for bad in ["trixie", "debian:", "debian:potato", "fedora:41"] {
            let error = from(bad).err().unwrap().to_string();
            assert!(
                error.contains("debian:bookworm, debian:trixie and ubuntu:noble"),
                "{bad}"
            );
        }
    }
}
