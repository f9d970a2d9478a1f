//! The command line of a build, to be run again without the secrets in it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use boxbuild_host::secret;

/// Options whose values are read before the root tree is there, and by nothing after it.
const OF_REPOSITORIES: [&str; 3] = ["--add-repo", "--only-repo", "--set-repo"];

/// A command line, and the folder that its paths are relative to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The folder.
    pub folder: PathBuf,
    /// All words but the program's name.
    pub words: Vec<OsString>,
}

impl CommandLine {
    /// Returns the words with their secrets hidden. `None` if there is a secret that is needed to go on after
    /// kiwi's `prepare`, which reads those of repositories.
    pub fn without_secrets(&self) -> Option<Vec<OsString>> {
        let shown = secret::redact_words(&self.words);
        let mut option: &OsStr = OsStr::new("");
        let mut words = Vec::with_capacity(self.words.len());
        for (word, shown) in self.words.iter().zip(shown) {
            let is_plain = word.to_string_lossy() == shown;
            let of_repositories = |word: &OsStr| {
                let mut known = OF_REPOSITORIES.iter();
                known.any(|option| word.as_bytes().starts_with(option.as_bytes()))
            };
            if is_plain {
                words.push(word.clone());
            } else if of_repositories(option) || of_repositories(word) {
                words.push(shown.into());
            } else {
                return None;
            }
            option = word;
        }
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_secrets(words: &[&str]) -> Option<Vec<String>> {
        let line = CommandLine {
            words: words.iter().map(OsString::from).collect(),
            ..CommandLine::default()
        };
        let words = line.without_secrets()?;
        Some(
            words
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect(),
        )
    }

    #[test]
    fn secrets_of_repositories_are_hidden_and_others_are_missed() {
        let words = without_secrets(&[
            "--box",
            "x",
            "--",
            "--set-repo",
            "https://me:pw@host/x,apt-deb",
        ]);
        assert_eq!(words.unwrap()[4], "https://***@host/x,apt-deb");
        let words = without_secrets(&[
            "--",
            "--add-repo-credentials",
            "me:pw",
            "--add-repo=http://a:b@c/",
        ]);
        assert!(
            words
                .unwrap()
                .iter()
                .all(|word| !word.contains("pw") && !word.contains("a:b"))
        );
        let plain = ["--box", "x", "--", "--set-type-attr", "size=3"];
        assert_eq!(without_secrets(&plain).unwrap(), plain);
        assert_eq!(without_secrets(&["--", "--set-type-attr", "luks=pw"]), None);
        assert_eq!(without_secrets(&["--setenv", "PASSWORD=pw", "--"]), None);
    }
}
