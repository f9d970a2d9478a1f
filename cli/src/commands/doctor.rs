//! `boxbuild doctor`: what builds need of this host, and how to get what it lacks.

use std::path::Path;

use boxbuild_jail::{Confinement, Landlock};
use owo_colors::OwoColorize;

use crate::exit_code::{ExitCode, Result};
use crate::output::print::print_text;
use boxbuild_boxes::source::debian;
use boxbuild_boxes::store::{Store, StoreError};
use boxbuild_engine::{Unusable, podman};
use boxbuild_host::arch::Arch;
use boxbuild_host::units::size;

/// Free space in the box store that a box and the changes of a build need, in bytes.
const NEEDED_SPACE: u64 = 8 << 30;

/// A requirement of builds, checked.
#[derive(Debug)]
struct Finding {
    /// Name of the requirement.
    subject: String,
    /// The result of the check.
    state: State,
    /// It is an engine; a build needs only one of them.
    engine: bool,
}

/// The state of a requirement.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It is met; the text says what was found.
    Good(String),
    /// It is not met; the text says what would help.
    Missing(String),
}

/// Checks this host, and prints the findings.
pub(super) fn run() -> Result<ExitCode> {
    let findings = examine();
    print_text(&report(&findings))?;
    Ok(if can_build(&findings) {
        ExitCode::SUCCESS
    } else {
        ExitCode::HOST
    })
}

/// Checks all requirements. Changes nothing on this host.
fn examine() -> Vec<Finding> {
    let mut findings: Vec<Finding> = boxbuild_engine::all()
        .iter()
        .map(|engine| Finding {
            subject: format!("engine {}", engine.name()),
            state: match engine.probe(Arch::host()) {
                Ok(()) => State::Good(String::from("works")),
                Err(Unusable(reason)) => State::Missing(reason),
            },
            engine: true,
        })
        .collect();
    let mut add = |subject: &str, state| {
        findings.push(Finding {
            subject: subject.to_owned(),
            state,
            engine: false,
        });
    };
    for (subject, finding) in podman::examine() {
        add(
            subject,
            match finding {
                Ok(words) => State::Good(words),
                Err(Unusable(reason)) => State::Missing(reason),
            },
        );
    }
    add("confinement", confinement(Confinement::of_host()));
    add(
        "network",
        match boxbuild_engine::describe_networks() {
            Ok(words) => State::Good(words),
            Err(Unusable(reason)) => State::Missing(reason),
        },
    );
    match Store::of_user() {
        Ok(store) => {
            add("box store", store_space(store.root()));
            add("boxes", boxes(&store));
        }
        Err(error) => add("box store", State::Missing(error.to_string())),
    }
    add(
        "box create",
        match debian::check_host() {
            Ok(()) => State::Good(String::from(
                "has the programs and permissions that it needs",
            )),
            Err(error) => State::Missing(error.to_string()),
        },
    );
    findings
}

/// Returns whether an engine works.
fn can_build(findings: &[Finding]) -> bool {
    findings
        .iter()
        .any(|finding| finding.engine && matches!(finding.state, State::Good(_)))
}

/// Returns the findings for people, with colours.
fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (mark, words) = match &finding.state {
            State::Good(words) => ("ok     ".green().to_string(), words),
            State::Missing(words) => ("missing".yellow().to_string(), words),
        };
        let words = words.replace('\n', "\n                         ");
        text += &format!("{mark}  {:<14}  {words}\n", finding.subject);
    }
    text += if can_build(findings) {
        "This host can build.\n"
    } else {
        "This host cannot build in a virtual machine: one of the engines must work.\n"
    };
    text
}

/// Says how far the processes are confined that work on what a guest or a server says.
fn confinement(host: Confinement) -> State {
    match (host.weakness(), host.landlock) {
        (Some(weakness), _) => State::Missing(format!(
            "builds are confined by checks alone, not by the kernel of this host: {weakness}"
        )),
        (None, Landlock::Enforced(abi)) => State::Good(format!(
            "by Landlock (ABI {abi}) and filters of system calls"
        )),
        (None, _) => State::Good(String::from("by filters of system calls")),
    }
}

/// Checks the store, or the folder that it will be created in.
fn store_space(root: &Path) -> State {
    let existing = root
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let here = root.display();
    if nix::unistd::access(existing, nix::unistd::AccessFlags::W_OK).is_err() {
        return State::Missing(format!(
            "no permission to write into {}: set KIWI_BOXED_CACHE_DIR to a folder of your own",
            existing.display()
        ));
    }
    // The changes of a build to the disk of its box go to such a file.
    if let Err(error) = tempfile::tempfile_in(existing) {
        return State::Missing(format!(
            "cannot create files in {}: {error}",
            existing.display()
        ));
    }
    match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size();
            let found = format!("{here}, {} free", size(free));
            if free < NEEDED_SPACE {
                State::Missing(format!(
                    "{found}: a box and the changes of a build take up to {}; free some space, or \
                     set KIWI_BOXED_CACHE_DIR to a folder on another file system",
                    size(NEEDED_SPACE)
                ))
            } else {
                State::Good(found)
            }
        }
        Err(error) => State::Missing(format!("cannot find out the free space of {here}: {error}")),
    }
}

fn boxes(store: &Store) -> State {
    let names = match store.names() {
        Ok(names) => names,
        Err(error) => return State::Missing(with_cause(&error)),
    };
    if names.is_empty() {
        return State::Missing(String::from(
            "there is none; create one with: boxbuild box create debian --from debian:trixie",
        ));
    }
    let damaged: Vec<String> = names
        .iter()
        .filter_map(|name| store.get(name).err())
        .map(|error| with_cause(&error))
        .collect();
    if damaged.is_empty() {
        State::Good(names.join(", "))
    } else {
        State::Missing(damaged.join("\n"))
    }
}

fn with_cause(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(engine: bool, good: bool) -> Finding {
        Finding {
            subject: String::from("subject"),
            state: if good {
                State::Good(String::from("fine"))
            } else {
                State::Missing(String::from("line\nanother"))
            },
            engine,
        }
    }

    #[test]
    fn one_engine_is_enough_and_nothing_else_is() {
        assert!(can_build(&[finding(true, false), finding(true, true)]));
        assert!(!can_build(&[finding(true, false), finding(false, true)]));
    }

    #[test]
    fn every_finding_is_reported() {
        let text = report(&[finding(true, false), finding(false, true)]);
        assert!(
            text.contains("missing") && text.contains("another"),
            "{text}"
        );
        assert!(text.contains("ok") && text.contains("fine"), "{text}");
        assert!(text.contains("cannot build"), "{text}");
    }

    #[test]
    fn a_store_that_does_not_exist_yet_is_checked_through_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("not/yet");
        assert!(!matches!(store_space(&root), State::Missing(text) if text.contains("cannot")));
        assert!(!root.exists());
    }

    #[test]
    fn this_host_can_be_checked() {
        let findings = examine();
        let network = findings.iter().find(|found| found.subject == "network");
        let State::Good(words) = &network.unwrap().state else {
            panic!("{network:?}");
        };
        for word in ["--network user", "--network public", "--allow", "never:"] {
            assert!(words.contains(word), "{words}");
        }
        assert!(
            findings
                .iter()
                .any(|finding| finding.subject == "engine kvm")
        );
        assert!(
            findings
                .iter()
                .any(|finding| finding.subject == "engine qemu")
        );
    }
}
