//! Which programs kiwi calls for a type (kiwi 11.1.6, `kiwi/builder`, `kiwi/storage`, `kiwi/system`): only what
//! each build of such an image comes to, since a box without it is refused.

use crate::build_type::BuildType;

/// A condition on a type.
pub(super) enum When {
    /// The attribute has one of these values.
    Is(&'static str, &'static [&'static str]),
    /// The attribute has a value, and none of these.
    IsNot(&'static str, &'static [&'static str]),
    /// The attribute is there, or has none of these values.
    Not(&'static str, &'static [&'static str]),
    /// The attribute is there.
    Has(&'static str),
    /// The attribute is true.
    Set(&'static str),
    /// The attribute is not false.
    NotFalse(&'static str),
    /// The attribute begins with one of these.
    Begins(&'static str, &'static [&'static str]),
    /// It starts by EFI.
    Efi,
    /// Its disk has a partition table of DOS, or none has.
    DosTable,
    /// Its disk is no DASD.
    NoDasd,
    /// Its boot loader is this one, or another.
    Loader(&'static str, bool),
    /// The disk has logical volumes.
    Volumes,
    /// Room is left behind the partitions.
    Unpartitioned,
}

use When::{
    Begins, DosTable, Efi, Has, Is, IsNot, Loader, NoDasd, Not, NotFalse, Set, Unpartitioned,
    Volumes,
};

/// Conditions, all of which must hold, and the programs of which one is called then. The last condition
/// is what messages name.
pub(super) type Rule = (&'static [When], &'static [&'static str]);

const OEM: When = Is("image", &["oem"]);
const ISO: When = Is("image", &["iso"]);
/// Image types that boot from a medium of their own.
const MEDIA: When = Is("image", &["oem", "iso"]);
const CONTAINER: When = Is("image", &["oci", "docker"]);
const IN_CONTAINER: When = Begins("format", &["oci:", "docker:"]);
const OCI_TOOL: &[&str] = &["umoci", "buildah"];
const SYSTEMD_BOOT: &str = "systemd_boot";

pub(super) const RULES: &[Rule] = &[
    // `RootInit`: each root tree begins so.
    (&[Has("image")], &["rsync"]),
    (&[Is("image", &["tbz"])], &["xz"]),
    (&[Is("image", &["cpio"])], &["cpio"]),
    // The medium of a live system.
    (&[Not("filesystem", &["erofs"]), ISO], &["mksquashfs"]),
    (&[ISO], &["xorriso"]),
    (&[Efi, ISO], &["mkdosfs"]),
    (&[ISO, Loader(SYSTEMD_BOOT, false), Efi], &["mcopy"]),
    (&[ISO, Efi, Loader(SYSTEMD_BOOT, true)], &["sgdisk"]),
    (&[ISO, Set("mediacheck")], &["tagmedia", "implantisomd5"]),
    // Media that install a disk.
    (&[OEM, Set("installiso")], &["xorriso"]),
    (&[OEM, Set("installiso")], &["mksquashfs"]),
    (&[OEM, Efi, Set("installiso")], &["mcopy"]),
    (&[OEM, Set("installstick")], &["xorriso"]),
    (&[OEM, Set("installstick")], &["mksquashfs"]),
    (&[OEM, Efi, Set("installstick")], &["mcopy"]),
    (&[OEM, Set("installpxe")], &["xz"]),
    (
        &[NotFalse("archive"), Is("image", &["kis", "pxe"])],
        &["xz"],
    ),
    (&[Is("image", &["kis", "pxe"]), Set("compressed")], &["xz"]),
    // KIWI's own ramdisks are archives of a root tree of their own.
    (
        &[
            Is("image", &["oem", "kis", "pxe"]),
            Is("initrd_system", &["kiwi"]),
        ],
        &["cpio"],
    ),
    // Partitions: `Disk.wipe` takes away tables of both kinds.
    (&[NoDasd, OEM], &["sgdisk"]),
    (&[DosTable, OEM], &["sfdisk"]),
    (
        &[
            OEM,
            Is("bootfilesystem", &["fat16", "fat32"]),
            IsNot("boot_clone", &["0"]),
        ],
        &["mlabel"],
    ),
    (&[OEM, Unpartitioned], &["qemu-img"]),
    // What is between the file system and the disk.
    (&[OEM, Has("mdraid")], &["mdadm"]),
    (&[MEDIA, Has("luks")], &["cryptsetup"]),
    (&[OEM, Set("standalone_integrity")], &["integritysetup"]),
    (&[MEDIA, Has("verity_blocks")], &["veritysetup"]),
    (&[OEM, Volumes], &["vgcreate"]),
    // Formats.
    (&[OEM, IsNot("format", &["gce", "raw"])], &["qemu-img"]),
    (
        &[OEM, Is("format", &["ova", "oci:ova", "docker:ova"])],
        &["ova-compose"],
    ),
    (&[OEM, IN_CONTAINER], OCI_TOOL),
    (&[OEM, IN_CONTAINER], &["skopeo"]),
    (&[CONTAINER], OCI_TOOL),
    (&[CONTAINER], &["skopeo"]),
    (&[Has("derived_from")], OCI_TOOL),
    (&[Has("derived_from")], &["skopeo"]),
    (&[Is("image", &["appx"])], &["appx"]),
    (&[Is("image", &["enclave"])], &["eif_build"]),
];

/// The same, of what is called only if the root tree has certain files: GRUB's signed images here.
pub(super) const LIKELY: &[Rule] = &[(
    &[
        MEDIA,
        Loader(SYSTEMD_BOOT, false),
        Is("firmware", &["uefi"]),
    ],
    &["strings"],
)];

/// Kinds of file systems, and the program that makes one.
pub(super) const MAKERS: &[(&str, &[&str])] = &[
    ("squashfs", &["mksquashfs"]),
    ("erofs", &["mkfs.erofs"]),
    ("ext2", &["mkfs.ext2"]),
    ("ext3", &["mkfs.ext3"]),
    ("ext4", &["mkfs.ext4"]),
    ("btrfs", &["mkfs.btrfs"]),
    ("xfs", &["mkfs.xfs"]),
    ("fat16", &["mkdosfs"]),
    ("fat32", &["mkdosfs"]),
    ("swap", &["mkswap"]),
];

/// Whether a condition holds.
pub(super) fn holds(kind: &BuildType<'_>, when: &When) -> bool {
    let is = |name, values: &[&str]| kind.get(name).is_some_and(|value| values.contains(&value));
    match when {
        Is(name, values) => is(name, values),
        IsNot(name, values) => kind.get(name).is_some() && !is(name, values),
        Not(name, values) => !is(name, values),
        Has(name) => kind.get(name).is_some(),
        Set(name) => kind.is_set(name),
        NotFalse(name) => kind.get(name).is_none() || kind.is_set(name),
        Begins(name, starts) => kind
            .get(name)
            .is_some_and(|value| starts.iter().any(|start| value.starts_with(start))),
        Efi => kind.efi().is_some(),
        DosTable => kind.has_dos_table(),
        NoDasd => !kind.is_dasd(),
        Loader(name, is_it) => (kind.loader() == *name) == *is_it,
        Volumes => kind.has_logical_volumes(),
        Unpartitioned => kind.all("size").any(|size| {
            size.attribute("unpartitioned")
                .is_some_and(|room| room != "0")
        }),
    }
}

/// A condition, as the description says it.
pub(super) fn said(kind: &BuildType<'_>, when: &When) -> String {
    match when {
        Is(name, _)
        | IsNot(name, _)
        | Not(name, _)
        | Set(name)
        | NotFalse(name)
        | Begins(name, _) => kind.said(name),
        // The value of `luks` is a secret.
        Has("luks") => String::from("luks"),
        Has(name) => kind.said(name),
        Efi => kind.efi().unwrap_or_default(),
        DosTable | NoDasd => kind.said("image"),
        Loader(..) => format!("<bootloader name=\"{}\">", kind.loader()),
        Volumes => String::from("<systemdisk>"),
        Unpartitioned => String::from("<size unpartitioned>"),
    }
}
