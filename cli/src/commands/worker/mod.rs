//! `boxbuild worker`: one build of a batch on another host, or on another place of this one.
//!
//! It is started by a runner (docs/runners.md), gets its job on standard input ([`protocol`]), checks
//! whether this host has what the batch has ([`checks`]), and carries the build out as a process of its
//! own ([`build_process`]), which ends when the batch does ([`batch_line`]).

mod batch_line;
mod build_process;
pub(super) mod checks;
pub(super) mod fingerprint;
pub(super) mod protocol;

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use boxbuild_core::output_dir::{OutputDirError, TargetDir};
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::text::shown_path;

use super::signals;
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::json::{emit, emit_exit};
use batch_line::{BatchLine, Heed};
use protocol::{Build, END_OF_BUILD, VERSION, Word, WorkerEvent};

/// How often is looked whether another build has left the target folder.
const TICK: Duration = Duration::from_millis(250);

/// How many signs of life there are in the time after which there is none.
const BEATS: u32 = 4;

/// Does the job of a batch.
pub(super) fn run() -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    let (mut batch, job) =
        BatchLine::open(io::stdin()).host_context(|| "this command is for batches only")?;
    emit(&WorkerEvent::Worker {
        host: host_name(),
        version: VERSION.to_owned(),
    });
    // From now on: to check a description on a slow disk, or to wait for an earlier attempt, takes longer
    // than the batch goes without a sign of life.
    heartbeat(batch.lost_after() / BEATS).host_context(|| "cannot start a thread")?;
    if let Some(reason) = checks::problem(&job) {
        return Ok(unfit(reason));
    }
    let Some(build) = &job.build else {
        emit(&WorkerEvent::Ready);
        return Ok(ExitCode::SUCCESS);
    };
    Ok(carry_out(build, &mut batch, &interrupt))
}

/// Says every `time` that the worker is there.
fn heartbeat(time: Duration) -> io::Result<()> {
    thread::Builder::new()
        .name(String::from("alive"))
        .spawn(move || {
            loop {
                thread::sleep(time);
                emit(&WorkerEvent::Alive);
            }
        })?;
    Ok(())
}

fn carry_out(build: &Build, batch: &mut BatchLine, interrupt: &Interrupt) -> ExitCode {
    let folder = build.folder.to_path();
    if let Err(error) = std::env::set_current_dir(&folder) {
        return unfit(format!("{}: {error}", shown_path(&folder)));
    }
    // An earlier attempt, which has lost the batch, may not have ended yet.
    let patience = batch.lost_after() + 2 * END_OF_BUILD;
    match wait_for(&build.target_dir.to_path(), patience, batch, interrupt) {
        Ok(true) => {}
        // As a build that is stopped ends: nothing is wrong with this host.
        Ok(false) => {
            emit_exit(ExitCode::INTERRUPTED);
            return ExitCode::INTERRUPTED;
        }
        Err(reason) => return unfit(reason),
    }
    emit(&WorkerEvent::Ready);
    let words: Vec<_> = build.words.iter().map(Word::to_os_string).collect();
    let signals = || interrupt.count();
    match build_process::run(&words, batch, signals) {
        Ok(code) => ExitCode::of_process(code),
        Err(error) => unfit(format!("the build cannot be started: {error}")),
    }
}

/// Waits until no other build has the target folder, at most for `patience`. Returns `false` if it was
/// told to stop before.
fn wait_for(
    target_dir: &Path,
    patience: Duration,
    batch: &mut BatchLine,
    interrupt: &Interrupt,
) -> Result<bool, String> {
    let deadline = Instant::now() + patience;
    loop {
        match TargetDir::check(target_dir) {
            Ok(()) => return Ok(true),
            Err(OutputDirError::InUse(_)) if Instant::now() < deadline => {}
            Err(error) => return Err(error.to_string()),
        }
        if batch.listen(TICK) != Heed::GoOn || interrupt.count() > 0 {
            return Ok(false);
        }
    }
}

/// Says that this host cannot do the job.
fn unfit(reason: String) -> ExitCode {
    emit(&WorkerEvent::Unfit { reason });
    ExitCode::HOST
}

/// The name of this host; under Slurm, that of its node.
fn host_name() -> String {
    let node = std::env::var("SLURMD_NODENAME").ok();
    let name = node.filter(|name| !name.is_empty()).or_else(|| {
        let name = boxbuild_host::input::read_text(Path::new("/proc/sys/kernel/hostname"));
        name.ok().map(|name| name.trim().to_owned())
    });
    name.unwrap_or_else(|| String::from("unknown"))
}
