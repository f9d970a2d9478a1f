//! A machine for an image: plain values.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;

use boxbuild_host::arch::Arch;
use boxbuild_vmm::net::Policy;

use super::firmware::Uefi;
use super::format::DiskFormat;
use crate::machine::CpuLevel;

/// The device of KVM.
pub(super) const KVM: &str = "/dev/kvm";

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accelerator {
    /// The best one for guests of `arch` on this host.
    pub fn for_guest(arch: Arch) -> Accelerator {
        let works = arch == Arch::host()
            && match arch {
                Arch::X86_64 | Arch::Aarch64 => crate::kvm::usable().is_ok(),
                // There is no smoke guest: QEMU goes back to the translator by itself.
                _ => nix::unistd::access(KVM, kvm_access()).is_ok(),
            };
        if works {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        }
    }

    /// The name that users know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }
}

fn kvm_access() -> nix::unistd::AccessFlags {
    nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::W_OK
}

/// How a machine starts.
#[derive(Debug)]
pub enum ImageBoot {
    /// SeaBIOS, or what is in its place on other architectures.
    Bios,
    /// UEFI firmware.
    Uefi(Uefi),
    /// A kernel, by QEMU itself.
    Kernel {
        /// The kernel.
        kernel: File,
        /// Its initial ramdisk.
        initrd: Option<File>,
        /// Its command line.
        cmdline: String,
    },
}

/// What a medium is connected to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk; a CD is at virtio-scsi.
    #[default]
    Virtio,
    /// AHCI.
    Sata,
    /// A USB stick.
    Usb,
}

/// What a medium is to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A disk that can be written: its changes are gone with the machine.
    Disk,
    /// A disc in a drive.
    Cd,
}

/// A disk or disc.
#[derive(Debug)]
pub struct Medium {
    /// The image; `None` is an empty disk.
    pub image: Option<(File, DiskFormat)>,
    /// Length of the disk in bytes.
    pub size: u64,
    /// What it is.
    pub role: Role,
    /// What it is connected to.
    pub bus: Bus,
}

/// A machine for an image.
#[derive(Debug)]
pub struct ImageMachine {
    /// Name for process listings.
    pub name: String,
    /// Architecture of the guest.
    pub arch: Arch,
    /// What executes it.
    pub accelerator: Accelerator,
    /// How it starts.
    pub boot: ImageBoot,
    /// Disks and discs, the one that is started from first.
    pub media: Vec<Medium>,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Number of virtual CPUs.
    pub cpus: u32,
    /// What an emulated x86-64 processor can do at least.
    pub cpu_level: CpuLevel,
    /// Another CPU model.
    pub cpu_model: Option<OsString>,
    /// What its network reaches; without one, it has no interface.
    pub network: Option<Policy>,
    /// The folder for what the guest writes to its disks.
    pub scratch: PathBuf,
    /// More restarts of the guest end the machine; `None` for any number.
    pub restarts: Option<u32>,
}

/// What the board of a machine has.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) arch: Arch,
    pub(super) accelerator: Accelerator,
    pub(super) name: String,
    pub(super) memory_mib: u64,
    pub(super) cpus: u32,
    pub(super) cpu_level: CpuLevel,
    pub(super) cpu_model: Option<OsString>,
}
