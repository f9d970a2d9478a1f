//! Kernel and initial ramdisk of a root tree.

use super::names::Tree;

/// Returns the name of the newest kernel in a root tree.
pub(super) fn newest_kernel(tree: &Tree) -> Option<Vec<u8>> {
    newest(tree, is_kernel)
}

/// Returns the name of the newest initial ramdisk in a root tree.
pub(super) fn newest_initrd(tree: &Tree) -> Option<Vec<u8>> {
    newest(tree, is_initrd)
}

/// Returns the name of the newest version of the files that `select` accepts.
fn newest(tree: &Tree, select: fn(&str) -> bool) -> Option<Vec<u8>> {
    tree.files()
        .filter_map(|name| std::str::from_utf8(name).ok())
        .filter(|name| select(name))
        .max_by_key(|name| version(name))
        .map(|name| name.as_bytes().to_vec())
}

/// Whether a file is a kernel of Debian, Fedora, SUSE or Arch. On aarch64 and s390x they are called
/// `Image` and `image`.
fn is_kernel(name: &str) -> bool {
    let boot = name.strip_prefix("boot/").is_some_and(|name| {
        !name.contains('/')
            && ["vmlinuz", "vmlinux-", "Image", "image"]
                .iter()
                .any(|begin| name.starts_with(begin))
            && ![".hmac", ".gz", ".old"]
                .iter()
                .any(|end| name.ends_with(end))
    });
    let modules = ["usr/lib/modules/", "lib/modules/"].iter().any(|begin| {
        name.strip_prefix(begin)
            .and_then(|rest| rest.split_once('/'))
            .is_some_and(|(_, file)| ["vmlinuz", "Image", "image"].contains(&file))
    });
    boot || modules
}

/// Whether a file is an initial ramdisk for booting, not for rescue or crash dumps.
fn is_initrd(name: &str) -> bool {
    name.strip_prefix("boot/").is_some_and(|name| {
        !name.contains('/')
            && ["initrd", "initramfs"]
                .iter()
                .any(|begin| name.starts_with(begin))
            && !name.contains("kdump")
            && !name.contains("fallback")
            && !name.contains("rescue")
            && !name.ends_with(".old")
    })
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

    #[test]
    fn boot_files_are_recognised_by_their_names() {
        for name in [
            "boot/vmlinuz-6.12.9-amd64",
            "boot/vmlinuz",
            "boot/Image-6.4.0-default",
            "usr/lib/modules/6.11.4-301.fc41.x86_64/vmlinuz",
        ] {
            assert!(is_kernel(name), "{name}");
        }
        for name in [
            "boot/config-6.1",
            "boot/x/vmlinuz-1",
            "boot/vmlinuz-1.hmac",
            "vmlinuz",
        ] {
            assert!(!is_kernel(name), "{name}");
        }
        assert!(is_initrd("boot/initrd.img-6.12.9-amd64"));
        assert!(is_initrd("boot/initramfs-6.11.4.img"));
        assert!(!is_initrd("boot/initrd-6.4.0-default-kdump"));
        assert!(version("boot/vmlinuz-6.12.9") > version("boot/vmlinuz-6.9.12"));
    }
}
