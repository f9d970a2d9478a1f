//! `boxbuild shell`: a root shell on the disk of a failed build.

use std::time::Duration;

use boxbuild_boxes::box_lock::{BoxLock, DiskAccess};
use boxbuild_boxes::store::InstalledBox;
use boxbuild_engine::{Ended, Engine, events};
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;

use super::error::BuildError;
use super::monitor::{Limits, Monitor};
use super::outcome::Reason;
use super::shell_machine;
use super::supervise::{Attach, supervise};
use crate::failed_builds::FailedBuild;
use crate::kiwi_log::Phase;

/// A box without a sign of life for this long before its shell comes up is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a shell over `build`, whose box is `installed`, until the user leaves it. What is written
/// in it is thrown away. The guest has `memory_mib`, or what the build had. Returns why there was
/// no shell, with the last lines of the console, or `None`.
///
/// # Errors
/// Fails if the machine cannot be started.
pub fn run(
    build: &FailedBuild,
    installed: &InstalledBox,
    engine: &dyn Engine,
    memory_mib: Option<u64>,
    interrupt: &Interrupt,
    progress: &mut dyn Reporter,
) -> Result<Option<(Reason, Vec<String>)>, BuildError> {
    let _held = BoxLock::take(installed, DiskAccess::Read)?;
    let machine = shell_machine::machine(
        &build.record,
        installed,
        &build.folder,
        memory_mib,
        engine.processor(),
    )?;
    let (sender, events) = events();
    progress.begin(Phase::Boot.name());
    let limits = Limits {
        total: None,
        idle: Some(PATIENCE),
    };
    // It writes no log.
    let mut monitor = Monitor::new(None, limits, None, progress);
    monitor.has_processors(build.record.cpus);
    let mut running = engine.start(machine, sender)?;
    let attach = if build.record.fast {
        Attach::ToShell
    } else {
        Attach::AtOnce
    };
    let end = supervise(&mut monitor, running.as_mut(), &events, interrupt, attach);
    drop(running);
    let reason = match end.ended {
        _ if end.left => None,
        _ if end.stop.is_some() => end.stop,
        Ended::PoweredOff if attach == Attach::AtOnce || monitor.reached(Phase::Shell) => None,
        Ended::PoweredOff => Some(Reason::EarlyPowerOff),
        Ended::Failed(text) => Some(Reason::Engine(text)),
        Ended::TripleFault(place) => Some(Reason::TripleFault(place)),
        Ended::Reset => Some(Reason::Reset),
        Ended::Killed => Some(Reason::Interrupted),
    };
    let lines = reason.as_ref().map(|reason| monitor.last_lines(reason));
    progress.finish(reason.is_none());
    Ok(reason.map(|reason| (reason, lines.unwrap_or_default())))
}
