//! What the guest side saw of a build: the distribution of the image, and the indexes of the repositories
//! that its packages came from. It is what the guest says, and read as such.
//!
//! The text has a line a fact: what `sha256sum` printed of indexes, and `ID=` and `VERSION_ID=` of the
//! image's `/etc/os-release` (os-release(5)).

use boxbuild_host::text::is_harmful;

use crate::sums::is_sha256;

/// Longest text that is read, in bytes.
pub const LONGEST: u64 = 1 << 20;

/// Indexes that are kept, at most.
const MOST: usize = 1000;

/// What a guest saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The distribution of the image.
    pub os: Option<OsRelease>,
    /// Indexes of repositories.
    pub indexes: Vec<Index>,
}

/// A distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsRelease {
    /// Its `ID`, e.g. `debian`.
    pub id: String,
    /// Its `VERSION_ID`, e.g. `13`.
    pub version: Option<String>,
}

impl OsRelease {
    /// Both in one word.
    pub(crate) fn name(&self) -> String {
        match &self.version {
            Some(version) => format!("{}-{version}", self.id),
            None => self.id.clone(),
        }
    }
}

/// The index of a repository: `InRelease`, `Release` or `repomd.xml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Where the package manager keeps it; apt's name is the address with `_` for `/`.
    pub file: String,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

impl Observed {
    /// Reads the text. What is no fact is ignored.
    pub fn read(text: &str) -> Observed {
        let mut observed = Observed::default();
        let (mut id, mut version): (Option<String>, Option<String>) = (None, None);
        for line in text.lines().filter(|line| !line.chars().any(is_harmful)) {
            let word = |value: &str| {
                let value = value.trim_matches(['"', '\'']);
                // os-release(5): "mostly a-z, 0-9, '.', '_' and '-'".
                let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
                let fits = (1..=64).contains(&value.len()) && value.chars().all(fits);
                fits.then(|| value.to_owned())
            };
            if let Some(value) = line.strip_prefix("ID=") {
                id = word(value).or(id.take());
            } else if let Some(value) = line.strip_prefix("VERSION_ID=") {
                version = word(value).or(version.take());
            } else if let Some((sha256, file)) = line.split_once("  ")
                && is_sha256(sha256)
                && observed.indexes.len() < MOST
            {
                observed.indexes.push(Index {
                    file: file.to_owned(),
                    sha256: sha256.to_owned(),
                });
            }
        }
        observed.os = id.map(|id| OsRelease { id, version });
        observed
            .indexes
            .sort_by(|one, other| one.file.cmp(&other.file));
        observed.indexes.dedup();
        observed
    }
}

impl Index {
    /// Its address without the scheme, if the name of the file tells that: apt's do
    /// (`URItoFileName` of apt-pkg), with `_` for `/` and `%5f` for `_`.
    pub fn address(&self) -> Option<String> {
        let name = self.file.rsplit('/').next()?;
        ["_InRelease", "_Release"]
            .iter()
            .any(|end| name.ends_with(end))
            .then(|| name.replace('_', "/").replace("%5f", "_"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_among_other_lines() {
        let sum = "e".repeat(64);
        let text = format!(
            "ID=debian\nVERSION_ID=\"13\"\nnonsense\n{sum}  \
             /var/cache/kiwi/apt-get/lists/deb.example.org_a%5fb_dists_trixie_InRelease\n\
             {sum}  /x/repomd.xml\nID=\u{1b}[2J\n{}  short\n",
            "a".repeat(63)
        );
        let observed = Observed::read(&text);
        let os = observed.os.unwrap();
        assert_eq!(os.name(), "debian-13");
        let addresses: Vec<_> = observed.indexes.iter().map(Index::address).collect();
        let known = String::from("deb.example.org/a_b/dists/trixie/InRelease");
        assert_eq!(addresses, [Some(known), None]);
    }

    #[test]
    fn a_word_that_is_none_is_ignored() {
        for bad in ["ID=a b", "ID=", "ID=\"$(x)\"", "VERSION_ID=13"] {
            assert_eq!(Observed::read(bad).os, None, "{bad}");
        }
    }
}
