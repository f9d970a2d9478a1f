//! Starts the process of a machine.

use std::io;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use boxbuild_host::startup::{Step, instant_of};
use boxbuild_jail::{Jailed, Launch, LaunchError, Program};

use super::config::{self, Opened};
use super::follower::{self, Follower};
use super::handle::{Changes, MachineProcess};
use super::process::ROLE;
use super::shared::Shared;
use super::wire::{FromMachine, Report, StartFailure};
use crate::channel::EventSender;
use crate::error::StartError;
use crate::handle::StartTimes;
use crate::machine::{Machine, RootDisk};
use crate::network::NetworkWatch;

/// Time for a machine to start. It takes tens of milliseconds.
const START: Duration = Duration::from_secs(60);
/// Time for a process that has failed to end.
const END: Duration = Duration::from_secs(2);

/// Starts `machine` in a process of `program`.
pub(super) fn start(
    program: &Program,
    machine: Machine,
    events: EventSender,
) -> Result<MachineProcess, StartError> {
    let scratch = machine.disk.written_to().to_owned();
    let disk = machine.disk.clone();
    let Opened {
        config,
        files,
        changes,
        note,
    } = config::open(machine)?;
    if let Some(note) = note {
        events.note(note);
    }
    let network = config.network.as_ref();
    let network = network.map(|network| NetworkWatch::new(network.host.clone()));
    let process = Launch::new(program, ROLE.name)
        .descriptors(config::borrowed(&files))
        .start(&config)
        .map_err(failed)?;
    // Locks on these files end with the process.
    drop(files);
    let first = first_words(&process, &disk)?;
    let times = first.iter().find_map(start_times);
    let shared = Arc::new(Shared::new(process));
    let (maps, written) = sync_channel(1);
    let (events, gate) = events.gated();
    let follower = Follower {
        shared: Arc::clone(&shared),
        events,
        scratch,
        maps,
        network,
        ended: false,
    };
    let follower = std::thread::Builder::new()
        .name(String::from("machine"))
        .spawn(move || follower.run(first))
        .map_err(|source| StartError::Host {
            action: String::from("start a thread for the machine"),
            source,
        })?;
    Ok(MachineProcess {
        shared,
        gate: Some(gate),
        follower: Some(follower),
        changes: changes.map(|file| Changes::new(file, disk.written_to())),
        maps: Mutex::new(written),
        times,
    })
}

/// Waits until the machine runs. Returns what its process has said so far.
fn first_words(process: &Jailed, disk: &RootDisk) -> Result<Vec<FromMachine>, StartError> {
    let deadline = Instant::now() + START;
    let mut first = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let message = match process.channel().receive(Some(left)) {
            Ok(Some(message)) => message,
            Ok(None) => {
                let exit = process
                    .wait(END)
                    .map_err(|error| lost(&error.to_string()))?;
                return Err(lost(&follower::words(&exit)));
            }
            Err(error) => return Err(lost(&error.to_string())),
        };
        match FromMachine::decode(&message).map_err(|error| lost(&error.to_string()))? {
            FromMachine::Report(Report::NotStarted(failure)) => {
                let chain = failure.chain.iter().map(|text| follower::clean(text));
                let chain = chain.collect();
                return Err(config::start_error(disk, StartFailure { chain, ..failure }));
            }
            // A warning may come before that.
            FromMachine::Report(Report::Note(text)) if first.len() < 16 => {
                first.push(FromMachine::Report(Report::Note(text)));
            }
            message => {
                first.push(message);
                return Ok(first);
            }
        }
    }
}

/// When the machine began, as its process says.
fn start_times(message: &FromMachine) -> Option<StartTimes> {
    let FromMachine::Report(Report::Started { times, .. }) = message else {
        return None;
    };
    let steps = [
        (Step::Process, times.process),
        (Step::Machine, times.machine),
    ];
    Some(StartTimes {
        steps: steps.map(|(step, at)| (step, instant_of(at))).into(),
        first_instruction: instant_of(times.first_instruction),
    })
}

fn lost(text: &str) -> StartError {
    StartError::Machine(io::Error::other(text.to_owned()).into())
}

fn failed(error: LaunchError) -> StartError {
    StartError::Machine(Box::new(error))
}
