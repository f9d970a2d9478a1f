//! From a machine to the parts that it is put together from: every file is opened here, so that
//! what runs the machine needs no names.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use boxbuild_virtiofs::PassthroughFs;
use boxbuild_vmm::disk::{ImageError, KeptChanges, tmpfile};
use boxbuild_vmm::kvm::KvmError;
use boxbuild_vmm::net::{Handover, HostNetwork};

use super::wire::{DiskConfig, MachineConfig, NetworkConfig, Part, StartFailure};
use crate::boot_cache::kernel;
use crate::error::StartError;
use crate::machine::{Forward, Machine, RootDisk};
use crate::wire_share::WireShare;

/// A machine whose files are open.
pub(super) struct Opened {
    /// Its parts.
    pub(super) config: MachineConfig,
    /// Its files, in the order of [`MachineConfig`].
    pub(super) files: Vec<OwnedFd>,
    /// The file that takes the changes of its disk.
    pub(super) changes: Option<File>,
    /// What the user should know of it.
    pub(super) note: Option<String>,
}

/// Opens the files of `machine`.
pub(super) fn open(machine: Machine) -> Result<Opened, StartError> {
    let host = |action: String| move |source| StartError::Host { action, source };
    let device = File::options().read(true).write(true).open("/dev/kvm");
    let device = device.map_err(|error| StartError::Machine(Box::new(KvmError::Open(error))))?;
    let kernel = kernel::open(&machine.kernel, &machine.kernel_sha256).map_err(host(format!(
        "open the kernel {}",
        machine.kernel.display()
    )))?;
    let mut files: Vec<OwnedFd> = vec![device.into(), kernel.file.into(), machine.initrd];
    let (disk, changes) = open_disk(&machine.disk, &mut files)?;
    let network = machine.network.map(|policy| NetworkConfig {
        policy,
        host: HostNetwork::read(),
        forward: machine.forward.map(|Forward { listener, port }| {
            files.push(listener.into());
            port
        }),
        handover: machine.handover.map(|Handover { channel, ports }| {
            files.push(channel.into());
            ports
        }),
    });
    let mut shares = Vec::new();
    for share in machine.shares {
        let root = PassthroughFs::open_root(&share).map_err(|source| StartError::Share {
            path: share.root.clone(),
            source: Box::new(source),
        })?;
        files.push(root);
        shares.push(WireShare::from(&share));
    }
    Ok(Opened {
        config: MachineConfig {
            memory_mib: machine.memory_mib,
            cpus: machine.cpus,
            nested: machine.nested,
            cmdline: machine.cmdline,
            disk,
            network,
            shares,
        },
        files,
        changes,
        note: kernel.note,
    })
}

/// Opens the root disk's files. Returns the one for its changes as well, if they go into a file.
fn open_disk(
    disk: &RootDisk,
    files: &mut Vec<OwnedFd>,
) -> Result<(DiskConfig, Option<File>), StartError> {
    let host = |action: String| move |source| StartError::Host { action, source };
    let image = |path: &Path, file: io::Result<File>| {
        file.map_err(|error| unusable_image(path, Box::new(ImageError::Io(error))))
    };
    match disk {
        RootDisk::InPlace(path) => {
            let file = File::options().read(true).write(true).open(path);
            files.push(image(path, file)?.into());
            let name = path.display().to_string();
            Ok((DiskConfig::InPlace { name }, None))
        }
        RootDisk::Private {
            image: path,
            kept,
            size,
            scratch,
        } => {
            files.push(image(path, File::open(path))?.into());
            for folder in kept {
                let kept = KeptChanges::open(folder)
                    .map_err(host(format!("read the kept disk in {}", folder.display())))?;
                files.extend(kept.into_files().map(OwnedFd::from));
            }
            let changes = tmpfile::create(scratch).and_then(|file| Ok((file.try_clone()?, file)));
            let (theirs, ours) = changes.map_err(host(format!(
                "create a file for the disk's changes in {}",
                scratch.display()
            )))?;
            files.push(theirs.into());
            let config = DiskConfig::Private {
                name: path.display().to_string(),
                kept: kept.len(),
                len: *size,
                scratch: scratch.display().to_string(),
            };
            Ok((config, Some(ours)))
        }
    }
}

/// Borrows descriptors to be sent.
pub(super) fn borrowed(files: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    files.iter().map(AsFd::as_fd).collect()
}

/// Says which of the disk's files it is that the machine cannot use.
pub(super) fn start_error(disk: &RootDisk, failure: StartFailure) -> StartError {
    let source = RemoteError::chain(failure.chain);
    let host = |action| StartError::Host {
        action,
        source: io::Error::other(source.to_string()),
    };
    match (failure.part, disk) {
        (Part::Image, disk) => unusable_image(disk.image(), Box::new(source)),
        (Part::Kept, RootDisk::Private { kept, .. }) if !kept.is_empty() => {
            let folders: Vec<_> = kept.iter().map(|kept| kept.display().to_string()).collect();
            host(format!("read the kept disk in {}", folders.join(", ")))
        }
        (Part::Kept | Part::Changes, disk) => host(format!(
            "create a file for the disk's changes in {}",
            disk.written_to().display()
        )),
        (Part::Memory, _) => StartError::Memory(Box::new(source)),
        (Part::Machine, _) => StartError::Machine(Box::new(source)),
    }
}

fn unusable_image(path: &Path, source: Box<dyn Error + Send + Sync>) -> StartError {
    StartError::Disk {
        path: path.to_owned(),
        source,
    }
}

/// An error of another process, with its causes.
#[derive(Debug)]
pub(super) struct RemoteError {
    text: String,
    source: Option<Box<RemoteError>>,
}

impl RemoteError {
    /// Makes one of the texts of an error and its causes.
    fn chain(texts: Vec<String>) -> RemoteError {
        let mut texts = texts.into_iter().rev();
        let text = texts.next().unwrap_or_else(|| String::from("it failed"));
        texts.fold(RemoteError { text, source: None }, |source, text| {
            RemoteError {
                text,
                source: Some(Box::new(source)),
            }
        })
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for RemoteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|error| error as &dyn Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_process_keeps_its_causes() {
        let error = RemoteError::chain(vec![String::from("cannot boot"), String::from("no room")]);
        assert_eq!(error.to_string(), "cannot boot");
        assert_eq!(error.source().map(ToString::to_string).unwrap(), "no room");
    }

    #[test]
    fn the_part_of_the_disk_is_named() {
        let disk = RootDisk::InPlace("/box/disk".into());
        for (part, name) in [(Part::Image, "/box/disk"), (Part::Changes, "in /box")] {
            let chain = vec![String::from("damaged")];
            let error = start_error(&disk, StartFailure { part, chain });
            assert!(error.to_string().ends_with(name), "{error}");
        }
    }

    #[test]
    fn too_much_memory_names_the_option() {
        let failure = StartFailure {
            part: Part::Memory,
            chain: vec![String::from("at most 523264 MiB")],
        };
        let error = start_error(&RootDisk::InPlace("/disk".into()), failure);
        assert!(error.to_string().contains("--box-memory"), "{error}");
        let reason = error.source().map(ToString::to_string);
        assert_eq!(reason.unwrap(), "at most 523264 MiB");
    }
}
