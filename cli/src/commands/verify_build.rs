//! `boxbuild verify-build`: builds again as the record of a result says, and compares.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reaper::die_with_parent;
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

use super::verify::expected;
use super::{diff, signals};
use crate::args::VerifyBuildArgs;
use crate::exit_code::{ExitCode, Failure, HostContext, Result};
use crate::output::json::print_document;
use crate::output::print::{print_line, print_text};

/// This program, even if its file has been replaced since it was started.
const SELF: &str = "/proc/self/exe";
/// How often the build is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Options that say where a build's output goes, or its settings are: those of another one do not count.
const DROPPED: [&str; 4] = ["--attest", "--json", "--dry-run", "--no-config"];

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
    let claims = check::claims(&args.result)?;
    trusted(args, &interrupt)?;
    let again = args.into.clone().unwrap_or_else(|| beside(&args.result));
    let again = std::path::absolute(&again).host_context(|| "cannot name the new result")?;
    if again.exists() {
        return Err(usage(format!(
            "{}: is there already: name another folder for the new result (--into)",
            shown_path(&again)
        )));
    }
    let result = std::path::absolute(&args.result).host_context(|| "cannot name the result")?;
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

/// Checks that the record is one whose command line may be run: it can share folders of this host with a
/// box, and write to others.
fn trusted(args: &VerifyBuildArgs, interrupt: &Interrupt) -> Result<()> {
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
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => Err(Failure::new(
            ExitCode::HOST,
            anyhow::anyhow!(
                "the result is not what its record says: {}: {} (see boxbuild verify)",
                problem.file,
                problem.problem
            ),
        )),
    }
}

/// A build as a record has it.
struct Again {
    words: Vec<String>,
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
                words.insert(0, String::from("--json"));
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
fn edited(words: Vec<String>, target: &str, epoch: Option<u64>) -> Option<Vec<String>> {
    const TARGET: &str = "--target-dir";
    // The record has what settings said then.
    let mut edited = ["--no-config", "--attest"].map(String::from).to_vec();
    let (mut separated, mut replaced, mut is_target) = (false, false, false);
    for word in words {
        if std::mem::take(&mut is_target) {
            edited.push(target.to_owned());
            replaced = true;
            continue;
        }
        separated |= word == "--" || word == "kiwi";
        let name = word.split('=').next().unwrap_or_default();
        if !separated && DROPPED.contains(&name) {
            continue;
        }
        if !separated
            && name == "--reproducible"
            && let Some(epoch) = epoch
        {
            edited.push(format!("--reproducible={epoch}"));
            continue;
        }
        // kiwi takes the beginning of a name, where only one option has it.
        let is_name = separated && name.len() > 3 && TARGET.starts_with(name);
        match (is_name, word.contains('=')) {
            (true, true) => {
                edited.push(format!("{TARGET}={target}"));
                replaced = true;
            }
            (true, false) => {
                is_target = true;
                edited.push(TARGET.to_owned());
            }
            _ => edited.push(word),
        }
    }
    replaced.then_some(edited)
}

/// Runs the build, which is told when this process is.
fn build(again: Again, interrupt: &Interrupt) -> Result<ExitStatus> {
    let mut command = Command::new(SELF);
    command
        .args(again.words)
        .current_dir(again.folder)
        .process_group(0);
    // Standard output is for what this command says.
    let error = std::io::stderr().as_fd().try_clone_to_owned();
    command.stdout(error.host_context(|| "cannot show what the second build says")?);
    die_with_parent(&mut command, Signal::SIGTERM);
    let mut child = command
        .spawn()
        .host_context(|| "cannot start the second build")?;
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
    let of = |claims: &Claims| -> BTreeMap<String, String> {
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
            (
                name.clone(),
                format!("{} {}", digests.join(" "), resource.uri),
            )
        };
        all.iter().map(named).collect()
    };
    let (first, second) = (of(first), of(second));
    let mut names: Vec<&String> = first.keys().chain(second.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| first.get(*name) != second.get(*name))
        .map(|name| {
            let value = |of: &BTreeMap<String, String>| {
                shown(of.get(name).map_or("none", |value| value.trim())).into_owned()
            };
            format!("{}: {} and {}", shown(name), value(&first), value(&second))
        })
        .collect()
}

/// The folder of the second result.
fn beside(result: &Path) -> PathBuf {
    let mut name = result
        .file_name()
        .unwrap_or(result.as_os_str())
        .to_os_string();
    name.push(".again");
    result.with_file_name(name)
}

fn shown_command(words: &[String]) -> String {
    let words = words.iter().map(|word| shown(word).into_owned());
    shell_words::join(words)
}

fn usage(text: String) -> Failure {
    Failure::new(ExitCode::USAGE, anyhow::Error::msg(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(line: &str) -> Option<String> {
        let words = line.split(' ').map(str::to_owned).collect();
        edited(words, "/new", Some(7)).map(|words| words.join(" "))
    }

    #[test]
    fn only_the_target_folder_and_the_output_are_others() {
        assert_eq!(
            again("--box a --attest=key --reproducible --json -- --description d --target-dir t")
                .unwrap(),
            "--no-config --attest --box a --reproducible=7 -- --description d --target-dir /new"
        );
        assert_eq!(
            again("system boxbuild --box a kiwi --target-d=t --description d").unwrap(),
            "--no-config --attest system boxbuild --box a kiwi --target-dir=/new --description d"
        );
        assert_eq!(again("--box a -- --description d"), None);
    }

    #[test]
    fn the_second_result_is_beside_the_first() {
        assert_eq!(beside(Path::new("/a/out")), Path::new("/a/out.again"));
    }
}
