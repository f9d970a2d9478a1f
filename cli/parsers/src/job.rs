//! What parent and child say to each other, in JSON.

use std::time::Duration;

use boxbuild_jail::Limits;
use serde::{Deserialize, Serialize};

/// A piece of work. Its input files and output pipes follow as descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Unpacks an archive with a kernel, and an initial ramdisk if that is wanted.
    BootArchive { initrd: bool },
    /// Looks at a disk image; with `qcow2`, a raw one is refused.
    Disk { qcow2: bool },
    /// Writes a disk as plain qcow2.
    PlainDisk,
    /// Finds the type of the file system that `root=` among `cmdline` names.
    RootKind { cmdline: Vec<String> },
    /// Unpacks the kernel in a bzImage, or a packed one of arm64.
    Kernel,
    /// Reduces an initial ramdisk for a root file system of this type.
    Ramdisk { root: Option<String> },
    /// Unpacks the archive of an exported box.
    BoxArchive,
    /// Lists what is in a result.
    Listing,
    /// Puts a root tree together.
    Tree(TreeJob),
    /// Looks at what is in a file.
    Survey,
    /// Writes one entry of an archive, by its number.
    Part(usize),
    /// Unpacks a compressed file.
    Unpack,
}

/// A root tree to be put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeJob {
    pub(crate) source: TreeSource,
    /// GOARCH of the image that is wanted of a container image.
    pub(crate) arch: String,
    /// Whether kernel and initial ramdisk of the tree are wanted.
    pub(crate) kernel: bool,
    pub(crate) initrd: bool,
}

/// What a root tree is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TreeSource {
    /// One archive.
    Archive,
    /// An archive of an OCI layout.
    OciArchive,
    /// An archive as `docker save` writes it.
    DockerArchive,
    /// A folder with an OCI layout, whose files the parent opens.
    OciFolder,
}

/// What was found in a root tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFacts {
    /// Whether it has a kernel. If one was wanted and there is none, nothing is written.
    pub kernel: bool,
    /// Whether it has an initial ramdisk.
    pub initrd: bool,
}

/// A message of the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message<R> {
    /// So many bytes are going to be written. The parent answers when it agrees.
    Size(u64),
    /// The file of that name in an OCI layout is needed. The parent sends it.
    Want(String),
    /// The work is done.
    Done(R),
    /// It cannot be done, for this reason.
    Failed(String),
}

impl Job {
    /// Returns the limits of the child. They are far above what the largest distribution's files take.
    pub(crate) fn limits(&self) -> Limits {
        /// A decoder of xz or zstd takes 256 MiB at most, and a ramdisk is in memory three times.
        const MEMORY: u64 = 3 << 30;
        Limits {
            open_files: Some(64),
            memory: Some(MEMORY),
            // It writes to pipes alone.
            file_size: Some(0),
            processor: Some(self.processor()),
        }
    }

    /// Returns the processor time that it may take.
    pub(crate) fn processor(&self) -> Duration {
        let seconds = match self {
            // On the way to a boot: a second at most.
            Job::RootKind { .. } | Job::Kernel | Job::Ramdisk { .. } => 20,
            Job::BootArchive { .. } | Job::Disk { .. } => 300,
            // As much data as a disk has.
            Job::PlainDisk
            | Job::BoxArchive
            | Job::Listing
            | Job::Tree(_)
            | Job::Part(_)
            | Job::Unpack => 7200,
            // A disk may be in front of its description.
            Job::Survey => 3600,
        };
        Duration::from_secs(seconds)
    }

    /// Returns the time after which it is given up. A busy host gives it a part of a processor.
    pub(crate) fn deadline(&self) -> Duration {
        self.processor() * 3
    }
}
