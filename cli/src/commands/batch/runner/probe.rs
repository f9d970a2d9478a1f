//! Looks at the hosts of a runner before a batch begins.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::process::Child;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use boxbuild_host::interrupt::Interrupt;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::words::Fields;
use super::{Pool, Runner};
use crate::commands::batch::child_output::{ChildOutput, read_events, read_lines};
use crate::commands::batch::setback::{CommandEnd, Ended, Heard};
use crate::commands::worker::protocol::Expected;

/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long a command may take to end after its output has.
const AFTER_OUTPUT: Duration = Duration::from_secs(5);

/// Outputs that may wait to be looked at; more, and the hosts wait.
const OUTPUTS: usize = 256;

/// How often is looked whether the user wants to stop.
const TICK: Duration = Duration::from_millis(100);

/// Looks at all hosts of the runner at once, and takes those out of `pool` that do not have what is
/// expected. Stops early if the user wants to.
pub(in crate::commands::batch) fn probe(
    runner: &Runner,
    pool: &mut Pool,
    expected: &Expected,
    interrupt: &Interrupt,
) {
    let Ok(job) = serde_json::to_string(&runner.job(expected.clone())) else {
        return;
    };
    let (sender, outputs) = mpsc::sync_channel(OUTPUTS);
    let mut children: BTreeMap<String, (Child, Heard, usize)> = BTreeMap::new();
    for name in pool.names() {
        match start(runner, &name, &job, &sender) {
            Ok(child) => {
                let heard = Heard::on(Some(name.clone()));
                children.insert(name, (child, heard, 2));
            }
            Err(error) => pool.take_out(&name, &error.to_string()),
        }
    }
    drop(sender);
    let deadline = Instant::now() + PATIENCE;
    while children.values().any(|(_, _, open)| *open > 0)
        && Instant::now() < deadline
        && interrupt.count() == 0
    {
        let (name, output) = match outputs.recv_timeout(TICK) {
            Ok(output) => output,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let Some((_, heard, open)) = children.get_mut(&name) else {
            continue;
        };
        match output {
            ChildOutput::Worker(event) => heard.take_worker(event),
            ChildOutput::Line(line) => heard.take_line(&line),
            ChildOutput::Closed => *open -= 1,
            ChildOutput::Event(_) => {}
        }
    }
    let deadline = Instant::now() + AFTER_OUTPUT;
    for (name, (mut child, heard, open)) in children {
        // A command can close its output and go on.
        while open == 0
            && matches!(child.try_wait(), Ok(None))
            && Instant::now() < deadline
            && interrupt.count() == 0
        {
            thread::sleep(TICK);
        }
        if let Some(reason) = end(child, &heard, open) {
            pool.take_out(&name, &reason);
        }
    }
}

fn start(
    runner: &Runner,
    host: &str,
    job: &str,
    sender: &mpsc::SyncSender<(String, ChildOutput)>,
) -> std::io::Result<Child> {
    let fields = Fields {
        name: format!("boxbuild-{}-probe", runner.id),
        host: Some(host.to_owned()),
        ..Fields::default()
    };
    let mut child = runner.command(&fields).spawn()?;
    let forward = |name: &str| {
        let (name, sender) = (name.to_owned(), sender.clone());
        move |output| {
            // The time for answers may be over.
            let _ = sender.send((name.clone(), output));
        }
    };
    let named = || thread::Builder::new().name(String::from("probe"));
    if let Some(pipe) = child.stdout.take() {
        let take = forward(host);
        named().spawn(move || read_events(BufReader::new(pipe), take))?;
    }
    if let Some(pipe) = child.stderr.take() {
        let take = forward(host);
        named().spawn(move || read_lines(pipe, take))?;
    }
    if let Some(mut input) = child.stdin.take() {
        let job = job.to_owned();
        named().spawn(move || {
            // A host that does not read it has no worker, which is said.
            let _ = writeln!(input, "{job}");
        })?;
    }
    Ok(child)
}

/// Returns why a host cannot be used.
fn end(mut child: Child, heard: &Heard, open: usize) -> Option<String> {
    if matches!(child.try_wait(), Ok(None))
        && let Ok(pid) = i32::try_from(child.id())
    {
        // An error means that it has ended already.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let status = child.wait();
    if heard.ready {
        return None;
    }
    let code = status
        .as_ref()
        .ok()
        .and_then(std::process::ExitStatus::code);
    let end = CommandEnd {
        how: match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        },
        stopped: false,
        silent: (open > 0).then_some(PATIENCE.as_secs()),
        never_reached: code == Some(255),
    };
    match heard.decide(&end) {
        Ended::Setback(setback) => Some(setback.reason),
        Ended::Verdict(_) => Some(String::from("it does not answer as a worker")),
    }
}
