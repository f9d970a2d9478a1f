//! How an image did.

use std::fmt;
use std::time::Duration;

use boxbuild_engine::CpuLevel;
use boxbuild_host::text::shown;
use boxbuild_host::units::seconds;

/// Why a guest does not come up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Its kernel panicked.
    Panic,
    /// Its init gave up.
    Init,
    /// It is in a shell for emergencies.
    Emergency,
    /// Its boot loader cannot go on.
    BootLoader,
    /// Firmware found nothing to start.
    NoBootDevice,
    /// Firmware refused what it should start.
    SecureBoot,
}

impl Trouble {
    /// The word for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Trouble::Panic => "panic",
            Trouble::Init => "init",
            Trouble::Emergency => "emergency-shell",
            Trouble::BootLoader => "boot-loader",
            Trouble::NoBootDevice => "no-boot-device",
            Trouble::SecureBoot => "secure-boot",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::Panic => "the kernel of the image panicked",
            Trouble::Init => "the init of the image gave up",
            Trouble::Emergency => "the image came up to an emergency shell only",
            Trouble::BootLoader => "the boot loader of the image cannot go on",
            Trouble::NoBootDevice => "the firmware found nothing to boot on the image",
            Trouble::SecureBoot => {
                "the firmware refused the boot loader of the image (Secure Boot)"
            }
        })
    }
}

/// Why an image did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It said so; with its words.
    Trouble(Trouble, String),
    /// It asks for a pass phrase, and none was given.
    AsksForPassphrase(String),
    /// It does not take the pass phrase.
    WrongPassphrase(String),
    /// It has written nothing at all.
    Silent(Duration),
    /// It writes nothing any more.
    Hung(Duration),
    /// It runs, but did not write what was expected.
    NotSeen {
        /// What was expected.
        pattern: String,
        /// Where in the script; 0 is the command line.
        line: usize,
        /// How long it had.
        time: Duration,
    },
    /// It switched itself off before.
    PoweredOff,
    /// It restarts again and again.
    Restarts,
    /// Its programs need a newer processor.
    Processor(CpuLevel),
    /// Its command ended with another code than 0.
    Command(i32),
}

impl Reason {
    /// The word for programs (docs/json.md).
    pub const fn word(&self) -> &'static str {
        match self {
            Reason::Trouble(trouble, _) => trouble.word(),
            Reason::AsksForPassphrase(_) => "passphrase",
            Reason::WrongPassphrase(_) => "wrong-passphrase",
            Reason::Silent(_) => "silent",
            Reason::Hung(_) => "hung",
            Reason::NotSeen { .. } => "not-seen",
            Reason::PoweredOff => "power-off",
            Reason::Restarts => "restarts",
            Reason::Processor(_) => "old-processor",
            Reason::Command(_) => "command",
        }
    }

    /// What may help.
    pub const fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Reason::AsksForPassphrase(_) => {
                "give the pass phrase with --passphrase-file FILE or --passphrase-env NAME"
            }
            Reason::Silent(_) => {
                "nothing can be seen of an image that does not use its serial line: its kernel needs \
                 console=ttyS0 (of arm64: ttyAMA0) on its command line (kernelcmdline in the description); \
                 --firmware chooses another firmware, --timeout-idle waits longer"
            }
            Reason::Hung(_) => {
                "a kernel without console=ttyS0 (of arm64: ttyAMA0) on its command line is silent behind its \
                 boot loader; --timeout-idle waits longer"
            }
            Reason::Trouble(Trouble::NoBootDevice, _) => {
                "--firmware bios or --firmware uefi chooses another firmware, --bus sata or --usb another \
                 connection"
            }
            Reason::Processor(_) => {
                "--engine kvm gives it the processor of this host, --cpu-model another one; or test it on a \
                 host with a newer processor"
            }
            Reason::Trouble(Trouble::SecureBoot, _) => "--firmware uefi boots without Secure Boot",
            _ => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Trouble(trouble, text) => write!(f, "{trouble}: {}", shown(text)),
            Reason::AsksForPassphrase(text) => {
                write!(f, "the image asks for a pass phrase: {}", shown(text))
            }
            Reason::WrongPassphrase(text) => {
                write!(
                    f,
                    "the image does not take the pass phrase: {}",
                    shown(text)
                )
            }
            Reason::Silent(time) => write!(
                f,
                "the image has written nothing to its serial line for {}",
                seconds(*time)
            ),
            Reason::Hung(time) => write!(
                f,
                "the image hangs: it has written nothing more to its serial line for {}",
                seconds(*time)
            ),
            Reason::NotSeen {
                pattern,
                line,
                time,
            } => {
                let place = match line {
                    0 => String::new(),
                    line => format!(" (line {line} of the script)"),
                };
                write!(
                    f,
                    "the image has not written what matches '{}'{place} within {}",
                    shown(pattern),
                    seconds(*time)
                )
            }
            Reason::PoweredOff => {
                f.write_str("the image switched itself off before it had written what was expected")
            }
            Reason::Restarts => f.write_str("the image restarts again and again"),
            Reason::Processor(level) => write!(
                f,
                "the programs of the image need a newer processor ({})",
                level.name()
            ),
            Reason::Command(code) => write!(f, "the command in the image ended with {code}"),
        }
    }
}

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The image did what was expected.
    Passed,
    /// It did not.
    Failed(Reason),
    /// The user interrupted it.
    Interrupted,
}

/// A test that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What became of it.
    pub verdict: Verdict,
    /// From power-on to the end.
    pub time: Duration,
    /// The last lines of the console.
    pub last_lines: Vec<String>,
}
