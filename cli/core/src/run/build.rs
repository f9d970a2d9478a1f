//! A build: the plan is carried out, supervised, and judged.

use std::time::Duration;

use boxbuild_boxes::store::ContainerImage;
use boxbuild_engine::{Ended, Running, events};
use boxbuild_host::error::IoError;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::startup::{self, Step};
use boxbuild_host::stop::StopCheck;
use boxbuild_package_cache::PackageCache;
use boxbuild_protocol::paths::LOG_NAME;

use super::error::BuildError;
use super::monitor::{Limits, Monitor};
use super::outcome::{Failure, Kept, Outcome, Reason, Run};
use super::packages;
use super::raise;
use super::runner::Runner;
use super::signs::Means;
use super::supervise::{Attach, End, supervise};
use crate::boot::Boot;
use crate::failed_builds::{Failed, FailedBuilds};
use crate::held_folders::HeldFolders;
use crate::inputs::Inputs;
use crate::kiwi_log::Phase;
use crate::output_dir::{OutputDir, OutputDirError, PublishError, Published, Recorder};
use crate::plan::Plan;
use crate::record::Recording;
use crate::ssh::Ssh;
use crate::timeline::Milestone;

/// Whether another attempt may follow a failed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// If the box does not come up, it is booted another way: nothing is kept of that.
    First,
    /// What fails is kept.
    Last,
}

/// How long the log of a failed build may be copied.
const KEEP_TIME: Duration = Duration::from_secs(10);

/// Carries out `plan` with `runner`, in `folders`.
///
/// # Errors
/// Fails if the build cannot be started, or its results cannot be published. A build that ran
/// and failed is an [`Outcome`].
pub fn run(
    plan: &Plan,
    folders: &HeldFolders,
    runner: Runner<'_>,
    attempt: Attempt,
    interrupt: &Interrupt,
    progress: &mut dyn Reporter,
) -> Result<Run, BuildError> {
    // Before anything is changed.
    if let Some(path) = folders.changed() {
        return Err(BuildError::Replaced(path.to_owned()));
    }
    let ssh = plan.ssh.as_ref().map(Ssh::listen).transpose()?;
    // What it cannot be told now only matters if the build fails.
    let inputs = plan
        .takes_checkpoints()
        .then(|| plan.inputs.look().ok())
        .flatten();
    let hold = runner.hold(plan, &StopCheck::new(interrupt, None))?;
    let mut output = OutputDir::stage(folders.target(), &StopCheck::new(interrupt, None))?;
    let mut recording = match &plan.attest {
        Some(attest) => Some(Recording::begin(
            plan,
            attest,
            runner.name(),
            &output,
            interrupt,
        )?),
        None => None,
    };
    let (sender, events) = events();
    progress.begin(Phase::Boot.name());
    let limits = Limits {
        total: plan.timeout,
        idle: plan.timeout_idle,
    };
    let address = ssh.as_ref().and_then(|ssh| ssh.local_addr().ok());
    let command = address.and_then(|address| Some(plan.ssh.as_ref()?.command(address.port())));
    let log = output
        .share_dir()
        .try_clone()
        .map_err(IoError::on("open the folder", output.share()))
        .map_err(OutputDirError::from)?;
    let mut monitor = Monitor::new(Some(log), limits, command, progress);
    monitor.has_processors(plan.cpus);
    if plan.runs_as.is_container() {
        monitor.shares_kernel();
    } else if plan.reproducible.is_some() {
        monitor.holds_clock();
    }
    if plan.takes_checkpoints() {
        monitor.takes_checkpoint();
    }
    let (cache, handover) = match packages::cache(plan) {
        Ok(cache) => cache.unzip(),
        Err(error) => {
            monitor.progress().note(&packages::unusable(&error));
            (None, None)
        }
    };
    startup::reach(Step::Launch);
    let mut running = runner.job(plan, &output, ssh, handover)?.start(sender)?;
    if let Some(address) = address {
        monitor.progress().listening(address);
    }
    monitor.powered_on(running.start_times());
    let attach = match plan.boot() {
        _ if !plan.debug => Attach::Never,
        Some(Boot::Fast) => Attach::ToShell,
        Some(Boot::Compat) => Attach::AtOnce,
        // The entry point of a published image says nothing of shells.
        None => match plan.installed.info.container {
            Some(ContainerImage::Registry { .. }) => Attach::AtOnce,
            _ => Attach::ToShell,
        },
    };
    let end = supervise(&mut monitor, running.as_mut(), &events, interrupt, attach);
    let in_order = matches!(end.ended, Ended::PoweredOff)
        && end.stop.is_none()
        && !end.left
        && monitor.is_done();
    monitor.reach(Milestone::Ended);
    let peak_memory = running.peak_memory();
    let total = monitor.elapsed();
    let reason = reason(end, &mut monitor, &runner, &output)
        .map(|reason| lacking(reason, &monitor, plan, &output));
    let raise = reason
        .as_ref()
        .and_then(|reason| raise::level(plan, runner.processor(), reason, monitor.is_silent()));
    let phases = monitor.phases();
    let came_up = monitor.came_up();
    let failure = reason.map(|reason| Failure {
        phase: Some(monitor.finish_failed()),
        last_lines: monitor.last_lines(&reason),
        kept: Build {
            plan,
            runner: &runner,
            folders,
            attempt,
            raised: raise.is_some(),
            inputs: inputs.as_ref(),
            interrupt,
        }
        .keep(&reason, running.as_ref(), &mut monitor, &output),
        log: None,
        reason,
    });
    drop(running);
    let packages = cache.as_ref().map(PackageCache::finish);
    let absent = cache.map_or_else(Vec::new, |cache| cache.absent());
    // Of what the guest wrote, unless it was ended in the middle.
    let released = hold.release(in_order);
    // A user at the console has all the time there is.
    let until = match plan.timeout {
        Some(limit) if !plan.debug => monitor.started().checked_add(limit),
        _ => None,
    };
    let stop = StopCheck::new(interrupt, until);
    let timeline = monitor.into_timeline();
    released?;
    progress.finish(true);
    let recorder = recording
        .as_mut()
        .map(|recording| recording as &mut dyn Recorder);
    let (outcome, published) = conclude(&mut output, failure, plan, recorder, &stop)?;
    for note in &published.notes {
        progress.note(note);
    }
    // A build that came to its end without them did not need them.
    if let (Outcome::Failed(_), Some(note)) = (&outcome, packages::absent(&absent)) {
        progress.note(&note);
    }
    Ok(Run {
        outcome,
        log: published.log,
        phases,
        total,
        peak_memory,
        packages,
        absent,
        timeline,
        came_up,
        raise,
    })
}

/// Publishes the results, or what there is of a failed build.
fn conclude(
    output: &mut OutputDir<'_>,
    failure: Option<Failure>,
    plan: &Plan,
    recorder: Option<&mut dyn Recorder>,
    stop: &StopCheck,
) -> Result<(Outcome, Published), BuildError> {
    let mut failure = match failure {
        Some(failure) => failure,
        None => match output.publish(recorder, stop) {
            Ok(mut published) => {
                let files = std::mem::take(&mut published.files);
                return Ok((Outcome::Built(files), published));
            }
            Err(PublishError::Stopped(stopped)) => Failure {
                reason: Reason::of_stop(stopped, plan.timeout),
                phase: None,
                last_lines: Vec::new(),
                log: None,
                kept: None,
            },
            Err(error) => {
                // The error is the one to report; a verdict of 0 is not there.
                let _ = output.publish_failure(1);
                return Err(OutputDirError::from(error).into());
            }
        },
    };
    let published = output.publish_failure(match failure.reason {
        Reason::Kiwi(code) if code != 0 => code,
        _ => 1,
    })?;
    if published.log.is_some() {
        failure.log = Some(plan.target_dir.join(LOG_NAME));
    }
    Ok((Outcome::Failed(failure), published))
}

/// Why there is no result, or `None` if there is one.
fn reason(
    end: End,
    monitor: &mut Monitor<'_>,
    runner: &Runner<'_>,
    output: &OutputDir<'_>,
) -> Option<Reason> {
    // A user who leaves the console when the build has come to its end does not interrupt it.
    let ended = if end.left && monitor.exit_code().is_some() {
        monitor.was_left();
        Ended::PoweredOff
    } else {
        end.ended
    };
    end.stop
        .or_else(|| match monitor.verdict(&ended, &output.result_code()) {
            Some(Reason::Engine(text)) => Some(runner.failed(text)),
            reason => reason,
        })
}

/// What the build lacked, if that is the reason behind `reason`.
fn lacking(reason: Reason, monitor: &Monitor<'_>, plan: &Plan, output: &OutputDir<'_>) -> Reason {
    let means = Means {
        memory_mib: plan.memory_mib,
        disk: plan.disk.bytes,
        share: output.share(),
        target: &plan.target_dir,
        container: plan.runs_as.is_container(),
    };
    monitor.lack(&reason, means).map_or(reason, Reason::Lack)
}

/// What decides about keeping a build.
struct Build<'a> {
    plan: &'a Plan,
    runner: &'a Runner<'a>,
    folders: &'a HeldFolders,
    attempt: Attempt,
    /// Another attempt follows, on a newer processor.
    raised: bool,
    /// What went into it.
    inputs: Option<&'a Inputs>,
    interrupt: &'a Interrupt,
}

impl Build<'_> {
    /// Keeps what a failed build left, where that is wanted and worth it. That it cannot be kept
    /// changes nothing about the build.
    fn keep(
        &self,
        reason: &Reason,
        running: &dyn Running,
        monitor: &mut Monitor<'_>,
        output: &OutputDir<'_>,
    ) -> Option<Kept> {
        let plan = self.plan;
        let another_boot =
            self.attempt == Attempt::First && reason.is_of_the_boot(monitor.came_up());
        let another_boot = another_boot || self.raised;
        // Without a line of kiwi's there is nothing to look at, and older builds are not worth less.
        if !plan.keep_failed || !reason.leaves_a_disk() || another_boot || !monitor.reached_kiwi() {
            return None;
        }
        let failed = Failed {
            engine: self.runner.name(),
            folders: self.folders,
            reason: reason.to_string(),
            exit_code: reason.exit().number(),
            share: output.share_dir(),
            console: monitor.transcript(),
            taken: monitor.taken(),
            inputs: self.inputs,
        };
        let store = plan.store();
        let stop = StopCheck::within(self.interrupt, KEEP_TIME);
        match FailedBuilds::of(&store).keep(plan, running, &failed, &stop) {
            Ok((build, removed)) => {
                if !removed.is_empty() {
                    monitor.progress().note(&format!(
                        "older failed builds were removed to make room: {}",
                        removed.join(", ")
                    ));
                }
                Some(Kept {
                    resumable: build.record.checkpoint.is_some(),
                    id: build.record.id,
                    bytes: build.bytes,
                })
            }
            Err(error) => {
                let cause = std::error::Error::source(&error)
                    .map_or_else(String::new, |cause| format!(": {cause}"));
                let note = format!("the failed build is not kept: {error}{cause}");
                monitor.progress().note(&note);
                None
            }
        }
    }
}
