//! Boxes are added, replaced, damaged and removed.

use std::fs::{self, File};

use boxbuild_host::arch::Arch;
use boxbuild_host::stop::StopCheck;

use super::installed::marker;
use super::staging::PREFIX;
use super::*;
use crate::box_lock::{BoxLock, DiskAccess};
use crate::in_place;
use crate::leftovers::Leftover;
use crate::lock_file::Locked;

fn info(name: &str, staging: &Staging) -> BoxInfo {
    for file in ["kernel", "initrd", "disk"] {
        fs::write(staging.path().join(file), file).unwrap();
    }
    BoxInfo {
        format: BoxInfo::FORMAT,
        name: name.to_owned(),
        origin: "debian:trixie".to_owned(),
        arch: Arch::X86_64,
        created: 0,
        kernel: staging.describe("kernel").unwrap(),
        initrd: staging.describe("initrd").unwrap(),
        disk: staging.describe("disk").unwrap(),
        disk_size: 1 << 30,
        cmdline: vec!["root=/dev/vda1".to_owned()],
        console: "hvc0".to_owned(),
        guest: Guest::Fast,
        kiwi: None,
        memory_mib: 4096,
        cpus: 4,
        container: None,
        inventory: None,
        published: None,
    }
}

fn publish(store: &Store, name: &str, if_exists: IfExists) -> Result<InstalledBox, StoreError> {
    let staging = store.stage().unwrap();
    let info = info(name, &staging);
    store.publish(staging, info, if_exists)
}

fn entries(store: &Store) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(store.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_box_is_added_replaced_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("boxes"));
    assert_eq!(store.names().unwrap(), [] as [&str; 0]);
    publish(&store, "one", IfExists::Fail).unwrap();
    assert!(matches!(
        publish(&store, "one", IfExists::Fail),
        Err(StoreError::Exists(_))
    ));
    publish(&store, "one", IfExists::Replace).unwrap();
    publish(&store, "two", IfExists::Fail).unwrap();
    assert_eq!(entries(&store), ["one", "two"]);
    let error = store.get("tvo").unwrap_err().to_string();
    assert!(error.contains("did you mean 'two'?"), "{error}");
    let error = store.get("../one").unwrap_err().to_string();
    assert!(error.contains("boxes here: one, two"), "{error}");
    store.remove("one").unwrap();
    assert!(store.remove("one").is_err());
    assert_eq!(entries(&store), ["two"]);
}

#[test]
fn a_damaged_box_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().to_owned());
    let installed = publish(&store, "one", IfExists::Fail).unwrap();
    fs::write(installed.path(&installed.info.disk), "shorter or longer").unwrap();
    assert!(matches!(store.get("one"), Err(StoreError::Damaged { .. })));
    fs::write(installed.dir.join("box.json"), "{").unwrap();
    assert!(matches!(store.get("one"), Err(StoreError::Damaged { .. })));
    store.remove("one").unwrap();
}

#[test]
fn leftovers_are_removed_and_running_work_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().to_owned());
    let running = store.stage().unwrap();
    let leftover = dir.path().join(format!("{PREFIX}old"));
    fs::create_dir(&leftover).unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for path in [&leftover, running.path()] {
        File::open(path).unwrap().set_modified(old).unwrap();
    }
    drop(store.stage().unwrap());
    assert!(!leftover.exists());
    assert!(running.path().exists());
}

#[test]
fn box_names_are_checked() {
    for bad in ["", ".x", "../x", "a b", "A", "-x", "a/b", &"x".repeat(65)] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
    assert!(check_name("debian-13.1_x").is_ok());
}

/// Publishes a version of a box with `content` on its disk.
fn publish_disk(store: &Store, content: &str) -> InstalledBox {
    let staging = store.stage().unwrap();
    let mut info = info("one", &staging);
    fs::write(staging.path().join("disk"), content).unwrap();
    info.disk = staging.describe("disk").unwrap();
    store.publish(staging, info, IfExists::Replace).unwrap()
}

#[test]
fn an_update_does_not_touch_what_a_build_uses() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().to_owned());
    let disk = |installed: &InstalledBox| fs::read_to_string(installed.path(&installed.info.disk));
    let old = publish_disk(&store, "old");
    let new = publish_disk(&store, "new");
    assert_eq!(disk(&old).unwrap(), "old");
    assert_eq!(disk(&new).unwrap(), "new");
    // Both versions have this kernel: it is there once.
    assert_eq!(old.path(&old.info.kernel), new.path(&new.info.kernel));
    let gone = old.path(&old.info.disk);
    drop((old, new));
    let newest = publish_disk(&store, "newest");
    assert!(!gone.exists());
    assert_eq!(disk(&store.get("one").unwrap()).unwrap(), "newest");
    // With the lock file.
    assert_eq!(fs::read_dir(&newest.dir).unwrap().count(), 5);
}

/// Has a build write into the disk of `installed`.
fn write_in_place(installed: &InstalledBox) {
    for in_order in [false, true] {
        let before = fs::read(installed.disk()).unwrap();
        let writing = in_place::begin(installed, &StopCheck::default()).unwrap();
        let path = installed.unfinished_disk();
        let mut disk = File::options().append(true).open(path).unwrap();
        std::io::Write::write_all(&mut disk, b" and more").unwrap();
        assert_eq!(fs::read(installed.disk()).unwrap(), before);
        if in_order {
            writing.commit().unwrap();
        } else {
            drop(writing);
            assert_eq!(fs::read(installed.disk()).unwrap(), before);
        }
    }
    assert_eq!(installed.disk(), installed.written_disk());
}

#[test]
fn what_builds_wrote_into_a_disk_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("store"));
    let content = || {
        let installed = store.get("one").unwrap();
        fs::read_to_string(installed.disk()).unwrap()
    };
    publish_disk(&store, "old");
    for round in ["first", "second"] {
        let installed = store.get("one").unwrap();
        assert!(installed.changed.is_none(), "{round}");
        // A copy that a killed process did not finish is made anew.
        fs::write(installed.unfinished_disk(), "ha").unwrap();
        write_in_place(&installed);
        assert_eq!(content(), "old and more");
        assert!(store.get("one").unwrap().changed.is_some());
        write_in_place(&store.get("one").unwrap());
        assert_eq!(content(), "old and more and more");
        // Nothing is copied in the middle of a build, nor removed by others.
        let held = BoxLock::take(&installed, DiskAccess::Read).unwrap();
        let refused = in_place::reset(&installed).unwrap_err().to_string();
        assert!(refused.contains("wait for that build"), "{refused}");
        drop((held, installed));
        for leftover in Leftover::find(&store).unwrap() {
            leftover.remove().unwrap();
        }
        assert_eq!(content(), "old and more and more");
        let installed = store.get("one").unwrap();
        assert!(in_place::reset(&installed).unwrap());
        assert!(!in_place::reset(&installed).unwrap());
        assert_eq!(content(), "old");
        let files = fs::read_dir(&installed.dir).unwrap().count();
        assert_eq!(files, 6, "four of the box, and two lock files");
    }
}

#[test]
fn a_box_that_is_published_again_is_as_published() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().to_owned());
    for again in ["old", "new"] {
        write_in_place(&publish_disk(&store, "old"));
        let installed = publish_disk(&store, again);
        assert!(installed.changed.is_none());
        assert_eq!(fs::read_to_string(installed.disk()).unwrap(), again);
    }
}

#[test]
fn a_disk_that_builds_wrote_into_is_not_locked() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("store"));
    let path = dir.path().join("boxbuild.lock");
    publish_disk(&store, "old");
    let one = || store.get("one").unwrap();
    Locked::update(&path, &[one()]).unwrap();
    let locked = Locked::read(&path).unwrap();
    locked.check(&one()).unwrap();
    write_in_place(&one());
    for error in [
        locked.check(&one()).unwrap_err(),
        Locked::update(&path, &[one()]).unwrap_err(),
    ] {
        assert!(error.to_string().contains("box reset one"), "{error}");
    }
    in_place::reset(&one()).unwrap();
    locked.check(&one()).unwrap();
}

/// Before there were copies, builds wrote into the disk itself.
#[test]
fn a_disk_that_an_earlier_version_changed_cannot_be_undone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().to_owned());
    let installed = publish_disk(&store, "old");
    let disk = installed.path(&installed.info.disk);
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&disk).unwrap());
    fs::write(marker(&disk), inode.to_string()).unwrap();
    fs::write(&disk, "longer").unwrap();
    let installed = store.get("one").unwrap();
    assert!(installed.changed.is_some());
    let error = in_place::reset(&installed).unwrap_err().to_string();
    assert!(error.contains("make it again"), "{error}");
}

#[test]
fn a_folder_that_is_not_a_box_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().to_owned());
    let cache = dir.path().join("one");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("Leap-Box.x86_64-System.qcow2"), "").unwrap();
    assert!(matches!(
        publish(&store, "one", IfExists::Replace),
        Err(StoreError::Foreign(_))
    ));
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
}

#[test]
fn one_name_for_the_boxes_of_all_architectures() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().to_owned());
    publish(&store, "leap.aarch64", IfExists::Fail).unwrap();
    let published = published_name("leap", Arch::host());
    publish(&store, &published, IfExists::Fail).unwrap();
    let found = |arch| store.get_for("leap", arch).unwrap().info.name;
    assert_eq!(found(None), published);
    assert_eq!(found(Some(Arch::Aarch64)), "leap.aarch64");
    assert!(store.get_for("leap", Some(Arch::S390x)).is_err());
    assert_eq!(store.find("../leap.aarch64", None), None);
}
