//! The source of a box of Debian's packages, or of a distribution that is made like it.

use std::fs;
use std::path::PathBuf;

use boxbuild_host::arch::Arch;
use boxbuild_host::error::IoError;
use boxbuild_host::input;

use super::emulation::Emulation;
use super::release::{DEBIAN, Family, Suite, UBUNTU};
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
    name: DEBIAN.name,
    releases: &["bookworm", "trixie"],
    source: |options| Ok(Box::new(AptBox::new(&DEBIAN, options)?)),
};

/// Ubuntu.
pub const UBUNTU_DISTRIBUTION: Distribution = Distribution {
    name: UBUNTU.name,
    releases: &["noble"],
    source: |options| Ok(Box::new(AptBox::new(&UBUNTU, options)?)),
};

/// Programs that making a box takes, besides those for its disk.
const PROGRAMS: &[Program] = &[
    Program::new("mmdebstrap", "mmdebstrap"),
    Program::new("apt-get", "apt"),
    Program::new("dpkg-deb", "dpkg"),
    Program::new("qemu-img", "qemu-utils"),
    Program::new("python3", "python3-pip"),
];

/// Programs for a box of another architecture: mmdebstrap asks arch-test what the host runs.
const FOREIGN_PROGRAMS: &[Program] = &[Program::new("arch-test", "arch-test")];

/// Free space that making a box needs at its peak, in bytes: root tree, its archive, the raw disk
/// and the qcow2 image.
const NEEDED_SPACE: u64 = 4 << 30;

/// Default guest memory of a box in MiB.
const MEMORY_MIB: u64 = 4096;

/// Default number of virtual CPUs of a box.
const CPUS: u32 = 4;

/// Checks what making a box of this host's architecture takes, and changes nothing.
///
/// # Errors
/// Fails with [`SourceError::Host`] if something is missing. The text says how to get it.
pub fn check_host() -> Result<(), SourceError> {
    check_host_for(&DEBIAN, Arch::host(), Keys::OfFamily).map(drop)
}

/// Where the public keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// The distribution's package on the host.
    OfFamily,
    /// A file that the user names.
    OfUser,
}

fn check_host_for(family: &Family, arch: Arch, keys: Keys) -> Result<Host, SourceError> {
    // mmdebstrap takes the keys from there on hosts whose apt does not have them.
    let of_family = [Program::new(family.keys, family.keys_package)];
    let keys = match keys {
        Keys::OfFamily => &of_family[..],
        Keys::OfUser => &[],
    };
    let foreign = if arch == Arch::host() {
        &[][..]
    } else {
        FOREIGN_PROGRAMS
    };
    Host::check(&[PROGRAMS, keys, root_disk::PROGRAMS, foreign])
}

/// A box of a distribution's packages.
#[derive(Debug)]
struct AptBox {
    family: &'static Family,
    name: String,
    arch: Arch,
    suite: Suite,
    mirror: Option<String>,
    /// Public keys of the packages, if the user names them.
    keys: Option<PathBuf>,
    /// Virtual size of the disk in bytes.
    disk_size: u64,
    kiwi: String,
    /// More packages.
    with: Vec<String>,
}

impl AptBox {
    fn new(family: &'static Family, options: &CreateOptions) -> Result<AptBox, SourceError> {
        let suite = options
            .from
            .split_once(':')
            .and_then(|(_, suite)| {
                family
                    .suites
                    .iter()
                    .find(|known| known.name == suite)
                    .copied()
            })
            .ok_or_else(|| SourceError::Usage(format!("--from {}: unknown suite", options.from)))?;
        Ok(AptBox {
            family,
            keys: options.keyring.clone(),
            name: name_for(&options.name, options.arch),
            arch: options.arch,
            suite,
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
            mirror::check(mirror, self.family.title, self.suite.name, &workshop)?;
        }

        making.reporter.begin("fetch KIWI");
        kiwi::fetch(&workshop, &self.kiwi, self.suite.python, self.arch)?;

        making.reporter.begin("install packages");
        // Only Debian's own tools know Debian's keys.
        let of_family = || host.find(self.family.keys).filter(|_| mirror.is_some());
        let keys = self.keys.clone().or_else(of_family);
        let tree = RootTree {
            family: self.family,
            suite: self.suite,
            keys: keys.as_deref(),
            mirror,
            arch: self.arch,
            kiwi: &self.kiwi,
            with: &self.with,
        };
        let packages = tree.make(&workshop, emulation)?;

        making.reporter.begin("make the container image");
        artifacts::make_container(&workshop, &staging.path().join(&names.container))?;

        making.reporter.begin("make the disk");
        let mut inventory = artifacts::make_disk(&workshop, self.disk_size, self.suite.name)?;

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

impl BoxSource for AptBox {
    fn target(&self) -> Target {
        Target {
            name: self.name.clone(),
            arch: self.arch,
            origin: format!("{}:{}", self.family.name, self.suite.name),
        }
    }

    fn prepare(&self) -> Result<MakeBox<'_>, SourceError> {
        if let Some(mirror) = &self.mirror {
            mirror::check_address(mirror)?;
        }
        let keys = match &self.keys {
            Some(keys) => {
                input::open(keys).map_err(IoError::on_named("read", keys))?;
                Keys::OfUser
            }
            None => Keys::OfFamily,
        };
        let host = check_host_for(self.family, self.arch, keys)?;
        let emulation = Emulation::find(&host, self.arch)?;
        let mirror = self
            .mirror
            .clone()
            .or_else(|| apt::mirror_of_host(self.family, host.path()));
        if mirror.is_none() && !self.family.has_default_mirror {
            return Err(SourceError::Usage(format!(
                "this host's apt has no mirror of {}: name one with --mirror URL",
                self.family.title
            )));
        }
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
    fn every_release_is_known() {
        for (distribution, family) in [(DISTRIBUTION, &DEBIAN), (UBUNTU_DISTRIBUTION, &UBUNTU)] {
            let suites: Vec<_> = family.suites.iter().map(|suite| suite.name).collect();
            assert_eq!(suites, distribution.releases);
            assert!(suites.iter().all(|suite| family.releases.contains(suite)));
        }
    }
}
