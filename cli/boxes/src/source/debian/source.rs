//! The source of a box of Debian.

use std::fs;

use boxbuild_host::arch::Arch;
use boxbuild_host::error::IoError;

use super::emulation::Emulation;
use super::root_tree::RootTree;
use super::{apt, artifacts, kiwi, mirror};
use crate::source::box_source::{BoxSource, MakeBox, Making, Target};
use crate::source::command::Workshop;
use crate::source::contents::{BoxContents, FileNames};
use crate::source::distribution::{CreateOptions, Distribution, KIWI_VERSION};
use crate::source::error::SourceError;
use crate::source::host::{Host, Program};
use crate::source::root_disk::{self, ROOT_DEVICE};
use crate::store::{ContainerImage, Guest, name_for};

/// Debian.
pub const DISTRIBUTION: Distribution = Distribution {
    name: "debian",
    releases: &["bookworm", "trixie"],
    source: |options| Ok(Box::new(DebianBox::new(options)?)),
};

/// The suites of [`DISTRIBUTION`], and their versions of Python.
const SUITES: &[(&str, &str)] = &[("bookworm", "3.11"), ("trixie", "3.13")];

/// Public keys that Debian's packages are signed with.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Programs that making a box takes, besides those for its disk.
const PROGRAMS: &[Program] = &[
    Program::new("mmdebstrap", "mmdebstrap"),
    Program::new("apt-get", "apt"),
    Program::new("dpkg-deb", "dpkg"),
    // mmdebstrap takes the keys from there on hosts whose apt does not have them.
    Program::new(KEYS, "debian-archive-keyring"),
    Program::new("qemu-img", "qemu-utils"),
    Program::new("python3", "python3-pip"),
];

/// Programs for a box of another architecture: mmdebstrap asks arch-test what the host runs.
const FOREIGN_PROGRAMS: &[Program] = &[Program::new("arch-test", "arch-test")];

/// Free space that making a box needs at its peak, in bytes: root tree, its archive, the raw disk
/// and the qcow2 image.
const NEEDED_SPACE: u64 = 5 << 30;

/// Default guest memory of a box in MiB.
const MEMORY_MIB: u64 = 4096;

/// Default number of virtual CPUs of a box.
const CPUS: u32 = 4;

/// Checks what making a box of this host's architecture takes, and changes nothing.
///
/// # Errors
/// Fails with [`SourceError::Host`] if something is missing. The text says how to get it.
pub fn check_host() -> Result<(), SourceError> {
    check_host_for(Arch::host()).map(drop)
}

fn check_host_for(arch: Arch) -> Result<Host, SourceError> {
    let foreign = if arch == Arch::host() {
        &[][..]
    } else {
        FOREIGN_PROGRAMS
    };
    Host::check(&[PROGRAMS, root_disk::PROGRAMS, foreign])
}

/// A box of Debian's packages.
#[derive(Debug)]
struct DebianBox {
    name: String,
    arch: Arch,
    suite: &'static str,
    /// The suite's version of Python.
    python: &'static str,
    mirror: Option<String>,
    /// Virtual size of the disk in bytes.
    disk_size: u64,
    kiwi: String,
    /// More packages.
    with: Vec<String>,
}

impl DebianBox {
    fn new(options: &CreateOptions) -> Result<DebianBox, SourceError> {
        let (suite, python) = options
            .from
            .split_once(':')
            .and_then(|(_, suite)| SUITES.iter().find(|(known, _)| *known == suite).copied())
            .ok_or_else(|| SourceError::Usage(format!("--from {}: unknown suite", options.from)))?;
        Ok(DebianBox {
            name: name_for(&options.name, options.arch),
            arch: options.arch,
            suite,
            python,
            mirror: options.mirror.clone(),
            disk_size: options.disk_size,
            with: options.with.clone(),
            kiwi: options
                .kiwi_version
                .clone()
                .unwrap_or_else(|| KIWI_VERSION.to_owned()),
        })
    }

    /// Makes the box with packages from `mirror`, or else from mmdebstrap's default.
    fn make(
        &self,
        host: &Host,
        emulation: &Emulation,
        mirror: Option<&str>,
        making: &mut Making<'_>,
    ) -> Result<BoxContents, SourceError> {
        let staging = making.staging;
        host.check_space(staging.path(), NEEDED_SPACE)?;
        let workshop = Workshop::new(staging.path().join("work"), host, making.interrupt);
        fs::create_dir(&workshop.dir).map_err(IoError::on("write", &workshop.dir))?;
        let names = FileNames::of(self.arch);

        if let Some(mirror) = mirror {
            making.reporter.begin("check the mirror");
            mirror::check(mirror, self.suite, &workshop)?;
        }

        making.reporter.begin("fetch KIWI");
        kiwi::fetch(&workshop, &self.kiwi, self.python, self.arch)?;

        making.reporter.begin("install packages");
        let tree = RootTree {
            suite: self.suite,
            mirror,
            arch: self.arch,
            kiwi: &self.kiwi,
            with: &self.with,
        };
        let packages = tree.make(&workshop, emulation)?;

        making.reporter.begin("make the container image");
        artifacts::make_container(&workshop, &staging.path().join(&names.container))?;

        making.reporter.begin("make the disk");
        let mut inventory = artifacts::make_disk(&workshop, self.disk_size, self.suite)?;

        making.reporter.begin("convert the disk");
        artifacts::convert_disk(&workshop, &staging.path().join(&names.disk))?;

        inventory.with.clone_from(&self.with);
        if let Some(packages) = packages {
            if let Some(note) = &packages.note {
                making.reporter.note(note);
            }
            inventory.repository = Some(packages.described);
        }

        making.reporter.begin("check and publish");
        for (from, to) in [("kernel", &names.kernel), ("initrd", &names.initrd)] {
            let to = staging.path().join(to);
            fs::rename(workshop.dir.join(from), &to).map_err(IoError::on("write", &to))?;
        }
        fs::remove_dir_all(&workshop.dir).map_err(IoError::on("write", &workshop.dir))?;
        Ok(BoxContents {
            kernel: staging.describe(&names.kernel)?,
            initrd: staging.describe(&names.initrd)?,
            disk: staging.describe(&names.disk)?,
            disk_size: self.disk_size,
            cmdline: vec![format!("root={ROOT_DEVICE}")],
            console: String::from("hvc0"),
            guest: Guest::Fast,
            kiwi: Some(self.kiwi.clone()),
            memory_mib: MEMORY_MIB,
            cpus: CPUS,
            container: Some(ContainerImage::Archive(staging.describe(&names.container)?)),
            inventory: Some(inventory),
            published: None,
        })
    }
}

impl BoxSource for DebianBox {
    fn target(&self) -> Target {
        Target {
            name: self.name.clone(),
            arch: self.arch,
            origin: format!("debian:{}", self.suite),
        }
    }

    fn prepare(&self) -> Result<MakeBox<'_>, SourceError> {
        if let Some(mirror) = &self.mirror {
            mirror::check_address(mirror)?;
        }
        let host = check_host_for(self.arch)?;
        let emulation = Emulation::find(&host, self.arch)?;
        let mirror = self
            .mirror
            .clone()
            .or_else(|| apt::mirror_of_host(host.path()));
        Ok(Box::new(move |making| {
            if mirror.is_none() {
                making.reporter.note(
                    "packages come from mmdebstrap's default mirror, as this host's apt has none of \
                     Debian; --mirror URL names another",
                );
            }
            self.make(&host, &emulation, mirror.as_deref(), making)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_has_a_version_of_python() {
        let suites: Vec<_> = SUITES.iter().map(|(suite, _)| *suite).collect();
        assert_eq!(suites, DISTRIBUTION.releases);
    }
}
