//! The commands on boxes, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::arch::Arch;
use crate::args::{CreateArgs, Memory, parse_memory, parse_size};
use crate::fetch::{self, Key, SignatureError};
use crate::fetch_options::FetchOptions;
use crate::import::{ImportError, ImportOptions, Material};
use crate::lockfile::{self, LockError, Locked};
use crate::peer_options::checked_console;
use crate::store::Guest;

/// Commands on boxes.
#[derive(Debug, Subcommand)]
pub enum BoxCommand {
    /// Make a box from a distribution's own packages.
    Create(CreateArgs),
    /// List the boxes on this machine and the published ones.
    List {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Show everything known about a box.
    Info {
        /// Name of the box.
        name: String,
        /// Architecture of the box.
        #[arg(long, value_name = "ARCH")]
        arch: Option<Arch>,
    },
    /// Fetch published boxes, or update them. Builds do that by themselves.
    Pull(PullArgs),
    /// Make a box from a disk, a root tree or a container image that is there already.
    Import(ImportArgs),
    /// Check the files of boxes against their checksums.
    Verify {
        /// Names of the boxes [default: all].
        names: Vec<String>,
    },
    /// Write down what boxes consist of, for builds with --locked.
    Lock {
        /// Names of the boxes.
        #[arg(required = true)]
        names: Vec<String>,
        /// Architecture of the boxes.
        #[arg(long, value_name = "ARCH")]
        arch: Option<Arch>,
        /// The file to write to.
        #[arg(long, value_name = "FILE", default_value = lockfile::FILE_NAME)]
        lock_file: PathBuf,
    },
    /// Remove what nobody needs: interrupted downloads, files of old versions.
    Prune,
    /// Remove a box from this machine.
    Rm {
        /// Name of the box.
        name: String,
    },
}

/// Options of `box pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Names of the boxes.
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Architecture of the boxes.
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Arch>,
    /// Fetch them anew, though they are what is published.
    #[arg(long)]
    pub force: bool,
    /// What may be fetched.
    #[command(flatten)]
    pub fetch: FetchOptions,
    /// What they must be.
    #[command(flatten)]
    pub source: SourceOptions,
}

/// Options of `box import`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("material").required(true))]
pub struct ImportArgs {
    /// Name of the new box.
    pub name: String,
    /// A disk image, raw or qcow2; needs --kernel.
    #[arg(long, value_name = "FILE", group = "material", requires = "kernel")]
    pub disk: Option<PathBuf>,
    /// A root tree: a folder, or a tar archive (also compressed with gzip, xz or zstd).
    #[arg(long, value_name = "DIR|TAR", group = "material")]
    pub rootfs: Option<PathBuf>,
    /// A container image in the OCI layout: a folder, or an archive of one.
    #[arg(long, value_name = "DIR|TAR", group = "material")]
    pub oci: Option<PathBuf>,
    /// Kernel [default: the newest in the root tree].
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Initial ramdisk [default: the newest in the root tree].
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Architecture of the box.
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Arch>,
    /// Kernel command line [default: root= the partition that is found].
    #[arg(long, value_name = "WORDS")]
    pub cmdline: Option<String>,
    /// Console of the box.
    #[arg(long, value_name = "TTY", default_value = "hvc0")]
    pub console: String,
    /// Guest memory of builds in it.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_memory)]
    pub memory: Memory,
    /// Virtual CPUs of builds in it.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=255))]
    pub cpus: u32,
    /// Size of the disk that is made of a root tree, as the guest sees it.
    #[arg(long, value_name = "SIZE", default_value = "20G", value_parser = parse_size)]
    pub disk_size: u64,
    /// Only for a box of another architecture than this host's: how it can be brought up. By its
    /// own init alone (compat), or by boxbuild's as well, because its initial ramdisk has busybox,
    /// modprobe and the virtio modules (fast). Boxes of this host's need nothing for that.
    #[arg(long, value_name = "STYLE", default_value = "compat", value_parser = ["compat", "fast"])]
    pub guest: String,
    /// Replace a box of that name.
    #[arg(long)]
    pub force: bool,
}

impl ImportArgs {
    /// What is to be made.
    ///
    /// # Errors
    /// If the console or the command line cannot stand on a kernel command line.
    pub fn options(&self) -> Result<ImportOptions, ImportError> {
        checked_console(&self.console).map_err(ImportError::Option)?;
        let bad = |c: char| c == '"' || (c.is_control() && c != '\t');
        if let Some(words) = self.cmdline.as_ref().filter(|words| words.contains(bad)) {
            return Err(ImportError::Option(format!(
                "--cmdline {}: quotation marks and control characters cannot stand there",
                words.escape_debug()
            )));
        }
        let material = [
            self.disk.clone().map(Material::Disk),
            self.rootfs.clone().map(Material::RootFs),
            self.oci.clone().map(Material::Oci),
        ];
        let material =
            material.into_iter().flatten().next().ok_or_else(|| {
                ImportError::Option(String::from("name --disk, --rootfs or --oci"))
            })?;
        Ok(ImportOptions {
            name: self.name.clone(),
            material,
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            arch: self.arch.unwrap_or_else(Arch::host),
            cmdline: self.cmdline.clone(),
            console: self.console.clone(),
            memory_mib: self.memory.bytes >> 20,
            cpus: self.cpus,
            disk_size: self.disk_size,
            guest: if self.guest == "fast" {
                Guest::Fast
            } else {
                Guest::Compat
            },
            replace: self.force,
        })
    }
}

/// What published boxes must be.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Published boxes")]
pub struct SourceOptions {
    /// Insist on the box that is in the lock file.
    #[arg(long)]
    pub locked: bool,
    /// The lock file.
    #[arg(long, value_name = "FILE", default_value = lockfile::FILE_NAME)]
    pub lock_file: PathBuf,
    /// OpenPGP public key that the published checksums must be signed by.
    #[arg(long, value_name = "FILE", env = fetch::KEY_VARIABLE)]
    pub signed_by: Option<PathBuf>,
}

impl SourceOptions {
    /// The lock file, if it counts.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn locked(&self) -> Result<Option<Locked>, LockError> {
        let path = self.locked.then_some(&self.lock_file);
        path.map(|path| Locked::read(path)).transpose()
    }

    /// The key, if there is one.
    ///
    /// # Errors
    /// If it is none.
    pub fn key(&self) -> Result<Option<Key>, SignatureError> {
        let path = self.signed_by.as_deref();
        path.filter(|path| !path.as_os_str().is_empty())
            .map(Key::read)
            .transpose()
    }
}
