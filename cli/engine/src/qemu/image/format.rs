//! Formats of disk images that QEMU reads.

use serde_json::{Value, json};

/// How the bytes of a disk are kept in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// As they are.
    Raw,
    /// QEMU's own.
    Qcow2,
    /// VMware's.
    Vmdk,
    /// That of Virtual PC and Azure.
    Vhd,
    /// That of Hyper-V.
    Vhdx,
    /// VirtualBox's.
    Vdi,
}

impl DiskFormat {
    /// The name that users know it by.
    pub const fn name(self) -> &'static str {
        match self {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Vmdk => "vmdk",
            DiskFormat::Vhd => "vhd",
            DiskFormat::Vhdx => "vhdx",
            DiskFormat::Vdi => "vdi",
        }
    }

    /// QEMU's driver.
    const fn driver(self) -> &'static str {
        match self {
            DiskFormat::Vhd => "vpc",
            other => other.name(),
        }
    }

    /// Whether an image of this format can lie over another one.
    const fn has_backing(self) -> bool {
        matches!(self, DiskFormat::Qcow2 | DiskFormat::Vmdk)
    }

    /// The node over `file` that is only read. Nothing is opened that the image names.
    pub(super) fn node(self, file: &Value) -> Value {
        let mut node = json!({"driver": self.driver(), "read-only": true, "file": file});
        if self.has_backing() {
            // Without this, QEMU opens what the image names as its backing file.
            node["backing"] = Value::Null;
        }
        node
    }
}
