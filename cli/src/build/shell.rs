//! `boxbuild shell`: a root shell on the disk of a failed build.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::attend::{Attach, attend};
use super::machine;
use super::outcome::Reason;
use super::watch::{Limits, Watch};
use super::{BuildError, EVENTS};
use crate::box_lock::{BoxLock, Use};
use crate::engine::{Ended, Engine};
use crate::follow::Phase;
use crate::interrupt::Interrupt;
use crate::kept::Build;
use crate::progress::Progress;
use crate::store::InstalledBox;

/// A box without a sign of life for this long before its shell comes up is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// What may differ from the build.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShellOptions {
    /// Guest memory in MiB.
    pub memory_mib: Option<u64>,
}

/// Runs a shell over `build`, whose box is `installed`, until the user leaves it. What is written
/// in it is thrown away. Returns why there was none, if so.
///
/// # Errors
/// If the machine cannot be started.
pub fn run(
    build: &Build,
    installed: &InstalledBox,
    engine: &dyn Engine,
    options: &ShellOptions,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Option<(Reason, Vec<String>)>, BuildError> {
    let _held = BoxLock::take(installed, Use::Read)?;
    let machine = machine::of_kept(
        &build.record,
        installed,
        &build.folder,
        options,
        engine.processor(),
    )?;
    let (sender, events) = mpsc::sync_channel(EVENTS);
    progress.begin(Phase::Boot.name());
    let limits = Limits {
        total: None,
        idle: Some(PATIENCE),
    };
    // It writes no log.
    let mut watch = Watch::new(Path::new("/dev/null/none"), limits, progress);
    let mut running = engine.start(machine, sender)?;
    let attach = if build.record.fast {
        Attach::ToShell
    } else {
        Attach::AtOnce
    };
    let end = attend(&mut watch, running.as_mut(), &events, interrupt, attach);
    drop(running);
    let reason = match end.ended {
        _ if end.left => None,
        _ if end.stop.is_some() => end.stop,
        Ended::PoweredOff if attach == Attach::AtOnce || watch.reached(Phase::Shell) => None,
        Ended::PoweredOff => Some(Reason::EarlyPowerOff),
        Ended::Failed(text) => Some(Reason::Engine(text)),
        Ended::TripleFault(place) => Some(Reason::TripleFault(place)),
        Ended::Reset => Some(Reason::Reset),
        Ended::Killed => Some(Reason::Interrupted),
    };
    let lines = reason.as_ref().map(|reason| watch.last_lines(reason));
    progress.finish(reason.is_none());
    Ok(reason.map(|reason| (reason, lines.unwrap_or_default())))
}
