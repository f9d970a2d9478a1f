//! A machine to run: a plain value.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use boxbuild_host::arch::Arch;
use boxbuild_virtiofs::Share;
use boxbuild_vmm::net::{Handover, Policy};

/// A machine that an engine runs once.
#[derive(Debug)]
pub struct Machine {
    /// Name for messages and process listings.
    pub name: String,
    /// Architecture of the guest.
    pub arch: Arch,
    /// Kernel image, as the distribution ships it.
    pub kernel: PathBuf,
    /// SHA-256 of that in lower-case hex: names it in caches.
    pub kernel_sha256: String,
    /// The kernel may be unpacked on the host, if the engine can boot it like that.
    pub unpack_kernel: bool,
    /// The initial ramdisk, complete (the box's own one and our parts behind it), as a
    /// readable file that may have no name any more.
    pub initrd: OwnedFd,
    /// Kernel command line.
    pub cmdline: String,
    /// Root disk.
    pub disk: RootDisk,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Number of virtual CPUs.
    pub cpus: u32,
    /// The guest can run virtual machines itself, as far as the engine can give it that.
    pub nested: bool,
    /// Folders shared over virtio-fs.
    pub shares: Vec<Share>,
    /// What the guest reaches over its network; without one, it has no interface at all.
    pub network: Option<Policy>,
    /// A way into the guest over that network.
    pub forward: Option<Forward>,
    /// Connections over that network that another process continues.
    pub handover: Option<Handover>,
    /// Override of the machine type (engine qemu only).
    pub machine_type: Option<OsString>,
    /// Override of the CPU model (engine qemu only).
    pub cpu_model: Option<OsString>,
    /// What an emulated x86-64 processor can do at least, without such an override.
    pub cpu_level: CpuLevel,
}

/// A level of the x86-64 architecture (its psABI, "Micro-Architecture Levels"), which a distribution's
/// programs may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum CpuLevel {
    /// What every x86-64 processor can do.
    #[default]
    V1,
    /// SSE 4.2, `cmpxchg16b`, `popcnt`: EL 9, Leap 16.
    V2,
    /// AVX2, BMI, FMA: EL 10.
    V3,
    /// AVX-512, which QEMU does not emulate.
    V4,
}

impl CpuLevel {
    /// All of them.
    pub const ALL: [CpuLevel; 4] = [CpuLevel::V1, CpuLevel::V2, CpuLevel::V3, CpuLevel::V4];

    /// The highest level that can be emulated.
    pub const EMULATED: CpuLevel = CpuLevel::V3;

    /// Its name, e.g. `x86-64-v2`.
    pub fn name(self) -> &'static str {
        match self {
            CpuLevel::V1 => "x86-64-v1",
            CpuLevel::V2 => "x86-64-v2",
            CpuLevel::V3 => "x86-64-v3",
            CpuLevel::V4 => "x86-64-v4",
        }
    }

    /// The level with this name.
    pub fn from_name(name: &str) -> Option<CpuLevel> {
        CpuLevel::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// The root disk of a machine, from a qcow2 image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootDisk {
    /// The image is only read; what the guest writes goes to a file without a name.
    Private {
        /// The qcow2 image.
        image: PathBuf,
        /// Folders where [`Running::keep_disk`] or [`Running::keep_checkpoint`] of the same engine left
        /// what was written over this image, the lowest first. They are only read.
        kept: Vec<PathBuf>,
        /// Length of the disk in bytes, if it is to be longer than the image.
        size: Option<u64>,
        /// Folder with room for that file.
        scratch: PathBuf,
    },
    /// The guest writes into the image.
    InPlace(PathBuf),
}

impl RootDisk {
    /// Returns the image.
    pub fn image(&self) -> &Path {
        match self {
            RootDisk::Private { image, .. } | RootDisk::InPlace(image) => image,
        }
    }

    /// The folder whose file system takes what the guest writes.
    pub fn written_to(&self) -> &Path {
        match self {
            RootDisk::Private { scratch, .. } => scratch,
            RootDisk::InPlace(image) => image.parent().unwrap_or(image),
        }
    }
}

/// What the guest's network reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// What the host reaches, by outgoing connections only; nothing listens on the host but
    /// [`Machine::forward`].
    User,
    /// Of that, the Internet: no private address, no address of the host. A container has no such
    /// network.
    Public,
    /// No interface at all.
    None,
}

/// A port of the host that leads to one of the guest while the machine runs.
#[derive(Debug)]
pub struct Forward {
    /// Holds the host's port, on its loopback.
    pub listener: TcpListener,
    /// The guest's port.
    pub port: u16,
}
