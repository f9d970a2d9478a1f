//! The schema of `kiwi_boxed_plugin.yml`: that of kiwi's boxbuild (kiwi 11,
//! `boxbuild/boxes_config_schema.py`), with the same required keys. Unknown keys are errors.

use std::collections::BTreeSet;

use boxbuild_host::arch::Arch;
use boxbuild_protocol::kernel_args::is_console;
use serde::Deserialize;

use super::published_box::{PublishedBox, Variant};
use crate::store::{check_file_name, check_name};

/// Guest memory may be written in these units; a bare number is MiB, as for QEMU's `-m`.
const UNITS: &[(&str, u64)] = &[("M", 1), ("G", 1 << 10), ("T", 1 << 20), ("", 1)];

/// Virtual CPUs of a box without `processors`.
const CPUS: u32 = 4;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "box")]
    boxes: Vec<BoxItem>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BoxItem {
    name: String,
    mem_mb: String,
    #[serde(default)]
    processors: Option<u32>,
    console: String,
    arch: Vec<ArchItem>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchItem {
    name: ArchName,
    cmdline: Vec<String>,
    source: String,
    packages_file: String,
    boxfiles: Vec<String>,
    container: String,
    use_initrd: bool,
}

/// Architectures that the file may name. `ppc64` is allowed and ignored.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ArchName {
    #[serde(rename = "x86_64")]
    X86_64,
    S390x,
    Aarch64,
    Ppc64,
    Ppc64le,
}

impl ArchName {
    fn supported(self) -> Option<Arch> {
        match self {
            ArchName::X86_64 => Some(Arch::X86_64),
            ArchName::S390x => Some(Arch::S390x),
            ArchName::Aarch64 => Some(Arch::Aarch64),
            ArchName::Ppc64le => Some(Arch::Ppc64le),
            ArchName::Ppc64 => None,
        }
    }
}

/// Parses the text of a file, or returns what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<PublishedBox>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut names = BTreeSet::new();
    file.boxes
        .into_iter()
        .map(|item| {
            let name = item.name.clone();
            if !names.insert(name.clone()) {
                return Err(format!("there are two boxes '{name}'"));
            }
            published(item).map_err(|problem| format!("box '{name}': {problem}"))
        })
        .collect()
}

fn published(item: BoxItem) -> Result<PublishedBox, String> {
    check_name(&item.name).map_err(|error| error.to_string())?;
    if !is_console(&item.console) {
        let console = &item.console;
        return Err(format!(
            "{console}: not a console: write e.g. hvc0 or ttyS0"
        ));
    }
    let mut variants: Vec<Variant> = Vec::new();
    for arch in item.arch {
        let Some(known) = arch.name.supported() else {
            continue;
        };
        if variants.iter().any(|variant| variant.arch == known) {
            return Err(format!("{known} is listed twice"));
        }
        variants.push(variant(known, arch).map_err(|problem| format!("{known}: {problem}"))?);
    }
    Ok(PublishedBox {
        memory_mib: memory(&item.mem_mb)?,
        cpus: item.processors.unwrap_or(CPUS).clamp(1, 255),
        name: item.name,
        console: item.console,
        variants,
    })
}

fn variant(arch: Arch, item: ArchItem) -> Result<Variant, String> {
    let file = |ending: &str| {
        let mut files = item.boxfiles.iter().filter(|name| name.ends_with(ending));
        match (files.next(), files.next()) {
            (Some(name), None) => Ok(name.clone()),
            (None, _) => Err(format!("boxfiles names no file *{ending}")),
            _ => Err(format!("boxfiles names more than one file *{ending}")),
        }
    };
    for name in item.boxfiles.iter().chain([&item.packages_file]) {
        check_file_name(name)?;
    }
    if let Some(word) = item
        .cmdline
        .iter()
        .find(|word| word.is_empty() || word.contains(|c: char| c == '"' || c.is_control()))
    {
        return Err(format!(
            "cmdline: '{word}' is not a word for a command line"
        ));
    }
    Ok(Variant {
        arch,
        kernel_file: file(".tar.xz")?,
        disk_file: file(".qcow2")?,
        cmdline: item.cmdline,
        source: item.source,
        packages_file: item.packages_file,
        container: item.container,
        use_initrd: item.use_initrd,
    })
}

/// Parses an amount of memory such as `8096M`, and returns MiB.
fn memory(text: &str) -> Result<u64, String> {
    UNITS
        .iter()
        .find_map(|(unit, factor)| {
            let number: u64 = text.trim().strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(*factor).filter(|mib| *mib > 0)
        })
        .ok_or_else(|| format!("mem_mb: '{text}' is not an amount of memory such as 8096M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
box:
  -
    name: trixie
    mem_mb: 4096M
    processors: 2
    console: hvc0
    arch:
      -
        name: x86_64
        cmdline:
          - root=/dev/vda1
          - rd.plymouth=0
        source: http://127.0.0.1:8733
        packages_file: Trixie-Box.x86_64-System.json
        boxfiles:
          - Trixie-Box.x86_64-Kernel.tar.xz
          - Trixie-Box.x86_64-System.qcow2
        container: localhost/trixie-box:latest
        use_initrd: true
      - {name: ppc64, cmdline: [], source: s, packages_file: p, boxfiles: [], container: c, use_initrd: false}
";

    #[test]
    fn a_file_of_kiwis_schema_is_read() {
        let boxes = parse(GOOD).unwrap();
        assert_eq!(boxes.len(), 1);
        assert_eq!(
            (boxes[0].memory_mib, boxes[0].cpus, boxes[0].variants.len()),
            (4096, 2, 1)
        );
        let variant = &boxes[0].variants[0];
        assert_eq!(variant.cmdline, ["root=/dev/vda1", "rd.plymouth=0"]);
        assert_eq!(variant.kernel_file, "Trixie-Box.x86_64-Kernel.tar.xz");
    }

    #[test]
    fn errors_name_what_is_wrong_and_where() {
        for (from, to, texts) in [
            ("processors", "procesors", &["procesors", "processors"][..]),
            ("    console: hvc0\n", "", &["console"]),
            ("name: x86_64", "name: vax", &["vax", "x86_64"]),
            ("4096M", "plenty", &["mem_mb", "plenty"]),
            ("System.qcow2", "System.raw", &["no file *.qcow2"]),
            ("- Trixie-Box.x86_64-K", "- ../K", &["../K"]),
            ("name: trixie", "name: ../trixie", &["../trixie"]),
            ("hvc0", "hvc0 init=/bin/sh", &["not a console"]),
            ("root=/dev/vda1", "'a\"b'", &["cmdline"]),
            ("box:", "boxes:", &["boxes"]),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let error = parse(&text).unwrap_err();
            for wanted in texts {
                assert!(error.contains(wanted), "'{wanted}' is not in: {error}");
            }
        }
        let error = parse(&GOOD.replacen("processors", "procesors", 1)).unwrap_err();
        assert!(error.contains('5'), "names the line: {error}");
    }

    #[test]
    fn memory_has_a_unit() {
        for (text, mib) in [("8096M", 8096), ("8G", 8192), ("512", 512)] {
            assert_eq!(memory(text), Ok(mib));
        }
        for bad in ["", "M", "-1M", "0M", "8K", "99999999999999999999G"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }
}
