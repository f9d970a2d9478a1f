//! Examples for the help of each command.

use clap::Command;

/// The examples of `--help`, and of the manual page.
pub(crate) const BUILD_EXAMPLES: &str = "  Create a box once, then build an image in it:
    boxbuild box create debian --from debian:trixie
    boxbuild --box debian -- --description ./image --target-dir /tmp/image

  Select a profile and add a repository; the options after -- go to 'kiwi-ng system build':
    boxbuild --profile Virtual --box debian -- --description ./image \\
        --target-dir /tmp/image --add-repo http://mirror.example/debian,apt-deb";

/// Examples for each command: what they do, and the command line.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "box",
        &[
            (
                "Create a box",
                "boxbuild box create debian --from debian:trixie",
            ),
            ("List the boxes", "boxbuild box list"),
        ],
    ),
    (
        "check",
        &[
            ("What this host can tell", "boxbuild check ./image"),
            (
                "What the KIWI in a box says, and whether all packages are there",
                "boxbuild check --box debian --profile Live ./image -- --add-package vim",
            ),
        ],
    ),
    (
        "info",
        &[
            (
                "Profiles, types, repositories, packages",
                "boxbuild info ./image",
            ),
            (
                "For programs",
                "boxbuild info --json ./image/appliance.kiwi",
            ),
        ],
    ),
    (
        "verify-build",
        &[(
            "Whether a build of one's own comes to the same again",
            "boxbuild verify-build --trust-record ./image-out",
        )],
    ),
    (
        "diff",
        &[
            ("Two results", "boxbuild diff ./monday ./tuesday"),
            (
                "Two files",
                "boxbuild diff ./monday/image.raw.xz ./tuesday/image.raw.xz",
            ),
        ],
    ),
    (
        "verify",
        &[
            (
                "Whether all files are what the build published",
                "boxbuild verify ./image-out",
            ),
            (
                "And whether the build farm's key signed them",
                "boxbuild verify --signed-by farm.pub ./image-out",
            ),
        ],
    ),
    (
        "box create",
        &[
            (
                "A box for Debian images, from the mirror that this host uses",
                "boxbuild box create debian --from debian:trixie",
            ),
            (
                "One of another architecture, with a version of KIWI",
                "boxbuild box create debian --from debian:trixie --arch aarch64 --kiwi-version 10.2.33",
            ),
        ],
    ),
    (
        "box list",
        &[
            ("Installed and published boxes", "boxbuild box list"),
            ("For programs", "boxbuild box list --json"),
        ],
    ),
    (
        "box info",
        &[(
            "Files, sizes and checksums of a box",
            "boxbuild box info debian",
        )],
    ),
    (
        "box rm",
        &[(
            "Remove a box; builds that run in it continue",
            "boxbuild box rm debian",
        )],
    ),
    (
        "box pull",
        &[(
            "Fetch a published box, or update it",
            "boxbuild box pull universal",
        )],
    ),
    (
        "box export",
        &[(
            "A box for another host",
            "boxbuild box export debian debian.box.tar.zst",
        )],
    ),
    (
        "box verify",
        &[("Check the files of all boxes", "boxbuild box verify")],
    ),
    (
        "box lock",
        &[(
            "Write boxbuild.lock for builds with --locked",
            "boxbuild box lock universal",
        )],
    ),
    (
        "box reset",
        &[(
            "Undo what builds with --no-snapshot have changed in a box",
            "boxbuild box reset debian",
        )],
    ),
    (
        "box prune",
        &[("Remove unused files", "boxbuild box prune")],
    ),
    (
        "box import",
        &[
            (
                "A box from files",
                "boxbuild box import mine --disk disk.qcow2 --kernel vmlinuz --initrd initrd",
            ),
            (
                "One that another host has exported",
                "boxbuild box import debian --archive debian.box.tar.zst",
            ),
        ],
    ),
    (
        "config",
        &[
            ("What counts, and why", "boxbuild config"),
            (
                "Every setting there is, with its variable",
                "boxbuild config --all",
            ),
            ("The files that are read", "boxbuild config --files"),
        ],
    ),
    (
        "doctor",
        &[("What builds lack on this host", "boxbuild doctor")],
    ),
    (
        "test",
        &[
            (
                "Boot what a build has made, up to its login prompt",
                "boxbuild test /tmp/image",
            ),
            (
                "An ISO as a USB stick, with UEFI, and what its console must show",
                "boxbuild test --usb --firmware uefi --expect Welcome live.iso",
            ),
            (
                "An encrypted disk, with a script that logs in",
                "boxbuild test --passphrase-env LUKS --script login.script disk.qcow2",
            ),
        ],
    ),
    (
        "run",
        &[(
            "A login on the console of an image",
            "boxbuild run disk.qcow2",
        )],
    ),
    (
        "batch",
        &[(
            "All builds of a file, two at a time",
            "boxbuild batch builds.toml --jobs 2",
        )],
    ),
    ("bench", &[("All measurements", "boxbuild bench")]),
    (
        "builds",
        &[
            ("All builds, the oldest first", "boxbuild builds"),
            (
                "What failed lately of a description",
                "boxbuild builds --failed --last 5 --description ./image",
            ),
            ("For programs", "boxbuild builds --json"),
        ],
    ),
    (
        "df",
        &[
            ("Boxes, kept builds, caches", "boxbuild df"),
            ("Each of them", "boxbuild df --verbose"),
        ],
    ),
    (
        "logs",
        &[
            ("The log of the newest kept build", "boxbuild logs"),
            (
                "The log of the build that runs, until it ends",
                "boxbuild logs --follow",
            ),
            (
                "The console of an earlier one",
                "boxbuild logs debian-3 --console",
            ),
        ],
    ),
    (
        "resume",
        &[
            ("Go on with the newest kept build", "boxbuild resume"),
            (
                "With a program that the box lacked",
                "boxbuild resume debian-3 --box-package binutils",
            ),
        ],
    ),
    (
        "shell",
        &[
            ("A shell in the newest kept build", "boxbuild shell"),
            (
                "In another one, with more memory",
                "boxbuild shell debian-3 --box-memory 8G",
            ),
        ],
    ),
    (
        "prune",
        &[
            ("Remove one kept build", "boxbuild prune debian-3"),
            (
                "Show what can be removed: kept builds, unused files of the box store, the cache",
                "boxbuild prune --dry-run",
            ),
            (
                "Remove all of that which is older than a week",
                "boxbuild prune --all --older-than 7d",
            ),
        ],
    ),
    (
        "completions",
        &[
            (
                "For bash, in this session",
                "source <(boxbuild completions bash)",
            ),
            (
                "For fish, from now on",
                "boxbuild completions fish >~/.config/fish/completions/boxbuild.fish",
            ),
            (
                "For a link named kiwi-ng, too",
                "source <(boxbuild completions bash --name kiwi-ng)",
            ),
        ],
    ),
    (
        "help",
        &[
            ("All options of a build", "boxbuild help"),
            ("A command", "boxbuild help box create"),
            ("The options after --", "boxbuild help build-args"),
        ],
    ),
    (
        "generate",
        &[(
            "Manual pages and completions, as make docs does",
            "boxbuild generate man target/docs",
        )],
    ),
];

/// Returns the examples for the command of this path (e.g. `box create`) as text.
pub(crate) fn examples_of(path: &str) -> Option<String> {
    let (_, examples) = EXAMPLES.iter().find(|(known, _)| *known == path)?;
    Some(lines(examples))
}

/// Adds the examples to a command and its subcommands.
pub(crate) fn add(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (path, examples)| {
        let words: Vec<&str> = path.split(' ').collect();
        add_to(command, &words, examples)
    })
}

fn add_to(command: Command, path: &[&str], examples: &[(&str, &str)]) -> Command {
    match path {
        [] => command.after_help(text(examples)),
        [first, rest @ ..] if command.find_subcommand(first).is_some() => {
            command.mut_subcommand(first, |command| add_to(command, rest, examples))
        }
        _ => command,
    }
}

fn text(examples: &[(&str, &str)]) -> String {
    format!("Examples:\n{}", lines(examples))
}

fn lines(examples: &[(&str, &str)]) -> String {
    let entries = examples.iter();
    let entries: Vec<String> = entries
        .map(|(what, how)| format!("  {what}:\n    {how}"))
        .collect();
    entries.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn check(command: &Command, path: &str) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let path = format!("{path} {}", sub.get_name());
            let help = sub.clone().render_help().to_string();
            assert!(help.contains("Examples:"), "{path} has no example");
            check(sub, &path);
        }
    }

    #[test]
    fn every_command_has_examples() {
        let command = args::command();
        assert!(
            command
                .clone()
                .render_long_help()
                .to_string()
                .contains("Examples:")
        );
        check(&command, "boxbuild");
    }

    #[test]
    fn examples_are_right() {
        let command = args::command();
        for (path, examples) in EXAMPLES {
            let known = path
                .split(' ')
                .try_fold(&command, |command, word| command.find_subcommand(word));
            for (_, line) in examples.iter().filter(|_| known.is_some()) {
                let line = line.trim_start_matches("source <(").trim_end_matches(')');
                let line = line.split(" >").next().unwrap_or_default();
                let words = line.split(' ').skip(1).map(std::ffi::OsString::from);
                if let Err(error) = args::parse(words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }
}
