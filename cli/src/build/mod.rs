//! A build: the plan is carried out, followed, and judged.

mod attend;
mod machine;
mod outcome;
pub mod shell;
mod watch;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::{self, SyncSender};

use boxbuild_firmware::cmdline;

use crate::box_lock::{BoxLock, BoxLockError, Use};
use crate::container::{self, Container, ContainerError, Podman};
use crate::engine::{Ended, Engine, Event, Running};
use crate::follow::Phase;
use crate::interrupt::Interrupt;
use crate::kept::{Builds, Failed};
use crate::plan::{Boot, Plan};
use crate::progress::Progress;
use crate::ssh::{PortError, Ssh};
use crate::store::{ContainerImage, StoreError};
use crate::target::{Target, TargetError};
use crate::timings::Milestone;

use attend::{Attach, attend};
pub use machine::guest_cmdline;
use machine::{compat_items, machine};
pub use outcome::{Failure, Kept, Outcome, Reason, Run};
use watch::{Limits, Watch};

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
    Target(#[from] TargetError),
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
    Start(#[from] crate::engine::StartError),
    /// The container.
    #[error("cannot start the container")]
    Container(#[from] ContainerError),
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
    fn start(
        self,
        plan: &Plan,
        target: &Target,
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
    if !plan.in_place {
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
    progress: &mut Progress,
) -> Result<Run, BuildError> {
    // Before anything is changed.
    let ssh = plan.ssh.as_ref().map(Ssh::listen).transpose()?;
    let _held = match runner {
        Runner::Machine(_) => Some(hold(plan)?),
        Runner::Container(_) => None,
    };
    let target = Target::acquire(&plan.target_dir)?;
    let (sender, events) = mpsc::sync_channel(EVENTS);
    progress.begin(Phase::Boot.name());
    let limits = Limits {
        total: plan.timeout,
        idle: plan.timeout_idle,
    };
    let mut watch = Watch::new(&target.log(), limits, progress);
    let port = ssh.as_ref().and_then(|ssh| ssh.local_addr().ok());
    watch.ssh = port.and_then(|port| Some(plan.ssh.as_ref()?.command(port.port())));
    let mut running = runner.start(plan, &target, ssh, sender)?;
    if let Some(port) = port {
        watch.progress.listening(port);
    }
    watch.recorder.reach(Milestone::PowerOn);
    let attach = match (plan.debug, plan.boot) {
        (false, _) => Attach::Never,
        (true, Boot::Fast) => Attach::ToShell,
        (true, Boot::Compat) => Attach::AtOnce,
    };
    let end = attend(&mut watch, running.as_mut(), &events, interrupt, attach);
    watch.recorder.reach(Milestone::Ended);
    let peak_memory = running.peak_memory();
    // Who leaves the console when the build has come to its end does not interrupt it.
    let ended = if end.left && watch.exit_code().is_some() {
        watch.was_left();
        Ended::PoweredOff
    } else {
        end.ended
    };

    let total = watch.started.elapsed();
    let reason = end
        .stop
        .or_else(|| match watch.verdict(&ended, &target.result_code()) {
            Some(Reason::Engine(text)) if matches!(runner, Runner::Container(_)) => {
                Some(Reason::Container(text))
            }
            reason => reason,
        });
    let phases = watch.phases();
    let recorder = watch.recorder.clone();
    let came_up = watch.came_up;
    let last_lines = reason.as_ref().map(|reason| watch.last_lines(reason));
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
                console: watch.transcript(),
            };
            let (kept, notes) = keep(plan, running.as_ref(), &failed);
            for note in notes {
                watch.progress.note(&note);
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
fn container(plan: &Plan, target: &Target) -> Result<Container, BuildError> {
    let info = &plan.installed.info;
    let environment = plan.environment.clone();
    let guest = match info.container {
        Some(ContainerImage::Registry { .. }) => container::Guest::Published {
            cmdline: cmdline::compat(
                info.arch.name(),
                &plan.console,
                &compat_items(plan),
                &plan.kiwi_args,
            )?,
            environment,
        },
        _ => container::Guest::Own {
            args: plan.kiwi_args.clone(),
            environment,
        },
    };
    Ok(Container {
        guest,
        description: plan.description.clone(),
        description_rw: plan.description_rw,
        bundle: target.share().to_owned(),
        host_paths: plan.host_paths.clone(),
        network: plan.network,
        devices: plan.image_types.may_need_loop_devices(),
    })
}
