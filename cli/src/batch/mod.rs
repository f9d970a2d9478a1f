//! `boxbuild batch FILE`: many builds from one file, several at once.
//!
//! The file is read ([`file`]), becomes builds ([`matrix`]), each of which is checked as if it
//! were run alone ([`check`]). Then each runs as a process of its own ([`child`]), as many at
//! once as there is room for ([`room`], [`schedule`]).

mod check;
mod child;
mod file;
mod matrix;
mod room;
mod schedule;
mod show;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::app::{code, print_text};
use crate::interrupt::Interrupt;
use check::{Checked, Ready};
use child::Verdict;
use room::{Limits, Room};
use schedule::{Outcome, Rules};
use show::Show;

/// Options of `batch`.
#[derive(Debug, Args)]
pub struct BatchArgs {
    /// What is to be built: a TOML file (docs/batch.md). Paths in it are relative to its folder.
    pub file: PathBuf,
    /// How many builds run at once [default: jobs of the file, or what has room].
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Only the builds of these names (repeatable).
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Go on with the other builds when one fails; that is the default.
    #[arg(long, conflicts_with = "fail_fast")]
    pub keep_going: bool,
    /// Stop all builds as soon as one fails.
    #[arg(long)]
    pub fail_fast: bool,
    /// Folder for a log of each build [default: log-dir of the file, or FILE.logs beside it].
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Show the logs and consoles of all builds live, with their names in front.
    #[arg(long, short)]
    pub verbose: bool,
    /// Say what would be run, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Say everything in JSON on standard output, one event a line.
    #[arg(long)]
    pub json: bool,
}

/// The batch file cannot be used. All of these are the user's to correct.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
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
        /// The exit code.
        code: u8,
    },
}

impl BatchError {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            BatchError::Read { .. } => code::USAGE,
            BatchError::Wrong { code, .. } => *code,
        }
    }
}

/// Runs a batch.
pub(crate) fn run(args: &BatchArgs) -> Result<u8> {
    let interrupt = Interrupt::install().context("cannot take over signals")?;
    let path = &args.file;
    let read_error = |source| BatchError::Read {
        path: path.clone(),
        source,
    };
    let text = fs::read_to_string(path).map_err(read_error)?;
    let wrong = |problems: Vec<String>, code| BatchError::Wrong {
        path: path.clone(),
        problems,
        code,
    };
    let batch = file::parse(&text).map_err(|error| wrong(vec![error], code::USAGE))?;
    let mut builds =
        matrix::expand(&batch, &text).map_err(|problems| wrong(problems, code::USAGE))?;
    if !args.only.is_empty() {
        let names: Vec<String> = builds.iter().map(|build| build.name.clone()).collect();
        for only in &args.only {
            if !names.contains(only) {
                let problem = format!(
                    "--only {only}: there is no such build; there are: {}",
                    names.join(", ")
                );
                return Err(wrong(vec![problem], code::USAGE).into());
            }
        }
        builds.retain(|build| args.only.contains(&build.name));
    }
    // The user's own words mean the user's folder; those of the file mean the file's.
    let whole = fs::canonicalize(path).map_err(read_error)?;
    let folder = whole.parent().unwrap_or(Path::new("/"));
    let log_dir = match (&args.log_dir, &batch.log_dir) {
        (Some(dir), _) => std::path::absolute(dir).context("cannot find the current folder")?,
        (None, Some(dir)) => folder.join(dir),
        (None, None) => {
            let mut name = whole.file_stem().unwrap_or_default().to_owned();
            name.push(".logs");
            folder.join(name)
        }
    };
    std::env::set_current_dir(folder)
        .with_context(|| format!("cannot enter {}", folder.display()))?;
    let checked = check::check(&builds).map_err(|refused| wrong(refused.errors, refused.code))?;
    let memory: Vec<u64> = checked.builds.iter().map(|build| build.memory).collect();
    let asked = args.jobs.or(batch.jobs).map(NonZeroUsize::get);
    let limits = Room::of_host().limits(asked, &memory);
    if args.dry_run {
        describe(&checked, &limits, &log_dir, args.json)?;
        return Ok(code::GOOD);
    }
    fs::create_dir_all(&log_dir).with_context(|| {
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
) -> u8 {
    let builds = &checked.builds;
    if !args.json {
        for note in &checked.notes {
            show::print(note);
        }
        show::print(&head(builds, &limits));
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
fn worst(outcomes: &[Outcome], interrupted: bool) -> u8 {
    if interrupted {
        return code::INTERRUPTED;
    }
    let codes: Vec<u8> = outcomes
        .iter()
        // What was stopped because of another one is that one's fault.
        .filter(|outcome| outcome.verdict != Verdict::Stopped)
        .filter_map(|outcome| outcome.verdict.code())
        .collect();
    for bad in [code::HOST, code::USAGE, code::INTERRUPTED, code::TIMEOUT] {
        if codes.contains(&bad) {
            return bad;
        }
    }
    codes.into_iter().max().unwrap_or(code::GOOD)
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
