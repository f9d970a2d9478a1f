//! `boxbuild box …`.

mod info;
mod list;
mod verify;

use boxbuild_boxes::lock_file::Locked;
use boxbuild_boxes::source::debian::{self, CreateOptions};
use boxbuild_boxes::source::import as imported;
use boxbuild_boxes::source::published::{self, Freshness, Request};
use boxbuild_boxes::store::{Store, StoreError};
use boxbuild_host::arch::Arch;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::units::size;

use super::signals;
use crate::args::{BoxCommand, CreateArgs, ImportArgs, PullArgs};
use crate::exit_code::{ExitCode, Result};
use crate::output::print::print_text;
use crate::output::progress::Progress;
use info::describe;

/// Carries out a command.
pub(super) fn run(command: &BoxCommand) -> Result<ExitCode> {
    let store = Store::of_user()?;
    print_text(&carry_out(&store, command)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Carries out `--list-boxes`.
pub(super) fn run_list() -> Result<ExitCode> {
    run(&BoxCommand::List { json: false })
}

/// Carries out a command, and returns the text for standard output.
fn carry_out(store: &Store, command: &BoxCommand) -> Result<String> {
    match command {
        BoxCommand::List { json } => list::list(store, *json),
        BoxCommand::Info { name, arch } => info::info(store, name, *arch),
        BoxCommand::Rm { name } => {
            store.remove(&store.find(name, None).unwrap_or_else(|| name.clone()))?;
            Ok(String::new())
        }
        BoxCommand::Pull(args) => pull(store, args),
        BoxCommand::Import(args) => import(store, args),
        BoxCommand::Verify { names } => verify::verify(store, names),
        BoxCommand::Lock {
            names,
            arch,
            lock_file,
        } => {
            let boxes = names
                .iter()
                .map(|name| store.get_for(name, *arch))
                .collect::<Result<Vec<_>, StoreError>>()?;
            Locked::update(lock_file, &boxes)?;
            Ok(format!("{}\n", lock_file.display()))
        }
        BoxCommand::Prune => {
            let bytes = published::prune(store) + store.prune()?;
            Ok(format!("{} freed\n", size(bytes)))
        }
        BoxCommand::Create(args) => create(store, args),
    }
}

/// `box pull`.
fn pull(store: &Store, args: &PullArgs) -> Result<String> {
    let interrupt = signals::take_over()?;
    let locked = args.source.locked()?;
    let mut text = String::new();
    for name in &args.names {
        let mut progress = Progress::new(false);
        let request = Request {
            name,
            arch: args.arch,
            freshness: if args.force {
                Freshness::Again
            } else {
                args.fetch.policy().into()
            },
            locked: locked.as_ref(),
            key: args.source.key()?,
        };
        let installed = published::ensure(store, &request, &interrupt, &mut progress)?;
        text += &describe(&installed);
    }
    Ok(text)
}

/// `box import`.
fn import(store: &Store, args: &ImportArgs) -> Result<String> {
    let interrupt = signals::take_over()?;
    let mut progress = Progress::new(false);
    let result = imported::import(store, &args.options()?, &interrupt, &mut progress);
    progress.finish(result.is_ok());
    Ok(describe(&result?))
}

/// `box create`.
fn create(store: &Store, args: &CreateArgs) -> Result<String> {
    let interrupt = signals::take_over()?;
    let mut progress = Progress::new(false);
    let options = CreateOptions {
        name: args.name.clone(),
        from: args.from.clone(),
        arch: args.arch.unwrap_or_else(Arch::host),
        mirror: args.mirror.clone(),
        disk_size: args.disk_size,
        kiwi_version: args.kiwi_version.clone(),
        replace: args.force,
    };
    let result = debian::create(store, &options, &interrupt, &mut |step| {
        progress.begin(step);
    });
    progress.finish(result.is_ok());
    Ok(describe(&result?))
}
