//! A build: the plan is carried out, followed, and judged.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use boxbuild_firmware::cmdline;
use boxbuild_firmware::guest::FastBoot;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{AccessFlags, access};

use crate::container::{self, Container, ContainerError, Podman};
use crate::engine::{Ended, Engine, Event, Machine, Network, Processor, Running, Share};
use crate::follow::{Lines, Phase, Pulse, Report, Tail, phase_of_log_line};
use crate::host_paths;
use crate::interrupt::Interrupt;
use crate::plan::{Boot, Plan};
use crate::progress::{Progress, seconds};
use crate::store::ContainerImage;
use crate::target::{ResultCode, Target, TargetError};

/// Events that may wait to be looked at; more, and the guest waits.
const EVENTS: usize = 64;

/// How often the log is looked at when the machine says nothing.
const TICK: Duration = Duration::from_millis(200);

/// Time for the engine's process to end in order when it is told to.
const GRACE: Duration = Duration::from_secs(5);

/// Console lines that are kept for the report of a failure.
const LAST_CONSOLE_LINES: usize = 15;

/// Log lines that are kept for the report of a failure.
const LAST_LOG_LINES: usize = 12;

/// A machine that ran.
#[derive(Debug)]
pub struct Run {
    /// What is to be said of it.
    pub outcome: Outcome,
    /// How long each phase took, in order.
    pub phases: Vec<(Phase, Duration)>,
    /// From power-on to the end.
    pub total: Duration,
    /// Highest resident memory of the engine in bytes, if known.
    pub peak_memory: Option<u64>,
}

/// The verdict on a build.
#[derive(Debug)]
pub enum Outcome {
    /// The result files, published.
    Built(Vec<PathBuf>),
    /// There is no result.
    Failed(Failure),
}

/// A build without a result.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub reason: Reason,
    /// The last lines that matter: of the log if kiwi said something, else of the console.
    pub last_lines: Vec<String>,
    /// Where the log was published.
    pub log: Option<PathBuf>,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// kiwi ended with this exit code.
    Kiwi(i32),
    /// The guest powered off before it gave a verdict.
    EarlyPowerOff,
    /// The guest's kernel panicked.
    Panic(String),
    /// The guest asked for a reset.
    Reset,
    /// A CPU of the guest could not go on.
    TripleFault(String),
    /// No sign of life for this time.
    Hung(Duration),
    /// The time is over.
    Timeout(Duration),
    /// The user stopped it.
    Interrupted,
    /// The engine failed.
    Engine(String),
    /// podman failed, or something ended the container.
    Container(String),
    /// `result.code` cannot be read.
    UnreadableCode(String),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Kiwi(code) => {
                write!(f, "the build failed in the box (kiwi's exit code {code})")
            }
            Reason::EarlyPowerOff => {
                f.write_str("the box powered off before the build came to a result")
            }
            Reason::Panic(line) => write!(f, "the box's kernel panicked: {line}"),
            Reason::Reset => f.write_str("the box rebooted in the middle of the build"),
            Reason::TripleFault(place) => {
                write!(
                    f,
                    "the box's kernel crashed without a word (triple fault, {place})"
                )
            }
            Reason::Hung(time) => write!(
                f,
                "the box showed no sign of life for {} (--timeout-idle)",
                seconds(*time)
            ),
            Reason::Timeout(time) => {
                write!(
                    f,
                    "the build took longer than {} (--timeout)",
                    seconds(*time)
                )
            }
            Reason::Interrupted => f.write_str("interrupted"),
            Reason::Engine(text) => write!(f, "the virtual machine failed: {text}"),
            Reason::Container(text) => write!(f, "the container failed: {text}"),
            Reason::UnreadableCode(why) => {
                write!(f, "the box left a result.code that cannot be read: {why}")
            }
        }
    }
}

impl Reason {
    /// The exit code of boxbuild (see `--help`).
    pub fn exit_code(&self) -> u8 {
        match self {
            Reason::Engine(_) | Reason::Container(_) => 3,
            Reason::Timeout(_) => 124,
            Reason::Interrupted => 130,
            _ => 1,
        }
    }
}

/// The build could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
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
        events: SyncSender<Event>,
    ) -> Result<Box<dyn Running>, BuildError> {
        match self {
            Runner::Machine(engine) => {
                let machine = machine(plan, target, engine.processor())?;
                Ok(engine.start(machine, events)?)
            }
            Runner::Container(podman) => Ok(podman.start(&container(plan, target)?, events)?),
        }
    }
}

/// Carries out `plan` with `runner`.
pub fn run(
    plan: &Plan,
    runner: Runner<'_>,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Run, BuildError> {
    let target = Target::acquire(&plan.target_dir)?;
    let (sender, events) = mpsc::sync_channel(EVENTS);
    progress.begin(Phase::Boot.name());
    let mut watch = Watch::new(plan, &target, progress);
    let mut running = runner.start(plan, &target, sender)?;

    let mut stop = None;
    let mut hopeless = None;
    let ended = loop {
        match events.recv_timeout(TICK) {
            Ok(Event::Console(bytes)) => watch.console(&bytes),
            Ok(Event::Control(bytes)) => watch.control(&bytes),
            Ok(Event::Note(text)) => watch.progress.note(&text),
            Ok(Event::Hopeless(text)) => hopeless = Some(Reason::Engine(text)),
            Ok(Event::Ended(ended)) => break ended,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                break Ended::Failed(String::from("it ended without saying how"));
            }
        }
        watch.look();
        if stop.is_none() {
            stop = hopeless.take().or_else(|| watch.reason_to_stop(interrupt));
            if stop.is_some() {
                // A second Ctrl-C does not wait for an orderly end: there is none to lose.
                let grace = if interrupt.count() > 1 {
                    Duration::ZERO
                } else {
                    GRACE
                };
                running.kill(grace);
            }
        }
    };
    let peak_memory = running.peak_memory();
    drop(running);
    watch.end();

    let total = watch.started.elapsed();
    let reason = stop.or_else(|| match watch.verdict(&ended, &target.result_code()) {
        Some(Reason::Engine(text)) if matches!(runner, Runner::Container(_)) => {
            Some(Reason::Container(text))
        }
        reason => reason,
    });
    let phases = watch.phases();
    let last_lines = reason.as_ref().map(|reason| watch.last_lines(reason));
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
            })
        }
    };
    Ok(Run {
        outcome,
        phases,
        total,
        peak_memory,
    })
}

/// The machine for this plan.
fn machine(plan: &Plan, target: &Target, processor: Processor) -> Result<Machine, BuildError> {
    let installed = &plan.installed;
    let info = &installed.info;
    let path = installed.path(&info.initrd);
    let initrd_error = |source| BuildError::Initrd {
        path: path.clone(),
        source,
    };
    let (initrd, cmdline) = match plan.boot {
        Boot::Fast => {
            let part = FastBoot {
                args: plan.kiwi_args.clone(),
                environment: plan.environment.clone(),
                network: plan.network == Network::User,
                folders: plan
                    .host_paths
                    .folders
                    .iter()
                    .map(|share| (share.tag.clone(), share.path.clone(), share.read_only))
                    .collect(),
                files: host_files(plan)?,
            }
            .initrd_part();
            (
                concatenate(&path, &part).map_err(initrd_error)?,
                cmdline::fast(
                    info.arch.name(),
                    processor == Processor::Emulated,
                    &plan.console,
                    &info.cmdline,
                )?,
            )
        }
        Boot::Compat => (
            File::open(&path).map_err(initrd_error)?.into(),
            cmdline::compat(
                info.arch.name(),
                &plan.console,
                &compat_items(plan),
                &plan.kiwi_args,
            )?,
        ),
    };
    Ok(Machine {
        name: format!("boxbuild-{}", info.name),
        arch: info.arch,
        kernel: installed.path(&info.kernel),
        kernel_sha256: info.kernel.sha256.clone(),
        initrd,
        cmdline,
        disk: installed.path(&info.disk),
        disk_size: plan.disk_size,
        scratch: scratch(installed.dir.parent().unwrap_or(&installed.dir)),
        memory_mib: plan.memory_mib,
        cpus: plan.cpus,
        shares: shares(plan, target),
        network: plan.network,
        host_loopback: plan.host_loopback,
        machine_type: plan.machine_type.clone(),
        cpu_model: plan.cpu_model.clone(),
    })
}

/// The folders that the guest sees.
fn shares(plan: &Plan, target: &Target) -> Vec<Share> {
    let own = [
        Share {
            tag: String::from("kiwidescription"),
            path: plan.description.clone(),
            read_only: !plan.description_rw,
        },
        Share {
            tag: String::from("kiwibundle"),
            path: target.share().to_owned(),
            read_only: false,
        },
    ];
    let others = plan.host_paths.folders.iter().cloned();
    own.into_iter().chain(others).collect()
}

/// The host's files that go with the initial ramdisk, and their contents.
fn host_files(plan: &Plan) -> Result<Vec<(PathBuf, Vec<u8>)>, BuildError> {
    let files = plan.host_paths.files.iter();
    files
        .map(|path| match host_paths::read(path) {
            Ok(data) => Ok((path.clone(), data)),
            Err(source) => Err(BuildError::HostFile {
                path: path.clone(),
                source,
            }),
        })
        .collect()
}

/// What the kernel command line of a compat boot says of this box and this build.
fn compat_items(plan: &Plan) -> Vec<String> {
    let mut items = plan.installed.info.cmdline.clone();
    // The guest side of a published box reads settings of the form key=_value_.
    items.extend(
        plan.kiwi_version
            .as_ref()
            .map(|version| format!("kiwi_version=_{version}_")),
    );
    // A container gets its environment from podman.
    if plan.container.is_none() {
        let proxies = plan.environment.iter();
        items.extend(proxies.map(|(name, value)| format!("{name}=_{}_", value.to_string_lossy())));
    }
    items.extend(
        plan.host_paths
            .custom_mount()
            .map(|path| format!("custom_mount=_{}_", path.display())),
    );
    items
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
                &info.cmdline,
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
        network: plan.network,
        devices: plan.image_types.may_need_loop_devices(),
    })
}

/// A folder for a disk's changes, which can grow to the size of an image: the box store, or,
/// if that belongs to somebody else, the folder for large temporary files.
fn scratch(store: &Path) -> PathBuf {
    if access(store, AccessFlags::W_OK | AccessFlags::X_OK).is_ok() {
        return store.to_owned();
    }
    std::env::var_os("TMPDIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from("/var/tmp"))
}

/// The box's initrd with our part behind it, in memory: nothing of it can be left behind.
fn concatenate(initrd: &PathBuf, part: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("boxbuild-initrd", MFdFlags::MFD_CLOEXEC)?);
    let length = io::copy(&mut File::open(initrd)?, &mut file)?;
    // Parts begin at multiples of four bytes (kernel, buffer-format.rst).
    let padding = length.next_multiple_of(4) - length;
    file.write_all(&[0; 3][..padding as usize])?;
    file.write_all(part)?;
    file.rewind()?;
    Ok(file.into())
}

/// Everything observed of a running machine.
struct Watch<'a> {
    progress: &'a mut Progress,
    started: Instant,
    timeout: Option<Duration>,
    timeout_idle: Option<Duration>,
    last_life: Instant,
    reached: Vec<(Phase, Instant)>,
    tail: Tail,
    console: Lines,
    control: Lines,
    pulse: Pulse,
    console_lines: VecDeque<String>,
    log_lines: VecDeque<String>,
    error_lines: VecDeque<String>,
    panic: Option<String>,
    reports: bool,
    done: bool,
}

impl<'a> Watch<'a> {
    fn new(plan: &Plan, target: &Target, progress: &'a mut Progress) -> Watch<'a> {
        let now = Instant::now();
        Watch {
            progress,
            started: now,
            timeout: plan.timeout,
            timeout_idle: plan.timeout_idle,
            last_life: now,
            reached: vec![(Phase::Boot, now)],
            tail: Tail::new(&target.log()),
            console: Lines::default(),
            control: Lines::default(),
            pulse: Pulse::default(),
            console_lines: VecDeque::new(),
            log_lines: VecDeque::new(),
            error_lines: VecDeque::new(),
            panic: None,
            reports: false,
            done: false,
        }
    }

    fn console(&mut self, bytes: &[u8]) {
        self.last_life = Instant::now();
        let mut console = std::mem::take(&mut self.console);
        console.push(bytes, |line| self.console_line(line));
        self.console = console;
    }

    fn console_line(&mut self, line: &str) {
        if self.panic.is_none()
            && let Some((_, what)) = line.split_once("Kernel panic - not syncing: ")
        {
            self.panic = Some(what.to_owned());
        } else if self.panic.is_some() {
            // Registers and call traces would push out what led to it.
            self.progress.line(line);
            return;
        }
        self.progress.line(line);
        keep(&mut self.console_lines, line, LAST_CONSOLE_LINES);
    }

    fn control(&mut self, bytes: &[u8]) {
        let mut control = std::mem::take(&mut self.control);
        control.push(bytes, |line| match Report::parse(line) {
            Some(Report::Phase(phase)) => {
                self.reports = true;
                self.last_life = Instant::now();
                self.done |= phase == Phase::PowerOff;
                self.enter(phase);
            }
            Some(Report::Beat(ticks)) => {
                if self.pulse.beat(ticks) {
                    self.last_life = Instant::now();
                }
            }
            Some(Report::Exit(_)) | None => {}
        });
        self.control = control;
    }

    /// Looks at the log.
    fn look(&mut self) {
        let mut lines = Vec::new();
        // A log that cannot be read is no reason to end a build; its end decides.
        let grown = self
            .tail
            .poll(|line| lines.push(line.to_owned()))
            .unwrap_or(false);
        if grown {
            self.last_life = Instant::now();
        }
        for line in lines {
            self.log_line(&line);
        }
    }

    fn log_line(&mut self, line: &str) {
        if let Some(phase) = phase_of_log_line(line) {
            self.enter(phase);
        }
        if line.starts_with("[ ERROR") || line.starts_with("[ CRITICAL") {
            keep(&mut self.error_lines, line, LAST_LOG_LINES);
        }
        keep(&mut self.log_lines, line, LAST_LOG_LINES);
        self.progress.line(line);
        if line.starts_with("[ INFO") {
            let message = line.split_once(" | ").map_or(line, |(_, message)| message);
            self.progress.detail(message);
        }
    }

    /// Phases only go forward: a log line can come later than the report that overtook it.
    fn enter(&mut self, phase: Phase) {
        if self.reached.last().is_some_and(|(last, _)| *last < phase) {
            self.reached.push((phase, Instant::now()));
            self.progress.begin(phase.name());
        }
    }

    fn reason_to_stop(&self, interrupt: &Interrupt) -> Option<Reason> {
        if interrupt.count() > 0 {
            return Some(Reason::Interrupted);
        }
        if let Some(limit) = self
            .timeout
            .filter(|limit| self.started.elapsed() >= *limit)
        {
            return Some(Reason::Timeout(limit));
        }
        let limit = self
            .timeout_idle
            .filter(|limit| self.last_life.elapsed() >= *limit)?;
        Some(Reason::Hung(limit))
    }

    /// Takes what came last.
    fn end(&mut self) {
        self.look();
        if let Some(rest) = self.tail.rest() {
            self.log_line(&rest);
        }
        if let Some(rest) = self.console.rest() {
            self.console_line(&rest);
        }
    }

    /// Why the build has no result, or `None` if it has one. Only a guest that powered off
    /// itself *and* left a code of 0 has one.
    fn verdict(&self, ended: &Ended, code: &ResultCode) -> Option<Reason> {
        if let Ended::Failed(text) = ended {
            return Some(Reason::Engine(text.clone()));
        }
        if let Some(panic) = &self.panic {
            return Some(Reason::Panic(panic.clone()));
        }
        match (ended, code) {
            (Ended::PoweredOff, _) if self.reports && !self.done => Some(Reason::EarlyPowerOff),
            (Ended::PoweredOff, ResultCode::Code(0)) => None,
            (Ended::PoweredOff, ResultCode::Code(code)) => Some(Reason::Kiwi(*code)),
            (Ended::PoweredOff, ResultCode::Missing) => Some(Reason::EarlyPowerOff),
            (Ended::PoweredOff, ResultCode::Unreadable(why)) => {
                Some(Reason::UnreadableCode(why.clone()))
            }
            (Ended::Reset, _) => Some(Reason::Reset),
            (Ended::TripleFault(place), _) => Some(Reason::TripleFault(place.clone())),
            (Ended::Killed, _) => Some(Reason::Interrupted),
            (Ended::Failed(text), _) => Some(Reason::Engine(text.clone())),
        }
    }

    fn phases(&self) -> Vec<(Phase, Duration)> {
        let end = Instant::now();
        let ends = self.reached.iter().skip(1).map(|(_, at)| *at).chain([end]);
        self.reached
            .iter()
            .zip(ends)
            .map(|((phase, start), end)| (*phase, end.duration_since(*start)))
            .collect()
    }

    fn last_lines(&self, reason: &Reason) -> Vec<String> {
        let lines = match reason {
            Reason::Kiwi(_) if !self.error_lines.is_empty() => &self.error_lines,
            Reason::Kiwi(_) | Reason::Timeout(_) if !self.log_lines.is_empty() => &self.log_lines,
            Reason::Interrupted => return Vec::new(),
            _ => &self.console_lines,
        };
        lines.iter().cloned().collect()
    }
}

fn keep(lines: &mut VecDeque<String>, line: &str, most: usize) {
    if line.trim().is_empty() {
        return;
    }
    if lines.len() == most {
        lines.pop_front();
    }
    lines.push_back(line.to_owned());
}
