//! Options of the commands that start an image.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use boxbuild_engine::qemu::image::Bus;
use boxbuild_engine::{EngineChoice, Network};
use boxbuild_host::arch::Arch;
use boxbuild_images::{FirmwareChoice, Request, TestRequest};
use clap::Args;

use super::values::{self, Memory, parse_limit, parse_memory, parse_size};

/// Options on the image and its machine.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// An image, or the target folder of a build.
    pub(crate) image: PathBuf,
    /// Architecture of the image [default: that in its name, e.g. NAME.aarch64-1.0.raw, or this host's].
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<Arch>,
    /// Firmware: bios, uefi, secure-boot (UEFI that starts signed programs only), or auto.
    ///
    /// auto takes UEFI if the image has an EFI system partition, and BIOS otherwise.
    #[arg(long, value_name = "FIRMWARE", default_value = "auto", value_parser = values::firmware())]
    pub(crate) firmware: FirmwareChoice,
    /// Connect the image as a USB stick; an ISO is a CD otherwise.
    #[arg(long)]
    pub(crate) usb: bool,
    /// What the image is connected to: virtio or sata.
    #[arg(long, value_name = "BUS", default_value = "virtio", conflicts_with = "usb",
        value_parser = values::bus())]
    pub(crate) bus: Bus,
    /// kvm, qemu (emulation), or auto: kvm if it works on this host.
    #[arg(long, value_name = "ENGINE", default_value = "auto",
        value_parser = values::engine())]
    pub(crate) engine: EngineChoice,
    /// Guest memory, e.g. 4G [default: 2G, or half of what is free].
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub(crate) memory: Option<Memory>,
    /// Number of virtual CPUs [default: 2].
    #[arg(long, value_name = "N", value_parser = values::number(1..=255_u32))]
    pub(crate) cpus: Option<u32>,
    /// CPU model, in QEMU's words.
    #[arg(long, value_name = "MODEL")]
    pub(crate) cpu_model: Option<OsString>,
    /// What the image reaches: public (the Internet), user (what this host reaches), none.
    #[arg(long, value_name = "MODE", default_value = "public", value_parser = values::network())]
    pub(crate) network: Network,
    /// Add an empty disk of this size, for an installation (repeatable).
    #[arg(long = "add-disk", value_name = "SIZE", value_parser = parse_size)]
    pub(crate) add_disk: Vec<u64>,
    /// Start this kernel, with the image as its disk.
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// The initial ramdisk of that kernel.
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// Further words of the kernel command line, where no boot loader has it.
    #[arg(long, value_name = "WORDS")]
    pub(crate) append: Option<String>,
    /// Run this in a container image or root archive [default: the shell].
    #[arg(long, value_name = "COMMAND")]
    pub(crate) command: Option<String>,
    /// Write the console into this file, as plain text.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Show what the image is and how it would be started, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `boxbuild run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The image and its machine.
    #[command(flatten)]
    pub(crate) image: ImageArgs,
}

/// Options of `boxbuild test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The image and its machine.
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// A regular expression that the console must show [default: a login prompt].
    ///
    /// ^ and $ stand for the ends of lines.
    #[arg(long, value_name = "REGEX")]
    pub(crate) expect: Option<String>,
    /// A script that is typed on the console then ('boxbuild help image-script').
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// Give up after this time; 0 means never [default: 10m, emulated 1h].
    #[arg(long, value_name = "TIME", value_parser = parse_limit)]
    pub(crate) timeout: Option<Duration>,
    /// Give up when the console has been silent for this time; 0 means never [default: 3m, emulated 15m].
    #[arg(long, value_name = "TIME", value_parser = parse_limit)]
    pub(crate) timeout_idle: Option<Duration>,
    /// A file whose first line is the pass phrase of the image's disk.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_env")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// An environment variable with that pass phrase.
    #[arg(long, value_name = "NAME")]
    pub(crate) passphrase_env: Option<String>,
    /// Show the console live.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print events as JSON on standard output, one a line; with --dry-run, one object.
    #[arg(long)]
    pub(crate) json: bool,
}

impl ImageArgs {
    /// Returns the request for the image.
    pub(crate) fn request(&self) -> Request {
        Request {
            image: self.image.clone(),
            arch: self.arch,
            engine: self.engine,
            firmware: self.firmware,
            bus: self.bus,
            usb: self.usb,
            memory_mib: self.memory.map(|memory| memory.bytes >> 20),
            cpus: self.cpus,
            cpu_model: self.cpu_model.clone(),
            network: self.network,
            disks: self.add_disk.clone(),
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            append: self.append.clone(),
            log: self.log.clone(),
            command: self.command.clone(),
        }
    }
}

impl TestArgs {
    /// Returns the request for the test.
    pub(crate) fn request(&self) -> TestRequest {
        TestRequest {
            expect: self.expect.clone(),
            script: self.script.clone(),
            timeout: self.timeout,
            idle: self.timeout_idle,
            passphrase_file: self.passphrase_file.clone(),
            passphrase_env: self.passphrase_env.clone(),
        }
    }
}
