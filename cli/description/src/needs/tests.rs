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
        ("<type image='tbz'/>", ""),
        ("<type image='erofs'/>", "mkfs.erofs"),
        (
            "<type image='oem' filesystem='ext4' firmware='bios' format='qcow2'/>",
            "mkfs.ext4 qemu-img rsync",
        ),
        (
            "<type image='oem' filesystem='xfs' firmware='uefi' mdraid='mirroring' luks=''><systemdisk/></type>",
            "cryptsetup mdadm mkdosfs mkfs.xfs rsync sgdisk strings vgcreate",
        ),
        (
            "<type image='oem' filesystem='btrfs' efiparttable='msdos' firmware='efi'><systemdisk/></type>",
            "mkdosfs mkfs.btrfs rsync",
        ),
        (
            "<type image='oem' filesystem='btrfs'><systemdisk preferlvm='true'/></type>",
            "mkfs.btrfs rsync vgcreate",
        ),
        (
            "<type image='oem' overlayroot='true' filesystem='ext4' overlayroot_readonly_filesystem='erofs'/>",
            "mkfs.erofs mkfs.ext4 rsync",
        ),
        ("<type image='oem' overlayroot='true'/>", "mksquashfs rsync"),
        (
            "<type image='oem' installiso='true' installpxe='true' format='ova'/>",
            "mksquashfs ova-compose qemu-img rsync xorriso xz",
        ),
        (
            "<type image='iso' firmware='uefi' mediacheck='true'/>",
            "mcopy mkdosfs mksquashfs strings tagmedia|implantisomd5 xorriso",
        ),
        (
            "<type image='iso' filesystem='erofs'/>",
            "mkfs.erofs xorriso",
        ),
        ("<type image='oci'/>", "rsync skopeo umoci|buildah"),
        (
            "<type image='oem' format='oci:qcow2'/>",
            "qemu-img rsync skopeo umoci|buildah",
        ),
        (
            "<type image='oem' verity_blocks='all' format='gce'/>",
            "rsync veritysetup",
        ),
        (
            "<type image='oem' standalone_integrity='true'/>",
            "integritysetup rsync",
        ),
        ("<type image='appx'/>", "appx"),
        ("<type image='enclave'/>", "eif_build"),
        // Nothing is known of a type that kiwi may have learnt since.
        ("<type image='new'/>", ""),
        (
            "<packagemanager>apt</packagemanager><type image='tbz'/>",
            "apt-get dpkg-deb",
        ),
        (
            "<packagemanager>zypper</packagemanager><type image='tbz'/>",
            "rpm zypper",
        ),
        (
            "<packagemanager>zypper</packagemanager><type image='oci' derived_from='obs://a/b'/>",
            "rsync skopeo umoci|buildah",
        ),
    ] {
        assert_eq!(programs(kind, &[]), expected, "{kind}");
    }
    // The command line changes attributes.
    let kind = "<type image='oem' filesystem='ext4'/>";
    assert_eq!(
        programs(kind, &[("filesystem", "erofs"), ("format", "vmdk")]),
        "mkfs.erofs qemu-img rsync"
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
    assert_eq!(names(&target(&["A"])), ["mkfs.erofs"]);
    assert_eq!(names(&target(&["B"])), ["appx"]);
    assert_eq!(names(&target(&["C"])), Vec::<String>::new());
}

#[test]
fn a_program_in_boxroot_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let text = "<image><preferences><type image='appx'/></preferences></image>";
    fs::write(dir.path().join("a.kiwi"), text).unwrap();
    let count = || needs_in(dir.path(), &Target::default(), &[]).len();
    assert_eq!(count(), 1);
    fs::create_dir_all(dir.path().join("boxroot/usr/bin")).unwrap();
    fs::write(dir.path().join("boxroot/usr/bin/appx"), "").unwrap();
    assert_eq!(count(), 0);
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
    let rules = RULES.iter().map(|(_, any_of)| any_of);
    for name in rules.chain(managers).flat_map(|any_of| any_of.iter()) {
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
