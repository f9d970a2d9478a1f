//! `boxbuild box create`: a box from a distribution's own packages.
//!
//! Nothing is mounted, no loop device is used, and nothing needs root: where the caller is a
//! normal user, the root tree is made in user namespaces with the caller's subordinate ids.

mod command;
mod disk;
mod foreign;
mod host;
mod initrd;
mod mirror;
mod rootfs;

use boxbuild_host::error::{Classify, ErrorClass};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::store::{
    BoxInfo, ContainerImage, Guest, InstalledBox, Store, StoreError, check_name, name_for,
};
use boxbuild_host::arch::Arch;
use boxbuild_host::interrupt::Interrupt;

pub use command::CommandError;
use command::Runner;
pub(crate) use disk::DiskMaker;
use foreign::Programs;
use host::Host;

/// The KIWI version that boxes get unless another one is asked for.
pub const KIWI_VERSION: &str = "11.1.6";

/// Free space that making a box needs at its peak, in bytes: root tree, its archive, the raw
/// disk and the qcow2 image.
const NEEDED_SPACE: u64 = 3 << 30;

/// What box to make.
#[derive(Debug)]
pub struct CreateOptions {
    /// Name of the new box.
    pub name: String,
    /// Distribution and suite, e.g. `debian:trixie`.
    pub from: String,
    /// Architecture of the box.
    pub arch: Arch,
    /// Package mirror; the host's own one if `None`.
    pub mirror: Option<String>,
    /// Virtual size of the disk in bytes.
    pub disk_size: u64,
    /// Version of KIWI.
    pub kiwi_version: Option<String>,
    /// Replace a box of that name.
    pub replace: bool,
}

/// The box cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A wrong option.
    #[error("{0}")]
    Option(String),
    /// Something that the host lacks.
    #[error("{0}")]
    Host(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error("cannot write {path}")]
    Io {
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The package mirror has something that does not fit.
    #[error("the root tree of {suite} has no {what}")]
    Incomplete {
        /// The suite.
        suite: String,
        /// What is missing.
        what: &'static str,
    },
}

impl Classify for CreateError {
    fn class(&self) -> ErrorClass {
        match self {
            CreateError::Option(_) => ErrorClass::Usage,
            CreateError::Store(error) => error.class(),
            CreateError::Command(CommandError::Interrupted) => ErrorClass::Interrupted,
            _ => ErrorClass::Host,
        }
    }
}

/// A Debian suite that boxes can be made from, and its version of Python.
const SUITES: &[(&str, &str)] = &[("bookworm", "3.11"), ("trixie", "3.13")];

/// Checks what making a box needs of this host, and changes nothing.
///
/// # Errors
/// If something is missing; the error says how to get it.
pub fn examine_host() -> Result<(), CreateError> {
    Host::examine(Arch::host()).map(drop)
}

/// Makes a box. `step` is told what is being done.
pub fn create(
    store: &Store,
    options: &CreateOptions,
    interrupt: &Interrupt,
    step: &mut dyn FnMut(&str),
) -> Result<InstalledBox, CreateError> {
    let arch = options.arch;
    let name = name_for(&options.name, arch);
    check_name(&name)?;
    let (suite, python) = suite(&options.from)?;
    if !options.replace && store.names()?.contains(&name) {
        return Err(StoreError::Exists(name).into());
    }
    let host = Host::examine(arch)?;
    let programs = Programs::find(&host, arch)?;
    let mirror = match &options.mirror {
        Some(mirror) => mirror.clone(),
        None => mirror::of_host(host.path())?,
    };
    let staging = store.stage()?;
    host.check_space(staging.path(), NEEDED_SPACE)?;
    let runner = Runner::new(&host, interrupt);
    let work = Work {
        dir: staging.path().join("work"),
        runner: &runner,
    };
    let make = |path: &Path| {
        fs::create_dir(path).map_err(|source| CreateError::Io {
            path: path.to_owned(),
            source,
        })
    };
    make(&work.dir)?;

    step("fetch KIWI");
    let kiwi = options.kiwi_version.as_deref().unwrap_or(KIWI_VERSION);
    rootfs::fetch_kiwi(&work, kiwi, python, arch)?;

    step("install packages");
    let tree = rootfs::Rootfs {
        suite,
        mirror: &mirror,
        arch,
        kiwi,
    };
    tree.build(&work, &host, &programs)?;

    step("make the container image");
    let container = format!("container.{arch}.tar.gz");
    rootfs::make_container(&work, &staging.path().join(&container))?;

    step("make the disk");
    rootfs::make_disk(&work, &host, options.disk_size, suite)?;

    step("convert the disk");
    let kernel = format!("kernel.{arch}");
    let initrd = format!("initrd.{arch}");
    let disk = format!("system.{arch}.qcow2");
    runner.run(
        "qemu-img",
        [
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-o",
            "lazy_refcounts=on",
            "-W",
        ]
        .iter()
        .map(Into::into)
        .chain([
            work.dir.join("disk.raw").into(),
            staging.path().join(&disk).into(),
        ]),
        &[],
    )?;

    step("check and publish");
    for (from, to) in [("kernel", &kernel), ("initrd", &initrd)] {
        let to = staging.path().join(to);
        fs::rename(work.dir.join(from), &to).map_err(|source| CreateError::Io {
            path: to.clone(),
            source,
        })?;
    }
    fs::remove_dir_all(&work.dir).map_err(|source| CreateError::Io {
        path: work.dir.clone(),
        source,
    })?;
    let info = BoxInfo {
        format: BoxInfo::FORMAT,
        name,
        origin: format!("debian:{suite}"),
        arch,
        created: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs()),
        kernel: staging.describe(&kernel)?,
        initrd: staging.describe(&initrd)?,
        disk: staging.describe(&disk)?,
        disk_size: options.disk_size,
        cmdline: vec![String::from("root=/dev/vda1")],
        console: String::from("hvc0"),
        guest: Guest::Fast,
        kiwi: Some(kiwi.to_owned()),
        memory_mib: 4096,
        cpus: 4,
        container: Some(ContainerImage::Archive(staging.describe(&container)?)),
        published: None,
    };
    Ok(staging.publish(store, info, options.replace)?)
}

/// The folder of a box in the making, and how programs are run.
#[derive(Debug)]
struct Work<'a> {
    dir: PathBuf,
    runner: &'a Runner<'a>,
}

/// Suite and Python version from `debian:SUITE`.
fn suite(from: &str) -> Result<(&'static str, &'static str), CreateError> {
    let known = || {
        SUITES
            .iter()
            .map(|(suite, _)| format!("debian:{suite}"))
            .collect::<Vec<_>>()
    };
    from.strip_prefix("debian:")
        .and_then(|name| SUITES.iter().find(|(suite, _)| *suite == name).copied())
        .ok_or_else(|| {
            CreateError::Option(format!(
                "--from {from}: boxes can be made from {}",
                known().join(" and ")
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_suites() {
        assert_eq!(suite("debian:trixie").unwrap(), ("trixie", "3.13"));
        for bad in ["trixie", "debian:", "debian:potato", "fedora:41"] {
            assert!(
                suite(bad)
                    .unwrap_err()
                    .to_string()
                    .contains("debian:trixie"),
                "{bad}"
            );
        }
    }
}
