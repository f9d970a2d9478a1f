//! The description of a box: the file `box.json` in its folder.

use boxbuild_host::arch::Arch;
use boxbuild_host::secret;
use serde::{Deserialize, Serialize};

use super::inventory::Inventory;

/// The description of a box. All file names are relative to the box's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxInfo {
    /// Version of the format of this description, [`BoxInfo::FORMAT`].
    pub format: u32,
    /// Name in the store, which users select the box by.
    pub name: String,
    /// What it was made from, e.g. `debian:trixie`.
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
    /// The same root tree as a container image, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerImage>,
    /// What it has of what builds may need, if that was looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
    /// What it was fetched from, for a published box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
}

/// What a published box was fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Name in the list of published boxes.
    pub name: String,
    /// Address of the folder that the files came from.
    pub source: String,
    /// The archive with kernel and initial ramdisk, as published.
    pub kernel: PublishedFile,
    /// The root disk, as published: a compressed one is installed unpacked.
    pub disk: PublishedFile,
}

impl BoxInfo {
    /// The same for people, programs and records: without the secrets of its addresses.
    pub fn redacted(&self) -> BoxInfo {
        BoxInfo {
            origin: secret::redact(&self.origin).into_owned(),
            published: self.published.as_ref().map(Published::redacted),
            ..self.clone()
        }
    }
}

impl Published {
    /// The same for people and programs: without the secrets of its addresses.
    pub fn redacted(&self) -> Published {
        let mut shown = self.clone();
        for url in [
            &mut shown.source,
            &mut shown.kernel.url,
            &mut shown.disk.url,
        ] {
            *url = secret::redact(url).into_owned();
        }
        shown
    }
}

/// A file as it is published, or a file of a locked box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedFile {
    /// Address; empty for a file that was made on this host.
    pub url: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// SHA-512 in lower-case hex, where that is the published checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<String>,
}

/// The container image with a box's root tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ContainerImage {
    /// A root tree as a tar archive (compressed or not), for `podman import`.
    Archive(BoxFile),
    /// An image in a registry. Its entry point follows the published boxes' contract.
    Registry {
        /// Name with registry and tag.
        registry: String,
    },
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
    /// File name within the box's folder, without separators.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

impl BoxInfo {
    /// The format that this program writes and reads.
    pub const FORMAT: u32 = 1;

    /// Returns all files of the box.
    pub fn files(&self) -> Vec<&BoxFile> {
        let mut files = vec![&self.kernel, &self.initrd, &self.disk];
        if let Some(ContainerImage::Archive(file)) = &self.container {
            files.push(file);
        }
        files
    }
}
