//! The checks of the doctor. They change nothing on the host.

use std::path::Path;

use boxbuild_boxes::source::debian;
use boxbuild_boxes::store::{Store, StoreError};
use boxbuild_core::boot::boxinit_is_missing;
use boxbuild_core::failed_builds::scratch;
use boxbuild_engine::{Unusable, podman};
use boxbuild_host::arch::Arch;
use boxbuild_host::space::Space;
use boxbuild_host::text::shown_path;
use boxbuild_host::units::size;
use boxbuild_host::{descriptors, system_calls};
use boxbuild_jail::{Confinement, Landlock};

use super::finding::{Finding, Need, State};

/// Free space in the box store that a box and the changes of a build need, in bytes.
const NEEDED_SPACE: u64 = 8 << 30;

/// How to get a box.
const CREATE: &str = "create one with: boxbuild box create debian --from debian:trixie\nor fetch a \
     published one with: boxbuild box pull universal";

/// Checks all requirements.
pub(super) fn examine() -> Vec<Finding> {
    let mut findings = engines();
    for (subject, finding) in podman::examine() {
        let advice = match subject {
            "containers" => "only --container needs it",
            "rootless" => "only --container --rootless needs it",
            _ => "only images with partitions or file systems need it, and only in a container",
        };
        findings.push(optional(subject, finding, advice));
    }
    findings.push(confinement(Confinement::of_host()));
    findings.push(optional(
        "network",
        boxbuild_engine::describe_networks(),
        "only --network public and --allow need it",
    ));
    for (subject, problem, good) in [
        (
            "system calls",
            system_calls::problem(),
            "has those that builds need",
        ),
        (
            "open files",
            descriptors::problem(),
            "as many as builds need",
        ),
    ] {
        findings.push(Finding {
            subject: String::from(subject),
            need: Need::Build,
            state: problem.map_or_else(
                || State::Good(String::from(good)),
                |problem| missing(problem, "builds are refused"),
            ),
        });
    }
    findings.extend(store());
    findings.push(optional(
        "box create",
        debian::check_host()
            .map(|()| String::from("has the programs and permissions that it needs"))
            .map_err(|error| Unusable(error.to_string())),
        "only 'box create' needs it: published boxes are fetched ready-made",
    ));
    findings
}

fn engines() -> Vec<Finding> {
    boxbuild_engine::all()
        .iter()
        .map(|engine| Finding {
            subject: format!("engine {}", engine.name()),
            need: Need::Engine,
            state: match engine.examine(Arch::host()) {
                Ok(()) => State::Good(String::from("works")),
                Err(Unusable(problem)) => missing(
                    problem,
                    match engine.name() {
                        "kvm" => "without it, builds use the qemu engine, which emulates and is slower",
                        _ => "it is needed where the kvm engine does not work, and for boxes of other \
                              architectures",
                    },
                ),
            },
        })
        .collect()
}

fn missing(problem: impl Into<String>, advice: impl Into<String>) -> State {
    State::Missing {
        problem: problem.into(),
        advice: advice.into(),
    }
}

/// A requirement of some options only.
fn optional(subject: &str, found: Result<String, Unusable>, advice: &str) -> Finding {
    Finding {
        subject: subject.to_owned(),
        need: Need::Optional,
        state: match found {
            Ok(words) => State::Good(words),
            Err(Unusable(problem)) => missing(problem, advice),
        },
    }
}

/// Says how far the processes are confined that work on what a guest or a server says.
fn confinement(host: Confinement) -> Finding {
    let state = match (host.weakness(), host.landlock) {
        (Some(weakness), _) => missing(
            format!(
                "builds are confined by checks alone, not by the kernel of this host: {weakness}"
            ),
            "builds run without it; use boxes and descriptions that you trust, or a newer kernel",
        ),
        (None, Landlock::Enforced(abi)) => State::Good(format!(
            "by Landlock (ABI {abi}) and filters of system calls"
        )),
        (None, _) => State::Good(String::from("by filters of system calls")),
    };
    Finding {
        subject: String::from("confinement"),
        need: Need::Optional,
        state,
    }
}

/// Checks the store and the boxes in it.
fn store() -> Vec<Finding> {
    let finding = |subject: &str, state| Finding {
        subject: subject.to_owned(),
        need: Need::Build,
        state,
    };
    match Store::of_user() {
        Ok(store) => vec![
            finding("box store", store_space(store.root())),
            finding("boxes", boxes(&store)),
        ],
        Err(error) => vec![finding(
            "box store",
            missing(
                error.to_string(),
                "set HOME, or KIWI_BOXED_CACHE_DIR to a folder",
            ),
        )],
    }
}

/// Checks the folder that the changes of a build go to: the store, or the folder that it will be
/// created in, or the one for temporary files where the store belongs to another user.
fn store_space(root: &Path) -> State {
    let elsewhere = "set KIWI_BOXED_CACHE_DIR to a folder of your own on a file system with space";
    let folder = if root.is_dir() {
        scratch(root)
    } else {
        let existing = root
            .ancestors()
            .find(|path| path.symlink_metadata().is_ok());
        existing.unwrap_or(Path::new("/")).to_owned()
    };
    let shown = shown_path(&folder);
    if !folder.is_dir() {
        return missing(format!("{shown} is not a folder"), elsewhere);
    }
    // The changes of a build to the disk of its box go to such a file.
    if let Err(error) = tempfile::tempfile_in(&folder) {
        return missing(
            format!("cannot create files in {shown}: {error}"),
            elsewhere,
        );
    }
    let found = if folder.starts_with(root) || root.starts_with(&folder) {
        shown_path(root)
    } else {
        format!(
            "{} cannot be written to; changes of builds go to {shown}",
            shown_path(root)
        )
    };
    match Space::at(&folder) {
        Some(space) if space.free < NEEDED_SPACE => missing(
            format!(
                "{found}, {} free: a box and the changes of a build take up to {}",
                size(space.free),
                size(NEEDED_SPACE)
            ),
            format!("free some space (boxbuild box prune, boxbuild prune), or {elsewhere}"),
        ),
        Some(space) => State::Good(format!("{found}, {} free", size(space.free))),
        None => State::Good(format!("{found} (its free space is not known)")),
    }
}

/// Checks the boxes: one that an engine can run is enough.
fn boxes(store: &Store) -> State {
    let names = match store.names() {
        Ok(names) => names,
        Err(error) => {
            return missing(
                with_cause(&error),
                "make the folder readable, or set KIWI_BOXED_CACHE_DIR to another one",
            );
        }
    };
    if names.is_empty() {
        return missing("there is none yet", CREATE);
    }
    let engines = boxbuild_engine::all();
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for name in names {
        match store.get(&name) {
            Ok(installed) => {
                let arch = installed.info.arch;
                let foreign = arch != Arch::host();
                // Engines for this host's architecture have their own lines.
                if foreign && engines.iter().all(|engine| engine.probe(arch).is_err()) {
                    bad.push(format!("{name}: no engine runs boxes of {arch}"));
                } else {
                    if let Some(why) = boxinit_is_missing(arch) {
                        bad.push(format!("{name} boots more slowly: {why}"));
                    }
                    good.push(name);
                }
            }
            Err(error) => bad.push(with_cause(&error)),
        }
    }
    match (good.is_empty(), bad.is_empty()) {
        (true, _) => missing(bad.join("\n"), CREATE),
        (false, true) => State::Good(good.join(", ")),
        (false, false) => State::Good(format!("{}\nbut: {}", good.join(", "), bad.join("\n"))),
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

    #[test]
    fn a_store_that_does_not_exist_yet_is_checked_through_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("not/yet");
        let state = store_space(&root);
        let bad = matches!(&state, State::Missing { problem, .. } if problem.contains("cannot"));
        assert!(!bad, "{state:?}");
        assert!(!root.exists());
    }

    #[test]
    fn a_store_that_is_no_folder_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for root in [file.clone(), file.join("below")] {
            let state = store_space(&root);
            let State::Missing { problem, .. } = &state else {
                panic!("{state:?}");
            };
            assert!(problem.contains("not a folder"), "{problem}");
        }
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
        for subject in [
            "engine kvm",
            "engine qemu",
            "box store",
            "boxes",
            "containers",
        ] {
            assert!(findings.iter().any(|found| found.subject == subject));
        }
        for finding in findings {
            if let State::Missing { problem, advice } = finding.state {
                assert!(
                    !problem.is_empty() && !advice.is_empty(),
                    "{}",
                    finding.subject
                );
            }
        }
    }
}
