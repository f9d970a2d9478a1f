//! `boxbuild verify-build`: builds again as the record of a result says, and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use boxbuild_host::error::IoError;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::text::{shown, shown_path};
use boxbuild_host::untrusted::{Dir, remove_tree};
use boxbuild_provenance::check;
use boxbuild_provenance::statement::{BUILD_TYPE, Claims, Resource};
use boxbuild_provenance::trust::Trusted;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::Value;

use super::self_command::self_command;
use super::verify::expected;
use super::{diff, signals};
use crate::args::{self, VerifyBuildArgs};
use crate::exit_code::{ExitCode, Failure, HostContext, Result};
use crate::output::json::print_document;
use crate::output::print::{print_line, print_text};

/// How often the build is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Options that say where a build's output goes, or its settings are: those of another one do not count.
const DROPPED: [&str; 7] = [
    "--attest",
    "--box-debug",
    "--dry-run",
    "--json",
    "--logfile",
    "--logsocket",
    "--no-config",
];

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    same: bool,
    inputs: &'a [String],
    differences: &'a diff::Differences,
}

/// Builds again, and compares.
pub(super) fn run(args: &VerifyBuildArgs) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    let claims = trusted(args, &interrupt)?;
    let result = args.result.canonicalize();
    let result = result.map_err(IoError::on_named("open the folder", &args.result))?;
    let again = again(&args.result, &result, args.into.as_deref())?;
    if again.starts_with(&result) {
        return Err(usage(format!(
            "{}: is in the result that it is compared with: name another folder (--into)",
            shown_path(&again)
        )));
    }
    if again.exists() {
        return Err(usage(format!(
            "{}: is there already: name another folder for the new result (--into)",
            shown_path(&again)
        )));
    }
    let command = command(&claims, &again, args.json)?;
    print_line(&format!(
        "building again: {}",
        shown_command(&command.words)
    ));
    let status = build(command, &interrupt)?;
    if !status.success() {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        let signal = status.signal().map(|signal| format!(" (signal {signal})"));
        print_line(&format!(
            "the second build did not succeed{}",
            signal.unwrap_or_default()
        ));
        return Ok(code.map_or(ExitCode::HOST, ExitCode::of_process));
    }
    let inputs = inputs(&claims, &check::claims(&again)?);
    let differences = diff::compare(&result, &again, &interrupt)?;
    if args.json {
        print_document(&Document {
            same: differences.is_empty(),
            inputs: &inputs,
            differences: &differences,
        })?;
    } else {
        let mut text = String::new();
        for input in &inputs {
            text += &format!("another input: {input}\n");
        }
        text += &diff::text(&differences);
        if !differences.is_empty() {
            text += &format!("the second result is in {}\n", shown_path(&again));
        }
        print_text(&text)?;
    }
    if differences.is_empty()
        && let (Some(parent), Some(name)) = (again.parent(), again.file_name())
        && let Ok(dir) = Dir::open(parent)
    {
        // What is the same is there already.
        let _ = remove_tree(&dir, name, &StopCheck::new(&interrupt, None));
    }
    Ok(diff::code(&differences))
}

/// Returns the claims of the record, if it is one whose command line may be run: it can share folders of this
/// host with a box, and write to others.
fn trusted(args: &VerifyBuildArgs, interrupt: &Interrupt) -> Result<Claims> {
    if args.signed_by.is_none() && !args.trust_record {
        return Err(usage(String::from(
            "the record says what is run on this host: insist on its signature (--signed-by FILE), or, if \
             it is your own, say that you trust it (--trust-record)",
        )));
    }
    let keys = args.signed_by.as_deref().map(Trusted::read).transpose()?;
    let mut expected = expected(keys.as_ref());
    expected.others = true;
    let report = check::check(&args.result, expected, &StopCheck::new(interrupt, None))?;
    if let Some(problem) = report.problems.first() {
        return Err(Failure::new(
            ExitCode::HOST,
            anyhow::anyhow!(
                "the result is not what its record says: {}: {} (see boxbuild verify)",
                problem.file,
                problem.problem
            ),
        ));
    }
    // Those that were checked: the file may be another one by now.
    report
        .claims
        .ok_or_else(|| usage(String::from("the record has no statement")))
}

/// A build as a record has it.
struct Again {
    words: Vec<OsString>,
    folder: PathBuf,
}

/// The build of a record, with another target folder.
fn command(claims: &Claims, again: &Path, json: bool) -> Result<Again> {
    let definition = &claims.predicate.build_definition;
    let parameters = &definition.external_parameters;
    if definition.build_type != BUILD_TYPE {
        return Err(usage(format!(
            "the record is of another kind of build: {}",
            shown(&definition.build_type)
        )));
    }
    if parameters.get("secretsRemoved") != Some(&Value::Bool(false)) {
        return Err(usage(String::from(
            "the command line had secrets, which are not in the record: it cannot be run again",
        )));
    }
    let recorded: Option<Vec<String>> = parameters.get("arguments").and_then(|words| {
        let words = words.as_array()?.iter();
        words.map(|word| word.as_str().map(str::to_owned)).collect()
    });
    let epoch = parameters.get("sourceDateEpoch").and_then(Value::as_u64);
    let folder = parameters.get("workingFolder").and_then(Value::as_str);
    let words = recorded.and_then(|words| edited(words, again.to_str()?, epoch));
    match (words, folder) {
        (Some(mut words), Some(folder)) => {
            if json {
                // Standard output is the document's.
                words.insert(0, OsString::from("--json"));
            }
            Ok(Again {
                words,
                folder: folder.into(),
            })
        }
        _ => Err(usage(String::from(
            "the record does not have the whole command line",
        ))),
    }
}

/// The words of a command line for another target folder, at the same time; `None` if they name none.
fn edited(words: Vec<String>, target: &str, epoch: Option<u64>) -> Option<Vec<OsString>> {
    const TARGET: &str = "--target-dir";
    let (front, build_args) = args::split(words.into_iter().map(OsString::from).collect());
    // The record has what settings said then.
    let mut edited = ["--no-config", "--attest"].map(OsString::from).to_vec();
    for word in front {
        let text = word.to_str()?;
        let name = text.split('=').next().unwrap_or_default();
        match epoch {
            _ if DROPPED.contains(&name) => {}
            Some(epoch) if name == "--reproducible" => {
                edited.push(format!("--reproducible={epoch}").into());
            }
            _ => edited.push(word),
        }
    }
    edited.push(OsString::from("--"));
    let mut replaced = false;
    let mut words = build_args?.into_iter();
    while let Some(word) = words.next() {
        let text = word.to_str()?;
        let (name, value) = text.split_once('=').unzip();
        let name = name.unwrap_or(text);
        // kiwi takes the beginning of a name, where only one option has it.
        if name.len() > 3 && TARGET.starts_with(name) {
            if value.is_none() {
                words.next()?;
            }
            edited.push(format!("{TARGET}={target}").into());
            replaced = true;
        } else {
            edited.push(word);
        }
    }
    replaced.then_some(edited)
}

/// Runs the build, which is told when this process is.
fn build(again: Again, interrupt: &Interrupt) -> Result<ExitStatus> {
    let folder = shown_path(&again.folder);
    let mut command =
        self_command(&again.words).host_context(|| "cannot start the second build")?;
    command.current_dir(again.folder);
    // Standard output is for what this command says.
    let error = std::io::stderr().as_fd().try_clone_to_owned();
    command.stdout(error.host_context(|| "cannot show what the second build says")?);
    let mut child = command.spawn().host_context(|| {
        format!("cannot start the second build in {folder}, where the first one was started")
    })?;
    let mut told = 0;
    loop {
        if let Some(status) = child
            .try_wait()
            .host_context(|| "cannot wait for the second build")?
        {
            return Ok(status);
        }
        let count = interrupt.count();
        if count > told {
            told = count;
            let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        std::thread::sleep(TICK);
    }
}

/// What two builds were made of, as far as it differs.
fn inputs(first: &Claims, second: &Claims) -> Vec<String> {
    // Several can have one name: repositories.
    let of = |claims: &Claims| -> BTreeMap<String, BTreeSet<String>> {
        let mut inputs = BTreeMap::<String, BTreeSet<String>>::new();
        let all = &claims.predicate.build_definition.resolved_dependencies;
        let named = |resource: &Resource| {
            let digests = resource.digest.iter();
            let digests: Vec<String> = digests
                .map(|(kind, value)| format!("{kind}:{value}"))
                .collect();
            let name = match resource.name.is_empty() {
                true => &resource.uri,
                false => &resource.name,
            };
            let value = format!("{} {}", digests.join(" "), resource.uri);
            (name.clone(), value.trim().to_owned())
        };
        for (name, value) in all.iter().map(named) {
            inputs.entry(name).or_default().insert(value);
        }
        inputs
    };
    let (first, second) = (of(first), of(second));
    let mut names: Vec<&String> = first.keys().chain(second.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| first.get(*name) != second.get(*name))
        .map(|name| {
            let value = |of: &BTreeMap<String, BTreeSet<String>>| {
                let values = of.get(name).map(|values| {
                    let values: Vec<&str> = values.iter().map(String::as_str).collect();
                    values.join(", ")
                });
                shown(&values.unwrap_or_else(|| String::from("none"))).into_owned()
            };
            format!("{}: {} and {}", shown(name), value(&first), value(&second))
        })
        .collect()
}

/// The folder of the second result: `into`, or one beside `named`, which is the folder `result`.
fn again(named: &Path, result: &Path, into: Option<&Path>) -> Result<PathBuf> {
    let beside = |path: &Path| {
        let mut name = path.file_name()?.to_os_string();
        name.push(".again");
        Some(path.with_file_name(name))
    };
    // `.` and `..` have no name of their own.
    let again = into
        .map(Path::to_path_buf)
        .or_else(|| beside(named))
        .or_else(|| beside(result))
        .ok_or_else(|| {
            usage(String::from(
                "name a folder for the new result (--into DIR)",
            ))
        })?;
    let again = std::path::absolute(&again).host_context(|| "cannot name the new result")?;
    // By its real place, as that of the result.
    Ok(
        match (
            again.parent().and_then(|parent| parent.canonicalize().ok()),
            again.file_name(),
        ) {
            (Some(parent), Some(name)) => parent.join(name),
            _ => again,
        },
    )
}

fn shown_command(words: &[OsString]) -> String {
    let words = words
        .iter()
        .map(|word| shown(&word.to_string_lossy()).into_owned());
    shell_words::join(words)
}

fn usage(text: String) -> Failure {
    Failure::new(ExitCode::USAGE, anyhow::Error::msg(text))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn again(line: &str) -> Option<String> {
        let words = line.split(' ').map(str::to_owned).collect();
        let words = edited(words, "/new", Some(7))?;
        Some(words.join(OsStr::new(" ")).into_string().unwrap())
    }

    #[test]
    fn only_the_target_folder_and_the_output_are_others() {
        assert_eq!(
            again("--box a --attest=key --reproducible --json -- --description d --target-dir t")
                .unwrap(),
            "--no-config --attest --box=a --reproducible=7 -- --description d --target-dir=/new"
        );
        assert_eq!(
            again("system boxbuild --box a kiwi --target-d=t --description d").unwrap(),
            "--no-config --attest --box=a -- --target-dir=/new --description d"
        );
        assert_eq!(again("--box a -- --description d"), None);
        assert_eq!(again("--box a -- --description d --target-dir"), None);
    }

    #[test]
    fn a_box_named_kiwi_does_not_end_the_options() {
        assert_eq!(
            again("--box kiwi --attest=key --logfile log -- --target-dir t").unwrap(),
            "--no-config --attest --box=kiwi -- --target-dir=/new"
        );
    }

    #[test]
    fn the_second_result_is_beside_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let result = dir.path().canonicalize().unwrap().join("out");
        std::fs::create_dir_all(result.join("inside")).unwrap();
        let beside = result.with_file_name("out.again");
        for named in [&*result, &result.join("inside/.."), Path::new(".")] {
            assert_eq!(super::again(named, &result, None).unwrap(), beside);
        }
        let inside = result.join("inside/../x");
        let inside = super::again(&result, &result, Some(&inside)).unwrap();
        assert!(inside.starts_with(&result));
    }
}
