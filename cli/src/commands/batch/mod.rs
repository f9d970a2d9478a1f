//! `boxbuild batch FILE`: many builds from one file, several at once.
//!
//! The file is parsed ([`file`]) and becomes builds ([`expand`]), each of which is checked as if it
//! ran alone ([`check`]). Then each runs as a process of its own ([`child`]), as many at once as the
//! host has room for ([`admission`], [`schedule`]). A build reports its progress as JSON events
//! ([`child_output`]), which are shown ([`display`]) and written into its log as text.

mod admission;
mod build;
mod build_progress;
mod check;
mod child;
mod child_output;
mod display;
mod dry_run;
mod error;
mod expand;
mod file;
mod option_tables;
mod outcome;
mod schedule;
mod summary;
mod template;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use boxbuild_host::error::ErrorClass;
use boxbuild_host::input;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::text::shown_path;
use boxbuild_host::untrusted::Dir;

use super::signals;
use crate::args::BatchArgs;
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::json::{emit, print_document};
use crate::output::print::{print_line, print_text};
use admission::Capacity;
use build::Build;
use check::CheckedBatch;
use display::Display;
use dry_run::BatchPlan;
use error::BatchError;
use file::BatchFile;
use schedule::Rules;

/// Runs a batch.
pub(super) fn run(args: &BatchArgs) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    let path = &args.file;
    let read_error = |source| BatchError::Read {
        path: path.clone(),
        source,
    };
    let refused = |problems, class| BatchError::Refused {
        path: path.clone(),
        problems,
        class,
    };
    let text = input::read_text(path).map_err(read_error)?;
    let batch = file::parse(&text).map_err(|error| refused(vec![error], ErrorClass::Usage))?;
    let builds = expand::expand(&batch, &text)
        .and_then(|builds| select(builds, &args.only))
        .map_err(|problems| refused(problems, ErrorClass::Usage))?;
    let whole = fs::canonicalize(path).map_err(read_error)?;
    let folder = whole.parent().unwrap_or(Path::new("/"));
    let log_dir = log_dir(args, &batch, &whole, folder)?;
    // Paths in the file are relative to its folder.
    std::env::set_current_dir(folder)
        .host_context(|| format!("cannot enter {}", folder.display()))?;
    let batch_jobs = batch.jobs;
    let batch = check::check(&builds).map_err(|error| refused(error.errors, error.class))?;
    let asked = args.jobs.or(batch_jobs).map(NonZeroUsize::get);
    let limits = Capacity::of_host().limits(asked, &batch.memory());
    if args.dry_run {
        if args.json {
            print_document(&BatchPlan::new(&batch, &limits, &log_dir))?;
        } else {
            print_text(&dry_run::describe(&batch, &limits, &log_dir))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    fs::create_dir_all(&log_dir).host_context(|| {
        format!(
            "cannot create {} for the logs: choose another folder with --log-dir",
            log_dir.display()
        )
    })?;
    let logs = Dir::open(&log_dir)
        .host_context(|| format!("cannot open {} for the logs", shown_path(&log_dir)))?;
    let rules = Rules {
        limits,
        fail_fast: args.fail_fast,
        log_dir,
        logs,
    };
    Ok(carry_out(&batch, &rules, args, &interrupt))
}

/// Returns the builds that `--only` names; all of them if it is not given.
fn select(mut builds: Vec<Build>, only: &[String]) -> Result<Vec<Build>, Vec<String>> {
    let names: Vec<String> = builds.iter().map(|build| build.name.clone()).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(name)) {
        return Err(vec![format!(
            "--only {unknown}: there is no such build; builds here: {}",
            names.join(", ")
        )]);
    }
    if !only.is_empty() {
        builds.retain(|build| only.contains(&build.name));
    }
    Ok(builds)
}

/// Returns the folder for the logs. On the command line it is relative to the current folder, in
/// the batch file to `folder`, which is the file's.
fn log_dir(args: &BatchArgs, batch: &BatchFile, file: &Path, folder: &Path) -> Result<PathBuf> {
    match (&args.log_dir, &batch.log_dir) {
        (Some(dir), _) => {
            std::path::absolute(dir).host_context(|| "cannot find the current folder")
        }
        (None, Some(dir)) => Ok(folder.join(dir)),
        (None, None) => {
            let mut name = file.file_stem().unwrap_or_default().to_owned();
            name.push(".logs");
            Ok(folder.join(name))
        }
    }
}

/// Runs checked builds, and returns the exit code.
fn carry_out(
    batch: &CheckedBatch,
    rules: &Rules,
    args: &BatchArgs,
    interrupt: &Interrupt,
) -> ExitCode {
    let builds = &batch.builds;
    let mut display = if args.json {
        Display::events(builds)
    } else {
        for note in &batch.notes {
            print_line(note);
        }
        print_line(&dry_run::heading(batch, &rules.limits));
        Display::for_people(builds, args.verbose)
    };
    let started = Instant::now();
    let outcomes = schedule::run(builds, rules, interrupt, &mut display);
    display.finish();
    let exit_code = outcome::exit_code(&outcomes, interrupt.count() > 0);
    let total = started.elapsed();
    if args.json {
        emit(&summary::event(builds, &outcomes, total, exit_code));
    } else {
        // The builds are done, whether standard output can be written to or not.
        let _ = print_text(&summary::table(builds, &outcomes, total));
    }
    exit_code
}
