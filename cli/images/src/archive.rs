//! What is in archives: a disk, a kernel with what belongs to it, a container image, a root tree.

use std::fs::File;
use std::path::Path;

use boxbuild_parsers::{Part, Survey, TreeSource};

use crate::error::RunError;
use crate::image::{Preparation, What, is_beside, not_bootable, parse, words};

/// Where a container image has a disk.
const FOLDER_OF_DISK: &str = "disk/";

impl Preparation<'_> {
    /// What is in an archive or a compressed file.
    pub(crate) fn archive(
        &mut self,
        path: &Path,
        file: File,
        depth: usize,
    ) -> Result<What, RunError> {
        let survey = self.parser.survey(&file).map_err(parse(path))?;
        match survey {
            Survey::Single => {
                let plain = self.unpacked(path, &file)?;
                self.recognise(path, plain, depth + 1)
            }
            Survey::Root => Ok(What::Root {
                archive: file,
                source: TreeSource::Archive,
            }),
            Survey::Oci(parts) => self.container(path, file, &parts, TreeSource::OciArchive, depth),
            Survey::Docker(parts) => {
                self.container(path, file, &parts, TreeSource::DockerArchive, depth)
            }
            Survey::Parts(parts) => self.of_parts(path, &file, &parts, depth),
        }
    }

    /// A container image: the disk in it, if its largest layer has nothing else (KIWI's formats `oci:…` and
    /// `docker:…`, KubeVirt's containerDisk), or its root tree.
    fn container(
        &mut self,
        path: &Path,
        file: File,
        parts: &[Part],
        source: TreeSource,
        depth: usize,
    ) -> Result<What, RunError> {
        let archive = self.plain(path, file)?;
        if let Some(largest) = parts.iter().max_by_key(|part| part.size) {
            let layer = self.part(path, &archive, largest)?;
            // What is wrong with the image is told where it is unpacked.
            if let Ok(Survey::Parts(files)) = self.parser.survey(&layer)
                && let [disk] = files.as_slice()
                && disk.name.starts_with(FOLDER_OF_DISK)
                && is_disk(disk)
            {
                let disk = self.part(path, &layer, disk)?;
                return self.recognise(path, disk, depth + 1);
            }
        }
        Ok(What::Root { archive, source })
    }

    fn of_parts(
        &mut self,
        path: &Path,
        file: &File,
        parts: &[Part],
        depth: usize,
    ) -> Result<What, RunError> {
        let ends = |end: &'static str| move |part: &&Part| part.name.to_lowercase().ends_with(end);
        let kernel = parts.iter().find(ends(".kernel"));
        let initrd = parts
            .iter()
            .find(|part| ends(".initrd")(part) || ends(".initrd.xz")(part));
        // KIWI's `installpxe`: a disk that a server of the network hands out, and what writes it.
        if parts.iter().any(|part| {
            let name = part.name.rsplit('/').next().unwrap_or_default();
            name.starts_with("pxeboot.") && name.ends_with(".initrd")
        }) {
            return Err(not_bootable(
                path,
                "it installs a disk over the network, from a server that its .append names: test the disk itself",
            ));
        }
        if let (Some(kernel), Some(initrd)) = (kernel, initrd) {
            return self.kis(path, file, parts, kernel, initrd);
        }
        let disks = parts.iter().filter(|part| is_disk(part));
        match disks.collect::<Vec<_>>().as_slice() {
            [disk] => {
                let disk = self.part(path, file, disk)?;
                self.recognise(path, disk, depth + 1)
            }
            [] => Err(not_bootable(
                path,
                "the archive has neither a disk, a kernel with a ramdisk, a container image nor a root tree in it",
            )),
            several => {
                let names: Vec<_> = several.iter().take(5).map(|part| &*part.name).collect();
                let names = boxbuild_host::text::shown(&names.join(", ")).into_owned();
                let text = format!("the archive has several disks in it: {names}");
                Err(not_bootable(path, &text))
            }
        }
    }

    /// Kernel, ramdisk and file system of an archive for the network.
    fn kis(
        &mut self,
        path: &Path,
        file: &File,
        parts: &[Part],
        kernel: &Part,
        initrd: &Part,
    ) -> Result<What, RunError> {
        let cmdline = match parts.iter().find(|part| part.name.ends_with(".append")) {
            Some(part) => Some(
                words(&self.part(path, file, part)?)
                    .map_err(|error| RunError::Read(path.to_owned(), error))?,
            ),
            None => None,
        };
        // The root file system is called as the image, without an ending; it may be compressed.
        let stem = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
        let initrd_stem = stem(&initrd.name);
        let root = parts
            .iter()
            .filter(|part| {
                part.size > 0 && part.number != kernel.number && part.number != initrd.number
            })
            .filter(|part| !is_beside(&part.name))
            .max_by_key(|part| {
                (
                    initrd_stem.starts_with(stem(&part.name).trim_end_matches(".xz")),
                    part.size,
                )
            });
        let disk = match root {
            Some(root) => {
                let disk = self.part(path, file, root)?;
                Some(self.plain(path, disk)?)
            }
            None => None,
        };
        Ok(What::Kernel {
            kernel: self.part(path, file, kernel)?,
            initrd: Some(self.part(path, file, initrd)?),
            disk,
            cmdline,
        })
    }
}

/// Whether a file of an archive is a disk, or a disc, by its name: box.img of Vagrant, disk.raw of Google, the disk
/// of an appliance (OVF).
fn is_disk(part: &Part) -> bool {
    const ENDS: [&str; 9] = [
        ".vmdk",
        ".qcow2",
        ".raw",
        ".img",
        ".vdi",
        ".vhd",
        ".vhdfixed",
        ".vhdx",
        ".iso",
    ];
    let name = part.name.to_lowercase();
    ENDS.iter().any(|end| name.ends_with(end))
}
