use std::fs;

use super::*;
use crate::inspect::{Inspection, Wanted};
use crate::view::BoxView;

fn needs_in(folder: &std::path::Path, target: &Target, set: &[(&str, &str)]) -> Vec<Need> {
    let view = BoxView::new(folder, folder, Vec::new());
    let wanted = Wanted {
        target: target.clone(),
        ..Wanted::default()
    };
    let set: Vec<_> = set
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let inspection = Inspection::of(&view, &wanted).unwrap();
    inspection.description.unwrap().needs(target, &set)
}

/// The programs for a type, in order.
fn programs(kind: &str, set: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("<image><preferences>{kind}</preferences></image>");
    fs::write(dir.path().join("a.kiwi"), text).unwrap();
    let needs = needs_in(dir.path(), &Target::default(), set);
    let mut names: Vec<_> = needs.iter().map(|need| need.any_of.join("|")).collect();
    names.sort();
    names.dedup();
    names.join(" ")
}

/// The first real description failed after 30 minutes for a program that the box lacked.
#[test]
fn the_programs_of_a_type_are_known() {
    for (kind, expected) in [
        ("<type image='tbz'/>", "rsync xz"),
        ("<type image='cpio'/>", "cpio rsync"),
        ("<type image='erofs'/>", "mkfs.erofs rsync"),
        (
            "<type image='oem' filesystem='ext4' firmware='bios' format='qcow2'/>",
            "mkfs.ext4 qemu-img rsync sfdisk sgdisk",
        ),
        (
            "<type image='oem' filesystem='xfs' firmware='uefi' mdraid='mirroring' luks=''><systemdisk/></type>",
            "cryptsetup mdadm mkdosfs mkfs.xfs rsync sgdisk strings vgcreate",
        ),
        // systemd-boot is not looked at.
        (
            "<type image='oem' filesystem='ext4' firmware='uefi'><bootloader name='systemd_boot'/></type>",
            "mkdosfs mkfs.ext4 rsync sgdisk",
        ),
        (
            "<type image='oem' filesystem='btrfs' efiparttable='msdos' firmware='efi'><systemdisk/></type>",
            "mkdosfs mkfs.btrfs rsync sfdisk sgdisk",
        ),
        (
            "<type image='oem' filesystem='btrfs' firmware='efi'><systemdisk preferlvm='true'/></type>",
            "mkdosfs mkfs.btrfs rsync sgdisk vgcreate",
        ),
        (
            "<type image='oem' firmware='efi' overlayroot='true' filesystem='ext4' overlayroot_readonly_filesystem='erofs'/>",
            "mkdosfs mkfs.erofs mkfs.ext4 rsync sgdisk",
        ),
        // Without a partition to write on, the root's own file system is only that of /boot.
        (
            "<type image='oem' firmware='efi' overlayroot='true' overlayroot_write_partition='false' filesystem='xfs' bootfilesystem='ext4'/>",
            "mkdosfs mkfs.ext4 mksquashfs rsync sgdisk",
        ),
        (
            "<type image='oem' firmware='efi' overlayroot='true' overlayroot_write_partition='false' filesystem='xfs'/>",
            "mkdosfs mkfs.xfs mksquashfs rsync sgdisk",
        ),
        // Other partitions have file systems, too.
        (
            "<type image='oem' filesystem='ext4' bootfilesystem='ext2' bootpartition='true' spare_part='9' spare_part_fs='btrfs'>\
             <partitions><partition name='a' filesystem='xfs'/><partition name='b' filesystem='squashfs'/></partitions></type>",
            "mkfs.btrfs mkfs.ext2 mkfs.ext4 mkfs.xfs mksquashfs rsync sfdisk sgdisk",
        ),
        (
            "<type image='oem' filesystem='ext4' bootfilesystem='ext2' bootpartition='false' spare_part_fs='btrfs'/>",
            "mkfs.ext4 rsync sfdisk sgdisk",
        ),
        (
            "<type image='oem' filesystem='ext4' mdraid='striping' bootfilesystem='fat32' boot_clone='2'/>",
            "mdadm mkdosfs mkfs.ext4 mlabel rsync sfdisk sgdisk",
        ),
        (
            "<type image='oem' filesystem='ext4'><size unit='M' unpartitioned='64'>900</size></type>",
            "mkfs.ext4 qemu-img rsync sfdisk sgdisk",
        ),
        (
            "<type image='oem' installiso='true' installpxe='true' format='ova'/>",
            "mksquashfs ova-compose qemu-img rsync sfdisk sgdisk xorriso xz",
        ),
        (
            "<type image='oem' installstick='true' firmware='efi'/>",
            "mcopy mkdosfs mksquashfs rsync sgdisk xorriso",
        ),
        (
            "<type image='iso' firmware='uefi' mediacheck='true'/>",
            "mcopy mkdosfs mksquashfs rsync strings tagmedia|implantisomd5 xorriso",
        ),
        // Not packed by mtools, but on a partition of its own.
        (
            "<type image='iso' firmware='efi'><bootloader name='systemd_boot'/></type>",
            "mkdosfs mksquashfs rsync sgdisk xorriso",
        ),
        (
            "<type image='iso' filesystem='erofs' verity_blocks='all' luks='x'/>",
            "cryptsetup mkfs.erofs rsync veritysetup xorriso",
        ),
        (
            "<type image='kis' filesystem='ext4'/>",
            "mkfs.ext4 rsync xz",
        ),
        (
            "<type image='pxe' filesystem='squashfs' archive='false'/>",
            "mksquashfs rsync",
        ),
        (
            "<type image='pxe' filesystem='squashfs' initrd_system='kiwi'/>",
            "cpio mksquashfs rsync xz",
        ),
        ("<type image='oci'/>", "rsync skopeo umoci|buildah"),
        (
            "<type image='oem' format='oci:qcow2'/>",
            "qemu-img rsync sfdisk sgdisk skopeo umoci|buildah",
        ),
        (
            "<type image='oem' format='docker:ova'/>",
            "ova-compose qemu-img rsync sfdisk sgdisk skopeo umoci|buildah",
        ),
        (
            "<type image='oem' verity_blocks='all' format='gce'/>",
            "rsync sfdisk sgdisk veritysetup",
        ),
        (
            "<type image='oem' standalone_integrity='true'/>",
            "integritysetup rsync sfdisk sgdisk",
        ),
        // It is about a layer that is not there.
        (
            "<type image='oem' embed_integrity_metadata='true'/>",
            "rsync sfdisk sgdisk",
        ),
        ("<type image='appx'/>", "appx rsync"),
        ("<type image='enclave'/>", "eif_build rsync"),
        // Nothing is known of a type that kiwi may have learnt since.
        ("<type image='new'/>", "rsync"),
        (
            "<packagemanager>apt</packagemanager><type image='squashfs'/>",
            "apt-get dpkg-deb mksquashfs rsync",
        ),
        (
            "<packagemanager>zypper</packagemanager><type image='squashfs'/>",
            "mksquashfs rpm rsync zypper",
        ),
        (
            "<packagemanager>zypper</packagemanager><type image='oci' derived_from='obs://a/b'/>",
            "rsync skopeo umoci|buildah",
        ),
        // Any type may go on from a container image.
        (
            "<packagemanager>apt</packagemanager><type image='squashfs' derived_from='file:///a'/>",
            "mksquashfs rsync skopeo umoci|buildah",
        ),
    ] {
        assert_eq!(programs(kind, &[]), expected, "{kind}");
    }
    // The command line changes attributes.
    let kind = "<type image='oem' filesystem='ext4'/>";
    assert_eq!(
        programs(kind, &[("filesystem", "erofs"), ("format", "vmdk")]),
        "mkfs.erofs qemu-img rsync sfdisk sgdisk"
    );
}

/// Where only kiwi can say which type is built, nothing is said about programs.
#[test]
fn only_the_selected_type_counts() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("a.kiwi"),
        "<image><profiles><profile name='A' description='a'/><profile name='B' description='b'/></profiles>\
         <preferences profiles='A'><type image='erofs'/></preferences>\
         <preferences profiles='B'><type image='appx'/></preferences></image>",
    )
    .unwrap();
    let target = |profiles: &[&str]| Target {
        profiles: profiles.iter().map(|name| (*name).to_owned()).collect(),
        ..Target::default()
    };
    let names = |target: &Target| {
        let needs = needs_in(dir.path(), target, &[]);
        needs
            .iter()
            .map(|need| need.any_of.join("|"))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&target(&["A"])), ["mkfs.erofs", "rsync"]);
    assert_eq!(names(&target(&["B"])), ["rsync", "appx"]);
    assert_eq!(names(&target(&["C"])), Vec::<String>::new());
}

#[test]
fn a_program_in_boxroot_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let text = "<image><preferences><type image='appx'/></preferences></image>";
    fs::write(dir.path().join("a.kiwi"), text).unwrap();
    let count = || needs_in(dir.path(), &Target::default(), &[]).len();
    assert_eq!(count(), 2);
    fs::create_dir_all(dir.path().join("boxroot/usr/bin")).unwrap();
    fs::write(dir.path().join("boxroot/usr/bin/appx"), "").unwrap();
    assert_eq!(count(), 1);
}

#[test]
fn yaml_needs_modules_and_secrets_are_not_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let text = "image:\n  preferences:\n    type:\n      '@image': oem\n      '@luks': s3cret\n";
    fs::write(dir.path().join("a.yml"), text).unwrap();
    let target = Target::default();
    let view = BoxView::new(dir.path(), dir.path(), Vec::new());
    let wanted = Wanted {
        kiwi_file: Some("a.yml".into()),
        ..Wanted::default()
    };
    let inspection = Inspection::of(&view, &wanted).unwrap();
    let needs = inspection.description.unwrap().needs(&target, &[]);
    let modules: Vec<_> = needs
        .iter()
        .filter(|need| need.kind == NeedKind::Module)
        .filter_map(Need::package)
        .collect();
    assert_eq!(
        modules,
        [
            "python3-anymarkup-core",
            "python3-xmltodict",
            "python3-yaml"
        ]
    );
    assert!(needs.iter().any(|need| need.what_for == "luks"));
    assert!(!format!("{needs:?}").contains("s3cret"));
}

#[test]
fn every_program_of_a_rule_is_in_the_table() {
    let managers = MANAGERS.iter().flat_map(|(_, called)| called.iter());
    let rules = rules::RULES.iter().chain(rules::LIKELY);
    let rules = rules.map(|(_, any_of)| any_of);
    let makers = rules::MAKERS.iter().map(|(_, any_of)| any_of);
    for name in rules
        .chain(makers)
        .chain(managers)
        .flat_map(|any_of| any_of.iter())
    {
        assert!(PROGRAMS.iter().any(|(known, _)| known == name), "{name}");
    }
}

#[test]
fn packages_of_the_selection_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("a.kiwi"),
        "<image><profiles><profile name='A' description='a'/></profiles>\
         <preferences><packagemanager>apt</packagemanager><type image='oem'/></preferences>\
         <packages type='bootstrap'><package name='apt'/></packages>\
         <packages type='image'><package name='dracut-kiwi-lib'/><package name='x' arch='aarch64'/></packages>\
         <packages type='image' profiles='A'><package name='other'/></packages>\
         <packages type='oem'><package name='of-type'/></packages>\
         <packages type='iso'><package name='of-another'/></packages>\
         <packages type='delete'><package name='gone'/></packages></image>",
    )
    .unwrap();
    let view = BoxView::new(dir.path(), dir.path(), Vec::new());
    let target = Target {
        arch: Some(String::from("x86_64")),
        ..Target::default()
    };
    let inspection = Inspection::of(&view, &Wanted::default()).unwrap();
    let description = inspection.description.unwrap();
    assert_eq!(
        description.packages(&target),
        ["apt", "dracut-kiwi-lib", "of-type"]
    );
    assert_eq!(description.package_manager(&target).unwrap().text, "apt");
}

/// A description without `firmware` starts by EFI on some architectures.
#[test]
fn the_architecture_decides_about_firmware() {
    let dir = tempfile::tempdir().unwrap();
    let text = "<image><preferences><type image='oem' filesystem='ext4'/></preferences></image>";
    fs::write(dir.path().join("a.kiwi"), text).unwrap();
    let names = |arch: &str| {
        let target = Target {
            arch: Some(arch.to_owned()),
            ..Target::default()
        };
        let needs = needs_in(dir.path(), &target, &[]);
        let names: Vec<_> = needs.iter().map(|need| need.any_of.join("|")).collect();
        names.join(" ")
    };
    assert_eq!(names("x86_64"), "mkfs.ext4 rsync sgdisk sfdisk");
    assert_eq!(names("aarch64"), "mkfs.ext4 mkdosfs rsync sgdisk");
    assert_eq!(names("ppc64le"), "mkfs.ext4 rsync sgdisk");
}
