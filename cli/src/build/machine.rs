//! The machine for a plan.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use boxbuild_firmware::cmdline::{self, CmdlineError};
use boxbuild_firmware::guest::FastBoot;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::BuildError;
use super::shell::ShellOptions;
use crate::engine::{Machine, Network, Processor, RootDisk, Share};
use crate::host_paths;
use crate::kept::{Record, scratch};
use crate::plan::{Boot, Plan};
use crate::store::InstalledBox;
use crate::target::Target;

/// The machine for this plan.
pub(super) fn machine(
    plan: &Plan,
    target: &Target,
    processor: Processor,
) -> Result<Machine, BuildError> {
    let installed = &plan.installed;
    let info = &installed.info;
    let path = installed.path(&info.initrd);
    let initrd_error = |source| BuildError::Initrd {
        path: path.clone(),
        source,
    };
    let cmdline = guest_cmdline(plan, processor)?;
    let initrd = match plan.boot {
        Boot::Fast => {
            let part = FastBoot {
                args: plan.kiwi_args.clone(),
                environment: plan.environment.clone(),
                network: plan.network == Network::User,
                folders: plan
                    .host_paths
                    .folders
                    .iter()
                    .map(|share| (share.tag.clone(), share.path.clone(), share.read_only))
                    .collect(),
                files: host_files(plan)?,
            }
            .initrd_part();
            concatenate(&path, &part).map_err(initrd_error)?
        }
        Boot::Compat => File::open(&path).map_err(initrd_error)?.into(),
    };
    Ok(Machine {
        name: format!("boxbuild-{}", info.name),
        arch: info.arch,
        kernel: installed.path(&info.kernel),
        kernel_sha256: info.kernel.sha256.clone(),
        initrd,
        cmdline,
        disk: root_disk(plan),
        memory_mib: plan.memory_mib,
        cpus: plan.cpus,
        shares: shares(plan, target),
        network: plan.network,
        host_loopback: plan.host_loopback,
        machine_type: plan.machine_type.clone(),
        cpu_model: plan.cpu_model.clone(),
    })
}

/// The guest's kernel command line.
///
/// # Errors
/// If it cannot carry what the box is to be told.
pub fn guest_cmdline(plan: &Plan, processor: Processor) -> Result<String, CmdlineError> {
    let arch = plan.installed.info.arch.name();
    match plan.boot {
        Boot::Fast => {
            let emulated = processor == Processor::Emulated;
            cmdline::fast(arch, emulated, &plan.console, &fast_items(plan))
        }
        Boot::Compat => cmdline::compat(arch, &plan.console, &compat_items(plan), &plan.kiwi_args),
    }
}

/// A machine for looking at the kept build in `folder`: its disk under a new overlay, a shell,
/// and folders of the host that it cannot change.
pub(super) fn of_kept(
    record: &Record,
    installed: &InstalledBox,
    folder: &Path,
    options: &ShellOptions,
    processor: Processor,
) -> Result<Machine, BuildError> {
    let info = &record.info;
    let path = installed.path(&info.initrd);
    let initrd_error = |source| BuildError::Initrd {
        path: path.clone(),
        source,
    };
    // A folder that is gone is no reason not to look at the rest.
    let or_own = |path: &OsString| match Path::new(path) {
        there if there.is_dir() => there.to_owned(),
        _ => folder.to_owned(),
    };
    let read_only = |tag: &str, path: PathBuf| Share {
        tag: tag.to_owned(),
        path,
        read_only: true,
    };
    let mut shares = vec![
        read_only("kiwidescription", or_own(&record.description)),
        read_only("kiwibundle", or_own(&record.target_dir)),
    ];
    let others = record.shares.iter();
    shares.extend(others.map(|share| read_only(&share.tag, or_own(&share.path))));
    let (initrd, cmdline) = if record.fast {
        let part = FastBoot {
            args: Vec::new(),
            environment: Vec::new(),
            network: record.network,
            folders: record
                .shares
                .iter()
                .map(|share| (share.tag.clone(), PathBuf::from(&share.path), true))
                .collect(),
            files: Vec::new(),
        }
        .initrd_part();
        let mut items = info.cmdline.clone();
        items.push(String::from("boxbuild.shell=only"));
        let emulated = processor == Processor::Emulated;
        (
            concatenate(&path, &part).map_err(initrd_error)?,
            cmdline::fast(info.arch.name(), emulated, &record.console, &items)?,
        )
    } else {
        let mut items = info.cmdline.clone();
        items.push(String::from("kiwi-no-halt"));
        (
            File::open(&path).map_err(initrd_error)?.into(),
            cmdline::compat(info.arch.name(), &record.console, &items, &[])?,
        )
    };
    Ok(Machine {
        name: format!("boxbuild-{}", record.id),
        arch: info.arch,
        kernel: installed.path(&info.kernel),
        kernel_sha256: info.kernel.sha256.clone(),
        initrd,
        cmdline,
        disk: RootDisk::Private {
            image: installed.path(&info.disk),
            kept: Some(folder.to_owned()),
            size: None,
            scratch: folder.to_owned(),
        },
        memory_mib: options.memory_mib.unwrap_or(record.memory_mib),
        cpus: record.cpus,
        shares,
        network: if record.network {
            Network::User
        } else {
            Network::None
        },
        host_loopback: false,
        machine_type: None,
        cpu_model: None,
    })
}

/// The box's disk, as this build uses it.
fn root_disk(plan: &Plan) -> RootDisk {
    let installed = &plan.installed;
    let image = installed.path(&installed.info.disk);
    if plan.in_place {
        return RootDisk::InPlace(image);
    }
    RootDisk::Private {
        image,
        kept: None,
        size: plan.disk_size,
        scratch: scratch(installed.dir.parent().unwrap_or(&installed.dir)),
    }
}

/// The folders that the guest sees.
fn shares(plan: &Plan, target: &Target) -> Vec<Share> {
    let own = [
        Share {
            tag: String::from("kiwidescription"),
            path: plan.description.clone(),
            read_only: !plan.description_rw,
        },
        Share {
            tag: String::from("kiwibundle"),
            path: target.share().to_owned(),
            read_only: false,
        },
    ];
    let others = plan.host_paths.folders.iter().cloned();
    own.into_iter().chain(others).collect()
}

/// The host's files that go with the initial ramdisk, and their contents.
fn host_files(plan: &Plan) -> Result<Vec<(PathBuf, Vec<u8>)>, BuildError> {
    let files = plan.host_paths.files.iter();
    files
        .map(|path| match host_paths::read(path) {
            Ok(data) => Ok((path.clone(), data)),
            Err(source) => Err(BuildError::HostFile {
                path: path.clone(),
                source,
            }),
        })
        .collect()
}

/// What the kernel command line of a fast boot says of this box and this build
/// (docs/guest-contract.md).
fn fast_items(plan: &Plan) -> Vec<String> {
    let mut items = plan.installed.info.cmdline.clone();
    if plan.in_place {
        items.push(String::from("boxbuild.keep=always"));
    } else if plan.keep_failed {
        items.push(String::from("boxbuild.keep=failed"));
    }
    if plan.debug {
        items.push(String::from("boxbuild.shell=after"));
    }
    items
}

/// What the kernel command line of a compat boot says of this box and this build.
pub(super) fn compat_items(plan: &Plan) -> Vec<String> {
    let mut items = plan.installed.info.cmdline.clone();
    // The guest side of a published box reads settings of the form key=_value_.
    items.extend(
        plan.kiwi_version
            .as_ref()
            .map(|version| format!("kiwi_version=_{version}_")),
    );
    // A container gets its environment and its mounts from podman.
    if plan.container.is_some() {
        return items;
    }
    let proxies = plan.environment.iter();
    items.extend(proxies.map(|(name, value)| format!("{name}=_{}_", value.to_string_lossy())));
    if plan.debug {
        items.push(String::from("kiwi-no-halt"));
    }
    items.extend(
        plan.host_paths
            .custom_mount()
            .map(|path| format!("custom_mount=_{}_", path.display())),
    );
    items
}

/// The box's initrd with our part behind it, in memory: nothing of it can be left behind.
fn concatenate(initrd: &PathBuf, part: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("boxbuild-initrd", MFdFlags::MFD_CLOEXEC)?);
    let length = io::copy(&mut File::open(initrd)?, &mut file)?;
    // Parts begin at multiples of four bytes (kernel, buffer-format.rst).
    let padding = length.next_multiple_of(4) - length;
    file.write_all(&[0; 3][..padding as usize])?;
    file.write_all(part)?;
    file.rewind()?;
    Ok(file.into())
}
