//! A disk made of a root tree or a container image.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;

use boxbuild_host::error::IoError;

use super::boot_files::{newest_initrd, newest_kernel};
use super::oci;
use super::options::{ImportInput, ImportOptions};
use super::tree::Tree;
use crate::source::box_source::Making;
use crate::source::command::Workshop;
use crate::source::error::SourceError;
use crate::source::host::Host;
use crate::source::root_disk;

/// Files of a box in the workshop.
#[derive(Debug)]
pub(super) struct RootTreeFiles {
    /// The folder of the workshop, which the caller removes.
    pub(super) dir: PathBuf,
    /// A raw disk, whose root is [`root_disk::ROOT_DEVICE`].
    pub(super) disk: PathBuf,
    /// The kernel that the options name, or the one in the tree.
    pub(super) kernel: PathBuf,
    /// The initial ramdisk that the options name, or the one in the tree.
    pub(super) initrd: Option<PathBuf>,
}

/// Makes a disk of the root tree or container image that `options` name.
pub(super) fn make(
    options: &ImportOptions,
    host: &Host,
    making: &mut Making<'_>,
) -> Result<RootTreeFiles, SourceError> {
    let path = options.input.path();
    let dir = making.staging.path().join("work");
    let workshop = Workshop::new(dir.clone(), host, making.interrupt);
    fs::create_dir(&dir).map_err(IoError::on("create", &dir))?;

    making.reporter.begin("read the root tree");
    let is_image = matches!(options.input, ImportInput::OciImage(_));
    let layers = if is_image {
        oci::layers(path, options.arch, &dir.join("image"))?
    } else if path.is_dir() {
        let archive = dir.join("folder.tar");
        root_disk::pack_folder(&workshop, path, &archive)?;
        vec![archive]
    } else {
        vec![path.to_owned()]
    };
    let tree = Tree::read(layers, is_image)?;
    let mut copies = Vec::new();
    let kernel = match &options.kernel {
        Some(kernel) => kernel.clone(),
        None => {
            let name = newest_kernel(&tree).ok_or_else(|| {
                SourceError::Usage(format!(
                    "there is no kernel in {} (boot/vmlinuz-*, usr/lib/modules/*/vmlinuz): name \
                     one with --kernel",
                    path.display()
                ))
            })?;
            let copy = dir.join("kernel");
            copies.push((name, copy.clone()));
            copy
        }
    };
    let initrd = options.initrd.clone().or_else(|| {
        let copy = dir.join("initrd");
        copies.push((newest_initrd(&tree)?, copy.clone()));
        Some(copy)
    });
    let tar = dir.join("root.tar");
    let out = File::create(&tar).map_err(IoError::on("create", &tar))?;
    tree.write(BufWriter::with_capacity(1 << 20, out), &copies)?;

    making.reporter.begin("make the disk");
    let disk = root_disk::make_disk(&workshop, options.disk_size, "")?;
    Ok(RootTreeFiles {
        dir,
        disk,
        kernel,
        initrd,
    })
}
