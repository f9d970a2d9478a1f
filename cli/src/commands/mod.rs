//! The commands, one file each.

mod batch;
mod bench;
mod boxes;
mod build;
mod doctor;
mod failed_builds;
mod generate;

use std::ffi::OsString;

use crate::args::{self, Command};
use crate::exit_code::ExitCode;
use crate::output::json;
use crate::output::print::{print_failure, print_text};

/// Carries out a command line (without the program's name).
pub(crate) fn run(argv: Vec<OsString>) -> ExitCode {
    let wants_json = args::wants_json(argv.clone());
    let invocation = match args::parse(argv) {
        Ok(invocation) => invocation,
        Err(error) if wants_json && error.use_stderr() => {
            json::error(&error.to_string(), &[]);
            json::exit(ExitCode::USAGE);
            return ExitCode::USAGE;
        }
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::USAGE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let said = |text: String| print_text(&text).map(|()| ExitCode::SUCCESS);
    let result = match &invocation.cli.command {
        Some(Command::Box(command)) => boxes::run(command),
        Some(Command::Doctor) => doctor::run(),
        Some(Command::Batch(args)) => batch::run(args),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Builds { json }) => failed_builds::builds(*json).and_then(said),
        Some(Command::Logs(args)) => failed_builds::logs(args).map(|()| ExitCode::SUCCESS),
        Some(Command::Shell(args)) => failed_builds::shell(args),
        Some(Command::Generate { what, dir }) => generate::run(*what, dir),
        Some(Command::Prune { ids }) => failed_builds::prune(ids).and_then(said),
        None if invocation.cli.build.peer.list_boxes => boxes::run_list(),
        None => return build::run(&invocation),
    };
    result.unwrap_or_else(|failure| {
        print_failure(&failure);
        failure.code()
    })
}
