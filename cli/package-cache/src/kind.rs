//! What the address of a file says about it.

use crate::is_sha256;

/// What is known of a file by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has its SHA-256 in its name: it is this, or not to be kept.
    Hashed(String),
    /// A package: kept as long as its server says, and asked for news of then.
    Package,
    /// Lists of packages, signatures, anything else: its server is asked for news each time.
    Other,
}

/// Ends of names of packages, and of the parts of source packages.
const PACKAGES: &[&str] = &[
    ".deb",
    ".udeb",
    ".ddeb",
    ".rpm",
    ".drpm",
    ".apk",
    ".pkg.tar.zst",
    ".pkg.tar.xz",
    ".dsc",
    ".orig.tar.gz",
    ".orig.tar.xz",
    ".orig.tar.bz2",
    ".debian.tar.xz",
    ".debian.tar.gz",
];

impl Kind {
    /// Returns what the target of a request says.
    pub(crate) fn of(target: &str) -> Kind {
        let path = target.split('?').next().unwrap_or_default();
        let mut parts = path.rsplit('/');
        let (name, folder, above) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        // Debian's repositories (`by-hash/SHA256/HASH`), and those of createrepo (`repodata/HASH-primary…`).
        let by_hash = above == "by-hash" && folder == "SHA256";
        let hash = if by_hash {
            Some(name)
        } else if folder == "repodata" {
            name.split_once('-').map(|(hash, _)| hash)
        } else {
            None
        };
        if let Some(hash) = hash.filter(|hash| is_sha256(hash)) {
            return Kind::Hashed(hash.to_owned());
        }
        if PACKAGES
            .iter()
            .any(|end| name.len() > end.len() && name.ends_with(end))
        {
            Kind::Package
        } else {
            Kind::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_files_are() {
        let hash = "0123456789abcdef".repeat(4);
        for target in [
            format!("/debian/dists/trixie/main/binary-amd64/by-hash/SHA256/{hash}"),
            format!("http://a/x/repodata/{hash}-primary.xml.zst"),
        ] {
            assert_eq!(Kind::of(&target), Kind::Hashed(hash.clone()), "{target}");
        }
        for target in [
            "/debian/pool/main/b/bash/bash_5.2_amd64.deb",
            "/x/noarch/a-1-1.noarch.rpm?token=1",
        ] {
            assert_eq!(Kind::of(target), Kind::Package, "{target}");
        }
        for target in [
            format!("/by-hash/SHA512/{hash}{hash}"),
            format!("/by-hash/SHA256/{}", hash.to_uppercase()),
            format!("/by-hash/SHA256/{}", &hash[1..]),
            format!("/x/repodata/{hash}"),
            String::from("/debian/dists/trixie/InRelease"),
            String::from("/x/repodata/repomd.xml"),
            String::from("/pool/.deb"),
            String::from("/download?file=a.deb"),
            String::new(),
        ] {
            assert_eq!(Kind::of(&target), Kind::Other, "{target}");
        }
    }
}
