//! The box store: installed boxes below one directory.
//!
//! Layout: `ROOT/NAME/` holds `box.json` ([`BoxInfo`]) and the files it names. A box appears
//! and changes as a whole (staged beside its place, verified, renamed).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::arch::Arch;

/// What `box.json` says about one box. All file names are relative to the box's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxInfo {
    /// Version of this description, [`BoxInfo::FORMAT`].
    pub format: u32,
    /// Name that users select the box by.
    pub name: String,
    /// Where it comes from, e.g. `debian:trixie`.
    pub origin: String,
    /// Architecture of the guest.
    pub arch: Arch,
    /// Creation time, seconds since the epoch.
    pub created: u64,
    /// Kernel image.
    pub kernel: BoxFile,
    /// Initial ramdisk.
    pub initrd: BoxFile,
    /// Root disk (qcow2).
    pub disk: BoxFile,
    /// Virtual size of the root disk in bytes.
    pub disk_size: u64,
    /// Kernel command line items, e.g. `root=/dev/vda1`.
    pub cmdline: Vec<String>,
    /// Guest console, e.g. `hvc0`.
    pub console: String,
    /// What the guest side can do.
    pub guest: Guest,
    /// Version of KIWI in the box, if known.
    pub kiwi: Option<String>,
    /// Default guest memory in MiB.
    pub memory_mib: u64,
    /// Default number of virtual CPUs.
    pub cpus: u32,
}

/// The protocol that the box's guest side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guest {
    /// The published boxes' contract: arguments on the kernel command line, systemd boot.
    Compat,
    /// In addition to `Compat`: the initrd has busybox and modprobe with all virtio modules,
    /// so that boxbuild's own `/init` can bring the box up without the box's init system.
    Fast,
}

/// One file of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxFile {
    /// File name within the box's directory: no separators.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

impl BoxInfo {
    /// The `format` this program writes and reads.
    pub const FORMAT: u32 = 1;
}

/// A box in the store, ready to be used.
#[derive(Debug, Clone)]
pub struct InstalledBox {
    /// Directory of the box.
    pub dir: PathBuf,
    /// Its description.
    pub info: BoxInfo,
}

impl InstalledBox {
    /// Path of one of the box's files.
    pub fn path(&self, file: &BoxFile) -> PathBuf {
        self.dir.join(&file.name)
    }
}

/// The directory that holds all boxes of a user.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Where the boxes are.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
