//! The machine for a plan.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use boxbuild_firmware::cmdline::{self, CmdlineError, Crypto, FastCmdline};
use boxbuild_firmware::guest::{FastBoot, Init};
use boxbuild_protocol::boot_options::{BootOptions, KeepDisk, Shell};
use boxbuild_protocol::kernel_args;
use boxbuild_protocol::share::{Access, BUNDLE_TAG, DESCRIPTION_TAG, SharedFolder};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::BuildError;
use super::shell::ShellOptions;
use crate::boot_cache;
use crate::engine::{Forward, Machine, Network, Processor, RootDisk, Share};
use crate::host_paths;
use crate::kept::{Record, scratch};
use crate::plan::{Boot, Plan};
use crate::ssh;
use crate::store::{BoxInfo, InstalledBox};
use crate::target::Target;

/// The machine for this plan, which is reached through the port that `ssh` holds.
pub(super) fn machine(
    plan: &Plan,
    target: &Target,
    processor: Processor,
    ssh: Option<TcpListener>,
) -> Result<Machine, BuildError> {
    let installed = &plan.installed;
    let info = &installed.info;
    let path = installed.path(&info.initrd);
    let initrd_error = |source| BuildError::Initrd {
        path: path.clone(),
        source,
    };
    let cmdline = guest_cmdline(plan, processor)?;
    let init = Init::of(info.arch.name());
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
                    .map(|share| SharedFolder {
                        tag: share.tag.clone(),
                        path: share.path.clone(),
                        access: if share.read_only {
                            Access::ReadOnly
                        } else {
                            Access::ReadWrite
                        },
                    })
                    .collect(),
                files: host_files(plan)?,
                kiwi_version: plan.kiwi_version.clone().map(Into::into),
                ssh_key: plan
                    .ssh
                    .as_ref()
                    .and_then(|ssh| Some(ssh.key.as_ref()?.line())),
                time: now(),
                seed: seed().unwrap_or_default(),
            }
            .initrd_part(init);
            boot_initrd(init, info, installed)
                .and_then(|own| concatenate(own, &part))
                .map_err(initrd_error)?
        }
        Boot::Compat => File::open(&path).map_err(initrd_error)?.into(),
    };
    Ok(Machine {
        name: format!("boxbuild-{}", info.name),
        arch: info.arch,
        kernel: installed.path(&info.kernel),
        kernel_sha256: info.kernel.sha256.clone(),
        unpack_kernel: plan.boot == Boot::Fast,
        initrd,
        cmdline,
        disk: root_disk(plan),
        memory_mib: plan.memory_mib,
        cpus: plan.cpus,
        shares: shares(plan, target),
        network: plan.network,
        host_loopback: plan.host_loopback,
        forward: ssh.map(|listener| Forward {
            listener,
            port: ssh::SSHD,
        }),
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
        Boot::Fast => FastCmdline {
            arch,
            processor: cmdline_processor(processor),
            crypto: if plan.fips {
                Crypto::Fips
            } else {
                Crypto::Untested
            },
            console: &plan.console,
            words: &fast_items(plan),
        }
        .build(),
        Boot::Compat => cmdline::compat(arch, &plan.console, &compat_items(plan), &plan.kiwi_args),
    }
}

fn cmdline_processor(processor: Processor) -> cmdline::Processor {
    match processor {
        Processor::Emulated => cmdline::Processor::Emulated,
        Processor::Virtualized => cmdline::Processor::Virtualized,
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
        read_only(DESCRIPTION_TAG, or_own(&record.description)),
        read_only(BUNDLE_TAG, or_own(&record.target_dir)),
    ];
    let others = record.shares.iter();
    shares.extend(others.map(|share| read_only(&share.tag, or_own(&share.path))));
    let init = Init::of(info.arch.name());
    let (initrd, cmdline) = if record.fast {
        let part = FastBoot {
            args: Vec::new(),
            environment: Vec::new(),
            network: record.network,
            folders: record
                .shares
                .iter()
                .map(|share| SharedFolder {
                    tag: share.tag.clone(),
                    path: PathBuf::from(&share.path),
                    access: Access::ReadOnly,
                })
                .collect(),
            files: Vec::new(),
            kiwi_version: None,
            ssh_key: None,
            time: now(),
            seed: seed().unwrap_or_default(),
        }
        .initrd_part(init);
        let mut items = info.cmdline.clone();
        let options = BootOptions {
            keep: KeepDisk::Never,
            shell: Some(Shell::InsteadOfBuild),
        };
        items.extend(options.words());
        (
            boot_initrd(init, info, installed)
                .and_then(|own| concatenate(own, &part))
                .map_err(initrd_error)?,
            FastCmdline {
                arch: info.arch.name(),
                processor: cmdline_processor(processor),
                crypto: Crypto::Untested,
                console: &record.console,
                words: &items,
            }
            .build()?,
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
        unpack_kernel: record.fast,
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
        forward: None,
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

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// 32 random bytes in hexadecimal digits, for the guest's kernel.
fn seed() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The folders that the guest sees.
fn shares(plan: &Plan, target: &Target) -> Vec<Share> {
    let own = [
        Share {
            tag: String::from(DESCRIPTION_TAG),
            path: plan.description.clone(),
            read_only: !plan.description_rw,
        },
        Share {
            tag: String::from(BUNDLE_TAG),
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
    let options = BootOptions {
        keep: if plan.in_place {
            KeepDisk::Always
        } else if plan.keep_failed {
            KeepDisk::OnFailure
        } else {
            KeepDisk::Never
        },
        shell: plan.debug.then_some(Shell::AfterBuild),
    };
    let mut items = plan.installed.info.cmdline.clone();
    items.extend(options.words());
    items
}

/// What the kernel command line of a compat boot says of this box and this build.
pub(super) fn compat_items(plan: &Plan) -> Vec<String> {
    let mut items = plan.installed.info.cmdline.clone();
    items.extend(plan.fips.then(|| String::from(kernel_args::FIPS)));
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
    // The published boxes' own side takes it; sshd is up to the box.
    let key = plan.ssh.as_ref().and_then(|ssh| ssh.key.as_ref());
    items.extend(key.into_iter().flat_map(|key| {
        [
            format!("ssh_key=_{}_", key.data),
            format!("ssh_key_type=_{}_", key.kind),
        ]
    }));
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

/// What a fast boot needs of the box's own initrd.
fn boot_initrd(init: Init, info: &BoxInfo, installed: &InstalledBox) -> io::Result<File> {
    let path = installed.path(&info.initrd);
    match init {
        Init::Program => {
            let root = boot_cache::root::kind(&installed.path(&info.disk), &info.cmdline);
            boot_cache::initrd::open(&path, &info.initrd.sha256, root)
        }
        Init::Scripts => File::open(path),
    }
}

/// The box's initrd with our part behind it, in memory: nothing of it can be left behind.
fn concatenate(mut initrd: File, part: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("boxbuild-initrd", MFdFlags::MFD_CLOEXEC)?);
    let length = io::copy(&mut initrd, &mut file)?;
    // Parts begin at multiples of four bytes (kernel, buffer-format.rst).
    let padding = length.next_multiple_of(4) - length;
    file.write_all(&[0; 3][..padding as usize])?;
    file.write_all(part)?;
    file.rewind()?;
    Ok(file.into())
}
