//! Starts the machine, relays the command's output and tells how it ended.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::{Child, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boxbuild_tests::command::{command, last_lines, require};

use crate::emulator::{Channels, Pipes, qemu};
use crate::kernel;
use crate::options::{Clock, Job, Options, Request};
use crate::pack::pack;
use crate::relay::{Arrived, Event, Unnamed, listen, relay};
use crate::tools::Tools;

/// 128 and SIGPIPE: the reader of our output has enough.
const BROKEN_PIPE: u8 = 141;

/// Lines of the console that are shown when the machine died.
const CONSOLE_LINES: usize = 40;

/// How often it is looked whether all output has arrived.
const POLL: Duration = Duration::from_millis(5);

pub(crate) fn run(options: Options) -> Result<ExitCode> {
    let request = options.request()?;
    let (arch, suite, flavour) = match &request {
        Request::Check(arch, suite, flavour) => (*arch, *suite, *flavour),
        Request::Run(job) => (job.arch, job.suite, job.flavour()),
    };
    require([
        arch.emulator(),
        ("modprobe", "kmod"),
        ("setpriv", "util-linux"),
        ("tar", "tar"),
    ])?;
    let packages = match &request {
        Request::Check(..) => &[],
        Request::Run(job) => job.packages.as_slice(),
    };
    let tools = Tools::get(arch, packages)?;
    let folder = kernel::folder(suite, flavour)?;
    match request {
        Request::Check(..) => Ok(ExitCode::SUCCESS),
        Request::Run(job) => start(&job, &tools, &folder),
    }
}

fn start(job: &Job, tools: &Tools, kernel_folder: &Path) -> Result<ExitCode> {
    let release = kernel::release(kernel_folder)?;
    let mut channels = Channels {
        initrd: Unnamed::new()?,
        console: Unnamed::new()?,
        files: Unnamed::new()?,
    };
    let tree = pack(job, kernel_folder, &release, tools)?;
    let mut archive = io::BufWriter::new(channels.initrd.as_file());
    tree.write(&mut archive)?;
    archive
        .flush()
        .context("cannot write the initial ramdisk")?;
    drop(archive);
    drop(tree);

    let (out, out_end) = io::pipe()?;
    let (err, err_end) = io::pipe()?;
    let (report, report_end) = io::pipe()?;
    let pipes = Pipes {
        out: &out_end,
        err: &err_end,
        report: &report_end,
    };
    let mut qemu = qemu(job, &kernel_folder.join("vmlinuz"), &channels, &pipes)?;
    let (sender, events) = mpsc::channel();
    let arrived = [Arrived::default(), Arrived::default()];
    relay(out, &io::stdout(), &arrived[0], sender.clone())?;
    relay(err, &io::stderr(), &arrived[1], sender.clone())?;
    let report = listen(report, sender);
    let mut child = qemu
        .stdin(Stdio::null())
        .stdout(channels.console.appending()?)
        .stderr(channels.console.appending()?)
        .spawn()
        .context("cannot start QEMU")?;
    drop((out_end, err_end, report_end));
    let how = wait(&mut child, &events, &arrived, job)?;
    if matches!(&how, Ended::Unwritable(error) if error.kind() == ErrorKind::BrokenPipe) {
        return Ok(BROKEN_PIPE.into());
    }
    let report = report.join().unwrap_or_default();
    tell(job, &release, how, &Report::parse(&report), channels)
}

/// Why the machine is gone.
enum Ended {
    ByItself(ExitStatus),
    /// The agent has reported, and all that it sent has arrived.
    Done,
    TimedOut,
    /// Its output had nowhere to go.
    Unwritable(io::Error),
}

/// Waits until QEMU has ended, which closes all pipes, or ends it.
fn wait(
    qemu: &mut Child,
    events: &mpsc::Receiver<Event>,
    arrived: &[Arrived; 2],
    job: &Job,
) -> Result<Ended> {
    let deadline = Instant::now() + job.timeout;
    let mut expected = None;
    let early = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let pause = if expected.is_some() {
            POLL.min(left)
        } else {
            left
        };
        match events.recv_timeout(pause) {
            Ok(Event::Closed(Ok(()))) => {}
            Ok(Event::Closed(Err(error))) => break Some(Ended::Unwritable(error)),
            Ok(Event::Sent(counts)) => expected = Some(counts),
            Err(RecvTimeoutError::Timeout) if left.is_zero() => break Some(Ended::TimedOut),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break None,
        }
        if expected.is_some_and(|counts| counts == arrived.each_ref().map(Arrived::bytes)) {
            break Some(Ended::Done);
        }
    };
    if early.is_some() {
        // It may have ended in this moment.
        let _ = qemu.kill();
    }
    let status = qemu.wait()?;
    Ok(early.unwrap_or(Ended::ByItself(status)))
}

/// Says what went wrong, brings files back, and returns the command's exit code.
fn tell(
    job: &Job,
    release: &str,
    how: Ended,
    report: &Report,
    mut channels: Channels,
) -> Result<ExitCode> {
    if job.verbose || report.exit.is_none() {
        let console = channels.console.text()?.replace('\r', "");
        let lines = if job.verbose {
            usize::MAX
        } else {
            CONSOLE_LINES
        };
        for line in last_lines(&console, lines).lines() {
            eprintln!("lab: | {line}");
        }
    }
    if job.verbose
        && let (Some(up), Some(took)) = (&report.up, &report.took)
    {
        let unit = match job.clock {
            Clock::Host => "ns of its clock",
            Clock::Counted { .. } => "virtual ns",
        };
        eprintln!("lab: kernel {release}, up after {up} s, command took {took} {unit}");
    }
    let status = match how {
        Ended::ByItself(status) => status.to_string(),
        Ended::Done => String::from("ended by the lab"),
        Ended::TimedOut => bail!("gave up after {} s", job.timeout.as_secs()),
        Ended::Unwritable(error) => bail!("cannot pass on the command's output: {error}"),
    };
    if let Some(error) = &report.error {
        bail!("{error}");
    }
    let Some(code) = report.exit else {
        bail!("the machine died before the command ended (QEMU: {status})");
    };
    if !job.gets.is_empty() {
        let files = channels.files.into_start()?;
        let mut tar = command("tar");
        tar.arg("-x").arg("-C").arg(&job.into).stdin(files);
        ensure!(
            tar.status()?.success(),
            "cannot unpack what the machine sent"
        );
    }
    Ok(code.into())
}

/// What the agent reports of the command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    exit: Option<u8>,
    error: Option<String>,
    up: Option<String>,
    took: Option<String>,
}

impl Report {
    fn parse(text: &str) -> Report {
        let mut report = Report::default();
        for line in text.lines() {
            let (word, value) = line.split_once(' ').unwrap_or((line, ""));
            let text = || Some(value.to_owned());
            match word {
                "exit" => report.exit = value.parse().ok(),
                "error" => report.error = text(),
                "up" => report.up = text(),
                "took" => report.took = text(),
                _ => {}
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let report = Report::parse("up 2.10\ntook 5\nexit 7\n");
        assert_eq!((report.exit, report.up.as_deref()), (Some(7), Some("2.10")));
        let report = Report::parse("error cannot run x: no such file\n");
        assert_eq!(report.error.as_deref(), Some("cannot run x: no such file"));
        assert_eq!(Report::parse("").exit, None);
    }
}
