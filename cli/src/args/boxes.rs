//! Options of `boxbuild box`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::fetch::FetchOptions;
use super::values::{self, Memory, parse_memory, parse_size};
use boxbuild_boxes::fetch::{self, Key, SignatureError};
use boxbuild_boxes::lock_file::{self, LockError, Locked};
use boxbuild_boxes::source::import::{ImportInput, ImportOptions};
use boxbuild_boxes::source::{SourceError, check_package};
use boxbuild_boxes::store::Guest;
use boxbuild_host::arch::Arch;
use boxbuild_protocol::kernel_args::is_console;

/// Commands on boxes.
#[derive(Debug, Subcommand)]
pub(crate) enum BoxCommand {
    /// Create a box from the packages of a distribution.
    Create(CreateArgs),
    /// List the boxes on this host and the published ones.
    List,
    /// Show everything that is known about a box.
    Info {
        /// Name of the box.
        name: String,
        /// Architecture of the box.
        #[arg(long, value_name = "ARCH")]
        arch: Option<Arch>,
    },
    /// Fetch or update published boxes. Builds do this automatically.
    Pull(PullArgs),
    /// Create a box from an existing disk, root tree or container image, or from an exported box.
    Import(ImportArgs),
    /// Write a box to one file, which 'boxbuild box import --archive' makes a box of elsewhere.
    Export {
        /// Name of the box.
        name: String,
        /// The file: a tar archive, compressed with zstd.
        file: PathBuf,
        /// Architecture of the box.
        #[arg(long, value_name = "ARCH")]
        arch: Option<Arch>,
        /// Replace the file.
        #[arg(long)]
        force: bool,
    },
    /// Check the files of boxes against their checksums.
    Verify {
        /// Names of the boxes [default: all].
        names: Vec<String>,
    },
    /// Record the contents of boxes in a lock file, for builds with --locked.
    Lock {
        /// Names of the boxes.
        #[arg(required = true)]
        names: Vec<String>,
        /// Architecture of the boxes.
        #[arg(long, value_name = "ARCH")]
        arch: Option<Arch>,
        /// The lock file.
        #[arg(long, value_name = "FILE", default_value = lock_file::FILE_NAME)]
        lock_file: PathBuf,
    },
    /// Undo what builds with --no-snapshot have written into the disks of boxes.
    Reset {
        /// Names of the boxes.
        #[arg(required = true)]
        names: Vec<String>,
        /// Architecture of the boxes.
        #[arg(long, value_name = "ARCH")]
        arch: Option<Arch>,
    },
    /// Remove unused files: interrupted downloads, old versions ('boxbuild prune --boxes').
    Prune {
        /// Show what would be removed, and stop.
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove a box from this host.
    Rm {
        /// Name of the box.
        name: String,
    },
}

/// Reads the name of a package.
fn package(text: &str) -> Result<String, String> {
    check_package(text).map(|()| text.to_owned())
}

/// Options of `box create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the new box.
    pub(crate) name: String,
    /// Distribution and suite, e.g. debian:trixie, ubuntu:noble.
    #[arg(long, value_name = "DISTRIBUTION:SUITE")]
    pub(crate) from: String,
    /// Package mirror [default: the one of this host's apt, or mmdebstrap's own].
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
    /// Public keys of the mirror's packages [default: those of the distribution's keyring package].
    #[arg(long, value_name = "FILE")]
    pub(crate) keyring: Option<PathBuf>,
    /// Size of the box's disk as the guest sees it.
    #[arg(long, value_name = "SIZE", default_value = "20G", value_parser = parse_size)]
    pub(crate) disk_size: u64,
    /// Architecture of the box. One that differs from this host's needs QEMU's user emulation
    /// (qemu-user-static); the box is stored as NAME.ARCH.
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<Arch>,
    /// Version of KIWI from the Python package index.
    #[arg(long, value_name = "VERSION")]
    pub(crate) kiwi_version: Option<String>,
    /// Add a package of the distribution to the box, besides what KIWI may call (repeatable).
    #[arg(long, value_name = "PACKAGE", value_parser = package)]
    pub(crate) with: Vec<String>,
    /// Replace the box of that name.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Options of `box pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Names of the boxes.
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    /// Architecture of the boxes.
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<Arch>,
    /// Fetch them even if they are up to date.
    #[arg(long)]
    pub(crate) force: bool,
    /// Refuse to work where the kernel of this host cannot confine the processes that read the box
    /// (Landlock, filters of system calls).
    #[arg(long)]
    pub(crate) require_confinement: bool,
    /// Limits on what may be fetched.
    #[command(flatten)]
    pub(crate) fetch: FetchOptions,
    /// Requirements on the boxes.
    #[command(flatten)]
    pub(crate) source: SourceOptions,
}

/// Options of `box import`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("material").required(true))]
pub(crate) struct ImportArgs {
    /// Name of the new box.
    pub(crate) name: String,
    /// A disk image, raw or qcow2; needs --kernel.
    #[arg(long, value_name = "FILE", group = "material", requires = "kernel")]
    pub(crate) disk: Option<PathBuf>,
    /// A root tree: a folder, or a tar archive (also compressed with gzip, xz or zstd).
    #[arg(long, value_name = "DIR|TAR", group = "material")]
    pub(crate) rootfs: Option<PathBuf>,
    /// A container image in the OCI layout: a folder, or an archive of one.
    #[arg(long, value_name = "DIR|TAR", group = "material")]
    pub(crate) oci: Option<PathBuf>,
    /// A box that 'boxbuild box export' has written: with its kernel, memory and all else.
    #[arg(long, value_name = "FILE", group = "material", conflicts_with_all = ["kernel", "initrd",
        "cmdline", "console", "memory", "cpus", "disk_size", "guest"])]
    pub(crate) archive: Option<PathBuf>,
    /// Kernel [default: the newest in the root tree].
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// Initial ramdisk [default: the newest in the root tree].
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// Architecture of the box.
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<Arch>,
    /// Kernel command line [default: root= with the partition that is found].
    #[arg(long, value_name = "WORDS")]
    pub(crate) cmdline: Option<String>,
    /// Console of the box.
    #[arg(long, value_name = "TTY", default_value = "hvc0")]
    pub(crate) console: String,
    /// Default guest memory of builds in it.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_memory)]
    pub(crate) memory: Memory,
    /// Default number of virtual CPUs of builds in it.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = values::number(1..=254_u32))]
    pub(crate) cpus: u32,
    /// Size of the disk that is made from a root tree, as the guest sees it.
    #[arg(long, value_name = "SIZE", default_value = "20G", value_parser = parse_size)]
    pub(crate) disk_size: u64,
    /// How a box of ppc64le or s390x can boot: only by its own init (compat), or also by boxbuild's
    /// (fast), which needs busybox, modprobe and the virtio modules in its initial ramdisk. Boxes of
    /// x86_64 and aarch64 need no such option.
    #[arg(long, value_name = "STYLE", default_value = "compat",
        value_parser = values::guest())]
    pub(crate) guest: Guest,
    /// Replace the box of that name.
    #[arg(long)]
    pub(crate) force: bool,
    /// Refuse to work where the kernel of this host cannot confine the processes that read the box
    /// (Landlock, filters of system calls).
    #[arg(long)]
    pub(crate) require_confinement: bool,
}

impl ImportArgs {
    /// Returns the options of the import.
    ///
    /// # Errors
    /// Fails if the console or the command line is not fit for a kernel command line.
    pub(crate) fn options(&self) -> Result<ImportOptions, SourceError> {
        if !is_console(&self.console) {
            return Err(SourceError::Usage(format!(
                "--console {}: not a console: write e.g. hvc0 or ttyS0",
                self.console
            )));
        }
        let bad = |c: char| c == '"' || (c.is_control() && c != '\t');
        if let Some(words) = self.cmdline.as_ref().filter(|words| words.contains(bad)) {
            return Err(SourceError::Usage(format!(
                "--cmdline {}: quotation marks and control characters are not possible there",
                words.escape_debug()
            )));
        }
        let input = [
            self.disk.clone().map(ImportInput::Disk),
            self.rootfs.clone().map(ImportInput::RootTree),
            self.oci.clone().map(ImportInput::OciImage),
        ];
        let input = input.into_iter().flatten().next().ok_or_else(|| {
            SourceError::Usage(String::from("name --disk, --rootfs, --oci or --archive"))
        })?;
        Ok(ImportOptions {
            name: self.name.clone(),
            input,
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            arch: self.arch.unwrap_or_else(Arch::host),
            cmdline: self.cmdline.clone(),
            console: self.console.clone(),
            memory_mib: self.memory.bytes >> 20,
            cpus: self.cpus,
            disk_size: self.disk_size,
            guest: self.guest,
        })
    }
}

/// Requirements on published boxes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Published boxes")]
pub(crate) struct SourceOptions {
    /// Build only with the box in the lock file.
    #[arg(long)]
    pub(crate) locked: bool,
    /// The lock file, with --locked.
    #[arg(long, value_name = "FILE", default_value = lock_file::FILE_NAME, requires = "locked")]
    pub(crate) lock_file: PathBuf,
    /// OpenPGP public key that must have signed the published checksums.
    #[arg(long, value_name = "FILE", env = fetch::KEY_VARIABLE)]
    pub(crate) signed_by: Option<PathBuf>,
}

impl SourceOptions {
    /// Returns the contents of the lock file, with `--locked`.
    ///
    /// # Errors
    /// Fails if it cannot be read.
    pub(crate) fn locked(&self) -> Result<Option<Locked>, LockError> {
        let path = self.locked.then_some(&self.lock_file);
        path.map(|path| Locked::read(path)).transpose()
    }

    /// Returns the key, with `--signed-by`.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is not a public key.
    pub(crate) fn key(&self) -> Result<Option<Key>, SignatureError> {
        let path = self.signed_by.as_deref();
        path.filter(|path| !path.as_os_str().is_empty())
            .map(Key::read)
            .transpose()
    }
}
