//! Checks every build of a batch as if it ran alone. Nothing is started or changed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::build::Build;
use crate::args::{self, ArgsError};
use crate::exit_code::{ExitCode, Result};
use crate::output::print::usage_error_text;
use boxbuild_core::boot::RunsAs;
use boxbuild_core::host_facts::HostFacts;
use boxbuild_core::plan::Plan;
use boxbuild_core::resolve::Resolved;
use boxbuild_engine::podman::Podman;
use boxbuild_host::error::ErrorClass;

/// A build that can run.
#[derive(Debug)]
pub(super) struct CheckedBuild {
    /// Its name, unique in the batch.
    pub(super) name: String,
    /// Its command line, without the program's name.
    pub(super) argv: Vec<OsString>,
    /// Its target folder, absolute.
    pub(super) target_dir: PathBuf,
    pub(super) box_name: String,
    pub(super) arch: &'static str,
    pub(super) engine: String,
    /// Guest memory in bytes; 0 in a container.
    pub(super) memory: u64,
    pub(super) cpus: u32,
    /// It writes into the box's own disk (`--no-snapshot`).
    pub(super) in_place: bool,
    /// The port of this host that leads into its box (`--ssh-port`); 0 is any.
    pub(super) ssh_port: Option<u16>,
}

impl CheckedBuild {
    /// Returns whether the two cannot run at once: one writes into the disk that the other one uses,
    /// or both take the same port.
    pub(super) fn excludes(&self, other: &CheckedBuild) -> bool {
        let port = self.ssh_port.filter(|port| *port != 0);
        (self.box_name == other.box_name && (self.in_place || other.in_place))
            || (port.is_some() && port == other.ssh_port)
    }
}

/// The builds of a batch that can run.
#[derive(Debug, Default)]
pub(super) struct CheckedBatch {
    pub(super) builds: Vec<CheckedBuild>,
    /// What the user should know about them, each once.
    pub(super) notes: Vec<String>,
}

impl CheckedBatch {
    /// Returns the guest memory of each build in bytes; 0 in a container.
    pub(super) fn memory(&self) -> Vec<u64> {
        self.builds.iter().map(|build| build.memory).collect()
    }
}

/// Why a batch cannot run.
#[derive(Debug)]
pub(super) struct Refused {
    /// A message for each build that is refused.
    pub(super) errors: Vec<String>,
    /// The worst class among them.
    pub(super) class: ErrorClass,
}

/// Checks all builds.
///
/// # Errors
/// Fails if one of them would be refused, or two have the same target folder.
pub(super) fn check(builds: &[Build]) -> Result<CheckedBatch, Refused> {
    let mut batch = CheckedBatch::default();
    let mut engines = Engines::default();
    let mut targets: BTreeMap<PathBuf, &Build> = BTreeMap::new();
    let mut refused = Refused {
        errors: Vec::new(),
        class: ErrorClass::Usage,
    };
    for build in builds {
        let at = format!("line {}: {}", build.line, build.name);
        let (checked, notes) = match check_one(build, &mut engines) {
            Ok(checked) => checked,
            Err(failure) => {
                if failure.code() != ExitCode::USAGE {
                    refused.class = ErrorClass::Host;
                }
                let messages = failure.messages().join(": ");
                refused.errors.push(format!("{at}: {messages}"));
                continue;
            }
        };
        if let Some(other) = targets.insert(checked.target_dir.clone(), build) {
            refused.errors.push(format!(
                "{at}: builds into {}, as {} does (line {}): give each a target-dir of its own, \
                 for example with {{name}} in it",
                checked.target_dir.display(),
                other.name,
                other.line,
            ));
        }
        for note in notes {
            if !batch.notes.contains(&note) {
                batch.notes.push(note);
            }
        }
        batch.builds.push(checked);
    }
    if refused.errors.is_empty() {
        Ok(batch)
    } else {
        Err(refused)
    }
}

/// Checks one build. Returns it with the notes of its plan.
fn check_one(build: &Build, engines: &mut Engines) -> Result<(CheckedBuild, Vec<String>)> {
    let argv = build.argv();
    let invocation = args::parse(argv.clone()).map_err(|error| {
        // The first paragraph; the others are on the usage of the command line.
        let text = usage_error_text(&error);
        let first = text.split("\n\n").next().unwrap_or_default();
        ArgsError::Impossible(first.replace('\n', " "))
    })?;
    let request = invocation.request()?;
    let host = HostFacts::of_process();
    let resolved = Resolved::preview(&request, &host)?;
    let plan = resolved.plan(resolved.choice().first())?;
    let (engine, note) = engines.of(&plan)?;
    let mut notes = plan.notes.clone();
    notes.extend(note);
    let in_machine = !plan.runs_as.is_container();
    let checked = CheckedBuild {
        name: build.name.clone(),
        argv,
        target_dir: plan.target_dir.clone(),
        box_name: plan.installed.info.name.clone(),
        arch: plan.installed.info.arch.name(),
        engine,
        memory: if in_machine { plan.memory_mib << 20 } else { 0 },
        cpus: if in_machine { plan.cpus } else { 0 },
        in_place: plan.disk.in_place,
        ssh_port: plan.ssh.as_ref().map(|ssh| ssh.port),
    };
    Ok((checked, notes))
}

/// Engines that were probed already: each is probed once.
#[derive(Debug, Default)]
struct Engines {
    /// By the engine that was asked for and the architecture: the engine, and why a better one was
    /// passed over.
    found: BTreeMap<(&'static str, &'static str), (String, Option<String>)>,
}

impl Engines {
    /// Returns the engine for a plan, and why a better one was passed over.
    fn of(&mut self, plan: &Plan) -> Result<(String, Option<String>)> {
        if let RunsAs::Container(mode) = plan.runs_as {
            let needs_loop = plan.image_types.with_loop_devices();
            let podman = Podman::find(mode, plan.installed.info.arch, needs_loop)?;
            plan.kernel_needs.check()?;
            return Ok((podman.describe(), None));
        }
        let arch = plan.installed.info.arch;
        let key = (plan.engine.name(), arch.name());
        if let Some(found) = self.found.get(&key) {
            return Ok(found.clone());
        }
        let selected = boxbuild_engine::select(plan.engine, arch)?;
        let name = selected.engine.name();
        let note = selected
            .passed_over
            .map(|reason| format!("using {name}, which is slower ({reason})"));
        let found = (name.to_owned(), note);
        self.found.insert(key, found.clone());
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_writes_into_a_box_or_takes_a_port_has_it_alone() {
        let build = |box_name: &str, in_place| CheckedBuild {
            name: String::from("name"),
            argv: Vec::new(),
            target_dir: PathBuf::from("/target"),
            box_name: box_name.to_owned(),
            arch: "x86_64",
            engine: String::from("qemu"),
            memory: 0,
            cpus: 0,
            in_place,
            ssh_port: None,
        };
        assert!(!build("a", false).excludes(&build("a", false)));
        assert!(!build("a", true).excludes(&build("b", true)));
        assert!(build("a", true).excludes(&build("a", false)));
        assert!(build("a", false).excludes(&build("a", true)));
        let at = |port| CheckedBuild {
            ssh_port: Some(port),
            ..build("a", false)
        };
        assert!(at(10022).excludes(&at(10022)));
        assert!(!at(10022).excludes(&at(10023)));
        assert!(!at(0).excludes(&at(0)));
        assert!(!build("a", false).excludes(&build("a", false)));
    }
}
