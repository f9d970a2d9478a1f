//! UEFI firmware of the host's packages.
//!
//! Distributions describe what they install in files that libvirt and others read (QEMU,
//! docs/interop/firmware.json); where there are none, the known places are tried.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use boxbuild_host::arch::Arch;
use boxbuild_host::input;
use serde::Deserialize;

use crate::unusable::Unusable;

/// Where descriptions of firmware are, the most important first (firmware.json, "Locations").
const DESCRIPTIONS: [&str; 2] = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"];
/// Longest description, and most of them.
const LONGEST: u64 = 64 << 10;
const MOST: usize = 200;
/// Largest image of firmware, in bytes: 64 MiB for arm64.
const LARGEST: u64 = 64 << 20;

/// Known places: program and template for variables, without and with Secure Boot.
const X86_64: [(&str, &str, Secure); 9] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
        Secure::Off,
    ),
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
        Secure::Off,
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
        Secure::Off,
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
        Secure::Off,
    ),
    (
        "/usr/share/qemu/ovmf-x86_64-code.bin",
        "/usr/share/qemu/ovmf-x86_64-vars.bin",
        Secure::Off,
    ),
    (
        "/usr/share/qemu/edk2-x86_64-code.fd",
        "/usr/share/qemu/edk2-i386-vars.fd",
        Secure::Off,
    ),
    (
        "/usr/share/OVMF/OVMF_CODE_4M.ms.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
        Secure::On,
    ),
    (
        "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
        Secure::On,
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd",
        Secure::On,
    ),
];
const AARCH64: [(&str, &str, Secure); 4] = [
    (
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "/usr/share/AAVMF/AAVMF_VARS.fd",
        Secure::Off,
    ),
    (
        "/usr/share/edk2/aarch64/QEMU_EFI-silent-pflash.raw",
        "/usr/share/edk2/aarch64/vars-template-pflash.raw",
        Secure::Off,
    ),
    (
        "/usr/share/qemu/aavmf-aarch64-code.bin",
        "/usr/share/qemu/aavmf-aarch64-vars.bin",
        Secure::Off,
    ),
    (
        "/usr/share/qemu/edk2-aarch64-code.fd",
        "/usr/share/qemu/edk2-arm-vars.fd",
        Secure::Off,
    ),
];

/// Whether firmware starts signed programs only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secure {
    /// It starts anything.
    Off,
    /// Its keys are enrolled.
    On,
}

/// UEFI firmware.
#[derive(Debug)]
pub struct Uefi {
    /// The program, for messages.
    pub path: PathBuf,
    /// The program: contents of the first flash.
    pub(super) code: File,
    /// What the second flash has at first.
    pub(super) variables: Vec<u8>,
    /// Whether it starts signed programs only.
    pub secure: Secure,
}

/// Finds UEFI firmware for guests of `arch`.
///
/// # Errors
/// If there is none; the text says which package has it.
pub fn find(arch: Arch, secure: Secure) -> Result<Uefi, Unusable> {
    let described = described(arch, secure);
    let known: &[(&str, &str, Secure)] = match arch {
        Arch::X86_64 => &X86_64,
        Arch::Aarch64 => &AARCH64,
        Arch::Ppc64le | Arch::S390x => &[],
    };
    let known = known.iter().filter(|(_, _, kind)| *kind == secure);
    let known = known.map(|(code, variables, _)| (PathBuf::from(code), PathBuf::from(variables)));
    described
        .into_iter()
        .chain(known)
        .find_map(|(code, variables)| open(code, &variables, secure).ok())
        .ok_or_else(|| missing(arch, secure))
}

fn open(path: PathBuf, variables: &Path, secure: Secure) -> io::Result<Uefi> {
    Ok(Uefi {
        code: input::open(&path)?,
        variables: input::read(variables, LARGEST)?,
        path,
        secure,
    })
}

fn missing(arch: Arch, secure: Secure) -> Unusable {
    let what = match secure {
        Secure::Off => "UEFI firmware",
        Secure::On => "UEFI firmware with Secure Boot",
    };
    let packages = match arch {
        Arch::X86_64 => "Debian and Ubuntu: ovmf, Fedora: edk2-ovmf, openSUSE: qemu-ovmf-x86_64",
        Arch::Aarch64 => {
            "Debian and Ubuntu: qemu-efi-aarch64, Fedora: edk2-aarch64, openSUSE: qemu-uefi-aarch64"
        }
        Arch::Ppc64le | Arch::S390x => {
            return Unusable(format!("there is no UEFI firmware for {arch}"));
        }
    };
    Unusable(format!("no {what} for {arch} is installed ({packages})"))
}

/// A description of firmware, as far as it is needed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Description {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    features: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    executable: Option<Part>,
    nvram_template: Option<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    filename: PathBuf,
    format: String,
}

#[derive(Debug, Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

/// The programs and templates that descriptions name, the best first.
fn described(arch: Arch, secure: Secure) -> Vec<(PathBuf, PathBuf)> {
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in DESCRIPTIONS {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        let entries = entries.take(MOST).filter_map(Result::ok);
        let found = entries.map(|entry| entry.path());
        let found = found.filter(|path| path.extension().is_some_and(|end| end == "json"));
        files.extend(found);
    }
    // Their names begin with numbers; one in /etc replaces that of the same name.
    files.sort_by_key(|path| (path.file_name().map(ToOwned::to_owned), path.clone()));
    files.dedup_by(|later, first| later.file_name() == first.file_name());
    let texts = files
        .iter()
        .filter_map(|path| input::read(path, LONGEST).ok());
    texts
        .filter_map(|text| serde_json::from_slice::<Description>(&text).ok())
        .filter_map(|description| fitting(description, arch, secure))
        .collect()
}

fn fitting(description: Description, arch: Arch, secure: Secure) -> Option<(PathBuf, PathBuf)> {
    let has = |feature: &str| description.features.iter().any(|known| known == feature);
    let is_secure = has("enrolled-keys") && has("secure-boot");
    let wanted = match secure {
        Secure::On => is_secure,
        Secure::Off => !has("enrolled-keys") && !has("requires-smm"),
    };
    let machine = match arch {
        Arch::X86_64 => "pc-q35-",
        _ => "virt-",
    };
    let fits = description.targets.iter().any(|target| {
        target.architecture == arch.name()
            && target.machines.iter().any(|name| name.starts_with(machine))
    });
    let uefi = description
        .interface_types
        .iter()
        .any(|kind| kind == "uefi");
    let Mapping {
        device,
        executable: Some(code),
        nvram_template: Some(variables),
    } = description.mapping
    else {
        return None;
    };
    let raw = code.format == "raw" && variables.format == "raw" && device == "flash";
    (wanted && fits && uefi && raw).then_some((code.filename, variables.filename))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(features: &str) -> Description {
        let text = format!(
            r#"{{"description": "x", "interface-types": ["uefi"], "mapping": {{"device": "flash",
            "executable": {{"filename": "/code", "format": "raw"}},
            "nvram-template": {{"filename": "/vars", "format": "raw"}}}},
            "targets": [{{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}}],
            "features": [{features}], "tags": []}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn secure_boot_is_taken_only_where_it_is_asked_for() {
        let plain = || description(r#""acpi-s3", "verbose-dynamic""#);
        let secure = || description(r#""requires-smm", "secure-boot", "enrolled-keys""#);
        let x86 = Arch::X86_64;
        assert!(fitting(plain(), x86, Secure::Off).is_some());
        assert!(fitting(plain(), x86, Secure::On).is_none());
        assert!(fitting(secure(), x86, Secure::Off).is_none());
        assert!(fitting(secure(), x86, Secure::On).is_some());
        assert!(fitting(plain(), Arch::Aarch64, Secure::Off).is_none());
    }

    #[test]
    fn what_is_missing_is_said_with_its_package() {
        let Unusable(text) = missing(Arch::X86_64, Secure::Off);
        assert!(text.contains("Debian and Ubuntu: ovmf"), "{text}");
        let Unusable(text) = missing(Arch::Aarch64, Secure::Off);
        assert!(text.contains("qemu-efi-aarch64"), "{text}");
        assert!(find(Arch::S390x, Secure::Off).is_err());
    }
}
