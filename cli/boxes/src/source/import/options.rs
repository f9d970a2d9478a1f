//! What is imported as what box.

use std::path::{Path, PathBuf};

use boxbuild_host::arch::Arch;

use crate::store::Guest;

/// The files that a box is made of.
#[derive(Debug, Clone)]
pub enum ImportInput {
    /// A disk image, raw or qcow2.
    Disk(PathBuf),
    /// A root tree: a folder or an archive.
    RootTree(PathBuf),
    /// A container image in the OCI layout: a folder or an archive.
    OciImage(PathBuf),
}

/// Options of a box that is imported.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Name of the new box, without the architecture.
    pub name: String,
    /// The files that it is made of.
    pub input: ImportInput,
    /// Kernel; the newest in the root tree if `None`.
    pub kernel: Option<PathBuf>,
    /// Initial ramdisk; the newest in the root tree, if there is one, if `None`.
    pub initrd: Option<PathBuf>,
    /// Architecture of the box.
    pub arch: Arch,
    /// Kernel command line; `root=` with the partition that is found if `None`.
    pub cmdline: Option<String>,
    /// Guest console.
    pub console: String,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Virtual size in bytes of a disk that is made of a root tree.
    pub disk_size: u64,
    /// What the guest side can do.
    pub guest: Guest,
}

impl ImportInput {
    /// Returns the path of the disk, tree or image.
    pub(super) fn path(&self) -> &Path {
        match self {
            ImportInput::Disk(path) | ImportInput::RootTree(path) | ImportInput::OciImage(path) => {
                path
            }
        }
    }

    /// Returns what the box's description calls it, e.g. `rootfs:PATH`.
    pub(super) fn origin(&self) -> String {
        let kind = match self {
            ImportInput::Disk(_) => "disk",
            ImportInput::RootTree(_) => "rootfs",
            ImportInput::OciImage(_) => "oci",
        };
        format!("{kind}:{}", self.path().display())
    }
}
