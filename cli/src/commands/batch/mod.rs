//! `boxbuild batch FILE`: many builds from one file, several at once.
//!
//! The file is read ([`file`]), becomes builds ([`matrix`]), each of which is checked as if it
//! were run alone ([`check`]). Then each runs as a process of its own ([`child`]), as many at
//! once as there is room for ([`admission`], [`schedule`]).

mod admission;
mod check;
mod child;
mod file;
mod matrix;
mod schedule;
mod show;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use crate::args::BatchArgs;
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::print::{print_line, print_text};
use admission::{Capacity, Limits};
use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::interrupt::Interrupt;
use check::{Checked, Ready};
use child::Verdict;
use schedule::{Outcome, Rules};
use show::Show;

/// The batch file cannot be used. All of these are the user's to correct.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchError {
    /// It cannot be read.
    #[error("cannot read the batch file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is wrong; every mistake is told.
    #[error("{}: nothing was started:\n{}", .path.display(), .problems.join("\n"))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problems: Vec<String>,
        /// The worst class among them.
        class: ErrorClass,
    },
}

impl Classify for BatchError {
    fn class(&self) -> ErrorClass {
        match self {
            BatchError::Read { .. } => ErrorClass::Usage,
            BatchError::Wrong { class, .. } => *class,
        }
    }
}

/// Runs a batch.
pub(crate) fn run(args: &BatchArgs) -> Result<ExitCode> {
    let interrupt = Interrupt::install().host_context(|| "cannot take over signals")?;
    let path = &args.file;
    let read_error = |source| BatchError::Read {
        path: path.clone(),
        source,
    };
    let text = fs::read_to_string(path).map_err(read_error)?;
    let wrong = |problems: Vec<String>, class| BatchError::Wrong {
        path: path.clone(),
        problems,
        class,
    };
    let batch = file::parse(&text).map_err(|error| wrong(vec![error], ErrorClass::Usage))?;
    let mut builds =
        matrix::expand(&batch, &text).map_err(|problems| wrong(problems, ErrorClass::Usage))?;
    if !args.only.is_empty() {
        let names: Vec<String> = builds.iter().map(|build| build.name.clone()).collect();
        for only in &args.only {
            if !names.contains(only) {
                let problem = format!(
                    "--only {only}: there is no such build; there are: {}",
                    names.join(", ")
                );
                return Err(wrong(vec![problem], ErrorClass::Usage).into());
            }
        }
        builds.retain(|build| args.only.contains(&build.name));
    }
    // The user's own words mean the user's folder; those of the file mean the file's.
    let whole = fs::canonicalize(path).map_err(read_error)?;
    let folder = whole.parent().unwrap_or(Path::new("/"));
    let log_dir = match (&args.log_dir, &batch.log_dir) {
        (Some(dir), _) => {
            std::path::absolute(dir).host_context(|| "cannot find the current folder")?
        }
        (None, Some(dir)) => folder.join(dir),
        (None, None) => {
            let mut name = whole.file_stem().unwrap_or_default().to_owned();
            name.push(".logs");
            folder.join(name)
        }
    };
    std::env::set_current_dir(folder)
        .host_context(|| format!("cannot enter {}", folder.display()))?;
    let checked = check::check(&builds).map_err(|refused| wrong(refused.errors, refused.class))?;
    let memory: Vec<u64> = checked.builds.iter().map(|build| build.memory).collect();
    let asked = args.jobs.or(batch.jobs).map(NonZeroUsize::get);
    let limits = Capacity::of_host().limits(asked, &memory);
    if args.dry_run {
        describe(&checked, &limits, &log_dir, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    fs::create_dir_all(&log_dir).host_context(|| {
        format!(
            "cannot create {} for the logs: choose another folder with --log-dir",
            log_dir.display()
        )
    })?;
    Ok(carry_out(&checked, limits, log_dir, args, &interrupt))
}

/// Runs checked builds, and returns the exit code.
fn carry_out(
    checked: &Checked,
    limits: Limits,
    log_dir: PathBuf,
    args: &BatchArgs,
    interrupt: &Interrupt,
) -> ExitCode {
    let builds = &checked.builds;
    if !args.json {
        for note in &checked.notes {
            print_line(note);
        }
        print_line(&head(builds, &limits));
    }
    let mut show = Show::new(builds, args.verbose, args.json);
    let rules = Rules {
        limits,
        fail_fast: args.fail_fast,
        log_dir,
    };
    let started = Instant::now();
    let outcomes = schedule::run(builds, &rules, interrupt, &mut show);
    show.finish();
    let exit_code = worst(&outcomes, interrupt.count() > 0);
    let total = started.elapsed();
    if args.json {
        show::event(&show::summary_event(builds, &outcomes, total, exit_code));
    } else {
        // A reader that has gone away does not change the outcome.
        let _ = print_text(&show::summary(builds, &outcomes, total));
    }
    exit_code
}

/// One exit code for all builds: an interruption, then a problem of the host, a build that could
/// not run, one that took too long, one that failed.
fn worst(outcomes: &[Outcome], interrupted: bool) -> ExitCode {
    if interrupted {
        return ExitCode::INTERRUPTED;
    }
    let codes: Vec<ExitCode> = outcomes
        .iter()
        // What was stopped because of another one is that one's fault.
        .filter(|outcome| outcome.verdict != Verdict::Stopped)
        .filter_map(|outcome| outcome.verdict.code())
        .collect();
    for bad in [
        ExitCode::HOST,
        ExitCode::USAGE,
        ExitCode::INTERRUPTED,
        ExitCode::TIMEOUT,
    ] {
        if codes.contains(&bad) {
            return bad;
        }
    }
    codes.into_iter().max().unwrap_or(ExitCode::SUCCESS)
}

/// How many builds, and how many at once.
fn head(builds: &[Ready], limits: &Limits) -> String {
    let memory: Vec<u64> = builds.iter().map(|build| build.memory).collect();
    let total = builds.len();
    let plural = if total == 1 { "" } else { "s" };
    format!(
        "{total} build{plural}, {} at once ({})",
        limits.at_once(&memory),
        limits.reason
    )
}

/// What would be run.
fn describe(checked: &Checked, limits: &Limits, log_dir: &Path, json: bool) -> Result<()> {
    let builds = &checked.builds;
    let words = |build: &Ready| -> Vec<String> {
        let words = build.argv.iter();
        words
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    };
    let memory: Vec<u64> = builds.iter().map(|build| build.memory).collect();
    if json {
        let list: Vec<_> = builds
            .iter()
            .map(|build| {
                json!({
                    "build": build.name,
                    "box": build.box_name,
                    "arch": build.arch,
                    "engine": build.engine,
                    "memory_mib": build.memory >> 20,
                    "cpus": build.cpus,
                    "target_dir": build.target_dir.display().to_string(),
                    "arguments": words(build),
                })
            })
            .collect();
        let whole = json!({
            "jobs": limits.at_once(&memory),
            "jobs_reason": limits.reason,
            "log_dir": log_dir.display().to_string(),
            "notes": checked.notes,
            "builds": list,
        });
        return print_text(&format!("{whole:#}\n"));
    }
    let mut text = head(builds, limits) + "\n";
    for note in &checked.notes {
        text += &format!("{note}\n");
    }
    text += &format!("logs         {}\n", log_dir.display());
    for build in builds {
        let machine = if build.memory == 0 {
            String::new()
        } else {
            format!(", {} CPUs, {} MiB memory", build.cpus, build.memory >> 20)
        };
        text += &format!(
            "\n{}\n  box          {} ({}), {}{machine}\n  target-dir   {}\n  command      boxbuild {}\n",
            build.name,
            build.box_name,
            build.arch,
            build.engine,
            build.target_dir.display(),
            shell_words::join(words(build)),
        );
    }
    print_text(&text)
}
