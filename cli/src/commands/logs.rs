//! `boxbuild logs`: the log of a kept build, of one in the history, of one that runs.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::Duration;

use boxbuild_core::failed_builds::{FailedBuild, FailedBuildError, FailedBuilds, KeptLog};
use boxbuild_core::history::{History, Listed, LiveLog, Record, State, Status};
use boxbuild_host::text::{shown, shown_path};
use boxbuild_host::units::seconds;

use crate::args::LogsArgs;
use crate::exit_code::{ExitCode, Failure, HostContext, Result};
use crate::output::event::BuildEvent;
use crate::output::json::{emit, emit_exit};
use crate::output::print::{log_lines, print_line, print_log, print_log_line};

/// How often a log that grows is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Looks at a log without a pause, at most: what grows faster waits for the next ones.
const MOST_LOOKS: usize = 64;

/// Prints the log that is asked for.
///
/// # Errors
/// Fails if there is no such build, or its log cannot be read.
pub(super) fn run(args: &LogsArgs) -> Result<ExitCode> {
    let code = if args.follow {
        follow(args)?
    } else {
        show(args)?;
        ExitCode::SUCCESS
    };
    if args.json {
        emit_exit(code);
    }
    Ok(code)
}

/// Prints the log of a build as it is now.
fn show(args: &LogsArgs) -> Result<()> {
    let number = args.id.as_deref().and_then(number);
    if let Some(number) = number {
        let listed = in_history(number)?;
        let record = readable(&listed)?;
        if let Some(kept) = kept(record)? {
            return show_kept(&kept, args);
        }
        if args.console {
            return Err(usage(format!(
                "the console of build {number} is not kept: that is so for failed builds only"
            )));
        }
        return show_listed(&listed, record, args.json);
    }
    match FailedBuilds::of_user()?.get(args.id.as_deref()) {
        // Without a kept build, the newest of all is the one.
        Err(FailedBuildError::Nothing) if args.id.is_none() && !args.console => {
            let newest = History::of_user()?.list()?.pop();
            let newest = newest.ok_or(FailedBuildError::Nothing)?;
            show_listed(&newest, readable(&newest)?, args.json)
        }
        build => show_kept(&build?, args),
    }
}

fn show_kept(build: &FailedBuild, args: &LogsArgs) -> Result<()> {
    let log = if args.console {
        None
    } else {
        let log = build.open_log(KeptLog::Kiwi)?;
        if log.is_none() {
            print_line("kiwi wrote no log; this is the console of the box:");
        }
        log
    };
    let log = match log {
        Some(log) => Some(log),
        None => build.open_log(KeptLog::Console)?,
    };
    log.map_or(Ok(()), |log| print(log, args.json))
}

/// Prints the log of a build that is not kept.
fn show_listed(listed: &Listed, record: &Record, json: bool) -> Result<()> {
    if listed.state == State::Running {
        let mut log = LiveLog::of(record);
        take(&mut log, json)?;
        return Ok(());
    }
    let target = Path::new(&record.target_dir);
    let log = record
        .open_log()
        .host_context(|| format!("cannot open the log in {}", shown_path(target)))?;
    let log = log.ok_or_else(|| {
        usage(format!(
            "the log of build {} is not in {} any more: it was removed, or a later build wrote its own",
            listed.id,
            shown_path(target)
        ))
    })?;
    print(log, json)
}

/// Prints a log that does not grow.
fn print(mut log: File, json: bool) -> Result<()> {
    if !json {
        return print_log(&mut log);
    }
    log_lines(&mut log, |line| {
        emit(&BuildEvent::Line {
            text: line.to_owned(),
        });
        Ok(())
    })
}

/// Prints what the log of a build gains until it ends, and how it ended.
fn follow(args: &LogsArgs) -> Result<ExitCode> {
    let history = History::of_user()?;
    let number = match args.id.as_deref() {
        Some(id) => match number(id) {
            Some(number) => number,
            // A kept build has ended.
            None => {
                let kept = FailedBuilds::of_user()?.get(Some(id))?;
                show_kept(&kept, args)?;
                say(&format!("{}: {}", shown(id), kept.record.reason), args.json);
                return Ok(ExitCode::of_process(kept.record.exit_code));
            }
        },
        None => newest_running(&history)?,
    };
    let mut log: Option<LiveLog> = None;
    loop {
        // Before its log: what it wrote last is there when it has ended.
        let listed = in_history(number)?;
        let record = readable(&listed)?;
        if listed.state != State::Running {
            return conclude(log, &listed, record, args);
        }
        let followed = log.get_or_insert_with(|| LiveLog::of(record));
        if !take(followed, args.json)? {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(LOOK);
    }
}

/// Prints the rest of a log, and the verdict.
fn conclude(
    log: Option<LiveLog>,
    listed: &Listed,
    record: &Record,
    args: &LogsArgs,
) -> Result<ExitCode> {
    match log {
        Some(mut log) if log.was_found() => {
            let mut written = Ok(true);
            let ended = log.end(|line| {
                if let Ok(true) = written {
                    written = line_of(line, args.json);
                }
            });
            written?;
            if let Err(error) = ended {
                print_line(&format!("cannot read the log: {error}"));
            }
        }
        _ => match kept(record)? {
            Some(kept) => show_kept(&kept, args)?,
            None => {
                if let Ok(Some(log)) = record.open_log() {
                    print(log, args.json)?;
                }
            }
        },
    }
    let (text, code) = verdict(listed, record);
    say(&text, args.json);
    Ok(code)
}

/// Returns how a build ended, in words and as an exit code.
fn verdict(listed: &Listed, record: &Record) -> (String, ExitCode) {
    let id = listed.id;
    let Some(end) = &record.end else {
        let text = format!("build {id} was killed before it came to an end");
        return (text, ExitCode::HOST);
    };
    let time = Duration::try_from_secs_f64(end.seconds).unwrap_or_default();
    let time = seconds(time);
    let message = end.message.as_deref().unwrap_or_default();
    let text = match end.status {
        Status::Built => format!(
            "build {id}: built in {time}, {} in {}",
            match end.files.len() {
                1 => String::from("1 result"),
                count => format!("{count} results"),
            },
            shown_path(Path::new(&record.target_dir))
        ),
        _ => format!("build {id}: failed after {time}: {message}"),
    };
    // A failure is never taken for a success, whatever a record says.
    let code = match (end.status, end.exit_code) {
        (Status::Built, _) => ExitCode::SUCCESS,
        (_, 0) => ExitCode::BUILD_FAILED,
        (_, code) => ExitCode::of_process(code),
    };
    (text, code)
}

fn say(text: &str, json: bool) {
    if json {
        emit(&BuildEvent::Note {
            text: text.to_owned(),
        });
    } else {
        print_line(text);
    }
}

/// Prints what a log has gained. Returns false if the reader has gone away.
fn take(log: &mut LiveLog, json: bool) -> Result<bool> {
    for _ in 0..MOST_LOOKS {
        let mut written = Ok(true);
        let gained = log.poll(|line| {
            if let Ok(true) = written {
                written = line_of(line, json);
            }
        });
        if !written? {
            return Ok(false);
        }
        // The guest may put something else there; its end decides.
        if !gained.is_ok_and(|gained| gained.more) {
            break;
        }
    }
    Ok(true)
}

fn line_of(line: &str, json: bool) -> Result<bool> {
    if json {
        emit(&BuildEvent::Line {
            text: line.to_owned(),
        });
        return Ok(true);
    }
    print_log_line(line)
}

/// The number of a build, if `id` is one.
fn number(id: &str) -> Option<u64> {
    let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    id.parse().ok().filter(|_| digits)
}

fn in_history(number: u64) -> Result<Listed> {
    let found = History::of_user()?.get(number)?;
    found.ok_or_else(|| {
        usage(format!(
            "there is no build {number} in the history; 'boxbuild builds' lists them"
        ))
    })
}

fn readable(listed: &Listed) -> Result<&Record> {
    listed.record.as_ref().map_err(|problem| {
        let text = format!(
            "the record of build {} cannot be read: {problem}",
            listed.id
        );
        Failure::new(ExitCode::HOST, anyhow::Error::msg(text))
    })
}

/// What is kept of a build, if it is.
fn kept(record: &Record) -> Result<Option<FailedBuild>> {
    let Some(name) = record.end.as_ref().and_then(|end| end.kept.as_deref()) else {
        return Ok(None);
    };
    let builds = FailedBuilds::of_user()?;
    if !builds.ids()?.iter().any(|id| id == name) {
        return Ok(None);
    }
    let kept = builds.get(Some(name))?;
    Ok(Some(kept).filter(|kept| super::builds::is_of(kept, record)))
}

fn newest_running(history: &History) -> Result<u64> {
    let running = history.list()?.into_iter().rev();
    let mut running = running.filter(|listed| listed.state == State::Running);
    let newest = running.next();
    let newest = newest.ok_or_else(|| {
        usage(String::from(
            "no build runs; name one that has ended (see 'boxbuild builds')",
        ))
    })?;
    Ok(newest.id)
}

fn usage(text: String) -> Failure {
    Failure::new(ExitCode::USAGE, anyhow::Error::msg(text))
}
