//! Wrong, damaged and outdated files, of mirrors and of the store.

use std::fs;

use boxbuild_host::arch::Arch;

use crate::sandbox::Sandbox;
use crate::server::Fault;
use crate::sets::{self, Set, disk_name, disk_path, kernel_path, sha256};

#[test]
fn an_outdated_mirror_is_bypassed() {
    let sandbox = Sandbox::new();
    let (old, new) = (Set::new(1, 50_000), Set::new(2, 50_000));
    old.publish_at(&sandbox.server, "/mirror");
    new.publish(&sandbox.server);
    let to = format!("{}/mirror/{}", sandbox.server.url(), disk_name());
    sandbox
        .server
        .fault(&disk_path(), None, Fault::Redirect(to));
    sandbox
        .run(&["box", "pull", "test"])
        .expect(0, &["wrong checksum", "past the mirrors"]);
    assert!(sandbox.has(&new));
    // What was right is not fetched twice.
    assert_eq!(
        sandbox.server.take_served(&kernel_path()),
        new.kernel_archive.len() as u64
    );
}

#[test]
fn a_file_that_mirrors_lack_is_fetched_from_the_publisher() {
    let sandbox = Sandbox::new();
    let set = Set::new(1, 50_000);
    set.publish(&sandbox.server);
    for path in [disk_path(), format!("{}.sha256", kernel_path())] {
        sandbox.server.fault(&path, None, Fault::Status(404));
    }
    sandbox
        .run(&["box", "pull", "test"])
        .expect(0, &["past the mirrors"]);
    assert!(sandbox.has(&set));
}

#[test]
fn a_wrong_set_is_never_installed() {
    let sandbox = Sandbox::new();
    let (old, new) = (Set::new(1, 50_000), Set::new(2, 50_000));
    old.publish(&sandbox.server);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    new.publish(&sandbox.server);
    sandbox.server.put(&disk_path(), "not this");
    for _ in 0..2 {
        sandbox
            .run(&["box", "pull", "test"])
            .expect(3, &["wrong checksum", &disk_name()]);
        assert!(sandbox.has(&old));
    }
    // Nothing has to be removed by hand.
    new.publish(&sandbox.server);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(sandbox.has(&new));
}

#[test]
fn a_compressed_disk_is_unpacked_at_installation() {
    let sandbox = Sandbox::new();
    let mut set = Set::new(1, 10_000);
    let plain = set.disk.clone();
    let Some(packed) = sets::compressed(&plain) else {
        eprintln!("skipped: a_compressed_disk_is_unpacked_at_installation: no qemu-img");
        return;
    };
    set.disk = packed;
    set.publish(&sandbox.server);
    sandbox
        .run(&["box", "pull", "test"])
        .expect(0, &["unpack the disk"]);
    assert!(sandbox.has(&set));
    let installed = sandbox.installed();
    let disk = fs::read(installed.path(&installed.info.disk)).unwrap();
    assert_eq!(sha256(&disk), sha256(&plain));
    sandbox.run(&["box", "verify", "test"]).expect(0, &["good"]);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    fs::write(
        installed.path(&installed.info.disk),
        disk.iter().map(|b| b ^ 1).collect::<Vec<_>>(),
    )
    .unwrap();
    sandbox
        .run(&["box", "verify", "test"])
        .expect(3, &["has changed", "box pull --force"]);
    sandbox
        .run(&["box", "pull", "--force", "test"])
        .expect(0, &[]);
    sandbox.run(&["box", "verify", "test"]).expect(0, &["good"]);
}

#[test]
fn a_file_that_is_not_a_disk_is_not_installed() {
    let sandbox = Sandbox::new();
    let mut set = Set::new(1, 10_000);
    set.disk = b"not a disk".to_vec();
    set.publish(&sandbox.server);
    sandbox
        .run(&["box", "pull", "test"])
        .expect(3, &["not a qcow2 image"]);
    set = Set::new(1, 10_000);
    set.kernel_archive = b"not an archive".to_vec();
    set.publish(&sandbox.server);
    sandbox
        .run(&["box", "pull", "test"])
        .expect(3, &["archive", "damaged"]);
    assert!(!sandbox.root().join("test").exists());
    assert!(
        !sandbox
            .root()
            .join(format!("test.{}", Arch::host()))
            .exists()
    );
    sandbox.run(&["box", "prune"]).expect(0, &["freed"]);
    assert!(sandbox.leftovers().is_empty(), "{:?}", sandbox.leftovers());
}

#[test]
fn a_damaged_box_is_fetched_again() {
    let sandbox = Sandbox::new();
    let set = Set::new(1, 10_000);
    set.publish(&sandbox.server);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    let installed = sandbox.installed();
    fs::remove_file(installed.path(&installed.info.kernel)).unwrap();
    sandbox
        .run(&["box", "pull", "test"])
        .expect(0, &["damaged"]);
    assert!(sandbox.has(&set));
}
