//! Kernel and initial ramdisk of a root tree.

use std::collections::HashSet;

use super::names::Tree;

/// Names of the files to boot in a root tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct BootFiles {
    pub(super) kernel: Option<Vec<u8>>,
    pub(super) initrd: Option<Vec<u8>>,
}

/// Returns the newest kernel that has an initial ramdisk of its own, with that; where none has, the
/// newest of both. A ramdisk of another kernel has no drivers for this one.
pub(super) fn find(tree: &Tree) -> BootFiles {
    find_in(tree.files())
}

fn find_in<'n>(names: impl Iterator<Item = &'n [u8]>) -> BootFiles {
    let (mut kernels, mut initrds) = (Vec::new(), Vec::new());
    for name in names.filter_map(|name| std::str::from_utf8(name).ok()) {
        if let Some(release) = kernel_release(name) {
            kernels.push((version(name), release, name));
        } else if let Some(release) = initrd_release(name) {
            initrds.push((version(name), release, name));
        }
    }
    let known: HashSet<&str> = initrds.iter().map(|(_, release, _)| *release).collect();
    let kernel = kernels
        .into_iter()
        .max_by_key(|(version, release, _)| (known.contains(release), version.clone()));
    let fits = |release: &str| {
        kernel
            .as_ref()
            .is_some_and(|(_, of_kernel, _)| *of_kernel == release)
    };
    let initrd = initrds
        .into_iter()
        .max_by_key(|(version, release, _)| (fits(release), version.clone()));
    BootFiles {
        kernel: kernel.map(|(_, _, name)| name.as_bytes().to_vec()),
        initrd: initrd.map(|(_, _, name)| name.as_bytes().to_vec()),
    }
}

/// The release in the name of a kernel of Debian, Fedora, SUSE, Arch or Alpine (`virt` of
/// `boot/vmlinuz-virt`), `None` for other files. On aarch64 and s390x kernels are called `Image` and
/// `image`.
fn kernel_release(name: &str) -> Option<&str> {
    let packed = [".hmac", ".gz", ".xz", ".zst", ".old"];
    if packed.iter().any(|end| name.ends_with(end)) {
        return None;
    }
    if let Some(file) = name
        .strip_prefix("boot/")
        .filter(|name| !name.contains('/'))
    {
        let rest = ["vmlinuz", "vmlinux-", "Image", "image"]
            .iter()
            .find_map(|begin| file.strip_prefix(begin))?;
        return Some(rest.trim_start_matches('-'));
    }
    in_folder(name, &["vmlinuz", "Image", "image"], "linux")
}

/// The release in the name of an initial ramdisk for booting, not for rescue or crash dumps; `None` for
/// other files.
fn initrd_release(name: &str) -> Option<&str> {
    let others = ["kdump", "fallback", "rescue"];
    if others.iter().any(|other| name.contains(other)) || name.ends_with(".old") {
        return None;
    }
    if let Some(file) = name
        .strip_prefix("boot/")
        .filter(|name| !name.contains('/'))
        && let Some(rest) = ["initrd.img", "initrd", "initramfs"]
            .iter()
            .find_map(|begin| file.strip_prefix(begin))
    {
        let rest = rest.strip_suffix(".img").unwrap_or(rest);
        return Some(rest.trim_start_matches('-'));
    }
    // The first ones are of Fedora's images that are containers (bootc, OSTree).
    let names = ["initramfs.img", "initrd.img", "initramfs", "initrd"];
    in_folder(name, &names, "initrd")
}

/// The release in `usr/lib/modules/RELEASE/NAME`, or of a boot loader entry,
/// `boot/MACHINE/RELEASE/ENTRY` (kernel-install(8)).
fn in_folder<'n>(name: &'n str, names: &[&str], entry: &str) -> Option<&'n str> {
    for begin in ["usr/lib/modules/", "lib/modules/"] {
        if let Some(rest) = name.strip_prefix(begin) {
            let (release, file) = rest.split_once('/')?;
            return names.contains(&file).then_some(release);
        }
    }
    let rest = ["boot/efi/", "boot/", "efi/"]
        .iter()
        .find_map(|begin| name.strip_prefix(begin))?;
    let mut parts = rest.split('/').skip(1);
    let (release, file) = (parts.next()?, parts.next()?);
    (file == entry && parts.next().is_none()).then_some(release)
}

/// Returns the numbers in a name, by which versions are compared.
fn version(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> (String, String) {
        let files = find_in(names.iter().map(|name| name.as_bytes()));
        let text = |name: Option<Vec<u8>>| String::from_utf8(name.unwrap_or_default()).unwrap();
        (text(files.kernel), text(files.initrd))
    }

    #[test]
    fn boot_files_are_recognised_by_their_names() {
        for (name, release) in [
            ("boot/vmlinuz-6.12.9-amd64", "6.12.9-amd64"),
            ("boot/vmlinuz", ""),
            ("boot/Image-6.4.0-default", "6.4.0-default"),
            (
                "usr/lib/modules/6.11.4-301.fc41.x86_64/vmlinuz",
                "6.11.4-301.fc41.x86_64",
            ),
        ] {
            assert_eq!(kernel_release(name), Some(release), "{name}");
        }
        for name in [
            "boot/config-6.1",
            "boot/x/vmlinuz-1",
            "boot/vmlinuz-1.hmac",
            "boot/vmlinux-6.4.0-default.xz",
            "vmlinuz",
            "usr/lib/modules/6.4.0/x/vmlinuz",
        ] {
            assert_eq!(kernel_release(name), None, "{name}");
        }
        for (name, release) in [
            ("boot/initrd.img-6.12.9-amd64", Some("6.12.9-amd64")),
            ("boot/initramfs-6.11.4.img", Some("6.11.4")),
            ("boot/initrd", Some("")),
            ("usr/lib/modules/6.11.4/initramfs.img", Some("6.11.4")),
            ("boot/initrd-6.4.0-default-kdump", None),
        ] {
            assert_eq!(initrd_release(name), release, "{name}");
        }
        assert!(version("boot/vmlinuz-6.12.9") > version("boot/vmlinuz-6.9.12"));
    }

    /// Each as the distribution's own image has them.
    #[test]
    fn kernel_and_ramdisk_of_each_distribution_are_of_one_release() {
        let cases: [(&[&str], &str, &str); 8] = [
            // Debian, with a newer kernel whose ramdisk was never made.
            (
                &[
                    "boot/initrd.img-6.1.0-40-amd64",
                    "boot/vmlinuz-6.1.0-40-amd64",
                    "boot/vmlinuz-6.12.9-amd64",
                ],
                "boot/vmlinuz-6.1.0-40-amd64",
                "boot/initrd.img-6.1.0-40-amd64",
            ),
            // Fedora: a rescue kernel has a machine's number.
            (
                &[
                    "boot/initramfs-0-rescue-99999999.img",
                    "boot/initramfs-6.11.4-301.fc41.x86_64.img",
                    "boot/vmlinuz-0-rescue-99999999",
                    "boot/vmlinuz-6.11.4-301.fc41.x86_64",
                    "usr/lib/modules/6.11.4-301.fc41.x86_64/vmlinuz",
                ],
                "usr/lib/modules/6.11.4-301.fc41.x86_64/vmlinuz",
                "boot/initramfs-6.11.4-301.fc41.x86_64.img",
            ),
            // Fedora for containers, which keeps both beside the modules.
            (
                &[
                    "usr/lib/modules/6.11.4/initramfs.img",
                    "usr/lib/modules/6.11.4/vmlinuz",
                ],
                "usr/lib/modules/6.11.4/vmlinuz",
                "usr/lib/modules/6.11.4/initramfs.img",
            ),
            // openSUSE: the kernel in /boot is a link, and an unpacked one is packed.
            (
                &[
                    "boot/initrd-6.4.0-default",
                    "boot/initrd-6.4.0-default-kdump",
                    "boot/vmlinux-6.4.0-default.xz",
                    "usr/lib/modules/6.4.0-default/vmlinuz",
                ],
                "usr/lib/modules/6.4.0-default/vmlinuz",
                "boot/initrd-6.4.0-default",
            ),
            // Arch: names without a version.
            (
                &[
                    "boot/initramfs-linux-fallback.img",
                    "boot/initramfs-linux.img",
                    "boot/vmlinuz-linux",
                    "usr/lib/modules/6.11.arch1-1/vmlinuz",
                ],
                "boot/vmlinuz-linux",
                "boot/initramfs-linux.img",
            ),
            // Alpine, with two kernels and the ramdisk of one.
            (
                &[
                    "boot/initramfs-lts",
                    "boot/vmlinuz-lts",
                    "boot/vmlinuz-virt",
                ],
                "boot/vmlinuz-lts",
                "boot/initramfs-lts",
            ),
            // Boot loader entries.
            (
                &[
                    "boot/0123/6.9.1/initrd",
                    "boot/0123/6.9.1/linux",
                    "boot/0123/x/y/linux",
                ],
                "boot/0123/6.9.1/linux",
                "boot/0123/6.9.1/initrd",
            ),
            // No ramdisk fits: the newest.
            (
                &["boot/initrd.img-5", "boot/vmlinuz-6", "boot/vmlinuz-7"],
                "boot/vmlinuz-7",
                "boot/initrd.img-5",
            ),
        ];
        for (names, kernel, initrd) in cases {
            assert_eq!(found(names), (kernel.to_owned(), initrd.to_owned()));
        }
        assert_eq!(found(&["boot/grub/x"]), (String::new(), String::new()));
    }
}
