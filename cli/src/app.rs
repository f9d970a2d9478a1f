//! The program: from the command line to the exit code.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};

use boxbuild_host::arch::Arch;
use crate::args::{self, BenchArgs, BuildOptions, Command, CreateArgs};
use crate::commands::batch::{self, BatchError};
use crate::commands::bench::{self, BenchError};
use boxbuild_core::boot_history::{BootMemory, Known};
use crate::args::boxes::BoxCommand;
use crate::commands::boxes;
use boxbuild_core::run::{self, Attempt, Outcome, Run, Runner};
use boxbuild_boxes::catalog::CatalogError;
use boxbuild_engine::podman::{self, ContainerError, Podman};
use boxbuild_boxes::source::debian::{self, CommandError, CreateError, CreateOptions};
use crate::commands::doctor;
use boxbuild_engine::{self, Unusable};
use boxbuild_boxes::fetch::SignatureError;
use crate::commands::generate;
use boxbuild_boxes::source::import::ImportError;
use boxbuild_host::interrupt::Interrupt;
use crate::output::json;
use boxbuild_core::failed_builds::{KeptError, commands as kept};
use boxbuild_boxes::lock_file::LockError;
use boxbuild_core::plan::{Boot, BootChoice, Chosen, Folders, Plan, PlanError};
use crate::output::progress::Progress;
use boxbuild_boxes::source::published::{self, PullError};
use crate::output::report;
use boxbuild_core::ssh::Ssh;
use boxbuild_boxes::store::{InstalledBox, Store, StoreError};
use crate::output::timings;

/// Exit codes, as documented in `--help`.
pub(crate) mod code {
    pub(crate) const GOOD: u8 = 0;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const HOST: u8 = 3;
    pub(crate) const TIMEOUT: u8 = 124;
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// Carries out a command line (without the program's name) and returns the exit code.
pub(crate) fn run(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let wants_json = args::wants_json(argv.clone());
    let invocation = match args::parse(argv) {
        Ok(invocation) => invocation,
        Err(error) if wants_json && error.use_stderr() => {
            json::error(&error.to_string(), &[]);
            json::exit(code::USAGE);
            return code::USAGE;
        }
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                code::USAGE
            } else {
                code::GOOD
            };
        }
    };
    let result = match &invocation.cli.command {
        Some(Command::Box(command)) => run_box_command(command),
        Some(Command::Doctor) => run_doctor(),
        Some(Command::Batch(args)) => batch::run(args),
        Some(Command::Bench(args)) => run_bench(args),
        Some(Command::Builds { json }) => kept::builds(*json).and_then(|text| said(&text)),
        Some(Command::Logs(args)) => kept::logs(args).map(|()| code::GOOD),
        Some(Command::Shell(args)) => kept::shell(args),
        Some(Command::Generate { what, dir }) => generate::generate(*what, dir)
            .with_context(|| format!("cannot write into {}", dir.display()))
            .map(|_| code::GOOD),
        Some(Command::Prune { ids }) => kept::prune(ids).and_then(|text| said(&text)),
        None if invocation.cli.build.peer.list_boxes => {
            run_box_command(&BoxCommand::List { json: false })
        }
        None => run_build(&invocation.cli.build, invocation.build_args.as_deref()),
    };
    let is_build = invocation.cli.command.is_none();
    let options = &invocation.cli.build;
    let events = is_build && options.json;
    let code = result.unwrap_or_else(|error| {
        if events {
            let causes: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
            json::error(&error.to_string(), &causes);
        } else {
            complain(&error);
        }
        exit_code(&error)
    });
    // A plan is one object.
    if events && (code != code::GOOD || !options.dry_run) {
        json::exit(code);
    }
    code
}

/// Prints an error with its causes, one line each.
fn complain(error: &anyhow::Error) {
    let mut stderr = anstream::stderr();
    let _ = writeln!(stderr, "boxbuild: {error}");
    for cause in error.chain().skip(1) {
        let _ = writeln!(stderr, "  because: {cause}");
    }
}

pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<BatchError>() {
        return error.code();
    }
    let usage = error.is::<PlanError>()
        || matches!(
            error.downcast_ref(),
            Some(KeptError::Unknown { .. } | KeptError::Nothing)
        )
        || matches!(
            error.downcast_ref(),
            Some(StoreError::Unknown { .. } | StoreError::BadName(_) | StoreError::Exists(_))
        )
        || matches!(
            error.downcast_ref(),
            Some(
                CreateError::Option(_)
                    | CreateError::Store(StoreError::BadName(_) | StoreError::Exists(_))
            )
        );
    let pulling: Option<&PullError> = error.downcast_ref();
    let benching: Option<&BenchError> = error.downcast_ref();
    let importing: Option<&ImportError> = error.downcast_ref();
    let usage = usage
        || benching.is_some_and(BenchError::is_usage)
        || importing.is_some_and(ImportError::is_usage)
        || pulling.is_some_and(PullError::is_usage)
        || error.is::<CatalogError>()
        || error.is::<LockError>()
        || error.is::<SignatureError>();
    let interrupted = pulling.is_some_and(PullError::is_interrupt)
        || importing.is_some_and(ImportError::is_interrupt)
        || matches!(
            error.downcast_ref(),
            Some(CreateError::Command(CommandError::Interrupted))
        )
        || matches!(error.downcast_ref(), Some(ContainerError::Interrupted));
    if interrupted {
        code::INTERRUPTED
    } else if usage {
        code::USAGE
    } else {
        code::HOST
    }
}

fn run_box_command(command: &BoxCommand) -> Result<u8> {
    let store = Store::of_user()?;
    match command {
        BoxCommand::Create(args) => create_box(&store, args)?,
        other => print_text(&boxes::run(&store, other)?)?,
    }
    Ok(code::GOOD)
}

fn run_bench(args: &BenchArgs) -> Result<u8> {
    let interrupt = Interrupt::install().context("cannot take over signals")?;
    let mut progress = Progress::new(false);
    let mut report = bench::Report::new();
    let installed = Store::of_user()?.names()?.into_iter().next();
    match args.boot_box.clone().or(installed) {
        Some(name) => {
            let engine = &args.boot_engine;
            let boot = bench::boot(&mut report, &name, engine, &interrupt, &mut progress);
            match boot {
                // A box that was not asked for must not take the other figures away.
                Err(error) if args.boot_box.is_none() => {
                    report
                        .skipped
                        .push(format!("boot of the box {name}: {error}"));
                }
                boot => boot?,
            }
        }
        None => report.skipped.push(String::from(
            "boot: no box is installed (boxbuild box create debian --from debian:trixie)",
        )),
    }
    let mut shown = "";
    bench::devices(&mut report, args.time, &interrupt, |part| {
        if part != shown {
            shown = part;
            progress.begin(part);
        }
    });
    progress.finish(interrupt.count() == 0);
    if interrupt.count() > 0 {
        return Ok(code::INTERRUPTED);
    }
    if args.json {
        let json = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
        print_text(&format!("{json}\n"))?;
    } else {
        print_text(&report.table())?;
    }
    Ok(code::GOOD)
}

fn run_doctor() -> Result<u8> {
    let findings = doctor::examine();
    print_text(&doctor::report(&findings))?;
    Ok(if doctor::can_build(&findings) {
        code::GOOD
    } else {
        code::HOST
    })
}

fn create_box(store: &Store, args: &CreateArgs) -> Result<()> {
    let interrupt = Interrupt::install().context("cannot take over signals")?;
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
    let result = create::create(store, &options, &interrupt, &mut |step| {
        progress.begin(step);
    });
    progress.finish(result.is_ok());
    print_text(&boxes::describe(&result?))
}

fn said(text: &str) -> Result<u8> {
    print_text(text).map(|()| code::GOOD)
}

/// Prints to standard output. A reader that has gone away (`| head`) is no error.
pub(crate) fn print_text(text: &str) -> Result<()> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// What a build's command line says, for a box that can be booted in more than one way.
struct Decided<'a> {
    options: &'a BuildOptions,
    folders: Folders,
    installed: InstalledBox,
    choice: BootChoice,
}

impl Decided<'_> {
    /// With a box that `find` hands over, when everything else is found to be right.
    fn new<'a>(
        options: &'a BuildOptions,
        build_args: Option<&[OsString]>,
        find: impl FnOnce(&Store, &str) -> Result<InstalledBox>,
    ) -> Result<Decided<'a>> {
        let kiwi_file = options.kiwi.kiwi_file.as_deref().map(Path::new);
        let folders = Folders::check(build_args, kiwi_file)?;
        let name = options.box_name.as_deref().unwrap_or_default();
        let installed = find(&Store::of_user()?, name)?;
        let choice = BootChoice::new(&options.boot, &installed.info)?;
        Ok(Decided {
            options,
            folders,
            installed,
            choice,
        })
    }

    /// With the box as it is now, or would be fetched.
    fn untouched<'a>(
        options: &'a BuildOptions,
        build_args: Option<&[OsString]>,
    ) -> Result<Decided<'a>> {
        Decided::new(options, build_args, |store, name| {
            Ok(match pull::preview(store, name, options.arch())? {
                Some(preview) => preview,
                None => store.get_for(name, options.arch())?,
            })
        })
    }

    /// The plan for a box that is booted like this.
    fn plan(&self, boot: Boot) -> Result<Plan, PlanError> {
        Plan::new(
            self.options,
            self.folders.clone(),
            self.installed.clone(),
            boot,
        )
    }
}

/// Decides on everything that a build's command line leaves open. Touches nothing.
pub(crate) fn decide(options: &BuildOptions, build_args: Option<&[OsString]>) -> Result<Plan> {
    let decided = Decided::untouched(options, build_args)?;
    Ok(decided.plan(decided.choice.first())?)
}

fn run_build(options: &BuildOptions, build_args: Option<&[OsString]>) -> Result<u8> {
    // First of all: from here on, an interruption is an orderly end.
    let interrupt = Interrupt::install().context("cannot take over signals")?;
    let decided = if options.dry_run {
        Decided::untouched(options, build_args)?
    } else {
        Decided::new(options, build_args, |store, name| {
            // Before anything is fetched; the build takes the port for itself.
            if let Some(ssh) = Ssh::wanted(options).map_err(PlanError::Option)? {
                ssh.listen()?;
            }
            fetch_box(store, name, options, &interrupt)
        })?
    };
    let choice = decided.choice;
    let mut plan = decided.plan(choice.first())?;
    if let Some(mode) = plan.container {
        return run_container(&plan, mode, options, &interrupt);
    }
    let name = options.box_name.as_deref().unwrap_or_default();
    let alternative = format!("is a container: boxbuild --container --box {name} -- …");
    let selected =
        engine::select(&plan.engine, plan.installed.info.arch).map_err(|Unusable(reasons)| {
            if plan.engine == "auto" {
                Unusable(format!(
                    "{reasons}\n  without any of them, though hardly isolated, {alternative}"
                ))
            } else {
                Unusable(reasons)
            }
        })?;
    let engine = selected.engine.as_ref();
    let memory = BootMemory::of(&plan.installed.info, engine.name());
    if let (BootChoice::FastFirst, Some(Known::Unfit(reason))) = (choice, memory.recall()) {
        // What cannot be said to the box's own init is worth another try.
        if let Ok(mut compat) = decided.plan(Boot::Compat) {
            compat.notes.push(format!(
                "booting the box {name} by its own init: {reason} (remembered from an earlier \
                 build; --boot fast tries again)"
            ));
            plan = compat;
        }
    }
    if options.dry_run {
        let cmdline = build::guest_cmdline(&plan, engine.processor())
            .context("the box cannot be told what to build")?;
        return say_plan(
            options,
            &plan,
            &Chosen {
                engine: engine.name().to_owned(),
                why: selected.why.clone(),
                cmdline: Some(cmdline),
            },
        );
    }
    let mut progress = begin(options, &plan);
    if let Some(reason) = &selected.passed_over {
        progress.note(&format!(
            "using {}, which is slower ({reason})\n  fast without KVM, though hardly isolated, \
             {alternative}",
            engine.name()
        ));
    }
    let runner = Runner::Machine(engine);
    let attempt = if plan.boot == Boot::Fast && choice == BootChoice::FastFirst {
        Attempt::First
    } else {
        Attempt::Last
    };
    let run = build::run(&plan, runner, attempt, &interrupt, &mut progress)?;
    let Some(reason) = run.boot_failure().filter(|_| plan.boot == Boot::Fast) else {
        if plan.boot == Boot::Fast && run.came_up {
            memory.keep(&Known::Fast);
        }
        return conclude(&run, &plan, runner, &progress);
    };
    if choice != BootChoice::FastFirst {
        return conclude(&run, &plan, runner, &progress);
    }
    let memorable = reason.is_worth_remembering();
    let reason = reason.to_string();
    let compat = match decided.plan(Boot::Compat) {
        Ok(compat) => compat,
        Err(error) => {
            let code = conclude(&run, &plan, runner, &progress)?;
            complain(&anyhow::Error::from(error).context(
                "and what this build needs cannot be had in a box that is booted by its own init",
            ));
            return Ok(code);
        }
    };
    progress.note(&format!("booting the box {name} by its own init: {reason}"));
    for note in compat
        .notes
        .iter()
        .filter(|note| !plan.notes.contains(note))
    {
        progress.note(note);
    }
    let run = build::run(&compat, runner, Attempt::Last, &interrupt, &mut progress)?;
    if memorable && run.came_up && memory.recall() != Some(Known::Fast) {
        memory.keep(&Known::Unfit(reason));
    }
    conclude(&run, &compat, runner, &progress)
}

/// The box, fetched or updated where that is necessary.
fn fetch_box(
    store: &Store,
    name: &str,
    options: &BuildOptions,
    interrupt: &Interrupt,
) -> Result<InstalledBox> {
    let source = &options.source;
    let locked = source.locked()?;
    let request = pull::Request {
        name,
        arch: options.arch(),
        freshness: options.fetch.policy().into(),
        locked: locked.as_ref(),
        key: source.key()?,
    };
    let mut progress = progress(options, options.verbose);
    Ok(pull::ensure(store, &request, interrupt, &mut progress)?)
}

/// Carries out `--dry-run`.
fn say_plan(options: &BuildOptions, plan: &Plan, chosen: &Chosen) -> Result<u8> {
    if options.json {
        let text = serde_json::to_string_pretty(&plan.to_json(chosen))?;
        return said(&(text + "\n"));
    }
    said(&format!(
        "{}engine       {} ({})\n",
        plan.describe(),
        chosen.engine,
        chosen.why
    ))
}

/// For people or for programs.
fn progress(options: &BuildOptions, verbose: bool) -> Progress {
    if options.json {
        Progress::json(verbose)
    } else {
        Progress::new(verbose)
    }
}

/// Progress of a build; it begins with what the user should know of the options.
fn begin(options: &BuildOptions, plan: &Plan) -> Progress {
    let mut progress = progress(options, options.verbose || options.kiwi.log_to_stdout());
    for note in &plan.notes {
        progress.note(note);
    }
    progress
}

fn run_container(
    plan: &Plan,
    mode: container::Mode,
    options: &BuildOptions,
    interrupt: &Interrupt,
) -> Result<u8> {
    let mut podman = Podman::find(mode, plan.installed.info.arch, &plan.image_types)?;
    if options.dry_run {
        return say_plan(
            options,
            plan,
            &Chosen {
                engine: podman.describe(),
                why: String::from("asked for (--container)"),
                cmdline: None,
            },
        );
    }
    let mut progress = begin(options, plan);
    if options.box_memory.is_some() || options.box_smp_cpus.is_some() {
        progress.note("a container uses the host's memory and processors as they are");
    }
    let prepared = podman.prepare(plan, interrupt, &mut progress);
    progress.finish(prepared.is_ok());
    prepared?;
    carry_out(plan, Runner::Container(&podman), interrupt, &mut progress)
}

fn carry_out(
    plan: &Plan,
    runner: Runner<'_>,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<u8> {
    let run = build::run(plan, runner, Attempt::Last, interrupt, progress)?;
    conclude(&run, plan, runner, progress)
}

/// Says how a build went; returns the exit code.
fn conclude(run: &Run, plan: &Plan, runner: Runner<'_>, progress: &Progress) -> Result<u8> {
    if let Some(copy) = &plan.copy_log_to {
        copy_log(&plan.target_dir.join("result.log"), copy)?;
    }
    let result = match &run.outcome {
        Outcome::Built(files) => {
            let files = report::look_at(files)?;
            if progress.is_json() {
                report::built_json(run, &files);
            } else {
                print_text(&report::built(run, &files))?;
            }
            Ok(code::GOOD)
        }
        Outcome::Failed(failure) => {
            if progress.is_json() {
                report::failed_json(run, failure);
            } else {
                report::failed(failure, plan);
            }
            Ok(failure.reason.exit_code())
        }
    };
    if let Some(format) = plan.timings {
        let facts = facts(plan, runner, run);
        let text = timings::show(format, &facts, &run.timeline, &plan.target_dir)?;
        let _ = anstream::stderr().write_all(text.as_bytes());
    }
    result
}

/// What the run was, for `--timings`.
fn facts(plan: &Plan, runner: Runner<'_>, run: &Run) -> timings::Facts {
    let engine = match runner {
        Runner::Machine(engine) => engine.name(),
        Runner::Container(_) => "podman",
    };
    let (good, outcome) = match &run.outcome {
        Outcome::Built(_) => (true, String::from("built")),
        Outcome::Failed(failure) => (false, failure.reason.to_string()),
    };
    timings::Facts {
        name: plan.installed.info.name.clone(),
        engine: engine.to_owned(),
        description: plan.description.display().to_string(),
        outcome,
        good,
        peak_memory: run.peak_memory,
        machine: (plan.memory_mib << 20, plan.cpus),
    }
}

/// Carries out `--logfile`. A build that ended before kiwi began has no log.
fn copy_log(log: &Path, copy: &Path) -> Result<()> {
    if !log.exists() {
        return Ok(());
    }
    fs::copy(log, copy)
        .map(|_| ())
        .with_context(|| format!("cannot copy the log to {} (--logfile)", copy.display()))
}
