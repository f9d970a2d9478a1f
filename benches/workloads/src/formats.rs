//! File formats: what is made or read once for each build, or for each part of an image.

use anyhow::{Result, ensure};
use boxbuild_firmware::cpio::Archive;
use boxbuild_vmm::disk::Image;
use tempfile::TempDir;

use crate::driver::folder;
use crate::{Rounds, Workload, qcow2};

/// Files of the archive, and bytes of each.
const FILES: u64 = 64;
const FILE: usize = 4 << 10;
/// Clusters of the image: 8 MiB.
const CLUSTERS: u64 = 128;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "formats/cpio",
        count: FILES,
        unit: "files of 4 KiB",
        bytes: Some(FILES * FILE as u64),
        make: || {
            Ok(Box::new(Cpio {
                names: (0..FILES)
                    .map(|number| format!("boxbuild/file-{number}"))
                    .collect(),
                data: vec![0x63; FILE],
            }))
        },
    },
    Workload {
        name: "formats/qcow2-open",
        count: 1,
        unit: "image",
        bytes: None,
        make: || Ok(Box::new(Open::new()?)),
    },
];

/// Writes an archive for an initial ramdisk.
struct Cpio {
    names: Vec<String>,
    data: Vec<u8>,
}

impl Rounds for Cpio {
    fn round(&mut self) -> Result<()> {
        let mut archive = Archive::new();
        for name in &self.names {
            archive.file(name, 0o644, &self.data);
        }
        let bytes = archive.finish();
        ensure!(bytes.len() > FILES as usize * FILE, "a short archive");
        Ok(())
    }
}

/// Opens an image and reads its header and first-level table.
struct Open(TempDir);

impl Open {
    fn new() -> Result<Open> {
        let folder = folder()?;
        qcow2::write(&folder.path().join("image"), CLUSTERS)?;
        Ok(Open(folder))
    }
}

impl Rounds for Open {
    fn round(&mut self) -> Result<()> {
        let image = Image::open_qcow2(&self.0.path().join("image"))?;
        ensure!(image.len() == CLUSTERS << 16, "a wrong size");
        Ok(())
    }
}
