//! From a machine to the parts that it is put together from: every file is opened here, so that
//! what runs the machine needs no names.

use std::fs::File;
use std::io;
use std::path::Path;

use boxbuild_vmm::disk::{
    DiskConfig, ImageError, ImageFormat, KeptChanges, NamedFile, OpenError, OverlayConfig, tmpfile,
};
use boxbuild_vmm::machine::{self, Config};

use crate::boot_cache::kernel;
use crate::error::StartError;
use crate::machine::{Machine, RootDisk};
use crate::network::network;

/// A machine whose files are open.
pub(super) struct Opened {
    /// Its parts.
    pub(super) config: Config,
    /// What the user should know of it.
    pub(super) note: Option<String>,
}

/// Opens the files of `machine`.
pub(super) fn open(machine: Machine) -> Result<Opened, StartError> {
    let disk = disk(&machine.disk)?;
    let (config, note) = config(machine, disk)?;
    Ok(Opened { config, note })
}

/// The root disk's files.
fn disk(disk: &RootDisk) -> Result<DiskConfig, StartError> {
    let host = |action: String| move |source| StartError::Host { action, source };
    let named = |path: &Path, file: io::Result<File>| match file {
        Ok(file) => Ok(NamedFile {
            file,
            name: path.to_owned(),
        }),
        Err(error) => Err(unusable_image(path, ImageError::Io(error))),
    };
    match disk {
        RootDisk::InPlace(image) => Ok(DiskConfig::InPlace {
            image: named(image, File::options().read(true).write(true).open(image))?,
            len: None,
        }),
        RootDisk::Private {
            image,
            kept,
            size,
            scratch,
        } => {
            let opened = named(image, File::open(image))?;
            let kept = kept.as_ref().map(|folder| {
                KeptChanges::open(folder)
                    .map_err(host(format!("read the kept disk in {}", folder.display())))
            });
            let changes = tmpfile::create(scratch).map_err(host(format!(
                "create a file for the disk's changes in {}",
                scratch.display()
            )))?;
            Ok(DiskConfig::Overlay(OverlayConfig {
                image: opened,
                format: ImageFormat::Qcow2,
                kept: kept.transpose()?,
                len: *size,
                changes: NamedFile {
                    file: changes,
                    name: scratch.clone(),
                },
            }))
        }
    }
}

/// Says which of the disk's files it is that the machine cannot use.
pub(super) fn start_error(disk: &RootDisk, error: machine::StartError) -> StartError {
    let machine::StartError::Disk { source, .. } = error else {
        return StartError::Machine(Box::new(error));
    };
    let host = |action, source| StartError::Host { action, source };
    match (source, disk) {
        (OpenError::Image(error), disk) => unusable_image(disk.image(), error),
        (
            OpenError::Kept(error),
            RootDisk::Private {
                kept: Some(kept), ..
            },
        ) => host(format!("read the kept disk in {}", kept.display()), error),
        (OpenError::Changes(error) | OpenError::Kept(error) | OpenError::Raw(error), disk) => host(
            format!(
                "create a file for the disk's changes in {}",
                disk.written_to().display()
            ),
            error,
        ),
    }
}

fn unusable_image(path: &Path, error: ImageError) -> StartError {
    StartError::Disk {
        path: path.to_owned(),
        source: Box::new(error),
    }
}

/// What the machine consists of, and what the user should know about it.
fn config(machine: Machine, disk: DiskConfig) -> Result<(Config, Option<String>), StartError> {
    let host = |action: String| move |source| StartError::Host { action, source };
    let opened = kernel::open(&machine.kernel, &machine.kernel_sha256).map_err(host(format!(
        "open the kernel {}",
        machine.kernel.display()
    )))?;
    let config = Config {
        memory_mib: machine.memory_mib,
        cpus: machine.cpus,
        kernel: opened.file,
        initrd: Some(File::from(machine.initrd)),
        cmdline: machine.cmdline,
        disks: vec![disk],
        network: machine
            .network
            .map(|policy| network(policy, machine.forward)),
        shares: machine.shares,
        config_ports: false,
        standard_devices: true,
    };
    Ok((config, opened.note))
}
