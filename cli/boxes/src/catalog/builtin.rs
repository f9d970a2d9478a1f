//! The boxes that the KIWI project publishes in the openSUSE build service.

use boxbuild_host::arch::Arch;

use super::published_box::{PublishedBox, Variant};

/// Guest memory in MiB, as in the project's own list.
const MEMORY_MIB: u64 = 8096;

/// Virtual CPUs, as in the project's own list.
const CPUS: u32 = 4;

/// Number of the partition with the root file system on the first disk.
type Root = u8;

/// What differs between architectures: the root partition, and whether SELinux is switched off.
type Builds = &'static [(Arch, Root, Selinux)];

/// Name, beginning of the file names, and builds of each box.
const BOXES: &[(&str, &str, Builds)] = &[
    (
        "tumbleweed",
        "TumbleWeed",
        &[
            (Arch::X86_64, 3, Selinux::AsIs),
            (Arch::Aarch64, 2, Selinux::Off),
            (Arch::S390x, 1, Selinux::Off),
        ],
    ),
    ("leap", "Leap", &[(Arch::X86_64, 1, Selinux::AsIs)]),
    ("fedora", "Fedora", &[(Arch::X86_64, 3, Selinux::Off)]),
    (
        "ubuntu",
        "Ubuntu",
        &[
            (Arch::X86_64, 3, Selinux::Off),
            (Arch::Aarch64, 2, Selinux::Off),
        ],
    ),
    ("universal", "Universal", EVERYWHERE),
    ("staging", "Staging", EVERYWHERE),
];

const EVERYWHERE: Builds = &[
    (Arch::X86_64, 3, Selinux::Off),
    (Arch::Aarch64, 2, Selinux::Off),
    (Arch::S390x, 1, Selinux::Off),
    (Arch::Ppc64le, 2, Selinux::Off),
];

/// Whether the kernel command line switches SELinux off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Selinux {
    AsIs,
    Off,
}

/// Returns the built-in list.
pub(super) fn boxes() -> Vec<PublishedBox> {
    BOXES
        .iter()
        .map(|(name, prefix, variants)| PublishedBox {
            name: (*name).to_owned(),
            memory_mib: MEMORY_MIB,
            cpus: CPUS,
            console: String::from("hvc0"),
            variants: variants
                .iter()
                .map(|(arch, root, selinux)| variant(name, prefix, *arch, *root, *selinux))
                .collect(),
        })
        .collect()
}

fn variant(name: &str, prefix: &str, arch: Arch, root: Root, selinux: Selinux) -> Variant {
    let mut cmdline = vec![
        format!("root=/dev/vda{root}"),
        String::from("rd.plymouth=0"),
    ];
    if selinux == Selinux::Off {
        cmdline.push(String::from("selinux=0"));
    }
    Variant {
        arch,
        cmdline,
        source: format!("obs://Virtualization:Appliances:SelfContained:{name}/images"),
        kernel_file: format!("{prefix}-Box.{arch}-Kernel.tar.xz"),
        disk_file: format!("{prefix}-Box.{arch}-System.qcow2"),
        packages_file: format!("{prefix}-Box.{arch}-System.json"),
        container: format!(
            "registry.opensuse.org/virtualization/appliances/selfcontained/{name}/images/{name}:latest"
        ),
        use_initrd: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_box_with_its_architectures() {
        let boxes = boxes();
        let listed: Vec<String> = boxes
            .iter()
            .map(|published| {
                let arches: Vec<_> = published
                    .variants
                    .iter()
                    .map(|variant| variant.arch.name())
                    .collect();
                format!("{} {}", published.name, arches.join(" "))
            })
            .collect();
        assert_eq!(
            listed,
            [
                "tumbleweed x86_64 aarch64 s390x",
                "leap x86_64",
                "fedora x86_64",
                "ubuntu x86_64 aarch64",
                "universal x86_64 aarch64 s390x ppc64le",
                "staging x86_64 aarch64 s390x ppc64le",
            ]
        );
        assert_eq!(
            boxes[1].variants[0].disk_file,
            "Leap-Box.x86_64-System.qcow2"
        );
    }
}
