//! Paths of this host in the values of build options.
//!
//! They are relative to the folder that boxbuild runs in, `this:` to the description. The box has neither
//! folder as its working folder: they become absolute, and what is in the description is found there. The
//! forms are those of kiwi 11.1 (`kiwi/system/uri.py`, `kiwi/tasks/base.py`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::host_paths::Named;
use crate::places::{in_box, in_description, normal};

/// Where relative paths begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bases<'a> {
    /// The working folder.
    pub(crate) here: &'a Path,
    /// The description folder, absolute.
    pub(crate) description: &'a Path,
}

/// Schemes of sources on the host. kiwi before 11 knows `iso:` as well.
const LOCAL: [&str; 3] = ["dir:", "file:", "iso:"];

/// The scheme of sources in the description.
const THIS: &str = "this:";

/// Makes the paths of the host in the values of `words` absolute. Returns them.
pub(crate) fn translate(words: &mut [OsString], bases: Bases<'_>) -> Vec<Named> {
    let mut found = Vec::new();
    for at in 1..words.len() {
        let (before, rest) = words.split_at_mut(at);
        let option = before.last().and_then(|word| word.to_str());
        let Some(option) = option.and_then(path_option) else {
            continue;
        };
        if let Some(word) = rest.first_mut()
            && let Some(text) = word.to_str()
        {
            let mut values = Values {
                option,
                bases,
                found: &mut found,
            };
            if let Some(value) = values.translate(text) {
                *word = value.into();
            }
        }
    }
    found
}

/// The options whose values may name files or folders of the host.
const WITH_PATHS: [&str; 10] = [
    "--signing-key",
    "--ca-cert",
    "--set-repo",
    "--add-repo",
    "--set-repo-credentials",
    "--add-repo-credentials",
    "--set-container-derived-from",
    "--set-type-attr",
    "--add-package",
    "--add-bootstrap-package",
];

fn path_option(word: &str) -> Option<&'static str> {
    WITH_PATHS.into_iter().find(|option| *option == word)
}

/// The values of one option.
struct Values<'a> {
    option: &'static str,
    bases: Bases<'a>,
    found: &'a mut Vec<Named>,
}

impl Values<'_> {
    /// Returns the value for the box, if it is another one.
    fn translate(&mut self, text: &str) -> Option<String> {
        match self.option {
            // kiwi takes a path here, and no address of one.
            "--signing-key" | "--ca-cert" => match self.local(text) {
                Some(path) => Some(self.note(&path)),
                None if text.contains("://") => None,
                None => Some(self.file(text)),
            },
            "--set-repo" | "--add-repo" => Some(self.repository(text)),
            // A file with credentials, or the credentials.
            "--set-repo-credentials" | "--add-repo-credentials" => {
                let there = self.bases.here.join(text).is_file();
                there.then(|| self.file(text))
            }
            "--set-container-derived-from" => self.source(text),
            "--set-type-attr" => {
                let (name, value) = text.split_once('=')?;
                let value = self.source(value).filter(|_| name == "derived_from")?;
                Some(format!("{name}={value}"))
            }
            // A package is a name, or a file for the package manager.
            "--add-package" | "--add-bootstrap-package" => {
                let is_path = text.starts_with('/')
                    || (text.contains('/') && self.bases.here.join(text).is_file());
                is_path.then(|| self.file(text))
            }
            _ => None,
        }
    }

    /// `SOURCE,TYPE,…,{KEY;KEY},…`.
    fn repository(&mut self, text: &str) -> String {
        let (source, rest) = match text.find(',') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let source = self.source(source).unwrap_or_else(|| source.to_owned());
        let mut value = source;
        let mut rest = rest;
        while let Some((before, after)) = rest.split_once('{') {
            let (keys, after) = after.split_once('}').unwrap_or((after, ""));
            let keys = keys.split(';').map(|key| {
                let translated = self.source(key);
                translated.unwrap_or_else(|| key.to_owned())
            });
            let keys: Vec<String> = keys.collect();
            value += &format!("{before}{{{}}}", keys.join(";"));
            rest = after;
        }
        value + rest
    }

    /// A source on the host: with a scheme, an absolute path, or a relative one that leads to something.
    /// `None` if it is another source.
    fn source(&mut self, text: &str) -> Option<String> {
        let (path, rest) = split_query(text);
        if let Some(local) = self.local(path) {
            let scheme = LOCAL.iter().find(|scheme| path.starts_with(*scheme));
            let scheme = scheme.copied().unwrap_or("dir:");
            return Some(format!("{scheme}//{}{rest}", self.note(&local)));
        }
        let is_path = path.starts_with('/')
            || (!path.is_empty() && !path.contains(':') && self.bases.here.join(path).exists());
        is_path.then(|| self.file(path) + rest)
    }

    /// The path of a source on the host that has a scheme.
    fn local(&self, text: &str) -> Option<PathBuf> {
        if let Some(path) = text.strip_prefix(THIS) {
            let path = path.strip_prefix("//").unwrap_or(path);
            let path = path.trim_start_matches('/');
            return Some(normal(&self.bases.description.join(path)));
        }
        let scheme = LOCAL.iter().find(|scheme| text.starts_with(*scheme))?;
        let path = after_scheme(text.strip_prefix(scheme)?);
        Some(normal(&self.bases.here.join(path)))
    }

    /// A plain path.
    fn file(&mut self, text: &str) -> String {
        let path = normal(&self.bases.here.join(text));
        self.note(&path)
    }

    /// Notes a path of the host. Returns its path in the box.
    fn note(&mut self, path: &Path) -> String {
        let shown = path.to_string_lossy().into_owned();
        if in_box(path) {
            return shown;
        }
        if let Some(place) = in_description(path, self.bases.description) {
            return place.to_string_lossy().into_owned();
        }
        self.found.push(Named {
            option: self.option,
            path: path.to_owned(),
        });
        shown
    }
}

/// Cuts off the query and the fragment of a URI, which are no part of its path.
fn split_query(text: &str) -> (&str, &str) {
    text.split_at(text.find(['?', '#']).unwrap_or(text.len()))
}

/// The path behind the scheme of a source on the host. `//./repo` is relative: there is no host `.`.
fn after_scheme(text: &str) -> &str {
    let Some(rest) = text.strip_prefix("//") else {
        return text;
    };
    match rest.strip_prefix("localhost") {
        Some(path) if path.starts_with('/') => path,
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Host {
        dir: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Host {
            let dir = tempfile::tempdir().unwrap();
            for folder in ["here/repo", "image/repo", "image/keys"] {
                fs::create_dir_all(dir.path().join(folder)).unwrap();
            }
            for file in ["here/key", "here/secret", "image/keys/a.asc"] {
                fs::write(dir.path().join(file), "").unwrap();
            }
            Host { dir }
        }

        /// The value in the box, and the paths that are noted; `$` is the folder of both.
        fn of(&self, option: &str, value: &str) -> (String, Vec<String>) {
            let top = self.dir.path().to_str().unwrap();
            let (here, description) = (self.dir.path().join("here"), self.dir.path().join("image"));
            let mut words: Vec<OsString> = vec![option.into(), value.replace('$', top).into()];
            let found = translate(
                &mut words,
                Bases {
                    here: &here,
                    description: &description,
                },
            );
            let short = |text: &str| text.replace(top, "$");
            let found = found
                .iter()
                .map(|named| short(named.path.to_str().unwrap()));
            (short(words[1].to_str().unwrap()), found.collect())
        }
    }

    /// Case A14.
    #[test]
    fn relative_repositories_are_shared_by_their_absolute_path() {
        let host = Host::new();
        for (option, value, inside, found) in [
            (
                "--add-repo",
                "dir:./repo",
                "dir://$/here/repo",
                "$/here/repo",
            ),
            (
                "--add-repo",
                "dir:repo,rpm-dir",
                "dir://$/here/repo,rpm-dir",
                "$/here/repo",
            ),
            (
                "--add-repo",
                "dir://./repo",
                "dir://$/here/repo",
                "$/here/repo",
            ),
            (
                "--add-repo",
                "dir:///$/here/repo",
                "dir://$/here/repo",
                "$/here/repo",
            ),
            (
                "--add-repo",
                "dir://localhost$/here/repo",
                "dir://$/here/repo",
                "$/here/repo",
            ),
            (
                "--set-repo",
                "repo,apt-deb",
                "$/here/repo,apt-deb",
                "$/here/repo",
            ),
            (
                "--set-repo",
                "file:../here/./repo",
                "file://$/here/repo",
                "$/here/repo",
            ),
            (
                "--add-repo",
                "this://./repo,rpm-md",
                "dir:///description/repo,rpm-md",
                "",
            ),
            (
                "--add-repo",
                "this://../here/repo",
                "dir://$/here/repo",
                "$/here/repo",
            ),
            (
                "--add-repo",
                "dir://$/image/repo",
                "dir:///description/repo",
                "",
            ),
            (
                "--add-repo",
                "dir:repo?credentials=x",
                "dir://$/here/repo?credentials=x",
                "$/here/repo",
            ),
            (
                "--add-repo",
                "http://m/r,rpm-md,a,,,,{file:key;this://keys/a.asc}",
                "http://m/r,rpm-md,a,,,,{file://$/here/key;dir:///description/keys/a.asc}",
                "$/here/key",
            ),
            ("--signing-key", "key", "$/here/key", "$/here/key"),
            ("--signing-key", "file:key", "$/here/key", "$/here/key"),
            (
                "--signing-key",
                "file:///usr/share/k.gpg",
                "/usr/share/k.gpg",
                "",
            ),
            (
                "--ca-cert",
                "this://keys/a.asc",
                "/description/keys/a.asc",
                "",
            ),
            (
                "--signing-key",
                "$/image/keys/a.asc",
                "/description/keys/a.asc",
                "",
            ),
            (
                "--add-repo-credentials",
                "secret",
                "$/here/secret",
                "$/here/secret",
            ),
            (
                "--set-type-attr",
                "derived_from=file:key",
                "derived_from=file://$/here/key",
                "$/here/key",
            ),
            (
                "--add-bootstrap-package",
                "./key",
                "$/here/key",
                "$/here/key",
            ),
        ] {
            let found: Vec<_> = (!found.is_empty())
                .then(|| found.to_owned())
                .into_iter()
                .collect();
            assert_eq!(
                host.of(option, value),
                (inside.to_owned(), found),
                "{option} {value}"
            );
        }
    }

    #[test]
    fn what_names_nothing_of_the_host_stays_as_it_is() {
        let host = Host::new();
        for (option, value) in [
            (
                "--add-repo",
                "http://mirror.example/debian,apt-deb,,,,,,main non-free",
            ),
            ("--add-repo", "obs://Virtualization:Appliances/leap"),
            ("--set-repo-credentials", "user:password"),
            ("--set-container-derived-from", "docker://x/y:1"),
            ("--set-type-attr", "filesystem=ext4"),
            ("--signing-key", "/description/key.asc"),
            ("--signing-key", "/usr/share/keyrings/k.gpg"),
            ("--signing-key", "https://m.example/key"),
            ("--add-package", "vim"),
            ("--add-container-label", "a=/x"),
        ] {
            let unchanged = (value.to_owned(), Vec::new());
            assert_eq!(host.of(option, value), unchanged, "{option} {value}");
        }
    }
}
