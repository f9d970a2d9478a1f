//! Which guest is made.

use clap::ValueEnum;

use crate::kernel::{Flavour, Suite};

/// Bytes of the disk.
pub(super) const DISK: u64 = 2 << 30;
/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
/// Sectors of a MiB, where partitions are aligned; the last one is the table's copy.
pub(super) const MIB: u64 = 2048;

/// The program that makes the initrd, when the kernel is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Initrd {
    InitramfsTools,
    Dracut,
}

/// The root's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Fs {
    Ext4,
    Btrfs,
}

impl Initrd {
    pub(super) fn package(self) -> &'static str {
        match self {
            Initrd::InitramfsTools => "initramfs-tools",
            Initrd::Dracut => "dracut",
        }
    }
}

impl Fs {
    pub(super) fn name(self) -> &'static str {
        match self {
            Fs::Ext4 => "ext4",
            Fs::Btrfs => "btrfs",
        }
    }

    /// The number of the root's partition. Published boxes have both: root alone, and root behind
    /// a boot loader's two partitions.
    pub(super) fn partition(self) -> u32 {
        match self {
            Fs::Ext4 => 1,
            Fs::Btrfs => 3,
        }
    }

    pub(super) fn device(self) -> String {
        format!("/dev/vda{}", self.partition())
    }

    /// The first sector of the root's partition.
    pub(super) fn start(self) -> u64 {
        match self {
            Fs::Ext4 => MIB,
            Fs::Btrfs => 34 * MIB,
        }
    }

    pub(super) fn sectors(self) -> u64 {
        DISK / SECTOR - MIB - self.start()
    }

    /// The partition table, as sfdisk reads it.
    pub(super) fn table(self) -> String {
        let mut table = String::from("label: gpt\n");
        if self == Fs::Btrfs {
            // A boot loader's own, and an empty one of a type that systemd does not mount by itself.
            table += "start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n\
                      start=4096, size=65536, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n";
        }
        table
            + &format!(
                "start={}, size={}, type=linux\n",
                self.start(),
                self.sectors()
            )
    }

    pub(super) fn tool(self) -> (&'static str, &'static str) {
        match self {
            Fs::Ext4 => ("mke2fs", "e2fsprogs"),
            Fs::Btrfs => ("mkfs.btrfs", "btrfs-progs"),
        }
    }
}

/// What `guest` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Make it again
    #[arg(long)]
    pub(super) refresh: bool,
    #[arg(value_enum)]
    pub(super) suite: Suite,
    #[arg(value_enum)]
    pub(super) flavour: Flavour,
    #[arg(value_enum)]
    pub(super) initrd: Initrd,
    #[arg(value_enum)]
    pub(super) fs: Fs,
}

impl Options {
    pub(super) fn name(&self) -> String {
        format!(
            "{}-{}-{}-{}",
            self.suite.name(),
            self.flavour.name(),
            self.initrd.package(),
            self.fs.name()
        )
    }
}
