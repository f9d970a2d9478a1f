//! Checks every build of a batch as if it ran alone. Nothing is started or changed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use boxbuild_boxes::fetch::SignatureError;
use boxbuild_boxes::lock_file::LockError;
use boxbuild_boxes::source::published::PullError;
use boxbuild_core::build_args::BuildArgs;
use boxbuild_core::host_facts::HostFacts;
use boxbuild_core::resolve::ResolveError;
use boxbuild_host::text::shown_path;
use clap::error::ErrorKind;

use super::build::{Build, SingleOption};
use super::mistakes::Mistakes;
use super::option_tables::Table;
use crate::args::{self, ArgsError, Command};
use crate::commands::preflight::{self, Carriers, Preflight, Requirements, Where};
use crate::commands::worker::{checks, fingerprint};
use crate::exit_code::{ExitCode, Failure, Result};
use crate::output::print::usage_error_text;
use crate::settings::{Applied, Settings};

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
    /// The description folder.
    pub(super) description: PathBuf,
    /// A hash of what is in it, if it can be read.
    pub(super) fingerprint: Option<String>,
    /// Names and checksums of the box's files; `None` if it has to be fetched first.
    pub(super) box_files: Option<Vec<(String, String)>>,
    /// The build ends after this time.
    pub(super) timeout: Option<Duration>,
    /// The command line that tests its image, without the program's name.
    pub(super) test: Option<Vec<OsString>>,
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

/// Checks all builds, as far as there are no mistakes in them.
///
/// What only the host of a build can be asked is not, unless that is this one (`at`).
pub(super) fn check(
    builds: &[Build],
    settings: &Settings,
    at: Where,
    mistakes: &mut Mistakes<'_>,
) -> CheckedBatch {
    let mut batch = CheckedBatch::default();
    let mut carriers = Carriers::at(at);
    let mut targets: BTreeMap<PathBuf, &Build> = BTreeMap::new();
    let mut known = BTreeMap::new();
    for build in builds {
        let sound = without_wrong_options(build, &mut known, mistakes);
        let Some((mut checked, notes)) = check_whole(sound, settings, &mut carriers, mistakes)
        else {
            continue;
        };
        checked.test = check_test(build, &checked, mistakes);
        if let Some(other) = targets.insert(checked.target_dir.clone(), build) {
            let message = format!(
                "{}: builds into {}, as {} does (line {}): give each a target-dir of its own, for \
                 example with {{name}} in it",
                build.name,
                shown_path(&checked.target_dir),
                other.name,
                mistakes.line_of(&other.place_of("target-dir")),
            );
            mistakes.add(&build.place_of("target-dir"), message);
        }
        for note in notes {
            if !batch.notes.contains(&note) {
                batch.notes.push(note);
            }
        }
        batch.builds.push(checked);
    }
    batch
}

/// Returns the command line that tests the image of a build, if it is to be tested.
fn check_test(
    build: &Build,
    checked: &CheckedBuild,
    mistakes: &mut Mistakes<'_>,
) -> Option<Vec<OsString>> {
    let (argv, span) = build.test_argv(&checked.target_dir)?;
    let problem = match args::parse(argv.clone()) {
        Err(error) => Some(first_paragraph(&error)),
        Ok(invocation) => match &invocation.cli.command {
            Some(Command::Test(test)) => {
                boxbuild_images::check_test(&test.request(), &test.image.request())
                    .err()
                    .map(|error| Failure::from(error).messages().join(": "))
            }
            _ => None,
        },
    };
    if let Some(problem) = problem {
        mistakes.add(&span, format!("{}: test: {problem}", build.name));
        return None;
    }
    Some(argv)
}

/// Returns the build without options whose values are wrong by themselves. Options of several builds are
/// looked at once: `known` has what is wrong with each place in the file.
fn without_wrong_options(
    build: &Build,
    known: &mut BTreeMap<usize, Option<String>>,
    mistakes: &mut Mistakes<'_>,
) -> Build {
    let mut sound = build.clone();
    for option in build.single_options() {
        let wrong = known
            .entry(option.span.start)
            .or_insert_with(|| problem_with(&option));
        if let Some(problem) = wrong {
            mistakes.add(&option.span, problem.clone());
            sound = sound.without(&option.name).unwrap_or(sound);
        }
    }
    sound
}

/// Returns what is wrong with an option by itself.
fn problem_with(option: &SingleOption) -> Option<String> {
    let SingleOption { table, name, .. } = option;
    let text = match table {
        Table::Options => {
            let error = args::parse(option.words.clone()).err()?;
            // What it needs beside it, or cannot have there, is known with the others only.
            let kinds = [
                ErrorKind::MissingRequiredArgument,
                ErrorKind::ArgumentConflict,
            ];
            if kinds.contains(&error.kind()) {
                return None;
            }
            first_paragraph(&error)
        }
        // Checked as a whole.
        Table::Test => return None,
        Table::BuildArgs => {
            let mut words = vec!["--description=x".into(), "--target-dir=y".into()];
            words.extend(option.words.clone());
            BuildArgs::parse(&words).err()?.to_string()
        }
    };
    Some(format!("{table}.{name}: {text}"))
}

/// Checks a build, again without an option that is wrong, so that the next mistake is seen as well.
fn check_whole(
    mut build: Build,
    settings: &Settings,
    carriers: &mut Carriers,
    mistakes: &mut Mistakes<'_>,
) -> Option<(CheckedBuild, Vec<String>)> {
    let mut whole = true;
    loop {
        let failure = match check_one(&build, settings, carriers) {
            Ok(checked) => return Some(checked).filter(|_| whole),
            Err(failure) => failure,
        };
        whole = false;
        if failure.code() != ExitCode::USAGE {
            mistakes.of_host();
        }
        let mut messages = failure.messages().join(": ");
        let key = key_of(&failure, &messages);
        if let Some(place) = settings.complete(build.argv()).named_in(&messages) {
            messages += &format!("; {place}");
        }
        let without = build.without(&key);
        let message = match (&without, key.as_str()) {
            // The same of each build.
            (Some(_), _) | (None, "box") => messages,
            _ => format!("{}: {messages}", build.name),
        };
        mistakes.add(&build.place_of(&key), message);
        match without {
            Some(next) => build = next,
            None => {
                if key == "description" || key == "target-dir" {
                    check_box(&build, mistakes);
                }
                return None;
            }
        }
    }
}

/// Checks the box of a build whose folders are wrong.
fn check_box(build: &Build, mistakes: &mut Mistakes<'_>) {
    let Ok(invocation) = args::parse(build.argv()) else {
        return;
    };
    let checked = invocation
        .request()
        .map_err(Failure::from)
        .and_then(|request| preflight::check_box(&invocation.cli.build, &request));
    if let Err(failure) = checked {
        let messages = failure.messages().join(": ");
        let key = key_of(&failure, &messages);
        if key == "box" {
            mistakes.add(&build.place_of(&key), messages);
        }
    }
}

/// Returns the key or the option that a failure is about; nothing if it is about none.
fn key_of(failure: &Failure, message: &str) -> String {
    if let Some(option) = message.strip_prefix("--") {
        let end = option
            .find(|char: char| !char.is_ascii_alphanumeric() && !"-_".contains(char))
            .unwrap_or(option.len());
        return option[..end].to_owned();
    }
    let of_lock = failure.downcast_ref::<LockError>().is_some();
    let of_box = match failure.downcast_ref::<ResolveError>() {
        Some(ResolveError::Store(_) | ResolveError::Pull(_)) => true,
        _ => failure.downcast_ref::<PullError>().is_some(),
    };
    String::from(match failure.downcast_ref::<PullError>() {
        Some(PullError::Lock(_)) => "locked",
        _ if of_lock => "locked",
        _ if failure.downcast_ref::<SignatureError>().is_some() => "signed-by",
        _ if of_box => "box",
        _ => "",
    })
}

/// Returns the first paragraph of an error of clap; the others are on the usage of the command line.
fn first_paragraph(error: &clap::Error) -> String {
    let text = usage_error_text(error);
    text.split("\n\n")
        .next()
        .unwrap_or_default()
        .replace('\n', " ")
}

/// Checks one build. Returns it with the notes of its plan.
fn check_one(
    build: &Build,
    settings: &Settings,
    carriers: &mut Carriers,
) -> Result<(CheckedBuild, Vec<String>)> {
    let Applied {
        argv, notes: told, ..
    } = settings.complete(build.argv());
    let invocation = args::parse(argv.clone())
        .map_err(|error| ArgsError::Impossible(first_paragraph(&error)))?;
    let request = invocation.request()?;
    let host = HostFacts::of_process();
    let options = &invocation.cli.build;
    let requirements = Requirements::read(options)?;
    let preflight = preflight::check(options, &requirements, &request, &host, carriers)?;
    let engine = preflight.engine()?.engine;
    let notes = told
        .into_iter()
        .chain(preflight.plan.notes.iter().cloned())
        .collect();
    let checked = checked(&build.name, argv, &preflight, engine);
    if checked.box_files.is_none() && carriers.elsewhere() {
        let problem = format!(
            "there is no box '{}' on this host, and another host must not fetch one of its own: \
             boxbuild box pull {}",
            checked.box_name, checked.box_name
        );
        return Err(Failure::new(ExitCode::HOST, anyhow::Error::msg(problem)));
    }
    carriers.put(preflight);
    Ok((checked, notes))
}

fn checked(name: &str, argv: Vec<OsString>, preflight: &Preflight, engine: String) -> CheckedBuild {
    let plan = &preflight.plan;
    let in_machine = !plan.runs_as.is_container();
    let info = &plan.installed.info;
    CheckedBuild {
        name: name.to_owned(),
        argv,
        target_dir: plan.target_dir.clone(),
        box_name: info.name.clone(),
        arch: info.arch.name(),
        engine,
        memory: if in_machine { plan.memory_mib << 20 } else { 0 },
        cpus: if in_machine { plan.cpus } else { 0 },
        in_place: plan.disk.in_place,
        ssh_port: plan.ssh.as_ref().map(|ssh| ssh.port),
        fingerprint: fingerprint::of_description(&plan.description).ok(),
        description: plan.description.clone(),
        box_files: plan
            .installed
            .to_fetch
            .is_empty()
            .then(|| checks::files(&info.files())),
        timeout: plan.timeout,
        test: None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A build in the box `box_name`.
    pub(in crate::commands::batch) fn build(box_name: &str, in_place: bool) -> CheckedBuild {
        CheckedBuild {
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
            description: PathBuf::from("/description"),
            fingerprint: None,
            box_files: None,
            timeout: None,
            test: None,
        }
    }

    #[test]
    fn a_build_that_writes_into_a_box_or_takes_a_port_has_it_alone() {
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
