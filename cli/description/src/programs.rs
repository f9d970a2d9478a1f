//! What kiwi calls and imports, and the packages that have it.

use std::path::Path;

/// Programs that kiwi calls, with Debian's package; none if Debian has it in no package.
pub const PROGRAMS: &[(&str, Option<&str>)] = &[
    ("apk", None),
    ("appx", None),
    ("apt-get", Some("apt")),
    ("buildah", Some("buildah")),
    ("cpio", Some("cpio")),
    ("cryptsetup", Some("cryptsetup-bin")),
    ("dnf-3", Some("dnf")),
    ("dnf4", None),
    ("dnf5", None),
    ("dpkg-deb", Some("dpkg")),
    ("eif_build", None),
    ("implantisomd5", Some("isomd5sum")),
    ("integritysetup", Some("cryptsetup-bin")),
    ("mcopy", Some("mtools")),
    ("mdadm", Some("mdadm")),
    ("microdnf", None),
    ("mkdosfs", Some("dosfstools")),
    ("mkfs.btrfs", Some("btrfs-progs")),
    ("mkfs.erofs", Some("erofs-utils")),
    ("mkfs.ext2", Some("e2fsprogs")),
    ("mkfs.ext3", Some("e2fsprogs")),
    ("mkfs.ext4", Some("e2fsprogs")),
    ("mkfs.xfs", Some("xfsprogs")),
    ("mksquashfs", Some("squashfs-tools")),
    ("mkswap", Some("util-linux")),
    ("mlabel", Some("mtools")),
    ("ova-compose", None),
    ("pacman", Some("pacman-package-manager")),
    ("qemu-img", Some("qemu-utils")),
    ("rpm", Some("rpm")),
    ("rsync", Some("rsync")),
    ("sfdisk", Some("fdisk")),
    ("sgdisk", Some("gdisk")),
    ("skopeo", Some("skopeo")),
    ("strings", Some("binutils")),
    ("tagmedia", None),
    ("tar", Some("tar")),
    ("umoci", Some("umoci")),
    ("veritysetup", Some("cryptsetup-bin")),
    ("vgcreate", Some("lvm2")),
    ("xorriso", Some("xorriso")),
    ("xz", Some("xz-utils")),
    ("zypper", Some("zypper")),
];

/// Modules of Python that kiwi needs for descriptions in YAML, JSON, TOML and INI (`kiwi[markup]`), with
/// Debian's package.
pub const MODULES: &[(&str, Option<&str>)] = &[
    ("anymarkup", None),
    ("anymarkup_core", Some("python3-anymarkup-core")),
    ("toml", Some("python3-toml")),
    ("xmltodict", Some("python3-xmltodict")),
    ("yaml", Some("python3-yaml")),
];

/// Returns the programs of the table that the description in `folder` has copied over the box.
pub(crate) fn brought(folder: &Path) -> Vec<&'static str> {
    let boxroot = folder.join("boxroot");
    if !boxroot.is_dir() {
        return Vec::new();
    }
    let folders = [
        "usr/bin",
        "usr/sbin",
        "bin",
        "sbin",
        "usr/local/bin",
        "usr/local/sbin",
    ]
    .map(|folder| boxroot.join(folder));
    let is_there = |name: &&str| {
        let mut paths = folders.iter().map(|folder| folder.join(name));
        paths.any(|path| path.symlink_metadata().is_ok())
    };
    let names = PROGRAMS.iter().map(|(name, _)| *name);
    names.filter(is_there).collect()
}
