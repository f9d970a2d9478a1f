//! Every build of a batch, checked as if it were to be run alone. Nothing is started or changed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::matrix::Build;
use crate::args::{self, ArgsError};
use crate::exit_code::{ExitCode, Result};
use boxbuild_core::boot::RunsAs;
use boxbuild_core::host_facts::HostFacts;
use boxbuild_core::plan::Plan;
use boxbuild_core::resolve::Resolved;
use boxbuild_engine::podman::Podman;
use boxbuild_host::error::ErrorClass;

/// A build that can be run.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) name: String,
    /// Its command line, without the program's name.
    pub(super) argv: Vec<OsString>,
    pub(super) target_dir: PathBuf,
    pub(super) box_name: String,
    pub(super) arch: &'static str,
    pub(super) engine: String,
    /// Guest memory in bytes; 0 in a container.
    pub(super) memory: u64,
    pub(super) cpus: u32,
    /// It writes into the box's own disk (--no-snapshot).
    pub(super) in_place: bool,
    /// The port of this host that leads into its box (--ssh-port); 0 is any.
    pub(super) ssh_port: Option<u16>,
}

impl Ready {
    /// Whether the two cannot run at once: one writes into the disk that the other one uses, or
    /// both take the same port.
    pub(super) fn excludes(&self, other: &Ready) -> bool {
        let port = self.ssh_port.filter(|port| *port != 0);
        (self.box_name == other.box_name && (self.in_place || other.in_place))
            || (port.is_some() && port == other.ssh_port)
    }
}

/// Builds that can be run, and what the user should know of them.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) builds: Vec<Ready>,
    pub(super) notes: Vec<String>,
}

/// Builds that cannot.
#[derive(Debug)]
pub(super) struct Refused {
    /// One for each build.
    pub(super) errors: Vec<String>,
    /// The worst class among them.
    pub(super) class: ErrorClass,
}

/// Checks all builds.
pub(super) fn check(builds: &[Build]) -> Result<Checked, Refused> {
    let mut checked = Checked::default();
    let mut engines = Engines::default();
    let mut targets: BTreeMap<PathBuf, (String, usize)> = BTreeMap::new();
    let mut refused = Refused {
        errors: Vec::new(),
        class: ErrorClass::Usage,
    };
    for build in builds {
        match one(build, &mut engines) {
            Ok((ready, notes)) => {
                let place = (build.name.clone(), build.line);
                if let Some((other, line)) = targets.insert(ready.target_dir.clone(), place) {
                    refused.errors.push(format!(
                        "line {}: {}: builds into {}, as {other} does (line {line}): give each a \
                         target-dir of its own, for example with {{name}} in it",
                        build.line,
                        build.name,
                        ready.target_dir.display()
                    ));
                }
                for note in notes {
                    if !checked.notes.contains(&note) {
                        checked.notes.push(note);
                    }
                }
                checked.builds.push(ready);
            }
            Err(failure) => {
                if failure.code() != ExitCode::USAGE {
                    refused.class = ErrorClass::Host;
                }
                let causes = failure.messages();
                refused.errors.push(format!(
                    "line {}: {}: {}",
                    build.line,
                    build.name,
                    causes.join(": ")
                ));
            }
        }
    }
    if refused.errors.is_empty() {
        Ok(checked)
    } else {
        Err(refused)
    }
}

fn one(build: &Build, engines: &mut Engines) -> Result<(Ready, Vec<String>)> {
    let argv = build.argv();
    let invocation = args::parse(argv.clone()).map_err(|error| {
        // What clap says goes over several lines; the usage is not the user's here.
        let text = error.render().to_string();
        let first = text.split("\n\n").next().unwrap_or_default();
        let line = first.trim_start_matches("error: ").replace('\n', " ");
        ArgsError::Impossible(line)
    })?;
    let request = invocation.request()?;
    let host = HostFacts::of_process();
    let resolved = Resolved::preview(&request, &host)?;
    let plan = resolved.plan(resolved.choice().first())?;
    let (engine, note) = engines.of(&plan)?;
    let mut notes = plan.notes.clone();
    notes.extend(note);
    let in_machine = !plan.runs_as.is_container();
    let ready = Ready {
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
    Ok((ready, notes))
}

/// Engines that were looked for already: each is tried once.
#[derive(Debug, Default)]
struct Engines {
    found: BTreeMap<(&'static str, &'static str), (String, Option<String>)>,
}

impl Engines {
    /// The engine for a plan, and why a better one was passed over.
    fn of(&mut self, plan: &Plan) -> Result<(String, Option<String>)> {
        if let RunsAs::Container(mode) = plan.runs_as {
            return Ok((
                Podman::find(
                    mode,
                    plan.installed.info.arch,
                    plan.image_types.with_loop_devices(),
                )?
                .describe(),
                None,
            ));
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
    fn who_writes_into_a_box_or_takes_a_port_has_it_alone() {
        let ready = |box_name: &str, in_place| Ready {
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
        assert!(!ready("a", false).excludes(&ready("a", false)));
        assert!(!ready("a", true).excludes(&ready("b", true)));
        assert!(ready("a", true).excludes(&ready("a", false)));
        assert!(ready("a", false).excludes(&ready("a", true)));
        let at = |port| Ready {
            ssh_port: Some(port),
            ..ready("a", false)
        };
        assert!(at(10022).excludes(&at(10022)));
        assert!(!at(10022).excludes(&at(10023)));
        assert!(!at(0).excludes(&at(0)));
        assert!(!ready("a", false).excludes(&ready("a", false)));
    }
}
