//! The deep look: kiwi's own checks, in the box.

use std::ffi::OsString;
use std::io::Read;

use boxbuild_boxes::source::published;
use boxbuild_boxes::store::{BoxInfo, Store};
use boxbuild_core::boot::{Boot, RunsAs};
use boxbuild_core::boot_history::BootHistory;
use boxbuild_core::held_folders::HeldFolders;
use boxbuild_core::host_facts::HostFacts;
use boxbuild_core::plan::{Folders, Plan};
use boxbuild_core::request::BuildRequest;
use boxbuild_core::resolve::{Resolved, container_image};
use boxbuild_core::run::{self, Attempt, Outcome, Run, Runner};
use boxbuild_description::{Description, Finding, NeedKind, Place};
use boxbuild_engine::podman::Podman;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::untrusted::Dir;
use serde::Deserialize;

use crate::args::CheckArgs;
use crate::commands::build;
use crate::exit_code::{ExitCode, Failure, HostContext, Result};
use crate::output::progress::Progress;

/// The file that the box leaves (`firmware/guest/check.py`).
const FOUND: &str = "check.json";
/// Longest such file, in bytes: some thousand findings.
const LONGEST: u64 = 4 << 20;
/// Most findings that are taken from it.
const MOST: usize = 1_000;

/// What a box found.
pub(super) struct Found {
    pub(super) findings: Vec<Finding>,
    /// The box looked at all that it looks at.
    pub(super) came_to_an_end: bool,
}

/// A finding as the box reports it.
#[derive(Deserialize)]
struct Reported {
    severity: String,
    text: String,
    line: Option<u32>,
}

/// Looks at the description of `request` in its box.
pub(super) fn look(
    args: &CheckArgs,
    request: &BuildRequest,
    interrupt: &Interrupt,
    description: Option<&Description>,
) -> Result<Found> {
    let host = HostFacts::of_process();
    let folders = Folders::check(request)?;
    let mut progress = Progress::new(args.verbose);
    let store = Store::of_user()?;
    let locked = args.source.locked()?;
    let pull = published::PullRequest {
        name: &request.box_name,
        arch: request.arch,
        freshness: request.fetch.into(),
        locked: locked.as_ref(),
        config: request.kiwi.config.as_deref(),
        key: args.source.key()?,
    };
    let installed = published::ensure(&store, &pull, interrupt, &mut progress)?;
    let resolved = Resolved::with_box(request, &host, folders, installed)?;
    let mut plan = resolved.plan(resolved.choice().first())?;
    plan.environment
        .extend(programs(description, request, &plan.installed.info));
    // The notes of the plan are findings here, those of the host's look among them.
    let mut found = Found {
        findings: Vec::new(),
        came_to_an_end: false,
    };
    let info = &plan.installed.info.clone();
    let run = match plan.runs_as {
        RunsAs::Container(mode) => {
            let mut podman = Podman::find(mode, info.arch, None)?;
            let prepared = podman.prepare(&container_image(&plan)?, interrupt, &mut progress);
            progress.finish(prepared.is_ok());
            prepared?;
            carry_out(&plan, Runner::Container(&podman), interrupt, &mut progress)?
        }
        RunsAs::Machine(Boot::Fast) => {
            let selected = boxbuild_engine::select(plan.engine, info.arch)?;
            let engine = selected.engine.as_ref();
            let level = BootHistory::of(info, engine.name()).cpu_level();
            plan = plan.with_processor(engine.processor());
            plan.cpu_level = level;
            carry_out(&plan, Runner::Machine(engine), interrupt, &mut progress)?
        }
        RunsAs::Machine(Boot::Compat) => {
            let error = anyhow::anyhow!(
                "the box {} is booted by its own init, which only builds: check the description in a \
                 box of 'boxbuild box create', or without --box",
                info.name
            );
            return Err(Failure::new(ExitCode::USAGE, error));
        }
    };
    let place = Place::file(description.map_or_else(
        || request.build.description.to_str().unwrap_or("description"),
        Description::file,
    ));
    if let Some(description) = description {
        let of_box = boxbuild_core::plan::inspected::for_box(description, request, &plan.installed);
        found.findings.extend(of_box);
    }
    conclude(&run, &plan, &place, &mut found)?;
    Ok(found)
}

/// Names the programs that the type needs to a box that does not say what it has.
fn programs(
    description: Option<&Description>,
    request: &BuildRequest,
    info: &BoxInfo,
) -> Option<(String, OsString)> {
    let description = description.filter(|_| info.inventory.is_none())?;
    let needs = boxbuild_core::plan::inspected::needs(description, request, info);
    let listed: Vec<_> = needs
        .iter()
        .filter(|need| need.kind == NeedKind::Program)
        .map(|need| (need.any_of, &need.what_for, need.package()))
        .collect();
    let text = serde_json::to_string(&listed).ok()?;
    Some((String::from("BOXBUILD_CHECK_PROGRAMS"), text.into()))
}

fn carry_out(
    plan: &Plan,
    runner: Runner<'_>,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Run> {
    let stop = StopCheck::new(interrupt, None);
    let _watchdog = build::watch(stop, runner, false)?;
    let folders = HeldFolders::take(plan)?;
    Ok(run::run(
        plan,
        &folders,
        runner,
        Attempt::Last,
        interrupt,
        progress,
    )?)
}

/// Adds what the box reported.
fn conclude(run: &Run, plan: &Plan, place: &Place, found: &mut Found) -> Result<()> {
    match &run.outcome {
        Outcome::Failed(failure) => {
            let code = ExitCode::from(failure.reason.exit());
            if code != ExitCode::BUILD_FAILED {
                let error = anyhow::anyhow!("{}", failure.reason);
                return Err(Failure::new(code, error));
            }
            found
                .findings
                .push(Finding::error(place, failure.reason.to_string()));
            let lines = failure.last_lines.iter();
            found
                .findings
                .extend(lines.map(|line| Finding::error(place, line)));
        }
        Outcome::Built(_) => {
            let reported = read(plan).host_context(|| "cannot read what the box found")?;
            found.came_to_an_end = true;
            found
                .findings
                .extend(reported.into_iter().take(MOST).map(|one| {
                    let place = Place {
                        line: one.line.unwrap_or(0),
                        ..place.clone()
                    };
                    match one.severity.as_str() {
                        "error" => Finding::error(&place, one.text),
                        _ => Finding::note(&place, one.text),
                    }
                }));
        }
    }
    Ok(())
}

/// Reads the file that the box left.
fn read(plan: &Plan) -> std::io::Result<Vec<Reported>> {
    let folder = Dir::open(&plan.target_dir)?;
    let mut text = String::new();
    folder
        .file(FOUND.as_ref())?
        .take(LONGEST)
        .read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(std::io::Error::from)
}
