//! The machine for a plan.

use std::net::TcpListener;
use std::path::PathBuf;

use boxbuild_engine::{Forward, Handover, Machine, Network, Processor, RootDisk, Share};
use boxbuild_firmware::cmdline::{self, CmdlineError, Crypto, FastCmdline};
use boxbuild_firmware::guest::{CHECK, FastBoot};
use boxbuild_protocol::boot_options::{BootOptions, KeepDisk, Shell};
use boxbuild_protocol::kernel_args::FIPS;
use boxbuild_protocol::paths::PROGRAM;
use boxbuild_protocol::share::{Access, SharedFolder};

use super::error::BuildError;
use super::initrd::{self, now, seed};
use super::shares::shares;
use crate::boot::Boot;
use crate::host_paths;
use crate::output_dir::OutputDir;
use crate::plan::Plan;
use crate::ssh;

/// The machine for this plan, which is reached through the port that `ssh` holds, and whose
/// connections are continued elsewhere as `handover` says.
pub(super) fn machine(
    plan: &Plan,
    output: &OutputDir<'_>,
    processor: Processor,
    ssh: Option<TcpListener>,
    handover: Option<Handover>,
) -> Result<Machine, BuildError> {
    let installed = &plan.installed;
    let info = &installed.info;
    let cmdline = guest_cmdline(plan, processor)?;
    let initrd = match plan.boot() {
        Some(Boot::Fast) => {
            let boot = FastBoot {
                args: plan.kiwi_args.clone(),
                create: plan.create_args(),
                box_packages: plan.box_packages.iter().map(Into::into).collect(),
                environment: plan.environment.clone(),
                network: plan.network != Network::None,
                observe: plan.attest.is_some(),
                folders: plan.host_paths.folders.iter().map(in_guest).collect(),
                files: host_files(plan)?,
                made: plan.host_paths.made.clone(),
                kiwi_version: plan.kiwi_version.clone().map(Into::into),
                ssh_key: plan
                    .ssh
                    .as_ref()
                    .and_then(|ssh| Some(ssh.key.as_ref()?.line())),
                time: plan.reproducible.unwrap_or_else(now),
                hold_clock: plan.reproducible.is_some(),
                seed: seed(),
            };
            initrd::fast(installed, &boot)?
        }
        Some(Boot::Compat) | None => initrd::compat(installed)?,
    };
    Ok(Machine {
        name: format!("boxbuild-{}", info.name),
        arch: info.arch,
        kernel: installed.path(&info.kernel),
        kernel_sha256: info.kernel.sha256.clone(),
        unpack_kernel: plan.boot() == Some(Boot::Fast),
        initrd,
        cmdline,
        disk: root_disk(plan),
        memory_mib: plan.memory_mib,
        cpus: plan.cpus,
        nested: plan.nested,
        shares: shares(plan, output)?,
        network: plan.policy(),
        forward: ssh.map(|listener| Forward {
            listener,
            port: ssh::SSHD,
        }),
        handover,
        machine_type: plan.machine_type.clone(),
        cpu_model: plan.cpu_model.clone(),
        cpu_level: plan.cpu_level,
    })
}

/// Where a guest mounts a share: under the path that its folder has on the host.
fn in_guest(share: &Share) -> SharedFolder {
    SharedFolder {
        tag: share.tag.to_string(),
        path: share.root.clone(),
        access: if share.read_only {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        },
    }
}

/// The guest's kernel command line.
///
/// # Errors
/// Fails if it cannot carry what the box is to be told.
pub fn guest_cmdline(plan: &Plan, processor: Processor) -> Result<String, CmdlineError> {
    let arch = plan.installed.info.arch.name();
    match plan.boot() {
        Some(Boot::Fast) => FastCmdline {
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
        Some(Boot::Compat) | None => {
            cmdline::compat(arch, &plan.console, &compat_items(plan), &plan.kiwi_args)
        }
    }
}

/// The engine's processor, as a command line needs to know it.
pub(super) fn cmdline_processor(processor: Processor) -> cmdline::Processor {
    match processor {
        Processor::Emulated => cmdline::Processor::Emulated,
        Processor::Virtualized => cmdline::Processor::Virtualized,
    }
}

/// The box's disk, as this build uses it.
fn root_disk(plan: &Plan) -> RootDisk {
    let installed = &plan.installed;
    if plan.disk.in_place {
        return RootDisk::InPlace(installed.unfinished_disk());
    }
    let (image, kept) = match &plan.resumes {
        Some(resumed) => (resumed.image.clone(), vec![resumed.disk.clone()]),
        None => (installed.disk(), Vec::new()),
    };
    RootDisk::Private {
        image,
        kept,
        size: plan.disk.grown.then_some(plan.disk.bytes),
        scratch: plan.scratch(),
    }
}

/// The host's files that go with the initial ramdisk, and their contents.
fn host_files(plan: &Plan) -> Result<Vec<(PathBuf, Vec<u8>)>, BuildError> {
    let files = plan.host_paths.files.iter();
    let check = plan
        .check_only
        .then(|| Ok((PathBuf::from(PROGRAM), CHECK.as_bytes().to_vec())));
    files
        .map(|file| match host_paths::read(&file.path) {
            Ok(data) => Ok((file.place.clone(), data)),
            Err(source) => Err(BuildError::HostFile {
                path: file.path.clone(),
                source,
            }),
        })
        .chain(check)
        .collect()
}

/// Words of this box and this build on the kernel command line of a fast boot
/// (docs/guest-contract.md).
fn fast_items(plan: &Plan) -> Vec<String> {
    let options = BootOptions {
        keep: if plan.disk.in_place {
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

/// Words of this box and this build on the kernel command line of a compat boot.
pub(super) fn compat_items(plan: &Plan) -> Vec<String> {
    let mut items = plan.installed.info.cmdline.clone();
    items.extend(plan.fips.then(|| String::from(FIPS)));
    // The guest side of a published box reads settings of the form key=_value_.
    items.extend(
        plan.kiwi_version
            .as_ref()
            .map(|version| format!("kiwi_version=_{version}_")),
    );
    if plan.debug {
        items.push(String::from("kiwi-no-halt"));
    }
    // A container gets its environment and its mounts from podman.
    if plan.runs_as.is_container() {
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
    items.extend(
        plan.host_paths
            .custom_mount()
            .map(|path| format!("custom_mount=_{}_", path.display())),
    );
    items
}
