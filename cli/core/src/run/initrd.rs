//! The initial ramdisk of a fast boot: the box's own one with our part behind it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use boxbuild_boxes::store::{BoxInfo, InstalledBox};
use boxbuild_engine::boot_cache;
use boxbuild_firmware::guest::{FastBoot, Init};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::error::BuildError;

/// The initial ramdisk of a box that is booted by its own init.
#[expect(clippy::disallowed_methods, reason = "a file of the box store")]
pub(super) fn compat(installed: &InstalledBox) -> Result<OwnedFd, BuildError> {
    let path = installed.path(&installed.info.initrd);
    match File::open(&path) {
        Ok(file) => Ok(file.into()),
        Err(source) => Err(BuildError::Initrd { path, source }),
    }
}

/// The initial ramdisk of a box that is booted fast.
pub(super) fn fast(installed: &InstalledBox, boot: &FastBoot) -> Result<OwnedFd, BuildError> {
    let info = &installed.info;
    let init = Init::of(info.arch.name());
    let part = boot.initrd_part(init);
    boot_initrd(init, info, installed)
        .and_then(|own| concatenate(own, &part))
        .map_err(|source| BuildError::Initrd {
            path: installed.path(&info.initrd),
            source,
        })
}

/// Seconds since the epoch.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// 32 random bytes in hexadecimal digits, for the guest's kernel; empty if there are none.
pub(super) fn seed() -> String {
    random().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "a device of the host")]
fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a fast boot needs of the box's own initrd.
#[expect(clippy::disallowed_methods, reason = "a file of the box store")]
fn boot_initrd(init: Init, info: &BoxInfo, installed: &InstalledBox) -> io::Result<File> {
    let path = installed.path(&info.initrd);
    match init {
        Init::Program(_) => {
            let root = boot_cache::root::kind(&installed.path(&info.disk), &info.cmdline);
            boot_cache::initrd::open(&path, &info.initrd.sha256, root.as_deref())
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
