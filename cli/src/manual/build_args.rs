//! `boxbuild help build-args`: the options after `--`.

use super::document::Document;

/// An option of `kiwi-ng system build`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BuildArg {
    /// The option.
    pub(crate) name: &'static str,
    /// What its value is; empty for a flag.
    pub(crate) value: &'static str,
    /// What it does.
    pub(crate) help: &'static str,
}

const fn option(name: &'static str, value: &'static str, help: &'static str) -> BuildArg {
    BuildArg { name, value, help }
}

/// The options of `kiwi-ng system build`.
pub(crate) const BUILD_ARGS: &[BuildArg] = &[
    option(
        "--description",
        "DIR",
        "The image description: the folder with config.xml or *.kiwi. Required",
    ),
    option(
        "--target-dir",
        "DIR",
        "The folder in which the results appear; it is made if it does not exist. Required",
    ),
    option(
        "--set-repo",
        "SOURCE[,TYPE,ALIAS,PRIORITY,…]",
        "Use this repository in place of the first one in the description. A folder of this host is \
         shared with the box, read-only",
    ),
    option(
        "--only-repo",
        "SOURCE[,TYPE,ALIAS,PRIORITY,…]",
        "Use this repository and no other one of the description; repeatable. kiwi-ng itself has no such \
         option",
    ),
    option(
        "--set-repo-credentials",
        "USER:PASSWORD|FILE",
        "Credentials for the repository of --set-repo",
    ),
    option(
        "--add-repo",
        "SOURCE[,TYPE,ALIAS,PRIORITY,…]",
        "Add a repository, as with --set-repo; repeatable",
    ),
    option(
        "--add-repo-credentials",
        "USER:PASSWORD|FILE",
        "Credentials for the repositories of --add-repo, in their order; repeatable",
    ),
    option(
        "--ignore-repos",
        "",
        "Ignore all repositories of the description",
    ),
    option(
        "--ignore-repos-used-for-build",
        "",
        "Ignore the repositories of the description that are for the build alone",
    ),
    option("--add-package", "NAME", "Add a package; repeatable"),
    option(
        "--add-bootstrap-package",
        "NAME",
        "Add a package to the bootstrap phase; repeatable",
    ),
    option(
        "--delete-package",
        "NAME",
        "Leave a package of the description out; repeatable",
    ),
    option(
        "--signing-key",
        "FILE",
        "Trust packages and repositories that are signed with this key; repeatable",
    ),
    option(
        "--ca-cert",
        "FILE",
        "Trust this certificate while the packages are installed; repeatable, and needs \
         --ca-target-distribution",
    ),
    option(
        "--ca-target-distribution",
        "suse|redhat|debian|archlinux",
        "How the certificate is installed",
    ),
    option(
        "--set-container-derived-from",
        "URI",
        "The image that a container image derives from, in place of the one in the description",
    ),
    option("--set-container-tag", "TAG", "Tag of a container image"),
    option(
        "--add-container-label",
        "NAME=VALUE",
        "Add a label to a container image; repeatable",
    ),
    option(
        "--set-type-attr",
        "NAME=VALUE",
        "Set an attribute of the image type; repeatable",
    ),
    option(
        "--set-release-version",
        "VERSION",
        "Version of the release, in place of the one in the description",
    ),
    option(
        "--allow-existing-root",
        "",
        "Continue in the root tree of an earlier build (only with --no-snapshot is there one)",
    ),
    option(
        "--clear-cache",
        "",
        "Delete the package cache of each repository first",
    ),
];

/// Returns the text of the topic.
pub(super) fn document() -> Document {
    let items = BUILD_ARGS.iter().map(|option| {
        let word = format!("{} {}", option.name, option.value);
        (word.trim_end().to_owned(), format!("{}.", option.help))
    });
    Document::default()
        .paragraph(
            "Options after -- are those of 'kiwi-ng system build'. They are checked before anything \
             is started. A value is the next word, or follows '='. Paths are paths of this host: what \
             a build needs of it is shared with the box or copied into it.",
        )
        .code("boxbuild --box debian -- --description ./image --target-dir /tmp/image")
        .heading("Options")
        .items(items)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use boxbuild_core::build_args::{self, BuildArgs, BuildArgsError};

    use super::*;

    /// Case E12: they were listed nowhere in the program.
    #[test]
    fn every_build_option_is_explained() {
        let mut known: Vec<&str> = build_args::names().collect();
        let mut explained: Vec<&str> = BUILD_ARGS.iter().map(|option| option.name).collect();
        known.sort_unstable();
        explained.sort_unstable();
        assert_eq!(explained, known);
        for option in BUILD_ARGS {
            let words = [OsString::from(option.name)];
            let needs_value = BuildArgs::parse(&words) == Err(BuildArgsError::NoValue(option.name));
            assert_eq!(needs_value, !option.value.is_empty(), "{}", option.name);
        }
    }
}
