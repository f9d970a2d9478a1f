//! The machine for a shell in a failed build.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use boxbuild_boxes::store::InstalledBox;
use boxbuild_engine::{CpuLevel, Machine, MountTag, Processor, RootDisk, Share, StartError};
use boxbuild_firmware::cmdline::{self, Crypto, FastCmdline};
use boxbuild_firmware::guest::FastBoot;
use boxbuild_protocol::boot_options::{BootOptions, KeepDisk, Shell};
use boxbuild_protocol::share::{Access, SharedFolder};

use super::error::BuildError;
use super::initrd::{self, now, seed};
use super::machine::cmdline_processor;
use crate::failed_builds::Record;
use crate::output_dir::hidden_everywhere;
use crate::plan;

/// A machine for looking at the kept build in `folder`: its disk under a new overlay, a shell,
/// and folders of the host that it cannot change.
pub(super) fn machine(
    record: &Record,
    installed: &InstalledBox,
    folder: &Path,
    memory_mib: Option<u64>,
    processor: Processor,
) -> Result<Machine, BuildError> {
    let info = &record.info;
    // A folder that is gone is no reason not to look at the rest.
    let or_own = |path: Option<&Path>| path.unwrap_or(folder).to_owned();
    let mut shares = vec![
        Share::new(plan::DESCRIPTION, or_own(record.description())).read_only(),
        Share::new(plan::BUNDLE, or_own(record.target_dir())).read_only(),
    ];
    for share in &record.shares {
        let tag = MountTag::new(&*share.tag).map_err(|error| StartError::Share {
            path: PathBuf::from(&share.path),
            source: Box::new(error),
        })?;
        shares.push(Share::new(tag, or_own(share.folder())).read_only());
    }
    for share in &mut shares {
        // Other builds may be under way there.
        share.hidden = hidden_everywhere();
    }
    let (initrd, cmdline) = if record.fast {
        fast(record, installed, processor)?
    } else {
        let mut words = info.cmdline.clone();
        words.push(String::from("kiwi-no-halt"));
        (
            initrd::compat(installed)?,
            cmdline::compat(info.arch.name(), &record.console, &words, &[])?,
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
            image: record.disk_of(installed),
            kept: record.layers(folder),
            size: None,
            scratch: folder.to_owned(),
        },
        memory_mib: memory_mib.unwrap_or(record.memory_mib),
        cpus: record.cpus,
        nested: false,
        shares,
        network: record.network.clone(),
        forward: None,
        handover: None,
        machine_type: None,
        cpu_model: None,
        cpu_level: record
            .cpu_level
            .as_deref()
            .and_then(CpuLevel::from_name)
            .unwrap_or_default(),
    })
}

/// The initial ramdisk and the kernel command line of a fast boot to a shell.
fn fast(
    record: &Record,
    installed: &InstalledBox,
    processor: Processor,
) -> Result<(OwnedFd, String), BuildError> {
    let info = &record.info;
    let folders = record.shares.iter();
    let boot = FastBoot {
        args: Vec::new(),
        create: Vec::new(),
        box_packages: Vec::new(),
        environment: Vec::new(),
        network: record.network.is_some(),
        folders: folders
            .map(|share| SharedFolder {
                tag: share.tag.clone(),
                path: PathBuf::from(&share.path),
                access: Access::ReadOnly,
            })
            .collect(),
        files: Vec::new(),
        made: Vec::new(),
        observe: false,
        kiwi_version: None,
        ssh_key: None,
        time: now(),
        hold_clock: false,
        seed: seed(),
    };
    let options = BootOptions {
        keep: KeepDisk::Never,
        shell: Some(Shell::InsteadOfBuild),
    };
    let mut words = info.cmdline.clone();
    words.extend(options.words());
    let cmdline = FastCmdline {
        arch: info.arch.name(),
        processor: cmdline_processor(processor),
        crypto: Crypto::Untested,
        console: &record.console,
        words: &words,
    }
    .build()?;
    Ok((initrd::fast(installed, &boot)?, cmdline))
}
