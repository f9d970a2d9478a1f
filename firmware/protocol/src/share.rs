//! Folders that the host shares over virtio-fs.

use std::path::PathBuf;

/// virtio-fs tag of the description; mounted at [`DESCRIPTION`](crate::paths::DESCRIPTION).
pub const DESCRIPTION_TAG: &str = "kiwidescription";
/// virtio-fs tag of the folder for results; mounted at [`BUNDLE`](crate::paths::BUNDLE).
pub const BUNDLE_TAG: &str = "kiwibundle";
/// virtio-fs tag of the folder that the published boxes mount where the kernel parameter
/// `custom_mount=` says.
pub const CUSTOM_TAG: &str = "custompath";

/// virtio-fs tag of another folder of the host; `index` counts all shared folders of a build.
pub fn host_tag(index: usize) -> String {
    format!("host{index}")
}

/// The guest's access to a shared folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

impl Access {
    /// The mount option: `ro` or `rw`.
    pub const fn mount_option(self) -> &'static str {
        match self {
            Access::ReadOnly => "ro",
            Access::ReadWrite => "rw",
        }
    }
}

/// A shared folder and its mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFolder {
    /// virtio-fs tag.
    pub tag: String,
    /// Absolute path in the guest.
    pub path: PathBuf,
    /// How it is mounted. The host enforces it for its side.
    pub access: Access,
}
