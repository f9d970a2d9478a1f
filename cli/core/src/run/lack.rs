//! What a failed build can have lacked: memory, or space on a disk, and whose.

use std::path::PathBuf;

use boxbuild_engine::CpuLevel;
use boxbuild_host::units::size;

/// What a build lacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// Memory of the box, in MiB; with the process that its kernel killed, if it said which.
    Memory(u64, Option<String>),
    /// Memory of the host, or what a limit over the container leaves of it.
    HostMemory,
    /// Space on the disk of the box, which has this many bytes.
    Disk(u64),
    /// Space on the file system of a folder of the host.
    HostDisk(PathBuf),
    /// Space where podman keeps containers.
    Storage,
    /// A processor of this level.
    Processor(CpuLevel),
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Lack::Memory(mib, process) => {
                write!(f, "the box ran out of memory ({mib} MiB)")?;
                if let Some(process) = process {
                    write!(f, ", and its kernel ended {process}")?;
                }
                f.write_str(": give it more with --box-memory")
            }
            Lack::HostMemory => f.write_str(
                "the container ran out of memory, of this host or of a limit over it: free some memory, \
                 raise the limit, or build in a machine (without --container)",
            ),
            Lack::Disk(bytes) => write!(
                f,
                "the disk of the box is full ({}): give it more with --disk-size",
                size(*bytes)
            ),
            Lack::HostDisk(folder) => write!(
                f,
                "the file system of {} is full: free some space, or choose another folder",
                folder.display()
            ),
            Lack::Storage => f.write_str(
                "the file system of podman's storage is full (podman info, graphRoot): free some space \
                 there, e.g. with 'podman system prune'",
            ),
            Lack::Processor(level) => write!(
                f,
                "the programs of the box need a processor of the level {}, which this one is not: build \
                 on a newer host with --engine kvm, or in another box",
                level.name()
            ),
        }
    }
}

impl Lack {
    /// A word for programs (docs/json.md).
    pub fn word(&self) -> &'static str {
        match self {
            Lack::Memory(..) => "out-of-memory",
            Lack::HostMemory => "host-out-of-memory",
            Lack::Disk(_) => "disk-full",
            Lack::HostDisk(_) | Lack::Storage => "host-disk-full",
            Lack::Processor(_) => "old-processor",
        }
    }

    /// Whether it is the host that lacks something.
    pub fn is_of_the_host(&self) -> bool {
        !matches!(self, Lack::Memory(..) | Lack::Disk(_))
    }
}
