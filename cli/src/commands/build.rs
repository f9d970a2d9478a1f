//! A build: from the request to the report on its results.

use std::cell::RefCell;
use std::time::Duration;

use boxbuild_boxes::source::published;
use boxbuild_boxes::store::{InstalledBox, Store};
use boxbuild_core::boot::Boot;
use boxbuild_core::boot_history::{BootHistory, BootOutcome};
use boxbuild_core::build_times::BuildTimes;
use boxbuild_core::held_folders::HeldFolders;
use boxbuild_core::history::{End, Entry, History};
use boxbuild_core::host_facts::HostFacts;
use boxbuild_core::log_copy::LogCopy;
use boxbuild_core::plan::{BootChoice, Folders, Plan, PlanReport};
use boxbuild_core::request::BuildRequest;
use boxbuild_core::resolve::{Resolved, container_image};
use boxbuild_core::run::{self, Attempt, Outcome, Reason, Run, Runner};
use boxbuild_engine::Engine;
use boxbuild_engine::podman::Podman;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::startup::{self, Step};
use boxbuild_host::stop::StopCheck;
use boxbuild_host::watchdog::Watchdog;
use serde::Serialize;

use super::config::{self, Row};
use super::forced_end::{GRACE, forced_end};
use super::look::Look;
use super::preflight::{self, Carrier, Carriers, Preflight, Requirements};
use super::signals;
use crate::args::{BuildOptions, Invocation};
use crate::exit_code::{ExitCode, Failure, HostContext, Result};
use crate::output::event::BuildEvent;
use crate::output::github;
use crate::output::json::{emit, emit_exit, emit_failure_with, print_document};
use crate::output::print::{print_failure, print_line, print_text};
use crate::output::progress::Progress;
use crate::output::report::{print_report, report};
use crate::output::timings;
use crate::settings::Applied;

/// How long a container may take to end after a request to stop.
const GRACE_OF_CONTAINER: Duration = Duration::from_secs(45);

/// Runs a build, or shows its plan.
pub(super) fn run(invocation: &Invocation, applied: &Applied) -> ExitCode {
    let options = &invocation.cli.build;
    report_end(
        (options.json, options.dry_run),
        applied,
        carry_out(invocation, applied),
    )
}

/// Reports how a build, or the plan for one, has ended: in JSON, and without one. Returns the exit code.
pub(super) fn report_end(
    (json, dry_run): (bool, bool),
    applied: &Applied,
    ended: Result<ExitCode>,
) -> ExitCode {
    let code = ended.unwrap_or_else(|failure| {
        let hint = applied.named_in(&failure.messages().join("\n"));
        if json {
            emit_failure_with(&failure, hint);
        } else {
            print_failure(&failure);
            hint.iter().for_each(|hint| print_line(hint));
            github::show_error(&failure.messages().join(": "));
        }
        failure.code()
    });
    // A plan is one object, without events.
    if json && (code != ExitCode::SUCCESS || !dry_run) {
        emit_exit(code);
    }
    code
}

fn carry_out(invocation: &Invocation, applied: &Applied) -> Result<ExitCode> {
    startup::reach(Step::Plan);
    let interrupt = signals::take_over()?;
    let options = &invocation.cli.build;
    // Folders may be on a file system whose server is gone: nothing but the end of the process ends
    // a call that waits for it.
    let looking = Look::begin(&interrupt, options.json)?;
    let request = invocation.request()?;
    let host = HostFacts::of_process();
    let build = Build {
        options,
        interrupt: &interrupt,
    };
    let requirements = Requirements::read(options)?;
    // What can be refused is refused before anything is fetched.
    let mut carriers = Carriers::default();
    let checked = preflight::check(options, &requirements, &request, &host, &mut carriers)?;
    if options.dry_run {
        drop(looking);
        return build.show_plan(&checked, applied);
    }
    carriers.put(checked);
    let folders = Folders::check(&request)?;
    drop(looking);
    // A build takes long: that its record cannot be signed is known before.
    if let Some(attest) = &request.attest
        && let Some(signer) = &attest.signer
    {
        signer.check(attest.asking, &interrupt)?;
    }
    let installed = build.fetch_box(&request, &requirements)?;
    let resolved = Resolved::with_box(&request, &host, folders, installed)?;
    // The box may be another one now.
    let preflight = Preflight::of(options, &resolved, &mut carriers)?;
    match preflight.carrier {
        Carrier::Elsewhere => Err(Failure::new(
            ExitCode::HOST,
            anyhow::Error::msg("no engine of this host was looked for"),
        )),
        Carrier::Container(podman) => build.run_container(&preflight.plan, podman),
        Carrier::Machine(selected) => {
            let (engine, history) = (selected.engine.as_ref(), preflight.history);
            build.run_machine(&resolved, preflight.plan, engine, history)
        }
    }
}

/// The plan for programs, and which settings are in it.
#[derive(Serialize)]
struct Planned<'a> {
    #[serde(flatten)]
    plan: &'a PlanReport<'a>,
    settings: Vec<Row>,
}

/// A build with the options of its command line.
pub(super) struct Build<'a> {
    pub(super) options: &'a BuildOptions,
    pub(super) interrupt: &'a Interrupt,
}

impl Build<'_> {
    /// Returns the box; fetches or updates it if necessary.
    fn fetch_box(
        &self,
        request: &BuildRequest,
        requirements: &Requirements,
    ) -> Result<InstalledBox> {
        let store = Store::of_user()?;
        let pull = requirements.pull(request);
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
        let mut progress = self.progress(self.options.verbose);
        if self.options.kiwi.log_to_stdout() {
            progress.print_log();
        }
        if let Some(path) = self.options.kiwi.log_socket() {
            progress.send_log(path);
        }
        for note in &plan.notes {
            progress.note(note);
        }
        progress
    }

    fn run_container(&self, plan: &Plan, mut podman: Podman) -> Result<ExitCode> {
        let mut progress = self.begin(plan);
        let image = container_image(plan)?;
        let prepared = podman.prepare(&image, self.interrupt, &mut progress);
        progress.finish(prepared.is_ok());
        prepared?;
        let build = Attempts::begin(self, plan, Runner::Container(&podman))?;
        let run = build.attempt(plan, Attempt::Last, &mut progress)?;
        build.conclude(&run, plan, &mut progress)
    }

    fn run_machine(
        &self,
        resolved: &Resolved<'_>,
        mut plan: Plan,
        engine: &dyn Engine,
        history: Option<BootHistory>,
    ) -> Result<ExitCode> {
        if plan.boot() != Some(Boot::Fast) || resolved.choice() != BootChoice::FastFirst {
            return self.run_plan(plan, engine, history);
        }
        let history =
            history.unwrap_or_else(|| BootHistory::of(&plan.installed.info, engine.name()));
        let mut progress = self.begin(&plan);
        let build = Attempts::begin(self, &plan, Runner::Machine(engine))?;
        build.run_fast_first(resolved, &mut plan, &history, &mut progress)
    }

    /// Runs a machine that is booted in one way only.
    pub(super) fn run_plan(
        &self,
        mut plan: Plan,
        engine: &dyn Engine,
        history: Option<BootHistory>,
    ) -> Result<ExitCode> {
        let history =
            history.unwrap_or_else(|| BootHistory::of(&plan.installed.info, engine.name()));
        let mut progress = self.begin(&plan);
        let build = Attempts::begin(self, &plan, Runner::Machine(engine))?;
        build.run_once(&mut plan, &history, &mut progress)
    }

    /// Begins the record of the build in the history. A build does not fail because it has none.
    fn entry(&self, plan: &Plan, runner: Runner<'_>) -> Option<Entry> {
        let history = History::of_user().ok()?;
        match history.begin(plan, runner.name()) {
            Ok(entry) => Some(entry),
            Err(error) => {
                self.without_history(&error);
                None
            }
        }
    }

    fn without_history(&self, error: &std::io::Error) {
        self.progress(false).note(&format!(
            "'boxbuild builds' will not have this build: its record cannot be written: {error}"
        ));
    }

    /// Carries out `--dry-run`. People see the notes where a build shows them.
    pub(super) fn show_plan(&self, preflight: &Preflight, applied: &Applied) -> Result<ExitCode> {
        let plan = &preflight.plan;
        let engine = preflight.engine()?;
        if self.options.json {
            print_document(&Planned {
                plan: &PlanReport::new(plan, &engine),
                settings: applied.used.iter().map(Row::of).collect(),
            })?;
        } else {
            let mut progress = self.progress(false);
            plan.notes.iter().for_each(|note| progress.note(note));
            print_text(&format!(
                "{}engine       {} ({})\n{}",
                plan.describe(),
                engine.engine,
                engine.why,
                config::in_plan(&applied.used),
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
    /// Its place in the history, until it has ended.
    entry: RefCell<Option<Entry>>,
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
        let log_copy = plan.copy_log_to.as_ref().map(find).transpose()?;
        Ok(Attempts {
            // The last: a record without an end is that of a build that was killed.
            entry: RefCell::new(build.entry(plan, runner)),
            log_copy,
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
        let times = BuildTimes::of(plan, runner.name());
        // A half of a build says nothing about a whole one.
        let whole = plan.resumes.is_none();
        if whole {
            progress.expect(times.recall());
        }
        let run = run::run(plan, folders, runner, attempt, interrupt, progress);
        let run = run.map_err(|error| {
            let failure = Failure::from(error);
            let message = failure.messages().join(": ");
            self.record(&End::error(&message, failure.code().number()));
            failure
        })?;
        if whole && matches!(run.outcome, Outcome::Built(_)) {
            times.keep(&run.phases);
        }
        Ok(run)
    }

    /// The same, and again on a newer processor if the box turns out to need one.
    fn attempt_raised(
        &self,
        plan: &mut Plan,
        attempt: Attempt,
        history: &BootHistory,
        progress: &mut Progress,
    ) -> Result<Run> {
        let run = self.attempt(plan, attempt, progress)?;
        let Some(level) = run.raise else {
            return Ok(run);
        };
        plan.cpu_level = level;
        let name = &plan.installed.info.name;
        progress.note(&match &run.outcome {
            Outcome::Failed(failure) if matches!(failure.reason, Reason::Lack(_)) => format!(
                "starting again: the programs of the box {name} need a processor of the level {} (this \
                 is remembered)",
                level.name()
            ),
            _ => format!(
                "starting again with a processor of the level {}: the box {name} ended without a word",
                level.name()
            ),
        });
        let run = self.attempt(plan, attempt, progress)?;
        if run.raise.is_none() && run.came_up {
            history.keep_cpu_level(level);
        }
        Ok(run)
    }

    /// Boots the box in one way.
    fn run_once(
        self,
        plan: &mut Plan,
        history: &BootHistory,
        progress: &mut Progress,
    ) -> Result<ExitCode> {
        let run = self.attempt_raised(plan, Attempt::Last, history, progress)?;
        if plan.boot() == Some(Boot::Fast) {
            remember_fast(&run, history);
        }
        self.conclude(&run, plan, progress)
    }

    /// Boots the box fast, and by its own init if that fails.
    fn run_fast_first(
        self,
        resolved: &Resolved<'_>,
        plan: &mut Plan,
        history: &BootHistory,
        progress: &mut Progress,
    ) -> Result<ExitCode> {
        let run = self.attempt_raised(plan, Attempt::First, history, progress)?;
        let Some(reason) = run.boot_failure() else {
            remember_fast(&run, history);
            return self.conclude(&run, plan, progress);
        };
        let memorable = reason.is_worth_remembering();
        let reason = reason.to_string();
        let mut compat = match resolved.plan(Boot::Compat) {
            Ok(compat) => match self.runner {
                Runner::Machine(engine) => compat.with_processor(engine.processor()),
                Runner::Container(_) => compat,
            },
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
        compat.cpu_level = plan.cpu_level;
        let run = self.attempt_raised(&mut compat, Attempt::Last, history, progress)?;
        if memorable && run.came_up && history.recall() != Some(BootOutcome::Fast) {
            history.keep(&BootOutcome::Unfit(reason));
        }
        self.conclude(&run, &compat, progress)
    }

    /// Reports how a build ended, and returns the exit code.
    fn conclude(mut self, run: &Run, plan: &Plan, progress: &mut Progress) -> Result<ExitCode> {
        let code = match &run.outcome {
            Outcome::Built(_) => ExitCode::SUCCESS,
            Outcome::Failed(failure) => failure.reason.exit().into(),
        };
        if let Some(entry) = self.entry.borrow_mut().as_mut() {
            entry.update(plan);
        }
        self.record(&End::of(run, code.number()));
        if let (Some(copy), Some(log)) = (self.log_copy.take(), &run.log) {
            copy.write(log, &StopCheck::new(self.build.interrupt, None))?;
        }
        let result = report(run, plan);
        if progress.is_for_programs() {
            emit(&BuildEvent::Result(result));
        } else {
            print_report(&result)?;
            github::show_build(&plan.description, &result);
        }
        if let Some(format) = self.build.options.timings {
            let facts = facts(plan, self.runner, run);
            let text = timings::show(format, &facts, &run.timeline, self.folders.target())?;
            print_line(text.trim_end_matches('\n'));
        }
        if let (Outcome::Built(_), Some(resumed)) = (&run.outcome, &plan.resumes) {
            progress.note(&format!(
                "{id} is still kept, and can be resumed once more: boxbuild prune {id} removes it",
                id = resumed.id
            ));
        }
        Ok(code)
    }

    /// Writes how the build ended into the history.
    fn record(&self, end: &End) {
        let entry = self.entry.borrow_mut().take();
        if let Some(Err(error)) = entry.map(|entry| entry.end(end.clone())) {
            self.build.without_history(&error);
        }
    }
}

/// Starts a watchdog for a build. It ends the process in words; what is left behind goes as it does
/// after SIGKILL.
fn watchdog(build: &Build<'_>, runner: Runner<'_>, stop: StopCheck) -> Result<Watchdog> {
    watch(stop, runner, build.options.json)
}

/// The same, whatever the box runs for.
pub(super) fn watch(stop: StopCheck, runner: Runner<'_>, json: bool) -> Result<Watchdog> {
    let grace = match runner {
        Runner::Machine(_) => GRACE,
        Runner::Container(_) => GRACE_OF_CONTAINER,
    };
    Watchdog::start(stop, grace, move |stopped| forced_end(stopped, json))
        .host_context(|| "cannot start a thread")
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
        packages: run
            .packages
            .map(|packages| (packages.from_cache, packages.from_network)),
        machine: (plan.memory_mib << 20, plan.cpus),
    }
}
