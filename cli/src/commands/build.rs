//! A build: from the request to the report on its results.

use std::time::Duration;

use boxbuild_boxes::source::published;
use boxbuild_boxes::store::{InstalledBox, Store};
use boxbuild_core::boot::{Boot, RunsAs};
use boxbuild_core::boot_history::{BootHistory, BootOutcome};
use boxbuild_core::held_folders::HeldFolders;
use boxbuild_core::host_facts::HostFacts;
use boxbuild_core::log_copy::LogCopy;
use boxbuild_core::plan::{BootChoice, Folders, Plan, PlanReport, ResolvedEngine};
use boxbuild_core::request::BuildRequest;
use boxbuild_core::resolve::{ResolveError, Resolved, container_image};
use boxbuild_core::run::{self, Attempt, Outcome, Run, Runner};
use boxbuild_core::ssh::Ssh;
use boxbuild_engine::podman::{Mode, Podman};
use boxbuild_engine::{EngineChoice, Selected, Unusable};
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::watchdog::Watchdog;

use super::forced_end::{GRACE, forced_end};
use super::{confinement, signals};
use crate::args::{BuildOptions, Invocation};
use crate::exit_code::{ExitCode, Failure, HostContext, Result};
use crate::output::event::BuildEvent;
use crate::output::json::{emit, emit_exit, emit_failure, print_document};
use crate::output::print::{print_failure, print_line, print_text};
use crate::output::progress::Progress;
use crate::output::report::{print_report, report};
use crate::output::timings;

/// How long a container may take to end after a request to stop.
const GRACE_OF_CONTAINER: Duration = Duration::from_secs(45);

/// Runs a build, or shows its plan.
pub(super) fn run(invocation: &Invocation) -> ExitCode {
    let options = &invocation.cli.build;
    let code = carry_out(invocation).unwrap_or_else(|failure| {
        if options.json {
            emit_failure(&failure);
        } else {
            print_failure(&failure);
        }
        failure.code()
    });
    // A plan is one object, without events.
    if options.json && (code != ExitCode::SUCCESS || !options.dry_run) {
        emit_exit(code);
    }
    code
}

fn carry_out(invocation: &Invocation) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    let options = &invocation.cli.build;
    let request = invocation.request()?;
    let host = HostFacts::of_process();
    let build = Build {
        options,
        interrupt: &interrupt,
    };
    if options.require_confinement {
        confinement::require()?;
    }
    if options.dry_run {
        let _looking = look_out(&interrupt, options.json)?;
        return build.run(&Resolved::preview(&request, &host)?);
    }
    // Folders may be on a file system whose server is gone: nothing but the end of the process ends
    // a call that waits for it.
    let looking = look_out(&interrupt, options.json)?;
    // What can be refused is refused before anything is fetched. If there is no preview, the fetch
    // below either succeeds or fails with an error that says more.
    match Resolved::preview(&request, &host) {
        Ok(preview) => {
            preview.plan(preview.choice().first())?;
        }
        Err(ResolveError::Plan(error)) => return Err(error.into()),
        Err(ResolveError::Store(_) | ResolveError::Pull(_)) => {}
    }
    let folders = Folders::check(&request)?;
    drop(looking);
    let ssh = Ssh::wanted(&request, &host)
        .map_err(|text| Failure::new(ExitCode::USAGE, anyhow::Error::msg(text)))?;
    if let Some(ssh) = ssh {
        // Only a check: the build opens the port again.
        ssh.listen()?;
    }
    let installed = build.fetch_box(&request)?;
    build.run(&Resolved::with_box(&request, &host, folders, installed)?)
}

/// A build with the options of its command line.
struct Build<'a> {
    options: &'a BuildOptions,
    interrupt: &'a Interrupt,
}

impl Build<'_> {
    fn run(&self, resolved: &Resolved<'_>) -> Result<ExitCode> {
        let plan = resolved.plan(resolved.choice().first())?;
        match plan.runs_as {
            RunsAs::Container(mode) => self.run_container(&plan, mode),
            RunsAs::Machine(_) => self.run_machine(resolved, plan),
        }
    }

    /// Returns the box; fetches or updates it if necessary.
    fn fetch_box(&self, request: &BuildRequest) -> Result<InstalledBox> {
        let source = &self.options.source;
        let locked = source.locked()?;
        let store = Store::of_user()?;
        let pull = published::PullRequest {
            name: &request.box_name,
            arch: request.arch,
            freshness: request.fetch.into(),
            locked: locked.as_ref(),
            config: request.kiwi.config.as_deref(),
            key: source.key()?,
        };
        let mut progress = self.progress(self.options.verbose);
        Ok(published::ensure(
            &store,
            &pull,
            self.interrupt,
            &mut progress,
        )?)
    }

    fn progress(&self, verbose: bool) -> Progress {
        if self.options.json {
            Progress::events(verbose)
        } else {
            Progress::new(verbose)
        }
    }

    /// Returns the progress of a build, after the notes of its plan.
    fn begin(&self, plan: &Plan) -> Progress {
        let verbose = self.options.verbose || self.options.kiwi.log_to_stdout();
        let mut progress = self.progress(verbose);
        for note in &plan.notes {
            progress.note(note);
        }
        progress
    }

    fn run_container(&self, plan: &Plan, mode: Mode) -> Result<ExitCode> {
        let info = &plan.installed.info;
        let mut podman = Podman::find(mode, info.arch, plan.image_types.with_loop_devices())?;
        plan.kernel_needs.check()?;
        if self.options.dry_run {
            let resolved = ResolvedEngine {
                engine: podman.describe(),
                why: String::from("asked for (--container)"),
                cmdline: None,
            };
            return self.show_plan(plan, &resolved);
        }
        let mut progress = self.begin(plan);
        if self.options.box_memory.is_some() || self.options.box_smp_cpus.is_some() {
            progress.note("a container uses the host's memory and processors as they are");
        }
        let image = container_image(plan)?;
        let prepared = podman.prepare(&image, self.interrupt, &mut progress);
        progress.finish(prepared.is_ok());
        prepared?;
        let build = Attempts::begin(self, plan, Runner::Container(&podman))?;
        let run = build.attempt(plan, Attempt::Last, &mut progress)?;
        build.conclude(&run, plan, &progress)
    }

    fn run_machine(&self, resolved: &Resolved<'_>, plan: Plan) -> Result<ExitCode> {
        let selected = self.select(&plan)?;
        let engine = selected.engine.as_ref();
        let history = BootHistory::of(&plan.installed.info, engine.name());
        let plan = remembered(resolved, &history).unwrap_or(plan);
        if self.options.dry_run {
            let cmdline = run::guest_cmdline(&plan, engine.processor())
                .host_context(|| "the box cannot be told what to build")?;
            let resolved = ResolvedEngine {
                engine: engine.name().to_owned(),
                why: selected.why.clone(),
                cmdline: Some(cmdline),
            };
            return self.show_plan(&plan, &resolved);
        }
        let mut progress = self.begin(&plan);
        if let Some(reason) = &selected.passed_over {
            progress.note(&format!(
                "using {}, which is slower ({reason})\n  a container is faster here, but hardly \
                 isolated: {}",
                engine.name(),
                self.container_command()
            ));
        }
        let build = Attempts::begin(self, &plan, Runner::Machine(engine))?;
        if plan.boot() == Some(Boot::Fast) && resolved.choice() == BootChoice::FastFirst {
            return build.run_fast_first(resolved, &plan, &history, &mut progress);
        }
        let run = build.attempt(&plan, Attempt::Last, &mut progress)?;
        if plan.boot() == Some(Boot::Fast) {
            remember_fast(&run, &history);
        }
        build.conclude(&run, &plan, &progress)
    }

    /// Selects the engine for `plan`.
    fn select(&self, plan: &Plan) -> Result<Selected> {
        boxbuild_engine::select(plan.engine, plan.installed.info.arch).map_err(
            |Unusable(reasons)| {
                let text = if plan.engine == EngineChoice::Auto {
                    format!(
                        "{reasons}\n  a container needs none of them, but is hardly isolated: {}",
                        self.container_command()
                    )
                } else {
                    reasons
                };
                Unusable(text).into()
            },
        )
    }

    /// Returns the command line for this build in a container.
    fn container_command(&self) -> String {
        let name = self.options.box_name.as_deref().unwrap_or_default();
        format!("boxbuild --container --box {name} -- …")
    }

    /// Carries out `--dry-run`.
    fn show_plan(&self, plan: &Plan, engine: &ResolvedEngine) -> Result<ExitCode> {
        if self.options.json {
            print_document(&PlanReport::new(plan, engine))?;
        } else {
            print_text(&format!(
                "{}engine       {} ({})\n",
                plan.describe(),
                engine.engine,
                engine.why
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The attempts at one build: the same target folder, and the same place for the log, whatever the
/// guest of the first one does to the folders above them.
struct Attempts<'a> {
    build: &'a Build<'a>,
    runner: Runner<'a>,
    folders: HeldFolders,
    log_copy: Option<LogCopy>,
    /// Ends the process if a request to stop does not.
    _watchdog: Watchdog,
}

impl<'a> Attempts<'a> {
    /// Takes the target folder.
    fn begin(build: &'a Build<'a>, plan: &Plan, runner: Runner<'a>) -> Result<Attempts<'a>> {
        let stop = StopCheck::new(build.interrupt, None);
        let watchdog = watchdog(build, runner, stop)?;
        let folders = HeldFolders::take(plan)?;
        let find = |path: &std::path::PathBuf| LogCopy::find(path, folders.target());
        Ok(Attempts {
            log_copy: plan.copy_log_to.as_ref().map(find).transpose()?,
            build,
            runner,
            folders,
            _watchdog: watchdog,
        })
    }

    fn attempt(&self, plan: &Plan, attempt: Attempt, progress: &mut Progress) -> Result<Run> {
        let interrupt = self.build.interrupt;
        // A user at the console has all the time there is.
        let limit = plan.timeout.filter(|_| !plan.debug);
        let _watchdog = limit
            .map(|limit| {
                // The machine starts a little later.
                let stop = StopCheck::within(interrupt, limit + Duration::from_secs(3));
                watchdog(self.build, self.runner, stop)
            })
            .transpose()?;
        let (folders, runner) = (&self.folders, self.runner);
        Ok(run::run(
            plan, folders, runner, attempt, interrupt, progress,
        )?)
    }

    /// Boots the box fast, and by its own init if that fails.
    fn run_fast_first(
        self,
        resolved: &Resolved<'_>,
        plan: &Plan,
        history: &BootHistory,
        progress: &mut Progress,
    ) -> Result<ExitCode> {
        let run = self.attempt(plan, Attempt::First, progress)?;
        let Some(reason) = run.boot_failure() else {
            remember_fast(&run, history);
            return self.conclude(&run, plan, progress);
        };
        let memorable = reason.is_worth_remembering();
        let reason = reason.to_string();
        let compat = match resolved.plan(Boot::Compat) {
            Ok(compat) => compat,
            Err(error) => {
                let code = self.conclude(&run, plan, progress)?;
                let error = anyhow::Error::new(error).context(
                    "this build needs what a box that is booted by its own init does not have",
                );
                let failure = Failure::new(code, error);
                if progress.is_for_programs() {
                    progress.note(&failure.messages().join(": "));
                } else {
                    print_failure(&failure);
                }
                return Ok(code);
            }
        };
        let name = resolved.box_name();
        progress.note(&format!("booting the box {name} by its own init: {reason}"));
        let known = &plan.notes;
        for note in compat.notes.iter().filter(|note| !known.contains(note)) {
            progress.note(note);
        }
        let run = self.attempt(&compat, Attempt::Last, progress)?;
        if memorable && run.came_up && history.recall() != Some(BootOutcome::Fast) {
            history.keep(&BootOutcome::Unfit(reason));
        }
        self.conclude(&run, &compat, progress)
    }

    /// Reports how a build ended, and returns the exit code.
    fn conclude(self, run: &Run, plan: &Plan, progress: &Progress) -> Result<ExitCode> {
        if let (Some(copy), Some(log)) = (self.log_copy, &run.log) {
            copy.write(log, &StopCheck::new(self.build.interrupt, None))?;
        }
        let result = report(run, plan);
        if progress.is_for_programs() {
            emit(&BuildEvent::Result(result));
        } else {
            print_report(&result)?;
        }
        if let Some(format) = self.build.options.timings {
            let facts = facts(plan, self.runner, run);
            let text = timings::show(format, &facts, &run.timeline, self.folders.target())?;
            print_line(text.trim_end_matches('\n'));
        }
        Ok(match &run.outcome {
            Outcome::Built(_) => ExitCode::SUCCESS,
            Outcome::Failed(failure) => ExitCode::of_run(failure.reason.exit_code()),
        })
    }
}

/// How long a look at the folders of the user may take after a request to stop.
const GRACE_OF_A_LOOK: Duration = Duration::from_secs(1);

/// Starts a watchdog for the time in which nothing has been started yet.
pub(super) fn look_out(interrupt: &Interrupt, json: bool) -> Result<Watchdog> {
    let stop = StopCheck::new(interrupt, None);
    Watchdog::start(stop, GRACE_OF_A_LOOK, move |stopped| {
        forced_end(stopped, json);
    })
    .host_context(|| "cannot start a thread")
}

/// Starts a watchdog for a build. It ends the process in words; what is left behind goes as it does
/// after SIGKILL.
fn watchdog(build: &Build<'_>, runner: Runner<'_>, stop: StopCheck) -> Result<Watchdog> {
    let grace = match runner {
        Runner::Machine(_) => GRACE,
        Runner::Container(_) => GRACE_OF_CONTAINER,
    };
    let json = build.options.json;
    Watchdog::start(stop, grace, move |stopped| forced_end(stopped, json))
        .host_context(|| "cannot start a thread")
}

/// Returns the plan for a compat boot if the box is known not to boot fast.
fn remembered(resolved: &Resolved<'_>, history: &BootHistory) -> Option<Plan> {
    if resolved.choice() != BootChoice::FastFirst {
        return None;
    }
    let Some(BootOutcome::Unfit(reason)) = history.recall() else {
        return None;
    };
    // A build that a compat boot cannot do is worth another try.
    let mut plan = resolved.plan(Boot::Compat).ok()?;
    plan.notes.push(format!(
        "booting the box {} by its own init: {reason} (remembered from an earlier build; --boot \
         fast tries again)",
        resolved.box_name()
    ));
    Some(plan)
}

/// Remembers that the box boots fast, if it did.
fn remember_fast(run: &Run, history: &BootHistory) {
    if run.came_up && run.boot_failure().is_none() {
        history.keep(&BootOutcome::Fast);
    }
}

/// Returns what `--timings` says about the run.
fn facts(plan: &Plan, runner: Runner<'_>, run: &Run) -> timings::Facts {
    let (good, outcome) = match &run.outcome {
        Outcome::Built(_) => (true, String::from("built")),
        Outcome::Failed(failure) => (false, failure.reason.to_string()),
    };
    timings::Facts {
        name: plan.installed.info.name.clone(),
        engine: runner.name().to_owned(),
        description: plan.description.display().to_string(),
        outcome,
        good,
        peak_memory: run.peak_memory,
        machine: (plan.memory_mib << 20, plan.cpus),
    }
}
