//! What is asked for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use boxbuild_engine::qemu::image::Bus;
use boxbuild_engine::{EngineChoice, Network};
use boxbuild_host::arch::Arch;

/// The firmware that is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FirmwareChoice {
    /// UEFI if the image has a place for its programs, else BIOS.
    #[default]
    Auto,
    /// SeaBIOS.
    Bios,
    /// UEFI without Secure Boot.
    Uefi,
    /// UEFI that starts signed programs only.
    SecureBoot,
}

impl FirmwareChoice {
    /// Every choice, in the order of the help.
    pub const ALL: [FirmwareChoice; 4] = [
        FirmwareChoice::Auto,
        FirmwareChoice::Bios,
        FirmwareChoice::Uefi,
        FirmwareChoice::SecureBoot,
    ];

    /// The name that users select it by.
    pub const fn name(self) -> &'static str {
        match self {
            FirmwareChoice::Auto => "auto",
            FirmwareChoice::Bios => "bios",
            FirmwareChoice::Uefi => "uefi",
            FirmwareChoice::SecureBoot => "secure-boot",
        }
    }
}

/// An image and the machine that it is to run in.
#[derive(Debug)]
pub struct Request {
    /// The image, or a folder with the results of a build.
    pub image: PathBuf,
    /// Its architecture, if not that of its name.
    pub arch: Option<Arch>,
    /// Whether the host's processor executes it: the engine kvm or qemu of builds.
    pub engine: EngineChoice,
    /// The firmware.
    pub firmware: FirmwareChoice,
    /// What it is connected to.
    pub bus: Bus,
    /// A disc is written to a USB stick.
    pub usb: bool,
    /// Guest memory in MiB.
    pub memory_mib: Option<u64>,
    /// Number of virtual CPUs.
    pub cpus: Option<u32>,
    /// CPU model.
    pub cpu_model: Option<OsString>,
    /// What its network reaches.
    pub network: Network,
    /// Lengths of further, empty disks in bytes.
    pub disks: Vec<u64>,
    /// A kernel that starts it.
    pub kernel: Option<PathBuf>,
    /// The ramdisk of that.
    pub initrd: Option<PathBuf>,
    /// Further words of its command line.
    pub append: Option<String>,
    /// Where the serial line is written to.
    pub log: Option<PathBuf>,
    /// What is run in a root tree, instead of the command of the image.
    pub command: Option<String>,
}

/// What an image has to do to pass.
#[derive(Debug, Default)]
pub struct TestRequest {
    /// A regular expression that it has to write; [`LOGIN_PROMPT`](crate::LOGIN_PROMPT) otherwise.
    pub expect: Option<String>,
    /// A script that is typed then.
    pub script: Option<PathBuf>,
    /// Limit for all of it.
    pub timeout: Option<Duration>,
    /// Limit for silence.
    pub idle: Option<Duration>,
    /// A file whose first line is the pass phrase of its disk.
    pub passphrase_file: Option<PathBuf>,
    /// A variable that has it.
    pub passphrase_env: Option<String>,
}
