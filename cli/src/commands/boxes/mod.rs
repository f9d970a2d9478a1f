//! `boxbuild box …`.

mod info;
mod list;
mod list_boxes;
mod verify;

use boxbuild_boxes::in_place;
use boxbuild_boxes::lock_file::Locked;
use boxbuild_boxes::source::import::ImportedBox;
use boxbuild_boxes::source::published::{self, Freshness, PullRequest};
use boxbuild_boxes::source::{self, BoxSource, CreateOptions};
use boxbuild_boxes::store::{IfExists, InstalledBox, Store, StoreError};
use boxbuild_host::arch::Arch;
use boxbuild_host::reporter::Reporter;

use super::{confinement, prune, signals};
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

/// Carries out `--list-boxes`. Published boxes are known without a home folder.
pub(super) fn run_list() -> Result<ExitCode> {
    let store = match Store::of_user() {
        Err(StoreError::NoHome) => None,
        store => Some(store?),
    };
    print_text(&list_boxes::list(&list::catalog()?, store.as_ref())?)?;
    Ok(ExitCode::SUCCESS)
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
        BoxCommand::Reset { names, arch } => {
            // All of them are there, or none is touched.
            let boxes = names
                .iter()
                .map(|name| store.get_for(name, *arch))
                .collect::<Result<Vec<_>, StoreError>>()?;
            boxes.iter().map(reset).collect()
        }
        BoxCommand::Prune { dry_run } => prune::boxes(*dry_run),
        BoxCommand::Create(args) => create(store, args),
    }
}

/// `box pull`.
fn pull(store: &Store, args: &PullArgs) -> Result<String> {
    if args.require_confinement {
        confinement::require()?;
    }
    let interrupt = signals::take_over()?;
    let locked = args.source.locked()?;
    let mut text = String::new();
    for name in &args.names {
        let mut progress = Progress::new(false);
        let request = PullRequest {
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

/// `box reset`, for one box.
fn reset(installed: &InstalledBox) -> Result<String> {
    let name = &installed.info.name;
    Ok(if in_place::reset(installed)? {
        format!("{name}: as it was installed again\n")
    } else {
        format!("{name}: no build has written into its disk\n")
    })
}

/// `box import`.
fn import(store: &Store, args: &ImportArgs) -> Result<String> {
    if args.require_confinement {
        confinement::require()?;
    }
    install(store, &ImportedBox::new(args.options()?), args.force)
}

/// `box create`.
fn create(store: &Store, args: &CreateArgs) -> Result<String> {
    let options = CreateOptions {
        name: args.name.clone(),
        from: args.from.clone(),
        arch: args.arch.unwrap_or_else(Arch::host),
        mirror: args.mirror.clone(),
        disk_size: args.disk_size,
        kiwi_version: args.kiwi_version.clone(),
    };
    install(
        store,
        source::create::source(&options)?.as_ref(),
        args.force,
    )
}

/// Makes a box, and returns the text on it.
fn install(store: &Store, source: &dyn BoxSource, force: bool) -> Result<String> {
    let interrupt = signals::take_over()?;
    let if_exists = if force {
        IfExists::Replace
    } else {
        IfExists::Fail
    };
    let mut progress = Progress::new(false);
    let result = source::install(store, source, if_exists, &interrupt, &mut progress);
    progress.finish(result.is_ok());
    Ok(describe(&result?))
}
