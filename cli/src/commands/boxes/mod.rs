//! `boxbuild box …`.

mod answer;
mod info;
mod list;
mod list_boxes;
mod verify;

use boxbuild_boxes::export;
use boxbuild_boxes::in_place;
use boxbuild_boxes::lock_file::Locked;
use boxbuild_boxes::source::import::{ExportedBox, ImportedBox};
use boxbuild_boxes::source::published::{self, Freshness, PullRequest};
use boxbuild_boxes::source::{self, BoxSource, CreateOptions};
use boxbuild_boxes::store::{IfExists, InstalledBox, Store, StoreError};
use boxbuild_host::arch::Arch;
use boxbuild_host::reporter::Reporter;
use serde::Serialize;
use serde_json::{Value, json};

use super::{confinement, prune, signals};
use crate::args::{BoxCommand, CreateArgs, ImportArgs, PullArgs};
use crate::exit_code::{ExitCode, Result};
use crate::output::json::{emit, emit_exit, print_document};
use crate::output::print::print_text;
use crate::output::progress::Progress;
use answer::Answer;
use info::{describe, document};

/// Carries out a command.
pub(super) fn run(command: &BoxCommand, json: bool) -> Result<ExitCode> {
    let store = Store::of_user()?;
    let answer = carry_out(&store, command, json)?;
    if !json {
        print_text(&answer.text)?;
        return answer.failure.map_or(Ok(ExitCode::SUCCESS), Err);
    }
    let code = answer
        .failure
        .map_or(ExitCode::SUCCESS, |failure| failure.code());
    if answer.takes_long {
        if answer.value.is_object() {
            emit(&answer.value);
        }
        for installed in answer.value.as_array().into_iter().flatten() {
            emit(&BoxEvent {
                event: "box",
                installed,
            });
        }
        emit_exit(code);
    } else {
        print_document(&answer.value)?;
    }
    Ok(code)
}

/// A box that a command has made, for programs.
#[derive(Serialize)]
struct BoxEvent<'a> {
    event: &'static str,
    #[serde(flatten)]
    installed: &'a Value,
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

/// Carries out a command, and returns what it has to say.
fn carry_out(store: &Store, command: &BoxCommand, json: bool) -> Result<Answer> {
    match command {
        BoxCommand::List => list::list(store),
        BoxCommand::Info { name, arch } => info::info(store, name, *arch),
        BoxCommand::Rm { name } => {
            let name = store.find(name, None).unwrap_or_else(|| name.clone());
            store.remove(&name)?;
            Ok(Answer::new(String::new(), json!({ "removed": name })))
        }
        BoxCommand::Pull(args) => pull(store, args, json),
        BoxCommand::Import(args) => import(store, args, json),
        BoxCommand::Export {
            name,
            file,
            arch,
            force,
        } => {
            let installed = store.get_for(name, *arch)?;
            let interrupt = signals::take_over()?;
            let mut progress = progress(json);
            if installed.changed.is_some() {
                progress.note(&format!(
                    "the box {name} is exported as it was installed, without what builds with \
                     --no-snapshot have written into it"
                ));
            }
            let written = export::export(
                &installed,
                file,
                if_exists(*force),
                &interrupt,
                &mut progress,
            );
            progress.finish(written.is_ok());
            let written = written?;
            let shown = boxbuild_host::text::shown_path(file);
            let value = json!({
                "event": "exported",
                "file": file.to_string_lossy(),
                "bytes": written.bytes,
                "sha256": written.sha256,
            });
            Ok(Answer {
                takes_long: true,
                ..Answer::new(format!("{}  {shown}\n", written.sha256), value)
            })
        }
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
            let names: Vec<&str> = boxes.iter().map(|found| found.info.name.as_str()).collect();
            Ok(Answer::new(
                format!("{}\n", lock_file.display()),
                json!({ "lock_file": lock_file.to_string_lossy(), "boxes": names }),
            ))
        }
        BoxCommand::Reset { names, arch } => {
            // All of them are there, or none is touched.
            let boxes = names
                .iter()
                .map(|name| store.get_for(name, *arch))
                .collect::<Result<Vec<_>, StoreError>>()?;
            reset(&boxes)
        }
        BoxCommand::Prune { dry_run } => {
            let (text, report) = prune::boxes(*dry_run)?;
            Ok(Answer::new(text, report))
        }
        BoxCommand::Create(args) => create(store, args, json),
    }
}

/// The answer of a command that has made boxes.
fn made(boxes: &[InstalledBox]) -> Answer {
    Answer {
        takes_long: true,
        ..Answer::new(
            boxes.iter().map(describe).collect(),
            boxes.iter().map(document).collect(),
        )
    }
}

fn progress(json: bool) -> Progress {
    if json {
        Progress::events(false)
    } else {
        Progress::new(false)
    }
}

/// `box pull`.
fn pull(store: &Store, args: &PullArgs, json: bool) -> Result<Answer> {
    if args.require_confinement {
        confinement::require()?;
    }
    let interrupt = signals::take_over()?;
    let locked = args.source.locked()?;
    let mut pulled = Vec::new();
    for name in &args.names {
        let mut progress = progress(json);
        let request = PullRequest {
            name,
            arch: args.arch,
            freshness: if args.force {
                Freshness::Again
            } else {
                args.fetch.policy().into()
            },
            locked: locked.as_ref(),
            config: None,
            key: args.source.key()?,
        };
        pulled.push(published::ensure(
            store,
            &request,
            &interrupt,
            &mut progress,
        )?);
    }
    Ok(made(&pulled))
}

/// `box reset`.
fn reset(boxes: &[InstalledBox]) -> Result<Answer> {
    let mut text = String::new();
    let mut rows = Vec::new();
    for installed in boxes {
        let name = &installed.info.name;
        let was_changed = in_place::reset(installed)?;
        text += &if was_changed {
            format!("{name}: as it was installed again\n")
        } else {
            format!("{name}: no build has written into its disk\n")
        };
        rows.push(json!({ "name": name, "was_changed": was_changed }));
    }
    Ok(Answer::new(text, json!({ "boxes": rows })))
}

/// `box import`.
fn import(store: &Store, args: &ImportArgs, json: bool) -> Result<Answer> {
    if args.require_confinement {
        confinement::require()?;
    }
    if let Some(archive) = &args.archive {
        let arch = args.arch.unwrap_or_else(Arch::host);
        let source = ExportedBox::new(args.name.clone(), archive.clone(), arch);
        return install(store, &source, args.force, progress(json));
    }
    let source = ImportedBox::new(args.options()?);
    install(store, &source, args.force, progress(json))
}

/// `box create`.
fn create(store: &Store, args: &CreateArgs, json: bool) -> Result<Answer> {
    let options = CreateOptions {
        name: args.name.clone(),
        from: args.from.clone(),
        arch: args.arch.unwrap_or_else(Arch::host),
        mirror: args.mirror.clone(),
        disk_size: args.disk_size,
        kiwi_version: args.kiwi_version.clone(),
        with: args.with.clone(),
        keyring: args.keyring.clone(),
    };
    let source = source::create::source(&options)?;
    install(store, source.as_ref(), args.force, progress(json))
}

fn if_exists(force: bool) -> IfExists {
    if force {
        IfExists::Replace
    } else {
        IfExists::Fail
    }
}

/// Makes a box.
fn install(
    store: &Store,
    source: &dyn BoxSource,
    force: bool,
    mut progress: Progress,
) -> Result<Answer> {
    let interrupt = signals::take_over()?;
    let result = source::install(store, source, if_exists(force), &interrupt, &mut progress);
    progress.finish(result.is_ok());
    Ok(made(&[result?]))
}
