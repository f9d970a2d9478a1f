//! The programs of QEMU.

use std::path::{Path, PathBuf};
use std::process::Command;

use boxbuild_host::arch::Arch;
use boxbuild_host::program;

use super::argv;
use crate::unusable::Unusable;

/// Oldest QEMU that has everything used here (memfd sharing and fd-backed block nodes are
/// older; 6.2 is what the oldest supported distributions ship).
const OLDEST: u32 = 6;

/// Whether QEMU for guests of `arch` is here and new enough.
pub(super) fn probe(arch: Arch) -> Result<(), Unusable> {
    let program = find_qemu(arch)?;
    program::find("qemu-img").ok_or_else(|| {
        Unusable(String::from(
            "the program qemu-img is not installed (Debian and Ubuntu: qemu-utils, Fedora: \
             qemu-img, openSUSE: qemu-img)",
        ))
    })?;
    let output = Command::new(&program)
        .arg("--version")
        .output()
        .map_err(|error| Unusable(format!("cannot run {}: {error}", program.display())))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match major_version(&said) {
        Some(version) if version < OLDEST => Err(Unusable(format!(
            "{} is too old (version {version}; {OLDEST} or newer is needed): install a newer one",
            program.display()
        ))),
        Some(_) => Ok(()),
        None => Err(Unusable(format!(
            "{} does not print its version, but: {}",
            program.display(),
            said.trim()
        ))),
    }
}

/// The QEMU program for guests of `arch`.
pub(super) fn find_qemu(arch: Arch) -> Result<PathBuf, Unusable> {
    let name = argv::program(arch);
    let fallback = Path::new("/usr/libexec/qemu-kvm");
    program::find(&name)
        .or_else(|| (arch == Arch::host() && fallback.exists()).then(|| fallback.to_owned()))
        .ok_or_else(|| {
            let package = match arch {
                Arch::X86_64 => "qemu-system-x86",
                Arch::Aarch64 => "qemu-system-arm",
                Arch::Ppc64le => "qemu-system-ppc",
                Arch::S390x => "qemu-system-misc",
            };
            Unusable(format!(
                "the program {name} is not installed (Debian and Ubuntu: {package}, Fedora: \
                 {name}-core, openSUSE: qemu)"
            ))
        })
}

/// `10` from `QEMU emulator version 10.0.2 (…)`.
fn major_version(output: &str) -> Option<u32> {
    let (_, rest) = output.split_once("version ")?;
    rest.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(
            major_version("QEMU emulator version 10.0.2 (Debian …)"),
            Some(10)
        );
        assert_eq!(major_version("QEMU emulator version 7.2.22"), Some(7));
        assert_eq!(major_version("something else"), None);
    }
}
