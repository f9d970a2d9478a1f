//! Boxes as they are published.

use boxbuild_host::arch::Arch;

/// A published box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedBox {
    /// Name that users select it by.
    pub name: String,
    /// Default guest memory in MiB.
    pub memory_mib: u64,
    /// Default number of virtual CPUs.
    pub cpus: u32,
    /// Guest console, e.g. `hvc0`.
    pub console: String,
    /// Its builds, at most one for each architecture.
    pub variants: Vec<Variant>,
}

/// A published box for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Architecture.
    pub arch: Arch,
    /// Kernel command line items.
    pub cmdline: Vec<String>,
    /// The repository with its files, as written, e.g. `obs://PROJECT/REPOSITORY`.
    pub source: String,
    /// Name of the archive with kernel and initial ramdisk (`.tar.xz`).
    pub kernel_file: String,
    /// Name of the root disk (`.qcow2`).
    pub disk_file: String,
    /// Name of the list of packages.
    pub packages_file: String,
    /// Name of the container image with registry and tag; empty if there is none.
    pub container: String,
    /// Whether the box boots with its initial ramdisk.
    pub use_initrd: bool,
}
