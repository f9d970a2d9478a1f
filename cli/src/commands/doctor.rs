//! `boxbuild doctor`: what builds need of this machine, and how to get what it lacks.

use std::path::Path;

use boxbuild_virtiofs::Confinement;
use owo_colors::OwoColorize;

use crate::exit_code::{ExitCode, Result};
use crate::output::print::print_text;
use boxbuild_boxes::source::debian;
use boxbuild_boxes::store::{Store, StoreError};
use boxbuild_engine::{Unusable, podman};
use boxbuild_host::arch::Arch;
use boxbuild_host::units::size;

/// Free space in the box store that a box and a build's changes to it need, in bytes.
const ROOMY: u64 = 8 << 30;

/// What was found of one precondition.
#[derive(Debug)]
struct Finding {
    /// What was looked at.
    pub(crate) subject: String,
    /// How it is.
    pub(crate) state: State,
    /// One of those of which a build needs only one.
    engine: bool,
}

/// The state of a precondition.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// As it should be; the text says what was found.
    Good(String),
    /// Something is missing that other things stand in for; the text says what would help.
    Lacking(String),
}

/// Looks at this machine, and tells what it lacks.
pub(crate) fn run() -> Result<ExitCode> {
    let findings = examine();
    print_text(&report(&findings))?;
    Ok(if can_build(&findings) {
        ExitCode::SUCCESS
    } else {
        ExitCode::HOST
    })
}

/// Looks at everything. Changes nothing on this machine.
fn examine() -> Vec<Finding> {
    let mut findings: Vec<Finding> = boxbuild_engine::all()
        .iter()
        .map(|engine| Finding {
            subject: format!("engine {}", engine.name()),
            state: match engine.probe(Arch::host()) {
                Ok(()) => State::Good(String::from("works")),
                Err(Unusable(reason)) => State::Lacking(reason),
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
                Err(Unusable(reason)) => State::Lacking(reason),
            },
        );
    }
    add("shared folders", confinement(Confinement::supported()));
    match Store::of_user() {
        Ok(store) => {
            add("box store", room(store.root()));
            add("boxes", boxes(&store));
        }
        Err(error) => add("box store", State::Lacking(error.to_string())),
    }
    add(
        "box create",
        match debian::check_host() {
            Ok(()) => State::Good(String::from("has the programs and permissions it needs")),
            Err(error) => State::Lacking(error.to_string()),
        },
    );
    findings
}

/// Whether there is an engine for builds.
fn can_build(findings: &[Finding]) -> bool {
    findings
        .iter()
        .any(|finding| finding.engine && matches!(finding.state, State::Good(_)))
}

/// The findings in words, one paragraph each, for a terminal that knows colours.
fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (mark, words) = match &finding.state {
            State::Good(words) => ("ok     ".green().to_string(), words),
            State::Lacking(words) => ("missing".yellow().to_string(), words),
        };
        let words = words.replace('\n', "\n                         ");
        text += &format!("{mark}  {:<14}  {words}\n", finding.subject);
    }
    text += if can_build(findings) {
        "This machine can build.\n"
    } else {
        "This machine cannot build in a virtual machine: one of the engines must work.\n"
    };
    text
}

fn confinement(supported: Confinement) -> State {
    match supported {
        Confinement::Landlock => State::Good(String::from("confined by name checks and Landlock")),
        Confinement::TooOld => State::Lacking(String::from(
            "confined by name checks alone: this kernel's Landlock is too old (Linux 5.19 or \
             newer is needed)",
        )),
        Confinement::Unavailable => State::Lacking(String::from(
            "confined by name checks alone: this kernel has no Landlock (Linux 5.19 or newer), or \
             it is switched off (see lsm= on the kernel command line)",
        )),
    }
}

/// The store, or the folder that it will be made in.
fn room(root: &Path) -> State {
    let existing = root
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let here = root.display();
    if nix::unistd::access(existing, nix::unistd::AccessFlags::W_OK).is_err() {
        return State::Lacking(format!(
            "you cannot write into {}: set KIWI_BOXED_CACHE_DIR to a folder that you can write to",
            existing.display()
        ));
    }
    // Changes to a box's disk go to such a file.
    if let Err(error) = tempfile::tempfile_in(existing) {
        return State::Lacking(format!(
            "cannot make files in {}: {error}",
            existing.display()
        ));
    }
    match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size();
            let found = format!("{here}, {} free", size(free));
            if free < ROOMY {
                State::Lacking(format!(
                    "{found}: a box and a build's changes to it take up to {}; free some, or set \
                     KIWI_BOXED_CACHE_DIR to a folder on another file system",
                    size(ROOMY)
                ))
            } else {
                State::Good(found)
            }
        }
        Err(error) => State::Lacking(format!("cannot tell the free space of {here}: {error}")),
    }
}

fn boxes(store: &Store) -> State {
    let names = match store.names() {
        Ok(names) => names,
        Err(error) => return State::Lacking(with_cause(&error)),
    };
    if names.is_empty() {
        return State::Lacking(String::from(
            "there is none; make one with: boxbuild box create debian --from debian:trixie",
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
        State::Lacking(damaged.join("\n"))
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
                State::Lacking(String::from("line\nanother"))
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
    fn every_finding_is_told() {
        let text = report(&[finding(true, false), finding(false, true)]);
        assert!(
            text.contains("missing") && text.contains("another"),
            "{text}"
        );
        assert!(text.contains("ok") && text.contains("fine"), "{text}");
        assert!(text.contains("cannot build"), "{text}");
    }

    #[test]
    fn a_store_that_does_not_exist_yet_is_looked_at_through_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("not/yet");
        assert!(!matches!(room(&root), State::Lacking(text) if text.contains("cannot")));
        assert!(!root.exists());
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let findings = examine();
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
