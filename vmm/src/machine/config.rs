//! The configuration of a machine.

use std::fs::File;

use boxbuild_virtiofs::PassthroughFs;

use crate::disk::DiskConfig;
use crate::net::NetworkConfig;
use crate::threads::Threads;

/// A machine for one run: a plain value with open files and no paths.
#[derive(Debug)]
pub struct Config {
    /// `/dev/kvm`, open for reading and writing; opened by name without it.
    pub kvm: Option<File>,
    /// How its threads are started and confined.
    pub threads: Threads,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Number of CPUs.
    pub cpus: u32,
    /// Whether the guest can run virtual machines itself, as far as the host's KVM allows that: the
    /// largest part of that kernel that a guest can reach.
    pub nested: bool,
    /// x86: a bzImage, or the ELF file inside one. Arm: an Image, which may be packed with gzip or zstd.
    pub kernel: File,
    /// Initial ramdisk.
    pub initrd: Option<File>,
    /// Kernel command line.
    pub cmdline: String,
    /// Disks, in order: vda, vdb, …
    pub disks: Vec<DiskConfig>,
    /// Network of the guest; without it there is no card.
    pub network: Option<NetworkConfig>,
    /// Folders shared over virtio-fs.
    pub shares: Vec<PassthroughFs>,
    /// x86: whether configuration space of PCI is reached by ports 0xcf8 and 0xcfc, too. A kernel
    /// that finds them prefers them, and each access leaves the guest twice; any x86-64
    /// kernel of a distribution does without (`CONFIG_PCI_MMCONFIG`).
    pub config_ports: bool,
    /// Whether it has the devices that every machine has: console, random numbers, balloon.
    /// Without them what is written to [`Handle::input`](super::Handle::input) is lost. For
    /// comparisons with machines that have a serial port only.
    pub standard_devices: bool,
}
