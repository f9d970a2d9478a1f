//! The outcome of a run.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::lack::Lack;
use crate::kiwi_log::Phase;
use crate::output_dir::ResultFile;
use crate::timeline::Timeline;
use boxbuild_engine::CpuLevel;
use boxbuild_host::exit::Exit;
use boxbuild_host::stop::Stopped;
use boxbuild_host::units::seconds;
use boxbuild_package_cache::Moved as Packages;

/// A machine that ran.
#[derive(Debug)]
pub struct Run {
    /// The verdict on the build.
    pub outcome: Outcome,
    /// kiwi's log, if there is one.
    pub log: Option<File>,
    /// How long each phase took, in order.
    pub phases: Vec<(Phase, Duration)>,
    /// From power-on to the end.
    pub total: Duration,
    /// Highest resident memory of the engine in bytes, if known.
    pub peak_memory: Option<u64>,
    /// Bytes of packages and lists, where there is a cache.
    pub packages: Option<Packages>,
    /// Addresses of what was asked for and is not in the cache, where nothing was fetched.
    pub absent: Vec<String>,
    /// Where the time went.
    pub timeline: Timeline,
    /// The box came up: what fails then is the build.
    pub came_up: bool,
    /// The level of the emulated processor with which another attempt may succeed.
    pub raise: Option<CpuLevel>,
}

impl Run {
    /// Why another way to boot may work where this one did not: the box never came up, and
    /// was not stopped.
    pub fn boot_failure(&self) -> Option<&Reason> {
        let Outcome::Failed(Failure { reason, .. }) = &self.outcome else {
            return None;
        };
        Some(reason).filter(|reason| reason.is_of_the_boot(self.came_up))
    }
}

/// The verdict on a build.
#[derive(Debug)]
pub enum Outcome {
    /// The results, published.
    Built(Vec<ResultFile>),
    /// There is no result.
    Failed(Failure),
}

/// A build without a result.
#[derive(Debug)]
pub struct Failure {
    /// Why there is no result.
    pub reason: Reason,
    /// The phase that failed; `None` if the results could not be published in time.
    pub phase: Option<Phase>,
    /// The last lines that matter: of the log if kiwi said something, else of the console.
    pub last_lines: Vec<String>,
    /// Where the log was published.
    pub log: Option<PathBuf>,
    /// What is kept of it.
    pub kept: Option<Kept>,
}

/// A kept build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Name of the build.
    pub id: String,
    /// Bytes that it takes.
    pub bytes: u64,
    /// A build can go on with it after kiwi's `prepare`.
    pub resumable: bool,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// kiwi ended with this exit code.
    Kiwi(i32),
    /// boxbuild's init cannot bring up this box.
    Unfit(String),
    /// The guest powered off before it gave a verdict.
    EarlyPowerOff,
    /// The same, and it has never said anything.
    SilentPowerOff,
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
    /// A CPU of the guest does not leave its kernel.
    Lockup(String),
    /// Memory or space on a disk.
    Lack(Lack),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Kiwi(code) => {
                write!(f, "the build failed in the box (kiwi's exit code {code})")
            }
            Reason::Unfit(why) => write!(f, "the box cannot be booted fast: {why}"),
            Reason::EarlyPowerOff => {
                f.write_str("the box powered off before the build came to a result")
            }
            Reason::SilentPowerOff => f.write_str(
                "the box powered off without a word: its kernel drives none of the machine's devices. \
                 It needs PCI (CONFIG_PCI), virtio_pci, virtio_console, virtio_blk and virtiofs, built \
                 in or as modules in its initial ramdisk, which must be of the same release",
            ),
            Reason::Panic(line) => write!(f, "the box's kernel panicked: {line}"),
            Reason::Reset => f.write_str("the box rebooted in the middle of the build"),
            Reason::TripleFault(place) => {
                write!(
                    f,
                    "the box's kernel crashed without a message (triple fault, {place})"
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
            Reason::Lockup(line) => write!(f, "the box's kernel is stuck: {line}"),
            Reason::Lack(lack) => lack.fmt(f),
        }
    }
}

impl Reason {
    /// A word for programs (docs/json.md).
    pub fn word(&self) -> &'static str {
        match self {
            Reason::Kiwi(_) => "kiwi",
            Reason::Unfit(_) => "unfit",
            Reason::EarlyPowerOff | Reason::SilentPowerOff => "early-power-off",
            Reason::Panic(_) => "panic",
            Reason::Reset => "reset",
            Reason::TripleFault(_) => "triple-fault",
            Reason::Hung(_) => "hung",
            Reason::Timeout(_) => "timeout",
            Reason::Interrupted => "interrupted",
            Reason::Engine(_) => "engine",
            Reason::Container(_) => "container",
            Reason::UnreadableCode(_) => "unreadable-code",
            Reason::Lockup(_) => "lockup",
            Reason::Lack(lack) => lack.word(),
        }
    }

    /// The reason for a build that was stopped, whose limit of time is `limit`.
    pub(super) fn of_stop(stopped: Stopped, limit: Option<Duration>) -> Reason {
        match stopped {
            Stopped::Interrupted => Reason::Interrupted,
            Stopped::TimeOver => Reason::Timeout(limit.unwrap_or_default()),
        }
    }

    /// Whether the boot failed: the box did not come up (`came_up`), and was not stopped.
    pub fn is_of_the_boot(&self, came_up: bool) -> bool {
        let of_the_box = matches!(
            self,
            Reason::Unfit(_)
                | Reason::Kiwi(_)
                | Reason::EarlyPowerOff
                | Reason::SilentPowerOff
                | Reason::Panic(_)
                | Reason::Reset
                | Reason::TripleFault(_)
                | Reason::Hung(_)
                | Reason::Lockup(_)
        );
        of_the_box && !came_up
    }

    /// Whether the same is to be expected of the next boot: a crash without a word may have
    /// been an accident.
    pub fn is_worth_remembering(&self) -> bool {
        !matches!(self, Reason::Reset | Reason::TripleFault(_))
    }

    /// Whether there is something to look at in what the box wrote.
    pub fn leaves_a_disk(&self) -> bool {
        !matches!(
            self,
            Reason::Unfit(_)
                | Reason::SilentPowerOff
                | Reason::Interrupted
                | Reason::Engine(_)
                | Reason::Container(_)
        )
    }

    /// The exit code of boxbuild.
    pub fn exit(&self) -> Exit {
        match self {
            Reason::Engine(_) | Reason::Container(_) => Exit::Host,
            Reason::Lack(lack) if lack.is_of_the_host() => Exit::Host,
            Reason::Hung(_) | Reason::Timeout(_) => Exit::Timeout,
            Reason::Interrupted => Exit::Interrupted,
            Reason::Kiwi(_)
            | Reason::Unfit(_)
            | Reason::EarlyPowerOff
            | Reason::SilentPowerOff
            | Reason::Panic(_)
            | Reason::Reset
            | Reason::TripleFault(_)
            | Reason::UnreadableCode(_)
            | Reason::Lockup(_)
            | Reason::Lack(_) => Exit::BuildFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case E15: an idle build ended with 1, one that took too long with 124.
    #[test]
    fn both_limits_of_time_have_one_exit_code() {
        let time = Duration::from_secs(1);
        assert_eq!(Reason::Timeout(time).exit(), Exit::Timeout);
        assert_eq!(Reason::Hung(time).exit(), Exit::Timeout);
        assert_eq!(Reason::Kiwi(1).exit(), Exit::BuildFailed);
    }
}
