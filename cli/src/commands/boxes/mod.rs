//! `boxbuild box …`: what is shown and done about boxes.

mod list;
mod verify;

use boxbuild_boxes::source::import::ImportedBox;
use boxbuild_boxes::source::published::{self, Freshness, PullRequest};
use boxbuild_boxes::source::{self, BoxSource, CreateOptions};
use boxbuild_host::arch::Arch;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::units::{date, size};

use crate::args::{BoxCommand, CreateArgs, ImportArgs, PullArgs};
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::print::print_text;
use crate::output::progress::Progress;
use boxbuild_boxes::catalog::Catalog;
use boxbuild_boxes::lock_file::Locked;
use boxbuild_boxes::store::{IfExists, InstalledBox, Store, StoreError};
use boxbuild_host::interrupt::Interrupt;

use list::list;

/// Shows a box that is installed, or a published one.
fn info(store: &Store, name: &str, arch: Option<Arch>) -> Result<String> {
    match store.get_for(name, arch) {
        Ok(installed) => Ok(describe(&installed)),
        Err(error @ StoreError::Unknown { .. }) => {
            let catalog = Catalog::of_user()?;
            let arch = arch.unwrap_or_else(Arch::host);
            let Some((published, variant)) = catalog.get(name, arch) else {
                return Err(error.into());
            };
            let repository = catalog.repository(variant)?;
            let mut text = format!(
                "name         {name}\nstate        published, not on this machine\n\
                 origin       {}\narch         {arch}\ndefaults     {} CPUs, {} MiB memory\n\
                 cmdline      {}\nlist         {}\n",
                variant.source,
                published.cpus,
                published.memory_mib,
                variant.cmdline.join(" "),
                catalog.origin,
            );
            for file in [&variant.kernel_file, &variant.disk_file] {
                text += &format!("  {}\n", repository.file(file));
            }
            if !variant.container.is_empty() {
                text += &format!("  {}\n", variant.container);
            }
            Ok(text)
        }
        Err(error) => Err(error.into()),
    }
}

/// Everything known about an installed box.
fn describe(installed: &InstalledBox) -> String {
    let info = &installed.info;
    let mut text = format!(
        "name         {}\norigin       {}\narch         {}\nKIWI         {}\n\
         defaults     {} CPUs, {} MiB memory\ndisk         {} GiB\nfolder       {}\n",
        info.name,
        info.origin,
        info.arch,
        info.kiwi.as_deref().unwrap_or("unknown"),
        info.cpus,
        info.memory_mib,
        info.disk_size >> 30,
        installed.dir.display(),
    );
    if let Some(changed) = installed.changed {
        text += &format!(
            "changed      {}: builds with --no-snapshot have written into its disk, whose size \
             and sha256 no longer hold\n",
            date(changed)
        );
    }
    for file in info.files() {
        text += &format!(
            "  {:<22} {:>10}  sha256 {}\n",
            file.name,
            size(file.size),
            file.sha256
        );
    }
    if let Some(published) = &info.published {
        text += "fetched from\n";
        for part in [&published.kernel, &published.disk] {
            text += &format!(
                "  {}\n  {:<22} {:>10}  sha256 {}\n",
                part.url,
                "",
                size(part.size),
                part.sha256
            );
        }
    }
    text
}

/// Carries out a command.
pub(crate) fn run(command: &BoxCommand) -> Result<ExitCode> {
    let store = Store::of_user()?;
    print_text(&text_of(&store, command)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Carries out `--list-boxes`.
pub(crate) fn run_list() -> Result<ExitCode> {
    run(&BoxCommand::List { json: false })
}

/// Carries out a command, and returns what is to be printed.
fn text_of(store: &Store, command: &BoxCommand) -> Result<String> {
    match command {
        BoxCommand::List { json } => list(store, *json),
        BoxCommand::Info { name, arch } => info(store, name, *arch),
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
    let interrupt = Interrupt::install().host_context(|| "cannot take over signals")?;
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

/// `box import`.
fn import(store: &Store, args: &ImportArgs) -> Result<String> {
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
    let interrupt = Interrupt::install().host_context(|| "cannot take over signals")?;
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
