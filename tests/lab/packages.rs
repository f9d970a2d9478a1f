//! Packages of Debian for a machine whose architecture is not the host's: unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use boxbuild_tests::command::require;
use boxbuild_tests::debian::{self, KEYRING};
use boxbuild_tests::interrupt::Unwind;
use boxbuild_tests::publish::{lock, publish, remove_abandoned, sha256};

use crate::arch::Arch;
use crate::kernel::{self, Suite};

/// The release that they are taken from, whatever the machine's kernel: programs that were compiled
/// for an older one run with its libraries.
const SUITE: Suite = Suite::Trixie;

/// What each such machine needs: its init's tools, and what programs of Rust are linked with.
const BASE: [&str; 3] = ["busybox-static", "libc6", "libgcc-s1"];

/// What no program reads.
const LEFT_OUT: [&str; 5] = ["doc", "doc-base", "info", "locale", "man"];

/// The folder of [`BASE`].
pub(crate) fn base(arch: Arch) -> Result<PathBuf> {
    folder(arch, &BASE.map(str::to_owned))
}

/// The folder into which packages and all that they depend on are unpacked. Downloaded where it is
/// not there.
pub(crate) fn folder(arch: Arch, names: &[String]) -> Result<PathBuf> {
    let cache = debian::cache()?;
    let all = cache.join("packages");
    let list = names.join(" ");
    let name = format!("{}-{}", arch.name(), &sha256(list.as_bytes())[..12]);
    let folder = all.join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    ensure!(
        Path::new(KEYRING).exists(),
        "no {KEYRING}: install the package debian-archive-keyring"
    );
    require([("apt-get", "apt"), ("dpkg-deb", "dpkg")])?;
    fs::create_dir_all(&all).with_context(|| format!("cannot make {}", all.display()))?;
    // Its apt is the kernels'.
    let _lock = lock(&cache.join("kernel.lock"))?;
    let _unwind = Unwind::begin()?;
    if folder.is_dir() {
        return Ok(folder);
    }
    remove_abandoned(&all)?;
    let work = tempfile::Builder::new()
        .prefix(".making.")
        .tempdir_in(&all)?;
    eprintln!("fetching {list} for {} (once)", arch.name());
    let apt = kernel::apt(SUITE, arch)?;
    apt.update()?;
    let archives = work.path().join("archives");
    let packages = apt.download_with_dependencies(names, &archives)?;
    let new = work.path().join("new");
    fs::create_dir(&new)?;
    for package in packages {
        debian::unpack(&package, &new)?;
    }
    for name in LEFT_OUT {
        let folder = new.join("usr/share").join(name);
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    publish(&new, &folder)?;
    Ok(folder)
}
