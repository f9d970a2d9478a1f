//! From a machine to the parts that it is put together from: every file is opened here, so that
//! what runs the machine needs no names.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use boxbuild_vmm::disk::{Disk, Image, ImageError, Overlay, open_in_place};
use boxbuild_vmm::machine::Config;
use boxbuild_vmm::net::{Forward, NetworkConfig};

use crate::boot_cache::kernel;
use crate::error::StartError;
use crate::machine::{Machine, Network, RootDisk, Share};

/// A machine whose files are open.
pub(super) struct Opened {
    /// Its parts.
    pub(super) config: Config,
    /// What takes the guest's writes to the root disk, unless they go into the image itself.
    pub(super) overlay: Option<Arc<Overlay>>,
    /// What the user should know of it.
    pub(super) note: Option<String>,
}

/// Opens the files of `machine`.
pub(super) fn open(machine: Machine) -> Result<Opened, StartError> {
    let overlay = overlay(&machine.disk)?.map(Arc::new);
    let disk: Box<dyn Disk> = match &overlay {
        Some(overlay) => Box::new(Arc::clone(overlay)),
        None => open_in_place(machine.disk.image(), None)
            .map_err(|error| unusable_image(machine.disk.image(), error))?,
    };
    let (config, note) = config(machine, disk)?;
    Ok(Opened {
        config,
        overlay,
        note,
    })
}

/// Over the root disk's image, if the guest does not write into that.
fn overlay(disk: &RootDisk) -> Result<Option<Overlay>, StartError> {
    let RootDisk::Private {
        image,
        kept,
        size,
        scratch,
    } = disk
    else {
        return Ok(None);
    };
    let host = |action: String| move |source| StartError::Host { action, source };
    let mut opened = Image::open_qcow2(image).map_err(|error| unusable_image(image, error))?;
    if let Some(kept) = kept {
        opened = opened
            .with_changes(kept)
            .map_err(host(format!("read the kept disk in {}", kept.display())))?;
    }
    let overlay = Overlay::new(opened, *size, scratch).map_err(host(format!(
        "make a file for the disk's changes in {}",
        scratch.display()
    )))?;
    Ok(Some(overlay))
}

fn unusable_image(path: &Path, error: ImageError) -> StartError {
    StartError::Disk {
        path: path.to_owned(),
        source: Box::new(error),
    }
}

/// What the machine consists of, and what the user should know about it.
fn config(machine: Machine, disk: Box<dyn Disk>) -> Result<(Config, Option<String>), StartError> {
    let host = |action: String| move |source| StartError::Host { action, source };
    let opened = kernel::open(&machine.kernel, &machine.kernel_sha256).map_err(host(format!(
        "open the kernel {}",
        machine.kernel.display()
    )))?;
    let shares = machine
        .shares
        .iter()
        .map(Share::to_device)
        .collect::<Result<_, _>>()?;
    let config = Config {
        memory_mib: machine.memory_mib,
        cpus: machine.cpus,
        kernel: opened.file,
        initrd: Some(File::from(machine.initrd)),
        cmdline: machine.cmdline,
        disks: vec![disk],
        network: (machine.network == Network::User).then_some(NetworkConfig {
            host_loopback: machine.host_loopback,
            forward: machine.forward.map(|forward| Forward {
                listener: forward.listener,
                port: forward.port,
            }),
        }),
        shares,
        config_ports: false,
        standard_devices: true,
    };
    Ok((config, opened.note))
}
