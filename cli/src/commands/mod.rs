//! The commands, one file or folder each.

mod batch;
mod bench;
mod boxes;
mod build;
mod builds;
mod completions;
mod config;
mod confinement;
mod description;
mod df;
mod diff;
mod doctor;
mod failed_builds;
mod forced_end;
mod generate;
mod help;
mod image;
mod kiwi_ng;
mod logs;
mod look;
mod preflight;
mod prune;
mod resume;
mod self_command;
mod signals;
mod verify;
mod verify_build;
mod worker;

use std::ffi::OsString;

use boxbuild_host::notices;

use crate::args::{self, BoxCommand, Command, Invocation};
use crate::exit_code::{ExitCode, Failure};
use crate::output::event::BuildEvent;
use crate::output::json::{emit, emit_exit, emit_failure_with};
use crate::output::print::{print_failure, print_line, print_usage_error, usage_error};
use crate::settings::{self, Applied, Settings};

/// Carries out a command line (without the program's name).
pub(crate) fn run(argv: Vec<OsString>) -> ExitCode {
    if let Some(code) = kiwi_ng::answer(&argv) {
        return code;
    }
    notices::install();
    let wants_json = args::wants_json(argv.clone());
    if args::wants_help_on_build_args(argv.clone()) {
        return help::build_args();
    }
    let (settings, applied) = match settings::of(argv) {
        Ok(found) => found,
        Err(error) => return fail(&error.into(), wants_json, &Applied::default()),
    };
    let wants_json = wants_json || args::wants_json(applied.argv.clone());
    match args::parse(applied.argv.clone()) {
        Ok(mut invocation) => {
            if invocation.cli.command.is_none() {
                invocation.note(&applied.notes);
            } else if !wants_json {
                applied.notes.iter().for_each(|note| print_line(note));
            }
            dispatch(&invocation, &settings, &applied, wants_json)
        }
        Err(error) => refuse(&error, wants_json, &applied),
    }
}

fn dispatch(
    invocation: &Invocation,
    settings: &Settings,
    applied: &Applied,
    wants_json: bool,
) -> ExitCode {
    let result = match &invocation.cli.command {
        Some(Command::Box { command, json }) => boxes::run(command, *json),
        Some(Command::Check(args)) => {
            let build_args = invocation.build_args.as_deref().unwrap_or_default();
            description::check(args, build_args)
        }
        Some(Command::Info(args)) => description::info(args),
        Some(Command::Verify(args)) => verify::run(args),
        Some(Command::VerifyBuild(args)) => verify_build::run(args),
        Some(Command::Diff(args)) => diff::run(args),
        Some(Command::Doctor { json }) => doctor::run(*json),
        Some(Command::Test(args)) => image::test(args),
        Some(Command::Run(args)) => image::run(args),
        Some(Command::Batch(args)) => batch::run(args, settings),
        Some(Command::Worker) => worker::run(),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Builds(args)) => builds::list(args),
        Some(Command::Df(args)) => df::run(args),
        Some(Command::Logs(args)) => logs::run(args),
        Some(Command::Shell(args)) => failed_builds::shell(args),
        Some(Command::Resume(args)) => return resume::run(args, applied),
        Some(Command::Config(args)) => config::run(args, settings.no_files),
        Some(Command::Completions(args)) => completions::run(args),
        Some(Command::Complete(args)) => {
            completions::complete(args, invocation.build_args.as_deref().unwrap_or_default())
        }
        Some(Command::Help { words }) => help::run(words),
        Some(Command::Generate { what, dir }) => generate::run(*what, dir),
        Some(Command::Prune(args)) => prune::run(args),
        None if invocation.cli.build.peer.list_boxes && wants_json => {
            boxes::run(&BoxCommand::List, true)
        }
        None if invocation.cli.build.peer.list_boxes => boxes::run_list(),
        None => return build::run(invocation, applied),
    };
    result.unwrap_or_else(|failure| fail(&failure, wants_json, applied))
}

/// Reports a failure, and the settings that it is about.
fn fail(failure: &Failure, wants_json: bool, applied: &Applied) -> ExitCode {
    let hint = applied.named_in(&failure.messages().join("\n"));
    if wants_json {
        emit_failure_with(failure, hint);
        emit_exit(failure.code());
    } else {
        print_failure(failure);
        hint.iter().for_each(|hint| print_line(hint));
    }
    failure.code()
}

/// Reports a command line that clap did not accept. Help and version are such errors, too.
fn refuse(error: &clap::Error, wants_json: bool, applied: &Applied) -> ExitCode {
    if !error.use_stderr() {
        return match print_usage_error(error) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                print_failure(&failure);
                failure.code()
            }
        };
    }
    let (message, hint) = usage_error(error);
    let of_settings = applied.named_in(&message);
    if wants_json {
        emit(&BuildEvent::Error {
            message,
            causes: Vec::new(),
            hint: of_settings.or(hint),
        });
        emit_exit(ExitCode::USAGE);
        return ExitCode::USAGE;
    }
    if let Err(failure) = print_usage_error(error) {
        print_failure(&failure);
    }
    of_settings.iter().for_each(|hint| print_line(hint));
    ExitCode::USAGE
}
