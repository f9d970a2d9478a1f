//! A build: the plan is carried out, followed, and judged.

mod machine;
mod monitor;
mod outcome;
pub mod shell;
mod supervise;

use boxbuild_host::error::{Classify, ErrorClass};
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::{self, SyncSender};

use boxbuild_firmware::cmdline;

use crate::boot::Boot;
use crate::failed_builds::{Builds, Failed};
use crate::kiwi_log::Phase;
use crate::output_dir::{OutputDir, OutputDirError};
use crate::plan::Plan;
use crate::ssh::{PortError, Ssh};
use crate::timeline::Milestone;
use boxbuild_boxes::box_lock::{BoxLock, BoxLockError, Use};
use boxbuild_boxes::store::{ContainerImage, StoreError};
use boxbuild_engine::podman::{self, Container, ContainerError, Podman};
use boxbuild_engine::{Ended, Engine, Event, Running};
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;

pub use machine::guest_cmdline;
use machine::{compat_items, machine};
use monitor::{Limits, Monitor};
pub use outcome::{Failure, Kept, Outcome, Reason, Run};
use supervise::{Attach, supervise};

/// Events that may wait to be looked at; more, and the guest waits.
const EVENTS: usize = 64;

/// The build could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The box's disk.
    #[error(transparent)]
    BoxLock(#[from] BoxLockError),
    /// The box.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The port that shall lead into the box.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The target directory.
    #[error(transparent)]
    OutputDir(#[from] OutputDirError),
    /// The kernel command line.
    #[error("the box cannot be told what to build")]
    Cmdline(#[from] cmdline::CmdlineError),
    /// The initial ramdisk.
    #[error("cannot put together the initial ramdisk from {path}")]
    Initrd {
        /// The box's own one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that a build argument names.
    #[error("cannot read {path}, which a build option names")]
    HostFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The engine.
    #[error("cannot start the virtual machine")]
    Start(#[from] boxbuild_engine::StartError),
    /// The container.
    #[error("cannot start the container")]
    Container(#[from] ContainerError),
}

impl Classify for BuildError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}

/// What runs a box.
#[derive(Debug, Clone, Copy)]
pub enum Runner<'a> {
    /// An engine runs it as a machine.
    Machine(&'a dyn Engine),
    /// podman runs it as a container.
    Container(&'a Podman),
}

impl Runner<'_> {
    /// The name users know it by.
    pub fn name(&self) -> &'static str {
        match self {
            Runner::Machine(engine) => engine.name(),
            Runner::Container(_) => "podman",
        }
    }

    fn start(
        self,
        plan: &Plan,
        target: &OutputDir,
        ssh: Option<TcpListener>,
        events: SyncSender<Event>,
    ) -> Result<Box<dyn Running>, BuildError> {
        match self {
            Runner::Machine(engine) => {
                let machine = machine(plan, target, engine.processor(), ssh)?;
                Ok(engine.start(machine, events)?)
            }
            Runner::Container(podman) => Ok(podman.start(&container(plan, target)?, events)?),
        }
    }
}

/// Takes the box's disk for this build.
fn hold(plan: &Plan) -> Result<BoxLock, BuildError> {
    if !plan.disk.in_place {
        return Ok(BoxLock::take(&plan.installed, Use::Read)?);
    }
    let held = BoxLock::take(&plan.installed, Use::Write)?;
    plan.installed.mark_changed()?;
    Ok(held)
}

/// Whether another attempt may follow a failed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// If the box does not come up, it is booted another way: nothing is kept of that.
    First,
    /// What fails is kept.
    Last,
}

/// Carries out `plan` with `runner`.
pub fn run(
    plan: &Plan,
    runner: Runner<'_>,
    attempt: Attempt,
    interrupt: &Interrupt,
    progress: &mut dyn Reporter,
) -> Result<Run, BuildError> {
    // Before anything is changed.
    let ssh = plan.ssh.as_ref().map(Ssh::listen).transpose()?;
    let _held = match runner {
        Runner::Machine(_) => Some(hold(plan)?),
        Runner::Container(_) => None,
    };
    let target = OutputDir::acquire(&plan.target_dir)?;
    let (sender, events) = mpsc::sync_channel(EVENTS);
    progress.begin(Phase::Boot.name());
    let limits = Limits {
        total: plan.timeout,
        idle: plan.timeout_idle,
    };
    let mut monitor = Monitor::new(&target.log(), limits, progress);
    let port = ssh.as_ref().and_then(|ssh| ssh.local_addr().ok());
    monitor.ssh = port.and_then(|port| Some(plan.ssh.as_ref()?.command(port.port())));
    let mut running = runner.start(plan, &target, ssh, sender)?;
    if let Some(port) = port {
        monitor.progress.listening(port);
    }
    monitor.recorder.reach(Milestone::PowerOn);
    let attach = match (plan.debug, plan.boot) {
        (false, _) => Attach::Never,
        (true, Boot::Fast) => Attach::ToShell,
        (true, Boot::Compat) => Attach::AtOnce,
    };
    let end = supervise(&mut monitor, running.as_mut(), &events, interrupt, attach);
    monitor.recorder.reach(Milestone::Ended);
    let peak_memory = running.peak_memory();
    // Who leaves the console when the build has come to its end does not interrupt it.
    let ended = if end.left && monitor.exit_code().is_some() {
        monitor.was_left();
        Ended::PoweredOff
    } else {
        end.ended
    };

    let total = monitor.started.elapsed();
    let reason = end
        .stop
        .or_else(|| match monitor.verdict(&ended, &target.result_code()) {
            Some(Reason::Engine(text)) if matches!(runner, Runner::Container(_)) => {
                Some(Reason::Container(text))
            }
            reason => reason,
        });
    let phases = monitor.phases();
    let recorder = monitor.recorder.clone();
    let came_up = monitor.came_up;
    let last_lines = reason.as_ref().map(|reason| monitor.last_lines(reason));
    let kept = match (&reason, runner) {
        (Some(reason), Runner::Machine(engine))
            if plan.keep_failed
                && reason.leaves_a_disk()
                && (attempt == Attempt::Last || !reason.is_of_the_boot(came_up)) =>
        {
            let failed = Failed {
                engine: engine.name(),
                reason: reason.to_string(),
                exit_code: reason.exit_code(),
                log: &target.log(),
                console: monitor.transcript(),
            };
            let (kept, notes) = keep(plan, running.as_ref(), &failed);
            for note in notes {
                monitor.progress.note(&note);
            }
            kept
        }
        _ => None,
    };
    drop(running);
    progress.finish(reason.is_none());
    let outcome = match reason {
        None => Outcome::Built(target.publish()?),
        Some(reason) => {
            let log = target.publish_failure(match reason {
                Reason::Kiwi(code) if code != 0 => code,
                _ => 1,
            })?;
            Outcome::Failed(Failure {
                reason,
                last_lines: last_lines.unwrap_or_default(),
                log,
                kept,
            })
        }
    };
    Ok(Run {
        outcome,
        phases,
        total,
        peak_memory,
        timeline: recorder.finish(),
        came_up,
    })
}

/// Keeps what a failed build left, and says what the user should know. That it cannot be kept changes nothing about the build.
fn keep(plan: &Plan, running: &dyn Running, failed: &Failed<'_>) -> (Option<Kept>, Vec<String>) {
    let store = plan.installed.dir.parent().unwrap_or(&plan.installed.dir);
    match Builds::of(store).keep(plan, running, failed) {
        Ok((build, gone)) => {
            let kept = Kept {
                id: build.record.id,
                bytes: build.bytes,
            };
            let note = (!gone.is_empty()).then(|| {
                let gone = gone.join(", ");
                format!("older failed builds went to make room: {gone}")
            });
            (Some(kept), note.into_iter().collect())
        }
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map_or_else(String::new, |cause| format!(": {cause}"));
            let note = format!("the failed build is not kept: {error}{cause}");
            (None, vec![note])
        }
    }
}

/// The container for this plan.
fn container(plan: &Plan, target: &OutputDir) -> Result<Container, BuildError> {
    let info = &plan.installed.info;
    let environment = plan.environment.clone();
    let guest = match info.container {
        Some(ContainerImage::Registry { .. }) => podman::Guest::Published {
            cmdline: cmdline::compat(
                info.arch.name(),
                &plan.console,
                &compat_items(plan),
                &plan.kiwi_args,
            )?,
            environment,
        },
        _ => podman::Guest::Own {
            args: plan.kiwi_args.clone(),
            environment,
        },
    };
    Ok(Container {
        guest,
        description: plan.description.clone(),
        description_rw: plan.description_rw,
        bundle: target.share().to_owned(),
        mounts: plan.host_paths.mounts(),
        network: plan.network,
        devices: plan.image_types.may_need_loop_devices(),
    })
}
