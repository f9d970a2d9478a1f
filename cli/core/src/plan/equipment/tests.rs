use std::fs;
use std::path::Path;

use boxbuild_boxes::store::LocalRepository;

use super::*;
use crate::plan::inspected::inspect;
use crate::plan::tests::small_box;
use crate::request::BuildRequest;

fn description(dir: &Path, text: &str) -> Description {
    fs::write(dir.join("a.kiwi"), text).unwrap();
    let request = BuildRequest::new("small", dir.to_owned(), "/nowhere/target".into());
    inspect(&request, dir).unwrap().description.unwrap()
}

/// A box that has all but these programs; none knows of `unknown`.
fn installed(origin: &str, lacks: &[&str]) -> InstalledBox {
    let mut installed = small_box("/nowhere/small".into());
    installed.info.origin = origin.to_owned();
    let all = boxbuild_description::PROGRAMS.iter();
    let programs = all
        .filter(|(name, _)| *name != "mkfs.xfs")
        .map(|(name, _)| ((*name).to_owned(), !lacks.contains(name)))
        .collect();
    installed.info.inventory = Some(Inventory {
        programs,
        with: vec![String::from("htop")],
        repository: Some(LocalRepository {
            path: String::from("/usr/share/boxbuild/packages"),
            packages: vec![
                String::from("dracut-kiwi-lib"),
                String::from("kiwi-dracut-lib"),
            ],
        }),
        ..Inventory::default()
    });
    installed
}

fn found(kind: &str, words: &[&str], installed: &InstalledBox) -> Vec<(bool, String)> {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("<image>\n<preferences>\n{kind}\n</preferences></image>");
    let description = description(dir.path(), &text);
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    findings(&description, &words, &Target::default(), installed, &[])
        .into_iter()
        .map(|finding| (finding.is_error(), finding.to_string()))
        .collect()
}

/// The first real description failed after 30 minutes for a program that the box lacked.
#[test]
fn what_a_box_lacks_is_said_with_the_command_that_adds_it() {
    let debian = installed("debian:trixie", &["sgdisk", "mkdosfs", "strings"]);
    let kind = "<type image='oem' filesystem='ext4' firmware='efi'/>";
    let list = found(kind, &[], &debian);
    assert_eq!(list.len(), 2, "{list:?}");
    for (is_error, text) in &list {
        assert!(is_error, "{text}");
        assert!(
            (text.contains("a.kiwi:3: firmware=\"efi\": kiwi calls mkdosfs")
                || text.contains("a.kiwi:3: image=\"oem\": kiwi calls sgdisk"))
                && text.ends_with(
                    "boxbuild box create small --from debian:trixie --force --with dosfstools \
                     --with gdisk --with htop"
                ),
            "{text}"
        );
    }
    // What depends on the root tree is a note.
    let kind = "<type image='oem' firmware='uefi' efiparttable='msdos'/>";
    let list = found(kind, &[], &installed("debian:trixie", &["strings"]));
    assert!(!list[0].0 && list[0].1.contains("strings"), "{list:?}");
    // The command line decides about attributes.
    let words = ["--set-type-attr", "format=ova"];
    let list = found(
        "<type image='oem'/>",
        &words,
        &installed("x", &["ova-compose"]),
    );
    assert!(
        list[0].0 && list[0].1.contains("boxroot/usr/bin"),
        "{list:?}"
    );
}

/// What is installed first is there, whatever the record of the box says.
#[test]
fn packages_for_one_build_count() {
    let dir = tempfile::tempdir().unwrap();
    let text = "<image><preferences><type image='erofs'/></preferences></image>";
    let description = description(dir.path(), text);
    let debian = installed("debian:trixie", &["mkfs.erofs"]);
    let found = |added: &[&str]| {
        let added: Vec<String> = added.iter().map(|name| (*name).to_owned()).collect();
        findings(&description, &[], &Target::default(), &debian, &added)
    };
    let refused = found(&[]);
    assert!(refused[0].is_error(), "{refused:?}");
    let text = refused[0].to_string();
    assert!(
        text.contains("add it for one build (--box-package erofs-utils), or make the box again: boxbuild box create"),
        "{text}"
    );
    assert_eq!(found(&["erofs-utils"]), []);
    // Another package may have it, under another name.
    let noted = found(&["my-tools"]);
    assert!(noted.len() == 1 && !noted[0].is_error(), "{noted:?}");
}

#[test]
fn only_what_a_box_says_counts() {
    // It has all; it says nothing about mkfs.xfs.
    let whole = installed("debian:trixie", &[]);
    let kind = "<type image='oem' filesystem='xfs' mdraid='mirroring'/>";
    assert_eq!(found(kind, &[], &whole), []);
    // Builds with --no-snapshot may have added what it lacks.
    let mut changed = installed("debian:trixie", &["mdadm"]);
    assert!(found(kind, &[], &changed)[0].0);
    changed.changed = Some(std::time::SystemTime::now());
    assert!(!found(kind, &[], &changed)[0].0);
    // Without a record: what earlier boxes lack is noted, nothing is said of others.
    let mut old = whole.clone();
    old.info.inventory = None;
    let list = found(kind, &[], &old);
    assert!(
        list.len() == 1 && !list[0].0 && list[0].1.ends_with("--from debian:trixie --force"),
        "{list:?}"
    );
    old.info.origin = String::from("obs://Some:Box/images");
    assert_eq!(found(kind, &[], &old), []);
    // Another source's box cannot be made by `box create`.
    let imported = installed("/srv/tree", &["mdadm"]);
    let text = &found(kind, &[], &imported)[0].1;
    assert!(text.contains("Debian's are mdadm"), "{text}");
}

#[test]
fn dracut_modules_are_offered_to_images_that_name_them() {
    let text = |manager: &str, package: &str| {
        format!(
            "<image><preferences><packagemanager>{manager}</packagemanager><type image='oem'/></preferences>\
             <packages type='image'><package name='{package}'/></packages></image>"
        )
    };
    let mut info = installed("debian:trixie", &[]).info;
    let offered = |text: &str, words: &[&str], info: &BoxInfo| {
        let dir = tempfile::tempdir().unwrap();
        let description = description(dir.path(), text);
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        offer(Some(&description), &words, &Target::default(), info).map(|offer| offer.words)
    };
    let expected: [OsString; 2] = [
        "--add-repo".into(),
        "file:///usr/share/boxbuild/packages,apt-deb,boxbuild-packages,,false,false,,,,false"
            .into(),
    ];
    for name in ["dracut-kiwi-lib", "kiwi-dracut-lib"] {
        assert_eq!(
            offered(&text("apt", name), &[], &info),
            Some(expected.clone())
        );
    }
    let words = ["--add-package", "dracut-kiwi-lib"];
    assert_eq!(
        offered(&text("apt", "dracut"), &words, &info),
        Some(expected)
    );
    assert_eq!(offered(&text("apt", "dracut"), &[], &info), None);
    assert_eq!(
        offered(&text("zypper", "dracut-kiwi-lib"), &[], &info),
        None
    );
    info.inventory = None;
    assert_eq!(offered(&text("apt", "dracut-kiwi-lib"), &[], &info), None);
}
