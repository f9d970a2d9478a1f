//! What is known of a box: the file `box.json` in its folder.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::StoreError;
use boxbuild_host::arch::Arch;
use boxbuild_host::digest::hex;

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
    /// The same root tree as a container image, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerImage>,
    /// What it was fetched from, if it is a published box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
}

/// Where a published box was fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Name in the list of published boxes.
    pub name: String,
    /// Address of the folder that the parts came from.
    pub source: String,
    /// The archive with kernel and initial ramdisk, as published.
    pub kernel: Part,
    /// The root disk, as published: the one that is installed may have been unpacked.
    pub disk: Part,
}

/// A file as it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Address.
    pub url: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// SHA-512 in lower-case hex, where that is the published checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<String>,
}

/// Where a box's container image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ContainerImage {
    /// A root tree as a tar archive (compressed or not), for `podman import`.
    Archive(BoxFile),
    /// An image in a registry. Its entry point follows the contract of the published boxes.
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

    /// All files of the box.
    pub fn files(&self) -> Vec<&BoxFile> {
        let mut files = vec![&self.kernel, &self.initrd, &self.disk];
        if let Some(ContainerImage::Archive(file)) = &self.container {
            files.push(file);
        }
        files
    }
}

/// A new file whose content is hashed as it is written.
#[derive(Debug)]
pub struct HashedFile {
    file: File,
    hash: Sha256,
    size: u64,
}

impl HashedFile {
    /// Makes the file.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(path: &Path) -> io::Result<HashedFile> {
        Ok(HashedFile {
            file: File::create(path)?,
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// Bytes written, and their SHA-256 in lower-case hex.
    pub fn finish(self) -> (u64, String) {
        (self.size, hex(&self.hash.finalize()))
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Refuses what cannot name a box.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let good = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    if good {
        Ok(())
    } else {
        Err(StoreError::BadName(name.to_owned()))
    }
}

/// Refuses what cannot name a file of a box: separators, and names that hide or lead elsewhere.
pub fn check_file_name(name: &str) -> Result<(), String> {
    let good = !name.is_empty()
        && name.len() <= 200
        && !name.starts_with(['.', '-'])
        && !name.contains(|c: char| c == '/' || c.is_control());
    if good {
        Ok(())
    } else {
        Err(format!(
            "'{}' is no name for a file of a box",
            name.escape_debug()
        ))
    }
}

/// The name under which a published box is stored. It always has the architecture: the folder
/// `ROOT/NAME` may be kiwi's own cache, which has files of several architectures.
pub fn published_name(name: &str, arch: Arch) -> String {
    format!("{name}.{arch}")
}

/// The name under which a box `name` for `arch` is stored: boxes for foreign architectures have
/// theirs in the name, so that one name stands for the box of each architecture.
pub fn name_for(name: &str, arch: Arch) -> String {
    if arch == Arch::host() {
        name.to_owned()
    } else {
        format!("{name}.{arch}")
    }
}
