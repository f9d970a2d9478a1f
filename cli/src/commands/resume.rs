//! `boxbuild resume`: goes on with a kept build after kiwi's `prepare`.

use std::ffi::OsString;
use std::path::Path;

use boxbuild_boxes::store::Store;
use boxbuild_core::boot::BootStyle;
use boxbuild_core::failed_builds::{Checkpoint, FailedBuild, FailedBuildError, FailedBuilds};
use boxbuild_core::host_facts::HostFacts;
use boxbuild_core::plan::Folders;
use boxbuild_core::request::{BuildRequest, Fetch};
use boxbuild_core::resolve::Resolved;
use boxbuild_engine::{CpuLevel, EngineChoice};
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::text::shown_path;

use super::build::{self, Build};
use super::look::Look;
use super::preflight::{self, Carrier, Carriers, Preflight};
use super::signals;
use crate::args::{self, Invocation, ResumeArgs};
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::settings::Applied;

/// Goes on with a kept build, or shows the plan for that.
pub(super) fn run(args: &ResumeArgs, applied: &Applied) -> ExitCode {
    build::report_end((args.json, args.dry_run), applied, carry_out(args))
}

fn carry_out(args: &ResumeArgs) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    let kept = FailedBuilds::of_user()?.get(args.id.as_deref())?;
    let checkpoint = kept.checkpoint()?;
    let looking = Look::begin(&interrupt, args.json)?;
    let (invocation, box_has) = invocation(args, checkpoint, &kept)?;
    let options = &invocation.cli.build;
    let mut request = request(&invocation, checkpoint, &kept)?;
    request.box_has = box_has;
    let preflight = preflight(&invocation, &request, &kept, &interrupt)?;
    drop(looking);
    let build = Build {
        options,
        interrupt: &interrupt,
    };
    if args.dry_run {
        // What was set is in the words of the build.
        return build.show_plan(&preflight, &Applied::default());
    }
    // As long as the machine runs: the first keeps it from being removed, the second from a second resume.
    let _held = kept.hold()?;
    let _alone = kept.hold_checkpoint()?;
    let Preflight {
        plan,
        carrier,
        history,
    } = preflight;
    match carrier {
        Carrier::Machine(selected) => build.run_plan(plan, selected.engine.as_ref(), history),
        Carrier::Container(_) | Carrier::Elsewhere => Err(not_resumable(
            &kept,
            "it would run in a container, which has no disk of its own",
        )
        .into()),
    }
}

/// The command line of the build, with what is different now, and the packages that the build has installed in its
/// box.
fn invocation(
    args: &ResumeArgs,
    checkpoint: &Checkpoint,
    kept: &FailedBuild,
) -> Result<(Invocation, Vec<String>)> {
    std::env::set_current_dir(&checkpoint.folder).host_context(|| {
        let folder = shown_path(Path::new(&checkpoint.folder));
        format!("{folder}: the build was started in this folder, which cannot be entered")
    })?;
    let words: Vec<OsString> = checkpoint.words.clone();
    let mut invocation = args::parse(words).map_err(|error| {
        let first = error.to_string();
        let first = first.lines().next().unwrap_or_default();
        not_resumable(
            kept,
            &format!("its command line is not one of this boxbuild: {first}"),
        )
    })?;
    let options = &mut invocation.cli.build;
    options.verbose = args.verbose;
    options.json = args.json;
    options.dry_run = args.dry_run;
    options.box_debug = args.box_debug;
    options.timings = None;
    // What is kept now takes no more than what was kept before.
    options.keep_failed = true;
    options.timeout = args.timeout.or(options.timeout);
    options.box_memory = args.box_memory.or(options.box_memory);
    // The disk has what the build itself has installed.
    let installed = std::mem::replace(&mut options.box_packages, checkpoint.box_packages.clone());
    for package in &args.box_packages {
        if !options.box_packages.contains(package) {
            options.box_packages.push(package.clone());
        }
    }
    Ok((invocation, installed))
}

/// The request of the build, for the box and the engine that it had.
fn request(
    invocation: &Invocation,
    checkpoint: &Checkpoint,
    kept: &FailedBuild,
) -> Result<BuildRequest> {
    let record = &kept.record;
    let mut request = invocation.request()?;
    // The disk is as that engine left it.
    request.engine = EngineChoice::named(&record.engine).ok_or_else(|| {
        not_resumable(kept, &format!("the engine {} is not known", record.engine))
    })?;
    request.boot = BootStyle::Fast;
    request.fetch = Fetch::Nothing;
    // As it was recorded: the words of this process are others.
    if let Some(line) = &mut request.command_line {
        line.words.clone_from(&checkpoint.words);
    }
    Ok(request)
}

/// Checks that the build can go on, as far as that can be told.
fn preflight(
    invocation: &Invocation,
    request: &BuildRequest,
    kept: &FailedBuild,
    interrupt: &Interrupt,
) -> Result<Preflight> {
    let options = &invocation.cli.build;
    let host = HostFacts::of_process();
    preflight::check_host(options)?;
    let installed = kept
        .record
        .installed(&kept.folder)
        .map_err(|problem| not_resumable(kept, &problem))?;
    let folders = Folders::check(request)?;
    let resolved = Resolved::with_box(request, &host, folders, installed.clone())?;
    let Preflight {
        plan,
        carrier,
        history,
    } = Preflight::of(options, &resolved, &mut Carriers::default())?;
    let store = Store::of_user()?;
    let stop = StopCheck::new(interrupt, None);
    let mut plan = kept.resume(plan, &installed, store.root(), &stop)?;
    let level = kept
        .record
        .cpu_level
        .as_deref()
        .and_then(CpuLevel::from_name);
    plan.cpu_level = plan.cpu_level.max(level.unwrap_or_default());
    preflight::look(&plan, request, &host)?;
    Ok(Preflight {
        plan,
        carrier,
        history,
    })
}

fn not_resumable(kept: &FailedBuild, reason: &str) -> FailedBuildError {
    FailedBuildError::NotResumable {
        id: kept.record.id.clone(),
        reason: reason.to_owned(),
    }
}
