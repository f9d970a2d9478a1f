//! Package URLs (ECMA-427): one name for a package in all ecosystems.

use packageurl::PackageUrl;

use crate::observed::OsRelease;
use crate::packages::{Manager, Package};

/// The package URL of a package in an image of the distribution `os`; `None` if its name cannot be
/// one.
pub(crate) fn purl(package: &Package, os: Option<&OsRelease>) -> Option<String> {
    let (kind, name) = match package.manager {
        Manager::Rpm => ("rpm", package.name.clone()),
        // The registered types deb and alpm have no capitals.
        Manager::Dpkg => ("deb", package.name.to_lowercase()),
        Manager::Pacman => ("alpm", package.name.to_lowercase()),
    };
    let mut url = PackageUrl::new(kind, name).ok()?;
    url.with_version(package.version.clone()).ok()?;
    let qualifiers = [
        ("arch", package.arch.clone()),
        ("epoch", package.epoch.clone()),
        ("distro", os.map(OsRelease::name)),
    ];
    for (key, value) in qualifiers {
        if let Some(value) = value {
            url.add_qualifier(key, value).ok()?;
        }
    }
    if let Some(os) = os {
        url.with_namespace(os.id.to_lowercase()).ok()?;
    }
    Some(url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages;

    #[test]
    fn packages_of_all_managers() {
        let of = |line: &str, id: &str, version: &str| {
            let os = OsRelease {
                id: id.to_owned(),
                version: Some(version.to_owned()),
            };
            purl(&packages::read(line).0[0], Some(&os)).unwrap()
        };
        assert_eq!(
            of(
                "libstdc++6|None|1:2.41.5-0+deb13u1|None|amd64|None|None",
                "debian",
                "13"
            ),
            "pkg:deb/debian/libstdc%2B%2B6@1:2.41.5-0%2Bdeb13u1?arch=amd64&distro=debian-13"
        );
        assert_eq!(
            of(
                "bind-utils|32|9.18.33|1.fc41|x86_64|(none)|MIT",
                "fedora",
                "41"
            ),
            "pkg:rpm/fedora/bind-utils@9.18.33-1.fc41?arch=x86_64&distro=fedora-41&epoch=32"
        );
        assert_eq!(
            of("zlib|None|1:1.3.1|2|None|None|None", "arch", "1"),
            "pkg:alpm/arch/zlib@1:1.3.1-2?distro=arch-1"
        );
    }
}
