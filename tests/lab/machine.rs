//! Starts the machine, relays the command's output and tells how it ended.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use boxbuild_tests::command::{command, find, last_lines, require};
use boxbuild_tests::debian;
use boxbuild_tests::publish::{lock, sha256};

use crate::kernel;
use crate::options::{Clock, Job, Options, Request};
use crate::pack::{pack, tag};
use crate::relay::{Unnamed, inherited_path, relay};

/// The agent's source: one file, compiled where it runs first.
const AGENT: &str = include_str!("agent.rs");

/// 128 and SIGPIPE: the reader of our output has enough.
const BROKEN_PIPE: u8 = 141;

/// Lines of the console that are shown when the machine died.
const CONSOLE_LINES: usize = 40;

pub(crate) fn run(options: Options) -> Result<ExitCode> {
    let request = options.request()?;
    require([
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("busybox", "busybox-static"),
        ("modprobe", "kmod"),
        ("setpriv", "util-linux"),
        ("ldd", "libc-bin"),
        ("tar", "tar"),
    ])?;
    let busybox = find("busybox")?;
    let linked = command("ldd").arg(&busybox).output();
    if linked.is_ok_and(|output| output.status.success()) {
        bail!(
            "{} is dynamically linked: install the package busybox-static",
            busybox.display()
        );
    }
    let (suite, flavour) = match &request {
        Request::Check(suite, flavour) => (*suite, *flavour),
        Request::Run(job) => (job.suite, job.flavour()),
    };
    let folder = kernel::folder(suite, flavour)?;
    match request {
        Request::Check(..) => Ok(ExitCode::SUCCESS),
        Request::Run(job) => start(&job, &folder),
    }
}

/// The agent's program. A static one needs no libraries in the machine.
fn agent() -> Result<PathBuf> {
    let cache = debian::cache()?;
    let agent = cache.join(format!("agent-{}", &sha256(AGENT.as_bytes())[..16]));
    if agent.exists() {
        return Ok(agent);
    }
    let _lock = lock(&cache.join("agent.lock"))?;
    if agent.exists() {
        return Ok(agent);
    }
    find("rustc").context("the lab's agent is compiled once")?;
    // One place, so that what a killed compiler left is overwritten.
    let new = cache.join("agent-new");
    let mut rustc = command("rustc")
        .args([
            "--edition",
            "2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
        ])
        .args([
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
            "--crate-name",
            "agent",
            "-o",
        ])
        .arg(&new)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(io::stderr())
        .spawn()
        .context("cannot start rustc")?;
    if let Some(mut source) = rustc.stdin.take() {
        source.write_all(AGENT.as_bytes())?;
    }
    ensure!(
        rustc.wait()?.success(),
        "cannot compile the agent (rustc, gcc and libc6-dev are needed)"
    );
    std::fs::rename(&new, &agent)?;
    Ok(agent)
}

/// QEMU's ends of what the command and the machine say.
struct Channels {
    initrd: Unnamed,
    console: Unnamed,
    report: Unnamed,
    files: Unnamed,
}

fn start(job: &Job, kernel_folder: &Path) -> Result<ExitCode> {
    let release = kernel::release(kernel_folder)?;
    let mut channels = Channels {
        initrd: Unnamed::new()?,
        console: Unnamed::new()?,
        report: Unnamed::new()?,
        files: Unnamed::new()?,
    };
    let tree = pack(job, kernel_folder, &release, &agent()?)?;
    let mut archive = io::BufWriter::new(channels.initrd.as_file());
    tree.write(&mut archive)?;
    archive
        .flush()
        .context("cannot write the initial ramdisk")?;
    drop(archive);
    drop(tree);

    let (out, out_end) = io::pipe()?;
    let (err, err_end) = io::pipe()?;
    let mut qemu = qemu(job, &kernel_folder.join("vmlinuz"), &channels)?;
    qemu.args(port("out", &inherited_path(&out_end)?, 0xe9));
    qemu.args(port("err", &inherited_path(&err_end)?, 0xea));
    let (sender, ended) = mpsc::channel();
    relay(out, &io::stdout(), sender.clone())?;
    relay(err, &io::stderr(), sender)?;
    let mut child = qemu
        .stdin(Stdio::null())
        .stdout(channels.console.appending()?)
        .stderr(channels.console.appending()?)
        .spawn()
        .context("cannot start QEMU")?;
    drop((out_end, err_end));
    let how = wait(&mut child, &ended, job)?;
    if matches!(&how, Ended::Unwritable(error) if error.kind() == ErrorKind::BrokenPipe) {
        return Ok(BROKEN_PIPE.into());
    }
    tell(job, &release, how, channels)
}

/// Why the machine is gone.
enum Ended {
    ByItself(ExitStatus),
    TimedOut,
    /// Its output had nowhere to go.
    Unwritable(io::Error),
}

/// Waits until QEMU has ended, which closes both pipes, or ends it.
fn wait(qemu: &mut Child, ended: &mpsc::Receiver<io::Result<()>>, job: &Job) -> Result<Ended> {
    let deadline = Instant::now() + job.timeout;
    let early = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ended.recv_timeout(left) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => break Some(Ended::Unwritable(error)),
            Err(RecvTimeoutError::Timeout) => break Some(Ended::TimedOut),
            Err(RecvTimeoutError::Disconnected) => break None,
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
fn tell(job: &Job, release: &str, how: Ended, mut channels: Channels) -> Result<ExitCode> {
    let report = Report::parse(&channels.report.text()?);
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
        Ended::TimedOut => bail!("gave up after {} s", job.timeout.as_secs()),
        Ended::Unwritable(error) => bail!("cannot pass on the command's output: {error}"),
    };
    if let Some(error) = report.error {
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

/// QEMU with all but the command's output.
fn qemu(job: &Job, kernel: &Path, channels: &Channels) -> Result<Command> {
    // The machine goes with the lab, even if that is killed.
    let mut qemu = command("setpriv");
    qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    let mut append = String::from("console=ttyS0 reboot=t panic=-1 cryptomgr.notests=1");
    if !job.verbose {
        append += " quiet";
    }
    match job.clock {
        Clock::Host => {
            qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max,+svm"]);
        }
        Clock::Counted { tcg_named } => {
            let named = if tcg_named { "on" } else { "off" };
            qemu.args([
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
            ]);
            qemu.arg("-cpu");
            qemu.arg(format!("max,+svm,-erms,-fsrm,tcg-cpuid={named}"));
            qemu.args(["-seed", "1", "-rtc", "base=2026-01-01,clock=vm"]);
            append += " nokaslr norandmaps";
        }
    }
    for words in &job.append {
        append = append + " " + words;
    }
    qemu.args([
        "-smp",
        &job.cpus.to_string(),
        "-m",
        &job.memory_mib.to_string(),
    ]);
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]);
    qemu.arg("-kernel").arg(kernel);
    qemu.args(["-initrd", &channels.initrd.path()?, "-append", &append]);
    qemu.args(chardev("console", &channels.console.path()?));
    qemu.args(["-serial", "chardev:console"]);
    qemu.args(port("report", &channels.report.path()?, 0xeb));
    qemu.args(port("files", &channels.files.path()?, 0xec));
    qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-nic"]);
    // Not the network of its guests, 10.0.2.0/24.
    qemu.arg(if job.network {
        "user,model=virtio-net-pci,net=192.168.76.0/24,ipv6=off"
    } else {
        "none"
    });
    for (number, share) in job.shares.iter().enumerate() {
        let folder = share.folder.display().to_string().replace(',', ",,");
        let tag = tag(number);
        qemu.arg("-virtfs").arg(format!(
            "local,path={folder},mount_tag={tag},security_model=none,multidevs=remap"
        ));
    }
    Ok(qemu)
}

fn chardev(name: &str, path: &str) -> [String; 2] {
    let words = format!("file,id={name},path={path},append=on");
    [String::from("-chardev"), words]
}

/// A debug port whose bytes go to a path.
fn port(name: &str, path: &str, number: u16) -> Vec<String> {
    let device = format!("isa-debugcon,iobase={number:#x},chardev={name}");
    let mut words = chardev(name, path).to_vec();
    words.extend([String::from("-device"), device]);
    words
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

    #[test]
    fn a_port_has_a_channel() {
        let words = port("out", "/dev/fd/9", 0xe9);
        assert_eq!(words[1], "file,id=out,path=/dev/fd/9,append=on");
        assert_eq!(words[3], "isa-debugcon,iobase=0xe9,chardev=out");
    }
}
