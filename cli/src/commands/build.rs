//! A build: from the request to the report on its results.

use std::fs;
use std::path::Path;

use boxbuild_boxes::fetch::Key;
use boxbuild_boxes::source::published;
use boxbuild_boxes::store::{InstalledBox, Store};
use boxbuild_core::boot::{Boot, RunsAs};
use boxbuild_core::boot_history::{BootHistory, BootOutcome};
use boxbuild_core::host_facts::HostFacts;
use boxbuild_core::plan::{BootChoice, Folders, Plan, PlanReport, ResolvedEngine};
use boxbuild_core::request::BuildRequest;
use boxbuild_core::resolve::{Resolved, container_image};
use boxbuild_core::run::{self, Attempt, Outcome, Run, Runner};
use boxbuild_core::ssh::Ssh;
use boxbuild_engine::podman::{Mode, Podman};
use boxbuild_engine::{EngineChoice, Selected, Unusable};
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;
use boxbuild_protocol::paths::LOG_NAME;

use crate::args::{BuildOptions, Invocation};
use crate::exit_code::{ExitCode, Failure, HostContext, Result};
use crate::output::print::{print_failure, print_line, print_text};
use crate::output::progress::Progress;
use crate::output::{json, report, timings};

/// Runs a build, or shows its plan.
pub(crate) fn run(invocation: &Invocation) -> ExitCode {
    let options = &invocation.cli.build;
    let code = carry_out(invocation).unwrap_or_else(|failure| {
        if options.json {
            let messages = failure.messages();
            let (message, causes) = messages
                .split_first()
                .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
            json::error(message, causes);
        } else {
            print_failure(&failure);
        }
        failure.code()
    });
    // A plan is one object.
    if options.json && (code != ExitCode::SUCCESS || !options.dry_run) {
        json::exit(code);
    }
    code
}

fn carry_out(invocation: &Invocation) -> Result<ExitCode> {
    // First of all: from here on, an interruption is an orderly end.
    let interrupt = Interrupt::install().host_context(|| "cannot take over signals")?;
    let options = &invocation.cli.build;
    let request = invocation.request()?;
    let host = HostFacts::of_process();
    let build = Build {
        options,
        interrupt: &interrupt,
    };
    if options.dry_run {
        return build.run(&Resolved::preview(&request, &host)?);
    }
    // What can be refused is refused before anything is fetched. A box that cannot be previewed
    // may still be fetched; if not, that error says more.
    if let Ok(preview) = Resolved::preview(&request, &host) {
        preview.plan(preview.choice().first())?;
    }
    let folders = Folders::check(&request)?;
    if let Some(ssh) = Ssh::wanted(&request, &host).map_err(usage)? {
        // The build takes the port for itself.
        ssh.listen()?;
    }
    let installed = build.fetch_box(&request)?;
    build.run(&Resolved::with_box(&request, &host, folders, installed)?)
}

fn usage(text: String) -> Failure {
    Failure::new(ExitCode::USAGE, anyhow::Error::msg(text))
}

/// What carries a build out.
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

    /// The box, fetched or updated where that is necessary.
    fn fetch_box(&self, request: &BuildRequest) -> Result<InstalledBox> {
        let source = &self.options.source;
        let locked = source.locked()?;
        let key: Option<Key> = source.key()?;
        let store = Store::of_user()?;
        let pull = published::PullRequest {
            name: &request.box_name,
            arch: request.arch,
            freshness: request.fetch.into(),
            locked: locked.as_ref(),
            key,
        };
        let mut progress = self.progress(self.options.verbose);
        Ok(published::ensure(
            &store,
            &pull,
            self.interrupt,
            &mut progress,
        )?)
    }

    /// For people or for programs.
    fn progress(&self, verbose: bool) -> Progress {
        if self.options.json {
            Progress::json(verbose)
        } else {
            Progress::new(verbose)
        }
    }

    /// Progress of a build; it begins with what the user should know of the options.
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
        let runner = Runner::Container(&podman);
        let run = run::run(plan, runner, Attempt::Last, self.interrupt, &mut progress)?;
        self.conclude(&run, plan, runner, &progress)
    }

    fn run_machine(&self, resolved: &Resolved<'_>, mut plan: Plan) -> Result<ExitCode> {
        let name = plan.installed.info.name.clone();
        let selected = self.select(&plan)?;
        let engine = selected.engine.as_ref();
        let history = BootHistory::of(&plan.installed.info, engine.name());
        let choice = resolved.choice();
        if let (BootChoice::FastFirst, Some(BootOutcome::Unfit(reason))) =
            (choice, history.recall())
        {
            // What cannot be said to the box's own init is worth another try.
            if let Ok(mut compat) = resolved.plan(Boot::Compat) {
                compat.notes.push(format!(
                    "booting the box {name} by its own init: {reason} (remembered from an \
                     earlier build; --boot fast tries again)"
                ));
                plan = compat;
            }
        }
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
                "using {}, which is slower ({reason})\n  fast without KVM, though hardly \
                 isolated, {}",
                engine.name(),
                self.alternative()
            ));
        }
        let runner = Runner::Machine(engine);
        if plan.boot() != Some(Boot::Fast) || choice != BootChoice::FastFirst {
            let run = run::run(&plan, runner, Attempt::Last, self.interrupt, &mut progress)?;
            if plan.boot() == Some(Boot::Fast) && run.came_up && run.boot_failure().is_none() {
                history.keep(&BootOutcome::Fast);
            }
            return self.conclude(&run, &plan, runner, &progress);
        }
        let run = run::run(&plan, runner, Attempt::First, self.interrupt, &mut progress)?;
        let Some(reason) = run.boot_failure() else {
            if run.came_up {
                history.keep(&BootOutcome::Fast);
            }
            return self.conclude(&run, &plan, runner, &progress);
        };
        let memorable = reason.is_worth_remembering();
        let reason = reason.to_string();
        let compat = match resolved.plan(Boot::Compat) {
            Ok(compat) => compat,
            Err(error) => {
                let code = self.conclude(&run, &plan, runner, &progress)?;
                let error = anyhow::Error::new(error).context(
                    "and what this build needs cannot be had in a box that is booted by its own \
                     init",
                );
                print_failure(&Failure::new(code, error));
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
        let run = run::run(
            &compat,
            runner,
            Attempt::Last,
            self.interrupt,
            &mut progress,
        )?;
        if memorable && run.came_up && history.recall() != Some(BootOutcome::Fast) {
            history.keep(&BootOutcome::Unfit(reason));
        }
        self.conclude(&run, &compat, runner, &progress)
    }

    /// The engine for `plan`.
    fn select(&self, plan: &Plan) -> Result<Selected> {
        boxbuild_engine::select(plan.engine, plan.installed.info.arch).map_err(
            |Unusable(reasons)| {
                let text = if plan.engine == EngineChoice::Auto {
                    format!(
                        "{reasons}\n  without any of them, though hardly isolated, {}",
                        self.alternative()
                    )
                } else {
                    reasons
                };
                Unusable(text).into()
            },
        )
    }

    /// How to build without an engine.
    fn alternative(&self) -> String {
        let name = self.options.box_name.as_deref().unwrap_or_default();
        format!("is a container: boxbuild --container --box {name} -- …")
    }

    /// Carries out `--dry-run`.
    fn show_plan(&self, plan: &Plan, engine: &ResolvedEngine) -> Result<ExitCode> {
        let text = if self.options.json {
            let report = PlanReport::new(plan, engine);
            let text = serde_json::to_string_pretty(&report)
                .host_context(|| "cannot write the plan as JSON")?;
            text + "\n"
        } else {
            format!(
                "{}engine       {} ({})\n",
                plan.describe(),
                engine.engine,
                engine.why
            )
        };
        print_text(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Reports how a build went; returns the exit code.
    fn conclude(
        &self,
        run: &Run,
        plan: &Plan,
        runner: Runner<'_>,
        progress: &Progress,
    ) -> Result<ExitCode> {
        if let Some(copy) = &plan.copy_log_to {
            copy_log(&plan.target_dir.join(LOG_NAME), copy)?;
        }
        let result = match &run.outcome {
            Outcome::Built(files) => {
                let files = report::look_at(files)?;
                if progress.is_json() {
                    report::built_json(run, &files);
                } else {
                    print_text(&report::built(run, &files))?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Failed(failure) => {
                if progress.is_json() {
                    report::failed_json(run, failure);
                } else {
                    report::failed(failure, plan);
                }
                Ok(ExitCode::of_run(failure.reason.exit_code()))
            }
        };
        if let Some(format) = self.options.timings {
            let facts = facts(plan, runner, run);
            let text = timings::show(format, &facts, &run.timeline, &plan.target_dir)?;
            print_line(text.trim_end_matches('\n'));
        }
        result
    }
}

/// What the run was, for `--timings`.
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

/// Carries out `--logfile`. A build that ended before kiwi began has no log.
fn copy_log(log: &Path, copy: &Path) -> Result<()> {
    if !log.exists() {
        return Ok(());
    }
    fs::copy(log, copy)
        .map(|_| ())
        .host_context(|| format!("cannot copy the log to {} (--logfile)", copy.display()))
}
