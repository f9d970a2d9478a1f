//! `boxbuild batch FILE`: many builds from one file, several at once.
//!
//! The file is read ([`decode`]) and becomes builds ([`expand`]), each of which is checked as if it
//! ran alone ([`check`]); all mistakes are told at once ([`mistakes`]). Then each runs as a process of
//! its own ([`child`]), as many at once as the host has room for ([`admission`], [`schedule`]). A build
//! reports its progress as JSON events ([`child_output`]), which are shown ([`display`]) and written into
//! its log as text. A [`runner`] starts the builds on other hosts ([`placement`], [`remote`]); an attempt
//! that came to nothing is made again ([`setback`], [`attempts`]).

mod admission;
mod attempt;
mod attempts;
mod build;
mod build_progress;
mod check;
mod child;
mod child_output;
mod decode;
mod display;
mod dry_run;
mod error;
mod expand;
mod file;
mod job_summary;
mod junit;
mod matrix;
mod mistakes;
mod option_tables;
mod outcome;
mod placement;
mod record;
mod remote;
mod runner;
mod schedule;
mod setback;
mod shared_folder;
mod summary;
mod template;

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use boxbuild_host::input;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::text::{shown, shown_path};
use boxbuild_host::untrusted::Dir;
use nix::unistd::{AccessFlags, access};

use super::look::Look;
use super::preflight::Where;
use super::signals;
use super::worker::protocol::Expected;
use crate::args::{self, BatchArgs};
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::event::BatchEvent;
use crate::output::json::{emit, emit_exit, print_document, print_line_document};
use crate::output::print::{print_failure, print_line, print_text};
use crate::settings::Settings;
use admission::{Capacity, Limits};
use build::Build;
use check::CheckedBatch;
use display::Display;
use dry_run::BatchPlan;
use error::BatchError;
use file::BatchFile;
use job_summary::Places;
use junit::{Report, ReportFile};
use mistakes::Mistakes;
use placement::Placement;
use runner::Runner;
use runner::config::{LOCAL, Runners};
use schedule::Rules;
use shared_folder::SharedFolders;

/// Runs a batch.
pub(super) fn run(args: &BatchArgs, settings: &Settings) -> Result<ExitCode> {
    // Another folder is the current one later.
    let file = std::path::absolute(&args.file).unwrap_or_else(|_| args.file.clone());
    let failure = match carry_out(args, settings) {
        Err(failure) if args.json => failure,
        result => {
            if let Err(failure) = &result
                && let Some(refused) = failure.downcast_ref::<BatchError>()
            {
                job_summary::show_refusal(&file, refused);
            }
            return result;
        }
    };
    let mut messages = failure.messages().into_iter();
    let refused = failure.downcast_ref::<BatchError>();
    emit(&BatchEvent::Error {
        // Of a batch that is refused, the first line; the others are the mistakes.
        message: messages
            .next()
            .and_then(|message| message.lines().next().map(str::to_owned))
            .unwrap_or_default(),
        causes: messages.collect(),
        mistakes: refused.map_or(&[], BatchError::mistakes),
    });
    emit_exit(failure.code());
    Ok(failure.code())
}

fn carry_out(args: &BatchArgs, settings: &Settings) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    // Folders of builds may be on file systems that do not answer, and builds may be many.
    let looking = Look::begin(&interrupt, args.json)?;
    let path = &args.file;
    let read_error = |source| BatchError::Read {
        path: path.clone(),
        source,
    };
    let text = input::read_text(path).map_err(read_error)?;
    let whole = fs::canonicalize(path).map_err(read_error)?;
    let folder = whole.parent().unwrap_or(Path::new("/"));
    let mut mistakes = Mistakes::of(&text);
    let file = decode::read(&text, &mut mistakes);
    let builds = expand::expand(&file, &mut mistakes);
    let builds = select(builds, &args.only, &mut mistakes);
    if let Some(system) = args.matrix {
        drop(looking);
        return print_matrix(path, &builds, system, mistakes);
    }
    // The current folder is the user's still.
    let runner = runner(args, settings)?;
    let report_file = args.junit.as_deref().map(ReportFile::find).transpose();
    let log_dir = log_dir(args, &file, &whole, folder)?;
    // Paths in the file are relative to its folder.
    std::env::set_current_dir(folder)
        .host_context(|| format!("cannot enter {}", folder.display()))?;
    if let Some(problem) = log_dir_problem(&log_dir) {
        mistakes.add_at(None, format!("the folder for the logs: {problem}"));
    }
    let report_file = report_file.unwrap_or_else(|problem| {
        mistakes.add_at(None, problem);
        None
    });
    let at = match runner {
        None => Where::Here,
        Some(_) => Where::Elsewhere,
    };
    let batch = check::check(&builds, settings, at, &mut mistakes);
    drop(looking);
    let places = Places {
        file: &whole,
        lines: builds
            .iter()
            .map(|build| (build.name.clone(), mistakes.line_of(&build.span)))
            .collect(),
    };
    refuse_mistakes(path, mistakes)?;
    let asked = args.jobs.or(file.jobs).map(NonZeroUsize::get);
    let limits = match &runner {
        None => Capacity::of_host().limits(asked, &batch.memory()),
        Some(runner) => Limits::of_runner(
            asked.unwrap_or(runner.config.jobs).min(runner.config.jobs),
            format!("runner {}", runner.describe()),
        ),
    };
    if args.dry_run {
        if args.json {
            print_document(&BatchPlan::new(&batch, &limits, &log_dir, runner.as_ref()))?;
        } else {
            print_text(&dry_run::describe(
                &batch,
                &limits,
                &log_dir,
                runner.as_ref(),
            ))?;
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
        resume: args.resume,
        log_dir,
        logs,
    };
    let mut placement = match &runner {
        None => Placement::here(),
        Some(runner) => placement_through(runner, &batch, args, &interrupt)?,
    };
    run_builds(
        &batch,
        &rules,
        &mut placement,
        args,
        &interrupt,
        &Reports {
            places,
            report_file,
        },
    )
}

/// Returns the runner that the user has named. A batch file names none: what it would start is a matter
/// of the user's.
fn runner(args: &BatchArgs, settings: &Settings) -> Result<Option<Runner>> {
    let Some(name) = args.runner.as_deref().filter(|name| *name != LOCAL) else {
        return Ok(None);
    };
    let config = match &args.runner_config {
        Some(path) => runner::config::read(path)?.get(name, &shown_path(path))?,
        None => {
            let runners: Option<Runners> = settings.own_table("runner")?;
            runners
                .unwrap_or_default()
                .get(name, "the settings file (boxbuild config --files)")?
        }
    };
    let runner = Runner::new(config);
    if let Some(program) = runner.missing_program() {
        let problem = format!("there is no program {program} on this host");
        return Err(BatchError::Runner {
            runner: runner.describe(),
            problem,
        }
        .into());
    }
    Ok(Some(runner))
}

/// Looks at the hosts of a runner, where it knows them, and at whether they share what they have to.
fn placement_through<'r>(
    runner: &'r Runner,
    batch: &CheckedBatch,
    args: &BatchArgs,
    interrupt: &Interrupt,
) -> Result<Placement<'r>> {
    let mut shared = SharedFolders::default();
    let mut expected = Expected::default();
    for build in &batch.builds {
        let file = shared
            .file_for(&build.target_dir)
            .host_context(|| format!("cannot write beside {}", shown_path(&build.target_dir)))?;
        let of_build = runner.expected(build, &file);
        expected.add(of_build);
    }
    let mut pool = runner.pool();
    if let Some(pool) = &mut pool {
        runner::probe::probe(runner, pool, &expected, interrupt);
    }
    // Of hosts that had no time to answer, nothing can be said; nothing is started then.
    if let Some(pool) = pool.as_ref().filter(|_| interrupt.count() == 0) {
        let out = pool.out();
        let told: Vec<String> = out
            .iter()
            .map(|(host, reason)| format!("{}: {}", shown(host), shown(reason)))
            .collect();
        if out.len() == pool.names().len() {
            return Err(BatchError::Runner {
                runner: runner.describe(),
                problem: told.join("; "),
            }
            .into());
        }
        for line in told {
            let text = format!("not used: {line}");
            if args.json {
                emit(&BatchEvent::Note {
                    build: None,
                    text: &text,
                });
            } else {
                print_line(&text);
            }
        }
    }
    Ok(Placement::through(runner, pool, shared))
}

/// Fails if there are mistakes in the file `path`.
fn refuse_mistakes(path: &Path, mistakes: Mistakes<'_>) -> Result<()> {
    if mistakes.is_empty() {
        return Ok(());
    }
    let (mistakes, class) = mistakes.into_list();
    Err(BatchError::Refused {
        path: path.to_owned(),
        mistakes,
        class,
    }
    .into())
}

/// Carries out `--matrix`.
fn print_matrix(
    path: &Path,
    builds: &[Build],
    system: args::Matrix,
    mut mistakes: Mistakes<'_>,
) -> Result<ExitCode> {
    let matrix = matrix::matrix(builds, system);
    if let Err(problem) = &matrix {
        mistakes.add_at(None, problem);
    }
    refuse_mistakes(path, mistakes)?;
    if let Ok(matrix) = matrix {
        print_line_document(&matrix)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Who else is told how a batch ended.
#[derive(Debug)]
struct Reports<'a> {
    places: Places<'a>,
    /// `--junit`.
    report_file: Option<ReportFile>,
}

/// Returns the builds that `--only` names; all of them if it is not given.
fn select(mut builds: Vec<Build>, only: &[String], mistakes: &mut Mistakes<'_>) -> Vec<Build> {
    let names: Vec<String> = builds.iter().map(|build| build.name.clone()).collect();
    for unknown in only.iter().filter(|name| !names.contains(name)) {
        let message = format!(
            "--only {unknown}: there is no such build; builds here: {}",
            names.join(", ")
        );
        mistakes.add_at(None, message);
    }
    if !only.is_empty() {
        builds.retain(|build| only.contains(&build.name));
    }
    builds
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

/// Returns why there can be no logs in `dir`, which need not exist.
fn log_dir_problem(dir: &Path) -> Option<String> {
    let choose = "choose another one with --log-dir";
    for folder in dir.ancestors() {
        match fs::metadata(folder) {
            Ok(found) if !found.is_dir() => {
                return Some(format!("{} is not a folder: {choose}", shown_path(folder)));
            }
            Ok(_) => {
                let writable = access(folder, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
                return (!writable).then(|| {
                    format!(
                        "no permission to write into {}: {choose}",
                        shown_path(folder)
                    )
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Some(format!("{}: {error}: {choose}", shown_path(folder))),
        }
    }
    None
}

/// Runs checked builds, and returns the exit code.
fn run_builds(
    batch: &CheckedBatch,
    rules: &Rules,
    placement: &mut Placement<'_>,
    args: &BatchArgs,
    interrupt: &Interrupt,
    reports: &Reports<'_>,
) -> Result<ExitCode> {
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
    let (started, began) = (Instant::now(), SystemTime::now());
    let outcomes = schedule::run(builds, rules, placement, interrupt, &mut display);
    display.finish();
    let exit_code = outcome::exit_code(&outcomes, interrupt.count() > 0);
    let total = started.elapsed();
    if args.json {
        emit(&summary::event(builds, &outcomes, total, exit_code));
    } else {
        // The builds are done, whether standard output can be written to or not.
        let _ = print_text(&summary::table(builds, &outcomes, total));
        job_summary::show(&reports.places, builds, &outcomes, total);
    }
    let Some(file) = &reports.report_file else {
        return Ok(exit_code);
    };
    let name = reports.places.file.file_stem().unwrap_or_default();
    let report = Report {
        name: &name.to_string_lossy(),
        builds,
        outcomes: &outcomes,
        total,
        began,
    };
    match file.write(&report) {
        Ok(()) => Ok(exit_code),
        Err(error) => {
            let failure: Result<()> = Err(error)
                .host_context(|| format!("cannot write the report {}", shown_path(file.path())));
            // What the builds ended with is worse.
            match failure {
                Err(failure) if exit_code != ExitCode::SUCCESS => {
                    print_failure(&failure);
                    Ok(exit_code)
                }
                failure => failure.map(|()| exit_code),
            }
        }
    }
}
